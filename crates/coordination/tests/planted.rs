//! The planted bugs of this crate do what they say, and only while they are planted.

use base::planted::{Bug, plant};
use base::{CoreAddress, SessionId, Stamp};
use bytes::Bytes;
use coordination::{
    Command, Coordination, Envelope, Leases, Origin, Output, TreeOp, Unit, UnitRefusal,
};

fn apply(machine: &mut Coordination, envelope: Envelope, command: Command) -> Vec<Output> {
    let mut out = Vec::new();
    machine
        .apply_unit(Stamp::default(), Unit { envelope, command }, &mut out)
        .expect("known");
    out
}

fn set(session: SessionId, generation: u32, sequence: u64) -> (Envelope, Command) {
    let envelope = Envelope {
        session,
        generation,
        sequence,
        ..Envelope::default()
    };
    let op = TreeOp::SetData {
        path: "/".into(),
        data: Bytes::new(),
        version: -1,
    };
    (envelope, Command::Write(op))
}

fn opened() -> (Coordination, SessionId, Origin) {
    let mut machine = Coordination::new();
    let origin = Origin {
        home: CoreAddress::default(),
        token: 1,
    };
    let open = Command::OpenSession {
        origin,
        password: [1; 16],
        timeout_ms: 1000,
    };
    apply(&mut machine, Envelope::default(), open);
    let session = machine.sessions().next().expect("opened").id;
    (machine, session, origin)
}

fn root_version(machine: &Coordination) -> i32 {
    machine.stat("/").expect("the root").version
}

#[test]
fn repetition_is_applied_only_when_planted() {
    let (mut machine, session, _) = opened();
    for (bug, version) in [(None, 1), (Some(Bug::ApplyTwice), 2)] {
        let (envelope, command) = set(session, 1, 1);
        plant(bug);
        apply(&mut machine, envelope.clone(), command.clone());
        plant(None);
        assert!(apply(&mut machine, envelope, command).is_empty());
        assert_eq!(root_version(&machine), version);
    }
}

#[test]
fn old_generation_is_accepted_only_when_planted() {
    let (mut machine, session, origin) = opened();
    let attach = Command::AttachSession {
        origin,
        session,
        password: [1; 16],
        timeout_ms: 1000,
    };
    apply(&mut machine, Envelope::default(), attach);
    let (envelope, command) = set(session, 1, 1);
    let out = apply(&mut machine, envelope.clone(), command.clone());
    let refusal =
        |o: &Output| matches!(o, Output::Refused { why, .. } if *why == UnitRefusal::OldGeneration);
    assert!(out.len() == 1 && out.iter().all(refusal));
    assert_eq!(root_version(&machine), 0);
    plant(Some(Bug::SkipGenerationCheck));
    apply(&mut machine, envelope, command);
    plant(None);
    assert_eq!(root_version(&machine), 1);
}

#[test]
fn session_runs_out_early_only_when_planted() {
    for (bug, at_us) in [(None, 1_000_000), (Some(Bug::ExpireEarly), 500_000)] {
        plant(bug);
        let mut leases = Leases::new();
        leases.opened(0, SessionId(1), 1, 1000);
        plant(None);
        assert!(leases.poll_expired(at_us - 1, 9).is_empty());
        assert_eq!(leases.poll_expired(at_us, 9), [(SessionId(1), 1)]);
    }
}
