# SPDX-License-Identifier: MIT
"""Limits of agents: said, enforced where cgroup v2 has the controllers, changed while they run.

tests/vm runs this file again on a machine that has them all, where nothing is skipped for want of one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import procfs
from kernel import wait_until

MIB = 1 << 20

EAT = "x = bytearray(%d << 20)\nprint('ate it', flush=True)\nimport time; time.sleep(100)"
FORK = """
import os, time
n = 0
try:
    while n < 100:
        if os.fork() == 0:
            time.sleep(100)
        n += 1
except BlockingIOError:
    pass
print('forked', n, flush=True)
time.sleep(100)
"""


@pytest.fixture
def client(kernel):
    return kernel.client()


@pytest.fixture
def controllers(client):
    """Skips where some limit is not held by a cgroup."""
    held = host_of(client)
    missing = [name for name in ("memory", "cpu", "pids") if held[name] != "cgroup"]
    if missing:
        pytest.skip(f"no cgroup v2 controller here for {', '.join(missing)}: tests/vm has them")


def spawn(client, name: str, script: str, **options: object) -> dict:
    return client.call("SPAWN", name, ["/usr/bin/python3", "-c", script], options)


def host_of(client) -> dict[str, str]:
    return client.call("HELLO", 1, 1)["protections"]


def log_of(client, name: str) -> str:
    return client.call("LOGS", name)["data"].decode()


def refused(client, *args: object) -> tuple[str, str]:
    error = client.refused(*args)
    return error.code, error.message


def groups() -> list[Path]:
    """Clove's own groups, below whichever one this runs in."""
    own = procfs.cgroup(os.getpid())
    return list(own.glob("clove-*")) if own else []


# ---- what is said ----


def test_hello_spawn_and_list_say_the_same_of_each_limit(client):
    host = host_of(client)
    assert set(host) == {"memory", "cpu", "pids", "io"} and set(host.values()) <= {"cgroup", "rlimit", "none"}
    spawned = spawn(client, "a", "import time; time.sleep(100)")
    listed = client.call("LIST")[0]["protections"]
    for name in ("memory", "cpu"):
        assert spawned["protections"][name] == listed[name] == host[name]
    if host["cpu"] == "none":
        assert any(text.startswith("cpu: not limited") for text in spawned["warnings"])
    else:
        assert not any(text.startswith("cpu:") for text in spawned["warnings"])
    # The default has no limit of I/O, so there is nothing to warn of.
    assert not any(text.startswith("io:") for text in spawned["warnings"])


def test_require_limits_is_enforced_or_refused_by_name(client):
    host = host_of(client)
    missing = [name for name in ("memory", "cpu", "pids") if host[name] != "cgroup"]
    if missing:
        code, message = refused(client, "SPAWN", "a", ["true"], {"require_limits": True})
        assert code == "LIMITS_UNAVAILABLE" and f"cgroup-{missing[0]}: " in message, message
        assert client.call("LIST") == []
    else:
        held = spawn(client, "a", "pass", require_limits=True)["protections"]
        assert {held[name] for name in ("memory", "cpu", "pids")} == {"cgroup"}


def test_a_kernel_can_require_limits_of_all(start_kernel):
    kernel = start_kernel("--require-limits")
    client = kernel.client()
    host = host_of(client)
    if {host[name] for name in ("memory", "cpu", "pids")} == {"cgroup"}:
        assert spawn(client, "a", "pass")["agent_id"]
        return
    code, message = refused(client, "SPAWN", "a", ["true"])
    assert code == "LIMITS_UNAVAILABLE" and "cgroup-" in message
    code, _ = refused(client, "SPAWN", "a", ["true"], {"sandboxed": False})
    assert code == "LIMITS_UNAVAILABLE"
    assert client.exec(["true"])["exit_code"] == 0


@pytest.mark.parametrize(
    "limits",
    [
        {"memory": -1},
        {"memory": 0},
        {"memory": 1 << 60},
        {"memory": "1G"},
        {"memory": 1.5},
        {"cpu_quota": 0},
        {"cpu_quota": 999},
        {"max_pids": 2},
        {"max_pids": 1 << 30},
        {"io_read": 1},
        {"io_write": True},
        {"speed": 1},
        {"workspace": MIB},
        [],
        7,
    ],
)
def test_limits_that_make_no_sense_are_refused(client, limits):
    spawn(client, "a", "import time; time.sleep(100)")
    before = client.call("INSPECT", "a")["limits"]
    code, message = refused(client, "SET_LIMITS", "a", limits)
    assert code == "INVALID_ARGUMENT" and "limits" in message or "start" in message
    if limits != {"workspace": MIB}:
        code, _ = refused(client, "SPAWN", "b", ["true"], {"limits": limits})
        assert code == "INVALID_ARGUMENT"
    assert client.call("INSPECT", "a")["limits"] == before


def test_limits_of_nobody_cannot_be_changed(client):
    assert refused(client, "SET_LIMITS", "ghost", {"memory": 64 * MIB})[0] == "AGENT_NOT_FOUND"
    spawn(client, "gone", "pass")
    client.call("WAIT", "gone")
    assert refused(client, "SET_LIMITS", "gone", {"memory": 64 * MIB})[0] in ("AGENT_NOT_FOUND", "LIMITS_UNAVAILABLE")


def test_where_no_cgroup_holds_a_limit_it_cannot_be_changed(client):
    host = host_of(client)
    if host["cpu"] == "cgroup":
        pytest.skip("this host has the controller")
    spawn(client, "a", "import time; time.sleep(100)")
    code, message = refused(client, "SET_LIMITS", "a", {"cpu_quota": 50000})
    assert code == "LIMITS_UNAVAILABLE" and "cgroup-cpu: " in message
    assert client.call("INSPECT", "a")["limits"]["cpu_quota"] == 100000


# ---- groups ----


def need_groups() -> None:
    """Skips where not even groups can be made."""
    if not groups():
        pytest.skip("no groups of cgroup v2 can be made here")


@pytest.fixture
def grouped(kernel):
    need_groups()


def agents_group(pid: int) -> Path:
    group = procfs.cgroup(pid)
    assert group is not None and group.name == "self", group
    return group.parent


def used_us(group: Path) -> int:
    """Processor time of all who are or were in it; counted without any controller."""
    return int((group / "cpu.stat").read_text().split()[1])


def test_a_group_goes_with_its_agent(client, grouped):
    group = agents_group(spawn(client, "a", "import time; time.sleep(100)")["pid"])
    assert group.is_dir() and group.parent.name == "agents"
    client.call("KILL", "a")
    wait_until(lambda: not group.exists(), "its group is removed")


def test_work_on_files_in_a_box_counts_as_its_agents(kernel, client, grouped):
    """What is written into its memory by READ and WRITE would be nobody's otherwise. It goes on while the agent is paused."""
    group = agents_group(spawn(client, "a", "import time; time.sleep(100)")["pid"])
    client.call("PAUSE", "a")
    wait_until(lambda: "frozen 1" in (group / "self" / "cgroup.events").read_text(), "its own processes stand still")
    before = used_us(group)
    for _ in range(8):
        client.call("WRITE", "/tmp/file", bytes(1 << 20), "write", 0, "a")
    # Who works is gone too soon to be seen at it; what it used stays.
    assert used_us(group) > before


def test_usage_is_told(client, grouped):
    spawn(client, "a", "while True: pass")
    wait_until(lambda: (client.call("LIST", False, None, True)[0]["cpu_percent"] or 0) > 1, "its time is counted")
    seen = client.call("INSPECT", "a")
    assert seen["cpu_percent"] > 1
    host = host_of(client)
    assert (seen["memory_bytes"] is not None) == (host["memory"] == "cgroup")
    if host["pids"] == "cgroup":
        assert seen["processes"] == 2  # its init and its program
    assert "cpu_percent" not in client.call("LIST")[0]


@pytest.mark.parametrize("ended", ["kernel", "launcher", "both"])
def test_no_group_outlives_a_kernel_that_was_killed(start_kernel, ended):
    """Not even the group of an agent that is paused, whose init cannot see that anything ended."""
    kernel = start_kernel()
    need_groups()
    client = kernel.client()
    pid = spawn(client, "a", "import time; time.sleep(100)")["pid"]
    group = agents_group(pid)
    client.call("PAUSE", "a")
    wait_until(lambda: procfs.stands_still(pid), "it stands still")
    launcher = kernel.launcher_pid()
    if ended in ("launcher", "both"):
        os.kill(launcher, 9)
    if ended in ("kernel", "both"):
        kernel.kill()
    if ended == "both":
        # Nobody was left to do it: the next one does.
        start_kernel()
    wait_until(lambda: not procfs.name(pid), "the agent is gone")
    if ended == "launcher":
        assert "launcher-died" in kernel.log()
        kernel.stop()
        start_kernel()
    wait_until(lambda: not group.exists(), "its group is gone")


def test_what_an_agent_starts_is_in_its_group_and_goes_with_each_of_its_lives(client, grouped):
    script = (
        "import sys; sys.path.insert(0, '/clove/sdk')\n"
        "from clove_sdk import CloveClient\n"
        "import os, time\n"
        "c = CloveClient()\n"
        "print('child', c.spawn('child', argv=['sleep', '100']).pid, flush=True)\n"
        "while not os.path.exists('end'): time.sleep(0.01)\n"
        "os.unlink('end')\n"
        "sys.exit(1)\n"
    )
    pid = spawn(client, "parent", script, restart_policy="on-failure")["pid"]
    wait_until(lambda: "\n" in log_of(client, "parent"), "it has started another")
    child = next(agent for agent in client.call("LIST") if agent["name"] == "child")
    assert agents_group(child["pid"]).parent == agents_group(pid)
    # The next life is free to start one of the same name.
    (Path("/proc") / str(pid) / "root/workspace/end").touch()
    wait_until(lambda: log_of(client, "parent").count("child") == 2, "its second life has started its own")
    assert not procfs.name(child["pid"])


# ---- limits that hold: where there are controllers ----


def test_too_much_memory_is_told_from_a_kill(client, controllers):
    spawn(client, "other", "import time; time.sleep(100)")
    spawn(client, "hungry", EAT % 200, limits={"memory": 64 * MIB})
    end = client.call("WAIT", "hungry")
    assert end["reason"] == "out-of-memory" and end["signal"] == 9, end
    assert [agent["name"] for agent in client.call("LIST")] == ["other"]
    spawn(client, "killed", "import os; os.kill(os.getpid(), 9)", limits={"memory": 64 * MIB})
    assert client.call("WAIT", "killed")["reason"] == "signal"


def test_memory_is_that_of_all_its_processes(client, controllers):
    script = (
        "import os, time\n"
        "for i in range(4):\n"
        "    if os.fork() == 0:\n"
        "        x = bytearray(30 << 20)\n"
        "        time.sleep(100)\n"
        "time.sleep(100)\n"
    )
    spawn(client, "many", script, limits={"memory": 64 * MIB})
    assert client.call("WAIT", "many")["reason"] == "out-of-memory"


def test_forks_beyond_the_limit_fail(client, controllers):
    spawn(client, "a", FORK, limits={"max_pids": 10})
    wait_until(lambda: "\n" in log_of(client, "a"), "it has forked")
    assert log_of(client, "a") == "forked 9\n"


def throttled(pid: int) -> int:
    lines = (agents_group(pid) / "cpu.stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("nr_throttled"))


def test_a_busy_agent_is_throttled_to_its_quota(client, controllers):
    pid = spawn(client, "busy", "while True: pass", limits={"cpu_quota": 20000})["pid"]
    wait_until(lambda: throttled(pid) > 5, "it is throttled")
    free = spawn(client, "calm", "import time; time.sleep(100)")["pid"]
    assert throttled(free) == 0
    # Of two CPUs and an average: half of one would mean that there is no quota.
    assert client.call("INSPECT", "busy")["cpu_percent"] < 50


def test_limits_change_while_it_runs_and_for_its_next_life(client, controllers):
    pid = spawn(client, "a", FORK, limits={"max_pids": 10}, restart_policy="on-failure")["pid"]
    wait_until(lambda: "forked 9\n" in log_of(client, "a"), "it has forked")
    changed = client.call("SET_LIMITS", "a", {"max_pids": 20, "cpu_quota": 50000})
    assert changed["limits"]["max_pids"] == 20 and changed["limits"]["memory"] == 512 * MIB
    assert (agents_group(pid) / "pids.max").read_text() == "21\n"
    assert (agents_group(pid) / "cpu.max").read_text() == "50000 100000\n"
    assert client.call("INSPECT", "a")["limits"]["cpu_quota"] == 50000
    os.kill(pid, 9)
    wait_until(lambda: "forked 19\n" in log_of(client, "a"), "its next life has the new limits")


def test_memory_below_what_is_in_use_ends_it(client, controllers):
    spawn(client, "a", EAT % 100)
    wait_until(lambda: "\n" in log_of(client, "a"), "it has eaten")
    client.send("SET_LIMITS", "a", {"memory": 20 * MIB})  # answers that it is done, or that the agent has ended
    assert client.call("WAIT", "a")["reason"] == "out-of-memory"


def test_what_an_agent_starts_shares_its_limits(client, controllers):
    script = (
        "import time\nfrom clove_sdk import CloveClient\n"
        "c = CloveClient()\n"
        "c.spawn('child', argv=['/usr/bin/python3', '-c', %r])\n"
        "for line in c.follow_logs('child'): print(line.text, end='', flush=True)\n" % FORK
    )
    spawn(client, "parent", script, limits={"max_pids": 20})
    wait_until(lambda: "\n" in log_of(client, "parent"), "the child has forked")
    # Of 21 with the parent's init: that, its program, the child's init and program.
    assert 15 <= int(log_of(client, "parent").split()[1]) <= 17


def test_a_child_out_of_memory_is_not_its_parent(client, controllers):
    script = (
        "from clove_sdk import CloveClient\n"
        "c = CloveClient()\n"
        "c.spawn('child', argv=['/usr/bin/python3', '-c', %r], limits={'memory': %d})\n"
        "print(c.wait('child').reason)\n" % (EAT % 200, 32 * MIB)
    )
    spawn(client, "parent", script)
    end = client.call("WAIT", "parent")
    assert (end["reason"], end["exit_code"]) == ("exited", 0)
    assert log_of(client, "parent") == "out-of-memory\n"


def test_an_agent_cannot_change_its_own_limits(client):
    script = (
        "import os\nfrom clove_sdk import CloveClient, errors\n"
        "c = CloveClient()\n"
        "try: c.set_limits(os.environ['CLOVE_AGENT_NAME'], limits={'memory': 1 << 30})\n"
        "except errors.PermissionDenied as e: print('denied', e)\n"
    )
    spawn(client, "a", script)
    client.call("WAIT", "a")
    assert log_of(client, "a").startswith("denied")


def test_a_frozen_agent_is_thawed_and_killed(client, grouped):
    script = "import time\nwhile True: print(time.monotonic(), flush=True); time.sleep(0.005)"
    pid = spawn(client, "a", script)["pid"]
    wait_until(lambda: log_of(client, "a"), "it ticks")
    client.call("PAUSE", "a")
    wait_until(lambda: procfs.stands_still(pid), "it stands still")
    time.sleep(0.05)
    before = log_of(client, "a")
    time.sleep(0.2)
    assert log_of(client, "a") == before
    client.call("RESUME", "a")
    wait_until(lambda: log_of(client, "a") != before, "it ticks on")
    client.call("PAUSE", "a")
    assert client.call("KILL", "a", 1000)["reason"] == "killed"
    assert not procfs.name(pid)
