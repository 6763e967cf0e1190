//! Who gets how much: max-min fairness over one resource, dominant resource fairness over several.
//!
//! * [`max_min`]: progressive filling. Nobody gets more than he wants, and who wants more than the others get
//!   shares what is left alike. Cost O(n log n).
//! * [`Shares`]: DRF for whole tasks (Ghodsi et al.: "Dominant Resource Fairness: Fair Allocation of Multiple
//!   Resource Types", NSDI 2011, algorithm 1): the next task is of whoever has the smallest dominant share.
//!   Cost O(n) a task, for n users.
//! * [`divisible`]: the same for work that can be divided at will (section 4.1), where DRF's four properties
//!   hold exactly: sharing incentive, strategy-proofness, Pareto efficiency, freedom from envy. With whole
//!   tasks they hold up to one task.

use crate::resources::{Resources, Share};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Divides `capacity` among `demands`, in the units of both. What cannot be divided evenly goes, one unit
/// each, to the first of those who want more.
pub fn max_min(capacity: u64, demands: &[u64]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&at| (demands[at], std::cmp::Reverse(at)));
    let mut given = vec![0; demands.len()];
    let (mut left, mut hungry) = (capacity, demands.len() as u64);
    for at in order {
        given[at] = demands[at].min(left / hungry);
        left -= given[at];
        hungry -= 1;
    }
    given
}

/// Who holds how much of a cluster, and whose turn it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shares {
    total: Resources,
    users: BTreeMap<u64, User>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct User {
    weight: u64,
    used: Resources,
}

impl User {
    fn share(&self, total: Resources) -> Share {
        let share = self.used.dominant_share(total);
        Share {
            part: share.part,
            whole: share.whole.saturating_mul(self.weight),
        }
    }
}

impl Shares {
    /// Nobody holds anything of `total`.
    pub fn new(total: Resources) -> Self {
        Self {
            total,
            users: BTreeMap::new(),
        }
    }

    /// What there is to be shared.
    pub fn total(&self) -> Resources {
        self.total
    }

    /// The cluster has grown or shrunk.
    pub fn set_total(&mut self, total: Resources) {
        self.total = total;
    }

    /// A user with a weight (at least 1): of twice the weight, twice the share is fair.
    pub fn join(&mut self, user: u64, weight: u64) {
        let weight = weight.max(1);
        self.users
            .entry(user)
            .and_modify(|known| known.weight = weight)
            .or_insert(User {
                weight,
                used: Resources::NONE,
            });
    }

    /// The user is gone, with what he held.
    pub fn leave(&mut self, user: u64) {
        self.users.remove(&user);
    }

    /// The user holds so much more.
    pub fn take(&mut self, user: u64, amount: Resources) {
        if let Some(known) = self.users.get_mut(&user) {
            known.used = known.used.saturating_add(amount);
        }
    }

    /// The user holds so much less.
    pub fn give_back(&mut self, user: u64, amount: Resources) {
        if let Some(known) = self.users.get_mut(&user) {
            known.used = known.used.saturating_sub(amount);
        }
    }

    /// What the user holds.
    pub fn used(&self, user: u64) -> Resources {
        self.users.get(&user).map_or(Resources::NONE, |u| u.used)
    }

    /// The user's dominant share, divided by his weight.
    pub fn share(&self, user: u64) -> Share {
        self.users
            .get(&user)
            .map_or(Share::NONE, |u| u.share(self.total))
    }

    /// Whose turn it is among those of `wanting`: the smallest share, then the smallest number.
    pub fn next(&self, wanting: impl Fn(u64) -> bool) -> Option<u64> {
        self.users
            .iter()
            .filter(|(user, _)| wanting(**user))
            .min_by_key(|(user, known)| (known.share(self.total), **user))
            .map(|(user, _)| *user)
    }
}

/// How many tasks each user gets, of tasks of the same demand each, as many as fit (algorithm 1, which passes
/// over a user whose next task does not fit). A user whose tasks want nothing gets none.
pub fn drf(total: Resources, demands: &[Resources]) -> Vec<u64> {
    let mut shares = Shares::new(total);
    for user in 0..demands.len() as u64 {
        shares.join(user, 1);
    }
    let mut tasks = vec![0; demands.len()];
    let mut left = total;
    loop {
        let fits = |user: u64| {
            let demand = demands[user as usize];
            !demand.is_none() && demand.fits(left)
        };
        let Some(user) = shares.next(fits) else {
            return tasks;
        };
        let demand = demands[user as usize];
        shares.take(user, demand);
        left = left.saturating_sub(demand);
        tasks[user as usize] += 1;
    }
}

/// How many tasks, in fractions, each user gets when work can be divided at will: all dominant shares grow
/// alike; when a resource is used up, whoever needs it stops, and the others go on.
pub fn divisible(total: Resources, demands: &[Resources]) -> Vec<f64> {
    let capacity = total.amounts().map(|amount| amount as f64);
    let demand: Vec<[f64; 3]> = demands
        .iter()
        .map(|d| d.amounts().map(|amount| amount as f64))
        .collect();
    let dominant: Vec<f64> = demands
        .iter()
        .map(|d| d.dominant_share(total).as_f64())
        .collect();
    let mut tasks = vec![0.0; demands.len()];
    let mut left = capacity;
    let mut growing: Vec<usize> = (0..demands.len())
        .filter(|&user| dominant[user] > 0.0)
        .collect();
    while !growing.is_empty() {
        // How fast each resource goes while all shares grow by one.
        let rate = |kind: usize| -> f64 {
            growing
                .iter()
                .map(|&user| demand[user][kind] / dominant[user])
                .sum()
        };
        let rates = [rate(0), rate(1), rate(2)];
        let step = |kind: usize| left[kind].max(0.0) / rates[kind];
        let Some(first) = (0..3)
            .filter(|&kind| rates[kind] > 0.0)
            .min_by(|&a, &b| step(a).partial_cmp(&step(b)).unwrap_or(Ordering::Equal))
        else {
            break;
        };
        let grown = step(first);
        for &user in &growing {
            tasks[user] += grown / dominant[user];
        }
        for kind in 0..3 {
            left[kind] -= grown * rates[kind];
        }
        left[first] = 0.0;
        growing.retain(|&user| demand[user][first] == 0.0);
    }
    tasks
}

#[cfg(test)]
mod tests;
