//! The tasks of this machine: what their directories say, and what is done about them.

use super::cage::Cage;
use super::cgroup::{Controller, Tree};
use super::{supervisor, write_whole};
use crate::log;
use rustix::process::Signal;
use scheduling::command::Seen;
use scheduling::model::End;
use scheduling::query::Work;
use scheduling::{AgentId, InstanceId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Directories of tasks that have ended, kept for their logs.
const ENDED_MAX: usize = 200;
/// Between two looks at memory.
const MEMORY_TIME: Duration = Duration::from_millis(250);

/// What a supervisor is told.
#[derive(Clone, Serialize, Deserialize)]
pub struct Order {
    /// What to run.
    pub work: Work,
    /// By whom.
    pub agent: AgentId,
    /// The agent's directory.
    pub directory: PathBuf,
    /// Bytes of the log that are kept, about.
    pub log_bytes_max: u64,
    /// Where its control groups are made.
    #[serde(default)]
    pub trees: Vec<Tree>,
}

impl Order {
    /// The task's control groups.
    pub fn cage(&self) -> Cage {
        Cage::of(&self.trees, self.agent, self.work.instance)
    }
}

/// An instance that this agent has, or had.
struct Local {
    /// `None` for one from before the agent was started.
    child: Option<Child>,
    /// The supervisor's process id, and when it was started, in the kernel's ticks.
    pid: u32,
    started: u64,
    /// What is looked at here; 0: nothing is, or the kernel does.
    memory_bytes: u64,
    cage: Option<Cage>,
    grace: Duration,
    stopping: Option<Instant>,
    is_over_memory: bool,
    end: Option<End>,
    /// What the cell was told.
    said: Option<Option<End>>,
}

/// All of them.
pub struct Tasks {
    directory: PathBuf,
    log_bytes_max: u64,
    trees: Vec<Tree>,
    agent: AgentId,
    all: BTreeMap<InstanceId, Local>,
    memory_at: Instant,
    /// True once the agent ends: nothing is started or said any more.
    is_closed: bool,
}

impl Tasks {
    /// Those that an earlier run of this agent has left.
    ///
    /// # Errors
    /// When its directory cannot be read.
    pub fn find(directory: &Path, log_bytes_max: u64, trees: Vec<Tree>) -> io::Result<Self> {
        let id = fs::read_to_string(directory.join("id"))?;
        let mut found = Self {
            agent: id.trim().parse().map_err(io::Error::other)?,
            directory: fs::canonicalize(directory)?,
            log_bytes_max,
            trees,
            all: BTreeMap::new(),
            memory_at: Instant::now(),
            is_closed: false,
        };
        let mut ended = BTreeSet::new();
        for entry in fs::read_dir(directory.join("tasks"))? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let local = found.adopt(InstanceId(id));
            if local.as_ref().is_none_or(|local| local.end.is_some()) {
                ended.insert(id);
            }
            found.all.extend(local.map(|local| (InstanceId(id), local)));
        }
        let count = ended.len().saturating_sub(ENDED_MAX);
        for id in ended.into_iter().take(count) {
            fs::remove_dir_all(found.task(InstanceId(id)))?;
        }
        Ok(found)
    }

    fn task(&self, id: InstanceId) -> PathBuf {
        self.directory.join("tasks").join(id.to_string())
    }

    /// One whose supervisor still runs, or has said how it ended.
    fn adopt(&self, id: InstanceId) -> Option<Local> {
        let task = self.task(id);
        let order: Order = serde_json::from_slice(&fs::read(task.join("order.json")).ok()?).ok()?;
        if let Ok(text) = fs::read(task.join("end.json")) {
            order.cage().clear();
            return serde_json::from_slice(&text).ok().map(Local::ended);
        }
        let words = fs::read_to_string(task.join("pid")).unwrap_or_default();
        let pid = words.trim().split_once(' ');
        let pid = pid.and_then(|(pid, at)| Some((pid.parse().ok()?, at.parse().ok()?)));
        let Some((pid, at)) = pid.filter(|(pid, at)| started(*pid) == Some(*at)) else {
            // Whoever led it is dead, and could not see to it.
            order.cage().clear();
            return None;
        };
        log::info(format!("task {id} still runs (process {pid})"));
        Some(Local::new(None, pid, at, &order))
    }

    /// What the cell may take for running here.
    pub fn instances(&self) -> Vec<InstanceId> {
        self.all.keys().copied().collect()
    }

    /// Whether anything runs.
    pub fn any_alive(&self) -> bool {
        self.all.values().any(|local| local.end.is_none())
    }

    /// What the cell wants here; whatever else there is has to end.
    pub fn want(&mut self, work: Vec<Work>) {
        if self.is_closed {
            return;
        }
        let wanted: BTreeSet<InstanceId> = work.iter().map(|work| work.instance).collect();
        // Of what it names no more the cell knows the end.
        (self.all).retain(|id, local| local.end.is_none() || wanted.contains(id));
        for (id, local) in &mut self.all {
            if !wanted.contains(id) {
                local.stop();
            }
        }
        for work in work {
            let id = work.instance;
            match (self.all.get_mut(&id), work.run) {
                (Some(local), false) => local.stop(),
                (Some(_), true) => {}
                (None, run) => {
                    let local = match run {
                        true => self.start(work),
                        false => Local::ended(End::Stopped),
                    };
                    self.all.insert(id, local);
                }
            }
        }
    }

    fn start(&self, work: Work) -> Local {
        let task = self.task(work.instance);
        let order = Order {
            work,
            agent: self.agent,
            directory: self.directory.clone(),
            log_bytes_max: self.log_bytes_max,
            trees: self.trees.clone(),
        };
        let spawn = || {
            fs::create_dir_all(&task)?;
            write_whole(&task.join("order.json"), &serde_json::to_vec(&order)?)?;
            // The same binary, also where its file was replaced meanwhile.
            Command::new("/proc/self/exe")
                .arg("supervise")
                .arg(&task)
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        match spawn() {
            Ok(child) => {
                let pid = child.id();
                Local::new(Some(child), pid, started(pid).unwrap_or(0), &order)
            }
            Err(error) => Local::ended(End::NotStarted {
                why: error.to_string(),
            }),
        }
    }

    /// Looks at all of them: who has ended, whose time is over, who has too much memory.
    pub fn look(&mut self) {
        let tasks = self.directory.join("tasks");
        let alive = self.all.iter_mut().filter(|(_, local)| local.end.is_none());
        for (id, local) in alive {
            if local.has_ended() && local.is_clear() {
                local.end = Some(local.judge(&tasks.join(id.to_string())));
            } else if local
                .stopping
                .is_some_and(|since| since.elapsed() >= local.grace)
            {
                local.kill();
            }
        }
        if self.memory_at.elapsed() >= MEMORY_TIME && self.any_alive() {
            self.memory_at = Instant::now();
            // Where the kernel counts, nothing is looked at.
            let is_watched = |local: &Local| local.memory_bytes > 0 && local.end.is_none();
            let used = match self.all.values().any(is_watched) {
                true => memory_by_group(),
                false => BTreeMap::new(),
            };
            for local in self.all.values_mut().filter(|local| local.end.is_none()) {
                let bytes = used.get(&local.pid).copied().unwrap_or(0);
                let is_over = local.memory_bytes > 0 && bytes > local.memory_bytes;
                // The kernel may have ended one process of several.
                if is_over || local.cage.as_ref().is_some_and(Cage::is_over_memory) {
                    local.is_over_memory = true;
                    local.kill();
                }
            }
        }
    }

    /// What the cell is still to be told.
    pub fn unsaid(&self) -> Vec<Seen> {
        if self.is_closed {
            return Vec::new();
        }
        let unsaid = self
            .all
            .iter()
            .filter(|(_, local)| local.said.as_ref() != Some(&local.end));
        unsaid
            .map(|(id, local)| Seen {
                instance: *id,
                end: local.end.clone(),
            })
            .collect()
    }

    /// The cell was told.
    pub fn said(&mut self, seen: &[Seen]) {
        for seen in seen {
            if let Some(local) = self.all.get_mut(&seen.instance) {
                local.said = Some(seen.end.clone());
            }
        }
    }

    /// Tells all of them to end, and does nothing more that the cell wants.
    pub fn close(&mut self) {
        self.want(Vec::new());
        self.is_closed = true;
    }

    /// Ends all of them at once.
    pub fn kill_all(&mut self) {
        let alive = self.all.values_mut().filter(|local| local.end.is_none());
        alive.for_each(|local| {
            local.kill();
            local.is_clear();
        });
    }
}

impl Local {
    fn new(child: Option<Child>, pid: u32, started: u64, order: &Order) -> Self {
        let (task, cage) = (&order.work.task, order.cage());
        let is_counted = cage.limits(Controller::Memory);
        Self {
            child,
            pid,
            started,
            memory_bytes: if is_counted {
                0
            } else {
                task.resources.memory_bytes
            },
            cage: Some(cage),
            grace: Duration::from_millis(u64::from(task.grace_ms)),
            stopping: None,
            is_over_memory: false,
            end: None,
            said: None,
        }
    }

    /// One that never ran here.
    fn ended(end: End) -> Self {
        Self {
            child: None,
            pid: 0,
            started: 0,
            memory_bytes: 0,
            cage: None,
            grace: Duration::ZERO,
            stopping: None,
            is_over_memory: false,
            end: Some(end),
            said: None,
        }
    }

    fn stop(&mut self) {
        if self.end.is_none() && self.stopping.is_none() {
            self.stopping = Some(Instant::now());
            self.signal(Signal::TERM);
        }
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// Another process may have the number since.
    fn signal(&self, signal: Signal) {
        if self.child.is_some() || started(self.pid) == Some(self.started) {
            supervisor::signal(self.pid, signal);
        }
    }

    fn has_ended(&mut self) -> bool {
        match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => started(self.pid) != Some(self.started),
        }
    }

    /// Whether nothing of it is left in its control groups, of what may have left its process group.
    fn is_clear(&self) -> bool {
        self.cage.as_ref().is_none_or(Cage::clear)
    }

    fn judge(&self, task: &Path) -> End {
        let told = fs::read(task.join("end.json"));
        let told = told
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        match (self.is_over_memory, told) {
            (true, _) => End::OverMemory,
            (false, Some(end)) => end,
            (false, None) if self.stopping.is_some() => End::Stopped,
            (false, None) => End::Signalled {
                signal: Signal::KILL.as_raw(),
            },
        }
    }
}

/// When a process was started, in ticks since the machine was; `None` where there is none, or only its remains.
pub fn started(pid: u32) -> Option<u64> {
    let stat = Stat::read(pid)?;
    (stat.state != 'Z').then_some(stat.started)
}

/// Resident bytes of all processes, by group.
fn memory_by_group() -> BTreeMap<u32, u64> {
    let mut used = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for stat in pids.filter_map(Stat::read) {
        *used.entry(stat.group).or_default() +=
            stat.resident_pages * rustix::param::page_size() as u64;
    }
    used
}

/// A line of `/proc/PID/stat`.
struct Stat {
    state: char,
    group: u32,
    started: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name of a process may hold anything, so fields are counted behind its last parenthesis: the third
    /// of all is the first there.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            resident_pages: fields.get(21)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_whose_name_holds_parentheses_is_read() {
        let line =
            "7 (a) b) S 1 42 42 0 -1 0 0 0 0 0 5 6 0 0 20 0 1 0 123 4096 99 18446744073709551615";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.group), ('S', 42));
        assert_eq!((stat.started, stat.resident_pages), (123, 99));
        assert!(started(std::process::id()).is_some());
        assert!(started(u32::MAX).is_none());
    }
}
