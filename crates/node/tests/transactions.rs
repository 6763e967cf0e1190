//! Transactions over chapters and shards on whole nodes, one of which ends at every step.

#[allow(dead_code)] // The house serves several tests; each uses its part.
mod house;

use bytes::Bytes;
use coordination::{Acl, CreateMode, TreeOp};
use house::House;
use node::{Call, CallReply, Condition, Operation, Transacted, Transaction};
use shard::transaction::{Place, StepResult};
use storage::cache::Reply;
use storage::cache::transaction::KeyCondition;
use transactions::TxnId;

fn cache(words: &str) -> Operation {
    let words = words.split(' ');
    Operation::Cache {
        database: 0,
        words: words
            .map(|w| Bytes::copy_from_slice(w.as_bytes()))
            .collect(),
    }
}

fn create(path: &str, sequential: bool) -> Operation {
    Operation::Tree(TreeOp::Create {
        path: path.into(),
        data: Bytes::new(),
        acl: vec![Acl::open()],
        mode: CreateMode::Persistent { sequential },
    })
}

fn transaction(id: &str, operations: Vec<Operation>) -> Transaction {
    Transaction {
        id: TxnId::new(id),
        content: 1,
        conditions: Vec::new(),
        operations,
    }
}

fn transact(house: &mut House, m: usize, transaction: Transaction) -> Transacted {
    match house.called(m, Call::Transact(Box::new(transaction))) {
        CallReply::Transacted { transacted, .. } => transacted,
        other => panic!("{other:?}"),
    }
}

/// The answers of commands, each a transaction of its own.
fn ask(house: &mut House, m: usize, words: &str) -> Reply {
    match transact(house, m, transaction("", vec![cache(words)])) {
        Transacted::Committed(results) => match results.into_iter().next() {
            Some(Some(StepResult::Cache { reply, .. })) => reply,
            other => panic!("{words}: {other:?}"),
        },
        other => panic!("{words}: {other:?}"),
    }
}

fn number(house: &mut House, m: usize, key: &str) -> i64 {
    match ask(house, m, &format!("GET {key}")) {
        Reply::Bulk(text) => String::from_utf8_lossy(&text).parse().expect("a number"),
        other => panic!("{key}: {other:?}"),
    }
}

/// Four shards of pool `main`, two accounts in different ones, and a node to count under.
fn bank() -> House {
    let mut house = House::new(3, 1);
    house.main_shards = 4;
    (0..3).for_each(|m| house.boot(m));
    house.until_all_serve();
    let setup = vec![
        cache("SET a 100"),
        cache("SET b 100"),
        create("/moves", false),
    ];
    let done = transact(&mut house, 0, transaction("setup", setup));
    assert!(matches!(done, Transacted::Committed(_)), "{done:?}");
    house
}

fn transfer() -> Transaction {
    let operations = vec![
        cache("DECRBY a 10"),
        cache("INCRBY b 10"),
        create("/moves/n-", true),
    ];
    transaction("transfer", operations)
}

/// Moves so far, as the tree counts them: the next number is theirs.
fn moves(house: &mut House, m: usize) -> i64 {
    let probe = vec![create("/moves/n-", true)];
    match transact(house, m, transaction("", probe)) {
        Transacted::Committed(results) => match &results[0] {
            Some(StepResult::Created { path }) => path
                .trim_start_matches("/moves/n-")
                .parse()
                .expect("a number"),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn locks(house: &mut House, m: usize) -> u64 {
    let status = house.status(m, 0).transactions;
    let held = status
        .iter()
        .map(|s| s.locks + s.records + s.promises + s.parked);
    held.sum()
}

#[test]
fn keys_of_several_shards_and_a_node_change_together_or_not_at_all() {
    let mut house = bank();
    let done = transact(&mut house, 1, transfer());
    let Transacted::Committed(results) = &done else {
        panic!("{done:?}");
    };
    let is = |at: usize, number| matches!(&results[at], Some(StepResult::Cache { reply: Reply::Integer(n), .. }) if *n == number);
    assert!(is(0, 90) && is(1, 110), "{results:?}");
    let path = "/moves/n-0000000000".into();
    assert_eq!(results[2], Some(StepResult::Created { path }));
    // The same id from another node is answered as it was.
    assert_eq!(transact(&mut house, 2, transfer()), done);
    let mut other = transfer();
    other.content = 2;
    let refused = transact(&mut house, 2, other);
    assert!(matches!(refused, Transacted::Refused { place: None, .. }));
    // The last operation is refused, in the shard that is asked last.
    let mut refused = transfer();
    refused.id = TxnId::new("refused");
    refused.operations.push(cache("LPUSH b x"));
    refused.operations.push(cache("LPUSH a x"));
    match transact(&mut house, 0, refused) {
        Transacted::Refused {
            place: Some(Place::Operation(_)),
            words,
        } => assert!(words.contains("WRONGTYPE"), "{words}"),
        other => panic!("{other:?}"),
    }
    let mut refused = transfer();
    refused.id = TxnId::new("unequal");
    refused.conditions.push(Condition::Key {
        database: 0,
        key: "b".into(),
        is: KeyCondition::Equals("100".into()),
    });
    match transact(&mut house, 0, refused) {
        Transacted::Refused { place, .. } => assert_eq!(place, Some(Place::Condition(0))),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        (number(&mut house, 2, "a"), number(&mut house, 0, "b")),
        (90, 110)
    );
    house.run(2_000);
    assert!((0..3).all(|m| locks(&mut house, m) == 0));
}

#[test]
fn what_cannot_be_placed_is_refused_in_words() {
    let mut house = bank();
    let cases = [
        (vec![], "conditions and operations"),
        (vec![cache("NOSUCH a")], "no command"),
        (vec![cache("GET")], "wrong number of arguments"),
        (vec![cache("FLUSHALL")], "cannot be part"),
        (vec![cache("MSET a 1 b 2")], "several shards"),
        (
            vec![Operation::Append {
                topic: "none".into(),
                partition: None,
                record: wire_kafka::records::Record::default(),
            }],
            "there is no topic none",
        ),
    ];
    for (operations, expected) in cases {
        let call = Call::Transact(Box::new(transaction("", operations)));
        match house.called(0, call) {
            CallReply::Misplaced { words, .. } => assert!(words.contains(expected), "{words}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

/// One of three nodes ends after `rounds` rounds of a transfer. False when it was over by then.
fn end_one(victim: usize, rounds: u64) -> bool {
    let context = format!("node {victim} ends after {rounds} rounds");
    let mut house = bank();
    let asked_of = (victim + 1) % 3;
    let call = Call::Transact(Box::new(transfer()));
    let request = house.call(asked_of, call);
    for _ in 0..rounds {
        if !house.round() {
            house.run(5);
        }
    }
    let early = house.answer(asked_of, request);
    house.kill(victim);
    house.run(3_000);
    let answer = early.clone().or_else(|| house.answer(asked_of, request));
    let Some(CallReply::Transacted { transacted, .. }) = answer else {
        panic!("{context}: {answer:?}");
    };
    // Nobody died who could say no.
    let is_done = matches!(transacted, Transacted::Committed(_));
    assert!(is_done, "{context}: {transacted:?}");
    house.boot(victim);
    house.until_all_serve();
    assert_eq!(
        transact(&mut house, victim, transfer()),
        transacted,
        "{context}"
    );
    let sums = (
        number(&mut house, victim, "a"),
        number(&mut house, asked_of, "b"),
    );
    assert_eq!(sums, (90, 110), "{context}");
    assert_eq!(moves(&mut house, victim), 1, "{context}");
    house.run(2_000);
    assert!((0..3).all(|m| locks(&mut house, m) == 0), "{context}");
    early.is_none()
}

#[test]
fn m06_a_node_that_ends_at_any_step_changes_nothing_about_the_outcome() {
    for victim in 0..3 {
        let steps = (0..).take_while(|rounds| end_one(victim, *rounds)).count();
        assert!(steps > 10, "{steps} steps");
        println!("node {victim}: {steps} steps");
    }
}
