//! Golden scripts: each file of `testscripts/` holds commands, `----`, and what they print.
//!
//! A script's commands (shards, indices and the like are numbers):
//!
//! ```text
//! segment-bytes N                     new journals roll at N bytes
//! mark S REPLICA INDEX TERM           append
//! entry S INDEX TERM DATA
//! hard S TERM VOTE COMMIT
//! removed S
//! flush                               print the operations and carry them out
//! write [N]                           flush, but power will be lost before its Nth write (1) is synced
//! done [full|failed]                  report all syncs carried out
//! go                                  flush and done until nothing is left, quietly
//! tick                                10 ms pass
//! release S INDEX · pinning           free segments; who keeps the oldest
//! crash [W:BYTES ...]                 power is lost; of unsynced write W (from 0) BYTES or `all` last
//! flip SEGMENT KIND N header|payload  flip a bit of the Nth frame (from 1) of a kind
//! truncate SEGMENT BYTES · lose SEGMENT
//! layout SEGMENT                      print the frames of a file
//! recover                             print the verdicts
//! start                               a new journal goes on from what recovery finds
//! failing · working                   syncs write nothing from now on (say `done failed`); they do again
//! plant                               recovery cuts sealed frames from now on
//! ```

#[path = "../../../base/testing/transcripts.rs"]
mod transcripts;

use super::sim::Disk;
use crate::scan::{Scan, What};
use crate::wire::{self, Kind, SegmentHead};
use crate::{DiskOp, DiskResult, Frame, Journal, JournalConfig, Recovered, Ticket};
use base::planted::{self, Bug};
use base::{Now, ReplicaId, ShardId};
use bytes::Bytes;
use std::fmt::Write as _;

struct Runner {
    disk: Disk,
    journal: Journal,
    config: JournalConfig,
    now: Now,
    tickets: Vec<Ticket>,
    out: String,
}

macro_rules! say {
    ($runner:expr, $($what:tt)*) => {
        writeln!($runner.out, $($what)*).expect("a string takes everything")
    };
}

fn kind_name(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

impl Runner {
    fn new() -> Self {
        let config = JournalConfig::default();
        Self {
            disk: Disk::default(),
            journal: Journal::new(&Recovered::default(), config),
            config,
            now: Now::default(),
            tickets: Vec::new(),
            out: String::new(),
        }
    }

    fn carry_out(&mut self, aloud: bool) {
        while let Some(op) = self.journal.poll_op() {
            if aloud {
                match &op {
                    DiskOp::Write {
                        file,
                        offset,
                        bytes,
                    } => say!(self, "write {file:?} at {offset}, {} bytes", bytes.len()),
                    DiskOp::Sync { file, .. } => say!(self, "sync {file:?}"),
                    other => say!(self, "{other:?}"),
                }
            }
            self.tickets.extend(self.disk.carry_out_one(op));
        }
    }

    fn done(&mut self, result: &DiskResult, aloud: bool) {
        for ticket in std::mem::take(&mut self.tickets) {
            let progress = self.journal.handle_done(self.now, ticket, result);
            if aloud {
                say!(self, "{progress:?}");
            }
        }
        self.carry_out(aloud);
    }

    fn frame(&mut self, shard: u64, frame: Frame) {
        self.journal.append(ShardId(shard), frame);
    }

    fn flip(&mut self, segment: u64, kind: &str, nth: usize, part: &str) {
        let file = self
            .disk
            .files
            .get_mut(&segment)
            .expect("the script names a file");
        let base = SegmentHead::decode(file.seen())
            .expect("its head is whole")
            .base;
        let start = Scan::new(file.seen(), base)
            .filter(|p| match p.what {
                What::Frame { found, .. } => kind_name(found.header.kind) == kind,
                _ => false,
            })
            .nth(nth - 1)
            .expect("the script names a frame")
            .start as usize;
        let offset = match part {
            "header" => start + 9,
            _ => start + wire::HEADER_BYTES,
        };
        file.change(|content| content[offset] ^= 1);
    }

    fn recover(&mut self) {
        let recovered = self.disk.recover();
        say!(
            self,
            "lane {:?}, ends at {}",
            recovered.verdict,
            recovered.end.0
        );
        for (shard, found) in &recovered.shards {
            let removed = if found.removed { " removed" } else { "" };
            say!(self, "{shard} {:?}{removed}", found.verdict);
            if let Some(mark) = &found.mark {
                say!(self, "  mark {} {} {}", mark.replica, mark.index, mark.term);
            }
            if let Some(hard) = found.hard_state {
                say!(self, "  hard {} {} {}", hard.term, hard.vote, hard.commit);
            }
            for entry in &found.entries {
                let data = String::from_utf8_lossy(&entry.data);
                say!(self, "  entry {} {} {data}", entry.index, entry.term);
            }
        }
    }

    fn layout(&mut self, segment: u64) {
        let content = self.disk.files[&segment].seen();
        let base = SegmentHead::decode(content).map_or(0, |h| h.base);
        for piece in Scan::new(content, base) {
            let what = match piece.what {
                What::Gap => "gap".into(),
                What::Damaged(f) => format!("damaged {}", kind_name(f.header.kind)),
                What::Frame { found, .. } => {
                    let h = found.header;
                    format!("{} s{} {} {}", kind_name(h.kind), h.shard, h.index, h.term)
                }
            };
            say!(self, "{}..{} {what}", piece.start, piece.end);
        }
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| -> u64 { words[i].parse().expect("a number") };
        match words[0] {
            "segment-bytes" => {
                self.config.segment_bytes_max = number(1);
                self.journal = Journal::new(&Recovered::default(), self.config);
            }
            "mark" => {
                let frame = Frame::Mark {
                    replica: ReplicaId(number(2)),
                    index: number(3),
                    term: number(4),
                    conf: Bytes::from_static(b"conf"),
                };
                self.frame(number(1), frame);
            }
            "entry" => {
                let frame = Frame::Entry {
                    index: number(2),
                    term: number(3),
                    kind: 0,
                    context: Bytes::new(),
                    data: Bytes::copy_from_slice(words[4].as_bytes()),
                };
                self.frame(number(1), frame);
            }
            "hard" => {
                let (term, vote, commit) = (number(2), number(3), number(4));
                self.frame(number(1), Frame::HardState { term, vote, commit });
            }
            "removed" => self.frame(number(1), Frame::Removed),
            "flush" => {
                self.journal.flush(self.now);
                self.carry_out(true);
            }
            "write" => {
                self.journal.flush(self.now);
                let mut left = words.get(1).map_or(1, |_| number(1));
                while let Some(op) = self.journal.poll_op() {
                    let write = matches!(op, DiskOp::Write { .. });
                    let sync = matches!(op, DiskOp::Sync { .. });
                    if sync && left == 0 {
                        break;
                    }
                    left -= u64::from(write);
                    self.tickets.extend(self.disk.carry_out_one(op));
                    for ticket in std::mem::take(&mut self.tickets) {
                        let done = DiskResult::Done(Bytes::new());
                        self.journal.handle_done(self.now, ticket, &done);
                    }
                }
            }
            "done" => {
                let result = match words.get(1) {
                    Some(&"full") => DiskResult::Full,
                    Some(&"failed") => DiskResult::Failed("input/output error".into()),
                    _ => DiskResult::Done(Bytes::new()),
                };
                self.done(&result, true);
            }
            "go" => {
                self.journal.flush(self.now);
                self.carry_out(false);
                while !self.tickets.is_empty() {
                    self.done(&DiskResult::Done(Bytes::new()), false);
                }
            }
            "tick" => {
                self.now.mono_us += 10_000;
                self.journal.handle_tick(self.now);
                self.carry_out(true);
            }
            "release" => {
                self.journal.release(ShardId(number(1)), number(2));
                self.carry_out(true);
            }
            "pinning" => say!(self, "{:?}", self.journal.oldest_pinning_shard()),
            "crash" => {
                let kept: Vec<(usize, &str)> = words[1..]
                    .iter()
                    .map(|w| w.split_once(':').expect("write:bytes"))
                    .map(|(w, n)| (w.parse().expect("a number"), n))
                    .collect();
                self.tickets.clear();
                self.disk.crash(|write, bytes| {
                    let kept = kept.iter().find(|(w, _)| *w == write);
                    kept.map_or(0, |(_, n)| n.parse().unwrap_or(bytes.len()))
                });
            }
            "flip" => self.flip(number(1), words[2], number(3) as usize, words[4]),
            "truncate" => {
                let file = self
                    .disk
                    .files
                    .get_mut(&number(1))
                    .expect("the script names a file");
                file.change(|content| content.truncate(number(2) as usize));
            }
            "lose" => {
                self.disk
                    .files
                    .remove(&number(1))
                    .expect("the script names a file");
            }
            "layout" => self.layout(number(1)),
            "recover" => self.recover(),
            "start" => self.journal = Journal::new(&self.disk.recover(), self.config),
            "failing" => self.disk.failing = true,
            "working" => self.disk.failing = false,
            "plant" => planted::plant(Some(Bug::CutSealedFrame)),
            other => panic!("no such command: {other}"),
        }
    }
}

fn run(script: &str) -> String {
    let mut runner = Runner::new();
    for line in script.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let before = runner.out.len();
        runner.command(line);
        if runner.out.len() > before {
            runner.out.insert_str(before, &format!("> {line}\n"));
        }
    }
    planted::plant(None);
    runner.out
}

#[test]
fn scripts_print_what_they_printed() {
    transcripts::check(env!("CARGO_MANIFEST_DIR"), 15, run);
}
