//! Lines in files.

use computing::mapreduce::buffer::LINE_BYTES_MAX;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// A file of sorted lines.
#[derive(Clone, Debug)]
pub struct Run {
    pub path: PathBuf,
    pub bytes: u64,
    pub crc: u32,
}

/// The lines of a reader, without their newlines.
pub struct Lines<R>(pub R);

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        match (&mut self.0).take(limit).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) if line.last() == Some(&b'\n') => {
                line.pop();
                Some(Ok(line))
            }
            Ok(_) if line.len() > LINE_BYTES_MAX => {
                let why = format!("a line has more than {LINE_BYTES_MAX} bytes");
                Some(Err(io::Error::other(why)))
            }
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// The lines of a file.
pub fn read(path: &Path) -> io::Result<Lines<BufReader<File>>> {
    Ok(Lines(BufReader::new(File::open(path)?)))
}

/// Writes `lines` to a file.
pub fn write<L: AsRef<[u8]>>(
    path: PathBuf,
    lines: impl Iterator<Item = io::Result<L>>,
) -> io::Result<Run> {
    let mut file = BufWriter::new(File::create(&path)?);
    let (mut bytes, mut crc) = (0, 0);
    for line in lines {
        let line = line?;
        for part in [line.as_ref(), b"\n"] {
            file.write_all(part)?;
            bytes += part.len() as u64;
            crc = crc32c::crc32c_append(crc, part);
        }
    }
    file.flush()?;
    Ok(Run { path, bytes, crc })
}
