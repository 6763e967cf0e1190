//! `topic send`: batches under a producer's number, sent again until somebody has taken them.

use crate::kafka::{self, Broker};
use crate::{Failure, Outcome, failed};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use messaging::ProducerMark;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wire_kafka::Error;
use wire_kafka::records::{self, Record};

/// A batch that nobody has taken within this time may be lost.
const SEND_TIME: Duration = Duration::from_secs(60);
/// Lines and bytes that are sent at once, about.
const LINES_MAX: usize = 1_000;
const BYTES_MAX: usize = 256 << 10;

/// What to send, and how.
#[derive(Args)]
pub struct Options {
    /// The topic
    name: String,
    /// Values of records
    values: Vec<String>,
    /// The key of each of them: records of one key keep their order
    #[arg(long, conflicts_with = "key_separator")]
    key: Option<String>,
    /// Each value stands behind its key and this
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// The partition of all of them; else their keys choose it, and those without a key go round
    #[arg(long)]
    partition: Option<i32>,
    /// Whose word to wait for
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Acks {
    /// Nobody's: what is lost is lost
    #[value(name = "0")]
    None,
    /// The leader's; here it speaks for a majority, as with `all`
    #[value(name = "1")]
    Leader,
    /// That of as many nodes as make it safe
    All,
}

/// Does it.
pub fn run(servers: &[String], options: &Options) -> Outcome {
    let partitions =
        kafka::partitions_to_append(servers, &options.name).map_err(|e| fault(options, &e))?;
    if let Some(partition) = options.partition
        && !partitions.contains_key(&partition)
    {
        let last = partitions.len().saturating_sub(1);
        return Err(Failure::Usage(format!(
            "{} has the partitions 0 to {last}",
            options.name
        )));
    }
    let producer = match options.acks {
        Acks::None => None,
        _ => Some(kafka::new_producer(servers).map_err(|e| fault(options, &e))?),
    };
    let mut sender = Sender {
        servers,
        options,
        count: partitions.len() as u32,
        turn: 0,
        producer,
        sequences: BTreeMap::new(),
        brokers: BTreeMap::new(),
        sent: 0,
    };
    let mut batch = Vec::new();
    if options.values.is_empty() {
        let mut lines = BufReader::new(io::stdin().lock());
        let mut bytes = 0;
        loop {
            let mut line = Vec::new();
            let read = lines.read_until(b'\n', &mut line);
            if read.map_err(|e| failed(format!("cannot read standard input: {e}")))? == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            bytes += line.len();
            batch.push(record(options, line)?);
            // What somebody types goes at once.
            if lines.buffer().is_empty() || batch.len() >= LINES_MAX || bytes >= BYTES_MAX {
                sender.send(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
    } else {
        for value in &options.values {
            batch.push(record(options, value.clone().into_bytes())?);
        }
    }
    sender.send(batch)?;
    println!("sent {} to {}", sender.sent, options.name);
    Ok(())
}

fn fault(options: &Options, error: &dyn std::fmt::Display) -> Failure {
    failed(format!("cannot send to {}: {error}", options.name))
}

fn record(options: &Options, mut line: Vec<u8>) -> Result<Record, Failure> {
    let mut key = options.key.clone().map(Bytes::from);
    if let Some(separator) = &options.key_separator {
        let at = (line.windows(separator.len().max(1)))
            .position(|window| window == separator.as_bytes())
            .ok_or_else(|| {
                let line = String::from_utf8_lossy(&line).into_owned();
                Failure::Usage(format!("there is no {separator:?} in {line:?}"))
            })?;
        let value = line.split_off(at + separator.len());
        line.truncate(at);
        key = Some(Bytes::from(std::mem::replace(&mut line, value)));
    }
    Ok(Record {
        key,
        value: Some(Bytes::from(line)),
        headers: Vec::new(),
    })
}

struct Sender<'a> {
    servers: &'a [String],
    options: &'a Options,
    /// Partitions that the topic has.
    count: u32,
    /// Which of them is next for records without a key.
    turn: u32,
    producer: Option<i64>,
    /// The next record's, by partition.
    sequences: BTreeMap<i32, i32>,
    brokers: BTreeMap<i32, Broker>,
    sent: u64,
}

impl Sender<'_> {
    fn send(&mut self, all: Vec<Record>) -> Outcome {
        let mut by_partition: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        let without_key = (self.turn % self.count.max(1)) as i32;
        self.turn += 1;
        for record in all {
            let by_key = |key: &Bytes| records::partition_of(key, self.count) as i32;
            let of_record = record.key.as_ref().map_or(without_key, by_key);
            let partition = self.options.partition.unwrap_or(of_record);
            by_partition.entry(partition).or_default().push(record);
        }
        for (partition, records) in by_partition {
            self.append(partition, &records).map_err(|why| {
                let (sent, name) = (self.sent, &self.options.name);
                failed(format!(
                    "{name}/{partition}: {why}; {sent} records before are appended, and it is not known whether the next \
                     {} are",
                    records.len()
                ))
            })?;
            self.sent += records.len() as u64;
        }
        Ok(())
    }

    fn append(&mut self, partition: i32, all: &[Record]) -> Result<(), String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let time_ms = now.map_or(0, |since| since.as_millis() as i64);
        let sequence = self.sequences.entry(partition).or_default();
        let mark = self.producer.map(|id| ProducerMark {
            id,
            epoch: 0,
            sequence: *sequence,
        });
        *sequence = ((i64::from(*sequence) + all.len() as i64) & i64::from(i32::MAX)) as i32;
        let batch = records::encode(time_ms, mark, all);
        let acks = match self.options.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let until = Instant::now() + SEND_TIME;
        loop {
            let topic = &self.options.name;
            let broker = match self.brokers.remove(&partition) {
                Some(broker) => Ok(broker),
                None => kafka::leader(self.servers, topic, partition),
            };
            let done = broker.and_then(|mut broker| {
                let (error, _) = broker.produce(topic, partition, acks, &batch)?;
                Ok((broker, error))
            });
            let why = match done {
                Ok((broker, number)) => match Error::try_from_code(number) {
                    // It had been taken, and the word was lost.
                    None | Some(Error::DuplicateSequenceNumber) => {
                        self.brokers.insert(partition, broker);
                        return Ok(());
                    }
                    Some(_) if !kafka::may_pass(number) => return Err(kafka::words(number)),
                    Some(_) => kafka::words(number),
                },
                Err(error) => error.to_string(),
            };
            if acks == 0 || Instant::now() > until {
                return Err(why);
            }
            sleep(kafka::AGAIN_TIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn line_is_a_value_or_a_key_and_a_value() {
        let of = |words: &[&str], line: &str| {
            let words = ["send", "logs"].iter().chain(words);
            let Line { options } = Line::try_parse_from(words).expect("well-formed");
            record(&options, line.into()).map(|r| (r.key, r.value))
        };
        let some = |text: &'static str| Some(Bytes::from(text));
        assert_eq!(of(&[], "a:b").ok(), Some((None, some("a:b"))));
        assert_eq!(of(&["--key", "k"], "a").ok(), Some((some("k"), some("a"))));
        let split = ["--key-separator", "::"];
        assert_eq!(of(&split, "a::b::c").ok(), Some((some("a"), some("b::c"))));
        assert_eq!(of(&split, "::").ok(), Some((some(""), some(""))));
        assert!(matches!(of(&split, "a:b"), Err(Failure::Usage(_))));
    }
}
