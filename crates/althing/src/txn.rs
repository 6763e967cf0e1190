//! `althing txn FILE`: a transaction over chapters, by the console's `/v1/txn`.

use crate::http::ask;
use crate::{Failure, Outcome, failed};
use clap::Args;
use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// A little more than a node takes to give up.
const ANSWER_TIME: Duration = Duration::from_secs(35);

/// What is asked for.
#[derive(Args)]
#[command(after_help = "\
A file that moves a unit of stock, tells of it, and counts it, all or nothing:

  {\"conditions\": [{\"key\": \"{tree}stock\", \"exists\": true}],
   \"operations\": [{\"cache\": [\"DECR\", \"{tree}stock\"]},
                  {\"append\": {\"topic\": \"orders\", \"value\": \"one sold\"}},
                  {\"create\": {\"path\": \"/orders/n-\", \"sequential\": true}}]}

Conditions: {\"key\", and \"exists\", \"equals\" or \"version\"}, {\"topic\", \"partition\", \"end\"},
{\"path\", \"exists\" or \"version\"}. Operations: \"cache\", \"append\", \"create\", \"set\", \"delete\".
Bytes that are no text: {\"base64\": \"…\"}. With an \"id\" it may be sent again, and is done once.
Exit code 1: refused, nothing was done; 3: not known, send it again under its id.")]
pub struct Options {
    /// The file (JSON), or - for standard input
    file: PathBuf,
    /// The console of the node that is asked
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7400")]
    console: String,
    /// Print the answer as JSON, as it came
    #[arg(long)]
    json: bool,
}

/// Sends it, and prints the answer.
pub fn run(options: &Options) -> Outcome {
    let body = read(options)?;
    let (code, answer) = ask(&options.console, "/v1/txn", Some(&body), ANSWER_TIME)?;
    let value: Value = serde_json::from_str(&answer)
        .map_err(|_| failed(format!("the console answered {code}: {}", answer.trim())))?;
    if options.json {
        println!("{value}");
    }
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let at = |key: &str| value[key].as_u64().map(|at| format!("{key} {at}: "));
    let place = at("condition").or_else(|| at("operation"));
    let place = place.unwrap_or_default();
    match code {
        200 => {
            if !options.json {
                println!("committed {}", text("id"));
                let results = value["results"].as_array().map(Vec::as_slice);
                for (at, result) in results.unwrap_or_default().iter().enumerate() {
                    println!("  {at}  {result}");
                }
            }
            Ok(())
        }
        409 => {
            let why = text("why");
            Err(failed(format!("refused, nothing was done: {place}{why}")))
        }
        504 => Err(Failure::Unknown(text("error"))),
        400 => Err(Failure::Usage(format!("{place}{}", text("error")))),
        _ => Err(failed(text("error"))),
    }
}

fn read(options: &Options) -> Result<String, Failure> {
    if options.file.as_os_str() == "-" {
        let mut body = String::new();
        let read = std::io::stdin().read_to_string(&mut body);
        return match read {
            Ok(_) => Ok(body),
            Err(e) => Err(Failure::Usage(format!("cannot read standard input: {e}"))),
        };
    }
    std::fs::read_to_string(&options.file).map_err(|e| {
        let file = options.file.display();
        Failure::Usage(format!("cannot read {file}: {e}"))
    })
}
