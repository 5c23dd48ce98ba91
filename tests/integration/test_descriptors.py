# SPDX-License-Identifier: MIT
"""Descriptors run short: what needs some is refused, and nothing that runs is lost sight of."""

import os
import resource
import signal
import time

import pytest

import procfs
from kernel import wait_until
from test_flood import limited
from wire import Refused


def reaped(kernel) -> None:
    wait_until(lambda: procfs.children(kernel.pid) == [kernel.launcher_pid()], "all are reaped")


@pytest.mark.parametrize("cores", [1, 3])
def test_commands_over_the_limit_are_refused_and_leave_nothing(start_kernel, io, cores):
    kernel = start_kernel(io=io, cores=cores, preexec=limited(1024))
    watcher = kernel.client()
    idle = [kernel.client() for _ in range(500)]
    for client in idle:
        client.assert_alive()
    refused = ran = 0
    for _ in range(3):
        ids = [watcher.send("EXEC", "sleep 0.3") for _ in range(250)]
        for id in ids:
            try:
                assert watcher.wait(id)["exit_code"] == 0
                ran += 1
            except Refused as error:
                assert error.code == "BUSY"
                refused += 1
    assert ran > 60 and refused > 60
    reaped(kernel)

    # Whom it was refused to may come again when the others have gone.
    for client in idle:
        client.close()
    wait_until(lambda: watcher.stats()["connections"] == 1, "the connections are closed")
    ids = [watcher.send("EXEC", "sleep 0.1") for _ in range(100)]
    assert [watcher.wait(id)["exit_code"] for id in ids] == [0] * len(ids)
    reaped(kernel)


@pytest.mark.parametrize("cores", [1])
def test_commands_leave_descriptors_to_connections(start_kernel, io, cores, marker):
    kernel = start_kernel(io=io, cores=cores, preexec=limited(2048))
    clients = [kernel.client() for _ in range(3)]
    asked = refused = 0

    def all_run_or_are_refused() -> bool:
        nonlocal refused
        refused += sum(len(client.arrived()) for client in clients)
        return refused + len(marker.pids()) == asked

    for _ in range(16):
        for client in clients:
            for _ in range(15):
                client.send("EXEC", marker.argv)
        asked += 45
        wait_until(all_run_or_are_refused, "each runs or is refused")
    assert 200 < refused < asked - 200
    late = [kernel.client() for _ in range(400)]
    for client in late:
        client.assert_alive()
    for client in clients:
        client.close()
    reaped(kernel)


def file_limit(pid: int, files: int) -> None:
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, hard))


def settled(kernel) -> None:
    """What the kernel does about requests sent is done, as far as it can while its launcher stands still."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 0.3:
        now = procfs.open_files(kernel.pid)
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.01)


@pytest.fixture
def standstill(kernel):
    """Between the request for a process and the answer, no descriptor is left to watch it by."""
    launcher = kernel.launcher_pid()

    class Standstill:
        def __enter__(self):
            os.kill(launcher, signal.SIGSTOP)

        def __exit__(self, *_):
            settled(kernel)
            file_limit(kernel.pid, 3)
            os.kill(launcher, signal.SIGCONT)

    yield Standstill()
    file_limit(kernel.pid, 1024)
    os.kill(launcher, signal.SIGCONT)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may set the limits of an undumpable process")


@needs_root
@pytest.mark.parametrize("cores", [1])
def test_a_command_is_watched_and_reaped_without_a_descriptor_for_it(kernel, client, marker, standstill):
    client.exec(["true"])
    with standstill:
        good = client.send("EXEC", "sleep 0.2; echo done; exit 3")
        failing = client.send("EXEC", ["/no/such/program"])
        late = client.send("EXEC", marker.argv, {"timeout_ms": 300})
        long = client.send("EXEC", marker.argv)
    result = client.wait(good)
    assert (result["exit_code"], result["stdout"]) == (3, b"done\n")
    with pytest.raises(Refused) as caught:
        client.wait(failing)
    assert caught.value.code == "EXEC_FAILED"
    assert client.wait(late)["timed_out"] is True
    assert client.call("CANCEL", long) is True
    reaped(kernel)
    assert not marker.pids()


@needs_root
@pytest.mark.parametrize("cores", [1])
def test_an_agent_is_watched_and_reaped_without_a_descriptor_for_it(kernel, client, standstill):
    options = {"sandboxed": False}
    with standstill:
        short = client.send("SPAWN", "short", ["sh", "-c", "exit 4"], options)
        failing = client.send("SPAWN", "failing", ["/no/such/program"], options)
        long = client.send("SPAWN", "long", ["sleep", "1000"], options)
    client.wait(short)
    assert client.call("WAIT", "short")["exit_code"] == 4
    with pytest.raises(Refused) as caught:
        client.wait(failing)
    assert caught.value.code == "EXEC_FAILED"
    client.wait(long)
    assert client.call("KILL", "long")["reason"] == "killed"
    reaped(kernel)
