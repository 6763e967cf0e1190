//! Puts a node together, and takes it apart.

use crate::acceptor::Acceptor;
use crate::agent::{Agent, AgentConfig};
use crate::clock::Clock;
use crate::config::HostConfig;
use crate::core_thread::{self, CoreParts, WAKER_TOKEN};
use crate::directory::{Directory, Lock};
use crate::disk::LaneDisk;
use crate::dns::{self, Dns};
use crate::files::ChunkStore;
use crate::gateway::GatewayThread;
use crate::globals::GlobalsHttp;
use crate::http::{Http, HttpConfig};
use crate::mail::{Mail, Mailbox};
use crate::probes::Prober;
use crate::sockets::{Bound, clients_error, listen_error};
use crate::space::SpaceGuard;
use crate::{HostError, limits, log};
use base::{CoreId, LaneId};
use mio::{Poll, Waker};
use node::{AdminCommand, AdminReply, Core, CoreConfig, FrontEnd, Status};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a stop waits for other members to take over what is led here.
const HAND_OVER_TIME: Duration = Duration::from_millis(500);

/// The agent's part of the data directory.
const AGENT: &str = "agent";

/// Runs a node until SIGINT, SIGTERM, or its core stops it. The signals end it without an error.
pub fn run(config: HostConfig) -> Result<(), HostError> {
    run_with(config, |_| {})
}

/// As [`run`], and calls `started` once the threads run, before anything is awaited.
pub fn run_with(config: HostConfig, started: impl FnOnce(&Running)) -> Result<(), HostError> {
    let signals = Signals::new()
        .map_err(|error| HostError::Stopped(format!("cannot listen for signals: {error}")))?;
    let running = start(config)?;
    signals.stop_on_arrival(running.stop_handle());
    started(&running);
    running.wait()
}

/// A node whose threads run.
pub struct Running {
    mailboxes: Vec<Mailbox>,
    cores: Vec<JoinHandle<()>>,
    ends: Receiver<End>,
    stop: StopHandle,
    acceptor: Option<Acceptor>,
    agent: Option<Agent>,
    http: Option<Http>,
    gateway: Option<GatewayThread>,
    dns: Option<Dns>,
    globals: Option<GlobalsHttp>,
    space: Option<SpaceGuard>,
    addresses: Addresses,
    _lock: Lock,
}

/// Where a node listens, with the ports that were given for port 0.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Clients, of each front end that is served.
    pub clients: BTreeMap<FrontEnd, SocketAddr>,
    /// Other nodes.
    pub peers: SocketAddr,
    /// People.
    pub console: Option<SocketAddr>,
    /// HTTP clients of the gateway's routes.
    pub gateway: Option<SocketAddr>,
    /// DNS.
    pub dns: Option<SocketAddr>,
    /// Global transactions.
    pub dtm: Option<SocketAddr>,
}

/// Ends a node from another thread.
#[derive(Clone)]
pub struct StopHandle {
    ends: Sender<End>,
}

impl StopHandle {
    /// Asks the node to stop; it does so shortly after.
    pub fn stop(&self) {
        // When nobody listens, the node has stopped.
        let _ = self.ends.send(End::Asked);
    }
}

enum End {
    Asked,
    Core(Option<String>),
}

/// Starts a node's threads.
pub fn start(config: HostConfig) -> Result<Running, HostError> {
    config.check()?;
    // Ports before the directory: a taken port leaves no trace.
    let peers = Bound::new(config.peers, false)
        .map_err(|error| listen_error(config.peers, "other nodes", "peers", &error))?;
    let client_ports = bind_clients(&config)?;
    let console = config
        .console
        .map(|address| {
            TcpListener::bind(address)
                .map_err(|error| listen_error(address, "the console", "console", &error))
        })
        .transpose()?;
    // So are routes: a file that cannot be used leaves no trace.
    let gateway = (config.gateway.as_ref())
        .map(|gateway| {
            let plan = crate::gateway::read(&gateway.routes).map_err(HostError::Config)?;
            let listener = TcpListener::bind(gateway.address)
                .map_err(|error| listen_error(gateway.address, "the gateway", "gateway", &error))?;
            Ok((listener, gateway.routes.clone(), plan))
        })
        .transpose()?;
    let dns = config
        .dns
        .map(|address| {
            dns::Sockets::bind(address).map_err(|error| listen_error(address, "DNS", "dns", &error))
        })
        .transpose()?;
    let dtm = config
        .dtm
        .map(|address| {
            TcpListener::bind(address)
                .map_err(|error| listen_error(address, "global transactions", "dtm", &error))
        })
        .transpose()?;
    let addresses = Addresses {
        dtm: dtm.as_ref().and_then(|listener| listener.local_addr().ok()),
        dns: dns.as_ref().and_then(|sockets| sockets.address().ok()),
        clients: client_ports
            .first()
            .into_iter()
            .flatten()
            .map(|(front, bound)| (*front, bound.address()))
            .collect(),
        peers: peers.address(),
        console: console
            .as_ref()
            .and_then(|listener| listener.local_addr().ok()),
        gateway: gateway
            .as_ref()
            .and_then(|(listener, ..)| listener.local_addr().ok()),
    };
    let (directory, lock) = Directory::open(&config.data, config.lanes)?;
    let clients_max = limits::raise_open_files(config.clients_max);
    let clock = Clock::new();
    let (ended, ends) = channel();
    let machine = |error: io::Error| {
        HostError::Stopped(format!(
            "cannot start the node's threads: {error}; check the limits on threads and open files"
        ))
    };

    let serving = addresses.console.filter(|_| config.files.serves_chunks);
    let chunks_address = serving.map(|address| config.reached(address));
    let chunks = serving
        .map(|_| ChunkStore::open(&config.data).map(Arc::new))
        .transpose()
        .map_err(|error| {
            HostError::Directory(format!(
                "cannot open the chunks in {}: {error}. Check its owner and the disk",
                config.data.display()
            ))
        })?;
    let mut waiting = Vec::new();
    for (core, ports) in (0..config.cores).zip(client_ports) {
        let poll = Poll::new().map_err(machine)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER_TOKEN).map_err(machine)?);
        let (sender, mail) = channel();
        waiting.push((core, ports, poll, mail, Mailbox::new(sender, waker)));
    }
    let mailboxes: Vec<Mailbox> = waiting
        .iter()
        .map(|(.., mailbox)| mailbox.clone())
        .collect();
    let mut cores = Vec::new();
    let seeds = Entropy::open()?;
    let secret = seeds.secret()?;
    let node = directory.node(|| seeds.seed())?;
    let http_seed = seeds.seed()?;
    let prober = Prober::start().map_err(machine)?;
    for (core, ports, poll, mail, mailbox) in waiting {
        let mut disks = BTreeMap::new();
        let mut starts = Vec::new();
        for lane in (0..directory.lanes()).filter(|lane| lane % config.cores == core) {
            let lane = LaneId(lane);
            starts.push((lane, directory.read_lane(lane)?));
            let disk = LaneDisk::start(&directory, lane, mailbox.clone()).map_err(machine)?;
            disks.insert(lane, disk);
        }
        let core_config = CoreConfig {
            core: CoreId(core),
            cores: config.cores,
            lanes: directory.lanes(),
            address: config.address(),
            initial_members: config.initial_members.clone(),
            node,
            seed: seeds.seed()?,
            secret,
            listeners: config.advertised(),
            chunks_address: chunks_address.clone(),
            ..config.core.clone()
        };
        let parts = CoreParts {
            name: format!("core {core}"),
            core: Core::new(clock.now(), core_config, starts),
            clock,
            poll,
            mail,
            mailbox,
            prober: prober.clone(),
            disks,
            ports,
            shared_ports: config.cores > 1,
            clients_max: (clients_max / config.cores as usize).max(1),
        };
        let end = Ending {
            ends: ended.clone(),
            name: parts.name.clone(),
            reason: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("core-{core}"))
            .spawn(move || run_core(end, parts))
            .map_err(machine)?;
        cores.push(thread);
    }
    let listener = peers
        .listen()
        .map_err(|error| listen_error(config.peers, "other nodes", "peers", &error))?;
    let acceptor = Acceptor::start(listener, mailboxes.clone()).map_err(machine)?;
    let gateway = gateway
        .map(|(listener, routes, plan)| {
            let core = mailboxes[0].clone();
            GatewayThread::start(listener, routes, plan, core, seeds.seed()?).map_err(machine)
        })
        .transpose()?;
    let dns = dns
        .map(|sockets| Dns::start(sockets, mailboxes.clone(), http_seed).map_err(machine))
        .transpose()?;
    let globals = dtm
        .map(|listener| {
            let hosts = config.console_hosts.clone();
            GlobalsHttp::start(listener, mailboxes.clone(), hosts, seeds.seed()?).map_err(machine)
        })
        .transpose()?;
    let http = console
        .map(|listener| {
            let address = config.address();
            let host = address.rsplit_once(':').map_or(&*address, |(host, _)| host);
            let http = HttpConfig {
                node,
                seed: http_seed,
                dns: dns.as_ref().map(Dns::counts),
                node_address: host.trim_matches(['[', ']']).to_owned(),
                hosts: config.console_hosts.clone(),
                gateway: gateway.as_ref().map(GatewayThread::handle),
                files: config.files.clone(),
                agent: config.data.join(AGENT),
                lab: config.lab.clone(),
            };
            Http::start(listener, mailboxes.clone(), http, chunks).map_err(machine)
        })
        .transpose()?;
    let agent = (config.agent.clone().zip(addresses.console))
        .map(|(plan, console)| {
            let config = AgentConfig {
                // A console that listens everywhere listens on loopback, too.
                consoles: vec![match console.ip().is_unspecified() {
                    true => SocketAddr::from(([127, 0, 0, 1], console.port())).to_string(),
                    false => console.to_string(),
                }],
                address: config.reached(console),
                name: plan.name.unwrap_or_else(|| plain(&config.address())),
                zone: plan.zone,
                attributes: plan.attributes,
                packages: plan.packages,
                resources: plan.resources,
                directory: config.data.join(AGENT),
                beat_ms: plan.beat_ms,
                misses: plan.misses,
                log_bytes_max: plan.log_bytes_max,
                cgroups: plan.cgroups,
            };
            Agent::start(config, seeds.seed()?).map_err(machine)
        })
        .transpose()?;
    let least = config.disk_free_min_percent;
    let space = SpaceGuard::start(&directory, least, mailboxes.clone()).map_err(machine)?;
    Ok(Running {
        mailboxes,
        cores,
        ends,
        stop: StopHandle { ends: ended },
        acceptor: Some(acceptor),
        agent,
        http,
        gateway,
        dns,
        globals,
        space: Some(space),
        addresses,
        _lock: lock,
    })
}

impl Running {
    /// Where the node listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// A way to stop it from another thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// A way to look at it from another thread.
    pub fn observer(&self) -> Observer {
        Observer {
            mailboxes: self.mailboxes.clone(),
        }
    }

    /// Waits for the end and takes the node apart. An error says why a core stopped it.
    pub fn wait(mut self) -> Result<(), HostError> {
        let end = self.ends.recv().unwrap_or(End::Asked);
        let outcome = match end {
            End::Asked => {
                // While others can still be told that its tasks have ended.
                self.agent = None;
                self.hand_over();
                Ok(())
            }
            End::Core(Some(reason)) => Err(HostError::Stopped(reason)),
            End::Core(None) => Ok(()),
        };
        self.agent = None;
        self.http = None;
        self.gateway = None;
        self.dns = None;
        self.globals = None;
        self.space = None;
        self.acceptor = None;
        for mailbox in &self.mailboxes {
            mailbox.send(Mail::Stop);
        }
        for core in self.cores.drain(..) {
            let _ = core.join();
        }
        outcome
    }

    /// Before a wanted stop, other members are asked to lead, so that clients wait less.
    fn hand_over(&self) {
        let deadline = Instant::now() + HAND_OVER_TIME;
        let left = || deadline.saturating_duration_since(Instant::now());
        let observer = self.observer();
        let mut asked = false;
        while !left().is_zero() {
            let Some(statuses) = observer.statuses(left()) else {
                return;
            };
            let mut led = false;
            for (mailbox, status) in self.mailboxes.iter().zip(&statuses) {
                for (shard, to) in hand_overs(status) {
                    led = true;
                    if !asked {
                        ask(mailbox, AdminCommand::TransferLeader { shard, to }, left());
                    }
                }
            }
            if !led {
                return;
            }
            asked = true;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Looks at a running node.
#[derive(Clone)]
pub struct Observer {
    mailboxes: Vec<Mailbox>,
}

impl Observer {
    /// The status of each core; `None` when one does not answer within `time`.
    pub fn statuses(&self, time: Duration) -> Option<Vec<Status>> {
        self.mailboxes
            .iter()
            .map(|mailbox| match ask(mailbox, AdminCommand::Status, time)? {
                AdminReply::Status(status) => Some(*status),
                _ => None,
            })
            .collect()
    }
}

/// For each shard led here with another voter that was heard from lately: who should lead, the one
/// with the longest log.
fn hand_overs(status: &Status) -> Vec<(String, String)> {
    let reachable = |node: &String| {
        status
            .members
            .iter()
            .any(|member| member.node == *node && member.reachable && !member.this_node)
    };
    status
        .shards
        .iter()
        .filter(|shard| shard.role == "leader")
        .filter_map(|shard| {
            let (node, ..) = shard
                .replicas
                .iter()
                .filter(|(node, kind, _)| kind == "voter" && reachable(node))
                .max_by_key(|(_, _, matched)| *matched)?;
            Some((shard.name.clone(), node.clone()))
        })
        .collect()
}

fn ask(mailbox: &Mailbox, command: AdminCommand, time: Duration) -> Option<AdminReply> {
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    mailbox.send(Mail::Admin { command, reply });
    let deadline = Instant::now() + time;
    loop {
        match answer.try_recv() {
            Ok(reply) => return Some(reply),
            Err(tokio::sync::oneshot::error::TryRecvError::Closed) => return None,
            Err(tokio::sync::oneshot::error::TryRecvError::Empty) if Instant::now() >= deadline => {
                return None;
            }
            Err(tokio::sync::oneshot::error::TryRecvError::Empty) => {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Tells the end of a core's thread, also when it panicked.
struct Ending {
    ends: Sender<End>,
    name: String,
    reason: Option<Option<String>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let reason = self.reason.take().unwrap_or_else(|| {
            Some(format!(
                "{} ended by a panic (see above); start the node again, and report this",
                self.name
            ))
        });
        let _ = self.ends.send(End::Core(reason));
    }
}

fn run_core(mut end: Ending, parts: CoreParts) {
    end.reason = Some(core_thread::run(parts));
}

/// For each core a bound port of each front end; the cores share its clients.
fn bind_clients(config: &HostConfig) -> Result<Vec<BTreeMap<FrontEnd, Bound>>, HostError> {
    let shared = config.cores > 1;
    let mut ports: Vec<BTreeMap<_, _>> = (0..config.cores).map(|_| BTreeMap::new()).collect();
    for (&front, &wanted) in &config.clients {
        let fault = |error: io::Error| clients_error(wanted, front, &error);
        if shared {
            // A shared binding succeeds beside another process's shared one: try alone first.
            Bound::new(wanted, false).map_err(fault)?;
        }
        let mut address = wanted;
        for ports in &mut ports {
            let bound = Bound::new(address, shared).map_err(fault)?;
            address = bound.address();
            ports.insert(front, bound);
        }
    }
    Ok(ports)
}

/// The system's source of randomness.
struct Entropy(File);

impl Entropy {
    const PATH: &str = "/dev/urandom";

    fn open() -> Result<Self, HostError> {
        File::open(Self::PATH).map(Self).map_err(Self::fault)
    }

    fn fault(error: io::Error) -> HostError {
        HostError::Stopped(format!(
            "cannot read {}: {error}; session passwords need it",
            Self::PATH
        ))
    }

    fn bytes<const N: usize>(&self) -> Result<[u8; N], HostError> {
        let mut bytes = [0; N];
        (&self.0).read_exact(&mut bytes).map_err(Self::fault)?;
        Ok(bytes)
    }

    fn seed(&self) -> Result<u64, HostError> {
        Ok(u64::from_be_bytes(self.bytes()?))
    }

    fn secret(&self) -> Result<[u8; 32], HostError> {
        self.bytes()
    }
}

/// A number that nobody can guess.
pub fn draw() -> Result<u64, HostError> {
    Entropy::open()?.seed()
}

/// SIGINT and SIGTERM, as bytes on a socket.
struct Signals(UnixStream);

impl Signals {
    fn new() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        for signal in [libc::SIGINT, libc::SIGTERM] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self(read))
    }

    /// The first signal stops the node in order, a second ends the process at once.
    fn stop_on_arrival(mut self, stop: StopHandle) {
        let spawned = std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut byte = [0];
                if self.0.read_exact(&mut byte).is_ok() {
                    log::info("stopping");
                    stop.stop();
                }
                if self.0.read_exact(&mut byte).is_ok() {
                    log::warn("stopping at once: a second signal came");
                    std::process::exit(1);
                }
            });
        if let Err(error) = spawned {
            log::warn(format!("signals are not heard: {error}"));
        }
    }
}

/// An address as a name.
fn plain(address: &str) -> String {
    let letters = address.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() || "-_.".contains(c) => c,
        _ => '-',
    });
    letters.collect()
}
