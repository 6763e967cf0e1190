//! A map on a worker: input from the coordinator, through the mapper, sorted and spilled, one run a partition.

use super::command::{Running, pipe};
use super::lines::{self, Lines, Run};
use super::wire::{Connection, Job, Reply, Request};
use computing::mapreduce::buffer::Buffer;
use computing::mapreduce::merge::{Merge, RUNS_MAX};
use computing::mapreduce::record::key;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

/// What an attempt needs to know.
pub struct Attempt<'a> {
    pub coordinator: SocketAddr,
    pub token: &'a str,
    pub scratch: &'a Path,
    pub job: &'a Job,
    pub running: &'a Running,
    pub number: u64,
    pub environment: Vec<(&'static str, String)>,
}

/// Does map `map`; returns a run for each partition.
pub fn run(attempt: &Attempt<'_>, map: usize) -> Result<Vec<Run>, String> {
    let job = attempt.job;
    let mut input = Connection::open(attempt.coordinator).map_err(|e| e.to_string())?;
    match input.call(attempt.token, Request::Input { map }) {
        Ok(Reply::Ok) => {}
        Ok(other) => return Err(format!("input: {other:?}")),
        Err(e) => return Err(format!("input: {e}")),
    }
    let mut spills: Vec<Vec<Run>> = vec![Vec::new(); job.reduces];
    pipe(
        attempt.running,
        &job.mapper,
        &attempt.environment,
        |mut stdin| input.receive_stream(&mut stdin),
        |stdout| {
            let mut buffer = Buffer::new(job.reduces, job.sort_buffer);
            for line in Lines(stdout) {
                buffer.push(&line?);
                if buffer.is_full() {
                    spill(attempt, map, &mut buffer, &mut spills)?;
                }
            }
            spill(attempt, map, &mut buffer, &mut spills)
        },
    )?;
    spills
        .into_iter()
        .enumerate()
        .map(|(partition, runs)| {
            let name = format!("map{map}-{}-{partition}", attempt.number);
            merge(attempt.scratch, &name, runs).map_err(|e| format!("merging spills: {e}"))
        })
        .collect()
}

/// Writes what is in `buffer` as one more run for each partition.
fn spill(
    attempt: &Attempt<'_>,
    map: usize,
    buffer: &mut Buffer,
    spills: &mut [Vec<Run>],
) -> io::Result<()> {
    if buffer.is_empty() {
        return Ok(());
    }
    buffer.sort();
    for (partition, runs) in spills.iter_mut().enumerate() {
        let name = format!(
            "map{map}-{}-{partition}-spill{}",
            attempt.number,
            runs.len()
        );
        let path = attempt.scratch.join(name);
        let mut lines = buffer.run(partition).peekable();
        if lines.peek().is_none() {
            continue;
        }
        runs.push(match &attempt.job.combiner {
            None => lines::write(path, lines.map(Ok))?,
            Some(combiner) => {
                let lines: Vec<&[u8]> = lines.collect();
                let mut combined = pipe(
                    attempt.running,
                    combiner,
                    &attempt.environment,
                    |stdin| {
                        lines.iter().try_for_each(|line| {
                            stdin.write_all(line)?;
                            stdin.write_all(b"\n")
                        })
                    },
                    |stdout| Lines(stdout).collect::<io::Result<Vec<Vec<u8>>>>(),
                )
                .map_err(io::Error::other)?;
                combined.sort_by(|a, b| key(a).cmp(key(b)));
                lines::write(path, combined.iter().map(Ok))?
            }
        });
    }
    buffer.clear();
    Ok(())
}

/// Merges `runs` into one file, which may be the only one that there is.
pub fn merge(scratch: &Path, name: &str, mut runs: Vec<Run>) -> io::Result<Run> {
    let mut pass = 0;
    loop {
        if runs.len() == 1 {
            return Ok(runs.remove(0));
        }
        let last = runs.len() <= RUNS_MAX;
        let mut merged = Vec::new();
        // Neighbours are merged, so that lines of one key stay in the order of their runs.
        for (at, some) in runs.chunks(RUNS_MAX).enumerate() {
            let path = match last {
                true => scratch.join(name),
                false => scratch.join(format!("{name}-pass{pass}-{at}")),
            };
            let readers = some.iter().map(|run| lines::read(&run.path));
            let readers = readers.collect::<io::Result<Vec<_>>>()?;
            merged.push(lines::write(path, Merge::new(readers))?);
        }
        if runs.is_empty() {
            return lines::write(
                scratch.join(name),
                std::iter::empty::<io::Result<Vec<u8>>>(),
            );
        }
        for run in &runs {
            std::fs::remove_file(&run.path)?;
        }
        runs = merged;
        pass += 1;
    }
}

/// Writes the lines of sorted `runs`, merged, to `sink`.
pub fn merge_into(sink: &mut dyn Write, runs: &[Run]) -> io::Result<()> {
    let readers = runs.iter().map(|run| lines::read(&run.path));
    for line in Merge::new(readers.collect::<io::Result<Vec<_>>>()?) {
        sink.write_all(&line?)?;
        sink.write_all(b"\n")?;
    }
    Ok(())
}
