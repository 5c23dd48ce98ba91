# SPDX-License-Identifier: MIT
"""Requests that wait, whatever the transport waits with."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

from ._errors_base import CloveError, ConnectionLost, ProtocolError
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

    def take(self) -> Reply | ErrorReply:
        """The answer of a request that is done. Raises what ended the connection, if that did."""
        assert self.answer is not None
        if isinstance(self.answer, CloveError):
            # Several waiters raise it, each with a traceback of its own.
            raise copy.copy(self.answer)
        return self.answer


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
            self.connection.broken = ProtocolError(f"call {event.op:#x} is not answered in chunks")
            return None
        pending = self.waiting.pop(event.id)
        pending.answer = event
        return pending

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
