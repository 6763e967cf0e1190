//! Commands as a part of a transaction: tried first, carried out later.
//!
//! A command alone changes nothing when it is refused; of several, those before the refused one have changed
//! something. So they are tried on copies of the keys that they name, in a cache of their own. The alternative,
//! undo records, would have to take back what a snapshot under way has already written. The cost: values that a
//! transaction touches are copied once, and its commands run twice.

use super::command::{CommandId, KeyRange};
use super::context::{Edit, View};
use super::database::{Change, Place};
use super::machine::{Cache, DATABASES, NO_DATABASE, run};
use super::{Command, Output, Reply};
use base::{Rng, Stamp};
use bytes::Bytes;

/// A command and the number of its database.
pub type Step<'a> = (u32, &'a Command);

/// What must hold of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyCondition {
    /// It is there.
    Exists,
    /// It is not there.
    Missing,
    /// It is a string of these bytes.
    Equals(Bytes),
    /// Its version ([`Cache::version`]) is this.
    Version(u64),
}

/// Why a command cannot be a part of a transaction, if it cannot: it must name all that it reads or changes,
/// and not wait.
pub fn may_join(database: u32, command: &Command) -> Result<(), Reply> {
    command.check()?;
    if database >= DATABASES {
        return Err(NO_DATABASE);
    }
    let spec = command.id.spec();
    let names_all = match command.id {
        CommandId::Move | CommandId::Sort | CommandId::SortRo => false,
        CommandId::Copy => !command.args[2..]
            .iter()
            .any(|a| a.eq_ignore_ascii_case(b"db")),
        _ => spec.keys != KeyRange::None && command.keys().next().is_some(),
    };
    if names_all && !spec.is_blocking {
        return Ok(());
    }
    let text = format!(
        "ERR '{}' cannot be part of a transaction over chapters: it waits, or reaches keys that it does not name",
        spec.name
    );
    Err(Reply::Error(text.into()))
}

impl Cache {
    /// The machine's clock once a unit of this stamp is applied, milliseconds since 1970.
    pub fn clock_at(&self, stamp: Stamp) -> i64 {
        self.time_ms().max(stamp.time_ms)
    }

    /// Whether a condition holds at `now_ms`.
    pub fn holds(&self, now_ms: i64, database: u32, key: &[u8], condition: &KeyCondition) -> bool {
        if database >= DATABASES {
            return false;
        }
        let view = View::new(self, database, now_ms, 0);
        match condition {
            KeyCondition::Exists => view.entry(key).is_some(),
            KeyCondition::Missing => view.entry(key).is_none(),
            KeyCondition::Equals(bytes) => view.string(key) == Ok(Some(bytes)),
            KeyCondition::Version(version) => self.version(database, key) == *version,
        }
    }

    /// Whether commands would be refused if they were carried out one after the other with this stamp: the place
    /// and the refusal of the first that is. Changes nothing here; `scratch` is an empty cache, and is empty
    /// again afterwards.
    pub fn attempt(
        &self,
        stamp: Stamp,
        steps: &[Step<'_>],
        scratch: &mut Cache,
    ) -> Result<(), (usize, Reply)> {
        for (at, (database, command)) in steps.iter().enumerate() {
            may_join(*database, command).map_err(|refusal| (at, refusal))?;
        }
        scratch.begin_scratch(self, stamp);
        for (database, command) in steps {
            for key in command.keys() {
                scratch.borrow_entry(self, *database, key);
            }
        }
        let mut outputs = Vec::new();
        let replies = scratch.run_steps(stamp, steps, 1, &mut outputs);
        for (database, command) in steps {
            for key in command.keys() {
                scratch.drop_entry(*database, key);
            }
        }
        match replies.into_iter().enumerate().find(|(_, r)| r.is_error()) {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    /// Carries commands out, as one unit. After [`Self::attempt`] with the same stamp and the same keys, none is
    /// refused.
    pub fn carry_out(
        &mut self,
        stamp: Stamp,
        steps: &[Step<'_>],
        out: &mut Vec<Output>,
    ) -> Vec<Reply> {
        self.advance(stamp);
        let revision = self.revision() + 1;
        self.run_steps(stamp, steps, revision, out)
    }

    fn run_steps(
        &mut self,
        stamp: Stamp,
        steps: &[Step<'_>],
        revision: u64,
        out: &mut Vec<Output>,
    ) -> Vec<Reply> {
        let rng = Rng::new(stamp.seed);
        let mut edit = Edit::new(self, 0, revision, rng, out).at(stamp.time_ms);
        let replies: Vec<Reply> = steps
            .iter()
            .map(|(database, command)| run(&mut edit, *database, command))
            .collect();
        if edit.is_touched {
            self.set_revision(revision);
        }
        replies
    }

    fn borrow_entry(&mut self, from: &Cache, database: u32, key: &[u8]) {
        let place = Place::of(from.seed(), key);
        let Some(entry) = from.database(database).get(place, key) else {
            return;
        };
        let (own, _) = self.change(database);
        if own.get(place, key).is_none() {
            own.restore(place, entry.copy_to(place.hash32(), key));
        }
    }

    fn drop_entry(&mut self, database: u32, key: &[u8]) {
        let place = Place::of(self.seed(), key);
        let (own, _) = self.change(database);
        if let Some(at) = own.find(place, key) {
            let mut change = Change {
                revision: 1,
                cut: None,
                is_touched: &mut false,
            };
            own.remove(place, at, &mut change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Body, Unit, spec};
    use super::*;
    use base::{Origin, State};

    const AT: Stamp = Stamp {
        time_ms: 1_000,
        seed: 7,
    };

    fn command(line: &str) -> Command {
        let mut words = line
            .split(' ')
            .map(|word| Bytes::copy_from_slice(word.as_bytes()));
        Command {
            id: spec(&words.next().expect("a name")).expect("a command").id,
            args: words.collect(),
        }
    }

    fn cache(lines: &[&str]) -> Cache {
        let mut cache = Cache::new();
        for line in lines {
            let unit = Unit {
                origin: Origin::default(),
                database: 0,
                body: Body::One(command(line)),
            };
            cache.apply_unit(AT, unit, &mut Vec::new()).expect("known");
        }
        cache
    }

    #[test]
    fn what_is_tried_is_what_is_carried_out_and_trying_changes_nothing() {
        let setup = ["SET n 5", "RPUSH l a b c", "SADD s x y z", "SET t 1 PX 50"];
        let lines = ["INCRBY n 3", "LPOP l", "SPOP s", "SET new 1", "APPEND t 2"];
        let commands: Vec<Command> = lines.iter().map(|l| command(l)).collect();
        let steps: Vec<Step<'_>> = commands.iter().map(|c| (0, c)).collect();
        let (mut one, mut scratch) = (cache(&setup), Cache::new());
        let before = one.digest();
        assert_eq!(one.attempt(AT, &steps, &mut scratch), Ok(()));
        assert_eq!(one.digest(), before);
        assert_eq!(scratch.counts(), Cache::new().counts());
        let mut out = Vec::new();
        let replies = one.carry_out(AT, &steps, &mut out);
        assert_eq!(replies[0], Reply::Integer(8));
        assert_eq!(one.key_count(0), 5);
        // A second time the list is too short for a refusal, but the set is not: nothing is refused.
        assert_eq!(one.attempt(AT, &steps, &mut scratch), Ok(()));
    }

    #[test]
    fn the_first_refused_command_is_named_and_those_before_are_not_done() {
        let one = cache(&["SET n five", "RPUSH l a"]);
        let before = one.digest();
        let commands = [command("SET a 1"), command("DEL l"), command("INCR n")];
        let steps: Vec<Step<'_>> = commands.iter().map(|c| (0, c)).collect();
        let mut scratch = Cache::new();
        let (at, refusal) = one.attempt(AT, &steps, &mut scratch).expect_err("n");
        assert!(at == 2 && refusal.is_error());
        assert_eq!(one.digest(), before);
        assert_eq!(scratch.counts(), Cache::new().counts());
    }

    #[test]
    fn a_key_whose_time_ran_out_since_it_was_tried_is_still_what_it_was() {
        let mut one = cache(&["SET t 1 PX 50"]);
        let append = command("APPEND t 2");
        let steps = [(0, &append)];
        let mut scratch = Cache::new();
        assert_eq!(one.attempt(AT, &steps, &mut scratch), Ok(()));
        one.advance(Stamp {
            time_ms: 5_000,
            seed: 0,
        });
        let replies = one.carry_out(AT, &steps, &mut Vec::new());
        assert_eq!(replies, [Reply::Integer(2)]);
    }

    #[test]
    fn commands_that_reach_further_than_they_say_are_refused() {
        let refused = [
            "FLUSHALL",
            "KEYS *",
            "BLPOP a 0",
            "SORT a BY w_*",
            "MOVE a 1",
            "COPY a b DB 1",
            "GET",
        ];
        for line in refused {
            assert!(may_join(0, &command(line)).is_err(), "{line}");
        }
        for line in ["COPY a b REPLACE", "GET a", "RENAME a b", "MSET a 1 b 2"] {
            assert!(may_join(0, &command(line)).is_ok(), "{line}");
        }
        assert!(may_join(16, &command("GET a")).is_err());
    }
}
