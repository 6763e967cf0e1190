//! What coordinator and workers say to each other: a line of JSON each way, over TCP; streams of bytes in
//! chunks, of which the last is empty, so that a stream that breaks off is not taken for a whole one.

use computing::mapreduce::coordinator::Work;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The environment variable that holds a job's token.
pub const TOKEN: &str = "ALTHING_MAPREDUCE_TOKEN";
/// The longest line.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// The longest chunk.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// How long a connection may be silent in the middle of something.
pub const SILENCE: Duration = Duration::from_secs(60);

/// What is asked, with the job's token.
#[derive(Serialize, Deserialize)]
pub struct Asked {
    /// Who does not know it is not answered.
    pub token: String,
    /// What.
    pub request: Request,
}

/// What a worker asks the coordinator, or another worker ([`Request::Fetch`]).
#[derive(Serialize, Deserialize)]
pub enum Request {
    /// It is there; others fetch from it at this port.
    Hello { port: u16, pid: u32 },
    /// It has nothing to do.
    Ask,
    /// It is at this attempt: is that still wanted?
    Wanted { work: Task, attempt: u64 },
    /// Where are the maps' outputs?
    Outputs,
    /// An attempt is done.
    Done { work: Task, attempt: u64 },
    /// An attempt failed of its own accord.
    Failed {
        work: Task,
        attempt: u64,
        why: String,
    },
    /// A map's output cannot be had.
    Lost { map: usize, attempt: u64 },
    /// The lines of a split. A stream follows the answer.
    Input { map: usize },
    /// A stream follows: the output of a reduce.
    Result { reduce: usize, attempt: u64 },
    /// Of a worker: the run of a map for a partition. A stream follows the answer.
    Fetch {
        map: usize,
        attempt: u64,
        partition: usize,
    },
}

/// What is answered.
#[derive(Serialize, Deserialize, Debug)]
pub enum Reply {
    /// To [`Request::Hello`]: the worker's number and the job.
    Welcome { worker: u64, job: Job },
    /// To [`Request::Ask`].
    Do { work: Task, attempt: u64 },
    /// To [`Request::Ask`]: nothing now.
    Wait,
    /// To [`Request::Ask`]: nothing any more.
    End,
    /// To [`Request::Wanted`] and [`Request::Done`].
    Wanted(bool),
    /// To [`Request::Outputs`]: attempt and address, map by map.
    Outputs(Vec<Option<(u64, SocketAddr)>>),
    /// It was done.
    Ok,
    /// To [`Request::Fetch`]: what the stream has.
    Run { bytes: u64, crc: u32 },
    /// It cannot be done.
    Refused(String),
}

/// What workers know of a job.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Job {
    pub mapper: String,
    pub reducer: String,
    pub combiner: Option<String>,
    pub reduces: usize,
    pub sort_buffer: usize,
}

/// [`Work`] on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub enum Task {
    Map(usize),
    Reduce(usize),
}

impl From<Work> for Task {
    fn from(work: Work) -> Self {
        match work {
            Work::Map(at) => Self::Map(at),
            Work::Reduce(at) => Self::Reduce(at),
        }
    }
}

impl From<Task> for Work {
    fn from(task: Task) -> Self {
        match task {
            Task::Map(at) => Self::Map(at),
            Task::Reduce(at) => Self::Reduce(at),
        }
    }
}

/// A connection, either side.
pub struct Connection {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Connection {
    /// Connects to `address`.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        Self::of(TcpStream::connect_timeout(
            &address,
            Duration::from_secs(5),
        )?)
    }

    /// A connection over `stream`, which may be silent for [`SILENCE`].
    pub fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self {
            reader: BufReader::with_capacity(CHUNK_BYTES_MAX, stream.try_clone()?),
            writer: stream,
        })
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.writer
    }

    /// Sends a line.
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.writer.write_all(&line)
    }

    /// Receives a line; nothing when the other side has closed.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        (&mut self.reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }

    /// Asks and waits for the answer.
    pub fn call(&mut self, token: &str, request: Request) -> io::Result<Reply> {
        self.send(&Asked {
            token: token.to_owned(),
            request,
        })?;
        match self.receive()? {
            Some(Reply::Refused(why)) => Err(io::Error::other(why)),
            Some(reply) => Ok(reply),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends all of `source` as a stream.
    pub fn send_stream(&mut self, source: &mut impl Read) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES_MAX];
        loop {
            let bytes = source.read(&mut chunk)?;
            self.send_chunk(&chunk[..bytes])?;
            if bytes == 0 {
                return Ok(());
            }
        }
    }

    /// Sends a chunk of a stream; an empty one ends it.
    pub fn send_chunk(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.writer.write_all(&(chunk.len() as u32).to_be_bytes())?;
        self.writer.write_all(chunk)
    }

    /// Receives a stream into `sink`, which may stop wanting it ([`io::ErrorKind::BrokenPipe`]): the rest is
    /// passed over then.
    pub fn receive_stream(&mut self, sink: &mut impl Write) -> io::Result<()> {
        let mut wanted = true;
        loop {
            let mut length = [0; 4];
            self.reader.read_exact(&mut length)?;
            let bytes = u32::from_be_bytes(length) as usize;
            if bytes == 0 {
                return Ok(());
            }
            if bytes > CHUNK_BYTES_MAX {
                return Err(io::Error::other("a chunk that is too long"));
            }
            let mut chunk = vec![0; bytes];
            self.reader.read_exact(&mut chunk)?;
            if wanted {
                match sink.write_all(&chunk) {
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => wanted = false,
                    done => done?,
                }
            }
        }
    }
}
