//! What happens to a request: route, authentication, switch, cache, limits, servers, fallback, in this order.

use super::Gateway;
use super::body::{Answered, Sent};
use super::cache::{Found, Key};
use super::file::{FallbackPlan, Reason};
use super::headers::{X_ANSWERED_BY, X_FORWARDED_USER, prepare_answer, prepare_request};
use super::route::{Asked, InFlight, Route, is_crooked};
use super::upstream::{Failure, Place, Upstream};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;
use traffic::degrade::is_degraded;

/// A request as it goes to servers: it may be sent more than once while its body has not been touched.
struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Option<Incoming>,
    has_body: bool,
    /// No server has seen any of it.
    is_unsent: bool,
    idle: Duration,
    /// What the servers are hashed by.
    key: u64,
}

impl Outgoing {
    fn is_repeatable(&self) -> bool {
        let is_idempotent = matches!(
            self.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        );
        is_idempotent && !self.has_body
    }

    /// The request, if its body is still there (or it never had one).
    fn take(&mut self) -> Option<Request<Sent>> {
        let body = match (self.has_body, self.body.take()) {
            (false, _) => Sent::empty(),
            (true, Some(body)) => Sent::stream(body, self.idle),
            (true, None) => return None,
        };
        self.is_unsent = false;
        Some(self.head(body))
    }

    fn head(&self, body: Sent) -> Request<Sent> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// A request that the cache may answer, and the one that was sent to ask whether what it keeps is still good.
type Cached<'a> = (&'a Request<()>, Option<&'a Request<()>>);

type Reached = (Response<Incoming>, SendRequest<Sent>, Place);

/// What the gateway says itself.
pub fn say(status: StatusCode, text: &str) -> Response<Answered> {
    let mut answer = Response::new(Answered::whole(format!("{text}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(X_ANSWERED_BY, HeaderValue::from_static("gateway"));
    answer
}

fn answered_by(mut answer: Response<Answered>, tier: &str) -> Response<Answered> {
    if let Ok(tier) = HeaderValue::from_str(tier) {
        answer.headers_mut().insert(X_ANSWERED_BY, tier);
    }
    answer
}

impl Gateway {
    /// Answers one request.
    pub async fn answer(
        self: Rc<Self>,
        from: IpAddr,
        request: Request<Incoming>,
    ) -> Response<Answered> {
        let asked = Asked {
            from,
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
        };
        if asked.headers.contains_key(header::UPGRADE) || asked.method == Method::CONNECT {
            let mut answer = say(
                StatusCode::NOT_IMPLEMENTED,
                "this gateway passes on no upgrades (websockets, h2c) and no tunnels",
            );
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
            return answer;
        }
        if is_crooked(asked.uri.path()) {
            return say(
                StatusCode::BAD_REQUEST,
                "the path has dot segments or encoded slashes",
            );
        }
        let table = self.table.borrow().clone();
        let Some(route) = table
            .routes
            .iter()
            .find(|route| route.matches(&asked))
            .cloned()
        else {
            return say(
                StatusCode::NOT_FOUND,
                "no route is for this host, path and method",
            );
        };
        let user = match route.user(asked.headers) {
            Ok(user) => user,
            Err(denied) => {
                let mut answer = say(StatusCode::UNAUTHORIZED, "this route is for known users");
                let challenge = HeaderValue::from_static(denied.challenge);
                answer
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, challenge);
                return answer;
            }
        };
        let limited = {
            let now_us = self.clock.now().mono_us;
            let mut state = route.state.borrow_mut();
            state.first_us.get_or_insert(now_us);
            state.ask(&asked, now_us)
        };
        let key = asked.key(&route.upstream.plan.hash);
        let host = asked.host().to_ascii_lowercase();
        let (head, body) = request.into_parts();
        let url = format!(
            "{host}{}",
            head.uri.path_and_query().map_or("/", |path| path.as_str())
        );
        let mut headers = head.headers;
        prepare_request(&mut headers, from);
        if route.plan.auth.is_some() {
            headers.remove(header::AUTHORIZATION);
        }
        if let Some(user) = user.and_then(|user| HeaderValue::from_str(&user).ok()) {
            headers.insert(X_FORWARDED_USER, user);
        }
        if !headers.contains_key(header::HOST)
            && let Ok(host) = HeaderValue::from_str(&host)
        {
            headers.insert(header::HOST, host);
        }
        let Ok(uri) = route.rewritten(&head.uri).parse::<Uri>() else {
            return say(StatusCode::BAD_REQUEST, "the path cannot be passed on");
        };
        let outgoing = Outgoing {
            method: head.method,
            uri,
            headers,
            has_body: !body.is_end_stream(),
            is_unsent: true,
            body: Some(body),
            idle: table.plan.idle_ms.time(),
            key: traffic::hash(key.as_bytes()),
        };
        let key = Key {
            route: route.plan.name.clone(),
            url,
        };
        self.serve(&route, key, outgoing, limited).await
    }

    async fn serve(
        &self,
        route: &Rc<Route>,
        key: Key,
        mut outgoing: Outgoing,
        limited: Result<u64, u64>,
    ) -> Response<Answered> {
        let now_us = self.clock.now().mono_us;
        let fallback_on = |reason| route.plan.degrade.on.contains(&reason);
        let switch = self.switch(&route.plan.name);
        let by_hand = switch != traffic::degrade::Switch::Auto;
        // Without a fallback, what is measured sheds nothing: the servers' own answers say more than ours.
        if (by_hand || !route.plan.fallback.is_empty())
            && is_degraded(switch, route.level(now_us), route.plan.degrade.from)
        {
            return self.fall_back(route, &key, outgoing, Reason::Switch).await;
        }
        let wait_us = match limited {
            Ok(us) => us,
            Err(us) => {
                route.signals.borrow_mut().handle_refused(now_us);
                if fallback_on(Reason::Limit) {
                    return self.fall_back(route, &key, outgoing, Reason::Limit).await;
                }
                let mut answer = say(StatusCode::TOO_MANY_REQUESTS, "too many requests");
                let seconds = us.div_ceil(1_000_000).max(1);
                answer
                    .headers_mut()
                    .insert(header::RETRY_AFTER, seconds.into());
                return answer;
            }
        };
        if wait_us > 0 {
            tokio::time::sleep(Duration::from_micros(wait_us)).await;
        }
        let is_cached = route.plan.cache && outgoing.method == Method::GET;
        let original = is_cached.then(|| {
            let mut request = Request::new(());
            *request.uri_mut() = outgoing.uri.clone();
            *request.headers_mut() = outgoing.headers.clone();
            request
        });
        let mut revalidated = None;
        if let Some(original) = &original {
            match self.cache.find(&key, original) {
                Found::Fresh(answer) => {
                    let now_us = self.clock.now().mono_us;
                    route
                        .signals
                        .borrow_mut()
                        .handle_done(now_us, 0, false, false);
                    return answered_by(answer.map(Answered::whole), "cache");
                }
                Found::Stale(head) => {
                    outgoing.headers = head.headers.clone();
                    revalidated = Some(Request::from_parts(*head, ()));
                }
                Found::Nothing => {}
            }
        }
        let Some(in_flight) = route.enter() else {
            route.signals.borrow_mut().handle_refused(now_us);
            if fallback_on(Reason::Fault) {
                return self.fall_back(route, &key, outgoing, Reason::Fault).await;
            }
            return say(
                StatusCode::SERVICE_UNAVAILABLE,
                "this route has too many requests at a time",
            );
        };
        let began_us = self.clock.now().mono_us;
        let reached = self.try_servers(route, &mut outgoing).await;
        let now_us = self.clock.now().mono_us;
        let latency_us = now_us.saturating_sub(began_us);
        let failed = match &reached {
            Ok((answer, ..)) => answer.status().is_server_error(),
            Err(why) => *why != Failure::Client,
        };
        let timed_out = matches!(reached, Err(Failure::Timeout));
        (route.signals.borrow_mut()).handle_done(now_us, latency_us, failed, timed_out);
        route.state.borrow_mut().jitter.handle_latency(latency_us);
        let (reason, status, text) = match reached {
            Ok((answer, sender, place)) => {
                if !failed || route.plan.fallback.is_empty() || !fallback_on(Reason::Failure) {
                    let cached = original
                        .as_ref()
                        .map(|original| (original, revalidated.as_ref()));
                    return self.pass_on(
                        route,
                        (&key, cached),
                        (answer, sender, place),
                        &outgoing,
                        in_flight,
                    );
                }
                (
                    Reason::Failure,
                    StatusCode::BAD_GATEWAY,
                    "the server failed".to_owned(),
                )
            }
            Err(Failure::NoServer) => (
                Reason::Fault,
                StatusCode::SERVICE_UNAVAILABLE,
                "no server can be asked now".to_owned(),
            ),
            Err(Failure::Timeout) => (
                Reason::Timeout,
                StatusCode::GATEWAY_TIMEOUT,
                "no server answered in time".to_owned(),
            ),
            Err(Failure::Client) => {
                return say(
                    StatusCode::REQUEST_TIMEOUT,
                    "the request's body did not come",
                );
            }
            Err(Failure::Connect(_) | Failure::Broken(_)) => (
                Reason::Failure,
                StatusCode::BAD_GATEWAY,
                "the server's connection broke before it had answered".to_owned(),
            ),
        };
        drop(in_flight);
        if !route.plan.fallback.is_empty() && fallback_on(reason) {
            return self.fall_back(route, &key, outgoing, reason).await;
        }
        say(status, &text)
    }

    /// A server's answer, on its way to the client.
    fn pass_on(
        &self,
        route: &Rc<Route>,
        (key, cached): (&Key, Option<Cached<'_>>),
        (answer, sender, place): Reached,
        outgoing: &Outgoing,
        in_flight: InFlight,
    ) -> Response<Answered> {
        let (mut head, body) = answer.into_parts();
        prepare_answer(&mut head.headers);
        if let Some((_, Some(revalidated))) = cached
            && head.status == StatusCode::NOT_MODIFIED
        {
            let plain = Response::from_parts(head.clone(), ());
            if let Some(kept) = self.cache.refresh(key, revalidated, &plain) {
                place.give_back(sender);
                return answered_by(kept.map(Answered::whole), "cache-revalidated");
            }
        }
        if route.plan.cache
            && !outgoing.method.is_safe()
            && !head.status.is_client_error()
            && !head.status.is_server_error()
        {
            // What was changed is not to be read from memory (RFC 9111, 4.4).
            self.cache.remove(key);
        }
        let keep = cached.and_then(|(original, _)| self.cache.keep(key, original, &head));
        let body = Answered::stream(body, outgoing.idle, (place, sender), keep, in_flight);
        answered_by(Response::from_parts(head, body), "server")
    }

    /// Asks servers until one answers, as often as the route's retries, budget and deadline allow.
    async fn try_servers(
        &self,
        route: &Rc<Route>,
        outgoing: &mut Outgoing,
    ) -> Result<Reached, Failure> {
        let deadline = Instant::now() + route.plan.deadline_ms.time();
        let mut tried = Vec::new();
        if let Some(budget) = &mut route.state.borrow_mut().budget {
            budget.handle_request();
        }
        loop {
            let reached = self
                .try_server(&route.upstream, outgoing, deadline, &mut tried)
                .await;
            let is_good =
                matches!(&reached, Ok((answer, ..)) if !answer.status().is_server_error());
            if is_good {
                return reached;
            }
            let is_sendable = outgoing.is_repeatable() || outgoing.is_unsent;
            let again = match &reached {
                Err(Failure::NoServer | Failure::Timeout | Failure::Client) => false,
                _ => is_sendable,
            };
            let (Some(retry), true) = (&route.plan.retry, again) else {
                return reached;
            };
            let now_us = self.clock.now().mono_us;
            let is_paid = tried.len() <= retry.times as usize
                && Instant::now() < deadline
                && (route.state.borrow_mut().budget.as_mut()).is_some_and(|b| b.acquire(now_us));
            if !is_paid {
                return reached;
            }
        }
    }

    async fn try_server(
        &self,
        upstream: &Rc<Upstream>,
        outgoing: &mut Outgoing,
        deadline: Instant,
        tried: &mut Vec<usize>,
    ) -> Result<Reached, Failure> {
        let place = upstream.acquire(outgoing.key, &mut self.rng.borrow_mut(), tried)?;
        tried.push(place.server());
        let Some(request) = outgoing.take() else {
            return Err(Failure::Broken("the body was sent already".into()));
        };
        let repeatable = outgoing.is_repeatable();
        let again = || repeatable.then(|| outgoing.head(Sent::empty()));
        let exchange = tokio::time::timeout_at(deadline, place.exchange(request, again)).await;
        match exchange {
            Ok(Ok((answer, sender))) => {
                place.judge(!answer.status().is_server_error());
                Ok((answer, sender, place))
            }
            Ok(Err((why, unsent))) => {
                if why != Failure::Client {
                    place.judge(false);
                }
                outgoing.is_unsent = unsent.is_some();
                if let Some(request) = unsent {
                    outgoing.body = request.into_body().into_incoming();
                }
                Err(why)
            }
            Err(_) => {
                place.judge(false);
                Err(Failure::Timeout)
            }
        }
    }

    /// The first step of the route's chain that has an answer.
    async fn fall_back(
        &self,
        route: &Rc<Route>,
        key: &Key,
        mut outgoing: Outgoing,
        reason: Reason,
    ) -> Response<Answered> {
        for step in &route.plan.fallback {
            let answer = match step {
                FallbackPlan::Cache(_) => (self.cache.find_any(key))
                    .filter(|_| outgoing.method == Method::GET)
                    .map(|kept| answered_by(kept.map(Answered::whole), "cache-stale")),
                FallbackPlan::Upstream(step) => match route.fallbacks.get(&step.upstream) {
                    Some(upstream) => {
                        self.fall_back_to(route, upstream, &step.upstream, &mut outgoing)
                            .await
                    }
                    None => None,
                },
                FallbackPlan::Page(page) => {
                    let mut answer = Response::new(Answered::whole(page.body.clone()));
                    *answer.status_mut() = StatusCode::from_u16(page.status).unwrap_or_default();
                    if let Ok(kind) = HeaderValue::from_str(&page.content_type) {
                        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                    }
                    Some(answered_by(answer, "fallback-page"))
                }
            };
            if let Some(answer) = answer {
                route.state.borrow_mut().fallbacks += 1;
                return answer;
            }
        }
        let text = match reason {
            Reason::Switch => "this route is switched to its fallback, and there is none",
            Reason::Limit => "too many requests",
            Reason::Timeout => "no server answered in time, and the fallback has no answer",
            Reason::Failure | Reason::Fault => {
                "no server could answer, and the fallback has no answer"
            }
        };
        say(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    async fn fall_back_to(
        &self,
        route: &Rc<Route>,
        upstream: &Rc<Upstream>,
        name: &str,
        outgoing: &mut Outgoing,
    ) -> Option<Response<Answered>> {
        let in_flight = route.enter()?;
        let deadline = Instant::now() + route.plan.deadline_ms.time();
        let reached = self
            .try_server(upstream, outgoing, deadline, &mut Vec::new())
            .await;
        let (answer, sender, place) = reached.ok()?;
        if answer.status().is_server_error() {
            return None;
        }
        let (mut head, body) = answer.into_parts();
        prepare_answer(&mut head.headers);
        let body = Answered::stream(body, outgoing.idle, (place, sender), None, in_flight);
        let answer = Response::from_parts(head, body);
        Some(answered_by(answer, &format!("fallback-{name}")))
    }
}
