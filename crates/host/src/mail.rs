//! A core's mailbox: what other threads of the host bring to it.

use base::LaneId;
use journal::{DiskResult, Ticket};
use mio::Waker;
use node::{AdminCommand, AdminReply, Call, CallReply, DiskSpace, Hello, Probe, ProbeResult};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Something for a core's thread.
pub enum Mail {
    /// A disk operation ended.
    Disk {
        /// Whose.
        lane: LaneId,
        /// Which.
        ticket: Ticket,
        /// How.
        result: DiskResult,
    },
    /// The room on the node's disks was measured.
    DiskSpace(DiskSpace),
    /// People ask.
    Admin {
        /// What.
        command: AdminCommand,
        /// Where the answer goes.
        reply: tokio::sync::oneshot::Sender<AdminReply>,
    },
    /// Somebody calls for a shard. Dropping the other end of `reply` hangs up.
    Call {
        /// What.
        call: Call,
        /// Where the answer goes.
        reply: tokio::sync::oneshot::Sender<CallReply>,
    },
    /// A probe ended.
    Probed {
        /// Which.
        probe: Probe,
        /// What it has seen.
        result: ProbeResult,
    },
    /// Another core's stream, greeted.
    Stream {
        /// The socket, non-blocking.
        socket: std::net::TcpStream,
        /// Its greeting.
        hello: Hello,
        /// What was read beyond the greeting.
        rest: Vec<u8>,
    },
    /// A host name was looked up.
    Resolved {
        /// For which dial of the core's thread.
        dial: u64,
        /// The address, or why there is none.
        address: Result<SocketAddr, String>,
    },
    /// End the thread.
    Stop,
}

/// Puts mail into a core's box and wakes its thread.
#[derive(Clone)]
pub struct Mailbox {
    sender: Sender<Mail>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// A box whose receiver is read by the thread that `waker` wakes.
    pub fn new(sender: Sender<Mail>, waker: Arc<Waker>) -> Self {
        Self { sender, waker }
    }

    /// Delivers. False when the core's thread has ended.
    pub fn send(&self, mail: Mail) -> bool {
        self.sender.send(mail).is_ok() && self.waker.wake().is_ok()
    }
}

/// Calls the cores in turn until one holds the shard that is called for. It may take as long as the call
/// says; giving up hangs up.
pub async fn call(cores: &[Mailbox], call: Call) -> CallReply {
    let mut answer = CallReply::NotHere {
        message: "the node has no cores".into(),
    };
    for core in cores {
        let (reply, answered) = tokio::sync::oneshot::channel();
        let call = call.clone();
        core.send(Mail::Call { call, reply });
        answer = answered.await.unwrap_or_else(|_| CallReply::Unknown {
            message: "the core has stopped; ask another node".into(),
        });
        if !matches!(answer, CallReply::NotHere { .. }) {
            break;
        }
    }
    answer
}
