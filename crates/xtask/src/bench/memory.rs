//! Memory for a million small nodes, and for 10,000 sessions held open.

use super::load::Clients;
use super::systems::{Ensemble, Session, System};
use super::zookeeper::create_request;
use std::time::{Duration, Instant};

const FILLERS: usize = 16;
const WINDOW: usize = 64;
const SETTLE: Duration = Duration::from_secs(3);

/// Measures each system and prints a table. Has no floors of its own: true when all could be measured.
pub fn run(znodes: usize, sessions: usize, json: bool, systems: &[System]) -> Result<bool, String> {
    let mut rows = Vec::new();
    for system in systems {
        eprintln!("{}: {znodes} nodes, {sessions} sessions", system.name());
        rows.push((system.name(), measure(*system, znodes, sessions)?));
    }
    if json {
        let value: serde_json::Map<_, _> = rows
            .iter()
            .map(|(name, m)| {
                let cells = serde_json::json!({
                    "idle_mib": m.idle_mib, "filled_mib": m.filled_mib, "sessions_mib": m.sessions_mib,
                    "creates_per_s": m.creates_per_s, "sessions_per_s": m.sessions_per_s,
                });
                ((*name).to_owned(), cells)
            })
            .collect();
        println!("{:#}", serde_json::Value::Object(value));
        return Ok(true);
    }
    println!(
        "| | MiB idle | MiB with {znodes} nodes | bytes a node | MiB with {sessions} sessions more | KiB a session | creates/s | sessions/s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (name, m) in &rows {
        println!(
            "| {name} | {:.1} | {:.1} | {:.0} | {:.1} | {:.2} | {:.0} | {:.0} |",
            m.idle_mib,
            m.filled_mib,
            (m.filled_mib - m.idle_mib) * 1_048_576.0 / znodes.max(1) as f64,
            m.sessions_mib,
            (m.sessions_mib - m.filled_mib) * 1024.0 / sessions.max(1) as f64,
            m.creates_per_s,
            m.sessions_per_s,
        );
    }
    Ok(true)
}

struct Measured {
    idle_mib: f64,
    filled_mib: f64,
    sessions_mib: f64,
    creates_per_s: f64,
    sessions_per_s: f64,
}

fn measure(system: System, znodes: usize, sessions: usize) -> Result<Measured, String> {
    let ensemble = Ensemble::start(system, 1)?;
    let server = &ensemble.servers[0];
    std::thread::sleep(SETTLE);
    let idle_mib = server.memory_mib()?;
    Session::open(server.address())?.create("/bench")?;
    let mut fillers = Clients::open(server.address(), FILLERS, 60_000)?;
    let mut made = 0;
    let report = fillers.drive(WINDOW, None, &mut |_, number, out| {
        if made == znodes {
            return false;
        }
        create_request(
            out,
            (number & 0x3fff_ffff) as i32,
            &format!("/bench/{made:06}"),
            &[b'x'; 16],
        );
        made += 1;
        true
    })?;
    drop(fillers);
    std::thread::sleep(SETTLE);
    let filled_mib = server.memory_mib()?;
    let begun = Instant::now();
    let held = Clients::open(server.address(), sessions, 120_000)?;
    let sessions_per_s = sessions as f64 / begun.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let sessions_mib = server.memory_mib()?;
    drop(held);
    Ok(Measured {
        idle_mib,
        filled_mib,
        sessions_mib,
        creates_per_s: report.rate(),
        sessions_per_s,
    })
}
