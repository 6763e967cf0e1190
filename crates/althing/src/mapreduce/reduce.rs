//! A reduce on a worker: fetch its partition of every map, merge, through the reducer, and hand it in.

use super::command::pipe;
use super::lines::Run;
use super::map::{Attempt, merge, merge_into};
use super::wire::{Connection, Reply, Request};
use super::worker::Control;
use computing::mapreduce::merge::RUNS_MAX;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// How often it looks whether a map that is done again is done.
const LOOK: Duration = Duration::from_millis(100);

/// Does reduce `reduce`, up to the handing in.
pub fn run(attempt: &Attempt<'_>, control: &Control, reduce: usize) -> Result<(), String> {
    let mut runs = fetch_all(attempt, control, reduce)?;
    while runs.len() > RUNS_MAX {
        let rest = runs.split_off(RUNS_MAX);
        let name = format!("reduce{reduce}-{}-merged{}", attempt.number, rest.len());
        let merged = merge(attempt.scratch, &name, runs).map_err(|e| format!("merging: {e}"))?;
        runs = std::iter::once(merged).chain(rest).collect();
    }
    let path = attempt
        .scratch
        .join(format!("reduce{reduce}-{}-output", attempt.number));
    let mut output = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    pipe(
        attempt.running,
        &attempt.job.reducer,
        &attempt.environment,
        |stdin| merge_into(stdin, &runs),
        |mut stdout| io::copy(&mut stdout, &mut output),
    )?;
    for run in runs {
        let _ = std::fs::remove_file(run.path);
    }
    hand_in(attempt, reduce, &path).map_err(|e| format!("handing in: {e}"))?;
    let _ = std::fs::remove_file(path);
    Ok(())
}

/// The partition of every map, each from whoever has it. A map whose output cannot be had is done again, and
/// waited for.
fn fetch_all(attempt: &Attempt<'_>, control: &Control, reduce: usize) -> Result<Vec<Run>, String> {
    let mut runs: Vec<Option<Run>> = Vec::new();
    loop {
        if attempt.running.is_cancelled() {
            return Err("not wanted any more".to_owned());
        }
        let outputs = match control.call(Request::Outputs) {
            Ok(Reply::Outputs(outputs)) => outputs,
            Ok(other) => return Err(format!("outputs: {other:?}")),
            Err(e) => return Err(format!("outputs: {e}")),
        };
        runs.resize(outputs.len(), None);
        for (map, output) in outputs.into_iter().enumerate() {
            let (None, Some((made_by, address))) = (&runs[map], output) else {
                continue;
            };
            let request = Request::Fetch {
                map,
                attempt: made_by,
                partition: reduce,
            };
            match fetch(attempt, address, request, reduce, map) {
                Ok(run) => runs[map] = Some(run),
                Err(_) => {
                    let lost = Request::Lost {
                        map,
                        attempt: made_by,
                    };
                    control.call(lost).map_err(|e| format!("outputs: {e}"))?;
                }
            }
        }
        if runs.iter().all(Option::is_some) {
            return Ok(runs.into_iter().flatten().collect());
        }
        thread::sleep(LOOK);
    }
}

fn fetch(
    attempt: &Attempt<'_>,
    address: SocketAddr,
    request: Request,
    reduce: usize,
    map: usize,
) -> io::Result<Run> {
    let mut connection = Connection::open(address)?;
    let Reply::Run { bytes, crc } = connection.call(attempt.token, request)? else {
        return Err(io::Error::other("no run"));
    };
    let name = format!("reduce{reduce}-{}-from{map}", attempt.number);
    let path = attempt.scratch.join(name);
    let mut sink = Checked {
        file: File::create(&path)?,
        bytes: 0,
        crc: 0,
    };
    connection.receive_stream(&mut sink)?;
    if (sink.bytes, sink.crc) != (bytes, crc) {
        return Err(io::Error::other("it is damaged"));
    }
    Ok(Run { path, bytes, crc })
}

struct Checked {
    file: File,
    bytes: u64,
    crc: u32,
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn hand_in(attempt: &Attempt<'_>, reduce: usize, path: &std::path::Path) -> io::Result<()> {
    let mut connection = Connection::open(attempt.coordinator)?;
    let request = Request::Result {
        reduce,
        attempt: attempt.number,
    };
    match connection.call(attempt.token, request)? {
        Reply::Ok => {}
        other => return Err(io::Error::other(format!("{other:?}"))),
    }
    connection.send_stream(&mut File::open(path)?)?;
    match connection.receive()? {
        Some(Reply::Ok) => Ok(()),
        Some(Reply::Refused(why)) => Err(io::Error::other(why)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
