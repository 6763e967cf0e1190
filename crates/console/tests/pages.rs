//! Every page from a sample status: what it must show, and that nothing a client chose becomes markup.

use computing::stream::record::{Position, Record};
use console::{ActorRow, Actors, Algorithm, Laboratory, Page, StreamRow, View, render};
use node::Status;
use node::admin::{
    CacheStatus, GlobalRow, GlobalsStatus, GroupMember, GroupRow, GroupStatus, InstanceRow, KeyRow,
    KeysPage, MemberRow, MemberStatus, PartitionRow, PoolStatus, PositionRow, ServicesStatus,
    ShardStatus, TopicRow, TopicsPage, TopicsStatus, TreePage, TreeStatus,
};
use std::collections::BTreeMap;
use traffic::calls::{Book, Key, Outcome, Side, Table};

const HOSTILE: &str = "<script>alert('x')</script>\"&";

fn status(text: &str) -> Status {
    Status {
        version: "0.1.0".into(),
        cluster: text.into(),
        node: "00000000000000a1".into(),
        phase: "serving".into(),
        waiting_for: text.into(),
        ready: true,
        members: vec![MemberStatus {
            node: "00000000000000a1".into(),
            address: format!("127.0.0.1:7401{text}"),
            state: "member".into(),
            reachable: false,
            silent_ms: 2_500,
            ..MemberStatus::default()
        }],
        groups: vec![group(text)],
        shards: vec![ShardStatus {
            name: "tree".into(),
            role: "leader".into(),
            leader: "00000000000000a1".into(),
            term: 7,
            applied: 1_234,
            last: 1_300,
            fault: text.into(),
            replicas: vec![("00000000000000b2".into(), "voter".into(), 1_234)],
            ..ShardStatus::default()
        }],
        tree: Some(TreeStatus {
            znodes: 1_000_000,
            sessions: 10_000,
            session_list: vec![(text.into(), 30_000, "00000000000000a1".into(), 3)],
            ..TreeStatus::default()
        }),
        services: Some(ServicesStatus {
            instances: 4_321,
            list: vec![InstanceRow {
                service: text.into(),
                id: "web-1".into(),
                status: "critical".into(),
                checks: 2,
                output: text.into(),
                since_ms: 61_000,
                ..InstanceRow::default()
            }],
            ..ServicesStatus::default()
        }),
        cache: Some(CacheStatus {
            keys: 7_654_321,
            databases: vec![(0, 7_654_000, 1), (3, 321, 0)],
            ..CacheStatus::default()
        }),
        globals: Some(GlobalsStatus {
            parked: 1,
            list: vec![GlobalRow {
                gid: text.into(),
                kind: "saga".into(),
                status: "aborting".into(),
                parked: format!("was called 31 times{text}"),
                ..GlobalRow::default()
            }],
            ..GlobalsStatus::default()
        }),
        topics: Some(TopicsStatus {
            topics: 12,
            bytes: 3 << 20,
            ..TopicsStatus::default()
        }),
        pools: vec![PoolStatus {
            name: format!("cache{text}"),
            policy: "single".into(),
            durability: "everysec".into(),
            holds_cache: true,
            slots: vec![
                (0, 8_191, format!("cache/0{text}"), "a1".into()),
                (8_192, 16_383, "cache/1".into(), String::new()),
            ],
        }],
        ..Status::default()
    }
}

fn node(text: &str) -> TreePage {
    TreePage {
        path: "/a".into(),
        data: text.into(),
        data_bytes: 9,
        stat: vec![("czxid".into(), text.into())],
        acl: vec![text.into()],
        children: vec!["b c".into(), text.into()],
        children_count: 5_000,
        ..TreePage::default()
    }
}

fn keys(text: &str) -> KeysPage {
    KeysPage {
        shard: "cache/1".into(),
        database: 3,
        prefix: format!("user:{text}"),
        keys: vec![KeyRow {
            key: format!("user:{text}"),
            kind: "hash".into(),
            ttl_ms: Some(61_000),
            size: 2_000,
            value: text.into(),
        }],
        next: 99,
    }
}

fn topics(text: &str) -> TopicsPage {
    TopicsPage {
        prefix: text.into(),
        topics: vec![TopicRow {
            name: format!("logs{text}"),
            config: vec![("retention.ms".into(), text.into())],
            partition_count: 9,
            partitions: vec![PartitionRow {
                index: 1,
                shard: format!("main/0{text}"),
                leader: "00000000000000a1".into(),
                start: 5_000,
                end: 76_543,
                bytes: 2 << 20,
                producers: 4,
            }],
        }],
        topic_count: 1_201,
        groups: vec![GroupRow {
            name: format!("readers{text}"),
            state: "Stable".into(),
            generation: 31,
            protocol: text.into(),
            coordinator: text.into(),
            members: vec![MemberRow {
                id: text.into(),
                instance: text.into(),
                client: text.into(),
                host: format!("/127.0.0.1{text}"),
                leads: true,
            }],
            member_count: 777,
            positions: vec![PositionRow {
                topic: text.into(),
                index: 1,
                offset: 76_000,
                end: Some(76_543),
                lag: 543,
            }],
            lag: 543,
        }],
        group_count: 1,
    }
}

fn calls(text: &str) -> Table {
    let key = |side| Key {
        side,
        service: format!("greeter{text}"),
        method: format!("g.G/M{text}"),
        instance: format!("10.0.0.1:5001{text}"),
        caller: format!("front{text}"),
    };
    let mut book = Book::new(text.into());
    for _ in 0..599 {
        book.add(key(Side::Caller), Outcome::Ok, 1_000, false, 0);
        book.add(key(Side::Provider), Outcome::Ok, 900, false, 0);
    }
    book.add(key(Side::Caller), Outcome::Unknown, 9_000, true, 0);
    Table {
        rows: book.report(0).rows,
        nodes: 3,
        missing: vec![format!("10.0.0.9:7400: silent{text}")],
    }
}

fn actors(text: &str) -> Actors {
    let row = |name: &str, address: String| ActorRow {
        name: format!("{name}{text}"),
        kind: format!("counter{text}"),
        address,
        generation: "4294967301".into(),
        mailbox: 1_017,
        ..ActorRow::default()
    };
    Actors {
        list: vec![
            row("hits", format!("10.0.0.1:9001{text}")),
            row("lonely", String::new()),
        ],
        wanted: 7_001,
        hosts: vec![(format!("10.0.0.1:9001{text}"), format!("counter{text}"))],
    }
}

fn stream(text: &str) -> StreamRow {
    let position = Position {
        offset: 1_200,
        newest_ms: Some(1_709_210_096_000),
    };
    StreamRow {
        name: format!("clicks{text}"),
        state: text.into(),
        is_led: true,
        parts: vec![text.into(), "count".into(), text.into()],
        wanted: 3,
        workers: vec![(format!("10.0.0.1:9001{text}"), 4_711)],
        record: Record {
            epoch: 4,
            checkpoint: 17,
            positions: BTreeMap::from([(0, position)]),
            watermark_ms: Some(1_709_210_094_500),
            read: 1_200,
            late: 12,
            ..Record::default()
        },
        ends: BTreeMap::from([(0, 2_345)]),
    }
}

#[test]
fn stream_shows_how_far_it_is_behind() {
    let html = show(Page::Streams, "plain");
    for words in [
        "epoch 4",
        "1,145",
        "1.5 s",
        "12 late",
        "of 3 · a master leads",
    ] {
        assert!(html.contains(words), "{words} in {html}");
    }
    let without = View::default();
    assert!(!render(Page::Streams, &without).contains("clicks"));
}

fn show(page: Page, text: &str) -> String {
    let statuses = [status(text)];
    let tree = Ok(node(text));
    let keys = Ok(keys(text));
    let topics = Ok(topics(text));
    let calls = calls(text);
    let actors = Ok(actors(text));
    let streams = Ok(vec![stream(text)]);
    let path = format!("/a/{text}");
    render(
        page,
        &View {
            statuses: &statuses,
            path: &path,
            tree: Some(&tree),
            keys: Some(&keys),
            topics: Some(&topics),
            gateway: None,
            lab: Some(&laboratory(text)),
            calls: Some(&calls),
            actors: Some(&actors),
            streams: Some(&streams),
        },
    )
}

fn group(text: &str) -> GroupStatus {
    let member = |peer: usize| GroupMember {
        peer,
        node: text.into(),
        address: text.into(),
        console: text.into(),
        reachable: peer != 1,
    };
    GroupStatus {
        name: text.into(),
        protocol: "token-ring".into(),
        kind: text.into(),
        members: (1..=3).map(member).collect(),
        me: 2,
        role: "waiting".into(),
        waits_for: vec![1],
        waiters: 3,
        leader: Some(3),
        term: 4,
        fault: text.into(),
        ..GroupStatus::default()
    }
}

fn laboratory(text: &str) -> Laboratory {
    Laboratory {
        algorithms: vec![Algorithm {
            family: text.into(),
            name: text.into(),
            title: text.into(),
            assumptions: text.into(),
            cost: format!("costs {text}"),
        }],
        faults: vec![("crash".into(), text.into())],
        nodes_max: 9,
        seeds_max: 50,
    }
}

#[test]
fn each_page_shows_what_it_is_for() {
    let cases = [
        (
            Page::Overview,
            vec!["1,000,000", "data-lines=\"p50_us p99_us\"", "/v1/series"],
        ),
        (
            Page::Actors,
            vec!["4294967301", "1,017", "nobody", "the first 2 of 7,001"],
        ),
        (Page::Members, vec!["127.0.0.1:7401", "silent", "2.5 s"]),
        (
            Page::Shards,
            vec!["leader", "1,234", "66", "00000000000000b2", "0–8191"],
        ),
        (
            Page::Sessions,
            vec!["10,000", "30.0 s", "the first 1 of 10,000"],
        ),
        (
            Page::Cache,
            vec!["7,654,321", "loses at most that second", "/keys?db=3"],
        ),
        (
            Page::Keys,
            vec!["hash", "1 min 1 s", "prefix=user%3Aplain&amp;cursor=99"],
        ),
        (
            Page::Topics,
            vec![
                "76543",
                "2.0 MiB",
                "8 not shown",
                "1,200 more topics",
                "generation 31",
                "543",
                "776 more members",
                "retention.ms=plain",
            ],
        ),
        (
            Page::Services,
            vec!["4,321", "web-1", "critical", "1 min 1 s", "the first 1 of"],
        ),
        (
            Page::Globals,
            vec![
                "was called 31 times",
                "aborting",
                "althing global retry GID",
            ],
        ),
        (
            Page::Calls,
            vec![
                "10.0/s",
                "599",
                "&lt; 1.02 ms",
                "<strong>1</strong>",
                "10.0.0.9:7400",
                "frontplain",
            ],
        ),
        (
            Page::Groups,
            vec![
                "token-ring",
                "peer 2: waiting",
                "not heard",
                "3 wait here",
                "peer 3 in term 4",
            ],
        ),
        (
            Page::Lab,
            vec![
                "/lab/run",
                "max=\"50\"",
                "costs plain",
                "<option value=\"crash\">",
            ],
        ),
        (Page::Tree, vec!["/tree?path=/a/b%20c", "5,000", "czxid"]),
    ];
    for (page, wanted) in cases {
        let html = show(page, "plain");
        for text in wanted {
            assert!(html.contains(text), "{page:?} does not show {text}");
        }
        assert_eq!(Page::at(page.path()), Some(page));
    }
    assert_eq!(Page::at("/nowhere"), None);
}

#[test]
fn node_of_a_lock_shows_who_holds_it_and_who_waits_for_whom() {
    let names = [
        "b__lock__0000000012",
        "a__rlock__0000000011",
        "c__rlock__0000000010",
    ];
    let children = names.map(str::to_owned).to_vec();
    let lock = TreePage {
        children_count: children.len() as u64,
        children,
        ..node("plain")
    };
    let page = |lock: TreePage| {
        let tree = Ok(lock);
        let view = View {
            statuses: &[status("plain")],
            path: "/locks/a",
            tree: Some(&tree),
            ..View::default()
        };
        render(Page::Tree, &view)
    };
    let html = page(lock.clone());
    assert_eq!(html.matches("holds it").count(), 2, "{html}");
    assert_eq!(html.matches("waits for 11").count(), 1, "{html}");
    let beyond = TreePage {
        children_count: 5_000,
        ..lock.clone()
    };
    assert!(page(beyond).contains("more contenders than are shown"));
    let plain = TreePage {
        children: vec!["job-0000000001".into()],
        ..lock
    };
    assert!(!page(plain).contains("holds it"));
}

#[test]
fn hostile_text_is_escaped_on_every_page() {
    for page in Page::all() {
        let html = show(page, HOSTILE);
        assert!(!html.contains("<script>alert"), "{page:?}");
        assert!(!html.contains("alert('x')</script>"), "{page:?}");
        assert!(html.contains("&lt;script&gt;"), "{page:?} dropped the text");
    }
}

#[test]
fn no_page_loads_anything_from_elsewhere() {
    for page in Page::all() {
        let html = show(page, "plain").replace("http://www.w3.org/2000/svg", "");
        assert!(
            !html.contains("http://") && !html.contains("https://"),
            "{page:?}"
        );
        assert!(!html.contains(" src="), "{page:?}");
    }
}

#[test]
fn pages_of_a_node_without_anything_render() {
    for page in Page::all() {
        for statuses in [vec![], vec![Status::default()]] {
            let tree = Err("no such node".to_owned());
            let keys = Err("no such shard".to_owned());
            let topics = Err("no registry".to_owned());
            let view = View {
                statuses: &statuses,
                path: "/",
                tree: Some(&tree),
                keys: Some(&keys),
                topics: Some(&topics),
                ..View::default()
            };
            assert!(render(page, &view).contains("</html>"));
        }
    }
}
