//! The brokers that are compared, and Kafka's own tools that load them.

use super::super::machine;
use crate::process;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The one processor that a server may use, and the one that its client may use.
const SERVER_CPU: &str = "0";
const CLIENT_CPU: &str = "1";
const START_MAX: Duration = Duration::from_secs(120);
const FETCH_MAX: Duration = Duration::from_secs(900);
const TOOL_MAX: Duration = Duration::from_secs(900);
/// As Kafka's start script has it.
const HEAP: &str = "1G";

/// A system under measurement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum System {
    /// Apache Kafka, one node in KRaft mode, defaults: what is acknowledged is in the page cache.
    Kafka,
    /// The same with a sync before each acknowledgement.
    KafkaSynced,
    /// The release build of this project, one node, defaults: synced before it is acknowledged.
    Althing,
}

impl System {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::KafkaSynced => "Kafka, synced",
            Self::Althing => "Althing",
        }
    }
}

/// Fetches Kafka's server and tools from Maven Central, once; where they are.
pub fn fetch() -> Result<PathBuf, String> {
    let directory = crate::target().join("bench-kafka");
    let libs = directory.join("libs");
    let done = directory.join("fetched");
    if done.exists() {
        return Ok(libs);
    }
    let failed = |why: String| format!("cannot fetch Apache Kafka: {why}");
    fs::create_dir_all(&directory).map_err(|e| failed(e.to_string()))?;
    fs::write(directory.join("pom.xml"), include_str!("pom.xml"))
        .map_err(|e| failed(e.to_string()))?;
    let mut command = Command::new("mvn");
    command.args([
        "-q",
        "-B",
        "dependency:copy-dependencies",
        "-DoutputDirectory=libs",
    ]);
    command.current_dir(&directory);
    let outcome = process::run(&mut command, FETCH_MAX, true).map_err(failed)?;
    if !outcome.ok {
        return Err(failed(outcome.output));
    }
    fs::write(done, "").map_err(|e| failed(e.to_string()))?;
    Ok(libs)
}

/// One process; it ends, and its data with it, when this is dropped.
pub struct Server {
    system: System,
    directory: PathBuf,
    libs: PathBuf,
    address: String,
    child: Child,
}

impl Server {
    /// Starts an empty one and waits until it takes records.
    pub fn start(system: System, libs: &Path) -> Result<Self, String> {
        let name = format!("broker-{}", std::process::id());
        let directory = crate::target().join("bench").join(name);
        let _ = fs::remove_dir_all(&directory); // of a run that was ended
        fs::create_dir_all(&directory)
            .map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
        let ports = machine::free_ports()?;
        let config = directory.join("config");
        let text = match system {
            System::Althing => althing_config(&directory.join("data"), ports),
            _ => kafka_config(&directory.join("data"), system, ports),
        };
        fs::write(&config, text).map_err(|e| format!("cannot write a configuration: {e}"))?;
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CPU]);
        if system == System::Althing {
            command.arg(machine::binary()).arg("serve");
            command.arg("--config").arg(&config);
        } else {
            let mut format = java(libs, "kafka.tools.StorageTool");
            format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c"]);
            let outcome = process::run(format.arg(&config), START_MAX, true)?;
            if !outcome.ok {
                return Err(format!("Kafka cannot format its data: {}", outcome.output));
            }
            command.arg("java");
            command.args([format!("-Xmx{HEAP}"), format!("-Xms{HEAP}")]);
            command.args(["-XX:+UseG1GC", "-cp"]).arg(libs.join("*"));
            command.arg("kafka.Kafka").arg(&config);
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
            libs: libs.to_owned(),
            address: format!("127.0.0.1:{}", ports[0]),
            child,
        };
        server.wait_open()?;
        Ok(server)
    }

    fn wait_open(&mut self) -> Result<(), String> {
        let end = Instant::now() + START_MAX;
        while TcpStream::connect(&self.address).is_err() {
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > end {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(10).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                return Err(format!(
                    "{} takes no connection; its log ends with\n{}",
                    self.system.name(),
                    tail.join("\n")
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its process. taskset has become the server itself.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Runs `ProducerPerformance`; what it printed.
    pub fn produce(&self, topic: &str, records: u64, record_bytes: u64) -> Result<String, String> {
        let mut tool = client(&self.libs, "org.apache.kafka.tools.ProducerPerformance");
        tool.args(["--topic", topic, "--throughput", "-1"]);
        tool.args(["--num-records", &records.to_string()]);
        tool.args(["--record-size", &record_bytes.to_string()]);
        tool.args(["--producer-props", "acks=all"]);
        tool.arg(format!("bootstrap.servers={}", self.address));
        run(&mut tool)
    }

    /// Runs `ConsumerPerformance`; what it printed.
    pub fn consume(&self, topic: &str, records: u64) -> Result<String, String> {
        let mut tool = client(&self.libs, "org.apache.kafka.tools.ConsumerPerformance");
        tool.args(["--topic", topic, "--messages", &records.to_string()]);
        tool.args(["--bootstrap-server", &self.address]);
        tool.args(["--timeout", "60000"]);
        run(&mut tool)
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

fn java(libs: &Path, class: &str) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(libs.join("*")).arg(class);
    command
}

fn client(libs: &Path, class: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", CLIENT_CPU, "java", "-cp"]);
    command.arg(libs.join("*")).arg(class);
    command
}

fn run(tool: &mut Command) -> Result<String, String> {
    let outcome = process::run(tool, TOOL_MAX, true)?;
    match outcome.ok {
        true => Ok(outcome.output),
        false => Err(format!("Kafka's tool failed: {}", outcome.output)),
    }
}

fn kafka_config(data: &Path, system: System, [client, controller, _]: [u16; 3]) -> String {
    let synced = match system {
        System::KafkaSynced => "log.flush.interval.messages=1\n",
        _ => "",
    };
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{client}\ninter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         log.dirs={}\n{synced}",
        data.display()
    )
}

fn althing_config(data: &Path, [client, peer, console]: [u16; 3]) -> String {
    format!(
        "data = \"{}\"\ninitial_members = [\"127.0.0.1:{peer}\"]\n\
         [listen]\nkafka = \"127.0.0.1:{client}\"\nzookeeper = \"off\"\nredis = \"off\"\n\
         peers = \"127.0.0.1:{peer}\"\nconsole = \"127.0.0.1:{console}\"\ndns = \"off\"\ndtm = \"off\"\n",
        data.display()
    )
}
