//! The simulated network between cores, and between clients and cores.
//!
//! A stream is TCP: what arrives, arrives in order, and nothing is lost while it stands. Faults hold
//! streams back or break them. A broken stream's receiver may learn of it long after its sender, and
//! what was in flight may still trickle in meanwhile, between the frames of the stream that followed.

use crate::world::{ConnectionNote, Occurrence, Place, World};
use base::Rng;
use bytes::Bytes;
use node::{ClientId, Endpoint, Event, FrontEnd, Hello, StreamId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Frames that a held-back stream buffers before it breaks.
const HELD_FRAMES_MAX: usize = 20_000;

/// What travels on a stream.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    Hello(Box<Hello>),
    Frame(Bytes),
    End,
}

#[derive(Debug)]
struct Stream {
    from: Place,
    to: Place,
    to_life: u64,
    endpoint: Endpoint,
    hello: Hello,
    /// The receiver has been told of the stream and not of its end.
    open_at_receiver: bool,
    ended: bool,
    /// The sender has given it up: what still arrives is what was in flight.
    broken: bool,
    last_arrival_us: u64,
    held: VecDeque<Parcel>,
}

#[derive(Debug)]
enum Link {
    Dialling(Vec<Bytes>),
    Up(StreamId),
    /// Broken, and the sender has not been told yet.
    Failed,
}

/// One connection of a client.
#[derive(Debug)]
pub(crate) struct Connection {
    place: Place,
    front: FrontEnd,
    life: u64,
    open_at_server: bool,
    open_at_client: bool,
    last_to_server_us: u64,
    last_to_client_us: u64,
    paused: bool,
    unread: VecDeque<ConnectionNote>,
}

/// Streams, delays and who cannot hear whom.
pub struct Network {
    rng: Rng,
    base_delay_us: u64,
    streams: BTreeMap<StreamId, Stream>,
    links: BTreeMap<(Place, Endpoint), Link>,
    blocked: BTreeSet<(usize, usize)>,
    next_stream: u64,
    duplicating: bool,
}

impl Network {
    pub(crate) fn new(mut rng: Rng) -> Self {
        Self {
            base_delay_us: [80, 250, 1_000][rng.range(0, 3) as usize],
            rng,
            streams: BTreeMap::new(),
            links: BTreeMap::new(),
            blocked: BTreeSet::new(),
            next_stream: 1,
            duplicating: false,
        }
    }

    fn delay_us(&mut self) -> u64 {
        let jitter = self.rng.range(0, self.base_delay_us);
        let spike = if self.rng.one_in(100) {
            self.rng.range(0, 20_000)
        } else {
            0
        };
        self.base_delay_us + jitter + spike
    }

    /// The sender has heard that its stream failed: its next frame dials again.
    pub(crate) fn told_of_failure(&mut self, from: Place, to: &Endpoint) {
        let key = (from, to.clone());
        if let Some(Link::Failed) = self.links.get(&key) {
            self.links.remove(&key);
        }
    }
}

impl World {
    pub(crate) fn send_peer(&mut self, from: Place, to: Endpoint, frame: Bytes) {
        let key = (from, to);
        if let Some(Link::Up(stream)) = self.network.links.get(&key) {
            let stream = *stream;
            let hello = self.hello_of(from, &key.1);
            let greeted = self.network.streams.get(&stream).map(|s| &s.hello);
            if hello.as_ref() != greeted {
                // The greeting no longer holds (the node came to be of a cluster): dial anew. What is
                // under way on the old stream still arrives.
                self.network.links.remove(&key);
                let delay_us = self.network.delay_us();
                self.end_stream(stream, delay_us);
            }
        }
        match self.network.links.get_mut(&key) {
            Some(Link::Up(stream)) => {
                let stream = *stream;
                self.push_parcel(stream, Parcel::Frame(frame));
            }
            Some(Link::Dialling(queue)) => queue.push(frame),
            Some(Link::Failed) => {}
            None => {
                let to = key.1.clone();
                self.network.links.insert(key, Link::Dialling(vec![frame]));
                let delay_us = 2 * self.network.delay_us();
                let life = self.nodes[from.node].life;
                let at_us = self.now_us + delay_us;
                self.schedule(at_us, Occurrence::Dialled { from, life, to });
            }
        }
    }

    fn node_at(&self, address: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.address == address)
    }

    pub(crate) fn dialled(&mut self, from: Place, to: Endpoint) {
        let now_us = self.now_us;
        let life = self.nodes[from.node].life;
        let target = self.node_at(&to.address);
        let reachable = target.is_some_and(|target| {
            !self.network.blocked.contains(&(from.node, target))
                && !self.network.blocked.contains(&(target, from.node))
        });
        // Whoever is asked for a core that it has not got closes the stream.
        let up = target
            .is_some_and(|target| self.is_up(target) && to.core.0 < self.nodes[target].cores());
        let key = (from, to.clone());
        if !reachable || !up {
            // Refused at once by a machine whose process is down; by an unreachable one, after a while.
            let wait_us = if reachable {
                self.network.delay_us()
            } else {
                self.network.rng.range(50_000, 1_500_000)
            };
            self.network.links.insert(key, Link::Failed);
            self.schedule(now_us + wait_us, Occurrence::SendFailed { from, life, to });
            return;
        }
        let Some(target) = target else { return };
        let Some(hello) = self.hello_of(from, &to) else {
            return;
        };
        let id = StreamId(self.network.next_stream);
        self.network.next_stream += 1;
        self.network.streams.insert(
            id,
            Stream {
                from,
                to: Place {
                    node: target,
                    core: to.core.0,
                },
                to_life: self.nodes[target].life,
                endpoint: to,
                hello: hello.clone(),
                open_at_receiver: false,
                ended: false,
                broken: false,
                last_arrival_us: 0,
                held: VecDeque::new(),
            },
        );
        let queued = match self.network.links.insert(key, Link::Up(id)) {
            Some(Link::Dialling(queue)) => queue,
            _ => Vec::new(),
        };
        self.push_parcel(id, Parcel::Hello(Box::new(hello)));
        for frame in queued {
            self.push_parcel(id, Parcel::Frame(frame));
        }
    }

    /// From now on some frames arrive twice, or none does.
    pub fn duplicate(&mut self, duplicating: bool) {
        self.network.duplicating = duplicating;
    }

    fn push_parcel(&mut self, id: StreamId, parcel: Parcel) {
        if self.network.duplicating
            && matches!(parcel, Parcel::Frame(_))
            && self.network.rng.one_in(8)
        {
            let delay_us = self.network.delay_us();
            self.push_parcel_after(id, parcel.clone(), delay_us);
        }
        let delay_us = self.network.delay_us();
        self.push_parcel_after(id, parcel, delay_us);
    }

    fn push_parcel_after(&mut self, id: StreamId, parcel: Parcel, delay_us: u64) {
        let now_us = self.now_us;
        let Some(stream) = self.network.streams.get_mut(&id) else {
            return;
        };
        let at_us = (now_us + delay_us).max(stream.last_arrival_us);
        stream.last_arrival_us = at_us;
        self.schedule(at_us, Occurrence::Parcel { stream: id, parcel });
    }

    pub(crate) fn arrive(&mut self, id: StreamId, parcel: Parcel) {
        let Some(stream) = self.network.streams.get_mut(&id) else {
            return;
        };
        let blocked = self
            .network
            .blocked
            .contains(&(stream.from.node, stream.to.node));
        if blocked || !stream.held.is_empty() {
            stream.held.push_back(parcel);
            if stream.held.len() > HELD_FRAMES_MAX {
                self.break_stream(id);
            }
            return;
        }
        let to = stream.to;
        if !self.nodes[to.node].lives(stream.to_life) {
            self.network.streams.remove(&id);
            return;
        }
        let event = match parcel {
            Parcel::Hello(hello) => {
                stream.open_at_receiver = true;
                Event::PeerOpened {
                    stream: id,
                    hello: *hello,
                }
            }
            Parcel::Frame(_) | Parcel::End if !stream.open_at_receiver => return,
            Parcel::Frame(frame) => Event::PeerFrame { stream: id, frame },
            Parcel::End => {
                self.network.streams.remove(&id);
                Event::PeerClosed { stream: id }
            }
        };
        self.deliver(to, event);
    }

    /// The receiver closes a stream: its sender learns of it.
    pub(crate) fn close_stream_at_receiver(&mut self, place: Place, id: StreamId) {
        let Some(stream) = self.network.streams.get_mut(&id) else {
            return;
        };
        if stream.to != place {
            return;
        }
        stream.open_at_receiver = false;
        self.fail_link(id);
        self.network.streams.remove(&id);
    }

    /// Tells a stream's sender that it broke, once.
    fn fail_link(&mut self, id: StreamId) {
        let Some(stream) = self.network.streams.get(&id) else {
            return;
        };
        let (from, endpoint) = (stream.from, stream.endpoint.clone());
        let key = (from, endpoint.clone());
        if let Some(Link::Up(current)) = self.network.links.get(&key)
            && *current == id
        {
            self.network.links.insert(key, Link::Failed);
            let life = self.nodes[from.node].life;
            let at_us = self.now_us + self.network.delay_us();
            let to = endpoint;
            self.schedule(at_us, Occurrence::SendFailed { from, life, to });
        }
    }

    /// Breaks a stream: the sender hears of it soon, the receiver perhaps much later, and some of what
    /// was in flight may arrive until then.
    fn break_stream(&mut self, id: StreamId) {
        let linger_us = if self.network.rng.one_in(2) {
            self.network.delay_us()
        } else {
            self.network.rng.range(1_000, 600_000)
        };
        self.fail_link(id);
        let Some(stream) = self.network.streams.get_mut(&id) else {
            return;
        };
        if stream.broken {
            return;
        }
        stream.broken = true;
        // What is held back still comes in, or a part of it.
        let mut held = std::mem::take(&mut stream.held);
        let kept = self.network.rng.range(0, held.len() as u64 + 1) as usize;
        held.truncate(kept);
        let ends = !held.iter().any(|parcel| matches!(parcel, Parcel::End));
        for parcel in held {
            let part_us = self.network.rng.range(0, linger_us + 1);
            self.push_parcel_after(id, parcel, part_us);
        }
        if ends {
            self.end_stream(id, linger_us);
        }
    }

    fn end_stream(&mut self, id: StreamId, delay_us: u64) {
        if let Some(stream) = self.network.streams.get_mut(&id)
            && !stream.ended
        {
            stream.ended = true;
            self.push_parcel_after(id, Parcel::End, delay_us);
        }
    }

    /// A node's process ended: so do its streams.
    pub(crate) fn drop_streams_of(&mut self, node: usize, power: bool) {
        self.network.links.retain(|(from, _), _| from.node != node);
        let ids: Vec<StreamId> = self
            .network
            .streams
            .iter()
            .filter(|(_, stream)| stream.from.node == node || stream.to.node == node)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let stream = &self.network.streams[&id];
            if stream.to.node == node {
                self.fail_link(id);
                self.network.streams.remove(&id);
            } else {
                // A machine without power says no farewell.
                let delay_us = if power {
                    self.network.rng.range(1_000_000, 5_000_000)
                } else {
                    self.network.delay_us()
                };
                self.end_stream(id, delay_us);
            }
        }
    }

    /// True when two nodes hear each other.
    pub(crate) fn reaches(&self, a: usize, b: usize) -> bool {
        let blocked = &self.network.blocked;
        !blocked.contains(&(a, b)) && !blocked.contains(&(b, a))
    }

    /// From now on `to` hears nothing from `from`.
    pub fn block(&mut self, from: usize, to: usize) {
        self.network.blocked.insert((from, to));
    }

    /// Everyone hears everyone again; streams that were held back go on or break.
    pub fn unblock_all(&mut self) {
        self.network.blocked.clear();
        let ids: Vec<StreamId> = self
            .network
            .streams
            .iter()
            .filter(|(_, stream)| !stream.held.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if self.network.rng.one_in(2) {
                self.break_stream(id);
                continue;
            }
            let held = match self.network.streams.get_mut(&id) {
                Some(stream) => std::mem::take(&mut stream.held),
                None => continue,
            };
            for parcel in held {
                self.push_parcel(id, parcel);
            }
        }
    }

    /// Breaks every stream between two nodes.
    pub fn break_streams(&mut self, a: usize, b: usize) {
        let ids: Vec<StreamId> = self
            .network
            .streams
            .iter()
            .filter(|(_, s)| {
                let ends = (s.from.node, s.to.node);
                ends == (a, b) || ends == (b, a)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.break_stream(id);
        }
    }

    // ---- clients ----

    pub(crate) fn dial_client(&mut self, client: ClientId, node: usize, front: FrontEnd) {
        let life = self.nodes[node].life;
        self.connections.insert(
            client,
            Connection {
                place: Place { node, core: 0 },
                front,
                life,
                open_at_server: false,
                open_at_client: true,
                last_to_server_us: 0,
                last_to_client_us: 0,
                paused: false,
                unread: VecDeque::new(),
            },
        );
        self.push_to_server(client, ConnectionNote::Opened);
    }

    fn push_to_server(&mut self, client: ClientId, note: ConnectionNote) {
        let delay_us = self.network.delay_us();
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        let at_us = (self.now_us + delay_us).max(connection.last_to_server_us);
        connection.last_to_server_us = at_us;
        self.schedule(at_us, Occurrence::ToServer { client, note });
    }

    fn push_to_client(&mut self, client: ClientId, note: ConnectionNote) {
        let delay_us = self.network.delay_us();
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        let at_us = (self.now_us + delay_us).max(connection.last_to_client_us);
        connection.last_to_client_us = at_us;
        self.schedule(at_us, Occurrence::ToClient { client, note });
    }

    /// A client sends bytes; they may arrive in pieces.
    pub fn client_send(&mut self, client: ClientId, bytes: Bytes) {
        let cut = if self.network.rng.one_in(4) {
            self.network.rng.range(0, bytes.len() as u64 + 1) as usize
        } else {
            bytes.len()
        };
        for piece in [bytes.slice(..cut), bytes.slice(cut..)] {
            if !piece.is_empty() {
                self.push_to_server(client, ConnectionNote::Bytes(piece));
            }
        }
    }

    /// A client closes its connection. With `silently`, the server hears of it only after a while.
    pub fn client_close(&mut self, client: ClientId, silently: bool) {
        if silently {
            let wait_us = self.network.rng.range(10_000, 8_000_000);
            if let Some(connection) = self.connections.get_mut(&client) {
                connection.open_at_client = false;
                connection.last_to_server_us =
                    connection.last_to_server_us.max(self.now_us + wait_us);
            }
        } else if let Some(connection) = self.connections.get_mut(&client) {
            connection.open_at_client = false;
        }
        self.push_to_server(client, ConnectionNote::Closed);
    }

    pub(crate) fn reach_server(&mut self, client: ClientId, note: ConnectionNote) {
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        if connection.paused && note != ConnectionNote::Closed {
            connection.unread.push_back(note);
            return;
        }
        let (mut place, front, life) = (connection.place, connection.front, connection.life);
        let lives = self.nodes[place.node].lives(life);
        match note {
            ConnectionNote::Opened => {
                let core = self.nodes[place.node].accepting(client, front);
                let Some(core) = core.filter(|_| lives) else {
                    self.push_to_client(client, ConnectionNote::Closed);
                    return;
                };
                place.core = core;
                if let Some(connection) = self.connections.get_mut(&client) {
                    connection.place = place;
                    connection.open_at_server = true;
                }
                self.push_to_client(client, ConnectionNote::Opened);
                self.deliver(
                    place,
                    Event::ClientOpened {
                        client,
                        front,
                        address: "127.0.0.1".into(),
                        port: 1,
                    },
                );
            }
            ConnectionNote::Bytes(bytes) => {
                if lives && connection.open_at_server {
                    self.deliver(place, Event::ClientBytes { client, bytes });
                }
            }
            ConnectionNote::Closed => {
                let was_open = connection.open_at_server;
                connection.open_at_server = false;
                if !connection.open_at_client {
                    self.connections.remove(&client);
                }
                if lives && was_open {
                    self.deliver(place, Event::ClientClosed { client });
                }
            }
        }
    }

    /// True when the client is still there to hear it.
    pub(crate) fn reach_client(&mut self, client: ClientId, note: &ConnectionNote) -> bool {
        let Some(connection) = self.connections.get_mut(&client) else {
            return false;
        };
        let heard = connection.open_at_client;
        if *note == ConnectionNote::Closed {
            connection.open_at_client = false;
            if !connection.open_at_server {
                self.connections.remove(&client);
            }
        }
        heard
    }

    pub(crate) fn server_note(&mut self, place: Place, client: ClientId, note: ConnectionNote) {
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        if connection.place != place || !connection.open_at_server {
            return;
        }
        if note == ConnectionNote::Closed {
            connection.open_at_server = false;
        }
        self.push_to_client(client, note);
    }

    pub(crate) fn pause_connection(&mut self, client: ClientId, paused: bool) {
        let Some(connection) = self.connections.get_mut(&client) else {
            return;
        };
        connection.paused = paused;
        if !paused {
            let unread = std::mem::take(&mut connection.unread);
            for note in unread {
                self.reach_server(client, note);
            }
        }
    }

    pub(crate) fn drop_connections_of(&mut self, whose: impl Fn(Place, FrontEnd) -> bool) {
        let ids: Vec<(ClientId, Place)> = self
            .connections
            .iter()
            .filter(|(_, c)| whose(c.place, c.front) && c.open_at_server)
            .map(|(id, connection)| (*id, connection.place))
            .collect();
        for (id, place) in ids {
            self.push_to_client(id, ConnectionNote::Closed);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.open_at_server = false;
            }
            self.deliver(place, Event::ClientClosed { client: id });
        }
    }

    /// Resets every client connection of a node: each side hears of it in its own time.
    pub fn reset_connections_of(&mut self, node: usize) {
        let ids: Vec<ClientId> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.place.node == node && connection.open_at_server)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.push_to_client(id, ConnectionNote::Closed);
            let wait_us = self.network.rng.range(0, 3_000_000);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.last_to_server_us =
                    connection.last_to_server_us.max(self.now_us + wait_us);
            }
            self.push_to_server(id, ConnectionNote::Closed);
        }
    }
}
