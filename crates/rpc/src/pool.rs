//! The instances of a service, and which of them gets the next attempt.

use crate::attempt::Link;
use base::Rng;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use traffic::balance::{Ask, Balance, Done, Method, Server};
use traffic::budget::RetryBudget;
use traffic::health::{Health, Rules};

/// Repetitions a second that are paid for in any case.
const REPEATED_LEAST_PER_S: f64 = 10.0;

/// An instance. It keeps its connection while it is registered.
pub(crate) struct Instance {
    /// `host:port`.
    pub address: String,
    weight: u32,
    in_flight: AtomicU32,
    pub link: Link,
}

struct State {
    instances: Vec<Arc<Instance>>,
    /// Registered, whether they pass their checks or not.
    registered: usize,
    balance: Box<dyn Balance>,
    health: Health,
    budget: RetryBudget,
    rng: Rng,
}

/// What stays the same of a pool.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub method: Method,
    pub rules: Rules,
    /// Part of all calls that may be repeated.
    pub budget: f64,
}

pub(crate) struct Pool {
    plan: Plan,
    start: Instant,
    state: Mutex<State>,
}

/// A place at an instance, given back when it is dropped.
pub(crate) struct Place {
    pool: Arc<Pool>,
    pub instance: Arc<Instance>,
}

impl Pool {
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            start: Instant::now(),
            state: Mutex::new(State {
                instances: Vec::new(),
                registered: 0,
                balance: plan.method.build(&[]),
                health: Health::new(plan.rules, 0),
                budget: RetryBudget::new(plan.budget, REPEATED_LEAST_PER_S),
                rng: Rng::new(crate::context::draw()),
            }),
        }
    }

    /// From now on these (address, weight) are the instances, of so many registered ones. Those that were there keep their
    /// connections; what was measured begins anew, since methods know servers by their places.
    pub fn set(&self, mut found: Vec<(String, u32)>, registered: usize) {
        found.sort();
        found.dedup_by(|a, b| a.0 == b.0);
        let mut state = self.state();
        state.registered = registered;
        let known = |instance: &Arc<Instance>| (instance.address.clone(), instance.weight);
        if state.instances.iter().map(known).eq(found.iter().cloned()) {
            return;
        }
        let old = std::mem::take(&mut state.instances);
        let kept =
            |new: &(String, u32)| old.iter().find(|instance| known(instance) == *new).cloned();
        state.instances = (found.iter())
            .map(|new| {
                kept(new).unwrap_or_else(|| {
                    let (address, weight) = new.clone();
                    Arc::new(Instance {
                        link: Link::new(&address),
                        in_flight: AtomicU32::new(0),
                        address,
                        weight,
                    })
                })
            })
            .collect();
        state.balance = self.plan.method.build(&found);
        state.health = Health::new(self.plan.rules, found.len());
    }

    /// A call came.
    pub fn handle_call(&self) {
        self.state().budget.handle_request();
    }

    /// Pays for a repetition, or refuses it.
    pub fn pay(&self) -> bool {
        let now_us = self.now_us();
        self.state().budget.acquire(now_us)
    }

    /// How many instances there are.
    pub fn size(&self) -> usize {
        self.state().instances.len()
    }

    /// Why there is no place, in words.
    pub fn excuse(&self, service: &str) -> String {
        match self.state().registered {
            0 => format!("no instance of {service:?} is registered"),
            n => format!("none of the {n} instances of {service:?} passes its checks"),
        }
    }

    /// A place at an instance that this call has not tried, or, when it has tried all, at any; `None` when there is none.
    pub fn acquire(self: &Arc<Self>, tried: &[String]) -> Option<Place> {
        let now_us = self.now_us();
        let mut state = self.state();
        let State {
            instances,
            balance,
            health,
            rng,
            ..
        } = &mut *state;
        let usable = health.usable(now_us);
        let mut servers: Vec<Server> = (instances.iter().zip(&usable))
            .map(|(instance, usable)| Server {
                weight: instance.weight,
                in_flight: instance.in_flight.load(Ordering::Relaxed),
                usable: *usable && !tried.contains(&instance.address),
            })
            .collect();
        if servers.iter().all(|server| !server.usable) {
            for (server, usable) in servers.iter_mut().zip(usable) {
                server.usable = usable;
            }
        }
        let picked = balance.pick(&mut Ask {
            servers: &servers,
            key: 0,
            now_us,
            rng,
        })?;
        let instance = instances[picked].clone();
        instance.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Place {
            pool: self.clone(),
            instance,
        })
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// Nothing panics while it holds the lock; if something did, what it guards is still whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The attempt ended; `ok` says whether the instance did its part, whatever it answered.
    pub fn judge(&self, ok: bool, latency: Duration) {
        let now_us = self.pool.now_us();
        let mut state = self.pool.state();
        let is_it = |other: &Arc<Instance>| Arc::ptr_eq(other, &self.instance);
        // It may be gone by now.
        let Some(place) = state.instances.iter().position(is_it) else {
            return;
        };
        state.health.handle_result(place, now_us, ok);
        let latency_us = latency.as_micros() as u64;
        let done = Done {
            now_us,
            latency_us,
            ok,
        };
        state.balance.handle_done(place, done);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.instance.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(method: Method) -> Arc<Pool> {
        let plan = Plan {
            method,
            rules: Rules {
                eject_us: 3_600_000_000,
                eject_us_max: 3_600_000_000,
                ..Rules::default()
            },
            budget: 0.2,
        };
        Arc::new(Pool::new(plan))
    }

    fn three() -> Vec<(String, u32)> {
        ["a:1", "b:1", "c:1"]
            .map(|name| (name.to_owned(), 1))
            .into()
    }

    fn take(pool: &Arc<Pool>, tried: &[&str]) -> String {
        let tried: Vec<String> = tried.iter().map(|name| (*name).to_owned()).collect();
        let place = pool.acquire(&tried).expect("an instance");
        place.instance.address.clone()
    }

    #[test]
    fn instances_take_turns_and_one_that_was_tried_is_left_out_while_there_is_another() {
        let pool = pool(Method::RoundRobin);
        assert!(pool.acquire(&[]).is_none());
        pool.set(three(), 3);
        assert_eq!(
            [(); 4].map(|()| take(&pool, &[])),
            ["a:1", "b:1", "c:1", "a:1"]
        );
        assert_eq!([(); 2].map(|()| take(&pool, &["b:1"])), ["c:1", "a:1"]);
        assert_eq!(take(&pool, &["a:1", "b:1", "c:1"]), "b:1");
    }

    #[test]
    fn instance_that_fails_is_left_out_but_never_more_than_half_of_them() {
        let pool = pool(Method::RoundRobin);
        pool.set(three(), 3);
        let fail = |name: &str| {
            for _ in 0..20 {
                let place = pool.acquire(&[]).expect("an instance");
                place.judge(place.instance.address != name, Duration::from_millis(1));
            }
        };
        fail("b:1");
        let picked = [(); 6].map(|()| take(&pool, &[]));
        assert!(picked.iter().all(|name| name != "b:1"), "{picked:?}");
        fail("a:1");
        let picked = [(); 6].map(|()| take(&pool, &[]));
        assert!(picked.iter().any(|name| name == "a:1"), "{picked:?}");
    }

    #[test]
    fn instances_that_stay_keep_their_connections() {
        let pool = pool(Method::TwoChoices);
        pool.set(three(), 3);
        let held = pool.acquire(&["a:1".into(), "b:1".into()]).expect("c");
        pool.set(three().split_off(1), 2);
        let again = pool.acquire(&["b:1".into()]).expect("c");
        assert!(Arc::ptr_eq(&held.instance, &again.instance));
        assert_eq!(again.instance.in_flight.load(Ordering::Relaxed), 2);
        drop((held, again));
        pool.set(Vec::new(), 2);
        assert!(pool.acquire(&[]).is_none());
        assert!(pool.excuse("x").contains("none of the 2"));
        pool.set(Vec::new(), 0);
        assert!(pool.excuse("x").contains("registered"));
    }
}
