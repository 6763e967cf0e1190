//! The way from the cluster to the services: the leader's calls arrive late, twice or not at all, are under way for
//! a while, or are answered by a proxy's error page.

use super::Answer;
use crate::client::Context;
use crate::world::Probing;
use base::Rng;
use node::{ProbeResult, ProbeTarget};
use std::collections::BTreeMap;

/// A second delivery comes so late at most.
const LATE_US: u64 = 8_000_000;

/// A request to a service.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub service: usize,
    pub gid: String,
    pub branch: String,
    pub op: String,
    pub account: u64,
    pub change: i64,
}

impl Request {
    /// Of a call for `http://sN/…?…` with a body of two numbers.
    fn of(target: &ProbeTarget) -> Option<Self> {
        let ProbeTarget::Http { url, body, .. } = target else {
            return None;
        };
        let rest = url.strip_prefix("http://s")?;
        let (path, query) = rest.split_once('?')?;
        let (service, path) = path.split_once('/')?;
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let pair = pairs.find(|(key, _)| *key == name);
            pair.map_or(String::new(), |(_, value)| value.to_owned())
        };
        let (account, change) = body.split_once(' ').unwrap_or(("0", "0"));
        Some(Self {
            service: service.parse().ok()?,
            gid: value("gid"),
            branch: value("branch_id"),
            op: match path {
                "check" => "check".into(),
                _ => value("op"),
            },
            account: account.parse().ok()?,
            change: change.parse().ok()?,
        })
    }

    /// It arrives.
    pub(crate) fn carry_out(&self, cx: &mut Context<'_>) -> Answer {
        let globals = &mut cx.history.globals;
        let service = &mut globals.services[self.service];
        let (gid, branch) = (&self.gid, &self.branch);
        let answer = service.handle(gid, branch, &self.op, self.account, self.change);
        if answer == Answer::No {
            let its = globals.transfers.iter_mut().find(|t| t.gid == *gid);
            its.into_iter().for_each(|its| its.may_fail = true);
        }
        answer
    }
}

#[derive(Debug)]
enum Step {
    Arrive(Request, Option<Probing>),
    Answer(Probing, ProbeResult),
}

/// Requests and answers on their way.
#[derive(Debug, Default)]
pub(crate) struct Callouts {
    queue: BTreeMap<(u64, u64), Step>,
    count: u64,
}

impl Callouts {
    fn put(&mut self, at_us: u64, step: Step) {
        self.count += 1;
        self.queue.insert((at_us, self.count), step);
    }

    /// A request that nobody waits for arrives then.
    pub(crate) fn deliver_at(&mut self, at_us: u64, request: Request) {
        self.put(at_us, Step::Arrive(request, None));
    }

    /// A node calls; false when that is not for these services.
    pub(crate) fn take(
        &mut self,
        cx: &mut Context<'_>,
        rng: &mut Rng,
        probing: &Probing,
        is_calm: bool,
    ) -> bool {
        let Some(request) = Request::of(&probing.target) else {
            return false;
        };
        let now_us = cx.world.now_us;
        let place = (request.gid.clone(), request.op.clone());
        *cx.history.globals.called.entry(place).or_insert(0) += 1;
        let late = "no answer in time";
        let silence = ProbeResult::Failed { why: late.into() };
        let silent_us = now_us + probing.timeout_us;
        self.put(silent_us, Step::Answer(probing.clone(), silence));
        if !is_calm && rng.one_in(4) {
            return true;
        }
        if !is_calm && rng.one_in(8) {
            let at_us = now_us + rng.range(1, LATE_US);
            self.deliver_at(at_us, request.clone());
        }
        let at_us = now_us + delay_us(rng, is_calm);
        self.put(at_us, Step::Arrive(request, Some(probing.clone())));
        true
    }

    /// What is due happens.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>, rng: &mut Rng, is_calm: bool) {
        let now_us = cx.world.now_us;
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= now_us
        {
            match entry.remove() {
                // Who was answered already is not answered again.
                Step::Answer(probing, result) => cx.world.probed(&probing, result),
                Step::Arrive(request, probing) => {
                    let answer = |code, body: &str| ProbeResult::Answered {
                        code,
                        body: body.into(),
                    };
                    let result = match rng.range(0, 30) {
                        0 | 1 if !is_calm => answer(425, "ONGOING"),
                        2 if !is_calm => answer(502, "FAILURE of the proxy"),
                        // It is done, and something on the way back says otherwise.
                        3 if !is_calm => {
                            request.carry_out(cx);
                            answer(500, "")
                        }
                        _ => match request.carry_out(cx) {
                            Answer::Yes => answer(200, "SUCCESS"),
                            Answer::No => answer(409, "FAILURE"),
                        },
                    };
                    if let Some(probing) = probing.filter(|_| is_calm || !rng.one_in(4)) {
                        let at_us = now_us + delay_us(rng, is_calm);
                        self.put(at_us, Step::Answer(probing, result));
                    }
                }
            }
        }
    }
}

fn delay_us(rng: &mut Rng, is_calm: bool) -> u64 {
    let is_slow = !is_calm && rng.one_in(10);
    rng.range(200, if is_slow { 3_000_000 } else { 40_000 })
}
