"""Servers under test: real processes of `althing serve`, or of Debian's ZooKeeper with TARGET=zookeeper.

Each server is ended by its process id; all of them listen on loopback only.
"""

import glob
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from raw import Raw, eventually, four_letters

TARGET = os.environ.get("TARGET", "althing")
ROOT = Path(__file__).resolve().parents[2]
BIN = os.environ.get("ALTHING_BIN", str(ROOT / "target/debug/althing"))

# user:base64(sha1(user:password)) of super:secret, in both systems' configuration.
SUPERUSER_DIGEST = "super:lK75jTNcA+U9vtVEw5vB51mj/w4="

_given = set()


def free_port():
    """A port that nobody listens on and that this run has not given out before."""
    while True:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


class Server:
    """One process. `address` is where ZooKeeper clients connect, `redis_address` and `kafka_address` where those do."""

    def __init__(self, number, directory):
        self.number = number
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.client_port, self.peer_port, self.third_port = free_port(), free_port(), free_port()
        self.address = f"127.0.0.1:{self.client_port}"
        self.peer_address = f"127.0.0.1:{self.peer_port}"
        self.console_address = f"127.0.0.1:{self.third_port}"
        self.redis_address = f"127.0.0.1:{free_port()}"
        self.kafka_address = f"127.0.0.1:{free_port()}"
        self.dns_port = free_port()
        self.dtm_address = f"127.0.0.1:{free_port()}"
        self.process = None
        self.stopped = False

    @property
    def data(self):
        return self.directory / "data"

    @property
    def log(self):
        return self.directory / "log.txt"

    def command(self):
        raise NotImplementedError

    def start(self):
        assert not self.running, f"server {self.number} runs already"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory
            )
        self.stopped = False

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.running:
            os.kill(self.process.pid, number)

    def kill(self):
        """kill -9, and waits until it is gone."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait(10)

    def terminate(self, timeout=20):
        """A polite stop; the exit code."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def mode(self):
        """`leader`, `follower`, `standalone`, or None when it does not serve."""
        if not self.running or self.stopped:
            return None
        try:
            text = four_letters(self.address, "srvr", timeout=2)
        except OSError:
            return None
        for line in text.splitlines():
            if line.startswith("Mode: "):
                return line[6:].strip()
        return None

    def log_tail(self, lines=30):
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"


def ask_http(address, method, path, body=None, headers=None, timeout=60):
    """(code, headers, body) of one request over HTTP; a body that is no text and no bytes is sent as JSON."""
    if not isinstance(body, (str, bytes, type(None))):
        body, headers = json.dumps(body), {"Content-Type": "application/json", **(headers or {})}
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


class Althing(Server):
    def __init__(self, number, directory, options):
        super().__init__(number, directory)
        self.redis = options.pop("redis", False)
        self.kafka = options.pop("kafka", False)
        self.dns = options.pop("dns", False)
        self.dtm = options.pop("dtm", False)
        self.options = options
        self.members = []

    def configure(self, members):
        self.members = members
        self.write_config()

    def write_config(self):
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.options.items()]
        lines += [
            f"data = {json.dumps(str(self.data))}",
            f"initial_members = {json.dumps(self.members)}",
            f'superuser_digest = "{SUPERUSER_DIGEST}"',
            "[listen]",
            f'zookeeper = "{self.address}"',
            f'peers = "{self.peer_address}"',
            f'console = "{self.console_address}"',
        ]
        lines.append(f'redis = "{self.redis_address if self.redis else "off"}"')
        lines.append(f'kafka = "{self.kafka_address if self.kafka else "off"}"')
        lines.append(f'dns = "{f"127.0.0.1:{self.dns_port}" if self.dns else "off"}"')
        lines.append(f'dtm = "{self.dtm_address if self.dtm else "off"}"')
        (self.directory / "althing.toml").write_text("\n".join(lines) + "\n")

    def command(self):
        return [BIN, "serve", "--config", str(self.directory / "althing.toml")]

    def wipe(self):
        shutil.rmtree(self.data)

    def http(self, path, timeout=5):
        """(code, body) of a page of the console."""
        code, _, body = ask_http(self.console_address, "GET", path, timeout=timeout)
        return code, body.decode()

    def status(self):
        """The list of its cores' states."""
        code, body = self.http("/v1/status")
        assert code == 200, f"/v1/status answers {code}: {body[:200]}"
        return json.loads(body)

    def shard(self, name):
        """The replica of a shard on this node, or None."""
        for core in self.status():
            for shard in core["shards"]:
                if shard["name"] == name:
                    return shard
        return None


class Zookeeper(Server):
    @staticmethod
    def installed():
        return os.path.exists("/usr/share/java/zookeeper.jar") and shutil.which("java") is not None

    def configure(self, servers):
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "myid").write_text(f"{self.number}\n")
        lines = [
            "tickTime=500",
            "initLimit=20",
            "syncLimit=10",
            f"dataDir={self.data}",
            f"clientPort={self.client_port}",
            "clientPortAddress=127.0.0.1",
            "maxClientCnxns=0",
            "maxSessionTimeout=60000",
            "admin.enableServer=false",
            "4lw.commands.whitelist=*",
            "extendedTypesEnabled=true",
        ]
        if len(servers) > 1:
            lines += [f"server.{o.number}=127.0.0.1:{o.peer_port}:{o.third_port}" for o in servers]
        (self.directory / "zoo.cfg").write_text("\n".join(lines) + "\n")
        (self.directory / "log4j.properties").write_text(
            "log4j.rootLogger=INFO, C\n"
            "log4j.appender.C=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.C.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.C.layout.ConversionPattern=%d %-5p [%t:%C{1}] %m%n\n"
        )

    def command(self):
        return [
            "java",
            "-Xmx512m",
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j.configuration=file:{self.directory}/log4j.properties",
            "-Dzookeeper.extendedTypesEnabled=true",
            "-Dznode.container.checkIntervalMs=500",
            f"-Dzookeeper.DigestAuthenticationProvider.superDigest={SUPERUSER_DIGEST}",
            "-cp",
            "/usr/share/java/zookeeper.jar",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(self.directory / "zoo.cfg"),
        ]

    def wipe(self):
        shutil.rmtree(self.data / "version-2")


class Cluster:
    """One server or several that know each other."""

    def __init__(self, count, directory, **options):
        directory = Path(directory)
        if TARGET == "zookeeper":
            assert Zookeeper.installed(), "TARGET=zookeeper needs Debian's packages zookeeper and default-jre"
            self.servers = [Zookeeper(i + 1, directory / f"z{i + 1}") for i in range(count)]
            for server in self.servers:
                server.configure(self.servers)
        else:
            assert os.access(BIN, os.X_OK), f"{BIN} is missing: build it with `cargo build`, or set ALTHING_BIN"
            self.servers = [Althing(i + 1, directory / f"a{i + 1}", dict(options)) for i in range(count)]
            for server in self.servers:
                server.configure([o.peer_address for o in self.servers])

    def __len__(self):
        return len(self.servers)

    def __getitem__(self, i):
        return self.servers[i]

    @property
    def hosts(self):
        return ",".join(server.address for server in self.servers)

    def start(self):
        for server in self.servers:
            server.start()
        self.wait_ready()
        return self

    def kill(self, i):
        self.servers[i].kill()

    def stop(self, i):
        """SIGSTOP: the process hangs, its connections stay open."""
        self.servers[i].stopped = True
        self.servers[i].signal(signal.SIGSTOP)

    def cont(self, i):
        self.servers[i].signal(signal.SIGCONT)
        self.servers[i].stopped = False

    def restart(self, i):
        self.servers[i].kill()
        self.servers[i].start()

    def wipe(self, i):
        """Deletes the data directory of a server that has been killed."""
        assert not self.servers[i].running
        self.servers[i].wipe()

    def leader(self, timeout=30):
        """The number in `servers` of the one that leads, once there is exactly one."""

        def look():
            modes = [server.mode() for server in self.servers]
            if len(self.servers) == 1:
                return 1 if modes[0] in ("standalone", "leader") else 0
            leading = [i for i, mode in enumerate(modes) if mode == "leader"]
            return leading[0] + 1 if len(leading) == 1 else 0

        return eventually(look, timeout) - 1

    def follower(self, but=()):
        leader = self.leader()
        return next(i for i in range(len(self)) if i != leader and i not in but and self.servers[i].running)

    def wait_ready(self, which=None, timeout=60):
        """Waits until each (or each of `which`) opens sessions."""
        for i in which if which is not None else range(len(self)):
            server = self.servers[i]

            def ready(server=server):
                assert server.running, f"server {server.number} ended:\n{server.log_tail()}"
                if server.mode() is None:
                    return False
                with Raw(server.address, timeout=5) as raw:
                    if raw.connect(timeout_ms=5_000).session == 0:
                        return False
                    raw.close()
                    return True

            try:
                eventually(ready, timeout)
            except AssertionError as e:
                raise AssertionError(f"server {server.number} is not ready: {e}\n{server.log_tail()}") from e
        if which is None and len(self) > 1:
            self.leader()

    def end(self):
        for server in self.servers:
            server.signal(signal.SIGCONT)
            server.kill()


def process_alive(pid):
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


def segment_files(server):
    """Journal files of an althing data directory, newest last."""
    found = glob.glob(f"{server.data}/**/*.segment", recursive=True)
    return sorted(found, key=os.path.getmtime)


