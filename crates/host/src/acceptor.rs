//! The inter-node listener: reads the greeting of each stream and hands the socket to the core it names.

use crate::frame::{self, HELLO_BYTES_MAX};
use crate::log;
use crate::mail::{Mail, Mailbox};
use crate::sockets;
use base::map::HashMap;
use bytes::BytesMut;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use node::Hello;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Streams that have not greeted yet, at most; more are turned away.
const PENDING_MAX: usize = 256;
/// A stream that has not greeted in this time is closed.
const GREETING_TIME: Duration = Duration::from_secs(5);
/// Pause after the machine ran out of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);

/// The acceptor's thread. Dropping it ends the thread.
pub struct Acceptor {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Starts accepting on `listener` for `cores` (by number).
    pub fn start(listener: std::net::TcpListener, cores: Vec<Mailbox>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut listener = TcpListener::from_std(listener);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut state = State {
            poll,
            listener,
            cores,
            pending: HashMap::default(),
            next: 2,
        };
        let stopping = stop.clone();
        let thread = std::thread::Builder::new()
            .name("acceptor".into())
            .spawn(move || state.serve(&stopping))?;
        Ok(Self {
            stop,
            waker,
            thread: Some(thread),
        })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

struct Pending {
    socket: TcpStream,
    address: SocketAddr,
    buffer: BytesMut,
    since: Instant,
}

struct State {
    poll: Poll,
    listener: TcpListener,
    cores: Vec<Mailbox>,
    pending: HashMap<u64, Pending>,
    next: u64,
}

impl State {
    fn serve(&mut self, stop: &AtomicBool) {
        let mut events = Events::with_capacity(256);
        while !stop.load(Ordering::Acquire) {
            let timeout = (!self.pending.is_empty()).then_some(GREETING_TIME / 4);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return log::error(format!(
                        "cannot accept other nodes any more: polling failed: {error}"
                    ));
                }
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    LISTENER => self.accept(),
                    token => self.read(token.0 as u64),
                }
            }
            self.pending
                .retain(|_, pending| pending.since.elapsed() < GREETING_TIME);
        }
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((mut socket, address)) => {
                    if self.pending.len() >= PENDING_MAX {
                        log::warn(format!(
                            "{PENDING_MAX} streams between nodes wait for a greeting: {address} is turned away"
                        ));
                        continue;
                    }
                    let token = self.next;
                    self.next += 1;
                    let registered = sockets::tune(&socket, None).and_then(|()| {
                        self.poll.registry().register(
                            &mut socket,
                            Token(token as usize),
                            Interest::READABLE,
                        )
                    });
                    if let Err(error) = registered {
                        log::warn(format!("cannot serve the stream from {address}: {error}"));
                        continue;
                    }
                    self.pending.insert(
                        token,
                        Pending {
                            socket,
                            address,
                            buffer: BytesMut::new(),
                            since: Instant::now(),
                        },
                    );
                }
                Err(error) => match error.raw_os_error() {
                    _ if error.kind() == ErrorKind::WouldBlock => return,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                        log::warn(format!("cannot accept another node: {error}"));
                        // Peers are few: this thread has nothing else to do meanwhile.
                        std::thread::sleep(ACCEPT_PAUSE);
                    }
                    _ => {}
                },
            }
        }
    }

    fn read(&mut self, token: u64) {
        let Some(pending) = self.pending.get_mut(&token) else {
            return;
        };
        let mut scratch = [0; 4096];
        loop {
            match pending.socket.read(&mut scratch) {
                Ok(0) => {
                    self.pending.remove(&token);
                    return;
                }
                Ok(n) => pending.buffer.extend_from_slice(&scratch[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.pending.remove(&token);
                    return;
                }
            }
            match frame::take(&mut pending.buffer, HELLO_BYTES_MAX) {
                Ok(None) => {}
                Ok(Some(greeting)) => {
                    let hello = Hello::decode(&greeting).map_err(|error| error.to_string());
                    return self.greeted(token, hello);
                }
                Err(error) => return self.greeted(token, Err(error.to_string())),
            }
        }
    }

    fn greeted(&mut self, token: u64, hello: Result<Hello, String>) {
        let Some(mut pending) = self.pending.remove(&token) else {
            return;
        };
        let address = pending.address;
        let handed = hello.and_then(|hello| {
            let core = self.cores.get(hello.to_core.0 as usize).ok_or_else(|| {
                format!(
                    "it asks for core {} and this node has {}",
                    hello.to_core.0,
                    self.cores.len()
                )
            })?;
            self.poll
                .registry()
                .deregister(&mut pending.socket)
                .map_err(|error| error.to_string())?;
            core.send(Mail::Stream {
                socket: OwnedFd::from(pending.socket).into(),
                hello,
                rest: pending.buffer.to_vec(),
            });
            Ok(())
        });
        if let Err(why) = handed {
            log::warn(format!(
                "a stream between nodes from {address} is closed: {why}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{ClusterId, CoreAddress, CoreId, NodeId};
    use std::io::Write;
    use std::sync::mpsc::{Receiver, channel};

    struct Rig {
        address: SocketAddr,
        mail: Receiver<Mail>,
        _acceptor: Acceptor,
        _poll: Poll,
    }

    /// An acceptor for two cores; the mail is the second's.
    fn rig() -> Rig {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
        let (first, _) = channel();
        let (second, mail) = channel();
        let cores = [first, second].map(|sender| Mailbox::new(sender, waker.clone()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Rig {
            address: listener.local_addr().unwrap(),
            mail,
            _acceptor: Acceptor::start(listener, cores.to_vec()).unwrap(),
            _poll: poll,
        }
    }

    fn hello(core: u16) -> Hello {
        Hello {
            cluster: ClusterId(3),
            from: CoreAddress {
                node: NodeId(4),
                core: CoreId(0),
            },
            address: "127.0.0.1:7401".into(),
            to_core: CoreId(core),
            cores: 1,
            lanes: 1,
        }
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        [&frame::header(payload)[..], payload].concat()
    }

    #[test]
    fn greeted_stream_reaches_the_core_it_names_with_what_was_read_beyond() {
        let rig = rig();
        let mut stream = std::net::TcpStream::connect(rig.address).unwrap();
        let bytes = [framed(&hello(1).encode()), framed(b"first")].concat();
        // In two parts, so that the greeting arrives in pieces.
        stream.write_all(&bytes[..5]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(&bytes[5..]).unwrap();
        match rig.mail.recv_timeout(Duration::from_secs(10)).unwrap() {
            Mail::Stream {
                hello: got, rest, ..
            } => {
                assert_eq!(got, hello(1));
                assert_eq!(rest, framed(b"first"));
            }
            _ => panic!("only streams are handed over"),
        }
    }

    #[test]
    fn wrong_greetings_are_closed() {
        let rig = rig();
        let mut damaged = framed(&hello(1).encode());
        damaged[12] ^= 1;
        for bytes in [
            framed(&hello(2).encode()),
            framed(b"GET / HTTP/1.1"),
            vec![0xff; 64],
            damaged,
        ] {
            let mut stream = std::net::TcpStream::connect(rig.address).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            stream.write_all(&bytes).unwrap();
            // Closed, in order or by a reset; not a time-out.
            match stream.read(&mut [0]) {
                Ok(n) => assert_eq!(n, 0),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
        assert!(rig.mail.try_recv().is_err());
    }
}
