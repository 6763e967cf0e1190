//! One run of peers: a queue of what happens next, the network and disks, faults, and a [`Field`] that
//! asks things of the peers and watches what they decide. A run is a pure function of algorithm, nodes,
//! seed, script and end.

use super::fields::{Desk, Field};
pub use super::net::Pace;
use super::net::{Net, Wrong, stream};
use super::script::{Fault, Planned, Script};
use base::peer::{Action, ActionOf, Context, Lie, Peer, PeerId};
use base::{Now, Rng};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Wall clocks start here: 2026-01-01.
const WALL_MS: i64 = 1_767_225_600_000;
/// A message to oneself takes so long.
const SELF_US: u64 = 1;
/// A run with more is cut off: an algorithm goes round in circles.
const STEPS_MAX: u64 = 20_000_000;

/// What a run is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Peers, at least 2.
    pub nodes: usize,
    /// Everything drawn follows from it.
    pub seed: u64,
    /// What goes wrong.
    pub script: Script,
    /// When it ends, in milliseconds of simulated time.
    pub until_ms: u64,
    /// How fast everything is.
    pub pace: Pace,
    /// Keep what happened, for people.
    pub keep: bool,
}

/// Something that people see in a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// When, in microseconds of simulated time.
    pub at_us: u64,
    /// With whom; 0 for the whole network.
    pub node: PeerId,
    /// What.
    pub what: What,
}

/// Kinds of what people see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A message left; its number, receiver and text.
    Sent(usize, PeerId, String),
    /// A message arrived; the number that it left with.
    Received(usize),
    /// A message was lost, on its way or at a dead receiver.
    Lost(usize),
    /// The user asked.
    Asked(String),
    /// The peer decided.
    Decided(String),
    /// Its role has changed to this.
    Role(&'static str),
    /// A fault began, or what is said of it ended.
    Fault(String),
    /// The checks object.
    Violation(String),
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Messages sent, those to oneself not counted.
    pub sent: u64,
    /// Of these, delivered.
    pub delivered: u64,
    /// Everything that happened to peers.
    pub steps: u64,
    /// Over everything that happened.
    pub hash: u64,
    /// What must never be, and was.
    pub unsafe_: Vec<String>,
    /// What should have come about once all was well, and did not.
    pub stalled: Vec<String>,
    /// What else there is to tell.
    pub told: Vec<String>,
    /// Figures by name: times in microseconds, or counts.
    pub figures: BTreeMap<&'static str, Vec<u64>>,
    /// Messages by kind, when kept.
    pub kinds: BTreeMap<String, u64>,
    /// What happened, when kept.
    pub shown: Vec<Shown>,
}

enum Occurrence<P: Peer> {
    Deliver {
        from: PeerId,
        to: PeerId,
        message: P::Message,
        number: usize,
    },
    Timer {
        node: PeerId,
        timer: P::Timer,
        set: u64,
    },
    Synced {
        node: PeerId,
        life: u32,
        state: P::State,
        then: Vec<ActionOf<P>>,
    },
    Asked {
        node: PeerId,
        life: u32,
        request: P::Request,
    },
    Resume {
        node: PeerId,
    },
    Begin(usize),
    End(usize),
}

struct Entry<P: Peer> {
    at_us: u64,
    order: u64,
    what: Occurrence<P>,
}

impl<P: Peer> PartialEq for Entry<P> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl<P: Peer> Eq for Entry<P> {}
impl<P: Peer> PartialOrd for Entry<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<P: Peer> Ord for Entry<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

/// A clock that may run fast or slow, and a wall clock that may step.
#[derive(Clone, Copy, Default)]
struct Clock {
    since_us: u64,
    local_us: u64,
    ppm: i64,
    stepped_ms: i64,
}

impl Clock {
    fn now(&self, at_us: u64) -> Now {
        let real = (at_us - self.since_us) as i64;
        let mono_us = self.local_us + (real + real * self.ppm / 1_000_000) as u64;
        let wall_ms = WALL_MS + mono_us as i64 / 1000 + self.stepped_ms;
        Now { mono_us, wall_ms }
    }

    fn drift(&mut self, at_us: u64, ppm: i64) {
        self.local_us = self.now(at_us).mono_us;
        self.since_us = at_us;
        self.ppm = ppm;
    }

    /// How long the given time of this clock really takes.
    fn real_us(&self, local_us: u64) -> u64 {
        (local_us as i64 * 1_000_000 / (1_000_000 + self.ppm)) as u64
    }
}

struct Node<P: Peer> {
    peer: Option<P>,
    life: u32,
    rng: Rng,
    durable: Option<P::State>,
    disk_free_us: u64,
    timers: BTreeMap<P::Timer, u64>,
    paused: Option<Vec<Occurrence<P>>>,
    clock: Clock,
    lie: Option<Lie>,
    role: &'static str,
}

/// What names the draws of a fault: its kind and its beginning, not its place in the script, so that
/// another fault more or less changes nothing about it.
fn draws_of(planned: &Planned) -> u64 {
    let kind = Fault::KINDS.find(planned.fault.kind()).unwrap_or(0) as u64;
    planned.at_ms * 1_000 + kind
}

/// A run under way.
pub struct Simulation<'a, P: Peer, F> {
    make: &'a dyn Fn(PeerId) -> P,
    plan: &'a Plan,
    nodes: Vec<Node<P>>,
    queue: BinaryHeap<Reverse<Entry<P>>>,
    order: u64,
    net: Net,
    field: F,
    desk: Desk<P::Request>,
    out: Vec<ActionOf<P>>,
    outcome: Outcome,
    messages: usize,
}

/// Runs `plan` with peers that `make` makes, watched by `field`.
pub fn run<P, F>(plan: &Plan, make: &dyn Fn(PeerId) -> P, field: F) -> Outcome
where
    P: Peer,
    F: Field<Request = P::Request, Decision = P::Decision>,
{
    let root = Rng::new(plan.seed);
    let node = |id: usize| Node {
        peer: None,
        life: 0,
        rng: root.fork(stream::NODES + id as u64),
        durable: None,
        disk_free_us: 0,
        timers: BTreeMap::new(),
        paused: None,
        clock: Clock::default(),
        lie: None,
        role: "",
    };
    let healed_us = plan.script.end_ms() * 1000;
    let mut simulation = Simulation {
        make,
        plan,
        nodes: (1..=plan.nodes).map(node).collect(),
        queue: BinaryHeap::new(),
        order: 0,
        net: Net::new(plan.seed, plan.nodes, plan.pace),
        field,
        desk: Desk::new(plan, root.fork(stream::WORKLOAD), healed_us),
        out: Vec::new(),
        outcome: Outcome::default(),
        messages: 0,
    };
    simulation.run();
    simulation.outcome
}

impl<P, F> Simulation<'_, P, F>
where
    P: Peer,
    F: Field<Request = P::Request, Decision = P::Decision>,
{
    fn run(&mut self) {
        let mut absent = vec![false; self.plan.nodes];
        for (i, planned) in self.plan.script.faults.iter().enumerate() {
            // Who is dead from the beginning has never started.
            if let (0, Fault::Crash { node } | Fault::Wipe { node }) =
                (planned.at_ms, &planned.fault)
            {
                absent[*node - 1] = true;
                continue;
            }
            self.push(planned.at_ms * 1000, Occurrence::Begin(i));
            if let Some(until_ms) = planned.until_ms {
                self.push(until_ms * 1000, Occurrence::End(i));
            }
        }
        self.field.begin(&mut self.desk);
        for node in 1..=self.plan.nodes {
            if !absent[node - 1] {
                self.start(node);
            }
        }
        self.take_requests();
        let until_us = self.plan.until_ms * 1000;
        while let Some(Reverse(entry)) = self.queue.pop() {
            if entry.at_us > until_us || self.outcome.steps >= STEPS_MAX || self.desk.enough {
                break;
            }
            self.desk.now_us = entry.at_us;
            self.handle(entry.what);
            self.take_requests();
        }
        if self.outcome.steps >= STEPS_MAX {
            let end = format!(
                "{STEPS_MAX} steps in {} ms: it goes round in circles",
                self.desk.now_us / 1000
            );
            self.desk.stalled.push(end);
        }
        self.desk.now_us = self.desk.now_us.max(until_us.min(self.desk.now_us + 1));
        self.look_at_clocks();
        self.field.finish(&mut self.desk);
        self.show_violations();
        self.outcome.unsafe_ = std::mem::take(&mut self.desk.unsafe_);
        self.outcome.stalled = std::mem::take(&mut self.desk.stalled);
        self.outcome.told = std::mem::take(&mut self.desk.told);
        self.outcome.figures = std::mem::take(&mut self.desk.figures);
    }

    fn push(&mut self, at_us: u64, what: Occurrence<P>) {
        self.order += 1;
        let order = self.order;
        self.queue.push(Reverse(Entry { at_us, order, what }));
    }

    fn note(&mut self, node: PeerId, what: impl FnOnce() -> What) {
        if self.plan.keep {
            let at_us = self.desk.now_us;
            self.outcome.shown.push(Shown {
                at_us,
                node,
                what: what(),
            });
        }
    }

    fn show_violations(&mut self) {
        if self.plan.keep {
            let said = self
                .outcome
                .shown
                .iter()
                .filter(|s| matches!(s.what, What::Violation(_)));
            let new: Vec<String> = self
                .desk
                .unsafe_
                .iter()
                .skip(said.count())
                .cloned()
                .collect();
            for text in new {
                self.note(0, || What::Violation(text));
            }
        }
    }

    fn look_at_clocks(&mut self) {
        let now_us = self.desk.now_us;
        let right_ms = WALL_MS + (now_us / 1000) as i64;
        for (node, skew_ms) in self.nodes.iter().zip(&mut self.desk.skew_ms) {
            *skew_ms = node.clock.now(now_us).wall_ms - right_ms;
        }
    }

    fn mix(&mut self, a: u64, b: u64) {
        let mixed = self.outcome.hash ^ self.desk.now_us.wrapping_mul(31) ^ (a << 32) ^ b;
        self.outcome.hash = Rng::new(mixed).next_u64();
    }

    /// What the field wants asked goes into the queue.
    fn take_requests(&mut self) {
        for (at_us, node, request) in std::mem::take(&mut self.desk.requests) {
            let life = self.nodes[node - 1].life;
            self.push(
                at_us.max(self.desk.now_us),
                Occurrence::Asked {
                    node,
                    life,
                    request,
                },
            );
        }
    }

    fn handle(&mut self, what: Occurrence<P>) {
        let node = match &what {
            Occurrence::Deliver { to, .. } => *to,
            Occurrence::Timer { node, .. }
            | Occurrence::Synced { node, .. }
            | Occurrence::Asked { node, .. } => *node,
            Occurrence::Resume { node } => return self.resume(*node),
            Occurrence::Begin(i) => return self.begin(*i),
            Occurrence::End(i) => return self.end(*i),
        };
        if let Some(waiting) = &mut self.nodes[node - 1].paused {
            waiting.push(what);
            return;
        }
        self.outcome.steps += 1;
        match what {
            Occurrence::Deliver {
                from,
                to,
                message,
                number,
            } => {
                let passes = from == to || self.net.passes(from, to);
                if !passes || self.nodes[to - 1].peer.is_none() {
                    self.note(to, || What::Lost(number));
                    return;
                }
                if from != to {
                    self.outcome.delivered += 1;
                    self.mix(from as u64, to as u64);
                    self.note(to, || What::Received(number));
                }
                self.step(to, |peer, cx| peer.handle_message(cx, from, message));
            }
            Occurrence::Timer { node, timer, set } => {
                if self.nodes[node - 1].timers.get(&timer) == Some(&set) {
                    self.nodes[node - 1].timers.remove(&timer);
                    self.step(node, |peer, cx| peer.handle_timer(cx, timer));
                }
            }
            Occurrence::Synced {
                node,
                life,
                state,
                then,
            } => {
                if self.nodes[node - 1].life == life && self.nodes[node - 1].peer.is_some() {
                    self.nodes[node - 1].durable = Some(state);
                    self.carry_out(node, then);
                }
            }
            Occurrence::Asked {
                node,
                life,
                request,
            } => {
                let alive = self.nodes[node - 1].peer.is_some();
                if alive && (life == self.nodes[node - 1].life) {
                    self.note(node, || What::Asked(format!("{request:?}")));
                    self.field.asked(&mut self.desk, node, &request);
                    self.step(node, |peer, cx| peer.handle_request(cx, request));
                }
            }
            Occurrence::Resume { .. } | Occurrence::Begin(_) | Occurrence::End(_) => {}
        }
    }

    fn start(&mut self, node: PeerId) {
        let recovered = self.nodes[node - 1].durable.clone();
        self.nodes[node - 1].peer = Some((self.make)(node));
        self.desk.up[node - 1] = true;
        self.field.started(&mut self.desk, node);
        self.step(node, |peer, cx| peer.handle_start(cx, recovered));
    }

    fn step(&mut self, node: PeerId, step: impl FnOnce(&mut P, &mut Context<'_, P>)) {
        let mut out = std::mem::take(&mut self.out);
        let at = &mut self.nodes[node - 1];
        let now = at.clock.now(self.desk.now_us);
        if let Some(peer) = &mut at.peer {
            step(peer, &mut Context::new(now, &mut at.rng, &mut out));
            let role = peer.role();
            if role != at.role {
                at.role = role;
                self.note(node, || What::Role(role));
            }
        }
        for action in out.drain(..) {
            self.act(node, action);
        }
        self.out = out;
    }

    fn carry_out(&mut self, node: PeerId, actions: Vec<ActionOf<P>>) {
        for action in actions {
            self.act(node, action);
        }
    }

    fn act(&mut self, node: PeerId, action: ActionOf<P>) {
        let now_us = self.desk.now_us;
        match action {
            Action::Send { to, message } => self.send(node, to, message),
            Action::SetTimer { timer, after_us } => {
                self.order += 1;
                let set = self.order;
                let at = &mut self.nodes[node - 1];
                at.timers.insert(timer, set);
                let at_us = now_us + at.clock.real_us(after_us).max(1);
                self.push(at_us, Occurrence::Timer { node, timer, set });
            }
            Action::CancelTimer(timer) => {
                self.nodes[node - 1].timers.remove(&timer);
            }
            Action::Persist { state, then } => {
                let sync_us = self.net.sync_us(node);
                let at = &mut self.nodes[node - 1];
                let life = at.life;
                at.disk_free_us = at.disk_free_us.max(now_us) + sync_us;
                let at_us = at.disk_free_us;
                self.push(
                    at_us,
                    Occurrence::Synced {
                        node,
                        life,
                        state,
                        then,
                    },
                );
            }
            Action::Decide(decision) => {
                self.mix(node as u64, 1 << 20);
                self.note(node, || What::Decided(format!("{decision:?}")));
                self.look_at_clocks();
                self.field.decided(&mut self.desk, node, &decision);
                self.show_violations();
            }
        }
    }

    fn send(&mut self, from: PeerId, to: PeerId, message: P::Message) {
        let now_us = self.desk.now_us;
        let number = self.messages;
        self.messages += 1;
        if from == to {
            let arrival = Occurrence::Deliver {
                from,
                to,
                message,
                number,
            };
            return self.push(now_us + SELF_US, arrival);
        }
        let message = match self.nodes[from - 1].lie {
            None => message,
            Some(lie) => match P::lie(message, to, lie) {
                None => return,
                Some(lied) => lied,
            },
        };
        self.outcome.sent += 1;
        if self.plan.keep {
            let text = format!("{message:?}");
            let kind = text
                .split(|c: char| !c.is_alphanumeric())
                .find(|w| !w.is_empty());
            *self
                .outcome
                .kinds
                .entry(kind.unwrap_or("message").to_owned())
                .or_default() += 1;
            self.note(from, || What::Sent(number, to, text));
        }
        let arrivals = self.net.carry(now_us, from, to);
        if let Some(at_us) = arrivals.second_us {
            let message = message.clone();
            self.push(
                at_us,
                Occurrence::Deliver {
                    from,
                    to,
                    message,
                    number,
                },
            );
        }
        match arrivals.first_us {
            Some(at_us) => self.push(
                at_us,
                Occurrence::Deliver {
                    from,
                    to,
                    message,
                    number,
                },
            ),
            None => self.note(to, || What::Lost(number)),
        }
    }

    fn begin(&mut self, i: usize) {
        let planned = &self.plan.script.faults[i];
        let named = draws_of(planned);
        let at_us = self.desk.now_us;
        let told = match &planned.fault {
            Fault::Crash { node } | Fault::Wipe { node } | Fault::Restart { node } => *node,
            Fault::Pause { node } | Fault::Slow { node, .. } | Fault::Lie { node, .. } => *node,
            _ => 0,
        };
        self.note(told, || What::Fault(format!("{:?}", planned.fault)));
        match planned.fault.clone() {
            Fault::Crash { node } => self.crash(node),
            Fault::Wipe { node } => {
                self.crash(node);
                self.nodes[node - 1].durable = None;
            }
            Fault::Restart { node } => {
                if self.nodes[node - 1].peer.is_none() {
                    self.start(node);
                }
            }
            Fault::Pause { node } => {
                self.nodes[node - 1].paused.get_or_insert_default();
            }
            Fault::Slow { node, by_ms } => {
                self.net.begin(
                    (i, named),
                    Wrong::Slow {
                        node,
                        by_us: by_ms * 1000,
                    },
                );
            }
            Fault::Partition { sides } => {
                for a in 1..=self.plan.nodes {
                    let hears = |b: &PeerId| {
                        *b == a
                            || sides
                                .iter()
                                .any(|side| side.contains(&a) && side.contains(b))
                    };
                    let to = (1..=self.plan.nodes).filter(|b| !hears(b)).collect();
                    self.net.begin((i, named), Wrong::Cut { from: vec![a], to });
                }
            }
            Fault::OneWay { from, to } => self.net.begin((i, named), Wrong::Cut { from, to }),
            Fault::Loss { percent } => self.net.begin((i, named), Wrong::Loss { percent }),
            Fault::Delay { up_to_ms } => {
                self.net.begin(
                    (i, named),
                    Wrong::Delay {
                        up_to_us: up_to_ms * 1000,
                    },
                );
            }
            Fault::Duplicate { percent } => {
                self.net.begin((i, named), Wrong::Duplicate { percent })
            }
            Fault::Reorder => self.net.begin((i, named), Wrong::Reorder),
            Fault::ClockStep { node, by_ms } => self.nodes[node - 1].clock.stepped_ms += by_ms,
            Fault::ClockDrift { node, ppm } => self.nodes[node - 1].clock.drift(at_us, ppm),
            Fault::Lie { node, how } => self.nodes[node - 1].lie = Some(how.lie()),
            Fault::Ask { node, request } => match self.field.parse(&request) {
                Some(request) => self.desk.requests.push((at_us, node, request)),
                None => self
                    .desk
                    .stalled
                    .push(format!("no request is called {request:?}")),
            },
        }
    }

    fn end(&mut self, i: usize) {
        let planned = &self.plan.script.faults[i];
        let at_us = self.desk.now_us;
        self.note(0, || What::Fault(format!("end of {:?}", planned.fault)));
        match &planned.fault {
            Fault::Pause { node } => self.push(at_us, Occurrence::Resume { node: *node }),
            Fault::ClockDrift { node, .. } => self.nodes[*node - 1].clock.drift(at_us, 0),
            Fault::Lie { node, .. } => self.nodes[*node - 1].lie = None,
            _ => self.net.end(i),
        }
    }

    fn resume(&mut self, node: PeerId) {
        for what in self.nodes[node - 1].paused.take().unwrap_or_default() {
            self.handle(what);
        }
    }

    fn crash(&mut self, node: PeerId) {
        let at = &mut self.nodes[node - 1];
        if at.peer.take().is_some() {
            at.life += 1;
            at.timers.clear();
            at.disk_free_us = 0;
            at.role = "";
            self.desk.up[node - 1] = false;
            self.field.crashed(&mut self.desk, node);
        }
    }
}
