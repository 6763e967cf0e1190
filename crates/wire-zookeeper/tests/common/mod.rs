//! One of everything, for the tests.

#![allow(dead_code)] // each test file uses some of it

use base::SessionId;
use bytes::Bytes;
use coordination::{Acl, CreateMode, Identity, Query, Stat, TreeOp};
use wire_zookeeper::{
    ConnectRequest, Connection, Incoming, Limits, ProtocolError, Request, WatchKind, WriteShape,
};

/// A stat in which no two fields are alike: 1 to 11 in the protocol's order.
pub fn stat() -> Stat {
    Stat {
        czxid: 1,
        mzxid: 2,
        ctime_ms: 3,
        mtime_ms: 4,
        version: 5,
        cversion: 6,
        aversion: 7,
        ephemeral_owner: 8,
        data_length: 9,
        num_children: 10,
        pzxid: 11,
    }
}

/// A connect request, as clients send it.
pub fn connect() -> ConnectRequest {
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0x1234,
        timeout_ms: 10_000,
        session: SessionId(-7),
        password: b"0123456789abcdef".to_vec(),
        read_only: true,
        had_read_only_flag: true,
    }
}

fn create(mode: CreateMode) -> TreeOp {
    TreeOp::Create {
        path: "/ä/b".into(),
        data: Bytes::from_static(b"data"),
        acl: vec![
            Acl::open(),
            Acl {
                permissions: 5,
                identity: Identity {
                    scheme: "digest".into(),
                    id: "u:h=".into(),
                },
            },
        ],
        mode,
    }
}

/// Every write with each of its shapes.
pub fn writes() -> Vec<(TreeOp, WriteShape)> {
    let path = || "/a".to_owned();
    let mut writes = vec![
        (create(CreateMode::Container), WriteShape::Plain),
        (create(CreateMode::Container), WriteShape::WithStat),
        (
            TreeOp::Delete {
                path: path(),
                version: -1,
            },
            WriteShape::Plain,
        ),
        (
            TreeOp::SetData {
                path: path(),
                data: Bytes::new(),
                version: 3,
            },
            WriteShape::Plain,
        ),
        (
            TreeOp::Check {
                path: path(),
                version: 7,
            },
            WriteShape::Plain,
        ),
    ];
    for sequential in [false, true] {
        let ttl_ms = 1;
        writes.push((
            create(CreateMode::Ttl { ttl_ms, sequential }),
            WriteShape::WithStat,
        ));
        for shape in [WriteShape::Plain, WriteShape::WithStat] {
            writes.push((create(CreateMode::Persistent { sequential }), shape));
            writes.push((create(CreateMode::Ephemeral { sequential }), shape));
        }
    }
    writes
}

/// Every request that a client can send.
pub fn requests() -> Vec<Request> {
    let path = || "/a/é".to_owned();
    let strings = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let mut requests = vec![
        Request::AddAuth {
            scheme: "digest".into(),
            auth: Bytes::from_static(b"u:p"),
        },
        Request::SetWatches {
            relative_zxid: 5,
            data: strings(&["/a", "/b"]),
            exist: strings(&[]),
            child: strings(&["/c"]),
            persistent: strings(&[]),
            persistent_recursive: strings(&[]),
        },
        Request::SetWatches {
            relative_zxid: -1,
            data: strings(&[]),
            exist: strings(&["/e"]),
            child: strings(&[]),
            persistent: strings(&["/p"]),
            persistent_recursive: strings(&["/r", "/"]),
        },
        Request::Write {
            op: TreeOp::SetAcl {
                path: path(),
                acl: vec![Acl::open()],
                version: 2,
            },
            shape: WriteShape::Plain,
        },
        Request::Multi(Vec::new()),
        Request::Multi(writes()),
        Request::MultiRead(Vec::new()),
        Request::MultiRead(vec![
            Query::GetData { path: path() },
            Query::GetChildren { path: path() },
        ]),
        Request::Read {
            query: Query::GetAcl { path: path() },
            watch: false,
        },
        Request::AddWatch {
            path: path(),
            recursive: false,
        },
        Request::AddWatch {
            path: path(),
            recursive: true,
        },
        Request::Sync { path: path() },
        Request::Unimplemented { opcode: 16 },
        Request::Unimplemented { opcode: i32::MIN },
    ];
    for (op, shape) in writes() {
        requests.push(Request::Write { op, shape });
    }
    for watch in [false, true] {
        for query in [
            Query::Exists { path: path() },
            Query::GetData { path: path() },
            Query::GetChildren { path: path() },
            Query::GetChildren2 { path: path() },
        ] {
            requests.push(Request::Read { query, watch });
        }
    }
    for kind in [
        WatchKind::Children,
        WatchKind::Data,
        WatchKind::Any,
        WatchKind::Persistent,
        WatchKind::PersistentRecursive,
    ] {
        let path = path();
        requests.push(Request::RemoveWatches {
            path: path.clone(),
            kind,
        });
        requests.push(Request::CheckWatches { path, kind });
    }
    requests.push(Request::Ping);
    requests.push(Request::CloseSession);
    requests
}

/// Everything that can be polled.
pub fn poll_all(connection: &mut Connection) -> Result<Vec<Incoming>, ProtocolError> {
    let mut all = Vec::new();
    while let Some(incoming) = connection.poll()? {
        all.push(incoming);
    }
    Ok(all)
}

/// A connection whose connect request was read.
pub fn connected(limits: Limits) -> Connection {
    let mut bytes = Vec::new();
    wire_zookeeper::client::request::connect(&mut bytes, &connect());
    let mut connection = Connection::new(limits);
    connection.handle_bytes(&bytes.into());
    let first = poll_all(&mut connection).expect("a connect request");
    assert_eq!(first, [Incoming::Connect(connect())]);
    connection
}

/// A case of a script in `testscripts`.
pub struct Case<'a> {
    /// What the case is about.
    pub title: &'a str,
    /// The bytes in hex, joined.
    pub bytes: Vec<u8>,
    /// What is behind the arrow, if there is one.
    pub expected: Option<&'a str>,
}

/// Reads a script: `== title`, lines of hex and what they are, `-> expected`; `#` opens a comment.
pub fn cases(script: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for line in script.lines() {
        if let Some(title) = line.strip_prefix("== ") {
            cases.push(Case {
                title,
                bytes: Vec::new(),
                expected: None,
            });
        } else if !line.is_empty() && !line.starts_with('#') {
            let case = cases.last_mut().expect("a title comes first");
            match line.strip_prefix("-> ") {
                Some(expected) => case.expected = Some(expected),
                None => case.bytes.extend(hex(line)),
            }
        }
    }
    cases
}

fn hex(line: &str) -> Vec<u8> {
    let digits = line.split(' ').next().expect("a line is not empty");
    assert_eq!(digits.len() % 2, 0, "whole bytes: {line}");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect(line))
        .collect()
}
