# SPDX-License-Identifier: MIT
"""How long a command lives: until it ends, its time is up, or nobody waits for it."""

import pytest

import procfs
from kernel import wait_until
from procfs import Marker


@pytest.fixture
def other_marker():
    marker = Marker()
    yield marker
    marker.kill()


def gone(marker):
    wait_until(lambda: not marker.pids(), "the command is gone")


def running(marker, count=1):
    wait_until(lambda: len(marker.pids()) == count, "the command runs")


def test_a_timeout_ends_the_whole_process_group(kernel, client, marker):
    result = client.exec(f"echo partial; {marker.shell} & {marker.shell}", timeout_ms=300)
    assert result["timed_out"] is True
    assert (result["exit_code"], result["signal"]) == (-1, 9)
    assert result["stdout"] == b"partial\n"
    gone(marker)
    wait_until(lambda: procfs.children(kernel.pid) == [kernel.launcher_pid()], "it is reaped")


def test_a_timeout_reaches_what_ignores_other_signals(client, marker):
    result = client.exec(f"trap '' TERM INT HUP; {marker.shell}; {marker.shell}", timeout_ms=200)
    assert result["timed_out"] is True and result["signal"] == 9
    gone(marker)


@pytest.fixture
def grouped(kernel, marker):
    """Skips where commands have no cgroup, and only their process group can be killed."""
    with kernel.client() as other:
        other.send("EXEC", marker.argv)
        running(marker)
        group = procfs.cgroup(marker.pids()[0])
    gone(marker)
    if group is None or group.parent.name != "agents":
        pytest.skip("no groups of cgroup v2 can be made here")


def test_a_timeout_reaches_who_has_left_the_session(kernel, client, marker, grouped):
    result = client.exec(f"setsid {marker.shell} & (setsid sh -c '{marker.shell} & {marker.shell}' &); {marker.shell}", timeout_ms=300)
    assert result["timed_out"] is True
    gone(marker)
    client.assert_alive()


def test_a_client_that_goes_takes_along_who_has_left_the_session(kernel, marker, grouped):
    with kernel.client() as other:
        other.send("EXEC", f"setsid {marker.shell} & {marker.shell}")
        running(marker, 2)
    gone(marker)


def test_what_is_left_in_the_background_ends_with_the_kernel(kernel, client, marker, grouped):
    assert client.exec(f"setsid {marker.shell} & {marker.shell} & echo started")["exit_code"] == 0
    running(marker, 2)
    kernel.stop()
    gone(marker)


def test_a_timeout_that_is_not_reached_changes_nothing(client):
    result = client.exec(["echo", "x"], timeout_ms=20_000)
    assert result["timed_out"] is False and result["exit_code"] == 0
    assert client.exec("sleep 0.1", timeout_ms=0)["exit_code"] == 0


def test_the_timeout_of_one_command_leaves_the_others(client, marker, other_marker):
    short = client.send("EXEC", marker.argv, {"timeout_ms": 200})
    long = client.send("EXEC", other_marker.argv)
    assert client.wait(short)["timed_out"] is True
    running(other_marker)
    assert client.call("CANCEL", long) is True


def test_a_process_left_in_the_background_delays_no_answer(client, marker):
    result = client.exec(f"{marker.shell} & echo started")
    assert result["stdout"] == b"started\n" and result["exit_code"] == 0
    running(marker)  # it outlives the command, as it would under a shell
    client.assert_alive()


def test_a_process_left_behind_that_writes_on_delays_no_answer(client):
    """Its pipe is closed, which ends it; the timeout is for a kernel that does not."""
    endless = "timeout 30 sh -c 'while echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; do :; done'"
    assert client.exec(f"{endless} & sleep 0.05")["exit_code"] == 0
    client.assert_alive()


def test_a_client_that_goes_takes_its_commands_along(kernel, marker, other_marker):
    leaving, staying = kernel.client(), kernel.client()
    for _ in range(3):
        leaving.send("EXEC", f"{marker.shell} & {marker.shell}")
    kept = staying.send("EXEC", other_marker.argv)
    running(marker, 6)
    running(other_marker)
    leaving.close()
    gone(marker)
    assert len(other_marker.pids()) == 1
    assert staying.call("CANCEL", kept) is True
    wait_until(lambda: procfs.children(kernel.pid) == [kernel.launcher_pid()], "all are reaped")


def test_a_client_that_goes_at_once_leaves_nothing(kernel, marker):
    """The command may not even have been started when its client goes."""
    for _ in range(30):
        client = kernel.client()
        client.send("EXEC", marker.argv)
        client.close()
    bystander = kernel.client()
    wait_until(lambda: bystander.stats()["connections"] == 1, "the connections are closed")
    wait_until(lambda: procfs.children(kernel.pid) == [kernel.launcher_pid()], "all are reaped")
    gone(marker)


def test_exit_takes_the_commands_of_its_connection_along(kernel, marker):
    client = kernel.client()
    client.send("EXEC", marker.argv)
    running(marker)
    client.call("EXIT")
    gone(marker)


def test_a_killed_kernel_takes_its_commands_along(kernel, marker):
    launcher = kernel.launcher_pid()
    clients = [kernel.client() for _ in range(3)]
    for client in clients:
        client.send("EXEC", f"{marker.shell} & {marker.shell}")
    running(marker, 6)
    kernel.kill()
    gone(marker)
    wait_until(lambda: procfs.name(launcher) != "clove-launcher", "the launcher is gone")
