//! Rounds of a core's thread over real sockets.

use super::*;
use crate::connection::Dial;
use crate::frame;
use base::CoreId;
use bytes::{Bytes, BytesMut};
use mio::Waker;
use node::CoreConfig;
use node::{ClientId, Hello};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

/// A core's thread whose rounds the test runs.
fn thread() -> CoreThread {
    let clock = Clock::new();
    let poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), WAKER_TOKEN).unwrap());
    let (sender, mail) = channel();
    let config = CoreConfig {
        initial_members: Vec::new(),
        ..CoreConfig::default()
    };
    CoreThread::new(CoreParts {
        name: "core 0".into(),
        core: Core::new(clock.now(), config, Vec::new()),
        clock,
        poll,
        mail,
        mailbox: Mailbox::new(sender, waker),
        prober: Prober::start().unwrap(),
        disks: BTreeMap::new(),
        ports: FrontEnd::ALL
            .map(|front| {
                (
                    front,
                    Bound::new(([127, 0, 0, 1], 0).into(), false).unwrap(),
                )
            })
            .into(),
        shared_ports: false,
        clients_max: 2,
    })
}

/// Runs rounds, without the core's own wishes, until `done` yields something.
fn until<T>(thread: &mut CoreThread, mut done: impl FnMut(&mut CoreThread) -> Option<T>) -> T {
    let mut polled = Events::with_capacity(64);
    let start = Instant::now();
    loop {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it never happens"
        );
        if let Some(value) = done(thread) {
            return value;
        }
        thread
            .poll
            .poll(&mut polled, Some(Duration::from_millis(5)))
            .unwrap();
        let now = thread.clock.now();
        for event in &polled {
            thread.note(now, event);
        }
        thread.take_mail(now);
        thread.run_timers(now);
        thread.accept(now);
        thread.read(now);
        thread.write_all();
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        address: address.to_string(),
        core: CoreId(0),
    }
}

#[test]
fn frames_to_a_peer_follow_the_greeting_in_order_and_a_broken_stream_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = endpoint(listener.local_addr().unwrap());
    let mut thread = thread();
    let now = thread.clock.now();
    for size in [0, 10, 5_000, 3_000_000] {
        thread.send_peer(now, to.clone(), vec![7; size].into());
    }
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    until(&mut thread, |_| {
        let mut scratch = [0; 100_000];
        while let Ok(n @ 1..) = stream.read(&mut scratch) {
            buffer.extend_from_slice(&scratch[..n]);
        }
        while let Some(frame) = frame::take(&mut buffer, frame::FRAME_BYTES_MAX).unwrap() {
            frames.push(frame);
        }
        (frames.len() == 5).then_some(())
    });
    assert_eq!(Hello::decode(&frames[0]), Ok(thread.core.hello(&to)));
    let sizes: Vec<usize> = frames[1..].iter().map(Bytes::len).collect();
    assert_eq!(sizes, [0, 10, 5_000, 3_000_000]);

    drop(stream);
    let event = until(&mut thread, |thread| thread.events.pop_front());
    assert_eq!(event, Event::SendFailed { to: to.clone() });
    // During the pause frames are dropped and nothing is dialled; after it they are again.
    let now = thread.clock.now();
    thread.send_peer(now, to.clone(), Bytes::from_static(b"lost"));
    assert!(thread.outbound.is_empty());
    until(&mut thread, |thread| thread.paused.is_empty().then_some(()));
    let now = thread.clock.now();
    thread.send_peer(now, to, Bytes::from_static(b"again"));
    until(&mut thread, |thread| {
        thread
            .outbound
            .values()
            .all(|peer| matches!(peer.dial, Dial::Open(_)))
            .then_some(())
    });
}

#[test]
fn failed_dial_is_told() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = endpoint(closed.local_addr().unwrap());
    drop(closed);
    let mut thread = thread();
    let now = thread.clock.now();
    thread.send_peer(now, to.clone(), Bytes::from_static(b"x"));
    let event = until(&mut thread, |thread| thread.events.pop_front());
    assert_eq!(event, Event::SendFailed { to });
}

fn connect(thread: &mut CoreThread) -> (std::net::TcpStream, u64) {
    thread.open_port(FrontEnd::Zookeeper);
    let before: Vec<u64> = thread.clients.keys().copied().collect();
    let stream = std::net::TcpStream::connect(thread.ports[&FrontEnd::Zookeeper].address).unwrap();
    let token = until(thread, |thread| {
        thread
            .clients
            .keys()
            .copied()
            .find(|token| !before.contains(token))
    });
    (stream, token)
}

#[test]
fn closed_client_gets_what_is_queued_and_then_the_end() {
    let mut thread = thread();
    let (mut stream, token) = connect(&mut thread);
    let now = thread.clock.now();
    let client = ClientId(token);
    stream.write_all(b"something that nobody reads").unwrap();
    let bytes = Bytes::from(vec![1; 1 << 20]);
    thread.send_client(client, bytes);
    thread.carry_out(now, Action::CloseClient { client });
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).map(|_| got.len())
    });
    until(&mut thread, |thread| {
        thread.clients.is_empty().then_some(())
    });
    assert_eq!(reader.join().unwrap().unwrap(), 1 << 20);
    assert!(thread.events.is_empty(), "the core knows that it closed it");
}

#[test]
fn client_that_does_not_read_is_closed_at_the_cap() {
    let mut thread = thread();
    let (_stream, token) = connect(&mut thread);
    let client = ClientId(token);
    for _ in 0..40 {
        thread.send_client(client, Bytes::from(vec![1; 1 << 20]));
        thread.write_all();
    }
    assert!(thread.clients.is_empty());
    assert_eq!(
        thread.events.pop_front(),
        Some(Event::ClientClosed { client })
    );
}

#[test]
fn paused_client_is_read_only_after_it_is_resumed() {
    let mut thread = thread();
    let (mut stream, token) = connect(&mut thread);
    let now = thread.clock.now();
    let client = ClientId(token);
    thread.carry_out(
        now,
        Action::PauseClient {
            client,
            paused: true,
        },
    );
    stream.write_all(b"hello").unwrap();
    until(&mut thread, |thread| {
        thread.clients[&token].ready.readable.then_some(())
    });
    thread.carry_out(
        now,
        Action::PauseClient {
            client,
            paused: false,
        },
    );
    // A short read shows that the bytes were taken.
    until(&mut thread, |thread| {
        (!thread.clients[&token].ready.readable).then_some(())
    });
}

#[test]
fn clients_beyond_the_cap_are_turned_away_and_a_closed_port_refuses() {
    let mut thread = thread();
    let (_first, _) = connect(&mut thread);
    let (_second, _) = connect(&mut thread);
    let mut third =
        std::net::TcpStream::connect(thread.ports[&FrontEnd::Zookeeper].address).unwrap();
    third.set_nonblocking(true).unwrap();
    until(&mut thread, |_| {
        matches!(third.read(&mut [0]), Ok(0)).then_some(())
    });
    assert_eq!(thread.clients.len(), 2);

    thread.close_port(FrontEnd::Zookeeper);
    assert!(thread.clients.is_empty());
    assert_eq!(thread.events.len(), 2);
    let address = thread.ports[&FrontEnd::Zookeeper].address;
    assert!(std::net::TcpStream::connect(address).is_err());
    thread.open_port(FrontEnd::Zookeeper);
    std::net::TcpStream::connect(address).unwrap();
}
