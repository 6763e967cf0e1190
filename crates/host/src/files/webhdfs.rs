//! The interface that HDFS clients speak over HTTP (Hadoop's "WebHDFS REST API"), and `GET /v1/fsck`.
//!
//! Names and data are served by every node alike. CREATE and APPEND answer first with a redirection, as
//! clients expect; it leads back here with `step=data`, which may also be asked for at once. What HDFS has and
//! this has not (owners, permissions, quotas, snapshots) is refused by name.

use super::reading::{self, locate};
use super::writing::{self, Written};
use super::{Files, Trouble, unexpected};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use node::{FilesAnswer, FilesQuery};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::files::{Command, FileStat, Refusal, WriteMode};

/// Names of a directory in one answer.
const LIST_MAX: usize = 100_000;
const LIST_BATCH: usize = 1_000;
/// Names that a summary counts.
const SUMMARY_MAX: usize = 1_000_000;
/// Chunks with faults that are told one by one.
const FAULTS_MAX: usize = 1_000;

pub fn routes() -> Router<Files> {
    Router::new()
        .route("/webhdfs/v1", any(root))
        .route("/webhdfs/v1/", any(root))
        .route("/webhdfs/v1/{*path}", any(named))
        .route("/v1/fsck", get(fsck))
}

/// The parameters of all operations; names are compared without their case, as HDFS does.
#[derive(Debug, Default)]
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Failure> {
        let bad =
            |text: &str| Failure::Argument(format!("{name}={text} is not a number in its range"));
        let parse = |text: &str| text.parse().map_err(|_| bad(text));
        self.get(name)
            .filter(|text| !text.is_empty())
            .map(parse)
            .transpose()
    }

    fn is(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// Why a request failed.
enum Failure {
    Trouble(Trouble),
    Argument(String),
    Unsupported(String),
    Forbidden(String),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Trouble(Trouble::Refused(refusal))
    }
}

impl Failure {
    /// As Hadoop's clients turn it into an exception.
    fn response(&self, path: &str) -> Response {
        const IO: &str = "java.io.IOException";
        const ARGUMENT: &str = "java.lang.IllegalArgumentException";
        let hdfs = "org.apache.hadoop.hdfs.protocol.AlreadyBeingCreatedException";
        let fs = "org.apache.hadoop.fs.FileAlreadyExistsException";
        let (status, class, message) = match self {
            Self::Argument(why) => (400, ARGUMENT, why.clone()),
            Self::Unsupported(why) => (400, "java.lang.UnsupportedOperationException", why.clone()),
            Self::Forbidden(why) => (403, "java.lang.SecurityException", why.clone()),
            Self::Trouble(Trouble::Unavailable(why)) => {
                (503, "org.apache.hadoop.ipc.RetriableException", why.clone())
            }
            Self::Trouble(Trouble::Refused(refusal)) => {
                let (status, class) = match refusal {
                    Refusal::NotFound => (404, "java.io.FileNotFoundException"),
                    Refusal::IsADirectory => (404, "java.io.FileNotFoundException"),
                    Refusal::Exists => (403, fs),
                    Refusal::BeingWritten => (403, hdfs),
                    Refusal::NotADirectory => {
                        (403, "org.apache.hadoop.fs.ParentNotDirectoryException")
                    }
                    Refusal::NotEmpty => {
                        (403, "org.apache.hadoop.fs.PathIsNotEmptyDirectoryException")
                    }
                    Refusal::InvalidPath(_) => (400, "org.apache.hadoop.fs.InvalidPathException"),
                    Refusal::OutOfRange(_) => (400, ARGUMENT),
                    _ => (403, IO),
                };
                (status, class, format!("{path}: {refusal}"))
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let exception = class.rsplit('.').next().unwrap_or(class);
        let body = json!({ "RemoteException": {
            "exception": exception,
            "javaClassName": class,
            "message": message,
        }});
        (status, Json(body)).into_response()
    }
}

async fn root(
    state: State<Files>,
    query: Query<Vec<(String, String)>>,
    request: (Method, Uri, HeaderMap),
    body: Body,
) -> Response {
    serve(state, String::new(), query, request, body).await
}

async fn named(
    state: State<Files>,
    Path(path): Path<String>,
    query: Query<Vec<(String, String)>>,
    request: (Method, Uri, HeaderMap),
    body: Body,
) -> Response {
    serve(state, path, query, request, body).await
}

async fn serve(
    State(files): State<Files>,
    path: String,
    Query(parameters): Query<Vec<(String, String)>>,
    (method, uri, headers): (Method, Uri, HeaderMap),
    body: Body,
) -> Response {
    let path = format!("/{path}");
    let request = Request {
        files,
        path: path.clone(),
        parameters: Parameters(parameters),
        uri,
        headers,
    };
    let answer = match method {
        Method::GET => request.get().await,
        Method::PUT => request.put(body).await,
        Method::POST => request.post(body).await,
        Method::DELETE => request.delete().await,
        _ => Err(Failure::Unsupported("use GET, PUT, POST or DELETE".into())),
    };
    answer.unwrap_or_else(|failure| failure.response(&path))
}

struct Request {
    files: Files,
    path: String,
    parameters: Parameters,
    uri: Uri,
    headers: HeaderMap,
}

type Answer = Result<Response, Failure>;

impl Request {
    fn op(&self) -> String {
        self.parameters
            .get("op")
            .unwrap_or_default()
            .to_ascii_uppercase()
    }

    fn unknown(&self, method: &str) -> Answer {
        let op = self.op();
        Err(match op.as_str() {
            "" => Failure::Argument("the parameter `op` is missing".into()),
            _ => Failure::Unsupported(format!("{method} op={op} is not supported here")),
        })
    }

    async fn get(&self) -> Answer {
        match self.op().as_str() {
            "OPEN" => self.open().await,
            "GETFILESTATUS" => {
                let stat = self.stat().await?;
                Ok(Json(json!({ "FileStatus": self.status(&stat, "") })).into_response())
            }
            "LISTSTATUS" => {
                let (list, _) = self.list("", LIST_MAX).await?;
                let list: Vec<Value> = list.iter().map(|s| self.status(s, &s.name)).collect();
                let body = json!({ "FileStatuses": { "FileStatus": list } });
                Ok(Json(body).into_response())
            }
            "LISTSTATUS_BATCH" => {
                let after = self.parameters.get("startAfter").unwrap_or_default();
                let (list, left) = self.list(after, LIST_BATCH).await?;
                let list: Vec<Value> = list.iter().map(|s| self.status(s, &s.name)).collect();
                let body = json!({ "DirectoryListing": {
                    "partialListing": { "FileStatuses": { "FileStatus": list } },
                    "remainingEntries": left,
                }});
                Ok(Json(body).into_response())
            }
            "GETCONTENTSUMMARY" => self.summary().await,
            "GETFILECHECKSUM" => self.checksum().await,
            "GETFILEBLOCKLOCATIONS" | "GET_BLOCK_LOCATIONS" => self.block_locations().await,
            "GETHOMEDIRECTORY" => Ok(Json(json!({ "Path": "/" })).into_response()),
            _ => self.unknown("GET"),
        }
    }

    async fn put(&self, body: Body) -> Answer {
        self.refuse_foreign_pages()?;
        match self.op().as_str() {
            "CREATE" => {
                let mode = match self.parameters.is("overwrite") {
                    true => WriteMode::Replace,
                    false => WriteMode::Create,
                };
                self.write(mode, StatusCode::CREATED, body).await
            }
            "MKDIRS" => {
                let path = self.path.clone();
                self.change(Command::MakeDirectory { path }).await?;
                Ok(boolean(true))
            }
            "RENAME" => {
                let Some(to) = self.parameters.get("destination") else {
                    return Err(Failure::Argument(
                        "the parameter `destination` is missing".into(),
                    ));
                };
                let (from, to) = (self.path.clone(), to.to_owned());
                match self.change(Command::Rename { from, to }).await {
                    Ok(()) => Ok(boolean(true)),
                    // HDFS says no more than that.
                    Err(Trouble::Refused(
                        Refusal::NotFound | Refusal::Exists | Refusal::IntoItself | Refusal::Root,
                    )) => Ok(boolean(false)),
                    Err(trouble) => Err(trouble.into()),
                }
            }
            "SETREPLICATION" => {
                let copies = self.parameters.number("replication")?;
                let copies = copies.unwrap_or(self.files.config.copies);
                let path = self.path.clone();
                match self.change(Command::SetWanted { path, copies }).await {
                    Ok(()) => Ok(boolean(true)),
                    Err(Trouble::Refused(Refusal::IsADirectory)) => Ok(boolean(false)),
                    Err(trouble) => Err(trouble.into()),
                }
            }
            _ => self.unknown("PUT"),
        }
    }

    async fn post(&self, body: Body) -> Answer {
        self.refuse_foreign_pages()?;
        match self.op().as_str() {
            "APPEND" => self.write(WriteMode::Append, StatusCode::OK, body).await,
            _ => self.unknown("POST"),
        }
    }

    async fn delete(&self) -> Answer {
        self.refuse_foreign_pages()?;
        if self.op() != "DELETE" {
            return self.unknown("DELETE");
        }
        let recursive = self.parameters.is("recursive");
        let path = self.path.clone();
        match self.change(Command::Delete { path, recursive }).await {
            Ok(()) => Ok(boolean(true)),
            Err(Trouble::Refused(Refusal::NotFound)) => Ok(boolean(false)),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// A page of another site can make a browser send a POST, and says so in `Origin`.
    fn refuse_foreign_pages(&self) -> Result<(), Failure> {
        let text = |name| {
            self.headers
                .get(name)
                .map(|v| v.to_str().unwrap_or_default())
        };
        let Some(origin) = text(header::ORIGIN) else {
            return Ok(());
        };
        let own = text(header::HOST).unwrap_or_default();
        if origin
            .split_once("://")
            .is_some_and(|(_, host)| host == own)
        {
            return Ok(());
        }
        Err(Failure::Forbidden(
            "pages of other sites do not change files".into(),
        ))
    }

    async fn change(&self, command: Command) -> Result<(), Trouble> {
        self.files.change(command).await.map(|_| ())
    }

    async fn stat(&self) -> Result<FileStat, Failure> {
        let path = self.path.clone();
        match self.files.ask(FilesQuery::Stat { path }).await? {
            FilesAnswer::Stat(stat) => Ok(stat?),
            _ => Err(unexpected().into()),
        }
    }

    async fn list(&self, after: &str, count_max: usize) -> Result<(Vec<FileStat>, u64), Failure> {
        let query = FilesQuery::List {
            path: self.path.clone(),
            after: after.to_owned(),
            count_max,
        };
        match self.files.ask(query).await? {
            FilesAnswer::List(mut list) => {
                if let Ok((stats, _)) = &mut list
                    && let [only] = &mut stats[..]
                    && !only.is_directory
                    && self.stat().await.is_ok_and(|own| own.inode == only.inode)
                {
                    // Of a file HDFS lists the file, without a name.
                    only.name.clear();
                }
                Ok(list?)
            }
            _ => Err(unexpected().into()),
        }
    }

    fn status(&self, stat: &FileStat, suffix: &str) -> Value {
        let (kind, permission, block) = match stat.is_directory {
            true => ("DIRECTORY", "755", 0),
            false => ("FILE", "644", self.files.config.chunk_bytes),
        };
        json!({
            "accessTime": 0,
            "blockSize": block,
            "childrenNum": stat.children,
            "fileId": stat.inode,
            "group": "althing",
            "length": stat.length,
            "modificationTime": stat.modified_ms,
            "owner": "althing",
            "pathSuffix": suffix,
            "permission": permission,
            "replication": stat.copies,
            "storagePolicy": 0,
            "type": kind,
        })
    }

    async fn summary(&self) -> Answer {
        let query = FilesQuery::Summary {
            path: self.path.clone(),
            rows_max: SUMMARY_MAX,
        };
        let FilesAnswer::Summary(summary) = self.files.ask(query).await? else {
            return Err(unexpected().into());
        };
        let Some(found) = summary? else {
            let why = format!("there are more than {SUMMARY_MAX} names below; ask for its parts");
            return Err(Failure::Argument(why));
        };
        let body = json!({ "ContentSummary": {
            "directoryCount": found.directories,
            "fileCount": found.files,
            "length": found.length,
            "quota": -1,
            "spaceConsumed": found.space,
            "spaceQuota": -1,
            "typeQuota": {},
        }});
        Ok(Json(body).into_response())
    }

    /// The CRC32C of the whole file, put together from those of its chunks: HDFS' COMPOSITE_CRC mode.
    async fn checksum(&self) -> Answer {
        let located = locate(&self.files, &self.path, 0, u64::MAX).await?;
        let whole = (located.places.iter()).fold(0, |crc, place| {
            crc32c::crc32c_combine(crc, place.checksum, place.length as usize)
        });
        let body = json!({ "FileChecksum": {
            "algorithm": "COMPOSITE-CRC32C",
            "bytes": format!("{whole:08x}"),
            "length": 4,
        }});
        Ok(Json(body).into_response())
    }

    async fn block_locations(&self) -> Answer {
        let offset = self.parameters.number("offset")?.unwrap_or(0);
        let length = self.parameters.number("length")?.unwrap_or(u64::MAX);
        let located = locate(&self.files, &self.path, offset, length).await?;
        let address = |node| {
            let server = located.servers.iter().find(|server| server.node == node);
            server.map(|server| server.address.as_str())
        };
        let host = |address: &str| {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            host.to_owned()
        };
        let blocks: Vec<Value> = (located.places.iter())
            .map(|place| {
                let good = (place.copies.iter())
                    .filter(|(_, state)| *state == storage::files::CopyState::Good);
                let names: Vec<&str> = good.filter_map(|(node, _)| address(*node)).collect();
                let hosts: Vec<String> = names.iter().copied().map(host).collect();
                json!({
                    "cachedHosts": [],
                    "corrupt": names.is_empty(),
                    "hosts": hosts,
                    "length": place.length,
                    "names": names,
                    "offset": place.offset,
                    "storageTypes": [],
                    "topologyPaths": [],
                })
            })
            .collect();
        Ok(Json(json!({ "BlockLocations": { "BlockLocation": blocks } })).into_response())
    }

    async fn open(&self) -> Answer {
        let offset: u64 = self.parameters.number("offset")?.unwrap_or(0);
        let length: u64 = self.parameters.number("length")?.unwrap_or(u64::MAX);
        let located = locate(&self.files, &self.path, offset, length).await?;
        let size = located.stat.length;
        if offset > size {
            return Err(Failure::Argument(format!(
                "offset={offset} is beyond the end of {}, which has {size} bytes",
                self.path
            )));
        }
        let length = length.min(size - offset);
        let body = reading::stream(
            self.files.clone(),
            self.path.clone(),
            located,
            offset,
            length,
        );
        let response = Response::builder()
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, length)
            .body(body);
        response.map_err(|error| Failure::Argument(error.to_string()))
    }

    async fn write(&self, mode: WriteMode, done: StatusCode, body: Body) -> Answer {
        if self.parameters.get("step") != Some("data") {
            let host = self.headers.get(header::HOST);
            let host = host
                .and_then(|host| host.to_str().ok())
                .unwrap_or("127.0.0.1");
            let query = self.uri.query().unwrap_or_default();
            let to = format!("http://{host}{}?{query}&step=data", self.uri.path());
            if self.parameters.is("noredirect") {
                return Ok(Json(json!({ "Location": to })).into_response());
            }
            let headers = [(header::LOCATION, to)];
            return Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response());
        }
        let copies = self.parameters.number("replication")?;
        let copies = copies.unwrap_or(self.files.config.copies);
        let (files, path) = (self.files.clone(), self.path.clone());
        let written: Written = writing::write(files, path, mode, copies, body).await?;
        let told = json!({
            "length": written.length,
            "copies": written.copies,
            "wanted": written.wanted,
        });
        Ok((done, Json(told)).into_response())
    }
}

fn boolean(value: bool) -> Response {
    Json(json!({ "boolean": value })).into_response()
}

#[derive(Deserialize)]
struct FsckQuery {
    #[serde(default)]
    faults: Option<usize>,
}

/// How all chunks are.
async fn fsck(State(files): State<Files>, Query(query): Query<FsckQuery>) -> Response {
    let faults_max = query.faults.unwrap_or(FAULTS_MAX).min(FAULTS_MAX);
    let (health, servers) = match files.ask(FilesQuery::Health { faults_max }).await {
        Ok(FilesAnswer::Health { health, servers }) => (health, servers),
        Ok(_) => return Failure::from(unexpected()).response("/"),
        Err(trouble) => return Failure::from(trouble).response("/"),
    };
    let node = |node: &base::NodeId| {
        let server = servers.iter().find(|server| server.node == *node);
        server.map_or_else(|| format!("{:x}", node.0), |server| server.address.clone())
    };
    let nodes = |list: &[base::NodeId]| list.iter().map(node).collect::<Vec<String>>();
    let faults: Vec<Value> = (health.faults.iter())
        .map(|fault| {
            json!({
                "path": fault.path,
                "chunk": fault.chunk.to_string(),
                "wanted": fault.wanted,
                "good": nodes(&fault.good),
                "unreachable": nodes(&fault.unreachable),
                "corrupt": nodes(&fault.corrupt),
                "making": nodes(&fault.making),
            })
        })
        .collect();
    let servers: Vec<Value> = (servers.iter())
        .map(|server| {
            json!({
                "node": format!("{:x}", server.node.0),
                "address": server.address,
                "state": format!("{:?}", server.sight).to_lowercase(),
                "has_room": server.has_room,
                "chunks": server.held,
            })
        })
        .collect();
    let body = json!({
        "files": health.files,
        "directories": health.directories,
        "chunks": health.chunks,
        "writers": health.writers,
        "missing": health.missing,
        "unreachable": health.unreachable,
        "short": health.short,
        "corrupt": health.corrupt,
        "making": health.making,
        "faults": faults,
        "servers": servers,
    });
    Json(body).into_response()
}
