# SPDX-License-Identifier: MIT
"""asyncio protocol on a Unix socket; has the same methods as the blocking one.

Belongs to the event loop it was opened in. A task that waits sleeps on a future that the
loop's reader sets.
"""

from __future__ import annotations

import asyncio
import copy
import os
import socket
from collections.abc import Sequence
from time import monotonic
from weakref import WeakKeyDictionary

from . import _discovery
from ._discovery import Endpoint
from ._door import Knock
from ._errors_base import CloveError, ConnectionError, ConnectionLost, TimeoutError
from ._pending import Pending, Stream, Table
from ._protocol import Chunk, Connection, ErrorReply, Reply

Mutex = asyncio.Lock
Request = Pending[asyncio.Future[None]]
StreamRequest = Stream[asyncio.Future[None]]

_shared: dict[int, AsyncTransport] = {}
# Of several tasks only one may get to read an inherited stream.
_opening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
# A copy in a forked child must not be collected: its destructor would work on the parent's event loop.
_forked: list[AsyncTransport] = []


class AsyncTransport(asyncio.Protocol):
    """One connection to the kernel, usable from the tasks of one event loop."""

    def __init__(self, shared: bool) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._shared = shared
        self._users = 0
        self._table: Table[asyncio.Future[None]] = Table()
        self._lost: CloveError | None = None
        self._stream: asyncio.Transport
        self._paused = False
        self._senders: list[asyncio.Future[None]] = []

    @classmethod
    async def open(cls, endpoint: Endpoint, timeout: float | None) -> AsyncTransport:
        """Connects, or joins the process's connection on CLOVE_FD. ConnectionError, TimeoutError, Busy."""
        if not endpoint.in_agent:
            return await cls(shared=False)._on(await _connect(endpoint, timeout))
        if endpoint.fd is None or not _discovery.claim(endpoint, "async"):
            return await cls._other(endpoint, timeout)
        async with _opening.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            known = _shared.get(endpoint.fd)
            if known and endpoint.door is not None and known.stream_ended:
                return await cls._other(endpoint, timeout)
            if known is None or not known.usable:
                new = cls(shared=True)
                sock = _discovery.duplicate(endpoint.fd)
                sock.setblocking(False)
                await (new._continue(known, sock) if known else new._on(sock))
                known = _shared[endpoint.fd] = new
            known._users += 1
            return known

    @classmethod
    async def _other(cls, endpoint: Endpoint, timeout: float | None) -> AsyncTransport:
        """On a connection of one's own, by the door of the agent."""
        assert endpoint.door is not None
        return await cls(shared=False)._on(await _through(endpoint.door, timeout))

    async def _on(self, sock: socket.socket) -> AsyncTransport:
        await self._loop.create_unix_connection(lambda: self, sock=sock)
        return self

    async def _continue(self, before: AsyncTransport, sock: socket.socket) -> None:
        """Takes the stream up where its clients before, perhaps of another event loop, left it."""
        if before.cut:
            sock.close()
            raise ConnectionLost("the inherited connection was left in the middle of a frame")
        self._table.connection = before.connection
        await self._on(sock)
        for request_id in before._table.waiting:
            self._stream.write(self.connection.abandon(request_id))

    @property
    def usable(self) -> bool:
        return self._lost is None and not self.forked and not self._loop.is_closed()

    @property
    def cut(self) -> bool:
        """Whether the stream was left where nobody can go on."""
        return bool(self.connection.broken or self._stream.get_write_buffer_size())

    @property
    def stream_ended(self) -> bool:
        """Whether nobody can use an inherited stream any more: it was cut, or the kernel has closed it."""
        return not self.usable and (self.cut or isinstance(self._lost, ConnectionLost))

    @property
    def forked(self) -> bool:
        """Whether this is a copy in a forked child, whose socket belongs to the parent."""
        return self._pid != os.getpid()

    @property
    def connection(self) -> Connection:
        return self._table.connection

    async def send(
        self,
        op: int,
        args: Sequence[object],
        timeout: float | None,
        deadline_ms: int | None = None,
        kind: type[Request] = Pending,
    ) -> Request:
        """Sends a request; wait() or poll() collects its answer. TimeoutError, ConnectionLost."""
        self._check_loop()
        while self._paused and not self._lost:
            room = self._loop.create_future()
            self._senders.append(room)
            await _within(room, timeout, "the kernel takes no requests")
        if self._lost:
            raise copy.copy(self._lost)
        request_id, frame = self._table.connection.request(op, args, deadline_ms)
        pending = kind(request_id)
        self._table.waiting[request_id] = pending
        self._stream.write(frame)
        return pending

    async def wait(self, pending: Request, timeout: float | None) -> Reply | ErrorReply:
        """The answer. On timeout (seconds, None for ever), or cancelled, the request is abandoned."""
        try:
            if not pending.done:
                pending.wake = self._loop.create_future()
                await _within(pending.wake, timeout, f"no answer within {timeout} s")
        except BaseException:
            await self.abandon(pending)
            raise
        return pending.take()

    async def next(
        self, stream: StreamRequest, timeout: float | None
    ) -> Chunk | Reply | ErrorReply | None:
        """The next of a stream; None when there is none within timeout seconds, or it has overflowed."""
        if not stream.ready and not (timeout is not None and timeout <= 0):
            stream.wake = self._loop.create_future()
            try:
                await _within(stream.wake, timeout, "nothing came")
            except TimeoutError:
                pass
            finally:
                stream.wake = None
        return stream.take_next()

    async def poll(self) -> None:
        """Lets the loop take in what has arrived."""
        self._check_loop()
        # One round of the loop finds what is readable, the next one runs who reads it.
        for _ in range(2):
            await asyncio.sleep(0)

    async def abandon(self, pending: Request) -> None:
        """Forgets a request and tells the kernel so; its late answer is discarded. Does not wait."""
        frame = self._table.abandon(pending)
        if frame is None:
            return
        _wake(pending)
        if not self._lost:
            self._stream.write(frame)

    async def close(self) -> None:
        """Ends the connection and every wait on it; a shared one for its last user, and not its stream."""
        if self.forked:
            _forked.append(self)
            return
        self._users -= 1
        if self._users > 0:
            return
        if self._shared and self.usable:
            for request_id in list(self._table.waiting):
                self._stream.write(self.connection.abandon(request_id))
            self._stream.close()
        self._fail(ConnectionError("disconnected"))
        await asyncio.sleep(0)  # in which the loop closes the socket

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise ConnectionError("this client was connected in another event loop")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._stream = transport

    def data_received(self, data: bytes) -> None:
        for pending in self._table.feed(data):
            _wake(pending)
        if self._table.connection.broken:
            self._fail(self._table.connection.broken)

    def connection_lost(self, exc: Exception | None) -> None:
        self._read_last()
        reason = f": {exc}" if exc else ""
        self._fail(ConnectionLost(f"the connection to the kernel is lost{reason}"))

    def _read_last(self) -> None:
        """A failed write ends a transport at once, while the kernel's last word may wait to be read."""
        sock = self._stream.get_extra_info("socket")
        try:
            data = b"" if self._lost else os.read(sock.fileno(), self._table.connection.recv_bytes)
        except OSError:
            return
        if data:
            self.data_received(data)

    def eof_received(self) -> bool:
        self._fail(self._table.end_of_stream())
        return False

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        senders, self._senders = self._senders, []
        for room in senders:
            if not room.done():
                room.set_result(None)

    def _fail(self, error: CloveError) -> None:
        if self._lost:
            return
        self._lost = error
        for pending in self._table.fail(error):
            _wake(pending)
        self.resume_writing()
        if not self._loop.is_closed() and not self._stream.is_closing():
            self._stream.abort()


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _wake(pending: Request) -> None:
    if pending.wake and not pending.wake.done():
        pending.wake.set_result(None)


async def _within(future: asyncio.Future[None], timeout: float | None, message: str) -> None:
    """wait_for() without its task: two microseconds instead of forty."""
    if timeout is None:
        await future
        return
    handle = asyncio.get_running_loop().call_later(timeout, _expire, future, message)
    try:
        await future
    finally:
        handle.cancel()


def _expire(future: asyncio.Future[None], message: str) -> None:
    if not future.done():
        future.set_exception(TimeoutError(message))


async def _through(door: int, timeout: float | None) -> socket.socket:
    """A connection of one's own by the door of the agent."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else monotonic() + timeout
    pause = 0.001
    knock = Knock(door)
    try:
        while not knock.send():
            if deadline is not None and monotonic() > deadline:
                raise TimeoutError("the door of the agent takes no requests")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)
        while not (sock := knock.receive()):
            readable = loop.create_future()
            loop.add_reader(knock.answer, _set, readable)
            try:
                left = None if deadline is None else max(deadline - monotonic(), 0)
                await _within(readable, left, "the door of the agent did not answer in time")
            finally:
                loop.remove_reader(knock.answer)
        sock.setblocking(False)
        return sock
    finally:
        knock.close()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _connect(endpoint: Endpoint, timeout: float | None) -> socket.socket:
    deadline = None if timeout is None else monotonic() + timeout
    pause = 0.001
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        while True:
            try:
                sock.connect(endpoint.path)
                break
            except BlockingIOError:
                # No room in the listener's backlog; a Unix socket cannot wait for that by itself.
                if deadline is not None and monotonic() > deadline:
                    raise TimeoutError(
                        f"{endpoint.path} did not accept within {timeout} s"
                    ) from None
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)
        _discovery.check_peer(endpoint, sock)
        return sock
    except CloveError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise _discovery.connect_error(endpoint.path, error) from None
    except BaseException:
        sock.close()
        raise
