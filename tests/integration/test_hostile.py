# SPDX-License-Identifier: MIT
"""Input that no client should send. Whoever sends it is refused; nobody else notices."""

import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import kernel as kernels
import procfs
from wire import BODY_MAX, CALLS, FLAGS, HEADER, PAYLOAD_MAX, Client, Closed, Refused, frame, request

MIB = 1024  # in KiB, as /proc counts

memory_is_the_kernels = pytest.mark.skipif(
    kernels.is_sanitized(), reason="a sanitizer's memory is not the kernel's"
)


def assert_protocol_error(client: Client) -> None:
    with pytest.raises(Refused) as caught:
        client.read_frame().value()
    assert caught.value.code == "PROTOCOL"
    client.assert_closed()


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "json": b'{"op": "noop", "message": "hello"}\n',
    "tls": bytes.fromhex("160301020001000001fc0303") + bytes(range(200)),
    "all ones": b"\xff" * 1000,
    "a length of 4 GiB": frame("NOOP", b"x", length=2**32 - 1),
    "a length one above the limit": frame("NOOP", b"x", length=BODY_MAX + 1),
    "flag REPLY": frame("NOOP", b"", flags=FLAGS["REPLY"]),
    "flags REPLY and ERROR": frame("NOOP", b"", flags=FLAGS["REPLY"] | FLAGS["ERROR"]),
    "flag MORE": frame("NOOP", b"", flags=FLAGS["MORE"]),
    "flag PUSH": frame("NOOP", b"", flags=FLAGS["PUSH"]),
    "a flag that does not exist": frame("NOOP", b"", flags=0x8000),
    "flag REPLY on an unknown call": frame(0xFFFF, b"", flags=FLAGS["REPLY"]),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_broken_framing_is_answered_and_ends_the_connection(kernel, garbage):
    bystander, client = kernel.client(), kernel.client()
    client.send_bytes(garbage)
    assert_protocol_error(client)
    bystander.assert_alive()


def test_the_error_of_a_broken_frame_carries_its_id(client):
    client.send_bytes(request("NOOP", "fine", id=1) + frame("NOOP", b"", 77, length=2**31))
    assert client.read_frame().value() == "fine"
    error = client.read_frame()
    assert error.id == 77 and error.op == CALLS["NOOP"].number
    client.assert_closed()


@memory_is_the_kernels
def test_an_announced_length_costs_no_memory(kernel):
    kernel.client().assert_alive()
    before = procfs.anonymous_kib(kernel.pid)
    clients = [kernel.client() for _ in range(200)]
    for client in clients:
        client.send_bytes(frame("NOOP", b"\x91", length=BODY_MAX))
    kernel.client().assert_alive()
    assert procfs.anonymous_kib(kernel.pid) - before < 4 * MIB


def test_a_frame_cut_off_by_the_end_of_input_is_forgotten(kernel):
    whole = request("NOOP", "x" * 100)
    for at in (1, 15, 16, 17, len(whole) - 1):
        client = kernel.client()
        client.send_bytes(request("NOOP", "whole", id=5) + whole[:at])
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_frame().id == 5
        client.assert_closed()


def test_random_bytes_do_no_harm(kernel):
    bystander = kernel.client()
    for seed in range(60):
        data = random.Random(seed).randbytes(3000)
        with Client(kernel.socket_path) as client:
            try:
                client.send_bytes(data)
                client.socket.shutdown(socket.SHUT_WR)
                while client.read_frame().flags & FLAGS["REPLY"]:
                    pass
            except (Closed, BrokenPipeError, ConnectionResetError):
                pass
        assert bystander.call("NOOP", seed) == seed


def test_mutated_requests_are_answered_or_refused(kernel):
    """Frames whose header is right and whose body had some bytes changed: each gets one reply."""
    samples = [
        ("NOOP", [{"a": [1, 2.5, b"x", None, True]}, ]),
        ("READ", ["/proc/self/nothing", 5, 10]),
        ("WRITE", ["/proc/self/nothing", b"data", "patch", 3]),
        ("EXEC", [["/nonexistent/program", "x"], {"env": {"A": "b"}, "cwd": "/", "timeout_ms": 1000}]),
        ("HELLO", [1, 1, "name"]),
        ("CANCEL", [3]),
        ("LIST", [True]),
    ]
    client = kernel.client()
    for seed in range(600):
        choose = random.Random(seed)
        op, args = choose.choice(samples)
        body = bytearray(request(op, *args)[HEADER.size :])
        for _ in range(choose.randint(1, 3)):
            body[choose.randrange(len(body))] = choose.randrange(256)
        if choose.random() < 0.3:
            del body[choose.randrange(len(body)) :]
        if b"nonexistent" not in body and op == "EXEC" or b"nothing" not in body and op in ("READ", "WRITE"):
            continue  # it would run or write something else
        client.send_bytes(frame(op, bytes(body), seed))
        assert client.read_frame().id == seed, f"seed {seed}"
    client.assert_alive()


@memory_is_the_kernels
def test_who_never_reads_is_stopped_and_costs_little(kernel):
    reader, greedy = kernel.client(), kernel.client()
    reader.assert_alive()
    before = procfs.anonymous_kib(kernel.pid)
    payloads = [bytes([i % 251]) * 65536 for i in range(300)]
    stream = memoryview(b"".join(request("NOOP", data, id=i) for i, data in enumerate(payloads)))

    greedy.socket.setblocking(False)
    sent = 0
    while select.select([], [greedy.socket], [], 0.3)[1]:
        try:
            sent += greedy.socket.send(stream[sent : sent + (1 << 18)])
        except BlockingIOError:
            pass
        assert sent < len(stream), "the kernel swallowed everything although nobody read its answers"
    assert procfs.anonymous_kib(kernel.pid) - before < 6 * MIB
    reader.assert_alive()

    frames = []
    while len(frames) < len(payloads):
        want_write = [greedy.socket] if sent < len(stream) else []
        readable, writable, _ = select.select([greedy.socket], want_write, [], 20)
        assert readable or writable, f"{len(frames)} replies, {sent} of {len(stream)} bytes sent"
        if writable:
            try:
                sent += greedy.socket.send(stream[sent : sent + (1 << 18)])
            except BlockingIOError:
                pass
        if readable:
            frames += greedy.feed(greedy.socket.recv(1 << 18))
    assert [got.id for got in frames] == list(range(len(payloads)))
    assert all(got.value() == data for got, data in zip(frames, payloads))
    kernels.wait_until(
        lambda: procfs.anonymous_kib(kernel.pid) - before < 4 * MIB, "the memory is given back"
    )


def test_many_who_never_read_do_not_stop_the_others(kernel):
    """All cores serve, and a kernel with full outputs can still be stopped."""
    for i in range(30):
        client = kernel.client()
        client.socket.setblocking(False)
        try:
            while True:
                client.socket.send(request("NOOP", b"x" * 30000, id=i))
        except BlockingIOError:
            pass
    for _ in range(6):
        kernel.client().assert_alive()


_CROWD = """
import socket, sys, time
connections = []
for i in range(50):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    connection.sendall(bytes.fromhex(sys.argv[2])[: 1 + 7 * i])
    connections.append(connection)
print("ready", flush=True)
time.sleep(1000)
"""


def test_clients_killed_in_the_middle_of_a_frame_disturb_nobody(kernel):
    whole = request("NOOP", "x" * 400) * 2
    wrong: list[object] = []
    stop = threading.Event()

    def keep_asking() -> None:
        count = 0
        try:
            while not stop.is_set() or count < 100:
                count += 1
                if kernel_client.call("NOOP", count) != count:
                    wrong.append(count)
        except Exception as error:  # reported by the test's own thread
            wrong.append(error)

    kernel_client = kernel.client()
    asking = threading.Thread(target=keep_asking)
    asking.start()
    crowd = subprocess.Popen(
        [sys.executable, "-c", _CROWD, str(kernel.socket_path), whole.hex()], stdout=subprocess.PIPE
    )
    try:
        for i in range(50):
            client = kernel.client()
            client.send_bytes(whole[: 1 + 7 * i])
            client.close()
        assert crowd.stdout.readline() == b"ready\n"
    finally:
        crowd.send_signal(signal.SIGKILL)
        crowd.wait()
        crowd.stdout.close()
        stop.set()
        asking.join()
    assert not wrong
    kernels.wait_until(lambda: kernel_client.stats()["connections"] == 1, "the dead are forgotten")


def test_a_value_over_the_payload_limit_is_refused_cleanly(client, directory):
    path = directory / "file"
    error = client.refused("WRITE", str(path), bytes(PAYLOAD_MAX + 1))
    assert error.code == "TOO_LARGE"
    assert not path.exists()
    client.assert_alive()


def test_a_request_far_over_the_limit_is_refused_while_it_is_being_sent(kernel):
    client = kernel.client()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.send_bytes(frame("NOOP", bytes(32 << 20)))
        client.send_bytes(b"x")
    try:
        assert client.read_frame().is_error
    except Closed as closed:
        assert not closed.rest
    kernel.client().assert_alive()


def test_urgent_data_and_descriptors_are_ignored(kernel):
    """What else a Unix socket can carry: descriptors sent along are not kept."""
    client = kernel.client()
    before = _open_files(kernel)
    with open("/dev/null", "rb") as null:
        for i in range(20):
            socket.send_fds(client.socket, [request("NOOP", i, id=i)], [null.fileno()] * 50)
            assert client.read_frame().value() == i
    kernels.wait_until(lambda: _open_files(kernel) <= before, "none of a thousand is kept")


def _open_files(kernel) -> int:
    try:
        return procfs.open_files(kernel.pid)
    except PermissionError:
        pytest.skip("only root may count the descriptors of an undumpable process")


def test_the_same_id_twice_is_answered_twice(client):
    client.send_bytes(request("NOOP", "a", id=4) + request("NOOP", "b", id=4))
    assert [client.read_frame().value() for _ in range(2)] == ["a", "b"]


@pytest.mark.parametrize("cores", [1])
def test_unfinished_frames_of_silent_clients_make_room_for_others(kernel):
    """A core keeps 256 MiB of unparsed input. Filled, who has been silent longest has to go."""
    silent = []
    # Buffers double: 127 of 2 MiB, and smaller ones to fill what is left.
    for size in [1_100_000] * 127 + [600_000, 280_000, 140_000, 70_000, 35_000, 35_000]:
        silent.append(kernel.client())
        silent[-1].send_bytes(frame("NOOP", bytes(size), length=size + 1)[: HEADER.size + size])
    newcomer = kernel.client()
    payload = bytes(500_000)
    for _ in range(3):
        assert newcomer.call("NOOP", payload) == payload
    error = silent[0].read_frame()
    assert error.is_error and error.id == 0
    with pytest.raises(Refused) as caught:
        error.value()
    assert caught.value.code == "BUSY"
    silent[0].assert_closed()
    # The others are where they were, and may go on.
    silent[-1].send_bytes(b"\0")
    assert silent[-1].read_frame().id == 1
    silent[50].send_bytes(b"\0")
    assert silent[50].read_frame().id == 1


def test_who_is_slow_is_not_cut_off_while_there_is_room(kernel):
    slow = kernel.client()
    whole = request("NOOP", "x" * 5000)
    slow.send_bytes(whole[:3000])
    busy = kernel.client()
    for i in range(300):
        assert len(busy.call("NOOP", bytes(100_000))) == 100_000
    slow.send_bytes(whole[3000:])
    assert slow.read_frame().value() == "x" * 5000
