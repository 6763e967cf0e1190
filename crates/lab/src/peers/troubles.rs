//! Faults by name: a script drawn from the seed.

use super::net::stream;
use super::script::{Fault, How, Planned, Script};
use base::Rng;
use base::algorithm::Trouble;
use base::peer::PeerId;

/// Faults begin after this…
const FROM_MS: u64 = 500;
/// …and end before this.
const TO_MS: u64 = 6_000;

/// Names beyond those of [`Trouble`]: shapes of partitions, and sums.
const SHAPES: &[(&str, &str)] = &[
    ("halves", "two sides, as even as can be"),
    ("isolate", "one node alone"),
    (
        "bridge",
        "two sides that one node in the middle hears both of",
    ),
    (
        "majorities-ring",
        "everybody hears a majority, no two the same",
    ),
];

/// All names and what they do, for `lab list` and for messages.
pub fn names() -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("none", "nothing goes wrong"),
        ("survived", "all that the algorithm says it survives"),
    ];
    all.extend(Trouble::ALL.map(|trouble| (trouble.key(), meaning(trouble))));
    all.extend(SHAPES);
    all
}

fn meaning(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Delay => "messages take up to 100 ms longer",
        Trouble::Slow => "all to and from one node takes 60 ms longer",
        Trouble::Reorder => "messages of one pair overtake each other",
        Trouble::Duplicate => "a third of the messages arrive twice",
        Trouble::Loss => "a tenth of the messages are lost",
        Trouble::Crash => "processes die, one at a time, and come back with what they persisted",
        Trouble::Death => "a process dies and does not come back",
        Trouble::Pause => "a process stops for 1 to 3 s",
        Trouble::Partition => "halves, isolate, bridge or majorities-ring",
        Trouble::OneWay => "one node is heard but does not hear, or hears and is not heard",
        Trouble::Clock => "a wall clock steps by up to a minute, a clock drifts by up to 5 %",
        Trouble::Wipe => "a process dies and comes back without what it persisted",
        Trouble::Liar => {
            "one process withholds messages, equivocates or forges, from beginning to end"
        }
    }
}

/// The script of names separated by commas.
///
/// # Errors
/// Names what is unknown, and all names.
pub fn parse(words: &str, survives: &[Trouble], nodes: usize, seed: u64) -> Result<Script, String> {
    let mut draw = Draw {
        rng: Rng::new(seed).fork(stream::FAULTS),
        nodes,
        script: Script::default(),
    };
    for word in words.split(',').map(str::trim) {
        if word == "none" {
        } else if word == "survived" {
            draw.some_of(survives);
        } else if let Some(trouble) = Trouble::ALL.into_iter().find(|t| t.key() == word) {
            draw.trouble(trouble);
        } else if SHAPES.iter().any(|(shape, _)| *shape == word) {
            draw.partition(word);
        } else {
            let all: Vec<&str> = names().into_iter().map(|(name, _)| name).collect();
            return Err(format!(
                "no file and no fault {word:?}; names are {}",
                all.join(", ")
            ));
        }
    }
    draw.script.faults.sort_by_key(|planned| planned.at_ms);
    Ok(draw.script)
}

struct Draw {
    rng: Rng,
    nodes: usize,
    script: Script,
}

impl Draw {
    fn node(&mut self) -> PeerId {
        self.rng.range(1, self.nodes as u64 + 1) as PeerId
    }

    fn span(&mut self, least_ms: u64, most_ms: u64) -> (u64, u64) {
        let at_ms = self.rng.range(FROM_MS, TO_MS - most_ms);
        (at_ms, at_ms + self.rng.range(least_ms, most_ms))
    }

    fn at_once(&mut self, at_ms: u64, fault: Fault) {
        self.script.faults.push(Planned {
            at_ms,
            until_ms: None,
            fault,
        });
    }

    fn lasting(&mut self, (at_ms, until_ms): (u64, u64), fault: Fault) {
        let until_ms = Some(until_ms);
        self.script.faults.push(Planned {
            at_ms,
            until_ms,
            fault,
        });
    }

    /// Each of these with an even chance, at least one. Death takes the place of crashes: what a
    /// bounded number of deaths may do is not promised on top of them.
    fn some_of(&mut self, survives: &[Trouble]) {
        if survives.is_empty() {
            return;
        }
        let certain = self.rng.range(0, survives.len() as u64) as usize;
        let mut chosen: Vec<Trouble> = Vec::new();
        for (i, trouble) in survives.iter().enumerate() {
            if self.rng.one_in(3) || i == certain {
                chosen.push(*trouble);
            }
        }
        if chosen.contains(&Trouble::Death) {
            chosen.retain(|t| !matches!(t, Trouble::Crash | Trouble::Wipe));
        }
        for trouble in chosen {
            self.trouble(trouble);
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Delay => {
                let span = self.span(1_000, 4_000);
                self.lasting(span, Fault::Delay { up_to_ms: 100 });
            }
            Trouble::Slow => {
                let (span, node) = (self.span(1_000, 4_000), self.node());
                self.lasting(span, Fault::Slow { node, by_ms: 60 });
            }
            Trouble::Reorder => {
                let span = self.span(1_000, 5_000);
                self.lasting(span, Fault::Reorder);
            }
            Trouble::Duplicate => {
                let span = self.span(1_000, 5_000);
                self.lasting(span, Fault::Duplicate { percent: 33 });
            }
            Trouble::Loss => {
                let span = self.span(1_000, 4_000);
                self.lasting(span, Fault::Loss { percent: 10 });
            }
            Trouble::Crash => self.crashes(),
            Trouble::Death => {
                let (at_ms, node) = (self.rng.range(FROM_MS, TO_MS), self.node());
                self.at_once(at_ms, Fault::Crash { node });
            }
            Trouble::Pause => {
                let (span, node) = (self.span(1_000, 3_000), self.node());
                self.lasting(span, Fault::Pause { node });
            }
            Trouble::Partition => {
                let shape = SHAPES[self.rng.range(0, SHAPES.len() as u64) as usize].0;
                self.partition(shape);
            }
            Trouble::OneWay => {
                let (span, node) = (self.span(1_000, 4_000), self.node());
                let (mut from, mut to) =
                    (vec![node], base::peer::others(node, self.nodes).collect());
                if self.rng.one_in(2) {
                    std::mem::swap(&mut from, &mut to);
                }
                self.lasting(span, Fault::OneWay { from, to });
            }
            Trouble::Clock => {
                let (at_ms, node) = (self.rng.range(FROM_MS, TO_MS), self.node());
                let by_ms = self.rng.range(0, 120_000) as i64 - 60_000;
                self.at_once(at_ms, Fault::ClockStep { node, by_ms });
                let (span, node) = (self.span(1_000, 5_000), self.node());
                let ppm = self.rng.range(0, 100_000) as i64 - 50_000;
                self.lasting(span, Fault::ClockDrift { node, ppm });
            }
            Trouble::Liar => {
                let (node, how) = (self.node(), self.rng.range(0, 3) as usize);
                let how = How::ALL[how];
                self.lasting((0, TO_MS), Fault::Lie { node, how });
            }
            Trouble::Wipe => {
                let ((at_ms, back_ms), node) = (self.span(100, 3_000), self.node());
                self.at_once(at_ms, Fault::Wipe { node });
                self.at_once(back_ms, Fault::Restart { node });
            }
        }
    }

    /// One at a time: the next dies after the last is back and has had time to catch up.
    fn crashes(&mut self) {
        let mut at_ms = self.rng.range(FROM_MS, 2_000);
        for _ in 0..self.rng.range(1, 4) {
            let node = self.node();
            let back_ms = at_ms + self.rng.range(5, 1_500);
            self.at_once(at_ms, Fault::Crash { node });
            self.at_once(back_ms, Fault::Restart { node });
            at_ms = back_ms + self.rng.range(1_500, 3_000);
        }
    }

    fn partition(&mut self, shape: &str) {
        let span = self.span(1_000, 4_000);
        let mut all: Vec<PeerId> = (1..=self.nodes).collect();
        for i in (1..all.len()).rev() {
            all.swap(i, self.rng.range(0, i as u64 + 1) as usize);
        }
        let n = all.len();
        let sides = match shape {
            "isolate" => vec![vec![all[0]], all[1..].to_vec()],
            "bridge" if n >= 3 => {
                let half = (n - 1) / 2;
                vec![all[..=half].to_vec(), all[half..].to_vec()]
            }
            "majorities-ring" if n >= 3 => {
                let reach = n / 2 + 1;
                let circle = |start: usize| (0..reach).map(|i| all[(start + i) % n]).collect();
                (0..n).map(circle).collect()
            }
            _ => vec![all[..n / 2].to_vec(), all[n / 2..].to_vec()],
        };
        let sides = sides
            .into_iter()
            .map(|mut side: Vec<PeerId>| {
                side.sort_unstable();
                side
            })
            .collect();
        self.lasting(span, Fault::Partition { sides });
    }
}
