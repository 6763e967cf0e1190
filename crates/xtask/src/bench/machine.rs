//! What is measured of a process and of the disk, and the binary that is measured.

use super::median;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// Names a binary to be measured in place of the release build of this tree.
const BINARY: &str = "ALTHING_BIN";

/// What is measured as Althing.
pub fn binary() -> PathBuf {
    match std::env::var_os(BINARY) {
        Some(path) => crate::root().join(path),
        None => crate::target().join("release/althing"),
    }
}

/// Builds [`binary`], unless another one was named.
pub fn build() -> Result<(), String> {
    if std::env::var_os(BINARY).is_some() {
        return Ok(());
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--release", "--package", "althing", "--quiet"])
        .current_dir(crate::root());
    match cargo.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("cargo build --release failed".into()),
        Err(e) => Err(format!("cannot start cargo: {e}")),
    }
}

/// Ports of the loopback interface that nobody listens on.
pub fn free_ports() -> Result<[u16; 3], String> {
    let bind =
        || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("no free port: {e}"));
    let held = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr().map_err(|e| e.to_string())?.port();
    }
    Ok(ports)
}

fn proc(process: u32, file: &str) -> Result<String, String> {
    let path = format!("/proc/{process}/{file}");
    std::fs::read_to_string(&path).map_err(|e| format!("cannot read {path}: {e}"))
}

/// Resident memory of a process in MiB.
pub fn memory_mib(process: u32) -> Result<f64, String> {
    let text = proc(process, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| "no VmRSS".into())
}

/// Seconds of processor time of a process so far, in user and kernel mode, all of its threads.
pub fn cpu_s(process: u32) -> Result<f64, String> {
    const TICKS_PER_SECOND: f64 = 100.0; // USER_HZ, the same on every Linux
    let text = proc(process, "stat")?;
    let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<f64> = fields
        .split(' ')
        .map(|f| f.parse().unwrap_or(0.0))
        .collect();
    match fields[..] {
        [_, _, _, _, _, _, _, _, _, _, _, user, kernel, ..] => {
            Ok((user + kernel) / TICKS_PER_SECOND)
        }
        _ => Err(format!("unexpected /proc/PID/stat: {text}")),
    }
}

/// Median time of a sync after 4 KiB appended, on the disk that the servers use.
pub fn disk_sync_ms() -> Result<f64, String> {
    let path = crate::target().join("bench-sync");
    let mut times = Vec::new();
    let mut measure = || {
        let mut file = std::fs::File::create(&path)?;
        for _ in 0..200 {
            file.write_all(&[7; 4096])?;
            let begun = Instant::now();
            file.sync_data()?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        std::fs::remove_file(&path)
    };
    measure().map_err(|e| format!("cannot measure the disk at {}: {e}", path.display()))?;
    Ok(median(&times))
}
