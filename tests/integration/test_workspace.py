# SPDX-License-Identifier: MIT
"""Workspaces on disk: what fills one beyond its limit is ended, and nobody else."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

import procfs
from kernel import wait_until

MIB = 1 << 20


@pytest.fixture
def client(kernel):
    return kernel.client()


def spawn(client, name: str, script: str, **options: object) -> dict:
    return client.call("SPAWN", name, ["/usr/bin/python3", "-c", script], options)


def measurers(kernel) -> list[int]:
    return [pid for pid in procfs.children(kernel.launcher_pid()) if procfs.name(pid) == "clove-measurer"]


WRITE = "    f.write(bytes(1 << 20)); f.flush(); time.sleep(0.01)\n"
FILLERS = {
    "large files": "i = 0\nwhile True:\n    i += 1; f = open(str(i), 'wb')\n" + WRITE,
    "small files": "i = 0\nwhile True: open(str(i), 'w').write('x'); i += 1; time.sleep(0.0005)",
    "empty files": "i = 0\nwhile True: open(str(i), 'w'); i += 1",
    "a closed directory": "os.mkdir('d'); files = [open(f'd/{i}', 'wb') for i in range(100)]; os.chmod('d', 0)\n"
    "while True:\n    f = files.pop()\n" + WRITE,
    "deep directories": "while True:\n    os.mkdir('d'); os.chdir('d'); open('f', 'wb').write(bytes(1 << 16))\n"
    "    time.sleep(0.001)",
}


@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS.keys())
def test_one_that_fills_its_workspace_is_ended(client, filler):
    other = spawn(client, "other", "import time; open('f', 'wb').write(bytes(1 << 20)); time.sleep(100)")
    assert other["protections"]["workspace"] in ("polled", "quota")
    spawn(
        client,
        "filler",
        "import os, time\n" + filler,
        limits={"workspace": 8 * MIB},
        restart_policy="always",
        timeout_ms=60_000,
    )
    end = client.call("WAIT", "filler")
    if other["protections"]["workspace"] == "polled":
        assert end["reason"] == "workspace-full" and end["restarts"] == 0, end
    assert [agent["name"] for agent in client.call("LIST")] == ["other"]


def test_no_file_may_be_larger_than_all_may_be_together(client, directory):
    script = "f = open('f', 'wb')\nfor i in range(9): f.write(bytes(1 << 20)); f.flush()"
    spawn(client, "a", script, limits={"workspace": 8 * MIB})
    assert client.call("WAIT", "a")["reason"] == "exited"
    assert b"File too large" in client.call("LOGS", "a", "stderr")["data"]
    # What it shares with its owner is the owner's business.
    directory.chmod(0o777)
    script = script.replace("'f'", f"'{directory}/f'")
    spawn(client, "b", script, limits={"workspace": 8 * MIB}, rw=[str(directory)])
    assert client.call("WAIT", "b")["exit_code"] == 0, client.call("LOGS", "b", "stderr")["data"]


def test_one_that_stays_within_it_is_let_be(kernel, client):
    script = (
        "import time\n"
        "for i in range(200):\n"
        "    open('f', 'wb').write(bytes(2 << 20))\n"
        "    time.sleep(0.02)\n"
    )
    spawn(client, "modest", script, limits={"workspace": 8 * MIB})
    spawn(client, "filler", "import os, time\n" + FILLERS["large files"], limits={"workspace": 8 * MIB})
    assert client.call("WAIT", "filler")["reason"] == "workspace-full"
    assert client.call("WAIT", "modest")["exit_code"] == 0


def test_what_is_full_already_is_seen_at_its_next_start(client):
    spawn(client, "a", "open('f', 'wb').write(bytes(4 << 20))", limits={"workspace": 64 * MIB})
    client.call("WAIT", "a")
    script = "import time\nfor i in range(4): open(f'g{i}', 'wb').write(bytes(1 << 19))\ntime.sleep(60)"
    spawn(client, "a", script, limits={"workspace": MIB})
    assert client.call("WAIT", "a")["reason"] == "workspace-full"


def test_a_measurer_that_dies_is_replaced(kernel, client):
    spawn(client, "idle", "import time; open('f', 'wb').write(bytes(4 << 20)); time.sleep(100)")
    wait_until(lambda: measurers(kernel), "it is measured")
    os.kill(measurers(kernel)[0], 9)
    spawn(client, "filler", "import os, time\n" + FILLERS["large files"], limits={"workspace": 8 * MIB})
    assert client.call("WAIT", "filler")["reason"] == "workspace-full"
    assert [agent["name"] for agent in client.call("LIST")] == ["idle"]


def test_without_agents_nobody_measures(kernel, client):
    spawn(client, "short", "import time; open('f', 'wb').write(bytes(4 << 20)); time.sleep(2.5)")
    wait_until(lambda: measurers(kernel), "it is measured")
    client.call("WAIT", "short")
    wait_until(lambda: not measurers(kernel), "the measurer has ended")
    before = sum(core["wakeups"] for core in client.call("STATS")["cores"])
    time.sleep(1.5)
    assert sum(core["wakeups"] for core in client.call("STATS")["cores"]) - before <= 3


def test_memory_needs_no_measuring(kernel, client):
    spawned = spawn(client, "a", "import time; time.sleep(3)", workspace="memory", limits={"workspace": MIB})
    assert spawned["protections"]["workspace"] == "memory"
    client.call("WAIT", "a")
    assert not measurers(kernel)
    script = "open('f', 'wb').write(bytes(4 << 20))"
    spawn(client, "b", script, workspace="memory", limits={"workspace": MIB})
    assert client.call("WAIT", "b")["exit_code"] == 1
    assert b"No space left" in client.call("LOGS", "b", "stderr")["data"]


def test_the_directory_of_data_is_not_followed_elsewhere(kernel, client):
    """A link in the place of a workspace is nothing to measure."""
    spawn(client, "a", "import time; time.sleep(100)", limits={"workspace": MIB})
    workspace = kernel.data_dir / "agents" / str(os.geteuid()) / "a/workspace"
    workspace.rename(workspace.with_name("moved"))
    workspace.symlink_to("/usr")
    spawn(client, "filler", "import os, time\n" + FILLERS["large files"], limits={"workspace": 8 * MIB})
    assert client.call("WAIT", "filler")["reason"] == "workspace-full"
    assert [agent["name"] for agent in client.call("LIST")] == ["a"]
    assert Path("/usr").is_dir()


@pytest.fixture
def quota_directory(directory):
    """A file system with project quotas: in the virtual machine alone, whose mounts are its own."""
    if os.environ.get("CLOVE_VM") != "1":
        pytest.skip("needs a file system of its own: tests/vm has one")
    image, where = directory / "image", directory / "quota"
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    make = ["mkfs.ext4", "-q", "-O", "project,quota", "-E", "quotatype=prjquota", str(image)]
    for command in (make, ["mount", "-o", "loop,prjquota", str(image), str(where)]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{command[0]}: {done.stderr.strip()}")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def test_a_project_quota_holds_at_once(start_kernel, quota_directory):
    kernel = start_kernel("--data-dir", str(quota_directory / "data"))
    client = kernel.client()
    script = (
        "import os, time\n"
        "f = open('f', 'wb'); os.unlink('f'); g = open('g', 'wb')\n"
        "try:\n"
        "    while True:\n"
        "        for file in (f, g): file.write(bytes(1 << 20)); file.flush()\n"
        "except OSError as error: print(error.errno, f.tell() + g.tell(), flush=True)\n"
        "os._exit(0)\n"
    )
    spawned = spawn(client, "a", script, limits={"workspace": 8 * MIB})
    assert spawned["protections"]["workspace"] == "quota"
    assert "workspace-quota" in spawned["protections"]["layers"]
    client.call("WAIT", "a")
    error, written = client.call("LOGS", "a")["data"].decode().split()
    assert int(error) in (28, 122)  # ENOSPC as to users, EDQUOT
    assert 6 * MIB <= int(written) <= 8 * MIB
    # Another has its own; the next of this name has this one, as it is set now.
    spawn(client, "b", script, limits={"workspace": 8 * MIB})
    client.call("WAIT", "b")
    assert int(client.call("LOGS", "b")["data"].decode().split()[1]) >= 6 * MIB
    spawn(client, "a", script, limits={"workspace": 16 * MIB})
    client.call("WAIT", "a")
    assert int(client.call("LOGS", "a")["data"].decode().splitlines()[-1].split()[1]) >= 13 * MIB
    assert not measurers(kernel)
