//! A lock on a table of SQLite or Postgres.

use super::{Lock, Target, Wanted};
use crate::{Failure, Outcome, failed, table};
use base::Rng;
use coordination::lock::State;
use coordination::lock::table::{Contender, Dialect, Reply, Request};
use sqlx::any::{AnyConnectOptions, AnyRow};
use sqlx::{AnyConnection, AssertSqlSafe, ConnectOptions, Connection, Row};
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const ROUND: Duration = Duration::from_millis(20);
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// For connecting and for each statement.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// A database that does not answer is waited for this long beyond the time to wait for the lock.
const PATIENCE: Duration = Duration::from_secs(3);

/// A database that is connected, or was.
struct Database {
    runtime: Runtime,
    url: String,
    dialect: Dialect,
    connection: Option<AnyConnection>,
}

/// What a statement is given.
enum Value<'a> {
    Text(&'a str),
    Number(i64),
}

impl Database {
    fn open(target: &Target) -> Result<Self, Failure> {
        sqlx::any::install_default_drivers();
        let is_sqlite = target.on.starts_with("sqlite:");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| failed(format!("cannot start: {why}")))?;
        let mut database = Self {
            runtime,
            // A file that is not there is made, as the table is.
            url: match is_sqlite && !target.on.contains('?') {
                true => format!("{}?mode=rwc", target.on),
                false => target.on.clone(),
            },
            dialect: if is_sqlite {
                Dialect::Sqlite
            } else {
                Dialect::Postgres
            },
            connection: None,
        };
        database.connect().map_err(failed)?;
        Ok(database)
    }

    fn connect(&mut self) -> Result<(), String> {
        let options = AnyConnectOptions::from_str(&self.url)
            .map_err(|why| format!("this is no URL of a database: {why}"))?
            .disable_statement_logging();
        let dialect = self.dialect;
        let connect = async {
            let mut connection = AnyConnection::connect_with(&options).await?;
            if dialect == Dialect::Sqlite {
                sqlx::query("PRAGMA busy_timeout = 5000")
                    .execute(&mut connection)
                    .await?;
            }
            sqlx::query(dialect.create_table())
                .execute(&mut connection)
                .await?;
            Ok::<_, sqlx::Error>(connection)
        };
        let connect = async { tokio::time::timeout(ANSWER_TIME, connect).await };
        self.connection = match self.runtime.block_on(connect) {
            Ok(Ok(connection)) => Some(connection),
            Ok(Err(why)) => return Err(format!("the database cannot be used: {why}")),
            Err(_) => return Err("the database does not answer".to_owned()),
        };
        Ok(())
    }

    /// The first row that a statement yields. After an error the connection is given up.
    fn ask(&mut self, statement: String, values: &[Value<'_>]) -> Result<Option<AnyRow>, String> {
        let connection = self.connection.as_mut().ok_or("there is no connection")?;
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for value in values {
            query = match value {
                Value::Text(text) => query.bind((*text).to_owned()),
                Value::Number(number) => query.bind(*number),
            };
        }
        let answer =
            async { tokio::time::timeout(ANSWER_TIME, query.fetch_optional(connection)).await };
        match self.runtime.block_on(answer) {
            Ok(Ok(row)) => Ok(row),
            Ok(Err(why)) => {
                self.connection = None;
                Err(format!("the database answers: {why}"))
            }
            Err(_) => {
                self.connection = None;
                Err("the database does not answer".to_owned())
            }
        }
    }
}

/// One contender and its database.
pub struct TableLock {
    database: Database,
    name: String,
    id: String,
    ttl: Duration,
    contender: Contender,
    /// Time 0 of the contender's clock.
    start: Instant,
}

impl TableLock {
    /// Connects, and makes the table if it is missing.
    pub fn new(wanted: &Wanted<'_>) -> Result<Self, Failure> {
        let seed = wanted.id.bytes().fold(0, |seed: u64, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        Ok(Self {
            database: Database::open(wanted.target)?,
            name: wanted.target.name.clone(),
            id: wanted.id.to_owned(),
            ttl: wanted.ttl,
            contender: Contender::new(wanted.ttl.as_millis() as u64, Rng::new(seed)),
            start: Instant::now(),
        })
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Asks what is to be asked, and rests for up to `time` when there is nothing.
    fn round(&mut self, time: Duration) {
        if self.database.connection.is_none() {
            match self.database.connect() {
                Ok(()) => self.contender.handle_reconnected(),
                Err(_) => std::thread::sleep(RECONNECT_PAUSE),
            }
            return;
        }
        let now_ms = self.now_ms();
        let Some(request) = self.contender.poll_request(now_ms) else {
            std::thread::sleep(time);
            return;
        };
        let mut values = vec![Value::Text(&self.name), Value::Text(&self.id)];
        let ttl_ms = self.ttl.as_millis() as i64;
        match request {
            Request::Take => values.push(Value::Number(ttl_ms)),
            Request::Extend(fence) => {
                values.extend([Value::Number(ttl_ms), Value::Number(fence as i64)]);
            }
            Request::Release(fence) => values.push(Value::Number(fence as i64)),
        }
        let statement = self.database.dialect.statement(&request);
        // After an error there is no connection, and the contender is told once there is another.
        if let Ok(row) = self.database.ask(statement, &values) {
            let reply = match row.and_then(|row| row.try_get::<i64, _>(0).ok()) {
                Some(fence) => Reply::Row(fence.unsigned_abs()),
                None => Reply::Nothing,
            };
            let now_ms = self.now_ms();
            self.contender.handle_reply(now_ms, reply);
        }
    }
}

impl Lock for TableLock {
    fn take(
        &mut self,
        until: Option<Instant>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<u64>, Failure> {
        let mut rounds = 0;
        loop {
            self.round(ROUND);
            rounds += 1;
            match self.contender.state() {
                State::Held(fence) => return Ok(Some(*fence)),
                State::Released | State::Lost(_) => return Ok(None),
                State::Waiting => {}
            }
            let now = Instant::now();
            let is_late = until.is_some_and(|until| now >= until && rounds > 0);
            let is_too_late = until.is_some_and(|until| now >= until + PATIENCE);
            if is_over() || is_too_late || is_late && self.database.connection.is_some() {
                self.contender.release();
            }
            if is_too_late {
                return Ok(None);
            }
        }
    }

    fn keep(&mut self, time: Duration) -> Result<Instant, String> {
        self.round(time);
        match self.contender.state() {
            State::Lost(why) => Err((*why).to_owned()),
            State::Held(_) => {
                Ok(self.start + Duration::from_millis(self.contender.lease_until_ms()))
            }
            State::Waiting | State::Released => Err("it is not held".to_owned()),
        }
    }

    fn release(&mut self) {
        self.contender.release();
        let give_up = Instant::now() + Duration::from_secs(2);
        while matches!(self.contender.state(), State::Held(_)) && Instant::now() < give_up {
            self.round(ROUND);
        }
    }
}

/// Prints who holds it.
pub fn show(target: &Target) -> Outcome {
    let mut database = Database::open(target)?;
    let statement = database.dialect.show();
    let row = database
        .ask(statement, &[Value::Text(&target.name)])
        .map_err(failed)?;
    let unreadable = |why: sqlx::Error| failed(format!("the row cannot be read: {why}"));
    let Some(row) = row else {
        println!("{} is free", target.name);
        return Ok(());
    };
    let owner: Option<String> = row.try_get(0).map_err(unreadable)?;
    let fence: i64 = row.try_get(1).map_err(unreadable)?;
    let left_ms: i64 = row.try_get(2).map_err(unreadable)?;
    match owner {
        None => println!("{} is free, the last fence was {fence}", target.name),
        Some(owner) => {
            let state = match left_ms > 0 {
                true => format!("holds it for {left_ms} ms more"),
                false => format!("held it until {} ms ago", -left_ms),
            };
            let rows = [vec![state, fence.to_string(), owner]];
            print!("{}", table::render(&["STATE", "FENCE", "CONTENDER"], &rows));
        }
    }
    Ok(())
}

/// Takes it away from who holds it.
pub fn break_lock(target: &Target) -> Outcome {
    let mut database = Database::open(target)?;
    let statement = database.dialect.break_lock().to_owned();
    let row = database
        .ask(statement, &[Value::Text(&target.name)])
        .map_err(failed)?;
    println!(
        "{} {}",
        target.name,
        match row.is_some() {
            true => "is taken away from who held it",
            false => "is free",
        }
    );
    Ok(())
}
