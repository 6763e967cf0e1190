//! The supervisor of one task: a process of its own, the same binary, that leads the task's process group. It sets the
//! limits, runs the command, keeps the log, and leaves behind how the task ended, in the task's directory:
//!
//! * `order.json`: what to run, written by the agent before.
//! * `pid`: the supervisor's process id, and when it was started.
//! * `log.N`: what the task wrote, from byte N on (see [`super::logs`]).
//! * `end.json`: how it ended.
//!
//! Where there are control groups, the command is in some of its own from its first instruction on, and this process is
//! not. Its last acts are to kill what is in them and its own process group, so that nothing of the task is left. It outlives its agent; where the task
//! asks for that, it kills the group once the agent's lease is over.

use super::cage::Cage;
use super::cgroup::Controller;
use super::{lease, tasks::Order, write_whole};
use rustix::process::{Pid, Resource, Rlimit, Signal, getpid, getrlimit, kill_process_group};
use scheduling::Task;
use scheduling::model::{End, OnLost};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Between two looks at the agent's lease.
const LEASE_TIME: Duration = Duration::from_millis(100);
/// What a task's last words are waited for when children of it still hold its output.
const LAST_WORDS_TIME: Duration = Duration::from_millis(300);
/// Stack of the threads here, bytes: there may be thousands of supervisors.
const STACK_BYTES: usize = 128 << 10;
/// How much more than its memory a process may reserve without touching it.
const RESERVE_BYTES: u64 = 64 << 20;

/// Runs the task of a directory, and ends with all of its group.
///
/// # Errors
/// When the directory is no task's. Otherwise it does not return.
pub fn run(directory: &Path) -> Result<(), String> {
    let fault = |what: &str, error: &dyn std::fmt::Display| {
        format!("cannot supervise {}: {what}: {error}", directory.display())
    };
    let order = fs::read(directory.join("order.json")).map_err(|e| fault("order.json", &e))?;
    let order: Order = serde_json::from_slice(&order).map_err(|e| fault("order.json", &e))?;
    let started = super::tasks::started(getpid().as_raw_nonzero().get() as u32);
    let words = format!("{} {}", getpid().as_raw_nonzero(), started.unwrap_or(0));
    write_whole(&directory.join("pid"), words.as_bytes()).map_err(|e| fault("pid", &e))?;
    // What is meant for the task is not meant for this process; handlers, unlike ignoring, are not inherited.
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        let ignored = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal, ignored).map_err(|e| fault("signals", &e))?;
    }
    let end = match start(directory, &order) {
        Ok(end) => end,
        Err(error) => End::NotStarted {
            why: error.to_string(),
        },
    };
    leave(directory, &order, &end)
}

/// Says how it ended, once its control groups are empty, and kills the process group, this process among it.
fn leave(directory: &Path, order: &Order, end: &End) -> Result<(), String> {
    // What will not die is looked at again by the agent.
    order.cage().clear();
    let text = serde_json::to_vec(end).unwrap_or_default();
    let written = write_whole(&directory.join("end.json"), &text);
    let _ = kill_process_group(getpid(), Signal::KILL);
    written.map_err(|error| error.to_string())
}

fn start(directory: &Path, order: &Order) -> io::Result<End> {
    let work = &order.work;
    let stops = work.task.on_lost == OnLost::Stop;
    if stops && lease::is_over(&order.directory) {
        // It may have been started elsewhere by now.
        return Ok(End::Lost);
    }
    let folder = directory.join("work");
    fs::create_dir_all(&folder)?;
    let cage = order.cage();
    limit(&work.task, cage.limits(Controller::Memory))?;
    cage.create(work.task.resources)?;
    let (reader, writer) = io::pipe()?;
    let (program, arguments) =
        work.task.command.split_first().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "there is no command to run")
        })?;
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", path)
        .envs(&work.task.env)
        .env("ALTHING_JOB", &work.job)
        .env("ALTHING_TASK", &work.task.name)
        .env("ALTHING_INDEX", work.index.to_string())
        .env("ALTHING_INSTANCE", work.instance.to_string())
        .env("ALTHING_AGENT", order.agent.to_string())
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let spawned = cage.spawn(|| command.spawn());
    // The command holds the writing end of the pipe.
    drop(command);
    let mut child =
        spawned.map_err(|error| io::Error::new(error.kind(), format!("{program:?}: {error}")))?;
    let (done, is_done) = channel();
    let log = Log::open(directory, order.log_bytes_max)?;
    thread(move || {
        pump(reader, log);
        let _ = done.send(());
    })?;
    if stops {
        let (order, own) = (order.clone(), directory.to_owned());
        thread(move || {
            while !lease::is_over(&order.directory) {
                std::thread::sleep(LEASE_TIME);
            }
            let _ = leave(&own, &order, &End::Lost);
        })?;
    }
    let status = child.wait()?;
    let _ = is_done.recv_timeout(LAST_WORDS_TIME);
    Ok(judge(status, &cage))
}

fn thread(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
    builder.spawn(run).map(drop)
}

fn judge(status: ExitStatus, cage: &Cage) -> End {
    match (status.code(), status.signal()) {
        _ if cage.is_over_memory() => End::OverMemory,
        (Some(0), _) => End::Succeeded,
        (Some(code), _) => End::Failed { code },
        (None, signal) => End::Signalled {
            signal: signal.unwrap_or(0),
        },
    }
}

/// Limits this process, and so all that it starts. Where the kernel counts the memory of all of them together, none
/// needs a limit on what it reserves.
fn limit(task: &Task, is_counted: bool) -> io::Result<()> {
    let memory = task.resources.memory_bytes;
    let data =
        (memory > 0 && !is_counted).then(|| memory.saturating_mul(2).saturating_add(RESERVE_BYTES));
    let files = (task.files_max > 0).then_some(u64::from(task.files_max));
    let cpu = (task.cpu_seconds_max > 0).then_some(u64::from(task.cpu_seconds_max));
    for (resource, value) in [
        (Resource::Data, data),
        (Resource::Nofile, files),
        (Resource::Cpu, cpu),
    ] {
        if let Some(value) = value {
            let most = getrlimit(resource).maximum;
            let value = most.map_or(value, |most| value.min(most));
            let limit = Rlimit {
                current: Some(value),
                maximum: Some(value),
            };
            rustix::process::setrlimit(resource, limit)?;
        }
    }
    Ok(())
}

fn pump(mut reader: PipeReader, mut log: Log) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            // What cannot be written is lost; the task goes on.
            Ok(n) => drop(log.write(&buffer[..n])),
        }
    }
}

/// Two files of half of what is kept: the newest, and the one before.
struct Log {
    directory: PathBuf,
    file: File,
    /// Where the file begins, and where the next byte goes.
    base: u64,
    end: u64,
    before: Option<u64>,
    half: u64,
}

impl Log {
    fn open(directory: &Path, bytes_max: u64) -> io::Result<Self> {
        Ok(Self {
            file: File::create(directory.join("log.0"))?,
            directory: directory.to_owned(),
            base: 0,
            end: 0,
            before: None,
            half: (bytes_max / 2).max(4_096),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.end - self.base >= self.half {
            let next = File::create(self.directory.join(format!("log.{}", self.end)))?;
            if let Some(before) = self.before.replace(self.base) {
                fs::remove_file(self.directory.join(format!("log.{before}")))?;
            }
            (self.file, self.base) = (next, self.end);
        }
        self.end += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

/// Sends a signal to the group that a supervisor leads.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone.
        let _ = kill_process_group(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::logs;

    #[test]
    fn log_keeps_its_newest_part_at_the_offsets_of_the_whole() {
        let directory = std::env::temp_dir().join(format!("althing-log-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut log = Log::open(&directory, 8_192).unwrap();
        let line = [b'x'; 1_000];
        for _ in 0..20 {
            log.write(&line).unwrap();
        }
        log.write(b"end").unwrap();
        let kept = logs::read(&directory, 0, 1 << 20).unwrap();
        assert!(kept.offset >= 10_000 && kept.offset + 5_000 < 20_003);
        assert_eq!(kept.offset + kept.bytes.len() as u64, 20_003);
        assert_eq!(logs::read(&directory, 20_000, 100).unwrap().bytes, b"end");
        assert!(
            logs::read(&directory, 20_003, 100)
                .unwrap()
                .bytes
                .is_empty()
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
