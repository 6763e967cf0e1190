//! The record, its transactions and its files, on a thread of their own: a master that waits for them keeps its session.

use super::store::Store;
use super::{Where, paths};
use computing::stream::master::Action;
use computing::stream::record::Record;
use computing::stream::task::{Output, outputs};
use computing::stream::topology::Topology;
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, Sender};

/// Most records of output that one transaction appends, and about how many bytes.
const RECORDS_MAX: usize = 900;
const BYTES_MAX: usize = 400 << 10;

/// What came of an [`Action`].
pub enum Done {
    /// Of [`Action::Claim`].
    Claimed(Result<(Record, i32), String>),
    /// Of [`Action::Store`], in that epoch.
    Stored(u64, Result<(Record, i32), String>),
}

/// Carries out actions, in order, until there will be none any more.
pub fn run(place: &Where, topology: &Topology, asked: &Receiver<Action>, told: &Sender<Done>) {
    let mut ledger = Ledger {
        store: place.store(),
        place,
        topology,
        output: None,
    };
    for action in asked {
        let done = match action {
            Action::Claim => Done::Claimed(ledger.claim()),
            Action::Store { record, version } => {
                Done::Stored(record.epoch, ledger.store(record, version))
            }
            Action::Sweep { record } => {
                // What stays is swept next time.
                let _ = ledger.sweep(&record);
                continue;
            }
            Action::Assign { .. } | Action::Begin { .. } | Action::End => continue,
        };
        if told.send(done).is_err() {
            return;
        }
    }
}

struct Ledger<'a> {
    place: &'a Where,
    topology: &'a Topology,
    store: Store,
    /// The output of the files with these names.
    output: Option<(Vec<String>, Vec<Output>)>,
}

impl Ledger<'_> {
    fn claim(&mut self) -> Result<(Record, i32), String> {
        let path = paths::checkpoint(&self.place.name);
        let mut tree = self.place.tree();
        let found = tree.get(&path);
        tree.close();
        let (bytes, stat) = found?.ok_or_else(|| format!("{path} is gone"))?;
        let mut record: Record =
            serde_json::from_slice(&bytes).map_err(|e| format!("{path} cannot be read: {e}"))?;
        record.epoch += 1;
        let version = self.put(&record, stat.version, Vec::new())?;
        Ok((record, version))
    }

    fn store(&mut self, mut record: Record, version: i32) -> Result<(Record, i32), String> {
        if self
            .output
            .as_ref()
            .is_none_or(|(files, _)| *files != record.files)
        {
            let mut all = Vec::new();
            for file in &record.files {
                let bytes = self.store.get(file)?;
                all.extend(outputs(self.topology, &bytes).map_err(|e| format!("{file}: {e}"))?);
            }
            if all.len() as u64 != record.outputs {
                return Err(format!("the files have {} records of output", all.len()));
            }
            self.output = Some((record.files.clone(), all));
        }
        let all = self.output.as_ref().map_or(&[][..], |(_, all)| all);
        let mut bytes = 0;
        let (mut appended, from) = (Vec::new(), record.published as usize);
        for output in all.get(from..).unwrap_or_default().iter().take(RECORDS_MAX) {
            let event = &output.event;
            bytes += event.key.len() + event.value.len();
            if bytes > BYTES_MAX && !appended.is_empty() {
                break;
            }
            appended.push(self.append(output));
        }
        record.published += appended.len() as u64;
        let version = self.put(&record, version, appended)?;
        Ok((record, version))
    }

    fn append(&self, output: &Output) -> Value {
        let (event, sink) = (&output.event, &self.topology.sink);
        let topic = match (&sink.side_topic, output.is_aside) {
            (Some(topic), true) => topic,
            _ => &sink.topic,
        };
        let key = (!event.key.is_empty()).then_some(&event.key);
        json!({"append": {"topic": topic, "key": key, "value": event.value}})
    }

    /// Puts the record in place of that version, together with what is appended; its version then.
    fn put(&self, record: &Record, version: i32, appended: Vec<Value>) -> Result<i32, String> {
        let data = serde_json::to_string(record).map_err(|e| e.to_string())?;
        let path = paths::checkpoint(&self.place.name);
        let mut operations = vec![json!({"set": {"path": path, "data": data, "version": version}})];
        operations.extend(appended);
        let results = self.store.transact(&json!({"operations": operations}))?;
        let results = results.ok_or("another master has changed the record")?;
        let version = results[0]["version"].as_i64();
        let version = version.and_then(|version| i32::try_from(version).ok());
        version.ok_or_else(|| format!("the node answered {results}"))
    }

    fn sweep(&self, record: &Record) -> Result<(), String> {
        for file in self.store.list()? {
            if record.is_left_over(&file) {
                self.store.remove(&file)?;
            }
        }
        Ok(())
    }
}
