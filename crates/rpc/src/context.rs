//! What goes along with a call: its id, who calls, how long it may take, and what became of it.

use hyper::HeaderMap;
use hyper::header::HeaderValue;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::{Code, Status};

/// Metadata: the id of a call, the same for all its attempts, and no other call's.
pub const CALL_ID: &str = "althing-call-id";
/// Metadata: which attempt of its call this is, from 1.
pub const CALL_ATTEMPT: &str = "althing-call-attempt";
/// Metadata: the name of the process that calls.
pub const CALLER: &str = "althing-caller";
/// Metadata of a status that the channel made.
const FATE: &str = "althing-call-fate";
/// gRPC's header of the time that is left.
const TIMEOUT: &str = "grpc-timeout";

/// What became of a call that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The provider answered with this error.
    Answered,
    /// Surely not carried out.
    NotSent,
    /// It may have been carried out.
    Unknown,
}

/// What is known of a call that ended with `status`.
pub fn fate(status: &Status) -> Fate {
    match status.metadata().get(FATE).map(|value| value.as_bytes()) {
        Some(b"not-sent") => Fate::NotSent,
        Some(b"unknown") => Fate::Unknown,
        // `tonic` ends a call whose time is over with this one, and the provider does, too.
        _ if status.code() == Code::DeadlineExceeded => Fate::Unknown,
        _ => Fate::Answered,
    }
}

/// A status that says what became of its call.
pub(crate) fn status(code: Code, fate: Fate, message: String) -> Status {
    let mut status = Status::new(code, message);
    let word = match fate {
        Fate::Answered => return status,
        Fate::NotSent => "not-sent",
        Fate::Unknown => "unknown",
    };
    let value = tonic::metadata::MetadataValue::from_static(word);
    status.metadata_mut().insert(FATE, value);
    status
}

/// 64 bits that differ between processes and moments.
pub(crate) fn draw() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// An id that no other call has.
pub(crate) fn new_id() -> HeaderValue {
    static RUN: LazyLock<u64> = LazyLock::new(draw);
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:016x}-{count:x}", *RUN);
    HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

tokio::task_local! {
    /// The deadline of the call that is being served.
    pub(crate) static DEADLINE: Option<Instant>;
}

/// The deadline of the call that is being served here, if any.
pub(crate) fn inherited() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok().flatten()
}

/// When a request's time is over, as its header says; what cannot be read says nothing.
pub(crate) fn read_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Says in a request's header what time is left. gRPC allows eight digits.
pub(crate) fn write_timeout(headers: &mut HeaderMap, left: Duration) {
    let most = 99_999_999;
    let text = match (left.as_micros(), left.as_millis()) {
        (us, _) if us <= most => format!("{us}u"),
        (_, ms) if ms <= most => format!("{ms}m"),
        _ => format!("{}S", left.as_secs().min(most as u64)),
    };
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(TIMEOUT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_read_as_it_was_written() {
        for left in [
            Duration::ZERO,
            Duration::from_micros(1),
            Duration::from_millis(2_500),
            Duration::from_secs(300),
            Duration::from_secs(1_000_000),
        ] {
            let mut headers = HeaderMap::new();
            write_timeout(&mut headers, left);
            assert_eq!(read_timeout(&headers), Some(left));
        }
        for text in ["", "5", "S", "-1S", "1x", "123456789S", "1 S", "é"] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            headers.insert(TIMEOUT, value);
            assert_eq!(read_timeout(&headers), None, "{text}");
        }
    }

    #[test]
    fn ids_differ() {
        assert_ne!(new_id(), new_id());
    }
}
