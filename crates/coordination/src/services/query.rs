//! What may be read of the services.

use super::{Check, Entry, Instance, Service, Services, Status};
use std::collections::{BTreeMap, BTreeSet};

/// A question about the services.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// The names of all services, with their instances' tags.
    Names,
    /// The instances of one service, with their checks.
    Service {
        /// Its name.
        name: String,
    },
    /// The same, whose name may be written in capital letters or not. Not to be waited for.
    AnyCase {
        /// Its name.
        name: String,
    },
    /// All instances, with their checks.
    Instances,
    /// All checks.
    Checks,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Of `Names`.
    Names(BTreeMap<String, BTreeSet<String>>),
    /// Of `Service` and `Instances`.
    Instances(Vec<Found>),
    /// Of `Checks`.
    Checks(Vec<CheckView>),
}

/// An instance that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// What was registered.
    pub instance: Instance,
    /// Its checks, and those of its node.
    pub checks: Vec<CheckView>,
    /// The revision at which it was first registered.
    pub created: u64,
    /// The revision of its last change.
    pub modified: u64,
}

impl Found {
    /// The worst that its checks say.
    pub fn status(&self) -> Status {
        let said = self.checks.iter().map(|view| view.check.status);
        said.max().unwrap_or(Status::Passing)
    }
}

/// A check, and of its instance what is shown with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckView {
    /// The check.
    pub check: Check,
    /// Its service's name, or empty.
    pub service: String,
    /// Its instance's tags.
    pub tags: Vec<String>,
}

impl Services {
    /// The answer, and its index: it is higher whenever the answer may be another. Never 0.
    pub fn read(&self, query: &Query) -> (u64, Answer) {
        let (index, answer) = match query {
            Query::Names => {
                let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
                for entry in self.instances.values() {
                    let tags = names.entry(entry.instance.service.clone()).or_default();
                    tags.extend(entry.instance.tags.iter().cloned());
                }
                (self.names, Answer::Names(names))
            }
            Query::Service { name } => self.read_service(self.services.get(name)),
            Query::AnyCase { name } => {
                let is_it = |(own, _): &(&String, _)| own.eq_ignore_ascii_case(name);
                let exact = self.services.get(name);
                let other = || self.services.iter().find(is_it).map(|(_, service)| service);
                self.read_service(exact.or_else(other))
            }
            Query::Instances => {
                let found = self.instances.keys().filter_map(|id| self.found(id));
                (self.revision, Answer::Instances(found.collect()))
            }
            Query::Checks => {
                let views = self.checks.values().map(|check| self.view(check));
                (self.revision, Answer::Checks(views.collect()))
            }
        };
        (index.max(1), answer)
    }

    fn read_service(&self, service: Option<&Service>) -> (u64, Answer) {
        match service {
            Some(service) => {
                let found = service.instances.iter().filter_map(|id| self.found(id));
                (service.index, Answer::Instances(found.collect()))
            }
            None => (self.extinct, Answer::Instances(Vec::new())),
        }
    }

    fn found(&self, id: &str) -> Option<Found> {
        let entry: &Entry = self.instances.get(id)?;
        let named = |id: &str| self.checks_of.get(id).into_iter().flatten();
        let own = named(id).filter_map(|id| self.checks.get(id));
        let of_node = named("").filter_map(|id| self.checks.get(id));
        let of_node = of_node.filter(|check| check.home == entry.instance.node);
        Some(Found {
            instance: entry.instance.clone(),
            checks: own.chain(of_node).map(|check| self.view(check)).collect(),
            created: entry.created,
            modified: entry.modified,
        })
    }

    fn view(&self, check: &Check) -> CheckView {
        let instance = self.instances.get(&check.spec.instance);
        CheckView {
            check: check.clone(),
            service: instance
                .map(|e| e.instance.service.clone())
                .unwrap_or_default(),
            tags: instance
                .map(|e| e.instance.tags.clone())
                .unwrap_or_default(),
        }
    }
}
