//! A group of servers: who is asked, how many requests each holds, and connections to them.

use super::body::Sent;
use super::file::UpstreamPlan;
use crate::clock::Clock;
use base::Rng;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use traffic::balance::{self, Ask, Balance, Done};
use traffic::breaker::{Breaker, Permit};
use traffic::health::Health;
use traffic::limit::Concurrency;

/// An idle connection is not used after this time: servers close theirs some time, too.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// Bytes of an answer that are read ahead of the client.
const READ_BYTES_MAX: usize = 128 << 10;

/// A server and what is under way to it.
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// Its share.
    pub weight: u32,
    places: RefCell<Concurrency>,
    breaker: Option<RefCell<Breaker>>,
    idle: RefCell<Vec<(SendRequest<Sent>, Instant)>>,
    /// Requests that it was given.
    pub requests: Cell<u64>,
    /// Of these, such that failed.
    pub errors: Cell<u64>,
}

/// A group of servers.
pub struct Upstream {
    /// What the file says.
    pub plan: UpstreamPlan,
    /// The servers in the file's order.
    pub servers: Vec<Server>,
    health: RefCell<Health>,
    balance: RefCell<Box<dyn Balance>>,
    clock: Clock,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No server may be asked.
    NoServer,
    /// The connection could not be made: the server has seen nothing.
    Connect(String),
    /// It broke before the answer came.
    Broken(String),
    /// No answer came in time.
    Timeout,
    /// The client did not send what it had announced.
    Client,
}

/// A place at a server, given back when dropped.
pub struct Place {
    upstream: Rc<Upstream>,
    server: usize,
    permit: Option<Permit>,
    since_us: u64,
    is_judged: Cell<bool>,
}

impl Upstream {
    /// A group, everything in it thought to be healthy.
    pub fn new(plan: &UpstreamPlan, clock: Clock) -> Rc<Self> {
        let servers: Vec<Server> = (plan.servers.iter())
            .map(|server| Server {
                address: server.address().to_owned(),
                weight: server.weight(),
                places: RefCell::new(Concurrency::new(plan.in_flight_max)),
                breaker: (plan.breaker.as_ref()).map(|b| RefCell::new(Breaker::new(b.rules()))),
                idle: RefCell::default(),
                requests: Cell::default(),
                errors: Cell::default(),
            })
            .collect();
        let names: Vec<(String, u32)> = (servers.iter())
            .map(|s| (s.address.clone(), s.weight))
            .collect();
        let upstream = Rc::new(Self {
            health: RefCell::new(Health::new(plan.health.rules(), servers.len())),
            balance: RefCell::new(plan.balance.0.build(&names)),
            plan: plan.clone(),
            servers,
            clock,
        });
        if plan.health.path.is_some() {
            for server in 0..upstream.servers.len() {
                tokio::task::spawn_local(probe(Rc::downgrade(&upstream), server));
            }
        }
        upstream
    }

    /// A place at a server, not at one of `tried` unless there is no other.
    pub fn acquire(
        self: &Rc<Self>,
        key: u64,
        rng: &mut Rng,
        tried: &[usize],
    ) -> Result<Place, Failure> {
        let now_us = self.clock.now().mono_us;
        let healthy = self.health.borrow().usable(now_us);
        let mut seen: Vec<balance::Server> = (self.servers.iter().zip(healthy).enumerate())
            .map(|(i, (server, healthy))| {
                let places = server.places.borrow();
                let passable = (server.breaker.as_ref())
                    .is_none_or(|breaker| breaker.borrow().is_passable(now_us));
                let is_free = places.taken() < places.max();
                balance::Server {
                    weight: server.weight,
                    in_flight: places.taken(),
                    usable: healthy && passable && is_free && !tried.contains(&i),
                }
            })
            .collect();
        if seen.iter().all(|server| !server.usable) && !tried.is_empty() {
            return self.acquire(key, rng, &[]);
        }
        let mut ask = Ask {
            servers: &seen,
            key,
            now_us,
            rng,
        };
        let picked = self
            .balance
            .borrow_mut()
            .pick(&mut ask)
            .ok_or(Failure::NoServer)?;
        seen.clear();
        let server = &self.servers[picked];
        let permit = match &server.breaker {
            Some(breaker) => Some(
                breaker
                    .borrow_mut()
                    .acquire(now_us)
                    .ok_or(Failure::NoServer)?,
            ),
            None => None,
        };
        if !server.places.borrow_mut().acquire() {
            return Err(Failure::NoServer);
        }
        server.requests.set(server.requests.get() + 1);
        Ok(Place {
            upstream: self.clone(),
            server: picked,
            permit,
            since_us: now_us,
            is_judged: Cell::new(false),
        })
    }

    /// No server is healthy and passable, whether or not it has a place.
    pub fn is_down(&self) -> bool {
        let now_us = self.clock.now().mono_us;
        let health = self.health.borrow();
        (self.servers.iter().enumerate()).all(|(i, server)| {
            let passable = (server.breaker.as_ref()).is_none_or(|breaker| {
                breaker.borrow().state().name() != "open" || breaker.borrow().is_passable(now_us)
            });
            !health.is_healthy(i, now_us) || !passable
        })
    }

    /// Part of its places that are taken, from 0 to 1.
    pub fn saturation(&self) -> f64 {
        let (mut taken, mut max) = (0u64, 0u64);
        for server in &self.servers {
            let places = server.places.borrow();
            taken += u64::from(places.taken());
            max += u64::from(places.max());
        }
        taken as f64 / max.max(1) as f64
    }

    /// How a server fares, for people: its health, its breaker's state, how often that opened, and requests in flight.
    pub fn describe(&self, server: usize) -> (&'static str, &'static str, u64, u32) {
        let now_us = self.clock.now().mono_us;
        let (state, opened) = match &self.servers[server].breaker {
            Some(breaker) => (breaker.borrow().state().name(), breaker.borrow().opened),
            None => ("none", 0),
        };
        let health = self.health.borrow().word(server, now_us);
        (
            health,
            state,
            opened,
            self.servers[server].places.borrow().taken(),
        )
    }
}

impl Place {
    /// Which server, by its place in the group.
    pub fn server(&self) -> usize {
        self.server
    }

    fn at(&self) -> &Server {
        &self.upstream.servers[self.server]
    }

    /// Says how the request ended, once.
    pub fn judge(&self, ok: bool) {
        if self.is_judged.replace(true) {
            return;
        }
        let now_us = self.upstream.clock.now().mono_us;
        let latency_us = now_us.saturating_sub(self.since_us);
        let server = self.at();
        server.errors.set(server.errors.get() + u64::from(!ok));
        if let (Some(breaker), Some(permit)) = (&server.breaker, self.permit) {
            breaker
                .borrow_mut()
                .handle_done(permit, now_us, latency_us, !ok);
        }
        self.upstream
            .health
            .borrow_mut()
            .handle_result(self.server, now_us, ok);
        let done = Done {
            now_us,
            latency_us,
            ok,
        };
        self.upstream
            .balance
            .borrow_mut()
            .handle_done(self.server, done);
    }

    /// Sends a request on an idle connection or a new one, and waits for the answer's head. `is_repeatable`: an idle
    /// connection that turns out to have ended is replaced.
    ///
    /// An error gives the request back when nothing of it was sent.
    pub async fn exchange(
        &self,
        mut request: Request<Sent>,
        again: impl Fn() -> Option<Request<Sent>>,
    ) -> Result<(Response<Incoming>, SendRequest<Sent>), (Failure, Option<Box<Request<Sent>>>)>
    {
        loop {
            let idle = self.take_idle();
            let is_reused = idle.is_some();
            let mut sender = match idle {
                Some(sender) => sender,
                None => match self.connect().await {
                    Ok(sender) => sender,
                    Err(why) => return Err((why, Some(Box::new(request)))),
                },
            };
            if sender.ready().await.is_err() {
                if is_reused {
                    continue;
                }
                let why = Failure::Connect("closed at once".into());
                return Err((why, Some(Box::new(request))));
            }
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok((answer, sender)),
                Err(mut error) => {
                    let unsent = error.take_message();
                    let error = error.into_error();
                    if error.is_user() {
                        return Err((Failure::Client, None));
                    }
                    let why = Failure::Broken(error.to_string());
                    match (unsent, is_reused) {
                        (Some(unsent), true) => request = unsent,
                        (Some(unsent), false) => return Err((why, Some(Box::new(unsent)))),
                        (None, true) => match again() {
                            Some(same) => request = same,
                            None => return Err((why, None)),
                        },
                        (None, false) => return Err((why, None)),
                    }
                }
            }
        }
    }

    fn take_idle(&self) -> Option<SendRequest<Sent>> {
        let mut idle = self.at().idle.borrow_mut();
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_TIME);
        idle.pop().map(|(sender, _)| sender)
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn give_back(&self, sender: SendRequest<Sent>) {
        if !sender.is_closed() {
            let mut idle = self.at().idle.borrow_mut();
            idle.push((sender, Instant::now()));
        }
    }

    async fn connect(&self) -> Result<SendRequest<Sent>, Failure> {
        let time = self.upstream.plan.connect_ms.time();
        connect(&self.at().address, time)
            .await
            .map_err(Failure::Connect)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let server = self.at();
        server.places.borrow_mut().release();
        if !self.is_judged.get()
            && let (Some(breaker), Some(permit)) = (&server.breaker, self.permit)
        {
            let now_us = self.upstream.clock.now().mono_us;
            breaker.borrow_mut().handle_dropped(permit, now_us);
        }
    }
}

async fn connect(address: &str, time: Duration) -> Result<SendRequest<Sent>, String> {
    let made = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|e| e.to_string())?;
        // Requests are small, and wait for their answers.
        let _ = stream.set_nodelay(true);
        let mut builder = http1::Builder::new();
        builder.max_buf_size(READ_BYTES_MAX);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|e| e.to_string())?;
        tokio::task::spawn_local(async move {
            // How it ended, the request on it has been told.
            let _ = connection.await;
        });
        Ok(sender)
    };
    match tokio::time::timeout(time, made).await {
        Ok(made) => made,
        Err(_) => Err(format!("no connection within {time:?}")),
    }
}

/// Asks a server for its health until its group is gone.
async fn probe(upstream: Weak<Upstream>, server: usize) {
    loop {
        let Some(group) = upstream.upgrade() else {
            return;
        };
        let plan = group.plan.health.clone();
        let address = group.servers[server].address.clone();
        drop(group);
        let asked = async {
            let mut sender = connect(&address, plan.timeout()).await.ok()?;
            let request = Request::get(plan.path.as_deref().unwrap_or("/"))
                .header("host", &address)
                .header("user-agent", "althing-gateway-probe")
                .header("connection", "close")
                .body(Sent::empty())
                .ok()?;
            let answer = sender.send_request(request).await.ok()?;
            Some(answer.status().is_success() || answer.status().is_redirection())
        };
        let answer = tokio::time::timeout(plan.timeout(), asked).await;
        let Some(group) = upstream.upgrade() else {
            return;
        };
        let ok = matches!(answer, Ok(Some(true)));
        group.health.borrow_mut().handle_probe(server, ok);
        drop(group);
        tokio::time::sleep(plan.interval()).await;
    }
}
