"""`althing pipeline` and `althing patterns`: stages that overlap, and one job divided in different ways."""

import re
import subprocess
import xml.dom.minidom

import pytest

from servers import BIN

pytestmark = pytest.mark.althing_only

PATTERNS = ["farm", "spmd", "pipeline", "divide-and-conquer", "fork-join", "speculation", "work-stealing"]


def althing(*args, timeout=90):
    return subprocess.run([BIN, *args], capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def pipeline(tmp_path):
    def run(*stages, options=()):
        file = tmp_path / "pipeline.toml"
        file.write_text("\n".join(f"[[stage]]\n{stage}\n" for stage in stages))
        return althing("pipeline", "run", str(file), *options)

    return run


def test_pipeline_extracts_mixes_batches_and_loads_every_item(pipeline, tmp_path):
    picture = tmp_path / "picture.svg"
    done = pipeline(
        'name = "extract"\ncommand = "seq 1 200"',
        'name = "mix <&>"\nshuffle = 50\nseed = 7',
        'name = "transform"\ncommand = "sed s/^/n/"\nprefetch = 2',
        'name = "batch"\nbatch = 16\nseparator = ","',
        'name = "load"\nmap = "tr n N"',
        options=("--picture", str(picture)),
    )
    assert done.returncode == 0, done.stderr
    batches = [line.split(",") for line in done.stdout.splitlines()]
    assert [len(batch) for batch in batches] == [16] * 12 + [8]
    items = sum(batches, [])
    assert items != sorted(items, key=lambda item: int(item[1:]))
    assert sorted(int(item[1:]) for item in items) == list(range(1, 201))
    assert all(item[0] == "N" for item in items)
    counts = {line.split("  ")[0].strip(): line for line in done.stderr.splitlines() if re.search(r"\d\.\d\d", line)}
    assert re.search(r"\b200\s+13\b", counts["batch"])
    drawn = xml.dom.minidom.parse(str(picture)).toxml()
    assert all(name in drawn for name in ("extract", "mix &lt;&amp;&gt;", "shuffle 50", "batch 16", "load"))


def test_stages_overlap(pipeline, tmp_path):
    """The first stage waits for what only the last one does for an item before."""
    seen = tmp_path / "seen"
    done = pipeline(
        f'name = "first"\ncommand = "echo one; until [ -e {seen} ]; do sleep 0.05; done; echo two"',
        f'name = "last"\nmap = "touch {seen}; cat"',
    )
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n"), done.stderr


def test_endless_source_ends_when_nobody_wants_more(pipeline):
    done = pipeline('name = "endless"\ncommand = "yes"', 'name = "some"\ncommand = "head -n 3"')
    assert (done.returncode, done.stdout) == (0, "y\ny\ny\n"), done.stderr


def test_stage_that_fails_is_named(pipeline):
    done = pipeline('name = "good"\ncommand = "seq 3"', 'name = "bad"\ncommand = "cat; exit 4"', 'name = "end"\nbatch = 2')
    assert done.returncode == 1
    assert 'stage "bad": "cat; exit 4" ended with exit status: 4' in done.stderr
    several = pipeline('name = "good"\ncommand = "seq 3"', 'name = "bad"\nmap = "seq 2"')
    assert several.returncode == 1 and "several lines of one" in several.stderr


def test_bad_file_is_refused_with_what_is_wrong(pipeline):
    unknown = pipeline('name = "a"\ncomand = "seq 3"')
    assert unknown.returncode == 2 and "unknown field `comand`" in unknown.stderr and "line 3" in unknown.stderr
    first = pipeline('name = "a"\nbatch = 3')
    assert first.returncode == 2 and "nothing comes to it" in first.stderr
    missing = althing("pipeline", "run", "/nowhere.toml")
    assert missing.returncode == 1 and "cannot read /nowhere.toml" in missing.stderr


def test_m19_every_pattern_by_name_gives_an_equal_answer(tmp_path):
    done = althing("patterns", "run", "--items", "300", "--rounds", "200", "--workers", "3")
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^([a-z-]+|one after the other) +([0-9a-f]{16}) ", done.stdout, re.MULTILINE))
    assert list(rows) == ["one after the other", *PATTERNS]
    assert len(set(rows.values())) == 1
    fixed, stolen = map(float, re.findall(r"([\d.]+) %", done.stdout))
    assert stolen < fixed
    one = althing("patterns", "run", "farm", "--items", "300", "--rounds", "200")
    assert rows["farm"] in one.stdout
    unknown = althing("patterns", "run", "farms")
    assert unknown.returncode == 2 and "divide-and-conquer" in unknown.stderr
