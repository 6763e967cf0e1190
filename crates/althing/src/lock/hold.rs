//! What is done while a lock is held.

use super::{LOST, Lock, NOT_HAD};
use crate::signals::signals;
use crate::{Failure, Outcome, failed};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

/// How long the lock is looked after at a time.
const ROUND: Duration = Duration::from_millis(50);
/// Longest time between SIGTERM and SIGKILL; the first comes this long before the lock can be another's.
const GRACE_MAX: Duration = Duration::from_secs(2);

fn not_had() -> Failure {
    Failure::Exit(NOT_HAD, Some("the lock was not to be had in time".into()))
}

fn lost(why: &str) -> Failure {
    Failure::Exit(LOST, Some(format!("the lock is lost: {why}")))
}

/// Waits for the lock; a signal ends the waiting.
fn take(
    lock: &mut dyn Lock,
    wait: Option<Duration>,
    signals: &Receiver<()>,
) -> Result<u64, Failure> {
    let interrupted = std::cell::Cell::new(false);
    let is_over = || {
        interrupted.set(interrupted.get() || signals.try_recv().is_ok());
        interrupted.get()
    };
    let fence = lock.take(wait.map(|wait| Instant::now() + wait), &is_over)?;
    match fence {
        Some(fence) => Ok(fence),
        None if interrupted.get() => Err(Failure::Exit(130, None)),
        None => Err(not_had()),
    }
}

/// Holds it until a signal comes.
pub fn hold(lock: &mut dyn Lock, wait: Option<Duration>, name: &str) -> Outcome {
    let signals = signals()?;
    let fence = take(lock, wait, &signals)?;
    println!("{name} is held, fence {fence}");
    std::io::stdout()
        .flush()
        .map_err(|why| failed(format!("cannot write to standard output: {why}")))?;
    let mut held_until = Instant::now();
    while signals.try_recv().is_err() {
        held_until = lock.keep(ROUND).map_err(|why| lost(&why))?.max(held_until);
        if Instant::now() >= held_until {
            return Err(lost("its lease could not be extended in time"));
        }
    }
    lock.release();
    Ok(())
}

/// Runs a command while it is held. `ttl` is what the lock was asked for with.
pub fn run(
    lock: &mut dyn Lock,
    wait: Option<Duration>,
    ttl: Duration,
    stripe: Option<u32>,
    command: &[OsString],
) -> Outcome {
    let signals = signals()?;
    let fence = take(lock, wait, &signals)?;
    let held_until = match lock.keep(Duration::ZERO) {
        Ok(until) => until,
        Err(why) => return Err(lost(&why)),
    };
    let mut started = Command::new(&command[0]);
    started
        .args(&command[1..])
        .env("ALTHING_FENCE", fence.to_string());
    if let Some(stripe) = stripe {
        started.env("ALTHING_STRIPE", stripe.to_string());
    }
    // A group of its own, so that what it starts ends with it.
    let child = match started.process_group(0).spawn() {
        Ok(child) => child,
        Err(why) => {
            lock.release();
            let text = format!("cannot run {}: {why}", command[0].to_string_lossy());
            return Err(Failure::Exit(126, Some(text)));
        }
    };
    let group = Pid::from_raw(child.id() as i32);
    let grace = GRACE_MAX.min(ttl / 5);
    let (orders, heard) = channel();
    let (sender, ended) = channel();
    std::thread::spawn(move || {
        let outcome = watch(child, group, grace, held_until, &heard);
        let _ = sender.send(outcome);
    });
    let mut why_lost = None;
    loop {
        match ended.try_recv() {
            Ok(outcome) => return finish(lock, outcome, why_lost),
            Err(TryRecvError::Disconnected) => return Err(failed("the command was lost track of")),
            Err(TryRecvError::Empty) => {}
        }
        if signals.try_recv().is_ok() {
            end_group(group, Signal::TERM);
        }
        let _ = match why_lost {
            Some(_) => {
                std::thread::sleep(ROUND);
                Ok(())
            }
            None => match lock.keep(ROUND) {
                Ok(until) => orders.send(until),
                Err(why) => {
                    eprintln!("althing: the lock is lost: {why}; the command is ended");
                    why_lost = Some(why);
                    orders.send(Instant::now())
                }
            },
        };
    }
}

/// How a command ended: by itself, or because the lock could not be kept.
struct Ended {
    status: std::io::Result<ExitStatus>,
    is_late: bool,
}

fn finish(lock: &mut dyn Lock, ended: Ended, why_lost: Option<String>) -> Outcome {
    if ended.is_late || why_lost.is_some() {
        let why = why_lost.unwrap_or_else(|| "its lease could not be extended in time".into());
        return Err(lost(&why));
    }
    lock.release();
    let status = ended
        .status
        .map_err(|why| failed(format!("the command cannot be waited for: {why}")))?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::Exit(code as u8, None)),
        (None, signal) => Err(Failure::Exit(128 + signal.unwrap_or(0) as u8, None)),
    }
}

/// Waits for the command, and ends it before the lock can be another's. Runs on a thread of its own: looking after
/// the lock may wait for a server that does not answer.
fn watch(
    mut child: Child,
    group: Option<Pid>,
    grace: Duration,
    mut held_until: Instant,
    orders: &Receiver<Instant>,
) -> Ended {
    let mut kill_at = None;
    loop {
        while let Ok(until) = orders.try_recv() {
            held_until = until;
        }
        let status = match child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(Ok(status)),
            Err(why) => Some(Err(why)),
        };
        if let Some(status) = status {
            let is_late = kill_at.is_some();
            return Ended { status, is_late };
        }
        let now = Instant::now();
        match kill_at {
            None if now + grace >= held_until => {
                end_group(group, Signal::TERM);
                kill_at = Some(held_until.max(now + grace));
            }
            Some(kill_at) if now >= kill_at => end_group(group, Signal::KILL),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn end_group(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // It may have ended already.
        let _ = kill_process_group(group, signal);
    }
}
