//! The servers that are compared, and a client that fills them.

use super::super::machine;
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use wire_redis::Limits;
use wire_redis::client::{Decoder, Value, request};

/// The one processor that a server may use.
const SERVER_CPU: &str = "0";
const START_MAX: Duration = Duration::from_secs(60);
/// Requests on their way while filling.
const WINDOW: u64 = 512;

/// A system under measurement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum System {
    /// Debian's redis-server, defaults but for ports, durability and snapshots, which are off.
    Redis,
    /// The release build of this project, one node, defaults but for ports and durability.
    Althing,
}

impl System {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Althing => "Althing",
        }
    }
}

/// When a write is on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Durability {
    /// Never, or whenever.
    None,
    /// A second after it was acknowledged.
    EverySecond,
    /// Before it is acknowledged.
    Always,
}

impl Durability {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::EverySecond, Self::Always];

    /// As both configurations spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::EverySecond => "everysec",
            Self::Always => "always",
        }
    }
}

/// One process; it ends, and its data with it, when this is dropped.
pub struct Server {
    system: System,
    directory: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    /// Starts an empty one and waits until it takes a write.
    pub fn start(system: System, durability: Durability) -> Result<Self, String> {
        let name = format!("{}-{}", system.name().to_lowercase(), std::process::id());
        let directory = crate::target().join("bench").join(name);
        let _ = fs::remove_dir_all(&directory); // of a run that was ended
        fs::create_dir_all(&directory)
            .map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
        let ports = machine::free_ports()?;
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CPU]);
        match system {
            System::Redis => redis_command(&mut command, durability, ports[0]),
            System::Althing => {
                let text = althing_config(&directory.join("data"), durability, ports);
                let config = directory.join("config");
                fs::write(&config, text)
                    .map_err(|e| format!("cannot write a configuration: {e}"))?;
                command.arg(machine::binary()).arg("serve");
                command.arg("--config").arg(config);
            }
        }
        let log = || {
            File::options()
                .create(true)
                .append(true)
                .open(directory.join("log"))
                .map_err(|e| format!("cannot write a log: {e}"))
        };
        command
            .stdin(Stdio::null())
            .stdout(log()?)
            .stderr(log()?)
            .current_dir(&directory);
        let child = command
            .spawn()
            .map_err(|e| format!("cannot start taskset (Debian: util-linux): {e}"))?;
        let mut server = Self {
            system,
            directory,
            port: ports[0],
            child,
        };
        server.wait_answer()?;
        Ok(server)
    }

    fn wait_answer(&mut self) -> Result<(), String> {
        let end = Instant::now() + START_MAX;
        loop {
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            let answer = Client::open(self.address()).and_then(|mut c| c.set_many(0, 1, 1));
            match answer {
                Ok(()) => return Ok(()),
                Err(_) if !ended && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(why) => {
                    let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                    let tail: Vec<&str> = log.lines().rev().take(10).collect();
                    let tail: Vec<&str> = tail.into_iter().rev().collect();
                    return Err(format!(
                        "{} takes no write: {why}; its log ends with\n{}",
                        self.system.name(),
                        tail.join("\n")
                    ));
                }
            }
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its process. taskset has become the server itself.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // gone already is as good
        let _ = self.child.wait();
        if std::env::var_os("BENCH_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

fn redis_command(command: &mut Command, durability: Durability, port: u16) {
    let (append_only, sync) = match durability {
        Durability::None => ("no", "no"),
        other => ("yes", other.name()),
    };
    command.args(["redis-server", "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--port", &port.to_string()]);
    command.args(["--appendonly", append_only, "--appendfsync", sync]);
}

fn althing_config(
    data: &Path,
    durability: Durability,
    [client, peer, console]: [u16; 3],
) -> String {
    format!(
        "data = \"{}\"\ninitial_members = [\"127.0.0.1:{peer}\"]\n\
         [listen]\nredis = \"127.0.0.1:{client}\"\nzookeeper = \"off\"\nkafka = \"off\"\npeers = \"127.0.0.1:{peer}\"\n\
         console = \"127.0.0.1:{console}\"\ndns = \"off\"\ndtm = \"off\"\n[cache]\ndurability = \"{}\"\n",
        data.display(),
        durability.name()
    )
}

/// A blocking connection.
pub struct Client {
    stream: TcpStream,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self, String> {
        let limit = Duration::from_secs(10);
        let stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))
            .and_then(|stream| stream.set_read_timeout(Some(limit)).map(|()| stream))
            .map_err(|e| e.to_string())?;
        Ok(Self {
            stream,
            decoder: Decoder::new(Limits::default()),
            buffer: vec![0; 64 << 10],
        })
    }

    /// Sets the keys numbered from `first` to before `end`, named as redis-benchmark names them (16 bytes).
    pub fn set_many(&mut self, first: u64, end: u64, value_bytes: usize) -> Result<(), String> {
        let value = vec![b'x'; value_bytes];
        let mut next = first;
        while next < end {
            let until = end.min(next + WINDOW);
            let mut out = Vec::new();
            for number in next..until {
                let key = format!("key:{number:012}");
                request(&mut out, &[b"SET", key.as_bytes(), &value]);
            }
            self.stream.write_all(&out).map_err(|e| e.to_string())?;
            for _ in next..until {
                match self.read()? {
                    Value::Status(text) if text == "OK" => {}
                    other => return Err(format!("SET was answered with {other:?}")),
                }
            }
            next = until;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Value, String> {
        loop {
            if let Some(value) = self.decoder.poll().map_err(|e| e.to_string())? {
                return Ok(value);
            }
            let read = self.stream.read(&mut self.buffer);
            match read.map_err(|e| e.to_string())? {
                0 => return Err("closed".into()),
                n => {
                    let bytes = Bytes::copy_from_slice(&self.buffer[..n]);
                    self.decoder.handle_bytes(&bytes);
                }
            }
        }
    }
}
