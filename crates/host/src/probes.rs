//! Probes of services, and calls of theirs for global transactions: connecting and asking, on a thread of its own. What is seen goes to the core that
//! wanted to know; what it means is decided there.

use crate::mail::{Mail, Mailbox};
use axum::http::{Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use node::{Probe, ProbeResult, ProbeTarget};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

/// Probes of each kind under way at a time; others wait, and their time runs.
const PROBES_MAX: usize = 512;
/// Bytes of a body that are read.
const BODY_BYTES_MAX: usize = 4_096;

struct Job {
    probe: Probe,
    target: ProbeTarget,
    time: Duration,
    mailbox: Mailbox,
}

/// The way to the thread, which ends with the last of these.
#[derive(Clone)]
pub struct Prober {
    jobs: mpsc::UnboundedSender<Job>,
}

impl Prober {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (jobs, mut wanted) = mpsc::unbounded_channel::<Job>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let [checks, calls] = [(); 2].map(|()| Arc::new(Semaphore::new(PROBES_MAX)));
        let serve = async move {
            while let Some(job) = wanted.recv().await {
                let room = match job.probe {
                    Probe::Check { .. } => checks.clone(),
                    Probe::Call { .. } => calls.clone(),
                };
                tokio::spawn(async move {
                    let work = async {
                        let _place = room.acquire().await;
                        look(&job.target).await
                    };
                    let why = format!("no answer within {:?}", job.time);
                    let seen = tokio::time::timeout(job.time, work).await;
                    let result = seen.unwrap_or(Err(why));
                    let result = result.unwrap_or_else(|why| ProbeResult::Failed { why });
                    let probe = job.probe;
                    job.mailbox.send(Mail::Probed { probe, result });
                });
            }
        };
        std::thread::Builder::new()
            .name("probes".into())
            .spawn(move || runtime.block_on(serve))?;
        Ok(Self { jobs })
    }

    /// Looks, and tells the core whose mailbox this is.
    pub fn probe(&self, probe: Probe, target: ProbeTarget, time: Duration, mailbox: Mailbox) {
        let job = Job {
            probe,
            target,
            time,
            mailbox,
        };
        // The thread lives as long as this does.
        let _ = self.jobs.send(job);
    }
}

async fn look(target: &ProbeTarget) -> Result<ProbeResult, String> {
    match target {
        ProbeTarget::Tcp { address } => connect(address).await.map(|_| ProbeResult::Connected),
        ProbeTarget::Http {
            url,
            method,
            headers,
            body,
        } => ask(url, method, headers, body).await,
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    let connected = TcpStream::connect(address).await;
    connected.map_err(|error| format!("cannot connect to {address}: {error}"))
}

async fn ask(
    url: &str,
    method: &str,
    headers: &[(String, String)],
    body: &str,
) -> Result<ProbeResult, String> {
    let failed = |error: String| format!("{method} {url}: {error}");
    let uri: Uri = (url.parse()).map_err(|_| failed("that is not a URL".into()))?;
    let authority = uri
        .authority()
        .ok_or_else(|| failed("it names no host".into()))?;
    let port = authority.port_u16().unwrap_or(80);
    let stream = connect(&format!("{}:{port}", authority.host())).await?;
    let mut request = Request::builder()
        .method(method)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::USER_AGENT, "althing")
        .header(header::CONNECTION, "close");
    let names_host = |(key, _): &(String, String)| key.eq_ignore_ascii_case("host");
    if !headers.iter().any(names_host) {
        request = request.header(header::HOST, authority.as_str());
    }
    for (key, value) in headers {
        request = request.header(key, value);
    }
    let request = request
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .map_err(|error| failed(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let sent = sender.send_request(request).await;
        let mut response = sent.map_err(|error| failed(error.to_string()))?;
        let mut read = Vec::new();
        while read.len() < BODY_BYTES_MAX
            && let Some(Ok(frame)) = response.frame().await
        {
            if let Ok(data) = frame.into_data() {
                read.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - read.len())]);
            }
        }
        Ok(ProbeResult::Answered {
            code: response.status().as_u16(),
            body: String::from_utf8_lossy(&read).into_owned(),
        })
    };
    // The connection does its part until the exchange is over.
    tokio::pin!(exchange);
    tokio::select! {
        seen = &mut exchange => return seen,
        _ = connection => {}
    }
    exchange.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn seen(target: &ProbeTarget) -> Result<ProbeResult, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(look(target))
    }

    #[test]
    fn http_server_is_asked_as_the_check_says() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let n = socket.read(&mut asked).unwrap();
            socket
                .write_all(b"HTTP/1.1 429 Busy\r\nContent-Length: 4\r\n\r\nslow")
                .unwrap();
            String::from_utf8(asked[..n].to_vec()).unwrap()
        });
        let result = seen(&ProbeTarget::Http {
            url: format!("http://{address}/health?deep=1"),
            method: "POST".into(),
            headers: vec![("X-Who".into(), "check".into())],
            body: "hello".into(),
        });
        let (code, body) = (429, "slow".into());
        assert_eq!(result, Ok(ProbeResult::Answered { code, body }));
        let asked = server.join().unwrap();
        for part in [
            "POST /health?deep=1 HTTP/1.1\r\n",
            "x-who: check\r\n",
            "\r\n\r\nhello",
        ] {
            assert!(asked.contains(part), "{asked}");
        }
        assert!(asked.contains(&format!("host: {address}\r\n")), "{asked}");
    }

    #[test]
    fn port_is_probed_and_a_closed_one_says_why() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target = ProbeTarget::Tcp { address };
        assert_eq!(seen(&target), Ok(ProbeResult::Connected));
        drop(listener);
        assert!(seen(&target).unwrap_err().contains("refused"));
        let url = "http://nobody.invalid/".to_owned();
        let target = ProbeTarget::Http {
            url,
            method: "GET".into(),
            headers: Vec::new(),
            body: String::new(),
        };
        assert!(seen(&target).unwrap_err().contains("nobody.invalid"));
    }
}
