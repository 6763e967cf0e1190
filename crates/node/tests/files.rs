//! Files on whole cores: names through the log, leases and copies by whoever leads. The disks of the chunk
//! servers are sets in memory here; what is done to them is what the cores say.

#[allow(dead_code)] // The house serves several tests; each uses its part.
mod house;

use base::NodeId;
use house::House;
use node::{Call, CallReply, FilesAnswer, FilesQuery};
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::files::{
    ChunkId, ChunkPlace, Command, CopyChange, CopyState, NewChunk, Refusal, Reply, Sight, WriteMode,
};

type Disks = Vec<BTreeSet<(ChunkId, u32)>>;

fn change(house: &mut House, m: usize, command: Command) -> Result<Reply, Refusal> {
    match house.called(m, Call::ChangeFiles(command)) {
        CallReply::FilesChanged(reply) => reply,
        other => panic!("not changed: {other:?}"),
    }
}

fn ask(house: &mut House, m: usize, query: FilesQuery) -> FilesAnswer {
    match house.called(m, Call::ReadFiles(query)) {
        CallReply::Files(answer) => *answer,
        other => panic!("no answer: {other:?}"),
    }
}

fn begin(house: &mut House, m: usize, holder: u64) -> Result<Reply, Refusal> {
    let begin = Command::Begin {
        path: "/d/f".into(),
        mode: WriteMode::Replace,
        holder,
        copies: 3,
        lease_ms: 2_000,
    };
    change(house, m, begin)
}

/// Writes one chunk to the disks of `on` and commits it.
fn commit(
    house: &mut House,
    disks: &mut Disks,
    m: usize,
    id: ChunkId,
    on: &[usize],
) -> Result<Reply, Refusal> {
    for n in on {
        disks[*n].insert((id, 1));
    }
    let new = NewChunk {
        generation: 1,
        length: 8,
        checksum: 5,
        copies: on.iter().map(|n| house.machines[*n].node).collect(),
    };
    change(house, m, Command::Commit { chunk: id, new })
}

fn put(house: &mut House, disks: &mut Disks, m: usize, on: &[usize]) -> ChunkId {
    let Ok(Reply::Begun { write, .. }) = begin(house, m, 9) else {
        panic!("it begins");
    };
    let id = ChunkId { write, number: 0 };
    assert_eq!(commit(house, disks, m, id, on), Ok(Reply::Done));
    assert_eq!(change(house, m, Command::Close { write }), Ok(Reply::Done));
    id
}

fn places(house: &mut House, m: usize) -> Vec<ChunkPlace> {
    let query = FilesQuery::Locate {
        path: "/d/f".into(),
        offset: 0,
        length: u64::MAX,
    };
    match ask(house, m, query) {
        FilesAnswer::Located { located, .. } => located.expect("it is there").1,
        other => panic!("no places: {other:?}"),
    }
}

fn good(place: &ChunkPlace) -> BTreeSet<NodeId> {
    let good = place
        .copies
        .iter()
        .filter(|(_, state)| *state == CopyState::Good);
    good.map(|(node, _)| *node).collect()
}

/// What the chunk server of each of these does in a while.
fn keep(house: &mut House, disks: &mut Disks, up: &[usize]) {
    for _ in 0..8 {
        house.run(700);
        for &m in up {
            let query = FilesQuery::Duties {
                inventory: Arc::new(disks[m].clone()),
                count_max: 10,
            };
            let FilesAnswer::Duties { duties, .. } = ask(house, m, query) else {
                panic!("no duties");
            };
            let node = house.machines[m].node;
            for key in duties.remove {
                disks[m].remove(&key);
            }
            let mut changes = Vec::new();
            for (chunk, _) in duties.lost {
                changes.push(CopyChange::Lost { chunk, node });
            }
            for place in duties.make {
                let (chunk, generation) = (place.id, place.generation);
                disks[m].insert((chunk, generation));
                changes.push(CopyChange::Made {
                    chunk,
                    generation,
                    node,
                });
            }
            if !changes.is_empty() {
                let _ = change(house, m, Command::Copies { changes });
            }
        }
    }
}

fn nodes(house: &House, of: &[usize]) -> BTreeSet<NodeId> {
    of.iter().map(|m| house.machines[*m].node).collect()
}

#[test]
fn file_closed_on_one_node_is_read_on_all_and_outlives_a_restart_of_all() {
    let mut house = House::serving(3, 1);
    let mut disks = vec![BTreeSet::new(); 3];
    let id = put(&mut house, &mut disks, 1, &[0, 1, 2]);
    for m in 0..3 {
        let places = places(&mut house, m);
        assert_eq!(places.len(), 1);
        assert_eq!(
            (places[0].id, good(&places[0])),
            (id, nodes(&house, &[0, 1, 2]))
        );
    }
    (0..3).for_each(|m| house.kill(m));
    (0..3).for_each(|m| house.boot(m));
    house.until_all_serve();
    assert_eq!(places(&mut house, 2)[0].id, id);
    house.run(1_000);
    let FilesAnswer::Servers(servers) = ask(&mut house, 0, FilesQuery::Servers) else {
        panic!("no servers");
    };
    let able = servers
        .iter()
        .filter(|s| s.sight == Sight::Up && s.has_room && s.held == 1);
    assert_eq!(able.count(), 3, "{servers:?}");
}

#[test]
fn what_a_dead_node_had_is_copied_and_dropped_again_when_it_comes_back() {
    let mut house = House::serving(4, 1);
    let mut disks = vec![BTreeSet::new(); 4];
    let id = put(&mut house, &mut disks, 0, &[0, 1, 2]);
    house.kill(2);
    keep(&mut house, &mut disks, &[0, 1, 3]);
    let place = places(&mut house, 0).remove(0);
    assert!(
        good(&place).is_superset(&nodes(&house, &[0, 1, 3])),
        "{place:?}"
    );
    assert!(disks[3].contains(&(id, 1)));
    house.boot(2);
    house.until_all_serve();
    keep(&mut house, &mut disks, &[0, 1, 2, 3]);
    keep(&mut house, &mut disks, &[0, 1, 2, 3]);
    let place = places(&mut house, 0).remove(0);
    let held = disks.iter().filter(|disk| disk.contains(&(id, 1))).count();
    assert_eq!(
        (good(&place).len(), place.copies.len(), held),
        (3, 3, 3),
        "{place:?}"
    );
}

#[test]
fn restart_of_a_node_moves_nothing() {
    let mut house = House::serving(4, 1);
    let mut disks = vec![BTreeSet::new(); 4];
    put(&mut house, &mut disks, 0, &[0, 1, 2]);
    house.kill(2);
    house.run(3_000);
    house.boot(2);
    house.until_all_serve();
    keep(&mut house, &mut disks, &[0, 1, 2, 3]);
    let place = places(&mut house, 0).remove(0);
    assert_eq!(good(&place), nodes(&house, &[0, 1, 2]));
    assert!(disks[3].is_empty());
}

#[test]
fn corrupt_copy_is_made_anew_from_a_good_one() {
    let mut house = House::serving(3, 1);
    let mut disks = vec![BTreeSet::new(); 3];
    let chunk = put(&mut house, &mut disks, 0, &[0, 1, 2]);
    let node = house.machines[1].node;
    let generation = 1;
    let changes = vec![CopyChange::Corrupt {
        chunk,
        generation,
        node,
    }];
    let reply = change(&mut house, 2, Command::Copies { changes });
    assert_eq!(reply, Ok(Reply::Changed { count: 1 }));
    disks[1].clear();
    keep(&mut house, &mut disks, &[0, 1, 2]);
    let place = places(&mut house, 0).remove(0);
    assert_eq!(good(&place), nodes(&house, &[0, 1, 2]));
    assert!(disks[1].contains(&(chunk, 1)));
}

#[test]
fn lease_of_a_silent_writer_ends_under_any_leader_and_its_chunks_go() {
    let mut house = House::serving(3, 1);
    let mut disks = vec![BTreeSet::new(); 3];
    let Ok(Reply::Begun { write, .. }) = begin(&mut house, 1, 7) else {
        panic!("it begins");
    };
    let id = ChunkId { write, number: 0 };
    commit(&mut house, &mut disks, 1, id, &[0, 1, 2]).expect("its lease holds");
    assert_eq!(begin(&mut house, 2, 8), Err(Refusal::BeingWritten));
    house.kill(0);
    keep(&mut house, &mut disks, &[1, 2]);
    let late = commit(
        &mut house,
        &mut disks,
        1,
        ChunkId { write, number: 1 },
        &[1, 2],
    );
    assert_eq!(late, Err(Refusal::NoSuchWrite));
    assert_eq!(
        change(&mut house, 1, Command::Close { write }),
        Err(Refusal::NoSuchWrite)
    );
    assert!(matches!(begin(&mut house, 2, 8), Ok(Reply::Begun { .. })));
    keep(&mut house, &mut disks, &[1, 2]);
    assert!(disks[1].is_empty() && disks[2].is_empty(), "{disks:?}");
}

#[test]
fn removed_file_is_swept_from_every_disk() {
    let mut house = House::serving(3, 1);
    let mut disks = vec![BTreeSet::new(); 3];
    put(&mut house, &mut disks, 0, &[0, 1, 2]);
    let delete = Command::Delete {
        path: "/d".into(),
        recursive: true,
    };
    assert_eq!(change(&mut house, 2, delete), Ok(Reply::Done));
    keep(&mut house, &mut disks, &[0, 1, 2]);
    assert!(disks.iter().all(BTreeSet::is_empty), "{disks:?}");
    let status = house.status(0, 0);
    assert_eq!(status.files, None, "nothing is left of it");
}
