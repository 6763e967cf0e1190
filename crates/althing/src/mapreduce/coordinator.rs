//! The coordinator: one thread a connection, one state behind a lock.

use super::JobOptions;
use super::wire::{self, Asked, Connection, Reply, Request};
use super::workers::{LOOK, Start, Workers};
use crate::{Failure, Outcome, failed};
use computing::mapreduce::coordinator::{Assignment, Coordinator, Work};
use computing::mapreduce::split::{Piece, splits};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

struct Job {
    job: wire::Job,
    token: String,
    files: Vec<PathBuf>,
    splits: Vec<Vec<Piece>>,
    output: PathBuf,
    progress: bool,
    begun: Instant,
    worker_timeout: Duration,
    state: Mutex<State>,
}

struct State {
    coordinator: Coordinator,
    addresses: BTreeMap<u64, SocketAddr>,
}

/// Runs a job to its end.
pub fn run(options: &JobOptions) -> Outcome {
    let (Some(mapper), Some(reducer), Some(output)) =
        (&options.mapper, &options.reducer, &options.output)
    else {
        let words = "a job needs --mapper, --reducer, --input and --output";
        return Err(Failure::Usage(words.to_owned()));
    };
    if !options.listen.ip().is_loopback() && !options.insecure {
        return Err(Failure::Usage(format!(
            "{} is beyond this machine, and what is said there is in the clear: say --insecure if that is meant",
            options.listen
        )));
    }
    let splits = divide(&options.input, options.maps as usize)?;
    prepare(output)?;
    let listener = TcpListener::bind(options.listen)
        .map_err(|e| failed(format!("cannot listen on {}: {e}", options.listen)))?;
    let address = listener.local_addr().map_err(|e| failed(e.to_string()))?;
    let job = Arc::new(Job {
        job: wire::Job {
            mapper: mapper.clone(),
            reducer: reducer.clone(),
            combiner: options.combiner.clone(),
            reduces: options.reduces as usize,
            sort_buffer: options.sort_buffer as usize,
        },
        token: token().map_err(|e| failed(format!("no randomness for a token: {e}")))?,
        files: options.input.clone(),
        output: output.clone(),
        progress: options.progress,
        begun: Instant::now(),
        worker_timeout: Duration::from_millis(options.worker_timeout_ms),
        state: Mutex::new(State {
            coordinator: Coordinator::new(
                splits.len(),
                options.reduces as usize,
                !options.no_speculation,
            ),
            addresses: BTreeMap::new(),
        }),
        splits,
    });
    if options.workers == 0 {
        let token = &job.token;
        println!(
            "{}={token} althing mapreduce worker --coordinator {address} --scratch DIRECTORY",
            wire::TOKEN
        );
    }
    {
        let job = Arc::clone(&job);
        // It ends with the process.
        thread::spawn(move || accept(&listener, &job));
    }
    let scratch = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = scratch.join(format!("althing-mapreduce-{}", std::process::id()));
    let start = Start {
        coordinator: address,
        token: job.token.clone(),
        scratch: scratch.clone(),
    };
    let workers = match &options.on {
        Some(console) => Workers::tasks(&start, options.workers, console),
        None => Ok(Workers::processes(start, options.workers)),
    };
    let ended = workers.and_then(|workers| supervise(&job, workers));
    let _ = fs::remove_dir_all(&scratch);
    let _ = fs::remove_dir_all(output.join("_temporary"));
    ended?;
    let success = File::create(output.join("_SUCCESS")).and_then(|file| file.sync_all());
    success
        .and_then(|()| File::open(output)?.sync_all())
        .map_err(|e| failed(format!("{}: {e}", output.display())))?;
    let state = job.state();
    let counts = state.coordinator.counts();
    println!(
        "{} tasks ({} maps, {} reduces) in {:.1} s; {} attempts, {} of them speculative; {} failed; {} workers and {} finished maps lost",
        job.splits.len() + job.job.reduces,
        job.splits.len(),
        job.job.reduces,
        job.begun.elapsed().as_secs_f64(),
        counts.attempts,
        counts.speculative,
        counts.failures,
        counts.workers_lost,
        counts.outputs_lost,
    );
    Ok(())
}

fn divide(files: &[PathBuf], maps: usize) -> Result<Vec<Vec<Piece>>, Failure> {
    let mut sizes = Vec::new();
    for file in files {
        let about = fs::metadata(file)
            .map_err(|e| failed(format!("cannot read {}: {e}", file.display())))?;
        if !about.is_file() {
            return Err(failed(format!("{} is no file", file.display())));
        }
        sizes.push(about.len());
    }
    splits(&sizes, maps, |file, at| next_line(&files[file], at))
        .map_err(|e| failed(format!("cannot divide the input: {e}")))
}

/// Where, at or after `at`, a line begins.
fn next_line(path: &Path, at: u64) -> io::Result<u64> {
    if at == 0 {
        return Ok(0);
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at - 1))?;
    let mut reader = BufReader::new(file);
    let mut passed = 0;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(at - 1 + passed);
        }
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => return Ok(at + passed + end as u64),
            None => {
                let length = bytes.len();
                passed += length as u64;
                reader.consume(length);
            }
        }
    }
}

/// The output directory, empty but for a place for what is not published yet.
fn prepare(output: &Path) -> Outcome {
    let used = fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_some());
    if used {
        return Err(Failure::Usage(format!(
            "{} is not empty: a job writes into a directory of its own",
            output.display()
        )));
    }
    fs::create_dir_all(output.join("_temporary"))
        .map_err(|e| failed(format!("cannot make {}: {e}", output.display())))
}

fn token() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Keeps workers alive until the job is over.
fn supervise(job: &Job, mut workers: Workers) -> Outcome {
    let ended = loop {
        {
            let state = job.state();
            if let Some(why) = state.coordinator.failure() {
                break Err(failed(why.to_owned()));
            }
            if state.coordinator.is_done() {
                break Ok(());
            }
        }
        if let Err(why) = workers.keep() {
            break Err(why);
        }
        thread::sleep(LOOK);
    };
    // What the job failed of says more than what its workers' end did.
    let all = workers.end();
    ended.and(all)
}

fn accept(listener: &TcpListener, job: &Arc<Job>) {
    for stream in listener.incoming() {
        let Ok(connection) = stream.and_then(Connection::of) else {
            continue;
        };
        let job = Arc::clone(job);
        thread::spawn(move || {
            let mut worker = None;
            let ended = serve(&job, connection, &mut worker);
            if let Some(worker) = worker {
                let why = ended.err().map_or("it left".to_owned(), |e| e.to_string());
                job.lost(worker, &why);
            }
        });
    }
}

/// Answers a connection until it ends. One that said hello is a worker's, and the worker's life hangs on it.
fn serve(job: &Job, mut connection: Connection, worker: &mut Option<u64>) -> io::Result<()> {
    while let Some(asked) = connection.receive::<Asked>()? {
        if asked.token != job.token {
            return connection.send(&Reply::Refused("that is not this job's token".to_owned()));
        }
        let reply = match (asked.request, *worker) {
            (Request::Hello { port, pid }, None) => {
                connection
                    .stream()
                    .set_read_timeout(Some(job.worker_timeout))?;
                let address = SocketAddr::new(connection.stream().peer_addr()?.ip(), port);
                let new = job.hello(address, pid);
                *worker = Some(new);
                Reply::Welcome {
                    worker: new,
                    job: job.job.clone(),
                }
            }
            (Request::Input { map }, _) => return job.serve_input(&mut connection, map),
            (Request::Result { reduce, attempt }, _) => {
                return job.take_result(&mut connection, reduce, attempt);
            }
            (request, Some(worker)) => job.answer(worker, request),
            _ => Reply::Refused("say hello first".to_owned()),
        };
        connection.send(&reply)?;
    }
    Ok(())
}

impl Job {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn tell(&self, words: &str) {
        if self.progress {
            eprintln!("{:9.3} {words}", self.begun.elapsed().as_secs_f64());
        }
    }

    fn hello(&self, address: SocketAddr, pid: u32) -> u64 {
        let mut state = self.state();
        let worker = state.coordinator.handle_worker();
        state.addresses.insert(worker, address);
        self.tell(&format!("worker {worker} came (process {pid})"));
        worker
    }

    fn lost(&self, worker: u64, why: &str) {
        let mut state = self.state();
        if !state.coordinator.is_done() && state.coordinator.failure().is_none() {
            self.tell(&format!("worker {worker} lost: {why}"));
            state.coordinator.handle_worker_lost(worker);
        }
    }

    /// The answer to a worker.
    fn answer(&self, worker: u64, request: Request) -> Reply {
        let now_ms = self.now_ms();
        let mut guard = self.state();
        let State {
            coordinator,
            addresses,
        } = &mut *guard;
        match request {
            Request::Ask => match coordinator.handle_ask(now_ms, worker) {
                Assignment::Do(work, attempt) => {
                    self.tell(&format!("{} begun by worker {worker}", name(work, attempt)));
                    Reply::Do {
                        work: work.into(),
                        attempt,
                    }
                }
                Assignment::Wait => Reply::Wait,
                Assignment::End => Reply::End,
            },
            Request::Wanted { work, attempt } => {
                Reply::Wanted(coordinator.is_wanted(work.into(), attempt))
            }
            Request::Outputs => Reply::Outputs(
                coordinator
                    .outputs()
                    .into_iter()
                    .map(|output| {
                        let output = output?;
                        Some((output.attempt, *addresses.get(&output.worker)?))
                    })
                    .collect(),
            ),
            Request::Done { work, attempt } => {
                let wanted = match work.into() {
                    Work::Map(at) => coordinator.handle_map_done(now_ms, at, attempt),
                    Work::Reduce(at) => self.publish(coordinator, now_ms, at, attempt),
                };
                let verdict = if wanted { "done" } else { "done too late" };
                let name = name(work.into(), attempt);
                self.tell(&format!("{name} {verdict} by worker {worker}"));
                Reply::Wanted(wanted)
            }
            Request::Failed { work, attempt, why } => {
                let wanted = coordinator.is_wanted(work.into(), attempt);
                if wanted {
                    let name = name(work.into(), attempt);
                    self.tell(&format!("{name} failed on worker {worker}: {why}"));
                }
                coordinator.handle_failed(work.into(), attempt, &why);
                Reply::Ok
            }
            Request::Lost { map, attempt } => {
                self.tell(&format!("output of map {map} lost, says worker {worker}"));
                coordinator.handle_output_lost(map, attempt);
                Reply::Ok
            }
            _ => Reply::Refused("that is asked on a connection of its own".to_owned()),
        }
    }

    /// Makes the output of a reduce a part of the job's, by one rename, if nobody was faster.
    fn publish(
        &self,
        coordinator: &mut Coordinator,
        now_ms: u64,
        reduce: usize,
        attempt: u64,
    ) -> bool {
        let work = Work::Reduce(reduce);
        let handed_in = self.handed_in(reduce, attempt);
        if !coordinator.is_wanted(work, attempt) {
            let _ = fs::remove_file(handed_in);
            return false;
        }
        let part = self.output.join(format!("part-{reduce:05}"));
        match fs::rename(&handed_in, &part) {
            Ok(()) => coordinator.handle_reduce_done(now_ms, reduce, attempt),
            Err(e) => {
                let why = format!("cannot publish {}: {e}", part.display());
                coordinator.handle_failed(work, attempt, &why);
                false
            }
        }
    }

    fn handed_in(&self, reduce: usize, attempt: u64) -> PathBuf {
        let name = format!("reduce{reduce}-{attempt}");
        self.output.join("_temporary").join(name)
    }

    /// Sends the lines of a split; each piece ends with a newline.
    fn serve_input(&self, connection: &mut Connection, map: usize) -> io::Result<()> {
        let Some(pieces) = self.splits.get(map) else {
            return connection.send(&Reply::Refused(format!("there is no map {map}")));
        };
        connection.send(&Reply::Ok)?;
        let mut chunk = vec![0; 64 << 10];
        for piece in pieces {
            let mut file = File::open(&self.files[piece.file])?;
            file.seek(SeekFrom::Start(piece.from))?;
            let mut left = file.take(piece.to - piece.from);
            let mut last = b'\n';
            loop {
                let bytes = left.read(&mut chunk)?;
                let Some(end) = chunk[..bytes].last() else {
                    break;
                };
                last = *end;
                connection.send_chunk(&chunk[..bytes])?;
            }
            if left.limit() > 0 {
                let path = self.files[piece.file].display();
                return Err(io::Error::other(format!("{path} has become shorter")));
            }
            if last != b'\n' {
                connection.send_chunk(b"\n")?;
            }
        }
        connection.send_chunk(&[])
    }

    /// Takes the output of a reduce, which is published once its worker says that it is done.
    fn take_result(
        &self,
        connection: &mut Connection,
        reduce: usize,
        attempt: u64,
    ) -> io::Result<()> {
        if !self
            .state()
            .coordinator
            .is_wanted(Work::Reduce(reduce), attempt)
        {
            return connection.send(&Reply::Refused("it is not wanted any more".to_owned()));
        }
        connection.send(&Reply::Ok)?;
        let path = self.handed_in(reduce, attempt);
        let mut file = File::create(&path)?;
        let taken = connection
            .receive_stream(&mut file)
            .and_then(|()| file.flush())
            .and_then(|()| file.sync_all());
        match taken {
            Ok(()) => connection.send(&Reply::Ok),
            Err(e) => {
                let _ = fs::remove_file(&path);
                connection.send(&Reply::Refused(format!(
                    "cannot write {}: {e}",
                    path.display()
                )))
            }
        }
    }
}

fn name(work: Work, attempt: u64) -> String {
    match work {
        Work::Map(at) => format!("map {at} (attempt {attempt})"),
        Work::Reduce(at) => format!("reduce {at} (attempt {attempt})"),
    }
}
