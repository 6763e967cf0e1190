//! Jobs as they came: drawn from a seed, or read from a file of comma-separated values.

use crate::resources::Resources;
use base::Rng;
use std::fmt::Write as _;

/// The first line of a trace file.
pub const HEAD: &str = "at_ms,kind,tasks,cpu_milli,memory_bytes,duration_ms,priority";

/// Jobs that a trace may have.
pub const JOBS_MAX: usize = 1_000_000;

/// A job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Job {
    /// When it comes, in milliseconds from the start.
    pub at_ms: u64,
    /// It serves people: decided with more care, and for long. Else it is batch work.
    pub service: bool,
    /// How many tasks, all alike.
    pub tasks: u32,
    /// What each wants.
    pub resources: Resources,
    /// How long each runs.
    pub duration_ms: u64,
    /// Its priority.
    pub priority: u32,
}

/// What a trace is drawn for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Draw {
    /// Everything follows from it.
    pub seed: u64,
    /// Nodes of 16 processors and 64 GiB that it shall keep busy.
    pub nodes: u64,
    /// How long jobs come.
    pub duration_ms: u64,
}

/// Draws a trace: many short batch jobs, few long services, as in the Omega paper's section 2.1. Times
/// between jobs, lengths and numbers of tasks are exponential. Ten minutes in, three quarters of the processors
/// are wanted.
pub fn draw(plan: Draw) -> Vec<Job> {
    let mut jobs = Vec::new();
    let kinds = [
        // Every 100 ms a job of 10 tasks of 2 processors for 4 minutes, in a cell of 5,000.
        (false, 100, 10, 240_000, 10),
        (true, 2000, 10, 3_600_000, 200),
    ];
    for (service, every_ms, tasks, duration_ms, priority) in kinds {
        let mut rng = Rng::new(plan.seed).fork(u64::from(service));
        let every_us = every_ms * 1000 * 5000 / plan.nodes.max(1);
        let mut at_us = 0;
        loop {
            at_us += exponential(&mut rng, every_us).max(1);
            if at_us / 1000 >= plan.duration_ms || jobs.len() >= JOBS_MAX {
                break;
            }
            let cpu_milli = 500 * rng.range(1, 8);
            jobs.push(Job {
                at_ms: at_us / 1000,
                service,
                tasks: exponential(&mut rng, tasks).clamp(1, 500) as u32,
                // Between 2 and 6 GiB a processor.
                resources: Resources::new(cpu_milli, (cpu_milli * rng.range(2, 6)) << 20, 0),
                duration_ms: exponential(&mut rng, duration_ms).max(1000),
                priority,
            });
        }
    }
    jobs.sort_by_key(|job| job.at_ms);
    jobs
}

fn exponential(rng: &mut Rng, mean: u64) -> u64 {
    let uniform = (rng.range(0, 1 << 52) + 1) as f64 / (1u64 << 52) as f64;
    (-uniform.ln() * mean as f64).round() as u64
}

/// The text of a trace.
pub fn write(jobs: &[Job]) -> String {
    let mut text = format!("{HEAD}\n");
    for job in jobs {
        let kind = if job.service { "service" } else { "batch" };
        let _ = writeln!(
            text,
            "{},{kind},{},{},{},{},{}",
            job.at_ms,
            job.tasks,
            job.resources.cpu_milli,
            job.resources.memory_bytes,
            job.duration_ms,
            job.priority
        );
    }
    text
}

/// Reads a trace; jobs may come in any order.
///
/// # Errors
/// What is wrong in which line.
pub fn read(text: &str) -> Result<Vec<Job>, String> {
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, line)| line.trim()) != Some(HEAD) {
        return Err(format!("line 1: a trace begins with the line {HEAD}"));
    }
    let mut jobs = Vec::new();
    for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let job = job(line).map_err(|why| format!("line {}: {why}", at + 1))?;
        if jobs.len() >= JOBS_MAX {
            return Err(format!("line {}: more than {JOBS_MAX} jobs", at + 1));
        }
        jobs.push(job);
    }
    jobs.sort_by_key(|job| job.at_ms);
    Ok(jobs)
}

fn job(line: &str) -> Result<Job, String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [
        at_ms,
        kind,
        tasks,
        cpu_milli,
        memory_bytes,
        duration_ms,
        priority,
    ] = fields[..]
    else {
        return Err(format!("{} fields, expected 7: {HEAD}", fields.len()));
    };
    let number = |name: &str, text: &str, max: u64| match text.parse::<u64>() {
        Ok(value) if value <= max => Ok(value),
        _ => Err(format!(
            "{name} is {text:?}, expected a number from 0 to {max}"
        )),
    };
    let service = match kind {
        "batch" => false,
        "service" => true,
        other => return Err(format!("kind is {other:?}, expected batch or service")),
    };
    const TIME_MAX_MS: u64 = 1000 * 86_400_000;
    Ok(Job {
        at_ms: number("at_ms", at_ms, TIME_MAX_MS)?,
        service,
        tasks: number("tasks", tasks, 100_000)? as u32,
        resources: Resources::new(
            number("cpu_milli", cpu_milli, 1 << 32)?,
            number("memory_bytes", memory_bytes, 1 << 50)?,
            0,
        ),
        duration_ms: number("duration_ms", duration_ms, TIME_MAX_MS)?,
        priority: number("priority", priority, 1_000_000)? as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_as_it_was_written() {
        let jobs = draw(Draw {
            seed: 7,
            nodes: 50,
            duration_ms: 600_000,
        });
        assert!(jobs.iter().any(|job| job.service) && jobs.iter().any(|job| !job.service));
        assert_eq!(read(&write(&jobs)).unwrap(), jobs);
    }

    #[test]
    fn a_bad_trace_is_told_by_line() {
        let bad = |line: &str| read(&format!("{HEAD}\n{line}\n")).unwrap_err();
        assert_eq!(
            read("x").unwrap_err(),
            format!("line 1: a trace begins with the line {HEAD}")
        );
        assert_eq!(bad("1,2"), format!("line 2: 2 fields, expected 7: {HEAD}"));
        assert_eq!(
            bad("1,cron,1,1,1,1,1"),
            "line 2: kind is \"cron\", expected batch or service"
        );
        assert_eq!(
            bad("1,batch,-1,1,1,1,1"),
            "line 2: tasks is \"-1\", expected a number from 0 to 100000"
        );
    }
}
