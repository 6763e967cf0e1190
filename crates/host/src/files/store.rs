//! Chunks on this node's disk.
//!
//! ```text
//! DIR/chunks/3f/<write hex>-<number hex>-<generation hex>.chunk
//! DIR/chunks/3f/….part                     unfinished; removed at start
//! ```
//!
//! A chunk file is the data, then a CRC32C of each block of [`BLOCK_BYTES`], then a trailer that says which
//! chunk it is and guards itself and the checksums. It is written under another name, synced, and renamed: a
//! file that has its name is whole. The functions block; HTTP calls them on threads for that.

use crate::directory::sync_folder;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use storage::files::ChunkId;

/// What one checksum guards.
pub const BLOCK_BYTES: usize = 64 << 10;
const MAGIC: &[u8; 8] = b"althchk\0";
const FORMAT: u32 = 1;
/// Magic, format, write, number, generation, length, checksum, and the checksum of all of these.
const TRAILER_BYTES: usize = 8 + 4 + 8 + 4 + 4 + 4 + 4 + 4;

/// One attempt at a chunk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// The chunk.
    pub id: ChunkId,
    /// Which attempt.
    pub generation: u32,
}

impl Key {
    /// `<write>-<number>-<generation>`, in hexadecimal.
    pub fn text(&self) -> String {
        format!("{}-{:x}", self.id, self.generation)
    }

    /// Reads [`Self::text`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut next = || u64::from_str_radix(parts.next()?, 16).ok();
        let (write, number, generation) = (next()?, next()?, next()?);
        let key = Self {
            id: ChunkId {
                write,
                number: u32::try_from(number).ok()?,
            },
            generation: u32::try_from(generation).ok()?,
        };
        (key.text() == text).then_some(key)
    }
}

/// The chunks of a data directory.
pub struct ChunkStore {
    root: PathBuf,
    /// What is there; kept beside the disk, so that asking is cheap.
    inventory: Mutex<BTreeSet<(ChunkId, u32)>>,
    parts: AtomicU64,
}

impl ChunkStore {
    /// Opens the chunks under a data directory, and removes what is unfinished.
    pub fn open(data: &Path) -> io::Result<Self> {
        let root = data.join("chunks");
        fs::create_dir_all(&root)?;
        sync_folder(data)?;
        let mut inventory = BTreeSet::new();
        for folder in fs::read_dir(&root)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(&folder)? {
                let path = file?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                let name = name.unwrap_or_default();
                if name.ends_with(".part") {
                    fs::remove_file(&path)?;
                } else if let Some(key) = name.strip_suffix(".chunk").and_then(Key::parse) {
                    inventory.insert((key.id, key.generation));
                }
            }
        }
        Ok(Self {
            root,
            inventory: Mutex::new(inventory),
            parts: AtomicU64::new(0),
        })
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(ChunkId, u32)>> {
        self.inventory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunks that are there.
    pub fn inventory(&self) -> BTreeSet<(ChunkId, u32)> {
        self.lock().clone()
    }

    /// True when it is there.
    pub fn has(&self, key: Key) -> bool {
        self.lock().contains(&(key.id, key.generation))
    }

    fn path(&self, key: Key) -> PathBuf {
        let folder = format!(
            "{:02x}",
            key.id.write.wrapping_add(u64::from(key.id.number)) & 0xff
        );
        self.root.join(folder).join(format!("{}.chunk", key.text()))
    }

    /// Begins to write a chunk. What is not finished leaves nothing.
    pub fn create(&self, key: Key) -> io::Result<ChunkWriter> {
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        if !folder.is_dir() {
            fs::create_dir_all(&folder)?;
            sync_folder(&self.root)?;
        }
        let number = self.parts.fetch_add(1, Ordering::Relaxed);
        let part = path.with_extension(format!("{number:x}.part"));
        Ok(ChunkWriter {
            file: File::create(&part)?,
            part: Some(part),
            path,
            key,
            sums: Vec::new(),
            block: 0,
            in_block: 0,
            whole: 0,
            length: 0,
        })
    }

    /// Makes a written chunk durable under its name: its bytes, and their CRC32C.
    pub fn finish(&self, mut writer: ChunkWriter) -> io::Result<(u32, u32)> {
        writer.seal()?;
        let key = writer.key;
        if let Some(part) = writer.part.take() {
            fs::rename(part, &writer.path)?;
            sync_folder(writer.path.parent().unwrap_or(&self.root))?;
        }
        self.lock().insert((key.id, key.generation));
        Ok((writer.length, writer.whole))
    }

    /// Opens a chunk for reading.
    pub fn read(&self, key: Key) -> Result<ChunkReader, ReadError> {
        match ChunkReader::open(&self.path(key), key) {
            Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound => {
                self.lock().remove(&(key.id, key.generation));
                Err(ReadError::Io(error))
            }
            other => other,
        }
    }

    /// Reads a chunk from end to end; false when its checksums do not fit.
    pub fn verify(&self, key: Key) -> Result<bool, io::Error> {
        let mut reader = match self.read(key) {
            Ok(reader) => reader,
            Err(ReadError::Corrupt) => return Ok(false),
            Err(ReadError::Io(error)) => return Err(error),
        };
        for number in 0..reader.blocks() {
            let (sum, block) = reader.block(number)?;
            if crc32c::crc32c(&block) != sum {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes of a chunk's file.
    pub fn size(&self, key: Key) -> io::Result<u64> {
        Ok(fs::metadata(self.path(key))?.len())
    }

    /// Removes a chunk; one that is not there is no error.
    pub fn remove(&self, key: Key) -> io::Result<()> {
        self.lock().remove(&(key.id, key.generation));
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A chunk that is being written. Dropping it removes what was written.
pub struct ChunkWriter {
    file: File,
    part: Option<PathBuf>,
    path: PathBuf,
    key: Key,
    sums: Vec<u8>,
    block: u32,
    in_block: usize,
    whole: u32,
    length: u32,
}

impl ChunkWriter {
    /// Bytes so far.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// CRC32C of what was written so far.
    pub fn checksum(&self) -> u32 {
        self.whole
    }

    /// Appends data.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let length = u64::from(self.length) + bytes.len() as u64;
        self.length = u32::try_from(length)
            .map_err(|_| io::Error::other("a chunk is not longer than 4 GiB"))?;
        self.file.write_all(bytes)?;
        self.whole = crc32c::crc32c_append(self.whole, bytes);
        while !bytes.is_empty() {
            let taken = bytes.len().min(BLOCK_BYTES - self.in_block);
            self.block = crc32c::crc32c_append(self.block, &bytes[..taken]);
            self.in_block += taken;
            bytes = &bytes[taken..];
            if self.in_block == BLOCK_BYTES {
                self.end_block();
            }
        }
        Ok(())
    }

    fn end_block(&mut self) {
        self.sums.extend_from_slice(&self.block.to_be_bytes());
        self.block = 0;
        self.in_block = 0;
    }

    fn seal(&mut self) -> io::Result<()> {
        if self.in_block > 0 {
            self.end_block();
        }
        let mut end = std::mem::take(&mut self.sums);
        end.extend_from_slice(MAGIC);
        end.extend_from_slice(&FORMAT.to_be_bytes());
        end.extend_from_slice(&self.key.id.write.to_be_bytes());
        end.extend_from_slice(&self.key.id.number.to_be_bytes());
        end.extend_from_slice(&self.key.generation.to_be_bytes());
        end.extend_from_slice(&self.length.to_be_bytes());
        end.extend_from_slice(&self.whole.to_be_bytes());
        end.extend_from_slice(&crc32c::crc32c(&end).to_be_bytes());
        self.file.write_all(&end)?;
        self.file.sync_all()
    }
}

impl Drop for ChunkWriter {
    fn drop(&mut self) {
        if let Some(part) = self.part.take() {
            // What stays is removed at the next start.
            let _ = fs::remove_file(part);
        }
    }
}

/// Why a chunk cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// What says where its data are is damaged.
    Corrupt,
    /// The disk says so, or it is not there.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An open chunk.
pub struct ChunkReader {
    file: File,
    sums: Vec<u32>,
    length: u32,
}

impl ChunkReader {
    fn open(path: &Path, key: Key) -> Result<Self, ReadError> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let corrupt = ReadError::Corrupt;
        let Some(at) = size.checked_sub(TRAILER_BYTES as u64) else {
            return Err(corrupt);
        };
        let mut trailer = [0; TRAILER_BYTES];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut trailer)?;
        let word = |at: usize| {
            let bytes = trailer[at..at + 4].try_into().unwrap_or_default();
            u32::from_be_bytes(bytes)
        };
        let mut named = Vec::from(key.id.write.to_be_bytes());
        named.extend_from_slice(&key.id.number.to_be_bytes());
        named.extend_from_slice(&key.generation.to_be_bytes());
        let length = word(28);
        let blocks = (length as usize).div_ceil(BLOCK_BYTES);
        let whole = u64::from(length) + 4 * blocks as u64 + TRAILER_BYTES as u64;
        if trailer[..8] != *MAGIC
            || word(8) != FORMAT
            || trailer[12..28] != named[..]
            || size != whole
        {
            return Err(corrupt);
        }
        let mut end = vec![0; 4 * blocks + TRAILER_BYTES];
        file.seek(SeekFrom::Start(u64::from(length)))?;
        file.read_exact(&mut end)?;
        let guarded = end.len() - 4;
        if crc32c::crc32c(&end[..guarded]).to_be_bytes() != end[guarded..] {
            return Err(corrupt);
        }
        let sums = end[..4 * blocks]
            .chunks_exact(4)
            .map(|sum| u32::from_be_bytes(sum.try_into().unwrap_or_default()));
        Ok(Self {
            sums: sums.collect(),
            file,
            length,
        })
    }

    /// Bytes of the chunk.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Blocks of the chunk.
    pub fn blocks(&self) -> usize {
        self.sums.len()
    }

    /// A block with the checksum that it should have. It is not compared here: whoever uses the data does,
    /// so that no way from the disk to there goes unwatched.
    pub fn block(&mut self, number: usize) -> io::Result<(u32, Vec<u8>)> {
        let sum = *(self.sums.get(number)).ok_or_else(|| io::Error::other("no such block"))?;
        let at = number * BLOCK_BYTES;
        let mut block = vec![0; BLOCK_BYTES.min(self.length as usize - at)];
        self.file.seek(SeekFrom::Start(at as u64))?;
        self.file.read_exact(&mut block)?;
        Ok((sum, block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("althing-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn key(number: u32) -> Key {
        let id = ChunkId {
            write: 0x3e,
            number,
        };
        Key { id, generation: 2 }
    }

    fn put(store: &ChunkStore, key: Key, data: &[u8]) -> (u32, u32) {
        let mut writer = store.create(key).unwrap();
        for piece in data.chunks(50_000) {
            writer.write(piece).unwrap();
        }
        store.finish(writer).unwrap()
    }

    #[test]
    fn chunk_is_read_as_it_was_written_also_after_opening_again() {
        let root = folder("chunks-read");
        let data: Vec<u8> = (0..200_001u32).map(|n| (n * 7) as u8).collect();
        for store in [
            ChunkStore::open(&root).unwrap(),
            ChunkStore::open(&root).unwrap(),
        ] {
            if !store.has(key(1)) {
                assert_eq!(put(&store, key(1), &data), (200_001, crc32c::crc32c(&data)));
            }
            let mut reader = store.read(key(1)).unwrap();
            let mut found = Vec::new();
            for number in 0..reader.blocks() {
                let (sum, block) = reader.block(number).unwrap();
                assert_eq!(crc32c::crc32c(&block), sum);
                found.extend(block);
            }
            assert_eq!(found, data);
            assert!(store.verify(key(1)).unwrap());
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let root = folder("chunks-flip");
        let store = ChunkStore::open(&root).unwrap();
        put(&store, key(0), &[9; 100]);
        let path = store.path(key(0));
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&path, bad).unwrap();
            assert!(!store.verify(key(0)).unwrap(), "byte {at}");
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert!(!store.verify(key(0)).unwrap(), "cut at {length}");
        }
        fs::write(&path, &good).unwrap();
        assert!(store.verify(key(0)).unwrap());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn unfinished_and_removed_chunks_leave_nothing() {
        let root = folder("chunks-part");
        let store = ChunkStore::open(&root).unwrap();
        let mut writer = store.create(key(0)).unwrap();
        writer.write(b"abc").unwrap();
        drop(writer);
        std::mem::forget(store.create(key(1)).unwrap());
        put(&store, key(2), b"kept");
        put(&store, key(3), b"removed");
        store.remove(key(3)).unwrap();
        store.remove(key(3)).unwrap();
        assert!(!store.has(key(0)) && !store.has(key(3)));
        let store = ChunkStore::open(&root).unwrap();
        assert_eq!(store.inventory(), BTreeSet::from([(key(2).id, 2)]));
        let folder = store.path(key(2)).parent().unwrap().to_owned();
        let files = fs::read_dir(folder).unwrap().count();
        assert_eq!(files, 1);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn names_of_chunks_are_read_back_and_others_are_not() {
        assert_eq!(key(17).text(), "3e-11-2");
        assert_eq!(Key::parse("3e-11-2"), Some(key(17)));
        for text in [
            "",
            "3e-11",
            "3e-11-2-1",
            "3e-11-02",
            "3E-11-2",
            "x-1-1",
            "1-100000000-1",
        ] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
