//! Answers that are kept, in memory, as HTTP allows a shared cache to (RFC 9111).
//!
//! Whether and how long is the library's business (`http-cache-semantics`); here is the room. One answer a URL: where answers vary by
//! header, the latest is kept. When the room is full, what was used least lately goes.

use http_cache_semantics::{AfterResponse, BeforeRequest, CachePolicy};
use hyper::body::Bytes;
use hyper::{Method, Request, Response, StatusCode, header, http};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::SystemTime;

/// One answer takes at most this part of the room.
const PART_OF_ROOM: usize = 8;
/// What an entry takes beside its body and headers, about, in bytes.
const ENTRY_BYTES: usize = 1_000;

/// What is kept for whom.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// The route.
    pub route: String,
    /// Host, path and query as the client asked.
    pub url: String,
}

struct Entry {
    policy: CachePolicy,
    head: http::response::Parts,
    body: Bytes,
    bytes: usize,
    used: u64,
}

struct Room {
    entries: BTreeMap<Key, Entry>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

/// The cache. Cloning it gives another handle.
#[derive(Clone)]
pub struct Cache(Rc<RefCell<Room>>);

/// What the cache has to say to a request.
pub enum Found {
    /// This is the answer.
    Fresh(Response<Bytes>),
    /// Ask the server with these headers; if it says that nothing has changed, the kept answer may be used.
    Stale(Box<http::request::Parts>),
    /// Nothing.
    Nothing,
}

/// An answer that is kept once all of it has passed.
pub struct Keep {
    cache: Cache,
    key: Key,
    policy: CachePolicy,
    head: http::response::Parts,
    body: Vec<u8>,
    most: usize,
}

impl Cache {
    /// An empty room of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self(Rc::new(RefCell::new(Room {
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            bytes: 0,
            bytes_max,
        })))
    }

    /// Changes the room's size.
    pub fn resize(&self, bytes_max: usize) {
        let mut room = self.0.borrow_mut();
        room.bytes_max = bytes_max;
        room.make_room();
    }

    /// Answers kept, and the bytes that they take.
    pub fn size(&self) -> (usize, usize) {
        let room = self.0.borrow();
        (room.entries.len(), room.bytes)
    }

    /// What is kept for a GET.
    pub fn find(&self, key: &Key, request: &Request<()>) -> Found {
        let mut room = self.0.borrow_mut();
        let Some(entry) = room.touch(key) else {
            return Found::Nothing;
        };
        match entry.policy.before_request(request, SystemTime::now()) {
            BeforeRequest::Fresh(head) => {
                Found::Fresh(Response::from_parts(head, entry.body.clone()))
            }
            BeforeRequest::Stale { request, matches } if matches => Found::Stale(Box::new(request)),
            BeforeRequest::Stale { .. } => Found::Nothing,
        }
    }

    /// What is kept for a GET, however old it is.
    pub fn find_any(&self, key: &Key) -> Option<Response<Bytes>> {
        let mut room = self.0.borrow_mut();
        let entry = room.touch(key)?;
        let mut answer = Response::from_parts(entry.head.clone(), entry.body.clone());
        let age = entry.policy.age(SystemTime::now()).as_secs();
        answer.headers_mut().insert(header::AGE, age.into());
        Some(answer)
    }

    /// The server said that nothing has changed: what is kept, fresh again.
    pub fn refresh(
        &self,
        key: &Key,
        request: &Request<()>,
        head: &Response<()>,
    ) -> Option<Response<Bytes>> {
        let mut room = self.0.borrow_mut();
        let entry = room.entries.get_mut(key)?;
        let (policy, parts) = match entry
            .policy
            .after_response(request, head, SystemTime::now())
        {
            AfterResponse::NotModified(policy, parts) => (policy, parts),
            AfterResponse::Modified(..) => return None,
        };
        entry.policy = policy;
        entry.head = parts.clone();
        Some(Response::from_parts(parts, entry.body.clone()))
    }

    /// Prepares to keep an answer to a GET, when that is allowed and there is room.
    pub fn keep(
        &self,
        key: &Key,
        request: &Request<()>,
        head: &http::response::Parts,
    ) -> Option<Keep> {
        let answer = Response::from_parts(head.clone(), ());
        let policy = CachePolicy::new(request, &answer);
        let has_range = request.headers().contains_key(header::RANGE)
            || head.status == StatusCode::PARTIAL_CONTENT;
        if request.method() != Method::GET || has_range || !policy.is_storable() {
            return None;
        }
        Some(Keep {
            cache: self.clone(),
            key: key.clone(),
            policy,
            head: head.clone(),
            body: Vec::new(),
            most: self.0.borrow().bytes_max / PART_OF_ROOM,
        })
    }

    /// Removes what is kept of a route (all when it is empty) whose URL ends in a path that begins so. How many went.
    pub fn purge(&self, route: &str, path: &str) -> usize {
        let mut room = self.0.borrow_mut();
        let gone: Vec<Key> = (room.entries.keys())
            .filter(|key| {
                let own = key.url.find('/').map_or("", |at| &key.url[at..]);
                (route.is_empty() || key.route == route) && own.starts_with(path)
            })
            .cloned()
            .collect();
        gone.iter().for_each(|key| room.remove(key));
        gone.len()
    }

    /// Removes what is kept for one URL: it was changed.
    pub fn remove(&self, key: &Key) {
        self.0.borrow_mut().remove(key);
    }
}

impl Room {
    fn touch(&mut self, key: &Key) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(key)?;
        self.uses += 1;
        self.by_use.remove(&entry.used);
        entry.used = self.uses;
        self.by_use.insert(self.uses, key.clone());
        Some(entry)
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }

    fn make_room(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((_, key)) = self.by_use.pop_first()
        {
            self.remove(&key);
        }
    }
}

impl Keep {
    /// The next bytes of the body.
    pub fn add(&mut self, data: &[u8]) {
        if self.body.len() <= self.most {
            self.body.extend_from_slice(data);
        }
    }

    /// All of the body has passed.
    pub fn store(self) {
        let headers: usize = (self.head.headers.iter())
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        // Headers lie there three times: in the policy for request and answer, and in the head.
        let bytes = self.body.len() + 3 * headers + 2 * self.key.url.len() + ENTRY_BYTES;
        if bytes > self.most {
            return;
        }
        let mut room = self.cache.0.borrow_mut();
        room.remove(&self.key);
        room.uses += 1;
        let used = room.uses;
        room.by_use.insert(used, self.key.clone());
        let entry = Entry {
            policy: self.policy,
            head: self.head,
            body: self.body.into(),
            bytes,
            used,
        };
        room.entries.insert(self.key, entry);
        room.bytes += bytes;
        room.make_room();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Key {
        Key {
            route: "r".into(),
            url: format!("host{path}"),
        }
    }

    fn ask(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn answer(headers: &[(&str, &str)]) -> http::response::Parts {
        let mut answer = Response::builder();
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(()).unwrap().into_parts().0
    }

    fn put(cache: &Cache, key: &Key, headers: &[(&str, &str)], body: &[u8]) -> bool {
        let kept = cache.keep(key, &ask(&[]), &answer(headers));
        let is_kept = kept.is_some();
        if let Some(mut keep) = kept {
            keep.add(body);
            keep.store();
        }
        is_kept
    }

    const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

    #[test]
    fn only_what_may_be_kept_is_kept() {
        let cache = Cache::new(1 << 20);
        assert!(put(&cache, &key("/a"), FRESH, b"hello"));
        for headers in [
            &[("cache-control", "no-store")][..],
            &[("cache-control", "private, max-age=60")],
            &[],
        ] {
            put(&cache, &key("/b"), headers, b"hello");
            assert!(matches!(
                cache.find(&key("/b"), &ask(&[])),
                Found::Nothing | Found::Stale(_)
            ));
        }
        match cache.find(&key("/a"), &ask(&[])) {
            Found::Fresh(answer) => assert_eq!(answer.body().as_ref(), b"hello"),
            _ => panic!("it is fresh"),
        }
        assert!(matches!(
            cache.find(&key("/a"), &ask(&[("cache-control", "no-cache")])),
            Found::Stale(_)
        ));
        assert!(cache.find_any(&key("/a")).is_some());
        assert_eq!(cache.purge("other", "/"), 0);
        assert_eq!(cache.purge("r", "/a"), 1);
        assert!(cache.find_any(&key("/a")).is_none());
    }

    #[test]
    fn stale_answer_is_used_again_once_the_server_says_so() {
        let cache = Cache::new(1 << 20);
        let headers = [("cache-control", "max-age=0"), ("etag", "\"1\"")];
        assert!(put(&cache, &key("/a"), &headers, b"old"));
        let Found::Stale(parts) = cache.find(&key("/a"), &ask(&[])) else {
            panic!("it is stale");
        };
        assert_eq!(parts.headers["if-none-match"], "\"1\"");
        let same = Response::builder()
            .status(304)
            .header("etag", "\"1\"")
            .body(())
            .unwrap();
        let request = Request::from_parts(*parts, ());
        let answer = cache.refresh(&key("/a"), &request, &same).unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.body().as_ref()),
            (200, &b"old"[..])
        );
    }

    #[test]
    fn room_is_bounded_and_the_least_used_goes() {
        let cache = Cache::new(64 << 10);
        assert!(put(&cache, &key("/big"), FRESH, &vec![0; 60 << 10]));
        assert_eq!(
            cache.size(),
            (0, 0),
            "one answer may not take most of the room"
        );
        for i in 0..100 {
            put(&cache, &key(&format!("/{i}")), FRESH, &[0; 4_000]);
            cache.find_any(&key("/0"));
            assert!(cache.size().1 <= 64 << 10);
        }
        assert!(cache.find_any(&key("/0")).is_some() && cache.find_any(&key("/99")).is_some());
        assert!(cache.find_any(&key("/1")).is_none());
    }
}
