//! Which servers are asked at all: by how requests end, and by probes.
//!
//! Passive: so many failures in a row eject a server for a time that grows with each ejection, as Envoy's outlier detection
//! does; at most a part of all servers is ejected, since if all fail alike it is not the servers' fault. Active: `fall` failed
//! probes take a server out, `rise` good ones bring it back. Panic: when fewer than a part are left, all are asked, since
//! few healthy ones would drown under everybody's load. Cost: one step a result, one pass to list the usable ones.

/// The rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Failures in a row that eject; 0: never.
    pub failures_max: u32,
    /// How long the first ejection lasts, in microseconds; the n-th lasts n times as long.
    pub eject_us: u64,
    /// No ejection lasts longer.
    pub eject_us_max: u64,
    /// Of all servers, at most this part is ejected, in percent. One of several always may be.
    pub ejected_percent_max: u32,
    /// When a smaller part than this is usable, in percent, all are used.
    pub panic_percent: u32,
    /// Good probes in a row that bring a server back.
    pub rise: u32,
    /// Failed probes in a row that take it out.
    pub fall: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            failures_max: 5,
            eject_us: 5_000_000,
            eject_us_max: 60_000_000,
            ejected_percent_max: 50,
            panic_percent: 30,
            rise: 2,
            fall: 3,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Server {
    failures: u32,
    ejected_until_us: u64,
    ejections: u32,
    is_down: bool,
    probes: u32,
}

/// The health of a list of servers, named by their places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    rules: Rules,
    servers: Vec<Server>,
}

impl Health {
    /// All healthy.
    pub fn new(rules: Rules, servers: usize) -> Self {
        Self {
            rules,
            servers: vec![Server::default(); servers],
        }
    }

    /// A request ended.
    pub fn handle_result(&mut self, server: usize, now_us: u64, ok: bool) {
        let (n, ejected) = (self.servers.len(), self.ejected(now_us));
        let Some(state) = self.servers.get_mut(server) else {
            return;
        };
        if ok {
            state.failures = 0;
            if now_us >= state.ejected_until_us {
                state.ejections = state.ejections.saturating_sub(1);
            }
            return;
        }
        state.failures = state.failures.saturating_add(1);
        let is_out = state.ejected_until_us > now_us;
        let allowed = (n * self.rules.ejected_percent_max as usize / 100).max(1);
        let may = n > 1 && ejected < allowed && !is_out;
        if self.rules.failures_max > 0 && state.failures >= self.rules.failures_max && may {
            state.ejections = state.ejections.saturating_add(1);
            let time = self.rules.eject_us.saturating_mul(state.ejections.into());
            state.ejected_until_us = now_us.saturating_add(time.min(self.rules.eject_us_max));
            state.failures = 0;
        }
    }

    /// A probe ended.
    pub fn handle_probe(&mut self, server: usize, ok: bool) {
        let Some(state) = self.servers.get_mut(server) else {
            return;
        };
        if ok != state.is_down {
            state.probes = 0;
            return;
        }
        state.probes += 1;
        let enough = if ok { self.rules.rise } else { self.rules.fall };
        if state.probes >= enough.max(1) {
            state.is_down = !ok;
            state.probes = 0;
        }
    }

    /// Nothing is known against the server.
    pub fn is_healthy(&self, server: usize, now_us: u64) -> bool {
        (self.servers.get(server)).is_some_and(|s| !s.is_down && s.ejected_until_us <= now_us)
    }

    /// Too few are healthy, so all are used.
    pub fn is_panic(&self, now_us: u64) -> bool {
        let n = self.servers.len();
        let healthy = (0..n).filter(|i| self.is_healthy(*i, now_us)).count();
        healthy * 100 < n * self.rules.panic_percent as usize
    }

    /// For each server whether it may be asked.
    pub fn usable(&self, now_us: u64) -> Vec<bool> {
        let panic = self.is_panic(now_us);
        (0..self.servers.len())
            .map(|i| panic || self.is_healthy(i, now_us))
            .collect()
    }

    /// In a word, for people: `healthy`, `ejected` or `down`.
    pub fn word(&self, server: usize, now_us: u64) -> &'static str {
        match self.servers.get(server) {
            Some(state) if state.is_down => "down",
            Some(state) if state.ejected_until_us > now_us => "ejected",
            _ => "healthy",
        }
    }

    fn ejected(&self, now_us: u64) -> usize {
        let out = |s: &&Server| s.ejected_until_us > now_us;
        self.servers.iter().filter(out).count()
    }
}
