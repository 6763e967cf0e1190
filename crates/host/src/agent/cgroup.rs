//! Control groups, the part without effects: where this process may make some, and what is written into them.
//!
//! Both forms that Linux has are understood: version 1, with one tree for each controller (or for a few together), and
//! version 2, with one tree for all. A machine may have some controllers in the one and some in the other. A task's
//! group stands beside or below the node's own, so that whatever limits the node limits its tasks together with it.
//!
//! Memory is a limit: beyond it the kernel ends the task. Processors are *weights*: a task may use what is idle, and
//! where processors are short it weighs as much as one process without a group of its own for each processor that it
//! was promised, and never less than one: the node and whatever else runs here has no group, and would starve tasks that
//! weigh less. A hard quota (so many milliseconds of each 100) was not taken: it stops tasks in the middle of requests
//! while processors stand idle.

use scheduling::Resources;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Processes and threads of a task: what ends a task that starts itself again and again before it ends the machine.
pub const PIDS_MAX: u32 = 4_096;
/// What the kernel gives a process, or a group of which nothing was said: a task weighs no less.
const CPU_SHARES_MIN: u64 = 1_024;
/// The same in version 2.
const CPU_WEIGHT_MIN: u64 = 100;
/// Where a node in a tree of version 2 goes itself: a group there has either processes or limited groups below it.
pub const LEAF: &str = "althing-node";

/// Something that is limited.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// Memory, the cache of files with it.
    Memory,
    /// Processors.
    Cpu,
    /// The number of processes and threads.
    Pids,
}

/// Which of the kernel's two forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// A tree for each controller.
    V1,
    /// One tree.
    V2,
}

impl Controller {
    /// All that are used.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    /// The kernel's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "cgroup v1",
            Self::V2 => "cgroup v2",
        })
    }
}

/// A tree in which groups are made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tree {
    /// Which form.
    pub version: Version,
    /// Below this group tasks' groups are made.
    pub parent: PathBuf,
    /// In this group the node and its supervisors are.
    pub own: PathBuf,
    /// What is limited there.
    pub controllers: Vec<Controller>,
}

/// Trees that are mounted, by `/proc/self/mountinfo` and `/proc/self/cgroup`. What the one of version 2 can limit is
/// not said there: its controllers are empty here.
pub fn find(mounts: &str, own: &str) -> Vec<Tree> {
    mounts.lines().filter_map(|line| tree(line, own)).collect()
}

fn tree(line: &str, own: &str) -> Option<Tree> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split_whitespace();
    let version = match kind.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let options: Vec<&str> = kind.nth(1)?.split(',').collect();
    let controllers: Vec<Controller> = (Controller::ALL.into_iter())
        .filter(|it| version == Version::V1 && options.contains(&it.name()))
        .collect();
    let mut place = place.split_whitespace().skip(3);
    let (root, point) = (place.next()?, place.next()?);
    // "4:memory:/a", "0::/a"
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        let is_it = match controllers.first() {
            Some(first) => names.split(',').any(|name| name == first.name()),
            None => version == Version::V2 && names.is_empty(),
        };
        is_it.then_some(path)
    })?;
    // What is mounted may begin below the root of the tree; what is outside of it cannot be used.
    let below = path.strip_prefix(root.trim_end_matches('/'))?;
    if below.contains("..") {
        return None;
    }
    let own = PathBuf::from(point).join(below.trim_start_matches('/'));
    let is_leaf = version == Version::V2 && own.ends_with(LEAF);
    let parent = own.parent().filter(|_| is_leaf).unwrap_or(&own).to_owned();
    Some(Tree {
        version,
        parent,
        own,
        controllers,
    })
}

/// A file of a group and what is written into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The file.
    pub file: &'static str,
    /// What is written.
    pub value: String,
    /// False where not every kernel has the file, and the limit holds without it.
    pub is_needed: bool,
}

/// What makes a group limit its task to these resources.
pub fn settings(version: Version, controller: Controller, given: Resources) -> Vec<Setting> {
    let needed = |file, value: u64| Setting {
        file,
        value: value.to_string(),
        is_needed: true,
    };
    let wanted = |file, value| Setting {
        is_needed: false,
        ..needed(file, value)
    };
    let memory = given.memory_bytes;
    match (controller, version) {
        (Controller::Memory, _) if memory == 0 => Vec::new(),
        (Controller::Memory, Version::V1) => vec![
            needed("memory.limit_in_bytes", memory),
            wanted("memory.memsw.limit_in_bytes", memory),
        ],
        (Controller::Memory, Version::V2) => vec![
            needed("memory.max", memory),
            wanted("memory.swap.max", 0),
            wanted("memory.oom.group", 1),
        ],
        (Controller::Cpu, Version::V1) => {
            let shares = given.cpu_milli.saturating_mul(1_024) / 1_000;
            vec![needed("cpu.shares", shares.clamp(CPU_SHARES_MIN, 262_144))]
        }
        (Controller::Cpu, Version::V2) => {
            vec![needed(
                "cpu.weight",
                (given.cpu_milli / 10).clamp(CPU_WEIGHT_MIN, 10_000),
            )]
        }
        (Controller::Pids, _) => vec![needed("pids.max", u64::from(PIDS_MAX))],
    }
}

/// The file of a group that counts whom the kernel ended for want of memory.
pub fn kills_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    }
}

/// How many processes of a group the kernel has ended for want of memory, by its [`kills_file`].
pub fn kills(text: &str) -> u64 {
    let count = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse().ok();
    text.lines().find_map(count).unwrap_or(0)
}

/// Which limits hold, for people. `why_not`: why control groups are not used for the others, if it is known.
pub fn describe(trees: &[Tree], why_not: Option<&str>) -> String {
    let by = |controller| {
        let tree = trees.iter().find(|it| it.controllers.contains(&controller));
        tree.map(|tree| tree.version)
    };
    let mut holds = vec![match by(Controller::Memory) {
        Some(version) => format!("memory ({version}: all processes of a task)"),
        None => "memory (resident pages of the whole process group, looked at 4 times a second; \
                 of each process, twice as much and 64 MiB of data)"
            .into(),
    }];
    let mut not = Vec::new();
    match by(Controller::Cpu) {
        Some(version) => holds.push(format!("processors ({version}: by weight when short)")),
        None => not.push("processor share"),
    }
    match by(Controller::Pids) {
        Some(version) => holds.push(format!("at most {PIDS_MAX} processes ({version})")),
        None => not.push("number of processes"),
    }
    not.push("disk");
    holds.push("open files, processor seconds (each process)".into());
    let why = why_not.map_or(String::new(), |why| format!(" (no control groups: {why})"));
    format!("{}; not: {}{why}", holds.join(", "), not.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPLIT: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/7 /sys/fs/cgroup/memory rw,relatime shared:4 - cgroup cgroup rw,memory
33 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";

    fn shown(tree: &Tree) -> String {
        let names: Vec<&str> = tree.controllers.iter().map(|it| it.name()).collect();
        format!(
            "{} {} {} [{}]",
            tree.version,
            tree.parent.display(),
            tree.own.display(),
            names.join(" ")
        )
    }

    #[test]
    fn trees_of_both_versions_are_found_where_this_process_is() {
        let own = "9:name=systemd:/a\n4:memory:/docker/7/b\n1:cpu,cpuacct:/c\n0::/d\n";
        let found: Vec<String> = find(SPLIT, own).iter().map(shown).collect();
        assert_eq!(
            found,
            [
                "cgroup v1 /sys/fs/cgroup/cpu/c /sys/fs/cgroup/cpu/c [cpu]",
                "cgroup v1 /sys/fs/cgroup/memory/b /sys/fs/cgroup/memory/b [memory]",
                // The line of no controller is this one's, and not that of `systemd`.
                "cgroup v2 /sys/fs/cgroup/unified/d /sys/fs/cgroup/unified/d []",
            ]
        );
    }

    #[test]
    fn node_in_a_leaf_of_version_2_makes_groups_beside_it() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let found = find(mounts, "0::/unit/althing-node\n");
        let place = "/sys/fs/cgroup/unit";
        assert_eq!(
            shown(&found[0]),
            format!("cgroup v2 {place} {place}/althing-node []")
        );
        assert_eq!(find(mounts, "0::/../elsewhere\n"), []);
        assert_eq!(find("", "0::/\n"), []);
    }

    #[test]
    fn amounts_become_what_the_kernel_reads() {
        let given = Resources::new(1_500, 64 << 20, 0);
        let table = |version| {
            let all = Controller::ALL.into_iter();
            let all = all.flat_map(|it| settings(version, it, given));
            let lines = all.map(|s| format!("{}={} {}", s.file, s.value, s.is_needed));
            lines.collect::<Vec<_>>().join("; ")
        };
        assert_eq!(
            table(Version::V1),
            "memory.limit_in_bytes=67108864 true; memory.memsw.limit_in_bytes=67108864 false; \
             cpu.shares=1536 true; pids.max=4096 true"
        );
        assert_eq!(
            table(Version::V2),
            "memory.max=67108864 true; memory.swap.max=0 false; memory.oom.group=1 false; \
             cpu.weight=150 true; pids.max=4096 true"
        );
        let nothing = Resources::NONE;
        assert_eq!(settings(Version::V1, Controller::Memory, nothing), []);
        assert_eq!(
            settings(Version::V1, Controller::Cpu, nothing)[0].value,
            "1024"
        );
    }

    #[test]
    fn kernels_counts_are_read_in_both_forms() {
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(kills("low 0\nhigh 0\nmax 9\noom 3\noom_kill 1\n"), 1);
        assert_eq!(kills("oom_kill_disable 1\n"), 0);
    }

    #[test]
    fn what_holds_and_what_does_not_is_said_by_tree() {
        let tree = Tree {
            version: Version::V1,
            parent: PathBuf::new(),
            own: PathBuf::new(),
            controllers: vec![Controller::Memory, Controller::Pids],
        };
        let some = describe(&[tree], None);
        assert!(some.starts_with("memory (cgroup v1"), "{some}");
        assert!(some.ends_with("; not: processor share, disk"), "{some}");
        let none = describe(&[], Some("switched off"));
        assert!(none.contains("4 times a second"), "{none}");
        assert!(
            none.ends_with("(no control groups: switched off)"),
            "{none}"
        );
    }
}
