"""The Java client and Curator's recipes (tests/java), against three nodes and against one.

The Java side runs once for each cluster; each of its tests is one here.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from servers import ROOT

CLASSES = Path(os.environ.get("ALTHING_TARGET", ROOT / "target")) / "java"
SOURCES = ROOT / "tests/java/src/althing"
NAMES = [
    name
    for file in ("OfficialClient.java", "CuratorRecipes.java")
    for name in re.findall(r'tests\.put\("(\w+)"', (SOURCES / file).read_text())
]


def run(cluster):
    assert shutil.which("java"), "java is not installed"
    assert (CLASSES / "classes/althing/Clients.class").exists(), "not built: run `mvn -f tests/java/pom.xml compile`"
    classpath = f"{CLASSES}/classes:{CLASSES}/lib/*"
    done = subprocess.run(
        ["java", "-Xmx256m", "-cp", classpath, "althing.Clients", cluster.hosts],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    verdicts = {}
    for line in done.stdout.splitlines():
        if match := re.match(r"(ok|FAILED) (\w+)(.*)", line):
            verdicts[match[2]] = (match[1], match[3])
    return verdicts, done


@pytest.fixture(scope="module")
def on_three(three):
    return run(three)


@pytest.fixture(scope="module")
def on_one(one):
    return run(one)


def held(ran, name):
    verdicts, done = ran
    assert name in verdicts, f"it never ran:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    verdict, why = verdicts[name]
    assert verdict == "ok", f"{why}\n{done.stderr[-4000:]}"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", NAMES)
def test_java_clients_of_three_nodes(on_three, name):
    held(on_three, name)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", NAMES)
def test_java_clients_of_one_node(on_one, name):
    held(on_one, name)
