//! What becomes of a member whose disk was damaged while it was down: which replicas are silent at first,
//! which are taken up as they were, which come back as new ones. What a crash tears is cut; what was durable
//! and is damaged silences (decisions 0005 and 0009).

#[allow(dead_code)] // The house serves several tests; each uses its part.
mod house;

use catalog::{META_SHARD, TREE_SHARD};
use coordination::{Acl, CreateMode};
use house::{Disk, House};
use journal::FileId;
use wire_zookeeper::WriteShape;
use wire_zookeeper::client::{Response, request};

type Damage = (&'static str, fn(&mut Disk));

/// The only segment of so young a journal.
fn journal(disk: &mut Disk) -> &mut Vec<u8> {
    let mut segments = disk
        .iter_mut()
        .filter(|(f, _)| matches!(f, FileId::Segment(_)));
    let (_, content) = segments.next().expect("there is one");
    assert!(segments.next().is_none(), "there is one only");
    content
}

fn flip(content: &mut [u8], at: usize) {
    content[at] ^= 1;
}

/// Where these bytes stand last.
fn find(content: &[u8], bytes: &[u8]) -> usize {
    let mut windows = content.windows(bytes.len());
    windows.rposition(|w| w == bytes).expect("it is there")
}

fn snapshot(disk: &mut Disk, shard: base::ShardId) -> &mut Vec<u8> {
    let mut files = disk.iter_mut();
    let is = |f: &FileId| matches!(f, FileId::Snapshot(s, _) if *s == shard);
    files.find(|(f, _)| is(f)).expect("there is one").1
}

const DAMAGES: [Damage; 9] = [
    ("nothing", |_| {}),
    ("the seal at the end is torn", |disk| {
        let content = journal(disk);
        content.truncate(content.len() - 10);
    }),
    (
        "bytes of a write that never was durable stand at the end",
        |disk| {
            journal(disk).extend_from_slice(&[0xa5; 700]);
        },
    ),
    ("a bit of the tree's entry is flipped", |disk| {
        let content = journal(disk);
        let at = find(content, b"a value of the tree");
        flip(content, at);
    }),
    ("a bit of the first header is flipped", |disk| {
        flip(journal(disk), 9)
    }),
    ("the journal is gone", |disk| {
        disk.retain(|file, _| !matches!(file, FileId::Segment(_)));
    }),
    ("a bit of the tree's snapshot is flipped", |disk| {
        let content = snapshot(disk, TREE_SHARD);
        let at = content.len() / 2;
        flip(content, at);
    }),
    ("the meta shard's snapshot is gone", |disk| {
        disk.retain(|file, _| !matches!(file, FileId::Snapshot(s, _) if *s == META_SHARD));
    }),
    ("everything is gone", Disk::clear),
];

/// (shard, replica, role) of the member.
fn replicas(house: &mut House) -> Vec<(String, String, String)> {
    let shards = house.status(2, 0).shards.into_iter();
    // By id: a node whose meta shard is lost does not know the names.
    let name = |id: &str| match id {
        "1" => "meta".to_owned(),
        "2" => "tree".to_owned(),
        _ => "main".to_owned(),
    };
    (shards.map(|s| (name(&s.shard), s.replica, s.role))).collect()
}

fn outcome((name, damage): Damage) -> String {
    let mut house = House::serving(3, 1);
    let (client, _) = house.open(0);
    house.ask(client, |out| {
        let mode = CreateMode::Persistent { sequential: false };
        let (acl, data) = ([Acl::open()], b"a value of the tree");
        request::create(out, 1, "/a", data, &acl, mode, WriteShape::Plain);
    });
    house.heard(client, 1);
    house.run(1_000);
    let (before, node) = (replicas(&mut house), house.machines[2].node);
    house.kill(2);
    damage(&mut house.machines[2].disks[0]);
    house.boot(2);
    house.run(10);
    let at_first = replicas(&mut house);
    house.until_all_serve();
    house.run_until("all shards have three voters again", |h| {
        let shards = h.status(0, 0).shards;
        shards
            .iter()
            .all(|s| s.replicas.len() == 3 && s.replicas.iter().all(|r| r.1 == "voter"))
    });
    house.run(2_000);

    let (client, _) = house.open(2);
    house.ask(client, |out| {
        request::sync(out, 1, "/");
        request::exists(out, 2, "/a", false);
    });
    let heard = house.heard(client, 2);
    assert!(
        matches!(heard[1], Response::Reply { error: 0, .. }),
        "{name}: {heard:?}"
    );

    let after = replicas(&mut house);
    let mut row = format!("{name}: ");
    row += if house.machines[2].node == node {
        "same node"
    } else {
        "another node"
    };
    for (shard, replica, _) in &before {
        let silent = at_first
            .iter()
            .any(|(s, _, role)| s == shard && role == "silent");
        let same = after.iter().any(|(s, r, _)| s == shard && r == replica);
        row += &format!(
            "; {shard} {}{}",
            if silent { "silent, then " } else { "" },
            if same { "as it was" } else { "new" }
        );
    }
    row
}

#[test]
fn damage_while_a_member_is_down_has_the_outcome_of_its_kind() {
    let expected = [
        "nothing: same node; meta as it was; tree as it was; main as it was",
        "the seal at the end is torn: same node; meta as it was; tree as it was; main as it was",
        "bytes of a write that never was durable stand at the end: same node; meta as it was; tree as it was; main as it was",
        "a bit of the tree's entry is flipped: same node; meta as it was; tree silent, then new; main as it was",
        "a bit of the first header is flipped: same node; meta silent, then new; tree silent, then new; main silent, then new",
        "the journal is gone: same node; meta silent, then new; tree silent, then new; main silent, then new",
        "a bit of the tree's snapshot is flipped: same node; meta as it was; tree silent, then new; main as it was",
        "the meta shard's snapshot is gone: same node; meta silent, then new; tree as it was; main as it was",
        "everything is gone: another node; meta new; tree new; main new",
    ];
    let rows: Vec<String> = DAMAGES.into_iter().map(outcome).collect();
    assert_eq!(rows, expected, "{rows:#?}");
}
