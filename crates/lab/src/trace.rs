//! The trace: a hash over every event delivered and every action taken, and on demand their text.

use crate::world::Place;
use node::{Action, Event};
use std::hash::Hasher;
use twox_hash::XxHash64;

const TEXT_LINE_BYTES_MAX: usize = 400;

/// Collects what happened. The hash is the same wherever the same run is repeated.
#[derive(Debug)]
pub struct Trace {
    hash: XxHash64,
    text: bool,
    /// Events delivered and actions taken.
    pub events: u64,
}

impl Trace {
    /// A trace; with `text`, every line is printed as it happens.
    pub fn new(text: bool) -> Self {
        Self {
            hash: XxHash64::with_seed(0),
            text,
            events: 0,
        }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// True when lines are printed.
    pub fn is_text(&self) -> bool {
        self.text
    }

    fn head(&mut self, at_us: u64, place: Place, tag: u8) {
        self.events += 1;
        self.hash.write(&at_us.to_be_bytes());
        let place = place.node as u64 | u64::from(place.core) << 32;
        self.hash.write(&place.to_be_bytes());
        self.hash.write(&[tag]);
    }

    fn number(&mut self, value: u64) {
        self.hash.write(&value.to_be_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.hash.write(value);
    }

    fn line(&self, at_us: u64, place: Place, text: &str) {
        let mut end = text.len().min(TEXT_LINE_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let core = match place.core {
            0 => String::new(),
            core => format!(".{core}"),
        };
        println!(
            "{:>6}.{:06} node{}{core} {}",
            at_us / 1_000_000,
            at_us % 1_000_000,
            place.node,
            &text[..end]
        );
    }

    /// Something that the world itself did.
    pub fn note(&mut self, at_us: u64, text: &str) {
        self.events += 1;
        self.number(at_us);
        self.bytes(text.as_bytes());
        if self.text {
            println!(
                "{:>6}.{:06} ----- {text}",
                at_us / 1_000_000,
                at_us % 1_000_000
            );
        }
    }

    /// Something for the reader only: not part of the hash.
    pub fn comment(&self, at_us: u64, text: impl FnOnce() -> String) {
        if self.text {
            println!(
                "{:>6}.{:06} ..... {}",
                at_us / 1_000_000,
                at_us % 1_000_000,
                text()
            );
        }
    }

    /// An event is handed to a core.
    pub(crate) fn event(&mut self, at_us: u64, place: Place, event: &Event) {
        match event {
            Event::Tick => self.head(at_us, place, 1),
            Event::Stopping => self.head(at_us, place, 12),
            Event::ClientDrained { client } => {
                self.head(at_us, place, 13);
                self.number(client.0);
            }
            Event::PeerOpened { stream, hello } => {
                self.head(at_us, place, 2);
                self.number(stream.0);
                self.bytes(&hello.encode());
            }
            Event::PeerFrame { stream, frame } => {
                self.head(at_us, place, 3);
                self.number(stream.0);
                self.bytes(frame);
            }
            Event::PeerClosed { stream } => {
                self.head(at_us, place, 4);
                self.number(stream.0);
            }
            Event::SendFailed { to } => {
                self.head(at_us, place, 5);
                self.bytes(to.address.as_bytes());
            }
            Event::ClientOpened { client, .. } => {
                self.head(at_us, place, 6);
                self.number(client.0);
            }
            Event::ClientBytes { client, bytes } => {
                self.head(at_us, place, 7);
                self.number(client.0);
                self.bytes(bytes);
            }
            Event::ClientClosed { client } => {
                self.head(at_us, place, 8);
                self.number(client.0);
            }
            Event::DiskDone {
                lane,
                ticket,
                result,
            } => {
                self.head(at_us, place, 9);
                self.number(u64::from(lane.0));
                self.number(ticket.0);
                match result {
                    journal::DiskResult::Done(bytes) => self.bytes(bytes),
                    other => self.bytes(format!("{other:?}").as_bytes()),
                }
            }
            Event::Admin { request, .. } => {
                self.head(at_us, place, 10);
                self.number(request.0);
            }
            Event::Call { request, call } => {
                self.head(at_us, place, 14);
                self.number(request.0);
                self.bytes(format!("{call:?}").as_bytes());
            }
            Event::Probed { probe, result } => {
                self.head(at_us, place, 16);
                self.number(number_of(*probe));
                self.bytes(format!("{result:?}").as_bytes());
            }
            Event::HungUp { request } => {
                self.head(at_us, place, 15);
                self.number(request.0);
            }
            Event::DiskSpace(space) => {
                self.head(at_us, place, 11);
                self.number(space.free_bytes);
                self.number(u64::from(space.low));
            }
        }
        if self.text && !matches!(event, Event::Tick) {
            self.line(at_us, place, &format!("<- {event:?}"));
        }
    }

    /// A core wants something done.
    pub(crate) fn action(&mut self, at_us: u64, place: Place, action: &Action) {
        match action {
            Action::SendPeer { to, frame } => {
                self.head(at_us, place, 21);
                self.bytes(to.address.as_bytes());
                self.bytes(frame);
            }
            Action::ClosePeer { stream } => {
                self.head(at_us, place, 22);
                self.number(stream.0);
            }
            Action::SendClient { client, bytes } => {
                self.head(at_us, place, 23);
                self.number(client.0);
                self.bytes(bytes);
            }
            Action::AwaitDrain { client } => {
                self.head(at_us, place, 33);
                self.number(client.0);
            }
            Action::PauseClient { client, paused } => {
                self.head(at_us, place, 24);
                self.number(client.0);
                self.number(u64::from(*paused));
            }
            Action::CloseClient { client } => {
                self.head(at_us, place, 25);
                self.number(client.0);
            }
            Action::Disk { lane, op } => {
                self.head(at_us, place, 26);
                self.number(u64::from(lane.0));
                match op {
                    journal::DiskOp::Write { offset, bytes, .. } => {
                        self.number(*offset);
                        self.bytes(bytes);
                    }
                    other => self.bytes(format!("{other:?}").as_bytes()),
                }
            }
            Action::OpenFrontEnd(_) => self.head(at_us, place, 27),
            Action::CloseFrontEnd(_) => self.head(at_us, place, 28),
            // Status holds floating point figures and is not part of what must repeat to the bit.
            Action::AdminReply { request, .. } => {
                self.head(at_us, place, 29);
                self.number(request.0);
            }
            Action::Probe { probe, target, .. } => {
                self.head(at_us, place, 35);
                self.number(number_of(*probe));
                self.bytes(format!("{target:?}").as_bytes());
            }
            Action::CallReply { request, reply } => {
                self.head(at_us, place, 34);
                self.number(request.0);
                self.bytes(format!("{reply:?}").as_bytes());
            }
            Action::Log { message, .. } => {
                self.head(at_us, place, 30);
                self.bytes(message.as_bytes());
            }
            Action::Stop { reason, .. } => {
                self.head(at_us, place, 31);
                self.bytes(reason.as_bytes());
            }
        }
        if self.text && !matches!(action, Action::AdminReply { .. }) {
            self.line(at_us, place, &format!("-> {action:?}"));
        }
    }
}
fn number_of(probe: node::Probe) -> u64 {
    match probe {
        node::Probe::Check { number, .. } | node::Probe::Call { number } => number,
    }
}
