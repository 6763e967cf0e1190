//! Golden scripts: transcripts of the protocol.

mod script;
#[path = "../../base/testing/transcripts.rs"]
mod transcripts;

use script::Sim;

#[test]
fn scripts_print_what_they_printed() {
    transcripts::check(env!("CARGO_MANIFEST_DIR"), 12, |script| {
        Sim::default().run(script)
    });
}

/// Runs a script; the groups as it left them.
fn run(name: &str) -> Sim {
    let path = format!("{}/testscripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a readable script");
    let script = text.split("----\n").next().expect("a script");
    let mut sim = Sim::default();
    sim.run(script);
    sim
}

/// The worked example of the notes (MISSION.md, M4); its steps are in the script of the same name.
#[test]
fn m4_raft_split_brain_golden() {
    let sim = run("m4_raft_split_brain_golden");
    for (id, member) in &sim.members {
        assert_eq!(member.state, ["5"], "r{id}: 8 is dropped and 5 taken");
        assert_eq!(member.group.term(), 2);
        assert_eq!(member.group.leader().map(|l| l.0), Some(1));
    }
    assert_eq!(sim.members.len(), 5);
    assert!(!sim.members[&4].group.is_leader(), "4 steps down");
}

/// A tie leads to the next term; nobody votes twice in one, a restart between the questions or not.
#[test]
fn m4_raft_tie_next_term() {
    let sim = run("m4_raft_tie_next_term");
    let leaders: Vec<u64> = (sim.members.values())
        .filter(|m| m.group.is_leader())
        .map(|m| m.group.id().0)
        .collect();
    assert_eq!(leaders, [1]);
    assert!(sim.members.values().all(|m| m.group.term() == 2));
}
