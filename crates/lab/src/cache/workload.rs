//! What the cache's clients do.

use super::{FIRST_BALANCE, Op, PIECE_BYTES, REGISTERS, TAGS, accounts, key, register};
use base::Rng;

/// One client's intentions.
#[derive(Debug)]
pub struct Intentions {
    rng: Rng,
    client: usize,
    count: u64,
    /// Bytes appended to each value.
    padding: usize,
}

/// What everything else needs.
pub fn foundation() -> Vec<Op> {
    let balance = FIRST_BALANCE.to_string();
    let both = |tag| accounts(tag).map(|key| (key, balance.clone())).into();
    TAGS.map(|tag| Op::Establish(both(tag))).into()
}

/// Every key but those that end.
pub fn last_look() -> Vec<Op> {
    let mut ops = Vec::new();
    for tag in TAGS {
        ops.extend((0..REGISTERS).map(|number| Op::Get(register(tag, number))));
        ops.extend(["count", "log", "from", "to"].map(|name| Op::Get(key(tag, name))));
        ops.push(Op::Range(key(tag, "list")));
    }
    ops
}

impl Intentions {
    /// The intentions of a client.
    pub fn new(client: usize, rng: Rng, padding: usize) -> Self {
        Self {
            rng,
            client,
            count: 0,
            padding,
        }
    }

    /// A value that nobody else writes.
    pub fn value(&mut self) -> String {
        self.count += 1;
        let padding = "·".repeat(self.padding / 2);
        format!("v{}.{}{padding}", self.client, self.count)
    }

    /// One of [`TAGS`].
    pub fn tag(&mut self) -> &'static str {
        TAGS[self.rng.range(0, TAGS.len() as u64) as usize]
    }

    fn any_register(&mut self) -> String {
        let tag = self.tag();
        register(tag, self.rng.range(0, REGISTERS))
    }

    fn any(&mut self, name: &str) -> String {
        key(self.tag(), name)
    }

    /// A key that nobody else has had, or will have.
    pub fn mortal(&mut self) -> String {
        self.count += 1;
        let name = format!("mortal.c{}-{}", self.client, self.count);
        self.any(&name)
    }

    fn set(&mut self) -> Op {
        Op::Set {
            key: self.any_register(),
            value: self.value(),
            ends_ms: None,
        }
    }

    fn append(&mut self) -> Op {
        self.count += 1;
        let piece = format!("{:02}.{:06};", self.client, self.count);
        debug_assert_eq!(piece.len(), PIECE_BYTES);
        let key = self.any("log");
        Op::Append { key, piece }
    }

    /// Requests to be sent one behind the other.
    pub fn next(&mut self) -> Vec<Op> {
        let op = match self.rng.range(0, 100) {
            0..20 => self.set(),
            20..40 => Op::Get(self.any_register()),
            40..48 => Op::Increment(self.any("count")),
            48..54 => Op::Get(self.any("count")),
            54..61 => self.append(),
            61..65 => Op::Get(self.any("log")),
            65..75 => Op::Push {
                list: self.any("list"),
                element: self.value(),
            },
            75..80 => Op::Pop {
                list: self.any("list"),
                wait_ms: None,
            },
            80..86 => Op::Pop {
                list: self.any("list"),
                wait_ms: Some(self.rng.range(20, 800) as u32),
            },
            86..90 => Op::GetAll(accounts(self.tag()).into()),
            90..95 => Op::Exec(accounts(self.tag()).map(Op::Get).into()),
            // A burst: the order of pipelined requests must hold, whatever shards they are for.
            _ => {
                let (count, log) = (self.any("count"), self.any("log"));
                let read = Op::Get(self.any_register());
                let mut ops = vec![self.set(), Op::Increment(count), self.append()];
                ops.extend([read, self.set(), Op::Get(log)]);
                return ops;
            }
        };
        vec![op]
    }

    /// A part of what is in one account goes to the other; before and behind it, both are read.
    pub fn transfer(&mut self, [from, to]: [String; 2], balances: [i64; 2]) -> Op {
        let amount = self.rng.range(1, 50) as i64;
        let amount = if self.rng.one_in(2) { amount } else { -amount };
        let set = |key: &String, balance: i64| Op::Set {
            key: key.clone(),
            value: balance.to_string(),
            ends_ms: None,
        };
        let sets = [
            set(&from, balances[0] - amount),
            set(&to, balances[1] + amount),
        ];
        let reads = [from, to].map(Op::Get);
        let ops = reads.iter().cloned().chain(sets).chain(reads.clone());
        Op::Exec(ops.collect())
    }

    /// Writes that must succeed once all faults are healed.
    pub fn last_write(&mut self) -> Vec<Op> {
        let registers = TAGS.map(|tag| register(tag, 0));
        let mut set = |key| Op::Set {
            key,
            value: self.value(),
            ends_ms: None,
        };
        registers.map(&mut set).into()
    }
}
