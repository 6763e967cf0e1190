use super::*;
use base::Rng;

const RUNS: u64 = 2000;
const EPSILON: f64 = 1e-9;

/// The notes' example, in thousandths.
#[test]
fn m12_max_min_golden() {
    assert_eq!(
        max_min(100_000, &[35_000, 10_000, 25_000, 45_000]),
        [32_500, 10_000, 25_000, 32_500]
    );
}

/// The notes' example: the shares are asserted, since they are what the notes equalize.
#[test]
fn m12_drf_golden() {
    let total = Resources::new(18_000, 36, 0);
    let demands = [Resources::new(2000, 8, 0), Resources::new(6000, 2, 0)];
    assert_eq!(drf(total, &demands), [3, 2]);
    for (demand, tasks) in demands.into_iter().zip([3, 2]) {
        let used = demand.checked_mul(tasks).unwrap();
        assert_eq!(used.dominant_share(total), Share::of(2, 3));
    }
}

/// The paper's example (section 4.1, figure 3).
#[test]
fn m12_drf_of_the_paper() {
    let total = Resources::new(9000, 18, 0);
    let demands = [Resources::new(1000, 4, 0), Resources::new(3000, 1, 0)];
    assert_eq!(drf(total, &demands), [3, 2]);
    let tasks = divisible(total, &demands);
    assert!((tasks[0] - 3.0).abs() < EPSILON && (tasks[1] - 2.0).abs() < EPSILON);
}

#[test]
fn max_min_of_nothing_and_of_nobody() {
    assert_eq!(max_min(10, &[]), []);
    assert_eq!(max_min(0, &[1, 2]), [0, 0]);
    assert_eq!(max_min(10, &[0, 3]), [0, 3]);
    assert_eq!(max_min(5, &[9, 9]), [3, 2]);
}

#[test]
fn max_min_gives_nobody_more_at_the_cost_of_who_has_less() {
    let mut rng = Rng::new(1);
    for _ in 0..RUNS {
        let demands: Vec<u64> = (0..rng.range(1, 9)).map(|_| rng.range(0, 50)).collect();
        let capacity = rng.range(0, 200);
        let given = max_min(capacity, &demands);
        let sum: u64 = given.iter().sum();
        assert_eq!(sum, capacity.min(demands.iter().sum()));
        for (at, &mine) in given.iter().enumerate() {
            assert!(mine <= demands[at]);
            // Who is not satisfied has as much as anybody, up to the unit that cannot be divided.
            if mine < demands[at] {
                assert!(given.iter().all(|&other| other <= mine + 1));
            }
        }
    }
}

#[test]
fn weights_scale_shares() {
    let mut shares = Shares::new(Resources::new(100, 100, 0));
    shares.join(1, 2);
    shares.join(2, 1);
    let one = Resources::new(1, 0, 0);
    for _ in 0..90 {
        let user = shares.next(|_| true).unwrap();
        shares.take(user, one);
    }
    assert_eq!(shares.used(1).cpu_milli, 60);
    assert_eq!(shares.used(2).cpu_milli, 30);
    assert_eq!(shares.share(1), shares.share(2));
    shares.give_back(1, one);
    assert_eq!(shares.next(|_| true), Some(1));
    assert_eq!(shares.next(|user| user == 2), Some(2));
    shares.leave(1);
    assert_eq!(shares.next(|_| true), Some(2));
}

fn drawn(rng: &mut Rng) -> (Resources, Vec<Resources>) {
    let total = Resources::new(
        rng.range(50, 500),
        rng.range(50, 500),
        rng.range(50, 500) * rng.range(0, 2),
    );
    let kinds = |rng: &mut Rng| {
        let disk = if total.disk_bytes == 0 { 1 } else { 10 };
        Resources::new(rng.range(0, 10), rng.range(1, 10), rng.range(0, disk))
    };
    let demands = (0..rng.range(2, 6)).map(|_| kinds(rng)).collect();
    (total, demands)
}

/// How many of its own tasks a user can run with what `tasks` of `of` take.
fn worth(mine: Resources, of: Resources, tasks: f64) -> f64 {
    let pairs = mine.amounts().into_iter().zip(of.amounts());
    pairs
        .filter(|(want, _)| *want > 0)
        .map(|(want, have)| have as f64 * tasks / want as f64)
        .fold(f64::INFINITY, f64::min)
}

#[test]
fn divisible_gives_everybody_at_least_an_equal_part() {
    let mut rng = Rng::new(2);
    for _ in 0..RUNS {
        let (total, demands) = drawn(&mut rng);
        let tasks = divisible(total, &demands);
        for (demand, got) in demands.iter().zip(&tasks) {
            let alone = worth(*demand, total, 1.0 / demands.len() as f64);
            assert!(*got >= alone * (1.0 - EPSILON), "{got} {alone} {demands:?}");
        }
    }
}

#[test]
fn divisible_leaves_nobody_to_envy() {
    let mut rng = Rng::new(3);
    for _ in 0..RUNS {
        let (total, demands) = drawn(&mut rng);
        let tasks = divisible(total, &demands);
        for (mine, got) in demands.iter().zip(&tasks) {
            for (other, theirs) in demands.iter().zip(&tasks) {
                assert!(worth(*mine, *other, *theirs) <= got * (1.0 + EPSILON) + EPSILON);
            }
        }
    }
}

#[test]
fn divisible_leaves_nothing_that_somebody_could_use() {
    let mut rng = Rng::new(4);
    for _ in 0..RUNS {
        let (total, demands) = drawn(&mut rng);
        let tasks = divisible(total, &demands);
        let used = |kind: usize| -> f64 {
            let each = demands.iter().zip(&tasks);
            each.map(|(d, got)| d.amounts()[kind] as f64 * got).sum()
        };
        for kind in 0..3 {
            assert!(used(kind) <= total.amounts()[kind] as f64 * (1.0 + EPSILON) + EPSILON);
        }
        for demand in &demands {
            let blocked = (0..3).any(|kind| {
                demand.amounts()[kind] > 0
                    && used(kind) >= total.amounts()[kind] as f64 * (1.0 - EPSILON) - EPSILON
            });
            assert!(
                blocked,
                "{demand:?} of {demands:?} could have more of {total:?}"
            );
        }
    }
}

#[test]
fn divisible_does_not_reward_a_lie() {
    let mut rng = Rng::new(5);
    for _ in 0..RUNS {
        let (total, demands) = drawn(&mut rng);
        let honest = divisible(total, &demands);
        let liar = rng.range(0, demands.len() as u64) as usize;
        let mut told = demands.clone();
        told[liar] = drawn(&mut rng).1[0];
        if total.disk_bytes == 0 {
            told[liar].disk_bytes = 0;
        }
        let lied = divisible(total, &told);
        let gained = worth(demands[liar], told[liar], lied[liar]);
        assert!(
            gained <= honest[liar] * (1.0 + EPSILON) + EPSILON,
            "{gained} > {} by {:?} for {demands:?} of {total:?}",
            honest[liar],
            told[liar]
        );
    }
}

#[test]
fn whole_tasks_leave_no_room_for_another_and_shares_within_a_task() {
    let mut rng = Rng::new(6);
    for _ in 0..RUNS / 10 {
        let (total, demands) = drawn(&mut rng);
        let tasks = drf(total, &demands);
        let used = demands
            .iter()
            .zip(&tasks)
            .fold(Resources::NONE, |sum, (d, n)| {
                sum.saturating_add(d.checked_mul(*n).unwrap())
            });
        let left = total.checked_sub(used).expect("never over capacity");
        assert!(demands.iter().all(|demand| !demand.fits(left)));
        // Nobody is more than one task ahead of a user who could still be given that task.
        let exact = divisible(total, &demands);
        for (got, fair) in tasks.iter().zip(&exact) {
            let room = demands.len() as f64 * 10.0;
            assert!(*got as f64 + room >= *fair, "{tasks:?} {exact:?}");
        }
    }
}
