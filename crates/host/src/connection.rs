//! What a socket has still to send, and the sockets of a core with their states.

use bytes::{Buf, Bytes, BytesMut};
use mio::net::TcpStream;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};

/// Pieces below this are copied together; larger ones are sent from where they are.
const COPY_BELOW_BYTES: usize = 1_024;
/// Pieces handed to the kernel in one call.
const PIECES_MAX: usize = 64;

/// Bytes to be sent, in order.
#[derive(Debug, Default)]
pub struct Outgoing {
    pieces: VecDeque<Bytes>,
    /// Small ones, behind all `pieces`.
    tail: BytesMut,
    bytes: usize,
}

impl Outgoing {
    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends a piece.
    pub fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if piece.len() < COPY_BELOW_BYTES && self.bytes > piece.len() {
            self.tail.extend_from_slice(&piece);
            return;
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.pieces.push_back(piece);
    }

    /// Appends a copy of `bytes`.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    /// Writes until everything is sent (true) or the sink takes no more (false).
    pub fn write_to(&mut self, sink: &mut impl Write) -> io::Result<bool> {
        while self.bytes > 0 {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let mut count = 0;
            for piece in self.pieces.iter().take(PIECES_MAX) {
                slices[count] = IoSlice::new(piece);
                count += 1;
            }
            if count < PIECES_MAX && !self.tail.is_empty() {
                slices[count] = IoSlice::new(&self.tail);
                count += 1;
            }
            match sink.write_vectored(&slices[..count]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.advance(n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // An idle connection holds no buffer.
        self.tail = BytesMut::new();
        Ok(true)
    }

    fn advance(&mut self, mut n: usize) {
        self.bytes -= n;
        while let Some(front) = self.pieces.front_mut() {
            if n < front.len() {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.pieces.pop_front();
        }
        self.tail.advance(n);
    }
}

/// Whether a socket may be read, as far as edge-triggered polling told.
#[derive(Debug, Default)]
pub struct Readiness {
    /// Bytes may be there.
    pub readable: bool,
    /// The other side has ended its direction: read until the end, however short reads are.
    pub ended: bool,
    /// Listed for the next reading round.
    pub listed: bool,
}

/// Where a client's connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientState {
    /// Served.
    Open,
    /// The core is done with it: what is queued is being sent.
    Flushing,
    /// Everything is sent and our direction ended; what still comes in is thrown away.
    Lingering,
}

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    /// The socket.
    pub socket: TcpStream,
    /// Which protocol it speaks.
    pub front: node::FrontEnd,
    /// What it has to be sent.
    pub out: Outgoing,
    /// Whether it can be read.
    pub ready: Readiness,
    /// Listed for the writing at the end of the round.
    pub dirty: bool,
    /// The core does not want to hear more for now.
    pub paused: bool,
    /// The core wants to know when all that was sent to it is gone.
    pub awaited: bool,
    /// Its phase.
    pub state: ClientState,
}

/// A stream that another core dialled.
#[derive(Debug)]
pub struct Inbound {
    /// The socket.
    pub socket: TcpStream,
    /// Received, not yet a whole frame.
    pub buffer: BytesMut,
    /// Whether it can be read.
    pub ready: Readiness,
    /// For log lines.
    pub from: String,
}

/// Where a dialled stream stands.
#[derive(Debug)]
pub enum Dial {
    /// The host name is being looked up.
    Resolving,
    /// The connection is being made.
    Connecting(TcpStream),
    /// Frames go out.
    Open(TcpStream),
}

/// A stream that this core dials.
#[derive(Debug)]
pub struct Outbound {
    /// To whom.
    pub to: node::Endpoint,
    /// What it was greeted with.
    pub hello: node::Hello,
    /// Its phase.
    pub dial: Dial,
    /// Frames to be sent, the greeting first.
    pub out: Outgoing,
    /// Listed for the writing at the end of the round.
    pub dirty: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most `step` bytes a call, and would block every third call.
    struct Narrow {
        got: Vec<u8>,
        step: usize,
        calls: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(3) {
                return Err(ErrorKind::WouldBlock.into());
            }
            let n = bytes.len().min(self.step);
            self.got.extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn pieces_of_all_sizes_leave_in_order_whatever_the_sink_takes() {
        for step in [1, 7, 1_000, 1_000_000] {
            let mut sink = Narrow {
                got: Vec::new(),
                step,
                calls: 0,
            };
            let (mut out, mut expected) = (Outgoing::default(), Vec::new());
            for (i, size) in [3, 5_000, 10, 20, 2_000, 1_023, 0, 1_024]
                .iter()
                .enumerate()
            {
                let piece = vec![i as u8; *size];
                expected.extend_from_slice(&piece);
                expected.push(0xEE);
                out.push(piece.into());
                out.push_copy(&[0xEE]);
                out.write_to(&mut sink).unwrap();
            }
            while !out.write_to(&mut sink).unwrap() {}
            assert_eq!(sink.got, expected);
            assert!(out.is_empty());
        }
    }
}
