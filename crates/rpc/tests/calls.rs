//! Channels against servers in this process and a registry that the test writes.

mod nodes;

use nodes::greeter::greeter_client::GreeterClient;
use nodes::greeter::{CountRequest, GreetRequest};
use nodes::{DESCRIPTORS, Node, Provider, eventually};
use rpc::{Agent, AgentError, Channel, Fate, Method, Registration, fate};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tonic::{Code, Request, Status};

fn name() -> GreetRequest {
    GreetRequest {
        name: "Egill".into(),
    }
}

fn builder() -> rpc::Builder {
    Channel::builder("greeter")
        .descriptors(DESCRIPTORS)
        .balance(Method::RoundRobin)
        .deadline(Duration::from_secs(30))
}

/// A registry with these providers, a process that calls, and its channel.
async fn client(
    builder: rpc::Builder,
    providers: &[&Provider],
) -> (Node, Agent, GreeterClient<Channel>) {
    let node = Node::start().await;
    node.put("greeter", providers.iter().map(|p| p.address.as_str()));
    let agent = Agent::new("test", [&node.address]).unwrap();
    let channel = builder.connect(&agent).await.unwrap();
    (node, agent, GreeterClient::new(channel))
}

#[tokio::test]
async fn calls_are_spread_over_the_instances_and_follow_the_registry() {
    let (a, b) = (Provider::start().await, Provider::start().await);
    let (node, _agent, mut greeter) = client(builder(), &[&a, &b]).await;
    for _ in 0..10 {
        greeter.greet(name()).await.unwrap();
    }
    assert_eq!((a.calls(), b.calls()), (5, 5));
    let c = Provider::start().await;
    node.put("greeter", [c.address.as_str()]);
    eventually(async || {
        let reply = greeter.clone().greet(name()).await.unwrap();
        reply.into_inner().instance == c.address
    })
    .await;
    let before = (a.calls(), b.calls());
    for _ in 0..10 {
        greeter.greet(name()).await.unwrap();
    }
    assert_eq!((a.calls(), b.calls()), before);
}

#[tokio::test]
async fn instances_that_are_gone_or_break_off_cost_no_idempotent_call() {
    let live = Provider::start().await;
    let breaking = Provider::breaking().await;
    let gone = Provider::gone().await;
    // Only one of three is left out at a time, so the other may fail in every call.
    let rich = builder().budget(1.0);
    let (node, agent, mut greeter) = client(rich, &[&live, &breaking, &gone]).await;
    for i in 0..50 {
        let reply = greeter.greet(name()).await;
        assert!(reply.is_ok(), "call {i}: {reply:?}");
    }
    assert_eq!(live.calls(), 50);
    assert!(breaking.calls() >= 1, "{}", breaking.calls());
    agent.report().await.unwrap();
    let rows = node.rows();
    let all = |row: &&traffic::calls::Row| row.call.side == traffic::calls::Side::Caller;
    let sum = |field: fn(&traffic::calls::Counts) -> u64| {
        rows.iter()
            .filter(all)
            .map(|row| field(&row.total))
            .sum::<u64>()
    };
    assert_eq!(sum(|c| c.ok), 50);
    assert!(sum(|c| c.not_sent) >= 1 && sum(|c| c.unknown) >= 1);
    assert_eq!(
        sum(|c| c.repeated),
        sum(|c| c.not_sent) + sum(|c| c.unknown)
    );
}

#[tokio::test]
async fn call_that_may_have_been_carried_out_is_not_repeated_unless_its_proto_allows() {
    let breaking = Provider::breaking().await;
    let (_node, _agent, mut greeter) = client(builder(), &[&breaking]).await;
    let lost = greeter.count(CountRequest {}).await.unwrap_err();
    assert_eq!(
        (lost.code(), fate(&lost)),
        (Code::Unknown, Fate::Unknown),
        "{lost:?}"
    );
    assert!(
        lost.message().contains("may have been carried out"),
        "{lost:?}"
    );
    assert_eq!(breaking.calls(), 1, "it was sent once");
    let lost = greeter.greet(name()).await.unwrap_err();
    assert_eq!((lost.code(), fate(&lost)), (Code::Unknown, Fate::Unknown));
    assert_eq!(
        breaking.calls(),
        1 + 3,
        "three attempts of one that may be repeated"
    );
}

#[tokio::test]
async fn call_that_surely_was_not_sent_is_tried_elsewhere_whatever_it_does() {
    let (live, gone) = (Provider::start().await, Provider::gone().await);
    let (_node, _agent, mut greeter) = client(builder(), &[&live, &gone]).await;
    for count in 1..=4 {
        let reply = greeter.count(CountRequest {}).await.unwrap();
        assert_eq!(reply.into_inner().count, count);
    }
}

#[tokio::test]
async fn what_the_instance_answers_is_not_repeated_and_is_no_reason_to_leave_it_out() {
    let live = Provider::start().await;
    let (_node, _agent, mut greeter) = client(builder(), &[&live]).await;
    for _ in 0..20 {
        let nameless = GreetRequest::default();
        let refused = greeter.greet(nameless).await.unwrap_err();
        assert_eq!(
            (refused.code(), fate(&refused)),
            (Code::InvalidArgument, Fate::Answered)
        );
    }
    assert_eq!(live.calls(), 20);
}

#[tokio::test]
async fn attempts_share_one_deadline_and_one_id() {
    let (hanging, live) = (Provider::hanging().await, Provider::start().await);
    let patient = builder()
        .attempt_time(Duration::from_secs(1))
        .attempts_max(10);
    let (_node, _agent, mut greeter) = client(patient, &[&hanging, &live]).await;
    for _ in 0..2 {
        let mut request = Request::new(name());
        request.set_timeout(Duration::from_secs(40));
        greeter.greet(request).await.unwrap();
    }
    let (first, second) = (hanging.seen().remove(0), live.seen());
    let again = second
        .iter()
        .find(|seen| seen.id == first.id)
        .expect("the same call");
    assert_eq!((first.attempt.as_str(), again.attempt.as_str()), ("1", "2"));
    assert_eq!(
        (first.caller.as_str(), again.caller.as_str()),
        ("test", "test")
    );
    assert!(first.left <= Duration::from_secs(1), "{first:?}");
    let ids: BTreeSet<String> = second.into_iter().map(|seen| seen.id).collect();
    assert_eq!(ids.len(), 2, "each call has its own");
}

#[tokio::test]
async fn deadline_ends_a_call_that_nobody_answers() {
    let hanging = Provider::hanging().await;
    let (_node, _agent, mut greeter) = client(builder(), &[&hanging]).await;
    let mut request = Request::new(name());
    request.set_timeout(Duration::from_millis(200));
    let begun = Instant::now();
    let late = greeter.greet(request).await.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(
        (late.code(), fate(&late)),
        (Code::DeadlineExceeded, Fate::Unknown),
        "{late:?}"
    );
    assert!(hanging.seen().len() <= 1, "it is not tried again");
}

#[tokio::test]
async fn repetitions_are_a_part_of_all_calls_when_everything_fails() {
    let (a, b) = (Provider::breaking().await, Provider::breaking().await);
    let plain = builder().budget(0.0).ejected_after(0);
    let (_node, _agent, greeter) = client(plain, &[&a, &b]).await;
    let begun = Instant::now();
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let mut greeter = greeter.clone();
            tokio::spawn(async move { greeter.greet(name()).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap_err();
    }
    // Ten a second are for free; without a budget it would be three attempts of each call.
    let free = 10 + 10 * (begun.elapsed().as_secs() + 1);
    let sent = a.calls() + b.calls();
    assert!(
        sent <= 40 + free,
        "{sent} attempts of 40 calls, {free} for free"
    );
}

#[tokio::test]
async fn provider_gives_its_deadline_to_what_it_calls() {
    let leaf = Provider::start().await;
    let node = Node::start().await;
    node.put("greeter", [leaf.address.as_str()]);
    let agent = Agent::new("middle", [&node.address]).unwrap();
    let channel = builder().connect(&agent).await.unwrap();
    let middle = Provider::passing_on(GreeterClient::new(channel), &agent).await;
    let (_node, _agent, mut greeter) = client(builder(), &[&middle]).await;
    let mut request = Request::new(name());
    request.set_timeout(Duration::from_secs(20));
    greeter.greet(request).await.unwrap();
    let seen = leaf.seen().remove(0);
    assert_eq!(seen.caller, "middle");
    assert!(
        seen.left < Duration::from_secs(20),
        "30 s without the caller's: {seen:?}"
    );
    eventually(async || {
        agent.report().await.unwrap();
        let rows = node.rows();
        let served = rows
            .iter()
            .find(|row| row.call.side == traffic::calls::Side::Provider);
        served.is_some_and(|row| row.total.ok == 1 && row.call.caller == "test")
    })
    .await;
}

#[tokio::test]
async fn registration_is_renewed_comes_back_when_forgotten_and_ends_when_left() {
    let node = Node::start().await;
    let agent = Agent::new("test", ["127.0.0.1:1", &node.address]).unwrap();
    let registration = Registration::new("greeter")
        .address("127.0.0.1:5001")
        .meta("zone", "a");
    let registered = registration
        .ttl(Duration::from_millis(300))
        .register(&agent)
        .await
        .unwrap();
    assert_eq!(node.registered(), ["greeter-127.0.0.1-5001"]);
    let (_, body) = node.registration("greeter-127.0.0.1-5001");
    assert_eq!(body["Meta"]["zone"], "a");
    assert_eq!(body["Check"]["TTL"], "300ms");
    eventually(async || node.registration("greeter-127.0.0.1-5001").0 >= 2).await;
    node.forget();
    eventually(async || node.registered() == ["greeter-127.0.0.1-5001"]).await;
    registered.leave().await.unwrap();
    assert!(node.registered().is_empty());
    let registered = Registration::new("greeter")
        .address("127.0.0.1:5002")
        .register(&agent)
        .await;
    drop(registered.unwrap());
    eventually(async || node.registered().is_empty()).await;
}

#[tokio::test]
async fn another_node_is_asked_when_one_ends_and_nothing_is_counted_twice() {
    let provider = Provider::start().await;
    let (one, other) = (Node::start().await, Node::start().await);
    for node in [&one, &other] {
        node.put("greeter", [provider.address.as_str()]);
    }
    let agent = Agent::new("test", [&one.address, &other.address]).unwrap();
    let mut greeter = GreeterClient::new(builder().connect(&agent).await.unwrap());
    greeter.greet(name()).await.unwrap();
    agent.report().await.unwrap();
    one.end().await;
    greeter.greet(name()).await.unwrap();
    agent.report().await.unwrap();
    let rows = other.rows();
    assert_eq!(rows[0].total.ok, 2, "a report has all since the start");
    let second = Provider::start().await;
    other.put("greeter", [second.address.as_str()]);
    eventually(async || {
        let reply = greeter.clone().greet(name()).await.unwrap();
        reply.into_inner().instance == second.address
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_is_wrong() {
    let node = Node::start().await;
    let refused = |result: Result<(), AgentError>, says: &str| match result {
        Err(AgentError::Refused(why)) => assert!(why.contains(says), "{why}"),
        other => panic!("{says}: {other:?}"),
    };
    let none: [&str; 0] = [];
    refused(Agent::new("test", none).map(drop), "no node is named");
    refused(
        Agent::new("a b", ["127.0.0.1:7400"]).map(drop),
        "is no name",
    );
    refused(Agent::new("test", ["localhost"]).map(drop), "use host:port");
    let agent = Agent::new("test", [&node.address]).unwrap();
    for (registration, says) in [
        (
            Registration::new("a/b").address("127.0.0.1:1"),
            "no name of a service",
        ),
        (Registration::new("a").address("127.0.0.1"), "use host:port"),
        (
            Registration::new("a")
                .address("127.0.0.1:1")
                .ttl(Duration::ZERO),
            "too short",
        ),
    ] {
        refused(registration.register(&agent).await.map(drop), says);
    }
    for (builder, says) in [
        (Channel::builder("a/b"), "no name of a service"),
        (Channel::builder("a").descriptors(b"\xff"), "no descriptors"),
        (Channel::builder("a").balance(Method::Hash), "needs a key"),
    ] {
        refused(builder.connect(&agent).await.map(drop), says);
    }

    let mut nobody = GreeterClient::new(builder().connect(&agent).await.unwrap());
    let says = |status: &Status, text: &str| {
        assert_eq!(
            (status.code(), fate(status)),
            (Code::Unavailable, Fate::NotSent),
            "{status:?}"
        );
        assert!(status.message().contains(text), "{status:?}");
    };
    says(
        &nobody.greet(name()).await.unwrap_err(),
        "no instance of \"greeter\" is registered",
    );
    node.put_critical("greeter", "127.0.0.1:1");
    eventually(async || {
        let status = nobody.clone().greet(name()).await.unwrap_err();
        status.message().contains("none of the 1 instances")
    })
    .await;
    let gone = Provider::gone().await;
    node.put("greeter", [gone.address.as_str()]);
    eventually(async || {
        let status = nobody.clone().greet(name()).await.unwrap_err();
        status.message().contains("cannot connect to")
    })
    .await;
    let lonely = Agent::new("test", ["127.0.0.1:1"]).unwrap();
    let unreachable = builder().connect(&lonely).await.map(drop).unwrap_err();
    assert!(
        matches!(unreachable, AgentError::Unreachable(ref why) if why.contains("127.0.0.1:1: cannot connect"))
    );
}
