"""Global transactions by DTM's interface, with the client made for DTM (dtmcli), services that are processes of their
own, and a database each: SQLite for one, Postgres (where Debian's is installed) for the other and for XA."""

import contextlib
import http.server
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
from dtmcli import barrier as dtm_barrier
from dtmcli import msg, saga, tcc, utils

import barrier
from postgres import Postgres, programs
from raw import eventually
from servers import BIN, Cluster, free_port
from transfer_service import ACCOUNTS, FUNDS, Database

pytestmark = pytest.mark.althing_only

HERE = Path(__file__).resolve().parent
needs_postgres = pytest.mark.skipif(programs() is None, reason="Debian's package postgresql is not installed")


class Service:
    """A process of transfer_service.py."""

    def __init__(self, where):
        self.where, self.port, self.process = where, free_port(), None
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = Database(where)
        self.database.prepare()

    def start(self):
        command = [sys.executable, str(HERE / "transfer_service.py"), str(self.port), self.where]
        self.process = subprocess.Popen(command, cwd=HERE)
        return self

    def answers(self):
        with contextlib.suppress(OSError):
            requests.get(f"{self.url}/check", params={"gid": "nobody"}, timeout=2)
            return True

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    cluster = Cluster(3, tmp_path_factory.mktemp("global"), dtm=True)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def postgres():
    if programs() is None:
        yield None
        return
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.end()


@contextlib.contextmanager
def two_services(folder, postgres, name):
    """One on SQLite, one on Postgres if there is one."""
    other = postgres.create(name) if postgres else str(folder / "other.sqlite")
    services = [Service(str(folder / "one.sqlite")), Service(other)]
    try:
        for service in services:
            service.start()
        for service in services:
            eventually(service.answers, 60)
        yield services
    finally:
        for service in services:
            service.kill()


@pytest.fixture(scope="module")
def services(tmp_path_factory, postgres):
    with two_services(tmp_path_factory.mktemp("services"), postgres, "one") as both:
        yield both


def api(node):
    return f"http://{node.dtm_address}/api/dtmsvr"


def transaction(node, gid):
    answer = requests.get(f"{api(node)}/query", params={"gid": gid}, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def status(node, gid):
    return transaction(node, gid)["transaction"]["status"]


def has_ended(node, gid):
    return status(node, gid) in ("succeed", "failed")


def money(services):
    """The money of both, and what is reserved."""
    sums = [service.database.sum() for service in services]
    return sum(balance for balance, _ in sums), sum(held for _, held in sums)


def balance(service, account):
    with service.database.transaction() as cursor:
        cursor.execute(f"SELECT balance FROM account WHERE id = {account}")
        return cursor.fetchone()[0]


WHOLE = (2 * ACCOUNTS * FUNDS, 0)


# ---- DTM's client, as it is ---------------------------------------------------------------------


def test_saga_of_dtmcli_is_done_or_undone_in_both_databases(nodes, services):
    url = api(nodes[0])
    for account, amount, ends in [(0, 70, "succeed"), (1, FUNDS + 1, "failed")]:
        before = [balance(service, account) for service in services]
        gid = utils.gen_gid(url)
        transfer = saga.Saga(url, gid)
        transfer.trans_base.wait_result = True
        # What comes in comes first, so that the second step's refusal has something to undo.
        transfer.add({"account": account, "amount": amount}, f"{services[1].url}/do", f"{services[1].url}/undo")
        transfer.add({"account": account, "amount": -amount}, f"{services[0].url}/do", f"{services[0].url}/undo")
        if ends == "succeed":
            transfer.submit()
        else:
            with pytest.raises(utils.DTMFailureError):
                transfer.submit()
        eventually(lambda: status(nodes[2], gid) == ends)
        moved = amount if ends == "succeed" else 0
        assert [balance(service, account) for service in services] == [before[0] - moved, before[1] + moved]
        ops = {(b["branch_id"], b["op"]): b["status"] for b in transaction(nodes[1], gid)["branches"]}
        assert ops["02", "action"] == ends, ops
        assert ops["01", "compensate"] == ("succeed" if ends == "failed" else "prepared"), ops
    assert money(services) == WHOLE


def test_tcc_of_dtmcli_confirms_or_cancels_everywhere(nodes, services):
    url = api(nodes[1])
    for amount, ends in [(30, "succeed"), (FUNDS + 1, "failed")]:
        gid = utils.gen_gid(url)

        def branches(transfer, amount=amount):
            for service, change in zip(services, (amount, -amount)):
                base = f"{service.url}/do"
                transfer.call_branch({"account": 2, "amount": change}, base, base, base)

        assert tcc.tcc_global_transaction(url, gid, branches) == (gid if ends == "succeed" else "")
        eventually(lambda: status(nodes[0], gid) == ends)
        assert money(services) == WHOLE


def test_message_of_dtmcli_follows_its_senders_transaction(nodes, services):
    url = api(nodes[2])
    sender, receiver = services

    def local(amount):
        def run(branch):
            branch_of = {"trans_type": "msg", "gid": branch.gid, "branch_id": branch.branch_id, "op": branch.op}
            try:
                sender.database.handle(branch_of, {"account": 3, "amount": -amount})
            except barrier.Refused as refused:
                raise utils.DTMFailureError(str(refused)) from refused

        return run

    assert dtm_barrier.BranchBarrier  # the client has one of its own, for MySQL
    for amount, ends in [(5, "succeed"), (FUNDS + 1, "failed")]:
        gid = utils.gen_gid(url)
        sent = msg.Msg(url, gid).add({"account": 3, "amount": amount}, f"{receiver.url}/do")
        if ends == "succeed":
            sent.do_and_submit(f"{sender.url}/check", local(amount))
        else:
            with pytest.raises(utils.DTMFailureError):
                sent.do_and_submit(f"{sender.url}/check", local(amount))
        eventually(lambda: status(nodes[0], gid) == ends)
    assert money(services) == WHOLE


@pytest.mark.parametrize("committed", [True, False])
def test_message_whose_sender_died_is_asked_about(nodes, services, committed):
    url = api(nodes[0])
    sender, receiver = services
    gid = utils.gen_gid(url)
    sent = msg.Msg(url, gid).add({"account": 1, "amount": 7}, f"{receiver.url}/do")
    sent.trans_base.timeout_to_fail = 1
    sent.prepare(f"{sender.url}/check")
    branch = {"trans_type": "msg", "gid": gid, "branch_id": "00", "op": "msg"}
    if committed:
        sender.database.handle(branch, {"account": 1, "amount": -7})
    eventually(lambda: status(nodes[1], gid) == ("succeed" if committed else "failed"), 60)
    if not committed:
        # A sender that was only slow must not commit any more.
        with pytest.raises(barrier.Refused):
            sender.database.handle(branch, {"account": 1, "amount": -7})
    assert money(services) == WHOLE


def run_xa(url, gid, branches, options, commits=True):
    """As DTM's Go client does it: prepare; at each service register the branch and prepare its database; submit."""
    body = {"gid": gid, "trans_type": "xa", **options}
    requests.post(f"{url}/prepare", json=body, timeout=10).raise_for_status()
    done = True
    for number, (service, account, amount) in enumerate(branches, 1):
        branch = f"{number:02d}"
        registered = requests.post(
            f"{url}/registerBranch",
            json={"gid": gid, "trans_type": "xa", "branch_id": branch, "url": f"{service.url}/do"},
            timeout=10,
        )
        registered.raise_for_status()
        answer = requests.post(
            f"{service.url}/do",
            params={"gid": gid, "trans_type": "xa", "branch_id": branch, "op": "action"},
            json={"account": account, "amount": amount},
            timeout=10,
        )
        if answer.status_code != 200:
            done = False
            break
    decision = "submit" if done and commits else "abort"
    requests.post(f"{url}/{decision}", json=body, timeout=10).raise_for_status()
    return decision


@needs_postgres
def test_xa_commits_or_rolls_back_both_postgres_databases(nodes, postgres):
    services = [Service(postgres.create(name)).start() for name in ("xa_one", "xa_two")]
    try:
        for service in services:
            eventually(service.answers, 60)
        for amount, commits, ends in [(11, True, "succeed"), (12, False, "failed"), (FUNDS + 1, True, "failed")]:
            gid = utils.gen_gid(api(nodes[0]))
            branches = [(services[0], 0, amount), (services[1], 0, -amount)]
            run_xa(api(nodes[0]), gid, branches, {"retry_interval": 1}, commits)
            eventually(lambda: status(nodes[1], gid) == ends, 60)
            assert money(services) == WHOLE
            assert [service.database.prepared() for service in services] == [[], []]
        assert balance(services[0], 0) == FUNDS + 11
    finally:
        for service in services:
            service.kill()


# ---- people, and those who ask wrongly -----------------------------------------------------------


def test_bad_requests_are_answered_with_what_was_wrong(nodes):
    url = api(nodes[0])

    def post(path, body, **options):
        answer = requests.post(f"{url}/{path}", json=body, timeout=10, **options)
        return answer.status_code, answer.json().get("message") or answer.json().get("error")

    step = {"action": "http://127.0.0.1:1/"}
    cases = [
        ("submit", {"gid": "b", "trans_type": "workflow"}, 400, "workflow is not there"),
        ("submit", {"gid": "b", "trans_type": "saga", "steps": []}, 400, "at least one step"),
        ("submit", {"gid": "b", "trans_type": "saga", "steps": [{"action": "https://a/"}]}, 400, "only http://"),
        ("submit", {"gid": "", "trans_type": "saga", "steps": [step]}, 400, "a gid has"),
        ("submit", {"gid": "b", "trans_type": "saga", "steps": [step], "payloads": ["", ""]}, 400, "2 payloads"),
        ("submit", {"gid": "b", "trans_type": "tcc"}, 404, "no transaction"),
        ("submit", [1], 400, "not a transaction"),
        ("prepare", {"gid": "b", "trans_type": "msg"}, 400, "query_prepared"),
        ("registerBranch", {"gid": "b", "trans_type": "tcc", "branch_id": "01"}, 404, "no transaction"),
        ("abort", {"gid": "b"}, 400, "trans_type is missing"),
        ("forceStop", {}, 400, "gid is missing"),
        ("prepareWorkflow", {}, 501, "not there"),
    ]
    for path, body, code, words in cases:
        got, said = post(path, body)
        assert got == code and words in said, (path, body, got, said)
    answer = requests.post(f"{url}/submit", data="{}", timeout=10)
    assert answer.status_code == 415, "a page of another site could send this"
    assert requests.get(f"{url}/newGid", headers={"Host": "evil.example"}, timeout=10).status_code == 421
    assert requests.get(f"{url}/nothing", timeout=10).status_code == 404
    assert requests.get(f"{url}/query", timeout=10).status_code == 400
    assert requests.get(f"{url}/query?gid=nobody", timeout=10).json()["transaction"] is None
    assert requests.get(f"{url}/all?status=done", timeout=10).status_code == 400
    gid = utils.gen_gid(url)
    assert post("prepare", {"gid": gid, "trans_type": "tcc"}) == (200, None)
    assert post("prepare", {"gid": gid, "trans_type": "xa"})[0] == 409
    assert post("abort", {"gid": gid, "trans_type": "tcc"}) == (200, None)
    code, said = post("submit", {"gid": gid, "trans_type": "tcc"})
    assert code == 409 and "FAILURE" in said


@contextlib.contextmanager
def answering(code):
    """A service that answers with `code[0]` and remembers what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.command, self.path, dict(self.headers)))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(code[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def althing(node, *words):
    command = [BIN, "global", *words, "--server", node.dtm_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_call_that_is_never_answered_parks_its_transaction_until_a_person_resumes_it(nodes):
    code = [500]
    with answering(code) as (service, asked):
        gid = utils.gen_gid(api(nodes[0]))
        body = {
            "gid": gid,
            "trans_type": "msg",
            "steps": [{"action": f"{service}/do?a=1"}],
            "payloads": ["{}"],
            "retry_interval": 1,
            "retry_limit": 1,
            "wait_result": True,
            "branch_headers": {"X-Who": "me"},
        }
        answer = requests.post(f"{api(nodes[0])}/submit", json=body, timeout=30)
        assert (answer.status_code, answer.json()["dtm_result"]) == (425, "ONGOING")
        eventually(lambda: "parked" in transaction(nodes[1], gid)["transaction"], 60)
        told = transaction(nodes[1], gid)["transaction"]
        assert told["status"] == "submitted" and "2 times: HTTP 500" in told["parked"]
        assert [path for _, path, _ in asked] == [f"/do?a=1&gid={gid}&trans_type=msg&branch_id=01&op=action"] * 2
        assert asked[0][0] == "POST" and asked[0][2]["x-who"] == "me"
        assert gid in althing(nodes[0], "list", "--parked")[1]
        assert "HTTP 500" in althing(nodes[2], "show", gid)[1]
        # Pages show a node's own replica, which may be a little behind.
        eventually(lambda: gid in nodes[0].http("/globals")[1])
        assert "althing global retry" in nodes[0].http("/globals")[1]
        assert "althing_globals_parked 1" in nodes[0].http("/metrics")[1].splitlines()
        code[0] = 200
        assert althing(nodes[1], "retry", gid)[0] == 0
        eventually(lambda: status(nodes[0], gid) == "succeed", 60)
        assert gid not in althing(nodes[0], "list", "--parked")[1]
        done, words = althing(nodes[0], "stop", gid)
        assert done == 1 and "succeed" in words
        assert althing(nodes[0], "show", "nobody")[0] == 1


def test_list_goes_on_where_it_ended(nodes):
    with answering([200]) as (service, _):
        gids = sorted(f"list-{number}" for number in range(5))
        for gid in gids:
            body = {"gid": gid, "trans_type": "msg", "steps": [{"action": service}]}
            assert requests.post(f"{api(nodes[1])}/submit", json=body, timeout=10).status_code == 200
    found, position = [], "list-"
    while len(found) < 5:
        query = {"position": position, "limit": 2, "transType": "msg"}
        answer = requests.get(f"{api(nodes[2])}/all", params=query, timeout=10).json()
        found += [one["gid"] for one in answer["transactions"]]
        position = answer["next_position"]
    assert found[:5] == gids


# ---- under kills ---------------------------------------------------------------------------------

FAULT_SECONDS = 10
OPTIONS = {"timeout_to_fail": 4, "retry_interval": 1, "request_timeout": 2}


class Initiator(threading.Thread):
    """Transfers money between random accounts until told to stop; what is not known is left to the coordinator."""

    def __init__(self, number, cluster, services, kinds, ended):
        super().__init__(daemon=True)
        self.number, self.cluster, self.services, self.kinds, self.ended = number, cluster, services, kinds, ended
        self.random = random.Random(number)
        self.gids, self.surprises = [], []

    def run(self):
        while not self.ended.is_set():
            gid = f"t{self.number}-{len(self.gids)}"
            self.gids.append(gid)
            kind = self.random.choice(self.kinds)
            try:
                getattr(self, kind)(gid)
            except requests.RequestException:
                pass  # a node or a service is down: whether it was done is not known
            except Exception as error:  # noqa: BLE001 - told at the end
                self.surprises.append((gid, kind, repr(error)))
            time.sleep(0.02)

    def post(self, path, body):
        """At any node; 200 or 409, or an exception."""
        node = self.random.choice(self.cluster.servers)
        answer = requests.post(f"{api(node)}/{path}", json=body, timeout=5)
        if answer.status_code not in (200, 409, 503, 504):
            raise AssertionError(f"{path}: {answer.status_code} {answer.text}")
        if answer.status_code in (503, 504):
            raise requests.ConnectionError(answer.text)
        return answer.status_code == 200

    def sides(self):
        amount = self.random.randint(1, 400)
        out, into = self.random.sample(self.services, 2)
        pick = lambda: self.random.randrange(ACCOUNTS)  # noqa: E731
        return [(into, {"account": pick(), "amount": amount}), (out, {"account": pick(), "amount": -amount})]

    def saga(self, gid):
        sides = self.sides()
        self.random.shuffle(sides)
        steps = [{"action": f"{s.url}/do", "compensate": f"{s.url}/undo"} for s, _ in sides]
        payloads = [json.dumps(body) for _, body in sides]
        options = {**OPTIONS, "timeout_to_fail": self.random.choice([0, 4]), "concurrent": self.random.random() < 0.5}
        body = {"gid": gid, "trans_type": "saga", "steps": steps, "payloads": payloads, **options}
        # Whoever is not answered asks again, elsewhere, under the same gid.
        for _ in range(3):
            with contextlib.suppress(requests.RequestException):
                self.post("submit", body)
                return

    def tcc(self, gid):
        body = {"gid": gid, "trans_type": "tcc", **OPTIONS}
        self.post("prepare", body)
        decision = "submit"
        for number, (service, data) in enumerate(self.sides(), 1):
            branch = f"{number:02d}"
            url = f"{service.url}/do"
            registered = self.post(
                "registerBranch",
                {**body_of(gid, "tcc", branch), "data": json.dumps(data), "confirm": url, "cancel": url},
            )
            if not registered or not self.ask(service, gid, "tcc", branch, "try", data):
                decision = "abort"
                break
        self.post(decision, body)

    def msg(self, gid):
        (receiver, into), (sender, out) = self.sides()
        body = {
            "gid": gid,
            "trans_type": "msg",
            "steps": [{"action": f"{receiver.url}/do"}],
            "payloads": [json.dumps(into)],
            "query_prepared": f"{sender.url}/check",
            **OPTIONS,
        }
        self.post("prepare", body)
        decision = "submit" if self.ask(sender, gid, "msg", "00", "msg", out) else "abort"
        self.post(decision, body)

    def xa(self, gid):
        body = {"gid": gid, "trans_type": "xa", **OPTIONS}
        self.post("prepare", body)
        decision = "submit"
        service = next(s for s in self.services if s.database.is_postgres)
        amount = self.random.randint(1, 300)
        # Two branches of one database: each is a prepared transaction of its own.
        accounts = sorted(self.random.sample(range(ACCOUNTS), 2))
        for number, (account, change) in enumerate(zip(accounts, (amount, -amount)), 1):
            branch = f"{number:02d}"
            data = {"account": account, "amount": change}
            registered = self.post("registerBranch", {**body_of(gid, "xa", branch), "url": f"{service.url}/do"})
            if not registered or not self.ask(service, gid, "xa", branch, "action", data):
                decision = "abort"
                break
        self.post(decision, body)

    @staticmethod
    def ask(service, gid, kind, branch, op, data):
        """What the initiator asks of a service itself; False when it says no, an exception when nothing is known."""
        query = {"gid": gid, "trans_type": kind, "branch_id": branch, "op": op}
        answer = requests.post(f"{service.url}/do", params=query, json=data, timeout=5)
        if answer.status_code not in (200, 409):
            raise requests.ConnectionError(answer.text)
        return answer.status_code == 200


def body_of(gid, kind, branch):
    return {"gid": gid, "trans_type": kind, "branch_id": branch}


def kill_one_after_another(cluster, services, until, draw):
    """Kills and starts the leader, and a service, again and again; counts both."""
    leaders = restarts = 0
    while time.monotonic() < until:
        service = draw.choice(services)
        service.kill()
        restarts += 1
        time.sleep(draw.uniform(0.1, 0.6))
        service.start()
        if draw.random() < 0.7:
            leader = cluster.leader(60)
            cluster.kill(leader)
            leaders += 1
            time.sleep(draw.uniform(0.1, 0.8))
            cluster[leader].start()
            cluster.wait_ready([leader])
        time.sleep(draw.uniform(0.2, 0.8))
    return leaders, restarts


def test_m06_services_and_databases_under_kills_keep_the_sum_and_every_transaction_ends(tmp_path_factory, postgres):
    folder = tmp_path_factory.mktemp("kills")
    cluster = Cluster(3, folder / "nodes", dtm=True)
    kinds = ["saga", "tcc", "msg"] + (["xa"] if postgres else [])
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    print(f"SEED={seed}")
    try:
        cluster.start()
        with two_services(folder, postgres, "kills") as services:
            ended = threading.Event()
            initiators = [Initiator(seed + n, cluster, services, kinds, ended) for n in range(4)]
            for initiator in initiators:
                initiator.start()
            draw = random.Random(seed)
            kills = kill_one_after_another(cluster, services, time.monotonic() + FAULT_SECONDS, draw)
            ended.set()
            for initiator in initiators:
                initiator.join(60)
                assert not initiator.is_alive(), "an initiator hangs"
            cluster.wait_ready()
            for service in services:
                eventually(service.answers, 60)
            gids = {gid for initiator in initiators for gid in initiator.gids}
            outcomes = eventually(lambda: all_ended(cluster, gids), 120, 0.5)
            assert [initiator.surprises for initiator in initiators] == [[]] * 4
            assert money(services) == WHOLE, outcomes
            assert [service.database.prepared() for service in services] == [[], []]
            counts = {end: list(outcomes.values()).count(end) for end in ("succeed", "failed")}
            print(f"{kills[0]} leaders and {kills[1]} services killed, {counts} of {len(gids)}")
            assert kills[0] >= 1 and counts["succeed"] >= 5 and counts["failed"] >= 1, (kills, counts)
    finally:
        cluster.end()


def all_ended(cluster, gids):
    """How each ended that was ever begun; empty while some has not. Parked ones are resumed, as a person would."""
    outcomes, position = {}, ""
    while True:
        answer = requests.get(f"{api(cluster[0])}/all", params={"position": position, "limit": 500}, timeout=10).json()
        outcomes.update({one["gid"]: one for one in answer["transactions"]})
        position = answer["next_position"]
        if not position:
            break
    assert set(outcomes) <= gids
    for gid, one in outcomes.items():
        if "parked" in one:
            requests.post(f"{api(cluster[0])}/resetNextCronTime", json={"gid": gid}, timeout=10)
    ends = {gid: one["status"] for gid, one in outcomes.items()}
    return ends if all(end in ("succeed", "failed") for end in ends.values()) else {}
