# SPDX-License-Identifier: MIT
"""Requests that wait, whatever the transport waits with."""

from __future__ import annotations

import copy
from collections import deque
from typing import Generic, TypeVar

from ._errors_base import CloveError, ConnectionError, ConnectionLost, ProtocolError
from ._protocol import Chunk, Connection, ErrorReply, Event, Push, Reply

W = TypeVar("W")


class Pending(Generic[W]):
    """One request in flight. wake: what its waiter sleeps on, set while somebody does."""

    __slots__ = ("answer", "id", "wake")

    def __init__(self, request_id: int) -> None:
        self.id = request_id
        self.answer: Reply | ErrorReply | CloveError | None = None
        self.wake: W | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None

    @property
    def ready(self) -> bool:
        """Whether its waiter need not wait."""
        return self.done

    def take(self) -> Reply | ErrorReply:
        """The answer of a request that is done. Raises what ended the connection, if that did."""
        assert self.answer is not None
        if isinstance(self.answer, CloveError):
            # Several waiters raise it, each with a traceback of its own.
            raise copy.copy(self.answer)
        return self.answer


class Stream(Pending[W]):
    """A request that is answered in chunks, which wait here until they are taken.

    overflowed: more came than is kept; what did not fit is lost. Whoever takes them asks again.
    """

    __slots__ = ("chunks", "overflowed", "size")

    # More than one transaction changes at once, or a watch that asks again would never get past it.
    CHUNKS_MAX = 2048
    BYTES_MAX = 16 << 20

    def __init__(self, request_id: int) -> None:
        super().__init__(request_id)
        self.chunks: deque[Chunk] = deque()
        self.size = 0
        self.overflowed = False

    @property
    def ready(self) -> bool:
        """Whether there is something to take, or to learn."""
        return bool(self.chunks) or self.overflowed or self.done

    def put(self, chunk: Chunk) -> None:
        full = len(self.chunks) >= self.CHUNKS_MAX or self.size > self.BYTES_MAX
        if full or self.overflowed:
            self.overflowed = True
            return
        self.chunks.append(chunk)
        self.size += len(chunk.body)

    def take_next(self) -> Chunk | Reply | ErrorReply | None:
        """The next chunk, or behind the last the answer that ended it; None: nothing, or overflowed."""
        if self.chunks:
            chunk = self.chunks.popleft()
            self.size -= len(chunk.body)
            return chunk
        if self.overflowed or not self.done:
            return None
        return self.take()


class Table(Generic[W]):
    """The requests in flight of one Connection. Calls are serialised by the transport."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.waiting: dict[int, Pending[W]] = {}

    def feed(self, data: bytes) -> list[Pending[W]]:
        """The requests that these bytes complete. ProtocolError (behind them) by connection.broken."""
        return [done for event in self.connection.feed(data) if (done := self._complete(event))]

    def _complete(self, event: Event) -> Pending[W] | None:
        if isinstance(event, Push):
            # No call of this SDK asks for pushes; a kernel may come to send some that need no asking.
            return None
        if isinstance(event, Chunk):
            stream = self.waiting.get(event.id)
            if isinstance(stream, Stream):
                stream.put(event)
                return stream
            self.connection.broken = ProtocolError(f"call {event.op:#x} is not answered in chunks")
            return None
        pending = self.waiting.pop(event.id)
        pending.answer = event
        return pending

    def abandon(self, pending: Pending[W]) -> bytes | None:
        """Forgets a request, which ends for whoever still waits; what to send, None if it is over already."""
        if self.waiting.pop(pending.id, None) is None:
            return None
        pending.answer = ConnectionError("closed while something waited for it")
        return self.connection.abandon(pending.id)

    def fail(self, error: CloveError) -> list[Pending[W]]:
        """Completes every request with error."""
        failed = list(self.waiting.values())
        self.waiting.clear()
        for pending in failed:
            pending.answer = error
        return failed

    def end_of_stream(self) -> ConnectionLost:
        """What the end of the stream means for whoever waits."""
        where = " in the middle of a frame" if self.connection.mid_frame else ""
        return ConnectionLost(f"the kernel closed the connection{where}")
