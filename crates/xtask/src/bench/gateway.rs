//! The comparison with nginx as a reverse proxy: requests a second, processor time a request, latency.
//!
//! One server, an nginx of its own with a file of 1 KiB, answers both. The proxy has one processor, the client (wrk) and the server
//! share another. Connections are kept on both sides. Who comes first alternates.

use super::machine;
use super::median;
use super::table::{Floor, figure, verdict};
use crate::process;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROXY_CPU: &str = "0";
const CLIENT_CPU: &str = "1";
const CONNECTIONS: &str = "50";
const BODY_BYTES: usize = 1024;
const START_MAX: Duration = Duration::from_secs(30);
/// At most so many times nginx' processor time a request.
const CPU_FLOOR: Floor = Floor::TimesAtMost(2.0);

/// How long and how often.
pub struct Options {
    /// Length of a measurement.
    pub seconds: u64,
    /// Rounds, of which the medians are told.
    pub rounds: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum System {
    Nginx,
    Althing,
}

#[derive(Clone, Copy)]
struct Figures {
    per_s: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
}

/// A process that ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // gone already is as good
        let _ = self.0.wait();
    }
}

/// Runs the comparison and prints it. False when a floor was missed.
pub fn run(options: &Options) -> Result<bool, String> {
    for (program, flag, package) in [
        ("nginx", "-v", "nginx"),
        ("wrk", "-v", "wrk"),
        ("taskset", "--version", "util-linux"),
    ] {
        // wrk ends with 1 after it has told its version.
        if Command::new(program).arg(flag).output().is_err() {
            return Err(format!("{program} is not installed (Debian: {package})"));
        }
    }
    machine::build()?;
    let folder = crate::target()
        .join("bench")
        .join(format!("gateway-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let outcome = compare(options, &folder);
    let _ = fs::remove_dir_all(&folder);
    let [nginx, althing] = outcome?;
    Ok(print_table(&nginx, &althing, options))
}

fn compare(options: &Options, folder: &Path) -> Result<[Vec<Figures>; 2], String> {
    let [server_port, ..] = machine::free_ports()?;
    fs::write(folder.join("kib"), vec![b'x'; BODY_BYTES]).map_err(|e| e.to_string())?;
    let place = format!("root {};", folder.display());
    let _server = nginx(folder, "server", server_port, CLIENT_CPU, "", &place)?;
    let mut all = [Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        let mut order = [System::Nginx, System::Althing];
        if round % 2 == 1 {
            order.reverse();
        }
        for system in order {
            let (proxy, port) = proxy(system, folder, server_port)?;
            load(port, 1)?; // to be warm
            let before_s = machine::cpu_s(proxy.0.id())?;
            let mut figures = load(port, options.seconds)?;
            let cpu_s = machine::cpu_s(proxy.0.id())? - before_s;
            figures.cpu_us = cpu_s * 1e6 / (figures.per_s * options.seconds as f64);
            all[usize::from(system == System::Althing)].push(figures);
        }
    }
    Ok(all)
}

fn proxy(system: System, folder: &Path, server: u16) -> Result<(Running, u16), String> {
    let [port, peers, console] = machine::free_ports()?;
    let running = match system {
        System::Nginx => {
            let upstream = format!("upstream s {{ server 127.0.0.1:{server}; keepalive 64; }}");
            let place =
                "proxy_pass http://s; proxy_http_version 1.1; proxy_set_header Connection \"\";";
            nginx(folder, "proxy", port, PROXY_CPU, &upstream, place)?
        }
        System::Althing => {
            let data = folder.join("data");
            let _ = fs::remove_dir_all(&data);
            let routes = folder.join("routes.toml");
            let text = format!(
                "[upstreams.s]\nservers = [\"127.0.0.1:{server}\"]\n[[routes]]\nname = \"all\"\nupstream = \"s\"\n"
            );
            fs::write(&routes, text).map_err(|e| e.to_string())?;
            let config = folder.join("althing.toml");
            let text = format!(
                "data = {data:?}\ninitial_members = [\"127.0.0.1:{peers}\"]\n[listen]\nzookeeper = \"off\"\nredis = \"off\"\nkafka = \"off\"\n\
                 peers = \"127.0.0.1:{peers}\"\nconsole = \"127.0.0.1:{console}\"\ndns = \"off\"\ndtm = \"off\"\ngateway = \"127.0.0.1:{port}\"\n[gateway]\nroutes = {routes:?}\n"
            );
            fs::write(&config, text).map_err(|e| e.to_string())?;
            let mut command = on_cpu(PROXY_CPU);
            command
                .arg(machine::binary())
                .arg("serve")
                .arg("--config")
                .arg(config);
            start(command, folder, "althing", port)?
        }
    };
    Ok((running, port))
}

fn on_cpu(cpu: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cpu]);
    command
}

/// One process of nginx: `http` stands in its http section, `place` says what is answered.
fn nginx(
    folder: &Path,
    name: &str,
    port: u16,
    cpu: &str,
    http: &str,
    place: &str,
) -> Result<Running, String> {
    let file: PathBuf = folder.join(format!("{name}.conf"));
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{name}-{kind};", folder.display()))
        .concat();
    let text = format!(
        "daemon off; master_process off; pid {folder}/{name}.pid; error_log {folder}/{name}.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; {temporary} {http}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ {place} }} }} }}\n",
        folder = folder.display()
    );
    fs::write(&file, text).map_err(|e| e.to_string())?;
    let mut command = on_cpu(cpu);
    command
        .arg("nginx")
        .arg("-e")
        .arg(folder.join(format!("{name}.log")))
        .arg("-c")
        .arg(file);
    start(command, folder, name, port)
}

/// Starts it and waits until it takes connections.
fn start(mut command: Command, folder: &Path, name: &str, port: u16) -> Result<Running, String> {
    let log = || File::create(folder.join(format!("{name}.out"))).map_err(|e| e.to_string());
    command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
    let child = command
        .spawn()
        .map_err(|e| format!("cannot start {name}: {e}"))?;
    let mut running = Running(child);
    let end = Instant::now() + START_MAX;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let has_ended = running.0.try_wait().is_ok_and(|status| status.is_some());
        if has_ended || Instant::now() > end {
            let said = fs::read_to_string(folder.join(format!("{name}.out"))).unwrap_or_default();
            return Err(format!("{name} does not listen: {said}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(running)
}

fn load(port: u16, seconds: u64) -> Result<Figures, String> {
    let mut command = on_cpu(CLIENT_CPU);
    command.args(["wrk", "-t1", "-c", CONNECTIONS, "--latency"]);
    command.args([
        "-d".to_owned(),
        format!("{seconds}s"),
        format!("http://127.0.0.1:{port}/kib"),
    ]);
    let outcome = process::run(&mut command, Duration::from_secs(seconds + 30), true)?;
    match figures(&outcome.output) {
        Some(figures) if outcome.ok => Ok(figures),
        _ => Err(format!("wrk failed: {}", outcome.output)),
    }
}

/// Reads what wrk says; `None` when some answers were not good.
fn figures(output: &str) -> Option<Figures> {
    let after = |name: &str| {
        let line = output
            .lines()
            .find_map(|line| line.trim().strip_prefix(name))?;
        line.split_whitespace().next()
    };
    if output.contains("Non-2xx") || output.contains("Socket errors") {
        return None;
    }
    let us = |text: &str| -> Option<f64> {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        match unit {
            "us" => Some(number),
            "ms" => Some(number * 1e3),
            "s" => Some(number * 1e6),
            _ => None,
        }
    };
    Some(Figures {
        per_s: after("Requests/sec:")?.parse().ok()?,
        cpu_us: f64::NAN,
        p50_us: us(after("50%")?)?,
        p99_us: us(after("99%")?)?,
    })
}

fn print_table(nginx: &[Figures], althing: &[Figures], options: &Options) -> bool {
    type Row = (&'static str, fn(&Figures) -> f64, Option<Floor>);
    let rows: [Row; 4] = [
        ("requests a second", |f| f.per_s, None),
        ("processor µs a request", |f| f.cpu_us, Some(CPU_FLOOR)),
        ("median, µs", |f| f.p50_us, None),
        ("99th percentile, µs", |f| f.p99_us, None),
    ];
    println!(
        "{CONNECTIONS} kept connections, {BODY_BYTES} bytes, {} rounds of {} s, medians\n",
        options.rounds, options.seconds
    );
    println!(
        "{:<26}{:>12}{:>12}{:>9}  floor",
        "", "nginx", "Althing", "ratio"
    );
    let mut met_all = true;
    for (name, field, floor) in rows {
        let of = |all: &[Figures]| median(&all.iter().map(field).collect::<Vec<_>>());
        let (theirs, ours) = (of(nginx), of(althing));
        let (asked, met) = verdict(floor.as_ref(), theirs, ours);
        let word = match met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        met_all &= met != Some(false);
        println!(
            "{name:<26}{:>12}{:>12}{:>9}  {asked} {word}",
            figure(theirs),
            figure(ours),
            figure(ours / theirs)
        );
    }
    met_all
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 5s test @ http://127.0.0.1:1/kib\n  1 threads and 50 connections\n  Latency Distribution\n     50%    1.21ms\n     75%    1.40ms\n     99%  980.00us\n  100 requests in 5.00s, 1MB read\nRequests/sec:  40123.45\nTransfer/sec:      1MB\n";

    #[test]
    fn figures_are_read_from_what_wrk_says() {
        let read = figures(SAID).unwrap();
        assert_eq!(
            (read.per_s, read.p50_us, read.p99_us),
            (40_123.45, 1_210.0, 980.0)
        );
        assert!(figures(&format!("{SAID}  Non-2xx or 3xx responses: 7\n")).is_none());
    }
}
