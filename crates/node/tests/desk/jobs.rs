//! Jobs and agents through the desk: beats past the log, leases at the leader, work that is waited for.

use super::house::{self, House};
use node::{After, Call, CallReply, JobsAnswer, JobsQuery};
use scheduling::command::Seen;
use scheduling::model::{AgentSpec, Framework, OnLost, Policy, Restart};
use scheduling::query::{JobState, Work};
use scheduling::{AgentId, Command, InstanceId, JobSpec, Reply, Resources, Rule, Task};

const LEASE_MS: u32 = 3_000;

fn register(house: &mut House, m: usize, id: u64, has: Vec<InstanceId>) -> u64 {
    let agent = AgentSpec {
        id: AgentId(id),
        name: format!("n{id}"),
        address: "127.0.0.1:1".into(),
        zone: String::new(),
        attributes: Default::default(),
        packages: Default::default(),
        resources: Resources::new(1_000, 1_000, 0),
        enforces: String::new(),
        lease_ms: LEASE_MS,
    };
    match house.called(
        m,
        Call::ChangeJobs(Command::Register {
            agent,
            has,
            attempt: 0,
        }),
    ) {
        CallReply::JobsChanged(Ok(Reply::Registered { generation })) => generation,
        other => panic!("not registered: {other:?}"),
    }
}

fn beat(house: &mut House, m: usize, id: u64, generation: u64) -> bool {
    let agent = AgentId(id);
    match house.called(m, Call::Beat { agent, generation }) {
        CallReply::Beaten { is_known } => is_known,
        other => panic!("no beat: {other:?}"),
    }
}

fn work_of(reply: CallReply) -> (u64, Vec<Work>) {
    match reply {
        CallReply::Jobs { index, answer } => match *answer {
            JobsAnswer::Work(Ok(work)) => (index, work),
            other => panic!("no work: {other:?}"),
        },
        other => panic!("no work: {other:?}"),
    }
}

fn ask_work(id: u64, generation: u64, index: u64) -> Call {
    let agent = AgentId(id);
    let wait_us = 60_000_000;
    Call::ReadJobs {
        query: JobsQuery::Work { agent, generation },
        after: (index > 0).then_some(After { index, wait_us }),
    }
}

fn run(house: &mut House, m: usize, name: &str, count: u32) {
    let task = Task {
        name: "main".into(),
        count,
        command: vec!["true".into()],
        env: Default::default(),
        resources: Resources::new(500, 500, 0),
        files_max: 0,
        cpu_seconds_max: 0,
        restart: Restart {
            policy: Policy::OnFailure,
            attempts_max: 1,
            pause_ms: 1_000,
            pause_ms_max: 1_000,
        },
        on_lost: OnLost::Stop,
        grace_ms: 0,
        constraints: Vec::new(),
        packages: Default::default(),
    };
    let job = JobSpec {
        name: name.into(),
        priority: 50,
        rule: Rule::Spread,
        tasks: vec![task],
        placed_by: Default::default(),
    };
    let reply = house.called(m, Call::ChangeJobs(Command::Run { job }));
    assert!(matches!(
        reply,
        CallReply::JobsChanged(Ok(Reply::Wanted { .. }))
    ));
}

fn state(house: &mut House, m: usize, name: &str) -> (JobState, Vec<AgentId>) {
    let name = name.to_owned();
    let query = JobsQuery::Job { name };
    match house.called(m, Call::ReadJobs { query, after: None }) {
        CallReply::Jobs { answer, .. } => match *answer {
            JobsAnswer::Job(Ok(view)) => {
                let live = view
                    .tasks
                    .iter()
                    .filter(|task| task.wanted.current.is_some());
                let on = live.filter_map(|task| Some(task.attempts.first()?.instance.agent));
                (view.summary.state, on.collect())
            }
            other => panic!("no job: {other:?}"),
        },
        other => panic!("no job: {other:?}"),
    }
}

fn leader_of(house: &mut House, m: usize) -> usize {
    let status = house.status(m, 0);
    let tree = status.shards.iter().find(|s| s.name == "tree");
    let leader = tree.expect("it has a replica").leader.clone();
    let is_it = |m: &house::Machine| format!("{:x}", m.node.0) == leader;
    (house.machines.iter().position(is_it)).expect("somebody leads")
}

#[test]
fn agent_that_waits_for_work_is_told_when_there_is_some_and_a_failure_is_tried_again() {
    let mut house = House::serving(3, 1);
    let generation = register(&mut house, 1, 7, Vec::new());
    let (index, none) = work_of(house.called(1, ask_work(7, generation, 0)));
    assert_eq!(none, []);
    let waiting = house.call(1, ask_work(7, generation, index));
    house.run(500);
    assert_eq!(house.answer(1, waiting), None);
    run(&mut house, 2, "a", 1);
    house.run(500);
    let (_, work) = work_of(house.answer(1, waiting).expect("there is work"));
    let instance = work[0].instance;
    assert!(work[0].run && work[0].job == "a");
    let seen = vec![Seen {
        instance,
        end: Some(scheduling::model::End::Failed { code: 1 }),
    }];
    let agent = AgentId(7);
    let report = Command::Report {
        agent,
        generation,
        seen,
    };
    house.called(0, Call::ChangeJobs(report));
    assert!(beat(&mut house, 0, 7, generation));
    house.run(500);
    assert_eq!(
        work_of(house.called(1, ask_work(7, generation, 0))).1,
        [],
        "it pauses"
    );
    house.run(1_500);
    let (_, again) = work_of(house.called(1, ask_work(7, generation, 0)));
    assert!(again[0].instance > instance);
}

#[test]
fn agent_that_beats_at_any_node_stays_and_one_that_does_not_is_lost_after_its_lease() {
    let mut house = House::serving(3, 1);
    let generation = register(&mut house, 0, 7, Vec::new());
    run(&mut house, 0, "a", 2);
    for i in 0..12 {
        assert!(beat(&mut house, i % 3, 7, generation), "beat {i}");
        house.run(u64::from(LEASE_MS) / 3);
    }
    assert_eq!(state(&mut house, 1, "a").1, [AgentId(7); 2]);
    assert!(
        !beat(&mut house, 0, 7, generation + 1),
        "of no such generation"
    );
    assert!(!beat(&mut house, 0, 8, 1), "of nobody");
    let other = register(&mut house, 2, 8, Vec::new());
    house.run(1_000);
    assert!(beat(&mut house, 2, 8, other));
    house.run(1_500);
    assert!(beat(&mut house, 2, 8, other));
    house.run(1_000);
    assert!(!beat(&mut house, 1, 7, generation), "it was lost");
    assert_eq!(state(&mut house, 1, "a").1, [AgentId(8); 2]);
    let seen = Vec::new();
    let agent = AgentId(7);
    let late = Command::Report {
        agent,
        generation,
        seen,
    };
    let refused = CallReply::JobsChanged(Err(scheduling::Refusal::Outdated));
    assert_eq!(house.called(0, Call::ChangeJobs(late)), refused);
    assert_eq!(register(&mut house, 1, 7, Vec::new()), generation + 1);
}

#[test]
fn new_leader_grants_a_full_lease_and_then_finds_who_is_silent() {
    let mut house = House::serving(3, 1);
    let first = leader_of(&mut house, 0);
    let left = (first + 1) % 3;
    let generation = register(&mut house, left, 7, Vec::new());
    run(&mut house, left, "a", 1);
    house.run(500);
    assert!(beat(&mut house, left, 7, generation));
    house.kill(first);
    // Longer than a lease, with beats that nobody or somebody hears.
    let heard = |house: &mut House| {
        let agent = AgentId(7);
        let call = house.call(left, Call::Beat { agent, generation });
        house.run(500);
        house.answer(left, call) == Some(CallReply::Beaten { is_known: true })
    };
    let beats: Vec<bool> = (0..12).map(|_| heard(&mut house)).collect();
    assert!(beats[8..].iter().all(|heard| *heard), "{beats:?}");
    assert_eq!(state(&mut house, left, "a").1, [AgentId(7)]);
    house.run(u64::from(LEASE_MS) + 1_500);
    assert_eq!(state(&mut house, left, "a"), (JobState::Runs, vec![]));
}

#[test]
fn framework_that_is_heard_is_offered_room_and_one_that_is_silent_goes_after_its_lease() {
    let mut house = House::serving(3, 1);
    let agent = register(&mut house, 0, 7, Vec::new());
    let join = Command::Join {
        name: "f".into(),
        priority: 50,
        framework: Framework {
            weight: 1,
            lease_ms: LEASE_MS,
            generation: 0,
        },
    };
    let joined = house.called(1, Call::ChangeJobs(join));
    let CallReply::JobsChanged(Ok(Reply::Registered { generation })) = joined else {
        panic!("not registered: {joined:?}");
    };
    let renew = |house: &mut House, m| {
        let renew = Command::Renew {
            name: "f".into(),
            generation,
            wants: true,
        };
        house.called(m, Call::ChangeJobs(renew))
    };
    let offers = |house: &mut House, m| {
        let query = JobsQuery::Offers {
            framework: "f".into(),
            generation,
        };
        match house.called(m, Call::ReadJobs { query, after: None }) {
            CallReply::Jobs { answer, .. } => match *answer {
                JobsAnswer::Offers(Ok(view)) => view.offers,
                other => panic!("no offers: {other:?}"),
            },
            other => panic!("no offers: {other:?}"),
        }
    };
    for i in 0..8 {
        assert!(beat(&mut house, 0, 7, agent));
        let renewed = renew(&mut house, i % 3);
        assert_eq!(renewed, CallReply::JobsChanged(Ok(Reply::Done)), "{i}");
        house.run(u64::from(LEASE_MS) / 3);
        assert_eq!(offers(&mut house, (i + 1) % 3)[0].agent.id, AgentId(7));
    }
    for _ in 0..5 {
        assert!(beat(&mut house, 0, 7, agent));
        house.run(u64::from(LEASE_MS) / 3);
    }
    let refused = CallReply::JobsChanged(Err(scheduling::Refusal::Outdated));
    assert_eq!(renew(&mut house, 2), refused);
    assert_eq!(state(&mut house, 1, "f").0, JobState::Stopped);
}
