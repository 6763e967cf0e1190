//! A host of counters that outlive it. Start `althing dev`, then several of these, and talk to them:
//!
//! ```sh
//! cargo run -p actors --example counter                 # in two terminals
//! althing actor start hits counter
//! althing actor ask hits '{"Add":1}'                    # kill -9 whoever runs it, and ask again
//! althing actor list
//! ```

use actors::{Actor, Context, Failure, System};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Default)]
struct Counter {
    count: u64,
}

#[derive(Serialize, Deserialize)]
enum Message {
    /// Adds to the count, and keeps it before it answers.
    Add(u64),
    Get,
    /// Is busy for so many milliseconds.
    Sleep(u64),
    /// A defect.
    Crash,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    count: u64,
    /// Who counted.
    generation: i64,
    process: u32,
}

impl Actor for Counter {
    type Message = Message;
    type Answer = Answer;

    async fn started(&mut self, cx: &mut Context<Self>) -> Result<(), Failure> {
        self.count = cx.load().await?.unwrap_or(0);
        Ok(())
    }

    async fn handle(
        &mut self,
        message: Message,
        cx: &mut Context<Self>,
    ) -> Result<Answer, Failure> {
        match message {
            Message::Add(more) => {
                self.count += more;
                cx.save(&self.count).await?;
            }
            Message::Get => {}
            Message::Sleep(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Message::Crash => panic!("told to crash"),
        }
        Ok(Answer {
            count: self.count,
            generation: cx.generation().unwrap_or(0),
            process: std::process::id(),
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut servers = String::from("127.0.0.1:2181");
    let mut listen = String::from("127.0.0.1:0");
    let mut session_ms = 6_000;
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--servers" => servers = value,
            "--listen" => listen = value,
            "--session-ms" => session_ms = value.parse()?,
            _ => return Err(format!("no flag {flag}: --servers, --listen, --session-ms").into()),
        }
    }
    let system = System::builder(servers)
        .listen(listen)
        .session(Duration::from_millis(session_ms))
        .mailbox(100)
        .kind("counter", |_| Counter::default())
        .start()
        .await
        .map_err(|failure| failure.to_string())?;
    println!("counters run at {}", system.address());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    system.leave().await;
    Ok(())
}
