"""What people type and see: `althing dev`, `cluster`, `tree`, `config check`, the console."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import time

import pytest

import raw as z
from raw import Raw, eventually
from resp import Resp
from servers import BIN, Althing, Cluster, free_port, process_alive

pytestmark = pytest.mark.althing_only


def althing(*arguments, stdin=None, timeout=20):
    """(exit code, standard output, standard error) of a command that ends by itself."""
    done = subprocess.run(
        [BIN, *arguments], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    return done.returncode, done.stdout, done.stderr


def good(*arguments, **options):
    code, out, err = althing(*arguments, **options)
    assert code == 0, f"althing {' '.join(arguments)} ended with {code}: {err}{out}"
    return out


def refused(*arguments, **options):
    code, out, err = althing(*arguments, **options)
    assert code != 0, f"althing {' '.join(arguments)} succeeded: {out}"
    return err


class Dev:
    """`althing dev` at an offset where all of its ports are free."""

    def __init__(self, directory, nodes=1, offset=None):
        self.directory, self.nodes = directory, nodes
        self.offset = free_offset(nodes) if offset is None else offset
        self.process = None

    def start(self):
        command = [BIN, "dev", "--data", str(self.directory / "data"), "--port-offset", str(self.offset)]
        if self.nodes > 1:
            command += ["--nodes", str(self.nodes)]
        self.log = self.directory / "log.txt"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return self

    @property
    def output(self):
        return self.log.read_text()

    def banner(self):
        eventually(lambda: self.process.poll() is None and "Ctrl-C stops it." in self.output, 30)
        return self.output

    def address(self, node=1):
        return f"127.0.0.1:{2181 + self.offset + 10 * (node - 1)}"

    def console(self, node=1):
        return f"127.0.0.1:{7400 + self.offset + 10 * (node - 1)}"

    def ctrl_c(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def free_offset(nodes):
    rng = random.Random()
    while True:
        # Below the ports that the kernel gives to outgoing connections, but for DTM's, which is odd: those are even.
        offset = rng.randrange(3_000, 22_000, 2)
        try:
            for node in range(nodes):
                for port in (2181, 6379, 7400, 7401, 8600, 9092, 36789):
                    with socket.socket() as sock:
                        sock.bind(("127.0.0.1", port + offset + 10 * node))
            return offset
        except OSError:
            continue


@pytest.fixture
def dev(tmp_path):
    made = []

    def make(**options):
        made.append(Dev(tmp_path, **options))
        return made[-1].start()

    yield make
    for one in made:
        one.end()


# althing dev


def test_dev_banner_says_what_listens_where(dev):
    node = dev()
    banner = node.banner()
    assert re.search(r"1 node, ready in \d+ ms", banner)
    assert node.address() in banner and f"http://{node.console()}/" in banner
    assert str(node.directory / "data") in banner
    with Raw(node.address()).connect() as raw:
        assert raw.children("/") == ["zookeeper"]
        raw.close()


def test_dev_is_ready_within_a_second(dev):
    """The floor of 0.2 s is the release build's, measured by the benchmark; this is the test build."""
    ready_ms = int(re.search(r"ready in (\d+) ms", dev().banner())[1])
    assert ready_ms < 1_000, f"ready after {ready_ms} ms"


def test_dev_ctrl_c_stops_it_and_data_are_kept(dev):
    node = dev()
    node.banner()
    good("tree", "create", "/kept", "value", "--server", node.address())
    assert node.ctrl_c() == 0, node.output
    assert "panic" not in node.output
    again = dev(offset=node.offset)
    again.banner()
    assert good("tree", "get", "/kept", "--server", node.address()).rstrip("\n") == "value"


def test_dev_taken_port_is_named_with_the_option_that_changes_it(dev, tmp_path):
    first = dev()
    first.banner()
    err = refused("dev", "--data", str(tmp_path / "other"), "--port-offset", str(first.offset))
    assert str(2181 + first.offset) in err and "--port-offset" in err


def test_dev_directory_in_use_is_named(dev, tmp_path):
    first = dev()
    first.banner()
    err = refused("dev", "--data", str(first.directory / "data"), "--port-offset", str(free_offset(1)))
    assert str(first.directory / "data") in err


def test_dev_three_nodes_survive_the_death_of_one(dev):
    cluster = dev(nodes=3)
    banner = cluster.banner()
    assert re.search(r"3 nodes, ready in \d+ ms", banner)
    for node in (1, 2, 3):
        assert cluster.address(node) in banner and f"http://{cluster.console(node)}/" in banner
    good("tree", "create", "/three", "x", "--server", cluster.address(1))
    status = json.loads(good("cluster", "status", "--json", "--console", cluster.console(1)))
    tree = next(s for core in status for s in core["shards"] if s["name"] == "tree")
    nodes = [json.loads(good("cluster", "status", "--json", "--console", cluster.console(n)))[0]["node"] for n in (1, 2, 3)]
    leading = nodes.index(tree["leader"]) + 1
    victim = node_process(cluster.process.pid, leading)
    os.kill(victim, signal.SIGKILL)
    others = ",".join(cluster.address(n) for n in (1, 2, 3) if n != leading)
    eventually(lambda: good("tree", "set", "/three", "y", "--server", others) is not None, 10)
    eventually(lambda: good("tree", "get", "/three", "--server", cluster.address(leading)).rstrip() == "y", 20)
    pids = [node_process(cluster.process.pid, n) for n in (1, 2, 3)]
    assert cluster.ctrl_c() == 0
    assert not any(process_alive(pid) for pid in pids)


def test_dev_killed_takes_its_nodes_with_it(dev):
    cluster = dev(nodes=3)
    cluster.banner()
    pids = [node_process(cluster.process.pid, n) for n in (1, 2, 3)]
    cluster.process.kill()
    cluster.process.wait(10)
    eventually(lambda: not any(process_alive(pid) for pid in pids), 15)


def node_process(parent, node):
    """The process id of a node of `althing dev --nodes 3`."""
    for entry in os.listdir("/proc"):
        try:
            stat = open(f"/proc/{entry}/stat").read().rsplit(") ", 1)[1].split()
            if int(stat[1]) == parent and f"node-{node}/" in open(f"/proc/{entry}/cmdline").read():
                return int(entry)
        except (OSError, IndexError, ValueError):
            continue
    raise AssertionError(f"no process of node {node} below {parent}")


# althing cluster


def status_of(server):
    return json.loads(good("cluster", "status", "--json", "--console", server.console_address))


def test_cluster_status_tells_members_shards_and_leader(three):
    text = good("cluster", "status", "--console", three[0].console_address)
    for server in three.servers:
        assert server.peer_address in text
    for word in ("meta", "tree", "LEADER", "TERM", "POOL", "a majority"):
        assert word in text
    first = status_of(three[0])[0]
    assert first["phase"] == "serving" and first["ready"] is True
    assert len(first["members"]) == 3 and all(m["state"] == "member" for m in first["members"])


def test_cluster_transfer_leader_moves_it_and_sessions_stay(three):
    raw = Raw(three[0].address).connect(timeout_ms=10_000)
    raw.create("/moved", mode=z.EPHEMERAL)
    for _ in range(3):
        to = three.follower()
        good("cluster", "transfer-leader", "tree", three[to].peer_address, "--console", three[0].console_address)
        eventually(lambda to=to: three.leader() == to, 10)
        assert raw.exists("/moved").ephemeral_owner == raw.session
    raw.close()


def test_cluster_snapshot_is_taken(three):
    with Raw(three[1].address).connect() as raw:
        raw.create("/snapshot")
        for i in range(50):
            raw.set("/snapshot", b"%d" % i)
        raw.close()
    before = three[1].shard("tree")["snapshot"]
    good("cluster", "snapshot", "tree", "--console", three[1].console_address)
    eventually(lambda: three[1].shard("tree")["snapshot"] > before, 15)


def test_cluster_orders_that_cannot_be_done_say_why(three):
    console = three[0].console_address
    assert refused("cluster", "transfer-leader", "tree", "127.0.0.1:1", "--console", console).strip()
    assert refused("cluster", "transfer-leader", "nosuch", three[0].peer_address, "--console", console).strip()
    assert refused("cluster", "leave", "127.0.0.1:1", "--console", console).strip()
    err = refused("cluster", "status", "--console", f"127.0.0.1:{free_port()}")
    assert "127.0.0.1" in err


@pytest.mark.timeout(240)
def test_cluster_grows_to_four_and_shrinks_again(fresh_three, tmp_path):
    cluster = fresh_three
    with Raw(cluster[0].address).connect() as raw:
        raw.create("/members")
        for i in range(200):
            raw.create(f"/members/{i}", b"x" * 100)
        raw.close()
    fourth = Althing(4, tmp_path / "a4", {})
    fourth.configure([])
    try:
        fourth.start()
        eventually(lambda: fourth.http("/healthz")[0] == 200, 20)
        assert fourth.http("/readyz")[0] != 200, "ready before it joined"
        good("cluster", "join", cluster[0].peer_address, "--console", fourth.console_address)
        eventually(lambda: fourth.http("/readyz")[0] == 200, 60)
        with Raw(fourth.address).connect() as raw:
            raw.sync("/members")
            assert len(raw.children("/members")) == 200
            raw.create("/members/of-four")
            raw.close()
        assert len(status_of(cluster[0])[0]["members"]) == 4
        gone = cluster.leader()
        asked = next(server for i, server in enumerate(cluster.servers) if i != gone)
        good("cluster", "leave", cluster[gone].peer_address, "--console", asked.console_address)
        eventually(lambda: len(status_of(asked)[0]["members"]) == 3, 60)
        with Raw(fourth.address).connect() as raw:
            raw.sync("/members")
            raw.set("/members/of-four", b"after one left")
            raw.close()
    finally:
        fourth.kill()


# althing tree


def test_tree_commands_do_what_they_say(one):
    at = ("--server", one[0].address)
    assert good("tree", "create", "/cli", "hello", *at).strip() == "/cli"
    assert good("tree", "get", "/cli", *at).rstrip("\n") == "hello"
    good("tree", "set", "/cli", "-", *at, stdin="from standard input")
    assert good("tree", "get", "/cli", *at).rstrip("\n") == "from standard input"
    good("tree", "set", "/cli", "x", "--version", "1", *at)
    assert "version" in refused("tree", "set", "/cli", "x", "--version", "1", *at).lower()
    names = [good("tree", "create", "/cli/n-", "--sequential", *at).strip() for _ in range(2)]
    assert good("tree", "ls", "/cli", *at).split() == [name.rsplit("/", 1)[1] for name in names]
    assert "/cli/n-0000000001" in good("tree", "ls", "/", "--recursive", *at).split()
    stat = good("tree", "stat", "/cli", *at)
    assert "2" in stat and "version" in stat.lower()
    assert "/cli" in refused("tree", "rm", "/cli", *at)
    good("tree", "rm", "/cli", "--recursive", *at)
    assert "/cli" in refused("tree", "get", "/cli", *at)
    assert "path" in refused("tree", "get", "no-slash", *at).lower()


def test_tree_watch_prints_changes_and_lives_through_a_restart(three, tmp_path):
    printed = tmp_path / "watch.txt"
    with open(printed, "wb") as out:
        watching = subprocess.Popen(
            [BIN, "tree", "watch", "/", "--server", three.hosts], stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:

        def saw(path):
            return path in printed.read_text()

        eventually(lambda: saw("watching"))
        good("tree", "create", "/watched", "--server", three.hosts)
        eventually(lambda: saw("/watched"))
        for i, server in enumerate(three.servers):
            server.kill()
            server.start()
            # Without waiting: the watching session may be on its way to another server, and still tells it.
            eventually(lambda i=i: good("tree", "create", f"/watched/after-{i}", "--server", three.hosts))
            eventually(lambda i=i: saw(f"/watched/after-{i}"), 30)
    finally:
        watching.kill()
        watching.wait(10)


# althing config check


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('data = "x"\ncorse = 2\n', "cores"),
        ('data = "x"\n[listen]\nzookeeper = "0.0.0.0:2181"\n', "insecure"),
        ('data = "x"\ncores = 0\n', "cores"),
        ('data = \n', "line 1"),
        ('data = "x"\ninitial_members = ["127.0.0.1:9"]\n', "itself"),
    ],
)
def test_config_check_says_what_is_wrong(tmp_path, text, said):
    file = tmp_path / "althing.toml"
    file.write_text(text)
    assert said in refused("config", "check", str(file))
    assert said in refused("serve", "--config", str(file))


def test_config_check_accepts_what_serve_accepts(one):
    assert one[0].address in good("config", "check", str(one[0].directory / "althing.toml"))


# The console


@pytest.mark.parametrize(
    "page", ["/", "/members", "/shards", "/sessions", "/tree", "/tree?path=/zookeeper", "/cache", "/keys", "/keys?db=99", "/topics"]
)
def test_console_pages_load_nothing_from_elsewhere(three, page):
    for server in three.servers:
        code, body = server.http(page)
        assert code == 200
        assert "<html" in body and "</html>" in body
        elsewhere = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(https?:)?//""", body)
        assert not elsewhere, f"{page} refers to another machine"


def test_console_unknown_page_is_404(one):
    assert one[0].http("/nosuch")[0] == 404


def test_console_tree_shows_data_escaped(one):
    with Raw(one[0].address).connect() as raw:
        raw.create("/page", b"<script>alert(1)</script>")
        raw.close()
    code, body = one[0].http("/tree?path=/page")
    assert code == 200
    assert "<script>alert(1)" not in body and "&lt;script&gt;" in body


def test_console_cache_shows_keys_clients_and_what_durability_risks(redis_one):
    with redis_one.client() as client:
        client.flushall()
        client.set("shown:text", "<script>alert(1)</script>", px=90_000)
        client.zadd("shown:zset", {"one": 1.5, "two": 2})
        client.rpush("shown:list", *(f"element{i}" for i in range(50)))
        client.set(b"shown:\xff", b"\x00\xfe")
        client.set("hidden", 1)
        with redis_one.client(db=3) as other:
            other.set("elsewhere", 1)
        server = redis_one.cluster.servers[0]
        cache = status_of(server)[0]["cache"]
        assert cache["keys"] == 6 and cache["ending"] == 1 and cache["clients"] >= 1
        body = server.http("/cache")[1]
        assert "/keys?db=0" in body and "/keys?db=3" in body
        assert "Nothing answered is lost while a majority" in body
        metrics = server.http("/metrics")[1]
        assert 'althing_cache_keys{database="0"} 5' in metrics
        assert re.search(r"^althing_cache_clients [1-9]", metrics, re.M)
    page = json.loads(server.http("/v1/keys?prefix=shown:")[1])
    rows = {row["key"]: row for row in page["keys"]}
    assert sorted(rows) == ["shown:\\xff", "shown:list", "shown:text", "shown:zset"] and page["next"] == 0
    assert 0 < rows["shown:text"]["ttl_ms"] <= 90_000 and rows["shown:list"]["ttl_ms"] is None
    assert (rows["shown:zset"]["kind"], rows["shown:zset"]["size"], rows["shown:zset"]["value"]) == ("zset", 2, "one: 1.5, two: 2")
    assert rows["shown:list"]["size"] == 50 and rows["shown:list"]["value"].startswith("element0, element1")
    assert len(rows["shown:list"]["value"]) < 250
    assert rows["shown:\\xff"]["value"] == "\0\\xfe"
    body = server.http("/keys?prefix=shown:t")[1]
    assert "shown:text" in body and "shown:zset" not in body
    assert "<script>alert(1)" not in body and "&lt;script&gt;" in body
    assert "elsewhere" in server.http("/keys?db=3")[1]
    assert server.http("/v1/keys?db=16")[0] == 409 and server.http("/v1/keys?shard=meta")[0] == 409


def test_healthz_and_readyz_answer(three):
    for server in three.servers:
        assert server.http("/healthz")[0] == 200
        # On a busy machine an election may be under way.
        eventually(lambda server=server: server.http("/readyz")[0] == 200)


def test_readyz_without_majority_is_not_ready(fresh_three):
    keep = fresh_three.follower()
    for i in range(3):
        if i != keep:
            fresh_three.kill(i)
    eventually(lambda: fresh_three[keep].http("/readyz")[0] != 200, 20)
    assert fresh_three[keep].http("/healthz")[0] == 200
    for i in range(3):
        if i != keep:
            fresh_three[i].start()
    fresh_three.wait_ready()
    eventually(lambda: fresh_three[keep].http("/readyz")[0] == 200, 20)


def test_metrics_parse_and_count(one):
    def metrics():
        code, body = one[0].http("/metrics")
        assert code == 200
        values, families = {}, set()
        for line in body.splitlines():
            if line.startswith("# TYPE "):
                families.add(line.split()[2])
                continue
            if line.startswith("#") or not line:
                continue
            match = re.fullmatch(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-z_]+=\"[^\"]*\",?)*\})? ([0-9.eE+-]+|NaN|\+Inf)", line)
            assert match, f"not Prometheus' text form: {line!r}"
            name = re.sub(r"_(bucket|sum|count)$", "", match[1])
            assert name in families or match[1] in families, f"{match[1]} has no TYPE"
            values[match[1] + (match[2] or "")] = float(match[3])
        return values

    before = metrics()
    with Raw(one[0].address).connect() as raw:
        raw.create("/metrics", b"x")
        for _ in range(10):
            raw.get("/metrics")
            raw.set("/metrics", b"y")
        assert raw.delete("/nosuch") == z.NO_NODE
        raw.close()
    time.sleep(0.2)
    after = metrics()
    for name, least in (("reads", 10), ("writes", 11), ("errors", 1), ("sessions_opened", 1)):
        key = f"althing_{name}_total"
        assert after[key] - before[key] >= least, f"{key}: {before[key]} to {after[key]}"
    buckets = [v for k, v in after.items() if k.startswith("althing_request_duration_seconds_bucket")]
    assert buckets == sorted(buckets), "histogram buckets go down"


def test_disk_nearly_full_refuses_what_adds_and_says_so_everywhere(tmp_path_factory):
    cluster = Cluster(1, tmp_path_factory.mktemp("disk"), disk_free_min_percent=0, redis=True)
    server = cluster[0]
    host, port = server.redis_address.split(":")

    def cache(*arguments):
        with Resp((host, int(port))) as connection:
            return connection.call(*arguments)

    def restart(percent):
        """With 100 every disk is nearly full, with 0 none ever is."""
        assert server.terminate() == 0
        server.options["disk_free_min_percent"] = percent
        server.write_config()
        server.start()
        cluster.wait_ready()

    try:
        cluster.start()
        with Raw(server.address).connect() as raw:
            for path in ("/keep", "/doomed"):
                raw.create(path, b"x")
            raw.close()
        assert eventually(lambda: cache("SET", "keep", "1")) == "OK"
        restart(100)
        eventually(lambda: server.status()[0]["additions_refused"])
        with Raw(server.address).connect() as raw:
            assert raw.call(z.CREATE, z.create_body("/new")).err == z.SYSTEM_ERROR
            assert raw.call(z.SET_DATA, z.s("/keep") + z.buf(b"y") + z.i32(-1)).err == z.SYSTEM_ERROR
            parts = [(z.DELETE, z.s("/keep") + z.i32(-1)), (z.CREATE, z.create_body("/new"))]
            assert raw.call(z.MULTI, z.multi_body(parts)).err == z.SYSTEM_ERROR
            assert raw.get("/keep")[0] == b"x"
            assert raw.delete("/doomed") == z.OK
            assert raw.ping() == z.OK
            assert raw.close() == z.OK
        assert cache("SET", "new", "1").startswith("MISCONF the disk is nearly full")
        assert cache("GET", "keep") == b"1" and cache("DEL", "keep") == 1
        console = ("--console", server.console_address)
        assert "nearly full" in refused("tree", "create", "/new", "x", "--server", server.address)
        assert "writes that add data are refused" in good("cluster", "status", *console)
        assert "disk nearly full" in server.http("/")[1]
        assert "the disk is nearly full" in server.log.read_text()
        assert server.http("/readyz")[0] == 200
        metrics = server.http("/metrics")[1].splitlines()
        assert "althing_disk_low 1" in metrics and "althing_additions_refused 1" in metrics

        restart(0)
        with Raw(server.address).connect() as raw:
            assert raw.create("/new", b"x") == "/new"
            raw.close()
        assert "althing_disk_low 0" in server.http("/metrics")[1].splitlines()
        assert "disk nearly full" not in server.http("/")[1]
    finally:
        cluster.end()


def test_first_write_of_a_new_node_survives_a_kill_at_once(tmp_path_factory):
    for attempt in range(4):
        cluster = Cluster(1, tmp_path_factory.mktemp("first"))
        try:
            cluster.start()
            with Raw(cluster[0].address).connect() as raw:
                raw.create("/first", b"x")
                cluster.kill(0)
            cluster[0].start()
            cluster.wait_ready()
            with Raw(cluster[0].address).connect() as raw:
                assert raw.get("/first")[0] == b"x", f"lost in attempt {attempt}"
                raw.close()
        finally:
            cluster.end()


def test_serve_stops_in_order_when_asked(tmp_path_factory):
    cluster = Cluster(1, tmp_path_factory.mktemp("stop"))
    try:
        cluster.start()
        assert cluster[0].terminate() == 0, cluster[0].log_tail()
    finally:
        cluster.end()
