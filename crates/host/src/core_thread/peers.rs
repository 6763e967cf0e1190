//! Streams of frames, from other cores and to them. Frames flow one way: from the side that dialled.

use super::{CoreThread, Timer, mark, read_some};
use crate::connection::{Dial, Inbound, Outbound, Outgoing, Readiness};
use crate::mail::Mail;
use crate::{frame, log, sockets};
use base::Now;
use bytes::{Bytes, BytesMut};
use mio::event::Event as Polled;
use mio::net::TcpStream;
use mio::{Interest, Token};
use node::{Endpoint, Event, Hello, StreamId};
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// A peer with more than this to be sent is cut off.
const PEER_OUT_BYTES_MAX: usize = 256 << 20;
/// Pause after a failed dial.
const REDIAL_PAUSE_US: u64 = 50_000;
/// A connection that is not made in this time has failed.
const DIAL_TIMEOUT_US: u64 = 1_000_000;
/// Sent and unacknowledged for this long, a stream to a peer is broken.
const PEER_SILENCE: Duration = Duration::from_secs(5);

/// Frames to an endpoint are dropped until its pause is over.
pub(super) struct Pause {
    pub(super) to: Endpoint,
    pub(super) dropped: bool,
}

impl CoreThread {
    pub(super) fn add_stream(
        &mut self,
        now: Now,
        socket: std::net::TcpStream,
        hello: Hello,
        rest: &[u8],
    ) {
        let from = format!("{} ({})", hello.address, hello.from.node);
        let mut socket = TcpStream::from_std(socket);
        let token = self.next_token();
        if let Err(error) = self.register(&mut socket, token) {
            return log::warn(format!("cannot poll the stream from {from}: {error}"));
        }
        self.inbound.insert(
            token,
            Inbound {
                socket,
                buffer: BytesMut::from(rest),
                // Whatever came while the stream was handed over raised no event here.
                ready: Readiness {
                    readable: true,
                    ended: false,
                    listed: true,
                },
                from,
            },
        );
        self.readable.push(token);
        let stream = StreamId(token);
        self.core.handle(now, Event::PeerOpened { stream, hello });
        self.take_frames(now, token);
    }

    pub(super) fn note_outbound(&mut self, now: Now, token: u64, event: &Polled) {
        let Some(peer) = self.outbound.get_mut(&token) else {
            return;
        };
        if let Dial::Connecting(socket) = &peer.dial {
            if let Some(error) = socket.take_error().unwrap_or_else(Some) {
                return self.break_outbound(now, token, &error.to_string());
            }
            match socket.peer_addr() {
                Ok(_) => {
                    let Dial::Connecting(socket) =
                        std::mem::replace(&mut peer.dial, Dial::Resolving)
                    else {
                        return;
                    };
                    peer.dial = Dial::Open(socket);
                }
                Err(_) => return,
            }
        }
        if let Dial::Open(socket) = &mut peer.dial {
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                // Nothing is ever sent back on a dialled stream: this can only be its end.
                match socket.read(&mut [0; 16]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return self.break_outbound(now, token, &error.to_string()),
                    Ok(_) => return self.break_outbound(now, token, "closed by the other side"),
                }
            }
            mark(&mut self.dirty, &mut peer.dirty, token);
        }
    }

    pub(super) fn read_inbound(&mut self, now: Now, token: u64) {
        let Some(peer) = self.inbound.get_mut(&token) else {
            return;
        };
        peer.ready.listed = false;
        match read_some(&mut peer.socket, &mut peer.ready, &mut self.scratch) {
            Ok(0) => self.close_inbound(now, token),
            Ok(n) => {
                peer.buffer.extend_from_slice(&self.scratch[..n]);
                if peer.ready.readable {
                    mark(&mut self.readable, &mut peer.ready.listed, token);
                }
                self.take_frames(now, token);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                log::info(format!("the stream from {} broke: {error}", peer.from));
                self.close_inbound(now, token);
            }
        }
    }

    fn take_frames(&mut self, now: Now, token: u64) {
        while let Some(peer) = self.inbound.get_mut(&token) {
            match frame::take(&mut peer.buffer, frame::FRAME_BYTES_MAX) {
                Ok(Some(frame)) => {
                    let stream = StreamId(token);
                    self.core.handle(now, Event::PeerFrame { stream, frame });
                }
                Ok(None) => {
                    if peer.buffer.is_empty() {
                        // An idle stream holds no buffer.
                        peer.buffer = BytesMut::new();
                    }
                    return;
                }
                Err(error) => {
                    log::error(format!(
                        "the stream from {} is closed: {error}; the sender will open a new one",
                        peer.from
                    ));
                    return self.close_inbound(now, token);
                }
            }
        }
    }

    fn close_inbound(&mut self, now: Now, token: u64) {
        if self.inbound.remove(&token).is_some() {
            let stream = StreamId(token);
            self.core.handle(now, Event::PeerClosed { stream });
        }
    }

    pub(super) fn send_peer(&mut self, now: Now, to: Endpoint, frame: Bytes) {
        if frame.len() > frame::FRAME_BYTES_MAX {
            log::error(format!(
                "a frame of {} bytes to {} exceeds the cap and is dropped; this is a defect, please report it",
                frame.len(),
                to.address
            ));
            self.events.push_back(Event::SendFailed { to });
            return;
        }
        if let Some(pause) = self.paused.get(&to) {
            if let Some(pause) = self.pauses.get_mut(pause) {
                pause.dropped = true;
            }
            return;
        }
        let hello = self.core.hello(&to);
        if let Some(token) = self.dialled.get(&to).copied()
            && self
                .outbound
                .get(&token)
                .is_some_and(|peer| peer.hello != hello)
        {
            self.retire(token);
        }
        let token = match self.dialled.get(&to) {
            Some(token) => *token,
            None => self.dial(now, &to, hello),
        };
        let Some(peer) = self.outbound.get_mut(&token) else {
            // The dial failed at once; the core hears of it in the next round.
            return;
        };
        peer.out.push_copy(&frame::header(&frame));
        peer.out.push(frame);
        if peer.out.len() > PEER_OUT_BYTES_MAX {
            return self.break_outbound(now, token, "it takes frames too slowly");
        }
        if matches!(peer.dial, Dial::Open(_)) {
            mark(&mut self.dirty, &mut peer.dirty, token);
        }
    }

    /// Ends a stream whose greeting no longer holds: this node came to belong to a cluster since. What
    /// it had still to send is sent, or told as failed.
    fn retire(&mut self, token: u64) {
        let Some(mut peer) = self.outbound.remove(&token) else {
            return;
        };
        self.dialled.remove(&peer.to);
        let sent = match &mut peer.dial {
            Dial::Open(socket) => peer.out.write_to(socket).unwrap_or(false),
            Dial::Resolving | Dial::Connecting(_) => false,
        };
        if !sent {
            self.events.push_back(Event::SendFailed { to: peer.to });
        }
    }

    fn dial(&mut self, now: Now, to: &Endpoint, hello: Hello) -> u64 {
        let token = self.next_token();
        let greeting = hello.encode();
        let mut out = Outgoing::default();
        out.push_copy(&frame::header(&greeting));
        out.push_copy(&greeting);
        self.outbound.insert(
            token,
            Outbound {
                to: to.clone(),
                hello,
                dial: Dial::Resolving,
                out,
                dirty: false,
            },
        );
        self.dialled.insert(to.clone(), token);
        self.timers
            .insert((now.mono_us + DIAL_TIMEOUT_US, Timer::Dial(token)));
        match to.address.parse() {
            Ok(address) => self.connect(now, token, Ok(address)),
            Err(_) => self.resolve(token, to.address.clone()),
        }
        token
    }

    /// Looks a host name up on a thread of its own: it may take seconds.
    fn resolve(&self, dial: u64, name: String) {
        let mailbox = self.mailbox.clone();
        let spawned = std::thread::Builder::new()
            .name("resolve".into())
            .spawn(move || {
                let address = name
                    .to_socket_addrs()
                    .and_then(|mut all| {
                        all.next()
                            .ok_or_else(|| io::Error::other("the name has no address"))
                    })
                    .map_err(|error| format!("cannot look up {name}: {error}"));
                mailbox.send(Mail::Resolved { dial, address });
            });
        if let Err(error) = spawned {
            // The dial's time-out reports it to the core.
            log::warn(format!("cannot start a thread to look up a name: {error}"));
        }
    }

    pub(super) fn connect(&mut self, now: Now, token: u64, address: Result<SocketAddr, String>) {
        let Some(peer) = self.outbound.get_mut(&token) else {
            return;
        };
        let connecting = address.and_then(|address| {
            let mut socket = TcpStream::connect(address).map_err(|error| error.to_string())?;
            sockets::tune(&socket, Some(PEER_SILENCE))
                .and_then(|()| {
                    self.poll.registry().register(
                        &mut socket,
                        Token(token as usize),
                        Interest::READABLE | Interest::WRITABLE,
                    )
                })
                .map_err(|error| error.to_string())?;
            Ok(socket)
        });
        match connecting {
            Ok(socket) => peer.dial = Dial::Connecting(socket),
            Err(why) => self.break_outbound(now, token, &why),
        }
    }

    /// A dial's time is over.
    pub(super) fn end_dial(&mut self, now: Now, token: u64) {
        let waiting = self
            .outbound
            .get(&token)
            .is_some_and(|peer| !matches!(peer.dial, Dial::Open(_)));
        if waiting {
            self.break_outbound(now, token, "no connection in time");
        }
    }

    /// An endpoint may be dialled again.
    pub(super) fn end_pause(&mut self, now: Now, pause: u64) {
        if let Some(pause) = self.pauses.remove(&pause) {
            self.paused.remove(&pause.to);
            if pause.dropped {
                self.core.handle(now, Event::SendFailed { to: pause.to });
            }
        }
    }

    pub(super) fn write_outbound(&mut self, now: Now, token: u64) {
        let Some(peer) = self.outbound.get_mut(&token) else {
            return;
        };
        peer.dirty = false;
        if let Dial::Open(socket) = &mut peer.dial
            && let Err(error) = peer.out.write_to(socket)
        {
            self.break_outbound(now, token, &error.to_string());
        }
    }

    /// Drops a dialled stream, tells the core in the next round, and starts the pause.
    pub(super) fn break_outbound(&mut self, now: Now, token: u64, why: &str) {
        let Some(peer) = self.outbound.remove(&token) else {
            return;
        };
        self.dialled.remove(&peer.to);
        if matches!(peer.dial, Dial::Open(_)) {
            log::info(format!("the stream to {} broke: {why}", peer.to.address));
        }
        let pause = self.next_token();
        self.paused.insert(peer.to.clone(), pause);
        self.pauses.insert(
            pause,
            Pause {
                to: peer.to.clone(),
                dropped: false,
            },
        );
        self.timers
            .insert((now.mono_us + REDIAL_PAUSE_US, Timer::Redial(pause)));
        self.events.push_back(Event::SendFailed { to: peer.to });
    }
}
