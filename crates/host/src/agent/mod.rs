//! The agent: it tells the cell what this machine has, and runs what the cell wants run here, as processes.
//!
//! It speaks HTTP to the console of any node, also where it is part of one, so that there is one way. Every beat
//! that the leader has heard renews a lease ([`lease`]), counted from when the beat was *sent*; a task that is to stop
//! when its agent is cut off is killed by its own supervisor ([`supervisor`]) when three quarters of the lease are
//! over, also if the agent is dead or stands still. The leader counts a whole lease from when it *heard* the beat: so
//! such a task has ended before another is started for it. A machine that stands still as a whole is not covered by
//! that: who must be safe against it compares instances (`ALTHING_INSTANCE`), which only grow.
//!
//! * [`supervisor`]: one process for each task: its limits, its log, its end. It outlives the agent.
//! * [`cgroup`], `cage`: limits that the kernel keeps, where this machine allows them.
//! * `tasks`: the tasks of this machine, as their directories say.
//! * `cell`: what is said to the cell.
//! * `logs`: what tasks have written.

mod cage;
mod cell;
pub mod cgroup;
mod lease;
pub mod logs;
pub mod supervisor;
mod tasks;

use crate::log;
use crate::thread::Thread;
use base::Rng;
use cell::{Cell, Trouble};
use lease::Lease;
use scheduling::model::AgentSpec;
use scheduling::{AgentId, Resources};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tasks::Tasks;

/// Between two looks at tasks.
const LOOK_TIME: Duration = Duration::from_millis(100);
/// How long the cell keeps a question for work when there is nothing new.
const WORK_TIME: Duration = Duration::from_secs(20);
/// Before something is tried again.
const AGAIN_TIME: Duration = Duration::from_millis(300);
/// Registrations that fail in a row before that is said: a cluster takes its time to form.
const COMPLAIN_AFTER: u32 = 30;
/// What the end of an agent waits for its tasks at most.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Characters of what is said of limits.
const ENFORCES_CHARS_MAX: usize = 500;

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Consoles of nodes, `host:port`; the first that answers is asked.
    pub consoles: Vec<String>,
    /// Where it gives out logs, `host:port`.
    pub address: String,
    /// For people.
    pub name: String,
    /// Its failure domain; may be empty.
    pub zone: String,
    /// What tasks may ask for.
    pub attributes: BTreeMap<String, String>,
    /// Packages that it has.
    pub packages: BTreeSet<String>,
    /// What it has to give; `None`: what the machine has.
    pub resources: Option<Resources>,
    /// Its directory.
    pub directory: PathBuf,
    /// From one beat to the next, milliseconds.
    pub beat_ms: u32,
    /// So many beats missed, and it is lost.
    pub misses: u32,
    /// Bytes of a task's log that are kept, about.
    pub log_bytes_max: u64,
    /// Whether control groups limit tasks, where the machine allows it.
    pub cgroups: bool,
}

/// A running agent. Dropping it ends its tasks and takes it out of the cell.
pub struct Agent {
    _thread: Thread,
}

impl Agent {
    /// Starts it on a thread of its own.
    ///
    /// # Errors
    /// When its directory cannot be used, or no thread be started.
    pub fn start(config: AgentConfig, seed: u64) -> io::Result<Self> {
        Self::start_with(config, None, seed)
    }

    /// Starts one that is part of no node, and gives out its logs on `listener`.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn start_alone(config: AgentConfig, listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut seed = [0; 8];
        fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        Self::start_with(config, Some(listener), u64::from_ne_bytes(seed))
    }

    fn start_with(
        config: AgentConfig,
        listener: Option<TcpListener>,
        seed: u64,
    ) -> io::Result<Self> {
        fs::create_dir_all(config.directory.join("tasks"))?;
        // Until the process ends: two agents would stop each other's tasks.
        let lock = fs::File::create(config.directory.join("lock"))?;
        lock.try_lock().map_err(|_| {
            io::Error::other(format!(
                "{} is another agent's that runs",
                config.directory.display()
            ))
        })?;
        let id = identity(&config.directory, seed)?;
        let found = match config.cgroups {
            true => cage::detect(id),
            false => Err("agent.cgroups = false".into()),
        };
        let why_not = found.as_ref().err().cloned();
        let trees = found.unwrap_or_default();
        let enforces = cgroup::describe(&trees, why_not.as_deref());
        log::info(format!("agent {id} enforces {enforces}"));
        let tasks = Tasks::find(&config.directory, config.log_bytes_max, trees)?;
        let directory = config.directory.clone();
        let running = Running {
            id,
            directory: config.directory.clone(),
            cell: Cell::new(config.consoles.clone()),
            lease: Lease::new(&config.directory, lease_ms(&config)),
            spec: AgentSpec {
                id,
                name: config.name.clone(),
                address: config.address.clone(),
                zone: config.zone.clone(),
                attributes: config.attributes.clone(),
                packages: config.packages.clone(),
                resources: (config.resources).unwrap_or_else(|| machine(&config.directory)),
                enforces: enforces.chars().take(ENFORCES_CHARS_MAX).collect(),
                lease_ms: lease_ms(&config),
            },
            _lock: lock,
            beat_time: Duration::from_millis(u64::from(config.beat_ms.max(1))),
            state: Arc::new(Mutex::new(State {
                tasks,
                generation: None,
                failures: 0,
            })),
        };
        let thread = Thread::start("agent", async move |stopped| {
            let running = Arc::new(running);
            if let Some(listener) = listener {
                tokio::spawn(logs::serve(listener, directory));
            }
            for part in [Part::Beats, Part::Work, Part::Reports] {
                tokio::spawn(running.clone().run(part));
            }
            tokio::select! {
                () = running.clone().run(Part::Looks) => {}
                _ = stopped => running.end().await,
            }
        })?;
        Ok(Self { _thread: thread })
    }
}

fn lease_ms(config: &AgentConfig) -> u32 {
    config.beat_ms.saturating_mul(config.misses)
}

/// The agent's id: drawn once, kept.
fn identity(directory: &Path, seed: u64) -> io::Result<AgentId> {
    let path = directory.join("id");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = AgentId(Rng::new(seed).next_u64().max(1));
            write_whole(&path, id.to_string().as_bytes())?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

/// One more registration: never the same number twice, also if the agent is started again.
fn count(directory: &Path) -> io::Result<u64> {
    let path = directory.join("registrations");
    let last: u64 = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(io::Error::other)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    write_whole(&path, (last + 1).to_string().as_bytes())?;
    Ok(last + 1)
}

/// Writes a file so that it is there as a whole, or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, bytes)?;
    fs::rename(part, path)
}

/// What this machine has: all processors, nine tenths of the memory, and what is free of the disk.
fn machine(directory: &Path) -> Resources {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let disk = rustix::fs::statvfs(directory).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    Resources::new(
        cpus * 1_000,
        kib.unwrap_or(0) * 1024 / 10 * 9,
        disk / 10 * 9,
    )
}

struct State {
    tasks: Tasks,
    /// `None` until the cell knows the agent.
    generation: Option<u64>,
    /// Registrations that failed in a row.
    failures: u32,
}

struct Running {
    id: AgentId,
    directory: PathBuf,
    cell: Cell,
    lease: Lease,
    spec: AgentSpec,
    beat_time: Duration,
    _lock: fs::File,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy)]
enum Part {
    Beats,
    Work,
    Reports,
    Looks,
}

impl Running {
    /// Nothing panics while it holds the lock; if something did, what it guards is still whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self) -> Option<u64> {
        self.state().generation
    }

    /// The cell does not know this generation any more.
    fn outdated(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == Some(generation) {
            state.generation = None;
        }
    }

    async fn run(self: Arc<Self>, part: Part) {
        let mut index = 0;
        loop {
            match (part, self.generation()) {
                (Part::Beats, None) => self.register().await,
                (Part::Beats, Some(generation)) => self.beat(generation).await,
                (Part::Work, Some(generation)) => self.work(generation, &mut index).await,
                (Part::Reports, Some(generation)) => self.report(generation).await,
                (Part::Looks, _) => {
                    self.state().tasks.look();
                    tokio::time::sleep(LOOK_TIME).await;
                }
                (Part::Work | Part::Reports, None) => {
                    index = 0;
                    tokio::time::sleep(LOOK_TIME).await;
                }
            }
        }
    }

    /// Says why the cell cannot be reached, once for each time that it cannot for long.
    fn complain(&self, trouble: &Trouble) {
        let mut state = self.state();
        state.failures += 1;
        if let (COMPLAIN_AFTER, Trouble::Failed(why)) = (state.failures, trouble) {
            log::warn(format!("agent {} cannot reach the cell: {why}", self.id));
        }
    }

    async fn register(&self) {
        let attempt = match count(&self.directory) {
            Ok(attempt) => attempt,
            Err(error) => {
                log::warn(format!("agent {} cannot count: {error}", self.id));
                return tokio::time::sleep(AGAIN_TIME).await;
            }
        };
        let has = self.state().tasks.instances();
        let sent = self.lease.now_ms();
        match self.cell.register(&self.spec, has, attempt).await {
            Ok(generation) => {
                self.lease.renew(sent);
                {
                    let mut state = self.state();
                    (state.generation, state.failures) = (Some(generation), 0);
                }
                log::info(format!(
                    "agent {} ({}) is of the cell, generation {generation}",
                    self.id, self.spec.name
                ));
            }
            Err(trouble) => {
                self.complain(&trouble);
                self.cell.next();
                tokio::time::sleep(AGAIN_TIME).await;
            }
        }
    }

    async fn beat(&self, generation: u64) {
        let sent = self.lease.now_ms();
        let beat = self.cell.beat(self.id, generation);
        match tokio::time::timeout(self.beat_time, beat).await {
            Ok(Ok(())) => self.lease.renew(sent),
            Ok(Err(Trouble::Outdated)) => return self.outdated(generation),
            // The next node may answer.
            Ok(Err(Trouble::Failed(_))) | Err(_) => self.cell.next(),
        }
        let passed = Duration::from_millis(self.lease.now_ms().saturating_sub(sent));
        tokio::time::sleep(self.beat_time.saturating_sub(passed)).await;
    }

    async fn work(&self, generation: u64, index: &mut u64) {
        match self.cell.work(self.id, generation, *index, WORK_TIME).await {
            Ok((seen, work)) => {
                let mut state = self.state();
                // What comes after the agent was lost and had to register again is not wanted of it any more.
                if state.generation == Some(generation) {
                    *index = seen;
                    state.tasks.want(work);
                }
            }
            Err(Trouble::Outdated) => self.outdated(generation),
            Err(Trouble::Failed(_)) => tokio::time::sleep(AGAIN_TIME).await,
        }
    }

    async fn report(&self, generation: u64) {
        let seen = self.state().tasks.unsaid();
        if seen.is_empty() {
            return tokio::time::sleep(LOOK_TIME).await;
        }
        match self.cell.report(self.id, generation, &seen).await {
            Ok(()) => self.state().tasks.said(&seen),
            Err(Trouble::Outdated) => self.outdated(generation),
            Err(Trouble::Failed(_)) => tokio::time::sleep(AGAIN_TIME).await,
        }
    }

    /// Ends all tasks, says so, and leaves.
    async fn end(&self) {
        self.state().tasks.close();
        let deadline = self.lease.now_ms() + STOP_TIME.as_millis() as u64;
        while self.lease.now_ms() < deadline {
            self.state().tasks.look();
            if !self.state().tasks.any_alive() {
                break;
            }
            tokio::time::sleep(LOOK_TIME).await;
        }
        self.state().tasks.kill_all();
        if let Some(generation) = self.generation() {
            let leave = self.cell.leave(self.id, generation);
            // Without an answer it is found lost a little later.
            let _ = tokio::time::timeout(Duration::from_secs(1), leave).await;
        }
    }
}
