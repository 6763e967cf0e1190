//! A route: which requests it takes, who may ask, and whether they may come now.

use super::file::{AuthPlan, KeyOf, LimitPlan, RoutePlan};
use super::upstream::Upstream;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Uri};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use traffic::budget::RetryBudget;
use traffic::degrade::{self, Jitter, Level, Measure};
use traffic::limit::{Concurrency, KEYS_MAX, Keyed, RateLimit, Verdict};
use traffic::signals::Signals;

/// A service is cold for so long after its first request, in microseconds.
const COLD_US: u64 = 10_000_000;

/// A route in use.
pub struct Route {
    /// What the file says.
    pub plan: RoutePlan,
    /// Who answers.
    pub upstream: Rc<Upstream>,
    /// Who answers in their place, by name.
    pub fallbacks: BTreeMap<String, Rc<Upstream>>,
    /// What is counted; goes on when the file is read again.
    pub signals: Rc<RefCell<Signals>>,
    /// What changes.
    pub state: Rc<RefCell<State>>,
}

/// What a route remembers.
pub struct State {
    limits: Vec<Limit>,
    /// Requests at a time.
    pub places: Concurrency,
    /// Repetitions.
    pub budget: Option<RetryBudget>,
    /// Whether its latencies scatter.
    pub jitter: Jitter,
    /// Answers by the fallback.
    pub fallbacks: u64,
    /// When the first request came.
    pub first_us: Option<u64>,
}

enum Limit {
    One(RateLimit),
    Each(KeyOf, Keyed),
}

/// A place among a route's requests, given back when dropped.
pub struct InFlight(Rc<RefCell<State>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.borrow_mut().places.release();
    }
}

/// Where a request comes from and what it asks for.
pub struct Asked<'a> {
    /// The client.
    pub from: IpAddr,
    /// Of its request.
    pub method: &'a Method,
    /// Of its request.
    pub uri: &'a Uri,
    /// Of its request.
    pub headers: &'a HeaderMap,
}

impl Asked<'_> {
    /// The host that is asked for, without its port.
    pub fn host(&self) -> &str {
        let named = match self.uri.authority() {
            Some(authority) => authority.as_str(),
            None => (self.headers.get(header::HOST))
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default(),
        };
        match named.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => named.rsplit_once(':').map_or(named, |(host, _)| host),
        }
    }

    /// What tells it from others.
    pub fn key(&self, of: &KeyOf) -> String {
        match of {
            KeyOf::Source => self.from.to_string(),
            KeyOf::Path => self.uri.path().to_owned(),
            KeyOf::Header(name) => (self.headers.get(name))
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .unwrap_or_default(),
        }
    }
}

impl State {
    /// Nothing seen yet.
    pub fn new(plan: &RoutePlan) -> Self {
        let limit = |limit: &LimitPlan| match limit.by() {
            None => Limit::One(limit.build()),
            Some(of) => Limit::Each(of.clone(), Keyed::new(limit.build(), KEYS_MAX)),
        };
        Self {
            limits: plan.limits.iter().map(limit).collect(),
            places: Concurrency::new(plan.in_flight_max),
            budget: (plan.retry.as_ref()).map(|retry| {
                RetryBudget::new(retry.budget_percent / 100.0, retry.budget_min_per_s)
            }),
            jitter: Jitter::default(),
            fallbacks: 0,
            first_us: None,
        }
    }

    /// What the limits say: how long to wait, or after how long to ask again (both in microseconds).
    pub fn ask(&mut self, asked: &Asked<'_>, now_us: u64) -> Result<u64, u64> {
        let mut longest = 0;
        for limit in &mut self.limits {
            let verdict = match limit {
                Limit::One(limit) => limit.ask(now_us),
                Limit::Each(of, limits) => limits.ask(&asked.key(of), now_us),
            };
            match verdict {
                Verdict::Pass => {}
                Verdict::Wait(us) => longest = longest.max(us),
                Verdict::Refuse(us) => return Err(us),
            }
        }
        Ok(longest)
    }
}

impl Route {
    /// True when it is for requests like this.
    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        let plan = &self.plan;
        let is_host =
            (plan.host.as_ref()).is_none_or(|host| asked.host().eq_ignore_ascii_case(host));
        let is_method =
            plan.methods.is_empty() || plan.methods.iter().any(|m| m.0 == *asked.method);
        let has_headers = (plan.headers.iter()).all(|(name, value)| {
            (asked.headers.get_all(&name.0).iter()).any(|own| own.as_bytes() == value.as_bytes())
        });
        is_host && is_method && has_headers && rest(&plan.path, asked.uri.path()).is_some()
    }

    /// Path and query as the server is asked.
    pub fn rewritten(&self, uri: &Uri) -> String {
        let query = uri
            .query()
            .map_or(String::new(), |query| format!("?{query}"));
        let path = uri.path();
        match (&self.plan.rewrite, rest(&self.plan.path, path)) {
            (Some(new), Some(rest)) => match (new.ends_with('/'), rest.strip_prefix('/')) {
                (true, Some(rest)) => format!("{new}{rest}{query}"),
                (false, None) if !rest.is_empty() => format!("{new}/{rest}{query}"),
                _ => format!("{new}{rest}{query}"),
            },
            _ => format!("{path}{query}"),
        }
    }

    /// The user, when the route knows users and this is one; an error when it is none.
    pub fn user(&self, headers: &HeaderMap) -> Result<Option<String>, Denied> {
        match &self.plan.auth {
            None => Ok(None),
            Some(auth) => check(auth, headers),
        }
    }

    /// A place among its requests.
    pub fn enter(&self) -> Option<InFlight> {
        let mut state = self.state.borrow_mut();
        state.places.acquire().then(|| InFlight(self.state.clone()))
    }

    /// How it fares.
    pub fn level(&self, now_us: u64) -> Level {
        let state = self.state.borrow();
        degrade::level(&Measure {
            counts: self.signals.borrow_mut().lately(now_us),
            is_down: self.upstream.is_down(),
            is_cold: (state.first_us).is_some_and(|first| now_us.saturating_sub(first) < COLD_US),
            jitters: state.jitter.is_high(),
        })
    }

    /// The part of places taken: its own, or its servers' when that is more.
    pub fn saturation(&self) -> f64 {
        let places = self.state.borrow().places;
        let own = f64::from(places.taken()) / f64::from(places.max().max(1));
        own.max(self.upstream.saturation())
    }
}

/// What is left of `path` behind `prefix`, when it is a part of it by whole segments.
fn rest<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    let is_whole = prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/');
    is_whole.then_some(rest)
}

/// True when a path has segments that a server might resolve to another path: routes could be walked around.
pub fn is_crooked(path: &str) -> bool {
    let lower = path.to_ascii_lowercase().replace("%2e", ".");
    lower.contains("%2f")
        || lower.contains("%5c")
        || lower.contains('\\')
        || lower.contains("%00")
        || lower
            .split('/')
            .any(|segment| segment == "." || segment == "..")
}

/// Who is not let in, and what to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// Of the header `www-authenticate`.
    pub challenge: &'static str,
}

fn check(auth: &AuthPlan, headers: &HeaderMap) -> Result<Option<String>, Denied> {
    let denied = Denied {
        challenge: match auth.basic.is_empty() {
            true => "Bearer",
            false => "Basic realm=\"althing\"",
        },
    };
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return Err(denied);
    };
    let text = value.to_str().map_err(|_| denied)?;
    let (scheme, rest) = text.split_once(' ').ok_or(denied)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        let token = rest.trim().as_bytes();
        // All are compared, so that time does not tell which one came near.
        let known = auth
            .bearer
            .iter()
            .fold(false, |known, other| known | same(other.as_bytes(), token));
        return if known { Ok(None) } else { Err(denied) };
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(denied);
    }
    let decoded = BASE64_STANDARD.decode(rest.trim()).map_err(|_| denied)?;
    let decoded = String::from_utf8(decoded).map_err(|_| denied)?;
    let (user, password) = decoded.split_once(':').ok_or(denied)?;
    match auth.basic.get(user) {
        Some(own) if same(own.as_bytes(), password.as_bytes()) => Ok(Some(user.to_owned())),
        _ => Err(denied),
    }
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_match_whole_segments() {
        assert_eq!(rest("/a", "/a"), Some(""));
        assert_eq!(rest("/a", "/a/b"), Some("/b"));
        assert_eq!(rest("/a", "/ab"), None);
        assert_eq!(rest("/a/", "/a"), None);
        assert_eq!(rest("/a/", "/a/b"), Some("b"));
        assert_eq!(rest("/", "/a"), Some("a"));
    }

    #[test]
    fn crooked_paths_are_seen() {
        for path in [
            "/a/../b",
            "/a/%2e%2E/b",
            "/..",
            "/a/.%2e",
            "/a%2fb",
            "/a\\b",
            "/./a",
            "/a%5c..%5cb",
        ] {
            assert!(is_crooked(path), "{path}");
        }
        for path in ["/", "/a/b", "/a..b/c.d", "/...", "/a//b", "/%20"] {
            assert!(!is_crooked(path), "{path}");
        }
    }

    #[test]
    fn only_known_users_and_tokens_are_let_in() {
        let auth = AuthPlan {
            basic: BTreeMap::from([("alice".into(), "pass:word".into())]),
            bearer: vec!["t1".into(), "t2".into()],
        };
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            check(&auth, &headers)
        };
        let basic = |text: &str| with(&format!("Basic {}", BASE64_STANDARD.encode(text)));
        assert_eq!(basic("alice:pass:word"), Ok(Some("alice".into())));
        assert_eq!(with("bearer t2"), Ok(None));
        assert!(basic("alice:pass").is_err() && basic("bob:x").is_err() && basic("alice").is_err());
        assert!(with("Bearer t3").is_err() && with("Digest x").is_err() && with("t1").is_err());
        assert!(check(&auth, &HeaderMap::new()).is_err());
    }
}
