//! The routes and servers in use, made from a plan and from what was in use before.

use super::file::{FallbackPlan, Plan};
use super::route::{Route, State};
use super::upstream::Upstream;
use crate::clock::Clock;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use traffic::signals::Signals;

/// What requests are answered by. A request keeps the table that it began with.
pub struct Table {
    /// What the file says.
    pub plan: Plan,
    /// In the order in which they are tried.
    pub routes: Vec<Rc<Route>>,
    /// By name.
    pub upstreams: BTreeMap<String, Rc<Upstream>>,
}

impl Table {
    /// Groups whose plan is the same stay, with all that is known of their servers; routes keep their counts, and while
    /// their limits stay the same, these too.
    pub fn new(plan: Plan, before: Option<&Self>, clock: Clock) -> Self {
        let upstreams: BTreeMap<String, Rc<Upstream>> = (plan.upstreams.iter())
            .map(|(name, plan)| {
                let same = before
                    .and_then(|before| before.upstreams.get(name))
                    .filter(|upstream| upstream.plan == *plan);
                let upstream = same.map_or_else(|| Upstream::new(plan, clock), Rc::clone);
                (name.clone(), upstream)
            })
            .collect();
        let routes = (plan.routes.iter())
            .filter_map(|plan| {
                let old = before
                    .and_then(|before| before.routes.iter().find(|r| r.plan.name == plan.name));
                let bounds = plan.alarm.bounds();
                let signals = match old {
                    Some(old) => {
                        old.signals.borrow_mut().set_bounds(bounds);
                        old.signals.clone()
                    }
                    None => Rc::new(RefCell::new(Signals::new(bounds))),
                };
                let same = old.filter(|old| {
                    (&old.plan.limits, &old.plan.retry, old.plan.in_flight_max)
                        == (&plan.limits, &plan.retry, plan.in_flight_max)
                });
                let state = match same {
                    Some(old) => old.state.clone(),
                    None => Rc::new(RefCell::new(State::new(plan))),
                };
                let fallbacks = (plan.fallback.iter())
                    .filter_map(|step| match step {
                        FallbackPlan::Upstream(step) => Some(&step.upstream),
                        _ => None,
                    })
                    .filter_map(|name| Some((name.clone(), upstreams.get(name)?.clone())))
                    .collect();
                Some(Rc::new(Route {
                    upstream: upstreams.get(plan.upstream.get_ref())?.clone(),
                    plan: plan.clone(),
                    fallbacks,
                    signals,
                    state,
                }))
            })
            .collect();
        Self {
            plan,
            routes,
            upstreams,
        }
    }
}
