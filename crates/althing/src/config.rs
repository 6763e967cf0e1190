//! The configuration file: TOML, with unknown keys refused, and `ALTHING_…` variables over it.

use crate::{Failure, Outcome};
use host::gateway::GatewayConfig;
use host::{AgentPlan, FilesConfig, HostConfig};
use node::{CoreConfig, Durability, FrontEnd, Policy, PoolSpec};
use scheduling::Resources;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Every key, as it is written with dots; also the names that a typo is compared with, and the
/// environment variables (`listen.peers` is `ALTHING_LISTEN_PEERS`).
const KEYS: &[&str] = &[
    "data",
    "advertise",
    "initial_members",
    "join",
    "observer",
    "standby_of",
    "cores",
    "lanes",
    "insecure",
    "clients_max",
    "disk_free_min_percent",
    "console_hosts",
    "superuser_digest",
    "data_bytes_max",
    "listen.zookeeper",
    "listen.redis",
    "listen.kafka",
    "zone",
    "monitors",
    "listen.peers",
    "listen.console",
    "listen.gateway",
    "gateway.routes",
    "listen.dns",
    "listen.dtm",
    "zookeeper.superuser_digest",
    "zookeeper.data_bytes_max",
    "zookeeper.session_timeout_ms",
    "raft.tick_ms",
    "raft.election_ticks",
    "raft.heartbeat_ticks",
    "raft.snapshot_log_bytes",
    "pools.main_shards",
    "cache.durability",
    "cache.shards",
    "cache.redirects",
    "kafka.auto_create_topics_enable",
    "kafka.num_partitions",
    "files.serve",
    "files.chunk_bytes",
    "files.copies",
    "files.copies_min",
    "files.lease_ms",
    "files.copy_after_ms",
    "files.repair_bytes_per_s",
    "files.scrub_bytes_per_s",
    "agent.run",
    "agent.name",
    "agent.zone",
    "agent.cpu_milli",
    "agent.memory_mib",
    "agent.disk_mib",
    "agent.beat_ms",
    "agent.misses",
    "agent.log_bytes_max",
    "agent.cgroups",
];

/// Where the gateway listens unless told otherwise.
pub const GATEWAY_PORT: u16 = 8080;
/// Where global transactions are taken unless told otherwise: DTM's port.
pub const DTM_PORT: u16 = 36789;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data: PathBuf,
    advertise: Option<String>,
    #[serde(default)]
    initial_members: Vec<String>,
    #[serde(default)]
    join: Vec<String>,
    #[serde(default)]
    standby_of: Vec<String>,
    #[serde(default)]
    observer: bool,
    #[serde(default = "one")]
    cores: u16,
    lanes: Option<u16>,
    #[serde(default)]
    insecure: bool,
    clients_max: Option<usize>,
    disk_free_min_percent: Option<u8>,
    #[serde(default)]
    console_hosts: Vec<String>,
    superuser_digest: Option<String>,
    data_bytes_max: Option<u32>,
    zone: Option<String>,
    monitors: Option<usize>,
    #[serde(default)]
    listen: Listen,
    #[serde(default)]
    zookeeper: Zookeeper,
    #[serde(default)]
    raft: Raft,
    #[serde(default)]
    pools: Pools,
    #[serde(default)]
    cache: Cache,
    #[serde(default)]
    kafka: Kafka,
    #[serde(default)]
    files: Files,
    #[serde(default)]
    agent: Agent,
    #[serde(default)]
    gateway: Gateway,
}

/// Without a file of routes there is no gateway.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Gateway {
    routes: Option<PathBuf>,
}

fn one() -> u16 {
    1
}

/// Addresses; those of front ends, `console`, `dns` and `dtm` may be `"off"`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Listen {
    zookeeper: Option<String>,
    redis: Option<String>,
    kafka: Option<String>,
    peers: Option<String>,
    console: Option<String>,
    gateway: Option<String>,
    dns: Option<String>,
    dtm: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Zookeeper {
    superuser_digest: Option<String>,
    data_bytes_max: Option<u32>,
    session_timeout_ms: Option<(u32, u32)>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Raft {
    tick_ms: Option<u64>,
    election_ticks: Option<u32>,
    heartbeat_ticks: Option<u32>,
    snapshot_log_bytes: Option<u64>,
}

/// Of a cluster that this node founds.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Pools {
    main_shards: Option<u16>,
}

/// Without a durability, keys are of pool `main`: replicated, and kept once acknowledged.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Cache {
    durability: Option<String>,
    shards: Option<u16>,
    redirects: Option<bool>,
}

/// Named and meant as in Kafka's own configuration.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Kafka {
    auto_create_topics_enable: Option<bool>,
    num_partitions: Option<u32>,
}

/// `serve`: whether this node keeps chunks. The others are meant alike on all nodes.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Files {
    serve: Option<bool>,
    chunk_bytes: Option<u32>,
    copies: Option<u8>,
    copies_min: Option<u8>,
    lease_ms: Option<u32>,
    copy_after_ms: Option<u64>,
    repair_bytes_per_s: Option<u64>,
    scrub_bytes_per_s: Option<u64>,
}

/// `run`: whether this node runs jobs' tasks, which is running whatever its users want as this process' user. What it
/// has to give is what the machine has, unless all three amounts are said.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Agent {
    run: Option<bool>,
    name: Option<String>,
    zone: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    packages: BTreeSet<String>,
    cpu_milli: Option<u64>,
    memory_mib: Option<u64>,
    disk_mib: Option<u64>,
    beat_ms: Option<u32>,
    misses: Option<u32>,
    log_bytes_max: Option<u64>,
    cgroups: Option<bool>,
}

impl Agent {
    fn build(self, has_console: bool) -> Result<Option<AgentPlan>, String> {
        let defaults = AgentPlan::default();
        let resources = match (self.cpu_milli, self.memory_mib, self.disk_mib) {
            (None, None, None) => None,
            (Some(cpu), Some(memory), Some(disk)) => {
                let bytes = |mib: u64| mib.saturating_mul(1 << 20);
                Some(Resources::new(cpu, bytes(memory), bytes(disk)))
            }
            _ => {
                return Err(
                    "agent.cpu_milli, agent.memory_mib and agent.disk_mib go together: set all, or none for what the machine has"
                        .into(),
                );
            }
        };
        let plan = AgentPlan {
            name: self.name,
            zone: self.zone.unwrap_or_default(),
            attributes: self.attributes,
            packages: self.packages,
            resources,
            beat_ms: self.beat_ms.unwrap_or(defaults.beat_ms),
            misses: self.misses.unwrap_or(defaults.misses),
            log_bytes_max: self.log_bytes_max.unwrap_or(defaults.log_bytes_max),
            cgroups: self.cgroups.unwrap_or(defaults.cgroups),
        };
        plan.check()?;
        match (self.run == Some(true), has_console) {
            (true, false) => Err(
                "agent.run needs the console: set listen.console, by which agents speak to the cell"
                    .into(),
            ),
            (runs, _) => Ok(runs.then_some(plan)),
        }
    }
}

impl Files {
    fn build(&self) -> Result<FilesConfig, String> {
        let defaults = FilesConfig::default();
        let config = FilesConfig {
            serves_chunks: self.serve.unwrap_or(defaults.serves_chunks),
            chunk_bytes: self.chunk_bytes.unwrap_or(defaults.chunk_bytes),
            copies: self.copies.unwrap_or(defaults.copies),
            copies_min: (self.copies_min).unwrap_or(
                defaults
                    .copies_min
                    .min(self.copies.unwrap_or(defaults.copies)),
            ),
            lease_ms: self.lease_ms.unwrap_or(defaults.lease_ms),
            repair_bytes_per_s: (self.repair_bytes_per_s).unwrap_or(defaults.repair_bytes_per_s),
            scrub_bytes_per_s: (self.scrub_bytes_per_s).unwrap_or(defaults.scrub_bytes_per_s),
        };
        config.check()?;
        Ok(config)
    }
}

impl Cache {
    /// The pool of one copy that keys are of instead of `main`, if there is one.
    fn pool(&self) -> Result<Option<PoolSpec>, String> {
        let durability = match self.durability.as_deref() {
            None if self.shards.is_some() => {
                return Err(
                    "cache.shards is about a pool of its own: set cache.durability too, or \
                            pools.main_shards instead"
                        .into(),
                );
            }
            None => return Ok(None),
            Some("always") => Durability::Always,
            Some("everysec") => Durability::EverySecond,
            Some("none") => Durability::None,
            Some(other) => {
                return Err(format!(
                    "cache.durability = {other:?} must be \"always\", \"everysec\" or \"none\": one copy, on \
                     disk before it is acknowledged, within a second, or some time; leave it out for pool main"
                ));
            }
        };
        Ok(Some(PoolSpec {
            name: "cache".into(),
            policy: Policy::Single,
            durability,
            shards: self.shards.unwrap_or(1),
        }))
    }
}

/// `althing config check FILE`.
pub fn check(file: &Path) -> Outcome {
    let config = load(file)?;
    println!("{}: can be used", file.display());
    let off = || "off".to_owned();
    let shown = |address: Option<SocketAddr>| address.map_or_else(off, |a| a.to_string());
    for front in FrontEnd::ALL {
        let what = format!("{} clients", front.name());
        println!(
            "  {what:<18} {}",
            shown(config.clients.get(&front).copied())
        );
    }
    println!(
        "  other nodes        {} (reached as {})",
        config.peers,
        config.address()
    );
    println!("  console            {}", shown(config.console));
    match &config.gateway {
        Some(gateway) => {
            let routes = host::gateway::read(&gateway.routes).map_err(Failure::Usage)?;
            let (at, count) = (gateway.address, routes.routes.len());
            println!("  gateway            {at}, {count} routes");
        }
        None => println!("  gateway            off"),
    }
    println!("  DNS                {}", shown(config.dns));
    println!("  transactions (DTM) {}", shown(config.dtm));
    println!("  data               {}", config.data.display());
    if config.initial_members.is_empty() {
        let how = match config.core.join.as_slice() {
            [] => "none: the node waits for `althing cluster join`".to_owned(),
            seeds => format!("joins the cluster of {}", seeds.join(" or ")),
        };
        println!("  members            {how}");
    } else {
        println!("  members            {}", config.initial_members.join(", "));
    }
    Ok(())
}

/// Reads a file and lays the process's `ALTHING_…` variables over it.
pub fn load(file: &Path) -> Result<HostConfig, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::Usage(format!(
            "cannot read the configuration {}: {error}",
            file.display()
        ))
    })?;
    parse(&text, |name| std::env::var(name).ok())
        .map_err(|why| Failure::Usage(format!("{}: {why}", file.display())))
}

/// The configuration in `text`, under the variables that `variable` knows.
pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<HostConfig, String> {
    // A key that is missing in the file may come as a variable.
    let is_final = |error: &toml::de::Error| !error.message().starts_with("missing field");
    let mut file = toml::from_str::<File>(text).map_err(|error| Refused {
        is_final: is_final(&error),
        why: explain(text, &error),
    });
    let mut table: toml::Table = toml::from_str(text).unwrap_or_default();
    for key in KEYS {
        if matches!(&file, Err(refused) if refused.is_final) {
            break;
        }
        let name = format!("ALTHING_{}", key.to_uppercase().replace('.', "_"));
        if let Some(value) = variable(&name) {
            override_key(&mut table, key, &value);
            file = (table.clone().try_into()).map_err(|error: toml::de::Error| {
                let (is_final, mut why) = (is_final(&error), describe(error.message()));
                if is_final {
                    why = format!("the environment variable {name}={value:?}: {why}");
                }
                Refused { why, is_final }
            });
        }
    }
    build(file.map_err(|refused| refused.why)?)
}

/// Why there is no configuration yet.
struct Refused {
    why: String,
    is_final: bool,
}

/// A value that is TOML is taken as such, anything else as a string.
fn override_key(table: &mut toml::Table, key: &str, value: &str) {
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), parsed);
        }
        Some((section, key)) => {
            let section = table
                .entry(section)
                .or_insert_with(|| toml::Table::new().into());
            if let Some(section) = section.as_table_mut() {
                section.insert(key.to_owned(), parsed);
            }
        }
    }
}

fn build(file: File) -> Result<HostConfig, String> {
    let address = |key: &str, value: &Option<String>, port: u16| -> Result<SocketAddr, String> {
        match value {
            None => Ok(([127, 0, 0, 1], port).into()),
            Some(text) => text.parse().map_err(|_| {
                format!(
                    "listen.{key} = {text:?} is not an address to listen on: write an IP address and a port, for example \"127.0.0.1:{port}\""
                )
            }),
        }
    };
    let or_off = |key: &str, value: &Option<String>, port| match value.as_deref() {
        Some("off") => Ok(None),
        _ => address(key, value, port).map(Some),
    };
    let defaults = CoreConfig::default();
    let superuser_digest = only_one(
        "superuser_digest",
        file.superuser_digest,
        file.zookeeper.superuser_digest,
    )?;
    if let Some(digest) = &superuser_digest
        && !digest.contains(':')
    {
        return Err(format!(
            "superuser_digest = {digest:?} is not of the form user:base64(sha1(user:password))"
        ));
    }
    let mut pools = vec![PoolSpec::main(file.pools.main_shards.unwrap_or(1))];
    let cache = file.cache.pool()?;
    let cache_pool = cache
        .as_ref()
        .map_or("main", |pool| pool.name.as_str())
        .to_owned();
    pools.extend(cache);
    for pool in &pools {
        pool.check()?;
    }
    let files = file.files.build()?;
    let core = CoreConfig {
        files_copy_after_us: (file.files.copy_after_ms)
            .map_or(defaults.files_copy_after_us, |ms| ms.saturating_mul(1_000)),
        zone: match file.zone.unwrap_or_default() {
            zone if zone.len() > 100 => return Err("zone must be of at most 100 bytes".into()),
            zone => zone,
        },
        monitors: match file.monitors {
            Some(0) => return Err("monitors must be at least 1, and the same on all nodes".into()),
            count => count,
        },
        join: file.join.clone(),
        observes: file.observer,
        standby_of: file.standby_of.clone(),
        pools,
        cache_pool,
        cache_redirects: file.cache.redirects.unwrap_or(defaults.cache_redirects),
        topics_auto_create: (file.kafka.auto_create_topics_enable)
            .unwrap_or(defaults.topics_auto_create),
        topic_partitions: match file.kafka.num_partitions {
            Some(0) => return Err("kafka.num_partitions must be at least 1".into()),
            count => count.unwrap_or(defaults.topic_partitions),
        },
        superuser_digest,
        data_bytes_max: only_one(
            "data_bytes_max",
            file.data_bytes_max,
            file.zookeeper.data_bytes_max,
        )?
        .unwrap_or(defaults.data_bytes_max),
        session_timeout_ms: file
            .zookeeper
            .session_timeout_ms
            .unwrap_or(defaults.session_timeout_ms),
        tick_us: file.raft.tick_ms.map_or(Ok(defaults.tick_us), |ms| {
            if (1..=10_000).contains(&ms) {
                Ok(ms * 1_000)
            } else {
                Err(format!("raft.tick_ms = {ms} must be from 1 to 10000"))
            }
        })?,
        election_ticks: file.raft.election_ticks.unwrap_or(defaults.election_ticks),
        heartbeat_ticks: file
            .raft
            .heartbeat_ticks
            .unwrap_or(defaults.heartbeat_ticks),
        snapshot_log_bytes: file
            .raft
            .snapshot_log_bytes
            .unwrap_or(defaults.snapshot_log_bytes),
        ..defaults
    };
    let (least, most) = core.session_timeout_ms;
    if least == 0 || least > most {
        return Err(format!(
            "zookeeper.session_timeout_ms = [{least}, {most}] must be [least, most] with 0 < least ≤ most"
        ));
    }
    if core.heartbeat_ticks == 0 || core.election_ticks <= core.heartbeat_ticks {
        return Err(format!(
            "raft.election_ticks ({}) must be greater than raft.heartbeat_ticks ({}), and that greater than 0",
            core.election_ticks, core.heartbeat_ticks
        ));
    }
    let addresses = file.initial_members.iter().chain(&file.join);
    let addresses = addresses.chain(&file.standby_of);
    for member in addresses.chain(&file.advertise) {
        let port = member.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(format!("{member:?} is not of the form host:port"));
        }
    }
    let mut clients = BTreeMap::new();
    for front in FrontEnd::ALL {
        let value = match front {
            FrontEnd::Zookeeper => &file.listen.zookeeper,
            FrontEnd::Redis => &file.listen.redis,
            FrontEnd::Kafka => &file.listen.kafka,
        };
        clients.extend(or_off(front.key(), value, front.port())?.map(|at| (front, at)));
    }
    let gateway = match (file.gateway.routes, file.listen.gateway.as_deref()) {
        (None, None | Some("off")) | (Some(_), Some("off")) => None,
        (Some(routes), _) => Some(GatewayConfig {
            address: address("gateway", &file.listen.gateway, GATEWAY_PORT)?,
            routes,
        }),
        (None, Some(_)) => {
            return Err(
                "listen.gateway needs a file of routes: set gateway.routes, or write \"off\""
                    .into(),
            );
        }
    };
    let defaults = HostConfig::default();
    let console = or_off("console", &file.listen.console, 7400)?;
    let config = HostConfig {
        agent: file.agent.build(console.is_some())?,
        data: file.data,
        clients,
        peers: address("peers", &file.listen.peers, 7401)?,
        console,
        dns: or_off("dns", &file.listen.dns, 8600)?,
        dtm: or_off("dtm", &file.listen.dtm, DTM_PORT)?,
        advertise: file.advertise,
        initial_members: file.initial_members,
        cores: file.cores,
        lanes: file.lanes,
        insecure: file.insecure,
        clients_max: file.clients_max.unwrap_or(defaults.clients_max),
        disk_free_min_percent: file
            .disk_free_min_percent
            .unwrap_or(defaults.disk_free_min_percent),
        console_hosts: file.console_hosts,
        gateway,
        files,
        lab: None,
        core,
    };
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

/// The key may stand at the top or in its section, not in both.
fn only_one<T>(key: &str, top: Option<T>, section: Option<T>) -> Result<Option<T>, String> {
    match (top, section) {
        (Some(_), Some(_)) => Err(format!(
            "{key} and zookeeper.{key} are the same setting: remove one"
        )),
        (top, section) => Ok(top.or(section)),
    }
}

/// The parser's error with its line, and for an unknown key what may have been meant.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let mut out = String::new();
    if let Some(span) = error.span() {
        let before = &text[..span.start.min(text.len())];
        let number = before.matches('\n').count() + 1;
        let line = text.lines().nth(number - 1).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(out, "line {number}: ");
        let message = describe(error.message());
        let _ = write!(out, "{message}\n    {}", line.trim_end());
    } else {
        out = describe(error.message());
    }
    out
}

fn describe(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return match message.strip_prefix("missing field `") {
            Some(rest) => format!("the key `{} is missing", rest.trim_end()),
            None => message.trim().to_owned(),
        };
    };
    let wrong = rest.split('`').next().unwrap_or_default();
    let near = KEYS
        .iter()
        .flat_map(|key| [*key, key.rsplit('.').next().unwrap_or(key)])
        .chain([
            "listen",
            "zookeeper",
            "raft",
            "pools",
            "cache",
            "kafka",
            "gateway",
        ])
        .map(|name| (distance(wrong, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min();
    let mut known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
    known.sort_unstable();
    match near {
        Some((_, name)) if known.contains(&name) => {
            format!("there is no key `{wrong}` here; did you mean `{name}`?")
        }
        Some((_, name)) => match KEYS
            .iter()
            .find(|key| **key == name || key.ends_with(&format!(".{name}")))
        {
            Some(key) if key.contains('.') => {
                let section = key.split('.').next().unwrap_or_default();
                format!("there is no key `{wrong}` here; `{name}` stands under [{section}]")
            }
            _ => format!(
                "there is no key `{wrong}` here; `{name}` stands at the top, before the first [section]"
            ),
        },
        None => format!(
            "there is no key `{wrong}` here; known are {}",
            known.join(", ")
        ),
    }
}

/// Edits (insert, delete, replace) between two short names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
data = "/var/lib/althing"
initial_members = ["127.0.0.1:7401"]
[listen]
zookeeper = "127.0.0.1:2181"
[zookeeper]
session_timeout_ms = [2000, 40000]
[raft]
tick_ms = 20
"#;

    fn refusal(text: &str) -> String {
        parse(text, |_| None).expect_err("it must be refused")
    }

    #[test]
    fn good_file_is_taken_with_defaults_for_the_rest() {
        let config = parse(GOOD, |_| None).unwrap();
        assert_eq!(config.core.session_timeout_ms, (2_000, 40_000));
        assert_eq!(config.core.tick_us, 20_000);
        assert_eq!(config.console, Some(([127, 0, 0, 1], 7400).into()));
        assert_eq!(config.lanes, None);
    }

    #[test]
    fn typo_is_named_with_its_line_and_the_key_that_was_meant() {
        let text = "data = 'x'\ninitial_member = []\n";
        let why = refusal(text);
        assert!(
            why.contains("line 2") && why.contains("`initial_members`"),
            "{why}"
        );
        assert!(why.contains("initial_member = []"), "{why}");
        let why = refusal("data = 'x'\n[listen]\nzokeeper = '127.0.0.1:1'\n");
        assert!(
            why.contains("line 3") && why.contains("`zookeeper`"),
            "{why}"
        );
        let why = refusal("data = 'x'\n[raft]\ncolour = 1\n");
        assert!(
            why.contains("known are") && why.contains("tick_ms"),
            "{why}"
        );
    }

    #[test]
    fn key_in_the_wrong_section_is_sent_to_the_right_one() {
        let why = refusal("data = 'x'\ntick_ms = 1\n");
        assert!(why.contains("under [raft]"), "{why}");
        let why = refusal("data = 'x'\n[listen]\ninsecure = true\n");
        assert!(why.contains("at the top"), "{why}");
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_name() {
        for (text, wanted) in [
            ("", "`data` is missing"),
            ("data = 5", "line 1"),
            ("data = 'x'\ndisk_free_min_percent = 101", "from 0 to 100"),
            ("data = 'x'\n[listen]\npeers = 'localhost'", "listen.peers"),
            ("data = 'x'\n[raft]\ntick_ms = 0", "raft.tick_ms"),
            ("data = 'x'\n[raft]\nelection_ticks = 4", "heartbeat_ticks"),
            (
                "data = 'x'\n[zookeeper]\nsession_timeout_ms = [9, 3]",
                "least",
            ),
            ("data = 'x'\ninitial_members = ['here']", "host:port"),
            ("data = 'x'\ninitial_members = ['10.0.0.1:1']", "itself"),
            ("data = 'x'\nsuperuser_digest = 'secret'", "user:base64"),
            (
                "data = 'x'\n[listen]\nconsole = '0.0.0.0:7400'",
                "insecure = true",
            ),
            (
                "data = 'x'\ndata_bytes_max = 1\n[zookeeper]\ndata_bytes_max = 1",
                "same setting",
            ),
        ] {
            let why = refusal(text);
            assert!(why.contains(wanted), "{text:?} says: {why}");
        }
    }

    #[test]
    fn environment_stands_above_the_file() {
        let variables = |name: &str| match name {
            "ALTHING_CORES" => Some("2".to_owned()),
            "ALTHING_LISTEN_CONSOLE" => Some("off".to_owned()),
            "ALTHING_DATA" => Some("/elsewhere".to_owned()),
            _ => None,
        };
        let config = parse(GOOD, variables).unwrap();
        assert_eq!((config.cores, config.console), (2, None));
        assert_eq!(config.data, PathBuf::from("/elsewhere"));
        let without_data = GOOD.replace("data = ", "# data = ");
        let why = parse(&without_data, |name| {
            (name == "ALTHING_CORES").then(|| "2".into())
        })
        .unwrap_err();
        assert!(why.starts_with("the key `data` is missing"), "{why}");
        let config = parse(&without_data, variables).unwrap();
        assert_eq!(config.data, PathBuf::from("/elsewhere"));
        let why = parse(GOOD, |name| {
            (name == "ALTHING_CORES").then(|| "many".into())
        })
        .unwrap_err();
        assert!(why.contains("ALTHING_CORES"), "{why}");
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("lanes", "lanes"), 0);
        assert_eq!(distance("lane", "lanes"), 1);
        assert_eq!(distance("croes", "cores"), 2);
    }
}
