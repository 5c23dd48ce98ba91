# SPDX-License-Identifier: MIT
"""Calls about the connection itself, and what every call has in common."""

import os
import struct

import pytest

from kernel import wait_until
from wire import (
    BODY_MAX,
    BUILT,
    CALLS,
    DEPTH_MAX,
    FLAGS,
    IN_FLIGHT_MAX,
    OUTPUT_MAX,
    PAYLOAD_MAX,
    UNBUILT,
    VERSION,
    Refused,
    frame,
    pack,
    request,
)

pytestmark = pytest.mark.parametrize("cores", [1, 3])


def test_hello_tells_who_both_sides_are(kernel, client, io, cores):
    info = client.call("HELLO", VERSION, VERSION, "test 1.0")
    assert info["protocol"] == VERSION
    assert info["uid"] == os.geteuid()
    assert info["io"] == io
    assert info["sandbox"] is True
    assert 0 <= info["core"] < cores
    assert info["agent_id"] > 0
    assert info["uptime_ms"] >= 0
    assert sorted(info["features"]) == sorted(call.name for call in BUILT)
    assert info["limits"] == {
        "payload_max": PAYLOAD_MAX,
        "frame_max": BODY_MAX,
        "depth_max": DEPTH_MAX,
        "in_flight_max": IN_FLIGHT_MAX,
        "exec_output_max": OUTPUT_MAX,
    }
    again = client.call("HELLO", VERSION, VERSION)
    assert (again["agent_id"], again["epoch"]) == (info["agent_id"], info["epoch"])
    other = kernel.client().call("HELLO", VERSION, VERSION)
    assert other["agent_id"] != info["agent_id"]
    assert other["epoch"] == info["epoch"]


@pytest.mark.parametrize("lowest, highest", [(1, 1), (0, 1), (1, 1000), (0, 2**64 - 1)])
def test_hello_agrees_on_a_version_that_both_speak(client, lowest, highest):
    assert client.call("HELLO", lowest, highest)["protocol"] == VERSION


@pytest.mark.parametrize("lowest, highest", [(2, 2), (2, 1000), (0, 0), (2**64 - 1, 2**64 - 1), (2, 1)])
def test_hello_refuses_versions_too_new_and_too_old(client, lowest, highest):
    error = client.refused("HELLO", lowest, highest)
    assert error.code == "VERSION"
    assert str(VERSION) in error.message and str(lowest) in error.message
    client.assert_alive()


def test_hello_bounds_the_name_of_the_client(client):
    assert client.call("HELLO", 1, 1, "x" * 64)["protocol"] == VERSION
    error = client.refused("HELLO", 1, 1, "x" * 65)
    assert error.code == "TOO_LARGE" and "client" in error.message


# One of each format of MessagePack, also in encodings longer than need be: they come back as they are.
VALUES = {
    "nil": b"\xc0",
    "false": b"\xc2",
    "true": b"\xc3",
    "positive fixint": b"\x7f",
    "negative fixint": b"\xe0",
    "uint 8": b"\xcc\xff",
    "uint 16": b"\xcd\xff\xff",
    "uint 32": b"\xce\xff\xff\xff\xff",
    "uint 64": b"\xcf" + b"\xff" * 8,
    "uint 64 that is 1": b"\xcf" + bytes(7) + b"\x01",
    "int 8": b"\xd0\x80",
    "int 16": b"\xd1\x80\x00",
    "int 32": b"\xd2\x80\x00\x00\x00",
    "int 64": b"\xd3\x80" + bytes(7),
    "float 32": b"\xca" + struct.pack(">f", 1.5),
    "float 64": b"\xcb" + struct.pack(">d", -0.1),
    "float 64 nan": b"\xcb\x7f\xf8" + bytes(6),
    "fixstr": b"\xa5hello",
    "fixstr, empty": b"\xa0",
    "str 8": b"\xd9\x05hello",
    "str 8 not utf-8": b"\xd9\x02\xff\xfe",
    "str 16": b"\xda\x01\x00" + b"x" * 256,
    "str 32": b"\xdb\x00\x01\x00\x00" + b"x" * 65536,
    "bin 8": b"\xc4\x03\x00\x01\x02",
    "bin 16": b"\xc5\x01\x00" + b"\x00" * 256,
    "bin 32": b"\xc6\x00\x00\x00\x00",
    "fixarray": b"\x93\x01\xa1x\xc0",
    "array 16": b"\xdc\x00\x10" + b"\x01" * 16,
    "array 32": b"\xdd\x00\x00\x00\x00",
    "fixmap": b"\x82\xa1a\x01\x02\x90",
    "map 16": b"\xde\x00\x01\xc0\xc0",
    "map 32": b"\xdf\x00\x00\x00\x01\x01\x80",
    "fixext 1": b"\xd4\x05x",
    "fixext 2": b"\xd5\x05xx",
    "fixext 4": b"\xd6\xff\x00\x00\x00\x00",
    "fixext 8": b"\xd7\x05" + b"x" * 8,
    "fixext 16": b"\xd8\x05" + b"x" * 16,
    "ext 8": b"\xc7\x03\x05xxx",
    "ext 16": b"\xc8\x00\x00\x05",
    "ext 32": b"\xc9\x00\x00\x00\x01\x05x",
    "as deep as may be": b"\x91" * DEPTH_MAX + b"\xc0",
}


def test_noop_echoes_every_type_byte_for_byte(client):
    for id, value in enumerate(VALUES.values()):
        client.send_bytes(frame("NOOP", b"\x91" + value, id))
    for id, (name, value) in enumerate(VALUES.items()):
        got = client.read_frame()
        assert (got.op, got.flags, got.id) == (CALLS["NOOP"].number, FLAGS["REPLY"], id)
        if name == "nil":
            value = b"\xc0"
        assert got.body == value, name


def test_noop_without_an_argument_answers_nil(client):
    for body in (b"", b"\x90", b"\xdc\x00\x00", b"\xdd\x00\x00\x00\x00", b"\x91\xc0"):
        client.send_bytes(frame("NOOP", body, 7))
        assert client.read_frame().body == b"\xc0"


def test_a_reply_repeats_op_and_id_whatever_the_id(client):
    for id in (0, 1, 2**32, 2**63, 2**64 - 1):
        client.send_bytes(request("NOOP", "x", id=id))
        got = client.read_frame()
        assert (got.op, got.id) == (CALLS["NOOP"].number, id)


def test_exit_answers_then_closes(client):
    assert client.call("EXIT") is None
    client.assert_closed()


def test_nothing_is_served_after_exit(client):
    client.send_bytes(request("NOOP", 1, id=1) + request("EXIT", id=2) + request("NOOP", 3, id=3))
    assert [client.read_frame().id for _ in range(2)] == [1, 2]
    client.assert_closed()


def test_an_unknown_call_is_refused_and_the_connection_lives(client):
    taken = {call.number for call in CALLS.values()}
    for op in (0x03FF, 0x00AF, 0xFFFF):
        assert op not in taken
        error = client.refused(op)
        assert error.code == "UNKNOWN_OP"
        assert f"{op:x}" in error.message
        client.assert_alive()


def test_every_call_not_built_yet_says_so_by_name(client):
    assert UNBUILT
    for call in UNBUILT:
        error = client.refused(call.name)
        assert error.code == "NOT_IMPLEMENTED", call.name
        assert call.name in error.message
    client.assert_alive()


def test_replies_come_when_they_are_ready_and_are_matched_by_id(client):
    slow = client.send("EXEC", ["sleep", "0.2"])
    fast = client.send("NOOP", "fast")
    first = client.read_frame()
    assert first.id == fast and first.value() == "fast"
    assert client.wait(slow)["exit_code"] == 0


def test_cancel_ends_a_command(client, marker):
    running = client.send("EXEC", marker.argv)
    wait_until(marker.pids, "the command runs")
    assert client.call("CANCEL", running) is True
    with pytest.raises(Refused) as caught:
        client.wait(running)
    assert caught.value.code == "CANCELLED"
    wait_until(lambda: not marker.pids(), "the command is gone")
    assert client.call("CANCEL", running) is False


def test_cancel_of_what_is_not_in_flight_answers_false(client):
    done = client.send("NOOP")
    client.wait(done)
    for id in (done, 12345, 0, 2**64 - 1):
        assert client.call("CANCEL", id) is False


def test_cancel_does_not_reach_another_connection(kernel, marker):
    owner, other = kernel.client(), kernel.client()
    running = owner.send("EXEC", marker.argv)
    assert other.call("CANCEL", running) is False
    assert owner.call("CANCEL", running) is True


def test_a_deadline_answers_timeout_and_ends_the_command(client, marker):
    error = client.refused("EXEC", f"{marker.shell} & {marker.shell}", deadline_ms=200)
    assert error.code == "TIMEOUT"
    wait_until(lambda: not marker.pids(), "the command is gone")


def test_a_deadline_that_is_met_changes_nothing(client):
    assert client.call("NOOP", "x", deadline_ms=10000) == "x"
    assert client.call("EXEC", "echo x", deadline_ms=10000)["stdout"] == b"x\n"


def test_a_deadline_of_zero_means_not_to_wait_at_all(client, directory):
    """What can be answered at once is; what cannot is not begun."""
    path = directory / "file"
    assert client.call("NOOP", "x", deadline_ms=0) == "x"
    assert client.call("LIST", deadline_ms=0) == []
    for op, args in (
        ("EXEC", [f"touch {path}"]),
        ("WRITE", [str(path), "x"]),
        ("READ", ["/etc/passwd"]),
        ("SPAWN", ["early", ["true"]]),
    ):
        error = client.refused(op, *args, deadline_ms=0)
        assert error.code == "TIMEOUT" and error.detail == {}, op
    assert not path.exists()
    assert client.refused("INSPECT", "early").code == "AGENT_NOT_FOUND"
    assert client.refused("EXEC", 5, deadline_ms=0).code == "INVALID_ARGUMENT"


def test_flag_deadline_without_a_deadline_is_refused(client):
    for body in (b"", b"\x90", b"\x00\x00\x00"):
        client.send_bytes(frame("NOOP", body, 5, FLAGS["DEADLINE"]))
        with pytest.raises(Refused) as caught:
            client.read_frame().value()
        assert caught.value.code == "INVALID_ARGUMENT"
        assert "deadline" in caught.value.message.lower()
    client.assert_alive()


def test_a_deadline_counts_not_as_an_argument(client):
    body = struct.pack("<I", 5000) + pack(["x"])
    client.send_bytes(frame("NOOP", body, 5, FLAGS["DEADLINE"]))
    assert client.read_frame().value() == "x"


def test_the_request_over_the_limit_in_flight_is_busy(client, marker):
    running = []
    while len(running) < IN_FLIGHT_MAX:
        running.append(client.send("EXEC", marker.argv))
        if len(running) % 32 == 0:
            wait_until(lambda: len(marker.pids()) == len(running), "all commands run")
    error = client.refused("EXEC", ["true"])
    assert error.code == "BUSY" and str(IN_FLIGHT_MAX) in error.message
    client.assert_alive()
    assert client.call("CANCEL", running[0]) is True
    with pytest.raises(Refused):
        client.wait(running[0])
    assert client.exec(["true"])["exit_code"] == 0
