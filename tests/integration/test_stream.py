# SPDX-License-Identifier: MIT
"""Frames and the stream that carries them: however they are cut and however many come at once."""

import hashlib
import select
import socket
import time

import pytest

from kernel import wait_until
from wire import BODY_MAX, PAYLOAD_MAX, Client, Closed, frame, pack, request


def pump(client: Client, data: bytes, count: int) -> list:
    """Sends data while reading, until it is sent and count frames have come."""
    sock = client.socket
    sock.setblocking(False)
    frames = []
    left = memoryview(data)
    while left or len(frames) < count:
        readable, writable, _ = select.select([sock], [sock] if left else [], [], 20)
        assert readable or writable, f"only {len(frames)} of {count} replies came"
        if writable:
            try:
                left = left[sock.send(left) :]
            except BlockingIOError:
                pass
        if readable:
            got = sock.recv(1 << 18)
            assert got, f"the connection ended after {len(frames)} of {count} replies"
            frames += client.feed(got)
    sock.settimeout(20)
    return frames


def assert_echoes(frames, payloads) -> None:
    assert [got.id for got in frames] == list(range(len(payloads)))
    for got, payload in zip(frames, payloads):
        assert got.value() == payload


def test_a_thousand_requests_at_once_are_answered_in_order(client):
    payloads = [f"message {i}" for i in range(1000)]
    client.send_bytes(b"".join(request("NOOP", text, id=i) for i, text in enumerate(payloads)))
    assert_echoes([client.read_frame() for _ in payloads], payloads)
    client.assert_alive()


def test_a_frame_may_be_cut_anywhere(client):
    whole = request("NOOP", "cut me", id=9)
    for at in range(1, len(whole)):
        client.send_bytes(whole[:at])
        client.socket.settimeout(0.002)
        with pytest.raises(TimeoutError):
            client.read_frame()
        client.socket.settimeout(20)
        client.send_bytes(whole[at:])
        assert client.read_frame().value() == "cut me"


def test_a_frame_may_come_byte_by_byte(client):
    for byte in request("NOOP", ["a", {"b": b"c"}], id=3) + request("NOOP", 2, id=4):
        client.send_bytes(bytes([byte]))
    assert client.read_frame().value() == ["a", {"b": b"c"}]
    assert client.read_frame().value() == 2


@pytest.mark.parametrize("size", [1009, 2048, 65536, 300_000])
def test_pieces_need_not_be_frames(client, size):
    payloads = ["x" * size for size in (0, 1, 100, 2047, 2048, 2049, 4096, 65535, 65536, 70000)] * 3
    stream = b"".join(request("NOOP", text, id=i) for i, text in enumerate(payloads))
    frames = []
    for at in range(0, len(stream), size):
        frames += pump(client, stream[at : at + size], 0)
    frames += [client.read_frame() for _ in range(len(payloads) - len(frames))]
    assert_echoes(frames, payloads)


@pytest.mark.parametrize("size", [65536, PAYLOAD_MAX - 5, PAYLOAD_MAX, BODY_MAX - 6])
def test_large_values_come_back_whole(client, size):
    data = hashlib.shake_128(b"%d" % size).digest(size)
    (got,) = pump(client, request("NOOP", data, id=0), 1)
    assert got.value() == data
    client.assert_alive()


def test_a_body_at_the_limit_is_taken_and_one_above_is_not(client):
    body = b"\x91\xc6" + (BODY_MAX - 6).to_bytes(4, "big") + bytes(BODY_MAX - 6)
    assert len(body) == BODY_MAX
    (got,) = pump(client, frame("NOOP", body, 0), 1)
    assert len(got.body) == BODY_MAX - 1
    client.send_bytes(frame("NOOP", b"", 1, length=BODY_MAX + 1))
    error = client.read_frame()
    assert error.is_error and error.id == 1
    client.assert_closed()


def test_replies_larger_than_the_socket_buffer_come_complete(client):
    payloads = [bytes([i]) * 200_000 for i in range(40)]
    stream = b"".join(request("NOOP", data, id=i) for i, data in enumerate(payloads))
    assert_echoes(pump(client, stream, len(payloads)), payloads)


def test_after_the_end_of_input_what_was_asked_is_answered(client):
    payloads = [f"message {i}" for i in range(1000)]
    client.send_bytes(b"".join(request("NOOP", text, id=i) for i, text in enumerate(payloads)))
    client.socket.shutdown(socket.SHUT_WR)
    assert_echoes([client.read_frame() for _ in payloads], payloads)
    client.assert_closed()


def read_to_the_end(client: Client) -> list:
    frames = []
    try:
        while True:
            frames.append(client.read_frame())
    except Closed as closed:
        assert not closed.rest, f"the connection ended inside a frame, after {len(frames)} frames"
        return frames


def send_unread(client: Client, payloads: list, tail: bytes = b"") -> None:
    """Sends echo requests and reads none of the answers."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    stream = b"".join(request("NOOP", data, id=i) for i, data in enumerate(payloads))
    client.send_bytes(stream + tail)


# Above what a socket holds, so that the kernel has to keep some of the answers itself; the larger
# also makes it stop parsing.
UNREAD_BYTES = [300_000, 400_000, 1_500_000]


@pytest.mark.parametrize("size", UNREAD_BYTES)
def test_after_the_end_of_input_unread_answers_are_not_lost(client, size):
    payloads = [bytes([i]) * (size // 20) for i in range(20)]
    send_unread(client, payloads)
    client.socket.shutdown(socket.SHUT_WR)
    assert_echoes(read_to_the_end(client), payloads)


@pytest.mark.parametrize("size", UNREAD_BYTES)
def test_exit_does_not_lose_unread_answers(client, size):
    payloads = [bytes([i]) * (size // 20) for i in range(20)]
    send_unread(client, payloads, request("EXIT", id=20))
    frames = read_to_the_end(client)
    assert_echoes(frames[:-1], payloads)
    assert frames[-1].id == 20 and frames[-1].value() is None


def test_a_broken_frame_does_not_lose_answers_to_those_before(client):
    payloads = [bytes([i]) * 20_000 for i in range(20)]
    send_unread(client, payloads, frame("NOOP", b"", 20, length=2**32 - 1))
    frames = read_to_the_end(client)
    assert_echoes(frames[:-1], payloads)
    assert frames[-1].id == 20 and frames[-1].is_error


def half_close(client: Client, *requests: tuple) -> dict:
    """Asks, says that nothing more will be asked, and reads to the end. Replies by id."""
    ids = [client.send(op, *args) for op, *args in requests]
    client.socket.shutdown(socket.SHUT_WR)
    frames = read_to_the_end(client)
    assert sorted(got.id for got in frames) == ids
    return {got.id: got.value() for got in frames}


def test_after_the_end_of_input_requests_in_work_are_answered(client, directory):
    path = str(directory / "file")
    replies = half_close(
        client,
        ("EXEC", "sleep 0.3; echo slow"),
        ("WRITE", path, "x"),
        ("EXEC", "echo fast"),
        ("READ", "/etc/passwd"),
        ("SPAWN", "child", ["true"], {"sandboxed": False}),
        ("NOOP", "last"),
    )
    assert replies[1]["stdout"] == b"slow\n" and replies[3]["stdout"] == b"fast\n"
    assert replies[2]["bytes_written"] == 1 and replies[4]["data"] and replies[6] == "last"
    assert replies[5]["name"] == "child"


def test_after_the_end_of_input_answers_that_have_to_wait_for_room_are_delivered(client):
    """The client reads nothing until all is done: results are held, then let go one by one."""
    command = "head -c 400000 /dev/zero; head -c 400000 /dev/zero >&2"
    ids = [client.send("EXEC", command) for _ in range(6)]
    client.socket.shutdown(socket.SHUT_WR)
    frames = read_to_the_end(client)
    assert sorted(got.id for got in frames) == ids
    assert all(len(got.value()["stderr"]) == 400_000 for got in frames)


def test_who_closes_after_half_closing_takes_its_commands_along(kernel, client, marker):
    leaving = kernel.client()
    leaving.send("EXEC", marker.argv)
    leaving.socket.shutdown(socket.SHUT_WR)
    wait_until(marker.pids, "the command runs")
    client.assert_alive()
    assert len(marker.pids()) == 1
    leaving.close()
    wait_until(lambda: not marker.pids(), "the command is gone")
    wait_until(lambda: client.stats()["connections"] == 1, "the connection is closed")


def test_a_half_closed_connection_costs_nothing_while_it_waits(kernel, client, marker):
    waiting = kernel.client()
    waiting.send("EXEC", marker.argv)
    waiting.socket.shutdown(socket.SHUT_WR)
    wait_until(marker.pids, "the command runs")
    wait_until(lambda: client.stats()["connections"] == 2, "the connection of the start is closed")
    before = sum(core["wakeups"] for core in client.stats()["cores"])
    time.sleep(0.5)
    assert sum(core["wakeups"] for core in client.stats()["cores"]) - before < 10


def test_two_connections_do_not_mix(kernel):
    clients = [kernel.client() for _ in range(10)]
    for round_ in range(20):
        ids = [client.send("NOOP", [round_, i]) for i, client in enumerate(clients)]
        for i, client in reversed(list(enumerate(clients))):
            assert client.wait(ids[i]) == [round_, i]


def test_a_value_keeps_its_bytes_across_the_kernel(client):
    """A map's order and duplicate keys are the sender's business."""
    body = b"\x91\x83" + pack("k") + pack(1) + pack("k") + pack(2) + pack("a") + pack([])
    client.send_bytes(frame("NOOP", body, 1))
    assert client.read_frame().body == body[1:]
