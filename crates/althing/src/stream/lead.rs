//! Leading a stream: the workers that the tree names are told what [`Master`] decides.

use super::ledger::{self, Done};
use super::tree::Tree;
use super::wire::{self, Hello, Order, Word};
use super::{Where, paths};
use computing::stream::master::{Action, Master, State};
use computing::stream::topology::Topology;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How often it looks what is new.
const ROUND: Duration = Duration::from_millis(10);
/// How often it asks the tree.
const LOOK: Duration = Duration::from_millis(100);
const DIAL_TIME: Duration = Duration::from_secs(2);

/// How it ended.
#[derive(PartialEq, Eq)]
pub enum Ended {
    /// Another one leads.
    Deposed,
    /// The stream was stopped, and all that it read is in its last checkpoint.
    Stopped,
    /// The caller wanted it.
    Asked,
}

enum Event {
    Linked(String, Option<TcpStream>),
    Said(String, u64, Word),
    Lost(String, u64),
}

struct Link {
    /// Its number among all that there were: a worker that is linked again is another one.
    number: u64,
    stream: TcpStream,
    address: SocketAddr,
}

struct Lead<'a> {
    place: &'a Where,
    master: Master,
    links: BTreeMap<String, Link>,
    dialling: BTreeMap<String, SocketAddr>,
    linked: u64,
    events: (Sender<Event>, Receiver<Event>),
    token: String,
    begun: Instant,
    /// Somebody else ended the stream.
    is_stopped: bool,
}

/// Leads for as long as `goes_on` and the session last. `tell` is told what happens.
pub fn lead(
    place: &Where,
    topology: &Topology,
    token: String,
    tree: &mut Tree,
    mut goes_on: impl FnMut() -> Result<bool, String>,
    mut tell: impl FnMut(&str),
) -> Result<Ended, String> {
    let generation = tree.generation();
    let mut lead = Lead {
        place,
        master: Master::new(0, topology.workers as usize, topology.checkpoint_ms),
        links: BTreeMap::new(),
        dialling: BTreeMap::new(),
        linked: 0,
        events: mpsc::channel(),
        token,
        begun: Instant::now(),
        is_stopped: false,
    };
    let (ask, asked) = mpsc::channel();
    let (told, hear) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || ledger::run(place, topology, &asked, &told));
        // With it ends the thread.
        let ask = ask;
        let mut looked: Option<Instant> = None;
        loop {
            if !goes_on()? {
                return Ok(Ended::Asked);
            }
            tree.idle(ROUND);
            if tree.generation() != generation {
                return Ok(Ended::Deposed);
            }
            if looked.is_none_or(|at| at.elapsed() > LOOK) {
                looked = Some(Instant::now());
                // What cannot be asked now is asked again; without a session it ends soon.
                let _ = lead.look(tree);
            }
            let now_ms = lead.begun.elapsed().as_millis() as u64;
            while let Ok(event) = lead.events.1.try_recv() {
                lead.handle(now_ms, event, &mut tell);
            }
            while let Ok(done) = hear.try_recv() {
                lead.handle_done(now_ms, done, &mut tell);
            }
            lead.master.handle_tick(now_ms);
            while let Some(action) = lead.master.poll() {
                match action {
                    Action::Assign { members, record } => {
                        let (count, from) = (members.len(), record.checkpoint);
                        tell(&format!(
                            "epoch {} on {count} workers, from checkpoint {from}",
                            record.epoch
                        ));
                        lead.assign(&members, &record);
                    }
                    Action::Begin {
                        members,
                        epoch,
                        checkpoint,
                    } => {
                        for member in members {
                            lead.send(member, &Order::Begin { epoch, checkpoint });
                        }
                    }
                    // Workers see it in the tree.
                    Action::End => {}
                    asked => {
                        let _ = ask.send(asked);
                    }
                }
            }
            if lead.is_stopped || lead.master.state() == State::Ended {
                return Ok(Ended::Stopped);
            }
        }
    })
}

impl Lead<'_> {
    /// What the tree says of workers, and of what is wanted.
    fn look(&mut self, tree: &mut Tree) -> Result<(), String> {
        let name = &self.place.name;
        if let Some((state, _)) = tree.get(&paths::state(name))? {
            match &state[..] {
                b"stopping" => self.master.handle_stop(),
                b"stopped" => self.is_stopped = true,
                _ => {}
            }
        }
        let there: BTreeSet<String> = tree.children(&paths::workers(name))?.into_iter().collect();
        let now_ms = self.begun.elapsed().as_millis() as u64;
        let gone = |worker: &String| !there.contains(worker);
        let gone: Vec<String> = self.links.keys().filter(|w| gone(w)).cloned().collect();
        for worker in gone {
            // It stands still, or is cut off: its session has ended.
            self.lose(now_ms, &worker);
        }
        for worker in there {
            if self.links.contains_key(&worker) || self.dialling.contains_key(&worker) {
                continue;
            }
            let Some((data, _)) = tree.get(&paths::worker(name, &worker))? else {
                continue;
            };
            let data: Value = serde_json::from_slice(&data).unwrap_or_default();
            let address = data["address"].as_str().and_then(|text| text.parse().ok());
            let Some(address): Option<SocketAddr> = address else {
                continue;
            };
            self.dialling.insert(worker.clone(), address);
            let (events, token) = (self.events.0.clone(), self.token.clone());
            thread::spawn(move || {
                let dial = || {
                    let mut stream = TcpStream::connect_timeout(&address, DIAL_TIME)?;
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(DIAL_TIME))?;
                    wire::say(&mut stream, &Hello::Master { token }).map(|()| stream)
                };
                let _ = events.send(Event::Linked(worker, dial().ok()));
            });
        }
        Ok(())
    }

    fn handle(&mut self, now_ms: u64, event: Event, tell: &mut impl FnMut(&str)) {
        match event {
            Event::Linked(worker, stream) => {
                let address = self.dialling.remove(&worker);
                let (Some(address), Some(stream)) = (address, stream) else {
                    return;
                };
                let Ok(reading) = stream.try_clone() else {
                    return;
                };
                self.linked += 1;
                let number = self.linked;
                let link = Link {
                    number,
                    stream,
                    address,
                };
                self.links.insert(worker.clone(), link);
                self.master.handle_worker(number);
                tell(&format!("worker {worker} is there"));
                let events = self.events.0.clone();
                thread::spawn(move || {
                    let mut reader = BufReader::new(reading);
                    while let Ok(word) = wire::hear(&mut reader) {
                        if events
                            .send(Event::Said(worker.clone(), number, word))
                            .is_err()
                        {
                            return;
                        }
                    }
                    let _ = events.send(Event::Lost(worker, number));
                });
            }
            Event::Said(worker, number, word) => match word {
                Word::Ack {
                    epoch,
                    checkpoint,
                    ack,
                } => self.master.handle_ack(number, epoch, checkpoint, ack),
                Word::Failed { epoch, why } => {
                    tell(&format!(
                        "worker {worker} cannot go on in epoch {epoch}: {why}"
                    ));
                    self.master.handle_failed(now_ms, number, epoch);
                }
            },
            Event::Lost(worker, number) => {
                if self
                    .links
                    .get(&worker)
                    .is_some_and(|link| link.number == number)
                {
                    tell(&format!("worker {worker} is lost"));
                    self.lose(now_ms, &worker);
                }
            }
        }
    }

    fn lose(&mut self, now_ms: u64, worker: &str) {
        if let Some(link) = self.links.remove(worker) {
            let _ = link.stream.shutdown(std::net::Shutdown::Both);
            self.master.handle_worker_lost(now_ms, link.number);
        }
    }

    fn handle_done(&mut self, now_ms: u64, done: Done, tell: &mut impl FnMut(&str)) {
        let (is_claim, epoch, result) = match done {
            Done::Claimed(result) => (true, 0, result),
            Done::Stored(epoch, result) => (false, epoch, result),
        };
        match &result {
            Err(why) => tell(&format!("the record is not stored: {why}")),
            Ok((record, _)) if !is_claim && record.is_published() => tell(&format!(
                "checkpoint {}: {} records read, {} written with it",
                record.checkpoint, record.read, record.outputs
            )),
            Ok(_) => {}
        }
        match is_claim {
            true => self.master.handle_claimed(now_ms, result.ok()),
            false => self.master.handle_stored(now_ms, epoch, result.ok()),
        }
    }

    fn assign(&mut self, members: &[u64], record: &computing::stream::record::Record) {
        let address = |member: &u64| {
            let mut links = self.links.values();
            links
                .find(|link| link.number == *member)
                .map(|link| link.address)
        };
        // One that is gone has been told to the master.
        let addresses: Option<Vec<SocketAddr>> = members.iter().map(address).collect();
        let Some(addresses) = addresses else { return };
        for (index, member) in members.iter().enumerate() {
            let order = Order::Assign {
                index,
                members: addresses.clone(),
                record: record.clone(),
            };
            self.send(*member, &order);
        }
    }

    /// Who does not take it within its time is lost: its reader says so.
    fn send(&mut self, member: u64, order: &Order) {
        let mut links = self.links.values_mut();
        if let Some(link) = links.find(|link| link.number == member)
            && wire::say(&mut link.stream, order).is_err()
        {
            let _ = link.stream.shutdown(std::net::Shutdown::Both);
        }
    }
}
