//! Golden scripts: transcripts of the protocol. `UPDATE_GOLDEN=1` rewrites what they print.

mod script;

use script::Sim;

#[test]
#[allow(clippy::disallowed_methods)] // The tests' own switch; the crate reads no environment.
fn scripts_print_what_they_printed() {
    let update = std::env::var("UPDATE_GOLDEN").is_ok();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the scripts are beside the code")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("a readable script");
        let (script, expected) = text.split_once("----\n").unwrap_or((&text, ""));
        let printed = Sim::default().run(script);
        if printed != expected {
            if update {
                let text = format!("{}\n----\n{printed}", script.trim_end());
                std::fs::write(path, text).expect("a writable script");
            }
            wrong.push(format!("{}:\n{printed}", path.display()));
        }
    }
    assert!(paths.len() >= 12, "only {} scripts", paths.len());
    assert!(
        update || wrong.is_empty(),
        "printed otherwise:\n{}",
        wrong.join("\n")
    );
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
