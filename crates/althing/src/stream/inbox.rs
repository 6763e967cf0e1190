//! What comes to a worker from all sides, in queues of their own, so that it takes what it can use now and makes the
//! others wait: a channel behind its barrier, sources while much is on its way.

use super::wire::Order;
use computing::stream::event::Element;
use computing::stream::task::Input;
use std::collections::{BTreeMap, VecDeque};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Elements of one channel that wait.
const CHANNEL_MAX: usize = 32;
/// Answers to fetches of one partition that wait.
const FETCHES_MAX: usize = 4;

/// Where a master is answered.
pub type Link = Arc<Mutex<TcpStream>>;

/// What is to be done next.
pub enum Work {
    /// A master's order.
    Order(Link, Order),
    /// Something that this epoch needs is gone.
    Broken(String),
    /// Of the channel from that task.
    Element(usize, Element),
    /// Of that partition, which is read on at the offset.
    Records(i32, Vec<Input>, i64),
    /// Nothing came in time.
    Nothing,
}

#[derive(Default)]
struct State {
    epoch: u64,
    orders: VecDeque<(Link, Order)>,
    broken: Option<String>,
    channels: Vec<VecDeque<Element>>,
    fetches: BTreeMap<i32, VecDeque<(Vec<Input>, i64)>>,
    /// Who was served last: the others are first.
    last_channel: usize,
    last_partition: i32,
}

/// The queues.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    /// Waits until `ready` says something, or the epoch is over: then nothing.
    fn wait<T>(&self, epoch: u64, mut ready: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        loop {
            if state.epoch > epoch {
                return None;
            }
            if let Some(found) = ready(&mut state) {
                drop(state);
                self.changed.notify_all();
                return Some(found);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(|broken| broken.into_inner());
        }
    }

    /// An epoch with so many tasks begins; what came before is forgotten.
    pub fn begin(&self, epoch: u64, tasks: usize) {
        let mut state = self.state();
        let orders = std::mem::take(&mut state.orders);
        *state = State {
            epoch,
            orders,
            channels: vec![VecDeque::new(); tasks],
            ..State::default()
        };
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until that epoch has begun; false when it is over.
    pub fn wait_for(&self, epoch: u64) -> bool {
        let begun = |state: &mut State| (state.epoch == epoch).then_some(());
        self.wait(epoch, begun).is_some()
    }

    /// A master's order.
    pub fn order(&self, link: &Link, order: Order) {
        self.state().orders.push_back((Arc::clone(link), order));
        self.changed.notify_all();
    }

    /// Something that this epoch needs is gone.
    pub fn broken(&self, epoch: u64, why: String) {
        let mut state = self.state();
        if state.epoch == epoch {
            state.broken.get_or_insert(why);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Puts an element of a channel, once there is room. False when the epoch is over.
    pub fn element(&self, epoch: u64, from: usize, element: Element) -> bool {
        let mut element = Some(element);
        let put = self.wait(epoch, |state| {
            let queue = state.channels.get_mut(from)?;
            (queue.len() < CHANNEL_MAX).then(|| queue.extend(element.take()))
        });
        put.is_some()
    }

    /// Puts an element of a worker for itself, who looks after its room by [`Self::own_waiting`].
    pub fn own(&self, index: usize, element: Element) {
        if let Some(queue) = self.state().channels.get_mut(index) {
            queue.push_back(element);
        }
    }

    /// How much waits of what a worker has for itself.
    pub fn own_waiting(&self, index: usize) -> usize {
        self.state().channels.get(index).map_or(0, VecDeque::len)
    }

    /// Puts records, once there is room. False when the epoch is over.
    pub fn records(&self, epoch: u64, partition: i32, records: Vec<Input>, next: i64) -> bool {
        let mut records = Some((records, next));
        let put = self.wait(epoch, |state| {
            let queue = state.fetches.entry(partition).or_default();
            (queue.len() < FETCHES_MAX).then(|| queue.extend(records.take()))
        });
        put.is_some()
    }

    /// What is to be done next: orders before all else, then channels that are open, in turn, then records, if they are
    /// wanted.
    pub fn next(
        &self,
        is_open: impl Fn(usize) -> bool,
        wants_records: bool,
        time: Duration,
    ) -> Work {
        let until = Instant::now() + time;
        let mut state = self.state();
        loop {
            if let Some(work) = state.take(&is_open, wants_records) {
                drop(state);
                self.changed.notify_all();
                return work;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Work::Nothing;
            }
            state = match self.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(broken) => broken.into_inner().0,
            };
        }
    }
}

impl State {
    fn take(&mut self, is_open: &impl Fn(usize) -> bool, wants_records: bool) -> Option<Work> {
        if let Some((link, order)) = self.orders.pop_front() {
            return Some(Work::Order(link, order));
        }
        if let Some(why) = self.broken.take() {
            return Some(Work::Broken(why));
        }
        let count = self.channels.len();
        for step in 1..=count {
            let from = (self.last_channel + step) % count;
            if is_open(from)
                && let Some(element) = self.channels[from].pop_front()
            {
                self.last_channel = from;
                return Some(Work::Element(from, element));
            }
        }
        if !wants_records {
            return None;
        }
        let has = |queue: &&mut VecDeque<_>| !queue.is_empty();
        let last = self.last_partition;
        let behind = self.fetches.range_mut(last + 1..);
        let mut found = behind.map(|(at, queue)| (*at, queue)).find(|(_, q)| has(q));
        if found.is_none() {
            let all = self.fetches.range_mut(..=last);
            found = all.map(|(at, queue)| (*at, queue)).find(|(_, q)| has(q));
        }
        let (partition, queue) = found?;
        let (records, next) = queue.pop_front()?;
        self.last_partition = partition;
        Some(Work::Records(partition, records, next))
    }
}
