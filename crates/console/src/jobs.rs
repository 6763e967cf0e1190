//! Jobs: how they are, why each task is where it is, and what agents have left.

use crate::View;
use crate::layout::{code, plain, table};
use crate::text::count;
use maud::{Markup, html};
use node::admin::JobsStatus;
use scheduling::machine::Phase;
use scheduling::query::{AgentView, Attempt, FrameworkSummary, JobState, JobSummary};
use scheduling::resources::Kind;
use std::collections::BTreeMap;

pub fn body(view: &View<'_>) -> Markup {
    let jobs = view.statuses.iter().find_map(|s| s.jobs.as_ref());
    html! {
        h1 { "Jobs" }
        @match jobs {
            Some(jobs) => (found(jobs)),
            None => p.dim {
                "There was no agent yet, or this node does not hold jobs. An agent is a node with "
                code { "agent.run = true" } " in its configuration; then try "
                code { "althing job run -- echo hello" } "."
            },
        }
    }
}

fn found(jobs: &JobsStatus) -> Markup {
    let names: BTreeMap<String, &str> = (jobs.agents.iter())
        .map(|its| (its.agent.spec.id.to_string(), its.agent.spec.name.as_str()))
        .collect();
    let rows: Vec<Vec<Markup>> = jobs.newest.iter().map(job).collect();
    let agents: Vec<Vec<Markup>> = jobs.agents.iter().map(agent).collect();
    let frameworks: Vec<Vec<Markup>> = jobs.frameworks.iter().map(framework).collect();
    let done = &jobs.tally;
    let attempts: Vec<Vec<Markup>> = (jobs.attempts.iter())
        .map(|(job, task, attempt)| attempted(job, task, attempt, &names))
        .collect();
    html! {
        p {
            (count(jobs.jobs)) " jobs, " (count(jobs.live)) " tasks with an agent, "
            span.warn[jobs.pending > 0] { (count(jobs.pending)) " without" }
        }
        (table(
            &[
                ("Job", false), ("State", false), ("Priority", true), ("Run", true), ("Wait", true),
                ("Succeeded", true), ("Failed", true), ("Restarts", true), ("Placed by", false),
            ],
            &rows,
            "No job.",
        ))
        p.dim {
            "Done as this node has seen it since it was started: " (count(done.placements)) " placements, "
            (count(done.evictions)) " evictions, " (count(done.restarts)) " restarts, "
            (count(done.losses)) " tasks lost with " (count(done.agents_lost)) " agents; "
            (count(done.commits)) " commits of schedulers outside with " (count(done.conflicts)) " conflicts; "
            (count(done.offers_made)) " offers, of which " (count(done.offers_accepted)) " accepted, "
            (count(done.offers_declined)) " declined, " (count(done.offers_withdrawn)) " withdrawn"
        }
        @if !jobs.frameworks.is_empty() {
            h2 { "Frameworks" }
            (table(
                &[
                    ("Framework", false), ("Weight", true), ("Dominant share", false), ("Tasks", true),
                    ("Holds", false), ("Offers", true),
                ],
                &frameworks,
                "None.",
            ))
        }
        h2 { "Agents" }
        (table(
            &[
                ("Agent", false), ("State", false), ("Zone", false), ("Tasks", true), ("CPU", false),
                ("Memory", false), ("Disk", false), ("Limits enforced", false),
            ],
            &agents,
            "No agent.",
        ))
        h2 { "The newest attempts, and why there" }
        (table(
            &[
                ("Instance", true), ("Job", false), ("Task", false), ("Agent", false), ("State", false),
                ("Could run it", true), ("The best, with their scores", false),
            ],
            &attempts,
            "None.",
        ))
    }
}

fn job(job: &JobSummary) -> Vec<Markup> {
    let is_bad = job.state == JobState::Failed;
    vec![
        code(&job.name),
        html! { span.pill.bad[is_bad] { (job.state.word()) } },
        plain(job.priority.to_string()),
        plain(format!("{} of {}", job.running, job.wanted)),
        html! { span.warn[job.pending > 0] { (job.pending) } },
        plain(job.succeeded.to_string()),
        html! { span.bad[job.failed > 0] { (job.failed) } },
        plain(job.restarts.to_string()),
        plain(&job.placed_by),
    ]
}

fn framework(its: &FrameworkSummary) -> Vec<Markup> {
    let share = its.share_per_mille;
    vec![
        code(&its.name),
        plain(its.weight.to_string()),
        plain(format!(
            "{}.{} % of {}",
            share / 10,
            share % 10,
            its.dominant
        )),
        plain(its.running.to_string()),
        plain(its.used.to_string()),
        plain(its.offers.to_string()),
    ]
}

fn agent(its: &AgentView) -> Vec<Markup> {
    let spec = &its.agent.spec;
    let amount = |kind: Kind| {
        let (used, total) = (its.used.get(kind), spec.resources.get(kind));
        plain(format!("{} of {}", kind.show(used), kind.show(total)))
    };
    vec![
        code(&spec.name),
        html! { @if its.agent.is_up { span.pill.good { "up" } } @else { span.pill.bad { "lost" } } },
        plain(&spec.zone),
        plain(its.running.to_string()),
        amount(Kind::Cpu),
        amount(Kind::Memory),
        amount(Kind::Disk),
        html! { span.dim { (spec.enforces) } },
    ]
}

fn attempted(
    job: &str,
    task: &str,
    attempt: &Attempt,
    names: &BTreeMap<String, &str>,
) -> Vec<Markup> {
    let why = &attempt.instance.why;
    let name = |id: String| names.get(&id).map_or(id, |name| (*name).to_owned());
    let state = match &attempt.instance.phase {
        Phase::Placed if !attempt.instance.waits_for.is_empty() => "waits for room".to_owned(),
        Phase::Placed => "is started".into(),
        Phase::Runs => "runs".into(),
        Phase::Stopping => "is stopped".into(),
        Phase::Ended(end) => end.to_string(),
    };
    vec![
        plain(attempt.id.to_string()),
        code(job),
        plain(task),
        plain(&attempt.agent),
        plain(state),
        plain(format!("{} of {}", why.feasible, why.considered)),
        html! {
            @for score in &why.scores {
                div {
                    (name(score.agent.to_string())) ": " (score.total)
                    span.dim {
                        @for (part, value) in &score.parts { " " (part) " " (value) }
                    }
                }
            }
        },
    ]
}
