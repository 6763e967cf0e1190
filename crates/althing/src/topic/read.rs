//! `topic read`: one partition after the other; a group without members remembers how far.

use crate::kafka::{self, Broker};
use crate::{Outcome, failed};
use clap::Args;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::str::FromStr;
use std::time::Duration;
use wire_kafka::Error;
use wire_kafka::client::read::Fetched;
use wire_kafka::records::Read;

/// A partition that nobody gives out within this time cannot be read.
const READ_TIME: Duration = Duration::from_secs(60);

/// What to read, and how.
#[derive(Args)]
pub struct Options {
    /// The topic
    name: String,
    /// Where to begin: start, end, or an offset [default: where the group is, or else start]
    #[arg(long, value_name = "PLACE")]
    from: Option<From>,
    /// Only this partition
    #[arg(long)]
    partition: Option<i32>,
    /// Begin where this group is, and let it remember what was printed; it must have no members
    #[arg(long)]
    group: Option<String>,
    /// End behind so many records
    #[arg(long)]
    count: Option<u64>,
    /// Wait for more at the end
    #[arg(long)]
    follow: bool,
    /// Print partition, offset, time and key before the value
    #[arg(long)]
    long: bool,
}

#[derive(Clone, Copy)]
enum From {
    Start,
    End,
    Offset(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::End),
            _ => match text.parse() {
                Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
                _ => Err("start, end, or a number of 0 or more".to_owned()),
            },
        }
    }
}

/// Does it.
pub fn run(servers: &[String], options: &Options) -> Outcome {
    let reader = Reader { servers, options };
    match reader.read(&mut io::stdout().lock()) {
        // Whoever was to read it has gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(|error| {
            let name = &options.name;
            failed(format!("cannot read {name}: {error}"))
        }),
    }
}

struct Reader<'a> {
    servers: &'a [String],
    options: &'a Options,
}

impl Reader<'_> {
    fn read(&self, out: &mut impl Write) -> io::Result<()> {
        let options = self.options;
        let all = kafka::partitions(self.servers, &options.name)?;
        let wanted: Vec<i32> = match options.partition {
            Some(partition) if !all.contains_key(&partition) => {
                return Err(give_up(format!(
                    "it has the partitions 0 to {}",
                    all.len().saturating_sub(1)
                )));
            }
            Some(partition) => vec![partition],
            None => all.into_keys().collect(),
        };
        let mut places = self.places(&wanted)?;
        let mut ends = BTreeMap::new();
        for partition in &wanted {
            ends.insert(*partition, self.offset(*partition, true)?);
        }
        let mut brokers = BTreeMap::new();
        let mut left = options.count.unwrap_or(u64::MAX);
        while left > 0 {
            let mut is_at_end = true;
            for (partition, place) in &mut places {
                if left == 0 || (!options.follow && *place >= ends[partition]) {
                    continue;
                }
                is_at_end = false;
                let fetched = self.fetch(&mut brokers, *partition, place)?;
                let before = *place;
                let new = fetched.records.iter().filter(|r| r.offset >= before);
                for record in new.take(usize::try_from(left).unwrap_or(usize::MAX)) {
                    self.print(out, *partition, record)?;
                    *place = record.offset + 1;
                    left -= 1;
                }
                out.flush()?;
                if fetched.records.is_empty() && *place < fetched.end {
                    // Only what readers are not shown.
                    *place = fetched.end;
                }
                if *place > before {
                    self.remember(*partition, *place)?;
                }
            }
            if is_at_end && !options.follow {
                break;
            }
        }
        Ok(())
    }

    fn print(&self, out: &mut impl Write, partition: i32, record: &Read) -> io::Result<()> {
        if self.options.long {
            let time = base::time::utc(record.time_ms);
            write!(out, "{partition}\t{}\t{time}\t", record.offset)?;
            out.write_all(record.key.as_deref().unwrap_or(b"-"))?;
            out.write_all(b"\t")?;
        }
        out.write_all(record.value.as_deref().unwrap_or_default())?;
        out.write_all(b"\n")
    }

    /// Where each partition is read from.
    fn places(&self, wanted: &[i32]) -> io::Result<BTreeMap<i32, i64>> {
        let mut places = BTreeMap::new();
        if let (Some(group), None) = (&self.options.group, self.options.from) {
            let found = again(|| {
                kafka::coordinator(self.servers, group)?.positions(
                    group,
                    &self.options.name,
                    wanted,
                )
            })?;
            for (partition, offset, number) in found {
                refuse(number)?;
                if offset >= 0 {
                    places.insert(partition, offset);
                }
            }
        }
        for partition in wanted {
            if !places.contains_key(partition) {
                let place = match self.options.from.unwrap_or(From::Start) {
                    From::Start => self.offset(*partition, false)?,
                    From::End => self.offset(*partition, true)?,
                    From::Offset(offset) => offset,
                };
                places.insert(*partition, place);
            }
        }
        Ok(places)
    }

    fn offset(&self, partition: i32, is_end: bool) -> io::Result<i64> {
        let topic = &self.options.name;
        again(|| kafka::leader(self.servers, topic, partition)?.offset(topic, partition, is_end))
    }

    fn fetch(
        &self,
        brokers: &mut BTreeMap<i32, Broker>,
        partition: i32,
        place: &mut i64,
    ) -> io::Result<Fetched> {
        let topic = &self.options.name;
        again(|| {
            let mut broker = match brokers.remove(&partition) {
                Some(broker) => broker,
                None => kafka::leader(self.servers, topic, partition)?,
            };
            let fetched = broker.fetch(topic, partition, *place)?;
            if Error::try_from_code(fetched.error) == Some(Error::OffsetOutOfRange) {
                let start = broker.offset(topic, partition, false)?;
                if start <= *place {
                    return Err(give_up(format!(
                        "partition {partition} does not reach to the offset {place}"
                    )));
                }
                // What was there has been deleted by age or size.
                *place = start;
            } else {
                refuse(fetched.error)?;
            }
            brokers.insert(partition, broker);
            Ok(fetched)
        })
    }

    fn remember(&self, partition: i32, place: i64) -> io::Result<()> {
        let Some(group) = &self.options.group else {
            return Ok(());
        };
        let topic = &self.options.name;
        again(|| {
            let mut broker = kafka::coordinator(self.servers, group)?;
            let number = broker.commit(group, topic, &[(partition, place)])?;
            match Error::try_from_code(number) {
                Some(Error::UnknownMemberId | Error::IllegalGeneration) => Err(give_up(format!(
                    "the group {group} has members, which remember by themselves"
                ))),
                _ => refuse(number),
            }
        })
    }
}

/// An error that asking again does not mend.
fn give_up(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, words)
}

fn refuse(number: i16) -> io::Result<()> {
    match number {
        0 => Ok(()),
        _ if kafka::may_pass(number) => Err(io::Error::other(kafka::words(number))),
        _ => Err(give_up(kafka::words(number))),
    }
}

/// Does it, if need be again.
fn again<T>(act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    kafka::again(READ_TIME, act)
}
