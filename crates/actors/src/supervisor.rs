//! Supervisors: tasks for what [`Supervision`] decides.

use crate::actor::{Actor, Failure};
use crate::address::{Address, Cell, Vitals};
use crate::context::Named;
use computing::actors::{End, Limits, Restart, Step, Strategy, Supervision};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;

/// A child that was told to stop and has not after this time is cut off at its next await.
const STOP_TIME: Duration = Duration::from_secs(5);

type Life = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

struct Child {
    restart: Restart,
    vitals: Arc<Vitals>,
    /// `None` once it is never to be started again: its mailbox is closed.
    live: Option<Box<dyn Fn(oneshot::Receiver<()>) -> Life + Send + Sync>>,
}

/// Starts its children in order, and again when they have ended, as its [`Strategy`] says. When that happens more often
/// than its [`Limits`] allow, it stops them all and fails itself.
pub struct Supervisor {
    name: String,
    strategy: Strategy,
    limits: Limits,
    children: Vec<Child>,
}

impl Supervisor {
    /// One without children.
    pub fn new(name: impl Into<String>, strategy: Strategy) -> Self {
        Self {
            name: name.into(),
            strategy,
            limits: Limits::default(),
            children: Vec::new(),
        }
    }

    /// When to give up, in place of [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds an actor: `make` makes each incarnation. Its address is valid from now on; what is sent waits until it runs.
    pub fn actor<A: Actor>(
        &mut self,
        name: impl Into<String>,
        restart: Restart,
        mailbox_max: usize,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Address<A> {
        self.add(name.into(), restart, mailbox_max, None, make)
    }

    pub(crate) fn add<A: Actor>(
        &mut self,
        name: String,
        restart: Restart,
        mailbox_max: usize,
        named: Option<Named>,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Address<A> {
        let (cell, address) = Cell::new(name, mailbox_max, named, make);
        // An actor that is supervised lives although nobody has its address.
        let kept = address.clone();
        self.children.push(Child {
            restart,
            vitals: address.vitals().clone(),
            live: Some(Box::new(move |stop| {
                let _ = &kept;
                Box::pin(cell.clone().live(stop))
            })),
        });
        address
    }

    /// Adds a supervisor below this one.
    pub fn supervisor(&mut self, restart: Restart, inner: Self) {
        let vitals = Vitals::new(inner.name.clone());
        let inner = Arc::new(Mutex::new(inner));
        self.children.push(Child {
            restart,
            vitals,
            live: Some(Box::new(move |stop| {
                let inner = inner.clone();
                Box::pin(async move { inner.lock().await.run(stop).await })
            })),
        });
    }

    /// Starts the tree.
    pub fn start(mut self) -> Running {
        let (stop, stopped) = oneshot::channel();
        Running {
            stop: Some(stop),
            task: tokio::spawn(async move { self.run(stopped).await }),
        }
    }

    async fn run(&mut self, mut stop: oneshot::Receiver<()>) -> Result<(), Failure> {
        let restarts = self.children.iter().map(|child| child.restart);
        let mut plan = Supervision::new(self.strategy, self.limits, restarts);
        let start = Instant::now();
        let mut tasks = Tasks::default();
        let mut is_first = vec![true; self.children.len()];
        let mut is_stopping = false;
        let mut last = None;
        loop {
            while let Some(step) = plan.poll(start.elapsed().as_millis() as u64) {
                match step {
                    Step::Start(child) => {
                        if !std::mem::take(&mut is_first[child]) {
                            let vitals = &self.children[child].vitals;
                            vitals.restarts.fetch_add(1, Ordering::Relaxed);
                        }
                        tasks.start(child, &self.children[child]);
                    }
                    Step::Stop(child) => tasks.stop(child),
                    Step::Over(End::Normal) => return Ok(()),
                    Step::Over(End::Failed) => {
                        return Err(Failure::new(format!(
                            "the supervisor {:?} gave up after {} restarts{}",
                            self.name,
                            plan.restarts(),
                            last.map_or(String::new(), |why: Failure| format!("; at last {why}"))
                        )));
                    }
                }
            }
            let wake_at = (plan.wake_at_ms()).map(|ms| start + Duration::from_millis(ms));
            tokio::select! {
                _ = &mut stop, if !is_stopping => {
                    is_stopping = true;
                    plan.handle_stop();
                }
                (child, outcome) = tasks.ended() => {
                    self.children[child].vitals.handle_death(&outcome);
                    let end = if outcome.is_ok() { End::Normal } else { End::Failed };
                    last = outcome.err().or(last);
                    plan.handle_ended(start.elapsed().as_millis() as u64, child, end);
                    if plan.is_gone(child) {
                        self.children[child].live = None;
                    }
                }
                () = sleep_until(wake_at) => {}
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The children that run. Dropping it cuts them off.
#[derive(Default)]
struct Tasks {
    tasks: JoinSet<Result<(), Failure>>,
    running: HashMap<Id, Task>,
}

struct Task {
    child: usize,
    stop: Option<oneshot::Sender<()>>,
    abort: AbortHandle,
    kill_at: Option<Instant>,
}

impl Tasks {
    fn start(&mut self, child: usize, what: &Child) {
        let (stop, stopped) = oneshot::channel();
        let Some(live) = &what.live else { return };
        let abort = self.tasks.spawn(live(stopped));
        let task = Task {
            child,
            stop: Some(stop),
            abort: abort.clone(),
            kill_at: None,
        };
        self.running.insert(abort.id(), task);
    }

    fn stop(&mut self, child: usize) {
        for task in self.running.values_mut().filter(|t| t.child == child) {
            task.stop = None;
            task.kill_at = Some(Instant::now() + STOP_TIME);
        }
    }

    /// The next one that has ended. Waits for ever when none runs.
    async fn ended(&mut self) -> (usize, Result<(), Failure>) {
        loop {
            let kill_at = self.running.values().filter_map(|task| task.kill_at).min();
            let ended = tokio::select! {
                ended = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => ended,
                () = sleep_until(kill_at) => {
                    let now = Instant::now();
                    for task in self.running.values_mut() {
                        if task.kill_at.is_some_and(|at| at <= now) {
                            task.kill_at = None;
                            task.abort.abort();
                        }
                    }
                    continue;
                }
            };
            let (id, outcome) = match ended {
                Some(Ok((id, outcome))) => (id, outcome),
                Some(Err(error)) => (error.id(), Err(cut_off(&error))),
                None => continue,
            };
            if let Some(task) = self.running.remove(&id) {
                return (task.child, outcome);
            }
        }
    }
}

fn cut_off(error: &JoinError) -> Failure {
    Failure::new(match error.is_cancelled() {
        true => format!("it did not stop within {STOP_TIME:?}, and was cut off"),
        false => error.to_string(),
    })
}

/// A tree of supervisors that runs. Dropping it stops the tree in order.
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Failure>>,
}

impl Running {
    /// Stops all children in order, and waits for that.
    ///
    /// # Errors
    ///
    /// It had given up.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.begin_stop();
        self.ended().await
    }

    pub(crate) fn begin_stop(&mut self) {
        self.stop = None;
    }

    /// Cuts all off at their next await.
    pub(crate) fn abort(&mut self) {
        self.task.abort();
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until the supervisor has ended.
    ///
    /// # Errors
    ///
    /// It gave up: more restarts than its limits allow.
    pub async fn ended(&mut self) -> Result<(), Failure> {
        match (&mut self.task).await {
            Ok(outcome) => outcome,
            Err(error) => Err(cut_off(&error)),
        }
    }
}
