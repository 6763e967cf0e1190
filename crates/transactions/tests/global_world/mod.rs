//! A coordinator, two services with a barrier each, and initiators, in simulated time.

use base::{Origin, Rng, SnapshotPoll, Stamp, State};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use transactions::global::{
    Command, Driver, Globals, Kind, NewGlobal, Options, Outcome, Refusal, Request, Status, Step,
    Todo, Unit,
};

const ACCOUNTS: usize = 3;
const FUNDS: i64 = 100;
const TRANSFERS: u64 = 12;
/// Faults stop then, and everything must end by [`END_MS`].
const CALM_MS: i64 = 60_000;
const END_MS: i64 = 3_600_000;

/// A service: balances, what is reserved, and the barrier's rows.
#[derive(Clone, Debug, Default)]
struct Service {
    balances: BTreeMap<String, i64>,
    held: BTreeMap<(String, String), i64>,
    barrier: BTreeMap<(String, String, String), String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Yes,
    No,
}

impl Service {
    /// One local transaction. `change` says by how much `account` is to change in the end.
    fn handle(&mut self, gid: &str, branch: &str, op: &str, account: &str, change: i64) -> Answer {
        let key = |op: &str| (gid.to_owned(), branch.to_owned(), op.to_owned());
        if op == "check" {
            let row = self
                .barrier
                .entry(key("msg"))
                .or_insert_with(|| "rollback".into());
            return if row == "msg" {
                Answer::Yes
            } else {
                Answer::No
            };
        }
        let before = self.clone();
        let origin = match op {
            "compensate" => Some("action"),
            "cancel" | "rollback" => Some("try"),
            _ => None,
        };
        let mut insert = |op_of: &str| match self.barrier.contains_key(&key(op_of)) {
            true => false,
            false => self.barrier.insert(key(op_of), op.to_owned()).is_none(),
        };
        let is_empty = origin.is_some_and(&mut insert);
        let is_first = insert(op);
        if is_empty || !is_first {
            // A message's own transaction that finds the check-back before it may not be.
            let asked = op == "msg"
                && self
                    .barrier
                    .get(&key("msg"))
                    .is_some_and(|reason| reason != "msg");
            return if asked { Answer::No } else { Answer::Yes };
        }
        let balance = self.balances.entry(account.to_owned()).or_insert(FUNDS);
        let place = (gid.to_owned(), branch.to_owned());
        match op {
            "action" | "msg" => *balance += change,
            "compensate" => *balance -= change,
            "try" if change < 0 => {
                *balance += change;
                self.held.insert(place, -change);
            }
            "confirm" | "commit" if change < 0 => drop(self.held.remove(&place)),
            "confirm" | "commit" => *balance += change,
            "cancel" | "rollback" if change < 0 => {
                *balance += self.held.remove(&place).unwrap_or(0)
            }
            _ => {}
        }
        // What goes out must be there; a compensation takes back what came in, whatever is there.
        if self.balances[account] < 0 && matches!(op, "action" | "try" | "msg") && change < 0 {
            *self = before;
            return Answer::No;
        }
        Answer::Yes
    }
}

/// What happens, in order of time.
enum Event {
    /// A request arrives; the answer goes back to the driver of an epoch, if to any.
    Arrive {
        request: Request,
        answer: Option<(u64, u64)>,
    },
    /// A driver hears how its call ended.
    Heard {
        epoch: u64,
        number: u64,
        outcome: Outcome,
    },
    /// A command of a driver comes to be applied.
    Commit(Command),
    Tick,
    Crash,
    Begin(u64),
    /// An initiator takes its next step.
    Initiate {
        transfer: u64,
        step: usize,
    },
}

#[derive(Clone, Debug)]
struct Transfer {
    kind: Kind,
    gid: String,
    from: (usize, String),
    to: (usize, String),
    amount: i64,
    /// The initiator decided to give up.
    gives_up: bool,
    has_own_limits: bool,
}

pub struct World {
    rng: Rng,
    now_ms: i64,
    globals: Globals,
    driver: Driver,
    epoch: u64,
    services: [Service; 2],
    events: BTreeMap<(i64, u64), Event>,
    seq: u64,
    transfers: BTreeMap<u64, Transfer>,
    /// Gids that some service refused, or some initiator gave up.
    refused: BTreeSet<String>,
    /// Actions and tries that were called, by gid and branch.
    called: BTreeSet<(String, String)>,
    ended: BTreeMap<String, Status>,
}

fn query<'a>(url: &'a str, name: &str) -> &'a str {
    let pairs = url
        .rsplit(['?', '&'])
        .filter_map(|pair| pair.split_once('='));
    let mut values = pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    values.next().unwrap_or_default()
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: Rng::new(seed),
            now_ms: 1_000,
            globals: Globals::new(),
            driver: Driver::default(),
            epoch: 0,
            services: Default::default(),
            events: BTreeMap::new(),
            seq: 0,
            transfers: BTreeMap::new(),
            refused: BTreeSet::new(),
            called: BTreeSet::new(),
            ended: BTreeMap::new(),
        };
        for service in &mut world.services {
            for account in 0..ACCOUNTS {
                service.balances.insert(account.to_string(), FUNDS);
            }
        }
        for transfer in 0..TRANSFERS {
            let at = world.rng.range(0, 30_000) as i64;
            world.after(at, Event::Begin(transfer));
        }
        world.after(10, Event::Tick);
        world.after(500, Event::Crash);
        world
    }

    fn is_calm(&self) -> bool {
        self.now_ms > CALM_MS
    }

    fn after(&mut self, ms: i64, event: Event) {
        self.seq += 1;
        self.events.insert((self.now_ms + ms, self.seq), event);
    }

    fn delay(&mut self) -> i64 {
        let slow = !self.is_calm() && self.rng.one_in(10);
        self.rng.range(1, if slow { 5_000 } else { 50 }) as i64
    }

    fn is_lost(&mut self) -> bool {
        !self.is_calm() && self.rng.one_in(4)
    }

    /// Until everything has ended; what was violated.
    pub fn run(mut self) -> Result<(), String> {
        while let Some(((at_ms, _), event)) = self.events.pop_first() {
            self.now_ms = at_ms;
            self.happen(event)?;
            if self.is_calm() && self.events.len() == 1 && self.globals.counts().under_way == 0 {
                return self.check_end();
            }
            if self.now_ms > END_MS {
                let left: Vec<String> = (self.globals.after(""))
                    .filter(|(_, global)| !global.status.is_ended())
                    .map(|(gid, global)| format!("{gid}: {global:?}"))
                    .collect();
                return Err(format!("not ended: {}", left.join("\n")));
            }
        }
        Err("time stands still".into())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Tick => {
                self.after(100, Event::Tick);
                self.drive();
            }
            Event::Crash if self.is_calm() => {}
            Event::Crash => {
                let at = self.rng.range(200, 3_000) as i64;
                self.after(at, Event::Crash);
                self.epoch += 1;
                self.driver = Driver::default();
                if self.rng.one_in(2) {
                    self.start_from_snapshot()?;
                }
            }
            Event::Arrive { request, answer } => self.arrive(&request, answer),
            Event::Heard {
                epoch,
                number,
                outcome,
            } => {
                if epoch == self.epoch
                    && let Some(command) = self.driver.handle_called(number, outcome, self.now_ms)
                {
                    self.commit(command);
                }
            }
            Event::Commit(command) => {
                // What is refused has come too late, as it may.
                let _ = self.apply(command);
            }
            Event::Begin(number) => self.begin(number)?,
            Event::Initiate { transfer, step } => self.initiate(transfer, step)?,
        }
        self.check_ended()
    }

    // --- the coordinator ---

    fn apply(&mut self, command: Command) -> Result<(), Refusal> {
        let origin = Origin {
            token: 1,
            ..Origin::default()
        };
        let stamp = Stamp {
            time_ms: self.now_ms,
            seed: 0,
        };
        let mut out = Vec::new();
        self.globals
            .apply_unit(stamp, Unit { origin, command }, &mut out);
        match out.pop() {
            Some(transactions::global::Output::Reply { reply, .. }) => reply.map(drop),
            _ => unreachable!("who asks is answered"),
        }
    }

    /// A log takes a command in time, late (after another leader's), twice, or not.
    fn commit(&mut self, command: Command) {
        if self.is_calm() {
            return self.after(1, Event::Commit(command));
        }
        match self.rng.range(0, 10) {
            0 => {}
            1 => {
                let at = self.rng.range(1, 20_000) as i64;
                self.after(at, Event::Commit(command));
            }
            2 => {
                let at = self.rng.range(1, 5_000) as i64;
                self.after(1, Event::Commit(command.clone()));
                self.after(at, Event::Commit(command));
            }
            _ => self.after(1, Event::Commit(command)),
        }
    }

    fn drive(&mut self) {
        for todo in self.driver.poll(&self.globals, self.now_ms) {
            match todo {
                Todo::Propose(command) => self.commit(command),
                Todo::Call { number, request } => self.call(number, request),
            }
        }
    }

    fn call(&mut self, number: u64, request: Request) {
        if query(&request.url, "op") == "action" {
            let (gid, branch) = (query(&request.url, "gid"), query(&request.url, "branch_id"));
            self.called.insert((gid.to_owned(), branch.to_owned()));
        }
        let epoch = self.epoch;
        let silent = Event::Heard {
            epoch,
            number,
            outcome: Outcome::Unknown("no answer in time".into()),
        };
        self.after(request.timeout_ms as i64, silent);
        if !self.is_lost() {
            if !self.is_calm() && self.rng.one_in(8) {
                let at = self.rng.range(1, 20_000) as i64;
                let request = request.clone();
                self.after(
                    at,
                    Event::Arrive {
                        request,
                        answer: None,
                    },
                );
            }
            let at = self.delay();
            let answer = Some((epoch, number));
            self.after(at, Event::Arrive { request, answer });
        }
    }

    fn arrive(&mut self, request: &Request, answer: Option<(u64, u64)>) {
        let url = &request.url;
        let is_check = url.contains("/check");
        let service = usize::from(url.starts_with("http://s1"));
        let op = if is_check { "check" } else { query(url, "op") };
        let (account, change) = match is_check {
            true => ("0", 0),
            false => {
                let body = std::str::from_utf8(&request.body).expect("text");
                let (account, change) = body.split_once(' ').expect("two words");
                (account, change.parse().expect("a number"))
            }
        };
        let is_ongoing = !self.is_calm() && self.rng.one_in(15);
        let outcome = if is_ongoing {
            Outcome::Ongoing
        } else {
            let (gid, branch) = (query(url, "gid"), query(url, "branch_id"));
            match self.services[service].handle(gid, branch, op, account, change) {
                Answer::Yes => Outcome::Done,
                Answer::No => {
                    self.refused.insert(gid.to_owned());
                    Outcome::Refused("it says no".into())
                }
            }
        };
        if let Some((epoch, number)) = answer
            && !self.is_lost()
        {
            let at = self.delay();
            self.after(
                at,
                Event::Heard {
                    epoch,
                    number,
                    outcome,
                },
            );
        }
    }

    fn start_from_snapshot(&mut self) -> Result<(), String> {
        let mut other = Globals::new();
        self.globals.begin_snapshot();
        let before = self.globals.digest();
        while let SnapshotPoll::Chunk(chunk) = self.globals.poll_snapshot(200) {
            other.restore(&chunk)?;
        }
        other.finish_restore()?;
        if other.digest() != before || other.counts() != self.globals.counts() {
            return Err("a snapshot holds something else".into());
        }
        self.globals = other;
        Ok(())
    }

    // --- initiators ---

    fn begin(&mut self, number: u64) -> Result<(), String> {
        let kind = Kind::ALL[self.rng.range(0, 4) as usize];
        let from = self.rng.range(0, 2) as usize;
        let account = |rng: &mut Rng| rng.range(0, ACCOUNTS as u64).to_string();
        let transfer = Transfer {
            kind,
            gid: format!("g{number}"),
            from: (from, account(&mut self.rng)),
            to: (1 - from, account(&mut self.rng)),
            amount: self.rng.range(1, 80) as i64,
            gives_up: self.rng.one_in(5),
            has_own_limits: kind == Kind::Saga && self.rng.one_in(3),
        };
        self.transfers.insert(number, transfer);
        self.initiate(number, 0)
    }

    fn describe(&mut self, transfer: &Transfer) -> NewGlobal {
        let step = |(service, account): &(usize, String), change: i64| Step {
            action: format!("http://s{service}/do"),
            compensate: match transfer.kind {
                Kind::Saga => format!("http://s{service}/undo"),
                _ => String::new(),
            },
            data: Bytes::from(format!("{account} {change}")),
        };
        let (out, into) = (
            step(&transfer.from, -transfer.amount),
            step(&transfer.to, transfer.amount),
        );
        NewGlobal {
            gid: transfer.gid.clone(),
            kind: transfer.kind,
            options: Options {
                concurrent: transfer.gid.ends_with(['1', '4', '7']),
                timeout_ms: if transfer.has_own_limits { 8_000 } else { 0 },
                request_timeout_ms: 300,
                retry_interval_ms: 400,
                ..Options::default()
            },
            custom_data: String::new(),
            before: Vec::new(),
            delay_ms: 0,
            query_prepared: match transfer.kind {
                Kind::Message => format!("http://s{}/check", transfer.from.0),
                _ => String::new(),
            },
            steps: match transfer.kind {
                // The last refuses now and then, so that there is something to undo.
                Kind::Saga if transfer.gid.ends_with('3') => vec![into.clone(), out],
                Kind::Saga => vec![out, into],
                Kind::Message => vec![into],
                Kind::Tcc | Kind::Xa => Vec::new(),
            },
        }
    }

    /// An initiator's own call of a service: what it hears, if anything.
    fn own_call(
        &mut self,
        transfer: &Transfer,
        branch: &str,
        op: &str,
        is_out: bool,
    ) -> Option<Answer> {
        if self.is_lost() {
            return None;
        }
        let ((service, account), change) = match is_out {
            true => (transfer.from.clone(), -transfer.amount),
            false => (transfer.to.clone(), transfer.amount),
        };
        if self.rng.one_in(10) && !self.is_calm() {
            // It arrives when its initiator has given up: it hangs.
            let request = Request {
                method: "POST",
                url: format!(
                    "http://s{service}/do?gid={}&branch_id={branch}&op={op}",
                    transfer.gid
                ),
                headers: Vec::new(),
                body: Bytes::from(format!("{account} {change}")),
                timeout_ms: 0,
            };
            let at = self.rng.range(1, 50_000) as i64;
            self.after(
                at,
                Event::Arrive {
                    request,
                    answer: None,
                },
            );
            return None;
        }
        let answer = self.services[service].handle(&transfer.gid, branch, op, &account, change);
        (!self.is_lost()).then_some(answer)
    }

    fn initiate(&mut self, number: u64, step: usize) -> Result<(), String> {
        let transfer = self.transfers[&number].clone();
        // It dies between any two steps, never to come back.
        if step > 0 && !self.is_calm() && self.rng.one_in(8) {
            self.refused.insert(transfer.gid);
            return Ok(());
        }
        let new = self.describe(&transfer);
        let next = match transfer.kind {
            Kind::Saga => {
                if transfer.has_own_limits {
                    self.refused.insert(transfer.gid.clone());
                }
                self.apply(Command::Submit(new))
                    .map_err(|e| e.to_string())?;
                false
            }
            Kind::Message => self.initiate_message(&transfer, new, step)?,
            Kind::Tcc | Kind::Xa => self.initiate_tries(&transfer, new, step)?,
        };
        if next {
            let at = self.rng.range(1, 2_000) as i64;
            let step = step + 1;
            self.after(
                at,
                Event::Initiate {
                    transfer: number,
                    step,
                },
            );
        }
        Ok(())
    }

    fn initiate_message(
        &mut self,
        transfer: &Transfer,
        new: NewGlobal,
        step: usize,
    ) -> Result<bool, String> {
        match step {
            0 => {
                self.apply(Command::Prepare(new))
                    .map_err(|e| e.to_string())?;
                return Ok(true);
            }
            1 if transfer.gives_up => self.abort(transfer),
            1 => match self.own_call(transfer, "00", "msg", true) {
                Some(Answer::Yes) => return Ok(true),
                Some(Answer::No) => self.abort(transfer),
                // It does not know, and leaves it to the check-back.
                None => {}
            },
            _ => {
                // The check-back may have been first; then it said yes, too.
                if let Err(refusal) = self.apply(Command::Submit(new)) {
                    return Err(format!(
                        "{} was committed and cannot be submitted: {refusal}",
                        transfer.gid
                    ));
                }
            }
        }
        Ok(false)
    }

    fn initiate_tries(
        &mut self,
        transfer: &Transfer,
        new: NewGlobal,
        step: usize,
    ) -> Result<bool, String> {
        let op = "try";
        match step {
            0 => {
                self.apply(Command::Prepare(new))
                    .map_err(|e| e.to_string())?;
                return Ok(true);
            }
            1 | 2 => {
                let is_out = step == 1;
                let ((service, account), change) = match is_out {
                    true => (&transfer.from, -transfer.amount),
                    false => (&transfer.to, transfer.amount),
                };
                let branch = format!("{step:02}");
                let url = format!("http://s{service}/end");
                let registered = self.apply(Command::Register {
                    gid: transfer.gid.clone(),
                    kind: transfer.kind,
                    branch: branch.clone(),
                    forward: url.clone(),
                    backward: url,
                    data: Bytes::from(format!("{account} {change}")),
                });
                let is_given_up = registered.is_err() || transfer.gives_up && step == 2;
                if is_given_up || self.own_call(transfer, &branch, op, is_out) != Some(Answer::Yes)
                {
                    self.abort(transfer);
                    return Ok(false);
                }
                return Ok(true);
            }
            _ => {
                // Too late is refused: its time was over.
                if self.apply(Command::Submit(new)).is_err() {
                    self.refused.insert(transfer.gid.clone());
                }
            }
        }
        Ok(false)
    }

    fn abort(&mut self, transfer: &Transfer) {
        self.refused.insert(transfer.gid.clone());
        let _ = self.apply(Command::Abort {
            gid: transfer.gid.clone(),
            kind: transfer.kind,
            reason: "given up".into(),
        });
    }

    // --- what must hold ---

    fn check_ended(&mut self) -> Result<(), String> {
        for (gid, global) in self.globals.after("") {
            let was = self.ended.get(gid);
            if let Some(was) = was.filter(|was| **was != global.status) {
                return Err(format!(
                    "{gid} had ended as {was:?} and is {:?}",
                    global.status
                ));
            }
            if was.is_some() || !global.status.is_ended() {
                continue;
            }
            self.ended.insert(gid.clone(), global.status);
            if global.status == Status::Failed && !self.refused.contains(gid) {
                return Err(format!(
                    "{gid} failed, and nobody had refused it: {}",
                    global.reason
                ));
            }
            if global.kind == Kind::Saga {
                for pair in global.branches.chunks(2) {
                    let is_undone = pair[0].result == transactions::global::Known::Done;
                    let was_called = self.called.contains(&(gid.clone(), pair[1].id.clone()));
                    if global.status == Status::Failed && was_called && !is_undone {
                        return Err(format!(
                            "{gid}: step {} may have run, and was not undone",
                            pair[1].id
                        ));
                    }
                    if is_undone && (global.status == Status::Succeeded || pair[1].attempts == 0) {
                        return Err(format!("{gid}: step {} was undone for nothing", pair[1].id));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_end(&self) -> Result<(), String> {
        let sum: i64 = self.services.iter().flat_map(|s| s.balances.values()).sum();
        let held: Vec<_> = self.services.iter().flat_map(|s| &s.held).collect();
        let wanted = 2 * ACCOUNTS as i64 * FUNDS;
        if !held.is_empty() {
            return Err(format!("still reserved: {held:?}"));
        }
        if sum != wanted {
            return Err(format!("the sum is {sum}, not {wanted}: {:?}", self.ended));
        }
        let counts = self.globals.counts();
        if counts.begun != TRANSFERS || counts.succeeded + counts.failed != TRANSFERS {
            return Err(format!("not all were counted: {counts:?}"));
        }
        Ok(())
    }
}
