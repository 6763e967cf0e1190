//! Chunk servers, writers and readers around the machine, with everything that goes wrong, from a seed.
//!
//! Servers are disks that come and go; what they do is what the machine tells them ([`Files::duties`]), and
//! they do it late: the state may have moved on meanwhile. The planner is the shipped one. The machine is
//! replaced by its own snapshot now and then, as a new replica would be.

use base::{Machine, NodeId, Origin, Rng, SnapshotPoll, Stamp, State};
use std::collections::{BTreeMap, BTreeSet};
use storage::files::{
    ChunkId, Command, CopyChange, CopyState, Duties, Files, NewChunk, NodeView, Output, Plan,
    Refusal, Reply, Sight, Unit, WriteId, WriteMode,
};

const PATHS: [&str; 5] = ["/a", "/b", "/d/a", "/d/b", "/d/e/c"];
const LEASE_MS: u32 = 4_000;
const COPY_AFTER_MS: i64 = 6_000;
const COPIES: u8 = 3;
const COPIES_MIN: usize = 2;

#[derive(Default)]
struct Server {
    up: bool,
    silent_since_ms: i64,
    /// What is on disk: true where it can be read.
    disk: BTreeMap<(ChunkId, u32), (u32, bool)>,
    /// What it was told and has not done yet.
    told: Option<Duties>,
}

struct Writer {
    path: String,
    mode: WriteMode,
    write: WriteId,
    chunks: Vec<u32>,
    /// It does nothing for a while, and then goes on as if nothing had been.
    asleep: u32,
}

pub struct World {
    pub files: Files,
    pub rng: Rng,
    plan: Plan,
    servers: BTreeMap<NodeId, Server>,
    writers: Vec<Writer>,
    time_ms: i64,
    tokens: u64,
    /// What each file must hold: the checksums of its chunks.
    expected: BTreeMap<String, Vec<u32>>,
    pub reads: u64,
    pub flips: u64,
    pub closed: u64,
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.range(0, from.len() as u64) as usize]
}

fn shuffle<T>(rng: &mut Rng, list: &mut [T]) {
    for at in (1..list.len()).rev() {
        list.swap(at, rng.range(0, at as u64 + 1) as usize);
    }
}

impl World {
    pub fn new(seed: u64, servers: u64) -> Self {
        let server = |n| {
            let up = true;
            (
                NodeId(n),
                Server {
                    up,
                    ..Server::default()
                },
            )
        };
        Self {
            files: Files::new(),
            rng: Rng::new(seed),
            plan: Plan::default(),
            servers: (1..=servers).map(server).collect(),
            writers: Vec::new(),
            time_ms: 1_000_000,
            tokens: 0,
            expected: BTreeMap::new(),
            reads: 0,
            flips: 0,
            closed: 0,
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.range(0, 100) < percent
    }

    fn apply(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.tokens += 1;
        let origin = Origin {
            token: self.tokens,
            ..Origin::default()
        };
        let unit = Unit { origin, command };
        let bytes = unit.encode();
        let mut out = Vec::new();
        let stamp = Stamp {
            time_ms: self.time_ms,
            seed: 0,
        };
        self.files
            .apply(stamp, &bytes, &mut out)
            .expect("it is a unit");
        let [Output::Reply { reply, .. }] = &out[..] else {
            panic!("one unit, one reply: {out:?}");
        };
        reply.clone()
    }

    fn views(&self) -> BTreeMap<NodeId, NodeView> {
        let view = |server: &Server| {
            let long = self.time_ms - server.silent_since_ms > COPY_AFTER_MS;
            let sight = match (server.up, long) {
                (true, _) => Sight::Up,
                (false, false) => Sight::Silent,
                (false, true) => Sight::Dead,
            };
            NodeView {
                sight,
                has_room: true,
            }
        };
        self.servers
            .iter()
            .map(|(node, server)| (*node, view(server)))
            .collect()
    }

    fn up(&self) -> Vec<NodeId> {
        let up = self.servers.iter().filter(|(_, s)| s.up);
        up.map(|(node, _)| *node).collect()
    }

    pub fn step(&mut self) -> Result<(), String> {
        self.time_ms += self.rng.range(0, 400) as i64;
        match self.rng.range(0, 100) {
            0..20 => self.begin(),
            20..50 => self.write()?,
            50..62 => self.lead(),
            62..80 => self.keep(),
            80..86 => self.read()?,
            86..89 => self.rename_or_remove(),
            89..93 => self.crash_or_restart(),
            93..98 => self.harm(),
            _ => self.replace_machine()?,
        }
        self.check_contents()
    }

    // --- writers ---

    fn begin(&mut self) {
        let path = (*pick(&mut self.rng, &PATHS)).to_owned();
        let mode = *pick(
            &mut self.rng,
            &[WriteMode::Create, WriteMode::Replace, WriteMode::Append],
        );
        let begin = Command::Begin {
            path: path.clone(),
            mode,
            holder: self.rng.next_u64() | 1,
            copies: COPIES,
            lease_ms: LEASE_MS,
        };
        if let Ok(Reply::Begun { write, .. }) = self.apply(begin.clone()) {
            assert_eq!(
                self.apply(begin),
                Ok(Reply::Begun {
                    write,
                    copies: COPIES
                })
            );
            self.writers.push(Writer {
                path,
                mode,
                write,
                chunks: Vec::new(),
                asleep: 0,
            });
        }
    }

    fn write(&mut self) -> Result<(), String> {
        if self.writers.is_empty() {
            return Ok(());
        }
        let at = self.rng.range(0, self.writers.len() as u64) as usize;
        let mut writer = self.writers.swap_remove(at);
        if writer.asleep > 0 {
            writer.asleep -= 1;
            self.writers.push(writer);
            return Ok(());
        }
        match self.rng.range(0, 10) {
            0 => return Ok(()), // it died
            1 => writer.asleep = 30,
            2 => {
                let _ = self.apply(Command::Renew {
                    write: writer.write,
                });
            }
            3..7 => {
                if !self.write_chunk(&mut writer) {
                    return Ok(());
                }
            }
            7 => {
                let _ = self.apply(Command::Abandon {
                    write: writer.write,
                });
                return Ok(());
            }
            _ => return self.close(writer),
        }
        self.writers.push(writer);
        Ok(())
    }

    /// True while the writer goes on.
    fn write_chunk(&mut self, writer: &mut Writer) -> bool {
        let id = ChunkId {
            write: writer.write,
            number: writer.chunks.len() as u32,
        };
        let checksum = self.rng.next_u64() as u32;
        for generation in 1..4 {
            let mut targets = self.up();
            shuffle(&mut self.rng, &mut targets);
            targets.truncate(usize::from(COPIES));
            let mut copies = Vec::new();
            for node in targets {
                // A node that fails may have written all the same.
                let fails = self.chance(15);
                let server = self.servers.get_mut(&node).expect("it is one");
                if !fails || generation % 2 == 0 {
                    server.disk.insert((id, generation), (checksum, true));
                }
                if !fails {
                    copies.push(node);
                }
            }
            if copies.len() < COPIES_MIN {
                continue;
            }
            if self.chance(5) {
                return false; // it died before it committed
            }
            let new = NewChunk {
                generation,
                length: 10,
                checksum,
                copies,
            };
            let commit = Command::Commit { chunk: id, new };
            let reply = self.apply(commit.clone());
            if reply.is_err() {
                return false;
            }
            if self.chance(30) {
                assert_eq!(
                    self.apply(commit),
                    Ok(Reply::Done),
                    "the same again is harmless"
                );
            }
            writer.chunks.push(checksum);
            return true;
        }
        true
    }

    fn close(&mut self, writer: Writer) -> Result<(), String> {
        let write = writer.write;
        let path = self.files.path_of_write(write);
        match (self.apply(Command::Close { write }), path) {
            (Ok(_), Some(path)) => {
                self.closed += 1;
                if !writer.chunks.is_empty() {
                    assert_eq!(self.apply(Command::Close { write }), Ok(Reply::Done));
                }
                let content = self.expected.entry(path).or_default();
                if writer.mode != WriteMode::Append {
                    content.clear();
                }
                content.extend(writer.chunks);
                Ok(())
            }
            (Ok(_), None) => Err(format!(
                "a writer of {} closed what it did not hold",
                writer.path
            )),
            (Err(_), _) => Ok(()),
        }
    }

    // --- what leads and keeps ---

    fn lead(&mut self) {
        for (write, deadline_ms) in self.files.expired(self.time_ms, 100) {
            let _ = self.apply(Command::Expire { write, deadline_ms });
        }
        if self.files.has_removed() {
            let _ = self.apply(Command::Sweep);
        }
        let changes = self.plan.next(&self.files, &self.views());
        if !changes.is_empty() {
            let _ = self.apply(Command::Copies { changes });
        }
    }

    fn keep(&mut self) {
        let up = self.up();
        if up.is_empty() {
            return;
        }
        let node = *pick(&mut self.rng, &up);
        // What was told a while ago is done first.
        if let Some(duties) = self.servers.get_mut(&node).and_then(|s| s.told.take()) {
            self.carry_out(node, duties);
        }
        let inventory: BTreeSet<(ChunkId, u32)> =
            self.servers[&node].disk.keys().copied().collect();
        let duties = self.files.duties(node, &inventory, 50);
        if let Some(server) = self.servers.get_mut(&node) {
            server.told = Some(duties);
        }
    }

    fn is_good(&self, node: NodeId, key: (ChunkId, u32)) -> bool {
        self.servers[&node]
            .disk
            .get(&key)
            .is_some_and(|(_, good)| *good)
    }

    fn carry_out(&mut self, node: NodeId, duties: Duties) {
        let mut changes = Vec::new();
        for key in duties.remove {
            self.servers
                .get_mut(&node)
                .expect("it is one")
                .disk
                .remove(&key);
        }
        for key in duties.lost {
            if !self.servers[&node].disk.contains_key(&key) {
                changes.push(CopyChange::Lost { chunk: key.0, node });
            }
        }
        for key in duties.suspect {
            if self.is_good(node, key) {
                let (chunk, generation) = key;
                changes.push(CopyChange::Made {
                    chunk,
                    generation,
                    node,
                });
            }
        }
        for place in duties.make {
            let key = (place.id, place.generation);
            if !self.is_good(node, key) {
                let good = place
                    .copies
                    .iter()
                    .filter(|(_, state)| *state == CopyState::Good);
                let source = good
                    .map(|(n, _)| *n)
                    .find(|n| self.servers[n].up && self.is_good(*n, key));
                if source.is_none() || self.chance(10) {
                    continue;
                }
                let disk = &mut self.servers.get_mut(&node).expect("it is one").disk;
                disk.insert(key, (place.checksum, true));
            }
            let (chunk, generation) = key;
            changes.push(CopyChange::Made {
                chunk,
                generation,
                node,
            });
        }
        if !changes.is_empty() && !self.chance(10) {
            let _ = self.apply(Command::Copies { changes });
        }
    }

    /// Reads all copies of all that a server has, as its scrubber does.
    fn scrub(&mut self, node: NodeId) {
        let bad = self.servers[&node]
            .disk
            .iter()
            .filter(|(_, (_, good))| !good);
        let changes: Vec<CopyChange> = bad
            .map(|(&(chunk, generation), _)| CopyChange::Corrupt {
                chunk,
                generation,
                node,
            })
            .collect();
        let _ = self.apply(Command::Copies { changes });
    }

    fn read(&mut self) -> Result<(), String> {
        let path = *pick(&mut self.rng, &PATHS);
        let Ok((_, places)) = self.files.locate(path, 0, u64::MAX) else {
            return Ok(());
        };
        let mut found = Vec::new();
        for place in places {
            let mut nodes = place.copies.clone();
            shuffle(&mut self.rng, &mut nodes);
            for (node, state) in nodes {
                let key = (place.id, place.generation);
                if state != CopyState::Good || !self.servers[&node].up {
                    continue;
                }
                match self.servers[&node].disk.get(&key).copied() {
                    Some((checksum, true)) => {
                        found.push(checksum);
                        break;
                    }
                    Some((_, false)) => {
                        let (chunk, generation) = key;
                        let changes = vec![CopyChange::Corrupt {
                            chunk,
                            generation,
                            node,
                        }];
                        let _ = self.apply(Command::Copies { changes });
                    }
                    None => {}
                }
            }
        }
        self.reads += 1;
        let expected = self
            .expected
            .get(path)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut rest = expected.iter();
        // With nodes down a part may not be readable; what is read is right and in order.
        match found.iter().all(|one| rest.any(|other| other == one)) {
            true => Ok(()),
            false => Err(format!("{path} is read as {found:x?}, it is {expected:x?}")),
        }
    }

    fn rename_or_remove(&mut self) {
        let path = (*pick(&mut self.rng, &["/a", "/b", "/d/a", "/d/b", "/d"])).to_owned();
        if self.chance(50) {
            let recursive = self.chance(50);
            if self
                .apply(Command::Delete {
                    path: path.clone(),
                    recursive,
                })
                .is_ok()
            {
                let below = format!("{path}/");
                self.expected
                    .retain(|p, _| *p != path && !p.starts_with(&below));
            }
            return;
        }
        let to = (*pick(&mut self.rng, &["/a", "/b", "/d/a", "/d/b"])).to_owned();
        let is_directory = self.files.stat(&path).is_ok_and(|stat| stat.is_directory);
        let rename = Command::Rename {
            from: path.clone(),
            to: to.clone(),
        };
        if is_directory || path == to {
            return;
        }
        if self.apply(rename).is_ok()
            && let Some(content) = self.expected.remove(&path)
        {
            self.expected.insert(to, content);
        }
    }

    // --- faults ---

    fn crash_or_restart(&mut self) {
        let nodes: Vec<NodeId> = self.servers.keys().copied().collect();
        let node = *pick(&mut self.rng, &nodes);
        let (up_count, time_ms) = (self.up().len(), self.time_ms);
        let server = self.servers.get_mut(&node).expect("it is one");
        if !server.up {
            server.up = true;
        } else if up_count > 2 {
            server.up = false;
            server.silent_since_ms = time_ms;
            // What it was about to do is forgotten.
            server.told = None;
        }
    }

    /// Copies of a chunk that are listed and on disk.
    fn real(&self, path: &str) -> Vec<(ChunkId, u32, Vec<NodeId>)> {
        let places = self
            .files
            .locate(path, 0, u64::MAX)
            .map(|(_, places)| places);
        let real = |place: storage::files::ChunkPlace| {
            let key = (place.id, place.generation);
            let good = place
                .copies
                .iter()
                .filter(|(_, state)| *state == CopyState::Good);
            let nodes = good
                .map(|(node, _)| *node)
                .filter(|node| self.is_good(*node, key));
            (key.0, key.1, nodes.collect())
        };
        places.unwrap_or_default().into_iter().map(real).collect()
    }

    /// Flips a bit of a copy or loses it, never of a chunk with fewer than two others.
    fn harm(&mut self) {
        let path = *pick(&mut self.rng, &PATHS);
        for (id, generation, nodes) in self.real(path) {
            if nodes.len() < 2 || !self.chance(40) {
                continue;
            }
            let node = *pick(&mut self.rng, &nodes);
            let flips = self.chance(70);
            let disk = &mut self.servers.get_mut(&node).expect("it is one").disk;
            if flips {
                self.flips += 1;
                disk.entry((id, generation))
                    .and_modify(|(_, good)| *good = false);
            } else {
                disk.remove(&(id, generation));
            }
        }
    }

    fn replace_machine(&mut self) -> Result<(), String> {
        let (digest, stat) = (self.files.digest(), self.files.stat("/d"));
        let bytes_max = self.rng.range(1, 400) as usize;
        self.files.begin_snapshot();
        let mut copy = Files::new();
        while let SnapshotPoll::Chunk(chunk) = self.files.poll_snapshot(bytes_max) {
            copy.restore(&chunk)?;
        }
        copy.finish_restore()?;
        if copy.digest() != digest || copy.stat("/d") != stat {
            return Err("a restored machine differs".into());
        }
        self.files = copy;
        self.plan = Plan::default();
        Ok(())
    }

    // --- what must be ---

    fn check_contents(&self) -> Result<(), String> {
        for path in PATHS {
            let found = self.files.locate(path, 0, u64::MAX);
            let found =
                found.map(|(_, places)| places.iter().map(|p| p.checksum).collect::<Vec<u32>>());
            match (found, self.expected.get(path)) {
                (Ok(found), Some(expected)) if found == *expected => {}
                (Err(_), None) => {}
                (found, expected) => {
                    return Err(format!(
                        "{path} holds {found:x?}, it was closed with {expected:x?}"
                    ));
                }
            }
            for (id, _, nodes) in self.real(path) {
                if nodes.is_empty() {
                    return Err(format!("chunk {id} of {path} has no good copy any more"));
                }
            }
        }
        Ok(())
    }

    /// Lets everything come back and settle; then every chunk has its copies, and nothing else is on any disk.
    pub fn heal(&mut self) -> Result<(), String> {
        self.writers.clear();
        for server in self.servers.values_mut() {
            server.up = true;
        }
        let nodes: Vec<NodeId> = self.servers.keys().copied().collect();
        for node in &nodes {
            self.scrub(*node);
        }
        for _ in 0..400 {
            self.time_ms += 700;
            self.lead();
            for node in &nodes {
                if let Some(duties) = self.servers.get_mut(node).and_then(|s| s.told.take()) {
                    self.carry_out(*node, duties);
                }
                let disk = &self.servers[node].disk;
                let duties = self
                    .files
                    .duties(*node, &disk.keys().copied().collect(), 50);
                self.servers.get_mut(node).expect("it is one").told = Some(duties);
            }
        }
        self.check_contents()?;
        let mut needed: BTreeSet<(NodeId, ChunkId, u32)> = BTreeSet::new();
        for path in PATHS {
            for (id, generation, good) in self.real(path) {
                let wanted = usize::from(COPIES).min(nodes.len());
                if good.len() != wanted {
                    return Err(format!(
                        "chunk {id} of {path} has {} good copies",
                        good.len()
                    ));
                }
                needed.extend(good.iter().map(|node| (*node, id, generation)));
            }
        }
        for (node, server) in &self.servers {
            for (id, generation) in server.disk.keys() {
                if !needed.contains(&(*node, *id, *generation)) {
                    return Err(format!("{node} keeps chunk {id} that nobody needs"));
                }
            }
        }
        let health = self.files.health(&self.views(), 10);
        match (
            health.missing,
            health.corrupt,
            health.making,
            health.writers,
        ) {
            (0, 0, 0, 0) => Ok(()),
            _ => Err(format!("it does not settle: {health:?}")),
        }
    }
}
