"""Services, with clients made for Consul (py-consul) and for DNS (dnspython)."""

import http.server
import socket
import threading
import time

import consul
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from raw import eventually
from servers import Althing, Cluster, ask_http

pytestmark = pytest.mark.althing_only


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    cluster = Cluster(3, tmp_path_factory.mktemp("services"), dns=True)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


@pytest.fixture
def fresh_nodes(tmp_path_factory):
    """Nodes that a test may kill."""
    cluster = Cluster(3, tmp_path_factory.mktemp("services"), dns=True)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


def client(node):
    host, port = node.console_address.split(":")
    return consul.Consul(host=host, port=int(port))


def ask(node, name, kind="A", tcp=False, **options):
    """The answer of a node's DNS."""
    question = dns.message.make_query(name, kind, **options)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(question, "127.0.0.1", port=node.dns_port, timeout=5)


def addresses(node, name, **options):
    """IP addresses in the answer, sorted."""
    answer = ask(node, name, **options)
    return sorted(str(item) for rrset in answer.answer for item in rrset)


def healthy(node, name, **options):
    """Ids of the instances that pass their checks."""
    _, found = client(node).health.service(name, passing=True, **options)
    return sorted(each["Service"]["ID"] for each in found)


class Web:
    """A service with an HTTP server, which a test can end."""

    def __init__(self):
        self.code, self.asked = 200, 0
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                web.asked += 1
                self.send_response(web.code)
                self.end_headers()
                self.wfile.write(b"state of the service")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/health"

    def kill(self):
        self.server.shutdown()
        self.server.server_close()


# --- registering and asking ---


def test_service_registered_at_one_node_is_found_at_all_and_gone_when_deregistered(nodes):
    one = client(nodes[0])
    one.agent.service.register(
        "shop", service_id="shop-1", address="10.1.0.1", port=80, tags=["blue", "v1"], meta={"zone": "a"}
    )
    for node in nodes:
        _, found = client(node).catalog.service("shop")
        (shop,) = found
        assert (shop["ServiceID"], shop["ServiceAddress"], shop["ServicePort"]) == ("shop-1", "10.1.0.1", 80)
        assert shop["ServiceTags"] == ["blue", "v1"] and shop["ServiceMeta"] == {"zone": "a"}
        assert client(node).catalog.services()[1]["shop"] == ["blue", "v1"]
        assert healthy(node, "shop") == ["shop-1"]
        assert healthy(node, "shop", tag="blue") == ["shop-1"] and healthy(node, "shop", tag="red") == []
        assert client(node).agent.services()["shop-1"]["Port"] == 80
    client(nodes[2]).agent.service.deregister("shop-1")
    for node in nodes:
        assert client(node).catalog.service("shop")[1] == []
        assert "shop" not in client(node).catalog.services()[1]


def test_members_are_the_nodes_and_the_leader_is_one_of_them(nodes):
    one = client(nodes[0])
    _, found = one.catalog.nodes()
    assert len(found) == 3 and {each["Address"] for each in found} == {"127.0.0.1"}
    assert one.status.leader() in one.status.peers()
    assert sorted(one.status.peers()) == sorted(node.peer_address for node in nodes)
    assert one.catalog.datacenters() == ["dc1"]
    assert one.agent.self()["Config"]["Datacenter"] == "dc1"


def test_check_with_a_ttl_says_what_it_is_told_at_any_node(nodes):
    first, second = client(nodes[0]), client(nodes[1])
    first.agent.service.register("told", check=consul.Check.ttl("60s"))
    assert healthy(nodes[2], "told") == []
    second.agent.check.ttl_pass("service:told", "all is well")
    assert healthy(nodes[2], "told") == ["told"]
    (check,) = client(nodes[2]).health.checks("told")[1]
    assert (check["Status"], check["Output"], check["CheckID"]) == ("passing", "all is well", "service:told")
    first.agent.check.ttl_warn("service:told")
    assert [c["CheckID"] for c in second.health.state("warning")[1]] == ["service:told"]
    first.agent.check.ttl_fail("service:told")
    assert healthy(nodes[2], "told") == []
    assert second.agent.checks()["service:told"]["Status"] == "critical"
    first.agent.check.register("second", check=consul.Check.ttl("60s"), service_id="told")
    assert len(second.health.checks("told")[1]) == 2
    first.agent.check.deregister("second")
    assert len(second.health.checks("told")[1]) == 1
    first.agent.service.deregister("told")
    assert second.agent.checks() == {}


def test_bad_requests_are_refused_with_what_was_wrong(nodes):
    one = client(nodes[0])
    for method, path, body, code, says in [
        ("PUT", "/v1/agent/service/register", "{", 400, "decode"),
        ("PUT", "/v1/agent/service/register", "{}", 400, "name"),
        ("PUT", "/v1/agent/service/register", '{"Name": "x", "Check": {"Args": ["ls"]}}', 400, "Args"),
        ("PUT", "/v1/agent/service/deregister/nobody", "", 404, "nobody"),
        ("PUT", "/v1/agent/check/pass/nobody", "", 404, "nobody"),
        ("GET", "/v1/health/state/fine", "", 400, "passing"),
        ("GET", "/v1/health/service/x?index=a", "", 400, "index"),
        ("GET", "/v1/health/service/x?index=1&wait=soon", "", 400, "wait"),
        ("GET", "/v1/health/service/x?dc=other", "", 400, "dc1"),
        # 404 would tell a client that there is no such key.
        ("GET", "/v1/kv/a/b?recurse", "", 501, "/v1/kv/a/b is not there"),
        ("PUT", "/v1/session/create", "{}", 501, "the tree"),
    ]:
        answer = raw(nodes[0], method, path, body)
        assert answer[0] == code and says in answer[1], (path, answer)
    one.agent.service.register("looks", check=consul.Check.tcp("127.0.0.1", 1, "60s"))
    answer = raw(nodes[0], "PUT", "/v1/agent/check/pass/service:looks", "")
    assert answer[0] == 400 and "TTL" in answer[1]
    one.agent.service.deregister("looks")


def raw(node, method, path, body):
    code, _, answer = ask_http(node.console_address, method, path, body, timeout=10)
    return code, answer.decode()


# --- blocking queries ---


def test_blocking_query_is_answered_when_its_service_changes_and_not_before(nodes):
    one, other = client(nodes[0]), client(nodes[1])
    one.agent.service.register("watched", service_id="w1", check=consul.Check.ttl("60s"))
    one.agent.check.ttl_pass("service:w1", "first words")
    index, _ = other.health.service("watched", passing=True)
    answered = []

    def wait():
        answered.append(client(nodes[1]).health.service("watched", passing=True, index=index, wait="30s"))

    thread = threading.Thread(target=wait)
    thread.start()
    one.agent.service.register("unrelated")
    one.agent.check.ttl_pass("service:w1", "other words")
    time.sleep(1)
    assert answered == [], "neither another service nor other words are a change"
    one.agent.check.ttl_fail("service:w1")
    thread.join(20)
    ((later, found),) = answered
    assert int(later) > int(index) and found == []
    one.agent.service.deregister("w1")
    one.agent.service.deregister("unrelated")


def test_blocking_query_whose_time_is_over_is_answered_as_it_is(nodes):
    one = client(nodes[0])
    one.agent.service.register("quiet")
    index, before = one.catalog.service("quiet")
    assert one.catalog.service("quiet", index=index, wait="1s") == (index, before)
    one.agent.service.deregister("quiet")


# --- DNS ---


def test_dns_says_where_instances_are_over_udp_and_tcp(nodes):
    one = client(nodes[0])
    for i in (1, 2):
        one.agent.service.register("mail", service_id=f"m{i}", address=f"10.2.0.{i}", port=2500 + i, tags=[f"t{i}"])
    one.agent.service.register("mail", service_id="m3", address="fd00::3", port=2503)
    for node in nodes:
        for tcp in (False, True):
            assert addresses(node, "mail.service.althing", tcp=tcp) == ["10.2.0.1", "10.2.0.2"]
        assert addresses(node, "MAIL.Service.Consul") == ["10.2.0.1", "10.2.0.2"]
        assert addresses(node, "t2.mail.service.althing") == ["10.2.0.2"]
        assert addresses(node, "mail.service.althing", kind="AAAA") == ["fd00::3"]
    answer = ask(nodes[1], "_mail._t1.service.althing", "SRV")
    (srv,) = answer.answer[0]
    assert srv.port == 2501 and answer.answer[0].ttl == 0
    assert answer.additional[0].name == srv.target
    assert [str(a) for a in answer.additional[0]] == ["10.2.0.1"]
    assert addresses(nodes[0], str(srv.target)) == ["10.2.0.1"]
    for i in (1, 2, 3):
        one.agent.service.deregister(f"m{i}")
    assert ask(nodes[2], "mail.service.althing").rcode() == dns.rcode.NXDOMAIN


def test_dns_answers_are_cut_over_udp_and_whole_over_tcp(nodes):
    one = client(nodes[0])
    for i in range(60):
        one.agent.service.register("large", service_id=f"l{i}", address=f"10.3.0.{i}")
    answer = ask(nodes[0], "large.service.althing", use_edns=False)
    assert answer.flags & dns.flags.TC and 10 < len(answer.answer[0]) < 60
    assert len(addresses(nodes[0], "large.service.althing", tcp=True)) == 60
    assert len(addresses(nodes[0], "large.service.althing", use_edns=0, payload=4096)) == 60
    firsts = {str(ask(nodes[0], "large.service.althing", tcp=True).answer[0][0]) for _ in range(10)}
    assert len(firsts) > 1, "the order is another each time"
    for i in range(60):
        one.agent.service.deregister(f"l{i}")


def test_dns_refuses_foreign_names_and_drops_what_is_no_question(nodes):
    assert ask(nodes[0], "example.com").rcode() == dns.rcode.REFUSED
    answer = ask(nodes[0], "nothing.service.althing")
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert answer.authority[0].rdtype == dns.rdatatype.SOA
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        for junk in (b"", b"junk", b"\xff" * 512, bytes(12)):
            sock.sendto(junk, ("127.0.0.1", nodes[0].dns_port))
            with pytest.raises(TimeoutError):
                sock.recv(512)
    metrics = nodes[0].http("/metrics")[1]
    (line,) = [line for line in metrics.splitlines() if line.startswith("althing_dns_malformed_total")]
    assert int(line.split()[1]) >= 3


# --- what dies ---


@pytest.mark.parametrize("kind", ["http", "tcp", "ttl"])
def test_service_that_dies_leaves_dns_the_api_and_watchers_within_its_time(nodes, kind):
    """Mission M1: kill a registered service."""
    web, one = Web(), client(nodes[0])
    check = {
        "http": lambda: consul.Check.http(web.url, "500ms", timeout="500ms"),
        "tcp": lambda: consul.Check.tcp("127.0.0.1", web.port, "500ms", timeout="500ms"),
        "ttl": lambda: consul.Check.ttl("1s"),
    }[kind]()
    name = f"mortal-{kind}"
    one.agent.service.register(name, address="127.0.0.1", port=web.port, check=check)
    beats = threading.Event()

    def beat():
        while not beats.wait(0.3):
            one.agent.check.ttl_pass(f"service:{name}")

    if kind == "ttl":
        threading.Thread(target=beat, daemon=True).start()
    eventually(lambda: healthy(nodes[1], name) == [name], 10)
    time.sleep(2)
    assert healthy(nodes[1], name) == [name] and addresses(nodes[2], f"{name}.service.althing") == ["127.0.0.1"]
    index, _ = client(nodes[2]).health.service(name, passing=True)
    seen = []

    def watch():
        _, found = client(nodes[2]).health.service(name, passing=True, index=index, wait="60s")
        seen.append((time.monotonic(), found))

    watcher = threading.Thread(target=watch)
    watcher.start()
    killed = time.monotonic()
    beats.set()
    web.kill()
    watcher.join(30)
    ((heard, found),) = seen
    assert found == []
    for node in nodes:
        assert healthy(node, name) == [] and addresses(node, f"{name}.service.althing") == []
    print(f"{kind}: gone after {heard - killed:.2f} s")
    one.agent.service.deregister(name)


def test_critical_service_is_removed_after_its_time(nodes):
    one = client(nodes[0])
    one.agent.service.register(
        "doomed", check={"ttl": "1s", "deregister_critical_service_after": "2s", "status": "passing"}
    )
    assert healthy(nodes[1], "doomed") == ["doomed"]
    eventually(lambda: client(nodes[1]).catalog.service("doomed")[1] == [], 20)


def test_nothing_healthy_is_dropped_when_its_node_and_then_the_leader_die(fresh_nodes):
    web, name = Web(), "lasting"
    followers = [node for node in fresh_nodes if node.mode() == "follower"]
    home = followers[0]
    client(home).agent.service.register(
        name, address="127.0.0.1", port=web.port, check=consul.Check.http(web.url, "300ms", timeout="1s")
    )
    eventually(lambda: healthy(home, name) == [name], 10)
    home.kill()
    alive = [node for node in fresh_nodes if node is not home]
    until = time.monotonic() + 6
    while time.monotonic() < until:
        assert healthy(followers[1], name) == [name]
        time.sleep(0.1)
    asked = web.asked
    eventually(lambda: web.asked > asked, 10)
    web.code = 500
    eventually(lambda: healthy(alive[0], name) == [], 10)
    web.code = 200
    eventually(lambda: healthy(alive[0], name) == [name], 10)
    home.start()
    eventually(lambda: home.mode() == "follower", 30)
    leader = next(node for node in fresh_nodes if node.mode() == "leader")
    leader.kill()
    alive = [node for node in fresh_nodes if node is not leader]
    until, answers = time.monotonic() + 6, 0
    while time.monotonic() < until:
        try:
            found = healthy(alive[0], name)
        except consul.base.ConsulException:
            continue  # While nobody leads.
        assert found == [name]
        answers += 1
        time.sleep(0.05)
    assert answers > 10
    web.kill()
    eventually(lambda: healthy(alive[0], name) == [] and addresses(alive[1], f"{name}.service.althing") == [], 15)
