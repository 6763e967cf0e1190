//! `althing lock …`: locks on the tree, on the cache or on a table of a database, each with fences.

mod cache;
mod guard;
mod hold;
#[cfg(feature = "database")]
mod table;
mod tree;

use crate::{Failure, Outcome, failed};
use clap::{Args, Subcommand, ValueEnum};
use coordination::lock::{Mode, stripe, tree::Names};
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The lock was not to be had in time (`EX_TEMPFAIL` of sysexits.h).
pub const NOT_HAD: u8 = 75;
/// The lock was lost while it was held.
pub const LOST: u8 = 76;
/// The fence is older than one that was seen.
pub const FENCED_OFF: u8 = 77;

/// For the help.
pub const EXIT_CODES: &str = "Exit codes of `run`: the command's own; 128 and the signal's number when a signal ended it;
75 the lock was not to be had in time; 76 it was lost, and the command was ended; 126 the command cannot be run.
`guard` ends with 77 when the fence is too old. Everything else ends with 1 (failed) or 2 (asked wrongly).";

/// What can be asked.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Run a command while holding the lock; it finds the fence in ALTHING_FENCE
    Run {
        #[command(flatten)]
        contender: Contender,
        /// The command and its arguments, behind --
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<std::ffi::OsString>,
    },
    /// Hold the lock, and print its fence, until this command is ended
    Hold {
        #[command(flatten)]
        contender: Contender,
    },
    /// Show who holds a lock and who waits for it
    Show {
        #[command(flatten)]
        target: Target,
    },
    /// Take a lock away from who holds it: the next one enters, whatever the holder still does
    Break {
        #[command(flatten)]
        target: Target,
    },
    /// Replace a file with standard input, unless a larger fence was shown for it before
    Guard {
        /// The file; the largest fence is kept beside it, in FILE.fence
        file: PathBuf,
        /// The fence of whoever writes
        #[arg(long, env = "ALTHING_FENCE", value_name = "N")]
        fence: u64,
    },
}

/// Which lock.
#[derive(Args, Clone)]
pub struct Target {
    /// The lock's name; on the tree it is below /locks, unless it is an absolute path
    pub name: String,
    /// What keeps it: `tree`, `cache`, or a database (sqlite://FILE, postgres://USER:PASSWORD@HOST/DATABASE)
    #[arg(long, default_value = "tree", value_name = "tree|cache|URL")]
    pub on: String,
    /// Servers to try, separated by commas [default: 127.0.0.1:2181 for the tree, 127.0.0.1:6379 for the cache]
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Option<String>,
    /// Credentials for the tree's access control (scheme digest)
    #[arg(long, value_name = "USER:PASSWORD")]
    pub auth: Option<String>,
}

/// Which lock, and how it is taken.
#[derive(Args)]
pub struct Contender {
    #[command(flatten)]
    target: Target,
    /// Share it with others that share it (on the tree only)
    #[arg(long)]
    shared: bool,
    /// How long to wait for it, such as 10s or 500ms; 0s tries once [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait: Option<Duration>,
    /// How long it stays ours when we die: the session's time-out on the tree, else the lease
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    ttl: Duration,
    /// Split the lock over this many, and take one of them; the command finds which in ALTHING_STRIPE
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=i64::from(stripe::STRIPES_MAX)))]
    stripes: Option<u32>,
    /// Take the stripe of this key, not any [default: drawn at random]
    #[arg(long, requires = "stripes")]
    key: Option<String>,
    /// Whose lock nodes on the tree ours are named like, so that such clients see them
    #[arg(long, value_enum, default_value_t = Naming::Kazoo)]
    names: Naming,
}

#[derive(Clone, Copy, ValueEnum)]
enum Naming {
    /// kazoo's Lock, WriteLock and ReadLock
    Kazoo,
    /// Curator's InterProcessReadWriteLock
    Curator,
    /// Curator's InterProcessMutex
    CuratorMutex,
}

/// A lock, wherever it is kept.
pub trait Lock {
    /// Waits for the lock until `until`, or for ever. Its fence; none when the time is over or `is_over` says so.
    fn take(
        &mut self,
        until: Option<Instant>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<u64>, Failure>;
    /// Keeps it for about `time`. Until when it is surely held, or why it is not any more.
    fn keep(&mut self, time: Duration) -> Result<Instant, String>;
    /// Gives it back.
    fn release(&mut self);
}

/// What a substrate is told of a contender.
pub struct Wanted<'a> {
    /// Which lock, stripe included.
    pub target: &'a Target,
    /// Exclusive or shared.
    pub mode: Mode,
    /// How long it stays ours when we die.
    pub ttl: Duration,
    /// Unique among all contenders ever; begins with words for people.
    pub id: &'a str,
    /// On the tree.
    pub names: Names,
}

/// Does it.
pub fn run(options: Options) -> Outcome {
    match options.what {
        What::Run { contender, command } => {
            let (mut lock, stripe) = open(&contender)?;
            hold::run(&mut *lock, contender.wait, contender.ttl, stripe, &command)
        }
        What::Hold { contender } => {
            let (mut lock, _) = open(&contender)?;
            hold::hold(&mut *lock, contender.wait, &contender.target.name)
        }
        What::Show { target } => match substrate(&target)? {
            Substrate::Tree => tree::show(&target),
            Substrate::Cache => cache::show(&target),
            #[cfg(feature = "database")]
            Substrate::Table => table::show(&target),
        },
        What::Break { target } => match substrate(&target)? {
            Substrate::Tree => tree::break_lock(&target),
            Substrate::Cache => cache::break_lock(&target),
            #[cfg(feature = "database")]
            Substrate::Table => table::break_lock(&target),
        },
        What::Guard { file, fence } => guard::write(&file, fence),
    }
}

enum Substrate {
    Tree,
    Cache,
    #[cfg(feature = "database")]
    Table,
}

fn substrate(target: &Target) -> Result<Substrate, Failure> {
    if target.name.is_empty() {
        return Err(Failure::Usage("the lock's name is empty".into()));
    }
    match target.on.as_str() {
        "tree" => Ok(Substrate::Tree),
        "cache" => Ok(Substrate::Cache),
        #[cfg(feature = "database")]
        url if ["sqlite:", "postgres:", "postgresql:"]
            .iter()
            .any(|it| url.starts_with(it)) =>
        {
            Ok(Substrate::Table)
        }
        other => Err(Failure::Usage(format!(
            "--on {other}: a lock is kept on `tree`, on `cache`{}",
            if cfg!(feature = "database") {
                ", or on a database given as sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE"
            } else {
                "; this binary was built without databases (feature `database`)"
            }
        ))),
    }
}

/// The lock that is wanted, and its stripe.
fn open(contender: &Contender) -> Result<(Box<dyn Lock>, Option<u32>), Failure> {
    let random = random()?;
    let drawn = contender.stripes.map(|stripes| {
        let key = match &contender.key {
            Some(key) => key.as_bytes().to_vec(),
            None => random.to_vec(),
        };
        stripe::stripe_of(&key, stripes)
    });
    let mut target = contender.target.clone();
    if let Some(drawn) = drawn {
        target.name = stripe::name(&target.name, drawn);
    }
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("{}.{}.{hex}", host_name(), std::process::id());
    let wanted = Wanted {
        target: &target,
        mode: if contender.shared {
            Mode::Shared
        } else {
            Mode::Exclusive
        },
        ttl: contender.ttl,
        id: &id,
        names: match contender.names {
            Naming::Kazoo => Names::Kazoo,
            Naming::Curator => Names::Curator,
            Naming::CuratorMutex => Names::CuratorMutex,
        },
    };
    let substrate = substrate(&target)?;
    if contender.shared && !matches!(substrate, Substrate::Tree) {
        let text = "--shared is there on the tree only (--on tree)";
        return Err(Failure::Usage(text.into()));
    }
    let bounds = coordination::lock::cache::TTL_MS;
    if !bounds.contains(&(contender.ttl.as_millis() as u64)) {
        return Err(Failure::Usage(format!(
            "--ttl must be from {} ms to {} s",
            bounds.start(),
            bounds.end() / 1_000
        )));
    }
    let lock: Box<dyn Lock> = match substrate {
        Substrate::Tree => Box::new(tree::TreeLock::new(&wanted)?),
        Substrate::Cache => Box::new(cache::CacheLock::new(&wanted)?),
        #[cfg(feature = "database")]
        Substrate::Table => Box::new(table::TableLock::new(&wanted)?),
    };
    Ok((lock, drawn))
}

fn random() -> Result<[u8; 16], Failure> {
    const PATH: &str = "/dev/urandom";
    let mut bytes = [0; 16];
    std::fs::File::open(PATH)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|why| failed(format!("cannot read {PATH}: {why}")))?;
    Ok(bytes)
}

fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    name.chars().filter(is_plain).take(40).collect()
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| "give a whole number and a unit, such as 10s, 500ms or 2m")?;
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("give a unit: ms, s, m or h".into()),
    };
    let ms = number.checked_mul(unit_ms).ok_or("that is too long")?;
    Ok(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in [
            "10",
            "s",
            "-1s",
            "1.5s",
            "10d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
