//! The tree of names: finding, making, moving and removing.
//!
//! A directory's rows are its inodes' parents; names lead to them through a sorted index that follows from
//! the rows. So moving a directory changes one row, and so does removing one: it goes to a place that no path
//! leads to, and is swept from there piece by piece, as GFS does with files (§4.4, without the three days).

use super::command::ChunkId;
use super::machine::Files;
use super::reply::{Refusal, Reply};
use super::row::{Content, Inode, InodeId, Kind, LIMBO, Part, ROOT};
use super::{COPIES_MAX, DEPTH_MAX, INODES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, SWEEP_ROWS_MAX};

/// The names in an absolute path. A slash at its end and doubled ones mean nothing.
pub fn check_path(path: &str) -> Result<Vec<&str>, Refusal> {
    let refuse = |why| Err(Refusal::InvalidPath(why));
    if !path.starts_with('/') {
        return refuse("it must begin with a slash");
    }
    if path.len() > PATH_BYTES_MAX {
        return refuse("it is longer than 4096 bytes");
    }
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    if names.len() > DEPTH_MAX {
        return refuse("it is deeper than 64 names");
    }
    for name in &names {
        if name.len() > NAME_BYTES_MAX {
            return refuse("a name in it is longer than 255 bytes");
        }
        if matches!(*name, "." | "..") {
            return refuse("`.` and `..` are no names");
        }
        if name.contains(char::is_control) {
            return refuse("a name in it holds a control character");
        }
    }
    Ok(names)
}

impl Files {
    pub(super) fn find(&self, names: &[&str]) -> Result<InodeId, Refusal> {
        let (found, rest) = self.walk(names)?;
        if rest.is_empty() {
            Ok(found)
        } else {
            Err(Refusal::NotFound)
        }
    }

    /// As [`Self::find`]; a file that was never closed is not there for anybody but its writer.
    fn find_visible(&self, names: &[&str]) -> Result<InodeId, Refusal> {
        let found = self.find(names)?;
        match self.is_visible(found) {
            true => Ok(found),
            false => Err(Refusal::NotFound),
        }
    }

    fn is_visible(&self, inode: InodeId) -> bool {
        self.content(inode).is_none_or(|content| content.is_closed)
    }

    /// Why something else cannot have the name of what has it.
    fn taken(&self, inode: InodeId) -> Refusal {
        match self.is_visible(inode) {
            true => Refusal::Exists,
            false => Refusal::BeingWritten,
        }
    }

    /// As far as the names lead, and those that do not.
    fn walk<'n>(&self, names: &'n [&'n str]) -> Result<(InodeId, &'n [&'n str]), Refusal> {
        let mut at = ROOT;
        for (number, name) in names.iter().enumerate() {
            if !self.is_directory(at) {
                return Err(Refusal::NotADirectory);
            }
            match self.children.get(&(at, (*name).to_owned())) {
                Some(child) => at = *child,
                None => return Ok((at, &names[number..])),
            }
        }
        Ok((at, &[]))
    }

    pub(super) fn is_directory(&self, inode: InodeId) -> bool {
        inode == ROOT || (self.inodes.get(inode)).is_some_and(|row| row.kind == Kind::Directory)
    }

    pub(super) fn content(&self, inode: InodeId) -> Option<&Content> {
        match &self.inodes.get(inode)?.kind {
            Kind::File(content) => Some(content),
            Kind::Directory => None,
        }
    }

    pub(super) fn change_content<T>(
        &mut self,
        inode: InodeId,
        change: impl FnOnce(&mut Content) -> T,
    ) -> Option<T> {
        let changed = self.inodes.change(inode, |row| match &mut row.kind {
            Kind::File(content) => Some(change(content)),
            Kind::Directory => None,
        });
        changed.flatten()
    }

    fn is_empty(&self, directory: InodeId) -> bool {
        let first = (directory, String::new());
        (self.children.range(first..).next()).is_none_or(|((parent, _), _)| *parent != directory)
    }

    pub(super) fn add(&mut self, parent: InodeId, name: String, kind: Kind) -> InodeId {
        self.last_inode += 1;
        let id = InodeId(self.last_inode);
        let modified_ms = self.time_ms;
        self.children.insert((parent, name.clone()), id);
        let row = Inode {
            parent,
            name,
            modified_ms,
            kind,
        };
        self.inodes.put(id, row);
        self.touch(parent);
        id
    }

    pub(super) fn touch(&mut self, inode: InodeId) {
        let modified_ms = self.time_ms;
        (self.inodes).change(inode, |row| row.modified_ms = modified_ms);
    }

    /// Takes something away from where paths lead.
    pub(super) fn remove(&mut self, inode: InodeId) {
        self.relocate(inode, LIMBO, format!("{:x}", inode.0));
    }

    fn relocate(&mut self, inode: InodeId, parent: InodeId, name: String) {
        let was = self.inodes.change(inode, |row| {
            let parent_was = std::mem::replace(&mut row.parent, parent);
            (parent_was, std::mem::replace(&mut row.name, name.clone()))
        });
        if let Some(was) = was {
            self.touch(was.0);
            self.children.remove(&was);
            self.children.insert((parent, name), inode);
            self.touch(parent);
        }
    }

    /// Makes the directories that a path lacks; the last of them.
    pub(super) fn make_path(&mut self, names: &[&str]) -> Result<InodeId, Refusal> {
        let (mut at, rest) = self.walk(names)?;
        if !self.is_directory(at) {
            return Err(Refusal::NotADirectory);
        }
        if self.inodes.len() + rest.len() >= INODES_MAX {
            return Err(Refusal::TooMany("files and directories"));
        }
        for name in rest {
            at = self.add(at, (*name).to_owned(), Kind::Directory);
        }
        Ok(at)
    }

    pub(super) fn make_directory(&mut self, path: &str) -> Result<Reply, Refusal> {
        let names = check_path(path)?;
        if self.find(&names).is_ok_and(|at| !self.is_directory(at)) {
            return Err(Refusal::Exists);
        }
        self.make_path(&names)?;
        Ok(Reply::Done)
    }

    pub(super) fn delete(&mut self, path: &str, recursive: bool) -> Result<Reply, Refusal> {
        let inode = self.find_visible(&check_path(path)?)?;
        if inode == ROOT {
            return Err(Refusal::Root);
        }
        if self.is_directory(inode) && !recursive && !self.is_empty(inode) {
            return Err(Refusal::NotEmpty);
        }
        self.remove(inode);
        Ok(Reply::Done)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<Reply, Refusal> {
        let (from, to) = (check_path(from)?, check_path(to)?);
        let inode = self.find_visible(&from)?;
        let Some(own_name) = from.last().filter(|_| inode != ROOT) else {
            return Err(Refusal::Root);
        };
        let (parent, name) = match self.find(&to) {
            Ok(there) if there == inode => return Ok(Reply::Done),
            Ok(there) if self.is_directory(there) => (there, (*own_name).to_owned()),
            Ok(there) => return Err(self.taken(there)),
            Err(Refusal::NotFound) => {
                let (name, above) = to.split_last().ok_or(Refusal::Exists)?;
                (self.find(above)?, (*name).to_owned())
            }
            Err(other) => return Err(other),
        };
        if !self.is_directory(parent) {
            return Err(Refusal::NotADirectory);
        }
        if let Some(there) = self.children.get(&(parent, name.clone())) {
            return Err(self.taken(*there));
        }
        let mut above = parent;
        while above != ROOT {
            if above == inode {
                return Err(Refusal::IntoItself);
            }
            above = self.inodes.get(above).map_or(ROOT, |row| row.parent);
        }
        self.relocate(inode, parent, name);
        Ok(Reply::Done)
    }

    pub(super) fn set_wanted(&mut self, path: &str, copies: u8) -> Result<Reply, Refusal> {
        if !(1..=COPIES_MAX).contains(&copies) {
            return Err(Refusal::OutOfRange("the number of copies"));
        }
        let inode = self.find_visible(&check_path(path)?)?;
        let content = self.content(inode).ok_or(Refusal::IsADirectory)?;
        let parts = content.parts.clone();
        self.change_content(inode, |content| content.wanted = copies);
        for id in parts.iter().flat_map(chunks_of) {
            if let Some(mut chunk) = self.chunks.get(id).cloned() {
                chunk.wanted = copies;
                self.put_chunk(id, Some(chunk));
            }
        }
        Ok(Reply::Done)
    }

    /// Chunks that are of no file any more wait to be swept.
    pub(super) fn discard(&mut self, parts: Vec<Part>) {
        if parts.iter().all(|part| part.chunks == 0) {
            return;
        }
        let content = Content {
            parts,
            ..Content::default()
        };
        let name = format!("{:x}", self.last_inode + 1);
        self.add(LIMBO, name, Kind::File(content));
    }

    /// True while something that was removed is not swept yet.
    pub fn has_removed(&self) -> bool {
        !self.is_empty(LIMBO)
    }

    /// Forgets a bounded part of what was removed, leaves first.
    pub(super) fn sweep(&mut self) -> Reply {
        let mut left = SWEEP_ROWS_MAX;
        let first_in = |files: &Self, directory: InodeId| {
            let from = (directory, String::new());
            let next = files.children.range(from..).next();
            next.filter(|((parent, _), _)| *parent == directory)
                .map(|(_, child)| *child)
        };
        while left > 0
            && let Some(mut inode) = first_in(self, LIMBO)
        {
            while let Some(child) = first_in(self, inode) {
                inode = child;
            }
            left = self.sweep_one(inode, left);
        }
        Reply::Changed {
            count: (SWEEP_ROWS_MAX - left) as u32,
        }
    }

    /// Forgets a leaf with its chunks as far as `left` rows go; what is left of them.
    fn sweep_one(&mut self, inode: InodeId, mut left: usize) -> usize {
        let Some(row) = self.inodes.get(inode).cloned() else {
            return 0;
        };
        if let Kind::File(mut content) = row.kind {
            if let Some(write) = self.writes.remove(content.writer) {
                content.parts.push(Part {
                    write: content.writer,
                    chunks: write.chunks,
                });
                content.writer = 0;
            }
            while left > 1
                && let Some(part) = content.parts.last_mut()
            {
                if part.chunks == 0 {
                    content.parts.pop();
                    continue;
                }
                part.chunks -= 1;
                let (write, number) = (part.write, part.chunks);
                self.put_chunk(ChunkId { write, number }, None);
                left -= 1;
            }
            if !content.parts.is_empty() {
                (self.inodes).change(inode, |row| row.kind = Kind::File(content));
                return 0;
            }
        }
        self.children.remove(&(row.parent, row.name));
        self.inodes.remove(inode);
        left - 1
    }
}

/// The chunks of a part.
pub(super) fn chunks_of(part: &Part) -> impl Iterator<Item = ChunkId> + use<> {
    let write = part.write;
    (0..part.chunks).map(move |number| ChunkId { write, number })
}
