//! Operators that look at one record and remember nothing.

use super::event::Event;
use serde::Deserialize;

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Lets some pass.
    Filter(Filter),
    /// Keeps some fields.
    Project(Project),
    /// Changes the value.
    Map(Change),
    /// Makes a record of each part of the value between these; empty parts are left out.
    Split(String),
}

/// Which records pass: those of which exactly what is said here is true.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The field that is looked at, the first being 1; the whole value where none is said.
    pub field: Option<usize>,
    /// It is this.
    pub equals: Option<String>,
    /// It has this in it.
    pub contains: Option<String>,
    /// It is a whole number, at least this.
    pub min: Option<i64>,
    /// It is a whole number, at most this.
    pub max: Option<i64>,
    /// The others pass.
    #[serde(default)]
    pub not: bool,
}

/// Keeps these fields of the value, in this order; one that is not there is empty.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Their numbers, the first being 1.
    pub fields: Vec<usize>,
}

/// Changes the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// To small letters.
    Lower,
    /// To capital letters.
    Upper,
    /// Without white space at its ends.
    Trim,
}

/// A field of a value, the first being 1.
pub fn field<'a>(value: &'a str, separator: &str, at: usize) -> Option<&'a str> {
    value.split(separator).nth(at.checked_sub(1)?)
}

impl Filter {
    fn passes(&self, value: &str, separator: &str) -> bool {
        let looked = match self.field {
            Some(at) => field(value, separator, at),
            None => Some(value),
        };
        let is_so = looked.is_some_and(|it| {
            let number = || it.trim().parse::<i64>().ok();
            self.equals.as_ref().is_none_or(|wanted| it == wanted)
                && self.contains.as_ref().is_none_or(|part| it.contains(part))
                && self
                    .min
                    .is_none_or(|min| number().is_some_and(|n| n >= min))
                && self
                    .max
                    .is_none_or(|max| number().is_some_and(|n| n <= max))
        });
        is_so != self.not
    }
}

impl Step {
    /// Why it cannot be meant.
    ///
    /// # Errors
    /// What is wrong and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Filter(filter) => {
                let says = filter.equals.is_some()
                    || filter.contains.is_some()
                    || filter.min.is_some()
                    || filter.max.is_some();
                match (says, filter.field) {
                    (false, _) => {
                        Err("a filter says one of `equals`, `contains`, `min` and `max`".to_owned())
                    }
                    (_, Some(0)) => Err("field 0: fields are counted from 1".to_owned()),
                    _ => Ok(()),
                }
            }
            Self::Project(Project { fields }) if fields.is_empty() || fields.contains(&0) => {
                Err("`fields` names at least one, counted from 1".to_owned())
            }
            Self::Split(by) if by.is_empty() => {
                Err("split = \"\": a separator has at least one character".to_owned())
            }
            Self::Project(_) | Self::Split(_) | Self::Map(_) => Ok(()),
        }
    }

    /// It in a few words.
    pub fn words(&self) -> String {
        match self {
            Self::Filter(filter) => {
                let mut all = vec![match filter.field {
                    Some(at) => format!("field {at}"),
                    None => "value".to_owned(),
                }];
                all.extend(filter.not.then(|| "not".to_owned()));
                all.extend(filter.equals.as_ref().map(|it| format!("equals {it:?}")));
                all.extend(
                    filter
                        .contains
                        .as_ref()
                        .map(|it| format!("contains {it:?}")),
                );
                all.extend(filter.min.map(|it| format!("≥ {it}")));
                all.extend(filter.max.map(|it| format!("≤ {it}")));
                all.join(" ")
            }
            Self::Project(Project { fields }) => {
                let all: Vec<String> = fields.iter().map(usize::to_string).collect();
                format!("fields {}", all.join(", "))
            }
            Self::Map(change) => format!("{change:?}").to_lowercase(),
            Self::Split(by) => format!("split at {by:?}"),
        }
    }

    fn apply(&self, event: Event, separator: &str, out: &mut Vec<Event>) {
        let changed = |value: String, event: Event| Event { value, ..event };
        match self {
            Self::Filter(filter) => {
                if filter.passes(&event.value, separator) {
                    out.push(event);
                }
            }
            Self::Project(Project { fields }) => {
                let kept: Vec<&str> = fields
                    .iter()
                    .map(|at| field(&event.value, separator, *at).unwrap_or_default())
                    .collect();
                out.push(changed(kept.join(separator), event));
            }
            Self::Map(change) => {
                let value = match change {
                    Change::Lower => event.value.to_lowercase(),
                    Change::Upper => event.value.to_uppercase(),
                    Change::Trim => event.value.trim().to_owned(),
                };
                out.push(changed(value, event));
            }
            Self::Split(by) => {
                let parts = event
                    .value
                    .split(by.as_str())
                    .filter(|part| !part.is_empty());
                out.extend(parts.map(|part| changed(part.to_owned(), event.clone())));
            }
        }
    }
}

/// One event through all steps.
pub fn through(steps: &[Step], event: Event, separator: &str) -> Vec<Event> {
    let mut all = vec![event];
    for step in steps {
        let mut next = Vec::with_capacity(all.len());
        for event in all {
            step.apply(event, separator, &mut next);
        }
        all = next;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(steps: &[Step], value: &str) -> Vec<String> {
        let event = Event {
            key: "k".to_owned(),
            value: value.to_owned(),
            time_ms: 5,
        };
        let all = through(steps, event, ",").into_iter();
        all.map(|event| {
            assert_eq!((&event.key[..], event.time_ms), ("k", 5));
            event.value
        })
        .collect()
    }

    #[test]
    fn each_step_does_what_it_says() {
        let filter = |filter| Step::Filter(filter);
        let third = Filter {
            field: Some(3),
            ..Filter::default()
        };
        let equals = Filter {
            equals: Some("c".into()),
            ..third.clone()
        };
        let not = Filter {
            not: true,
            ..equals.clone()
        };
        let range = Filter {
            min: Some(3),
            max: Some(5),
            ..third
        };
        let cases: &[(Step, &str, &[&str])] = &[
            (filter(equals.clone()), "a,b,c", &["a,b,c"]),
            (filter(equals), "a,b", &[]),
            (filter(not.clone()), "a,b,c", &[]),
            (filter(not), "a,b", &["a,b"]),
            (filter(range.clone()), "a,b, 4", &["a,b, 4"]),
            (filter(range.clone()), "a,b,6", &[]),
            (filter(range), "a,b,four", &[]),
            (
                Step::Project(Project {
                    fields: vec![3, 1, 9],
                }),
                "a,b,c",
                &["c,a,"],
            ),
            (Step::Map(Change::Upper), "aß", &["ASS"]),
            (Step::Map(Change::Trim), " a ", &["a"]),
            (Step::Split(" ".into()), " to be  or", &["to", "be", "or"]),
        ];
        for (step, value, wanted) in cases {
            assert_eq!(
                values(std::slice::from_ref(step), value),
                *wanted,
                "{step:?} {value:?}"
            );
        }
        let both = [Step::Split(" ".into()), Step::Map(Change::Lower)];
        assert_eq!(values(&both, "To BE"), ["to", "be"]);
    }
}
