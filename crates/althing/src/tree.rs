//! `althing tree …`: the tree, as a ZooKeeper client sees it. Works with any ZooKeeper, too.

use crate::signals::signals;
use crate::zookeeper::{Connected, Event, Refusal, SESSION_TIMEOUT_MS, Session, explain};
use crate::{Failure, Outcome, failed};
use bytes::Bytes;
use clap::{Args, Subcommand};
use coordination::{Acl, CreateMode, Stat};
use std::io::{Read, Write};
use std::time::Duration;
use wire_zookeeper::WriteShape;
use wire_zookeeper::client::{body, request};

const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
const EVENT_CREATED: i32 = 1;
const EVENT_DELETED: i32 = 2;
const EVENT_CHANGED: i32 = 3;
const EVENT_CHILDREN: i32 = 4;

/// What can be asked.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
    /// Servers to try, separated by commas
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:2181",
        global = true
    )]
    server: String,
    /// Credentials for access control (scheme digest)
    #[arg(long, value_name = "USER:PASSWORD", global = true)]
    auth: Option<String>,
}

#[derive(Subcommand)]
enum What {
    /// Print a node's data
    Get {
        /// Absolute path
        path: String,
    },
    /// Replace a node's data
    Set {
        /// Absolute path
        path: String,
        /// The data; `-` reads standard input
        data: String,
        /// Only if the data have this version
        #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
        version: i32,
    },
    /// Create a node and print its path
    Create {
        /// Absolute path
        path: String,
        /// The data; `-` reads standard input
        #[arg(default_value = "")]
        data: String,
        /// Keep the node until this command is ended
        #[arg(long, conflicts_with_all = ["container", "ttl_ms"])]
        ephemeral: bool,
        /// Append a number that the parent counts
        #[arg(long, conflicts_with = "container")]
        sequential: bool,
        /// Remove the node some time after its last child
        #[arg(long, conflicts_with = "ttl_ms")]
        container: bool,
        /// Remove the node when it has no children and was not changed for this long
        #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(1..1 << 40))]
        ttl_ms: Option<i64>,
    },
    /// Remove a node
    Rm {
        /// Absolute path
        path: String,
        /// Remove everything below it, too
        #[arg(long, short)]
        recursive: bool,
        /// Only if the data have this version
        #[arg(long, default_value_t = -1, allow_hyphen_values = true, conflicts_with = "recursive")]
        version: i32,
    },
    /// List a node's children
    Ls {
        /// Absolute path
        #[arg(default_value = "/")]
        path: String,
        /// List everything below it, as paths
        #[arg(long, short)]
        recursive: bool,
    },
    /// Print a node's metadata
    Stat {
        /// Absolute path
        path: String,
    },
    /// Print every change of a node and of everything below it, until ended
    Watch {
        /// Absolute path
        #[arg(default_value = "/")]
        path: String,
    },
}

/// Connects and does it.
pub fn run(options: Options) -> Outcome {
    let Options { what, server, auth } = options;
    if let What::Watch { path } = &what {
        return watch(&server, auth.as_deref(), path);
    }
    let mut session = open(&server, auth.as_deref())?;
    let outcome = act(&mut session, &what);
    session.close();
    outcome
}

fn open(servers: &str, auth: Option<&str>) -> Result<Box<Session>, Failure> {
    match Session::connect(servers, auth, None, SESSION_TIMEOUT_MS)? {
        Connected::Open(session) => Ok(session),
        Connected::Expired => Err(failed("the server did not open a session; try again")),
    }
}

fn act(session: &mut Session, what: &What) -> Outcome {
    match what {
        What::Get { path } => {
            let (data, _) = ask(session, path, |out, xid| {
                request::get_data(out, xid, path, false)
            })
            .and_then(|answer| read(&answer, body::data))?;
            print_bytes(&data)
        }
        What::Set {
            path,
            data,
            version,
        } => {
            let data = input(data)?;
            let stat = ask(session, path, |out, xid| {
                request::set_data(out, xid, path, &data, *version);
            })
            .and_then(|answer| read(&answer, body::stat))?;
            print_text(&format!("{path} has version {}\n", stat.version))
        }
        What::Create {
            path,
            data,
            ephemeral,
            sequential,
            container,
            ttl_ms,
        } => {
            let sequential = *sequential;
            let mode = match (ephemeral, container, ttl_ms) {
                (true, ..) => CreateMode::Ephemeral { sequential },
                (_, true, _) => CreateMode::Container,
                (_, _, Some(ttl_ms)) => CreateMode::Ttl {
                    ttl_ms: *ttl_ms,
                    sequential,
                },
                _ => CreateMode::Persistent { sequential },
            };
            create(session, path, data, mode)
        }
        What::Rm {
            path,
            recursive,
            version,
        } => {
            let mut paths = vec![path.clone()];
            if *recursive {
                paths.extend(below(session, path)?);
                if path == "/" {
                    paths.retain(|path| path != "/" && !is_reserved(path));
                }
            }
            for path in paths.iter().rev() {
                match request(session, |out, xid| {
                    request::delete(out, xid, path, *version)
                }) {
                    // Somebody else removed it meanwhile, which is what was wanted.
                    Err(Refusal::Error(-101)) if *recursive => {}
                    outcome => {
                        outcome.map_err(|refusal| describe(refusal, path))?;
                    }
                }
            }
            Ok(())
        }
        What::Ls { path, recursive } => {
            let mut names = if *recursive {
                below(session, path)?
            } else {
                children(session, path)?
            };
            names.sort_unstable();
            names
                .iter()
                .try_for_each(|name| print_text(&format!("{name}\n")))
        }
        What::Stat { path } => {
            let stat = ask(session, path, |out, xid| {
                request::exists(out, xid, path, false)
            })
            .and_then(|answer| read(&answer, body::stat))?;
            print_text(&stat_text(&stat))
        }
        What::Watch { .. } => Ok(()),
    }
}

fn create(session: &mut Session, path: &str, data: &str, mode: CreateMode) -> Outcome {
    let data = input(data)?;
    let acl = [Acl::open()];
    let answer = ask(session, path, |out, xid| {
        request::create(out, xid, path, &data, &acl, mode, WriteShape::WithStat);
    })?;
    let (created, _) = read(&answer, body::path_and_stat)?;
    print_text(&format!("{created}\n"))?;
    if matches!(mode, CreateMode::Ephemeral { .. }) {
        eprintln!("{created} stays until this command is ended (Ctrl-C)");
        let signal = signals()?;
        while signal.try_recv().is_err() {
            if let Err(why) = session.idle(Duration::from_millis(100)) {
                return Err(failed(format!(
                    "{why}; {created} goes when the session expires"
                )));
            }
        }
    }
    Ok(())
}

/// What lies below `path`, parents before children.
fn below(session: &mut Session, path: &str) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(parent) = waiting.pop() {
        let names = match request(session, |out, xid| {
            request::get_children(out, xid, &parent, false);
        }) {
            Err(Refusal::Error(-101)) if parent != path => continue,
            answer => answer
                .map_err(|refusal| describe(refusal, &parent))
                .and_then(|answer| read(&answer, body::children))?,
        };
        for name in names {
            let child = format!("{}/{name}", parent.trim_end_matches('/'));
            found.push(child.clone());
            waiting.push(child);
        }
    }
    Ok(found)
}

/// ZooKeeper's own part of the tree, which cannot be removed.
fn is_reserved(path: &str) -> bool {
    path == "/zookeeper" || path.starts_with("/zookeeper/")
}

fn children(session: &mut Session, path: &str) -> Result<Vec<String>, Failure> {
    ask(session, path, |out, xid| {
        request::get_children(out, xid, path, false)
    })
    .and_then(|answer| read(&answer, body::children))
}

// ---- watching --------------------------------------------------------------------------------

fn watch(servers: &str, auth: Option<&str>, path: &str) -> Outcome {
    let mut session = open(servers, auth)?;
    add_watch(&mut session, path)?;
    eprintln!(
        "watching {path} and everything below it on {}",
        session.server()
    );
    loop {
        match session.next_event() {
            Ok(event) => print_event(&event)?,
            Err(why) => {
                eprintln!("{why}; connecting again");
                session = reconnect(servers, auth, path, &session)?;
            }
        }
    }
}

fn add_watch(session: &mut Session, path: &str) -> Outcome {
    ask(session, path, |out, xid| {
        request::add_watch(out, xid, path, true)
    })
    .map(|_| ())
}

/// Goes on with the session, or with a new one when it expired, on whatever server takes it.
fn reconnect(
    servers: &str,
    auth: Option<&str>,
    path: &str,
    broken: &Session,
) -> Result<Box<Session>, Failure> {
    let mut resume = Some(broken.resume());
    loop {
        std::thread::sleep(RECONNECT_PAUSE);
        match Session::connect(servers, auth, resume.as_ref(), SESSION_TIMEOUT_MS) {
            Ok(Connected::Open(mut session)) => {
                if add_watch(&mut session, path).is_ok()
                    && catch_up(&mut session, path, broken.last_zxid()).is_ok()
                {
                    eprintln!("connected to {} again", session.server());
                    return Ok(session);
                }
            }
            Ok(Connected::Expired) => resume = None,
            Err(_) => {}
        }
    }
}

/// Prints what was created or changed after revision `since`: a server does not keep the events of a
/// persistent watch while its client is away. What was removed leaves no trace but its parent's revision.
fn catch_up(session: &mut Session, path: &str, since: i64) -> Outcome {
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let answer = match request(session, |out, xid| {
            request::get_children2(out, xid, &path, false);
        }) {
            Err(Refusal::Error(_)) => continue,
            answer => answer.map_err(|refusal| describe(refusal, &path))?,
        };
        let (names, stat) = read(&answer, body::children_and_stat)?;
        let missed = [
            (stat.czxid > since, EVENT_CREATED),
            (stat.mzxid > since, EVENT_CHANGED),
            (stat.pzxid > since, EVENT_CHILDREN),
        ];
        if let Some((_, kind)) = missed.into_iter().find(|(is_so, _)| *is_so) {
            print_event(&Event {
                kind,
                path: path.clone(),
            })?;
        }
        let parent = path.trim_end_matches('/');
        waiting.extend(names.iter().map(|name| format!("{parent}/{name}")));
    }
    Ok(())
}

fn print_event(event: &Event) -> Outcome {
    let kind = match event.kind {
        EVENT_CREATED => "created",
        EVENT_DELETED => "deleted",
        EVENT_CHANGED => "changed",
        EVENT_CHILDREN => "children",
        _ => "event",
    };
    print_text(&format!("{kind:<9}{}\n", event.path))
}

// ---- asking and printing ---------------------------------------------------------------------

fn request(session: &mut Session, write: impl FnOnce(&mut Vec<u8>, i32)) -> Result<Bytes, Refusal> {
    session.ask(write)
}

fn ask(
    session: &mut Session,
    path: &str,
    write: impl FnOnce(&mut Vec<u8>, i32),
) -> Result<Bytes, Failure> {
    session
        .ask(write)
        .map_err(|refusal| describe(refusal, path))
}

fn describe(refusal: Refusal, path: &str) -> Failure {
    failed(match refusal {
        Refusal::Error(number) => explain(number, path),
        Refusal::Broken(why) => why,
    })
}

fn read<T>(
    answer: &Bytes,
    reader: impl FnOnce(&Bytes) -> Result<T, base::DecodeError>,
) -> Result<T, Failure> {
    reader(answer).map_err(|error| failed(format!("the server's answer cannot be read: {error}")))
}

/// The argument itself, or standard input for `-`.
fn input(data: &str) -> Result<Vec<u8>, Failure> {
    if data != "-" {
        return Ok(data.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| failed(format!("cannot read standard input: {error}")))?;
    Ok(bytes)
}

fn print_text(text: &str) -> Outcome {
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| failed(format!("cannot write to standard output: {error}")))
}

/// The bytes as they are, and a line break behind them so that a terminal's prompt stands alone.
fn print_bytes(data: &[u8]) -> Outcome {
    let mut out = data.to_vec();
    out.push(b'\n');
    std::io::stdout()
        .lock()
        .write_all(&out)
        .map_err(|error| failed(format!("cannot write to standard output: {error}")))
}

fn stat_text(stat: &Stat) -> String {
    let rows = [
        ("czxid", format!("0x{:x}", stat.czxid)),
        ("mzxid", format!("0x{:x}", stat.mzxid)),
        ("pzxid", format!("0x{:x}", stat.pzxid)),
        ("ctime", base::time::utc(stat.ctime_ms)),
        ("mtime", base::time::utc(stat.mtime_ms)),
        ("version", stat.version.to_string()),
        ("cversion", stat.cversion.to_string()),
        ("aversion", stat.aversion.to_string()),
        ("ephemeral_owner", format!("0x{:x}", stat.ephemeral_owner)),
        ("data_length", stat.data_length.to_string()),
        ("children", stat.num_children.to_string()),
    ];
    rows.iter()
        .map(|(name, value)| format!("{name:<16}{value}\n"))
        .collect()
}
