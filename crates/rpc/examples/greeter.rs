//! A leaf: it greets, and calls nobody. Start `althing dev`, then several of these:
//!
//! ```sh
//! cargo run -p rpc --example greeter -- --listen 127.0.0.1:5001
//! ```

mod shared;

use rpc::{Agent, Registration};
use shared::greeter::greeter_server::{Greeter, GreeterServer};
use shared::greeter::{CountReply, CountRequest, GreetReply, GreetRequest};
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::{Request, Response, Status};

struct Leaf {
    instance: String,
    count: AtomicU64,
}

#[tonic::async_trait]
impl Greeter for Leaf {
    async fn greet(&self, request: Request<GreetRequest>) -> Result<Response<GreetReply>, Status> {
        let name = request.into_inner().name;
        if name.is_empty() {
            return Err(Status::invalid_argument(
                "a guest without a name cannot be greeted",
            ));
        }
        Ok(Response::new(GreetReply {
            text: format!("Welcome to the Thing, {name}."),
            instance: self.instance.clone(),
        }))
    }

    async fn count(&self, _: Request<CountRequest>) -> Result<Response<CountReply>, Status> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Response::new(CountReply { count }))
    }
}

#[tokio::main]
async fn main() -> Result<(), shared::Failure> {
    let options = shared::Options::read("greeter")?;
    let (listener, address) = shared::listen(&options.listen).await?;
    let agent = Agent::new("greeter", options.agents)?;

    let registration = Registration::new("greeter")
        .address(&address)
        .meta("zone", "a")
        .ttl(options.ttl);
    let registered = registration.register(&agent).await?;
    let leaf = Leaf {
        instance: address.clone(),
        count: AtomicU64::new(0),
    };
    println!("greeter serves on {address}");
    shared::server()
        .layer(registered.layer())
        .add_service(GreeterServer::new(leaf))
        .serve_with_incoming_shutdown(listener, async {
            shared::asked_to_end().await;
            // First nobody is sent here any more, then what is under way ends.
            if let Err(error) = registered.leave().await {
                eprintln!("still registered until the TTL is over: {error}");
            }
        })
        .await?;
    agent.report().await?;
    Ok(())
}
