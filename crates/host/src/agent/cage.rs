//! Control groups, the part with effects: what this machine allows, and the groups of tasks. Tested with real
//! processes in `tests/python/test_jobs.py`: who enters a group does so with all of its threads.

use super::cgroup::{Controller, LEAF, Tree, Version, find, kills, kills_file, settings};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use scheduling::{AgentId, InstanceId, Resources};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Looks at a group that has to become empty, and the pause between two.
const LOOKS: u32 = 40;
const LOOK_TIME: Duration = Duration::from_millis(5);
/// The processes of a group; writing `0` brings the writer into it.
const PROCS: &str = "cgroup.procs";

/// The trees in which this process may make groups for tasks: it has made one in each.
///
/// # Errors
/// In words, when there is none.
pub fn detect(agent: AgentId) -> Result<Vec<Tree>, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let found = find(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
    let mut usable: Vec<Tree> = Vec::new();
    let mut why = None;
    // Trees of version 1 first: what they limit, the one of version 2 cannot.
    let (split, one) = found
        .into_iter()
        .partition::<Vec<_>, _>(|tree| tree.version == Version::V1);
    for mut tree in split.into_iter().chain(one) {
        if tree.version == Version::V2 {
            let taken = |it: &Controller| usable.iter().any(|t| t.controllers.contains(it));
            match delegated(&mut tree, taken) {
                Ok(()) => {}
                Err(error) => {
                    why = Some(format!("{}: {error}", tree.parent.display()));
                    continue;
                }
            }
        }
        if tree.controllers.is_empty() {
            continue;
        }
        let probe = Cage {
            trees: vec![tree.clone()],
            name: format!("althing-{agent}-probe"),
        };
        let made = probe.create(Resources::new(100, 16 << 20, 0));
        probe.clear();
        match made {
            Ok(()) => usable.push(tree),
            Err(error) => why = Some(error.to_string()),
        }
    }
    match usable.is_empty() {
        true => Err(why.unwrap_or_else(|| "none is mounted that limits anything".into())),
        false => Ok(usable),
    }
}

/// Lets groups below a group of version 2 be limited. The kernel allows that only where no process is in the group
/// itself: where this one is alone there, it goes into a leaf.
fn delegated(tree: &mut Tree, taken: impl Fn(&Controller) -> bool) -> io::Result<()> {
    let words = |file: &str| fs::read_to_string(tree.parent.join(file));
    let there = words("cgroup.controllers")?;
    let is_there = |it: &Controller| there.split_whitespace().any(|word| word == it.name());
    let wanted: Vec<Controller> = (Controller::ALL.into_iter())
        .filter(|it| is_there(it) && !taken(it))
        .collect();
    let on = words("cgroup.subtree_control")?;
    let missing: Vec<String> = (wanted.iter())
        .filter(|it| !on.split_whitespace().any(|word| word == it.name()))
        .map(|it| format!("+{}", it.name()))
        .collect();
    if !missing.is_empty() {
        let control = tree.parent.join("cgroup.subtree_control");
        let turn_on = || fs::write(&control, missing.join(" "));
        if turn_on().is_err() {
            let alone = words(PROCS)?.trim() == getpid().as_raw_nonzero().to_string();
            if !alone {
                return Err(io::Error::other(
                    "the group has other processes than this node: give the node a group of its own (systemd: Delegate=yes)",
                ));
            }
            let leaf = tree.parent.join(LEAF);
            fs::create_dir_all(&leaf)?;
            fs::write(leaf.join(PROCS), "0")?;
            if let Err(error) = turn_on() {
                fs::write(tree.parent.join(PROCS), "0")?;
                fs::remove_dir(&leaf)?;
                return Err(error);
            }
            tree.own = leaf;
        }
    }
    tree.controllers = wanted;
    Ok(())
}

/// The groups of one task, one in each tree.
#[derive(Clone, Debug)]
pub struct Cage {
    trees: Vec<Tree>,
    name: String,
}

impl Cage {
    /// Those of an instance; they need not be there.
    pub fn of(trees: &[Tree], agent: AgentId, instance: InstanceId) -> Self {
        Self {
            trees: trees.to_vec(),
            name: format!("althing-{agent}-{instance}"),
        }
    }

    fn groups(&self) -> impl Iterator<Item = (&Tree, PathBuf)> {
        let groups = self.trees.iter();
        groups.map(|tree| (tree, tree.parent.join(&self.name)))
    }

    /// Whether the kernel looks after this.
    pub fn limits(&self, controller: Controller) -> bool {
        self.trees
            .iter()
            .any(|tree| tree.controllers.contains(&controller))
    }

    /// Makes the groups with these limits.
    ///
    /// # Errors
    /// When one cannot be made; then there may be some of them.
    pub fn create(&self, given: Resources) -> io::Result<()> {
        for (tree, group) in self.groups() {
            fs::create_dir_all(&group).map_err(|error| named(&group, &error))?;
            for controller in &tree.controllers {
                for setting in settings(tree.version, *controller, given) {
                    let file = group.join(setting.file);
                    match fs::write(&file, &setting.value) {
                        Err(error) if setting.is_needed => return Err(named(&file, &error)),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// What `spawn` starts is in the groups from its first instruction on; this process is so only meanwhile.
    ///
    /// # Errors
    /// When this process cannot enter or leave, or as `spawn` says.
    pub fn spawn<T>(&self, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let go = |to: &Path| fs::write(to.join(PROCS), "0").map_err(|error| named(to, &error));
        let entered: io::Result<()> = self.groups().try_for_each(|(_, group)| go(&group));
        let spawned = entered.and_then(|()| spawn());
        let left: Vec<io::Result<()>> = self.trees.iter().map(|tree| go(&tree.own)).collect();
        let spawned = spawned?;
        left.into_iter().collect::<io::Result<()>>()?;
        Ok(spawned)
    }

    /// Whether the kernel has ended a process of it for want of memory.
    pub fn is_over_memory(&self) -> bool {
        self.groups().any(|(tree, group)| {
            let text = fs::read_to_string(group.join(kills_file(tree.version)));
            tree.controllers.contains(&Controller::Memory) && text.is_ok_and(|t| kills(&t) > 0)
        })
    }

    /// Kills what is in the groups, and removes them. False when something would not die yet.
    pub fn clear(&self) -> bool {
        let mut left: Vec<PathBuf> = self.groups().map(|(_, group)| group).collect();
        for _ in 0..LOOKS {
            left.retain(|group| {
                kill(group);
                let gone = fs::remove_dir(group);
                gone.is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
            });
            if left.is_empty() {
                return true;
            }
            std::thread::sleep(LOOK_TIME);
        }
        false
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn processes(group: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(group.join(PROCS)).unwrap_or_default();
    let pids = text.lines().filter_map(|line| line.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

fn kill(group: &Path) {
    if fs::write(group.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // A number that is listed after its process was opened is that process', or another's of this task.
    let open = |pid: Pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?));
    let opened: Vec<_> = processes(group).into_iter().filter_map(open).collect();
    let listed = processes(group);
    for (pid, process) in opened {
        if listed.contains(&pid) {
            // It may have ended by itself.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}
