//! Arbitrary bytes in place of a segment: a verdict, never a panic.

use super::sim::Disk;
use crate::{DiskResult, Frame, Journal, JournalConfig, Recovered, Recovery};
use base::{Now, ReplicaId, Rng, ShardId};
use bytes::Bytes;

fn segments() -> Vec<Vec<u8>> {
    let config = JournalConfig {
        segment_bytes_max: 600,
        ..JournalConfig::default()
    };
    let mut disk = Disk::default();
    let mut journal = Journal::new(&Recovered::default(), config);
    for index in 1..=12 {
        let shard = ShardId(index % 2);
        if index <= 2 {
            let mark = Frame::Mark {
                replica: ReplicaId(9),
                index: 0,
                term: 0,
                conf: Bytes::from_static(b"abc"),
            };
            journal.append(shard, mark);
            journal.append(
                shard,
                Frame::HardState {
                    term: 1,
                    vote: 2,
                    commit: 0,
                },
            );
        }
        let entry = Frame::Entry {
            index: index.div_ceil(2),
            term: 1,
            kind: 0,
            context: Bytes::new(),
            data: Bytes::from(vec![7; 30]),
        };
        journal.append(shard, entry);
        journal.flush(Now::default());
        while let tickets = disk.carry_out(&mut journal)
            && !tickets.is_empty()
        {
            for ticket in tickets {
                journal.handle_done(Now::default(), ticket, &DiskResult::Done(Bytes::new()));
            }
        }
    }
    disk.files.values().map(|f| f.seen().to_vec()).collect()
}

/// Makes the checksum of the header at `offset` right again, so that the fields behind it are believed.
fn repair(bytes: &mut [u8], offset: usize) {
    let end = offset + crate::wire::HEADER_BYTES;
    if end <= bytes.len() {
        let crc = crc32fast::hash(&bytes[offset..end - 4]);
        bytes[end - 4..end].copy_from_slice(&crc.to_be_bytes());
    }
}

#[test]
fn mutated_segments_get_a_verdict_without_panic() {
    let originals = segments();
    assert!(originals.len() > 2);
    let mut rng = Rng::new(3);
    let mut differing = 0;
    for _ in 0..20_000 {
        let mut recovery = Recovery::new();
        for (i, original) in originals.iter().enumerate() {
            let mut bytes = original.clone();
            for _ in 0..rng.range(0, 4) {
                let headers: Vec<usize> = (0..bytes.len())
                    .filter(|at| crate::wire::header(&bytes[*at..]).is_some())
                    .collect();
                let at = rng.range(0, bytes.len() as u64 + 1) as usize;
                match rng.range(0, 4) {
                    0 => bytes.truncate(at),
                    1 if !headers.is_empty() => {
                        let header = headers[rng.range(0, headers.len() as u64) as usize];
                        let field = header + rng.range(4, 48) as usize;
                        let value = if rng.one_in(3) {
                            0xff
                        } else {
                            rng.next_u64() as u8
                        };
                        // A whole word of it, now and then: the largest index there is.
                        let width = if rng.one_in(3) { 8 } else { 1 };
                        let end = (field + width).min(header + 48).min(bytes.len());
                        bytes[field.min(end)..end].fill(value);
                        repair(&mut bytes, header);
                    }
                    2 => {
                        let from = rng.range(0, bytes.len() as u64 + 1) as usize;
                        let piece = bytes[from.min(at)..from.max(at)].to_vec();
                        bytes.splice(at..at, piece);
                    }
                    _ if at < bytes.len() => bytes[at] = rng.next_u64() as u8,
                    _ => {}
                }
            }
            recovery.feed(i as u64 + 1, &bytes);
        }
        let recovered = recovery.finish();
        differing += u64::from(recovered.shards.len() != 2);
        // And a journal can go on from whatever it was.
        let mut journal = Journal::new(&recovered, JournalConfig::default());
        journal.flush(Now::default());
        while journal.poll_op().is_some() {}
    }
    assert!(differing > 100);
}

#[test]
fn a_length_beyond_the_cap_is_no_header() {
    let mut bytes = segments().remove(0);
    bytes[44..48].copy_from_slice(&u32::MAX.to_be_bytes());
    repair(&mut bytes, 0);
    assert_eq!(crate::wire::header(&bytes), None);
}
