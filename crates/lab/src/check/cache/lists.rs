//! Lists: each element goes to at most one taker, none that was acknowledged is lost, those pushed one behind
//! the other are taken in that order, and nobody is told that a list is empty that is not.

use crate::cache::{Answer, Op, Operation};
use crate::history::History;
use std::collections::BTreeMap;

#[derive(Debug)]
struct Element<'a> {
    push: &'a Operation,
    takers: Vec<&'a Operation>,
    is_left: bool,
}

/// Objections to what was pushed to and taken from `list`.
pub fn check(history: &History) -> Vec<String> {
    let mut lists: BTreeMap<&str, BTreeMap<&str, Element<'_>>> = BTreeMap::new();
    for operation in &history.cache.operations {
        if let Op::Push { list, element } = &operation.op {
            let element_of = Element {
                push: operation,
                takers: Vec::new(),
                is_left: false,
            };
            lists.entry(list).or_default().insert(element, element_of);
        }
    }
    let lists = lists.into_iter();
    lists
        .flat_map(|(list, elements)| check_list(history, list, elements))
        .collect()
}

fn check_list<'a>(
    history: &'a History,
    list: &str,
    mut elements: BTreeMap<&'a str, Element<'a>>,
) -> Vec<String> {
    let mut objections = Vec::new();
    let mut unknown = 0;
    let mut empty = Vec::new();
    for operation in &history.cache.operations {
        if !matches!(&operation.op, Op::Pop { list: of, .. } if of == list) {
            continue;
        }
        let taken = match operation.answer() {
            Some(Answer::Text(element)) => element,
            Some(Answer::Many(parts)) => match &parts[..] {
                [_, Answer::Text(element)] => element,
                _ => continue,
            },
            Some(Answer::Nil) => {
                empty.push(operation);
                continue;
            }
            _ => {
                unknown += usize::from(operation.reply.is_none());
                continue;
            }
        };
        match elements.get_mut(&taken[..]) {
            Some(element) => element.takers.push(operation),
            None => objections.push(format!("{taken} was taken from {list}, never pushed")),
        }
    }
    let left = (history.cache.dumps.first()).and_then(|(.., dump)| match dump.get(list)? {
        Answer::Many(left) => Some(left),
        _ => None,
    });
    for element in left.into_iter().flatten() {
        let Answer::Text(element) = element else {
            continue;
        };
        match elements.get_mut(&element[..]) {
            Some(element) => element.is_left = true,
            None => objections.push(format!("{element} is left in {list}, never pushed")),
        }
    }
    let mut missing = Vec::new();
    for (name, element) in &elements {
        let name = name.trim_end_matches('·');
        let seen = element.takers.len() + usize::from(element.is_left);
        if seen > 1 {
            objections.push(format!(
                "{name} of {list} was taken, or is left, {seen} times"
            ));
        }
        let begun_us = element.push.invoked_us;
        let is_early = |taker: &&Operation| taker.completed_us() < begun_us;
        if seen > 0 && (element.push.is_refused() || element.takers.iter().any(is_early)) {
            objections.push(format!(
                "{name} of {list} was taken before it was pushed, or although that was refused"
            ));
        }
        if seen == 0 && left.is_some() && element.push.answer().is_some() {
            missing.push(name);
        }
    }
    if missing.len() > unknown {
        objections.push(format!(
            "of {list}, {} acknowledged elements are neither left nor taken, and {unknown} takings are of \
             unknown outcome: {missing:?}",
            missing.len()
        ));
    }
    objections.extend(order(list, &elements));
    // Who found it empty, in the order in which they looked, and what was there by then and stayed longest.
    empty.sort_by_key(|operation| operation.invoked_us);
    let mut there = Stays::new(&elements);
    for operation in empty {
        if let Some((to_us, name)) = there.before(operation.invoked_us)
            && to_us > operation.completed_us()
        {
            objections.push(format!(
                "client {} found {list} empty from {} to {}, and {name} was in it",
                operation.client,
                operation.invoked_us,
                operation.completed_us(),
            ));
        }
    }
    objections
}

/// Elements as they come, and of those that are there the one that certainly stays longest.
struct Stays<'a> {
    /// Pushed by when, taken from when on, and its name; the latest push first.
    coming: Vec<(u64, u64, &'a str)>,
    longest: Option<(u64, &'a str)>,
}

impl<'a> Stays<'a> {
    fn new(elements: &BTreeMap<&'a str, Element<'_>>) -> Self {
        let stay = |(name, element): (&&'a str, &Element<'_>)| {
            let (from_us, _) = taken(element)?;
            let name = name.trim_end_matches('·');
            Some((element.push.completed_us(), from_us, name))
        };
        let mut coming: Vec<_> = elements.iter().filter_map(stay).collect();
        coming.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            coming,
            longest: None,
        }
    }

    /// Of those that were pushed by then, until when the last one stayed. Times must ascend.
    fn before(&mut self, at_us: u64) -> Option<(u64, &'a str)> {
        while let Some((_, to_us, name)) = self.coming.pop_if(|(by_us, ..)| *by_us < at_us) {
            self.longest = self.longest.max(Some((to_us, name)));
        }
        self.longest
    }
}

/// From when to when an element was taken; never, for one that is left; `None` for one that nobody saw.
fn taken(element: &Element<'_>) -> Option<(u64, u64)> {
    match element.takers.first() {
        Some(taker) => Some((taker.invoked_us, taker.completed_us())),
        None => element.is_left.then_some((u64::MAX, u64::MAX)),
    }
}

/// Of two elements pushed one behind the other, the first is taken first.
fn order(list: &str, elements: &BTreeMap<&str, Element<'_>>) -> Vec<String> {
    let mut objections = Vec::new();
    let mut others: Vec<_> = elements.iter().collect();
    others.sort_by_key(|(_, element)| element.push.invoked_us);
    let mut first = Stays::new(elements);
    for (second, element) in others {
        let before = first.before(element.push.invoked_us);
        if let (Some((from_us, first)), Some((_, to_us))) = (before, taken(element))
            && to_us < from_us
        {
            objections.push(format!(
                "{first} was pushed to {list} before {}, and is taken after it",
                second.trim_end_matches('·')
            ));
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::super::build::op;
    use super::*;
    use crate::cache::Dump;

    const LIST: &str = "{a}list";

    fn push(h: &mut History, from_us: u64, to_us: u64, element: &str) {
        let push = Op::Push {
            list: LIST.into(),
            element: element.into(),
        };
        op(h, from_us, push, Some((to_us, Ok(Answer::Number(1)))));
    }

    fn pop(h: &mut History, from_us: u64, to_us: u64, element: &str) {
        let pop = Op::Pop {
            list: LIST.into(),
            wait_ms: None,
        };
        let answer = match element {
            "" => Answer::Nil,
            element => Answer::Text(element.into()),
        };
        op(h, from_us, pop, Some((to_us, Ok(answer))));
    }

    fn end(h: &mut History, left: &[&str]) {
        let left = left.iter().map(|e| Answer::Text((*e).into())).collect();
        let dump: Dump = [(LIST.to_owned(), Answer::Many(left))].into();
        h.cache.dumps.push((0, 1_000, dump));
    }

    #[test]
    fn good_history_passes() {
        let mut h = History::default();
        pop(&mut h, 1, 2, "");
        push(&mut h, 3, 4, "x");
        push(&mut h, 5, 6, "y");
        push(&mut h, 7, 8, "z");
        pop(&mut h, 9, 12, "x");
        pop(&mut h, 10, 11, "y");
        pop(&mut h, 13, 20, "");
        pop(&mut h, 14, 15, "z");
        end(&mut h, &[]);
        assert_eq!(check(&h), Vec::<String>::new());
    }

    #[test]
    fn element_taken_twice_is_found() {
        let mut h = History::default();
        push(&mut h, 1, 2, "x");
        pop(&mut h, 3, 4, "x");
        end(&mut h, &["x"]);
        assert_eq!(check(&h).len(), 1);
    }

    #[test]
    fn lost_element_is_found_unless_a_taking_is_unknown() {
        let mut h = History::default();
        push(&mut h, 1, 2, "x");
        end(&mut h, &[]);
        assert_eq!(check(&h).len(), 1);
        let wait_ms = Some(10);
        let list = LIST.into();
        op(&mut h, 3, Op::Pop { list, wait_ms }, None);
        assert!(check(&h).is_empty());
    }

    #[test]
    fn wrong_order_and_false_emptiness_are_found() {
        let mut h = History::default();
        push(&mut h, 1, 2, "x");
        push(&mut h, 3, 4, "y");
        pop(&mut h, 5, 6, "y");
        pop(&mut h, 7, 8, "");
        pop(&mut h, 9, 10, "x");
        end(&mut h, &[]);
        assert_eq!(check(&h).len(), 2);
    }

    #[test]
    fn what_nobody_pushed_is_found() {
        let mut h = History::default();
        push(&mut h, 1, 2, "x");
        pop(&mut h, 3, 4, "q");
        end(&mut h, &["r", "x"]);
        assert_eq!(check(&h).len(), 2);
    }
}
