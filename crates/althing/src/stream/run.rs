//! `stream run`, `stop` and `forget`: a stream's nodes in the tree, its workers as processes or tasks, and standing ready
//! to lead.

use super::lead::{Ended, lead};
use super::tree::Tree;
use super::{Cluster, RunOptions, Where, paths, usage};
use crate::signals::signals;
use crate::{Outcome, failed, kafka};
use computing::stream::record::Record;
use computing::stream::topology::Topology;
use serde_json::json;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often one that stands ready looks whether nobody leads.
const LOOK: Duration = Duration::from_millis(200);
/// How long a place for a worker that ended stays empty.
const RESTART_PAUSE: Duration = Duration::from_millis(300);
/// How long workers of a stopped stream may take to end.
const END_TIME: Duration = Duration::from_secs(5);
/// How long a stream may take for its last checkpoint, and to end.
const STOP_TIME: Duration = Duration::from_secs(120);

/// Runs a topology until it is stopped.
pub fn run(cluster: &Cluster, options: &RunOptions) -> Outcome {
    let text = std::fs::read_to_string(&options.file)
        .map_err(|e| failed(format!("cannot read {}: {e}", options.file.display())))?;
    let topology = Topology::parse(&text)
        .map_err(|why| usage(format!("{}: {why}", options.file.display())))?;
    if !options.listen.ip().is_loopback() && !options.insecure {
        return Err(usage(format!(
            "{} is beyond this machine, and what is said there is in the clear: say --insecure if that is meant",
            options.listen
        )));
    }
    let place = Where::new(cluster, &topology.name);
    let mut tree = place.tree();
    prepare(&place, &mut tree, &topology, &text).map_err(failed)?;
    tree.close();
    if options.on_cluster {
        return start_job(&place, &topology, options).map_err(failed);
    }
    let signal = signals()?;
    let mut workers = Workers {
        place: place.clone(),
        listen: options.listen.to_string(),
        places: (0..options.workers.unwrap_or(topology.workers))
            .map(|_| Place::default())
            .collect(),
    };
    let ended = stand_ready(&place, options.progress, || {
        workers.keep()?;
        Ok(signal.try_recv().is_err())
    });
    let is_stopped = matches!(ended, Ok(Ended::Stopped));
    workers.end(is_stopped);
    said(&place, ended)
}

fn said(place: &Where, ended: Result<Ended, String>) -> Outcome {
    if ended.map_err(failed)? == Ended::Stopped {
        println!("{} is stopped", place.name);
    }
    Ok(())
}

/// Stands ready to lead, as a task of a job.
pub fn master(place: &Where) -> Outcome {
    said(place, stand_ready(place, true, || Ok(true)))
}

/// Makes what is not there yet, and refuses another topology than is there.
fn prepare(place: &Where, tree: &mut Tree, topology: &Topology, text: &str) -> Result<(), String> {
    let source = &topology.source.topic;
    kafka::partitions(&place.kafka, source).map_err(|e| e.to_string())?;
    let sink = &topology.sink;
    for topic in [Some(&sink.topic), sink.side_topic.as_ref()]
        .into_iter()
        .flatten()
    {
        kafka::ensure(&place.kafka, topic).map_err(|e| e.to_string())?;
    }
    let name = &place.name;
    tree.create(paths::ALL, b"", false)?;
    let path = paths::stream(name);
    if !tree.create(&path, text.as_bytes(), false)? {
        let known = tree.get(&path)?.map(|(known, _)| known).unwrap_or_default();
        let known = Topology::parse(&String::from_utf8_lossy(&known))?;
        let as_known = Topology {
            workers: known.workers,
            checkpoint_ms: known.checkpoint_ms,
            ..topology.clone()
        };
        if as_known != known {
            return Err(format!(
                "there is a stream {name:?} with another topology, whose state this one cannot go on from: give it another \
                 name, or `althing stream forget {name}` first"
            ));
        }
        tree.set(&path, text.as_bytes())?;
    }
    let token = super::random().map_err(|e| e.to_string())?;
    let record = serde_json::to_vec(&Record::default()).map_err(|e| e.to_string())?;
    tree.create(&paths::token(name), token.as_bytes(), false)?;
    tree.create(&paths::checkpoint(name), &record, false)?;
    tree.create(&paths::workers(name), b"", false)?;
    if !tree.create(&paths::state(name), b"running", false)? {
        tree.set(&paths::state(name), b"running")?;
    }
    Ok(())
}

/// Stands ready to lead, and leads when nobody else does, until the stream is stopped or `goes_on` says no.
fn stand_ready(
    place: &Where,
    progress: bool,
    mut goes_on: impl FnMut() -> Result<bool, String>,
) -> Result<Ended, String> {
    let begun = Instant::now();
    let tell = |words: &str| {
        if progress {
            eprintln!("{:9.3} {words}", begun.elapsed().as_secs_f64());
        }
    };
    let mut tree = place.tree();
    let me = super::random().map_err(|e| e.to_string())?;
    let mut contend = |tree: &mut Tree| -> Result<Ended, String> {
        let name = &place.name;
        loop {
            if !goes_on()? {
                return Ok(Ended::Asked);
            }
            let state = tree.get(&paths::state(name));
            if let Ok(state) = &state {
                let state = state.as_ref().map(|(state, _)| &state[..]);
                if state.is_none_or(|state| state == b"stopped") {
                    return Ok(Ended::Stopped);
                }
            }
            let id = format!("{me}-{}", tree.generation());
            // What the tree does not say now is asked again.
            if state.is_ok()
                && stands(tree, &paths::master(name), &id)
                && let Ok(Some((text, _))) = tree.get(&paths::stream(name))
                && let Ok(Some((token, _))) = tree.get(&paths::token(name))
            {
                let topology = Topology::parse(&String::from_utf8_lossy(&text))?;
                let token = String::from_utf8_lossy(&token).into_owned();
                tell("leads");
                match lead(place, &topology, token, tree, &mut goes_on, tell)? {
                    Ended::Deposed => tell("another one leads"),
                    Ended::Stopped if tree.set(&paths::state(name), b"stopped").is_ok() => {
                        return Ok(Ended::Stopped);
                    }
                    Ended::Stopped => {}
                    Ended::Asked => return Ok(Ended::Asked),
                }
            }
            tree.idle(LOOK);
        }
    };
    let ended = contend(&mut tree);
    tree.close();
    ended
}

/// True when this session has the master's node.
fn stands(tree: &mut Tree, path: &str, id: &str) -> bool {
    if tree.create(path, id.as_bytes(), true) == Ok(true) {
        return true;
    }
    // It may be its own: the answer to an earlier attempt was lost.
    matches!(tree.get(path), Ok(Some((data, _))) if data == *id.as_bytes())
}

/// Workers beside this process, which end when it does.
struct Workers {
    place: Where,
    listen: String,
    places: Vec<Place>,
}

#[derive(Default)]
struct Place {
    child: Option<Child>,
    ended: Option<Instant>,
}

impl Workers {
    /// Starts one where there is none, or none any more.
    fn keep(&mut self) -> Result<(), String> {
        for at in 0..self.places.len() {
            let place = &mut self.places[at];
            if let Some(child) = &mut place.child {
                if matches!(child.try_wait(), Ok(None)) {
                    continue;
                }
                place.child = None;
                place.ended = Some(Instant::now());
            }
            if place.ended.is_none_or(|at| at.elapsed() > RESTART_PAUSE) {
                let mut command = arguments(&self.place, "worker")?;
                command.extend(["--listen".to_owned(), self.listen.clone()]);
                let child = Command::new(&command[0])
                    .args(&command[1..])
                    .arg("--until-stdin-ends")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .map_err(|e| format!("cannot start a worker: {e}"))?;
                self.places[at].child = Some(child);
            }
        }
        Ok(())
    }

    /// Ends them; those of a stopped stream see that by themselves, and say so to the tree.
    fn end(self, is_stopped: bool) {
        let until = Instant::now() + END_TIME;
        for mut child in self.places.into_iter().filter_map(|place| place.child) {
            while is_stopped && matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                thread::sleep(LOOK / 10);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn arguments(place: &Where, verb: &str) -> Result<Vec<String>, String> {
    let program =
        std::env::current_exe().map_err(|e| format!("cannot say where this program is: {e}"))?;
    let words = [
        program.display().to_string(),
        "stream".to_owned(),
        verb.to_owned(),
        place.name.clone(),
    ];
    Ok(words.into_iter().chain(place.arguments()).collect())
}

fn job(name: &str) -> String {
    format!("stream-{name}")
}

fn start_job(place: &Where, topology: &Topology, options: &RunOptions) -> Result<(), String> {
    let mut worker = arguments(place, "worker")?;
    if !options.insecure {
        worker.extend(["--listen".to_owned(), options.listen.to_string()]);
    }
    let task = |name: &str, count: u32, command: Vec<String>| {
        json!({
            "name": name,
            "count": count,
            "command": command,
            "cpu_milli": 250,
            "memory_mib": 256,
            "restart": { "policy": "on-failure" },
        })
    };
    let wanted = json!({
        "name": job(&place.name),
        "tasks": [
            task("master", 2, arguments(place, "master")?),
            task("worker", topology.workers, worker),
        ],
    });
    let store = place.store();
    store.job("POST", "/v1/jobs", &wanted.to_string())?;
    println!("{} runs as the job {}", place.name, job(&place.name));
    Ok(())
}

/// Ends a stream behind a last checkpoint.
pub fn stop(place: &Where) -> Result<(), String> {
    let mut tree = place.tree();
    let state = paths::state(&place.name);
    let is = |tree: &mut Tree, wanted: &str| -> Result<bool, String> {
        let found = tree.get(&state)?;
        let (data, _) = found.ok_or_else(|| format!("there is no stream {:?}", place.name))?;
        Ok(data == *wanted.as_bytes())
    };
    if !is(&mut tree, "stopped")? {
        tree.set(&state, b"stopping")?;
        let until = Instant::now() + STOP_TIME;
        while !is(&mut tree, "stopped")? {
            if tree.children(&paths::workers(&place.name))?.is_empty() {
                // Nobody makes a checkpoint: what was read since the last checkpoint is read again.
                tree.set(&state, b"stopped")?;
            }
            if Instant::now() > until {
                return Err(format!("{} has not ended yet; it will", place.name));
            }
            tree.idle(LOOK);
        }
    }
    let job = format!("/v1/jobs/{}", job(&place.name));
    // There may be none.
    if place.store().job("DELETE", &job, "").is_ok() {
        let until = Instant::now() + STOP_TIME;
        let forget = format!("{job}?remove=true");
        while place.store().job("DELETE", &forget, "").is_err() && Instant::now() < until {
            thread::sleep(LOOK);
        }
    }
    println!("{} is stopped", place.name);
    tree.close();
    Ok(())
}

/// Removes what is kept of a stream that does not run.
pub fn forget(place: &Where) -> Result<(), String> {
    let mut tree = place.tree();
    let name = &place.name;
    if tree.get(&paths::stream(name))?.is_none() {
        return Err(format!("there is no stream {name:?}"));
    }
    let until = Instant::now() + Duration::from_millis(place.session_ms.into()) * 2;
    while tree.get(&paths::master(name))?.is_some()
        || !tree.children(&paths::workers(name))?.is_empty()
    {
        // What ended without a word is there until its session is over.
        let state = tree.get(&paths::state(name))?;
        if Instant::now() < until && state.is_some_and(|(state, _)| state == *"stopped") {
            tree.idle(LOOK);
            continue;
        }
        return Err(format!("{name} runs: `althing stream stop {name}` first"));
    }
    place.store().remove("")?;
    for path in [
        paths::checkpoint(name),
        paths::state(name),
        paths::token(name),
        paths::workers(name),
        paths::stream(name),
    ] {
        tree.remove(&path)?;
    }
    tree.close();
    println!("{name} is forgotten");
    Ok(())
}
