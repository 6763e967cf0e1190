//! What goes along a channel from one task to another, and its byte form.

use base::{DecodeError, Reader, Writer};
use std::hash::Hasher;

/// A record on its way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Event {
    /// The key; empty where a record has none.
    pub key: String,
    /// The value.
    pub value: String,
    /// When it was, in milliseconds since 1970.
    pub time_ms: i64,
}

/// One thing on a channel. Channels keep the order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Element {
    /// Records.
    Events(Vec<Event>),
    /// Records that cannot be read, for the side topic.
    Unreadable(Vec<Event>),
    /// How far time has come on this side.
    Time(Time),
    /// All before it belongs to this checkpoint, all behind it does not.
    Barrier(u64),
}

/// How far time has come for one of several sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time {
    /// Nothing that is earlier is expected any more.
    pub watermark_ms: i64,
    /// Nothing came for long: it does not hold the others back.
    pub is_idle: bool,
}

impl Time {
    /// Before anything is known.
    pub const NONE: Self = Self {
        watermark_ms: i64::MIN,
        is_idle: false,
    };

    /// What follows from all sides: the earliest of those that are not idle; where all are, the latest.
    pub fn of(all: impl Iterator<Item = Self>) -> Self {
        let idle = Self {
            is_idle: true,
            ..Self::NONE
        };
        all.fold(idle, |found, side| match (found.is_idle, side.is_idle) {
            (true, false) => side,
            (false, true) => found,
            (false, false) if side.watermark_ms < found.watermark_ms => side,
            (true, true) if side.watermark_ms > found.watermark_ms => side,
            _ => found,
        })
    }
}

/// Which of `tasks` has a key: FNV-1a of it.
pub fn task_of(key: &str, tasks: usize) -> usize {
    let mut hasher = base::map::Fnv::default();
    hasher.write(key.as_bytes());
    let hash = hasher.finish();
    // The low bits of FNV are the product's: fold the high ones in.
    ((hash ^ (hash >> 32)) % tasks.max(1) as u64) as usize
}

impl Event {
    /// Appends its byte form.
    pub fn encode(&self, w: &mut Writer) {
        w.bytes(self.key.as_bytes())
            .bytes(self.value.as_bytes())
            .i64(self.time_ms);
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// Other bytes.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: r.str()?.to_owned(),
            value: r.str()?.to_owned(),
            time_ms: r.i64()?,
        })
    }
}

fn encode_all(w: &mut Writer, all: &[Event]) {
    w.u32(all.len() as u32);
    all.iter().for_each(|event| event.encode(w));
}

fn decode_all(r: &mut Reader<'_>) -> Result<Vec<Event>, DecodeError> {
    let count = r.count(16)?;
    (0..count).map(|_| Event::decode(r)).collect()
}

impl Element {
    /// Its byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Events(all) => encode_all(w.u8(1), all),
            Self::Unreadable(all) => encode_all(w.u8(2), all),
            Self::Time(time) => {
                w.u8(3).i64(time.watermark_ms).bool(time.is_idle);
            }
            Self::Barrier(checkpoint) => {
                w.u8(4).u64(*checkpoint);
            }
        }
        w.into_vec()
    }

    /// Reads what [`Self::encode`] made.
    ///
    /// # Errors
    /// Other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let element = match r.u8()? {
            1 => Self::Events(decode_all(&mut r)?),
            2 => Self::Unreadable(decode_all(&mut r)?),
            3 => Self::Time(Time {
                watermark_ms: r.i64()?,
                is_idle: r.bool()?,
            }),
            4 => Self::Barrier(r.u64()?),
            _ => return Err(DecodeError::Invalid("kind of element")),
        };
        r.finish()?;
        Ok(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_as_they_were_written() {
        let event = Event {
            key: "k".into(),
            value: "ü".into(),
            time_ms: -5,
        };
        for element in [
            Element::Events(vec![event.clone(), Event::default()]),
            Element::Unreadable(vec![event]),
            Element::Time(Time::NONE),
            Element::Time(Time {
                watermark_ms: 5,
                is_idle: true,
            }),
            Element::Barrier(7),
        ] {
            let mut bytes = element.encode();
            assert_eq!(Element::decode(&bytes), Ok(element));
            bytes.push(0);
            assert!(Element::decode(&bytes).is_err());
        }
        assert!(Element::decode(&[1, 255, 255, 255, 255]).is_err());
    }

    #[test]
    fn m16_idle_sides_do_not_hold_time_back() {
        let of = |all: &[(i64, bool)]| {
            let all = all.iter().map(|&(watermark_ms, is_idle)| Time {
                watermark_ms,
                is_idle,
            });
            let found = Time::of(all);
            (found.watermark_ms, found.is_idle)
        };
        assert_eq!(of(&[(5, false), (3, false), (1, true)]), (3, false));
        assert_eq!(of(&[(5, false), (i64::MIN, false)]), (i64::MIN, false));
        assert_eq!(of(&[(5, true), (9, true), (i64::MIN, true)]), (9, true));
        assert_eq!(of(&[]), (i64::MIN, true));
    }

    #[test]
    fn keys_are_spread_over_tasks() {
        for tasks in 1..8 {
            let mut counts = vec![0usize; tasks];
            (0..8000).for_each(|n| counts[task_of(&format!("key{n}"), tasks)] += 1);
            let fair = 8000 / tasks;
            assert!(
                counts.iter().all(|c| c.abs_diff(fair) < fair / 5),
                "{counts:?}"
            );
        }
    }
}
