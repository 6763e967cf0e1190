//! Measures the room on the disks of the data directory and tells the cores.

use crate::directory::Directory;
use crate::log;
use crate::mail::{Mail, Mailbox};
use base::LaneId;
use node::DiskSpace;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(2);

/// The measuring thread. Dropping it ends the thread.
pub struct SpaceGuard {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SpaceGuard {
    /// Measures now and then every two seconds. `least_percent`: see [`is_low`].
    pub fn start(
        directory: &Directory,
        least_percent: u8,
        cores: Vec<Mailbox>,
    ) -> io::Result<Self> {
        let folders: Vec<PathBuf> = (0..directory.lanes())
            .map(|lane| directory.folder(LaneId(lane)))
            .collect();
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("space".into())
            .spawn(move || {
                let mut low = false;
                loop {
                    if let Some((space, folder)) = measure(&folders, low, least_percent) {
                        if space.low != low {
                            low = space.low;
                            tell(&space, folder, least_percent);
                        }
                        for core in &cores {
                            core.send(Mail::DiskSpace(space));
                        }
                    }
                    match stopped.recv_timeout(INTERVAL) {
                        Err(RecvTimeoutError::Timeout) => {}
                        _ => return,
                    }
                }
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for SpaceGuard {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The room in the fullest of the folders. A folder that cannot be asked counts for nothing: what is
/// wrong with it shows when it is written to.
fn measure(folders: &[PathBuf], low: bool, least_percent: u8) -> Option<(DiskSpace, &PathBuf)> {
    let spaces = folders.iter().filter_map(|folder| {
        let found = rustix::fs::statvfs(folder).ok()?;
        // As `df` counts: what is kept for the super user is neither used nor free.
        let used = found.f_blocks.saturating_sub(found.f_bfree);
        let total = used.saturating_add(found.f_bavail);
        let space = DiskSpace {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_bytes: total.saturating_mul(found.f_frsize),
            low: false,
        };
        // Some file systems do not say how large they are.
        (total > 0).then_some((space, folder))
    });
    let (mut space, folder) = spaces.min_by_key(|(space, _)| permille(space))?;
    space.low = is_low(&space, low, least_percent);
    Some((space, folder))
}

fn permille(space: &DiskSpace) -> u64 {
    let free = u128::from(space.free_bytes) * 1_000;
    (free / u128::from(space.total_bytes.max(1))) as u64
}

/// Low below `least_percent` of free room, and until there is one percent more; never when it is 0.
fn is_low(space: &DiskSpace, was_low: bool, least_percent: u8) -> bool {
    let least = u64::from(least_percent) * 10;
    least > 0 && permille(space) < least + if was_low { 10 } else { 0 }
}

fn tell(space: &DiskSpace, folder: &Path, least_percent: u8) {
    let free = format!(
        "{} MiB of {} MiB are free under {}",
        space.free_bytes >> 20,
        space.total_bytes >> 20,
        folder.display()
    );
    if space.low {
        log::warn(format!(
            "the disk is nearly full: {free}, the least is {least_percent} % (`disk_free_min_percent`). Make room: until then data are not added"
        ));
    } else {
        log::info(format!("there is room on disk again: {free}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_is_low_below_the_least_and_until_there_is_one_percent_more() {
        let space = |free_bytes| DiskSpace {
            free_bytes,
            total_bytes: 1_000,
            low: false,
        };
        for (free, was_low, low) in [
            (50, false, false),
            (49, false, true),
            (50, true, true),
            (59, true, true),
            (60, true, false),
        ] {
            assert_eq!(is_low(&space(free), was_low, 5), low, "{free} {was_low}");
        }
        assert!(!is_low(&space(0), false, 0) && !is_low(&space(0), true, 0));
        assert!(is_low(&space(999), false, 100) && is_low(&space(1_000), true, 100));
    }

    #[test]
    fn fullest_disk_counts_and_one_that_cannot_be_asked_does_not() {
        let (here, nowhere) = (std::env::temp_dir(), PathBuf::from("/nowhere"));
        let folders = [nowhere.clone(), here.clone()];
        let (space, folder) = measure(&folders, false, 0).unwrap();
        assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
        assert_eq!((space.low, folder), (false, &here));
        assert!(measure(&[nowhere], false, 5).is_none());
    }
}
