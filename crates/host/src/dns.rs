//! DNS for services, over UDP and TCP, on a thread of its own. What is asked and how it is answered is
//! `wire_dns`' business; which instances there are, the core says, behind a barrier: an answer is never older
//! than the question.

use crate::mail::{Mailbox, call};
use crate::thread::Thread;
use base::Rng;
use coordination::services::{Answer, Query, Status};
use node::{Call, CallReply};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use wire_dns::{Asked, Question, TCP_BYTES_MAX, Target, Wants};

/// Questions under way; those beyond it are dropped, and clients ask again.
const QUESTIONS_MAX: usize = 1_024;
/// TCP connections at a time.
const CONNECTIONS_MAX: usize = 128;
/// A client that sends nothing, or takes nothing, for so long is sent away.
const IDLE_TIME: Duration = Duration::from_secs(10);
/// A core that does not answer in this time is said to fail; resolvers ask another server then.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Largest question.
const QUESTION_BYTES_MAX: usize = 4_096;

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Questions that were answered.
    pub answered: AtomicU64,
    /// Messages that were no questions, and were dropped.
    pub malformed: AtomicU64,
    /// Questions that were dropped because too many were under way.
    pub dropped: AtomicU64,
}

/// The DNS thread. Dropping it ends the thread.
pub struct Dns {
    _thread: Thread,
    counts: Arc<Counts>,
}

/// The sockets, bound.
pub struct Sockets {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl Sockets {
    /// Binds both at one address; for port 0 at the one that TCP is given.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let tcp = std::net::TcpListener::bind(address)?;
        let udp = std::net::UdpSocket::bind(tcp.local_addr()?)?;
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Ok(Self { udp, tcp })
    }

    /// Where they listen.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

struct Shared {
    cores: Vec<Mailbox>,
    rng: Mutex<Rng>,
    counts: Arc<Counts>,
    room: Arc<Semaphore>,
}

impl Dns {
    /// Starts serving.
    pub fn start(sockets: Sockets, cores: Vec<Mailbox>, seed: u64) -> io::Result<Self> {
        let counts = Arc::<Counts>::default();
        let shared = Arc::new(Shared {
            cores,
            rng: Mutex::new(Rng::new(seed)),
            counts: counts.clone(),
            room: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        });
        let thread = Thread::serve("dns", "DNS", || serve(sockets, shared))?;
        Ok(Self {
            _thread: thread,
            counts,
        })
    }

    /// What it counts.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }
}

async fn serve(sockets: Sockets, shared: Arc<Shared>) -> io::Result<()> {
    let udp = Arc::new(UdpSocket::from_std(sockets.udp)?);
    let tcp = TcpListener::from_std(sockets.tcp)?;
    tokio::spawn(serve_tcp(tcp, shared.clone()));
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    loop {
        // An error is about one datagram, as the answer of a host that has no such port.
        let Ok((length, from)) = udp.recv_from(&mut buffer).await else {
            continue;
        };
        let Ok(place) = shared.room.clone().try_acquire_owned() else {
            shared.counts.dropped.fetch_add(1, Relaxed);
            continue;
        };
        let message = buffer[..length].to_vec();
        let (udp, shared) = (udp.clone(), shared.clone());
        tokio::spawn(async move {
            if let Some(answer) = shared.answer(&message, Question::udp_bytes_max).await {
                // Whoever cannot be reached asks again.
                let _ = udp.send_to(&answer, from).await;
            }
            drop(place);
        });
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    // However it ends, the client knows.
                    let _ = converse(stream, &shared).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Questions of one connection, in turn, each behind its length (RFC 7766).
async fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let mut head = [0; 2];
        tokio::time::timeout(IDLE_TIME, stream.read_exact(&mut head)).await??;
        let length = usize::from(u16::from_be_bytes(head));
        if length > QUESTION_BYTES_MAX {
            return Ok(());
        }
        let mut message = vec![0; length];
        tokio::time::timeout(IDLE_TIME, stream.read_exact(&mut message)).await??;
        let Some(answer) = shared.answer(&message, |_| TCP_BYTES_MAX).await else {
            return Ok(());
        };
        let mut bytes = (answer.len() as u16).to_be_bytes().to_vec();
        bytes.extend_from_slice(&answer);
        tokio::time::timeout(IDLE_TIME, stream.write_all(&bytes)).await??;
    }
}

impl Shared {
    /// The answer to a message, `None` when that is no question.
    async fn answer(&self, message: &[u8], room: impl Fn(&Question) -> usize) -> Option<Vec<u8>> {
        let question = match wire_dns::read(message) {
            Ok(Asked::Question(question)) => question,
            Ok(Asked::Answered(bytes)) => {
                self.counts.answered.fetch_add(1, Relaxed);
                return Some(bytes);
            }
            Err(_) => {
                self.counts.malformed.fetch_add(1, Relaxed);
                return None;
            }
        };
        let targets = match &question.wants {
            Wants::Service { name, tag } => self.targets(name, tag.as_deref()).await,
            _ => Some(Vec::new()),
        };
        self.counts.answered.fetch_add(1, Relaxed);
        let bytes_max = room(&question);
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        Some(wire_dns::write(&question, targets, &mut rng, bytes_max))
    }

    /// The instances of a service that pass their checks, `None` when the core cannot say.
    async fn targets(&self, name: &str, tag: Option<&str>) -> Option<Vec<Target>> {
        let name = name.to_owned();
        let asked = Call::ReadServices {
            query: Query::AnyCase { name },
            after: None,
        };
        let reply = tokio::time::timeout(ANSWER_TIME, call(&self.cores, asked)).await;
        let Ok(CallReply::Services {
            answer: Answer::Instances(found),
            ..
        }) = reply
        else {
            return None;
        };
        let has_tag = |tags: &[String]| {
            tag.is_none_or(|tag| tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
        };
        let passing = found.into_iter().filter(|f| f.status() == Status::Passing);
        let tagged = passing.filter(|found| has_tag(&found.instance.tags));
        let target = |found: coordination::services::Found| {
            let i = found.instance;
            Target {
                address: if i.address.is_empty() {
                    i.node_address
                } else {
                    i.address
                },
                port: i.port,
                weight: i.weights.0.min(u32::from(u16::MAX)) as u16,
            }
        };
        Some(tagged.map(target).collect())
    }
}
