//! When keys end.

use super::super::Reply;
use super::super::args::{flag, integer, is};
use super::super::context::{Answer, Edit, View};
use super::super::entry::NEVER_MS;
use bytes::Bytes;

/// How a time is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    unit_ms: i64,
    /// From 1970 on, not from now on.
    is_absolute: bool,
}

impl Clock {
    /// Seconds from now.
    pub const SECONDS: Self = Self {
        unit_ms: 1000,
        is_absolute: false,
    };
    /// Milliseconds from now.
    pub const MILLISECONDS: Self = Self {
        unit_ms: 1,
        is_absolute: false,
    };
    /// Seconds since 1970.
    pub const SECONDS_AT: Self = Self {
        unit_ms: 1000,
        is_absolute: true,
    };
    /// Milliseconds since 1970.
    pub const MILLISECONDS_AT: Self = Self {
        unit_ms: 1,
        is_absolute: true,
    };
}

/// The time that is meant, if there is such a time.
pub fn deadline(now_ms: i64, clock: Clock, value: i64) -> Option<i64> {
    let value_ms = value.checked_mul(clock.unit_ms)?;
    let start_ms = if clock.is_absolute { 0 } else { now_ms };
    let ends_ms = start_ms.checked_add(value_ms)?;
    (ends_ms != NEVER_MS).then_some(ends_ms)
}

/// The refusal of a time.
pub fn invalid(name: &str) -> Reply {
    Reply::Error(format!("ERR invalid expire time in '{name}' command").into())
}

/// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT key time [NX | XX | GT | LT]
pub fn expire(edit: &mut Edit<'_>, args: &[Bytes], name: &str, clock: Clock) -> Answer {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in &args[2..] {
        match option {
            option if is(option, "nx") => nx = true,
            option if is(option, "xx") => xx = true,
            option if is(option, "gt") => gt = true,
            option if is(option, "lt") => lt = true,
            option => {
                let option = String::from_utf8_lossy(option);
                let text = format!("ERR Unsupported option {option}");
                return Err(Reply::Error(text.into()));
            }
        }
    }
    if nx && (xx || gt || lt) {
        return Err(Reply::error(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if gt && lt {
        return Err(Reply::error(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    let value = integer(&args[1])?;
    let ends_ms = deadline(edit.now_ms(), clock, value).ok_or_else(|| invalid(name))?;
    let Some(old_ms) = edit.view().entry(&args[0]).map(|entry| entry.ends_ms) else {
        return flag(false);
    };
    let ends = old_ms != NEVER_MS;
    // A key without an end ends later than any other.
    if nx && ends || xx && !ends || gt && ends_ms <= old_ms || lt && ends_ms >= old_ms {
        return flag(false);
    }
    match ends_ms <= edit.now_ms() {
        true => drop(edit.remove(&args[0])),
        false => edit.end_at(&args[0], ends_ms),
    }
    flag(true)
}

/// TTL, PTTL, EXPIRETIME, PEXPIRETIME key
pub fn ending(view: View<'_>, args: &[Bytes], clock: Clock) -> Answer {
    let Some(entry) = view.entry(&args[0]) else {
        return Ok(Reply::Integer(-2));
    };
    if entry.ends_ms == NEVER_MS {
        return Ok(Reply::Integer(-1));
    }
    let value = match clock {
        Clock::MILLISECONDS_AT => entry.ends_ms,
        Clock::SECONDS_AT => entry.ends_ms / 1000,
        // To the nearest second.
        Clock::SECONDS => (entry.ends_ms - view.now_ms).saturating_add(500) / 1000,
        _ => entry.ends_ms - view.now_ms,
    };
    Ok(Reply::Integer(value))
}

/// PERSIST key
pub fn persist(edit: &mut Edit<'_>, args: &[Bytes]) -> Answer {
    let entry = edit.view().entry(&args[0]);
    let ends = entry.is_some_and(|entry| entry.ends_ms != NEVER_MS);
    if ends {
        edit.end_at(&args[0], NEVER_MS);
    }
    flag(ends)
}
