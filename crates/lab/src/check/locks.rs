//! Locks: who holds one on the tree holds it alone or with others that share it; fences are given out once and grow;
//! what a lock protects takes no change under an older fence than it has seen.

use crate::history::History;
use crate::locks::{Hold, LOCKS};
use coordination::lock::Mode;

/// Objections.
pub fn check(history: &History) -> Vec<String> {
    let mut objections = Vec::new();
    let locks = &history.locks;
    for (i, a) in locks.holds.iter().enumerate() {
        for b in locks.holds[i + 1..].iter().filter(|b| b.lock == a.lock) {
            if a.fence == b.fence {
                objections.push(format!("one fence for {} and {}", words(a), words(b)));
            }
            let both = a.mode == Mode::Exclusive && b.mode == Mode::Exclusive;
            if both && a.held_us < b.wanted_us && b.fence < a.fence {
                objections.push(format!(
                    "{} after {}, with a smaller fence",
                    words(b),
                    words(a)
                ));
            }
            // On the cache a holder that is late holds with another; fences are for that.
            let is_shared = a.mode == Mode::Shared && b.mode == Mode::Shared;
            let is_together = a.held_us.max(b.held_us) < a.confirmed_us.min(b.confirmed_us);
            if a.lock == LOCKS[0] && !is_shared && is_together {
                objections.push(format!("{} together with {}", words(a), words(b)));
            }
        }
    }
    for (lock, resource) in &locks.resources {
        if let Some(two) = resource.taken.windows(2).find(|two| two[1] < two[0]) {
            objections.push(format!(
                "what {lock} protects took a change under fence {} behind one under {}",
                two[1], two[0]
            ));
        }
    }
    objections
}

fn words(hold: &Hold) -> String {
    format!(
        "{} held by player {} ({:?}, fence {}) from {} to {} µs",
        hold.lock, hold.player, hold.mode, hold.fence, hold.held_us, hold.confirmed_us
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::Resource;

    fn hold(mode: Mode, fence: u64, held_us: u64, confirmed_us: u64) -> Hold {
        Hold {
            player: fence as usize,
            lock: LOCKS[0],
            mode,
            fence,
            wanted_us: held_us,
            held_us,
            confirmed_us,
        }
    }

    fn judged(holds: &[Hold]) -> usize {
        let mut history = History::default();
        history.locks.holds = holds.to_vec();
        check(&history).len()
    }

    #[test]
    fn holders_together_and_fences_that_repeat_or_shrink_are_found() {
        use Mode::{Exclusive, Shared};
        assert_eq!(
            judged(&[hold(Exclusive, 1, 10, 20), hold(Exclusive, 2, 20, 30)]),
            0
        );
        assert_eq!(
            judged(&[hold(Exclusive, 1, 10, 20), hold(Exclusive, 2, 15, 30)]),
            1
        );
        assert_eq!(
            judged(&[hold(Shared, 1, 10, 20), hold(Shared, 2, 15, 30)]),
            0
        );
        assert_eq!(
            judged(&[hold(Shared, 1, 10, 20), hold(Exclusive, 2, 15, 30)]),
            1
        );
        assert_eq!(
            judged(&[hold(Exclusive, 2, 10, 20), hold(Exclusive, 1, 20, 30)]),
            1
        );
        assert_eq!(
            judged(&[hold(Shared, 2, 10, 20), hold(Exclusive, 2, 20, 30)]),
            1
        );
    }

    #[test]
    fn changes_under_an_older_fence_are_found() {
        let mut history = History::default();
        let mut resource = Resource::default();
        resource.taken = vec![3, 3, 5, 4];
        history.locks.resources.insert(LOCKS[1], resource);
        assert_eq!(check(&history).len(), 1);
    }
}
