//! What a gateway tells of itself, for the console, for metrics and for the command line.

use crate::degrade::Level;
use crate::signals::Alarms;
use serde::{Deserialize, Serialize};

/// A gateway.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct GatewayReport {
    /// Where it listens.
    pub address: String,
    /// The file of routes.
    pub file: String,
    /// How often a file was taken since the start.
    pub loads: u64,
    /// Why the file as it is now was not taken; empty when it was.
    pub refused: String,
    /// Client connections.
    pub connections: u64,
    /// Answers that the cache keeps.
    pub cache_entries: u64,
    /// Bytes that they take.
    pub cache_bytes: u64,
    /// In the order in which they are tried.
    pub routes: Vec<RouteReport>,
    /// Groups of servers.
    pub upstreams: Vec<UpstreamReport>,
}

/// A route.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RouteReport {
    /// Its name.
    pub name: String,
    /// Host and path that it is for.
    pub matches: String,
    /// Its group of servers.
    pub upstream: String,
    /// Requests answered, and of these such that failed.
    pub requests: u64,
    /// Of these, such that failed.
    pub errors: u64,
    /// Requests that a limit refused.
    pub refused: u64,
    /// Answers by the fallback.
    pub fallbacks: u64,
    /// Requests a second, over ten seconds.
    pub rate: f64,
    /// `latency[i]` counts requests that took from 2^(i−1) to below 2^i microseconds.
    pub latency: Vec<u64>,
    /// Their sum in microseconds.
    pub latency_sum_us: u64,
    /// Median, to a power of two, in microseconds.
    pub p50_us: u64,
    /// 99th percentile, to a power of two, in microseconds.
    pub p99_us: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Part of places taken, from 0 to 1.
    pub saturation: f64,
    /// How it fares, as measured.
    pub level: Level,
    /// What its switch is set to.
    pub switch: String,
    /// True while its fallback answers.
    pub degraded: bool,
    /// Which alarms are raised.
    pub alarms: Alarms,
}

/// A group of servers.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct UpstreamReport {
    /// Its name.
    pub name: String,
    /// The method of balancing.
    pub balance: String,
    /// In the file's order.
    pub servers: Vec<ServerReport>,
}

/// A server.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ServerReport {
    /// `host:port`.
    pub address: String,
    /// Its share.
    pub weight: u32,
    /// `healthy`, `ejected` or `down`.
    pub health: String,
    /// `closed`, `open`, `half open`, or `none` where there is no breaker.
    pub breaker: String,
    /// How often the breaker opened.
    pub opened: u64,
    /// Requests under way to it.
    pub in_flight: u64,
    /// Requests that it was given.
    pub requests: u64,
    /// Of these, such that failed.
    pub errors: u64,
}
