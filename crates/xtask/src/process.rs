//! Running other programs: bounded in time, their output seen and kept.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code 0 within the time.
    pub ok: bool,
    /// It was ended because it took too long.
    pub hung: bool,
    /// What it printed, both streams line by line.
    pub output: String,
}

thread_local! {
    /// What the lines of programs run by this thread are headed by, if anything.
    pub static LABEL: Cell<&'static str> = const { Cell::new("") };
}

/// Runs `command` in a process group of its own. After `limit` the whole group is killed, and so is what it
/// leaves behind when it ends. Output is shown while it runs unless `quiet`.
pub fn run(command: &mut Command, limit: Duration, quiet: bool) -> Result<Outcome, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("cannot start {name}: {e}"))?;
    let group = child.id();
    let (lines, arrived) = mpsc::channel();
    let streams: [Box<dyn Read + Send>; 2] = [
        Box::new(child.stdout.take().expect("piped")),
        Box::new(child.stderr.take().expect("piped")),
    ];
    for stream in streams {
        let lines = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                if lines
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
    }
    drop(lines);
    let end = Instant::now() + limit;
    let mut output = String::new();
    let mut status = None;
    let hung = loop {
        match arrived.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                if !quiet {
                    match LABEL.get() {
                        "" => println!("{line}"),
                        label => println!("{label}: {line}"),
                    }
                }
                output.push_str(&line);
                output.push('\n');
                continue;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => thread::sleep(Duration::from_millis(10)),
        }
        if status.is_none() {
            status = child
                .try_wait()
                .map_err(|e| format!("cannot wait for {name}: {e}"))?;
        }
        if status.is_some() {
            break false;
        }
        if Instant::now() > end {
            break true;
        }
    };
    kill_group(group);
    if hung {
        child
            .wait()
            .map_err(|e| format!("cannot wait for {name}: {e}"))?;
        output.push_str(&format!("{name} was ended after {} s\n", limit.as_secs()));
    }
    for line in arrived.iter() {
        output.push_str(&line);
        output.push('\n');
    }
    Ok(Outcome {
        ok: !hung && status.is_some_and(|s| s.success()),
        hung,
        output,
    })
}

/// Kills a process group; that it is gone already is no error.
fn kill_group(group: u32) {
    let _ = Command::new("kill")
        .args(["-KILL", "--", &format!("-{group}")])
        .stderr(Stdio::null())
        .status();
}

/// True when a program of this name can be run.
pub fn present(program: &str, version_flag: &str) -> bool {
    Command::new(program)
        .arg(version_flag)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a short program and returns what it wrote to standard output.
pub fn capture(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| {
        format!(
            "cannot start {}: {e}",
            command.get_program().to_string_lossy()
        )
    })?;
    if !output.status.success() {
        return Err(format!(
            "{} failed: {}",
            command.get_program().to_string_lossy(),
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_hangs_is_ended_with_its_children() {
        let began = Instant::now();
        let outcome = run(
            Command::new("sh").args(["-c", "sleep 60 & echo begun; sleep 60"]),
            Duration::from_millis(500),
            true,
        )
        .unwrap();
        assert!(outcome.hung && !outcome.ok);
        assert!(outcome.output.starts_with("begun\n"));
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn program_that_ends_gives_its_output_and_verdict() {
        let mut command = Command::new("sh");
        let outcome = run(
            command.args(["-c", "echo out; echo err >&2; exit 3"]),
            Duration::from_secs(20),
            true,
        )
        .unwrap();
        assert!(!outcome.ok && !outcome.hung);
        assert!(outcome.output.contains("out\n") && outcome.output.contains("err\n"));
    }
}
