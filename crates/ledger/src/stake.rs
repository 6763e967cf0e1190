//! Whose turn it is when weight is stake or votes: proof of stake by coin age (King, Nadal, "PPCoin", 2012), and
//! delegated proof of stake (Larimer, 2014). Pure functions; a draw takes its randomness as an argument, which in a
//! ledger comes from the block before.

use base::Rng;
use std::collections::BTreeMap;

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
