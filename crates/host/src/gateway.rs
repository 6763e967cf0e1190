//! The gateway: HTTP from clients to servers, by a file of routes.
//!
//! It runs on a thread of its own and decides nothing by itself: which server, whether now, whether at all is asked of the
//! crate `traffic`, with the time of this thread's clock. All of it lives on one thread, so that each decision is one step.
//!
//! Reading order: [`file`] (the format), [`table`] (what is in use), [`route`], [`upstream`], [`proxy`] (the life of a request),
//! [`body`], [`cache`], [`headers`], [`framing`] and [`io`] (what comes in before the HTTP library sees it).

mod body;
mod cache;
pub mod file;
mod framing;
mod headers;
mod io;
mod orders;
mod proxy;
mod route;
mod table;
mod upstream;

use crate::clock::Clock;
use crate::log;
use crate::mail::Mailbox;
use crate::thread::Thread;
use base::Rng;
pub use orders::{report_of, routes};

use body::Answered;
use cache::Cache;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use node::{AdminCommand, AdminReply};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use table::Table;
use tokio::sync::{mpsc, oneshot, watch};
use traffic::degrade::{Switch, is_degraded};
use traffic::report::{GatewayReport, RouteReport, ServerReport, UpstreamReport};

/// How often the file is looked at. A change is taken once it has stood for that long.
const FILE_TIME: Duration = Duration::from_millis(250);
/// How often this node's core is asked for the switches.
const SWITCH_TIME: Duration = Duration::from_millis(200);
/// A core that does not answer in this time is asked again.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Requests under way have so long to end when the node stops.
const STOP_TIME: Duration = Duration::from_secs(2);
/// Bytes of a client's requests that are read ahead.
const READ_BYTES_MAX: usize = 128 << 10;
/// Pause when the system has no more files for connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Where a gateway listens and what it reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayConfig {
    /// Clients.
    pub address: SocketAddr,
    /// The file of routes.
    pub routes: PathBuf,
}

/// Reads a file of routes. An error names the line and says what to do.
pub fn read(path: &Path) -> Result<file::Plan, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the routes {}: {error}", path.display()))?;
    file::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
}

/// The gateway's thread. Dropping it ends the thread.
pub struct GatewayThread {
    handle: GatewayHandle,
    _thread: Thread,
}

/// Asks a running gateway.
#[derive(Clone)]
pub struct GatewayHandle(mpsc::UnboundedSender<Order>);

enum Order {
    Report(oneshot::Sender<GatewayReport>),
    Reload(oneshot::Sender<Result<String, String>>),
    Purge {
        route: String,
        path: String,
        reply: oneshot::Sender<usize>,
    },
}

impl GatewayHandle {
    /// How it fares; `None` when it has ended.
    pub async fn report(&self) -> Option<GatewayReport> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Order::Report(reply)).ok()?;
        answer.await.ok()
    }

    /// Reads its file again now.
    pub async fn reload(&self) -> Result<String, String> {
        let (reply, answer) = oneshot::channel();
        let ended = || "the gateway has ended".to_owned();
        self.0.send(Order::Reload(reply)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Forgets kept answers of a route (empty: of all) whose paths begin so. How many there were.
    pub async fn purge(&self, route: String, path: String) -> Option<usize> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Purge { route, path, reply };
        self.0.send(order).ok()?;
        answer.await.ok()
    }
}

impl GatewayThread {
    /// Starts serving `plan`, which was read from `routes`, on `listener`.
    pub fn start(
        listener: TcpListener,
        routes: PathBuf,
        plan: file::Plan,
        core: Mailbox,
        seed: u64,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (sender, orders) = mpsc::unbounded_channel();
        let thread = Thread::start("gateway", async move |stopped| {
            let clock = Clock::new();
            let gateway = Rc::new(Gateway {
                cache: Cache::new(plan.cache_bytes_max),
                table: RefCell::new(Rc::new(Table::new(plan, None, clock))),
                switches: RefCell::default(),
                rng: RefCell::new(Rng::new(seed)),
                clock,
                address,
                file: routes,
                loads: Cell::new(1),
                refused: RefCell::default(),
                connections: Cell::new(0),
            });
            gateway.run(listener, core, orders, stopped).await;
        })?;
        Ok(Self {
            handle: GatewayHandle(sender),
            _thread: thread,
        })
    }

    /// A way to ask it.
    pub fn handle(&self) -> GatewayHandle {
        self.handle.clone()
    }
}

/// What all connections share.
pub(crate) struct Gateway {
    table: RefCell<Rc<Table>>,
    cache: Cache,
    switches: RefCell<BTreeMap<String, Switch>>,
    rng: RefCell<Rng>,
    clock: Clock,
    address: SocketAddr,
    file: PathBuf,
    loads: Cell<u64>,
    refused: RefCell<String>,
    connections: Cell<usize>,
}

impl Gateway {
    async fn run(
        self: Rc<Self>,
        listener: TcpListener,
        core: Mailbox,
        orders: mpsc::UnboundedReceiver<Order>,
        stopped: oneshot::Receiver<()>,
    ) {
        let (end, ending) = watch::channel(false);
        let spawn = tokio::task::spawn_local::<std::pin::Pin<Box<dyn Future<Output = ()>>>>;
        let accepting = spawn(Box::pin(self.clone().accept(listener, ending)));
        spawn(Box::pin(self.clone().obey(orders)));
        spawn(Box::pin(self.clone().watch_file()));
        spawn(Box::pin(self.clone().watch_switches(core)));
        let _ = stopped.await;
        accepting.abort();
        let _ = end.send(true);
        let deadline = tokio::time::Instant::now() + STOP_TIME;
        while self.connections.get() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn accept(self: Rc<Self>, listener: TcpListener, ending: watch::Receiver<bool>) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                log::error(format!("the gateway is not served: {error}"));
                return;
            }
        };
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    // Beyond the bound, a connection is closed at once.
                    if self.connections.get() < self.table.borrow().plan.connections_max {
                        let served = self.clone().serve_connection(stream, from, ending.clone());
                        tokio::task::spawn_local(served);
                    }
                }
                Err(error) => {
                    log::warn(format!("the gateway cannot accept a connection: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_connection(
        self: Rc<Self>,
        stream: tokio::net::TcpStream,
        from: SocketAddr,
        mut ending: watch::Receiver<bool>,
    ) {
        let _counted = Counted::new(&self);
        let _ = stream.set_nodelay(true);
        let (head, idle) = {
            let table = self.table.borrow();
            (table.plan.head_ms.time(), table.plan.idle_ms.time())
        };
        let gateway = self.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let gateway = gateway.clone();
            async move {
                let answer = gateway.answer(from.ip().to_canonical(), request).await;
                Ok::<Response<Answered>, Infallible>(answer)
            }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .max_buf_size(READ_BYTES_MAX);
        let stream = TokioIo::new(io::Guarded::new(stream, idle));
        let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
        // How a connection ended is its client's business.
        tokio::select! {
            _ = connection.as_mut() => {}
            _ = ending.wait_for(|ends| *ends) => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    async fn obey(self: Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            // Whoever asked may have gone.
            match order {
                Order::Report(reply) => _ = reply.send(self.report()),
                Order::Reload(reply) => _ = reply.send(self.reload()),
                Order::Purge { route, path, reply } => {
                    let _ = reply.send(self.cache.purge(&route, &path));
                }
            }
        }
    }

    /// Takes the file as it is now, or keeps what there is.
    fn reload(&self) -> Result<String, String> {
        match read(&self.file) {
            Ok(plan) => {
                self.cache.resize(plan.cache_bytes_max);
                let old = self.table.borrow().clone();
                let routes = plan.routes.len();
                let new = Table::new(plan, Some(&old), self.clock);
                *self.table.borrow_mut() = Rc::new(new);
                self.refused.borrow_mut().clear();
                self.loads.set(self.loads.get() + 1);
                let message = format!("{}: {routes} routes are in use", self.file.display());
                log::info(format!("gateway: {message}"));
                Ok(message)
            }
            Err(why) => {
                log::warn(format!("gateway: the routes stay as they were: {why}"));
                why.clone_into(&mut self.refused.borrow_mut());
                Err(why)
            }
        }
    }

    async fn watch_file(self: Rc<Self>) {
        let look = || -> Option<(SystemTime, u64)> {
            let about = std::fs::metadata(&self.file).ok()?;
            Some((about.modified().ok()?, about.len()))
        };
        let (mut taken, mut seen) = (look(), look());
        loop {
            tokio::time::sleep(FILE_TIME).await;
            let now = look();
            if now != taken && now == seen && now.is_some() {
                // Whether it was taken or refused has been said.
                let _ = self.reload();
                taken = now;
            }
            seen = now;
        }
    }

    async fn watch_switches(self: Rc<Self>, core: Mailbox) {
        loop {
            let asked = crate::http::ask(&core, AdminCommand::Switches, ANSWER_TIME).await;
            if let Ok(AdminReply::Switches { switches }) = asked {
                let known = (switches.into_iter())
                    .filter_map(|(name, value)| Some((name, Switch::named(&value)?)))
                    .collect();
                self.switches.replace(known);
            }
            tokio::time::sleep(SWITCH_TIME).await;
        }
    }

    /// What a route's switch is set to.
    fn switch(&self, route: &str) -> Switch {
        (self.switches.borrow().get(route))
            .copied()
            .unwrap_or_default()
    }

    fn report(&self) -> GatewayReport {
        let table = self.table.borrow().clone();
        let (entries, bytes) = self.cache.size();
        GatewayReport {
            address: self.address.to_string(),
            file: self.file.display().to_string(),
            loads: self.loads.get(),
            refused: self.refused.borrow().clone(),
            connections: self.connections.get() as u64,
            cache_entries: entries as u64,
            cache_bytes: bytes as u64,
            routes: (table.routes.iter())
                .map(|route| self.describe(route))
                .collect(),
            upstreams: (table.upstreams.iter())
                .map(|(name, upstream)| describe_upstream(name, upstream))
                .collect(),
        }
    }

    fn describe(&self, route: &route::Route) -> RouteReport {
        let now_us = self.clock.now().mono_us;
        let switch = self.switch(&route.plan.name);
        let (level, saturation) = (route.level(now_us), route.saturation());
        let has_fallback = switch != Switch::Auto || !route.plan.fallback.is_empty();
        let mut signals = route.signals.borrow_mut();
        let state = route.state.borrow();
        RouteReport {
            name: route.plan.name.clone(),
            matches: format!(
                "{}{}",
                route.plan.host.as_deref().unwrap_or("*"),
                route.plan.path
            ),
            upstream: route.plan.upstream.get_ref().clone(),
            requests: signals.requests,
            errors: signals.errors,
            refused: signals.refused,
            fallbacks: state.fallbacks,
            rate: signals.rate(now_us),
            latency: signals.latency.to_vec(),
            latency_sum_us: signals.latency_sum_us,
            p50_us: signals.quantile_us(0.5),
            p99_us: signals.quantile_us(0.99),
            in_flight: state.places.taken().into(),
            saturation,
            level,
            switch: switch.name().into(),
            degraded: has_fallback && is_degraded(switch, level, route.plan.degrade.from),
            alarms: signals.alarms(now_us, saturation),
        }
    }
}

fn describe_upstream(name: &str, upstream: &upstream::Upstream) -> UpstreamReport {
    let servers = (upstream.servers.iter().enumerate())
        .map(|(i, server)| {
            let (health, breaker, opened, in_flight) = upstream.describe(i);
            ServerReport {
                address: server.address.clone(),
                weight: server.weight,
                health: health.into(),
                breaker: breaker.into(),
                opened,
                in_flight: in_flight.into(),
                requests: server.requests.get(),
                errors: server.errors.get(),
            }
        })
        .collect();
    UpstreamReport {
        name: name.to_owned(),
        balance: upstream.plan.balance.0.name().into(),
        servers,
    }
}

/// A connection that is counted while it lives.
struct Counted(Rc<Gateway>);

impl Counted {
    fn new(gateway: &Rc<Gateway>) -> Self {
        gateway.connections.set(gateway.connections.get() + 1);
        Self(gateway.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}
