//! Links: connections of clients that go on to another core.
//!
//! Not every core has a replica of every shard. A front end passes what concerns a shard that is elsewhere on
//! to a core that holds it. For each of its connections and each such core it opens a *link*: at the other
//! core that is a connection like any other, whose bytes travel in frames. So the order of what a connection
//! asks, commands that wait, and connections that are closed because nobody knows a write's fate mean there
//! what they mean anywhere. What came by a link is never passed on again.
//!
//! Steps of a link are numbered in both directions: what comes twice is dropped, and a gap ends the link, as
//! does the end of the stream that it came by. The front end that opened it is told by [`Step::Close`] and
//! decides what that means for its client. The alternative, a question and an answer for each command, would
//! need a line for waiting commands, an order and a back-pressure of its own.
//!
//! Bounds: a link holds what its client may have under way ([`crate::front`]); an answer beyond a megabyte
//! waits until the client has read what came before ([`Step::Await`]).

use crate::core::{Ask, Core};
use crate::event::{Action, ClientId, Endpoint, FrontEnd, StreamId};
use crate::frame::Frame;
use base::{CoreAddress, CoreId, DecodeError, NodeId, Now, Reader, Writer};
use bytes::Bytes;
use catalog::META_SHARD;
use std::collections::BTreeMap;

/// Numbers of connections that came by a link; the host counts its own from 0.
const FIRST_CLIENT: u64 = 1 << 63;
/// Bytes that travel in one frame.
const STEP_BYTES_MAX: usize = 1 << 20;

/// What happens on a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// It begins: this is the first that comes.
    Open {
        /// Which front end is meant.
        front: FrontEnd,
        /// Where the client is.
        address: String,
    },
    /// Bytes, in order, of the front end's protocol.
    Bytes(Bytes),
    /// Much came: say when the client has read it. Nothing more comes before.
    Await,
    /// The client has read it.
    Drained,
    /// It has ended.
    Close,
}

impl Step {
    pub(crate) fn encode_into(&self, w: &mut Writer) {
        match self {
            Self::Open { front, address } => {
                w.u8(1).str(front.key()).str(address);
            }
            Self::Bytes(bytes) => {
                w.u8(2).bytes(bytes);
            }
            Self::Await => {
                w.u8(3);
            }
            Self::Drained => {
                w.u8(4);
            }
            Self::Close => {
                w.u8(5);
            }
        }
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>, of: &Bytes) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            1 => {
                let key = r.str()?;
                let front = FrontEnd::ALL.into_iter().find(|front| front.key() == key);
                Self::Open {
                    front: front.ok_or(DecodeError::Invalid("front end"))?,
                    address: r.str()?.to_owned(),
                }
            }
            2 => Self::Bytes(of.slice_ref(r.bytes()?)),
            3 => Self::Await,
            4 => Self::Drained,
            5 => Self::Close,
            _ => return Err(DecodeError::Invalid("step of a link")),
        })
    }
}

/// A link as the front end that opened it has it: what is to go by it until the next turn.
#[derive(Debug)]
pub struct Uplink {
    /// Its number.
    pub id: u64,
    /// The core at its other end.
    pub to: CoreAddress,
    /// Bytes that are to go.
    pub out: Vec<u8>,
    is_awaited: bool,
    is_drained: bool,
    is_open: bool,
}

impl Uplink {
    /// A link that is opened when something goes by it.
    pub fn new(id: u64, to: CoreAddress) -> Self {
        Self {
            id,
            to,
            out: Vec::new(),
            is_awaited: false,
            is_drained: false,
            is_open: false,
        }
    }

    /// The other core waits until the client has read what came.
    pub fn await_drain(&mut self) {
        self.is_awaited = true;
    }

    /// The client has read what came.
    pub fn drained(&mut self) {
        self.is_drained |= std::mem::take(&mut self.is_awaited);
    }

    /// True while the other core waits for that.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// Asks for what is to go.
    pub fn flush(&mut self, front: FrontEnd, address: &str, asks: &mut Vec<Ask>) {
        if std::mem::take(&mut self.is_drained) {
            asks.push(Ask::Link(self.id, self.to, Step::Drained));
        }
        if self.out.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.is_open, true) {
            let address = address.to_owned();
            asks.push(Ask::Link(self.id, self.to, Step::Open { front, address }));
        }
        let mut rest = Bytes::from(std::mem::take(&mut self.out));
        while !rest.is_empty() {
            let bytes = rest.split_to(rest.len().min(STEP_BYTES_MAX));
            asks.push(Ask::Link(self.id, self.to, Step::Bytes(bytes)));
        }
    }
}

/// This end of a link.
#[derive(Debug)]
struct End {
    front: FrontEnd,
    peer: CoreAddress,
    /// Steps sent and taken.
    sent: u64,
    taken: u64,
    /// Much is sent with what comes next.
    awaits: bool,
}

/// The links of a core.
#[derive(Debug, Default)]
pub struct Links {
    /// Those that were opened here.
    opened: BTreeMap<u64, End>,
    /// Those that were opened elsewhere, by the connection that they are here, with the stream that they come by.
    accepted: BTreeMap<ClientId, (u64, StreamId, End)>,
    clients: BTreeMap<(CoreAddress, u64), ClientId>,
    /// The last link that was opened by each stream: numbers ascend.
    last: BTreeMap<StreamId, u64>,
    next_client: u64,
}

/// A step as it travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parcel {
    /// Who sends it.
    pub from: CoreAddress,
    /// The node meant: another one at the same address must not take it.
    pub to: NodeId,
    /// Which link; ascending for those that one core opens.
    pub link: u64,
    /// True on the way back to who opened it.
    pub back: bool,
    /// Counts the steps of this direction from 1.
    pub number: u64,
    /// What happens.
    pub step: Step,
}

/// What a step that came means here.
#[derive(PartialEq, Eq, Debug)]
enum Taken {
    /// Nothing: it came before.
    Nothing,
    /// For the front end that opened the link.
    Back(FrontEnd, u64, Step),
    /// For the connection that the link is here.
    On(FrontEnd, ClientId, Step),
    /// The sender is to be told that there is no such link any more; its connection here, if any, ends.
    Broken(Option<(FrontEnd, ClientId)>),
}

impl Links {
    /// The number of this step, sent by who opened the link. `None` when it has ended.
    fn send(&mut self, link: u64, to: CoreAddress, step: &Step) -> Option<u64> {
        if let Step::Open { front, .. } = step {
            let end = End {
                front: *front,
                peer: to,
                sent: 0,
                taken: 0,
                awaits: false,
            };
            self.opened.insert(link, end);
        }
        let end = self.opened.get_mut(&link)?;
        end.sent += 1;
        let number = end.sent;
        if *step == Step::Close {
            self.opened.remove(&link);
        }
        Some(number)
    }

    /// The same from the other end.
    fn send_back(&mut self, client: ClientId, step: &Step) -> Option<(CoreAddress, u64, u64)> {
        let (link, _, end) = self.accepted.get_mut(&client)?;
        end.sent += 1;
        let sent = (end.peer, *link, end.sent);
        if *step == Step::Close {
            self.forget(client);
        }
        Some(sent)
    }

    fn forget(&mut self, client: ClientId) -> Option<FrontEnd> {
        let (link, _, end) = self.accepted.remove(&client)?;
        self.clients.remove(&(end.peer, link));
        Some(end.front)
    }

    fn take(&mut self, stream: StreamId, parcel: Parcel) -> Taken {
        if parcel.back {
            self.take_back(parcel)
        } else {
            self.take_on(stream, parcel)
        }
    }

    fn take_back(&mut self, parcel: Parcel) -> Taken {
        let Some(end) = self.opened.get_mut(&parcel.link) else {
            return Taken::Nothing;
        };
        let front = end.front;
        if parcel.number <= end.taken && parcel.step != Step::Close {
            return Taken::Nothing;
        }
        let is_next = parcel.number == end.taken + 1;
        end.taken = parcel.number;
        if !is_next || parcel.step == Step::Close {
            self.opened.remove(&parcel.link);
            return Taken::Back(front, parcel.link, Step::Close);
        }
        Taken::Back(front, parcel.link, parcel.step)
    }

    fn take_on(&mut self, stream: StreamId, parcel: Parcel) -> Taken {
        let key = (parcel.from, parcel.link);
        if let Step::Open { front, .. } = &parcel.step {
            let last = self.last.entry(stream).or_default();
            if parcel.link <= *last {
                return Taken::Nothing;
            }
            *last = parcel.link;
            self.next_client += 1;
            let client = ClientId(FIRST_CLIENT + self.next_client);
            let end = End {
                front: *front,
                peer: parcel.from,
                sent: 0,
                taken: 1,
                awaits: false,
            };
            self.clients.insert(key, client);
            self.accepted.insert(client, (parcel.link, stream, end));
            return Taken::On(*front, client, parcel.step);
        }
        let Some(client) = self.clients.get(&key).copied() else {
            return match parcel.step {
                Step::Close => Taken::Nothing,
                _ => Taken::Broken(None),
            };
        };
        let Some((_, came_by, end)) = self.accepted.get_mut(&client) else {
            return Taken::Nothing;
        };
        let front = end.front;
        if parcel.number <= end.taken {
            return Taken::Nothing;
        }
        if parcel.number != end.taken + 1 || *came_by != stream {
            self.forget(client);
            return Taken::Broken(Some((front, client)));
        }
        end.taken = parcel.number;
        if parcel.step == Step::Close {
            self.forget(client);
        }
        Taken::On(front, client, parcel.step)
    }

    /// Links opened here to cores of which this holds have ended.
    fn lose_opened(&mut self, is: impl Fn(CoreAddress) -> bool) -> Vec<(FrontEnd, u64)> {
        let lost = self.opened.extract_if(.., |_, end| is(end.peer));
        lost.map(|(link, end)| (end.front, link)).collect()
    }

    /// Links from elsewhere of which this holds have ended.
    fn lose_accepted(
        &mut self,
        is: impl Fn(CoreAddress, StreamId) -> bool,
    ) -> Vec<(FrontEnd, ClientId)> {
        let lost: Vec<ClientId> = (self.accepted.iter())
            .filter(|(_, (_, stream, end))| is(end.peer, *stream))
            .map(|(client, _)| *client)
            .collect();
        let lost = lost.into_iter();
        lost.filter_map(|client| Some((self.forget(client)?, client)))
            .collect()
    }
}

impl Core {
    /// Where a core is reached.
    pub(crate) fn endpoint_of(&self, core: CoreAddress) -> Option<Endpoint> {
        if core.node == self.me.node {
            return Some(Endpoint {
                address: self.config.address.clone(),
                core: core.core,
            });
        }
        let mut endpoint = self.peers.endpoint(core.node, META_SHARD)?;
        endpoint.core = CoreId(core.core.0);
        Some(endpoint)
    }

    fn send_parcel(&mut self, to: CoreAddress, (link, back, number): (u64, bool, u64), step: Step) {
        if let Some(endpoint) = self.endpoint_of(to) {
            let parcel = Parcel {
                from: self.me,
                to: to.node,
                link,
                back,
                number,
                step,
            };
            self.send(endpoint, &Frame::Link(parcel));
        }
    }

    /// A front end's step on a link that it has opened.
    pub(crate) fn link_ask(&mut self, link: u64, to: CoreAddress, step: Step) {
        if let Some(number) = self.links.send(link, to, &step) {
            self.send_parcel(to, (link, false, number), step);
        }
    }

    /// An action for a connection that is a link goes back by it; others are the host's.
    pub(crate) fn link_action(&mut self, action: Action) -> Option<Action> {
        match action {
            Action::SendClient { client, bytes } if client.0 >= FIRST_CLIENT => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let bytes = rest.split_to(rest.len().min(STEP_BYTES_MAX));
                    self.send_back(client, Step::Bytes(bytes));
                }
                let end = self.links.accepted.get_mut(&client);
                if end.is_some_and(|(.., end)| std::mem::take(&mut end.awaits)) {
                    self.send_back(client, Step::Await);
                }
            }
            Action::AwaitDrain { client } if client.0 >= FIRST_CLIENT => {
                if let Some((.., end)) = self.links.accepted.get_mut(&client) {
                    end.awaits = true;
                }
            }
            Action::CloseClient { client } if client.0 >= FIRST_CLIENT => {
                self.send_back(client, Step::Close);
            }
            // Who opened the link takes no more than may be under way.
            Action::PauseClient { client, .. } if client.0 >= FIRST_CLIENT => {}
            action => return Some(action),
        }
        None
    }

    fn send_back(&mut self, client: ClientId, step: Step) {
        if let Some((to, link, number)) = self.links.send_back(client, &step) {
            self.send_parcel(to, (link, true, number), step);
        }
    }

    /// A step came from another core.
    pub(crate) fn link_frame(&mut self, now: Now, stream: StreamId, parcel: Parcel) {
        if parcel.to != self.me.node {
            return;
        }
        let (from, link) = (parcel.from, parcel.link);
        match self.links.take(stream, parcel) {
            Taken::Nothing => {}
            Taken::Back(front, link, step) => self.link_step(now, front, link, step),
            Taken::On(front, client, step) => self.linked_client(now, front, client, step),
            Taken::Broken(client) => {
                self.send_parcel(from, (link, true, 0), Step::Close);
                if let Some((front, client)) = client {
                    self.linked_client(now, front, client, Step::Close);
                }
            }
        }
    }

    /// What came back by a link that a front end opened.
    fn link_step(&mut self, now: Now, front: FrontEnd, link: u64, step: Step) {
        match front {
            FrontEnd::Redis => self.with_redis(now, |redis, cx| redis.handle_link(cx, link, step)),
            FrontEnd::Zookeeper | FrontEnd::Kafka => {}
        }
    }

    /// What came by a link that is a connection here.
    fn linked_client(&mut self, now: Now, front: FrontEnd, client: ClientId, step: Step) {
        match (front, step) {
            (FrontEnd::Redis, Step::Open { address, .. }) => {
                self.redis.handle_link_opened(now, client, address);
            }
            (_, Step::Bytes(bytes)) => self.client_bytes(now, client, &bytes),
            (_, Step::Drained) => self.client_drained(now, client),
            (_, Step::Close) => self.client_closed(client),
            (_, Step::Await | Step::Open { .. }) => {}
        }
    }

    /// What went to these cores may be lost, and what comes from them.
    pub(crate) fn lose_links(&mut self, now: Now, is: impl Fn(CoreAddress) -> bool) {
        for (front, link) in self.links.lose_opened(&is) {
            self.link_step(now, front, link, Step::Close);
        }
        for (_, client) in self.links.lose_accepted(|peer, _| is(peer)) {
            self.client_closed(client);
        }
        self.holders.forget(is);
    }

    /// A stream to this core has ended.
    pub(crate) fn links_stream_closed(&mut self, stream: StreamId) {
        self.links.last.remove(&stream);
        for (_, client) in self.links.lose_accepted(|_, by| by == stream) {
            self.client_closed(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: CoreAddress = CoreAddress {
        node: NodeId(1),
        core: CoreId(0),
    };
    const OTHER: CoreAddress = CoreAddress {
        node: NodeId(2),
        core: CoreId(1),
    };
    const STREAM: StreamId = StreamId(7);

    fn open() -> Step {
        Step::Open {
            front: FrontEnd::Redis,
            address: "10.0.0.1:5".into(),
        }
    }

    fn bytes() -> Step {
        Step::Bytes(Bytes::from_static(b"b"))
    }

    fn on(link: u64, number: u64, step: Step) -> Parcel {
        Parcel {
            from: HOME,
            to: OTHER.node,
            link,
            back: false,
            number,
            step,
        }
    }

    fn back(number: u64, step: Step) -> Parcel {
        Parcel {
            back: true,
            ..on(5, number, step)
        }
    }

    #[test]
    fn steps_that_come_twice_are_dropped_also_when_the_link_has_ended() {
        let mut links = Links::default();
        let client = ClientId(FIRST_CLIENT + 1);
        let take = |links: &mut Links, parcel| links.take(STREAM, parcel);
        let redis = FrontEnd::Redis;
        let opened = take(&mut links, on(5, 1, open()));
        assert_eq!(opened, Taken::On(redis, client, open()));
        assert_eq!(take(&mut links, on(5, 1, open())), Taken::Nothing);
        let taken = take(&mut links, on(5, 2, bytes()));
        assert_eq!(taken, Taken::On(redis, client, bytes()));
        assert_eq!(take(&mut links, on(5, 2, bytes())), Taken::Nothing);
        let closed = take(&mut links, on(5, 3, Step::Close));
        assert_eq!(closed, Taken::On(redis, client, Step::Close));
        assert_eq!(take(&mut links, on(5, 1, open())), Taken::Nothing);
        assert_eq!(take(&mut links, on(5, 2, bytes())), Taken::Broken(None));
        assert_eq!(take(&mut links, on(5, 3, Step::Close)), Taken::Nothing);
    }

    #[test]
    fn gap_or_another_stream_ends_the_link_at_both_ends() {
        let mut links = Links::default();
        for (link, parcel, stream) in [
            (5, on(5, 3, bytes()), STREAM),
            (6, on(6, 2, bytes()), StreamId(8)),
        ] {
            links.take(STREAM, on(link, 1, open()));
            let taken = links.take(stream, parcel);
            assert!(matches!(taken, Taken::Broken(Some(_))), "{taken:?}");
        }
        assert!(links.accepted.is_empty() && links.clients.is_empty());
        for (first, second) in [(1, 3), (1, 0)] {
            links.send(5, OTHER, &open());
            let ends = if second == 0 { Step::Close } else { bytes() };
            let redis = FrontEnd::Redis;
            let taken = links.take(STREAM, back(first, bytes()));
            assert_eq!(taken, Taken::Back(redis, 5, bytes()));
            assert_eq!(links.take(STREAM, back(first, bytes())), Taken::Nothing);
            let taken = links.take(STREAM, back(second, ends));
            assert_eq!(taken, Taken::Back(redis, 5, Step::Close));
            assert!(links.opened.is_empty());
        }
    }

    #[test]
    fn lost_streams_and_cores_end_their_links() {
        let mut links = Links::default();
        links.take(STREAM, on(5, 1, open()));
        assert!(links.lose_accepted(|_, by| by != STREAM).is_empty());
        assert_eq!(links.lose_accepted(|_, by| by == STREAM).len(), 1);
        links.send(5, OTHER, &open());
        assert!(links.lose_opened(|core| core == HOME).is_empty());
        assert_eq!(links.lose_opened(|core| core == OTHER).len(), 1);
        assert_eq!(links.send(5, OTHER, &bytes()), None);
    }
}
