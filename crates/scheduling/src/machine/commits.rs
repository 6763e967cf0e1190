//! Schedulers outside of the cell: they read it ([`Scheduling::cell_view`]), decide on that copy, and commit what they
//! decided ([`Command::Commit`](crate::Command::Commit)). What is a conflict is the shared cell's business
//! ([`Cell::commit`]), with the agents' own versions: an agent's is the revision at which what is promised of it last
//! changed.

use super::*;
use crate::cell::{self, Cell, Check, Commit};
use crate::command::Claim;

impl Scheduling {
    /// Carries out what a scheduler claims for tasks of jobs that name it, or says what was in the way.
    pub(super) fn commit(
        &mut self,
        scheduler: &str,
        claims: &[Claim],
        commit: Commit,
        check: Check,
    ) -> Result<Reply, Refusal> {
        if claims.len() > CLAIMS_MAX {
            return Err(Refusal::Invalid(format!(
                "{} claims in one commit; at most {CLAIMS_MAX} are taken",
                claims.len()
            )));
        }
        let mut conflicts = Vec::new();
        let mut asked = Vec::new();
        let mut claimed = BTreeSet::new();
        for (n, claim) in claims.iter().enumerate() {
            let is_first = claimed.insert(claim.slot);
            let claimable = self.claimable(scheduler, claim);
            match claimable.and_then(|spec| is_first.then_some(spec).ok_or(NOT_WAITING)) {
                Ok(spec) => asked.push(cell::Claim {
                    instance: n as u64,
                    spec,
                    node: claim.agent.0,
                    seen: claim.seen,
                    preempt: Vec::new(),
                }),
                Err(why) => conflicts.push((claim.slot, why.to_owned())),
            }
        }
        if commit == Commit::AllOrNothing && !conflicts.is_empty() {
            let beside = |claim: cell::Claim| (claims[claim.instance as usize].slot, BESIDE.into());
            conflicts.extend(asked.drain(..).map(beside));
        }
        let agents: BTreeSet<AgentId> = claims.iter().map(|claim| claim.agent).collect();
        let views = agents.iter().filter_map(|id| {
            let (view, agent) = (self.views.get(id)?, self.agents.get(id)?);
            Some((view.clone(), agent.index))
        });
        let verdict = Cell::at(views).commit(asked, commit, check);
        // Before anything is placed: it is what the claims met.
        for claim in &verdict.conflicts {
            let (slot, agent) = {
                let claim = &claims[claim.instance as usize];
                (claim.slot, claim.agent)
            };
            let now = self.agents.get(&agent).map_or(0, |agent| agent.index);
            let objection = (self.views.get(&agent)).map(|view| objection(view, &claim.spec));
            conflicts.push((
                slot,
                match objection {
                    None => format!("there is no agent {agent}"),
                    Some(Some(reason)) => reason.to_string(),
                    Some(None) if check == Check::Version && claim.seen != now => {
                        format!("changed: version {now}, not {}", claim.seen)
                    }
                    Some(None) => BESIDE.into(),
                },
            ));
        }
        let mut placed = Vec::new();
        for claim in &verdict.committed {
            let claim = &claims[claim.instance as usize];
            let generation = self.agents.get(&claim.agent).map_or(0, |a| a.generation);
            let done = self.place(Placement {
                slot: claim.slot,
                agent: claim.agent,
                generation,
                evict: Vec::new(),
                why: Why::default(),
            });
            match done {
                Some(instance) => placed.push((claim.slot, instance)),
                None => conflicts.push((claim.slot, BESIDE.into())),
            }
        }
        self.tally.commits += 1;
        self.tally.conflicts += conflicts.len() as u64;
        Ok(Reply::Committed { placed, conflicts })
    }

    /// What the task of a claim asks for, if it waits for this scheduler.
    fn claimable(
        &self,
        scheduler: &str,
        claim: &Claim,
    ) -> Result<placement::TaskSpec, &'static str> {
        let ask = self.ask(claim.slot).ok_or(NOT_WAITING)?;
        let waits = self.awaiting.get(scheduler).ok_or(NOT_WAITING)?;
        if !waits.contains(&(Reverse(ask.priority), claim.slot)) {
            return Err(NOT_WAITING);
        }
        let due_ms = self
            .slots
            .get(&claim.slot)
            .map_or(0, |wanted| wanted.due_ms);
        match due_ms > self.time_ms {
            true => Err("it is started again after a pause: see due_ms"),
            false => Ok(ask),
        }
    }
}

/// Why a claim is none.
const NOT_WAITING: &str =
    "no such task waits for this scheduler: it has an agent, or its job is stopped or another's";

/// Why a claim was not carried out that would have fitted by itself.
const BESIDE: &str = "it does not fit beside the other claims of this commit";
