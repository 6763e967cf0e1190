//! Jobs, their tasks and agents.

use super::Page;
use node::Status;

/// What there is, as this node's replica has it, and what it has seen done since the node was started: each node that
/// holds the tree counts all of it, so nodes are not to be added up.
pub fn render(out: &mut Page, statuses: &[Status]) {
    let Some(jobs) = statuses.iter().find_map(|s| s.jobs.as_ref()) else {
        return;
    };
    let up = jobs.agents.iter().filter(|its| its.agent.is_up).count() as u64;
    out.gauge(
        "althing_jobs",
        "Jobs, with those that have ended.",
        jobs.jobs,
    );
    out.gauge("althing_job_agents_up", "Agents that are heard.", up);
    let frameworks = jobs.frameworks.len() as u64;
    out.gauge("althing_job_frameworks", "Frameworks.", frameworks);
    let name = "althing_job_tasks";
    out.family(name, "gauge", "Tasks that have not ended, by state.");
    let [placed, running, stopping] = jobs.by_state;
    for (state, count) in [
        ("pending", jobs.pending),
        ("placed", placed),
        ("running", running),
        ("stopping", stopping),
    ] {
        out.line(name, &[("state", state)], count);
    }
    let done = &jobs.tally;
    for (name, help, value) in [
        ("placements", "Tasks that got an agent.", done.placements),
        (
            "preemptions",
            "Tasks that had to go for more important ones.",
            done.evictions,
        ),
        (
            "restarts",
            "Tasks that were started again by their policies.",
            done.restarts,
        ),
        (
            "task_losses",
            "Tasks that were lost with their agents.",
            done.losses,
        ),
        ("agent_losses", "Agents that were lost.", done.agents_lost),
        (
            "commits",
            "Commits of schedulers outside of the cell.",
            done.commits,
        ),
        (
            "conflicts",
            "Claims in such commits that were not carried out.",
            done.conflicts,
        ),
        ("offers", "Offers to frameworks.", done.offers_made),
        (
            "offers_accepted",
            "Offers that were accepted.",
            done.offers_accepted,
        ),
        (
            "offers_declined",
            "Offers that were declined.",
            done.offers_declined,
        ),
        (
            "offers_withdrawn",
            "Offers that were not answered in time, or whose room was gone.",
            done.offers_withdrawn,
        ),
    ] {
        out.counter(&format!("althing_job_{name}_total"), help, value);
    }
}
