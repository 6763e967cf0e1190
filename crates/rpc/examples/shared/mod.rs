//! What both examples need: options, a listener, and what the protos became.

#![allow(dead_code, missing_docs)] // each example uses a part; what is generated has no words

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::server::TcpIncoming;

pub mod greeter {
    tonic::include_proto!("greeter.v1");
}

pub mod front {
    tonic::include_proto!("front.v1");
}

/// What the build script wrote.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

pub struct Options {
    pub listen: String,
    pub agents: Vec<String>,
    pub ttl: Duration,
    pub guests: Option<Vec<String>>,
    pub calls: u32,
    pub on_demand: bool,
}

impl Options {
    pub fn read(name: &str) -> Result<Self, Failure> {
        let mut options = Self {
            listen: "127.0.0.1:0".into(),
            agents: vec!["127.0.0.1:7400".into()],
            ttl: Duration::from_secs(5),
            guests: None,
            calls: 0,
            on_demand: false,
        };
        let list = |text: String| text.split(',').map(str::to_owned).collect();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--listen" => options.listen = value()?,
                "--agents" => options.agents = list(value()?),
                "--ttl-ms" => options.ttl = Duration::from_millis(value()?.parse()?),
                "--guests" if name == "front" => options.guests = Some(list(value()?)),
                "--calls" if name == "front" => options.calls = value()?.parse()?,
                "--on-demand" if name == "front" => options.on_demand = true,
                _ => {
                    return Err(format!(
                        "{name} does not know {word:?}: see the first lines of its source"
                    )
                    .into());
                }
            }
        }
        Ok(options)
    }
}

/// Takes the port, and says which it is.
pub async fn listen(address: &str) -> Result<(TcpIncoming, String), Failure> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let address: SocketAddr = listener.local_addr()?;
    Ok((
        TcpIncoming::from(listener).with_nodelay(Some(true)),
        address.to_string(),
    ))
}

pub fn server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
}

/// Until the process is to end: Ctrl-C, or SIGTERM.
pub fn asked_to_end() -> impl Future<Output = ()> {
    let terminated = signal(SignalKind::terminate());
    async {
        let Ok(mut terminated) = terminated else {
            let _ = tokio::signal::ctrl_c().await;
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    }
}
