//! Runs `testscripts/*.txt`: transcripts of a breaker and of servers' health.
//!
//! A line is a time in milliseconds and what happens; what follows `=>` is what is told. A breaker's requests are named by
//! letters, so that a late one can end after the breaker has opened.

use std::collections::BTreeMap;
use std::path::Path;
use traffic::breaker::{self, Breaker, Permit};
use traffic::health::{self, Health};

#[derive(Default)]
struct World {
    breaker: Option<Breaker>,
    permits: BTreeMap<String, Permit>,
    health: Option<Health>,
}

impl World {
    fn step(&mut self, now_us: u64, words: &[&str]) -> String {
        let number = |name: &str| -> Option<f64> {
            let found = words
                .iter()
                .find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
            found.map(|value| value.parse().expect("a number"))
        };
        let us = |name: &str, other: u64| number(name).map_or(other, |ms| (ms * 1e3) as u64);
        let count = |name: &str, other: u32| number(name).map_or(other, |n| n as u32);
        match words[0] {
            "breaker" => {
                let other = breaker::Rules::default();
                self.breaker = Some(Breaker::new(breaker::Rules {
                    slow_us: us("slow_ms", other.slow_us),
                    slow_ratio: number("slow_ratio"),
                    error_ratio: number("error_ratio"),
                    error_count: number("error_count").map(|n| n as u64),
                    requests_min: number("requests_min").map_or(other.requests_min, |n| n as u64),
                    window_us: us("window_ms", other.window_us),
                    open_us: us("open_ms", other.open_us),
                }));
                String::new()
            }
            "ask" => {
                let breaker = self.breaker.as_mut().expect("a breaker");
                match breaker.acquire(now_us) {
                    Some(permit) => {
                        self.permits.insert(words[1].to_owned(), permit);
                        format!("passes, {}", breaker.state().name())
                    }
                    None => format!("refused, {}", breaker.state().name()),
                }
            }
            "ok" | "fail" | "drop" => {
                let breaker = self.breaker.as_mut().expect("a breaker");
                let permit = self.permits.remove(words[1]).expect("an asked request");
                match words[0] {
                    "drop" => breaker.handle_dropped(permit, now_us),
                    end => breaker.handle_done(permit, now_us, us("took_ms", 1), end == "fail"),
                }
                breaker.state().name().to_owned()
            }
            "servers" => {
                let other = health::Rules::default();
                let rules = health::Rules {
                    failures_max: count("failures", other.failures_max),
                    eject_us: us("eject_ms", other.eject_us),
                    eject_us_max: us("eject_max_ms", other.eject_us_max),
                    ejected_percent_max: count("ejected_percent", other.ejected_percent_max),
                    panic_percent: count("panic_percent", other.panic_percent),
                    rise: count("rise", other.rise),
                    fall: count("fall", other.fall),
                };
                self.health = Some(Health::new(rules, words[1].parse().expect("how many")));
                String::new()
            }
            "good" | "bad" | "probe-good" | "probe-bad" | "look" => {
                let health = self.health.as_mut().expect("servers");
                for place in &words[1..] {
                    let server = place.parse().expect("a place");
                    match words[0] {
                        "good" => health.handle_result(server, now_us, true),
                        "bad" => health.handle_result(server, now_us, false),
                        "probe-good" => health.handle_probe(server, true),
                        _ => health.handle_probe(server, false),
                    }
                }
                let usable: String = (health.usable(now_us).iter())
                    .map(|usable| if *usable { '+' } else { '-' })
                    .collect();
                match health.is_panic(now_us) {
                    true => format!("{usable} panic"),
                    false => usable,
                }
            }
            other => panic!("no such step: {other}"),
        }
    }
}

#[test]
fn transcripts_of_breakers_and_health() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let mut steps = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of scripts") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a script");
        let mut world = World::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (what, expected) = line.split_once("=>").unwrap_or((line, ""));
            let words: Vec<&str> = what.split_whitespace().collect();
            let ms: u64 = words[0].parse().expect("a time");
            let told = world.step(ms * 1_000, &words[1..]);
            assert_eq!(
                told,
                expected.trim(),
                "{}:{}: {line}",
                path.display(),
                number + 1
            );
            steps += 1;
        }
    }
    assert!(steps > 60, "only {steps} steps ran");
}
