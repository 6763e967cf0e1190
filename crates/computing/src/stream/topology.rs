//! What a stream does: a source, operators one behind the other, a sink. Read from a TOML file, and checked: what is
//! wrong is told with its line and what would be allowed.

use super::step::{Change, Filter, Project, Step};
use serde::Deserialize;
use toml::Spanned;

/// Most operators.
pub const OPERATORS_MAX: usize = 32;
/// Most workers of a stream.
pub const WORKERS_MAX: u32 = 64;
/// Longest times, in milliseconds: a year.
const TIME_MS_MAX: i64 = 366 * 24 * 3_600_000;
/// Most windows that one record may lie in.
const OVERLAP_MAX: i64 = 1_000;

/// A checked topology.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Its name: letters, digits, `-` and `_`, at most 64.
    pub name: String,
    /// How many workers share it, 1 to [`WORKERS_MAX`].
    pub workers: u32,
    /// A checkpoint begins so long after the one before, in milliseconds.
    pub checkpoint_ms: u64,
    /// Where records come from.
    pub source: Source,
    /// What is done with each of them before it is given to the task that has its key.
    pub before: Vec<Step>,
    /// What is counted; nothing where records only pass through.
    pub keyed: Option<Keyed>,
    /// What is done with results.
    pub after: Vec<Step>,
    /// Where they go.
    pub sink: Sink,
}

/// Where records come from.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The topic.
    pub topic: String,
    /// What stands between a value's fields.
    #[serde(default = "comma")]
    pub separator: String,
    /// The event time.
    #[serde(default)]
    pub time: TimeOf,
    /// How much later than a younger one a record of the same partition may come, in milliseconds.
    #[serde(default)]
    pub out_of_order_ms: i64,
    /// A partition whose end was reached so long ago, in milliseconds, does not hold the watermark back.
    #[serde(default = "idle")]
    pub idle_ms: u64,
}

fn comma() -> String {
    ",".to_owned()
}

fn idle() -> u64 {
    10_000
}

/// When an event was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeOf {
    /// When the record says.
    #[default]
    Record,
    /// Milliseconds since 1970 in this field of the value, the first being 1.
    Field(usize),
}

/// What a key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyOf {
    /// The record's.
    Key,
    /// The value.
    Value,
    /// This field of the value, the first being 1.
    Field(usize),
}

/// What is counted, by which key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyed {
    /// The key.
    pub by: KeyOf,
    /// The windows.
    pub window: Window,
}

/// Windows of event time, and what is said of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Which windows a record lies in.
    pub kind: Kind,
    /// What a window says of the records in it.
    pub aggregate: Aggregate,
    /// How long a window is kept behind its end for records that come late, in milliseconds.
    pub allowed_lateness_ms: i64,
}

/// Which windows a record lies in; all in milliseconds, all with the first instant and without the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All that begin at a multiple of `every_ms`, are `size_ms` long and have it in them. With both the same, one.
    Sliding {
        /// Length, at least `every_ms`.
        size_ms: i64,
        /// From one to the next.
        every_ms: i64,
    },
    /// One for all records that are not further from each other than this.
    Session {
        /// The gap that ends a session.
        gap_ms: i64,
    },
}

/// What a window says of the records in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// How many they are.
    Count,
    /// The sum of this field; it stays at the greatest (or smallest) number of 64 bits where it would pass it.
    Sum(usize),
    /// The smallest of this field.
    Min(usize),
    /// The greatest of this field.
    Max(usize),
}

/// Where results go.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// The topic.
    pub topic: String,
    /// The topic for records that came too late or cannot be read; without it they are counted only.
    pub side_topic: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    #[serde(default = "one")]
    workers: Spanned<u32>,
    #[serde(default = "second_spanned")]
    checkpoint_ms: Spanned<u64>,
    source: Spanned<Source>,
    #[serde(default)]
    operator: Vec<Spanned<Operator>>,
    sink: Spanned<Sink>,
}

fn one() -> Spanned<u32> {
    Spanned::new(0..0, 1)
}

fn second_spanned() -> Spanned<u64> {
    Spanned::new(0..0, 1_000)
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Operator {
    Filter(Filter),
    Project(Project),
    Map(Change),
    Split(String),
    KeyBy(KeyOf),
    Window(WindowForm),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowForm {
    tumbling_ms: Option<i64>,
    sliding_ms: Option<i64>,
    every_ms: Option<i64>,
    session_gap_ms: Option<i64>,
    aggregate: Aggregate,
    #[serde(default)]
    allowed_lateness_ms: i64,
}

/// What is wrong, and where: the bytes of the text that it is about.
type Wrong = (std::ops::Range<usize>, String);

impl Topology {
    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// What is wrong, in which line, and what is allowed there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        check(file).map_err(|(at, why)| match at.is_empty() {
            true => why,
            false => {
                let line = text[..at.start.min(text.len())].matches('\n').count() + 1;
                format!("line {line}: {why}")
            }
        })
    }

    /// The operators in their order, in a few words each: what a picture shows.
    pub fn words(&self) -> Vec<String> {
        let mut all: Vec<String> = self.before.iter().map(Step::words).collect();
        if let Some(keyed) = &self.keyed {
            all.push(format!("key by {}", keyed.by.words()));
            all.push(keyed.window.words());
        }
        all.extend(self.after.iter().map(Step::words));
        all
    }
}

impl KeyOf {
    fn words(self) -> String {
        match self {
            Self::Key => "the record's key".to_owned(),
            Self::Value => "the value".to_owned(),
            Self::Field(at) => format!("field {at}"),
        }
    }
}

impl Window {
    fn words(&self) -> String {
        let what = match self.aggregate {
            Aggregate::Count => "count".to_owned(),
            Aggregate::Sum(at) => format!("sum of field {at}"),
            Aggregate::Min(at) => format!("smallest of field {at}"),
            Aggregate::Max(at) => format!("greatest of field {at}"),
        };
        match self.kind {
            Kind::Sliding { size_ms, every_ms } if size_ms == every_ms => {
                format!("{what} per {size_ms} ms")
            }
            Kind::Sliding { size_ms, every_ms } => {
                format!("{what} over {size_ms} ms each {every_ms} ms")
            }
            Kind::Session { gap_ms } => format!("{what} per session (gap {gap_ms} ms)"),
        }
    }
}

fn check(file: File) -> Result<Topology, Wrong> {
    let name = file.name.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        let why =
            format!("name = {name:?}: a stream's name has 1 to 64 letters, digits, `-` and `_`");
        return Err((file.name.span(), why));
    }
    let number =
        |at: std::ops::Range<usize>, what: &str, value: i64, from: i64, to: i64| match (from..=to)
            .contains(&value)
        {
            true => Ok(value),
            false => Err((at, format!("{what} = {value}: allowed are {from} to {to}"))),
        };
    let workers = i64::from(*file.workers.get_ref());
    number(
        file.workers.span(),
        "workers",
        workers,
        1,
        WORKERS_MAX.into(),
    )?;
    let every = i64::try_from(*file.checkpoint_ms.get_ref()).unwrap_or(i64::MAX);
    number(
        file.checkpoint_ms.span(),
        "checkpoint_ms",
        every,
        50,
        TIME_MS_MAX,
    )?;
    let (at, source) = (file.source.span(), file.source.into_inner());
    if source.separator.is_empty() {
        return Err((
            at,
            "separator = \"\": a separator has at least one character".to_owned(),
        ));
    }
    if let TimeOf::Field(field) = source.time {
        positive(&at, field)?;
    }
    number(
        at.clone(),
        "out_of_order_ms",
        source.out_of_order_ms,
        0,
        TIME_MS_MAX,
    )?;
    let (sink_at, sink) = (file.sink.span(), file.sink.into_inner());
    for topic in [Some(&sink.topic), sink.side_topic.as_ref()]
        .into_iter()
        .flatten()
    {
        if *topic == source.topic {
            let why =
                format!("topic {topic:?} is the source, too: a stream cannot read what it writes");
            return Err((sink_at, why));
        }
    }
    if file.operator.len() > OPERATORS_MAX {
        let at = file.operator[OPERATORS_MAX].span();
        return Err((at, format!("allowed are {OPERATORS_MAX} operators")));
    }
    let mut topology = Topology {
        name: file.name.into_inner(),
        workers: file.workers.into_inner(),
        checkpoint_ms: file.checkpoint_ms.into_inner(),
        source,
        before: Vec::new(),
        keyed: None,
        after: Vec::new(),
        sink,
    };
    let mut key_by = None;
    for operator in file.operator {
        let (at, operator) = (operator.span(), operator.into_inner());
        let step = match operator {
            Operator::KeyBy(by) => {
                if key_by.is_some() {
                    return Err((at, "a stream has one `key_by`".to_owned()));
                }
                if let KeyOf::Field(field) = by {
                    positive(&at, field)?;
                }
                key_by = Some((at, by));
                continue;
            }
            Operator::Window(form) => {
                let Some((_, by)) = key_by.clone().filter(|_| topology.keyed.is_none()) else {
                    return Err((
                        at,
                        "a `window` stands once, right behind a `key_by`".to_owned(),
                    ));
                };
                let window = window(&at, &form)?;
                topology.keyed = Some(Keyed { by, window });
                continue;
            }
            Operator::Filter(filter) => Step::Filter(filter),
            Operator::Project(project) => Step::Project(project),
            Operator::Map(change) => Step::Map(change),
            Operator::Split(by) => Step::Split(by),
        };
        step.check().map_err(|why| (at.clone(), why))?;
        match (&key_by, &topology.keyed) {
            (None, _) => topology.before.push(step),
            (Some(_), Some(_)) => topology.after.push(step),
            (Some(_), None) => {
                let why = "behind `key_by` stands `window`; put this before or behind both";
                return Err((at, why.to_owned()));
            }
        }
    }
    match (key_by, &topology.keyed) {
        (Some((at, _)), None) => Err((at, "behind `key_by` stands a `window`".to_owned())),
        _ => Ok(topology),
    }
}

fn positive(at: &std::ops::Range<usize>, field: usize) -> Result<(), Wrong> {
    match field {
        1..=1_000 => Ok(()),
        _ => Err((
            at.clone(),
            format!("field {field}: fields are counted from 1 to 1000"),
        )),
    }
}

fn window(at: &std::ops::Range<usize>, form: &WindowForm) -> Result<Window, Wrong> {
    let wrong = |why: String| Err((at.clone(), why));
    let times = [
        ("tumbling_ms", form.tumbling_ms),
        ("sliding_ms", form.sliding_ms),
        ("every_ms", form.every_ms),
        ("session_gap_ms", form.session_gap_ms),
    ];
    for (what, time) in times {
        if let Some(time) = time
            && !(1..=TIME_MS_MAX).contains(&time)
        {
            return wrong(format!("{what} = {time}: allowed are 1 to {TIME_MS_MAX}"));
        }
    }
    let late = form.allowed_lateness_ms;
    if !(0..=TIME_MS_MAX).contains(&late) {
        return wrong(format!(
            "allowed_lateness_ms = {late}: allowed are 0 to {TIME_MS_MAX}"
        ));
    }
    if let Aggregate::Sum(field) | Aggregate::Min(field) | Aggregate::Max(field) = form.aggregate {
        positive(at, field)?;
    }
    let kind = match (
        form.tumbling_ms,
        form.sliding_ms,
        form.every_ms,
        form.session_gap_ms,
    ) {
        (Some(size_ms), None, None, None) => Kind::Sliding {
            size_ms,
            every_ms: size_ms,
        },
        (None, Some(size_ms), Some(every_ms), None) => {
            if every_ms > size_ms || size_ms / every_ms > OVERLAP_MAX {
                return wrong(format!(
                    "sliding_ms = {size_ms} with every_ms = {every_ms}: allowed are 1 to {OVERLAP_MAX} times every_ms"
                ));
            }
            Kind::Sliding { size_ms, every_ms }
        }
        (None, None, None, Some(gap_ms)) => Kind::Session { gap_ms },
        _ => {
            return wrong(
                "a window has one of `tumbling_ms`, `sliding_ms` with `every_ms`, and `session_gap_ms`".to_owned(),
            );
        }
    };
    Ok(Window {
        kind,
        aggregate: form.aggregate,
        allowed_lateness_ms: late,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLICKS: &str = r#"
name = "clicks"
workers = 2

[source]
topic = "clicks"
time = { field = 2 }

[[operator]]
filter = { field = 3, equals = "buy" }

[[operator]]
key_by = { field = 1 }

[[operator]]
window = { tumbling_ms = 1000, aggregate = "count" }

[sink]
topic = "counts"
"#;

    #[test]
    fn file_is_read() {
        let topology = Topology::parse(CLICKS).unwrap();
        let words = [
            "field 3 equals \"buy\"",
            "key by field 1",
            "count per 1000 ms",
        ];
        assert_eq!(topology.words(), words);
        assert_eq!(topology.source.time, TimeOf::Field(2));
        let aggregate = CLICKS.replace("\"count\"", "{ sum = 4 }");
        let summed = Topology::parse(&aggregate).unwrap().keyed.unwrap();
        assert_eq!(summed.window.aggregate, Aggregate::Sum(4));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_is_allowed() {
        for (old, new, words) in [
            (
                "\"clicks\"\nwork",
                "\"a b\"\nwork",
                "line 2: name = \"a b\": a stream's name has",
            ),
            (
                "workers = 2",
                "workers = 0",
                "line 3: workers = 0: allowed are 1 to 64",
            ),
            (
                "workers = 2",
                "wrkers = 2",
                "unknown field `wrkers`, expected one of `name`",
            ),
            (
                "filter =",
                "filtr =",
                "unknown variant `filtr`, expected one of `filter`",
            ),
            (
                "key_by = { field = 1 }",
                "split = \" \"",
                "line 15: a `window` stands once, right behind a `key_by`",
            ),
            (
                "tumbling_ms = 1000",
                "sliding_ms = 9",
                "line 15: a window has one of",
            ),
            (
                "tumbling_ms = 1000",
                "sliding_ms = 9, every_ms = 10",
                "line 15: sliding_ms = 9 with every_ms = 10",
            ),
            (
                "field = 1 }",
                "field = 0 }",
                "line 12: field 0: fields are counted from 1",
            ),
            (
                "\"counts\"",
                "\"clicks\"",
                "a stream cannot read what it writes",
            ),
            (", equals = \"buy\"", "", "a filter says one of"),
        ] {
            let text = CLICKS.replace(old, new);
            assert_ne!(text, CLICKS, "{old}");
            let why = Topology::parse(&text).expect_err(new);
            assert!(why.contains(words), "{why}");
        }
    }
}
