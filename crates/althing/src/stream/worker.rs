//! A worker: it says in the tree where it is reached, and does what the master of the latest epoch tells.

use super::inbox::{Inbox, Link, Work};
use super::store::Store;
use super::tree::Tree;
use super::wire::{self, Hello, Order, Word};
use super::{Where, paths};
use crate::kafka;
use computing::stream::event::Element;
use computing::stream::master::Ack;
use computing::stream::record::{Position, Record};
use computing::stream::task::{Input, Snapshot, Task};
use computing::stream::topology::Topology;
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long it waits for anything to do before it looks at its clock.
const TICK: Duration = Duration::from_millis(20);
/// How often it looks after its node in the tree.
const LOOK: Duration = Duration::from_millis(500);
/// How long a peer may take to be there.
const DIAL_TIME: Duration = Duration::from_secs(5);
/// How long a partition may have no answer before that is told.
const SILENCE_TIME: Duration = Duration::from_secs(30);
/// With so many elements on their way, no records are read.
const UNDER_WAY_MAX: usize = 64;

struct Shared {
    place: Where,
    topology: Arc<Topology>,
    store: Store,
    token: String,
    inbox: Inbox,
}

/// Works until the stream is stopped, or (if that is asked for) standard input ends.
pub fn run(
    place: &Where,
    listen: Option<SocketAddr>,
    until_stdin_ends: bool,
) -> Result<(), String> {
    if until_stdin_ends {
        thread::spawn(|| {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(0);
        });
    }
    let mut tree = place.tree();
    let text = tree.get(&paths::stream(&place.name))?;
    let (text, _) = text.ok_or_else(|| format!("there is no stream {:?}", place.name))?;
    let topology = Topology::parse(&String::from_utf8_lossy(&text))?;
    let token = tree.get(&paths::token(&place.name))?;
    let (token, _) = token.ok_or("the stream has no token")?;
    let listen = match listen {
        Some(listen) => listen,
        None => towards(&place.server)?,
    };
    let listener =
        TcpListener::bind(listen).map_err(|e| format!("cannot listen on {listen}: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let shared = Arc::new(Shared {
        place: place.clone(),
        topology: Arc::new(topology),
        store: place.store(),
        token: String::from_utf8_lossy(&token).into_owned(),
        inbox: Inbox::default(),
    });
    {
        let shared = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &shared));
    }
    let node = paths::worker(&place.name, &super::random().map_err(|e| e.to_string())?);
    {
        let name = place.name.clone();
        // Both end with the process.
        thread::spawn(move || register(tree, &name, &node, address));
    }
    work(&shared)
}

/// The address of this machine that the first of these servers is reached from, and any port.
fn towards(servers: &str) -> Result<SocketAddr, String> {
    let first = servers.split(',').next().unwrap_or_default();
    let fault = |e: io::Error| format!("cannot tell where {first} is reached from: {e}");
    let server = first.to_socket_addrs().map_err(fault)?.next();
    let server = server.ok_or_else(|| format!("{first:?} has no address"))?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a socket of datagrams asks for the route, and sends nothing.
    let socket = UdpSocket::bind((any, 0)).map_err(fault)?;
    socket.connect(server).map_err(fault)?;
    let here = socket.local_addr().map_err(fault)?;
    Ok(SocketAddr::new(here.ip(), 0))
}

/// Keeps the worker's node in the tree, and ends the process once the stream is stopped.
fn register(mut tree: Tree, stream: &str, node: &str, address: SocketAddr) {
    let data = serde_json::json!({"address": address, "pid": std::process::id()}).to_string();
    let mut there = 0;
    loop {
        // In a new session the node is gone, or will be.
        if tree.connect().is_ok()
            && there != tree.generation()
            && tree.create(node, data.as_bytes(), true).is_ok_and(|is| is)
        {
            there = tree.generation();
        }
        if let Ok(Some((state, _))) = tree.get(&paths::state(stream))
            && state == *"stopped"
        {
            tree.close();
            std::process::exit(0);
        }
        tree.idle(LOOK);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // Whoever called notices, too.
            let _ = serve(stream, &shared);
        });
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DIAL_TIME))?;
    let mut reader = BufReader::with_capacity(64 << 10, stream.try_clone()?);
    let hello: Hello = wire::hear(&mut reader)?;
    stream.set_read_timeout(None)?;
    match hello {
        Hello::Master { token } if token == shared.token => {
            let link: Link = Arc::new(stream.into());
            loop {
                shared.inbox.order(&link, wire::hear(&mut reader)?);
            }
        }
        Hello::Peer { token, epoch, from } if token == shared.token => {
            if !shared.inbox.wait_for(epoch) {
                return Ok(());
            }
            loop {
                let element = wire::receive(&mut reader)
                    .and_then(|bytes| Element::decode(&bytes).map_err(io::Error::other));
                match element {
                    Ok(element) => {
                        if !shared.inbox.element(epoch, from, element) {
                            return Ok(());
                        }
                    }
                    Err(error) => {
                        let why = format!("the channel from task {from}: {error}");
                        shared.inbox.broken(epoch, why);
                        return Err(error);
                    }
                }
            }
        }
        Hello::Master { .. } | Hello::Peer { .. } => Ok(()),
    }
}

/// A way to a peer.
struct Peer {
    sender: mpsc::Sender<Vec<u8>>,
    under_way: Arc<AtomicUsize>,
}

/// What it is at.
struct Running {
    epoch: u64,
    index: usize,
    link: Link,
    task: Task,
    peers: Vec<Option<Peer>>,
}

fn work(shared: &Arc<Shared>) -> ! {
    let begun = Instant::now();
    let mut epoch = 0;
    let mut running: Option<Running> = None;
    loop {
        let wants = running.as_ref().is_some_and(|running| {
            let own = shared.inbox.own_waiting(running.index);
            let peers = running.peers.iter().flatten();
            let under_way: usize = peers.map(|p| p.under_way.load(Ordering::Relaxed)).sum();
            running.task.wants_input() && own + under_way < UNDER_WAY_MAX
        });
        let is_open = |from| running.as_ref().is_some_and(|it| it.task.is_open(from));
        let work = shared.inbox.next(is_open, wants, TICK);
        match work {
            Work::Order(
                link,
                Order::Assign {
                    index,
                    members,
                    record,
                },
            ) => {
                if record.epoch <= epoch {
                    continue;
                }
                epoch = record.epoch;
                shared.inbox.begin(epoch, members.len());
                running = match begin(shared, &link, index, &members, &record) {
                    Ok(running) => Some(running),
                    Err(why) => {
                        fail(&link, epoch, why);
                        None
                    }
                };
            }
            Work::Order(
                _,
                Order::Begin {
                    epoch: of,
                    checkpoint,
                },
            ) => {
                if let Some(running) = running.as_mut().filter(|_| of == epoch) {
                    running.task.handle_begin(checkpoint);
                }
            }
            Work::Broken(why) => {
                if let Some(running) = running.take() {
                    fail(&running.link, epoch, why);
                }
            }
            Work::Element(from, element) => {
                if let Some(running) = &mut running {
                    running.task.handle_element(from, element);
                }
            }
            Work::Records(partition, records, next) => {
                if let Some(running) = &mut running {
                    match records.is_empty() {
                        true => (running.task).handle_caught_up(now_ms(begun), partition),
                        false => running.task.handle_records(partition, records, next),
                    }
                }
            }
            Work::Nothing => {}
        }
        if let Some(running) = &mut running {
            running.task.handle_tick(now_ms(begun));
            running.flush(shared);
        }
    }
}

fn now_ms(begun: Instant) -> u64 {
    begun.elapsed().as_millis() as u64
}

fn fail(link: &Link, epoch: u64, why: String) {
    // A master that is gone is replaced by one that begins anew.
    if let Ok(mut stream) = link.lock() {
        let _ = wire::say(&mut *stream, &Word::Failed { epoch, why });
    }
}

fn begin(
    shared: &Arc<Shared>,
    link: &Link,
    index: usize,
    members: &[SocketAddr],
    record: &Record,
) -> Result<Running, String> {
    let (tasks, epoch) = (members.len(), record.epoch);
    let topic = &shared.topology.source.topic;
    let all = kafka::partitions(&shared.place.kafka, topic).map_err(|e| e.to_string())?;
    let mut positions = BTreeMap::new();
    for partition in all.into_keys().filter(|p| *p as usize % tasks == index) {
        let position = match record.positions.get(&partition) {
            Some(position) => *position,
            None => {
                let from = kafka::leader(&shared.place.kafka, topic, partition)
                    .and_then(|mut broker| broker.offset(topic, partition, false));
                Position {
                    offset: from.map_err(|e| e.to_string())?,
                    newest_ms: None,
                }
            }
        };
        positions.insert(partition, position);
    }
    let topology = Arc::clone(&shared.topology);
    let mut task = Task::new(topology, index, tasks, positions.clone());
    for file in &record.files {
        let bytes = shared.store.get(file)?;
        task.restore(&bytes).map_err(|e| format!("{file}: {e}"))?;
    }
    for (partition, position) in positions {
        let shared = Arc::clone(shared);
        thread::spawn(move || source(&shared, epoch, partition, position.offset));
    }
    let peers = (members.iter().enumerate())
        .map(|(to, address)| (to != index).then(|| peer(shared, epoch, index, *address)))
        .collect();
    Ok(Running {
        epoch,
        index,
        link: Arc::clone(link),
        task,
        peers,
    })
}

/// Reads a partition for as long as the epoch lasts.
fn source(shared: &Shared, epoch: u64, partition: i32, mut offset: i64) {
    let topic = &shared.topology.source.topic;
    let mut broker = None;
    let mut answered = Instant::now();
    loop {
        let fetched = match &mut broker {
            None => kafka::leader(&shared.place.kafka, topic, partition)
                .map(|found| broker = Some(found))
                .map(|()| None),
            Some(broker) => broker.fetch(topic, partition, offset).map(Some),
        };
        let (records, next) = match fetched {
            Ok(None) => continue,
            Ok(Some(fetched)) if fetched.error == OUT_OF_RANGE => {
                let why = format!(
                    "{topic}/{partition} has no offset {offset} any more (or never had): what was not read is lost; \
                     `althing stream forget` lets it begin anew"
                );
                return shared.inbox.broken(epoch, why);
            }
            Ok(Some(fetched)) if fetched.error == 0 => {
                answered = Instant::now();
                let next = fetched.records.last().map(|record| record.offset + 1);
                let records = fetched.records.into_iter().map(|record| Input {
                    offset: record.offset,
                    key: record.key,
                    value: record.value,
                    time_ms: record.time_ms,
                });
                (records.collect(), next.unwrap_or(offset))
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return shared.inbox.broken(epoch, error.to_string());
            }
            // Somebody else leads it by now, or soon.
            other => {
                broker = None;
                if answered.elapsed() > SILENCE_TIME {
                    let why = match other {
                        Err(error) => error.to_string(),
                        Ok(fetched) => kafka::words(fetched.map_or(0, |fetched| fetched.error)),
                    };
                    let why = format!("{topic}/{partition} cannot be read: {why}");
                    return shared.inbox.broken(epoch, why);
                }
                thread::sleep(TICK * 5);
                if !shared.inbox.wait_for(epoch) {
                    return;
                }
                continue;
            }
        };
        offset = offset.max(next);
        if !shared.inbox.records(epoch, partition, records, next) {
            return;
        }
    }
}

/// Kafka's number of the error that an offset is not there.
const OUT_OF_RANGE: i16 = 1;

/// Sends to a peer for as long as the epoch lasts.
fn peer(shared: &Arc<Shared>, epoch: u64, from: usize, address: SocketAddr) -> Peer {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    let under_way = Arc::new(AtomicUsize::new(0));
    let (shared, counter) = (Arc::clone(shared), Arc::clone(&under_way));
    thread::spawn(move || {
        let deliver = || -> io::Result<()> {
            let mut stream = TcpStream::connect_timeout(&address, DIAL_TIME)?;
            stream.set_nodelay(true)?;
            let token = shared.token.clone();
            wire::say(&mut stream, &Hello::Peer { token, epoch, from })?;
            while let Ok(bytes) = receiver.recv() {
                wire::send(&mut stream, &bytes)?;
                counter.fetch_sub(1, Ordering::Relaxed);
            }
            Ok(())
        };
        if let Err(error) = deliver() {
            let why = format!("the channel to {address}: {error}");
            shared.inbox.broken(epoch, why);
        }
    });
    Peer { sender, under_way }
}

impl Running {
    /// Sends what the task has to send, and acknowledges a checkpoint once its part is on disk.
    fn flush(&mut self, shared: &Arc<Shared>) {
        while let Some((to, element)) = self.task.poll_send() {
            match self.peers.get(to) {
                Some(Some(peer)) => {
                    peer.under_way.fetch_add(1, Ordering::Relaxed);
                    // Its end was told.
                    let _ = peer.sender.send(element.encode());
                }
                _ => shared.inbox.own(self.index, element),
            }
        }
        if let Some(done) = self.task.poll_done() {
            let (epoch, index, link) = (self.epoch, self.index, Arc::clone(&self.link));
            let shared = Arc::clone(shared);
            thread::spawn(move || keep(&shared, epoch, index, &link, done));
        }
    }
}

fn keep(shared: &Shared, epoch: u64, index: usize, link: &Link, done: Snapshot) {
    let file = Record::file(epoch, done.checkpoint, index);
    if let Err(why) = shared.store.put(&file, &done.bytes) {
        return shared
            .inbox
            .broken(epoch, format!("cannot write {file}: {why}"));
    }
    let word = Word::Ack {
        epoch,
        checkpoint: done.checkpoint,
        ack: Ack {
            positions: done.positions,
            file,
            outputs: done.outputs,
            watermark_ms: done.watermark_ms,
            counts: done.counts,
        },
    };
    if let Ok(mut stream) = link.lock() {
        let _ = wire::say(&mut *stream, &word);
    }
}

#[cfg(test)]
mod tests {
    use super::towards;

    #[test]
    fn worker_listens_where_it_reaches_the_cluster_from() {
        for (servers, here) in [
            ("127.0.0.1:2181", "127.0.0.1:0"),
            ("127.0.0.3:2181,10.0.0.1:2181", "127.0.0.1:0"),
        ] {
            let found = towards(servers).expect(servers);
            assert_eq!(found, here.parse().unwrap(), "{servers}");
        }
        assert!(towards("nowhere").unwrap_err().contains("nowhere"));
    }
}
