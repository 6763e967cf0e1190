//! Topics over Kafka's protocol, for commands: a connection to who leads a partition, or coordinates a group.

use base::frames::Frames;
use bytes::Bytes;
use messaging::NewBatch;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};
use wire_kafka::client::group::Positions;
use wire_kafka::client::read::{self, Fetched, Metadata};
use wire_kafka::client::{append, group};
use wire_kafka::{Error, client};

const CONNECT_TIME: Duration = Duration::from_secs(3);
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Before something is asked again.
pub const AGAIN_TIME: Duration = Duration::from_millis(100);
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

    /// Appends a batch. Yields Kafka's error number, and the offset of its first record where it was asked to be told.
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        batch: &NewBatch,
    ) -> io::Result<(i16, Option<i64>)> {
        let frame = append::produce(topic, partition, acks, batch);
        if acks == 0 {
            self.stream.write_all(&frame)?;
            return Ok((0, None));
        }
        let (error, offset) = append::produced_in(&self.ask(&frame)?).map_err(io::Error::other)?;
        Ok((error, Some(offset)))
    }

    /// Where a group has come to in these partitions.
    pub fn positions(
        &mut self,
        of: &str,
        topic: &str,
        partitions: &[i32],
    ) -> io::Result<Positions> {
        let answer = self.ask(&group::positions(of, topic, partitions))?;
        group::positions_in(&answer).map_err(io::Error::other)
    }

    /// Lets a group without members remember how far it has read. Yields Kafka's error number.
    pub fn commit(&mut self, of: &str, topic: &str, offsets: &[(i32, i64)]) -> io::Result<i16> {
        let answer = self.ask(&group::commit(of, topic, offsets))?;
        group::committed_in(&answer).map_err(io::Error::other)
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

/// True for an error number behind which the same may be asked again.
pub fn may_pass(number: i16) -> bool {
    Error::try_from_code(number).is_some_and(|error| error.is_retriable())
}

/// Asks the first of these brokers that answers.
pub fn any(brokers: &[String], frame: &[u8]) -> io::Result<Bytes> {
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
    let answer = any(brokers, &read::metadata(topic, false))?;
    let found: Metadata = read::metadata_in(&answer).map_err(io::Error::other)?;
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

/// The same for who is about to append: a topic that is not there is made, if the brokers are configured so.
pub fn partitions_to_append(brokers: &[String], topic: &str) -> io::Result<BTreeMap<i32, String>> {
    let answer = any(brokers, &read::metadata(topic, true))?;
    let found: Metadata = read::metadata_in(&answer).map_err(io::Error::other)?;
    match Error::try_from_code(found.error) {
        None | Some(Error::LeaderNotAvailable) => {}
        Some(_) => return Err(io::Error::other(words(found.error))),
    }
    again(ANSWER_TIME, || partitions(brokers, topic))
}

/// Does it, if need be again within this time: who leads may be dead or deposed. Asking again does not mend an
/// [`io::ErrorKind::InvalidInput`].
pub fn again<T>(limit: Duration, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + limit;
    loop {
        match act() {
            Err(error) if error.kind() != io::ErrorKind::InvalidInput && Instant::now() < until => {
                sleep(AGAIN_TIME);
            }
            done => return done,
        }
    }
}

/// A connection to who leads a partition now.
pub fn leader(brokers: &[String], topic: &str, partition: i32) -> io::Result<Broker> {
    let all = partitions(brokers, topic)?;
    let address = all
        .get(&partition)
        .ok_or_else(|| io::Error::other(format!("{topic} has no partition {partition}")))?;
    Broker::connect(address)
}

/// A connection to who coordinates a consumer group now.
pub fn coordinator(brokers: &[String], of: &str) -> io::Result<Broker> {
    let answer = any(brokers, &group::coordinator(of))?;
    match group::coordinator_in(&answer).map_err(io::Error::other)? {
        (0, host, port) => Broker::connect(&format!("{host}:{port}")),
        (number, ..) => Err(io::Error::other(words(number))),
    }
}

/// A producer's number, by which a batch that is sent again is told.
pub fn new_producer(brokers: &[String]) -> io::Result<i64> {
    let answer = any(brokers, &append::new_producer())?;
    match append::new_producer_in(&answer).map_err(io::Error::other)? {
        (0, id) => Ok(id),
        (number, _) => Err(io::Error::other(words(number))),
    }
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
