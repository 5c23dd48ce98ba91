# SPDX-License-Identifier: MIT
"""Many connections: each ends without a trace, and those over the limit are turned away."""

import resource
import socket

import pytest

import kernel as kernels
import procfs
from wire import Client, Closed, Refused, request

MIB = 1024  # in KiB, as /proc counts


def open_files(kernel) -> int:
    try:
        return procfs.open_files(kernel.pid)
    except PermissionError:
        pytest.skip("only root may count the descriptors of an undumpable process")


WAYS = {
    "silent": lambda client: None,
    "after a request": lambda client: client.assert_alive(),
    "with an answer unread": lambda client: client.send_bytes(request("NOOP", "x")),
    "inside a frame": lambda client: client.send_bytes(request("NOOP", "x")[:20]),
    "with a command running": lambda client: client.send("EXEC", ["sleep", "30"]),
    "half-closed": lambda client: client.socket.shutdown(socket.SHUT_WR),
    "half-closed with a request": lambda client: (
        client.send_bytes(request("NOOP", "x")),
        client.socket.shutdown(socket.SHUT_WR),
        client.read_frame(),
        client.assert_closed(),
    ),
    "after broken framing": lambda client: client.send_bytes(b"\xff" * 16),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_connection_leaves_nothing_behind(kernel, way):
    watcher = kernel.client()
    watcher.exec(["true"])
    kernels.wait_until(lambda: watcher.stats()["connections"] == 1, "the connection of the start is closed")
    before = open_files(kernel)
    for _ in range(60):
        with Client(kernel.socket_path) as client:
            way(client)
    kernels.wait_until(lambda: watcher.stats()["connections"] == 1, "all are closed", timeout=5)
    kernels.wait_until(lambda: open_files(kernel) <= before, "no descriptor is left", timeout=5)


def test_two_thousand_connections_leave_nothing_behind(kernel):
    watcher = kernel.client()
    kernels.wait_until(lambda: watcher.stats()["connections"] == 1, "the connection of the start is closed")
    before = open_files(kernel)
    memory = procfs.anonymous_kib(kernel.pid)
    for i in range(2000):
        with Client(kernel.socket_path) as client:
            if i % 4 == 0:
                client.assert_alive()
    kernels.wait_until(lambda: watcher.stats()["connections"] == 1, "all are closed")
    kernels.wait_until(lambda: open_files(kernel) <= before, "no descriptor is left")
    assert sum(core["accepted"] for core in watcher.stats()["cores"]) >= 2002
    if not kernels.is_sanitized():
        assert procfs.anonymous_kib(kernel.pid) - memory < 4 * MIB


def test_a_thousand_connections_at_once(kernel):
    watcher = kernel.client()
    kernels.wait_until(lambda: watcher.stats()["connections"] == 1, "the connection of the start is closed")
    before = open_files(kernel)
    clients = [Client(kernel.socket_path) for _ in range(1000)]
    try:
        for i, client in enumerate(clients):
            client.send_bytes(request("NOOP", i))
        assert [client.read_frame().value() for client in clients] == list(range(1000))
        assert watcher.stats()["connections"] == 1001
    finally:
        for client in clients:
            client.close()
    kernels.wait_until(lambda: watcher.stats()["connections"] == 1, "all are closed")
    kernels.wait_until(lambda: open_files(kernel) <= before, "no descriptor is left")


def limited(files: int):
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    return lower


@pytest.mark.parametrize("cores", [1, 3])
def test_connections_over_the_limit_are_turned_away_with_a_reason(start_kernel, io, cores):
    kernel = start_kernel(io=io, cores=cores, preexec=limited(600))
    kept: list[Client] = []
    turned_away = None
    for _ in range(600):
        client = kernel.client()
        try:
            client.assert_alive()
        except Refused as error:
            turned_away = (client, error)
            break
        except (BrokenPipeError, ConnectionResetError):
            # It was closed before the question was sent; the reason is there all the same.
            with pytest.raises(Refused) as caught:
                client.read_frame().value()
            turned_away = (client, caught.value)
            break
        kept.append(client)
    assert turned_away, "nobody was turned away"
    client, error = turned_away
    assert error.code == "BUSY"
    client.assert_closed()
    assert len(kept) > 200

    # Those who are in are served as before, commands and files too.
    for client in kept:
        client.assert_alive()
    assert kept[0].exec(["echo", "x"])["stdout"] == b"x\n"
    assert kept[1].call("READ", "/proc/self/status")["data"]

    # A place that becomes free is given away again.
    kept.pop().close()

    def admitted() -> bool:
        with Client(kernel.socket_path) as newcomer:
            try:
                newcomer.assert_alive()
                return True
            except (Refused, Closed, BrokenPipeError, ConnectionResetError):
                return False

    kernels.wait_until(admitted, "a free place is given away")


def test_a_limit_of_descriptors_far_too_low_is_said_or_lived_with(directory, io):
    """Never a kernel that hangs or dies without a word."""
    for files in (8, 16, 32, 64):
        try:
            kernel = kernels.Kernel(directory, ["--io", io], preexec=limited(files))
        except AssertionError as error:
            assert "clove_kernel: " in str(error), error
            assert "status 1" in str(error), error
            continue
        kernel.client().assert_alive()
        kernel.stop()
