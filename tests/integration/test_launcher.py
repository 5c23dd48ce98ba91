# SPDX-License-Identifier: MIT
"""The launcher dies: no command can be started any more, and everything else goes on."""

import os
import signal
from pathlib import Path

import pytest

import procfs
from kernel import wait_until
from wire import Refused


def end_launcher(kernel, watcher) -> None:
    os.kill(kernel.launcher_pid(), signal.SIGKILL)
    wait_until(lambda: watcher.stats()["launcher"] is False, "the kernel knows")


def test_commands_are_unavailable_and_the_rest_is_served(kernel, directory):
    clients = [kernel.client() for _ in range(3)]  # one on each core
    for client in clients:
        client.exec(["true"])
    clients[0].call("WRITE", str(directory / "file"), "before")
    end_launcher(kernel, clients[0])
    for client in clients:
        error = client.refused("EXEC", ["true"])
        assert error.code == "UNAVAILABLE" and "launcher" in error.message
        client.assert_alive()
        assert client.stats()["launcher"] is False
        assert client.call("LIST") == []
    late = kernel.client()
    assert late.call("HELLO", 1, 1)["protocol"] == 1
    assert late.refused("EXEC", "true").code == "UNAVAILABLE"
    assert "launcher-died" in kernel.log()


def test_files_are_served_or_said_to_be_unavailable(kernel, directory):
    """Nobody is left waiting, whether files were in use before or not."""
    client = kernel.client()
    end_launcher(kernel, client)
    for _ in range(3):
        assert client.refused("READ", "/etc/passwd").code == "UNAVAILABLE"
        assert client.refused("WRITE", str(directory / "x"), "x").code == "UNAVAILABLE"
    client.assert_alive()


def test_a_command_that_runs_is_not_left_hanging(kernel, marker):
    """Its caller learns of its end: its own, or that of the launcher that would have to end it."""
    client = kernel.client()
    short = client.send("EXEC", "sleep 0.5; echo done")
    long = client.send("EXEC", marker.argv, {"timeout_ms": 1000})
    wait_until(marker.pids, "the commands run")
    end_launcher(kernel, client)
    for running in (short, long):
        try:
            result = client.wait(running)
            assert result["stdout"] == b"done\n" or result["timed_out"] or result["signal"]
        except Refused as error:
            assert error.code in ("UNAVAILABLE", "TIMEOUT")
    wait_until(lambda: not marker.pids(), "the command is gone")
    client.assert_alive()


def test_a_command_that_runs_can_be_cancelled(kernel, marker):
    client = kernel.client()
    running = client.send("EXEC", marker.argv)
    wait_until(marker.pids, "the command runs")
    end_launcher(kernel, client)
    client.call("CANCEL", running)
    with pytest.raises(Refused):
        client.wait(running)
    wait_until(lambda: not marker.pids(), "the command is gone")


def test_no_command_outlives_the_kernel(kernel, marker):
    client = kernel.client()
    client.send("EXEC", marker.argv, {"timeout_ms": 0})
    wait_until(marker.pids, "the command runs")
    end_launcher(kernel, client)
    kernel.stop()
    wait_until(lambda: not marker.pids(), "the command is gone", timeout=5)


def test_the_launcher_is_not_left_a_zombie(kernel):
    client = kernel.client()
    end_launcher(kernel, client)
    wait_until(lambda: not procfs.children(kernel.pid), "it is reaped", timeout=5)


def test_signals_for_the_kernel_do_not_reach_the_launcher(kernel):
    """Ctrl-C goes to a whole process group; the launcher has to outlive what the kernel still does."""
    launcher = kernel.launcher_pid()
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(launcher, signo)
    client = kernel.client()
    assert client.exec(["echo", "x"])["stdout"] == b"x\n"
    assert os.getpgid(launcher) != os.getpgid(kernel.pid)


def test_a_kernel_that_does_not_start_leaves_no_launcher(directory):
    """Its launcher ends with it. Found by its parent, which a subreaper makes this process."""
    import ctypes

    import kernel as kernels

    pr_set_child_subreaper = 36
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(pr_set_child_subreaper, 1, 0, 0, 0) == 0
    try:
        before = set(procfs.children(os.getpid()))
        (directory / "file").touch()
        done = kernels.run("--socket", str(directory / "file"), "--data-dir", str(directory / "data"))
        assert done.returncode == 1

        def left() -> list[int]:
            orphans = [pid for pid in procfs.children(os.getpid()) if pid not in before]
            return [pid for pid in orphans if os.waitpid(pid, os.WNOHANG) == (0, 0)]

        wait_until(lambda: not left(), "the launcher is gone")
    finally:
        libc.prctl(pr_set_child_subreaper, 0, 0, 0, 0)


@pytest.mark.parametrize("cores", [1, 3])
def test_what_it_was_starting_when_it_died_is_ended_and_reaped(kernel, marker):
    """Their callers are told that they were not started, so they must not run."""
    watcher = kernel.client()
    clients = [kernel.client() for _ in range(3)]
    launcher, made = kernel.launcher_pid(), Path(f"/proc/{kernel.pid}/task/{kernel.pid}/children")
    asked = 200
    for client in clients:
        for _ in range(asked):
            client.send("EXEC", marker.argv, {"timeout_ms": 0})
    wait_until(lambda: len(made.read_text().split()) > 20, "some have been made")
    os.kill(launcher, signal.SIGKILL)
    wait_until(lambda: watcher.stats()["launcher"] is False, "the kernel knows")
    refused = 0

    def only_those_run_whose_callers_wait() -> bool:
        nonlocal refused
        refused += sum(len(client.arrived()) for client in clients)
        return refused + len(marker.pids()) == asked * len(clients)

    wait_until(only_those_run_whose_callers_wait, "who is not refused runs, and nobody else")
    assert refused
    for client in clients:
        client.close()
    wait_until(lambda: not procfs.children(kernel.pid), "all are ended and reaped")
