//! The files of groups: a state is written whole beside the old one and takes its place, a log is appended to.

use super::*;
use base::planted::{Bug, planted};

impl Core {
    fn group_lane(&self) -> LaneId {
        self.lane_of(META_SHARD)
    }

    pub(super) fn group_disk(&mut self, op: DiskOp) {
        let lane = self.group_lane();
        self.actions.push_back(Action::Disk { lane, op });
    }

    fn group_ticket(&mut self, number: u64, what: Use) -> Option<Ticket> {
        let lane = self.group_lane();
        let ticket = self.lanes.get_mut(&lane)?.journal.next_ticket();
        self.groups.tickets.insert(ticket, (number, what));
        Some(ticket)
    }

    pub(super) fn read_group_file(&mut self, number: u64, file: FileId, what: Use) {
        if let Some(ticket) = self.group_ticket(number, what) {
            self.group_disk(DiskOp::Read {
                file,
                offset: 0,
                length: LOG_BYTES_MAX,
                ticket,
            });
        }
    }

    /// The whole of it, into another file that then takes the place of the old one.
    pub(super) fn write_group_state(&mut self, number: u64, state: &[u8]) {
        let file = FileId::GroupPart(number);
        if let Some(ticket) = self.group_ticket(number, Use::Synced) {
            let bytes = seal(state);
            self.group_disk(DiskOp::Delete { file });
            self.group_disk(DiskOp::Write {
                file,
                offset: 0,
                bytes,
            });
            self.group_disk(DiskOp::Sync { file, ticket });
        }
    }

    /// The end of a disk operation. False when it was not for a group.
    pub(crate) fn group_disk_done(
        &mut self,
        now: Now,
        lane: LaneId,
        ticket: Ticket,
        result: &DiskResult,
    ) -> bool {
        if lane != self.group_lane() {
            return false;
        }
        let Some((number, what)) = self.groups.tickets.remove(&ticket) else {
            return false;
        };
        if let (Use::Synced, DiskResult::Done(_)) = (what, result) {
            if let Some(ticket) = self.group_ticket(number, Use::Renamed) {
                let (from, to) = (FileId::GroupPart(number), FileId::Group(number));
                self.group_disk(DiskOp::Rename { from, to, ticket });
            }
            return true;
        }
        let Some(running) = self.groups.running.get_mut(&number) else {
            return true;
        };
        match (what, &mut running.stage) {
            (Use::State, Stage::Reading { state, .. }) => {
                *state = Some(match result {
                    DiskResult::Done(bytes) => Some(bytes.clone()),
                    DiskResult::NotFound => None,
                    // It will not be understood, and so the peer not be started.
                    DiskResult::Full | DiskResult::Failed(_) => Some(Bytes::new()),
                });
                self.start_group(now, number);
            }
            (Use::Log, Stage::Reading { log, .. }) => {
                let bytes = match result {
                    DiskResult::Done(bytes) => bytes.clone(),
                    _ => Bytes::new(),
                };
                let text = String::from_utf8_lossy(&bytes);
                let whole = text.rfind('\n').map_or(0, |end| end + 1);
                // What cannot be read is begun anew.
                let events = Event::read(&text).unwrap_or_default();
                running.log_end = if events.is_empty() { 0 } else { whole as u64 };
                *log = Some(events);
                if running.log_end < bytes.len() as u64 {
                    let lines = bytes.slice(..running.log_end as usize);
                    let file = FileId::GroupLog(number);
                    self.group_disk(DiskOp::Delete { file });
                    self.group_disk(DiskOp::Write {
                        file,
                        offset: 0,
                        bytes: lines,
                    });
                }
                self.start_group(now, number);
            }
            (Use::Synced | Use::Renamed, Stage::Running(member)) => {
                match result {
                    DiskResult::Done(_) => member.handle_persisted(now),
                    DiskResult::NotFound | DiskResult::Full => {
                        member.fail("the disk had no room for its state; restart the node".into());
                    }
                    DiskResult::Failed(why) => {
                        member.fail(format!("its state cannot be written: {why}"));
                    }
                }
                self.take_out(now, number);
            }
            _ => {}
        }
        true
    }

    /// Starts a peer whose files are read.
    fn start_group(&mut self, now: Now, number: u64) {
        let Some(running) = self.groups.running.get_mut(&number) else {
            return;
        };
        let Stage::Reading {
            state: Some(state),
            log: Some(log),
            held,
        } = &mut running.stage
        else {
            return;
        };
        let (state, log, held) = (state.take(), std::mem::take(log), std::mem::take(held));
        let protocol = match protocols::find(&running.record.protocol) {
            Ok(protocol) => protocol,
            Err(why) => {
                let name = &running.record.name;
                let message = format!("group {name} is not run here: {why}; upgrade this node");
                return self.log(Level::Error, message);
            }
        };
        let rng = self.groups.rng.fork(number);
        let nodes = running.record.nodes.len();
        let mut member = Member::new(&protocol, running.me, nodes, rng, log);
        let state = state.filter(|_| !planted(Bug::BeginGroupAnew));
        match state.as_deref().map(unseal).transpose() {
            Ok(state) => member.handle_start(now, state),
            Err(why) => member.fail(format!("its state on disk cannot be read: {why}")),
        }
        running.stage = Stage::Running(Box::new(member));
        self.take_out(now, number);
        for (from, bytes) in held {
            if let Some(node) = self.group_node(number, from) {
                self.group_frame(now, number, node, bytes);
            }
        }
    }

    fn group_node(&self, number: u64, peer: PeerId) -> Option<NodeId> {
        let running = self.groups.running.get(&number)?;
        running.record.nodes.get(peer - 1).copied()
    }
}

/// A state as it lies on disk: behind its checksum.
fn seal(state: &[u8]) -> Bytes {
    let mut w = Writer::with_capacity(state.len() + 8);
    w.u64(checksum(state)).raw(state);
    w.into_bytes()
}

fn unseal(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let mut r = Reader::new(bytes);
    let sum = r.u64()?;
    match checksum(r.rest()) == sum {
        true => Ok(r.rest()),
        false => Err(DecodeError::Invalid("checksum of a group's file")),
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = base::map::Fnv::default();
    hasher.write(bytes);
    hasher.finish()
}
