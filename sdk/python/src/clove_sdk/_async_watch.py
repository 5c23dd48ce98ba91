# SPDX-License-Identifier: MIT
"""A watch of changes of state."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from . import _state_calls
from ._async_transport import AsyncTransport, StreamRequest
from ._calls import Call
from ._errors_base import ConnectionError
from ._protocol import Chunk
from .errors import Compacted
from .state import Change

if TYPE_CHECKING:
    from ._async_client import AsyncCloveClient


class AsyncWatch:
    """Changes of a key, or of all keys with a prefix, as they happen: iterate over it.

    It begins with its "with" block, or else with the first change asked for, and ends with the block, close(), which
    any thread or task may call, or its client. One thread or task at a time may take changes. What is not taken
    waits here up to a bound, then in the kernel, which remembers the latest changes only: Compacted is raised when
    one was forgotten before it was told, and the watch has ended.

    version: up to which all changes are told; a watch with after=version goes on behind them. The changes of one
    transaction share a version, and count once the last is told: who stops among them is told the first again.
    """

    def __init__(
        self, client: AsyncCloveClient, call: Call[Change | None], after: int | None
    ) -> None:
        self._client = client
        self._call = call
        self._open: tuple[AsyncTransport, StreamRequest] | None = None
        self._closed = False
        self._told = 0  # changes above self.version: those of a transaction that is not told to its end
        self._skip = 0
        self.version = after

    async def __aenter__(self) -> AsyncWatch:
        if self._open is None:
            await self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> Change:
        change = await self.next()
        assert change is not None
        return change

    async def next(self, timeout: float | None = None) -> Change | None:
        """The next change; None when there is none within timeout seconds (None: waits for ever).

        Compacted; ConnectionError when it was closed, also meanwhile; Busy when it cannot go on just now.
        """
        seconds = _state_calls.watch_timeout(timeout)
        while True:
            transport, stream = self._open or await self._begin()
            if transport.forked:
                raise ConnectionError("a watch stays with the process that began it: begin another")
            answer = await transport.next(stream, seconds)
            if answer is None:
                if not stream.overflowed:
                    return None
                # More came than is kept here. The kernel has it still, or says that it has not.
                await self._end()
                continue
            if not isinstance(answer, Chunk):
                await self.close()
                self._call.result(answer)  # an error reply: raises
                raise ConnectionError("the watch has ended")
            change = self._call.decode_chunk(answer)
            if change is not None and not self._seen(change):
                return change

    async def close(self) -> None:
        """Ends it; what was not taken is dropped."""
        self._closed = True
        await self._end()

    async def _begin(self) -> tuple[AsyncTransport, StreamRequest]:
        if self._closed:
            raise ConnectionError("this watch is closed: begin another")
        self._skip = self._told
        call = _state_calls.watch_from(self._call, self.version)
        try:
            begun = await self._client._open_stream(call)
        except Compacted:
            self._closed = True
            raise
        self._open = begun
        if self._closed:  # by another thread or task
            await self._end()
            raise ConnectionError("this watch was closed")
        return begun

    async def _end(self) -> None:
        begun, self._open = self._open, None
        if begun is not None:
            await self._client._end_stream(*begun)

    def _seen(self, change: Change) -> bool:
        if self._skip:
            self._skip -= 1
            return True
        if change.more:
            self.version = change.version - 1
            self._told += 1
        else:
            self.version = change.version
            self._told = 0
        return False
