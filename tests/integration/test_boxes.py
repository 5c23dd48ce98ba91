# SPDX-License-Identifier: MIT
"""Commands and files in the boxes of agents, boxes that end with their client, and what agents leave."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import procfs
from kernel import wait_until
from test_agents import PRELUDE

HOLD = ["sleep", "infinity"]


@pytest.fixture
def client(kernel):
    return kernel.client()


def spawn(client, name: str, program: object = None, **options: object) -> dict:
    return client.call("SPAWN", name, program or HOLD, options)


def sh(client, agent: object, command: str, **options: object) -> str:
    done = client.call("EXEC", command, options, agent)
    assert done["exit_code"] == 0, done
    return done["stdout"].decode()


def names(client) -> list[str]:
    return [agent["name"] for agent in client.call("LIST")]


def homes(kernel) -> list[str]:
    return [entry.name for entry in (kernel.data_dir / "agents" / str(os.geteuid())).glob("*")]


def test_exec_read_and_write_share_a_box(client, directory):
    agent = spawn(client, "box")["agent_id"]
    assert sh(client, "box", "pwd; id -u") == "/workspace\n1000\n"
    client.call("WRITE", "a", b"from outside", "write", None, agent)
    assert sh(client, agent, "cat a; echo -n from inside > /workspace/b") == "from outside"
    assert client.call("READ", "/workspace/b", None, None, "box")["data"] == b"from inside"
    secret = directory / "secret"
    secret.write_text("of the host")
    assert client.call("EXEC", ["cat", str(secret)], None, agent)["exit_code"] == 1
    assert client.refused("READ", str(secret), None, None, agent).code == "NOT_FOUND"
    assert client.call("READ", str(secret))["data"] == b"of the host"


def test_every_core_reaches_every_box(kernel, client):
    spawned = [spawn(client, f"box{i}")["agent_id"] for i in range(6)]
    assert len({agent["core"] for agent in client.call("LIST")}) > 1
    clients = [kernel.client() for _ in range(6)]
    assert len({c.call("HELLO", 1, 1)["core"] for c in clients}) > 1
    for number, one in enumerate(clients):
        for agent in spawned:
            one.call("WRITE", f"{number}", b"x", "write", None, agent)
            assert f"{number}\n" in sh(one, agent, "ls")


def test_a_command_in_a_box_is_held_to_its_timeout_and_goes_with_it(kernel, client, marker):
    agent = spawn(client, "box")["agent_id"]
    assert client.call("EXEC", marker.argv, {"timeout_ms": 50}, agent)["timed_out"] is True
    wait_until(lambda: not marker.pids(), "the command is gone")
    waiting = client.send("EXEC", marker.argv, {"timeout_ms": 0}, agent)
    wait_until(marker.pids, "it runs")
    other = kernel.client()
    other.call("KILL", "box")
    assert client.wait(waiting)["exit_code"] != 0
    assert not marker.pids()


def test_of_what_has_no_box_there_is_no_box(client):
    assert client.refused("EXEC", "true", None, "ghost").code == "AGENT_NOT_FOUND"
    assert client.refused("READ", "/etc/passwd", None, None, 12345).code == "AGENT_NOT_FOUND"
    assert client.refused("EXEC", "true", None, [1]).code == "INVALID_ARGUMENT"
    spawn(client, "bare", sandboxed=False)
    error = client.refused("EXEC", "true", None, "bare")
    assert error.code == "INVALID_ARGUMENT" and "not sandboxed" in error.message
    spawn(client, "short", ["true"])
    client.call("WAIT", "short")
    assert client.refused("WRITE", "x", b"", "write", None, "short").code == "AGENT_NOT_FOUND"


def test_the_box_of_another_agent_is_not_for_agents(client):
    spawn(client, "victim")
    script = (
        "from clove_sdk import CloveClient\nfrom clove_sdk.errors import AgentNotFound\n"
        "c = CloveClient()\n"
        "for call in (lambda: c.exec('true', agent='victim'), lambda: c.read_file('/etc/hostname', agent='victim'),\n"
        "             lambda: c.write_file('x', 'y', agent='victim')):\n"
        "    try: call(); print('reached')\n"
        "    except AgentNotFound: print('not found')\n"
        "child = c.spawn('child', argv=['sleep', '100'])\n"
        "print(c.exec('echo own child', agent=child.agent_id).stdout.strip())\n"
        "print(c.exec('echo own box').stdout.strip())\n"
    )
    spawn(client, "curious", ["/usr/bin/python3", "-c", script])
    assert client.call("WAIT", "curious")["exit_code"] == 0, client.call("LOGS", "curious", "stderr")["data"]
    said = client.call("LOGS", "curious")["data"].decode().splitlines()
    assert said == ["not found"] * 3 + ["own child", "own box"]


def test_a_command_in_a_box_that_is_paused_is_ended_by_time_and_by_leaving(kernel, client):
    spawn(client, "box")
    client.call("PAUSE", "box")
    done = client.call("EXEC", ["true"], {"timeout_ms": 200}, "box")
    if done["exit_code"] == 0:
        pytest.skip("without cgroup v2, what comes later is not paused")
    assert done["timed_out"] and done["signal"] == 9, done
    one = kernel.client()
    one.send("EXEC", ["true"], {"timeout_ms": 0}, "box")
    wait_until(lambda: len(procfs.children(kernel.pid)) == 3, "it is on its way")
    one.close()
    wait_until(lambda: len(procfs.children(kernel.pid)) == 2, "the launcher and the box are left")
    client.call("RESUME", "box")
    assert sh(client, "box", "echo again") == "again\n"


# ---- tied ----


def test_what_is_tied_ends_with_its_client_and_leaves_nothing(kernel, client):
    one = kernel.client()
    for i in range(3):
        spawn(one, f"tied{i}", tied=True, workspace="memory")
    spawn(one, "free")
    wait_until(lambda: len(homes(kernel)) == 4, "they have directories")
    one.close()
    wait_until(lambda: names(client) == ["free"], "those that were tied have ended")
    wait_until(lambda: homes(kernel) == ["free"], "their directories are gone")
    wait_until(lambda: not list((kernel.data_dir / "agents/.trash").iterdir()), "they are deleted")


def test_a_client_that_leaves_while_it_starts_one(kernel, client):
    for _ in range(20):
        one = kernel.client()
        for i in range(3):
            one.send("SPAWN", f"early{i}", HOLD, {"tied": True, "workspace": "memory"})
        one.close()
        wait_until(lambda: names(client) == [], "nothing is left")
    wait_until(lambda: homes(kernel) == [], "no directory is left")


def test_what_ends_with_a_box_leaves_nothing_either(kernel, client):
    program = ["/usr/bin/python3", "-c", PRELUDE + """
for name in "abcde": call(SPAWN, name, ["sleep", "infinity"])
call(SPAWN, "short", ["true"])
__import__("signal").pause()
"""]
    for _ in range(5):
        one = kernel.client()
        spawn(one, "box", program, tied=True, workspace="memory")
        wait_until(lambda: len(homes(kernel)) == 7 and len(names(client)) == 6, "it has children")
        one.close()
        wait_until(lambda: not names(client) and not homes(kernel), "they are gone, and all they had")


def test_what_is_tied_to_one_client_does_not_end_with_another(kernel, client):
    spawn(client, "mine", tied=True)
    other = kernel.client()
    spawn(other, "others", tied=True)
    other.close()
    wait_until(lambda: names(client) == ["mine"], "only the other's has ended")


# ---- the box as the rule ----


def test_a_kernel_that_keeps_clients_off_the_host(start_kernel, directory):
    kernel = start_kernel("--box-commands")
    client = kernel.client()
    assert client.call("HELLO", 1, 1)["box_commands"] is True
    path = directory / "file"
    path.write_text("x")
    for call in (("EXEC", "true"), ("READ", str(path)), ("WRITE", str(path), b"y")):
        error = client.refused(*call)
        assert error.code == "PERMISSION_DENIED" and "--box-commands" in error.message
    assert path.read_text() == "x"
    spawn(client, "box")
    assert sh(client, "box", "echo hi") == "hi\n"
    # What it does for itself, an agent does in its box as ever.
    script = "from clove_sdk import CloveClient; print(CloveClient().exec('echo mine').stdout, end='')"
    spawn(client, "agent", ["/usr/bin/python3", "-c", script])
    client.call("WAIT", "agent")
    assert client.call("LOGS", "agent")["data"] == b"mine\n"
    # The SDK does by itself what such a kernel wants.
    program = (
        "import sys; from clove_sdk import CloveClient\n"
        "with CloveClient(sys.argv[1]) as c:\n"
        "    c.write_file('a', 'content'); print(c.exec('pwd; cat a').stdout, c.read('a'))\n"
    )
    sdk = Path(__file__).resolve().parents[2] / "sdk/python/src"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program, str(kernel.socket_path)],
        env={"PYTHONPATH": str(sdk), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "/workspace\ncontent content\n", done.stderr


# ---- what agents leave ----


def test_remove_deletes_what_an_agent_left_whoever_owns_it(kernel, client):
    spawn(client, "a", ["sh", "-c", "mkdir -p d/e/f; echo x > d/e/f/g; chmod 0 d/e; ln -s /etc l; mkfifo p"])
    client.call("WAIT", "a")
    assert client.call("LOGS", "a")["running"] is False
    uid = (kernel.data_dir / "agents" / str(os.geteuid()) / "a/workspace").stat().st_uid
    assert client.call("REMOVE", "a") is None
    assert homes(kernel) == []
    wait_until(lambda: not list((kernel.data_dir / "agents/.trash").iterdir()), "it is deleted")
    assert Path("/etc/passwd").exists()
    assert client.refused("REMOVE", "a").code == "AGENT_NOT_FOUND"
    # The uid is free for the next.
    spawn(client, "b", ["true"])
    client.call("WAIT", "b")
    assert (kernel.data_dir / "agents" / str(os.geteuid()) / "b/workspace").stat().st_uid == uid


def test_a_name_keeps_its_uid_whatever_its_workspace_is(kernel, client):
    """Its logs belong to it: with another uid it could not write them."""
    script = "import os; print(os.stat('/workspace').st_uid)"
    for number, workspace in enumerate(["memory", "memory", "disk", "memory", "disk"]):
        client.call("SPAWN", "a", ["/usr/bin/python3", "-c", script], {"workspace": workspace})
        assert client.call("WAIT", "a")["exit_code"] == 0
        logs = kernel.data_dir / "agents" / str(os.geteuid()) / "a/logs"
        uid = logs.stat().st_uid
        if number == 0:
            first = uid
        assert uid == first
    assert (logs.parent / "workspace").stat().st_uid == first


def test_remove_takes_those_it_started_and_no_namesakes(kernel, client):
    script = "from clove_sdk import CloveClient; CloveClient().spawn('child', argv=['true'])"
    spawn(client, "a", ["/usr/bin/python3", "-c", script])
    spawn(client, "ab", ["true"])
    client.call("WAIT", "a")
    client.call("WAIT", "ab")
    wait_until(lambda: names(client) == [], "all have ended")
    assert sorted(homes(kernel)) == ["a", "a:child", "ab"]
    client.call("REMOVE", "a")
    assert homes(kernel) == ["ab"]


def test_remove_of_the_living_is_refused(kernel, client):
    spawn(client, "a")
    error = client.refused("REMOVE", "a")
    assert error.code == "BUSY" and "kill it first" in error.message
    assert homes(kernel) == ["a"] and sh(client, "a", "echo well") == "well\n"


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".trash", "a:b", 5, None, ["a"]])
def test_remove_of_what_is_no_agent(kernel, client, name):
    assert client.refused("REMOVE", name).code in ("AGENT_NOT_FOUND", "INVALID_ARGUMENT")
    assert (kernel.data_dir / "agents/.trash").is_dir()


def test_remove_after_a_restart_of_the_kernel(start_kernel):
    kernel = start_kernel()
    client = kernel.client()
    spawn(client, "old", ["touch", "f"])
    client.call("WAIT", "old")
    kernel.stop()
    # What a kernel that was killed had not deleted yet is deleted by the next.
    left = kernel.data_dir / "agents/.trash/left/below"
    left.mkdir(parents=True)
    kernel = start_kernel()
    client = kernel.client()
    wait_until(lambda: not left.parent.exists(), "leftovers are deleted")
    client.call("REMOVE", "old")
    assert homes(kernel) == []


def test_a_tree_too_deep_for_paths_is_removed(kernel, client):
    script = "import os\nfor i in range(300):\n    os.mkdir('d' * 100)\n    os.chdir('d' * 100)\nopen('end', 'w')"
    spawn(client, "deep", ["/usr/bin/python3", "-c", script])
    assert client.call("WAIT", "deep")["exit_code"] == 0
    client.call("REMOVE", "deep")
    wait_until(lambda: not list((kernel.data_dir / "agents/.trash").iterdir()), "it is deleted", 60)
    assert procfs.name(kernel.launcher_pid())
