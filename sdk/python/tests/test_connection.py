# SPDX-License-Identifier: MIT
"""Finding the kernel, losing it, timeouts, forks and inherited connections."""

from __future__ import annotations

import asyncio
import builtins
import copy
import errno
import os
import signal
import socket
import stat
import threading
import time
import traceback

import clove_sdk
import pytest
from clove_sdk import AsyncCloveClient, CloveClient, _discovery


def assert_says_what_to_do(error, path):
    message = str(error)
    assert message.startswith(f"{path}: ") and error.filename == path
    assert all(word in message for word in ("core/run serve", "clove_kernel", "CLOVE_SOCKET"))
    # One traceback, not that of connect(2) before it.
    shown = "".join(traceback.format_exception(error))
    assert shown.count("Traceback") == 1 and shown.rstrip().endswith(message)
    assert str(copy.copy(error)) == message


def test_no_kernel_says_what_to_do(tmp_path):
    path = str(tmp_path / "none.sock")
    with pytest.raises(clove_sdk.KernelNotFound) as caught:
        CloveClient(path).connect()
    assert isinstance(caught.value, builtins.FileNotFoundError)
    assert_says_what_to_do(caught.value, path)
    with pytest.raises(clove_sdk.KernelNotFound) as caught:
        asyncio.run(AsyncCloveClient(path).connect())
    assert_says_what_to_do(caught.value, path)


def test_a_socket_that_nobody_serves(tmp_path):
    path = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    with pytest.raises(clove_sdk.KernelRefused) as caught:
        CloveClient(path).noop()
    assert isinstance(caught.value, builtins.ConnectionRefusedError)
    assert_says_what_to_do(caught.value, path)


def test_a_file_that_is_no_socket(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(clove_sdk.ConnectionError, match=f"^{tmp_path}/file: "):
        CloveClient(tmp_path / "file").connect()


def test_a_socket_that_may_not_be_used():
    # Root may use any, so connect(2) is not asked.
    error = _discovery.connect_error("/x", PermissionError(errno.EACCES, "Permission denied"))
    assert str(error).startswith("/x: ") and "not open to you" in str(error)


@pytest.mark.parametrize("path", ["/tmp/" + "x" * 103, "/tmp/\0x"], ids=["long", "NUL"])
def test_a_path_that_no_socket_can_have(path, monkeypatch):
    with pytest.raises(clove_sdk.ValidationError, match="^socket_path"):
        CloveClient(path)
    if "\0" not in path:
        monkeypatch.setenv("CLOVE_SOCKET", path)
        with pytest.raises(clove_sdk.ValidationError, match="^CLOVE_SOCKET"):
            CloveClient()
        assert CloveClient(path[:-1]).socket_path == path[:-1]


def test_order_of_discovery(monkeypatch, tmp_path):
    assert CloveClient().socket_path == "/tmp/clove.sock"
    monkeypatch.setenv("CLOVE_SOCKET", "/by/environment")
    assert CloveClient().socket_path == "/by/environment"
    monkeypatch.setenv("CLOVE_FD", "7")
    assert CloveClient().socket_path == "fd:7"
    assert CloveClient(tmp_path).socket_path == str(tmp_path)
    assert CloveClient(os.fsencode(tmp_path)).socket_path == str(tmp_path)
    monkeypatch.setenv("CLOVE_FD", "seven")
    with pytest.raises(clove_sdk.ValidationError):
        CloveClient()


@pytest.mark.skipif(os.geteuid() != 0, reason="serving as another user needs root")
def test_a_default_socket_served_by_a_stranger_is_refused(monkeypatch, tmp_path):
    path = str(tmp_path / "squatted.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    child = os.fork()
    if child == 0:
        # The peer's credentials are those at the time of listen().
        os.setresuid(65534, 65534, 65534)
        listener.listen()
        time.sleep(30)
        os._exit(0)
    try:
        monkeypatch.setattr(_discovery, "DEFAULT_SOCKET", path)
        deadline = time.monotonic() + 5
        message = ""
        while "served by user 65534" not in message and time.monotonic() < deadline:
            with pytest.raises(clove_sdk.ConnectionError) as caught:
                CloveClient().connect()
            message = str(caught.value)
        assert "served by user 65534" in message
        with pytest.raises(clove_sdk.TimeoutError):
            CloveClient(path, timeout=0.1).connect()
        monkeypatch.setenv("CLOVE_SOCKET", path)
        with pytest.raises(clove_sdk.TimeoutError):
            CloveClient(timeout=0.1).connect()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        listener.close()


def test_life_of_a_connection(kernel):
    client = CloveClient(kernel.path)
    assert not client.connected and client.agent_id is None
    assert client.connect() is True and client.connect() is True
    assert client.connected and isinstance(client.agent_id, int)
    client.disconnect()
    client.disconnect()
    assert not client.connected
    with pytest.raises(clove_sdk.ConnectionError, match="connect"):
        client.noop("x")
    with client:
        assert client.noop("x") == "x"


def test_the_first_call_connects(kernel):
    client = CloveClient(kernel.path)
    assert client.noop("x") == "x" and client.connected
    client.disconnect()


def test_disconnecting_wakes_who_waits(kernel):
    client = CloveClient(kernel.path)
    client.connect()
    caught = []

    def wait():
        try:
            client.exec("sleep 20")
        except clove_sdk.ConnectionError as error:
            caught.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    client.disconnect()
    for thread in threads:
        thread.join(5)
    assert len(caught) == 3 and len({id(error) for error in caught}) == 3


def test_a_kernel_that_stops(own_kernel):
    client = CloveClient(own_kernel.path)
    started = client.exec("sleep 20", async_=True)
    own_kernel.process.kill()
    own_kernel.process.wait()
    with pytest.raises(clove_sdk.ConnectionError):
        client.noop("x")
    assert not client.connected
    with pytest.raises(clove_sdk.ConnectionError, match="connect"):
        client.noop("x")
    report = client.poll_async().results
    assert [item.request_id for item in report] == [started.async_request_id] and report[0].error
    with pytest.raises(clove_sdk.ConnectionError):
        client.connect()


def test_a_call_times_out_and_its_late_answer_is_discarded(kernel):
    client = CloveClient(kernel.path, timeout=5)
    client.connect()
    client._timeout = 0.3
    with kernel.frozen():
        start = time.monotonic()
        with pytest.raises(clove_sdk.TimeoutError) as caught:
            client.noop("late")
        assert 0.25 < time.monotonic() - start < 2
        assert isinstance(caught.value, builtins.TimeoutError)
    client._timeout = 5
    assert client.noop("next") == "next"
    client.disconnect()


def test_a_request_that_the_kernel_does_not_take_in_time(kernel):
    client = CloveClient(kernel.path, timeout=5)
    client.connect()
    client._timeout = 0.3
    with kernel.frozen():
        for _ in range(3):
            with pytest.raises(clove_sdk.TimeoutError):
                client.noop(b"x" * 1_000_000)
    client._timeout = 5
    assert client.noop("next") == "next"
    assert client.noop(b"y" * 1_000_000) == b"y" * 1_000_000
    client.disconnect()


def test_a_timed_out_command_is_ended(kernel, client, tmp_path, monkeypatch):
    monkeypatch.setattr(clove_sdk._calls, "EXEC_MARGIN_SECONDS", -0.3)
    with pytest.raises(clove_sdk.TimeoutError):
        client.exec(f"sleep 0.6; touch {tmp_path}/survived", timeout=0.5)
    time.sleep(0.6)
    assert not (tmp_path / "survived").exists()
    assert client.noop("next") == "next"


class Interrupted(Exception):
    pass


def test_a_signal_handler_may_raise_while_a_call_waits(client, tmp_path):
    def interrupt(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interrupted):
            client.exec(f"sleep 0.4; touch {tmp_path}/survived")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert client.noop("next") == "next"
    time.sleep(0.5)
    assert not (tmp_path / "survived").exists()


def in_child(work):
    """What work() returns in a forked child, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = str(work())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def test_a_forked_child_gets_a_connection_of_its_own(client):
    started = client.exec("sleep 0.3; echo parent", async_=True)
    mine = client.agent_id

    def work():
        assert not client.connected and client.agent_id is None
        assert client.noop("child") == "child"
        assert client.poll_async().count == 0
        return client.agent_id != mine

    assert in_child(work) == "True"
    assert client.noop("parent") == "parent" and client.agent_id == mine
    time.sleep(0.4)
    assert client.poll_async().results[0].request_id == started.async_request_id


def test_a_child_that_disconnects_leaves_the_parents_connection_alone(client):
    assert in_child(client.disconnect) == "None"
    assert client.noop("parent") == "parent"


def test_a_watch_stays_with_the_process_that_began_it(client):
    with client.watch("forked") as watch:
        client.store("forked", 1)
        told = in_child(lambda: watch.next(5))
        assert told.startswith("ConnectionError: ") and "stays with the process" in told
        assert in_child(watch.close) == "None"
        client.store("forked", 2)
        assert [watch.next(5).value, watch.next(5).value] == [1, 2]
    client.delete_key("forked")


def test_a_fork_while_threads_use_the_client(client):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            client.noop("x")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert [in_child(lambda: client.noop("child")) for _ in range(10)] == ["child"] * 10
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


@pytest.fixture
def inherited(kernel, monkeypatch):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(kernel.path)
        monkeypatch.setenv("CLOVE_FD", str(sock.fileno()))
        yield sock
    for transport in clove_sdk._sync_transport._shared.values():
        transport._sock.close()
    # The number will be another socket's.
    _discovery._claims.clear()
    clove_sdk._sync_transport._shared.clear()
    clove_sdk._async_transport._shared.clear()


def test_clients_share_an_inherited_connection(inherited):
    with CloveClient() as one, CloveClient() as two:
        assert one.agent_id == two.agent_id
        started = one.exec("echo one", async_=True)
        assert two.exec("sleep 0.1; echo two").stdout == "two\n"
        assert two.poll_async().count == 0
        assert one.poll_async().results[0].request_id == started.async_request_id
    with CloveClient() as three:
        assert three.noop("open all the time") == "open all the time"
    assert stat.S_ISSOCK(os.fstat(inherited.fileno()).st_mode)


def test_threads_that_open_an_inherited_connection_at_once_get_one_transport(inherited):
    clients = [CloveClient() for _ in range(8)]
    threads = [threading.Thread(target=client.connect) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({id(client._transport) for client in clients}) == 1
    assert len({client.agent_id for client in clients}) == 1


def test_a_watch_ends_with_its_client_not_with_the_shared_connection(inherited):
    with CloveClient() as two:
        with CloveClient() as one:
            watch, other = one.watch("a"), two.watch("a")
            for each in (watch, other):
                assert each.next(0) is None
            assert len(one._transport._table.waiting) == 2
        assert len(two._transport._table.waiting) == 1
        with pytest.raises(clove_sdk.ConnectionError):
            watch.next(5)
        two.store("a", 1)
        assert other.next(5).value == 1
        two.delete_key("a")


def test_an_inherited_connection_that_ended(inherited):
    client = CloveClient()
    client.connect()
    inherited.shutdown(socket.SHUT_RDWR)
    for _ in range(2):
        with pytest.raises(clove_sdk.ConnectionError):
            client.noop("x")
    with pytest.raises(clove_sdk.ConnectionLost):
        client.connect()


def test_an_inherited_connection_is_the_parents_after_a_fork(inherited):
    with CloveClient() as client:
        assert "in use by another process" in in_child(lambda: client.noop("x"))
        assert "in use by another process" in in_child(lambda: CloveClient().connect())
        assert client.noop("parent") == "parent"


def test_an_inherited_descriptor_that_is_not_there(monkeypatch):
    reader, writer = os.pipe()
    os.close(writer)
    for number in (reader, 987654):
        monkeypatch.setenv("CLOVE_FD", str(number))
        with pytest.raises(clove_sdk.ConnectionError, match="pass_fds"):
            CloveClient().connect()
    os.close(reader)


def test_a_client_leaves_no_descriptor_behind(kernel):
    def count():
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(20):
        with CloveClient(kernel.path) as client:
            client.noop("x")
    assert count() == before
