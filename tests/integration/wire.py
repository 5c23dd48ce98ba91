# SPDX-License-Identifier: MIT
"""A client of the kernel at the level of frames, for tests.

It knows the protocol from ipc/wire.def alone and shares no code with the SDK. Every wait ends: after
TIMEOUT_S a socket operation raises, so a kernel that does not answer fails a test instead of hanging it.
Nothing stops a caller from sending broken bytes; that is what it is for.
"""

from __future__ import annotations

import re
import select
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path

import msgpack

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 20.0

HEADER = struct.Struct("<IHHQ")
HEADER_BYTES = HEADER.size
PAYLOAD_MAX = 1 << 20
BODY_MAX = PAYLOAD_MAX + (64 << 10)
DEPTH_MAX = 32
LIST_MAX = 2048
VERSION = 1
IN_FLIGHT_MAX = 256
OUTPUT_MAX = 512 << 10


@dataclass(frozen=True)
class Arg:
    name: str
    type: str
    optional: bool


@dataclass(frozen=True)
class Call:
    name: str
    number: int
    handler: str
    args: list[Arg] = field(default_factory=list)

    @property
    def built(self) -> bool:
        return self.handler != "unbuilt"


def _parse_definition() -> tuple[dict[str, int], dict[str, int], dict[str, Call]]:
    """Flags, error codes and calls by name, as the rows of ipc/wire.def give them."""
    flags: dict[str, int] = {}
    errors: dict[str, int] = {}
    calls: dict[str, Call] = {}
    call = None
    for line in (ROOT / "ipc" / "wire.def").read_text().splitlines():
        if match := re.match(r"FLAG\((\w+), (\d+),", line):
            flags[match[1]] = int(match[2])
        elif match := re.match(r"ERROR\((\w+), (\d+),", line):
            errors[match[1]] = int(match[2])
        elif match := re.match(r"CALL\((\w+), (0x[0-9A-Fa-f]+), \w+, (\w+),", line):
            call = calls[match[1]] = Call(match[1], int(match[2], 16), match[3])
        elif match := re.match(r"\s+ARG\((\w+), (\w+), (REQUIRED|OPTIONAL),", line):
            assert call is not None
            call.args.append(Arg(match[1], match[2], match[3] == "OPTIONAL"))
    assert flags and errors and calls, "ipc/wire.def has another form than this parser expects"
    return flags, errors, calls


FLAGS, ERRORS, CALLS = _parse_definition()
BUILT = [call for call in CALLS.values() if call.built]
UNBUILT = [call for call in CALLS.values() if not call.built]
_ERROR_NAMES = {code: name for name, code in ERRORS.items()}


class Refused(Exception):
    """An error reply."""

    def __init__(self, body: object) -> None:
        assert isinstance(body, list) and len(body) == 3, f"not an error's body: {body!r}"
        number, self.message, self.detail = body
        self.code = _ERROR_NAMES.get(number, f"unknown code {number}")
        assert isinstance(self.message, str) and self.message, "an error must say what is wrong"
        assert isinstance(self.detail, dict)
        super().__init__(f"{self.code}: {self.message} {self.detail}")


class Closed(Exception):
    """The kernel closed the connection; rest: bytes of a frame that was not whole."""

    def __init__(self, rest: bytes) -> None:
        super().__init__(f"the kernel closed the connection, with {len(rest)} bytes of a frame sent")
        self.rest = rest


@dataclass(frozen=True)
class Frame:
    op: int
    flags: int
    id: int
    body: bytes

    @property
    def is_error(self) -> bool:
        return bool(self.flags & FLAGS["ERROR"])

    def value(self) -> object:
        """The reply's value. Refused for an error."""
        assert self.flags & FLAGS["REPLY"], f"not a reply: flags {self.flags}"
        value = unpack(self.body)
        if self.is_error:
            raise Refused(value)
        return value


def pack(value: object) -> bytes:
    return msgpack.packb(value, use_bin_type=True, unicode_errors="surrogateescape")


def unpack(body: bytes) -> object:
    return msgpack.unpackb(
        body, raw=False, strict_map_key=False, unicode_errors="surrogateescape", timestamp=0
    )


def number_of(op: str | int) -> int:
    return op if isinstance(op, int) else CALLS[op].number


def frame(op: str | int, body: bytes, id: int = 1, flags: int = 0, length: int | None = None) -> bytes:
    """A frame's bytes; length announces another body than there is."""
    return HEADER.pack(len(body) if length is None else length, number_of(op), flags, id) + body


def request(op: str | int, *args: object, id: int = 1, deadline_ms: int | None = None) -> bytes:
    body = pack(list(args))
    if deadline_ms is None:
        return frame(op, body, id)
    return frame(op, struct.pack("<I", deadline_ms) + body, id, FLAGS["DEADLINE"])


class Client:
    """One connection. Replies that were read while waiting for another are kept."""

    def __init__(self, path: str | Path, timeout: float = TIMEOUT_S) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(str(path))
        except BaseException:
            self.socket.close()
            raise
        self._received = bytearray()
        self._replies: dict[int, Frame] = {}
        self._next_id = 1

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, op: str | int, *args: object, deadline_ms: int | None = None) -> int:
        """Sends a request; its id."""
        id = self._next_id
        self._next_id += 1
        self.send_bytes(request(op, *args, id=id, deadline_ms=deadline_ms))
        return id

    def _take_frame(self) -> Frame | None:
        if len(self._received) < HEADER_BYTES:
            return None
        length, op, flags, id = HEADER.unpack_from(self._received)
        assert length <= BODY_MAX, f"a reply announces {length} bytes"
        if len(self._received) < HEADER_BYTES + length:
            return None
        body = bytes(self._received[HEADER_BYTES : HEADER_BYTES + length])
        del self._received[: HEADER_BYTES + length]
        return Frame(op, flags, id, body)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that bytes read elsewhere complete."""
        self._received += data
        frames = []
        while (got := self._take_frame()) is not None:
            frames.append(got)
        return frames

    def read_frame(self) -> Frame:
        """The next frame, in the order sent by the kernel. Closed at the end of the stream."""
        while (got := self._take_frame()) is None:
            try:
                data = self.socket.recv(1 << 18)
            except (ConnectionResetError, BrokenPipeError):
                data = b""
            if not data:
                raise Closed(bytes(self._received))
            self._received += data
        return got

    def arrived(self) -> list[Frame]:
        """The frames that are there already."""
        frames = []
        while select.select([self.socket], [], [], 0)[0] and (data := self.socket.recv(1 << 18)):
            frames += self.feed(data)
        return frames

    def wait(self, id: int) -> object:
        """The value of the reply to request id. Refused for an error."""
        while id not in self._replies:
            got = self.read_frame()
            if got.is_error and got.id == 0:
                got.value()  # about the whole connection, which ends
            assert got.id not in self._replies, f"request {got.id} was answered twice"
            self._replies[got.id] = got
        return self._replies.pop(id).value()

    def call(self, op: str | int, *args: object, deadline_ms: int | None = None) -> object:
        return self.wait(self.send(op, *args, deadline_ms=deadline_ms))

    def refused(self, op: str | int, *args: object, deadline_ms: int | None = None) -> Refused:
        """The error that a call is answered with; the test fails when it succeeds."""
        try:
            value = self.call(op, *args, deadline_ms=deadline_ms)
        except Refused as error:
            return error
        raise AssertionError(f"{op}{args!r:.200} succeeded: {value!r:.200}")

    def exec(self, command: object, **options: object) -> dict:
        result = self.call("EXEC", command, options)
        assert isinstance(result, dict)
        return result

    def stats(self) -> dict:
        result = self.call("STATS")
        assert isinstance(result, dict)
        return result

    def assert_alive(self) -> None:
        """The connection still works, and nothing unexpected waits in it."""
        token = f"alive {self._next_id}"
        assert self.call("NOOP", token) == token
        assert not self._replies, f"replies nobody asked for: {self._replies}"

    def assert_closed(self) -> None:
        """The kernel has closed the connection after what was read."""
        try:
            got = self.read_frame()
        except Closed as closed:
            assert not closed.rest, "the connection ended inside a frame"
            return
        raise AssertionError(f"a further frame came instead of the end: {got}")
