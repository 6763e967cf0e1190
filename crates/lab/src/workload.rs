//! What the clients do: registers, sequential, ephemeral and short-lived nodes, multis, watches.
//!
//! `/register/N` are set and read; every value is unique. `/log` gathers sequential nodes that are never
//! deleted: a record of what was applied and in which order. `/live` holds ephemerals. `/short/N` come and go.
//! `/box` holds containers, `/ttl` what goes by the clock, each under a name of its own; [`GUARDED`] is for
//! those with credentials; [`WATCHED`] and what is under it have persistent watches.

use crate::history::{Kind, Life, Op};
use base::Rng;

/// Registers.
pub const REGISTERS: u64 = 3;
/// Nodes that come and go.
pub const SHORT: u64 = 3;

/// A node that only those with [`CREDENTIALS`] may read or change.
pub const GUARDED: &str = "/guarded";
/// What half of the clients show.
pub const CREDENTIALS: &str = "lab:open sesame";
/// A node with persistent watches, on itself and on what is under it.
pub const WATCHED: &str = "/watched";
/// Under [`WATCHED`]: one that is set, and one that comes and goes.
pub const WATCHED_CHILDREN: [&str; 2] = ["/watched/set", "/watched/short"];

/// The nodes that everything else needs, in order of creation.
pub fn foundation() -> Vec<Op> {
    let mut paths: Vec<String> = [
        "/register",
        "/log",
        "/live",
        "/short",
        "/box",
        "/ttl",
        GUARDED,
        WATCHED,
        WATCHED_CHILDREN[0],
    ]
    .map(String::from)
    .into();
    paths.extend((0..REGISTERS).map(register));
    paths
        .into_iter()
        .map(|path| Op::Create {
            value: format!("first{path}"),
            path,
            kind: Kind::of(Life::Persistent),
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
    /// Containers that it made, perhaps, and children in them.
    containers: Vec<String>,
    contained: Vec<String>,
    /// Nodes with a time to live that it made, perhaps.
    ttls: Vec<String>,
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
            containers: Vec::new(),
            contained: Vec::new(),
            ttls: Vec::new(),
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
                life: Life::Persistent,
                sequential: true,
            },
        }
    }

    /// A path that nobody else has had, or will have.
    fn own_path(&mut self, parent: &str) -> String {
        self.count += 1;
        format!("{parent}/c{}-{}", self.client, self.count)
    }

    fn create(&mut self, path: String, life: Life) -> Op {
        Op::Create {
            path,
            value: self.value(),
            kind: Kind::of(life),
        }
    }

    /// Requests to be sent one behind the other.
    pub fn next(&mut self, clients: usize) -> Vec<Op> {
        match self.rng.range(0, 20) {
            0 => return self.next_contained(),
            1 => return self.next_ttl(),
            2 => return self.next_guarded(),
            3 => return self.next_watched(),
            _ => {}
        }
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
                let kind = Kind::of(Life::Persistent);
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
                life: Life::Ephemeral,
                sequential,
            },
        }]
    }

    fn next_contained(&mut self) -> Vec<Op> {
        let choice = self.rng.range(0, 4);
        if choice == 0 || self.containers.is_empty() {
            let path = self.own_path("/box");
            self.containers.push(path.clone());
            return vec![self.create(path, Life::Container)];
        }
        if choice == 1
            && let Some(path) = self.contained.pop()
        {
            return vec![Op::Delete { path, version: -1 }];
        }
        let at = self.rng.range(0, self.containers.len() as u64) as usize;
        let path = self.own_path(&self.containers[at].clone());
        self.contained.push(path.clone());
        vec![self.create(path, Life::Persistent)]
    }

    fn next_ttl(&mut self) -> Vec<Op> {
        let choice = self.rng.range(0, 4);
        if choice == 0 || self.ttls.is_empty() {
            let path = self.own_path("/ttl");
            self.ttls.push(path.clone());
            let ttl_ms = self.rng.range(6_000, 8_000) as u32;
            return vec![self.create(path, Life::Ttl(ttl_ms))];
        }
        let at = self.rng.range(0, self.ttls.len() as u64) as usize;
        let path = self.ttls[at].clone();
        if choice == 1 {
            let value = self.value();
            let version = -1;
            return vec![Op::Set {
                path,
                value,
                version,
            }];
        }
        vec![Op::Sync, Op::Exists { path, watch: false }]
    }

    fn next_guarded(&mut self) -> Vec<Op> {
        let path = GUARDED.to_owned();
        let version = -1;
        match self.rng.range(0, 6) {
            0 | 1 => vec![Op::Get { path, watch: false }],
            2 => vec![Op::Children { path, watch: false }],
            3 => {
                let path = self.own_path(GUARDED);
                vec![self.create(path, Life::Persistent)]
            }
            4 => {
                let value = self.value();
                let set = Op::Set {
                    path,
                    value,
                    version,
                };
                vec![Op::Multi(vec![self.append(), set])]
            }
            _ => {
                let value = self.value();
                vec![Op::Set {
                    path,
                    value,
                    version,
                }]
            }
        }
    }

    fn next_watched(&mut self) -> Vec<Op> {
        let [set, short] = WATCHED_CHILDREN.map(str::to_owned);
        let version = -1;
        match self.rng.range(0, 6) {
            0 | 1 => {
                let value = self.value();
                vec![Op::Set {
                    path: set,
                    value,
                    version,
                }]
            }
            2 => vec![self.create(short, Life::Persistent)],
            3 => vec![Op::Delete {
                path: short,
                version,
            }],
            4 => vec![Op::Get {
                path: set,
                watch: false,
            }],
            _ => vec![Op::Exists {
                path: short,
                watch: false,
            }],
        }
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

    /// A watch for life: on everything under the log, or on a watched node.
    pub fn add_watch(&mut self) -> Vec<Op> {
        let [set, short] = WATCHED_CHILDREN;
        let path = ["/log", WATCHED, set, short][self.rng.range(0, 4) as usize];
        vec![Op::AddWatch {
            path: path.into(),
            recursive: path == "/log",
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
