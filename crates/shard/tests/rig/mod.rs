//! Replicas over journals on disks in memory, joined by a network that loses only what a test takes out.

use base::{NodeId, Now, Reader, ReplicaId, Rng, SessionId, ShardId, Writer};
use bytes::Bytes;
use catalog::TREE_SHARD;
use coordination::{
    Acl, Command, Coordination, CreateMode, Envelope, Origin, Output, TreeOp, Unit,
};
use journal::{
    DiskOp, DiskResult, FileId, Journal, JournalConfig, JournalProgress, Recovery, Ticket,
};
use replication::raft::{GroupConfig, Replica, decode_message, encode_message};
use shard::{DataUnit, Shard, ShardConfig, ShardEvent, ShardOutput};
use std::collections::{BTreeMap, VecDeque};

/// The shard under test.
pub const SHARD: ShardId = TREE_SHARD;

/// Steps after which a test is taken to go round in circles.
const STEPS_MAX: usize = 100_000;

#[derive(Clone, Default)]
struct File {
    seen: Vec<u8>,
    synced: Vec<u8>,
}

/// What was synced survives; nothing else does.
#[derive(Clone, Default)]
pub struct Disk {
    files: BTreeMap<FileId, File>,
}

impl Disk {
    fn execute(&mut self, op: DiskOp) -> Option<(Ticket, DiskResult)> {
        match op {
            DiskOp::Write {
                file,
                offset,
                bytes,
            } => {
                let seen = &mut self.files.entry(file).or_default().seen;
                let (start, end) = (offset as usize, offset as usize + bytes.len());
                seen.resize(seen.len().max(end), 0);
                seen[start..end].copy_from_slice(&bytes);
                None
            }
            DiskOp::Sync { file, ticket } => {
                let file = self.files.get_mut(&file).expect("a synced file is there");
                file.synced.clone_from(&file.seen);
                Some((ticket, DiskResult::Done(Bytes::new())))
            }
            DiskOp::Rename { from, to, ticket } => {
                let file = self.files.remove(&from).expect("a renamed file is there");
                self.files.insert(to, file);
                Some((ticket, DiskResult::Done(Bytes::new())))
            }
            DiskOp::Delete { file } => {
                self.files.remove(&file);
                None
            }
            DiskOp::Read {
                file,
                offset,
                length,
                ticket,
            } => {
                let result = match self.files.get(&file) {
                    None => DiskResult::NotFound,
                    Some(f) => {
                        let from = f.seen.len().min(offset as usize);
                        let to = f.seen.len().min(from + length as usize);
                        DiskResult::Done(Bytes::copy_from_slice(&f.seen[from..to]))
                    }
                };
                Some((ticket, result))
            }
        }
    }

    /// Power is lost.
    pub fn crash(&mut self) {
        self.files.retain(|_, f| !f.synced.is_empty());
        for file in self.files.values_mut() {
            file.seen.clone_from(&file.synced);
        }
    }

    /// Complete snapshots.
    pub fn snapshots(&self) -> Vec<FileId> {
        let files = self.files.keys().copied();
        files
            .filter(|f| matches!(f, FileId::Snapshot(..)))
            .collect()
    }

    /// One bit in the middle of a file turns.
    pub fn flip(&mut self, file: FileId) {
        let file = self.files.get_mut(&file).expect("the file is there");
        let at = file.synced.len() / 2;
        file.synced[at] ^= 1;
        file.seen.clone_from(&file.synced);
    }
}

/// One replica with its own journal and disk.
pub struct Node {
    pub shard: Shard,
    pub journal: Journal,
    pub disk: Disk,
    pub now: Now,
    /// Disk operations wait while true.
    pub disk_stands: bool,
    waiting: VecDeque<DiskOp>,
    /// What it told, but for disk operations.
    pub told: Vec<ShardEvent>,
    /// Of its session.
    sequence: u64,
}

fn config() -> ShardConfig {
    config_of(shard::MACHINE_VERSION)
}

/// Of a build that can apply this machine version.
fn config_of(machine_version: u16) -> ShardConfig {
    ShardConfig {
        group: GroupConfig::default(),
        machine_version,
        snapshot_log_bytes: u64::MAX,
        snapshot_chunk_bytes: 256 << 10,
    }
}

pub fn place(id: u64) -> Replica {
    Replica {
        id: ReplicaId(id),
        node: NodeId(id),
        address: format!("node{id}:7401"),
    }
}

fn fresh_journal() -> Journal {
    Journal::new(&Recovery::new().finish(), JournalConfig::default())
}

impl Node {
    fn with(shard: Shard, journal: Journal, disk: Disk) -> Self {
        Self {
            shard,
            journal,
            disk,
            now: Now {
                mono_us: 1_000_000,
                wall_ms: 1_000_000,
            },
            disk_stands: false,
            waiting: VecDeque::new(),
            told: Vec::new(),
            sequence: 0,
        }
    }

    /// The first replica of a new shard.
    pub fn bootstrap(id: u64) -> Self {
        Self::bootstrap_with(id, shard::MACHINE_VERSION)
    }

    /// The first replica, of a build that can apply this machine version.
    pub fn bootstrap_with(id: u64, version: u16) -> Self {
        let mut journal = fresh_journal();
        let (config, rng) = (config_of(version), Rng::new(id));
        let shard = Shard::bootstrap(SHARD, place(id), config, rng, &mut journal);
        Self::with(shard, journal, Disk::default())
    }

    /// A replica to be filled.
    pub fn create(id: u64) -> Self {
        let mut journal = fresh_journal();
        let shard = Shard::create(SHARD, ReplicaId(id), config(), Rng::new(id), &mut journal);
        Self::with(shard, journal, Disk::default())
    }

    /// What a disk holds, taken up.
    pub fn recover(disk: Disk) -> Self {
        Self::recover_with(disk, shard::MACHINE_VERSION)
    }

    fn recover_with(disk: Disk, version: u16) -> Self {
        let mut recovery = Recovery::new();
        for (file, content) in &disk.files {
            if let FileId::Segment(number) = file {
                recovery.feed(*number, &content.seen);
            }
        }
        let mut recovered = recovery.finish();
        let mut journal = Journal::new(&recovered, JournalConfig::default());
        let found = recovered.shards.remove(&SHARD).expect("the journal has it");
        let config = config_of(version);
        let shard = Shard::recover(SHARD, found, config, Rng::new(99), &mut journal);
        Self::with(shard, journal, disk)
    }

    /// Power is lost and comes back.
    pub fn restart(mut self) -> Self {
        self.disk.crash();
        Self::recover(self.disk)
    }

    /// The same, by a build that can apply this machine version.
    pub fn restart_with(mut self, version: u16) -> Self {
        self.disk.crash();
        Self::recover_with(self.disk, version)
    }

    /// One turn of the core. False when there was nothing left to do.
    pub fn step(&mut self) -> bool {
        (self.shard).flush(self.now, self.now.wall_ms, &mut self.journal);
        let mut busy = self.shard.is_busy();
        while let Some(event) = self.shard.poll_event() {
            busy = true;
            match event {
                ShardEvent::Disk(op) => self.waiting.push_back(op),
                event => self.told.push(event),
            }
        }
        self.journal.flush(self.now);
        while let Some(op) = self.journal.poll_op() {
            self.waiting.push_back(op);
        }
        while !self.disk_stands
            && let Some(op) = self.waiting.pop_front()
        {
            busy = true;
            if let Some((ticket, result)) = self.disk.execute(op) {
                let progress = self.journal.handle_done(self.now, ticket, &result);
                if progress == JournalProgress::NotMine {
                    let journal = &mut self.journal;
                    assert!((self.shard).handle_disk(self.now, ticket, &result, journal));
                }
            }
        }
        busy
    }

    /// Writes what the journal has gathered, past the replica.
    pub fn write_journal(&mut self) {
        self.journal.flush(self.now);
        while let Some(op) = self.journal.poll_op() {
            if let Some((ticket, result)) = self.disk.execute(op) {
                self.journal.handle_done(self.now, ticket, &result);
            }
        }
    }

    /// Turns until there is nothing to do.
    pub fn settle(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < STEPS_MAX, "the replica is never done");
        }
    }

    pub fn tick(&mut self) {
        self.now.mono_us += 10_000;
        self.now.wall_ms += 10;
        self.shard.tick(self.now);
        self.journal.handle_tick(self.now);
    }

    pub fn digest(&self) -> u64 {
        self.shard.machine().digest()
    }

    /// Proposes a command that needs no session.
    pub fn open_session(&mut self) -> bool {
        let command = Command::OpenSession {
            origin: Origin::default(),
            password: [7; 16],
            timeout_ms: 10_000,
        };
        let envelope = Envelope::default();
        let unit = DataUnit::Coordination(Unit { envelope, command });
        self.shard.propose(unit.encode())
    }

    /// The session that was opened first.
    pub fn session(&self) -> SessionId {
        self.tree()
            .sessions()
            .next()
            .expect("a session was opened")
            .id
    }

    /// Creates a node of this many bytes under that session.
    pub fn create_node(&mut self, path: &str, bytes: usize) {
        self.write(TreeOp::Create {
            path: path.into(),
            data: Bytes::from(vec![b'x'; bytes]),
            acl: vec![Acl::open()],
            mode: CreateMode::Persistent { sequential: false },
        });
    }

    /// Replaces a node's data.
    pub fn set_node(&mut self, path: &str, data: &'static [u8]) {
        self.write(TreeOp::SetData {
            path: path.into(),
            data: Bytes::from_static(data),
            version: -1,
        });
    }

    fn write(&mut self, op: TreeOp) {
        self.sequence += 1;
        let envelope = Envelope {
            session: self.session(),
            generation: 1,
            sequence: self.sequence,
            ..Envelope::default()
        };
        let command = Command::Write(op);
        let unit = DataUnit::Coordination(Unit { envelope, command });
        assert!(self.shard.propose(unit.encode()));
    }

    pub fn node_count(&self) -> usize {
        self.tree().counts().nodes
    }

    fn tree(&self) -> &Coordination {
        let data = self.shard.machine().data();
        &data.expect("the tree's shard holds data").coordination
    }

    /// Sessions whose opening was told of.
    pub fn opened(&self) -> usize {
        let is = |e: &&ShardEvent| {
            matches!(e, ShardEvent::Output(ShardOutput::Coordination(o))
                if matches!(o, Output::SessionOpened { .. }))
        };
        self.told.iter().filter(is).count()
    }

    /// True when it has said that it is silent.
    pub fn said_silent(&self) -> bool {
        (self.told.iter()).any(|e| matches!(e, ShardEvent::Silent(_)))
    }
}

/// Several replicas; node and replica have the same number.
#[derive(Default)]
pub struct Net {
    pub nodes: BTreeMap<u64, Node>,
    /// Pieces of snapshots that get lost from now on.
    pub pieces_to_lose: usize,
    /// Pieces that arrived.
    pub pieces: usize,
    /// Nobody reaches these.
    pub cut_off: Vec<u64>,
}

impl Net {
    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("it is there")
    }

    /// Turns and deliveries until there is nothing to do.
    pub fn settle(&mut self) {
        let mut steps = 0;
        loop {
            let ids: Vec<u64> = self.nodes.keys().copied().collect();
            let mut busy = false;
            for id in ids {
                self.node(id).settle();
                let told = std::mem::take(&mut self.node(id).told);
                for event in told {
                    busy |= self.deliver(id, event);
                }
            }
            if !busy {
                return;
            }
            steps += 1;
            assert!(steps < STEPS_MAX, "the replicas are never done");
        }
    }

    /// A tick for everyone, and what follows from it.
    pub fn tick(&mut self, n: usize) {
        for _ in 0..n {
            self.nodes.values_mut().for_each(Node::tick);
            self.settle();
        }
    }

    fn deliver(&mut self, from: u64, event: ShardEvent) -> bool {
        let away = |net: &Self, to: u64| {
            net.cut_off.contains(&from) || net.cut_off.contains(&to) || !net.nodes.contains_key(&to)
        };
        match event {
            ShardEvent::Send(message) => {
                if away(self, message.to) {
                    return true;
                }
                let members = self
                    .node(from)
                    .shard
                    .group()
                    .map(|g| g.membership().clone());
                let mut w = Writer::new();
                encode_message(&mut w, &message, &members.unwrap_or_default());
                let bytes = w.into_bytes();
                let (message, at_cut) = decode_message(&mut Reader::new(&bytes), &bytes)
                    .expect("what was encoded is read back");
                let to = self.node(message.to);
                to.shard.handle_message(to.now, message, at_cut);
            }
            ShardEvent::Fetch {
                from: source,
                index,
                offset,
                length,
            } => {
                if away(self, source.0) {
                    return true;
                }
                let Node {
                    shard,
                    journal,
                    now,
                    ..
                } = self.node(source.0);
                shard.handle_fetch(*now, NodeId(from), index, offset, length, journal);
            }
            ShardEvent::Piece { to, piece } => {
                if away(self, to.0) {
                    return true;
                }
                if self.pieces_to_lose > 0 {
                    self.pieces_to_lose -= 1;
                    return true;
                }
                self.pieces += 1;
                let Node {
                    shard,
                    journal,
                    now,
                    ..
                } = self.node(to.0);
                shard.handle_piece(*now, piece, journal);
            }
            event => {
                // Kept for the test to look at; nothing follows from it here.
                let kept = &mut self.node(from).told;
                kept.push(event);
                return false;
            }
        }
        true
    }
}
