//! What a host is told at its start.

use crate::gateway::GatewayConfig;
use crate::lab::Lab;
use crate::{FilesConfig, HostError};
use node::{CoreConfig, FrontEnd};
use scheduling::Resources;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything about one node on one machine.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Data directory; made if missing.
    pub data: PathBuf,
    /// Where clients are served; a front end without an address is off.
    pub clients: BTreeMap<FrontEnd, SocketAddr>,
    /// Where other nodes reach this one.
    pub peers: SocketAddr,
    /// Where people are served over HTTP; `None` leaves it off.
    pub console: Option<SocketAddr>,
    /// Where services are told over DNS, by UDP and TCP; `None` leaves it off.
    pub dns: Option<SocketAddr>,
    /// Where global transactions are taken over HTTP; `None` leaves it off.
    pub dtm: Option<SocketAddr>,
    /// `host:port` under which other nodes reach this one; `peers` when absent.
    pub advertise: Option<String>,
    /// Inter-node addresses of all initial members, this node's among them. Empty: wait to be told to join.
    pub initial_members: Vec<String>,
    /// Cores to run, from 1 to 256; may change between runs.
    pub cores: u16,
    /// Journal lanes, from 1 to 256; fixed when the directory is made. `None`: what the directory has, 1 for a new one.
    pub lanes: Option<u16>,
    /// Allows binding beyond loopback without TLS.
    pub insecure: bool,
    /// Most client connections of the whole node at a time.
    pub clients_max: usize,
    /// Data are not added while less of a disk is free, in percent from 0 (never refused) to 100.
    pub disk_free_min_percent: u8,
    /// Host names, besides `localhost` and IP addresses, under which the console may be asked.
    pub console_hosts: Vec<String>,
    /// The gateway; `None` leaves it off.
    pub gateway: Option<GatewayConfig>,
    /// How files are kept.
    pub files: FilesConfig,
    /// The agent that runs tasks here; `None` leaves it off.
    pub agent: Option<AgentPlan>,
    /// The laboratory behind the console, where there is one.
    pub lab: Option<Arc<Lab>>,
    /// What the cores are told; the host fills in core, cores, lanes, address, members, identity, seed and secret.
    pub core: CoreConfig,
}

/// How this machine runs tasks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentPlan {
    /// For people; `None`: where other nodes reach this one.
    pub name: Option<String>,
    /// Its failure domain; may be empty.
    pub zone: String,
    /// What tasks may ask for.
    pub attributes: BTreeMap<String, String>,
    /// Packages that it has.
    pub packages: BTreeSet<String>,
    /// What it has to give; `None`: what the machine has.
    pub resources: Option<Resources>,
    /// From one beat to the next, milliseconds.
    pub beat_ms: u32,
    /// So many beats missed, and it is lost.
    pub misses: u32,
    /// Bytes of a task's log that are kept, about.
    pub log_bytes_max: u64,
    /// Whether control groups limit tasks, where the machine allows it.
    pub cgroups: bool,
}

impl Default for AgentPlan {
    fn default() -> Self {
        Self {
            name: None,
            zone: String::new(),
            attributes: BTreeMap::new(),
            packages: BTreeSet::new(),
            resources: None,
            beat_ms: 1_000,
            misses: 3,
            log_bytes_max: 1 << 20,
            cgroups: true,
        }
    }
}

impl AgentPlan {
    /// Refuses what cannot be, in words of the configuration.
    ///
    /// # Errors
    /// Which value, and what it has to be.
    pub fn check(&self) -> Result<(), String> {
        let lease_ms = u64::from(self.beat_ms) * u64::from(self.misses);
        if self.beat_ms < 50 || self.misses < 2 || !(400..=86_400_000).contains(&lease_ms) {
            return Err(format!(
                "agent.beat_ms = {} must be at least 50, agent.misses = {} at least 2, and their product from 400 to 86400000 (a day)",
                self.beat_ms, self.misses
            ));
        }
        Ok(())
    }
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            data: PathBuf::from("althing-data"),
            clients: FrontEnd::ALL
                .map(|front| (front, ([127, 0, 0, 1], front.port()).into()))
                .into(),
            peers: ([127, 0, 0, 1], 7401).into(),
            console: Some(([127, 0, 0, 1], 7400).into()),
            dns: Some(([127, 0, 0, 1], 8600).into()),
            dtm: Some(([127, 0, 0, 1], 36789).into()),
            advertise: None,
            initial_members: vec!["127.0.0.1:7401".into()],
            cores: 1,
            lanes: None,
            insecure: false,
            clients_max: 60_000,
            disk_free_min_percent: 5,
            console_hosts: Vec::new(),
            gateway: None,
            files: FilesConfig::default(),
            agent: None,
            lab: None,
            core: CoreConfig::default(),
        }
    }
}

impl HostConfig {
    /// Where others reach this node.
    pub fn address(&self) -> String {
        self.advertise
            .clone()
            .unwrap_or_else(|| self.peers.to_string())
    }

    /// Where clients reach this node, by protocol: the host that other nodes use, where all are listened on.
    pub fn advertised(&self) -> BTreeMap<FrontEnd, String> {
        (self.clients.iter())
            .map(|(front, at)| (*front, self.reached(*at)))
            .collect()
    }

    /// Where others reach what listens at `at`: under the host that they know this node by, where that is all
    /// addresses.
    pub fn reached(&self, at: SocketAddr) -> String {
        let own = self.address();
        let host = own.rsplit_once(':').map_or(own.as_str(), |(host, _)| host);
        match at.ip().is_unspecified() {
            true => format!("{host}:{}", at.port()),
            false => at.to_string(),
        }
    }

    /// Refuses what cannot work or must not be, without touching the machine.
    pub fn check(&self) -> Result<(), HostError> {
        let refuse = |text: String| Err(HostError::Config(text));
        for (name, value) in [("cores", Some(self.cores)), ("lanes", self.lanes)] {
            if value.is_some_and(|n| n == 0 || n > 256) {
                return refuse(format!(
                    "{name} must be from 1 to 256, not {}",
                    value.unwrap_or(0)
                ));
            }
        }
        if self.clients_max == 0 {
            return refuse("clients_max must be at least 1".into());
        }
        if self.disk_free_min_percent > 100 {
            return refuse(format!(
                "disk_free_min_percent = {} must be from 0 to 100",
                self.disk_free_min_percent
            ));
        }
        let mut listeners = vec![("peers", self.peers)];
        listeners.extend(self.clients.iter().map(|(front, at)| (front.key(), *at)));
        listeners.extend(self.console.map(|at| ("console", at)));
        listeners.extend(self.gateway.as_ref().map(|g| ("gateway", g.address)));
        listeners.extend(self.dns.map(|at| ("dns", at)));
        listeners.extend(self.dtm.map(|at| ("dtm", at)));
        for (name, address) in listeners {
            if !address.ip().is_loopback() && !self.insecure {
                return refuse(format!(
                    "listen.{name} = \"{address}\" is reachable from other machines, and there is no TLS yet: \
                     anyone who can connect could read and change everything. Listen on 127.0.0.1, \
                     or write `insecure = true` in the configuration if the network is yours alone"
                ));
            }
        }
        if self.peers.ip().is_unspecified() && self.advertise.is_none() {
            return refuse(format!(
                "listen.peers = \"{}\" does not say under which address other nodes reach this one: set `advertise = \"host:port\"`",
                self.peers
            ));
        }
        let address = self.address();
        if !self.initial_members.is_empty() && (!self.core.join.is_empty() || self.core.observes) {
            return refuse(
                "initial_members form a cluster; a node that is added to one, or observes it, has `join` alone: \
                 leave initial_members out"
                    .into(),
            );
        }
        if self.core.join.contains(&address) {
            return refuse(format!(
                "join names this node itself ({address}): name other members"
            ));
        }
        if !self.initial_members.is_empty() && !self.initial_members.contains(&address) {
            return refuse(format!(
                "initial_members does not name this node itself ({address}): add it, or set `advertise` to the address in the list"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_beyond_loopback_without_insecure_is_refused() {
        let mut config = HostConfig {
            clients: BTreeMap::from([(FrontEnd::Zookeeper, ([0, 0, 0, 0], 2181).into())]),
            ..HostConfig::default()
        };
        let message = config.check().unwrap_err().to_string();
        assert!(message.contains("listen.zookeeper") && message.contains("insecure = true"));
        config.insecure = true;
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn node_that_joins_names_others_and_forms_nothing() {
        let mut config = HostConfig::default();
        config.core.join = vec!["10.0.0.1:7401".into()];
        assert!(config.check().unwrap_err().to_string().contains("alone"));
        config.initial_members.clear();
        assert_eq!(config.check(), Ok(()));
        config.core.join.push("127.0.0.1:7401".into());
        assert!(config.check().unwrap_err().to_string().contains("itself"));
    }

    #[test]
    fn initial_members_without_this_node_are_refused() {
        let config = HostConfig {
            initial_members: vec!["10.0.0.1:7401".into()],
            ..HostConfig::default()
        };
        assert!(config.check().unwrap_err().to_string().contains("itself"));
    }

    #[test]
    fn unspecified_peer_address_without_advertise_is_refused() {
        let config = HostConfig {
            peers: ([0, 0, 0, 0], 7401).into(),
            insecure: true,
            ..HostConfig::default()
        };
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("advertise")
        );
    }
}
