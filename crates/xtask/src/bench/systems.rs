//! The servers that are compared, and what the machine says of their processes.

use super::load::greeting;
use super::machine::{self, free_ports};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use wire_zookeeper::client::{Decoder, Response, request};

const ZOOKEEPER_JAR: &str = "/usr/share/java/zookeeper.jar";
const START_MAX: Duration = Duration::from_secs(60);

/// A system under measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    /// Debian's packages, defaults but for ports and limits on connections.
    Zookeeper,
    /// The release build of this project, defaults but for ports.
    Althing,
}

impl System {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zookeeper => "ZooKeeper",
            Self::Althing => "Althing",
        }
    }
}

/// The systems asked for that this machine has; says which it has not.
pub fn chosen(only: Option<&str>) -> Result<Vec<System>, String> {
    let wanted = match only {
        None => vec![System::Zookeeper, System::Althing],
        Some("zookeeper") => vec![System::Zookeeper],
        Some("althing") => vec![System::Althing],
        Some(other) => return Err(format!("--only takes althing or zookeeper, not {other:?}")),
    };
    let mut found = Vec::new();
    for system in wanted {
        match system {
            System::Zookeeper if !Path::new(ZOOKEEPER_JAR).exists() => {
                eprintln!(
                    "!!! no {ZOOKEEPER_JAR}: without ZooKeeper there is no comparison (Debian: zookeeper)"
                );
            }
            System::Zookeeper => found.push(system),
            System::Althing => {
                machine::build()?;
                found.push(system);
            }
        }
    }
    Ok(found)
}

/// One process.
pub struct Server {
    system: System,
    directory: PathBuf,
    ports: [u16; 3],
    child: Option<Child>,
}

/// Servers that know each other; they end, and their data with them, when this is dropped.
pub struct Ensemble {
    /// One or several.
    pub servers: Vec<Server>,
    directory: PathBuf,
}

impl Ensemble {
    /// Writes configurations for `count` servers; starts none.
    pub fn prepare(system: System, count: usize) -> Result<Self, String> {
        let name = format!("{}-{}", system.name().to_lowercase(), std::process::id());
        let directory = crate::target().join("bench").join(name);
        let _ = fs::remove_dir_all(&directory); // of a run that was ended
        let mut servers = Vec::new();
        for number in 1..=count {
            let server = Server {
                system,
                directory: directory.join(number.to_string()),
                ports: free_ports()?,
                child: None,
            };
            fs::create_dir_all(server.directory.join("data"))
                .map_err(|e| format!("cannot make {}: {e}", server.directory.display()))?;
            servers.push(server);
        }
        let ensemble = Self { servers, directory };
        for number in 0..count {
            ensemble
                .configure(number)
                .map_err(|e| format!("cannot write a configuration: {e}"))?;
        }
        Ok(ensemble)
    }

    /// Starts all of them and waits until each answers.
    pub fn start(system: System, count: usize) -> Result<Self, String> {
        let mut ensemble = Self::prepare(system, count)?;
        for server in &mut ensemble.servers {
            server.start()?;
        }
        for server in &ensemble.servers {
            server.wait_answer()?;
        }
        Ok(ensemble)
    }

    fn configure(&self, number: usize) -> std::io::Result<()> {
        let server = &self.servers[number];
        let data = server.directory.join("data");
        let [client, peer, third] = server.ports;
        if server.system == System::Althing {
            let members: Vec<String> = self
                .servers
                .iter()
                .map(|s| format!("\"127.0.0.1:{}\"", s.ports[1]))
                .collect();
            let text = format!(
                "data = \"{}\"\ninitial_members = [{}]\n[listen]\nzookeeper = \"127.0.0.1:{client}\"\n\
                 redis = \"off\"\nkafka = \"off\"\npeers = \"127.0.0.1:{peer}\"\n\
                 console = \"127.0.0.1:{third}\"\ndns = \"off\"\ndtm = \"off\"\n",
                data.display(),
                members.join(", ")
            );
            fs::remove_dir(&data)?; // it makes its own
            return fs::write(server.directory.join("config"), text);
        }
        let mut text = format!(
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={client}\n\
             clientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\n",
            data.display()
        );
        if self.servers.len() > 1 {
            for (i, other) in self.servers.iter().enumerate() {
                text += &format!(
                    "server.{}=127.0.0.1:{}:{}\n",
                    i + 1,
                    other.ports[1],
                    other.ports[2]
                );
            }
        }
        let logging = "log4j.rootLogger=WARN, C\nlog4j.appender.C=org.apache.log4j.ConsoleAppender\n\
                       log4j.appender.C.layout=org.apache.log4j.SimpleLayout\n";
        fs::write(server.directory.join("log4j.properties"), logging)?;
        fs::write(data.join("myid"), format!("{}\n", number + 1))?;
        fs::write(server.directory.join("config"), text)
    }

    /// The number in `servers` of the one that leads.
    pub fn leader(&self) -> Result<usize, String> {
        let end = Instant::now() + START_MAX;
        while Instant::now() < end {
            let leading = |s: &Server| s.mode().is_ok_and(|mode| mode == "leader");
            let found: Vec<usize> = (0..self.servers.len())
                .filter(|i| leading(&self.servers[*i]))
                .collect();
            if let [one] = found[..] {
                return Ok(one);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("no leader was elected within a minute".into())
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(Server::kill);
        if std::env::var_os("BENCH_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

impl Server {
    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[0]).into()
    }

    /// Executes it; does not wait.
    pub fn start(&mut self) -> Result<(), String> {
        let config = self.directory.join("config");
        let mut command = match self.system {
            System::Althing => {
                let mut command = Command::new(machine::binary());
                command.arg("serve").arg("--config").arg(config);
                command
            }
            System::Zookeeper => {
                let mut command = Command::new("java");
                let logging = self.directory.join("log4j.properties");
                command.arg(format!("-Dlog4j.configuration=file:{}", logging.display()));
                command.args([
                    "-cp",
                    ZOOKEEPER_JAR,
                    "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                ]);
                command.arg(config);
                command
            }
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"));
        let log = log.map_err(|e| format!("cannot write a log: {e}"))?;
        let again = log
            .try_clone()
            .map_err(|e| format!("cannot write a log: {e}"))?;
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            .current_dir(&self.directory);
        let child = command
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", self.system.name()))?;
        self.child = Some(child);
        Ok(())
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // gone already is as good
            let _ = child.wait();
        }
    }

    /// Waits until it answers a request of a new session.
    pub fn wait_answer(&self) -> Result<(), String> {
        let end = Instant::now() + START_MAX;
        while Session::open(self.address())
            .and_then(|mut s| s.read("/"))
            .is_err()
        {
            if Instant::now() > end {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(10).collect();
                return Err(format!(
                    "{} does not answer within {} s; its log ends with\n{}",
                    self.system.name(),
                    START_MAX.as_secs(),
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn mode(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address(), Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"srvr")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "));
        Ok(mode.unwrap_or_default().trim().to_owned())
    }

    fn process(&self) -> Result<u32, String> {
        let child = self.child.as_ref().ok_or("the server does not run")?;
        Ok(child.id())
    }

    /// Resident memory in MiB.
    pub fn memory_mib(&self) -> Result<f64, String> {
        machine::memory_mib(self.process()?)
    }

    /// Seconds of processor time so far, in user and kernel mode.
    pub fn cpu_s(&self) -> Result<f64, String> {
        machine::cpu_s(self.process()?)
    }
}

/// A blocking session, one request at a time.
pub struct Session {
    stream: TcpStream,
    decoder: Decoder,
    xid: i32,
}

impl Session {
    /// Connects and greets. An error is only a reason to try again.
    pub fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))
            .map_err(|e| e.to_string())?;
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let mut session = Self {
            stream,
            decoder: Decoder::new(1 << 20),
            xid: 0,
        };
        let mut out = Vec::new();
        request::connect(&mut out, &greeting(10_000));
        match session.exchange(&out)? {
            Response::Connect(answer) if answer.session.0 != 0 => Ok(session),
            other => Err(format!("no session: {other:?}")),
        }
    }

    /// Reads a node's data.
    pub fn read(&mut self, path: &str) -> Result<(), String> {
        self.xid += 1;
        let mut out = Vec::new();
        request::get_data(&mut out, self.xid, path, false);
        self.succeed(&out, &[0])
    }

    /// Creates an empty node; that it exists is as good.
    pub fn create(&mut self, path: &str) -> Result<(), String> {
        self.xid += 1;
        let mut out = Vec::new();
        super::zookeeper::create_request(&mut out, self.xid, path, b"");
        self.succeed(&out, &[0, -110])
    }

    /// Replaces a node's data.
    pub fn write(&mut self, path: &str, data: &[u8]) -> Result<(), String> {
        self.xid += 1;
        let mut out = Vec::new();
        request::set_data(&mut out, self.xid, path, data, -1);
        self.succeed(&out, &[0])
    }

    fn succeed(&mut self, out: &[u8], good: &[i32]) -> Result<(), String> {
        match self.exchange(out)? {
            Response::Reply { error, .. } if good.contains(&error) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    fn exchange(&mut self, out: &[u8]) -> Result<Response, String> {
        self.stream.write_all(out).map_err(|e| e.to_string())?;
        let mut buffer = [0; 4096];
        loop {
            if let Some(response) = self.decoder.poll().map_err(|e| e.to_string())? {
                return Ok(response);
            }
            match self.stream.read(&mut buffer).map_err(|e| e.to_string())? {
                0 => return Err("closed".into()),
                n => self
                    .decoder
                    .handle_bytes(&Bytes::copy_from_slice(&buffer[..n])),
            }
        }
    }
}
