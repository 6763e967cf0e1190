//! Connections of clients: read into the core, written from what it sends, closed by either side.

use super::{CoreThread, Timer, mark, read_some};
use crate::connection::{Client, ClientState, Outgoing, Readiness};
use crate::{log, sockets};
use base::Now;
use bytes::Bytes;
use mio::net::TcpStream;
use node::{ClientId, Event, FrontEnd};
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};

/// A client with more than this to be sent is not read.
const CLIENT_OUT_BYTES_HIGH: usize = 1 << 20;
/// A client with more than this to be sent is closed.
const CLIENT_OUT_BYTES_MAX: usize = 16 << 20;
/// A closed client gets this long to take what is queued.
const LINGER_US: u64 = 2_000_000;

impl CoreThread {
    pub(super) fn add_client(
        &mut self,
        now: Now,
        front: FrontEnd,
        mut socket: TcpStream,
        address: SocketAddr,
    ) {
        if self.clients.len() >= self.clients_max {
            self.refused_clients += 1;
            if self.refused_clients.is_power_of_two() {
                log::warn(format!(
                    "{} clients are connected, the most allowed: {address} was turned away ({} so far)",
                    self.clients.len(),
                    self.refused_clients
                ));
            }
            return;
        }
        let token = self.next_token();
        let outcome = sockets::tune(&socket, None).and_then(|()| self.register(&mut socket, token));
        if let Err(error) = outcome {
            return log::warn(format!("cannot serve the client {address}: {error}"));
        }
        self.clients.insert(
            token,
            Client {
                socket,
                front,
                out: Outgoing::default(),
                ready: Readiness::default(),
                dirty: false,
                paused: false,
                awaited: false,
                state: ClientState::Open,
            },
        );
        self.core.handle(
            now,
            Event::ClientOpened {
                client: ClientId(token),
                front,
                address: address.ip().to_canonical().to_string(),
                port: address.port(),
            },
        );
    }

    pub(super) fn read_client(&mut self, now: Now, token: u64) {
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        client.ready.listed = false;
        if client.state == ClientState::Open
            && (client.paused || client.out.len() > CLIENT_OUT_BYTES_HIGH)
        {
            // Listed again when it is resumed or has taken what is queued.
            return;
        }
        match read_some(&mut client.socket, &mut client.ready, &mut self.scratch) {
            Ok(0) => self.close_client(now, token),
            Ok(n) => {
                if client.ready.readable {
                    mark(&mut self.readable, &mut client.ready.listed, token);
                }
                if client.state == ClientState::Open {
                    let bytes = Bytes::copy_from_slice(&self.scratch[..n]);
                    let client = ClientId(token);
                    self.core.handle(now, Event::ClientBytes { client, bytes });
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.close_client(now, token),
        }
    }

    /// The client's side ended, or its connection broke.
    pub(super) fn close_client(&mut self, now: Now, token: u64) {
        if let Some(client) = self.clients.remove(&token)
            && client.state == ClientState::Open
        {
            let client = ClientId(token);
            self.core.handle(now, Event::ClientClosed { client });
        }
    }

    /// The core wants no more of a client for now, or wants more again.
    pub(super) fn pause_client(&mut self, client: ClientId, paused: bool) {
        if let Some(connection) = self.clients.get_mut(&client.0) {
            connection.paused = paused;
            if !paused && connection.ready.readable {
                mark(&mut self.readable, &mut connection.ready.listed, client.0);
            }
        }
    }

    /// The core is done with a client: what is queued is sent, then the connection ends.
    pub(super) fn end_client(&mut self, now: Now, client: ClientId) {
        if let Some(connection) = self.clients.get_mut(&client.0)
            && connection.state == ClientState::Open
        {
            connection.state = ClientState::Flushing;
            mark(&mut self.dirty, &mut connection.dirty, client.0);
            self.timers
                .insert((now.mono_us + LINGER_US, Timer::Linger(client.0)));
        }
    }

    /// The core holds back what is more for this client until it has read what comes next.
    pub(super) fn await_drain(&mut self, client: ClientId) {
        if let Some(connection) = self.clients.get_mut(&client.0) {
            connection.awaited = true;
            mark(&mut self.dirty, &mut connection.dirty, client.0);
        }
    }

    pub(super) fn send_client(&mut self, client: ClientId, bytes: Bytes) {
        let Some(connection) = self.clients.get_mut(&client.0) else {
            return;
        };
        if connection.state != ClientState::Open {
            return;
        }
        connection.out.push(bytes);
        if connection.out.len() > CLIENT_OUT_BYTES_MAX && !connection.awaited {
            log::warn(format!(
                "a client ({}) does not read: {} bytes wait for it, the connection is closed",
                connection
                    .socket
                    .peer_addr()
                    .map_or_else(|_| "gone".into(), |address| address.to_string()),
                connection.out.len()
            ));
            self.clients.remove(&client.0);
            self.events.push_back(Event::ClientClosed { client });
            return;
        }
        mark(&mut self.dirty, &mut connection.dirty, client.0);
    }

    pub(super) fn write_client(&mut self, token: u64) {
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        client.dirty = false;
        match client.out.write_to(&mut client.socket) {
            Ok(drained) => {
                if drained && std::mem::take(&mut client.awaited) {
                    let client = ClientId(token);
                    self.events.push_back(Event::ClientDrained { client });
                }
                if drained && client.state == ClientState::Flushing {
                    client.state = ClientState::Lingering;
                    if client.ready.ended || client.socket.shutdown(Shutdown::Write).is_err() {
                        self.clients.remove(&token);
                        return;
                    }
                }
                let wanted = client.state != ClientState::Open
                    || (!client.paused && client.out.len() <= CLIENT_OUT_BYTES_HIGH);
                if wanted && client.ready.readable {
                    mark(&mut self.readable, &mut client.ready.listed, token);
                }
            }
            Err(_) => {
                if let Some(client) = self.clients.remove(&token)
                    && client.state == ClientState::Open
                {
                    let client = ClientId(token);
                    self.events.push_back(Event::ClientClosed { client });
                }
            }
        }
    }
}
