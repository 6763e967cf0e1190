use crate::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A limit for what hangs, no measure.
const LONG: Duration = Duration::from_secs(60);

/// Notes what it is told; incarnations are numbered from 1.
struct Noter {
    incarnation: u64,
    notes: Arc<Mutex<Vec<String>>>,
}

enum Note {
    Say(u64),
    Panic,
    Fail,
    Hang,
    After,
    Watch(Address<Noter>),
    Died(Death),
}

impl Actor for Noter {
    type Message = Note;
    type Answer = (u64, u64);

    async fn started(&mut self, cx: &mut Context<Self>) -> Result<(), Failure> {
        let name = cx.me().map_or(String::new(), |me| me.name().to_owned());
        self.note(format!("{name} starts"));
        Ok(())
    }

    async fn handle(&mut self, note: Note, cx: &mut Context<Self>) -> Result<(u64, u64), Failure> {
        let told = match note {
            Note::Say(told) => told,
            Note::Panic => panic!("a defect"),
            Note::Fail => return Err(Failure::new("a failure")),
            Note::Hang => std::future::pending().await,
            Note::After => {
                cx.after(Duration::from_millis(1), Note::Say(7));
                0
            }
            Note::Watch(other) => {
                cx.watch(&other, Note::Died);
                0
            }
            Note::Died(death) => {
                self.note(format!("{} died: {:?}", death.name, death.why));
                0
            }
        };
        self.note(format!("{told}"));
        Ok((self.incarnation, told))
    }

    async fn stopping(&mut self, cx: &mut Context<Self>) {
        let name = cx.me().map_or(String::new(), |me| me.name().to_owned());
        self.note(format!("{name} stops"));
    }
}

impl Noter {
    fn note(&self, what: String) {
        self.notes.lock().unwrap().push(what);
    }
}

type Notes = Arc<Mutex<Vec<String>>>;

fn noter(notes: &Notes) -> impl Fn() -> Noter + Send + Sync + 'static {
    let (notes, incarnations) = (notes.clone(), AtomicU64::new(0));
    move || Noter {
        incarnation: incarnations.fetch_add(1, Ordering::Relaxed) + 1,
        notes: notes.clone(),
    }
}

fn at_once() -> Limits {
    Limits {
        backoff: Backoff::NONE,
        ..Limits::default()
    }
}

async fn eventually(what: impl Fn() -> bool) {
    let until = std::time::Instant::now() + LONG;
    while !what() {
        assert!(std::time::Instant::now() < until, "not within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn messages_of_one_sender_are_handled_in_order_and_a_full_mailbox_makes_it_wait() {
    let notes = Notes::default();
    let one = spawn("one", 4, noter(&notes));
    for number in 0..1_000 {
        one.tell(Note::Say(number)).await.unwrap();
    }
    assert_eq!(one.ask(Note::Say(1_000), LONG).await, Ok((1, 1_000)));
    let said = notes.lock().unwrap()[1..].to_vec();
    assert_eq!(
        said,
        (0..=1_000).map(|n: u64| n.to_string()).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn full_mailbox_refuses_who_does_not_wait_and_a_given_up_message_is_not_handled() {
    let notes = Notes::default();
    let one = spawn("one", 1, noter(&notes));
    one.tell(Note::Hang).await.unwrap();
    eventually(|| one.waiting() == 0).await;
    let waits = one.ask(Note::Say(1), Duration::from_millis(50)).await;
    assert!(matches!(waits, Err(CallError::Unknown(_))), "{waits:?}");
    // Its place in the mailbox is not free before its turn has come.
    let full = one.try_tell(Note::Say(2));
    assert!(matches!(full, Err(CallError::NotDone(_))), "{full:?}");
    let full = one.ask(Note::Say(2), Duration::from_millis(50)).await;
    assert!(matches!(full, Err(CallError::NotDone(_))), "{full:?}");
    assert_eq!((one.waiting(), notes.lock().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn message_that_was_given_up_before_its_turn_is_passed_over() {
    let notes = Notes::default();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let one = tree.actor("one", Restart::Permanent, 9, noter(&notes));
    // Nobody runs yet.
    let waits = one.ask(Note::Say(1), Duration::from_millis(20)).await;
    assert!(matches!(waits, Err(CallError::Unknown(_))), "{waits:?}");
    let running = tree.start();
    assert_eq!(one.ask(Note::Say(2), LONG).await, Ok((1, 2)));
    assert_eq!(*notes.lock().unwrap(), ["one starts", "2"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn m17_panic_and_failure_are_answered_and_the_next_incarnation_goes_on() {
    let notes = Notes::default();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne).limits(at_once());
    let one = tree.actor("one", Restart::Permanent, 9, noter(&notes));
    let running = tree.start();
    let (panics, next) = tokio::join!(one.ask(Note::Panic, LONG), one.ask(Note::Say(1), LONG));
    assert_eq!(panics, Err(CallError::Failed("panic: a defect".into())));
    assert_eq!(next, Ok((2, 1)), "handled by the next incarnation");
    let fails = one.ask(Note::Fail, LONG).await;
    assert_eq!(fails, Err(CallError::Failed("a failure".into())));
    assert_eq!(one.ask(Note::Say(2), LONG).await, Ok((3, 2)));
    assert_eq!(one.restarts(), 2);
    running.stop().await.unwrap();
    let ended = one.ask(Note::Say(3), LONG).await;
    assert!(matches!(ended, Err(CallError::NotDone(_))), "{ended:?}");
}

#[tokio::test]
async fn m17_rest_for_one_restarts_the_later_ones_in_order() {
    let notes = Notes::default();
    let mut tree = Supervisor::new("tree", Strategy::RestForOne).limits(at_once());
    let names = ["a", "b", "c"];
    let all = names.map(|name| tree.actor(name, Restart::Permanent, 9, noter(&notes)));
    let running = tree.start();
    for actor in &all {
        actor.ask(Note::Say(0), LONG).await.unwrap();
    }
    notes.lock().unwrap().clear();
    all[1].ask(Note::Fail, LONG).await.unwrap_err();
    assert_eq!(all[2].ask(Note::Say(1), LONG).await, Ok((2, 1)));
    assert_eq!(all[1].ask(Note::Say(2), LONG).await, Ok((2, 2)));
    assert_eq!(all[0].ask(Note::Say(3), LONG).await, Ok((1, 3)));
    let seen = notes.lock().unwrap().clone();
    assert_eq!(seen[0], "c stops");
    let at = |what: &str| seen.iter().position(|note| note == what).unwrap();
    assert!(at("b starts") > 0 && at("c starts") > 0 && !seen.contains(&"a stops".to_owned()));
    running.stop().await.unwrap();
    let seen = notes.lock().unwrap().clone();
    assert_eq!(seen[seen.len() - 3..], ["c stops", "b stops", "a stops"]);
}

#[tokio::test]
async fn m17_supervisor_that_gives_up_is_its_supervisors_affair() {
    let notes = Notes::default();
    let mut inner = Supervisor::new("inner", Strategy::OneForOne).limits(Limits {
        restarts_max: 1,
        ..at_once()
    });
    let one = inner.actor("one", Restart::Permanent, 9, noter(&notes));
    let mut outer = Supervisor::new("outer", Strategy::OneForOne).limits(Limits {
        restarts_max: 1,
        ..at_once()
    });
    outer.supervisor(Restart::Permanent, inner);
    let mut running = outer.start();
    for incarnation in 1..=3 {
        assert_eq!(one.ask(Note::Say(0), LONG).await, Ok((incarnation, 0)));
        one.ask(Note::Fail, LONG).await.unwrap_err();
    }
    // The fourth failure ends the inner one a second time, which is too often for the outer one.
    assert_eq!(one.ask(Note::Say(0), LONG).await, Ok((4, 0)));
    one.ask(Note::Fail, LONG).await.unwrap_err();
    let ended = tokio::time::timeout(LONG, running.ended()).await.unwrap();
    let why = ended.unwrap_err().to_string();
    assert!(
        why.contains("\"outer\" gave up") && why.contains("a failure"),
        "{why}"
    );
    one.ended().await;
}

#[tokio::test]
async fn death_notices_come_as_messages() {
    let notes = Notes::default();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne).limits(at_once());
    let watched = tree.actor("watched", Restart::Transient, 9, noter(&Notes::default()));
    let watcher = tree.actor("watcher", Restart::Permanent, 9, noter(&notes));
    let running = tree.start();
    watcher
        .ask(Note::Watch(watched.clone()), LONG)
        .await
        .unwrap();
    watched.ask(Note::Fail, LONG).await.unwrap_err();
    let has = |what: &str| notes.lock().unwrap().iter().any(|note| note == what);
    eventually(|| has("watched died: Some(\"a failure\")")).await;
    watched.stop().await.unwrap();
    eventually(|| has("watched died: None")).await;
    // A transient one that ended in order is not started again, and who asks it is told.
    watched.ended().await;
    let ended = watched.ask(Note::Say(1), LONG).await;
    assert!(matches!(ended, Err(CallError::NotDone(_))), "{ended:?}");
    watcher.ask(Note::After, LONG).await.unwrap();
    eventually(|| has("7")).await;
    running.stop().await.unwrap();
}
