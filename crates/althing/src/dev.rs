//! `althing dev` and `althing serve`.
//!
//! One node runs in this process. Several run as processes of their own, so that one can be killed to
//! see what happens; each reads a pipe that ends with this process, however it ends, and stops then.
//! A node that ends by itself is started again after two seconds, unless it keeps ending.

use crate::{Failure, Outcome, config, failed, http, laboratory};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use host::gateway::GatewayConfig;
use host::{HostConfig, HostError};
use node::FrontEnd;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const CONSOLE_PORT: u16 = 7400;
const DNS_PORT: u16 = 8600;
const PEERS_PORT: u16 = 7401;
/// Node k listens this much above node k − 1.
const NODE_STEP: u16 = 10;
const NODES_MAX: u16 = 9;

const RESTART_PAUSE: Duration = Duration::from_secs(2);
/// A node that ends this soon, this often in a row, is not started again.
const SHORT_LIFE: Duration = Duration::from_secs(5);
const SHORT_LIVES_MAX: u32 = 3;
/// A node that does not stop in this time is killed.
const STOP_TIME: Duration = Duration::from_secs(10);
/// After this, the banner is printed with what is ready.
const READY_TIME: Duration = Duration::from_secs(15);

/// Flags of `althing dev`.
#[derive(Args)]
pub struct Options {
    /// How many nodes: 1 runs in this process, more in processes of their own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: u16,
    /// Where the data are kept between runs
    #[arg(long, value_name = "DIR", default_value = "./althing-data")]
    data: PathBuf,
    /// Add K to every port
    #[arg(long, value_name = "K", default_value_t = 0)]
    port_offset: u16,
    /// Serve only these protocols
    #[arg(long, value_name = "PROTOCOL", value_parser = front_ends())]
    only: Vec<FrontEnd>,
    /// Serve a gateway, too, by this file of routes
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
}

fn front_ends() -> impl TypedValueParser<Value = FrontEnd> {
    PossibleValuesParser::new(FrontEnd::ALL.map(FrontEnd::key)).try_map(|key| {
        (FrontEnd::ALL.into_iter())
            .find(|front| front.key() == key)
            .ok_or("no such protocol")
    })
}

/// The ports of a node on loopback.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Ports {
    /// Of the front ends that are served.
    clients: BTreeMap<FrontEnd, u16>,
    peers: u16,
    console: u16,
    /// Where the gateway is served, if it is.
    gateway: Option<u16>,
    dns: u16,
    dtm: u16,
}

impl Ports {
    /// Of node `node`, from 1, that serves `fronts`.
    fn of(node: u16, offset: u16, fronts: &[FrontEnd], gateway: bool) -> Result<Self, Failure> {
        let port = |base: u16| {
            base.checked_add(offset)
                .and_then(|port| port.checked_add(NODE_STEP * (node - 1)))
                .ok_or_else(|| {
                    Failure::Usage(format!(
                        "--port-offset {offset} puts node {node} beyond port 65535: use a smaller one"
                    ))
                })
        };
        Ok(Self {
            clients: (fronts.iter())
                .map(|front| Ok((*front, port(front.port())?)))
                .collect::<Result<_, _>>()?,
            peers: port(PEERS_PORT)?,
            console: port(CONSOLE_PORT)?,
            gateway: gateway.then(|| port(config::GATEWAY_PORT)).transpose()?,
            dns: port(DNS_PORT)?,
            dtm: port(config::DTM_PORT)?,
        })
    }

    /// Where each front end listens.
    fn listeners(&self) -> impl Iterator<Item = (FrontEnd, SocketAddr)> {
        (self.clients.iter()).map(|(front, port)| (*front, loopback(*port)))
    }
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// `althing serve --config FILE`.
pub fn serve(
    file: &Path,
    (join, standby_of): (Vec<String>, Vec<String>),
    until_stdin_ends: bool,
) -> Outcome {
    let mut config = config::load(file)?;
    config.lab = laboratory::of_node();
    if !join.is_empty() {
        config.core.join = join;
    }
    if !standby_of.is_empty() {
        config.core.standby_of = standby_of;
    }
    host::run_with(config, |running| {
        if until_stdin_ends {
            let stop = running.stop_handle();
            std::thread::spawn(move || {
                // Whatever comes is thrown away; the end, or an error, is the sign.
                let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
                stop.stop();
            });
        }
        let addresses = running.addresses();
        let console = addresses
            .console
            .map_or_else(|| "off".into(), |a| format!("http://{a}/"));
        host::log::info(format!(
            "started: other nodes on {}, console {console}",
            addresses.peers
        ));
    })
    .map_err(explain)
}

fn explain(error: HostError) -> Failure {
    match error {
        HostError::Config(message) => Failure::Usage(message),
        other => failed(other.to_string()),
    }
}

/// `althing dev`.
pub fn run(options: &Options) -> Outcome {
    let fronts: Vec<FrontEnd> = (FrontEnd::ALL.into_iter())
        .filter(|front| options.only.is_empty() || options.only.contains(front))
        .collect();
    let ports = (1..=options.nodes)
        .map(|node| {
            Ports::of(
                node,
                options.port_offset,
                &fronts,
                options.gateway.is_some(),
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let memory = Memory {
        nodes: options.nodes,
        port_offset: options.port_offset,
    };
    memory.check(&options.data)?;
    check_ports(&ports)?;
    if options.nodes == 1 {
        run_one(options, &ports[0], &memory)
    } else {
        run_many(options, &ports, &memory)
    }
}

/// How the data directory was used before: a cluster knows its members by their addresses.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Memory {
    nodes: u16,
    port_offset: u16,
}

impl Memory {
    const FILE: &str = "dev.toml";

    fn check(&self, data: &Path) -> Outcome {
        let path = data.join(Self::FILE);
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(());
        };
        let before: Self = toml::from_str(&text).map_err(|error| {
            Failure::Usage(format!(
                "{} cannot be read: {}. Delete it if you know how the directory was used",
                path.display(),
                error.message()
            ))
        })?;
        if before != *self {
            return Err(Failure::Usage(format!(
                "{} holds a cluster that ran with --nodes {} --port-offset {}, and its members know each other by these addresses: use the same, or another directory (--data DIR), or delete this one",
                data.display(),
                before.nodes,
                before.port_offset
            )));
        }
        Ok(())
    }

    fn keep(&self, data: &Path) -> Outcome {
        let path = data.join(Self::FILE);
        let text = toml::to_string(self).map_err(|error| failed(error.to_string()))?;
        fs::write(&path, text)
            .map_err(|error| failed(format!("cannot write {}: {error}", path.display())))
    }
}

/// All ports before any process is started, so that one message says what to change.
fn check_ports(ports: &[Ports]) -> Outcome {
    for (i, node) in ports.iter().enumerate() {
        let clients =
            (node.listeners()).map(|(front, at)| (at, format!("{} clients", front.name())));
        let others = [
            (loopback(node.peers), "other nodes".to_owned()),
            (loopback(node.console), "the console".to_owned()),
            (loopback(node.dns), "DNS".to_owned()),
            (loopback(node.dtm), "global transactions".to_owned()),
        ];
        let gateway = (node.gateway).map(|port| (loopback(port), "the gateway".to_owned()));
        for (address, what) in clients.chain(others).chain(gateway) {
            if let Err(error) = TcpListener::bind(address) {
                return Err(failed(format!(
                    "node {} cannot listen on {address} for {what}: {error}. Stop the program that has the port, or add to all ports with --port-offset K",
                    i + 1,
                )));
            }
        }
    }
    Ok(())
}

fn run_one(options: &Options, ports: &Ports, memory: &Memory) -> Outcome {
    let started = Instant::now();
    let data = options.data.join("node-1").join("data");
    let peers = loopback(ports.peers);
    let config = HostConfig {
        agent: Some(host::AgentPlan::default()),
        lab: laboratory::of_node(),
        data,
        clients: ports.listeners().collect(),
        peers,
        console: Some(loopback(ports.console)),
        dns: Some(loopback(ports.dns)),
        dtm: Some(loopback(ports.dtm)),
        initial_members: vec![peers.to_string()],
        gateway: (ports.gateway.zip(options.gateway.clone())).map(|(port, routes)| GatewayConfig {
            address: loopback(port),
            routes,
        }),
        ..HostConfig::default()
    };
    let banner = Banner {
        ports: vec![ports.clone()],
        data: options.data.clone(),
    };
    let data = options.data.clone();
    let mut kept = Ok(());
    host::run_with(config, |running| {
        kept = memory.keep(&data);
        let observer = running.observer();
        std::thread::spawn(move || {
            let ready = wait_until(READY_TIME, Duration::from_millis(2), || {
                observer
                    .statuses(Duration::from_secs(1))
                    .is_some_and(|all| all.iter().all(|status| status.ready))
            });
            banner.print(started.elapsed(), ready);
        });
    })
    .map_err(explain)?;
    kept
}

/// Tries until it holds (true) or the time is over.
fn wait_until(time: Duration, pause: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::sleep(pause);
    }
    false
}

struct Banner {
    ports: Vec<Ports>,
    data: PathBuf,
}

impl Banner {
    fn print(&self, took: Duration, ready: bool) {
        // Whoever closed standard output does not want the banner.
        let _ = std::io::stdout().write_all(self.text(took, ready).as_bytes());
    }

    fn text(&self, took: Duration, ready: bool) -> String {
        let list = |port: &dyn Fn(&Ports) -> u16, before: &str, after: &str, between: &str| {
            let all: Vec<String> = self
                .ports
                .iter()
                .map(|ports| format!("{before}127.0.0.1:{}{after}", port(ports)))
                .collect();
            all.join(between)
        };
        let nodes = match self.ports.len() {
            1 => "1 node".to_owned(),
            n => format!("{n} nodes"),
        };
        let state = if ready {
            format!("ready in {} ms", took.as_millis())
        } else {
            "not ready yet; the lines above say why".to_owned()
        };
        let mut lines = Vec::new();
        for front in self.ports[0].clients.keys() {
            let clients = list(&|p| p.clients[front], "", "", ",");
            lines.push((format!("{} clients", front.name()), clients));
        }
        let consoles = list(&|p| p.console, "http://", "/", "  ");
        lines.push(("Console".into(), consoles));
        lines.push(("DNS".into(), list(&|p| p.dns, "", "", ",")));
        let dtm = list(&|p| p.dtm, "http://", "/api/dtmsvr", "  ");
        lines.push(("DTM transactions".into(), dtm));
        let peers = list(&|p| p.peers, "", "", ",");
        lines.push(("Between nodes".into(), peers));
        let data = format!("{} (kept between runs)", self.data.display());
        lines.push(("Data".into(), data));
        let mut what = "Try";
        for command in self.ports[0].clients.keys().flat_map(|f| self.examples(*f)) {
            lines.push((std::mem::take(&mut what).into(), command));
        }
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!("\nAlthing {version}: {nodes}, {state}\n");
        for (what, value) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {what:<18} {value}");
        }
        text + "Ctrl-C stops it.\n\n"
    }

    /// What to type first.
    fn examples(&self, front: FrontEnd) -> Vec<String> {
        let ports: Vec<u16> = self
            .ports
            .iter()
            .map(|ports| ports.clients[&front])
            .collect();
        match front {
            FrontEnd::Zookeeper => {
                let mut command = "althing tree create /hello world".to_owned();
                if ports[0] != front.port() {
                    command += &format!(" --server 127.0.0.1:{}", ports[0]);
                }
                let servers: Vec<String> = ports
                    .iter()
                    .map(|port| loopback(*port).to_string())
                    .collect();
                vec![command, format!("zkCli.sh -server {}", servers.join(","))]
            }
            FrontEnd::Redis => vec![format!("redis-cli -p {} SET hello world", ports[0])],
            FrontEnd::Kafka => vec![format!(
                "echo world | kcat -P -b 127.0.0.1:{} -t hello",
                ports[0]
            )],
        }
    }
}

// ---- several nodes ---------------------------------------------------------------------------

enum News {
    /// A node's process ended; the words say how.
    Ended { node: usize, how: String },
    /// A node that ended may be started again.
    StartAgain { node: usize },
    /// SIGINT or SIGTERM.
    Signal,
}

struct Node {
    name: String,
    config: PathBuf,
    /// Open while the node shall run.
    pipe: Option<ChildStdin>,
    pid: u32,
    running: bool,
    since: Instant,
    short_lives: u32,
}

fn run_many(options: &Options, ports: &[Ports], memory: &Memory) -> Outcome {
    let started = Instant::now();
    let (news, heard) = channel();
    listen_for_signals(news.clone())?;
    let mut nodes = Vec::new();
    for (i, own) in ports.iter().enumerate() {
        let folder = options.data.join(format!("node-{}", i + 1));
        let config = folder.join("althing.toml");
        let text = node_config(&folder, own, ports, options.gateway.as_deref())?;
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&config, text))
            .map_err(|error| failed(format!("cannot write {}: {error}", config.display())))?;
        nodes.push(Node {
            name: format!("node {}", i + 1),
            config,
            pipe: None,
            pid: 0,
            running: false,
            since: Instant::now(),
            short_lives: 0,
        });
    }
    memory.keep(&options.data)?;
    for (i, node) in nodes.iter_mut().enumerate() {
        node.start(i, &news)?;
    }
    let banner = Banner {
        ports: ports.to_vec(),
        data: options.data.clone(),
    };
    let consoles: Vec<String> = ports
        .iter()
        .map(|ports| loopback(ports.console).to_string())
        .collect();
    std::thread::spawn(move || {
        let ready = wait_until(READY_TIME, Duration::from_millis(10), || {
            consoles.iter().all(|console| {
                http::ask(console, "/readyz", None, Duration::from_secs(1))
                    .is_ok_and(|(code, _)| code == 200)
            })
        });
        banner.print(started.elapsed(), ready);
    });
    watch(&mut nodes, &news, &heard)
}

/// The configuration file of a node.
fn node_config(
    folder: &Path,
    own: &Ports,
    all: &[Ports],
    routes: Option<&Path>,
) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct File {
        data: PathBuf,
        initial_members: Vec<String>,
        listen: BTreeMap<&'static str, String>,
        agent: BTreeMap<&'static str, bool>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        gateway: BTreeMap<&'static str, PathBuf>,
    }
    let data = std::path::absolute(folder.join("data"))
        .map_err(|error| failed(format!("cannot resolve {}: {error}", folder.display())))?;
    let members = |ports: &Ports| loopback(ports.peers).to_string();
    let mut listen = BTreeMap::from(FrontEnd::ALL.map(|front| (front.key(), "off".to_owned())));
    listen.extend(
        own.listeners()
            .map(|(front, at)| (front.key(), at.to_string())),
    );
    listen.insert("peers", loopback(own.peers).to_string());
    listen.insert("console", loopback(own.console).to_string());
    let mut gateway = BTreeMap::new();
    if let Some((port, routes)) = own.gateway.zip(routes) {
        listen.insert("gateway", loopback(port).to_string());
        let routes = std::path::absolute(routes)
            .map_err(|error| failed(format!("cannot resolve {}: {error}", routes.display())))?;
        gateway.insert("routes", routes);
    }
    listen.insert("dns", loopback(own.dns).to_string());
    listen.insert("dtm", loopback(own.dtm).to_string());
    toml::to_string(&File {
        data,
        initial_members: all.iter().map(members).collect(),
        listen,
        agent: [("run", true)].into(),
        gateway,
    })
    .map_err(|error| failed(format!("cannot write a configuration: {error}")))
}

impl Node {
    fn start(&mut self, number: usize, news: &Sender<News>) -> Outcome {
        let fault = |what: &str, error: std::io::Error| {
            failed(format!("cannot {what} {}: {error}", self.name))
        };
        let program = std::env::current_exe().map_err(|e| fault("find the program of", e))?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(&self.config)
            .arg("--until-stdin-ends")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C reaches this process only, which stops the nodes in order.
            .process_group(0)
            .spawn()
            .map_err(|e| fault("start", e))?;
        self.pipe = child.stdin.take();
        self.pid = child.id();
        self.running = true;
        self.since = Instant::now();
        for output in [
            child
                .stdout
                .take()
                .map(|o| Box::new(o) as Box<dyn Read + Send>),
            child
                .stderr
                .take()
                .map(|o| Box::new(o) as Box<dyn Read + Send>),
        ]
        .into_iter()
        .flatten()
        {
            forward(self.name.clone(), output);
        }
        let news = news.clone();
        std::thread::spawn(move || {
            let how = describe_end(&mut child);
            // When nobody listens, this process is ending.
            let _ = news.send(News::Ended { node: number, how });
        });
        Ok(())
    }

    fn command(&self) -> String {
        format!("althing serve --config {}", self.config.display())
    }
}

fn describe_end(child: &mut Child) -> String {
    match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => format!("it cannot be waited for: {error}"),
    }
}

/// Prints a node's lines behind its name.
fn forward(name: String, output: Box<dyn Read + Send>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            say(&format!("[{name}] {line}"));
        }
    });
}

/// One write a line, so that lines of several nodes do not mix.
fn say(line: &str) {
    let _ = std::io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}

fn listen_for_signals(news: Sender<News>) -> Outcome {
    let fault = |error: std::io::Error| failed(format!("cannot listen for signals: {error}"));
    let (mut read, write) = UnixStream::pair().map_err(fault)?;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let write = write.try_clone().map_err(fault)?;
        signal_hook::low_level::pipe::register(signal, write).map_err(fault)?;
    }
    std::thread::spawn(move || {
        let mut byte = [0];
        while read.read_exact(&mut byte).is_ok() && news.send(News::Signal).is_ok() {}
    });
    Ok(())
}

/// Until a signal: nodes that end are started again. After it: all are stopped.
fn watch(nodes: &mut [Node], news: &Sender<News>, heard: &Receiver<News>) -> Outcome {
    loop {
        match heard.recv() {
            Err(_) | Ok(News::Signal) => return stop(nodes, heard),
            Ok(News::StartAgain { node }) => nodes[node].start(node, news)?,
            Ok(News::Ended { node, how }) => {
                let ended = &mut nodes[node];
                ended.running = false;
                ended.pipe = None;
                if ended.since.elapsed() < SHORT_LIFE {
                    ended.short_lives += 1;
                } else {
                    ended.short_lives = 0;
                }
                if ended.short_lives >= SHORT_LIVES_MAX {
                    say(&format!(
                        "{} ended ({how}), {SHORT_LIVES_MAX} times in a row; it is not started again. By hand: {}",
                        ended.name,
                        ended.command()
                    ));
                    if nodes.iter().all(|node| !node.running) {
                        return Err(failed("no node is left; the lines above say why"));
                    }
                    continue;
                }
                say(&format!(
                    "{} ended ({how}); the others go on. It is started again in {} s",
                    ended.name,
                    RESTART_PAUSE.as_secs()
                ));
                let news = news.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(RESTART_PAUSE);
                    let _ = news.send(News::StartAgain { node });
                });
            }
        }
    }
}

fn stop(nodes: &mut [Node], heard: &Receiver<News>) -> Outcome {
    let deadline = Instant::now() + STOP_TIME;
    for node in nodes.iter_mut() {
        node.pipe = None;
    }
    while nodes.iter().any(|node| node.running) {
        let left = deadline.saturating_duration_since(Instant::now());
        match heard.recv_timeout(left) {
            Ok(News::Ended { node, .. }) => nodes[node].running = false,
            Ok(News::StartAgain { .. }) => {}
            // A second signal, or the time is over.
            Ok(News::Signal) | Err(_) => {
                for node in nodes.iter().filter(|node| node.running) {
                    say(&format!("{} does not stop; it is killed", node.name));
                    kill(node.pid);
                }
                return Err(failed("not every node stopped in order"));
            }
        }
    }
    Ok(())
}

// The standard library kills only through `Child`, which the thread that waits for it owns.
#[allow(unsafe_code)]
fn kill(pid: u32) {
    // SAFETY: no memory is involved. The process is our child and has not been waited for.
    unsafe {
        libc::kill(pid as libc::pid_t, libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_k_listens_ten_above_the_one_before() {
        const FRONTS: [FrontEnd; 1] = [FrontEnd::Zookeeper];
        let ports = |zookeeper, peers, console, dns, dtm| Ports {
            clients: BTreeMap::from([(FrontEnd::Zookeeper, zookeeper)]),
            peers,
            console,
            dns,
            dtm,
            gateway: None,
        };
        assert_eq!(
            Ports::of(1, 0, &FRONTS, false).unwrap(),
            ports(2181, 7401, 7400, 8600, 36_789)
        );
        assert_eq!(
            Ports::of(3, 100, &FRONTS, false).unwrap(),
            ports(2301, 7521, 7520, 8720, 36_909)
        );
        assert!(Ports::of(1, 28_746, &FRONTS, false).is_ok());
        for (node, offset) in [(1, 28_747), (2, 28_737), (9, 65_535)] {
            assert!(
                matches!(Ports::of(node, offset, &FRONTS, false), Err(Failure::Usage(text)) if text.contains("--port-offset"))
            );
        }
    }

    #[test]
    fn ports_of_nine_nodes_do_not_meet() {
        let mut all: Vec<u16> = (1..=NODES_MAX)
            .flat_map(|node| {
                let ports = Ports::of(node, 0, &FrontEnd::ALL, false).unwrap();
                let clients = ports.clients.into_values();
                clients.chain([ports.peers, ports.console, ports.dns, ports.dtm])
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        let listeners = FrontEnd::ALL.len() + 4;
        assert_eq!(all.len(), usize::from(NODES_MAX) * listeners);
    }

    #[test]
    fn generated_configuration_is_one_that_serve_takes() {
        let of = |node, fronts: &[FrontEnd]| Ports::of(node, 5, fronts, true).unwrap();
        let all: Vec<Ports> = (1..=3).map(|node| of(node, &FrontEnd::ALL)).collect();
        let text = node_config(
            Path::new("some \"folder\""),
            &all[1],
            &all,
            Some(Path::new("routes.toml")),
        )
        .unwrap();
        let config = config::parse(&text, |_| None).unwrap();
        assert_eq!(config.peers, loopback(7416));
        assert_eq!(config.clients, all[1].listeners().collect());
        assert_eq!(config.initial_members.len(), 3);
        assert_eq!(config.gateway.map(|g| g.address), Some(loopback(8095)));
        assert!(config.data.ends_with("some \"folder\"/data"));
        let text = node_config(Path::new("x"), &of(2, &[]), &all, None).unwrap();
        let config = config::parse(&text, |_| None).unwrap();
        assert_eq!(config.clients, BTreeMap::new());
    }

    #[test]
    fn taken_port_is_named_with_the_option_that_moves_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let ports = Ports {
            clients: BTreeMap::from([(FrontEnd::Zookeeper, port)]),
            peers: 0,
            console: 0,
            gateway: None,
            dns: 0,
            dtm: 0,
        };
        match check_ports(&[ports]) {
            Err(Failure::Failed(text)) => {
                assert!(text.contains(&port.to_string()) && text.contains("--port-offset"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn directory_of_another_shape_is_refused() {
        let data = std::env::temp_dir().join(format!("althing-dev-{}", std::process::id()));
        fs::create_dir_all(&data).unwrap();
        let three = Memory {
            nodes: 3,
            port_offset: 0,
        };
        three.check(&data).unwrap();
        three.keep(&data).unwrap();
        three.check(&data).unwrap();
        let one = Memory {
            nodes: 1,
            port_offset: 0,
        };
        assert!(
            matches!(one.check(&data), Err(Failure::Usage(text)) if text.contains("--nodes 3"))
        );
        fs::remove_dir_all(&data).unwrap();
    }
}
