"""docs/messages.md as it stands: every command is run, and what it prints is what the page says.

Only ports differ: commands are told where the cluster under test is, as their options allow."""

import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess

import pytest

from kafka_nodes import KafkaNodes
from servers import BIN, ROOT, Cluster

pytestmark = [
    pytest.mark.althing_only,
    pytest.mark.skipif(not shutil.which("redis-cli"), reason="redis-cli is not installed"),
    pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed"),
]

LIMIT_S = 90
PAGE = (ROOT / "docs/messages.md").read_text()
SECTIONS = re.split(r"^## ", PAGE, flags=re.M)[1:]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A cluster, what is written instead of its default ports, and the page's directory."""
    directory = tmp_path_factory.mktemp("messages")
    cluster = Cluster(1, directory, redis=True, kafka=True, dtm=True).start()
    try:
        KafkaNodes(cluster).wait_ready()
        server = cluster[0]
        redis_port = server.redis_address.rpartition(":")[2]
        console, kafka = f"--console {server.console_address}", server.kafka_address
        there = {
            "althing topic": f"{BIN} topic --server {kafka} {console}",
            "althing stream": f"{BIN} stream --server {server.address} --kafka {kafka} {console}",
            "redis-cli": f"redis-cli -p {redis_port}",
            "127.0.0.1:7400": server.console_address,
            "127.0.0.1:36789": server.dtm_address,
        }
        work = directory / "page"
        work.mkdir()
        yield there, work
    finally:
        cluster.end()
        end_all_in(directory / "page")


def end_all_in(directory):
    """Ends what a failed page left running."""
    for process in glob.glob("/proc/[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if os.readlink(process) == str(directory):
                os.kill(int(process.split("/")[2]), signal.SIGKILL)


def commands(section):
    """(command, output) in order; a command goes on over lines up to the END that it names."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", section, flags=re.M | re.S):
        lines = iter(block.splitlines(keepends=True))
        for line in lines:
            if not line.startswith("$ "):
                found[-1][1].append(line)
                continue
            command = line[2:]
            if "<<" in line:
                for more in lines:
                    command += more
                    if more == "END\n":
                        break
            found.append((command, []))
    return [(command, "".join(output)) for command, output in found]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_m23_page_of_messages_is_true(place, section):
    there, work = place
    for command, wanted in commands(section):
        run = command
        for usual, here in there.items():
            run = run.replace(usual, here)
        out = work / "out"
        with out.open("w") as sink:
            # Not through a pipe: what goes on in the background holds it open.
            done = subprocess.run(
                ["bash", "-c", run], cwd=work, stdout=sink, stderr=subprocess.STDOUT, timeout=LIMIT_S
            )
        printed = out.read_text()
        assert printed == wanted and done.returncode == 0, f"{command}printed {printed!r}, ended with {done.returncode}"


def test_page_has_every_form():
    assert len(SECTIONS) == 12
    assert sum(len(commands(section)) for section in SECTIONS) > 30
