//! Supervision without a cluster: accounts under a supervisor, and a clerk that moves money between them.
//!
//! ```sh
//! cargo run -p actors --example bank
//! ```

use actors::{Actor, Address, CallError, Context, Death, Failure, Restart, Strategy, Supervisor};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

/// Money that outlives its actor: a real bank would have a database here.
struct Account {
    balance: Arc<AtomicI64>,
}

enum Entry {
    Deposit(i64),
    Withdraw(i64),
    Look,
    Defect,
}

impl Actor for Account {
    type Message = Entry;
    /// The balance; an error where money is lacking, which is no defect of the account.
    type Answer = Result<i64, String>;

    async fn handle(
        &mut self,
        entry: Entry,
        _: &mut Context<Self>,
    ) -> Result<Self::Answer, Failure> {
        let before = self.balance.load(Ordering::Relaxed);
        let after = match entry {
            Entry::Deposit(amount) => before + amount,
            Entry::Withdraw(amount) if amount > before => {
                return Ok(Err(format!("{before} is less than {amount}")));
            }
            Entry::Withdraw(amount) => before - amount,
            Entry::Look => before,
            Entry::Defect => panic!("a defect"),
        };
        self.balance.store(after, Ordering::Relaxed);
        Ok(Ok(after))
    }
}

struct Clerk {
    from: Address<Account>,
    to: Address<Account>,
    deaths: u64,
}

enum Order {
    Move(i64),
    Died(Death),
    Deaths,
}

impl Actor for Clerk {
    type Message = Order;
    type Answer = Result<u64, String>;

    async fn started(&mut self, cx: &mut Context<Self>) -> Result<(), Failure> {
        cx.watch(&self.from, Order::Died);
        cx.watch(&self.to, Order::Died);
        Ok(())
    }

    async fn handle(
        &mut self,
        order: Order,
        _: &mut Context<Self>,
    ) -> Result<Self::Answer, Failure> {
        match order {
            Order::Move(amount) => {
                if let Err(why) = self.from.ask(Entry::Withdraw(amount), SOON).await? {
                    return Ok(Err(why));
                }
                // What is not known to have failed cannot be given back: the clerk fails, and somebody looks into it.
                match self.to.ask(Entry::Deposit(amount), SOON).await {
                    Ok(deposited) => deposited.map_err(Failure::new)?,
                    Err(CallError::NotDone(_)) => {
                        let back = self.from.ask(Entry::Deposit(amount), SOON).await?;
                        back.map_err(Failure::new)?
                    }
                    Err(error) => return Err(error.into()),
                };
            }
            Order::Died(death) => {
                println!("{} ended: {:?}", death.name, death.why);
                self.deaths += 1;
            }
            Order::Deaths => {}
        }
        Ok(Ok(self.deaths))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut accounts = Supervisor::new("accounts", Strategy::OneForOne);
    let mut open = |name: &str, amount| {
        let balance = Arc::new(AtomicI64::new(amount));
        accounts.actor(name, Restart::Permanent, 100, move || Account {
            balance: balance.clone(),
        })
    };
    let (alice, bob) = (open("alice", 100), open("bob", 0));
    let mut bank = Supervisor::new("bank", Strategy::RestForOne);
    bank.supervisor(Restart::Permanent, accounts);
    let (from, to) = (alice.clone(), bob.clone());
    let clerk = bank.actor("clerk", Restart::Permanent, 100, move || Clerk {
        from: from.clone(),
        to: to.clone(),
        deaths: 0,
    });
    let running = bank.start();

    println!("move 30: {:?}", clerk.ask(Order::Move(30), SOON).await?);
    println!("move 300: {:?}", clerk.ask(Order::Move(300), SOON).await?);
    println!("a defect: {:?}", alice.ask(Entry::Defect, SOON).await);
    println!("alice: {:?}", alice.ask(Entry::Look, SOON).await?);
    println!("bob: {:?}", bob.ask(Entry::Look, SOON).await?);
    println!("restarts of alice: {}", alice.restarts());
    println!(
        "deaths that the clerk heard of: {:?}",
        clerk.ask(Order::Deaths, SOON).await?
    );
    running
        .stop()
        .await
        .map_err(|failure| failure.to_string())?;
    Ok(())
}
