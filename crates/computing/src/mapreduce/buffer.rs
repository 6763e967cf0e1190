//! A mapper's output in memory: lines one after the other, and an index of them beside, which is sorted when
//! the buffer is full (the paper's section 4.2; Hadoop's `kvbuffer`). Sorting moves 24 bytes a line, not the line.
//!
//! Lines are sorted by partition, then by key as bytes; lines of one key stay in the order in which they came.

use super::record::{key, partition};

/// The longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// Lines, until there are too many.
#[derive(Debug)]
pub struct Buffer {
    partitions: usize,
    bytes_max: usize,
    bytes: Vec<u8>,
    index: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    partition: u32,
    key_bytes: u32,
    from: usize,
    to: usize,
}

impl Buffer {
    /// A buffer that is full at `bytes_max` bytes of lines and index.
    pub fn new(partitions: usize, bytes_max: usize) -> Self {
        Self {
            partitions,
            bytes_max,
            bytes: Vec::new(),
            index: Vec::new(),
        }
    }

    /// Takes a line without its newline.
    pub fn push(&mut self, line: &[u8]) {
        let key = key(line);
        let from = self.bytes.len();
        self.bytes.extend_from_slice(line);
        self.index.push(Entry {
            partition: partition(key, self.partitions) as u32,
            key_bytes: key.len() as u32,
            from,
            to: self.bytes.len(),
        });
    }

    /// True when it should be spilled before more is put into it.
    pub fn is_full(&self) -> bool {
        self.bytes.len() + self.index.len() * size_of::<Entry>() >= self.bytes_max
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Sorts; afterwards [`Buffer::run`] gives the lines of each partition.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        self.index.sort_by(|a, b| {
            let key = |entry: &Entry| &bytes[entry.from..entry.from + entry.key_bytes as usize];
            a.partition
                .cmp(&b.partition)
                .then_with(|| key(a).cmp(key(b)))
        });
    }

    /// The lines of `partition`; sorted, when nothing was pushed since [`Buffer::sort`].
    pub fn run(&self, partition: usize) -> impl Iterator<Item = &[u8]> {
        let begin = self
            .index
            .partition_point(|entry| (entry.partition as usize) < partition);
        self.index[begin..]
            .iter()
            .take_while(move |entry| entry.partition as usize == partition)
            .map(|entry| &self.bytes[entry.from..entry.to])
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_sorted_by_key_within_their_partition_and_stable() {
        let mut buffer = Buffer::new(3, 150);
        let lines: &[&[u8]] = &[b"b\t1", b"a\t2", b"b\t0", b"", b"a\t1", b"c"];
        lines.iter().for_each(|line| buffer.push(line));
        assert!(buffer.is_full());
        buffer.sort();
        let mut seen = Vec::new();
        for partition in 0..3 {
            let run: Vec<&[u8]> = buffer.run(partition).collect();
            assert!(run.is_sorted_by_key(|line| key(line)));
            seen.extend(run);
        }
        let at = |line: &[u8]| seen.iter().position(|other| *other == line).unwrap();
        assert_eq!(seen.len(), lines.len());
        assert!(at(b"b\t1") < at(b"b\t0") && at(b"a\t2") < at(b"a\t1"));
        buffer.clear();
        assert!(buffer.is_empty() && !buffer.is_full());
    }
}
