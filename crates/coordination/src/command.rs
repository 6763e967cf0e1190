//! What may be asked of the coordination machine: a closed set of commands and their byte form.

use base::{DecodeError, Origin, Reader, SessionId, Writer};
use bytes::Bytes;

/// One replicated command with who sent it: the unit that `apply` takes as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Who sent it, and in what order.
    pub envelope: Envelope,
    /// What to do.
    pub command: Command,
}

/// Who a command is from. `apply` refuses an old generation and a gap in the sequence.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Envelope {
    /// Namespace of every path in the command; 0 is the only one so far.
    pub namespace: u32,
    /// The identities that access control sees.
    pub principal: Principal,
    /// The session, or 0 for commands that a leader or a joining client proposes.
    pub session: SessionId,
    /// How many times the session had been attached when the command was sent.
    pub generation: u32,
    /// Position among the commands of this attachment, from 1.
    pub sequence: u64,
}

/// The identities of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Principal {
    /// What the client proved: (scheme, id), for example ("digest", "bob:Xh7…=").
    pub identities: Vec<Identity>,
    /// The client's IP address in text, empty when there is none.
    pub address: String,
    /// True for the configured super user: every check passes.
    pub superuser: bool,
}

/// A scheme and an id within it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Identity {
    /// `world`, `auth`, `digest` or `ip`.
    pub scheme: String,
    /// Meaning depends on the scheme.
    pub id: String,
}

/// Permission bits of an [`Acl`].
pub mod permission {
    /// Read data and list children.
    pub const READ: u32 = 1;
    /// Set data.
    pub const WRITE: u32 = 2;
    /// Create children.
    pub const CREATE: u32 = 4;
    /// Delete children.
    pub const DELETE: u32 = 8;
    /// Read and set the access control list.
    pub const ADMIN: u32 = 16;
    /// All of them.
    pub const ALL: u32 = 31;
}

/// One line of an access control list.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Acl {
    /// Bits of [`permission`].
    pub permissions: u32,
    /// To whom.
    pub identity: Identity,
}

impl Acl {
    /// Everyone may do everything.
    pub fn open() -> Self {
        Self {
            permissions: permission::ALL,
            identity: Identity {
                scheme: "world".into(),
                id: "anyone".into(),
            },
        }
    }
}

/// Everything that the log may hold for this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// A new session, answered by [`crate::Output::SessionOpened`].
    OpenSession {
        /// Who waits for the answer.
        origin: Origin,
        /// Shown again to resume; chosen at random by the home.
        password: [u8; 16],
        /// Granted time-out in milliseconds.
        timeout_ms: u32,
    },
    /// Moves an existing session to a new home, answered by `SessionAttached` or `AttachRefused`.
    AttachSession {
        /// Who waits for the answer.
        origin: Origin,
        /// The session to resume.
        session: SessionId,
        /// Must be the one it was opened with.
        password: [u8; 16],
        /// Granted time-out in milliseconds, from now on.
        timeout_ms: u32,
    },
    /// Ends the envelope's session and removes its ephemeral nodes.
    CloseSession,
    /// Ends a session whose time-out ran out, if it is still of this generation.
    ExpireSession {
        /// The session.
        session: SessionId,
        /// The generation that the leader saw run out.
        generation: u32,
    },
    /// One operation on the tree.
    Write(TreeOp),
    /// Several, all or none; later ones see earlier ones.
    Multi(Vec<TreeOp>),
    /// Removes an empty container or an outlived TTL node, if it has not changed meanwhile. Proposed by a leader.
    Reap {
        /// The node.
        path: String,
        /// Its pzxid when the leader looked.
        pzxid: i64,
        /// Its mzxid when the leader looked.
        mzxid: i64,
    },
}

/// How a node is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateMode {
    /// Stays until deleted.
    Persistent {
        /// Append the parent's counter to the name.
        sequential: bool,
    },
    /// Goes with its session.
    Ephemeral {
        /// Append the parent's counter to the name.
        sequential: bool,
    },
    /// Removed some time after its last child is.
    Container,
    /// Removed when it has no children and was not modified for `ttl_ms`.
    Ttl {
        /// Milliseconds, from 1 to 2^40 − 1.
        ttl_ms: i64,
        /// Append the parent's counter to the name.
        sequential: bool,
    },
}

/// An operation that changes (or guards a change of) the tree. A `version` of −1 matches any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeOp {
    /// Creates a node.
    Create {
        /// Absolute path; with a sequential mode, the counter is appended.
        path: String,
        /// Its data.
        data: Bytes,
        /// Its access control list.
        acl: Vec<Acl>,
        /// Its kind.
        mode: CreateMode,
    },
    /// Deletes a node without children.
    Delete {
        /// Absolute path.
        path: String,
        /// Expected data version.
        version: i32,
    },
    /// Replaces a node's data.
    SetData {
        /// Absolute path.
        path: String,
        /// The new data.
        data: Bytes,
        /// Expected data version.
        version: i32,
    },
    /// Replaces a node's access control list.
    SetAcl {
        /// Absolute path.
        path: String,
        /// The new list.
        acl: Vec<Acl>,
        /// Expected ACL version.
        version: i32,
    },
    /// Changes nothing; fails unless the node exists at this data version.
    Check {
        /// Absolute path.
        path: String,
        /// Expected data version.
        version: i32,
    },
}

impl Command {
    /// True for what may leave the tree larger than it was; false for what frees, or is needed to free.
    pub fn adds(&self) -> bool {
        let adds = |op: &TreeOp| match op {
            TreeOp::Create { .. } | TreeOp::SetData { .. } | TreeOp::SetAcl { .. } => true,
            TreeOp::Delete { .. } | TreeOp::Check { .. } => false,
        };
        match self {
            Self::Write(op) => adds(op),
            Self::Multi(ops) => ops.iter().any(adds),
            Self::OpenSession { .. }
            | Self::AttachSession { .. }
            | Self::CloseSession
            | Self::ExpireSession { .. }
            | Self::Reap { .. } => false,
        }
    }
}

impl Unit {
    /// The byte form, as it stands in the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode_into(&mut w);
        w.into_vec()
    }

    /// Appends the byte form.
    pub fn encode_into(&self, w: &mut Writer) {
        let e = &self.envelope;
        w.u32(e.namespace).i64(e.session.0).u32(e.generation);
        w.u64(e.sequence).bool(e.principal.superuser);
        w.str(&e.principal.address);
        w.u32(e.principal.identities.len() as u32);
        for identity in &e.principal.identities {
            encode_identity(w, identity);
        }
        match &self.command {
            Command::OpenSession {
                origin,
                password,
                timeout_ms,
            } => {
                w.u8(1);
                origin.encode_into(w);
                w.raw(password).u32(*timeout_ms);
            }
            Command::AttachSession {
                origin,
                session,
                password,
                timeout_ms,
            } => {
                w.u8(2);
                origin.encode_into(w);
                w.i64(session.0).raw(password).u32(*timeout_ms);
            }
            Command::CloseSession => {
                w.u8(3);
            }
            Command::ExpireSession {
                session,
                generation,
            } => {
                w.u8(4).i64(session.0).u32(*generation);
            }
            Command::Write(op) => {
                w.u8(5);
                encode_op(w, op);
            }
            Command::Multi(ops) => {
                w.u8(6).u32(ops.len() as u32);
                for op in ops {
                    encode_op(w, op);
                }
            }
            Command::Reap { path, pzxid, mzxid } => {
                w.u8(7).str(path).i64(*pzxid).i64(*mzxid);
            }
        }
    }

    /// Reads the byte form; everything must be consumed.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let mut envelope = Envelope {
            namespace: r.u32()?,
            session: SessionId(r.i64()?),
            generation: r.u32()?,
            sequence: r.u64()?,
            principal: Principal::default(),
        };
        envelope.principal.superuser = r.bool()?;
        envelope.principal.address = r.str()?.to_owned();
        for _ in 0..r.count(8)? {
            envelope.principal.identities.push(decode_identity(&mut r)?);
        }
        let command = match r.u8()? {
            1 => Command::OpenSession {
                origin: Origin::decode_from(&mut r)?,
                password: decode_password(&mut r)?,
                timeout_ms: r.u32()?,
            },
            2 => Command::AttachSession {
                origin: Origin::decode_from(&mut r)?,
                session: SessionId(r.i64()?),
                password: decode_password(&mut r)?,
                timeout_ms: r.u32()?,
            },
            3 => Command::CloseSession,
            4 => Command::ExpireSession {
                session: SessionId(r.i64()?),
                generation: r.u32()?,
            },
            5 => Command::Write(decode_op(&mut r, bytes)?),
            6 => {
                let n = r.count(9)?;
                let mut ops = Vec::with_capacity(n);
                for _ in 0..n {
                    ops.push(decode_op(&mut r, bytes)?);
                }
                Command::Multi(ops)
            }
            7 => Command::Reap {
                path: r.str()?.to_owned(),
                pzxid: r.i64()?,
                mzxid: r.i64()?,
            },
            _ => return Err(DecodeError::Invalid("coordination command")),
        };
        r.finish()?;
        Ok(Self { envelope, command })
    }
}

fn encode_identity(w: &mut Writer, identity: &Identity) {
    w.str(&identity.scheme).str(&identity.id);
}

fn decode_identity(r: &mut Reader<'_>) -> Result<Identity, DecodeError> {
    Ok(Identity {
        scheme: r.str()?.to_owned(),
        id: r.str()?.to_owned(),
    })
}

fn decode_password(r: &mut Reader<'_>) -> Result<[u8; 16], DecodeError> {
    Ok(r.take(16)?.try_into().expect("16 bytes were taken"))
}

/// Appends an access control list; also the form that snapshots hold.
pub fn encode_acl(w: &mut Writer, acl: &[Acl]) {
    w.u32(acl.len() as u32);
    for line in acl {
        w.u32(line.permissions);
        encode_identity(w, &line.identity);
    }
}

/// Reads an access control list.
pub fn decode_acl(r: &mut Reader<'_>) -> Result<Vec<Acl>, DecodeError> {
    let n = r.count(12)?;
    let mut acl = Vec::with_capacity(n);
    for _ in 0..n {
        acl.push(Acl {
            permissions: r.u32()?,
            identity: decode_identity(r)?,
        });
    }
    Ok(acl)
}

fn encode_mode(w: &mut Writer, mode: CreateMode) {
    match mode {
        CreateMode::Persistent { sequential } => w.u8(1).bool(sequential),
        CreateMode::Ephemeral { sequential } => w.u8(2).bool(sequential),
        CreateMode::Container => w.u8(3),
        CreateMode::Ttl { ttl_ms, sequential } => w.u8(4).bool(sequential).i64(ttl_ms),
    };
}

fn decode_mode(r: &mut Reader<'_>) -> Result<CreateMode, DecodeError> {
    Ok(match r.u8()? {
        1 => CreateMode::Persistent {
            sequential: r.bool()?,
        },
        2 => CreateMode::Ephemeral {
            sequential: r.bool()?,
        },
        3 => CreateMode::Container,
        4 => CreateMode::Ttl {
            sequential: r.bool()?,
            ttl_ms: r.i64()?,
        },
        _ => return Err(DecodeError::Invalid("create mode")),
    })
}

fn encode_op(w: &mut Writer, op: &TreeOp) {
    match op {
        TreeOp::Create {
            path,
            data,
            acl,
            mode,
        } => {
            w.u8(1).str(path).bytes(data);
            encode_acl(w, acl);
            encode_mode(w, *mode);
        }
        TreeOp::Delete { path, version } => {
            w.u8(2).str(path).i32(*version);
        }
        TreeOp::SetData {
            path,
            data,
            version,
        } => {
            w.u8(3).str(path).bytes(data).i32(*version);
        }
        TreeOp::SetAcl { path, acl, version } => {
            w.u8(4).str(path);
            encode_acl(w, acl);
            w.i32(*version);
        }
        TreeOp::Check { path, version } => {
            w.u8(5).str(path).i32(*version);
        }
    }
}

fn decode_op(r: &mut Reader<'_>, whole: &Bytes) -> Result<TreeOp, DecodeError> {
    Ok(match r.u8()? {
        1 => TreeOp::Create {
            path: r.str()?.to_owned(),
            data: whole.slice_ref(r.bytes()?),
            acl: decode_acl(r)?,
            mode: decode_mode(r)?,
        },
        2 => TreeOp::Delete {
            path: r.str()?.to_owned(),
            version: r.i32()?,
        },
        3 => TreeOp::SetData {
            path: r.str()?.to_owned(),
            data: whole.slice_ref(r.bytes()?),
            version: r.i32()?,
        },
        4 => TreeOp::SetAcl {
            path: r.str()?.to_owned(),
            acl: decode_acl(r)?,
            version: r.i32()?,
        },
        5 => TreeOp::Check {
            path: r.str()?.to_owned(),
            version: r.i32()?,
        },
        _ => return Err(DecodeError::Invalid("tree operation")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{CoreAddress, CoreId, NodeId};

    #[test]
    fn every_command_survives_its_byte_form() {
        let origin = Origin {
            home: CoreAddress {
                node: NodeId(7),
                core: CoreId(1),
            },
            token: 9,
        };
        let session = SessionId(-3);
        let password = [5; 16];
        let acl = vec![Acl::open()];
        let create = |mode| TreeOp::Create {
            path: "/a".into(),
            data: Bytes::from_static(b"x"),
            acl: acl.clone(),
            mode,
        };
        let commands = [
            Command::OpenSession {
                origin,
                password,
                timeout_ms: 10,
            },
            Command::AttachSession {
                origin,
                session,
                password,
                timeout_ms: 10,
            },
            Command::CloseSession,
            Command::ExpireSession {
                session,
                generation: 2,
            },
            Command::Write(create(CreateMode::Container)),
            Command::Multi(vec![
                create(CreateMode::Persistent { sequential: true }),
                create(CreateMode::Ephemeral { sequential: false }),
                create(CreateMode::Ttl {
                    ttl_ms: 5,
                    sequential: true,
                }),
                TreeOp::Delete {
                    path: "/a".into(),
                    version: -1,
                },
                TreeOp::SetData {
                    path: "/a".into(),
                    data: Bytes::new(),
                    version: 3,
                },
                TreeOp::SetAcl {
                    path: "/a".into(),
                    acl,
                    version: 0,
                },
                TreeOp::Check {
                    path: "/".into(),
                    version: 1,
                },
            ]),
            Command::Reap {
                path: "/c".into(),
                pzxid: 4,
                mzxid: 5,
            },
        ];
        for command in commands {
            let unit = Unit {
                envelope: Envelope {
                    session,
                    generation: 1,
                    sequence: 2,
                    principal: Principal {
                        identities: vec![Identity {
                            scheme: "digest".into(),
                            id: "a:b".into(),
                        }],
                        address: "127.0.0.1".into(),
                        superuser: true,
                    },
                    namespace: 0,
                },
                command,
            };
            let bytes = Bytes::from(unit.encode());
            assert_eq!(Unit::decode(&bytes), Ok(unit));
            for cut in 0..bytes.len() {
                assert!(Unit::decode(&bytes.slice(..cut)).is_err());
            }
        }
    }
}
