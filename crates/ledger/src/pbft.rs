//! Practical Byzantine fault tolerance. Source: Castro, Liskov, "Practical Byzantine fault tolerance" (OSDI 1999), with
//! checkpoints (section 4.3) and view change (4.4).
//!
//! Of n peers f = (n - 1) / 3 may lie. A quorum is so large that two of them share one that does not:
//! (n + f) / 2 + 1, which is 2f + 1 for n = 3f + 1. A primary gives each request a place (pre-prepare); a quorum
//! that says so prepares it, so no other request can have that place in this view; a quorum that has
//! prepared it commits it, so no later view can forget it.
//!
//! Signatures are modelled: nobody forges a sender, a user's request, or what another has signed. What a
//! new primary says follows from the signed words of a quorum, which it passes on, so each checks it.

use super::{Decision, Request};
use base::algorithm::{Family, Header, Trouble};
use base::peer::{Context, Lie, Peer, PeerId, others};
use base::planted::{PeerBug, misbehaves};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Without progress for so long a replica asks for the next view; twice as long for each view in vain.
const PATIENCE_US: u64 = 1_000_000;
/// Between checkpoints, in requests.
pub const CHECKPOINT: u64 = 10;
/// Places beyond the last checkpoint that are looked at.
const WINDOW: u64 = 200;
/// A place that a new view leaves empty.
const NOTHING: u64 = 0;

/// Counts primaries: view v has primary v mod n + 1.
pub type View = u64;
/// A place in the order, from 1 on.
pub type Place = u64;

/// What one peer says when it wants another view. Signed: it is passed on unchanged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Wish {
    /// Its last stable checkpoint.
    checkpoint: Place,
    /// What it has prepared beyond: place, view, value. Each with a quorum's signatures.
    prepared: Vec<(Place, View, u64)>,
}

/// What peers tell each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The primary of this view gives this place to this value.
    PrePrepare(View, Place, u64),
    /// So it said to me.
    Prepare(View, Place, u64),
    /// A quorum says so.
    Commit(View, Place, u64),
    /// I have carried out everything up to here.
    Checkpoint(Place),
    /// I want this view.
    ViewChange(View, Wish),
    /// This view begins; these wanted it.
    NewView(View, BTreeMap<PeerId, Wish>),
    /// To one that wants another view alone: this I have carried out, from this place on.
    Done(Place, Vec<u64>),
}

/// Names of timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Requests wait, and nothing happens.
    Patience,
}

type Votes = BTreeMap<(View, u64), BTreeSet<PeerId>>;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Slot {
    /// What the primary of each view said, once.
    said: BTreeMap<View, u64>,
    prepares: Votes,
    commits: Votes,
    prepared: Option<(View, u64)>,
    committed: Option<u64>,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pbft {
    me: PeerId,
    nodes: usize,
    view: View,
    /// Between views nothing is prepared.
    changing: bool,
    next: Place,
    slots: BTreeMap<Place, Slot>,
    carried_out: Place,
    /// What was carried out, from place 1 on. (A real replica keeps a checkpoint of the state in its place.)
    log: Vec<u64>,
    /// Who says that it has carried out this value in this place.
    claims: BTreeMap<(Place, u64), BTreeSet<PeerId>>,
    done: BTreeSet<u64>,
    waiting: BTreeSet<u64>,
    checkpoints: BTreeMap<Place, BTreeSet<PeerId>>,
    stable: Place,
    wishes: BTreeMap<View, BTreeMap<PeerId, Wish>>,
}

impl Pbft {
    fn faulty(&self) -> usize {
        (self.nodes - 1) / 3
    }

    /// So many that two such sets share a peer that does not lie.
    fn quorum(&self) -> usize {
        (self.nodes + self.faulty()) / 2 + 1
    }

    fn primary(&self, view: View) -> PeerId {
        (view % self.nodes as u64) as PeerId + 1
    }

    fn others(&self) -> impl Iterator<Item = PeerId> + use<> {
        others(self.me, self.nodes)
    }

    fn is_within(&self, place: Place) -> bool {
        place > self.stable && place <= self.stable + WINDOW
    }

    fn wait(&self, cx: &mut Context<'_, Self>) {
        if self.waiting.is_empty() && !self.changing {
            cx.cancel_timer(Timer::Patience);
        } else {
            cx.set_timer(Timer::Patience, PATIENCE_US << self.view.min(2));
        }
    }

    /// As primary: gives places to all that waits.
    fn order(&mut self, cx: &mut Context<'_, Self>) {
        if self.primary(self.view) != self.me || self.changing {
            return;
        }
        let placed: BTreeSet<u64> = (self.slots.values())
            .filter_map(|slot| slot.said.get(&self.view).copied())
            .collect();
        let new: Vec<u64> = self.waiting.difference(&placed).copied().collect();
        for value in new {
            let place = self.next;
            self.next += 1;
            cx.send_each(self.others(), &Message::PrePrepare(self.view, place, value));
            self.said(cx, self.view, place, value);
        }
    }

    /// The primary of `view` has given this place to this value.
    fn said(&mut self, cx: &mut Context<'_, Self>, view: View, place: Place, value: u64) {
        if !self.is_within(place) {
            return;
        }
        let slot = self.slots.entry(place).or_default();
        if *slot.said.entry(view).or_insert(value) != value {
            return;
        }
        if view == self.view && !self.changing {
            self.prepare(cx, place);
        }
    }

    /// Says to all what the primary said; its own word counts as the primary's.
    fn prepare(&mut self, cx: &mut Context<'_, Self>, place: Place) {
        let (view, me, primary) = (self.view, self.me, self.primary(self.view));
        let Some(slot) = self.slots.get_mut(&place) else {
            return;
        };
        let Some(value) = slot.said.get(&view).copied() else {
            return;
        };
        let votes = slot.prepares.entry((view, value)).or_default();
        votes.insert(primary);
        if me != primary && votes.insert(me) {
            cx.send_each(self.others(), &Message::Prepare(view, place, value));
        }
        self.look(cx, place);
    }

    /// Is anything prepared, or committed, that was not?
    fn look(&mut self, cx: &mut Context<'_, Self>, place: Place) {
        let (view, me, quorum) = (self.view, self.me, self.quorum());
        let changing = self.changing;
        let Some(slot) = self.slots.get_mut(&place) else {
            return;
        };
        let said = slot.said.get(&view).copied();
        let mut commit = None;
        if let Some(value) = said.filter(|_| !changing) {
            let key = (view, value);
            let count = slot.prepares.get(&key).map_or(0, BTreeSet::len);
            if count >= quorum || misbehaves(PeerBug::BelievePrimary) {
                slot.prepared = slot.prepared.max(Some(key));
                if slot.commits.entry(key).or_default().insert(me) {
                    commit = Some(Message::Commit(view, place, value));
                }
            }
        }
        let committed = slot.commits.iter().find(|(key, votes)| {
            votes.len() >= quorum
                || (misbehaves(PeerBug::BelievePrimary) && **key == (view, said.unwrap_or(NOTHING)))
        });
        if let Some(((_, value), _)) = committed {
            slot.committed = slot.committed.or(Some(*value));
        }
        if let Some(commit) = commit {
            cx.send_each(self.others(), &commit);
        }
        self.carry_out(cx);
    }

    fn carry_out(&mut self, cx: &mut Context<'_, Self>) {
        let before = self.carried_out;
        while let Some(value) = self
            .slots
            .get(&(self.carried_out + 1))
            .and_then(|slot| slot.committed)
        {
            self.carried_out += 1;
            self.log.push(value);
            self.waiting.remove(&value);
            if value != NOTHING && self.done.insert(value) {
                let position = self.carried_out;
                cx.decide(Decision::Decided { position, value });
            }
            if self.carried_out.is_multiple_of(CHECKPOINT) {
                let word = Message::Checkpoint(self.carried_out);
                cx.send_each(self.others(), &word);
                self.checkpoint(self.me, self.carried_out);
            }
        }
        if self.carried_out > before {
            self.wait(cx);
        }
    }

    /// What more than can lie have carried out is committed (section 4.6.2 of the paper: a replica that is
    /// behind fetches the state).
    fn catch_up(&mut self, cx: &mut Context<'_, Self>, from: PeerId, place: Place, log: &[u64]) {
        let needed = self.faulty() + 1;
        for (place, value) in (place..).zip(log.iter().copied()) {
            if place <= self.carried_out || !self.is_within(place) {
                continue;
            }
            let claims = self.claims.entry((place, value)).or_default();
            claims.insert(from);
            if claims.len() >= needed {
                let slot = self.slots.entry(place).or_default();
                slot.committed = slot.committed.or(Some(value));
            }
        }
        self.carry_out(cx);
        let carried_out = self.carried_out;
        self.claims.retain(|(place, _), _| *place > carried_out);
    }

    /// What a quorum has carried out is not looked at again.
    fn checkpoint(&mut self, from: PeerId, place: Place) {
        let quorum = self.quorum();
        let votes = self.checkpoints.entry(place).or_default();
        votes.insert(from);
        let reached = votes.len() >= quorum;
        if reached && place > self.stable && place <= self.carried_out {
            self.stable = place;
            self.slots.retain(|other, _| *other > place);
            self.checkpoints.retain(|other, _| *other > place);
        }
    }

    fn wish_for(&mut self, cx: &mut Context<'_, Self>, view: View) {
        self.view = view;
        self.changing = true;
        let prepared = self
            .slots
            .iter()
            .filter_map(|(place, slot)| slot.prepared.map(|(view, value)| (*place, view, value)));
        let wish = Wish {
            checkpoint: self.stable,
            prepared: prepared.collect(),
        };
        let word = Message::ViewChange(view, wish.clone());
        cx.send_each(self.others(), &word);
        self.wait(cx);
        self.wished(cx, self.me, view, wish);
    }

    fn wished(&mut self, cx: &mut Context<'_, Self>, from: PeerId, view: View, wish: Wish) {
        if view < self.view || (view == self.view && !self.changing) {
            return;
        }
        self.wishes.entry(view).or_default().insert(from, wish);
        // More than can lie want to go on: so does one that does not lie.
        let ahead: BTreeSet<PeerId> = (self.wishes.range(self.view + 1..))
            .flat_map(|(_, by)| by.keys().copied())
            .collect();
        if ahead.len() > self.faulty() {
            let least = self.wishes.range(self.view + 1..).next();
            if let Some(next) = least.map(|(view, _)| *view) {
                self.wish_for(cx, next);
                return;
            }
        }
        let enough = self.wishes.get(&view).map_or(0, BTreeMap::len) >= self.quorum();
        if enough && view == self.view && self.primary(view) == self.me {
            let wishes = self.wishes.get(&view).cloned().unwrap_or_default();
            cx.send_each(self.others(), &Message::NewView(view, wishes.clone()));
            self.begin(cx, view, &wishes);
        }
    }

    /// A view begins with what a quorum had prepared; between, places stay empty.
    fn begin(&mut self, cx: &mut Context<'_, Self>, view: View, wishes: &BTreeMap<PeerId, Wish>) {
        if view < self.view || (view == self.view && !self.changing) {
            return;
        }
        if wishes.len() < self.quorum() {
            return;
        }
        self.view = view;
        self.changing = false;
        self.wishes.retain(|other, _| *other > view);
        let from = wishes
            .values()
            .map(|wish| wish.checkpoint)
            .max()
            .unwrap_or(0);
        let mut latest: BTreeMap<Place, (View, u64)> = BTreeMap::new();
        for (place, view, value) in wishes.values().flat_map(|wish| &wish.prepared) {
            let known = latest.entry(*place).or_insert((*view, *value));
            *known = (*known).max((*view, *value));
        }
        let to = latest.keys().last().copied().unwrap_or(from).max(from);
        self.next = to + 1;
        for place in from + 1..=to {
            let value = latest.get(&place).map_or(NOTHING, |(_, value)| *value);
            self.said(cx, view, place, value);
        }
        // What the primary of this view said while this peer was on its way here.
        for place in self.slots.keys().copied().collect::<Vec<_>>() {
            self.prepare(cx, place);
        }
        self.order(cx);
        self.wait(cx);
    }
}

impl Peer for Pbft {
    type Message = Message;
    type Timer = Timer;
    type State = ();
    type Request = Request;
    type Decision = Decision;

    const HEADER: Header = Header {
        name: "pbft",
        family: Family::Consensus,
        title: "Practical Byzantine fault tolerance",
        source: "Castro, Liskov: Practical Byzantine fault tolerance (OSDI 1999)",
        idea: "A primary gives each request a place; all tell all what it said, and a quorum that heard the same prepares it; all tell all that they have, and a quorum commits it. Quorums of 2f + 1 of 3f + 1 share one that does not lie. A primary that does nothing, or says different things, is replaced by the next.",
        assumptions: "At most f = (n - 1) / 3 lie; who sends and what is signed cannot be forged; messages arrive in the end, in any order.",
        cost: "2n^2 - n + 1 messages from request to replies (29, 92, 191 for f = 1, 2, 3), the request and n replies counted; 5 steps.",
        not_guaranteed: "Anything with fewer than 4 peers, or when more than f lie. Progress while messages take longer and longer.",
        choose_when: "those who run the peers are known, few, and do not trust each other.",
        avoid_when: "peers only crash: raft needs 2f + 1 and n messages. Peers are many or unknown: proof of work or stake.",
        alternatives: &["multi-paxos", "proof-of-work", "delegates"],
        survives: &[
            Trouble::Delay,
            Trouble::Slow,
            Trouble::Reorder,
            Trouble::Duplicate,
            Trouble::Pause,
            Trouble::Clock,
            Trouble::Liar,
        ],
    };

    fn new(me: PeerId, nodes: usize) -> Self {
        Self {
            me,
            nodes,
            view: 0,
            changing: false,
            next: 1,
            slots: BTreeMap::new(),
            carried_out: 0,
            log: Vec::new(),
            claims: BTreeMap::new(),
            done: BTreeSet::new(),
            waiting: BTreeSet::new(),
            checkpoints: BTreeMap::new(),
            stable: 0,
            wishes: BTreeMap::new(),
        }
    }

    fn handle_start(&mut self, cx: &mut Context<'_, Self>, _: Option<()>) {
        if self.faulty() == 0 {
            cx.decide(Decision::Refused);
        }
    }

    fn handle_message(&mut self, cx: &mut Context<'_, Self>, from: PeerId, message: Message) {
        match message {
            Message::PrePrepare(view, place, value) => {
                // A value that no user has signed is none; here every number from 1 on is signed.
                if view >= self.view && from == self.primary(view) && value != NOTHING {
                    self.said(cx, view, place, value);
                }
            }
            Message::Prepare(view, place, value) => {
                if self.is_within(place) && from != self.primary(view) {
                    let slot = self.slots.entry(place).or_default();
                    let votes = slot.prepares.entry((view, value)).or_default();
                    votes.insert(from);
                    self.look(cx, place);
                }
            }
            Message::Commit(view, place, value) => {
                if self.is_within(place) {
                    let slot = self.slots.entry(place).or_default();
                    let votes = slot.commits.entry((view, value)).or_default();
                    votes.insert(from);
                    self.look(cx, place);
                }
            }
            Message::Checkpoint(place) => self.checkpoint(from, place),
            Message::ViewChange(view, wish) => {
                let place = wish.checkpoint + 1;
                self.wished(cx, from, view, wish);
                let log: Vec<u64> = self.log.iter().skip(place as usize - 1).copied().collect();
                if view > self.view && !log.is_empty() {
                    cx.send(from, Message::Done(place, log));
                }
            }
            Message::Done(place, log) => self.catch_up(cx, from, place, &log),
            Message::NewView(view, wishes) => {
                if from == self.primary(view) {
                    self.begin(cx, view, &wishes);
                }
            }
        }
    }

    fn handle_timer(&mut self, cx: &mut Context<'_, Self>, Timer::Patience: Timer) {
        if !self.waiting.is_empty() || self.changing {
            self.wish_for(cx, self.view + 1);
        }
    }

    fn handle_request(&mut self, cx: &mut Context<'_, Self>, value: Request) {
        if self.faulty() == 0 || self.done.contains(&value) {
            return;
        }
        if self.waiting.is_empty() {
            cx.set_timer(Timer::Patience, PATIENCE_US << self.view.min(2));
        }
        self.waiting.insert(value);
        self.order(cx);
    }

    /// A liar gives one request two places, confirms what was not said, and hides what it has prepared.
    fn lie(message: Message, to: PeerId, lie: Lie) -> Option<Message> {
        let turned = match lie {
            Lie::Withhold => return None,
            Lie::Equivocate => to.is_multiple_of(2),
            Lie::Forge => true,
        };
        if !turned {
            return Some(message);
        }
        Some(match message {
            Message::PrePrepare(view, place, value) => Message::PrePrepare(view, place + 1, value),
            Message::Prepare(view, place, value) => Message::Prepare(view, place, value + 1),
            Message::Commit(view, place, value) => Message::Commit(view, place, value + 1),
            Message::Checkpoint(place) => Message::Checkpoint(place + CHECKPOINT),
            Message::ViewChange(view, wish) => Message::ViewChange(
                view,
                Wish {
                    prepared: Vec::new(),
                    ..wish
                },
            ),
            Message::Done(place, log) => {
                Message::Done(place, log.into_iter().map(|value| value + 1).collect())
            }
            signed @ Message::NewView(..) => signed,
        })
    }

    fn role(&self) -> &'static str {
        match (self.changing, self.primary(self.view) == self.me) {
            (true, _) => "looking",
            (false, true) => "leader",
            (false, false) => "follower",
        }
    }
}
