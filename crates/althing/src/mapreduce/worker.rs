//! A worker: one attempt at a time; what it mapped is served to others until the job is over.

use super::command::Running;
use super::lines::Run;
use super::map::Attempt;
use super::wire::{Asked, Connection, Reply, Request, Task};
use super::{map, reduce};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often it tells that it lives.
const BEAT: Duration = Duration::from_millis(200);
/// How often it asks for work when there is none.
const IDLE: Duration = Duration::from_millis(50);

/// The connection that its life hangs on: when that is lost, so is the worker.
pub struct Control {
    connection: Mutex<Connection>,
    token: String,
}

impl Control {
    /// Asks the coordinator.
    pub fn call(&self, request: Request) -> io::Result<Reply> {
        let mut connection = self
            .connection
            .lock()
            .map_err(|_| io::Error::other("the connection broke"))?;
        connection.call(&self.token, request)
    }
}

/// Runs of finished maps, by map and attempt.
type Outputs = Arc<Mutex<BTreeMap<(usize, u64), Vec<Run>>>>;

/// Works until the job is over or the coordinator is gone, in a directory of its own under `scratch`.
pub fn run(coordinator: SocketAddr, scratch: &Path, token: &str) -> Result<(), String> {
    let scratch = scratch.join(format!("worker-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)
        .map_err(|e| format!("cannot make {}: {e}", scratch.display()))?;
    let ended = work(coordinator, &scratch, token);
    let _ = std::fs::remove_dir_all(&scratch);
    ended.map_err(|e| format!("the coordinator at {coordinator}: {e}"))
}

fn work(coordinator: SocketAddr, scratch: &Path, token: &str) -> io::Result<()> {
    let connection = Connection::open(coordinator)?;
    // Others reach it where it reaches the coordinator from.
    let listener = TcpListener::bind((connection.stream().local_addr()?.ip(), 0))?;
    let port = listener.local_addr()?.port();
    let outputs = Outputs::default();
    let control = Control {
        connection: Mutex::new(connection),
        token: token.to_owned(),
    };
    let hello = Request::Hello {
        port,
        pid: std::process::id(),
    };
    let Reply::Welcome { worker, job } = control.call(hello)? else {
        return Err(io::Error::other("no welcome"));
    };
    {
        let (outputs, token) = (Arc::clone(&outputs), token.to_owned());
        // It ends with the process.
        thread::spawn(move || serve(&listener, &outputs, &token));
    }
    let running = Running::default();
    loop {
        let (task, number) = match control.call(Request::Ask)? {
            Reply::Do { work, attempt } => (work, attempt),
            Reply::Wait => {
                thread::sleep(IDLE);
                continue;
            }
            Reply::End => return Ok(()),
            other => return Err(io::Error::other(format!("{other:?}"))),
        };
        running.reset();
        let at = match task {
            Task::Map(at) | Task::Reduce(at) => at,
        };
        let attempt = Attempt {
            coordinator,
            token,
            scratch,
            job: &job,
            running: &running,
            number,
            environment: vec![
                ("ALTHING_TASK", at.to_string()),
                ("ALTHING_ATTEMPT", number.to_string()),
                ("ALTHING_WORKER", worker.to_string()),
            ],
        };
        let ended = thread::scope(|scope| {
            let doing = scope.spawn(|| match task {
                Task::Map(at) => map::run(&attempt, at).map(Some),
                Task::Reduce(at) => reduce::run(&attempt, &control, at).map(|()| None),
            });
            let mut coordinator_lives = Ok(());
            while !doing.is_finished() {
                let wanted = Request::Wanted {
                    work: task,
                    attempt: number,
                };
                match control.call(wanted) {
                    Ok(Reply::Wanted(true)) => {}
                    Ok(_) => running.cancel(),
                    Err(error) => {
                        running.cancel();
                        coordinator_lives = Err(error);
                        break;
                    }
                }
                thread::park_timeout(BEAT);
            }
            let ended = doing.join().unwrap_or_else(|_| Err("it panicked".into()));
            coordinator_lives.map(|()| ended)
        })?;
        let report = match ended {
            Ok(runs) => {
                if let (Task::Map(at), Some(runs), Ok(mut outputs)) = (task, runs, outputs.lock()) {
                    outputs.insert((at, number), runs);
                }
                Request::Done {
                    work: task,
                    attempt: number,
                }
            }
            Err(why) => Request::Failed {
                work: task,
                attempt: number,
                why,
            },
        };
        control.call(report)?;
    }
}

/// Serves finished runs to whoever knows the token.
fn serve(listener: &TcpListener, outputs: &Outputs, token: &str) {
    for stream in listener.incoming() {
        let Ok(connection) = stream.and_then(Connection::of) else {
            continue;
        };
        let (outputs, token) = (Arc::clone(outputs), token.to_owned());
        thread::spawn(move || {
            // Whoever fetches notices what goes wrong.
            let _ = serve_one(connection, &outputs, &token);
        });
    }
}

fn serve_one(mut connection: Connection, outputs: &Outputs, token: &str) -> io::Result<()> {
    let Some(asked) = connection.receive::<Asked>()? else {
        return Ok(());
    };
    let Request::Fetch {
        map,
        attempt,
        partition,
    } = asked.request
    else {
        return Ok(());
    };
    if asked.token != token {
        return Ok(());
    }
    let run = match outputs.lock() {
        Ok(outputs) => outputs
            .get(&(map, attempt))
            .and_then(|runs| runs.get(partition))
            .cloned(),
        Err(_) => None,
    };
    let Some(run) = run else {
        return connection.send(&Reply::Refused("it is not here".to_owned()));
    };
    let mut file = File::open(&run.path)?;
    connection.send(&Reply::Run {
        bytes: run.bytes,
        crc: run.crc,
    })?;
    connection.send_stream(&mut file)
}
