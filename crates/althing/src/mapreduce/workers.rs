//! Who keeps workers alive: the coordinator itself, as processes beside it; or a cluster, as the tasks of a job.

use super::wire::TOKEN;
use crate::http::{Content, send};
use crate::{Failure, Outcome, failed};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often processes are looked at.
pub const LOOK: Duration = Duration::from_millis(20);
/// How often, on average, a place among the processes is filled again.
const STARTS_MAX: u32 = 20;
/// How long an answer of a console may take.
const ANSWER_TIME: Duration = Duration::from_secs(35);
/// How long ended tasks are waited for before their job is forgotten.
const STOP_TIME: Duration = Duration::from_secs(30);

/// Workers, started.
pub enum Workers {
    /// Beside the coordinator.
    Processes {
        /// How to start one.
        start: Start,
        /// One a place.
        children: Vec<Option<Child>>,
        /// How many were started.
        started: u32,
    },
    /// On a cluster, which restarts them.
    Tasks {
        /// A node's console.
        console: String,
        /// The job's name.
        job: String,
    },
}

/// How a worker is started.
pub struct Start {
    pub coordinator: SocketAddr,
    pub token: String,
    pub scratch: PathBuf,
}

impl Start {
    fn arguments(&self) -> Result<Vec<String>, Failure> {
        let program = std::env::current_exe()
            .map_err(|e| failed(format!("cannot say where this program is: {e}")))?;
        let path = |path: &Path| path.display().to_string();
        Ok(vec![
            path(&program),
            "mapreduce".to_owned(),
            "worker".to_owned(),
            "--coordinator".to_owned(),
            self.coordinator.to_string(),
            "--scratch".to_owned(),
            path(&self.scratch),
        ])
    }

    fn process(&self) -> Result<Child, Failure> {
        let words = self.arguments()?;
        Command::new(&words[0])
            .args(&words[1..])
            .env(TOKEN, &self.token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| failed(format!("cannot start a worker: {e}")))
    }
}

impl Workers {
    /// So many places for processes, which [`Workers::keep`] fills.
    pub fn processes(start: Start, count: u32) -> Self {
        Self::Processes {
            start,
            children: (0..count).map(|_| None).collect(),
            started: 0,
        }
    }

    /// So many tasks of a job of their own, on the cluster that a node's console is of.
    pub fn tasks(start: &Start, count: u32, console: &str) -> Result<Self, Failure> {
        let job = format!("mapreduce-{}-{}", std::process::id(), &start.token[..8]);
        let wanted = json!({
            "name": job,
            "tasks": [{
                "name": "worker",
                "count": count,
                "command": start.arguments()?,
                "env": { TOKEN: start.token },
                "cpu_milli": 500,
                "memory_mib": 256,
                "restart": { "policy": "on-failure" },
            }],
        });
        ask(console, "POST", "/v1/jobs", &wanted.to_string())?;
        Ok(Self::Tasks {
            console: console.to_owned(),
            job,
        })
    }

    /// Starts processes where there is none, or none any more.
    pub fn keep(&mut self) -> Outcome {
        let Self::Processes {
            start,
            children,
            started,
        } = self
        else {
            return Ok(());
        };
        let starts_max = children.len() as u32 * STARTS_MAX;
        for child in children {
            if child
                .as_mut()
                .is_some_and(|c| matches!(c.try_wait(), Ok(None)))
            {
                continue;
            }
            if *started >= starts_max {
                let why = format!("workers ended {started} times; the job is given up");
                return Err(failed(why));
            }
            *started += 1;
            *child = Some(start.process()?);
        }
        Ok(())
    }

    /// Waits for the workers' end: they are told that there is nothing any more, and clean up. Processes that
    /// take long over that are killed; tasks are stopped, and their job is forgotten.
    pub fn end(self) -> Outcome {
        match self {
            Self::Processes { children, .. } => {
                let until = Instant::now() + Duration::from_secs(5);
                for mut child in children.into_iter().flatten() {
                    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                        thread::sleep(LOOK);
                    }
                    let _ = child.kill();
                    let _ = child.wait();
                }
                Ok(())
            }
            Self::Tasks { console, job } => {
                ask(&console, "DELETE", &format!("/v1/jobs/{job}"), "")?;
                let until = Instant::now() + STOP_TIME;
                let forget = format!("/v1/jobs/{job}?remove=true");
                loop {
                    match ask(&console, "DELETE", &forget, "") {
                        Err(_) if Instant::now() < until => thread::sleep(LOOK * 5),
                        ended => return ended,
                    }
                }
            }
        }
    }
}

fn ask(console: &str, method: &str, path: &str, body: &str) -> Outcome {
    let content = match body {
        "" => Content::None,
        json => Content::Json(json),
    };
    let answer = send(method, console, path, content, ANSWER_TIME)
        .and_then(|answering| answering.whole(1 << 20))
        .map_err(|e| failed(format!("cannot ask the console at {console}: {e}")))?;
    match answer.code {
        200..300 => Ok(()),
        code => Err(failed(format!(
            "{method} {path} at {console}: {code}: {}",
            answer.body.trim()
        ))),
    }
}
