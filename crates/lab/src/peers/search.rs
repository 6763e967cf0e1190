//! All orders of events of a small group, breadth first: messages may be delivered in any order (or in
//! the order of their pair), timers may run out at any time, and up to a bound messages are lost and
//! processes die and come back. The peers are the ones that run everywhere else. The first violation found
//! has the shortest path.

use super::fields::Safety;
use base::peer::{Action, ActionOf, Context, PeerId, Searchable};
use base::{Now, Rng};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{Hash, Hasher};

/// How far to search.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Peers.
    pub nodes: usize,
    /// Messages lost, at most.
    pub losses: u8,
    /// Processes that die (and may come back), at most.
    pub crashes: u8,
    /// Timers that run out, at most.
    pub timers: u8,
    /// Messages of one pair keep their order.
    pub fifo: bool,
    /// States looked at, at most.
    pub states: usize,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Different states looked at.
    pub states: usize,
    /// Steps from the start to the farthest of them.
    pub depth: usize,
    /// True when nothing within the bounds is left to look at.
    pub whole: bool,
    /// What is wrong, and the shortest way to it.
    pub violation: Option<(String, Vec<String>)>,
}

#[derive(Clone, Hash)]
struct Disk<P: Searchable> {
    state: P::State,
    then: Vec<ActionOf<P>>,
}

#[derive(Clone, Hash)]
struct Node<P: Searchable> {
    peer: Option<P>,
    rng: Rng,
    durable: Option<P::State>,
    syncs: VecDeque<Disk<P>>,
    timers: Vec<P::Timer>,
}

#[derive(Clone, Hash)]
struct World<P: Searchable, S> {
    nodes: Vec<Node<P>>,
    /// What is under way, in the order of sending.
    flights: Vec<(PeerId, PeerId, P::Message)>,
    safety: S,
    losses: u8,
    crashes: u8,
    timers: u8,
}

#[derive(Clone, Copy, Debug)]
enum Step<R, T> {
    Deliver(usize),
    Lose(usize),
    Sync(PeerId),
    Ring(PeerId, T),
    Ask(PeerId, R),
    Crash(PeerId),
    Restart(PeerId),
}

type StepOf<P> = Step<<P as base::Peer>::Request, <P as base::Peer>::Timer>;

fn digest(of: &impl Hash) -> u128 {
    let one = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        of.hash(&mut hasher);
        hasher.finish()
    };
    u128::from(one(1)) << 64 | u128::from(one(2))
}

impl<P, S> World<P, S>
where
    P: Searchable,
    S: Safety<Request = P::Request, Decision = P::Decision>,
{
    /// Equal for worlds that differ only in the order in which messages of different pairs were sent.
    fn name(&self, fifo: bool) -> u128 {
        let mut world = (digest(&self.nodes), digest(&self.safety), Vec::new());
        let mut ranks: BTreeMap<(PeerId, PeerId), usize> = BTreeMap::new();
        for flight in &self.flights {
            let rank = ranks.entry((flight.0, flight.1)).or_default();
            *rank += usize::from(fifo);
            world.2.push(digest(&(flight, *rank)));
        }
        world.2.sort_unstable();
        digest(&(world, self.losses, self.crashes, self.timers))
    }

    fn steps(&self, bounds: &Bounds) -> Vec<StepOf<P>> {
        let mut steps = Vec::new();
        let mut pairs = Vec::new();
        for (i, (from, to, _)) in self.flights.iter().enumerate() {
            let first = !pairs.contains(&(*from, *to));
            pairs.push((*from, *to));
            if first || !bounds.fifo {
                steps.push(Step::Deliver(i));
                if from != to && self.losses < bounds.losses {
                    steps.push(Step::Lose(i));
                }
            }
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let id = i + 1;
            if node.peer.is_none() {
                steps.push(Step::Restart(id));
                continue;
            }
            if !node.syncs.is_empty() {
                steps.push(Step::Sync(id));
            }
            let choices = self.safety.choices(id, bounds.nodes);
            steps.extend(choices.into_iter().map(|request| Step::Ask(id, request)));
            if self.timers < bounds.timers {
                steps.extend(node.timers.iter().map(|timer| Step::Ring(id, *timer)));
            }
            if self.crashes < bounds.crashes {
                steps.push(Step::Crash(id));
            }
        }
        steps
    }

    /// Takes a step; what is wrong with it.
    fn take(&mut self, step: &StepOf<P>, make: &dyn Fn(PeerId) -> P) -> Option<String> {
        match step.clone() {
            Step::Deliver(i) => {
                let (from, to, message) = self.flights.remove(i);
                self.step(to, |peer, cx| peer.handle_message(cx, from, message))
            }
            Step::Lose(i) => {
                self.flights.remove(i);
                self.losses += 1;
                None
            }
            Step::Sync(node) => {
                let sync = self.nodes[node - 1].syncs.pop_front()?;
                self.nodes[node - 1].durable = Some(sync.state);
                self.act(node, sync.then)
            }
            Step::Ring(node, timer) => {
                self.nodes[node - 1].timers.retain(|other| *other != timer);
                self.timers += 1;
                self.step(node, |peer, cx| peer.handle_timer(cx, timer))
            }
            Step::Ask(node, request) => {
                self.safety.asked(node, &request);
                self.step(node, |peer, cx| peer.handle_request(cx, request))
            }
            Step::Crash(node) => {
                self.crashes += 1;
                self.safety.crashed(node);
                let at = &mut self.nodes[node - 1];
                at.peer = None;
                at.syncs.clear();
                at.timers.clear();
                None
            }
            Step::Restart(node) => {
                self.nodes[node - 1].peer = Some(make(node));
                let recovered = self.nodes[node - 1].durable.clone();
                self.step(node, |peer, cx| peer.handle_start(cx, recovered))
            }
        }
    }

    fn step(
        &mut self,
        node: PeerId,
        step: impl FnOnce(&mut P, &mut Context<'_, P>),
    ) -> Option<String> {
        let mut out = Vec::new();
        let at = &mut self.nodes[node - 1];
        // To a dead one nothing happens: what was delivered is lost.
        let peer = at.peer.as_mut()?;
        step(
            peer,
            &mut Context::new(Now::default(), &mut at.rng, &mut out),
        );
        self.act(node, out)
    }

    fn act(&mut self, node: PeerId, actions: Vec<ActionOf<P>>) -> Option<String> {
        let mut wrong = None;
        for action in actions {
            let at = &mut self.nodes[node - 1];
            match action {
                Action::Send { to, message } => self.flights.push((node, to, message)),
                Action::Persist { state, then } => at.syncs.push_back(Disk { state, then }),
                Action::SetTimer { timer, .. } => {
                    at.timers.retain(|other| *other != timer);
                    at.timers.push(timer);
                    at.timers.sort_unstable();
                }
                Action::CancelTimer(timer) => at.timers.retain(|other| *other != timer),
                Action::Decide(decision) => {
                    wrong = wrong.or(self.safety.decided(node, &decision));
                }
            }
        }
        wrong
    }

    fn tell(&self, step: &StepOf<P>) -> String {
        match step {
            Step::Deliver(i) => {
                let (from, to, message) = &self.flights[*i];
                format!("node {to} gets {message:?} from node {from}")
            }
            Step::Lose(i) => {
                let (from, to, message) = &self.flights[*i];
                format!("{message:?} from node {from} to node {to} is lost")
            }
            Step::Sync(node) => format!("node {node}'s disk has written"),
            Step::Ring(node, timer) => format!("node {node}'s timer {timer:?} runs out"),
            Step::Ask(node, request) => format!("node {node} is asked: {request:?}"),
            Step::Crash(node) => format!("node {node} dies"),
            Step::Restart(node) => format!("node {node} comes back"),
        }
    }
}

/// Looks at everything within the bounds.
pub fn search<P, S>(bounds: &Bounds, make: &dyn Fn(PeerId) -> P, safety: S) -> Finding
where
    P: Searchable,
    S: Safety<Request = P::Request, Decision = P::Decision>,
{
    let node = |id| Node {
        peer: Some(make(id)),
        rng: Rng::new(id as u64),
        durable: None,
        syncs: VecDeque::new(),
        timers: Vec::new(),
    };
    let mut start = World {
        nodes: (1..=bounds.nodes).map(node).collect(),
        flights: Vec::new(),
        safety,
        losses: 0,
        crashes: 0,
        timers: 0,
    };
    for id in 1..=bounds.nodes {
        start.step(id, |peer, cx| peer.handle_start(cx, None));
    }
    // Parents by name; steps are told again along the path found.
    let mut seen: HashMap<u128, (u128, u32)> = HashMap::new();
    let root = start.name(bounds.fifo);
    seen.insert(root, (root, 0));
    let mut open = VecDeque::from([(start.clone(), root, 0_usize)]);
    let mut finding = Finding {
        states: 1,
        depth: 0,
        whole: true,
        violation: None,
    };
    while let Some((world, name, depth)) = open.pop_front() {
        finding.depth = finding.depth.max(depth);
        let steps = world.steps(bounds);
        let calm = world.losses == 0 && world.crashes == 0 && world.timers == 0;
        let ringing = world
            .nodes
            .iter()
            .any(|n| !n.timers.is_empty() || n.peer.is_none());
        let ends = steps
            .iter()
            .all(|s| matches!(s, Step::Crash(_) | Step::Lose(_)));
        if let Some(wrong) = (ends && calm && !ringing)
            .then(|| world.safety.at_rest(bounds.nodes))
            .flatten()
        {
            finding.violation = Some((wrong, path(bounds, make, &start, &seen, name)));
            return finding;
        }
        for (i, step) in steps.iter().enumerate() {
            let mut next = world.clone();
            let wrong = next.take(step, make);
            let reached = next.name(bounds.fifo);
            if seen.contains_key(&reached) && wrong.is_none() {
                continue;
            }
            seen.insert(reached, (name, i as u32));
            finding.states += 1;
            if let Some(wrong) = wrong {
                finding.depth = depth + 1;
                finding.violation = Some((wrong, path(bounds, make, &start, &seen, reached)));
                return finding;
            }
            if finding.states >= bounds.states {
                finding.whole = false;
                return finding;
            }
            open.push_back((next, reached, depth + 1));
        }
    }
    finding
}

fn path<P, S>(
    bounds: &Bounds,
    make: &dyn Fn(PeerId) -> P,
    start: &World<P, S>,
    seen: &HashMap<u128, (u128, u32)>,
    mut name: u128,
) -> Vec<String>
where
    P: Searchable,
    S: Safety<Request = P::Request, Decision = P::Decision>,
{
    let mut choices = Vec::new();
    while let Some((parent, step)) = seen.get(&name).filter(|(parent, _)| *parent != name) {
        choices.push(*step);
        name = *parent;
    }
    let mut world = start.clone();
    let mut told = Vec::new();
    for i in choices.into_iter().rev() {
        let steps = world.steps(bounds);
        let step = &steps[i as usize];
        told.push(world.tell(step));
        world.take(step, make);
    }
    told
}
