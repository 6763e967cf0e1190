//! What units read or change, as far as a transaction may hold it: keys, partitions, nodes of the tree.

use super::work::op_paths;
use crate::machine::{Chapter, DataUnit};
use bytes::Bytes;
use coordination::TreeOp;
use messaging::PartitionId;
use storage::cache::{Access, Body, Command, CommandId};
use transactions::{Resource, Touch};

/// A key of the cache.
pub fn key_resource(database: u32, key: &[u8]) -> Resource {
    named(Chapter::Cache, &database.to_be_bytes(), key)
}

/// A partition of a topic.
pub fn partition_resource(id: PartitionId) -> Resource {
    named(
        Chapter::Topics,
        &id.topic.0.to_be_bytes(),
        &id.index.to_be_bytes(),
    )
}

/// A node of the tree, or the place where none is.
pub fn path_resource(path: &str) -> Resource {
    named(Chapter::Coordination, path.as_bytes(), b"")
}

fn named(chapter: Chapter, name: &[u8], rest: &[u8]) -> Resource {
    Resource([&[chapter as u8], name, rest].concat())
}

fn all_of(chapter: Chapter) -> Touch {
    Touch::All(Resource(vec![chapter as u8]))
}

/// The path of a node's parent; the root's own for the root.
pub fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

/// What a unit touches. `None`: it never waits, whatever is held.
pub fn touches(unit: &DataUnit) -> Option<Vec<Touch>> {
    let mut all = Vec::new();
    match unit {
        DataUnit::Coordination(unit) => match &unit.command {
            // A session that begins or moves has nothing before it.
            coordination::Command::OpenSession { .. }
            | coordination::Command::AttachSession { .. } => return None,
            // What it owned goes with it.
            coordination::Command::CloseSession | coordination::Command::ExpireSession { .. } => {
                all.push(all_of(Chapter::Coordination));
            }
            coordination::Command::Write(op) => of_op(op, &mut all),
            coordination::Command::Multi(ops) => ops.iter().for_each(|op| of_op(op, &mut all)),
            coordination::Command::Reap { path, .. } => {
                all.push(Touch::One(path_resource(path)));
                all.push(Touch::One(path_resource(parent_of(path))));
            }
        },
        DataUnit::Cache(unit) => match &unit.body {
            Body::One(command) => of_command(unit.database, command, &mut all),
            Body::Exec { watched, commands } => {
                let watched = watched.iter().map(|w| key_resource(w.database, &w.key));
                all.extend(watched.map(Touch::One));
                for command in commands {
                    of_command(unit.database, command, &mut all);
                }
            }
            // Each key is looked at for itself, see `keep_held`.
            Body::Expire(_) => return None,
        },
        DataUnit::Topics(unit) => {
            use messaging::Command::{Append, DropPartition, OpenPartition, Trim};
            match &unit.command {
                Append { partition, .. }
                | DropPartition { partition }
                | OpenPartition { partition, .. }
                | Trim { partition, .. } => all.push(Touch::One(partition_resource(*partition))),
                _ => {}
            }
        }
        DataUnit::Registry(_)
        | DataUnit::Services(_)
        | DataUnit::Files(_)
        | DataUnit::Scheduling(_)
        | DataUnit::Globals(_) => {}
        DataUnit::Transactions(unit) => {
            all.extend(unit.resources()?.into_iter().map(Touch::One));
        }
    }
    Some(all)
}

fn of_op(op: &TreeOp, all: &mut Vec<Touch>) {
    all.extend(op_paths(op).map(|path| Touch::One(path_resource(path))));
}

fn of_command(database: u32, command: &Command, all: &mut Vec<Touch>) {
    let before = all.len();
    let keys: Vec<&Bytes> = command.keys().collect();
    all.extend(
        keys.iter()
            .map(|key| Touch::One(key_resource(database, key))),
    );
    let reaches_further = match command.id {
        CommandId::Move | CommandId::Copy | CommandId::Sort => true,
        id => all.len() == before && id.spec().access == Access::Write,
    };
    if reaches_further {
        all.push(all_of(Chapter::Cache));
    }
}
