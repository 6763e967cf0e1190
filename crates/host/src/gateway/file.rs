//! The file of routes: TOML, checked whole before any of it is used.
//!
//! The structures here are the format. A value that cannot be is refused where it stands, so that the error can name
//! its line; what concerns several values is checked in [`parse`].

mod check;
mod words;

use check::{at_line, check, describe};
pub use words::{HeaderWord, KeyOf, MethodName, MethodWord, Millis, Rate, Ratio};

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::Spanned;
use traffic::degrade::Level;
use traffic::limit::{LeakyBucket, RateLimit, TokenBucket, UniformQueue, WarmUp};
use traffic::signals::Bounds;
use traffic::{breaker, health};

/// A checked file.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Most client connections at a time.
    #[serde(default = "connections_max")]
    pub connections_max: usize,
    /// Time that a client has to send a request's head, and that an idle connection is kept.
    #[serde(default = "head_ms")]
    pub head_ms: Millis,
    /// Longest time without a byte of a body, in either direction.
    #[serde(default = "idle_ms")]
    pub idle_ms: Millis,
    /// Memory of the cache, in bytes.
    #[serde(default = "cache_bytes_max")]
    pub cache_bytes_max: usize,
    /// Groups of servers by name.
    pub upstreams: BTreeMap<String, UpstreamPlan>,
    /// In the order in which they are tried: the first that matches answers.
    pub routes: Vec<RoutePlan>,
}

fn connections_max() -> usize {
    10_000
}

fn head_ms() -> Millis {
    Millis(30_000)
}

fn idle_ms() -> Millis {
    Millis(60_000)
}

fn cache_bytes_max() -> usize {
    32 << 20
}

/// A group of servers that hold the same.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct UpstreamPlan {
    /// Where they are.
    pub servers: Vec<ServerPlan>,
    /// How one of them is chosen.
    #[serde(default)]
    pub balance: MethodName,
    /// What is hashed by the methods that hash.
    #[serde(default)]
    pub hash: KeyOf,
    /// The bulkhead: most requests at a time that each of them is given.
    #[serde(default = "in_flight_max")]
    pub in_flight_max: u32,
    /// Time for a connection to be made.
    #[serde(default = "connect_ms")]
    pub connect_ms: Millis,
    /// When one is left out.
    #[serde(default)]
    pub health: HealthPlan,
    /// When one is left alone; without it, never.
    pub breaker: Option<BreakerPlan>,
}

fn in_flight_max() -> u32 {
    256
}

fn connect_ms() -> Millis {
    Millis(1_000)
}

/// `"host:port"`, or that with a weight.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(
    untagged,
    expecting = "a server is \"host:port\" or { address = \"host:port\", weight = 2 }"
)]
pub enum ServerPlan {
    /// Weight 1.
    Address(String),
    /// With its weight.
    Weighted(WeightedServer),
}

/// A server with its share.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct WeightedServer {
    /// `host:port`.
    pub address: String,
    /// From 1 to 1000.
    pub weight: u32,
}

impl ServerPlan {
    /// Its address.
    pub fn address(&self) -> &str {
        match self {
            Self::Address(address) => address,
            Self::Weighted(server) => &server.address,
        }
    }

    /// Its weight.
    pub fn weight(&self) -> u32 {
        match self {
            Self::Address(_) => 1,
            Self::Weighted(server) => server.weight,
        }
    }
}

/// When a server is left out.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct HealthPlan {
    /// Probed here; without it, servers are judged by their answers alone.
    pub path: Option<String>,
    interval_ms: Option<Millis>,
    timeout_ms: Option<Millis>,
    rise: Option<u32>,
    fall: Option<u32>,
    failures: Option<u32>,
    eject_ms: Option<Millis>,
    eject_ms_max: Option<Millis>,
    ejected_percent_max: Option<u32>,
    panic_percent: Option<u32>,
}

impl HealthPlan {
    /// The rules.
    pub fn rules(&self) -> health::Rules {
        let other = health::Rules::default();
        health::Rules {
            failures_max: self.failures.unwrap_or(other.failures_max),
            eject_us: self.eject_ms.map_or(other.eject_us, Millis::us),
            eject_us_max: self.eject_ms_max.map_or(other.eject_us_max, Millis::us),
            ejected_percent_max: (self.ejected_percent_max).unwrap_or(other.ejected_percent_max),
            panic_percent: self.panic_percent.unwrap_or(other.panic_percent),
            rise: self.rise.unwrap_or(other.rise),
            fall: self.fall.unwrap_or(other.fall),
        }
    }

    /// Time between two probes of a server.
    pub fn interval(&self) -> Duration {
        self.interval_ms.unwrap_or(Millis(2_000)).time()
    }

    /// Time for the answer to a probe.
    pub fn timeout(&self) -> Duration {
        self.timeout_ms.unwrap_or(Millis(1_000)).time()
    }
}

/// When a server is left alone. Without any of the three rules, half of the requests must fail.
#[derive(Deserialize, Clone, PartialEq, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct BreakerPlan {
    slow_ms: Option<Millis>,
    slow_ratio: Option<Ratio>,
    error_ratio: Option<Ratio>,
    error_count: Option<u64>,
    requests_min: Option<u64>,
    window_ms: Option<Millis>,
    open_ms: Option<Millis>,
}

impl BreakerPlan {
    /// The rules.
    pub fn rules(&self) -> breaker::Rules {
        let other = breaker::Rules::default();
        let any =
            self.slow_ratio.is_some() || self.error_ratio.is_some() || self.error_count.is_some();
        breaker::Rules {
            slow_us: self.slow_ms.map_or(other.slow_us, Millis::us),
            slow_ratio: self.slow_ratio.map(|ratio| ratio.0),
            error_ratio: match any {
                true => self.error_ratio.map(|ratio| ratio.0),
                false => other.error_ratio,
            },
            error_count: self.error_count,
            requests_min: self.requests_min.unwrap_or(other.requests_min),
            window_us: self.window_ms.map_or(other.window_us, Millis::us),
            open_us: self.open_ms.map_or(other.open_us, Millis::us),
        }
    }
}

/// What is done with requests of one kind.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct RoutePlan {
    /// Its name in metrics, on the console, and of its switch.
    pub name: String,
    /// The host that is asked for, without a port; any without it.
    pub host: Option<String>,
    /// What the path begins with; `/a` matches `/a` and `/a/…`, not `/ab`; `/a/` matches `/a/…` only.
    #[serde(default = "slash")]
    pub path: String,
    /// The methods; any without it.
    #[serde(default)]
    pub methods: Vec<MethodWord>,
    /// Headers and the values that they must have.
    #[serde(default)]
    pub headers: BTreeMap<HeaderWord, String>,
    /// What `path` is replaced with.
    pub rewrite: Option<String>,
    /// The group of servers.
    pub upstream: Spanned<String>,
    /// Who may ask; without it, anybody.
    pub auth: Option<AuthPlan>,
    /// Each of them must let a request pass.
    #[serde(default)]
    pub limits: Vec<LimitPlan>,
    /// Most requests at a time.
    #[serde(default = "in_flight_max_of_route")]
    pub in_flight_max: u32,
    /// Time from a request's head to its answer's head, repetitions among it.
    #[serde(default = "deadline_ms")]
    pub deadline_ms: Millis,
    /// When a request is repeated; without it, never.
    pub retry: Option<RetryPlan>,
    /// What answers when the servers do not, tried in order.
    #[serde(default)]
    pub fallback: Vec<FallbackPlan>,
    /// When it does.
    #[serde(default)]
    pub degrade: DegradePlan,
    /// Answers are kept as HTTP allows.
    #[serde(default)]
    pub cache: bool,
    /// When alarms are raised.
    #[serde(default)]
    pub alarm: AlarmPlan,
}

fn slash() -> String {
    "/".into()
}

fn in_flight_max_of_route() -> u32 {
    1_000
}

fn deadline_ms() -> Millis {
    Millis(30_000)
}

/// Who may ask: one of the users, or whoever has one of the tokens.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct AuthPlan {
    /// User names and passwords (HTTP Basic).
    #[serde(default)]
    pub basic: BTreeMap<String, String>,
    /// Tokens (HTTP Bearer).
    #[serde(default)]
    pub bearer: Vec<String>,
}

/// One limit.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LimitPlan {
    /// A mean rate with bursts.
    TokenBucket {
        /// Requests a second.
        rate: Rate,
        /// Tokens saved at most.
        burst: Option<f64>,
        /// A bucket for each; without it, one for all.
        by: Option<KeyOf>,
    },
    /// A steady rate, with so many in line.
    LeakyBucket {
        /// Requests a second.
        rate: Rate,
        /// Requests that wait, the first among them.
        depth: f64,
        /// A bucket for each.
        by: Option<KeyOf>,
    },
    /// A rate that rises after a rest.
    WarmUp {
        /// Requests a second, once warm.
        rate: Rate,
        /// Time to get warm.
        period_ms: Millis,
        /// How many times less it is when cold.
        cold_factor: Option<f64>,
        /// A limit for each.
        by: Option<KeyOf>,
    },
    /// A steady rate, with so long in line.
    UniformQueue {
        /// Requests a second.
        rate: Rate,
        /// Longest wait.
        wait_ms_max: Option<Millis>,
        /// A queue for each.
        by: Option<KeyOf>,
    },
}

impl LimitPlan {
    /// A fresh limit.
    pub fn build(&self) -> RateLimit {
        match self {
            Self::TokenBucket { rate, burst, .. } => {
                RateLimit::TokenBucket(TokenBucket::new(rate.0, burst.unwrap_or(rate.0)))
            }
            Self::LeakyBucket { rate, depth, .. } => {
                RateLimit::LeakyBucket(LeakyBucket::new(rate.0, *depth))
            }
            Self::WarmUp {
                rate,
                period_ms,
                cold_factor,
                ..
            } => {
                let seconds = period_ms.us() as f64 / 1e6;
                RateLimit::WarmUp(WarmUp::new(rate.0, seconds, cold_factor.unwrap_or(3.0)))
            }
            Self::UniformQueue {
                rate, wait_ms_max, ..
            } => {
                let wait = wait_ms_max.unwrap_or(Millis(500));
                RateLimit::Uniform(UniformQueue::new(rate.0, wait.us()))
            }
        }
    }

    /// What each has a limit of its own.
    pub fn by(&self) -> Option<&KeyOf> {
        match self {
            Self::TokenBucket { by, .. }
            | Self::LeakyBucket { by, .. }
            | Self::WarmUp { by, .. }
            | Self::UniformQueue { by, .. } => by.as_ref(),
        }
    }
}

/// When a request is repeated: if it has no body and may be repeated (GET, HEAD, OPTIONS, PUT, DELETE), or never reached a server.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct RetryPlan {
    /// Repetitions of one request at most.
    pub times: u32,
    /// Repetitions of all requests at most, in percent.
    #[serde(default = "budget_percent")]
    pub budget_percent: f64,
    /// And so many a second in any case.
    #[serde(default = "budget_min_per_s")]
    pub budget_min_per_s: f64,
}

fn budget_percent() -> f64 {
    20.0
}

fn budget_min_per_s() -> f64 {
    3.0
}

/// What answers in the servers' place.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(
    deny_unknown_fields,
    untagged,
    expecting = "a fallback is { cache = true }, { upstream = \"NAME\" } or { status = 200, body = \"…\" }"
)]
pub enum FallbackPlan {
    /// What the cache holds, however old.
    Cache(CacheFallback),
    /// Another group of servers.
    Upstream(UpstreamFallback),
    /// A page that stands here.
    Page(PageFallback),
}

/// What the cache holds, however old.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct CacheFallback {
    /// Must be true.
    pub cache: bool,
}

/// Another group of servers.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct UpstreamFallback {
    /// Its name.
    pub upstream: String,
}

/// A page that stands in the file.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct PageFallback {
    /// Its status.
    #[serde(default = "ok")]
    pub status: u16,
    /// What it says.
    pub body: String,
    /// What that is.
    #[serde(default = "text")]
    pub content_type: String,
}

fn ok() -> u16 {
    200
}

fn text() -> String {
    "text/plain; charset=utf-8".into()
}

/// When the fallback answers.
#[derive(Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct DegradePlan {
    /// From this level on, no server is asked.
    #[serde(default = "error_level")]
    pub from: Level,
    /// Why a single request has the fallback's answer.
    #[serde(default = "reasons")]
    pub on: Vec<Reason>,
}

impl Default for DegradePlan {
    fn default() -> Self {
        Self {
            from: error_level(),
            on: reasons(),
        }
    }
}

fn error_level() -> Level {
    Level::Error
}

fn reasons() -> Vec<Reason> {
    vec![Reason::Timeout, Reason::Failure, Reason::Fault]
}

/// Why a request has no answer of a server.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// None came in time.
    Timeout,
    /// The server failed, or answered with a status from 500 on.
    Failure,
    /// No server may be asked: they are down, left alone, or full.
    Fault,
    /// A limit refused it.
    Limit,
    /// The route is degraded, by a switch or by its level.
    Switch,
}

/// When alarms are raised.
#[derive(Deserialize, Clone, Copy, PartialEq, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct AlarmPlan {
    latency_ms: Option<Millis>,
    requests_per_s: Option<f64>,
    error_percent: Option<f64>,
    saturation_percent: Option<f64>,
}

impl AlarmPlan {
    /// The bounds.
    pub fn bounds(&self) -> Bounds {
        let other = Bounds::default();
        Bounds {
            latency_us: self.latency_ms.map(Millis::us),
            requests_per_s: self.requests_per_s,
            error_percent: self.error_percent.or(other.error_percent),
            saturation_percent: self.saturation_percent.or(other.saturation_percent),
        }
    }
}

/// The plan in `text`, or what is wrong in which line.
pub fn parse(text: &str) -> Result<Plan, String> {
    let plan: Plan = toml::from_str(text).map_err(|error| {
        at_line(
            text,
            error.span().map(|span| span.start),
            &describe(error.message()),
        )
    })?;
    check(text, &plan)?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[upstreams.a]\nservers = [\"127.0.0.1:9001\"]\n[[routes]]\nname = \"all\"\nupstream = \"a\"\n";

    #[test]
    fn sample_file_is_taken() {
        let plan = parse(include_str!("sample.toml")).unwrap();
        assert!(plan.routes.len() >= 2);
        assert_eq!(parse(LEAST).unwrap().routes[0].path, "/");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (change, line, says) in [
            ("upstream = \"a\"\ncolour = 1", 6, "no key `colour`"),
            ("upstream = \"b\"", 5, "no [upstreams.b]; there are a"),
            ("upstream = \"a\"\npath = \"api\"", 5, "begins with /"),
            ("upstream = \"a\"\ndeadline_ms = 0", 6, "not from 1"),
            ("upstream = \"a\"\ncache = 3", 6, "boolean"),
            (
                "upstream = \"a\"\nfallback = [{ cache = true }]",
                5,
                "needs cache = true",
            ),
            (
                "upstream = \"a\"\nfallback = [{ upstream = \"c\" }]",
                5,
                "no [upstreams.c]",
            ),
            (
                "upstream = \"a\"\nfallback = [{ pages = 1 }]",
                6,
                "a fallback is",
            ),
            (
                "upstream = \"a\"\nlimits = [{ kind = \"sieve\", rate = 1 }]",
                6,
                "sieve",
            ),
            (
                "upstream = \"a\"\nlimits = [{ kind = \"token-bucket\", rate = 0 }]",
                6,
                "one a day",
            ),
            (
                "upstream = \"a\"\nlimits = [{ kind = \"leaky-bucket\", rate = 1.0, depth = 0.5 }]",
                5,
                "at least 1",
            ),
            ("upstream = \"a\"\nauth = {}", 5, "lets nobody in"),
            (
                "upstream = \"a\"\n[[routes]]\nname = \"all\"\nupstream = \"a\"",
                8,
                "another route",
            ),
        ] {
            let text = LEAST.replace("upstream = \"a\"", change);
            let why = parse(&text).unwrap_err();
            assert!(
                why.starts_with(&format!("line {line}: ")) && why.contains(says),
                "{text}\n{why}"
            );
        }
        for (change, says) in [
            ("servers = []", "at least one"),
            ("servers = [\"nine\"]", "host:port"),
            ("servers = [{ address = \"h:1\", weight = 0 }]", "weight 0"),
            ("servers = [\"h:1\", \"h:1\"]", "twice"),
            (
                "servers = [\"h:1\"]\nbalance = \"best\"",
                "there are round-robin",
            ),
            ("servers = [\"h:1\"]\nhash = \"cookie\"", "header:NAME"),
            (
                "servers = [\"h:1\"]\n[upstreams.a.breaker]\nslow_ratio = 2.0",
                "at most 1",
            ),
        ] {
            let why = parse(&LEAST.replace("servers = [\"127.0.0.1:9001\"]", change)).unwrap_err();
            assert!(why.contains(says), "{change}: {why}");
        }
    }
}
