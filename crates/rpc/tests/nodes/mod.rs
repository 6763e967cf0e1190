//! A node as far as the library sees one, and providers that behave in different ways.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use greeter::greeter_client::GreeterClient;
use greeter::greeter_server::{Greeter, GreeterServer};
use greeter::{CountReply, CountRequest, GreetReply, GreetRequest};
use rpc::{Agent, CALL_ATTEMPT, CALL_ID, CALLER, Channel, Layer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use traffic::calls::{Board, Report, Row, merge};

#[allow(missing_docs)]
pub mod greeter {
    tonic::include_proto!("greeter.v1");
}

pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Waits until it is so. A minute is a hang.
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it never came to be so"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// ---- a node ----------------------------------------------------------------------------------

#[derive(Default)]
struct Registry {
    /// (address, whether it passes its checks) by service.
    instances: BTreeMap<String, Vec<(String, bool)>>,
    index: u64,
    /// (times told to live, body) by id.
    registered: BTreeMap<String, (u64, Value)>,
    board: Board,
}

type Known = Arc<Mutex<Registry>>;

pub struct Node {
    pub address: String,
    known: Known,
    task: JoinHandle<()>,
}

impl Node {
    pub async fn start() -> Self {
        let known = Known::default();
        known.lock().unwrap().index = 1;
        let router = Router::new()
            .route("/v1/health/service/{name}", get(health))
            .route("/v1/agent/service/register", put(register))
            .route("/v1/agent/service/deregister/{id}", put(deregister))
            .route("/v1/agent/check/pass/{id}", put(pass))
            .route("/v1/monitor/calls", post(told))
            .with_state(known.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            known,
            task,
        }
    }

    pub fn put<'a>(&self, service: &str, addresses: impl IntoIterator<Item = &'a str>) {
        let all = addresses
            .into_iter()
            .map(|a| (a.to_owned(), true))
            .collect();
        self.set(service, all);
    }

    pub fn put_critical(&self, service: &str, address: &str) {
        self.set(service, vec![(address.into(), false)]);
    }

    fn set(&self, service: &str, all: Vec<(String, bool)>) {
        let mut known = self.known.lock().unwrap();
        known.instances.insert(service.into(), all);
        known.index += 1;
    }

    /// Rows of all reports.
    pub fn rows(&self) -> Vec<Row> {
        merge(self.known.lock().unwrap().board.heard(0))
    }

    pub fn registered(&self) -> Vec<String> {
        self.known
            .lock()
            .unwrap()
            .registered
            .keys()
            .cloned()
            .collect()
    }

    pub fn registration(&self, id: &str) -> (u64, Value) {
        let known = self.known.lock().unwrap();
        known.registered.get(id).cloned().unwrap_or_default()
    }

    pub fn forget(&self) {
        self.known.lock().unwrap().registered.clear();
    }

    /// Takes no more connections, and breaks off what waits.
    pub async fn end(self) {
        self.known.lock().unwrap().index = u64::MAX;
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn health(
    State(known): State<Known>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<([(&'static str, String); 1], axum::Json<Value>), StatusCode> {
    let seen = query
        .get("index")
        .and_then(|index| index.parse::<u64>().ok());
    let begun = Instant::now();
    loop {
        {
            let known = known.lock().unwrap();
            if known.index == u64::MAX {
                return Err(StatusCode::INTERNAL_SERVER_ERROR);
            }
            if seen != Some(known.index) || begun.elapsed() > Duration::from_secs(10) {
                let none = Vec::new();
                let all = known.instances.get(&name).unwrap_or(&none).iter();
                let entries = all.map(|(address, passes)| {
                    let (host, port) = address.rsplit_once(':').unwrap();
                    json!({
                        "Node": { "Address": "127.0.0.1" },
                        "Service": { "Address": host, "Port": port.parse::<u16>().unwrap() },
                        "Checks": [{ "Status": if *passes { "passing" } else { "critical" } }],
                    })
                });
                let index = [("x-consul-index", known.index.to_string())];
                return Ok((index, axum::Json(entries.collect())));
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn register(State(known): State<Known>, body: String) {
    let body: Value = serde_json::from_str(&body).unwrap();
    let id = body["ID"].as_str().unwrap().to_owned();
    known.lock().unwrap().registered.insert(id, (0, body));
}

async fn deregister(State(known): State<Known>, Path(id): Path<String>) {
    known.lock().unwrap().registered.remove(&id);
}

async fn pass(State(known): State<Known>, Path(check): Path<String>) -> StatusCode {
    let id = check.trim_start_matches("service:");
    match known.lock().unwrap().registered.get_mut(id) {
        Some((times, _)) => {
            *times += 1;
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}

async fn told(State(known): State<Known>, body: String) {
    let report: Report = serde_json::from_str(&body).unwrap();
    report.check().unwrap();
    known.lock().unwrap().board.handle_report(report, 0);
}

// ---- providers -------------------------------------------------------------------------------

/// What came with a call.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: String,
    pub attempt: String,
    pub caller: String,
    pub left: Duration,
}

#[derive(Default)]
struct Behaviour {
    hangs: bool,
    next: Option<GreeterClient<Channel>>,
}

#[derive(Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    calls: AtomicU64,
}

pub struct Provider {
    pub address: String,
    log: Arc<Log>,
    _port: Option<TcpSocket>,
}

impl Provider {
    /// It answers.
    pub async fn start() -> Self {
        Self::serve(Behaviour::default(), None).await
    }

    /// It takes calls and never answers.
    pub async fn hanging() -> Self {
        let hangs = true;
        Self::serve(
            Behaviour {
                hangs,
                ..Behaviour::default()
            },
            None,
        )
        .await
    }

    /// It asks another, and counts for this agent.
    pub async fn passing_on(next: GreeterClient<Channel>, agent: &Agent) -> Self {
        let next = Some(next);
        let layer = Layer::new(agent, "middle", "127.0.0.1:1");
        Self::serve(
            Behaviour {
                next,
                ..Behaviour::default()
            },
            Some(layer),
        )
        .await
    }

    /// Nobody listens there, and nobody else can.
    pub async fn gone() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self {
            address: socket.local_addr().unwrap().to_string(),
            log: Arc::default(),
            _port: Some(socket),
        }
    }

    /// It reads a call, and breaks the connection off without an answer.
    pub async fn breaking() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log: Arc<Log> = Arc::default();
        let its = log.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let log = its.clone();
                tokio::spawn(async move {
                    // Until the frame of type 1, HEADERS, has come: RFC 9113, sections 3.4 and 4.1.
                    let mut preface = [0; 24];
                    stream.read_exact(&mut preface).await?;
                    loop {
                        let mut head = [0; 9];
                        stream.read_exact(&mut head).await?;
                        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                        let mut rest = vec![0; length as usize];
                        stream.read_exact(&mut rest).await?;
                        if head[3] == 1 {
                            log.calls.fetch_add(1, Ordering::Relaxed);
                            return std::io::Result::Ok(());
                        }
                    }
                });
            }
        });
        Self {
            address,
            log,
            _port: None,
        }
    }

    async fn serve(behaviour: Behaviour, layer: Option<Layer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log: Arc<Log> = Arc::default();
        let service = Service {
            address: address.clone(),
            log: log.clone(),
            behaviour,
        };
        let service = GreeterServer::new(service);
        let incoming = TcpIncoming::from(listener);
        let mut server = tonic::transport::Server::builder();
        tokio::spawn(async move {
            match layer {
                Some(layer) => {
                    let mut server = server.layer(layer);
                    server
                        .add_service(service)
                        .serve_with_incoming(incoming)
                        .await
                }
                None => {
                    server
                        .add_service(service)
                        .serve_with_incoming(incoming)
                        .await
                }
            }
        });
        Self {
            address,
            log,
            _port: None,
        }
    }

    /// Calls that came.
    pub fn calls(&self) -> u64 {
        self.log.calls.load(Ordering::Relaxed)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }
}

struct Service {
    address: String,
    log: Arc<Log>,
    behaviour: Behaviour,
}

impl Service {
    async fn handle<T>(&self, request: &Request<T>) -> u64 {
        let header = |name: &str| {
            let value = request
                .metadata()
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let left = header("grpc-timeout");
        let (digits, unit) = left.split_at(left.len().saturating_sub(1));
        let digits = digits.parse().unwrap_or_default();
        let left = match unit {
            "u" => Duration::from_micros(digits),
            "m" => Duration::from_millis(digits),
            _ => Duration::MAX,
        };
        self.log.seen.lock().unwrap().push(Seen {
            id: header(CALL_ID),
            attempt: header(CALL_ATTEMPT),
            caller: header(CALLER),
            left,
        });
        let count = self.log.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if self.behaviour.hangs {
            std::future::pending::<()>().await;
        }
        count
    }
}

#[tonic::async_trait]
impl Greeter for Service {
    async fn greet(&self, request: Request<GreetRequest>) -> Result<Response<GreetReply>, Status> {
        self.handle(&request).await;
        let request = request.into_inner();
        if let Some(next) = &self.behaviour.next {
            return next.clone().greet(request).await;
        }
        if request.name.is_empty() {
            return Err(Status::invalid_argument("no name"));
        }
        Ok(Response::new(GreetReply {
            text: request.name,
            instance: self.address.clone(),
        }))
    }

    async fn count(&self, request: Request<CountRequest>) -> Result<Response<CountReply>, Status> {
        let count = self.handle(&request).await;
        Ok(Response::new(CountReply { count }))
    }
}
