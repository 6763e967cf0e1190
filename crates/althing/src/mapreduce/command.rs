//! A user's command between two streams of lines.

use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::thread;

/// What runs for the attempt in hand, so that it can be ended from outside.
#[derive(Default)]
pub struct Running(Mutex<State>);

#[derive(Default)]
struct State {
    cancelled: bool,
    groups: Vec<u32>,
}

impl Running {
    /// A new attempt begins.
    pub fn reset(&self) {
        *self.state() = State::default();
    }

    /// Ends what runs, with all its children, and what may be started for this attempt later.
    pub fn cancel(&self) {
        let mut state = self.state();
        state.cancelled = true;
        state.groups.iter().for_each(|group| kill(*group));
    }

    /// True once it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

fn kill(group: u32) {
    if let Some(group) = i32::try_from(group)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

/// Runs `command` with what `feed` writes as its input, and hands its output to `take`.
///
/// # Errors
/// When it cannot be run, ends with another code than 0, or either side fails. That it does not read all of its
/// input is no error.
pub fn pipe<T>(
    running: &Running,
    command: &str,
    environment: &[(&str, String)],
    feed: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
    take: impl FnOnce(BufReader<ChildStdout>) -> io::Result<T>,
) -> Result<T, String> {
    let mut child =
        start(running, command, environment).map_err(|e| format!("cannot run {command:?}: {e}"))?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(format!("cannot run {command:?}: no pipes"));
    };
    let group = child.id();
    let (fed, taken) = thread::scope(|scope| {
        let feeder = scope.spawn(move || {
            let mut stdin = BufWriter::new(stdin);
            match feed(&mut stdin).and_then(|()| stdin.flush()) {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                done => done,
            }
        });
        let taken = take(BufReader::new(stdout));
        if taken.is_err() {
            kill(group);
        }
        let fed = feeder
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("its input broke off")));
        (fed, taken)
    });
    let ended = child.wait().map_err(|e| format!("{command:?}: {e}"))?;
    running.state().groups.retain(|other| *other != group);
    if running.is_cancelled() {
        return Err("not wanted any more".to_owned());
    }
    let taken = taken.map_err(|e| format!("output of {command:?}: {e}"))?;
    fed.map_err(|e| format!("input of {command:?}: {e}"))?;
    match ended.success() {
        true => Ok(taken),
        false => Err(format!("{command:?} ended with {ended}")),
    }
}

fn start(running: &Running, command: &str, environment: &[(&str, String)]) -> io::Result<Child> {
    let mut state = running.state();
    if state.cancelled {
        return Err(io::Error::other("not wanted any more"));
    }
    let child = Command::new("sh")
        .args(["-c", command])
        .envs(environment.iter().map(|(key, value)| (*key, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    state.groups.push(child.id());
    Ok(child)
}
