//! The last five minutes, a sample a second: what the console's charts are drawn from.

use node::Status;
use node::admin::Counters;
use serde::Serialize;
use std::collections::VecDeque;

/// Samples kept.
const SAMPLES_MAX: usize = 300;

/// What happened in about one second, and the state at its end.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Sample {
    /// Wall clock, milliseconds since 1970.
    pub t_ms: i64,
    /// Reading requests a second.
    pub reads: f64,
    /// Writing requests a second.
    pub writes: f64,
    /// Requests answered with an error, a second.
    pub errors: f64,
    /// Watch events and published messages a second.
    pub notifications: f64,
    /// Median latency in microseconds; `None` when nothing was asked.
    pub p50_us: Option<f64>,
    /// 99th percentile of latency in microseconds.
    pub p99_us: Option<f64>,
    /// Commands of Redis clients a second.
    pub cache_commands: f64,
    /// Requests under way.
    pub outstanding: u64,
    /// Journal bytes a second.
    pub journal_bytes: f64,
    /// Journal syncs a second.
    pub syncs: f64,
    /// Client connections.
    pub connections: u64,
    /// Sessions.
    pub sessions: u64,
}

/// The samples and what the next one is measured against.
#[derive(Debug, Default)]
pub struct Series {
    samples: VecDeque<Sample>,
    before: Option<(i64, Counters, u64)>,
}

impl Series {
    /// Adds a sample from the cores' statuses at `wall_ms`.
    pub fn add(&mut self, wall_ms: i64, statuses: &[Status]) {
        let after = total(statuses);
        let caches = || statuses.iter().filter_map(|status| status.cache.as_ref());
        let commands = caches().map(|cache| cache.commands).sum();
        if let Some((before_ms, before, commands_before)) = &self.before {
            let seconds = ((wall_ms - before_ms) as f64 / 1_000.0).max(0.001);
            let rate = |after: u64, before: u64| after.saturating_sub(before) as f64 / seconds;
            let buckets: Vec<u64> = after
                .latency
                .iter()
                .enumerate()
                .map(|(i, n)| n.saturating_sub(before.latency.get(i).copied().unwrap_or(0)))
                .collect();
            let trees = || statuses.iter().filter_map(|status| status.tree.as_ref());
            let topics = || statuses.iter().filter_map(|status| status.topics.as_ref());
            if self.samples.len() >= SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back(Sample {
                t_ms: wall_ms,
                reads: rate(after.reads, before.reads),
                writes: rate(after.writes, before.writes),
                errors: rate(after.errors, before.errors),
                notifications: rate(after.notifications, before.notifications),
                p50_us: quantile(&buckets, 0.5),
                p99_us: quantile(&buckets, 0.99),
                cache_commands: rate(commands, *commands_before),
                outstanding: trees().map(|tree| tree.outstanding).sum::<u64>()
                    + caches().map(|cache| cache.outstanding).sum::<u64>()
                    + topics().map(|topics| topics.outstanding).sum::<u64>(),
                journal_bytes: rate(after.journal_bytes, before.journal_bytes),
                syncs: rate(after.syncs, before.syncs),
                connections: trees().map(|tree| tree.connections).sum::<u64>()
                    + caches().map(|cache| cache.clients).sum::<u64>()
                    + topics().map(|topics| topics.clients).sum::<u64>(),
                sessions: trees().map(|tree| tree.sessions).max().unwrap_or(0),
            });
        }
        self.before = Some((wall_ms, after, commands));
    }

    /// Oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.iter().cloned().collect()
    }
}

/// The counters of all cores together.
pub fn total(statuses: &[Status]) -> Counters {
    let mut sum = Counters::default();
    for c in statuses.iter().map(|status| &status.counters) {
        sum.reads += c.reads;
        sum.writes += c.writes;
        sum.errors += c.errors;
        sum.notifications += c.notifications;
        sum.bytes_in += c.bytes_in;
        sum.bytes_out += c.bytes_out;
        sum.sessions_opened += c.sessions_opened;
        sum.sessions_expired += c.sessions_expired;
        sum.malformed += c.malformed;
        sum.elections_won += c.elections_won;
        sum.syncs += c.syncs;
        sum.journal_bytes += c.journal_bytes;
        sum.latency_sum_us += c.latency_sum_us;
        if sum.latency.len() < c.latency.len() {
            sum.latency.resize(c.latency.len(), 0);
        }
        for (total, n) in sum.latency.iter_mut().zip(&c.latency) {
            *total += n;
        }
    }
    sum
}

/// The value below which `part` of what the buckets count lies; bucket `i` holds what is below `2^i`
/// and not below `2^(i-1)`, taken as spread evenly in it.
fn quantile(buckets: &[u64], part: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = all as f64 * part;
    let mut below = 0.0;
    for (i, n) in buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
        let n = *n as f64;
        if below + n >= wanted {
            let low = if i == 0 { 0.0 } else { 2f64.powi(i as i32 - 1) };
            let high = 2f64.powi(i as i32);
            return Some(low + (high - low) * (wanted - below) / n);
        }
        below += n;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_lies_in_the_bucket_that_holds_it() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[0, 0], 0.5), None);
        // 100 requests from 4 to 8 µs, one from 512 to 1024 µs.
        let mut buckets = vec![0; 11];
        buckets[3] = 100;
        buckets[10] = 1;
        let median = quantile(&buckets, 0.5).unwrap();
        assert!((4.0..8.0).contains(&median), "{median}");
        assert!(quantile(&buckets, 0.999).unwrap() > 512.0);
    }

    #[test]
    fn rates_are_differences_over_the_time_between() {
        let status = |reads| Status {
            counters: Counters {
                reads,
                ..Counters::default()
            },
            ..Status::default()
        };
        let mut series = Series::default();
        series.add(1_000, &[status(5), status(5)]);
        assert!(series.samples().is_empty());
        series.add(3_000, &[status(10), status(15)]);
        assert_eq!(series.samples()[0].reads, 7.5);
        // A core that was started anew counts from nothing: no negative rate.
        series.add(4_000, &[status(0)]);
        assert_eq!(series.samples()[1].reads, 0.0);
        let cache = |commands| Status {
            cache: Some(node::admin::CacheStatus {
                commands,
                ..Default::default()
            }),
            ..Status::default()
        };
        series.add(4_500, &[cache(30)]);
        series.add(5_000, &[cache(80), Status::default()]);
        assert_eq!(series.samples()[3].cache_commands, 100.0);
        for second in 6..400 {
            series.add(second * 1_000, &[status(0)]);
        }
        assert_eq!(series.samples().len(), SAMPLES_MAX);
    }
}
