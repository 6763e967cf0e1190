//! What is wanted and what is there: jobs with their tasks, agents, and instances of tasks; their limits and
//! their byte form.

use crate::placement::{Constraint, Rule};
use crate::reply::Refusal;
use crate::resources::Resources;
use base::{DecodeError, Reader, Writer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Bytes of the name of a job or task, of a zone, of an attribute and of its value.
pub const NAME_BYTES_MAX: usize = 100;
/// Kinds of tasks of a job.
pub const TASKS_MAX: usize = 64;
/// Instances that one job wants at a time.
pub const COUNT_MAX: u32 = 10_000;
/// Bytes of a job's byte form.
pub const JOB_BYTES_MAX: usize = 64 << 10;
/// Attributes of an agent, constraints of a task.
pub const ATTRIBUTES_MAX: usize = 64;
/// The highest priority; the lowest is 0.
pub const PRIORITY_MAX: u32 = 1_000;
/// The greatest weight of a framework.
pub const WEIGHT_MAX: u32 = 1_000;
/// The shortest lease of a framework, milliseconds: each renewal goes through the log.
pub const FRAMEWORK_LEASE_MS_MIN: u32 = 1_000;
/// The longest time in a job's description, milliseconds: a day.
pub const TIME_MS_MAX: u32 = 86_400_000;

/// An agent: drawn by it once, kept on its disk.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct AgentId(pub u64);

/// One attempt to run a task. Increases with each attempt of any task of the cell, and is never used twice: it
/// is a fencing token.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct InstanceId(pub u64);

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl From<AgentId> for String {
    fn from(id: AgentId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for AgentId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for AgentId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = u64::from_str_radix(text, 16).map(Self);
        id.map_err(|_| format!("{text:?} is no agent's id: it is a number in hexadecimal"))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A closed set of words with numbers in the byte form.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal $word:literal),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$doc])* $variant = $number),* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word for it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// The one with this word.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.word() == word)
            }

            /// Reads the byte form.
            pub fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let number = r.u8()?;
                (Self::ALL.iter().copied().find(|it| *it as u8 == number))
                    .ok_or(DecodeError::Invalid(stringify!($name)))
            }
        }
    };
}

words! {
    /// When a task that ended is started again. What was lost, evicted or stopped without being asked for always is.
    Policy {
        /// Never: however it ended, it has.
        Never = 1 "never",
        /// When it failed.
        OnFailure = 2 "on-failure",
        /// However it ended.
        Always = 3 "always",
    }
}

words! {
    /// What an agent does with a task while it is cut off. In both cases the task is started elsewhere once the agent
    /// is lost.
    OnLost {
        /// It kills the task before the agent can be declared lost: no two run at a time.
        Stop = 1 "stop",
        /// It lets it run: two may run, and are told apart by their instances.
        Keep = 2 "keep",
    }
}

/// When and how often a task is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Restart {
    /// When.
    pub policy: Policy,
    /// How often in a row; 0: without end. A task that ran for longer than the longest pause starts over.
    pub attempts_max: u32,
    /// The first pause, milliseconds; each further one is twice as long.
    pub pause_ms: u32,
    /// The longest pause, milliseconds.
    pub pause_ms_max: u32,
}

/// A kind of task of a job, of which so many instances are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Its name in the job.
    pub name: String,
    /// How many.
    pub count: u32,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
    /// What one of them is given.
    pub resources: Resources,
    /// Open files of each of its processes; 0: the agent's limit.
    pub files_max: u32,
    /// Processor time of each of its processes, seconds; 0: without limit.
    pub cpu_seconds_max: u32,
    /// When it is started again.
    pub restart: Restart,
    /// What happens to it while its agent is cut off.
    pub on_lost: OnLost,
    /// From the word that it is to end to its being killed, milliseconds.
    pub grace_ms: u32,
    /// What must hold of its agent's attributes; `zone` and `node` are the agent's zone and name.
    pub constraints: Vec<Constraint>,
    /// Packages that it needs: an agent that has them is better ([`Rule::PackageLocality`]).
    pub packages: BTreeSet<String>,
}

/// Who chooses agents for a job's tasks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlacedBy {
    /// The cell's own scheduler.
    #[default]
    Cell,
    /// A scheduler of this name outside, which reads the cell and commits what it decided.
    Scheduler(String),
    /// A framework of the job's name, which brings the tasks itself for what it is offered.
    Framework(Framework),
}

/// What a framework says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Framework {
    /// Of twice the weight, twice the share is fair; from 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// Not heard for this long it is gone, and its tasks with it, milliseconds.
    pub lease_ms: u32,
    /// Raised each time it registers.
    pub generation: u64,
}

impl PlacedBy {
    /// The framework, if it is one.
    pub fn framework(&self) -> Option<&Framework> {
        match self {
            Self::Framework(framework) => Some(framework),
            Self::Cell | Self::Scheduler(_) => None,
        }
    }

    pub(crate) fn encode_into(&self, w: &mut Writer) {
        match self {
            Self::Cell => w.u8(1),
            Self::Scheduler(name) => w.u8(2).str(name),
            Self::Framework(framework) => w
                .u8(3)
                .u32(framework.weight)
                .u32(framework.lease_ms)
                .u64(framework.generation),
        };
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            1 => Self::Cell,
            2 => Self::Scheduler(r.str()?.to_owned()),
            3 => Self::Framework(Framework {
                weight: r.u32()?,
                lease_ms: r.u32()?,
                generation: r.u64()?,
            }),
            _ => return Err(DecodeError::Invalid("who places a job")),
        })
    }
}

impl fmt::Display for PlacedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cell => f.write_str("cell"),
            Self::Scheduler(name) => write!(f, "scheduler {name}"),
            Self::Framework(_) => f.write_str("framework"),
        }
    }
}

/// A job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobSpec {
    /// What it is known by.
    pub name: String,
    /// Up to [`PRIORITY_MAX`]; one of a higher priority evicts those of lower ones where there is no room.
    pub priority: u32,
    /// How nodes are chosen.
    pub rule: Rule,
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// Who chooses agents for them.
    #[serde(default)]
    pub placed_by: PlacedBy,
}

/// What an agent says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AgentSpec {
    /// It.
    pub id: AgentId,
    /// For people.
    pub name: String,
    /// `host:port` where it gives out its tasks' logs over HTTP.
    pub address: String,
    /// Its failure domain; may be empty.
    pub zone: String,
    /// What tasks may ask for.
    pub attributes: BTreeMap<String, String>,
    /// Packages that it has.
    pub packages: BTreeSet<String>,
    /// What it has to give.
    pub resources: Resources,
    /// Which limits it enforces and how, for people.
    pub enforces: String,
    /// Not heard for this long it is lost, milliseconds.
    pub lease_ms: u32,
}

/// How an instance ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Exit code 0.
    Succeeded,
    /// Another exit code.
    Failed {
        /// It.
        code: i32,
    },
    /// By a signal that nobody here has sent.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// It used more memory than it was given.
    OverMemory,
    /// It could not be started.
    NotStarted {
        /// In words.
        why: String,
    },
    /// It was told to end.
    Stopped,
    /// Its agent is lost, or does not know it any more.
    Lost,
}

impl End {
    /// True for those after which a task is started again without its policy being asked.
    pub fn is_no_fault(&self) -> bool {
        matches!(self, Self::Stopped | Self::Lost)
    }

    pub(crate) fn encode_into(&self, w: &mut Writer) {
        match self {
            Self::Succeeded => w.u8(1),
            Self::Failed { code } => w.u8(2).i32(*code),
            Self::Signalled { signal } => w.u8(3).i32(*signal),
            Self::OverMemory => w.u8(4),
            Self::NotStarted { why } => w.u8(5).str(why),
            Self::Stopped => w.u8(6),
            Self::Lost => w.u8(7),
        };
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            1 => Self::Succeeded,
            2 => Self::Failed { code: r.i32()? },
            3 => Self::Signalled { signal: r.i32()? },
            4 => Self::OverMemory,
            5 => Self::NotStarted {
                why: r.str()?.to_owned(),
            },
            6 => Self::Stopped,
            7 => Self::Lost,
            _ => return Err(DecodeError::Invalid("end of an instance")),
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed { code } => write!(f, "failed: exit code {code}"),
            Self::Signalled { signal } => write!(f, "failed: signal {signal}"),
            Self::OverMemory => f.write_str("failed: over its memory"),
            Self::NotStarted { why } => write!(f, "failed: could not be started: {why}"),
            Self::Stopped => f.write_str("stopped"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

// ---- limits ----------------------------------------------------------------------------------

fn check_name(what: &'static str, name: &str) -> Result<(), Refusal> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_letter) {
        true => Ok(()),
        false => Err(Refusal::Invalid(format!(
            "{what} {name:?} must have 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'"
        ))),
    }
}

fn check_priority(priority: u32) -> Result<(), Refusal> {
    match priority > PRIORITY_MAX {
        true => Err(Refusal::Invalid(format!(
            "priority = {priority} must be from 0 to {PRIORITY_MAX}"
        ))),
        false => Ok(()),
    }
}

fn check_attributes(what: &str, attributes: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(Refusal::Invalid(format!(
            "there are more than {ATTRIBUTES_MAX} {what}"
        )));
    }
    let is_long = |text: &String| text.len() > NAME_BYTES_MAX;
    match attributes.iter().find(|(k, v)| is_long(k) || is_long(v)) {
        Some((key, _)) => Err(Refusal::Invalid(format!(
            "of the {what}, {key:?} or its value is longer than {NAME_BYTES_MAX} bytes"
        ))),
        None => Ok(()),
    }
}

impl JobSpec {
    /// The job of a framework, without tasks.
    ///
    /// # Errors
    /// When a value does not keep its limits.
    pub fn of_framework(
        name: String,
        priority: u32,
        framework: Framework,
    ) -> Result<Self, Refusal> {
        check_name("the framework's name", &name)?;
        check_priority(priority)?;
        let Framework {
            weight, lease_ms, ..
        } = framework;
        if !(1..=WEIGHT_MAX).contains(&weight) {
            return Err(Refusal::Invalid(format!(
                "weight = {weight} must be from 1 to {WEIGHT_MAX}"
            )));
        }
        if !(FRAMEWORK_LEASE_MS_MIN..=TIME_MS_MAX).contains(&lease_ms) {
            return Err(Refusal::Invalid(format!(
                "lease_ms = {lease_ms} must be from {FRAMEWORK_LEASE_MS_MIN} to {TIME_MS_MAX}"
            )));
        }
        let generation = 1;
        Ok(Self {
            name,
            priority,
            rule: Rule::default(),
            tasks: Vec::new(),
            placed_by: PlacedBy::Framework(Framework {
                generation,
                ..framework
            }),
        })
    }

    /// Refuses what cannot be.
    pub fn check(&self) -> Result<(), Refusal> {
        check_name("the job's name", &self.name)?;
        if let PlacedBy::Scheduler(name) = &self.placed_by {
            check_name("the scheduler's name", name)?;
        }
        check_priority(self.priority)?;
        if self.tasks.is_empty() || self.tasks.len() > TASKS_MAX {
            return Err(Refusal::Invalid(format!(
                "a job has 1 to {TASKS_MAX} kinds of tasks, not {}",
                self.tasks.len()
            )));
        }
        for (n, task) in self.tasks.iter().enumerate() {
            task.check()?;
            if self.tasks[..n].iter().any(|other| other.name == task.name) {
                return Err(Refusal::Invalid(format!(
                    "two tasks are named {:?}",
                    task.name
                )));
            }
        }
        let count = (self.tasks.iter()).fold(0u32, |sum, task| sum.saturating_add(task.count));
        if count > COUNT_MAX {
            return Err(Refusal::Invalid(format!(
                "the counts of all tasks add up to {count}; at most {COUNT_MAX} are held"
            )));
        }
        let mut w = Writer::new();
        self.encode_into(&mut w);
        match w.len() > JOB_BYTES_MAX {
            true => Err(Refusal::Invalid(format!(
                "commands and environments take {} bytes; at most {JOB_BYTES_MAX} are held",
                w.len()
            ))),
            false => Ok(()),
        }
    }

    pub(crate) fn encode_into(&self, w: &mut Writer) {
        w.str(&self.name).u32(self.priority).str(self.rule.name());
        w.u32(self.tasks.len() as u32);
        for task in &self.tasks {
            task.encode_into(w);
        }
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: r.str()?.to_owned(),
            priority: r.u32()?,
            rule: parsed(r, "rule of placement")?,
            tasks: (0..r.count(40)?)
                .map(|_| Task::decode_from(r))
                .collect::<Result<_, DecodeError>>()?,
            // It stands elsewhere: it came later than this form.
            placed_by: PlacedBy::default(),
        })
    }
}

impl Task {
    /// Whether it is the same, apart from how many there are.
    pub fn is_like(&self, other: &Self) -> bool {
        let one = |task: &Self| Self {
            count: 1,
            ..task.clone()
        };
        one(self) == one(other)
    }

    fn check(&self) -> Result<(), Refusal> {
        check_name("the task's name", &self.name)?;
        let name = &self.name;
        let fault = |why: String| Err(Refusal::Invalid(format!("task {name:?}: {why}")));
        if !(1..=COUNT_MAX).contains(&self.count) {
            return fault(format!(
                "count = {} must be from 1 to {COUNT_MAX}",
                self.count
            ));
        }
        if self.command.first().is_none_or(String::is_empty) {
            return fault("command must name a program: [\"program\", \"argument\"]".into());
        }
        let has_nul = |text: &String| text.contains('\0');
        if self.command.iter().any(has_nul) || self.env.values().any(has_nul) {
            return fault("neither a command nor an environment may hold a NUL".into());
        }
        let is_bad = |key: &&String| key.is_empty() || key.contains(['=', '\0']);
        if let Some(key) = self.env.keys().find(is_bad) {
            return fault(format!("{key:?} is no name of a variable"));
        }
        for (what, ms) in [
            ("restart.pause_ms", self.restart.pause_ms),
            ("restart.pause_ms_max", self.restart.pause_ms_max),
            ("grace_ms", self.grace_ms),
        ] {
            if ms > TIME_MS_MAX {
                return fault(format!("{what} = {ms} is longer than a day"));
            }
        }
        let has_room = self.constraints.len().max(self.packages.len()) <= ATTRIBUTES_MAX;
        match has_room {
            true => Ok(()),
            false => fault(format!(
                "at most {ATTRIBUTES_MAX} constraints and packages are held"
            )),
        }
    }

    pub(crate) fn encode_into(&self, w: &mut Writer) {
        w.str(&self.name).u32(self.count);
        put_all(w, self.command.iter());
        put_map(w, &self.env);
        self.resources.encode(w);
        w.u32(self.files_max).u32(self.cpu_seconds_max);
        w.u8(self.restart.policy as u8);
        w.u32(self.restart.attempts_max).u32(self.restart.pause_ms);
        w.u32(self.restart.pause_ms_max);
        w.u8(self.on_lost as u8).u32(self.grace_ms);
        put_all(w, self.constraints.iter().map(Constraint::to_string));
        put_all(w, self.packages.iter());
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: r.str()?.to_owned(),
            count: r.u32()?,
            command: (0..r.count(4)?)
                .map(|_| Ok(r.str()?.to_owned()))
                .collect::<Result<_, DecodeError>>()?,
            env: read_map(r)?,
            resources: Resources::decode(r)?,
            files_max: r.u32()?,
            cpu_seconds_max: r.u32()?,
            restart: Restart {
                policy: Policy::decode_from(r)?,
                attempts_max: r.u32()?,
                pause_ms: r.u32()?,
                pause_ms_max: r.u32()?,
            },
            on_lost: OnLost::decode_from(r)?,
            grace_ms: r.u32()?,
            constraints: (0..r.count(4)?)
                .map(|_| parsed(r, "constraint"))
                .collect::<Result<_, DecodeError>>()?,
            packages: read_set(r)?,
        })
    }
}

impl AgentSpec {
    /// Refuses what cannot be.
    pub fn check(&self) -> Result<(), Refusal> {
        check_name("the agent's name", &self.name)?;
        if !self.zone.is_empty() {
            check_name("the zone", &self.zone)?;
        }
        check_attributes("attributes", &self.attributes)?;
        let texts = [&self.address, &self.enforces];
        if texts.iter().any(|text| text.len() > 10 * NAME_BYTES_MAX) {
            return Err(Refusal::Invalid("the agent's address is too long".into()));
        }
        match (100..=TIME_MS_MAX).contains(&self.lease_ms) {
            true => Ok(()),
            false => Err(Refusal::Invalid(format!(
                "the agent's lease of {} ms is not from 100 to {TIME_MS_MAX}",
                self.lease_ms
            ))),
        }
    }

    pub(crate) fn encode_into(&self, w: &mut Writer) {
        w.u64(self.id.0).str(&self.name).str(&self.address);
        w.str(&self.zone);
        put_map(w, &self.attributes);
        put_all(w, self.packages.iter());
        self.resources.encode(w);
        w.str(&self.enforces).u32(self.lease_ms);
    }

    pub(crate) fn decode_from(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: AgentId(r.u64()?),
            name: r.str()?.to_owned(),
            address: r.str()?.to_owned(),
            zone: r.str()?.to_owned(),
            attributes: read_map(r)?,
            packages: read_set(r)?,
            resources: Resources::decode(r)?,
            enforces: r.str()?.to_owned(),
            lease_ms: r.u32()?,
        })
    }
}

// ---- byte forms of parts ---------------------------------------------------------------------

fn put_map(w: &mut Writer, map: &BTreeMap<String, String>) {
    w.u32(map.len() as u32);
    for (key, value) in map {
        w.str(key).str(value);
    }
}

fn read_map(r: &mut Reader<'_>) -> Result<BTreeMap<String, String>, DecodeError> {
    (0..r.count(8)?)
        .map(|_| Ok((r.str()?.to_owned(), r.str()?.to_owned())))
        .collect()
}

fn put_all(w: &mut Writer, words: impl ExactSizeIterator<Item: AsRef<str>>) {
    w.u32(words.len() as u32);
    for word in words {
        w.str(word.as_ref());
    }
}

fn read_set(r: &mut Reader<'_>) -> Result<BTreeSet<String>, DecodeError> {
    (0..r.count(4)?).map(|_| Ok(r.str()?.to_owned())).collect()
}

fn parsed<T: FromStr>(r: &mut Reader<'_>, what: &'static str) -> Result<T, DecodeError> {
    r.str()?.parse().map_err(|_| DecodeError::Invalid(what))
}
