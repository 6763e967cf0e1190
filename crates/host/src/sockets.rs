//! Listening sockets: bound early, so that a taken port fails at once, and opened when a core says so.

use crate::HostError;
use node::FrontEnd;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

/// Connections that the kernel holds before they are accepted.
const BACKLOG: i32 = 4_096;

/// A port that is ours. Not listening, so that clients are refused and turn to another node.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    address: SocketAddr,
}

impl Bound {
    /// Binds `address`. With `shared`, several sockets of this process may bind it and share its clients.
    pub fn new(address: SocketAddr, shared: bool) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&SockAddr::from(address))?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("not an internet address"))?;
        Ok(Self { socket, address })
    }

    /// The address, with the port that was given for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts listening; the listener is non-blocking.
    pub fn listen(self) -> io::Result<TcpListener> {
        self.socket.listen(BACKLOG)?;
        self.socket.set_nonblocking(true)?;
        Ok(self.socket.into())
    }
}

/// As [`listen_error`], for the clients of a front end.
pub fn clients_error(address: SocketAddr, front: FrontEnd, error: &io::Error) -> HostError {
    let who = format!("{} clients", front.name());
    listen_error(address, &who, front.key(), error)
}

/// Says which option moves a port that is taken.
pub fn listen_error(address: SocketAddr, who: &str, key: &str, error: &io::Error) -> HostError {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has the port: stop it, or move Althing's ports"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege: grant it, or move Althing's ports"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no network interface has this address: correct it, or move Althing"
        }
        _ => "choose another port or address",
    };
    HostError::Listen(format!(
        "cannot listen on {address} for {who}: {error}; {advice} (--port-offset K with `althing dev`, `listen.{key}` in a configuration)"
    ))
}

/// What every non-blocking stream gets: no delay, and probes that find a vanished peer within about
/// 30 s. With `silence`, sent bytes that stay unacknowledged for that long break the stream.
pub fn tune(stream: &impl AsFd, silence: Option<Duration>) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(silence)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(15))
            .with_interval(Duration::from_secs(5))
            .with_retries(3),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn bound_but_not_listening_refuses_clients_until_opened() {
        let bound = Bound::new(([127, 0, 0, 1], 0).into(), false).unwrap();
        let address = bound.address();
        assert!(TcpStream::connect(address).is_err());
        let _listener = bound.listen().unwrap();
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn taken_port_is_named_with_the_option_that_moves_it() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let error = Bound::new(address, false).unwrap_err();
        let text = clients_error(address, FrontEnd::Zookeeper, &error).to_string();
        assert!(text.contains(&address.to_string()));
        assert!(text.contains("--port-offset") && text.contains("listen.zookeeper"));
    }
}
