//! It calls the greeter by name for each guest, and gives up none of them when a greeter dies.
//!
//! ```sh
//! cargo run -p rpc --example front -- --listen 127.0.0.1:5000   # serve
//! cargo run -p rpc --example front -- --guests Egill,Njal       # call the front by name, once
//! cargo run -p rpc --example front -- --calls 1000              # call the greeter so often, and say how it went
//! ```

mod shared;

use rpc::{Agent, Channel, Registration};
use shared::front::front_client::FrontClient;
use shared::front::front_server::{Front, FrontServer};
use shared::front::{WelcomeReply, WelcomeRequest};
use shared::greeter::GreetRequest;
use shared::greeter::greeter_client::GreeterClient;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use tonic::{Request, Response, Status};

struct Door {
    greeter: GreeterClient<Channel>,
}

#[tonic::async_trait]
impl Front for Door {
    async fn welcome(
        &self,
        request: Request<WelcomeRequest>,
    ) -> Result<Response<WelcomeReply>, Status> {
        let mut texts = Vec::new();
        for name in request.into_inner().guests {
            // No more time than this call has itself.
            let reply = self.greeter.clone().greet(GreetRequest { name }).await?;
            texts.push(reply.into_inner().text);
        }
        Ok(Response::new(WelcomeReply { texts }))
    }
}

#[tokio::main]
async fn main() -> Result<(), shared::Failure> {
    let options = shared::Options::read("front")?;
    if let Some(guests) = options.guests {
        let agent = Agent::new("guests", options.agents)?;
        let channel = Channel::builder("front").descriptors(shared::DESCRIPTORS);
        let mut front = FrontClient::new(channel.connect(&agent).await?);
        let reply = front.welcome(WelcomeRequest { guests }).await?;
        for text in reply.into_inner().texts {
            println!("{text}");
        }
        return Ok(agent.report().await?);
    }
    let agent = Agent::new("front", options.agents)?;
    let channel = Channel::builder("greeter").descriptors(shared::DESCRIPTORS);
    let greeter = GreeterClient::new(channel.connect(&agent).await?);
    if options.calls > 0 {
        call(greeter, options.calls).await?;
        return Ok(agent.report().await?);
    }
    if options.on_demand {
        return on_demand(greeter, &agent).await;
    }
    let (listener, address) = shared::listen(&options.listen).await?;
    let registration = Registration::new("front")
        .address(&address)
        .ttl(options.ttl);
    let registered = registration.register(&agent).await?;
    println!("front serves on {address}");
    shared::server()
        .layer(registered.layer())
        .add_service(FrontServer::new(Door { greeter }))
        .serve_with_incoming_shutdown(listener, async {
            shared::asked_to_end().await;
            if let Err(error) = registered.leave().await {
                eprintln!("still registered until the TTL is over: {error}");
            }
        })
        .await?;
    Ok(agent.report().await?)
}

/// Calls the greeter, and says which instances answered how often, and what failed how often.
async fn call(mut greeter: GreeterClient<Channel>, calls: u32) -> Result<(), shared::Failure> {
    let mut ended: BTreeMap<String, u32> = BTreeMap::new();
    for i in 0..calls {
        let name = format!("guest {i}");
        let end = match greeter.greet(GreetRequest { name }).await {
            Ok(reply) => reply.into_inner().instance,
            Err(status) => format!("{:?}: {}", rpc::fate(&status), status.message()),
        };
        *ended.entry(end).or_default() += 1;
    }
    for (end, count) in ended {
        println!("{count} {end}");
    }
    Ok(())
}

/// For each line of the input, a number: so many calls, and a line `done`; at its end, what was counted is told.
async fn on_demand(greeter: GreeterClient<Channel>, agent: &Agent) -> Result<(), shared::Failure> {
    println!("ready");
    let mut lines = std::io::stdin().lock().lines();
    while let Some(line) = tokio::task::block_in_place(|| lines.next()) {
        call(greeter.clone(), line?.trim().parse()?).await?;
        println!("done");
        std::io::stdout().flush()?;
    }
    Ok(agent.report().await?)
}
