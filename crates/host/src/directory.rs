//! The data directory: locked, versioned, with a folder a lane.
//!
//! ```text
//! DIR/LOCK                                   held while a process uses the directory
//! DIR/VERSION                                format and number of lanes, written last when the directory is made
//! DIR/NODE                                   this node's id, in hexadecimal
//! DIR/lane-N/identity                        the lane's identity
//! DIR/lane-N/00000001.segment                the journal
//! DIR/lane-N/<shard hex>-<index hex>.snapshot
//! DIR/lane-N/….part                          unfinished; removed at start
//! ```

use crate::HostError;
use base::{LaneId, NodeId, ShardId};
use journal::{FileId, Recovery};
use node::LaneStart;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The format that this version reads and writes.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    format: u32,
    lanes: u16,
}

/// Where a node's files are. Cheap to clone; the lock is held by [`Lock`].
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
    lanes: u16,
}

/// Held for as long as the directory is used.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Directory {
    /// Opens `root`, making it with `lanes` lanes (1 when `None`) if there is nothing yet, and locks it.
    pub fn open(root: &Path, lanes: Option<u16>) -> Result<(Self, Lock), HostError> {
        let fault = |what: &str, path: &Path, error: &io::Error| {
            HostError::Directory(format!(
                "cannot {what} {}: {error}. Check the path and its owner, or choose another data directory",
                path.display()
            ))
        };
        fs::create_dir_all(root).map_err(|e| fault("make the data directory", root, &e))?;
        let lock = Self::lock(root)?;
        let version_path = root.join("VERSION");
        let version = match fs::read_to_string(&version_path) {
            Ok(text) => Self::check_version(&text, &version_path, lanes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Self::refuse_strangers(root)?;
                let version = Version {
                    format: FORMAT,
                    lanes: lanes.unwrap_or(1),
                };
                Self::make(root, &version).map_err(|e| fault("write to", root, &e))?;
                version
            }
            Err(error) => return Err(fault("read", &version_path, &error)),
        };
        let directory = Self {
            root: root.to_owned(),
            lanes: version.lanes,
        };
        directory
            .remove_parts()
            .map_err(|e| fault("remove unfinished files from", root, &e))?;
        directory
            .sync_entries()
            .map_err(|e| fault("sync the folders of", root, &e))?;
        Ok((directory, lock))
    }

    /// Lanes, fixed when the directory was made.
    pub fn lanes(&self) -> u16 {
        self.lanes
    }

    /// The folder of `lane`.
    pub fn folder(&self, lane: LaneId) -> PathBuf {
        self.root.join(format!("lane-{}", lane.0))
    }

    /// The path of `file` of `lane`.
    pub fn path(&self, lane: LaneId, file: FileId) -> PathBuf {
        let name = match file {
            FileId::Segment(number) => format!("{number:08}.segment"),
            FileId::Snapshot(shard, index) => format!("{:016x}-{index:016x}.snapshot", shard.0),
            FileId::SnapshotPart(shard, index) => format!("{:016x}-{index:016x}.part", shard.0),
            FileId::Identity => "identity".into(),
            FileId::IdentityPart => "identity.part".into(),
            FileId::Group(number) => format!("group-{number}.state"),
            FileId::GroupPart(number) => format!("group-{number}.part"),
            FileId::GroupLog(number) => format!("group-{number}.log"),
        };
        self.folder(lane).join(name)
    }

    /// This node's id: the one in the NODE file while every lane has its identity, else a new one,
    /// written down before it is used. So a directory or lane that was wiped comes back as another node.
    pub fn node(&self, draw: impl FnOnce() -> Result<u64, HostError>) -> Result<NodeId, HostError> {
        let path = self.root.join("NODE");
        let whole = (0..self.lanes).all(|lane| self.path(LaneId(lane), FileId::Identity).exists());
        if whole {
            match fs::read_to_string(&path) {
                Ok(text) => match u64::from_str_radix(text.trim(), 16) {
                    Ok(id) if id != 0 => return Ok(NodeId(id)),
                    _ => {
                        return Err(HostError::Directory(format!(
                            "{} does not hold a node id. Restore it; or delete the whole data directory, and this machine comes back as a new node",
                            path.display()
                        )));
                    }
                },
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
        let id = draw()?.max(1);
        write_whole(&self.root, "NODE", &format!("{id:016x}\n")).map_err(|error| {
            HostError::Directory(format!("cannot write {}: {error}", path.display()))
        })?;
        Ok(NodeId(id))
    }

    /// What a lane holds; its segments are fed in order, one in memory at a time.
    pub fn read_lane(&self, lane: LaneId) -> Result<LaneStart, HostError> {
        let folder = self.folder(lane);
        let names = entries(&folder).map_err(|error| unreadable(&folder, &error))?;
        let mut segments: Vec<u64> = names
            .iter()
            .filter_map(|name| name.strip_suffix(".segment")?.parse().ok())
            .collect();
        segments.sort_unstable();
        let mut recovery = Recovery::new();
        for segment in segments {
            let path = self.path(lane, FileId::Segment(segment));
            let content = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
            recovery.feed(segment, &content);
        }
        let path = self.path(lane, FileId::Identity);
        let identity = match fs::read(&path) {
            Ok(bytes) => Some(bytes.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let snapshots = names
            .iter()
            .filter_map(|name| {
                let (shard, index) = name.strip_suffix(".snapshot")?.split_once('-')?;
                let number = |text| u64::from_str_radix(text, 16).ok();
                Some(FileId::Snapshot(ShardId(number(shard)?), number(index)?))
            })
            .collect();
        Ok(LaneStart {
            recovery,
            identity,
            snapshots,
        })
    }

    fn lock(root: &Path) -> Result<Lock, HostError> {
        let path = root.join("LOCK");
        let refuse = |why: String| {
            HostError::Directory(format!(
                "cannot lock the data directory {}: {why}",
                root.display()
            ))
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| refuse(error.to_string()))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(refuse(
                "another process is using it. Stop that one, or choose another directory with --data"
                    .into(),
            )),
            Err(TryLockError::Error(error)) => Err(refuse(error.to_string())),
        }
    }

    fn check_version(
        text: &str,
        path: &Path,
        lanes_wanted: Option<u16>,
    ) -> Result<Version, HostError> {
        let refuse = |why: String| Err(HostError::Directory(format!("{}: {why}", path.display())));
        // The format comes first: another format may have other fields.
        let format = toml::from_str::<toml::Table>(text)
            .ok()
            .and_then(|table| table.get("format")?.as_integer());
        match format {
            Some(number) if number == i64::from(FORMAT) => {}
            Some(number) => {
                return refuse(format!(
                    "the directory has format {number}, this version reads format {FORMAT}. Use the version that wrote it, or choose another data directory"
                ));
            }
            None => {
                return refuse(
                    "no format number in it. Restore the file, or choose another data directory"
                        .into(),
                );
            }
        }
        let version: Version = match toml::from_str(text) {
            Ok(version) => version,
            Err(error) => return refuse(error.to_string().trim().replace('\n', " ")),
        };
        if version.lanes == 0 || version.lanes > 256 {
            return refuse(format!("lanes = {} is not possible", version.lanes));
        }
        if lanes_wanted.is_some_and(|wanted| wanted != version.lanes) {
            return refuse(format!(
                "the directory has {} lane(s), the configuration asks for {}. Lanes are fixed when the directory is made: \
                 remove `lanes` from the configuration or set it to {}; `cores` may be any number",
                version.lanes,
                lanes_wanted.unwrap_or(0),
                version.lanes
            ));
        }
        Ok(version)
    }

    /// A directory without a VERSION may hold only what an interrupted creation leaves.
    fn refuse_strangers(root: &Path) -> Result<(), HostError> {
        let strange = |name: &str| {
            HostError::Directory(format!(
                "{} has no VERSION file but holds {name:?}: it is not a data directory of Althing, or a damaged one. Choose an empty or new directory",
                root.display()
            ))
        };
        for name in entries(root).map_err(|error| unreadable(root, &error))? {
            if name == "LOCK" || name == "VERSION.part" || name == "NODE.part" {
                continue;
            }
            let lane = name.starts_with("lane-") && root.join(&name).is_dir();
            if !lane
                || !entries(&root.join(&name))
                    .map_err(|error| unreadable(root, &error))?
                    .is_empty()
            {
                return Err(strange(&name));
            }
        }
        Ok(())
    }

    fn make(root: &Path, version: &Version) -> io::Result<()> {
        for lane in 0..version.lanes {
            fs::create_dir_all(root.join(format!("lane-{lane}")))?;
        }
        let text = format!("format = {}\nlanes = {}\n", version.format, version.lanes);
        write_whole(root, "VERSION", &text)
    }

    /// Makes durable that everything found here exists, the directory itself too: a process that ended
    /// between making a file and syncing its folder left an entry that a loss of power would take. From
    /// here on only files made in this run need their folder synced.
    fn sync_entries(&self) -> io::Result<()> {
        for lane in 0..self.lanes {
            sync_folder(&self.folder(LaneId(lane)))?;
        }
        sync_folder(&self.root)?;
        match self.root.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
            _ => sync_folder(Path::new(".")),
        }
    }

    fn remove_parts(&self) -> io::Result<()> {
        for lane in 0..self.lanes {
            let folder = self.folder(LaneId(lane));
            fs::create_dir_all(&folder)?;
            for name in entries(&folder)? {
                if name.ends_with(".part") {
                    fs::remove_file(folder.join(name))?;
                }
            }
        }
        Ok(())
    }
}

/// Writes a small file so that it is there whole or not at all.
fn write_whole(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let part = folder.join(format!("{name}.part"));
    let mut file = File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(part, folder.join(name))?;
    sync_folder(folder)
}

/// Makes the entries of a folder durable: which files are in it, under which names.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
    File::open(path)?.sync_all()
}

#[cfg(test)]
thread_local! {
    static SYNCED: std::cell::RefCell<Vec<PathBuf>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Folders that this thread has synced since it last asked.
#[cfg(test)]
pub fn take_synced() -> Vec<PathBuf> {
    SYNCED.take()
}

fn unreadable(path: &Path, error: &io::Error) -> HostError {
    HostError::Directory(format!(
        "cannot read {}: {error}. Check its owner and the disk",
        path.display()
    ))
}

fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// A directory of a test, removed with the value.
#[cfg(test)]
pub struct TestRoot(pub PathBuf);

#[cfg(test)]
impl Drop for TestRoot {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
pub fn test_root(name: &str) -> TestRoot {
    let root = std::env::temp_dir().join(format!("althing-host-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    TestRoot(root)
}

#[cfg(test)]
pub fn test_directory(name: &str) -> (TestRoot, Directory) {
    let root = test_root(name);
    let (directory, _lock) = Directory::open(&root.0, None).unwrap();
    (root, directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::ShardId;

    fn refusal(root: &TestRoot, lanes: Option<u16>) -> String {
        Directory::open(&root.0, lanes).unwrap_err().to_string()
    }

    #[test]
    fn second_opening_is_refused_while_the_first_holds_the_lock() {
        let root = test_root("lock");
        let first = Directory::open(&root.0, None).unwrap();
        assert!(refusal(&root, None).contains("another process"));
        drop(first);
        Directory::open(&root.0, None).unwrap();
    }

    #[test]
    fn lanes_are_fixed_when_the_directory_is_made() {
        let root = test_root("lanes");
        drop(Directory::open(&root.0, Some(2)).unwrap());
        assert_eq!(Directory::open(&root.0, None).unwrap().0.lanes(), 2);
        assert!(refusal(&root, Some(3)).contains("fixed when the directory is made"));
    }

    #[test]
    fn other_format_and_foreign_files_are_refused() {
        let root = test_root("format");
        drop(Directory::open(&root.0, None).unwrap());
        fs::write(root.0.join("VERSION"), "format = 2\nshape = 'round'\n").unwrap();
        assert!(refusal(&root, None).contains("format 2"));
        fs::remove_file(root.0.join("VERSION")).unwrap();
        fs::write(root.0.join("photo.jpg"), "x").unwrap();
        assert!(refusal(&root, None).contains("photo.jpg"));
        fs::remove_file(root.0.join("photo.jpg")).unwrap();
        Directory::open(&root.0, None).unwrap();
        fs::remove_file(root.0.join("VERSION")).unwrap();
        fs::write(root.0.join("lane-0/00000001.segment"), "x").unwrap();
        assert!(refusal(&root, None).contains("lane-0"));
    }

    #[test]
    fn unfinished_files_are_removed_and_others_found() {
        let (root, directory) = test_directory("parts");
        let lane = LaneId(0);
        let part = directory.path(lane, FileId::SnapshotPart(ShardId(1), 255));
        let whole = directory.path(lane, FileId::Snapshot(ShardId(1), 255));
        assert!(whole.ends_with("lane-0/0000000000000001-00000000000000ff.snapshot"));
        let identity = directory.path(lane, FileId::Identity);
        for path in [&part, &whole, &identity] {
            fs::write(path, "x").unwrap();
        }
        let (again, _lock) = Directory::open(&root.0, None).unwrap();
        assert!(!part.exists());
        let start = again.read_lane(lane).unwrap();
        assert_eq!(start.snapshots, [FileId::Snapshot(ShardId(1), 255)]);
        assert_eq!(start.identity.as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn entries_that_an_ended_process_left_are_durable_before_they_are_read() {
        let (root, directory) = test_directory("entries");
        let lane = directory.folder(LaneId(0));
        fs::write(directory.path(LaneId(0), FileId::Segment(1)), "x").unwrap();
        take_synced();
        Directory::open(&root.0, None).unwrap();
        let parent = root.0.parent().unwrap().to_owned();
        assert_eq!(take_synced(), [lane, root.0.clone(), parent]);
    }

    #[test]
    fn node_id_stays_while_every_lane_has_its_identity_and_is_new_otherwise() {
        let root = test_root("node-id");
        let (directory, _lock) = Directory::open(&root.0, Some(2)).unwrap();
        assert_eq!(directory.node(|| Ok(5)), Ok(NodeId(5)));
        for lane in 0..2 {
            fs::write(directory.path(LaneId(lane), FileId::Identity), "x").unwrap();
        }
        assert_eq!(directory.node(|| Ok(6)), Ok(NodeId(5)));
        fs::remove_file(directory.path(LaneId(1), FileId::Identity)).unwrap();
        assert_eq!(directory.node(|| Ok(7)), Ok(NodeId(7)));
        fs::write(directory.path(LaneId(1), FileId::Identity), "x").unwrap();
        assert_eq!(directory.node(|| Ok(8)), Ok(NodeId(7)));
        fs::write(root.0.join("NODE"), "zero").unwrap();
        assert!(directory.node(|| Ok(9)).is_err());
    }
}
