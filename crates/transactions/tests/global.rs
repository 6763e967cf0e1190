//! Money moves between two services by sagas, TCC, messages and XA, while calls and answers are lost, late and
//! doubled, leaders and initiators die between any two steps, and replicas start from snapshots. The sum never
//! changes, every transaction ends, what has ended stays as it is, and nothing fails that nobody refused.

mod global_world;

use base::planted::{Bug, plant};
use base::{Origin, Stamp, State};
use bytes::Bytes;
use global_world::World;
use transactions::global::{
    Call, Command, Globals, Kind, NewGlobal, Op, Options, Outcome, Output, Refusal, Reply, Status,
    Step, Unit, judge,
};

const SEEDS: u64 = 250;

fn violation(seed: u64) -> Option<String> {
    World::new(seed).run().err()
}

#[test]
fn money_is_kept_and_every_transaction_ends_under_faults() {
    for seed in 1..=SEEDS {
        if let Some(what) = violation(seed) {
            panic!("seed {seed}: {what}");
        }
    }
}

#[test]
#[cfg(debug_assertions)]
fn planted_bugs_of_global_transactions_are_found() {
    for bug in [
        Bug::CountUnknownAsRefusal,
        Bug::CompensateAcknowledgedOnly,
        Bug::TakeStaleResult,
    ] {
        plant(Some(bug));
        let found = (1..=SEEDS).find_map(|seed| Some((seed, violation(seed)?)));
        plant(None);
        match found {
            Some((seed, what)) => println!("{bug:?}: seed {seed}: {what}"),
            None => panic!("{bug:?} was not found in {SEEDS} seeds"),
        }
    }
}

// ---- cases -----------------------------------------------------------------------------------

/// A machine, and a person who writes down what it wants called.
struct Desk {
    globals: Globals,
    now_ms: i64,
}

impl Desk {
    fn new() -> Self {
        Self {
            globals: Globals::new(),
            now_ms: 1_000_000,
        }
    }

    fn tell(&mut self, command: Command) -> Result<Reply, Refusal> {
        let stamp = Stamp {
            time_ms: self.now_ms,
            seed: 0,
        };
        let origin = Origin {
            token: 1,
            ..Origin::default()
        };
        let unit = Unit { origin, command };
        let bytes = Bytes::from(unit.encode());
        assert_eq!(Unit::decode(&bytes).as_ref(), Ok(&unit), "its byte form");
        let mut out = Vec::new();
        self.globals.apply_unit(stamp, unit, &mut out);
        match out.pop() {
            Some(Output::Reply { reply, .. }) => reply,
            other => panic!("no reply but {other:?}"),
        }
    }

    fn submit(&mut self, new: NewGlobal) {
        assert_eq!(self.tell(Command::Submit(new)), Ok(Reply::Done));
    }

    /// What is wanted, in the order of the operations.
    fn wanted(&self) -> Vec<String> {
        let mut wanted: Vec<_> = self.globals.wanted().collect();
        wanted.sort_unstable();
        let name = |(gid, index, _): (&String, u32, u64)| {
            let branch = &self.globals.get(gid).expect("it is there").branches[index as usize];
            format!("{}{}", branch.op.name(), branch.id)
        };
        wanted.into_iter().map(name).collect()
    }

    /// Ends the call of an operation, as `"action01"`.
    fn called(&mut self, what: &str, outcome: Outcome) {
        let wanted: Vec<(String, u32, u64)> = (self.globals.wanted())
            .map(|(gid, index, attempt)| (gid.clone(), index, attempt))
            .collect();
        let is_it = |(gid, index, _): &(String, u32, u64)| {
            let branch = &self.globals.get(gid).expect("it is there").branches[*index as usize];
            format!("{}{}", branch.op.name(), branch.id) == what
        };
        let found = wanted.into_iter().find(is_it);
        let (gid, index, attempt) =
            found.unwrap_or_else(|| panic!("{what} is not wanted: {:?}", self.wanted()));
        let command = Command::Called {
            gid,
            index,
            attempt,
            outcome,
        };
        assert_eq!(self.tell(command), Ok(Reply::Done));
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        let gids = self.globals.due(self.now_ms, 100);
        assert_eq!(self.tell(Command::Wake { gids }), Ok(Reply::Done));
    }

    fn status(&self) -> Status {
        self.globals.get("g").expect("it is there").status
    }
}

fn new(kind: Kind, steps: usize) -> NewGlobal {
    let step = |at: usize| Step {
        action: format!("http://s{at}/do"),
        compensate: format!("http://s{at}/undo"),
        data: Bytes::from_static(b"{}"),
    };
    NewGlobal {
        gid: "g".into(),
        kind,
        options: Options::default(),
        custom_data: String::new(),
        before: Vec::new(),
        delay_ms: 0,
        query_prepared: String::new(),
        steps: (0..steps).map(step).collect(),
    }
}

fn no() -> Outcome {
    Outcome::Refused("no money".into())
}

fn silence() -> Outcome {
    Outcome::Unknown("no answer".into())
}

fn register(desk: &mut Desk, kind: Kind, branch: &str) -> Result<Reply, Refusal> {
    desk.tell(Command::Register {
        gid: "g".into(),
        kind,
        branch: branch.into(),
        forward: "http://s/yes".into(),
        backward: "http://s/no".into(),
        data: Bytes::new(),
    })
}

#[test]
fn saga_goes_step_by_step_and_back_by_what_ran() {
    let mut desk = Desk::new();
    desk.submit(new(Kind::Saga, 4));
    assert_eq!(desk.wanted(), ["action01"]);
    desk.called("action01", Outcome::Done);
    desk.called("action02", Outcome::Done);
    desk.called("action03", no());
    // The third was called, and may have run although it says no; the fourth never was.
    for step in ["compensate03", "compensate02", "compensate01"] {
        assert_eq!(
            (desk.wanted(), desk.status()),
            (vec![step.to_owned()], Status::Aborting)
        );
        desk.called(step, Outcome::Done);
    }
    assert_eq!((desk.wanted(), desk.status()), (vec![], Status::Failed));
    assert_eq!(desk.globals.get("g").expect("it").reason, "no money");
}

#[test]
fn saga_without_an_answer_is_repeated_with_back_off_and_never_failed() {
    let mut desk = Desk::new();
    desk.submit(new(Kind::Saga, 1));
    let mut pauses = Vec::new();
    while desk.globals.get("g").expect("it").parked.is_none() {
        desk.called("action01", silence());
        let next_ms = desk.globals.get("g").expect("it").next_ms();
        let Some(next_ms) = next_ms else { break };
        pauses.push((next_ms - desk.now_ms) / 1_000);
        assert_eq!((desk.wanted(), desk.status()), (vec![], Status::Submitted));
        desk.pass(next_ms - desk.now_ms);
    }
    assert_eq!(
        (&pauses[..7], pauses.len()),
        (&[10, 20, 40, 80, 160, 300, 300][..], 30)
    );
    let global = desk.globals.get("g").expect("it");
    assert_eq!(
        global.status,
        Status::Submitted,
        "it did not fail, it is parked"
    );
    assert!(
        global
            .parked
            .as_deref()
            .is_some_and(|why| why.contains("31 times: no answer"))
    );
    desk.pass(3_600_000);
    assert_eq!(desk.wanted(), [""; 0]);
    let gid = "g".to_owned();
    assert_eq!(desk.tell(Command::Resume { gid }), Ok(Reply::Done));
    desk.called("action01", Outcome::Done);
    assert_eq!(desk.status(), Status::Succeeded);
}

#[test]
fn saga_that_asks_for_it_turns_back_after_its_retries_or_its_time() {
    for by_time in [false, true] {
        let mut desk = Desk::new();
        let mut saga = new(Kind::Saga, 2);
        saga.options.retry_interval_ms = 1_000;
        if by_time {
            saga.options.timeout_ms = 5_000;
        } else {
            saga.options.retry_limit = 2;
        }
        desk.submit(saga);
        while desk.status() == Status::Submitted {
            if !desk.wanted().is_empty() {
                desk.called("action01", silence());
            }
            desk.pass(500);
        }
        assert_eq!(desk.wanted(), ["compensate01"], "it may have run");
        desk.called("compensate01", Outcome::Done);
        assert_eq!(desk.status(), Status::Failed);
    }
}

#[test]
fn compensation_is_never_given_up_unseen() {
    let mut desk = Desk::new();
    let mut saga = new(Kind::Saga, 1);
    saga.options.retry_limit = 1;
    desk.submit(saga);
    desk.called("action01", no());
    desk.called("compensate01", no());
    desk.pass(10_000);
    desk.called("compensate01", silence());
    let parked: Vec<String> = desk.globals.parked().map(|(gid, _)| gid.clone()).collect();
    assert_eq!(
        (parked, desk.status()),
        (vec!["g".to_owned()], Status::Aborting)
    );
}

#[test]
fn steps_run_together_as_far_as_their_order_allows() {
    let mut desk = Desk::new();
    let mut saga = new(Kind::Saga, 4);
    saga.options.concurrent = true;
    saga.before = vec![vec![], vec![], vec![0, 1], vec![]];
    desk.submit(saga);
    assert_eq!(desk.wanted(), ["action01", "action02", "action04"]);
    desk.called("action01", Outcome::Done);
    desk.called("action02", Outcome::Done);
    assert_eq!(desk.wanted(), ["action03", "action04"]);
    desk.called("action04", no());
    // The third is on its way: it may run, and is undone before those that it needed.
    assert_eq!(desk.wanted(), ["compensate03", "compensate04"]);
    desk.called("compensate03", Outcome::Done);
    assert_eq!(
        desk.wanted(),
        ["compensate01", "compensate02", "compensate04"]
    );
}

#[test]
fn tcc_and_xa_are_settled_one_way_everywhere() {
    let cases = [
        (Kind::Tcc, true, ["confirm02", "confirm01"]),
        (Kind::Tcc, false, ["cancel02", "cancel01"]),
        (Kind::Xa, true, ["commit01", "commit02"]),
        (Kind::Xa, false, ["rollback01", "rollback02"]),
    ];
    for (kind, shall_be, calls) in cases {
        let mut desk = Desk::new();
        let gid = || "g".to_owned();
        assert_eq!(
            desk.tell(Command::Submit(new(kind, 0))),
            Err(Refusal::NotFound(gid()))
        );
        assert_eq!(desk.tell(Command::Prepare(new(kind, 0))), Ok(Reply::Done));
        for branch in ["01", "02", "02"] {
            assert_eq!(
                register(&mut desk, kind, branch),
                Ok(Reply::Done),
                "repeated, too"
            );
        }
        assert_eq!(desk.wanted(), [""; 0]);
        let reason = "no".to_owned();
        let decision = match shall_be {
            true => Command::Submit(new(kind, 0)),
            false => Command::Abort {
                gid: gid(),
                kind,
                reason,
            },
        };
        for _ in 0..2 {
            assert_eq!(desk.tell(decision.clone()), Ok(Reply::Done));
        }
        assert!(
            matches!(register(&mut desk, kind, "03"), Err(Refusal::Conflict(_))),
            "too late"
        );
        for call in calls {
            desk.called(call, silence());
            desk.pass(10_000);
            assert_eq!(desk.wanted(), [call]);
            desk.called(call, Outcome::Done);
        }
        let ended = if shall_be {
            Status::Succeeded
        } else {
            Status::Failed
        };
        assert_eq!(desk.status(), ended);
        let other = match shall_be {
            false => Command::Submit(new(kind, 0)),
            true => Command::Abort {
                gid: gid(),
                kind,
                reason: String::new(),
            },
        };
        assert!(matches!(desk.tell(other), Err(Refusal::Conflict(_))));
    }
}

#[test]
fn what_is_prepared_and_left_alone_is_cancelled_or_asked_about() {
    let mut desk = Desk::new();
    desk.tell(Command::Prepare(new(Kind::Tcc, 0)))
        .expect("it is new");
    register(&mut desk, Kind::Tcc, "01").expect("it is prepared");
    desk.pass(34_999);
    assert_eq!(desk.status(), Status::Prepared);
    desk.pass(1);
    assert_eq!(desk.wanted(), ["cancel01"]);

    let answers = [
        (Outcome::Done, Status::Submitted),
        (no(), Status::Failed),
        (silence(), Status::Prepared),
        (Outcome::Ongoing, Status::Prepared),
    ];
    for (outcome, status) in answers {
        let mut desk = Desk::new();
        let mut message = new(Kind::Message, 1);
        message.query_prepared = "http://s/check".into();
        desk.tell(Command::Prepare(message)).expect("it is new");
        desk.pass(35_000);
        desk.called("msg00", outcome);
        assert_eq!(desk.status(), status);
        if status == Status::Prepared {
            assert_eq!(desk.wanted(), [""; 0]);
            desk.pass(10_000);
            assert_eq!(desk.wanted(), ["msg00"]);
        }
    }
}

#[test]
fn message_is_held_back_and_sent_in_order() {
    let mut desk = Desk::new();
    let mut message = new(Kind::Message, 2);
    message.delay_ms = 5_000;
    desk.submit(message);
    desk.pass(4_999);
    assert_eq!(desk.wanted(), [""; 0]);
    desk.pass(1);
    desk.called("action01", no());
    desk.pass(10_000);
    desk.called("action01", Outcome::Done);
    desk.called("action02", Outcome::Done);
    assert_eq!(desk.status(), Status::Succeeded);
    assert_eq!(
        desk.tell(Command::Submit(new(Kind::Message, 2))),
        Ok(Reply::Done),
        "asked again"
    );
}

#[test]
fn result_of_a_call_that_is_not_wanted_any_more_changes_nothing() {
    let mut desk = Desk::new();
    desk.submit(new(Kind::Saga, 1));
    let (gid, index, attempt) = desk.globals.wanted().next().expect("one");
    let late = Command::Called {
        gid: gid.clone(),
        index,
        attempt,
        outcome: no(),
    };
    desk.called("action01", silence());
    desk.pass(10_000);
    let before = desk.globals.digest();
    desk.tell(late.clone()).expect("it is passed over");
    assert_eq!(desk.globals.digest(), before);
    desk.called("action01", Outcome::Done);
    let before = desk.globals.digest();
    desk.tell(late).expect("it is passed over");
    assert_eq!(
        (desk.globals.digest(), desk.status()),
        (before, Status::Succeeded)
    );
}

#[test]
fn ten_participants_are_told_one_end_whoever_coordinates() {
    // The golden of two-phase commit: a coordinator that dies after five commits leaves five who wait; here the
    // decision is in the log, and the next leader tells the others.
    let mut desk = Desk::new();
    desk.tell(Command::Prepare(new(Kind::Xa, 0)))
        .expect("it is new");
    for branch in 1..=10 {
        register(&mut desk, Kind::Xa, &format!("{branch:02}")).expect("it is prepared");
    }
    desk.tell(Command::Submit(new(Kind::Xa, 0)))
        .expect("it is prepared");
    for branch in 1..=5 {
        desk.called(&format!("commit{branch:02}"), Outcome::Done);
    }
    // Another replica, from a snapshot.
    let mut next = Globals::new();
    desk.globals.begin_snapshot();
    while let base::SnapshotPoll::Chunk(chunk) = desk.globals.poll_snapshot(100) {
        next.restore(&chunk).expect("it is whole");
    }
    next.finish_restore().expect("it is whole");
    assert_eq!(next.digest(), desk.globals.digest());
    desk.globals = next;
    for branch in 6..=10 {
        desk.called(&format!("commit{branch:02}"), Outcome::Done);
    }
    assert_eq!(desk.status(), Status::Succeeded);
}

#[test]
fn person_may_stop_what_is_under_way_and_it_is_forgotten_in_the_end() {
    let mut desk = Desk::new();
    desk.submit(new(Kind::Saga, 1));
    let gid = || "g".to_owned();
    desk.tell(Command::Stop { gid: gid() })
        .expect("it is under way");
    assert_eq!((desk.wanted(), desk.status()), (vec![], Status::Failed));
    assert!(matches!(
        desk.tell(Command::Stop { gid: gid() }),
        Err(Refusal::Conflict(_))
    ));
    desk.pass(transactions::global::KEEP_MS);
    assert_eq!(desk.globals.get("g"), None);
    assert_eq!(
        desk.tell(Command::Stop { gid: gid() }),
        Err(Refusal::NotFound(gid()))
    );
}

#[test]
fn answers_are_judged_by_their_code_and_old_ones_by_their_words() {
    let cases = [
        (200, "", "Done"),
        (200, "{\"dtm_result\": \"SUCCESS\"}", "Done"),
        (200, "{\"dtm_result\": \"FAILURE\"}", "Refused"),
        (200, "{\"dtm_result\": \"ONGOING\"}", "Ongoing"),
        (409, "", "Refused"),
        (425, "", "Ongoing"),
        (201, "", "Unknown"),
        (404, "FAILURE", "Unknown"),
        (500, "FAILURE", "Unknown"),
        (502, "", "Unknown"),
    ];
    for (code, body, wanted) in cases {
        let told = format!("{:?}", judge(code, body));
        assert!(told.starts_with(wanted), "{code} {body}: {told}");
    }
}

#[test]
fn random_bytes_are_no_units_and_no_snapshots() {
    let mut rng = base::Rng::new(3);
    let unit = Unit {
        origin: Origin::default(),
        command: Command::Submit(new(Kind::Saga, 3)),
    };
    let whole = unit.encode();
    for _ in 0..5_000 {
        let mut bytes = whole.clone();
        match rng.range(0, 2) {
            0 => bytes.truncate(rng.range(0, bytes.len() as u64) as usize),
            _ => {
                let at = rng.range(0, bytes.len() as u64) as usize;
                bytes[at] ^= rng.range(1, 256) as u8;
            }
        }
        // Whatever it reads as is applied or refused, and never breaks.
        if let Ok(unit) = Unit::decode(&Bytes::from(bytes.clone())) {
            Globals::new().apply_unit(Stamp::default(), unit, &mut Vec::new());
        }
        let _ = Globals::new().restore(&bytes);
    }
}

/// Units as they stand in logs: they must be read for ever.
#[test]
fn byte_forms_are_those_of_the_first_release() {
    let mut message = new(Kind::Message, 1);
    message.query_prepared = "http://q/".into();
    message.options.headers = vec![("a".into(), "b".into())];
    message.before = vec![vec![0]];
    let gid = || "g".to_owned();
    let commands = [
        Command::Prepare(message),
        Command::Submit(new(Kind::Saga, 1)),
        Command::Abort {
            gid: gid(),
            kind: Kind::Tcc,
            reason: "r".into(),
        },
        Command::Register {
            gid: gid(),
            kind: Kind::Xa,
            branch: "01".into(),
            forward: "http://f/".into(),
            backward: "http://b/".into(),
            data: Bytes::from_static(b"d"),
        },
        Command::Called {
            gid: gid(),
            index: 1,
            attempt: 2,
            outcome: silence(),
        },
        Command::Wake { gids: vec![gid()] },
        Command::Stop { gid: gid() },
        Command::Resume { gid: gid() },
    ];
    let hex = |bytes: Vec<u8>| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let mut lines: Vec<String> = (commands.into_iter())
        .map(|command| {
            let origin = Origin::default();
            hex(Unit { origin, command }.encode())
        })
        .collect();
    let mut desk = Desk::new();
    desk.submit(new(Kind::Saga, 2));
    desk.called("action01", silence());
    assert!(matches!(
        desk.globals.get("g").expect("it").branches[1].call,
        Call::Waits { .. }
    ));
    assert_eq!(
        desk.globals.get("g").expect("it").branches[0].op,
        Op::Compensate
    );
    desk.globals.begin_snapshot();
    while let base::SnapshotPoll::Chunk(chunk) = desk.globals.poll_snapshot(1 << 20) {
        lines.push(hex(chunk));
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/global_v1.hex");
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&path, lines.join("\n") + "\n").expect("it can be written");
    }
    let kept = std::fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(kept.lines().collect::<Vec<_>>(), lines);
}
