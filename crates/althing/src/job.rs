//! `althing job …` and `althing agents`: what is to run on the cluster's machines, and how it is.

use crate::http::{Answer, Consoles, Content, send};
use crate::{Failure, Outcome, failed, table};
use clap::{Args, Subcommand};
use scheduling::machine::Phase;
use scheduling::model::PlacedBy;
use scheduling::query::{
    AgentView, Attempt, FrameworkSummary, JobState, JobSummary, JobView, TaskView,
};
use scheduling::resources::Kind;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For each step of an exchange, beyond what it may wait for.
const STEP_TIME: Duration = Duration::from_secs(35);
/// Between two looks at a log that is followed.
const FOLLOW_TIME: Duration = Duration::from_millis(250);
/// How long a question waits for a change.
const WAIT_MS: u64 = 10_000;
/// Largest answer.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// What can be done.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    consoles: Consoles,
}

/// Flags of `althing agents`.
#[derive(Args)]
pub struct AgentOptions {
    #[command(flatten)]
    consoles: Consoles,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Run a job: by a file, or a command behind `--`
    Run {
        /// The job's file (TOML)
        #[arg(required_unless_present = "command", conflicts_with = "command")]
        file: Option<PathBuf>,
        /// Its name, where there is no file
        #[arg(long, requires = "command")]
        name: Option<String>,
        /// How many, where there is no file
        #[arg(long, default_value_t = 1, conflicts_with = "file")]
        count: u32,
        /// Thousandths of a processor for each, where there is no file
        #[arg(long, default_value_t = 100, conflicts_with = "file")]
        cpu_milli: u64,
        /// Memory for each, MiB, where there is no file
        #[arg(long, default_value_t = 64, conflicts_with = "file")]
        memory_mib: u64,
        /// When it is started again, where there is no file: never, on-failure, always
        #[arg(long, default_value = "on-failure", conflicts_with = "file")]
        restart: String,
        /// Wait until it has ended; exit code 1 unless all of it succeeded
        #[arg(long)]
        wait: bool,
        /// The command and its arguments
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// List jobs
    List {
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// List frameworks: programs that are offered room and bring the tasks for it
    Frameworks {
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a job and each of its tasks
    Status {
        /// Its name
        name: String,
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show why each task is where it is, or nowhere
    Why {
        /// The job's name
        name: String,
        /// Only this task
        task: Option<String>,
        /// Only this of the task's instances, from 0
        #[arg(short)]
        n: Option<u32>,
    },
    /// Show what a task has written
    Logs {
        /// The job's name
        name: String,
        /// The task; the first one unless it is said
        task: Option<String>,
        /// Which of its instances, from 0
        #[arg(short, default_value_t = 0)]
        n: u32,
        /// An attempt, by its number, instead of the newest
        #[arg(long)]
        instance: Option<u64>,
        /// Go on until it has ended
        #[arg(short, long)]
        follow: bool,
    },
    /// End a job's tasks
    Stop {
        /// Its name
        name: String,
        /// Wait until all of them have ended
        #[arg(long)]
        wait: bool,
        /// Forget the job, which has to have ended
        #[arg(long)]
        remove: bool,
    },
}

/// Does it.
pub fn run(options: &Options) -> Outcome {
    let cell = Cell(&options.consoles.addresses);
    match &options.what {
        What::Run {
            file,
            name,
            count,
            cpu_milli,
            memory_mib,
            restart,
            wait,
            command,
        } => {
            let answer = match file {
                Some(file) => {
                    let text = std::fs::read_to_string(file).map_err(|error| {
                        Failure::Usage(format!("cannot read {}: {error}", file.display()))
                    })?;
                    let asked = cell.send("POST", "/v1/jobs", &|| Content::Toml(&text));
                    asked.map_err(|failure| match failure {
                        Failure::Failed(why) => failed(format!("{}: {why}", file.display())),
                        other => other,
                    })?
                }
                None => {
                    let program = command.first().map_or("", String::as_str);
                    let program = program.rsplit('/').next().unwrap_or_default();
                    let job = json!({
                        "name": name.as_deref().unwrap_or(program),
                        "tasks": [{
                            "name": "main",
                            "count": count,
                            "command": command,
                            "cpu_milli": cpu_milli,
                            "memory_mib": memory_mib,
                            "restart": { "policy": restart },
                        }],
                    });
                    let job = job.to_string();
                    cell.send("POST", "/v1/jobs", &|| Content::Json(&job))?
                }
            };
            let answer: Value = parse(&answer)?;
            let name = answer["name"].as_str().unwrap_or_default().to_owned();
            println!("job {name} is wanted (number {})", answer["number"]);
            match wait {
                true => cell.wait_for_end(&name),
                false => Ok(()),
            }
        }
        What::List { json } => {
            let (_, jobs): (u64, Vec<JobSummary>) = cell.get("/v1/jobs")?;
            list(&jobs, *json)
        }
        What::Frameworks { json } => {
            let (_, all): (u64, Vec<FrameworkSummary>) = cell.get("/v1/frameworks")?;
            frameworks(&all, *json)
        }
        What::Status { name, json } => {
            let (_, job): (u64, JobView) = cell.get(&format!("/v1/jobs/{name}"))?;
            status(&job, *json)
        }
        What::Why { name, task, n } => {
            let (_, job): (u64, JobView) = cell.get(&format!("/v1/jobs/{name}"))?;
            let (_, agents): (u64, Vec<AgentView>) = cell.get("/v1/agents")?;
            let tasks = job.tasks.iter().filter(|its| {
                task.as_ref().is_none_or(|task| *task == its.task)
                    && n.is_none_or(|n| n == its.index)
            });
            tasks.for_each(|task| why(&job, task, &agents));
            Ok(())
        }
        What::Logs {
            name,
            task,
            n,
            instance,
            follow,
        } => cell.logs(name, task.as_deref(), *n, *instance, *follow),
        What::Stop { name, wait, remove } => {
            let remove = if *remove { "?remove=true" } else { "" };
            cell.send("DELETE", &format!("/v1/jobs/{name}{remove}"), &|| {
                Content::None
            })?;
            match wait {
                true => cell.watch(name, |job| job.summary.state == JobState::Stopped),
                false => Ok(()),
            }
        }
    }
}

/// `althing agents`.
pub fn agents(options: &AgentOptions) -> Outcome {
    let (_, agents): (u64, Vec<AgentView>) = Cell(&options.consoles.addresses).get("/v1/agents")?;
    if options.json {
        println!("{:#}", json!(agents));
        return Ok(());
    }
    let amount = |kind: Kind, of: &AgentView| {
        let (used, total) = (of.used.get(kind), of.agent.spec.resources.get(kind));
        format!("{} of {}", kind.show(used), kind.show(total))
    };
    let rows: Vec<Vec<String>> = (agents.iter())
        .map(|its| {
            let spec = &its.agent.spec;
            vec![
                spec.name.clone(),
                if its.agent.is_up { "up" } else { "lost" }.into(),
                dash(&spec.zone),
                its.running.to_string(),
                amount(Kind::Cpu, its),
                amount(Kind::Memory, its),
                amount(Kind::Disk, its),
            ]
        })
        .collect();
    let heads = ["AGENT", "STATE", "ZONE", "TASKS", "CPU", "MEMORY", "DISK"];
    print!("{}", table::render(&heads, &rows));
    let enforces: std::collections::BTreeSet<&str> = agents
        .iter()
        .map(|its| its.agent.spec.enforces.as_str())
        .collect();
    for limits in enforces {
        println!("enforced: {limits}");
    }
    Ok(())
}

/// The consoles of the cluster's nodes.
struct Cell<'a>(&'a [String]);

impl Cell<'_> {
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        parse(&self.send("GET", path, &|| Content::None)?)
    }

    fn send<'c>(
        &self,
        method: &str,
        path: &str,
        content: &dyn Fn() -> Content<'c>,
    ) -> Result<Answer, Failure> {
        let mut why = failed("no console was named");
        for console in self.0 {
            let answer = send(method, console, path, content(), STEP_TIME)
                .and_then(|answering| answering.whole(ANSWER_BYTES_MAX));
            match answer {
                Ok(answer) if (200..300).contains(&answer.code) => return Ok(answer),
                Ok(answer) => {
                    let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
                    let words = told["error"].as_str().unwrap_or(&answer.body).to_owned();
                    let code = answer.code;
                    why = match code {
                        504 => Failure::Unknown(words),
                        _ => failed(words),
                    };
                    // Another node may be able to; whatever else is so on all of them.
                    if code != 503 {
                        return Err(why);
                    }
                }
                Err(error) => {
                    why = failed(format!(
                        "cannot ask the console at {console}: {error}. Is the node running, and is this the address of its console (--console HOST:PORT,…)?"
                    ));
                }
            }
        }
        Err(why)
    }

    fn watch(&self, name: &str, is_it: impl Fn(&JobView) -> bool) -> Outcome {
        let mut index = 0;
        loop {
            let path = format!("/v1/jobs/{name}?index={index}&wait_ms={WAIT_MS}");
            let (seen, job): (u64, JobView) = self.get(&path)?;
            if is_it(&job) {
                return Ok(());
            }
            index = seen;
        }
    }

    fn wait_for_end(&self, name: &str) -> Outcome {
        let ended = std::cell::Cell::new(JobState::Runs);
        self.watch(name, |job| {
            ended.set(job.summary.state);
            !matches!(job.summary.state, JobState::Runs | JobState::Stopping)
        })?;
        match ended.get() {
            JobState::Succeeded => Ok(()),
            state => Err(failed(format!("job {name} {}", state.word()))),
        }
    }

    fn logs(
        &self,
        name: &str,
        task: Option<&str>,
        n: u32,
        instance: Option<u64>,
        follow: bool,
    ) -> Outcome {
        let mut offset = 0;
        let mut instance = instance;
        let mut out = io::stdout().lock();
        loop {
            let begun = Instant::now();
            let mut path = format!("/v1/jobs/{name}/logs?n={n}&offset={offset}");
            if let Some(task) = task {
                path += &format!("&task={task}");
            }
            if let Some(instance) = instance {
                path += &format!("&instance={instance}");
            }
            let mut answer = None;
            let mut why = failed("no console was named");
            for console in self.0 {
                match send("GET", console, &path, Content::None, STEP_TIME) {
                    Ok(it) => {
                        answer = Some(it);
                        break;
                    }
                    Err(error) => {
                        why = failed(format!("cannot ask the console at {console}: {error}"));
                    }
                }
            }
            let Some(answer) = answer else {
                return Err(why);
            };
            if !answer.is_good() {
                let told: Value = serde_json::from_reader(answer).unwrap_or_default();
                return Err(failed(
                    told["error"].as_str().unwrap_or("refused").to_owned(),
                ));
            }
            let number = |name: &str| answer.header(name).and_then(|text| text.parse().ok());
            let from: u64 = number("x-log-offset").unwrap_or(offset);
            // The same attempt to its end, also when there is a newer one.
            instance = number("x-log-instance").or(instance);
            let is_last = answer.header("x-log-ended") == Some("true");
            let mut bytes = Vec::new();
            let mut answer = answer;
            answer
                .read_to_end(&mut bytes)
                .map_err(|error| failed(error.to_string()))?;
            let written = out.write_all(&bytes).and_then(|()| out.flush());
            written.map_err(|error| failed(format!("cannot write the log: {error}")))?;
            offset = from + bytes.len() as u64;
            if is_last || (bytes.is_empty() && !follow) {
                return Ok(());
            }
            if bytes.is_empty() {
                std::thread::sleep(FOLLOW_TIME.saturating_sub(begun.elapsed()));
            }
        }
    }
}

fn parse<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    serde_json::from_str(&answer.body)
        .map_err(|error| failed(format!("the node answered what is not understood: {error}")))
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

// ---- showing ---------------------------------------------------------------------------------

fn list(jobs: &[JobSummary], as_json: bool) -> Outcome {
    if as_json {
        println!("{:#}", json!(jobs));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = (jobs.iter())
        .map(|job| {
            vec![
                job.name.clone(),
                job.state.word().into(),
                job.priority.to_string(),
                format!("{} of {}", job.running, job.wanted),
                job.pending.to_string(),
                job.succeeded.to_string(),
                job.failed.to_string(),
                job.restarts.to_string(),
                job.placed_by.clone(),
                base::time::utc(job.created_ms),
            ]
        })
        .collect();
    let heads = [
        "JOB",
        "STATE",
        "PRIORITY",
        "RUNS",
        "WAITS",
        "SUCCEEDED",
        "FAILED",
        "RESTARTS",
        "PLACED BY",
        "SINCE",
    ];
    print!("{}", table::render(&heads, &rows));
    Ok(())
}

fn frameworks(all: &[FrameworkSummary], as_json: bool) -> Outcome {
    if as_json {
        println!("{:#}", json!(all));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = (all.iter())
        .map(|its| {
            vec![
                its.name.clone(),
                its.weight.to_string(),
                format!(
                    "{:.1} % of {}",
                    its.share_per_mille as f64 / 10.0,
                    its.dominant
                ),
                its.running.to_string(),
                its.used.to_string(),
                its.offers.to_string(),
                format!("{} ms", its.lease_ms),
            ]
        })
        .collect();
    let heads = [
        "FRAMEWORK",
        "WEIGHT",
        "DOMINANT SHARE",
        "TASKS",
        "HOLDS",
        "OFFERS",
        "LEASE",
    ];
    print!("{}", table::render(&heads, &rows));
    Ok(())
}

fn status(job: &JobView, as_json: bool) -> Outcome {
    if as_json {
        println!("{:#}", json!(job));
        return Ok(());
    }
    let summary = &job.summary;
    println!(
        "{}: {}, priority {}, placed by {}, {} of {} run",
        summary.name,
        summary.state.word(),
        summary.priority,
        match &job.spec.placed_by {
            PlacedBy::Cell => job.spec.rule.to_string(),
            other => other.to_string(),
        },
        summary.running,
        summary.wanted
    );
    let rows: Vec<Vec<String>> = (job.tasks.iter())
        .map(|task| {
            let attempt = task.attempts.first();
            vec![
                task.task.clone(),
                task.index.to_string(),
                attempt.map_or("-".into(), |attempt| attempt.id.to_string()),
                attempt.map_or("-".into(), |attempt| dash(&attempt.agent)),
                task.wanted.restarts.to_string(),
                state(task),
            ]
        })
        .collect();
    let heads = ["TASK", "N", "INSTANCE", "AGENT", "RESTARTS", "STATE"];
    print!("{}", table::render(&heads, &rows));
    Ok(())
}

fn state(task: &TaskView) -> String {
    let last = task.attempts.first().map(phase);
    match (&task.wanted.end, &task.waits, last) {
        (Some(end), ..) => end.to_string(),
        (None, Some(why), Some(last)) => format!("waits ({last}): {why}"),
        (None, Some(why), None) => format!("waits: {why}"),
        (None, None, last) => last.unwrap_or_else(|| "waits".into()),
    }
}

fn phase(attempt: &Attempt) -> String {
    match &attempt.instance.phase {
        Phase::Placed if !attempt.instance.waits_for.is_empty() => "waits for room".into(),
        Phase::Placed => "is started".into(),
        Phase::Runs => "runs".into(),
        Phase::Stopping => "is stopped".into(),
        Phase::Ended(end) => end.to_string(),
    }
}

fn why(job: &JobView, task: &TaskView, agents: &[AgentView]) {
    if let Some(waits) = &task.waits {
        println!("{} {}: {waits}", task.task, task.index);
    }
    let Some(attempt) = task.attempts.first() else {
        return;
    };
    let why = &attempt.instance.why;
    if job.spec.placed_by != PlacedBy::Cell {
        let (agent, by) = (dash(&attempt.agent), &job.spec.placed_by);
        return println!(
            "{} {}: instance {} on {agent}: chosen by the {by}",
            task.task, task.index, attempt.id
        );
    }
    println!(
        "{} {}: instance {} on {}: {} agents were looked at, {} could run it, the best by {}:",
        task.task,
        task.index,
        attempt.id,
        dash(&attempt.agent),
        why.considered,
        why.feasible,
        job.spec.rule
    );
    let rows: Vec<Vec<String>> = (why.scores.iter())
        .map(|score| {
            let agent = agents.iter().find(|its| its.agent.spec.id == score.agent);
            let parts = score
                .parts
                .iter()
                .map(|(name, value)| format!("{name} {value}"));
            vec![
                agent.map_or_else(
                    || score.agent.to_string(),
                    |its| its.agent.spec.name.clone(),
                ),
                score.total.to_string(),
                parts.collect::<Vec<_>>().join(", "),
            ]
        })
        .collect();
    print!("{}", table::render(&["AGENT", "SCORE", "OF"], &rows));
}
