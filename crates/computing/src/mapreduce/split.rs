//! The input in M splits of about the same size, each of whole lines.
//!
//! All files are seen as one after the other; a border between splits is moved on to where the next line
//! begins. So there are always exactly M splits, of which some may be empty, and each line is in one.

use serde::{Deserialize, Serialize};

/// A part of a file: whole lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Which of the input files.
    pub file: usize,
    /// Where it begins, in bytes.
    pub from: u64,
    /// Where it ends, in bytes; not part of it.
    pub to: u64,
}

/// Divides files of these `sizes` (bytes) into `count` splits. `next_line` says where, at or after a place in a
/// file, a line begins; the file's size when none does. It is asked once for each border.
///
/// # Errors
/// The first error of `next_line`.
pub fn splits<E>(
    sizes: &[u64],
    count: usize,
    mut next_line: impl FnMut(usize, u64) -> Result<u64, E>,
) -> Result<Vec<Vec<Piece>>, E> {
    let total: u64 = sizes.iter().sum();
    let count = count.max(1);
    let mut splits = Vec::with_capacity(count);
    let (mut file, mut from) = (0, 0);
    let mut before = 0; // bytes of the files before `file`
    for split in 1..=count {
        let border = (u128::from(total) * split as u128 / count as u128) as u64;
        let mut pieces = Vec::new();
        while file < sizes.len() {
            let size = sizes[file];
            // The border lies in this file, and not at its end: the split ends where a line begins.
            let to = match border.checked_sub(before) {
                Some(at) if at < size => next_line(file, at.max(from))?.clamp(from, size),
                Some(_) => size,
                None => break,
            };
            if to > from {
                pieces.push(Piece { file, from, to });
            }
            from = to;
            if from < size {
                break;
            }
            before += size;
            from = 0;
            file += 1;
        }
        splits.push(pieces);
    }
    Ok(splits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Rng;

    fn split(files: &[Vec<u8>], count: usize) -> Vec<Vec<Piece>> {
        let sizes: Vec<u64> = files.iter().map(|file| file.len() as u64).collect();
        splits(&sizes, count, |file, at| {
            let (bytes, at) = (&files[file], at as usize);
            if at == 0 {
                return Ok::<u64, ()>(0);
            }
            let end = bytes[at - 1..].iter().position(|byte| *byte == b'\n');
            Ok(end.map_or(bytes.len(), |end| at + end) as u64)
        })
        .unwrap()
    }

    #[test]
    fn each_line_is_in_one_split_and_there_are_as_many_as_asked_for() {
        let mut rng = Rng::new(3);
        for _ in 0..500 {
            let files: Vec<Vec<u8>> = (0..rng.range(0, 4))
                .map(|_| {
                    let mut file = Vec::new();
                    for _ in 0..rng.range(0, 20) {
                        file.extend(vec![b'x'; rng.range(0, 30) as usize]);
                        file.push(b'\n');
                    }
                    if rng.one_in(2) {
                        file.extend(b"no newline");
                    }
                    file
                })
                .collect();
            let count = rng.range(1, 9) as usize;
            let splits = split(&files, count);
            assert_eq!(splits.len(), count);
            let mut next = (0, 0);
            for piece in splits.iter().flatten() {
                while next.1 == files[next.0].len() as u64 && next.0 < piece.file {
                    next = (next.0 + 1, 0);
                }
                assert_eq!(next, (piece.file, piece.from), "{splits:?}");
                let begin = piece.from as usize;
                assert!(begin == 0 || files[piece.file][begin - 1] == b'\n');
                next.1 = piece.to;
            }
            let all: u64 = splits.iter().flatten().map(|p| p.to - p.from).sum();
            assert_eq!(all, files.iter().map(|file| file.len() as u64).sum());
        }
    }

    #[test]
    fn splits_are_about_as_long_as_each_other() {
        let file: Vec<u8> = b"0123456\n".repeat(3000);
        let lengths: Vec<u64> = split(&[file], 3)
            .iter()
            .map(|s| s[0].to - s[0].from)
            .collect();
        assert_eq!(lengths, [8000, 8000, 8000]);
    }
}
