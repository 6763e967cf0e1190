//! What people are told of files.

use crate::admin::FilesStatus;
use crate::core::Core;
use crate::files::views;
use catalog::TREE_SHARD;

/// Chunks with faults that are shown.
const FAULTS_SHOWN: usize = 100;

impl Core {
    pub(super) fn files_status(&self) -> Option<FilesStatus> {
        let files = &(self.replicas.get(TREE_SHARD)?.machine().data()?).files;
        if files.counts() == (0, 0, 0) {
            return None;
        }
        let views = views(&self.catalog, &self.peers, &self.space);
        let health = files.health(&views, FAULTS_SHOWN);
        let server = |(node, view): (&base::NodeId, &storage::files::NodeView)| {
            let address = self.peers.chunks_address(*node)?.clone();
            let id = format!("{:x}", node.0);
            let held = files.held_by(*node) as u64;
            Some((id, address, view.is_heard(), view.has_room, held))
        };
        let fault = |fault: storage::files::Fault| {
            let (good, wanted) = (fault.good.len() as u64, u64::from(fault.wanted));
            (fault.path, fault.chunk.to_string(), good, wanted)
        };
        Some(FilesStatus {
            files: health.files,
            directories: health.directories,
            chunks: health.chunks,
            writers: health.writers,
            missing: health.missing,
            unreachable: health.unreachable,
            short: health.short,
            corrupt: health.corrupt,
            making: health.making,
            servers: views.iter().filter_map(server).collect(),
            faults: health.faults.into_iter().map(fault).collect(),
        })
    }
}
