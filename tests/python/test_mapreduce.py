"""`althing mapreduce`: real workers, killed, stopped and slow; word count of a real text."""

import os
import pydoc_data.topics
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from raw import eventually
from servers import BIN, Cluster

pytestmark = pytest.mark.althing_only

# Python's own manual of its language, as it is installed: half a megabyte of text.
CORPUS = pydoc_data.topics.__file__
WORDS = "LC_ALL=C tr -cs A-Za-z '\\n' | { grep -a . || true; }"
COUNT = "LC_ALL=C uniq -c"
LIMIT_S = 90


def expected(*files):
    text = "cat " + " ".join(files) + f" | {WORDS} | LC_ALL=C sort | {COUNT}"
    return subprocess.run(["sh", "-c", text], capture_output=True, check=True).stdout.splitlines()


class Job:
    """A job under way; what it tells on standard error is read as it comes."""

    def __init__(self, output, *options, mapper=WORDS, reducer=COUNT, files=(CORPUS,), maps=3, reduces=2, workers=2):
        self.output = Path(output)
        self.told = []
        command = [BIN, "mapreduce", "--mapper", mapper, "--reducer", reducer, "--maps", str(maps)]
        command += ["--reduces", str(reduces), "--workers", str(workers), "--output", str(output)]
        command += ["--scratch", str(output) + "-scratch", "--progress", *options, "--input", *files]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.told.append(line.rstrip("\n"))

    def told_of(self, pattern):
        """What was told first of `pattern`, waiting for it."""

        def look():
            return next((found for line in list(self.told) if (found := re.search(pattern, line))), None)

        return eventually(look, timeout=LIMIT_S)

    def pid(self, worker):
        return int(self.told_of(rf"worker {worker} came \(process (\d+)\)")[1])

    def end(self):
        """Exit code and the last words."""
        code = self.process.wait(LIMIT_S)
        self.reader.join(LIMIT_S)
        return code, self.process.stdout.read()

    def done(self):
        """The numbers of its last words, by name."""
        code, words = self.end()
        assert code == 0, (words, self.told)
        names = "tasks maps reduces seconds attempts speculative failed workers finished"
        numbers = re.findall(r"\d+(?:\.\d+)?", words)
        return dict(zip(names.split(), (float(number) for number in numbers), strict=True))

    def parts(self):
        assert (self.output / "_SUCCESS").exists()
        files = sorted(self.output.glob("part-*"))
        assert {file.name for file in self.output.iterdir()} == {file.name for file in files} | {"_SUCCESS"}
        return [file.read_bytes().splitlines() for file in files]

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def job(tmp_path):
    jobs = []

    def start(*options, **how):
        jobs.append(Job(tmp_path / f"out{len(jobs)}", *options, **how))
        return jobs[-1]

    yield start
    for one in jobs:
        one.kill()


def words_of(part):
    return [line.split()[1] for line in part]


def test_m15_word_count_with_three_maps_and_two_reduces_is_five_tasks_and_two_sorted_outputs(job):
    counting = job()
    numbers = counting.done()
    assert (numbers["tasks"], numbers["maps"], numbers["reduces"]) == (5, 3, 2)
    first, second = counting.parts()
    assert first and second
    for part in (first, second):
        assert words_of(part) == sorted(words_of(part))
    assert not set(words_of(first)) & set(words_of(second))
    assert sorted(first + second, key=lambda line: line.split()[1]) == expected(CORPUS)
    assert not list(counting.output.parent.glob("*-scratch/*"))


def test_small_buffer_and_combiner_change_nothing_of_the_result(job):
    mapper = WORDS + " | sed 's/$/\\t1/'"
    add = "awk -F'\\t' -v OFS='\\t' 'k!=$1{if(n)print k,n;k=$1;n=0}{n+=$2}END{if(n)print k,n}'"
    plain = job(mapper=mapper, reducer=add, maps=4, reduces=3)
    spilled = job("--sort-buffer", "300000", "--combiner", add, mapper=mapper, reducer=add, maps=4, reduces=3)
    plain.done(), spilled.done()
    assert plain.parts() == spilled.parts()
    total = sum(int(line.split()[1]) for part in plain.parts() for line in part)
    assert total == sum(int(line.split()[0]) for line in expected(CORPUS))


def test_killed_worker_takes_its_finished_maps_along_and_the_result_is_the_same(job, tmp_path):
    both, release = tmp_path / "both", tmp_path / "release"
    until = "until [ -e {} ]; do sleep 0.05; done; ".format
    held = f'{until(both)} if [ "$ALTHING_TASK" = 5 ]; then {until(release)} fi; {WORDS}'
    counting = job("--no-speculation", mapper=held, maps=6)
    counting.told_of("begun by worker 1$")
    counting.told_of("begun by worker 2$")
    both.touch()
    holder = counting.told_of(r"map 5 \(attempt \d+\) begun by worker (\d+)")[1]
    other = counting.told_of(rf"map \d+ \(attempt \d+\) done by worker ((?!{holder}\b)\d+)")[1]
    os.kill(counting.pid(other), signal.SIGKILL)
    counting.told_of(f"worker {other} lost")
    release.touch()
    numbers = counting.done()
    assert numbers["workers"] >= 1 and numbers["finished"] >= 1
    assert numbers["attempts"] >= 8 + numbers["finished"]
    assert sorted(sum(counting.parts(), []), key=lambda line: line.split()[1]) == expected(CORPUS)


def test_worker_killed_in_its_reduce_leaves_no_half_output(job, tmp_path):
    release = tmp_path / "release"
    held = f"head -n 3; until [ -e {release} ]; do sleep 0.05; done; cat"
    counting = job("--no-speculation", reducer=held)
    worker = counting.told_of(r"reduce 0 \(attempt \d+\) begun by worker (\d+)")[1]
    os.kill(counting.pid(worker), signal.SIGKILL)
    counting.told_of(f"worker {worker} lost")
    assert not list(counting.output.glob("part-*"))
    release.touch()
    assert counting.done()["workers"] >= 1
    assert len(counting.parts()) == 2


def test_stopped_worker_is_lost_after_its_time_and_its_late_words_change_nothing(job, tmp_path):
    begun, release = tmp_path / "begun", tmp_path / "release"
    held = f'file={begun}; [ "$ALTHING_WORKER" != 1 ] || file={release}; until [ -e $file ]; do sleep 0.05; done; {WORDS}'
    counting = job("--no-speculation", "--worker-timeout-ms", "1500", mapper=held)
    counting.told_of("begun by worker 1$")
    begun.touch()
    stopped = counting.pid(1)
    os.kill(stopped, signal.SIGSTOP)
    try:
        counting.told_of("worker 1 lost")
    finally:
        release.touch()
        os.kill(stopped, signal.SIGCONT)
    assert counting.done()["workers"] >= 1
    assert sorted(sum(counting.parts(), []), key=lambda line: line.split()[1]) == expected(CORPUS)


def test_straggler_is_begun_again_elsewhere(job):
    slow = f'if [ "$ALTHING_ATTEMPT" = 1 ]; then sleep 3600; fi; {WORDS}'
    counting = job(mapper=slow, maps=4)
    assert counting.done()["speculative"] >= 1
    assert sorted(sum(counting.parts(), []), key=lambda line: line.split()[1]) == expected(CORPUS)


def test_command_that_fails_fails_the_job_with_its_name(job):
    failing = job(mapper="exit 3")
    code, _ = failing.end()
    assert code == 1
    assert re.search(r"map \d failed 4 times: \"exit 3\" ended with exit status: 3", "\n".join(failing.told))
    assert not (failing.output / "_SUCCESS").exists()


def test_output_that_is_there_and_input_that_is_not_are_refused(job, tmp_path):
    (tmp_path / "out0").mkdir()
    (tmp_path / "out0" / "old").touch()
    used = job()
    assert used.end()[0] == 2 and "is not empty" in used.told[-1]
    missing = job(files=("/nowhere/at/all",))
    assert missing.end()[0] == 1 and "cannot read /nowhere/at/all" in missing.told[-1]


def test_many_files_without_last_newlines_and_more_maps_than_lines(job, tmp_path):
    files = []
    for at, text in enumerate(["one two\nthree", "", "three three", "one\n\n"]):
        files.append(tmp_path / f"input{at}")
        files[-1].write_text(text)
    counting = job(files=[str(file) for file in files], maps=9)
    counting.done()
    lines = sorted(line.split() for part in counting.parts() for line in part)
    assert lines == [[b"1", b"two"], [b"2", b"one"], [b"3", b"three"]]


def test_worker_from_elsewhere_works_and_strangers_are_refused(job, tmp_path):
    counting = job(workers=0)
    token, address = re.match(r"ALTHING_MAPREDUCE_TOKEN=(\w+) .*--coordinator (\S+)", counting.process.stdout.readline()).groups()
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=LIMIT_S) as stranger:
        stranger.sendall(b'{"token":"guess","request":{"Input":{"map":0}}}\n')
        answer = stranger.makefile("rb").readline()
        assert b"Refused" in answer, answer
    with socket.create_connection((host, int(port)), timeout=LIMIT_S) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\n")
        assert stranger.makefile("rb").read() == b""
    command = [BIN, "mapreduce", "worker", "--coordinator", address, "--scratch", str(tmp_path / "w")]
    environment = dict(os.environ, ALTHING_MAPREDUCE_TOKEN=token)
    worker = subprocess.Popen(command, env=environment)
    try:
        assert counting.done()["workers"] == 0
        assert sorted(sum(counting.parts(), []), key=lambda line: line.split()[1]) == expected(CORPUS)
    finally:
        worker.wait(LIMIT_S)
    assert not list((tmp_path / "w").iterdir())


def test_workers_run_as_tasks_of_a_cluster_and_one_is_killed(job, tmp_path):
    options = {"agent.run": True, "agent.cpu_milli": 4000, "agent.memory_mib": 4096, "agent.disk_mib": 0}
    cluster = Cluster(1, tmp_path / "cluster", **options).start()
    try:
        release = tmp_path / "release"
        held = f"until [ -e {release} ]; do sleep 0.05; done; {WORDS}"
        console = cluster.servers[0].console_address

        def agents():
            told = subprocess.run([BIN, "agents", "--console", console], capture_output=True, text=True, timeout=LIMIT_S)
            return " up " in told.stdout

        eventually(agents, LIMIT_S)
        counting = job("--on", console, mapper=held)
        counting.told_of("begun by worker 1$")
        os.kill(counting.pid(1), signal.SIGKILL)
        counting.told_of("worker 1 lost")
        release.touch()
        assert counting.done()["workers"] >= 1
        assert sorted(sum(counting.parts(), []), key=lambda line: line.split()[1]) == expected(CORPUS)
        jobs = subprocess.run([BIN, "job", "list", "--console", console], capture_output=True, text=True, timeout=LIMIT_S)
        assert jobs.returncode == 0 and "mapreduce" not in jobs.stdout
    finally:
        cluster.end()
