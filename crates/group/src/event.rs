//! What a member of a group writes down: what was asked of it and what it decided, a JSON object a line. Stamps are
//! of a hybrid clock that every message of the group carries: whatever could have caused an event has a smaller
//! one, however far apart the nodes' wall clocks are.

use base::peer::PeerId;
use cluster::clocks::logical::Hybrid;
use serde::{Deserialize, Serialize};

/// Something that happened at a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970: the latest wall clock that the member had heard of.
    pub ms: i64,
    /// Counts events within a millisecond.
    pub n: u32,
    /// Whose.
    pub peer: PeerId,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// Kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// The peer started. What it was before is over: it may have died at any moment since its last event.
    Started,
    /// Its user wants to enter.
    Acquire,
    /// It is inside.
    Entered,
    /// It is still inside; written once a second.
    Inside,
    /// It leaves.
    Release,
    /// It follows this leader, or leads.
    Leader {
        /// Who leads.
        leader: PeerId,
        /// In which term; 0 in algorithms without terms.
        term: u64,
    },
    /// It follows nobody.
    Leaderless,
    /// Its user wants this value in the log.
    Asked {
        /// The value.
        value: u64,
    },
    /// This value has this place for good, as far as the protocol promises.
    Decided {
        /// From 1 on.
        position: u64,
        /// The value.
        value: u64,
    },
    /// The protocol cannot work among so few.
    Refused,
    /// The log was read: all that is to come has a greater stamp. Last of what is read; never written.
    Read,
}

impl Event {
    /// An event of `peer` at this moment.
    pub fn new(at: Hybrid, peer: PeerId, what: What) -> Self {
        Self {
            ms: at.wall_ms,
            n: at.count,
            peer,
            what,
        }
    }

    /// The order of events: no effect comes before its cause.
    pub fn order(&self) -> (i64, u32, PeerId) {
        (self.ms, self.n, self.peer)
    }

    /// The line of a log, with its end.
    pub fn line(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// Reads a log. A last line that was cut off by a crash is passed over.
    ///
    /// # Errors
    /// The number of the first other line that is none, and what is wrong with it.
    pub fn read(log: &str) -> Result<Vec<Self>, String> {
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let lines = whole.lines().enumerate();
        lines
            .map(|(i, line)| {
                serde_json::from_str(line).map_err(|why| format!("line {}: {why}", i + 1))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_cut_in_its_last_line_is_read_up_to_there() {
        let at = |count| Hybrid { wall_ms: 7, count };
        let events = [
            Event::new(at(0), 1, What::Started),
            Event::new(at(1), 1, What::Leader { leader: 2, term: 3 }),
            Event::new(at(2), 1, What::Entered),
        ];
        let log: String = events.iter().map(Event::line).collect();
        assert_eq!(
            log.lines().nth(1),
            Some(r#"{"ms":7,"n":1,"peer":1,"what":"leader","leader":2,"term":3}"#)
        );
        assert_eq!(Event::read(&log).as_deref(), Ok(&events[..]));
        assert_eq!(
            Event::read(&log[..log.len() - 1]).as_deref(),
            Ok(&events[..2])
        );
        let broken = format!("{log}x\n");
        assert!(Event::read(&broken).unwrap_err().starts_with("line 4"));
    }
}
