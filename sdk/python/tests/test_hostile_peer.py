# SPDX-License-Identifier: MIT
"""A peer that breaks the protocol, which the real kernel does not do on request.

Both clients run the same cases; a thread plays the peer on a listening socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time

import clove_sdk
import pytest
from clove_sdk import AsyncCloveClient, CloveClient, SyscallOp
from clove_sdk._codec import pack

HELLO = {
    "protocol": 1, "version": "0", "agent_id": 7, "uid": 0, "core": 0, "features": [], "limits": {},
    "io": "epoll", "epoch": 1, "uptime_ms": 1, "sandbox": False, "box_commands": False, "protections": {},
}


def frame(request_id, value, op=SyscallOp.NOOP, flags=1):
    body = pack([value])[1:]
    return struct.pack("<IHHQ", len(body), op, flags, request_id) + body


def read_frame(sock):
    header = sock.recv(16, socket.MSG_WAITALL)
    if len(header) < 16:
        raise EOFError
    size, op, flags, request_id = struct.unpack("<IHHQ", header)
    return op, flags, request_id, sock.recv(size, socket.MSG_WAITALL) if size else b""


@pytest.fixture
def peer(tmp_path):
    """Starts peers: peer(play) serves one client by play(sock), after HELLO; returns the path."""
    threads = []

    def start(play, greet=True):
        path = str(tmp_path / f"{len(threads)}.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def serve():
            with listener, listener.accept()[0] as sock:
                try:
                    if greet:
                        op, _, request_id, _ = read_frame(sock)
                        sock.sendall(frame(request_id, HELLO, op))
                    play(sock)
                except (EOFError, OSError):
                    pass

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return path

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(params=["sync", "async"])
def run(request):
    """run(path, *calls, timeout): results or exceptions of the calls, one after the other."""

    def sync(path, *calls, timeout=5.0):
        client = CloveClient(path, timeout=timeout)
        found = []
        for call in calls:
            try:
                found.append(call(client))
            except clove_sdk.CloveError as error:
                found.append(error)
        client.disconnect()
        return found

    def asynchronous(path, *calls, timeout=5.0):
        async def main():
            client = AsyncCloveClient(path, timeout=timeout)
            found = []
            for call in calls:
                try:
                    found.append(await call(client))
                except clove_sdk.CloveError as error:
                    found.append(error)
            await client.disconnect()
            return found

        return asyncio.run(main())

    return sync if request.param == "sync" else asynchronous


def noop(client):
    return client.noop("x")


def answer(data):
    """A peer that answers one request with these bytes and then waits for the end."""

    def play(sock):
        read_frame(sock)
        sock.sendall(data)
        while sock.recv(4096):
            pass

    return play


@pytest.mark.parametrize("data", [
    b"\xff" * 64,
    frame(99, "no such request"),
    frame(2, "wrong call", op=SyscallOp.EXEC),
    frame(2, "a request's flags", flags=0),
    frame(2, "a chunk", flags=5),
    frame(2, [4, "you broke it", {}], flags=3),
])
def test_broken_framing_is_a_protocol_error_and_the_end(peer, run, data):
    first, second = run(peer(answer(data)), noop, noop)
    assert isinstance(first, clove_sdk.ProtocolError)
    assert isinstance(second, clove_sdk.ConnectionError)


def test_a_body_that_is_not_messagepack_fails_its_call_only(peer, run):
    def play(sock):
        read_frame(sock)
        sock.sendall(struct.pack("<IHHQ", 1, 0, 1, 2) + b"\xc1")
        read_frame(sock)
        sock.sendall(frame(3, "fine"))

    first, second = run(peer(play), noop, noop)
    assert isinstance(first, clove_sdk.ProtocolError) and second == "fine"


def test_a_push_that_nobody_asked_for_is_ignored(peer, run):
    data = frame(123, "news", op=0x20, flags=8) + frame(2, "answer")
    assert run(peer(answer(data)), noop) == ["answer"]


@pytest.mark.parametrize("cut", [0, 1, 16, 18])
def test_an_end_in_the_middle_is_a_lost_connection(peer, run, cut):
    def play(sock):
        read_frame(sock)
        sock.sendall(frame(2, "answer")[:cut])

    error = run(peer(play), noop)[0]
    assert isinstance(error, clove_sdk.ConnectionLost)
    assert ("middle of a frame" in str(error)) == bool(cut)


def test_an_end_at_once_hints_at_another_user(peer, run):
    error = run(peer(lambda sock: read_frame(sock), greet=False), noop)[0]
    assert isinstance(error, clove_sdk.ConnectionLost) and "another user" in str(error)


def test_answers_byte_by_byte(peer, run):
    def play(sock):
        read_frame(sock)
        for byte in frame(2, "slowly"):
            sock.send(bytes((byte,)))
            time.sleep(0.001)

    assert run(peer(play), noop) == ["slowly"]


def test_a_late_answer_is_discarded_and_cancel_is_sent(peer, run):
    seen = []

    def play(sock):
        read_frame(sock)
        seen.append(read_frame(sock))
        op, _, request_id, _ = read_frame(sock)
        sock.sendall(frame(2, "late") + frame(3, False, op=SyscallOp.CANCEL))
        sock.sendall(frame(request_id, "in time", op))

    first, second = run(peer(play), noop, noop, timeout=0.2)
    assert isinstance(first, clove_sdk.TimeoutError) and second == "in time"
    assert seen == [(SyscallOp.CANCEL, 0, 3, pack([2]))]


def test_a_peer_that_does_not_greet(peer, run):
    start = time.monotonic()
    error = run(peer(answer(b""), greet=False), noop, timeout=0.2)[0]
    assert isinstance(error, clove_sdk.TimeoutError) and time.monotonic() - start < 2


def test_answers_in_another_order(peer):
    def play(sock):
        requests = [read_frame(sock) for _ in range(4)]
        for op, _, request_id, body in reversed(requests):
            sock.sendall(struct.pack("<IHHQ", len(body), op, 1, request_id) + body)

    async def main():
        async with AsyncCloveClient(path) as client:
            return await asyncio.gather(*(client.noop(n) for n in range(4)))

    path = peer(play)
    assert asyncio.run(main()) == [[0], [1], [2], [3]]


def test_a_thread_that_gives_up_does_not_leave_the_others_without_a_reader(peer):
    def play(sock):
        requests = [read_frame(sock) for _ in range(3)]
        time.sleep(0.5)
        for op, _, request_id, body in requests[1:]:
            sock.sendall(struct.pack("<IHHQ", len(body), op, 1, request_id) + body)
        sock.recv(1)

    client = CloveClient(peer(play), timeout=0.3)
    client.connect()
    found = {}

    def work(name):
        try:
            found[name] = client.noop(name)
        except clove_sdk.TimeoutError:
            found[name] = "timeout"

    threads = [threading.Thread(target=work, args=(n,)) for n in "abc"]
    for number, thread in enumerate(threads):
        thread.start()
        time.sleep(0.05)
        if number == 0:
            client._timeout = 5.0
    for thread in threads:
        thread.join(5)
    client.disconnect()
    assert found == {"a": "timeout", "b": ["b"], "c": ["c"]}
