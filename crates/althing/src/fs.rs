//! `althing fs …`: files, through the WebHDFS interface of any node.

use crate::http::{Answering, Consoles, Content, send};
use crate::{Failure, Outcome, failed, table};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For each step of an exchange; a node that commits a chunk may look for another leader meanwhile.
const STEP_TIME: Duration = Duration::from_secs(60);
/// Largest answer that is not a file.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How often reading is taken up again where it broke off.
const RESUMES_MAX: u32 = 5;

/// What can be done.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    consoles: Consoles,
}

#[derive(Subcommand)]
enum What {
    /// Write a file; it appears as a whole, or not at all
    Put {
        /// The local file; `-` is standard input
        local: PathBuf,
        /// Where to
        path: String,
        /// Replace the file that is there; readers see the old one until the new one is whole
        #[arg(long, conflicts_with = "append")]
        force: bool,
        /// Add to the end of the file that is there
        #[arg(long)]
        append: bool,
        /// Copies of each chunk (default: as the node is configured)
        #[arg(long)]
        copies: Option<u8>,
    },
    /// Read a file
    Get {
        /// Which
        path: String,
        /// The local file; `-` is standard output
        #[arg(default_value = "-")]
        local: PathBuf,
    },
    /// List a directory
    Ls {
        /// Which
        #[arg(default_value = "/")]
        path: String,
    },
    /// Remove a file or a directory
    Rm {
        /// Which
        path: String,
        /// With all that is in it
        #[arg(short, long)]
        recursive: bool,
    },
    /// Make a directory, and those above it
    Mkdir {
        /// Which
        path: String,
    },
    /// Give a file or directory another name, or put it into another directory
    Mv {
        /// Which
        from: String,
        /// Where to
        to: String,
    },
    /// Show what is known of a file: its size, its checksum, and where its chunks are
    Stat {
        /// Which
        path: String,
    },
    /// Show how all chunks are; exit code 1 when one of them cannot be read
    Fsck {
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
pub fn run(options: &Options) -> Outcome {
    let client = Client(&options.consoles.addresses);
    match &options.what {
        What::Put {
            local,
            path,
            force,
            append,
            copies,
        } => {
            let copies = copies.map_or(String::new(), |n| format!("&replication={n}"));
            let (method, op) = match append {
                true => ("POST", "APPEND".to_owned()),
                false => ("PUT", format!("CREATE&overwrite={force}")),
            };
            client.put(local, method, &at(path, &format!("{op}{copies}&step=data")))
        }
        What::Get { path, local } => client.get(path, local),
        What::Ls { path } => client.list(path),
        What::Rm { path, recursive } => {
            let done = client.json(
                "DELETE",
                &at(path, &format!("DELETE&recursive={recursive}")),
            )?;
            confirmed(&done, &format!("there is no {path}"))
        }
        What::Mkdir { path } => client.json("PUT", &at(path, "MKDIRS")).map(drop),
        What::Mv { from, to } => {
            let op = format!("RENAME&destination={}", encode(to));
            let done = client.json("PUT", &at(from, &op))?;
            confirmed(
                &done,
                &format!(
                    "{from} is not there, {to} is there already, or the directory that it would be in is not"
                ),
            )
        }
        What::Stat { path } => client.stat(path),
        What::Fsck { json } => client.fsck(*json),
    }
}

fn confirmed(answer: &Value, otherwise: &str) -> Outcome {
    if answer["boolean"] == Value::Bool(true) {
        Ok(())
    } else {
        Err(failed(otherwise))
    }
}

/// The path of a request.
fn at(path: &str, op: &str) -> String {
    format!(
        "/webhdfs/v1/{}?op={op}",
        encode(path.trim_start_matches('/'))
    )
}

/// With what means something in a URL escaped.
fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Asks the first node that answers.
struct Client<'a>(&'a [String]);

impl Client<'_> {
    /// Asks without a body: the first node that takes the connection and answers.
    fn ask(&self, method: &str, path: &str) -> Result<Answering, Failure> {
        let mut why = failed("no console was named");
        for console in self.0 {
            match send(method, console, path, Content::None, STEP_TIME) {
                // It is there and cannot do it now; another may.
                Ok(answer) if answer.code == 503 && self.0.len() > 1 => why = refusal(answer),
                Ok(answer) => return Ok(answer),
                Err(error) => why = unreachable(console, &error),
            }
        }
        Err(why)
    }

    fn json(&self, method: &str, path: &str) -> Result<Value, Failure> {
        let answer = self.ask(method, path)?;
        if !answer.is_good() {
            return Err(refusal(answer));
        }
        read_json(answer)
    }

    fn put(&self, local: &Path, method: &str, path: &str) -> Outcome {
        let mut why = failed("no console was named");
        let input = local.as_os_str() == "-";
        for console in self.0 {
            let sent = if input {
                send(
                    method,
                    console,
                    path,
                    Content::Unsized(&mut io::stdin().lock()),
                    STEP_TIME,
                )
            } else {
                let mut file = File::open(local).map_err(|error| cannot("open", local, &error))?;
                let length = file
                    .seek(SeekFrom::End(0))
                    .and_then(|n| file.rewind().map(|()| n));
                let length = length.map_err(|error| cannot("read", local, &error))?;
                let content = Content::Sized(&mut file, length);
                send(method, console, path, content, STEP_TIME)
            };
            match sent {
                Ok(answer) if answer.is_good() => return report_put(&read_json(answer)?),
                Ok(answer) => return Err(refusal(answer)),
                // What was not sent to its end was not written; standard input cannot be read twice.
                Err(error) if input => return Err(unreachable(console, &error)),
                Err(error) => why = unreachable(console, &error),
            }
        }
        Err(why)
    }

    fn get(&self, path: &str, local: &Path) -> Outcome {
        let mut out: Box<dyn Write> = match local.as_os_str() == "-" {
            true => Box::new(io::stdout().lock()),
            false => {
                let file = File::create(local).map_err(|error| cannot("write", local, &error))?;
                Box::new(file)
            }
        };
        let mut offset = 0;
        for resume in 0.. {
            let mut answer = self.ask("GET", &at(path, &format!("OPEN&offset={offset}")))?;
            if !answer.is_good() {
                return Err(refusal(answer));
            }
            let mut buffer = vec![0; 256 << 10];
            let broken = loop {
                match answer.read(&mut buffer) {
                    Ok(0) => break None,
                    Ok(read) => {
                        let write = out.write_all(&buffer[..read]);
                        write.map_err(|error| cannot("write", local, &error))?;
                        offset += read as u64;
                    }
                    Err(error) => break Some(error),
                }
            };
            match broken {
                None => break,
                Some(error) if resume == RESUMES_MAX => {
                    return Err(failed(format!(
                        "{path} could not be read beyond {offset} bytes: {error}"
                    )));
                }
                Some(_) => {}
            }
        }
        out.flush().map_err(|error| cannot("write", local, &error))
    }

    fn list(&self, path: &str) -> Outcome {
        let list = self.json("GET", &at(path, "LISTSTATUS"))?;
        let statuses = list["FileStatuses"]["FileStatus"].as_array().cloned();
        let rows: Vec<Vec<String>> = (statuses.unwrap_or_default().iter())
            .map(|status| {
                let is_directory = status["type"] == "DIRECTORY";
                let name = status["pathSuffix"].as_str().unwrap_or_default();
                vec![
                    if is_directory {
                        "-".into()
                    } else {
                        number(&status["length"])
                    },
                    if is_directory {
                        "-".into()
                    } else {
                        number(&status["replication"])
                    },
                    base::time::utc(status["modificationTime"].as_i64().unwrap_or_default()),
                    format!(
                        "{}{}",
                        if name.is_empty() { path } else { name },
                        if is_directory { "/" } else { "" }
                    ),
                ]
            })
            .collect();
        print!(
            "{}",
            table::render(&["BYTES", "COPIES", "CHANGED", "NAME"], &rows)
        );
        Ok(())
    }

    fn stat(&self, path: &str) -> Outcome {
        let status = &self.json("GET", &at(path, "GETFILESTATUS"))?["FileStatus"];
        let changed = base::time::utc(status["modificationTime"].as_i64().unwrap_or_default());
        if status["type"] == "DIRECTORY" {
            println!(
                "{path}: a directory of {} names, changed {changed}",
                status["childrenNum"]
            );
            return Ok(());
        }
        let checksum = self.json("GET", &at(path, "GETFILECHECKSUM"))?;
        let blocks = self.json("GET", &at(path, "GETFILEBLOCKLOCATIONS"))?;
        let checksum = checksum["FileChecksum"]["bytes"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        println!(
            "{path}: {} bytes, CRC32C {checksum}, {} copies wanted, changed {changed}",
            status["length"], status["replication"]
        );
        let blocks = blocks["BlockLocations"]["BlockLocation"]
            .as_array()
            .cloned();
        let rows: Vec<Vec<String>> = (blocks.unwrap_or_default().iter())
            .map(|block| {
                vec![
                    number(&block["offset"]),
                    number(&block["length"]),
                    words(&block["names"]),
                ]
            })
            .collect();
        print!(
            "{}",
            table::render(&["OFFSET", "BYTES", "GOOD COPIES ON"], &rows)
        );
        Ok(())
    }

    fn fsck(&self, json: bool) -> Outcome {
        let health = self.json("GET", "/v1/fsck")?;
        if json {
            println!("{health:#}");
        } else {
            let count = |name: &str| number(&health[name]);
            println!(
                "{} files, {} directories, {} chunks, {} being written",
                count("files"),
                count("directories"),
                count("chunks"),
                count("writers")
            );
            println!(
                "chunks: {} missing, {} unreachable now, {} with too few copies; copies: {} corrupt, {} under way",
                count("missing"),
                count("unreachable"),
                count("short"),
                count("corrupt"),
                count("making")
            );
            let servers = health["servers"].as_array().cloned().unwrap_or_default();
            let rows: Vec<Vec<String>> = servers
                .iter()
                .map(|s| {
                    let room = if s["has_room"] == true { "yes" } else { "no" };
                    let text = |name: &str| s[name].as_str().unwrap_or_default().to_owned();
                    vec![
                        text("address"),
                        text("state"),
                        room.into(),
                        number(&s["chunks"]),
                    ]
                })
                .collect();
            print!(
                "{}",
                table::render(&["NODE", "STATE", "ROOM", "CHUNKS"], &rows)
            );
            let faults = health["faults"].as_array().cloned().unwrap_or_default();
            for fault in &faults {
                println!(
                    "{} chunk {}: {} wanted; good on {}; unreachable {}; corrupt {}; under way {}",
                    fault["path"].as_str().unwrap_or_default(),
                    fault["chunk"].as_str().unwrap_or_default(),
                    fault["wanted"],
                    words(&fault["good"]),
                    words(&fault["unreachable"]),
                    words(&fault["corrupt"]),
                    words(&fault["making"])
                );
            }
        }
        match health["missing"].as_u64().unwrap_or(0) + health["unreachable"].as_u64().unwrap_or(0)
        {
            0 => Ok(()),
            lost => Err(failed(format!("{lost} chunks cannot be read"))),
        }
    }
}

fn report_put(told: &Value) -> Outcome {
    let (copies, wanted) = (told["copies"].as_u64(), told["wanted"].as_u64());
    println!("{} bytes", told["length"]);
    if copies < wanted {
        eprintln!(
            "althing: {} of {} copies are there so far; the rest follow once there are nodes for them",
            number(&told["copies"]),
            number(&told["wanted"])
        );
    }
    Ok(())
}

fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "?".into(), |n| n.to_string())
}

/// A list of names, or a dash.
fn words(value: &Value) -> String {
    let names = value.as_array().map(|list| {
        let names = list.iter().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(" ")
    });
    names
        .filter(|names| !names.is_empty())
        .unwrap_or_else(|| "-".into())
}

fn read_json(answer: Answering) -> Result<Value, Failure> {
    let mut text = String::new();
    let read = answer.take(ANSWER_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| failed(format!("the answer broke off: {error}")))?;
    serde_json::from_str(&text).map_err(|_| failed(format!("the node answered {text:?}")))
}

/// What a node says when it refuses.
fn refusal(answer: Answering) -> Failure {
    let code = answer.code;
    match read_json(answer) {
        Ok(value) => {
            let message = value["RemoteException"]["message"].as_str();
            let message = message.or_else(|| value["error"].as_str());
            failed(message.unwrap_or("refused").to_owned())
        }
        Err(_) => failed(format!("the node answered with status {code}")),
    }
}

fn unreachable(console: &str, error: &io::Error) -> Failure {
    failed(format!(
        "cannot ask the node at {console}: {error}. Is it running, and is this the address of its console (--console HOST:PORT,…)?"
    ))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    failed(format!("cannot {what} {}: {error}", path.display()))
}
