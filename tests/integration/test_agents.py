# SPDX-License-Identifier: MIT
"""Agents: started, confined, controlled, told apart by how they end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import procfs
from kernel import wait_until
from wire import Refused

HERE = os.geteuid()


@pytest.fixture
def client(kernel):
    return kernel.client()

# In an agent: calls over its own connection, with nothing but Debian's msgpack.
PRELUDE = """
import os, socket, struct, sys, msgpack
kernel = socket.socket(fileno=int(os.environ["CLOVE_FD"]))
def read(n):
    data = b""
    while len(data) < n:
        got = kernel.recv(n - len(data))
        if not got: raise EOFError
        data += got
    return data
def call(op, *args):
    body = msgpack.packb(list(args), use_bin_type=True)
    kernel.sendall(struct.pack("<IHHQ", len(body), op, 0, 7) + body)
    length, _, flags, _ = struct.unpack("<IHHQ", read(16))
    return flags & 2, msgpack.unpackb(read(length), strict_map_key=False)
NOOP, EXEC, READ, WRITE, SPAWN, KILL, LIST, HELLO = 0, 2, 3, 4, 0x10, 0x11, 0x12, 0xfe
"""


@pytest.fixture
def script(directory: Path):
    def write(text: str, name: str = "agent.py") -> str:
        path = directory / name
        path.write_text(text)
        return str(path)

    return write


def logs(client, agent, stream: str = "stdout") -> str:
    return client.call("LOGS", agent, stream)["data"].decode()


def run(client, name: str, program: object, **options: object) -> dict:
    """Starts an agent and waits for its end."""
    client.call("SPAWN", name, program, options)
    return client.call("WAIT", name)


def agents(client) -> list[str]:
    return [agent["name"] for agent in client.call("LIST")]


def left_of(kernel) -> list[int]:
    """Processes below the kernel other than its launcher."""
    return [pid for pid in procfs.children(kernel.pid) if procfs.name(pid) not in ("clove-launcher", "clove-opener")]


def test_a_script_runs_in_a_box_of_its_own(client, script):
    program = script(
        "import os, sys\n"
        "print(os.getuid(), os.getcwd(), sys.argv, sys.stdin.read())\n"
        "print(sorted(os.listdir('/')))\n"
        "print(os.environ['HOME'], os.environ['MINE'], os.environ['CLOVE_AGENT_NAME'])\n"
        "print('to stderr', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    spawned = client.call("SPAWN", "worker", program, {"args": ["a", "b c"], "stdin": "input", "env": {"MINE": "x"}})
    assert spawned["name"] == "worker" and spawned["status"] == "running" and spawned["sandboxed"] is True
    assert spawned["pid"] > 0 and spawned["profile"] == "standard" and spawned["start"] == "cold"
    assert {"user-namespace", "seccomp", "own-root"} <= set(spawned["protections"]["layers"])
    end = client.call("WAIT", "worker")
    assert (end["reason"], end["exit_code"], end["signal"]) == ("exited", 7, 0)
    assert end["agent_id"] == spawned["agent_id"]
    lines = logs(client, "worker").splitlines()
    assert lines[0] == "1000 /workspace ['/agent/agent.py', 'a', 'b c'] input"
    assert "home" not in lines[1] and "workspace" in lines[1]
    assert lines[2] == "/workspace x worker"
    assert logs(client, "worker", "stderr") == "to stderr\n"


def test_an_array_is_looked_up_inside(client):
    assert run(client, "ls", ["ls", "/"])["exit_code"] == 0
    assert "workspace" in logs(client, "ls").split()


def test_an_agent_talks_to_its_kernel(client, script):
    program = script(PRELUDE + "print(call(NOOP, 'hi')[1], call(HELLO, 1, 1)[1]['agent_id'])\n")
    end = run(client, "talker", program)
    assert logs(client, "talker") == f"hi {end['agent_id']}\n", logs(client, "talker", "stderr")


def test_the_commands_of_an_agent_run_in_its_box(client, script, directory):
    secret = directory / "secret"
    secret.write_text("not for agents")
    program = script(
        PRELUDE
        + "open('/workspace/mine', 'w').write('here')\n"
        + "error, result = call(EXEC, 'id -u; pwd; cat /workspace/mine; hostname; cat ' + sys.argv[1])\n"
        + "print(error, result['stdout'].decode(), result['exit_code'])\n"
        + "print(result['stderr'].decode())\n"
    )
    run(client, "boxed", program, args=[str(secret)])
    out = logs(client, "boxed")
    assert out.startswith("0 1000\n/workspace\nhereboxed\n 1\n"), out + logs(client, "boxed", "stderr")
    assert "No such file" in out and "not for agents" not in out


def test_files_of_an_agent_are_those_of_its_box(client, script, directory):
    outside = directory / "target"
    outside.write_text("outside")
    program = script(
        PRELUDE
        + "def show(error, value): print(value[:1] + [value[2].get('errno')] if error else value)\n"
        + "show(*call(READ, sys.argv[1]))\n"
        + "show(*call(WRITE, sys.argv[1], 'changed'))\n"
        + "print(call(WRITE, 'mine', 'text')[1]['bytes_written'], open('/workspace/mine').read())\n"
        + "print(call(READ, '/workspace/mine')[1]['data'])\n"
        + "open('/tmp/private', 'w').write('in tmp'); print(call(READ, '/tmp/private')[1]['data'])\n"
        + "os.symlink(sys.argv[1], 'link'); show(*call(READ, 'link'))\n"
        + "os.symlink('/workspace/mine', 'inner'); print(call(READ, 'inner')[1]['data'])\n"
        + "show(*call(READ, '/proc/self/root/etc/passwd'))\n"
        + "show(*call(WRITE, '/usr/bin/python3', 'x'))\n"
        + "show(*call(WRITE, '/agent/agent.py', 'x'))\n"
        + "show(*call(READ, '../../../../..' + sys.argv[1]))\n"
        + "show(*call(READ, '/dev/zero'))\n"
        + "print(call(READ, '/etc/passwd')[1]['data'].count(b'agent') > 0)\n"
    )
    run(client, "reader", program, args=[str(outside)])
    lines = logs(client, "reader").splitlines()
    assert lines[0] == "[7, 2]" and lines[1] == "[7, 2]", lines  # NOT_FOUND
    assert lines[2:5] == ["4 text", "b'text'", "b'in tmp'"]
    assert lines[5] == "[7, 2]"
    assert lines[6] == "b'text'"
    assert lines[7] in ("[7, 2]", "[1, 40]"), lines  # it is nobody in the box's /proc; else ELOOP
    assert lines[8] in ("[6, 30]", "[6, 13]") and lines[9] in ("[6, 30]", "[6, 13]"), lines
    assert lines[10] == "[7, 2]"
    assert lines[11].startswith("[16,"), lines  # NOT_A_FILE
    assert lines[12] == "True"
    assert outside.read_text() == "outside"


def test_an_agent_may_have_many_files_opened_at_once(kernel, client, script):
    program = script(
        PRELUDE
        + "body = msgpack.packb(['mine', 'x' * 100, 'append'], use_bin_type=True)\n"
        + "frame = lambda i: struct.pack('<IHHQ', len(body), WRITE, 0, i) + body\n"
        + "done = busy = 0\n"
        + "for turn in range(4):\n"
        + "    kernel.sendall(b''.join(frame(i) for i in range(50)))\n"
        + "    for _ in range(50):\n"
        + "        length, _, flags, _ = struct.unpack('<IHHQ', read(16))\n"
        + "        value = msgpack.unpackb(read(length))\n"
        + "        done += not flags & 2; busy += bool(flags & 2) and value[0] == 9\n"
        + "print(done + busy, done > 0, os.path.getsize('mine') == 100 * done)\n"
    )
    run(client, "writer", program)
    assert logs(client, "writer") == "200 True True\n", logs(client, "writer", "stderr")
    assert not left_of(kernel)



def test_an_agent_lists_and_observes_nobody(client, script):
    program = script(PRELUDE + "error, value = call(LIST)\nprint(error, value[0])\n")
    run(client, "curious", program)
    assert logs(client, "curious") == "2 6\n"  # PERMISSION_DENIED


def test_what_an_agent_starts_is_confined_as_it_is(client, script):
    program = script(
        PRELUDE
        + "error, child = call(SPAWN, 'child', ['sleep', '100'], {'sandboxed': False})\n"
        + "print(error, child['sandboxed'], child['profile'], child['parent'] == int(os.environ['CLOVE_AGENT_ID']))\n"
        + "error, child = call(SPAWN, 'bound', ['true'], {'ro': ['/root']})\nprint(error, child[0])\n"
        + "sys.stdout.flush()\nimport time; time.sleep(100)\n"
    )
    client.call("SPAWN", "parent", program, {"profile": "strict"})
    wait_until(lambda: logs(client, "parent").count("\n") == 2, "the agent has tried")
    assert logs(client, "parent") == "0 True strict True\n2 6\n"
    assert sorted(agents(client)) == ["child", "parent"]
    client.call("KILL", "parent")
    wait_until(lambda: agents(client) == [], "the child died with its parent")
    assert client.call("WAIT", "child")["reason"] == "killed"


def test_an_agent_controls_only_what_it_started(client, script):
    client.call("SPAWN", "other", ["sleep", "100"])
    program = script(PRELUDE + "error, value = call(KILL, 'other')\nprint(error, value[0])\n")
    run(client, "killer", program)
    assert logs(client, "killer") == f"2 {514}\n"
    assert agents(client) == ["other"]


def test_without_a_sandbox_it_is_its_owner_on_the_host(client, script, directory):
    program = script("import os\nprint(os.getuid(), os.getcwd())\nopen(os.environ['OUT'], 'w').write('x')\n")
    out = directory / "out"
    spawned = client.call("SPAWN", "free", program, {"sandboxed": False, "env": {"OUT": str(out)}})
    assert spawned["sandboxed"] is False and spawned["profile"] == "none"
    assert any("not sandboxed" in warning for warning in spawned["warnings"])
    client.call("WAIT", "free")
    assert logs(client, "free").startswith(f"{HERE} ")
    assert out.read_text() == "x"


def test_a_kernel_without_sandbox_confines_nobody_and_says_so(start_kernel):
    client = start_kernel("--no-sandbox").client()
    spawned = client.call("SPAWN", "x", ["id", "-u"], {"sandboxed": True})
    assert spawned["sandboxed"] is False and any("not sandboxed" in text for text in spawned["warnings"])
    client.call("WAIT", "x")
    assert logs(client, "x") == f"{HERE}\n"


def test_the_workspace_survives_and_belongs_to_the_name(start_kernel, directory):
    kernel = start_kernel()
    client = kernel.client()
    run(client, "keeper", ["sh", "-c", "echo kept > note"])
    assert run(client, "other", ["cat", "/workspace/note"])["exit_code"] == 1
    kernel.stop()
    client = start_kernel().client()
    assert run(client, "keeper", ["cat", "note"])["exit_code"] == 0
    assert logs(client, "keeper").endswith("kept\n")


def test_a_workspace_in_memory_has_its_size(client):
    options = {"workspace": "memory", "limits": {"workspace": 1 << 20}}
    end = run(client, "small", ["sh", "-c", "head -c 2000000 /dev/zero > big; wc -c < big"], **options)
    assert end["exit_code"] == 0
    assert int(logs(client, "small")) == 1 << 20
    assert "No space left" in logs(client, "small", "stderr")


@pytest.mark.parametrize("sandboxed", [True, False])
@pytest.mark.parametrize(
    "command, reason, code, signo",
    [
        ("exit 0", "exited", 0, 0),
        ("exit 200", "exited", 200, 0),
        ("kill -SEGV $$", "signal", -1, signal.SIGSEGV),
        ("kill -KILL $$", "signal", -1, signal.SIGKILL),
    ],
)
def test_ends_are_told_apart(client, sandboxed, command, reason, code, signo):
    end = run(client, "x", ["sh", "-c", command], sandboxed=sandboxed)
    assert (end["reason"], end["exit_code"], end["signal"]) == (reason, code, signo)


@pytest.mark.parametrize("sandboxed", [True, False])
def test_a_life_that_takes_too_long_is_ended(client, sandboxed):
    end = run(client, "slow", ["sleep", "100"], timeout_ms=100, sandboxed=sandboxed)
    assert end["reason"] == "timeout" and end["exit_code"] == -1


@pytest.mark.parametrize("sandboxed", [True, False])
def test_kill_takes_the_whole_tree_along(kernel, client, marker, sandboxed):
    deep = f"for i in 1 2 3 4 5; do setsid sh -c '{marker.shell} & {marker.shell}' & ({marker.shell} &) & done; wait"
    client.call("SPAWN", "tree", ["bash", "-c", deep], {"sandboxed": sandboxed})
    wait_until(lambda: len(marker.pids()) >= 15, "the tree has grown")
    me = client.call("HELLO", 1, 1)["agent_id"]
    end = client.call("KILL", "tree")
    assert end["reason"] == "killed" and end["killed_by"] == me
    assert not marker.pids()
    assert agents(client) == []
    assert not left_of(kernel)


@pytest.mark.parametrize("sandboxed", [True, False])
def test_kill_with_grace_lets_it_act(client, sandboxed):
    program = ["bash", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done"]
    client.call("SPAWN", "polite", program, {"sandboxed": sandboxed})
    wait_until(lambda: logs(client, "polite") == "ready\n", "it runs")
    client.call("KILL", "polite", 10_000)
    assert logs(client, "polite").endswith("bye\n")


def test_kill_with_grace_ends_who_does_not_act(client):
    client.call("SPAWN", "deaf", ["bash", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done"])
    wait_until(lambda: logs(client, "deaf") == "ready\n", "it runs")
    assert client.call("KILL", "deaf", 100)["reason"] == "killed"


@pytest.mark.parametrize("sandboxed", [True, False])
def test_pause_and_resume(client, sandboxed):
    pid = client.call("SPAWN", "p", ["bash", "-c", "while :; do :; done"], {"sandboxed": sandboxed})["pid"]
    assert client.call("PAUSE", "p")["state"] == "paused"
    wait_until(lambda: procfs.stands_still(pid), "it stands still")
    assert client.call("LIST")[0]["state"] == "paused"
    assert client.call("RESUME", "p")["state"] == "running"
    wait_until(lambda: not procfs.stands_still(pid), "it runs on")
    client.call("PAUSE", "p")
    assert client.call("KILL", "p")["reason"] == "killed"


def test_restart_on_failure(client, script):
    program = script(
        "import os, sys\n"
        "n = len(os.listdir('.'))\nopen(str(n), 'w').close()\nprint('life', n, flush=True)\n"
        "sys.exit(0 if n == 1 else 5)\n"
    )
    client.call("SPAWN", "phoenix", program, {"restart_policy": "on-failure"})
    end = client.call("WAIT", "phoenix")
    assert (end["reason"], end["exit_code"], end["restarts"], end["incarnation"]) == ("exited", 0, 1, 2)
    assert logs(client, "phoenix") == "life 0\nlife 1\n"


def test_restarts_end_when_there_are_too_many(kernel, client):
    client.call("SPAWN", "hopeless", ["false"], {"restart_policy": "always", "max_restarts": 1})
    end = client.call("WAIT", "hopeless")
    assert (end["reason"], end["exit_code"], end["restarts"]) == ("exited", 1, 1)
    assert "agent-escalated" in kernel.log()


def test_kill_ends_restarts(client):
    client.call("SPAWN", "again", ["false"], {"restart_policy": "always"})
    wait_until(lambda: client.call("LIST")[0]["state"] == "crashed", "it waits for its restart")
    client.call("KILL", "again")
    assert agents(client) == []


def test_inspect_tells_everything(client):
    client.call("SPAWN", "seen", ["sleep", "100"], {"limits": {"memory": 256 << 20, "cpu_quota": 50000}})
    seen = client.call("INSPECT", "seen")
    limits = {"memory": 256 << 20, "cpu_quota": 50000, "max_pids": 256, "io_read": 0, "io_write": 0}
    assert seen["limits"] == limits
    assert seen["state"] == "running" and seen["restart_policy"] == "never"
    assert set(seen["protections"]) == {"memory", "cpu", "pids", "io", "workspace", "layers"}
    assert client.call("INSPECT", seen["agent_id"])["name"] == "seen"


def test_output_is_kept_within_bounds_and_can_be_followed(client):
    client.call("SPAWN", "loud", ["sh", "-c", "seq 1 400000; echo last; sleep 100"])
    wait_until(lambda: logs(client, "loud").endswith("last\n"), "it has written everything")
    cursor, data = None, b""
    while not data.endswith(b"last\n"):
        piece = client.call("LOGS", "loud", "stdout", cursor, 100_000)
        assert piece["data"] and not piece["lost"]
        data += piece["data"]
        cursor = piece["next"]
    assert len(data) <= 1 << 20
    numbers = [int(line) for line in data.split(b"\n")[1:-2]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert client.call("LOGS", "loud", "stdout", cursor)["data"] == b""


def test_wait_has_a_deadline_and_leaves_nothing(client):
    client.call("SPAWN", "long", ["sleep", "100"])
    for _ in range(20):
        assert client.refused("WAIT", "long", deadline_ms=1).code == "TIMEOUT"
    ids = [client.send("WAIT", "long") for _ in range(20)]
    client.call("KILL", "long")
    assert {client.wait(id)["reason"] for id in ids} == {"killed"}


def test_a_start_cannot_be_called_back_and_says_so(kernel, client):
    """The launcher stands still, so both are under way when nobody wants them any more."""
    launcher = kernel.launcher_pid()
    os.kill(launcher, signal.SIGSTOP)
    try:
        cancelled = client.send("SPAWN", "cancelled", ["sleep", "100"])
        late = client.send("SPAWN", "late", ["sleep", "100"], deadline_ms=100)
        assert client.call("CANCEL", cancelled) is False
        with pytest.raises(Refused) as caught:
            client.wait(late)
        assert caught.value.code == "TIMEOUT" and caught.value.detail == {"outcome": "unknown"}
    finally:
        os.kill(launcher, signal.SIGCONT)
    assert client.wait(cancelled)["status"] == "running"
    wait_until(lambda: sorted(agents(client)) == ["cancelled", "late"], "both have been started")
    for name in ("cancelled", "late"):
        killing = client.send("KILL", name, 50)
        assert client.call("CANCEL", killing) is False
        assert client.wait(killing)["reason"] == "killed"


# ---- bad input ----

BAD_NAMES = ["", ".hidden", "-x", "a/b", "a b", "ä", "x" * 64, "..", "a\n"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_malformed_name_is_refused(client, name):
    assert client.refused("SPAWN", name, ["true"]).code == "INVALID_ARGUMENT"


def test_a_name_is_held_by_one(client):
    client.call("SPAWN", "one", ["sleep", "100"])
    error = client.refused("SPAWN", "one", ["true"])
    assert error.code == "NAME_TAKEN" and "one" in error.message
    client.call("KILL", "one")
    assert run(client, "one", ["true"])["exit_code"] == 0


BAD_OPTIONS = {
    "an unknown option": ({"colour": 1}, "colour"),
    "an unknown profile": ({"profile": "weak"}, "profile"),
    "a profile against sandboxed": ({"profile": "strict", "sandboxed": False}, "sandbox"),
    "an unknown limit": ({"limits": {"disk": 1}}, "disk"),
    "limits of another type": ({"limits": 5}, "limits"),
    "negative memory": ({"limits": {"memory": -1}}, "memory"),
    "no memory": ({"limits": {"memory": 0}}, "memory"),
    "memory in words": ({"limits": {"memory": "1G"}}, "memory"),
    "absurd memory": ({"limits": {"memory": 1 << 62}}, "memory"),
    "no cpu": ({"limits": {"cpu_quota": 0}}, "cpu_quota"),
    "no processes": ({"limits": {"max_pids": 0}}, "max_pids"),
    "an unknown policy": ({"restart_policy": "sometimes"}, "restart_policy"),
    "a relative cwd": ({"cwd": "x"}, "cwd"),
    "a relative path to share": ({"ro": ["x"]}, "ro"),
    "an unknown right": ({"rights": ["fly"]}, "fly"),
    "a timeout below zero": ({"timeout_ms": -1}, "timeout_ms"),
}


@pytest.mark.parametrize("options, word", BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
def test_a_wrong_option_is_refused_by_name(client, options, word):
    error = client.refused("SPAWN", "x", ["true"], options)
    assert error.code == "INVALID_ARGUMENT" and word in error.message
    assert agents(client) == []


def test_a_script_that_cannot_be_read_is_refused(client, directory):
    assert client.refused("SPAWN", "x", "/no/such.py").code == "NOT_FOUND"
    assert client.refused("SPAWN", "x", str(directory)).code == "NOT_A_FILE"
    assert client.refused("SPAWN", "x", "/dev/null").code == "NOT_A_FILE"
    if HERE:
        hidden = directory / "hidden.py"
        hidden.write_text("")
        hidden.chmod(0)
        assert client.refused("SPAWN", "x", str(hidden)).code == "PERMISSION_DENIED"
    assert run(client, "x", ["true"])["exit_code"] == 0  # the name is free


def test_a_program_that_does_not_exist_is_refused(client, script):
    error = client.refused("SPAWN", "x", ["no-such-program"])
    assert error.code == "EXEC_FAILED" and error.detail["step"] == "exec"
    error = client.refused("SPAWN", "x", script("print(1)"), {"interpreter": "/usr/bin/no-python"})
    assert error.code == "EXEC_FAILED" and error.detail["step"] == "exec"
    assert agents(client) == []


def test_a_path_that_is_not_there_cannot_be_shared(client):
    assert client.refused("SPAWN", "x", ["true"], {"ro": ["/no/such/dir"]}).code == "NOT_FOUND"
    assert client.refused("SPAWN", "x", ["true"], {"ro": ["/dev/null"]}).code == "NOT_A_FILE"


@pytest.mark.parametrize("op", ["KILL", "WAIT", "PAUSE", "RESUME", "INSPECT", "LOGS"])
@pytest.mark.parametrize("agent", ["nobody", 12345, 1 << 40, ""])
def test_an_agent_that_is_not_there_is_said_so(client, op, agent):
    assert client.refused(op, agent).code == "AGENT_NOT_FOUND"


@pytest.mark.parametrize("agent", [None, 1.5, ["x"], -1])
def test_an_agent_is_an_id_or_a_name(client, agent):
    assert client.refused("KILL", agent).code == "INVALID_ARGUMENT"


# ---- many, and the end ----


def test_many_agents_live_on_all_cores_and_all_end(kernel, client):
    ids = [client.send("SPAWN", f"n{i}", ["sleep", "100"]) for i in range(60)]
    cores = {client.wait(id)["core"] for id in ids}
    assert len(cores) == 3
    assert len(agents(client)) == 60
    ids = [client.send("KILL", f"n{i}") for i in range(60)]
    assert {client.wait(id)["reason"] for id in ids} == {"killed"}
    assert not left_of(kernel)


def test_agents_outlive_their_client_but_not_the_kernel(kernel, marker):
    client = kernel.client()
    client.call("SPAWN", "a", ["sh", "-c", marker.shell], {"sandboxed": False})
    client.call("SPAWN", "b", ["sh", "-c", marker.shell])
    client.close()
    other = kernel.client()
    wait_until(lambda: len(marker.pids()) == 2, "both run")
    assert sorted(agents(other)) == ["a", "b"]
    kernel.terminate()
    assert kernel.wait() == 0
    wait_until(lambda: not marker.pids(), "both are gone")


@pytest.mark.parametrize("who", ["kernel", "launcher"])
def test_nothing_is_left_when_one_of_both_is_killed(kernel, marker, who):
    client = kernel.client()
    for i in range(5):
        client.call("SPAWN", f"a{i}", ["bash", "-c", f"setsid {marker.shell} & {marker.shell}"], {"sandboxed": i < 3})
    wait_until(lambda: len(marker.pids()) >= 10, "all run")
    if who == "kernel":
        kernel.kill()
    else:
        os.kill(kernel.launcher_pid(), signal.SIGKILL)
    wait_until(lambda: not marker.pids(), "nothing is left")
    if who == "launcher":
        wait_until(lambda: agents(client) == [], "the kernel knows")
        assert client.call("WAIT", "a0")["reason"] == "lost"
        assert client.refused("SPAWN", "b", ["true"]).code == "UNAVAILABLE"
        client.assert_alive()
