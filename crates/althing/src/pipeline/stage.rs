//! Stages at work: a thread each, a bounded channel between two, and what each waited for.

use super::{Does, Ready};
use computing::pipeline::{Batch, Shuffle};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

/// An item: a line without its newline.
type Item = Vec<u8>;

/// What came of a stage.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Items that came to it.
    pub taken: u64,
    /// Items that it passed on.
    pub given: u64,
    /// How long it lived and waited for nothing. What a command has read ahead it works on while it is starved.
    pub busy_s: f64,
    /// How long it waited for something to come.
    pub starved_s: f64,
    /// How long it waited for room behind it.
    pub blocked_s: f64,
}

/// Where a stage's items come from, and how long it waited for them.
struct Input {
    from: Option<Receiver<Item>>,
    taken: u64,
    starved_s: f64,
}

impl Input {
    fn next(&mut self) -> Option<Item> {
        let begun = Instant::now();
        let item = self.from.as_ref()?.recv().ok();
        self.starved_s += begun.elapsed().as_secs_f64();
        self.taken += u64::from(item.is_some());
        item
    }
}

/// Where they go; the last stage's go to standard output.
struct Output {
    to: Option<SyncSender<Item>>,
    given: u64,
    blocked_s: f64,
}

impl Output {
    /// False when nobody takes anything any more.
    fn give(&mut self, item: Item) -> io::Result<bool> {
        self.given += 1;
        let begun = Instant::now();
        let taken = match &self.to {
            Some(to) => Ok(to.send(item).is_ok()),
            None => write_line(&mut io::stdout().lock(), &item),
        };
        self.blocked_s += begun.elapsed().as_secs_f64();
        taken
    }
}

fn write_line(to: &mut impl Write, item: &[u8]) -> io::Result<bool> {
    let written = to.write_all(item).and_then(|()| to.write_all(b"\n"));
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        done => done.map(|()| true),
    }
}

/// Runs the stages to their end.
pub fn run(stages: &[Ready]) -> Result<Vec<Told>, String> {
    thread::scope(|scope| {
        let mut from = None;
        let mut running = Vec::new();
        for (at, stage) in stages.iter().enumerate() {
            let (to, next) = match at + 1 < stages.len() {
                true => {
                    let (to, next) = sync_channel(stage.prefetch);
                    (Some(to), Some(next))
                }
                false => (None, None),
            };
            let mut input = Input {
                from: std::mem::replace(&mut from, next),
                taken: 0,
                starved_s: 0.0,
            };
            let mut output = Output {
                to,
                given: 0,
                blocked_s: 0.0,
            };
            running.push(scope.spawn(move || {
                let begun = Instant::now();
                let ended = one(stage, &mut input, &mut output);
                let waited_s = input.starved_s + output.blocked_s;
                // Both ends are let go of here, so that the neighbours end, too.
                ended
                    .map(|()| Told {
                        taken: input.taken,
                        given: output.given,
                        busy_s: (begun.elapsed().as_secs_f64() - waited_s).max(0.0),
                        starved_s: input.starved_s,
                        blocked_s: output.blocked_s,
                    })
                    .map_err(|why| format!("stage {:?}: {why}", stage.name))
            }));
        }
        // All are waited for; the first that failed is told of.
        let ended: Vec<Result<Told, String>> = running
            .into_iter()
            .map(|stage| {
                stage
                    .join()
                    .unwrap_or_else(|_| Err("a stage panicked".into()))
            })
            .collect();
        ended.into_iter().collect()
    })
}

fn one(stage: &Ready, input: &mut Input, output: &mut Output) -> Result<(), String> {
    let io = |e: io::Error| e.to_string();
    match &stage.does {
        Does::Command(command) => filter(command, input, output),
        Does::Map(command) => {
            while let Some(item) = input.next() {
                let mapped = map(command, &item)?;
                if !output.give(mapped).map_err(io)? {
                    break;
                }
            }
            Ok(())
        }
        Does::Shuffle { size, seed } => {
            let mut shuffle = Shuffle::new(*size, *seed);
            while let Some(item) = input.next() {
                if let Some(item) = shuffle.push(item)
                    && !output.give(item).map_err(io)?
                {
                    return Ok(());
                }
            }
            while let Some(item) = shuffle.drain() {
                if !output.give(item).map_err(io)? {
                    break;
                }
            }
            Ok(())
        }
        Does::Batch { size, separator } => {
            let mut batch = Batch::new(*size);
            let mut give = |items: Vec<Item>| output.give(items.join(separator.as_bytes()));
            while let Some(item) = input.next() {
                if let Some(items) = batch.push(item)
                    && !give(items).map_err(io)?
                {
                    return Ok(());
                }
            }
            match batch.drain() {
                Some(items) => give(items).map(|_| ()).map_err(io),
                None => Ok(()),
            }
        }
    }
}

fn start(command: &str, stdin: Stdio) -> Result<Child, String> {
    Command::new("sh")
        .args(["-c", command])
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run {command:?}: {e}"))
}

/// One process for all items: they go in on one thread and come out on another.
fn filter(command: &str, input: &mut Input, output: &mut Output) -> Result<(), String> {
    let stdin = match input.from {
        Some(_) => Stdio::piped(),
        None => Stdio::null(),
    };
    let mut child = start(command, stdin)?;
    let stdin = child.stdin.take();
    let Some(stdout) = child.stdout.take() else {
        return Err(format!("cannot run {command:?}: no pipes"));
    };
    let mut passed_on = true;
    let through = thread::scope(|scope| {
        scope.spawn(move || {
            let Some(mut stdin) = stdin else { return };
            while let Some(item) = input.next() {
                // Not buffered: what is slow to come is passed on at once. That it reads no more is no error.
                if !write_line(&mut stdin, &item).unwrap_or(false) {
                    return;
                }
            }
        });
        let mut lines = BufReader::new(stdout).split(b'\n');
        let ended = lines.try_for_each(|line| match output.give(line?) {
            Ok(true) => Ok(()),
            Ok(false) => {
                passed_on = false;
                Err(io::ErrorKind::BrokenPipe.into())
            }
            Err(e) => Err(e),
        });
        if ended.is_err() {
            // Nobody takes its output any more, and it may never notice.
            let _ = child.kill();
        }
        ended
    });
    let ended = child.wait().map_err(|e| format!("{command:?}: {e}"))?;
    if !passed_on {
        return Ok(());
    }
    through.map_err(|e| format!("output of {command:?}: {e}"))?;
    match ended.success() {
        true => Ok(()),
        false => Err(format!("{command:?} ended with {ended}")),
    }
}

/// A process for one item.
fn map(command: &str, item: &[u8]) -> Result<Item, String> {
    let mut child = start(command, Stdio::piped())?;
    let stdin = child.stdin.take();
    let item = item.to_vec();
    let feeder = thread::spawn(move || {
        if let Some(stdin) = stdin {
            let mut stdin = BufWriter::new(stdin);
            let _ = write_line(&mut stdin, &item).and_then(|_| stdin.flush());
        }
    });
    let done = child
        .wait_with_output()
        .map_err(|e| format!("{command:?}: {e}"))?;
    let _ = feeder.join();
    if !done.status.success() {
        return Err(format!("{command:?} ended with {}", done.status));
    }
    let mut mapped = done.stdout;
    if mapped.last() == Some(&b'\n') {
        mapped.pop();
    }
    match mapped.contains(&b'\n') {
        true => Err(format!(
            "{command:?} made several lines of one: use `command` for that"
        )),
        false => Ok(mapped),
    }
}
