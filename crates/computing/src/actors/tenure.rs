//! Who runs an actor of a name, and how long it may act under that name.
//!
//! A name is owned by who holds an ephemeral node of it. The node's revision is the *generation*: it grows with every
//! owner, and every message says for which it is. An owner counts its lease from when it last asked for it, not from
//! when it was answered, with a margin for clocks that run at different speeds (Gray and Cheriton, "Leases", 1989):
//! it stops before anybody else can begin. What it writes is fenced besides, for a process that was paused between
//! looking at its clock and writing.
//!
//! Of the hosts that can run an actor, the one with the highest hash of host and name does (rendezvous hashing,
//! Thaler and Ravishankar 1998): all reckon the same without talking, and when one goes only its names move.

use base::planted::{Bug, ComputingBug, planted};

/// What a host holds under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tenure {
    generation: i64,
    until_us: u64,
}

/// Why a message is not taken. It was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Objection {
    /// It is for another generation; this one is here.
    Generation(i64),
    /// The lease is over, or nearly: somebody else may own the name by now.
    Over,
}

impl Tenure {
    /// Owned with this generation until then, by this host's clock.
    pub fn new(generation: i64, until_us: u64) -> Self {
        Self {
            generation,
            until_us,
        }
    }

    /// The revision that made it the owner.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// A lease of `lease_us` that was asked for at `asked_us` was granted. A twentieth is kept for the clocks.
    pub fn handle_granted(&mut self, asked_us: u64, lease_us: u64) {
        let until_us = asked_us + lease_us - lease_us / 20;
        self.until_us = self.until_us.max(until_us);
    }

    /// Whether it may act now.
    pub fn is_valid(&self, now_us: u64) -> bool {
        now_us < self.until_us || planted(Bug::Computing(ComputingBug::ActAfterLease))
    }

    /// Whether a message that was sent to `generation` may be carried out, or the answer to it given.
    pub fn admit(&self, now_us: u64, generation: i64) -> Result<(), Objection> {
        if !self.is_valid(now_us) {
            Err(Objection::Over)
        } else if generation != self.generation
            && !planted(Bug::Computing(ComputingBug::AnswerForAnother))
        {
            Err(Objection::Generation(self.generation))
        } else {
            Ok(())
        }
    }
}

/// The state that an actor keeps in the tree, as one incarnation sees it. It has taken the state over by writing it
/// once, unchanged: from then on what earlier incarnations still write finds another version, and is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    version: i32,
}

impl Checkpoint {
    /// The version that taking over, or the last write, has made.
    pub fn new(version: i32) -> Self {
        Self { version }
    }

    /// The version that the next write is to find; −1 would be any.
    pub fn expects(&self) -> i32 {
        match planted(Bug::Computing(ComputingBug::WriteUnfenced)) {
            true => -1,
            false => self.version,
        }
    }
}

/// A host that lives, as far as that is known.
#[derive(Clone, Debug)]
pub struct Host<'a> {
    /// Its name, of no other host.
    pub id: &'a str,
    /// Whether it can run this kind of actor, and has not given up on this one.
    pub is_able: bool,
}

/// Which host is to run the actor of this name; `None` when no host can.
pub fn owner<'a>(name: &str, hosts: impl IntoIterator<Item = Host<'a>>) -> Option<&'a str> {
    (hosts.into_iter())
        .filter(|host| host.is_able)
        .map(|host| (hash(host.id, name), host.id))
        .max()
        .map(|(_, id)| id)
}

/// FNV-1a over both, with MurmurHash3's finalizer: FNV alone hardly mixes the last bytes into the high bits.
fn hash(host: &str, name: &str) -> u64 {
    let bytes = host.bytes().chain([0]).chain(name.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}
