//! The ports that clients come through: opened and closed as the core says.

use super::{CoreThread, LISTENER, Timer};
use crate::connection::ClientState;
use crate::log;
use crate::sockets::{self, Bound};
use base::Now;
use mio::net::TcpListener;
use mio::{Interest, Token};
use node::{ClientId, Event, FrontEnd};
use std::io::{self, ErrorKind};

/// Connections accepted in one round, at most.
const ACCEPT_MAX: usize = 256;
/// Pause after the machine ran out of files.
const ACCEPT_PAUSE_US: u64 = 100_000;

pub(super) enum Port {
    Off,
    Bound(Bound),
    Listening(TcpListener),
    /// Could not be bound again after it was closed; tried again when it shall open.
    Lost,
}

impl CoreThread {
    pub(super) fn can_accept(&self) -> bool {
        self.accept_ready && !self.accept_paused && matches!(self.port, Port::Listening(_))
    }

    pub(super) fn accept(&mut self, now: Now) {
        if !self.can_accept() {
            return;
        }
        for _ in 0..ACCEPT_MAX {
            let Port::Listening(listener) = &self.port else {
                return;
            };
            match listener.accept() {
                Ok((socket, address)) => self.add_client(now, socket, address),
                Err(error) => match error.raw_os_error() {
                    _ if error.kind() == ErrorKind::WouldBlock => {
                        self.accept_ready = false;
                        return;
                    }
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                        log::warn(format!(
                            "cannot accept a client: {error}; trying again in {} ms",
                            ACCEPT_PAUSE_US / 1_000
                        ));
                        self.accept_paused = true;
                        self.timers
                            .insert((now.mono_us + ACCEPT_PAUSE_US, Timer::Accept));
                        return;
                    }
                    // The client went away before it was accepted.
                    _ => {}
                },
            }
        }
    }

    pub(super) fn open_port(&mut self) {
        let bound = match std::mem::replace(&mut self.port, Port::Off) {
            Port::Bound(bound) => Ok(bound),
            Port::Lost => self.bind_again(),
            other => {
                self.port = other;
                return;
            }
        };
        let opened = bound.and_then(Bound::listen).and_then(|listener| {
            let mut listener = TcpListener::from_std(listener);
            let token = Token(LISTENER as usize);
            self.poll
                .registry()
                .register(&mut listener, token, Interest::READABLE)?;
            Ok(listener)
        });
        match (opened, self.port_address) {
            (Ok(listener), _) => {
                self.port = Port::Listening(listener);
                self.accept_ready = true;
            }
            (Err(error), Some(address)) => {
                let error =
                    sockets::listen_error(address, "ZooKeeper clients", "zookeeper", &error);
                self.stop = Some(Some(error.to_string()));
            }
            (Err(_), None) => {}
        }
    }

    fn bind_again(&self) -> io::Result<Bound> {
        let address = self
            .port_address
            .ok_or_else(|| io::Error::other("the front end is off"))?;
        Bound::new(address, self.shared_port)
    }

    pub(super) fn close_port(&mut self, front: FrontEnd) {
        if let Port::Listening(_) = self.port {
            self.port = Port::Lost;
            self.accept_ready = false;
            // Keep the port without listening; if that fails now, it is tried again on opening.
            if let Ok(bound) = self.bind_again() {
                self.port = Port::Bound(bound);
            }
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
