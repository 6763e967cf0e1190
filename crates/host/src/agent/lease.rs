//! Until when this agent cannot have been declared lost, on the machine's clock since it was started, which all
//! processes share: a file that the supervisors of tasks read.

use super::write_whole;
use crate::log;
use std::fs;
use std::path::{Path, PathBuf};

const FILE: &str = "lease";

/// The agent's side.
pub struct Lease {
    path: PathBuf,
    /// What a heard beat is worth: less than the whole, for a supervisor's look and a leader's change.
    worth_ms: u64,
}

impl Lease {
    pub fn new(directory: &Path, lease_ms: u32) -> Self {
        Self {
            path: directory.join(FILE),
            worth_ms: u64::from(lease_ms) * 3 / 4,
        }
    }

    /// Milliseconds since the machine was started.
    pub fn now_ms(&self) -> u64 {
        now_ms()
    }

    /// A beat that was sent then was heard.
    pub fn renew(&self, sent_ms: u64) {
        let until = (sent_ms + self.worth_ms).to_string();
        if let Err(error) = write_whole(&self.path, until.as_bytes()) {
            log::warn(format!(
                "cannot write {}: {error}; tasks that stop without their agent will stop",
                self.path.display()
            ));
        }
    }
}

/// True when the lease of the agent of this directory is over.
pub fn is_over(directory: &Path) -> bool {
    let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
    let until_ms: u64 = text.trim().parse().unwrap_or(0);
    now_ms() >= until_ms
}

/// Counted through suspension, too.
fn now_ms() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime
        .split_whitespace()
        .next()
        .and_then(|s| s.parse().ok());
    let seconds: f64 = seconds.unwrap_or(0.0);
    (seconds * 1_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_is_over_before_the_first_beat_and_after_its_time_and_not_between() {
        let directory = std::env::temp_dir().join(format!("althing-lease-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert!(is_over(&directory));
        let lease = Lease::new(&directory, 4_000_000);
        lease.renew(lease.now_ms());
        assert!(!is_over(&directory));
        let short = Lease::new(&directory, 4);
        short.renew(short.now_ms().saturating_sub(3));
        assert!(is_over(&directory), "three quarters are over");
        fs::remove_dir_all(&directory).unwrap();
    }
}
