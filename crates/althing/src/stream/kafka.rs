//! A topic's partitions, read over Kafka's protocol: one connection to who leads a partition.

use base::frames::Frames;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;
use wire_kafka::client::read::{self, Fetched, Metadata};
use wire_kafka::{Error, client};

const CONNECT_TIME: Duration = Duration::from_secs(3);
const ANSWER_TIME: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: u32 = 64 << 20;
/// Asked for at once.
const FETCH_BYTES_MAX: i32 = 1 << 20;
/// How long a broker waits for records where there are none.
const FETCH_WAIT_MS: i32 = 200;

/// A connection.
pub struct Broker {
    stream: TcpStream,
    frames: Frames,
}

impl Broker {
    fn connect(address: &str) -> io::Result<Self> {
        let found = address.to_socket_addrs()?.next();
        let found = found.ok_or_else(|| io::Error::other("the name has no address"))?;
        let stream = TcpStream::connect_timeout(&found, CONNECT_TIME)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        Ok(Self {
            stream,
            frames: Frames::new(ANSWER_BYTES_MAX),
        })
    }

    fn ask(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(frame)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.frames.poll() {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(_) => return Err(io::Error::other("it does not speak Kafka's protocol")),
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.frames.push(&Bytes::copy_from_slice(&buffer[..n])),
            }
        }
    }

    /// Records of a partition from `offset` on.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> io::Result<Fetched> {
        let frame = read::fetch(topic, partition, offset, FETCH_WAIT_MS, FETCH_BYTES_MAX);
        read::fetched_in(&self.ask(&frame)?)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// Where a partition begins, or ends.
    pub fn offset(&mut self, topic: &str, partition: i32, is_end: bool) -> io::Result<i64> {
        let answer = self.ask(&read::list_offset(topic, partition, is_end))?;
        match read::offset_in(&answer).map_err(io::Error::other)? {
            (0, offset) => Ok(offset),
            (number, _) => Err(io::Error::other(words(number))),
        }
    }
}

/// An error's number in words.
pub fn words(number: i16) -> String {
    match Error::try_from_code(number) {
        Some(Error::UnknownTopicOrPartition) => "there is no such topic or partition".to_owned(),
        Some(error) => format!("the broker answers {error:?}"),
        None => format!("the broker answers with error {number}"),
    }
}

/// Asks the first of these brokers that answers.
fn any(brokers: &[String], frame: &[u8]) -> io::Result<Bytes> {
    let mut why = io::Error::other("no broker was named");
    for address in brokers {
        match Broker::connect(address).and_then(|mut broker| broker.ask(frame)) {
            Ok(answer) => return Ok(answer),
            Err(error) => why = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(why)
}

/// A topic's partitions, and where they are led; an error also where one is led by nobody.
pub fn partitions(brokers: &[String], topic: &str) -> io::Result<BTreeMap<i32, String>> {
    let found: Metadata =
        read::metadata_in(&any(brokers, &read::metadata(topic))?).map_err(io::Error::other)?;
    if found.error != 0 {
        return Err(io::Error::other(format!("{topic}: {}", words(found.error))));
    }
    (found.leaders.iter())
        .map(|(partition, leader)| {
            let broker = found.brokers.iter().find(|(id, ..)| id == leader);
            let (_, host, port) = broker.ok_or_else(|| {
                io::Error::other(format!("{topic}/{partition} is led by nobody now"))
            })?;
            Ok((*partition, format!("{host}:{port}")))
        })
        .collect()
}

/// A connection to who leads a partition now.
pub fn leader(brokers: &[String], topic: &str, partition: i32) -> io::Result<Broker> {
    let all = partitions(brokers, topic)?;
    let address = all
        .get(&partition)
        .ok_or_else(|| io::Error::other(format!("{topic} has no partition {partition}")))?;
    Broker::connect(address)
}

/// Makes a topic, as the brokers are configured, where there is none.
pub fn ensure(brokers: &[String], topic: &str) -> io::Result<()> {
    if partitions(brokers, topic).is_ok() {
        return Ok(());
    }
    let answer = any(brokers, &client::create_topic(topic, None, &[]))?;
    let number = client::error_in(&answer).map_err(io::Error::other)?;
    match Error::try_from_code(number) {
        None | Some(Error::TopicAlreadyExists) => Ok(()),
        Some(_) => Err(io::Error::other(format!("{topic}: {}", words(number)))),
    }
}
