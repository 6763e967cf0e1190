//! The process's limit on open files.

use crate::log;

/// Raises the soft limit to the hard one, and says when that is too little for `clients_max`.
/// Returns how many client connections the limit leaves room for.
pub fn raise_open_files(clients_max: usize) -> usize {
    // Room for segments, snapshots, peers, HTTP and the standard streams.
    const RESERVED: u64 = 256;
    let limit = raise().unwrap_or(1_024);
    let room = limit.saturating_sub(RESERVED).max(16) as usize;
    // Fewer than anybody expects to reach unnoticed.
    const FEW: usize = 10_000;
    if room < clients_max.min(FEW) {
        log::warn(format!(
            "this process may open {limit} files, so at most {room} clients are accepted; raise the hard limit (ulimit -Hn) for {clients_max}"
        ));
    }
    room.min(clients_max)
}

// The standard library has no call for resource limits; both calls get a pointer to a local value.
#[allow(unsafe_code)]
fn raise() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid, writable rlimit for the whole call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return None;
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit for the whole call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Some(before);
    }
    Some(limit.rlim_cur)
}
