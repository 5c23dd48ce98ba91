# SPDX-License-Identifier: MIT
"""The Connection: frames in every split, and every row of its state table."""

from __future__ import annotations

import struct

import pytest
from clove_sdk import Busy, ErrorCode, SyscallOp, TooLarge, ValidationError
from clove_sdk._codec import pack, unpack
from clove_sdk._protocol import Chunk, Connection, ErrorReply, Push, Reply
from clove_sdk._wire_table import FRAME_BODY_MAX
from hypothesis import given, settings
from hypothesis import strategies as st

REPLY, ERROR, MORE, PUSH = 1, 3, 5, 8
NOOP = SyscallOp.NOOP


def frame(request_id, body=b"\xc0", op=NOOP, flags=REPLY):
    return struct.pack("<IHHQ", len(body), op, flags, request_id) + body


def read_header(data):
    return struct.unpack_from("<IHHQ", data)


def test_a_request_is_header_and_arguments():
    request_id, data = Connection().request(NOOP, ["hi"])
    assert (request_id, data) == (1, struct.pack("<IHHQ", 4, 0, 0, 1) + b"\x91\xa2hi")


def test_a_request_without_arguments_has_no_body():
    assert read_header(Connection().request(SyscallOp.EXIT, ())[1]) == (0, 0xFF, 0, 1)


def test_a_deadline_stands_before_the_arguments():
    _, data = Connection().request(NOOP, [1], deadline_ms=1500)
    assert read_header(data) == (6, 0, 16, 1)
    assert data[16:] == struct.pack("<I", 1500) + b"\x91\x01"
    assert Connection().request(NOOP, [1], deadline_ms=2**40)[1][16:20] == b"\xff" * 4


def test_what_cannot_be_sent_leaves_no_request():
    connection = Connection()
    with pytest.raises(TooLarge) as caught:
        connection.request(NOOP, [b"x" * FRAME_BODY_MAX])
    assert caught.value.code == ErrorCode.TOO_LARGE
    with pytest.raises(ValidationError):
        connection.request(NOOP, [object()])
    assert connection.request(NOOP, [])[0] == 1


def open_requests(count=3):
    connection = Connection()
    for _ in range(count):
        connection.request(NOOP, [])
    return connection


STREAM = (
    frame(2, pack(["two"]))
    + frame(7, b"\xa4push", op=5, flags=PUSH)
    + frame(1, b"\xc4\x01x", flags=MORE)
    + frame(3, pack([9, "busy", {}]), flags=ERROR)
    + frame(1, b"")
)
EVENTS = [
    Reply(2, NOOP, pack(["two"])),
    Push(7, 5, b"\xa4push"),
    Chunk(1, NOOP, b"\xc4\x01x"),
    ErrorReply(3, NOOP, pack([9, "busy", {}])),
    Reply(1, NOOP, b""),
]


@pytest.mark.parametrize("size", range(1, len(STREAM) + 1))
def test_events_do_not_depend_on_the_size_of_reads(size):
    connection = open_requests()
    events = []
    for at in range(0, len(STREAM), size):
        assert connection.recv_bytes > 0
        events += connection.feed(STREAM[at : at + size])
    assert events == EVENTS
    assert not connection.mid_frame and not connection.broken


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_events_do_not_depend_on_where_the_stream_is_cut(cut):
    connection = open_requests()
    assert connection.feed(STREAM[:cut]) + connection.feed(STREAM[cut:]) == EVENTS


def test_a_large_frame_is_asked_for_whole():
    connection = open_requests()
    data = frame(1, b"x" * 1_000_000)
    assert connection.feed(data[:1000]) == []
    assert connection.recv_bytes == len(data) - 1000
    assert connection.mid_frame
    assert connection.feed(data[1000:]) == [Reply(1, NOOP, b"x" * 1_000_000)]


@pytest.mark.parametrize("bad", [
    frame(99),
    frame(1, op=SyscallOp.EXEC),
    frame(1, flags=0),
    frame(1, flags=2),
    frame(1, flags=7),
    frame(1, flags=64),
    struct.pack("<IHHQ", FRAME_BODY_MAX + 1, 0, REPLY, 1),
    frame(0, pack([ErrorCode.PROTOCOL, "bad", {}]), flags=ERROR),
    frame(1, pack([ErrorCode.PROTOCOL, "bad", {}]), flags=ERROR),
])
def test_a_bad_frame_breaks_the_stream_but_not_what_came_before(bad):
    connection = open_requests()
    assert connection.feed(frame(2) + bad + frame(3)) == [Reply(2, NOOP, b"\xc0")]
    assert connection.broken


def test_an_error_about_the_whole_connection_says_which():
    connection = open_requests()
    connection.feed(frame(0, pack([ErrorCode.BUSY, "full", {}]), op=0, flags=ERROR))
    assert isinstance(connection.broken, Busy) and connection.broken.message == "full"


def test_a_request_is_answered_once():
    connection = open_requests()
    assert connection.feed(frame(1))
    assert not connection.feed(frame(1))
    assert connection.broken


def test_an_abandoned_request_sends_cancel_and_swallows_what_comes():
    connection = open_requests()
    cancel = connection.abandon(2)
    assert read_header(cancel) == (2, SyscallOp.CANCEL, 0, 4)
    assert unpack(cancel[16:]) == [2]
    late = frame(2, b"\xa1x", flags=MORE) + frame(2, pack([11, "ended", {}]), flags=ERROR)
    assert connection.feed(late + frame(4, b"\xc3", op=SyscallOp.CANCEL)) == []
    assert not connection.broken
    assert connection.feed(frame(1)) == [Reply(1, NOOP, b"\xc0")]


def test_abandoning_what_is_over_sends_nothing():
    connection = open_requests()
    connection.feed(frame(1))
    assert connection.abandon(1) == b""
    connection.abandon(2)
    assert connection.abandon(2) == b""


def test_a_reply_that_cannot_be_decoded_breaks_nothing():
    connection = open_requests()
    assert connection.feed(frame(1, b"\xc1")) == [Reply(1, NOOP, b"\xc1")]
    assert connection.feed(frame(2, b"\xc1", flags=ERROR)) == [ErrorReply(2, NOOP, b"\xc1")]
    assert not connection.broken


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=8))
def test_survives_any_bytes(pieces):
    connection = open_requests()
    for piece in pieces:
        connection.feed(piece)
        if connection.broken:
            break
