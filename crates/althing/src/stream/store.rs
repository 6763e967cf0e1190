//! What outlives a stream's processes, over the consoles of a cluster: checkpoints' files, and transactions.

use crate::http::{Answering, Content, send};
use serde_json::Value;
use std::io::{self, Read};
use std::time::Duration;

/// For each step of an exchange.
const STEP_TIME: Duration = Duration::from_secs(35);
/// Largest file of a checkpoint, and largest other answer.
const FILE_BYTES_MAX: u64 = 1 << 30;
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// A cluster's consoles.
#[derive(Clone)]
pub struct Store {
    consoles: Vec<String>,
    directory: String,
}

impl Store {
    /// What is kept of that stream.
    pub fn new(consoles: &[String], stream: &str) -> Self {
        Self {
            consoles: consoles.to_vec(),
            directory: format!("/webhdfs/v1/streams/{stream}"),
        }
    }

    /// Asks the first node that is there and can do it now. An error: it may be done or not.
    fn ask(&self, method: &str, path: &str, body: Body<'_>) -> Result<Answering, String> {
        let mut why = "no console was named".to_owned();
        for console in &self.consoles {
            let mut bytes;
            let content = match body {
                Body::None => Content::None,
                Body::Json(text) => Content::Json(text),
                Body::Bytes(all) => {
                    bytes = all;
                    Content::Sized(&mut bytes, all.len() as u64)
                }
            };
            match send(method, console, path, content, STEP_TIME) {
                Ok(answer) if answer.code == 503 => why = refusal(answer),
                Ok(answer) => return Ok(answer),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    why = format!("{console}: {error}");
                }
                // Of files each is written whole or not at all, and again under its name.
                Err(error) if !matches!(body, Body::Json(_)) => {
                    why = format!("{console}: {error}");
                }
                Err(error) => return Err(format!("{console}: {error}")),
            }
        }
        Err(why)
    }

    fn path(&self, file: &str, op: &str) -> String {
        format!("{}/{file}?op={op}", self.directory)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// It is not known to be there as a whole.
    pub fn put(&self, file: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.path(file, "CREATE&overwrite=true&step=data");
        let answer = self.ask("PUT", &path, Body::Bytes(bytes))?;
        match answer.is_good() {
            true => Ok(()),
            false => Err(refusal(answer)),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It is not there, or cannot be read to its end.
    pub fn get(&self, file: &str) -> Result<Vec<u8>, String> {
        let answer = self.ask("GET", &self.path(file, "OPEN"), Body::None)?;
        if !answer.is_good() {
            return Err(refusal(answer));
        }
        let mut bytes = Vec::new();
        let read = answer.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| format!("{file}: {error}"))?;
        Ok(bytes)
    }

    /// The names of its files.
    ///
    /// # Errors
    /// They cannot be had.
    pub fn list(&self) -> Result<Vec<String>, String> {
        let path = format!("{}?op=LISTSTATUS", self.directory);
        let answer = self.ask("GET", &path, Body::None)?;
        if answer.code == 404 {
            return Ok(Vec::new());
        }
        let value = json(answer)?;
        let all = value["FileStatuses"]["FileStatus"].as_array();
        let names = all.into_iter().flatten();
        Ok(names
            .filter_map(|status| status["pathSuffix"].as_str().map(str::to_owned))
            .collect())
    }

    /// Removes a file, or (with an empty name) all of them.
    ///
    /// # Errors
    /// Nobody did it.
    pub fn remove(&self, file: &str) -> Result<(), String> {
        let path = match file {
            "" => format!("{}?op=DELETE&recursive=true", self.directory),
            file => self.path(file, "DELETE"),
        };
        self.ask("DELETE", &path, Body::None).map(drop)
    }

    /// Does all of a transaction or nothing; its results, or that it was refused.
    ///
    /// # Errors
    /// It cannot be asked for, or nobody knows whether it was done.
    pub fn transact(&self, wanted: &Value) -> Result<Option<Value>, String> {
        let answer = self.ask("POST", "/v1/txn", Body::Json(&wanted.to_string()))?;
        match answer.code {
            200 => Ok(Some(json(answer)?["results"].take())),
            409 => {
                let told = refusal(answer);
                // The one condition that is meant to fail: somebody else was there before.
                match told.contains("version") {
                    true => Ok(None),
                    false => Err(told),
                }
            }
            _ => Err(refusal(answer)),
        }
    }

    /// Sends a job, or what is to be done with one.
    ///
    /// # Errors
    /// It was refused.
    pub fn job(&self, method: &str, path: &str, body: &str) -> Result<(), String> {
        let body = if body.is_empty() {
            Body::None
        } else {
            Body::Json(body)
        };
        let answer = self.ask(method, path, body)?;
        match answer.is_good() {
            true => Ok(()),
            false => Err(refusal(answer)),
        }
    }
}

#[derive(Clone, Copy)]
enum Body<'a> {
    None,
    Json(&'a str),
    Bytes(&'a [u8]),
}

fn json(answer: Answering) -> Result<Value, String> {
    let whole = answer.whole(ANSWER_BYTES_MAX);
    let whole = whole.map_err(|error| format!("the answer broke off: {error}"))?;
    serde_json::from_str(&whole.body).map_err(|_| format!("the node answered {:?}", whole.body))
}

/// What a node says when it refuses.
fn refusal(answer: Answering) -> String {
    let code = answer.code;
    let told = json(answer).unwrap_or_default();
    let words = [
        &told["RemoteException"]["message"],
        &told["error"],
        &told["why"],
    ];
    let words = words.into_iter().find_map(Value::as_str);
    words.map_or(format!("the node answered with status {code}"), |words| {
        words.to_owned()
    })
}
