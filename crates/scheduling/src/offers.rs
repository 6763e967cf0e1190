//! Scheduling on two levels (Hindman et al.: "Mesos: a platform for fine-grained resource sharing in the data
//! center", NSDI 2011): a [`Master`] decides whom to offer what is free, frameworks decide what to run on it.
//!
//! What is free on a node is offered to one framework at a time, the one with the smallest dominant share
//! ([`Shares`]); what is offered counts as held. So there are no conflicts, and nobody sees the whole cluster.
//! A framework accepts some of an offer or declines it, with a filter if it does not want that node for a while.
//! An offer that is not answered in time is withdrawn: a slow framework locks nobody out.
//!
//! [`Offers`] is that account alone, for nodes that somebody else knows: the replicated cell has one
//! ([`crate::machine`]). A [`Master`] adds nodes of its own, for the simulation.

use crate::cell::Cell;
use crate::fair::Shares;
use crate::placement::{NodeView, Running};
use crate::resources::{Resources, Share};
use base::{DecodeError, Reader, Writer};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

/// Who is offered what, and who holds how much.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Offers {
    shares: Shares,
    frameworks: BTreeMap<u64, Framework>,
    offers: BTreeMap<u64, Offer>,
    offers_made: u64,
    /// Where among the nodes the last round of offers ended.
    next: usize,
    /// What is on offer of each node that something is on offer of.
    held: BTreeMap<u64, Resources>,
}

/// Offers resources of nodes of its own, and carries out what frameworks accept.
#[derive(Clone, Debug)]
pub struct Master {
    cell: Cell,
    offers: Offers,
    /// How long an offer stands.
    offer_ms: u64,
    /// Who runs an instance.
    owners: BTreeMap<u64, u64>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Framework {
    wants: bool,
    /// Nodes that it is not offered, until when.
    filters: BTreeMap<u64, u64>,
}

/// What a framework may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Its number, never used twice.
    pub id: u64,
    /// Whom it is made to.
    pub framework: u64,
    /// The node.
    pub node: u64,
    /// So much of it.
    pub resources: Resources,
    /// From this time on it is withdrawn, in milliseconds.
    pub until_ms: u64,
}

/// Why an acceptance is refused. Nothing of it was carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no such offer: it was withdrawn, answered, or made to another.
    NoOffer,
    /// The tasks want more than was offered.
    TooMuch,
    /// An instance of that number runs already.
    InstanceInUse,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoOffer => {
                "there is no such offer: it was withdrawn or answered; wait for the next"
            }
            Self::TooMuch => "the tasks want more than was offered",
            Self::InstanceInUse => "an instance of that number runs already",
        })
    }
}

impl Offers {
    /// What there is to be shared has grown or shrunk.
    pub fn set_total(&mut self, total: Resources) {
        self.shares.set_total(total);
    }

    /// A framework with a weight; it is offered nothing until it [`wants`](Offers::set_wants).
    pub fn join(&mut self, framework: u64, weight: u64) {
        self.shares.join(framework, weight);
        self.frameworks.entry(framework).or_default();
    }

    /// The framework is gone, and its offers with it.
    pub fn leave(&mut self, framework: u64) {
        self.withdraw(framework);
        self.shares.leave(framework);
        self.frameworks.remove(&framework);
    }

    /// Whether the framework has anything to run; false when that is as it was. One that starts to want has no
    /// filters any more.
    pub fn set_wants(&mut self, framework: u64, wants: bool) -> bool {
        let Some(known) = self.frameworks.get_mut(&framework) else {
            return false;
        };
        if wants && !known.wants {
            known.filters.clear();
        }
        std::mem::replace(&mut known.wants, wants) != wants
    }

    /// Whether nobody was ever offered anything.
    pub fn is_unused(&self) -> bool {
        self.offers_made == 0 && self.frameworks.is_empty()
    }

    /// The framework runs something.
    pub fn take(&mut self, framework: u64, resources: Resources) {
        self.shares.take(framework, resources);
    }

    /// Something that the framework ran is over.
    pub fn give_back(&mut self, framework: u64, resources: Resources) {
        self.shares.give_back(framework, resources);
    }

    /// What the framework holds: what runs and what it is offered.
    pub fn held_by(&self, framework: u64) -> Resources {
        self.shares.used(framework)
    }

    /// The framework's dominant share of all there is, divided by its weight; what it is offered counts.
    pub fn share(&self, framework: u64) -> Share {
        self.shares.share(framework)
    }

    /// The offers that stand, of all frameworks.
    pub fn all(&self) -> impl Iterator<Item = &Offer> {
        self.offers.values()
    }

    /// Offers what is free of `nodes` and not on offer, node by node, each to whose turn it is: at most so many
    /// offers, from where the last round ended, until `offer_ms` later.
    pub fn poll<N: Borrow<NodeView>>(
        &mut self,
        now_ms: u64,
        offer_ms: u64,
        nodes: &[N],
        offers_max: usize,
    ) -> Vec<Offer> {
        self.handle_time(now_ms);
        let mut made = Vec::new();
        for _ in 0..nodes.len() {
            if made.len() >= offers_max {
                break;
            }
            let at = self.next % nodes.len();
            self.next = at + 1;
            let node = nodes[at].borrow();
            let held = self.held.get(&node.id).copied().unwrap_or_default();
            let resources = node.free().saturating_sub(held);
            if !node.healthy || resources.cpu_milli == 0 || resources.memory_bytes == 0 {
                continue;
            }
            let node = node.id;
            let frameworks = &self.frameworks;
            let Some(framework) = self.shares.next(|framework| {
                let known = &frameworks[&framework];
                known.wants && !known.filters.contains_key(&node)
            }) else {
                continue;
            };
            self.offers_made += 1;
            let offer = Offer {
                id: self.offers_made,
                framework,
                node,
                resources,
                until_ms: now_ms.saturating_add(offer_ms),
            };
            self.shares.take(framework, resources);
            self.held.insert(node, held.saturating_add(resources));
            self.offers.insert(offer.id, offer);
            made.push(offer);
        }
        made
    }

    /// Withdraws what was not answered in time, and forgets filters that are over. Returns those offers.
    pub fn handle_time(&mut self, now_ms: u64) -> Vec<Offer> {
        for framework in self.frameworks.values_mut() {
            framework.filters.retain(|_, until_ms| *until_ms > now_ms);
        }
        self.end_all(|offer| offer.until_ms <= now_ms)
    }

    /// Withdraws all offers of a framework. Returns those.
    pub fn withdraw(&mut self, framework: u64) -> Vec<Offer> {
        self.end_all(|offer| offer.framework == framework)
    }

    /// Withdraws the newest offers of a node until what is on offer of it is no more than `free`. Returns those.
    pub fn rescind(&mut self, node: u64, free: Resources) -> Vec<Offer> {
        let mut ended = Vec::new();
        while let Some(held) = self.held.get(&node)
            && !held.fits(free)
        {
            let newest = self.offers.values().rev().find(|offer| offer.node == node);
            match newest.map(|offer| offer.id).and_then(|id| self.end(id)) {
                Some(offer) => ended.push(offer),
                None => break,
            }
        }
        ended
    }

    fn end_all(&mut self, is_over: impl Fn(&Offer) -> bool) -> Vec<Offer> {
        let over = self.offers.values().filter(|offer| is_over(offer));
        let over: Vec<u64> = over.map(|offer| offer.id).collect();
        over.into_iter().filter_map(|id| self.end(id)).collect()
    }

    /// The offer is over, and what it held is free.
    pub fn end(&mut self, offer: u64) -> Option<Offer> {
        let offer = self.offers.remove(&offer)?;
        self.shares.give_back(offer.framework, offer.resources);
        if let Some(held) = self.held.get_mut(&offer.node) {
            *held = held.saturating_sub(offer.resources);
            if held.is_none() {
                self.held.remove(&offer.node);
            }
        }
        Some(offer)
    }

    /// The offer, if it stands, is the framework's, and `wanted` is no more than it.
    ///
    /// # Errors
    /// [`Refused`]; the offer stands if it was [`Refused::TooMuch`].
    pub fn check(
        &self,
        now_ms: u64,
        framework: u64,
        offer: u64,
        wanted: Option<Resources>,
    ) -> Result<Offer, Refused> {
        let known = self.offers.get(&offer).copied();
        let Some(known) = known.filter(|o| o.framework == framework && o.until_ms > now_ms) else {
            return Err(Refused::NoOffer);
        };
        match wanted.is_some_and(|wanted| wanted.fits(known.resources)) {
            true => Ok(known),
            false => Err(Refused::TooMuch),
        }
    }

    /// `framework` does not want the offer, nor any of that node for `filter_ms`.
    ///
    /// # Errors
    /// [`Refused::NoOffer`].
    pub fn decline(
        &mut self,
        now_ms: u64,
        framework: u64,
        offer: u64,
        filter_ms: u64,
    ) -> Result<(), Refused> {
        let mine = self.offers.get(&offer);
        if mine.is_none_or(|known| known.framework != framework) {
            return Err(Refused::NoOffer);
        }
        let offer = self.end(offer).ok_or(Refused::NoOffer)?;
        if let Some(known) = self.frameworks.get_mut(&framework)
            && filter_ms > 0
        {
            let until_ms = now_ms.saturating_add(filter_ms);
            known.filters.insert(offer.node, until_ms);
        }
        Ok(())
    }

    /// Appends the byte form of what does not follow from who runs what: who wants, filters, and offers.
    pub(crate) fn encode_into(&self, w: &mut Writer) {
        w.u64(self.offers_made).u64(self.next as u64);
        w.u32(self.frameworks.len() as u32);
        for (id, framework) in &self.frameworks {
            w.u64(*id).bool(framework.wants);
            w.u32(framework.filters.len() as u32);
            for (node, until_ms) in &framework.filters {
                w.u64(*node).u64(*until_ms);
            }
        }
        w.u32(self.offers.len() as u32);
        for offer in self.offers.values() {
            w.u64(offer.id).u64(offer.framework).u64(offer.node);
            offer.resources.encode(w);
            w.u64(offer.until_ms);
        }
    }

    /// Reads it, into one whose frameworks have joined.
    pub(crate) fn decode_from(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        (self.offers_made, self.next) = (r.u64()?, r.u64()? as usize);
        for _ in 0..r.count(13)? {
            let known = self.frameworks.get_mut(&r.u64()?);
            let known = known.ok_or(DecodeError::Invalid("framework"))?;
            known.wants = r.bool()?;
            for _ in 0..r.count(16)? {
                known.filters.insert(r.u64()?, r.u64()?);
            }
        }
        for _ in 0..r.count(56)? {
            let offer = Offer {
                id: r.u64()?,
                framework: r.u64()?,
                node: r.u64()?,
                resources: Resources::decode(r)?,
                until_ms: r.u64()?,
            };
            let held = self.held.entry(offer.node).or_default();
            *held = held.saturating_add(offer.resources);
            self.shares.take(offer.framework, offer.resources);
            self.offers.insert(offer.id, offer);
        }
        Ok(())
    }
}

impl Master {
    /// Offers of `cell` stand for `offer_ms`.
    pub fn new(cell: Cell, offer_ms: u64) -> Self {
        let mut offers = Offers::default();
        offers.set_total(cell.usage().0);
        Self {
            offers,
            cell,
            offer_ms,
            owners: BTreeMap::new(),
        }
    }

    /// The nodes and what runs on them.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// A node, new or as it is now. What ran on it by the master's own account goes on.
    pub fn put_node(&mut self, node: NodeView) {
        self.cell.put(node);
        self.offers.set_total(self.cell.usage().0);
    }

    /// See [`Offers::join`].
    pub fn register(&mut self, framework: u64, weight: u64) {
        self.offers.join(framework, weight);
    }

    /// See [`Offers::set_wants`].
    pub fn set_wants(&mut self, framework: u64, wants: bool) {
        self.offers.set_wants(framework, wants);
    }

    /// See [`Offers::held_by`].
    pub fn held_by(&self, framework: u64) -> Resources {
        self.offers.held_by(framework)
    }

    /// See [`Offers::poll`].
    pub fn poll_offers(&mut self, now_ms: u64, offers_max: usize) -> Vec<Offer> {
        let nodes = self.cell.nodes();
        self.offers.poll(now_ms, self.offer_ms, nodes, offers_max)
    }

    /// See [`Offers::handle_time`].
    pub fn handle_time(&mut self, now_ms: u64) -> Vec<Offer> {
        self.offers.handle_time(now_ms)
    }

    /// `framework` runs `tasks` on what it was offered; what they leave is free again.
    ///
    /// # Errors
    /// [`Refused`]; the offer stands if it was [`Refused::TooMuch`] or [`Refused::InstanceInUse`].
    pub fn accept(
        &mut self,
        now_ms: u64,
        framework: u64,
        offer: u64,
        tasks: &[Running],
    ) -> Result<(), Refused> {
        let wanted = tasks
            .iter()
            .try_fold(Resources::NONE, |sum, task| sum.checked_add(task.resources));
        let known = self.offers.check(now_ms, framework, offer, wanted)?;
        if tasks.iter().any(|t| self.owners.contains_key(&t.instance)) {
            return Err(Refused::InstanceInUse);
        }
        self.offers.end(offer);
        let at = self.cell.place_of(known.node).ok_or(Refused::NoOffer)?;
        for task in tasks {
            self.cell.start(at, *task);
            self.offers.take(framework, task.resources);
            self.owners.insert(task.instance, framework);
        }
        Ok(())
    }

    /// See [`Offers::decline`].
    ///
    /// # Errors
    /// [`Refused::NoOffer`].
    pub fn decline(
        &mut self,
        now_ms: u64,
        framework: u64,
        offer: u64,
        filter_ms: u64,
    ) -> Result<(), Refused> {
        self.offers.decline(now_ms, framework, offer, filter_ms)
    }

    /// The task of `instance` on `node` is over. Returns it, unless it was over already.
    pub fn finish(&mut self, node: u64, instance: u64) -> Option<Running> {
        let at = self.cell.place_of(node)?;
        let task = self.cell.finish(at, instance)?;
        if let Some(owner) = self.owners.remove(&instance) {
            self.offers.give_back(owner, task.resources);
        }
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Share;

    fn master(nodes: u64, cpu_milli: u64, memory_bytes: u64) -> Master {
        let cell = Cell::new((1..=nodes).map(|id| NodeView {
            id,
            healthy: true,
            total: Resources::new(cpu_milli, memory_bytes, 0),
            ..NodeView::default()
        }));
        let mut master = Master::new(cell, 1000);
        for framework in [1, 2] {
            master.register(framework, 1);
            master.set_wants(framework, true);
        }
        master
    }

    fn task(instance: u64, resources: Resources) -> Running {
        Running {
            instance,
            job: 1,
            priority: 0,
            resources,
        }
    }

    /// Two frameworks with the notes' tasks take what they are offered, one task at a time.
    #[test]
    fn m12_two_frameworks_share_a_cluster_fairly() {
        let mut master = master(1, 18_000, 36);
        let demands = [Resources::new(2000, 8, 0), Resources::new(6000, 2, 0)];
        let mut tasks = [0, 0];
        let mut idle = 0;
        for instance in 0.. {
            let offers = master.poll_offers(0, 100);
            let Some(offer) = offers.first().filter(|_| idle < 2) else {
                break;
            };
            let which = offer.framework as usize - 1;
            let wanted = [task(instance, demands[which])];
            match master.accept(0, offer.framework, offer.id, &wanted) {
                Ok(()) => {
                    tasks[which] += 1;
                    idle = 0;
                }
                Err(Refused::TooMuch) => {
                    master.decline(0, offer.framework, offer.id, 500).unwrap();
                    idle += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(tasks, [3, 2]);
        let total = Resources::new(18_000, 36, 0);
        for framework in [1, 2] {
            let share = master.held_by(framework).dominant_share(total);
            assert_eq!(share, Share::of(2, 3));
        }
    }

    #[test]
    fn offers_alternate_and_hold_what_they_offer() {
        let mut master = master(4, 10, 10);
        let offers = master.poll_offers(0, 100);
        let to: Vec<u64> = offers.iter().map(|offer| offer.framework).collect();
        assert_eq!(to, [1, 2, 1, 2]);
        assert!(master.poll_offers(1, 100).is_empty());
    }

    #[test]
    fn an_offer_not_answered_in_time_is_withdrawn_and_made_to_others() {
        let mut master = master(1, 10, 10);
        let first = master.poll_offers(0, 100)[0];
        assert_eq!(first.framework, 1);
        master.set_wants(1, false);
        assert!(master.poll_offers(999, 100).is_empty());
        let again = master.poll_offers(1000, 100);
        assert_eq!(again[0].framework, 2);
        assert_eq!(master.accept(1000, 1, first.id, &[]), Err(Refused::NoOffer));
        // Nor may another framework answer it.
        assert_eq!(
            master.decline(1000, 1, again[0].id, 0),
            Err(Refused::NoOffer)
        );
    }

    #[test]
    fn a_round_of_offers_goes_on_where_the_last_one_ended() {
        let mut master = master(5, 10, 10);
        let mut nodes = Vec::new();
        for round in 0..3 {
            let offers = master.poll_offers(round * 1000, 2);
            nodes.extend(offers.iter().map(|offer| offer.node));
        }
        assert_eq!(nodes, [1, 2, 3, 4, 5, 1]);
    }

    #[test]
    fn a_filter_keeps_a_nodes_offers_away_until_it_is_over() {
        let mut master = master(1, 10, 10);
        master.set_wants(2, false);
        let offer = master.poll_offers(0, 100)[0];
        master.decline(0, 1, offer.id, 300).unwrap();
        assert!(master.poll_offers(299, 100).is_empty());
        let offer = master.poll_offers(300, 100)[0];
        master.decline(300, 1, offer.id, 300).unwrap();
        master.set_wants(1, false);
        master.set_wants(1, true);
        assert_eq!(master.poll_offers(301, 100).len(), 1);
    }

    #[test]
    fn what_is_accepted_is_held_and_the_rest_is_free() {
        let mut master = master(1, 10, 10);
        let offer = master.poll_offers(0, 100)[0];
        let some = Resources::new(4, 1, 0);
        master.accept(0, 1, offer.id, &[task(1, some)]).unwrap();
        assert_eq!(master.held_by(1), some);
        let rest = master.poll_offers(0, 100)[0];
        assert_eq!(
            (rest.framework, rest.resources),
            (2, Resources::new(6, 9, 0))
        );
        assert_eq!(
            master.accept(0, 2, rest.id, &[task(1, some)]),
            Err(Refused::InstanceInUse)
        );
        assert!(master.finish(1, 1).is_some() && master.finish(1, 1).is_none());
        assert_eq!(master.held_by(1), Resources::NONE);
    }
}
