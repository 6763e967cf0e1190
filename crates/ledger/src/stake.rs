//! Whose turn it is when weight is stake or votes: proof of stake by coin age (King, Nadal, "PPCoin", 2012), and
//! delegated proof of stake (Larimer, 2014). Pure functions; a draw takes its randomness as an argument, which in a
//! ledger comes from the block before.

use base::Rng;
use std::collections::BTreeMap;

/// Marks a value of a ledger that is a vote.
const VOTE: u64 = 1 << 63;

/// Names an account.
pub type Account = u64;
/// Interest a year, in hundredths.
const PERCENT_A_YEAR: f64 = 5.0;

/// What an account has at stake.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stake {
    /// Whose.
    pub account: Account,
    /// Coins.
    pub coins: u64,
    /// Days since they last moved, or won.
    pub days: u64,
}

impl Stake {
    /// Its weight: coins × days × 5 % / 365.
    pub fn weight(&self) -> f64 {
        self.coins as f64 * self.days as f64 * PERCENT_A_YEAR / 100.0 / 365.0
    }
}

/// Who makes the next block: one of the stakes, as often as it weighs. `None` when nothing weighs anything.
pub fn draw(stakes: &[Stake], rng: &mut Rng) -> Option<Account> {
    // In hundred-thousandths of a coin day, so that the draw is exact and the same on all machines.
    let of = |stake: &Stake| stake.coins.saturating_mul(stake.days);
    let sum: u64 = stakes.iter().map(of).sum();
    if sum == 0 {
        return None;
    }
    let mut left = rng.range(0, sum);
    stakes.iter().find_map(|stake| {
        let weight = of(stake);
        if left < weight {
            return Some(stake.account);
        }
        left -= weight;
        None
    })
}

/// A vote, as a ledger holds it: a value with its greatest bit set. It takes the place of all that its voter said
/// before, and weighs as much as its voter has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vote {
    /// A voter's later votes have greater numbers; below 2^47.
    pub number: u64,
    /// Who votes; at most 255.
    pub voter: Account,
    /// For whom; at most 255.
    pub candidate: Account,
}

impl Vote {
    /// The value that stands for it.
    pub fn value(self) -> u64 {
        VOTE | self.number << 16 | (self.voter & 0xFF) << 8 | self.candidate & 0xFF
    }

    /// The vote that a value stands for, if it does for any.
    pub fn of(value: u64) -> Option<Self> {
        (value & VOTE != 0).then_some(Self {
            number: (value & !VOTE) >> 16,
            voter: value >> 8 & 0xFF,
            candidate: value & 0xFF,
        })
    }
}

/// How everybody has voted: each voter's latest word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Votes(BTreeMap<Account, (u64, Vec<Account>)>);

impl Votes {
    /// Before the first vote, among accounts 1 to `count`: everybody is for itself, and for the next one.
    pub fn new(count: Account) -> Self {
        let first = |voter| (voter, (0, vec![voter, voter % count + 1]));
        Self((1..=count).map(first).collect())
    }

    /// One more. Passed over are those of nobody, for nobody, and those that are not later than what their voter
    /// said last.
    pub fn count(&mut self, vote: Vote) {
        if self.0.contains_key(&vote.candidate)
            && let Some(said) = self.0.get_mut(&vote.voter)
            && said.0 < vote.number
        {
            *said = (vote.number, vec![vote.candidate]);
        }
    }

    /// The `active` with the most behind them, and all others behind those. `coins`: what an account has.
    pub fn elect(&self, coins: impl Fn(Account) -> u64, active: usize) -> Delegates {
        let nothing = self.0.keys().map(|account| (0, *account));
        let said = (self.0.iter()).flat_map(|(voter, (_, candidates))| {
            let weight = coins(*voter);
            candidates.iter().map(move |candidate| (weight, *candidate))
        });
        let votes: Vec<(u64, Account)> = nothing.chain(said).collect();
        Delegates::elect(&votes, active)
    }
}

/// Delegates by votes: the first `count` make blocks in turn, those behind them stand by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delegates {
    /// Equal among themselves.
    pub active: Vec<Account>,
    /// Take the place of an active one that misses its turns, in this order.
    pub standby: Vec<Account>,
}

impl Delegates {
    /// Each vote counts as much as its voter has; of two with as many the smaller account is first.
    pub fn elect(votes: &[(u64, Account)], count: usize) -> Self {
        let mut sums: BTreeMap<Account, u64> = BTreeMap::new();
        for (coins, candidate) in votes {
            *sums.entry(*candidate).or_default() += coins;
        }
        let mut all: Vec<Account> = sums.keys().copied().collect();
        all.sort_by_key(|candidate| std::cmp::Reverse(sums[candidate]));
        let standby = all.split_off(count.min(all.len()));
        Self {
            active: all,
            standby,
        }
    }

    /// The order of one round: everybody once, shuffled by the round's seed, so that nobody always follows the same.
    pub fn round(&self, seed: u64) -> Vec<Account> {
        let mut order = self.active.clone();
        let mut rng = Rng::new(seed);
        for i in (1..order.len()).rev() {
            order.swap(i, rng.range(0, i as u64 + 1) as usize);
        }
        order
    }

    /// An active delegate has missed too many turns: the first that stands by takes its place, and it
    /// goes to the end of the line.
    pub fn replace(&mut self, missing: Account) {
        let place = self.active.iter().position(|account| *account == missing);
        if let (Some(place), false) = (place, self.standby.is_empty()) {
            self.active[place] = self.standby.remove(0);
            self.standby.push(missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stake(account: Account, coins: u64, days: u64) -> Stake {
        Stake {
            account,
            coins,
            days,
        }
    }

    #[test]
    fn m05_coin_age_of_a_thousand_coins_and_73_days_is_ten() {
        assert!((stake(1, 1_000, 73).weight() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn m05_a_thousand_draws_follow_the_weights_within_five_percent() {
        let stakes = [stake(1, 1_000, 73), stake(2, 500, 73), stake(3, 250, 292)];
        let sum: f64 = stakes.iter().map(Stake::weight).sum();
        for seed in 0..20 {
            let mut rng = Rng::new(seed);
            let mut won: BTreeMap<Account, u32> = BTreeMap::new();
            for _ in 0..1_000 {
                let account = draw(&stakes, &mut rng).expect("somebody has a stake");
                *won.entry(account).or_default() += 1;
            }
            for stake in &stakes {
                let share = f64::from(won[&stake.account]) / 1_000.0;
                let expected = stake.weight() / sum;
                assert!(
                    (share - expected).abs() < 0.05,
                    "seed {seed}: {share}, {expected}"
                );
            }
        }
        assert_eq!(draw(&[stake(1, 10, 0)], &mut Rng::new(1)), None);
    }

    #[test]
    fn m05_latest_vote_of_a_voter_counts_and_weighs_its_coins() {
        let coins = |account| 100 + 10 * account;
        let mut votes = Votes::new(5);
        assert_eq!(votes.elect(coins, 4).active, [5, 4, 1, 3]);
        let vote = |number, voter, candidate| Vote {
            number,
            voter,
            candidate,
        };
        for given in [vote(2, 2, 2), vote(2, 3, 2), vote(1, 3, 5)] {
            assert_eq!(Vote::of(given.value()), Some(given));
            votes.count(given);
        }
        let expected = Delegates {
            active: vec![2, 5, 1, 4],
            standby: vec![3],
        };
        assert_eq!(votes.elect(coins, 4), expected, "the older one came late");
        // Of nobody, and for nobody.
        votes.count(vote(9, 6, 3));
        votes.count(vote(9, 2, 6));
        assert_eq!(votes.elect(coins, 4), expected);
        votes.count(vote(3, 3, 5));
        votes.count(vote(3, 2, 5));
        assert_eq!(votes.elect(coins, 4).standby, [3]);
        assert_eq!(Vote::of(7), None);
    }

    #[test]
    fn m05_delegates_take_turns_and_those_behind_them_stand_by() {
        let votes = [(50, 7), (40, 3), (30, 9), (20, 5), (25, 5), (30, 4)];
        let mut delegates = Delegates::elect(&votes, 3);
        assert_eq!(delegates.active, [7, 5, 3]);
        assert_eq!(delegates.standby, [4, 9]);
        let mut turns: BTreeMap<Account, u32> = BTreeMap::new();
        let mut orders = std::collections::BTreeSet::new();
        for round in 0..60 {
            let order = delegates.round(round);
            assert_eq!(order.len(), 3);
            for account in &order {
                *turns.entry(*account).or_default() += 1;
            }
            orders.insert(order);
        }
        assert_eq!(turns.values().copied().collect::<Vec<_>>(), [60, 60, 60]);
        assert_eq!(orders.len(), 6, "all orders come");
        delegates.replace(5);
        assert_eq!(
            (delegates.active, delegates.standby),
            (vec![7, 4, 3], vec![9, 5])
        );
    }
}
