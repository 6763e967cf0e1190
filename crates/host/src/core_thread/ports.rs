//! The ports that clients come through, one a front end: opened and closed as the core says.

use super::{CoreThread, FIRST_PORT, Timer};
use crate::connection::ClientState;
use crate::log;
use crate::sockets::{Bound, clients_error};
use base::Now;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use node::{ClientId, Event, FrontEnd};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// Connections accepted at a port in one round, at most.
const ACCEPT_MAX: usize = 256;
/// Pause after the machine ran out of files.
const ACCEPT_PAUSE_US: u64 = 100_000;

/// Where the clients of one front end come in.
pub(super) struct Port {
    pub(super) address: SocketAddr,
    state: State,
    /// Clients may be waiting.
    ready: bool,
}

enum State {
    Bound(Bound),
    Listening(TcpListener),
    /// Could not be bound again after it was closed; tried again when it shall open.
    Lost,
}

impl Port {
    /// One that does not listen yet.
    pub(super) fn new(bound: Bound) -> Self {
        Self {
            address: bound.address(),
            state: State::Bound(bound),
            ready: false,
        }
    }

    fn open(&mut self, registry: &Registry, token: u64, shared: bool) -> io::Result<()> {
        let bound = match std::mem::replace(&mut self.state, State::Lost) {
            State::Bound(bound) => bound,
            State::Lost => Bound::new(self.address, shared)?,
            listening @ State::Listening(_) => {
                self.state = listening;
                return Ok(());
            }
        };
        let mut listener = TcpListener::from_std(bound.listen()?);
        registry.register(&mut listener, Token(token as usize), Interest::READABLE)?;
        self.state = State::Listening(listener);
        self.ready = true;
        Ok(())
    }

    fn close(&mut self, shared: bool) {
        if let State::Listening(_) = self.state {
            self.state = State::Lost;
            self.ready = false;
            // Keep the port without listening; if that fails now, it is tried again on opening.
            if let Ok(bound) = Bound::new(self.address, shared) {
                self.state = State::Bound(bound);
            }
        }
    }

    /// The next client that waits. `None`: there is none.
    fn accept(&mut self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let State::Listening(listener) = &self.state else {
            return None;
        };
        let accepted = listener.accept();
        if matches!(&accepted, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            self.ready = false;
            return None;
        }
        Some(accepted)
    }
}

/// What a front end's port is polled under.
fn token_of(front: FrontEnd) -> u64 {
    FIRST_PORT + front as u64
}

impl CoreThread {
    pub(super) fn note_port(&mut self, token: u64) {
        for (front, port) in &mut self.ports {
            port.ready |= token_of(*front) == token;
        }
    }

    pub(super) fn can_accept(&self) -> bool {
        !self.accept_paused && self.ports.values().any(|port| port.ready)
    }

    pub(super) fn accept(&mut self, now: Now) {
        for front in FrontEnd::ALL {
            self.accept_at(now, front);
        }
    }

    fn accept_at(&mut self, now: Now, front: FrontEnd) {
        for _ in 0..ACCEPT_MAX {
            let accepted = match self.ports.get_mut(&front) {
                Some(port) if port.ready && !self.accept_paused => port.accept(),
                _ => return,
            };
            match accepted {
                None => return,
                Some(Ok((socket, address))) => self.add_client(now, front, socket, address),
                Some(Err(error)) => self.accept_failed(now, &error),
            }
        }
    }

    fn accept_failed(&mut self, now: Now, error: &io::Error) {
        let short = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
        if !error
            .raw_os_error()
            .is_some_and(|code| short.contains(&code))
        {
            // The client went away before it was accepted.
            return;
        }
        log::warn(format!(
            "cannot accept a client: {error}; trying again in {} ms",
            ACCEPT_PAUSE_US / 1_000
        ));
        self.accept_paused = true;
        self.timers
            .insert((now.mono_us + ACCEPT_PAUSE_US, Timer::Accept));
    }

    pub(super) fn open_port(&mut self, front: FrontEnd) {
        let Some(port) = self.ports.get_mut(&front) else {
            // It is off on this node.
            return;
        };
        let registry = self.poll.registry();
        if let Err(error) = port.open(registry, token_of(front), self.shared_ports) {
            let error = clients_error(port.address, front, &error);
            self.stop = Some(Some(error.to_string()));
        }
    }

    pub(super) fn close_port(&mut self, front: FrontEnd) {
        if let Some(port) = self.ports.get_mut(&front) {
            port.close(self.shared_ports);
        }
        self.clients.retain(|token, client| {
            if client.front == front && client.state == ClientState::Open {
                let client = ClientId(*token);
                self.events.push_back(Event::ClientClosed { client });
            }
            client.front != front
        });
    }
}
