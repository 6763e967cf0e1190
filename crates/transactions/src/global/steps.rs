//! What a transaction does next: a function of its row and the time. Whatever follows from an event without
//! another one follows at once, so that a row at rest wants calls, waits for a time or a person, or has ended.

use super::command::Outcome;
use super::model::{Branch, Call, Global, Kind, Known, Op, Status};
use super::{RETRIES_MAX, WORDS_BYTES_MAX};
use base::planted::{Bug, planted};

impl Global {
    /// Takes what came of a call. False when that call is not wanted any more: nothing has changed.
    pub(super) fn take(
        &mut self,
        index: usize,
        attempt: u64,
        outcome: &Outcome,
        now_ms: i64,
    ) -> bool {
        let is_stale_taken = planted(Bug::TakeStaleResult);
        let Some(branch) = self.branches.get_mut(index) else {
            return false;
        };
        let is_wanted =
            matches!(branch.call, Call::Wanted { attempt: wanted, .. } if wanted == attempt);
        if !is_wanted && !is_stale_taken {
            return false;
        }
        if is_stale_taken && self.status == Status::Succeeded {
            self.status = Status::Submitted;
        }
        let may_refuse = match branch.op {
            Op::Action => self.kind == Kind::Saga,
            Op::Check => true,
            Op::Compensate | Op::Confirm | Op::Cancel | Op::Commit | Op::Rollback => false,
        };
        match outcome {
            Outcome::Done => branch.know(Known::Done, now_ms),
            Outcome::Refused(words) if may_refuse => {
                branch.words = cut(words);
                branch.know(Known::Refused, now_ms);
            }
            Outcome::Unknown(words) if may_refuse && planted(Bug::CountUnknownAsRefusal) => {
                branch.words = cut(words);
                branch.know(Known::Refused, now_ms);
            }
            Outcome::Ongoing => {
                branch.misses = 0;
                branch.words = "under way (ONGOING)".into();
                let until_ms = now_ms + self.pause_ms(0);
                self.branches[index].call = Call::Waits { until_ms };
            }
            Outcome::Refused(words) => {
                let op = branch.op.name();
                let words = format!("a {op} cannot be refused, and was: {words}");
                self.miss(index, &words, now_ms);
            }
            Outcome::Unknown(words) => self.miss(index, words, now_ms),
        }
        self.advance(now_ms);
        true
    }

    /// Nothing is known of a call: it is made again, later, or the transaction is parked.
    fn miss(&mut self, index: usize, words: &str, now_ms: i64) {
        let limit = match self.options.retry_limit {
            0 => RETRIES_MAX,
            own => own,
        };
        let branch = &mut self.branches[index];
        branch.misses += 1;
        branch.words = cut(words);
        let misses = branch.misses;
        let until_ms = now_ms + self.pause_ms(misses);
        let branch = &mut self.branches[index];
        branch.call = Call::Waits { until_ms };
        if misses <= limit {
            return;
        }
        let (id, op) = (branch.id.clone(), branch.op);
        let why = format!(
            "{} of branch {id} was called {misses} times: {}",
            op.name(),
            branch.words
        );
        if self.kind == Kind::Saga && op == Op::Action && self.options.retry_limit > 0 {
            // So its initiator wants it; the step is compensated, since it may have run.
            self.turn_back(why, now_ms);
        } else {
            self.parked = Some(why);
        }
    }

    /// Takes up what has waited until now, and what is due.
    pub(super) fn wake(&mut self, now_ms: i64) {
        if self.parked.is_none() {
            for index in 0..self.branches.len() {
                if let Call::Waits { until_ms } = self.branches[index].call
                    && until_ms <= now_ms
                {
                    self.want(index, now_ms);
                }
            }
        }
        self.advance(now_ms);
    }

    /// A person wants it to go on.
    pub(super) fn resume(&mut self, now_ms: i64) {
        self.parked = None;
        for branch in &mut self.branches {
            if matches!(branch.call, Call::Waits { .. }) {
                branch.misses = 0;
                branch.call = Call::Waits { until_ms: now_ms };
            }
        }
        self.wake(now_ms);
    }

    /// It shall not be.
    pub(super) fn turn_back(&mut self, why: String, now_ms: i64) {
        self.leave(Status::Aborting, now_ms);
        self.reason = why;
    }

    /// It has ended.
    pub(super) fn end(&mut self, status: Status, now_ms: i64) {
        self.leave(status, now_ms);
        self.ended_ms = now_ms;
    }

    /// What the former state wanted is not wanted any more.
    fn leave(&mut self, status: Status, now_ms: i64) {
        for branch in &mut self.branches {
            branch.call = Call::No;
        }
        self.status = status;
        self.parked = None;
        self.updated_ms = now_ms;
    }

    /// Does what follows.
    pub(super) fn advance(&mut self, now_ms: i64) {
        while !self.status.is_ended() && self.step(now_ms) {}
    }

    /// One thing that follows; false when there is none.
    fn step(&mut self, now_ms: i64) -> bool {
        let is_late = self.deadline_ms().is_some_and(|at_ms| at_ms <= now_ms);
        match (self.kind, self.status) {
            (Kind::Message, Status::Prepared) => self.step_check(is_late, now_ms),
            _ if is_late => {
                let seconds = self
                    .deadline_ms()
                    .map_or(0, |at_ms| (at_ms - self.created_ms) / 1_000);
                self.turn_back(format!("Timeout after {seconds} seconds"), now_ms);
                true
            }
            (_, Status::Prepared) => false,
            (Kind::Saga, Status::Submitted) => self.step_saga(now_ms),
            (Kind::Saga, _) => self.step_back(now_ms),
            (Kind::Message, _) => self.step_message(now_ms),
            (Kind::Tcc, Status::Submitted) => self.step_in_turn(Op::Confirm, now_ms),
            (Kind::Tcc, _) => self.step_in_turn(Op::Cancel, now_ms),
            (Kind::Xa, Status::Submitted) => self.step_in_turn(Op::Commit, now_ms),
            (Kind::Xa, _) => self.step_in_turn(Op::Rollback, now_ms),
        }
    }

    /// Wants the call of a branch, under a new number.
    fn want(&mut self, index: usize, now_ms: i64) {
        let branch = &mut self.branches[index];
        if branch.url.is_empty() {
            branch.know(Known::Done, now_ms);
            return;
        }
        self.attempt += 1;
        branch.attempts += 1;
        branch.call = Call::Wanted {
            attempt: self.attempt,
            since_ms: now_ms,
        };
    }

    /// Wants those of `ready` that are not yet on their way.
    fn want_all(&mut self, ready: Vec<usize>, now_ms: i64) -> bool {
        if self.parked.is_some() {
            return false;
        }
        let mut has_changed = false;
        for index in ready {
            let branch = &self.branches[index];
            if branch.result == Known::Open && branch.call == Call::No {
                self.want(index, now_ms);
                has_changed = true;
            }
        }
        has_changed
    }

    fn is_done(&self, index: usize) -> bool {
        self.branches[index].result == Known::Done
    }

    // --- saga: step `i` has its compensation at 2i and its action at 2i + 1 ---

    fn step_saga(&mut self, now_ms: i64) -> bool {
        let steps = self.branches.len() / 2;
        let refused = (0..steps).find(|i| self.branches[2 * i + 1].result == Known::Refused);
        if let Some(step) = refused {
            let words = self.branches[2 * step + 1].words.clone();
            self.turn_back(words, now_ms);
            return true;
        }
        if (0..steps).all(|i| self.is_done(2 * i + 1)) {
            self.end(Status::Succeeded, now_ms);
            return true;
        }
        let may_run = |i: &usize| {
            let is_next = self.options.concurrent || *i == 0 || self.is_done(2 * i - 1);
            let before = self.before.get(*i).into_iter().flatten();
            is_next
                && before
                    .into_iter()
                    .all(|b| self.is_done(2 * *b as usize + 1))
        };
        let ready = (0..steps).filter(may_run).map(|i| 2 * i + 1).collect();
        self.want_all(ready, now_ms)
    }

    fn step_back(&mut self, now_ms: i64) -> bool {
        let steps = self.branches.len() / 2;
        let is_undone = |i: usize| {
            let action = &self.branches[2 * i + 1];
            let may_have_run = match planted(Bug::CompensateAcknowledgedOnly) {
                true => action.result == Known::Done,
                false => action.attempts > 0,
            };
            may_have_run && !self.is_done(2 * i)
        };
        if !(0..steps).any(is_undone) {
            self.end(Status::Failed, now_ms);
            return true;
        }
        let may_run = |i: &usize| {
            let is_last = self.options.concurrent || !(i + 1..steps).any(is_undone);
            let needs = |j: usize| {
                let before = self.before.get(j).into_iter().flatten();
                before.into_iter().any(|b| *b as usize == *i)
            };
            is_undone(*i) && is_last && !(0..steps).any(|j| needs(j) && is_undone(j))
        };
        let ready = (0..steps).filter(may_run).map(|i| 2 * i).collect();
        self.want_all(ready, now_ms)
    }

    // --- TCC and XA: one after the other; reservations are settled in the reverse of their order ---

    fn step_in_turn(&mut self, op: Op, now_ms: i64) -> bool {
        let mut of_op: Vec<usize> = (0..self.branches.len())
            .filter(|index| self.branches[*index].op == op)
            .collect();
        if self.kind == Kind::Tcc {
            of_op.reverse();
        }
        match of_op.into_iter().find(|index| !self.is_done(*index)) {
            Some(next) => self.want_all(vec![next], now_ms),
            None => {
                let is_submitted = self.status == Status::Submitted;
                let status = if is_submitted {
                    Status::Succeeded
                } else {
                    Status::Failed
                };
                self.end(status, now_ms);
                true
            }
        }
    }

    // --- messages ---

    fn step_check(&mut self, is_late: bool, now_ms: i64) -> bool {
        let Some(check) = self.branches.iter().position(|b| b.op == Op::Check) else {
            return false;
        };
        match self.branches[check].result {
            Known::Done => self.leave(Status::Submitted, now_ms),
            Known::Refused => {
                self.reason = format!("its sender says no: {}", self.branches[check].words);
                self.end(Status::Failed, now_ms);
            }
            Known::Open if is_late => return self.want_all(vec![check], now_ms),
            Known::Open => return false,
        }
        true
    }

    fn step_message(&mut self, now_ms: i64) -> bool {
        if now_ms < self.hold_until_ms {
            return false;
        }
        self.hold_until_ms = 0;
        let actions = || (0..self.branches.len()).filter(|i| self.branches[*i].op == Op::Action);
        let mut left: Vec<usize> = actions().filter(|index| !self.is_done(*index)).collect();
        if left.is_empty() {
            self.end(Status::Succeeded, now_ms);
            return true;
        }
        if !self.options.concurrent {
            left.truncate(1);
        }
        self.want_all(left, now_ms)
    }
}

impl Branch {
    fn know(&mut self, known: Known, now_ms: i64) {
        self.result = known;
        self.call = Call::No;
        self.ended_ms = now_ms;
    }
}

/// The beginning of a service's words.
fn cut(words: &str) -> String {
    let mut end = words.len().min(WORDS_BYTES_MAX);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words[..end].to_owned()
}
