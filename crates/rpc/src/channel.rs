//! A channel to a service by its name: what stands under the clients that `tonic` generates.

use crate::agent::{Agent, AgentError, is_name};
use crate::attempt::Lost;
use crate::context::{self, CALL_ATTEMPT, CALL_ID, CALLER, Fate};
use crate::counted::{Count, Counted, code_in};
use crate::methods::{self, Method, Methods};
use crate::monitor::Monitor;
use crate::pool::{Place, Plan, Pool};
use crate::watch;
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Request, Response, Uri, Version};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;
use traffic::calls::{Key, Outcome, Side};
use traffic::health::Rules;

/// Largest message of a unary call, there and back.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Before an instance is tried a second time by one call; doubled each time.
const PAUSE: Duration = Duration::from_millis(20);

/// A channel to be.
#[derive(Clone, Debug)]
pub struct Builder {
    service: String,
    descriptors: Vec<u8>,
    deadline: Duration,
    attempt_time: Option<Duration>,
    attempts_max: u32,
    budget: f64,
    method: traffic::balance::Method,
    rules: Rules,
}

/// A channel to a service. A copy is the same channel: it shares connections and what was measured.
#[derive(Clone)]
pub struct Channel(Arc<Shared>);

struct Shared {
    service: String,
    caller: HeaderValue,
    methods: Methods,
    deadline: Duration,
    attempt_time: Option<Duration>,
    attempts_max: u32,
    pool: Arc<Pool>,
    monitor: Arc<Monitor>,
    /// Dropped with the last copy, which ends the task that follows the registry.
    _gone: oneshot::Sender<()>,
    /// For as long as calls are made, they are reported.
    _agent: Agent,
}

/// How a unary attempt ended.
enum Ended {
    /// Answered; `None` where the head or the trailers have no status.
    Answered(Response<Body>, Option<Code>),
    Lost(Lost),
    TimedOut,
}

impl Builder {
    /// What the protos say (an encoded `FileDescriptorSet`, as `protox` or `protoc` write it). Methods that it does not
    /// name, and such that stream, are tried at one instance only, once it has a connection.
    #[must_use]
    pub fn descriptors(mut self, descriptors: &[u8]) -> Self {
        self.descriptors = descriptors.into();
        self
    }

    /// How long a unary call may take with all its attempts, where its request does not say; 5 s without a word about it.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long one attempt of an idempotent call may take, before another instance is asked. Without it, all the time
    /// there is: an instance that hangs then takes its calls with it until it is left out.
    #[must_use]
    pub fn attempt_time(mut self, time: Duration) -> Self {
        self.attempt_time = Some(time);
        self
    }

    /// Attempts of a call that may have reached an instance; 3 without a word about it.
    #[must_use]
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = attempts.max(1);
        self
    }

    /// What part of all calls may be repeated once they may have reached an instance; 0.2 without a word about it. Ten a
    /// second may be in any case.
    #[must_use]
    pub fn budget(mut self, part: f64) -> Self {
        self.budget = part.clamp(0.0, 10.0);
        self
    }

    /// Which instance gets a call; [`traffic::balance::Method::TwoChoices`] without a word about it.
    #[must_use]
    pub fn balance(mut self, method: traffic::balance::Method) -> Self {
        self.method = method;
        self
    }

    /// After so many failures in a row an instance is left out, for 5 s at first; 5 without a word about it, 0: never.
    /// At most half of them are left out.
    #[must_use]
    pub fn ejected_after(mut self, failures: u32) -> Self {
        self.rules.failures_max = failures;
        self
    }

    /// Asks the registry once, and follows it from then on. That there is no instance yet is no error here: calls say so.
    ///
    /// # Errors
    ///
    /// What is wrong with the channel, or that no node answers.
    pub async fn connect(self, agent: &Agent) -> Result<Channel, AgentError> {
        let refuse = |why: String| Err(AgentError::Refused(why));
        if !is_name(&self.service) {
            return refuse(format!(
                "{:?} is no name of a service: use 1 to 128 letters, digits, '-', '_' and '.'",
                self.service
            ));
        }
        if self.method.needs_key() {
            let name = self.method.name();
            return refuse(format!(
                "{name} needs a key, and calls have none: use two-choices"
            ));
        }
        let methods = methods::read(&self.descriptors).map_err(AgentError::Refused)?;
        let caller = HeaderValue::from_str(agent.name());
        let caller = caller.map_err(|error| AgentError::Refused(error.to_string()))?;
        let pool = Arc::new(Pool::new(Plan {
            method: self.method,
            rules: self.rules,
            budget: self.budget,
        }));
        let nodes = agent.shared().clone();
        let index = watch::ask(&nodes, &self.service, 0, &pool).await?;
        let (gone, is_gone) = oneshot::channel();
        let weak = Arc::downgrade(&pool);
        tokio::spawn(watch::follow(
            nodes,
            self.service.clone(),
            index,
            weak,
            is_gone,
        ));
        Ok(Channel(Arc::new(Shared {
            service: self.service,
            caller,
            methods,
            deadline: self.deadline,
            attempt_time: self.attempt_time,
            attempts_max: self.attempts_max,
            pool,
            monitor: agent.monitor().clone(),
            _gone: gone,
            _agent: agent.clone(),
        })))
    }
}

impl Channel {
    /// A channel to the service of this name.
    pub fn builder(service: impl Into<String>) -> Builder {
        Builder {
            service: service.into(),
            descriptors: Vec::new(),
            deadline: Duration::from_secs(5),
            attempt_time: None,
            attempts_max: 3,
            budget: 0.2,
            method: traffic::balance::Method::TwoChoices,
            rules: Rules::default(),
        }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        let begun = Instant::now();
        // Read here: the future may be polled elsewhere.
        let inherited = context::inherited();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let method = shared.methods.get(head.uri.path()).copied();
            let own = context::read_timeout(&head.headers).map(|left| begun + left);
            let earlier = [own, inherited].into_iter().flatten().min();
            shared.pool.handle_call();
            let call = Call {
                shared: &shared,
                id: context::new_id(),
                head,
            };
            match method.filter(|method| method.is_unary) {
                Some(method) => {
                    let deadline = begun + shared.deadline;
                    let deadline = earlier.map_or(deadline, |earlier| match own {
                        // What a request says may be more than the channel's own.
                        Some(_) => earlier,
                        None => earlier.min(deadline),
                    });
                    call.unary(method, body, deadline).await
                }
                None => call.stream(body, earlier).await,
            }
        })
    }
}

/// A call under way.
struct Call<'a> {
    shared: &'a Arc<Shared>,
    id: HeaderValue,
    head: Parts,
}

impl Call<'_> {
    async fn unary(
        self,
        method: Method,
        body: Body,
        deadline: Instant,
    ) -> Result<Response<Body>, Status> {
        let message = Limited::new(body, MESSAGE_BYTES_MAX).collect().await;
        let message = message.map_err(Status::from_error)?.to_bytes();
        let (mut tried, mut sent, mut number) = (Vec::new(), 0, 0);
        loop {
            number += 1;
            let (place, count) = self.place(&tried, number, Some(deadline))?;
            let until = match self.shared.attempt_time.filter(|_| method.is_idempotent) {
                Some(time) => deadline.min(Instant::now() + time),
                None => deadline,
            };
            let address = place.instance.address.clone();
            let asked = self.attempt(&place, number, message.clone(), until);
            let ended = match timeout_at(until.into(), asked).await {
                Ok(ended) => ended,
                Err(_) => Ended::TimedOut,
            };
            let has_time = Instant::now() < deadline;
            let is_sent = !matches!(ended, Ended::Lost(Lost::NotSent(_)));
            sent += u32::from(is_sent);
            let may_repeat = || {
                let is_allowed = method.is_idempotent && sent < self.shared.attempts_max;
                has_time && is_allowed && self.shared.pool.pay()
            };
            let count = count.at(place);
            match ended {
                Ended::Answered(answer, code) => {
                    let code = code.unwrap_or(Code::Unknown);
                    count.answered(code);
                    if code != Code::Unavailable || !may_repeat() {
                        return Ok(answer);
                    }
                }
                Ended::Lost(Lost::NotSent(why)) => {
                    count.end(Outcome::NotSent);
                    let may_try = number as usize - sent as usize <= self.shared.pool.size();
                    if !has_time || !may_try {
                        return Err(self.failed(Code::Unavailable, Fate::NotSent, &why));
                    }
                }
                Ended::Lost(Lost::Unknown(why)) => {
                    count.end(Outcome::Unknown);
                    if !may_repeat() {
                        let why = format!("{address} was lost after the call was sent: {why}");
                        return Err(self.failed(Code::Unknown, Fate::Unknown, &why));
                    }
                }
                Ended::TimedOut => {
                    count.end(Outcome::TimedOut);
                    if !may_repeat() {
                        let why = format!("{address} did not answer in time");
                        return Err(self.failed(Code::DeadlineExceeded, Fate::Unknown, &why));
                    }
                }
            }
            if tried.contains(&address) {
                let pause = PAUSE * (1 << number.min(4));
                sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
            tried.push(address);
        }
    }

    async fn attempt(&self, place: &Place, number: u32, message: Bytes, until: Instant) -> Ended {
        let request = match self.request(place, number, Some(until), Body::new(Full::new(message)))
        {
            Ok(request) => request,
            Err(why) => return Ended::Lost(Lost::NotSent(why)),
        };
        let answer = match place.instance.link.send(request).await {
            Ok(answer) => answer,
            Err(lost) => return Ended::Lost(lost),
        };
        let (head, body) = answer.into_parts();
        let whole: Collected<Bytes> = match Limited::new(body, MESSAGE_BYTES_MAX).collect().await {
            Ok(whole) => whole,
            Err(error) => return Ended::Lost(Lost::Unknown(crate::attempt::words(&*error))),
        };
        let code = code_in(&head.headers).or_else(|| whole.trailers().and_then(code_in));
        Ended::Answered(Response::from_parts(head, Body::new(whole)), code)
    }

    /// A call that is not known to be unary: its messages are passed on as they come, to one instance.
    async fn stream(self, body: Body, deadline: Option<Instant>) -> Result<Response<Body>, Status> {
        let (mut tried, mut number) = (Vec::new(), 0);
        let (place, count) = loop {
            number += 1;
            let (place, count) = self.place(&tried, number, deadline)?;
            match place.instance.link.is_connected().await {
                Ok(()) => break (place, count),
                Err(Lost::NotSent(why) | Lost::Unknown(why)) => {
                    tried.push(place.instance.address.clone());
                    count.at(place).end(Outcome::NotSent);
                    let has_time = deadline.is_none_or(|at| Instant::now() < at);
                    if !has_time || tried.len() > self.shared.pool.size() {
                        return Err(self.failed(Code::Unavailable, Fate::NotSent, &why));
                    }
                }
            }
        };
        let unsent = |why: String| self.failed(Code::Unavailable, Fate::NotSent, &why);
        let request = self
            .request(&place, number, deadline, body)
            .map_err(unsent)?;
        let answer = place.instance.link.send(request).await;
        let count = count.at(place);
        match answer {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                let body = match code_in(&head.headers) {
                    Some(code) => {
                        count.answered(code);
                        Body::new(body)
                    }
                    None => Body::new(Counted::new(body, count)),
                };
                Ok(Response::from_parts(head, body))
            }
            Err(Lost::NotSent(why)) => {
                count.end(Outcome::NotSent);
                Err(unsent(why))
            }
            Err(Lost::Unknown(why)) => {
                count.end(Outcome::Unknown);
                Err(self.failed(Code::Unknown, Fate::Unknown, &why))
            }
        }
    }

    /// A place, and the count of what is done there.
    fn place(
        &self,
        tried: &[String],
        number: u32,
        deadline: Option<Instant>,
    ) -> Result<(Place, Count), Status> {
        let shared = self.shared;
        let method = self.head.uri.path().trim_start_matches('/');
        let place = shared.pool.acquire(tried);
        let instance = place.as_ref().map_or("", |place| &place.instance.address);
        let caller = shared.caller.to_str().unwrap_or_default();
        let call = Key::new(Side::Caller, &shared.service, method, instance, caller);
        let mut count = Count::new(&shared.monitor, call, deadline);
        count.is_repeated = number > 1;
        match place {
            Some(place) => Ok((place, count)),
            None => {
                count.end(Outcome::NotSent);
                let why = shared.pool.excuse(&shared.service);
                Err(self.failed(Code::Unavailable, Fate::NotSent, &why))
            }
        }
    }

    fn request(
        &self,
        place: &Place,
        number: u32,
        until: Option<Instant>,
        body: Body,
    ) -> Result<Request<Body>, String> {
        let path = self
            .head
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let uri = Uri::builder()
            .scheme("http")
            .authority(place.instance.address.as_str())
            .path_and_query(path)
            .build();
        let uri =
            uri.map_err(|error| format!("{:?} is no address: {error}", place.instance.address))?;
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.clone_from(&self.head.headers);
        headers.insert(CALL_ID, self.id.clone());
        headers.insert(CALL_ATTEMPT, HeaderValue::from(number));
        headers.insert(CALLER, self.shared.caller.clone());
        if let Some(until) = until {
            let left = until.saturating_duration_since(Instant::now());
            context::write_timeout(headers, left);
        }
        Ok(request)
    }

    /// A status for the caller, in words that say what became of the call.
    fn failed(&self, code: Code, fate: Fate, why: &str) -> Status {
        let method = self.head.uri.path().trim_start_matches('/');
        let known = match fate {
            Fate::Answered => "was answered",
            Fate::NotSent => "was not carried out",
            Fate::Unknown => "may have been carried out",
        };
        let id = self.id.to_str().unwrap_or_default();
        context::status(code, fate, format!("{method} {known}: {why} (call {id})"))
    }
}
