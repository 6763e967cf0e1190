//! What the clients do: registers, sequential, ephemeral and short-lived nodes, multis, watches.
//!
//! `/register/N` are set and read; every value is unique. `/log` gathers sequential nodes that are never
//! deleted: a record of what was applied and in which order. `/live` holds ephemerals. `/short/N` come and go.

use crate::history::{Kind, Op};
use base::Rng;

/// Registers.
pub const REGISTERS: u64 = 3;
/// Nodes that come and go.
pub const SHORT: u64 = 3;

/// The nodes that everything else needs, in order of creation.
pub fn foundation() -> Vec<Op> {
    let mut paths: Vec<String> = ["/register", "/log", "/live", "/short"]
        .map(String::from)
        .into();
    paths.extend((0..REGISTERS).map(register));
    paths
        .into_iter()
        .map(|path| Op::Create {
            value: format!("first{path}"),
            path,
            kind: Kind {
                ephemeral: false,
                sequential: false,
            },
        })
        .collect()
}

/// The path of a register.
pub fn register(number: u64) -> String {
    format!("/register/{number}")
}

fn short(number: u64) -> String {
    format!("/short/{number}")
}

/// One client's intentions.
#[derive(Debug)]
pub struct Intentions {
    rng: Rng,
    client: usize,
    count: u64,
    /// Ephemerals that it made, perhaps.
    own: Vec<String>,
    /// Bytes appended to each value.
    padding: usize,
}

impl Intentions {
    /// The intentions of a client.
    pub fn new(client: usize, rng: Rng, padding: usize) -> Self {
        Self {
            rng,
            client,
            count: 0,
            own: Vec::new(),
            padding,
        }
    }

    fn value(&mut self) -> String {
        self.count += 1;
        format!(
            "v{}.{}{}",
            self.client,
            self.count,
            "·".repeat(self.padding / 2)
        )
    }

    fn any_register(&mut self) -> String {
        register(self.rng.range(0, REGISTERS))
    }

    fn any_short(&mut self) -> String {
        short(self.rng.range(0, SHORT))
    }

    fn set(&mut self) -> Op {
        Op::Set {
            path: self.any_register(),
            value: self.value(),
            version: -1,
        }
    }

    fn append(&mut self) -> Op {
        Op::Create {
            path: "/log/n-".into(),
            value: self.value(),
            kind: Kind {
                ephemeral: false,
                sequential: true,
            },
        }
    }

    /// Requests to be sent one behind the other.
    pub fn next(&mut self, clients: usize) -> Vec<Op> {
        let watch = self.rng.one_in(3);
        match self.rng.range(0, 100) {
            0..20 => vec![self.set()],
            20..23 => {
                let version = self.rng.range(0, 40) as i32;
                let (path, value) = (self.any_register(), self.value());
                vec![Op::Set {
                    path,
                    value,
                    version,
                }]
            }
            23..38 => {
                let path = self.any_register();
                vec![Op::Sync, Op::Get { path, watch }]
            }
            38..50 => {
                let path = self.any_register();
                vec![Op::Get { path, watch }]
            }
            50..57 => {
                let path = self.any_short();
                vec![Op::Exists { path, watch }]
            }
            57..67 => vec![self.append()],
            67..73 => self.create_ephemeral(),
            73..77 => match self.own.pop() {
                Some(path) => vec![Op::Delete { path, version: -1 }],
                None => self.create_ephemeral(),
            },
            77..83 => {
                let (path, value) = (self.any_short(), self.value());
                let kind = Kind {
                    ephemeral: false,
                    sequential: false,
                };
                if self.rng.one_in(2) {
                    vec![Op::Create { path, value, kind }]
                } else {
                    vec![Op::Delete { path, version: -1 }]
                }
            }
            83..89 => self.multi(),
            89..94 => {
                let path = if self.rng.one_in(2) {
                    "/live"
                } else {
                    "/short"
                }
                .into();
                vec![Op::Children { path, watch }]
            }
            94..97 => {
                let other = self.rng.range(0, clients as u64);
                let path = format!("/live/c{other}-{}", self.rng.range(0, 8));
                vec![Op::Sync, Op::Exists { path, watch: false }]
            }
            // A burst: the order of pipelined requests must hold.
            _ => {
                let mut ops = vec![self.append(), self.set(), self.append()];
                let path = self.any_register();
                ops.push(Op::Get { path, watch });
                ops.push(self.append());
                ops
            }
        }
    }

    fn create_ephemeral(&mut self) -> Vec<Op> {
        let sequential = self.rng.one_in(3);
        let path = if sequential {
            "/live/s-".to_owned()
        } else {
            let path = format!("/live/c{}-{}", self.client, self.rng.range(0, 8));
            self.own.push(path.clone());
            path
        };
        vec![Op::Create {
            path,
            value: self.value(),
            kind: Kind {
                ephemeral: true,
                sequential,
            },
        }]
    }

    fn multi(&mut self) -> Vec<Op> {
        let mut ops = vec![self.set(), self.append()];
        match self.rng.range(0, 3) {
            // A guard that does not hold: nothing of it may be seen.
            0 => ops.push(Op::Check {
                path: register(0),
                version: i32::MAX,
            }),
            1 => ops.push(Op::Check {
                path: "/log".into(),
                version: 0,
            }),
            _ => {}
        }
        vec![Op::Multi(ops)]
    }

    /// A watch for life on everything under the log.
    pub fn add_watch() -> Vec<Op> {
        vec![Op::AddWatch {
            path: "/log".into(),
            recursive: true,
        }]
    }

    /// What is asked on a connection that should not be served any more.
    pub fn as_ghost(&mut self) -> Vec<Op> {
        let path = self.any_register();
        let read = Op::Get { path, watch: false };
        if self.rng.one_in(3) {
            vec![read]
        } else {
            vec![self.set(), self.append(), read]
        }
    }

    /// What shows whether an armed watch was lost: everything it may have watched is read again.
    pub fn last_look() -> Vec<Op> {
        let mut ops = vec![Op::Sync];
        ops.extend((0..REGISTERS).map(|n| Op::Get {
            path: register(n),
            watch: false,
        }));
        ops.extend((0..SHORT).map(|n| Op::Exists {
            path: short(n),
            watch: false,
        }));
        for path in ["/live", "/short", "/log"] {
            ops.push(Op::Children {
                path: path.into(),
                watch: false,
            });
        }
        ops
    }

    /// A write that must succeed once all faults are healed.
    pub fn last_write(&mut self) -> Vec<Op> {
        vec![self.append()]
    }
}
