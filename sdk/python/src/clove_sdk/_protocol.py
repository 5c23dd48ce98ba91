# SPDX-License-Identifier: MIT
"""The wire protocol without I/O: requests become bytes, bytes become events.

No socket, no clock, no lock: a transport owns one Connection and serialises its use.

State of a request, by the frames that arrive with its id:

    state      | reply or error | reply with MORE | abandon()
    -----------+----------------+-----------------+-----------
    WAITING    | event, gone    | event, stays    | ABANDONED
    ABANDONED  | gone           | stays           | -
    (unknown)  | ProtocolError  | ProtocolError   | -

An abandoned request is remembered until its last frame, because the kernel may have sent it before
it learned that nobody waits. An error frame with code PROTOCOL ends the connection whatever its id: the
kernel repeats the id of a header that it could not trust. So does any with id 0, which no request has.

After bytes that break the framing the connection cannot be used any more, and broken says why. A body
that is not MessagePack is no such thing: the events carry bodies as bytes, so that it fails its own call only.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from struct import Struct

from . import _codec
from ._errors_base import CloveError, ProtocolError, SyscallError
from ._wire_errors import BY_CODE, TooLarge
from ._wire_table import (
    FRAME_BODY_MAX,
    FRAME_HEADER_BYTES,
    FRAME_PAYLOAD_MAX,
    ErrorCode,
    Flag,
    SyscallOp,
)

_HEADER = Struct("<IHHQ")
_DEADLINE = Struct("<I")
DEADLINE_MS_MAX = 0xFFFFFFFF

# IntFlag arithmetic costs a microsecond a frame.
_REPLY = int(Flag.REPLY)
_ERROR_REPLY = int(Flag.REPLY | Flag.ERROR)
_CHUNK = int(Flag.REPLY | Flag.MORE)
_PUSH = int(Flag.PUSH)

# Enough for most replies in one read, and small enough to come from the allocator's free lists.
_RECV_BYTES = 64 << 10


@dataclass(slots=True)
class Reply:
    """The last or only frame that answers a request."""

    id: int
    op: int
    body: bytes


@dataclass(slots=True)
class ErrorReply:
    """The request failed; the body is [code, message, details]."""

    id: int
    op: int
    body: bytes


@dataclass(slots=True)
class Chunk:
    """A part of an answer; further frames for this request follow."""

    id: int
    op: int
    body: bytes


@dataclass(slots=True)
class Push:
    """A message or event that answers no request."""

    id: int
    op: int
    body: bytes


Event = Reply | ErrorReply | Chunk | Push
_EVENTS: dict[int, type[Reply] | type[ErrorReply] | type[Chunk] | type[Push]] = {
    _REPLY: Reply,
    _ERROR_REPLY: ErrorReply,
    _CHUNK: Chunk,
    _PUSH: Push,
}


class _State(enum.Enum):
    WAITING = enum.auto()
    ABANDONED = enum.auto()


class Connection:
    """One stream of frames, seen from the client.

    body_max: bytes that the body of a request may have; the transport's owner lowers it when
    HELLO says so. payload_max: likewise for one piece of a file. broken: why the stream ended early.
    """

    def __init__(self) -> None:
        self.body_max = FRAME_BODY_MAX
        self.payload_max = FRAME_PAYLOAD_MAX
        self._ids = count(1)
        self._requests: dict[int, tuple[int, _State]] = {}
        self._buffer = bytearray()
        self._wanted = FRAME_HEADER_BYTES
        self.broken: CloveError | None = None

    @property
    def recv_bytes(self) -> int:
        """How much a transport should read at once: the rest of the frame that has begun, or more."""
        return max(_RECV_BYTES, self._wanted - len(self._buffer))

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun and not ended; the end of the stream is then no orderly one."""
        return bool(self._buffer)

    def request(
        self, op: int, args: Sequence[object], deadline_ms: int | None = None
    ) -> tuple[int, bytes]:
        """A new request: its id and the bytes to send, all of them and in order.

        deadline_ms: the kernel ends the call after it. ValidationError or TooLarge, and no request,
        when the arguments cannot be sent.
        """
        body = _codec.pack(args) if args else b""
        flags = 0
        if deadline_ms is not None:
            flags = Flag.DEADLINE
            body = _DEADLINE.pack(min(deadline_ms, DEADLINE_MS_MAX)) + body
        if len(body) > self.body_max:
            raise TooLarge(
                f"a request may have {self.body_max} bytes, this one has {len(body)}", op
            )
        request_id = next(self._ids)
        self._requests[request_id] = (op, _State.WAITING)
        return request_id, _HEADER.pack(len(body), op, flags, request_id) + body

    def abandon(self, request_id: int) -> bytes:
        """Nobody waits for this request any more: the bytes to send, none if it is over already."""
        op, state = self._requests.get(request_id, (0, _State.ABANDONED))
        if state is _State.ABANDONED:
            return b""
        self._requests[request_id] = (op, _State.ABANDONED)
        cancel_id, frame = self.request(SyscallOp.CANCEL, [request_id])
        self._requests[cancel_id] = (SyscallOp.CANCEL, _State.ABANDONED)
        return frame

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order; look at broken after them."""
        events: list[Event] = []
        source: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return events
            source = self._buffer
        try:
            used = self._parse(source, events)
        except (ProtocolError, SyscallError) as error:
            self.broken = error
            return events
        if source is self._buffer:
            del self._buffer[:used]
        elif used < len(source):
            self._buffer += source[used:]
        return events

    def _parse(self, source: bytes | bytearray, events: list[Event]) -> int:
        at, size = 0, len(source)
        self._wanted = FRAME_HEADER_BYTES
        while size - at >= FRAME_HEADER_BYTES:
            body_len, op, flags, frame_id = _HEADER.unpack_from(source, at)
            if body_len > FRAME_BODY_MAX:
                raise ProtocolError(f"a frame announces a body of {body_len} bytes")
            end = at + FRAME_HEADER_BYTES + body_len
            if end > size:
                self._wanted = end - at
                break
            body = bytes(source[at + FRAME_HEADER_BYTES : end])
            event = self._event(op, flags, frame_id, body)
            if event is not None:
                events.append(event)
            at = end
        return at

    def _event(self, op: int, flags: int, frame_id: int, body: bytes) -> Event | None:
        kind = _EVENTS.get(flags)
        if kind is None:
            raise ProtocolError(f"a frame has the flags {flags:#x}")
        if kind is Push:
            return Push(frame_id, op, body)
        if kind is ErrorReply:
            _raise_if_fatal(frame_id, body)
        known = self._requests.get(frame_id)
        if known is None:
            raise ProtocolError(f"a frame answers {frame_id}, which is no open request")
        if known[0] != op:
            raise ProtocolError(f"request {frame_id} is answered for call {op:#x}, not {known[0]:#x}")
        if kind is not Chunk:
            del self._requests[frame_id]
        return None if known[1] is _State.ABANDONED else kind(frame_id, op, body)


def _raise_if_fatal(frame_id: int, body: bytes) -> None:
    try:
        value = _codec.unpack(body)
    except ProtocolError:
        return
    match value:
        case [int(code), str(message), _] if code == ErrorCode.PROTOCOL:
            raise ProtocolError(f"the kernel refused what this client sent: {message}")
        case [int(code), str(message), dict(details)] if frame_id == 0:
            raise BY_CODE.get(code, SyscallError)(message, None, details, code)
