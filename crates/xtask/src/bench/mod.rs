//! `bench`: this product and a peer, on the same machine, alternately, with the same client.
//!
//! [`load`] is the client, [`systems`] starts and measures servers, [`zookeeper`] and [`memory`] are the
//! comparisons with ZooKeeper, [`redis`] that with Redis, [`kafka`] that with Kafka, [`gateway`] that with nginx; [`machine`] and [`table`] serve all. Figures depend on the machine, above all on its disk: compare ratios only.

mod gateway;
mod kafka;
mod load;
mod machine;
mod memory;
mod redis;
mod systems;
mod table;
mod zookeeper;

use clap::Subcommand;

/// What can be compared.
#[derive(Subcommand)]
pub enum Bench {
    /// Throughput, latency, CPU, memory, start-up and failover, beside Debian's ZooKeeper where it is installed.
    Zookeeper {
        /// Length of each measurement in seconds.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Rounds; medians are told.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// How often the leader of three is killed.
        #[arg(long, default_value_t = 5)]
        kills: usize,
        /// Measure only one of them: `althing` or `zookeeper`.
        #[arg(long)]
        only: Option<String>,
        /// Print JSON in place of the table.
        #[arg(long)]
        json: bool,
    },
    /// Processor time an operation, throughput, latency and memory, beside Debian's redis-server where it is
    /// installed: one core for the server, redis-benchmark on another.
    Redis {
        /// Operations of a measurement without pipelining; four times as many with it.
        #[arg(long, default_value_t = 200_000)]
        operations: u64,
        /// Rounds; medians are told.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Keys for the measurement of memory; 0 leaves it out.
        #[arg(long, default_value_t = 1_000_000)]
        keys: u64,
        /// Measure only one of them: `althing` or `redis`.
        #[arg(long)]
        only: Option<String>,
        /// Print JSON in place of the table.
        #[arg(long)]
        json: bool,
    },
    /// Processor time a record, throughput, latency and memory of topics, beside Apache Kafka from Maven Central:
    /// one core for the server, Kafka's own load tools on another.
    Kafka {
        /// Records of 100 bytes; a fifth as many of 1 KiB.
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
        /// Rounds; medians are told.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Measure only one of them: `althing` or `kafka`.
        #[arg(long)]
        only: Option<String>,
        /// Print JSON in place of the table.
        #[arg(long)]
        json: bool,
    },
    /// Requests a second, processor time a request and latency of the gateway, beside Debian's nginx as a proxy:
    /// one core for the proxy, wrk and the server behind on another.
    Gateway {
        /// Length of a measurement in seconds.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Rounds; medians are told.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Memory for a million small nodes and 10,000 open sessions.
    Memory {
        /// Nodes to create.
        #[arg(long, default_value_t = 1_000_000)]
        znodes: usize,
        /// Sessions to hold open.
        #[arg(long, default_value_t = 10_000)]
        sessions: usize,
        /// Measure only one of them: `althing` or `zookeeper`.
        #[arg(long)]
        only: Option<String>,
        /// Print JSON in place of the table.
        #[arg(long)]
        json: bool,
    },
}

/// Runs one comparison. False when a floor was missed.
pub fn run(what: &Bench) -> Result<bool, String> {
    match what {
        Bench::Zookeeper {
            seconds,
            rounds,
            kills,
            only,
            json,
        } => {
            let options = zookeeper::Options {
                seconds: *seconds,
                rounds: (*rounds).max(1),
                kills: *kills,
                json: *json,
            };
            zookeeper::run(&options, &systems::chosen(only.as_deref())?)
        }
        Bench::Redis {
            operations,
            rounds,
            keys,
            only,
            json,
        } => {
            let options = redis::Options {
                operations: (*operations).max(1),
                rounds: (*rounds).max(1),
                keys: *keys,
                json: *json,
            };
            redis::run(&options, &redis::chosen(only.as_deref())?)
        }
        Bench::Kafka {
            records,
            rounds,
            only,
            json,
        } => {
            let options = kafka::Options {
                records: *records,
                rounds: (*rounds).max(1),
                json: *json,
            };
            let (libs, systems) = kafka::chosen(only.as_deref())?;
            kafka::run(&options, &libs, &systems)
        }
        Bench::Gateway { seconds, rounds } => gateway::run(&gateway::Options {
            seconds: (*seconds).max(1),
            rounds: (*rounds).max(1),
        }),
        Bench::Memory {
            znodes,
            sessions,
            only,
            json,
        } => memory::run(
            *znodes,
            *sessions,
            *json,
            &systems::chosen(only.as_deref())?,
        ),
    }
}

/// The middle value; of two, the mean. NaN when there is none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
