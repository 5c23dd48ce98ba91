# SPDX-License-Identifier: MIT
"""Connecting, and the way of every call; the calls themselves are in _async_client.py."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from . import _arguments, _calls, _discovery
from ._arguments import Path
from ._async_transport import AsyncTransport, Mutex, Request, StreamRequest
from ._calls import Call, Default
from ._errors_base import (
    CloveError,
    ConnectionError,
    ConnectionLost,
    ProtocolError,
    TimeoutError,
    ValidationError,
)
from ._pending import Stream
from ._protocol import Chunk
from .models import AsyncResult, ExecResult, KernelInfo

T = TypeVar("T")
Self = TypeVar("Self", bound="AsyncBaseClient")

DEFAULT_TIMEOUT_SECONDS = 30.0


@dataclass(slots=True)
class _Started:
    """A call whose answer poll_async() collects. request: None until it is sent."""

    call: Call[ExecResult]
    request: Request | None = None


class AsyncBaseClient:
    """A client's connection.

    socket_path: where the kernel listens; by default what an agent inherits (CLOVE_FD, and CLOVE_DOOR for its
    other processes), then CLOVE_SOCKET, then /tmp/clove.sock. timeout: seconds that each call may take, None for
    no limit; exec() goes by its own.
    """

    def __init__(
        self,
        socket_path: Path | None = None,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        self._timeout = _arguments.seconds("timeout", timeout, zero=False)
        self._endpoint = _discovery.find(socket_path)
        self._mutex = Mutex()
        self._mutex_pid = os.getpid()
        self._transport: AsyncTransport | None = None
        self._info: KernelInfo | None = None
        self._closed = False
        self._started: dict[int, _Started] = {}
        self._streams: set[StreamRequest] = set()
        self._async_ids = itertools.count(1)

    @property
    def socket_path(self) -> str:
        """Path of the kernel's socket; in an agent fd:N or door:N, by the descriptor that it inherits."""
        return self._endpoint.path

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known: nothing is sent to find out."""
        return self._transport is not None and self._transport.usable

    @property
    def agent_id(self) -> int | None:
        """Who the kernel takes this client for; None while there is no connection."""
        return self._info.agent_id if self._info and self.connected else None

    async def connect(self) -> bool:
        """Connects unless connected; True. The first call does it as well.

        After the connection was lost or closed, calls fail until this is called: the kernel takes the new
        connection for a new client, which holds nothing that the old one held.

        ConnectionError (KernelNotFound, KernelRefused) when no kernel can be reached, TimeoutError,
        VersionMismatch, Busy when there are as many connections as there may be.
        """
        self._closed = False
        await self._ready(reconnect=True)
        return True

    async def disconnect(self) -> None:
        """Closes the connection; an inherited one stays open. Results not collected are gone."""
        self._closed = True
        transport, self._transport = self._transport, None
        open_requests: list[Request] = [e.request for e in self._started.values() if e.request]
        open_requests += self._streams
        self._started.clear()
        self._streams.clear()
        if transport is None:
            return
        for request in open_requests:
            if transport.usable:
                await transport.abandon(request)
        await transport.close()

    async def __aenter__(self: Self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.disconnect()

    async def _ready(self, reconnect: bool = False) -> AsyncTransport:
        transport = self._transport
        if transport is not None and transport.usable:
            return transport
        if self._mutex_pid != os.getpid():
            # Another thread of the parent may have held it while this process was forked.
            self._mutex = Mutex()
            self._mutex_pid = os.getpid()
        async with self._mutex:
            transport = self._transport
            if transport is not None and transport.usable:
                return transport
            if self._closed:
                raise ConnectionError("disconnected: call connect() first")
            if transport is not None:
                if not (reconnect or transport.forked):
                    raise ConnectionError("the connection was lost: connect() makes a new one")
                await self._leave(transport)
            transport = await AsyncTransport.open(self._endpoint, self._timeout)
            try:
                self._info = await self._greet(transport)
            except BaseException:
                await transport.close()
                raise
            self._transport = transport
            return transport

    async def _leave(self, transport: AsyncTransport) -> None:
        """Lets go of a connection that is of no use any more."""
        if transport.forked:
            # The requests in flight are the parent's, and so are their answers.
            self._started.clear()
        self._streams.clear()
        await transport.close()
        self._transport = None

    async def _greet(self, transport: AsyncTransport) -> KernelInfo:
        call = _calls.hello()
        try:
            request = await transport.send(call.op, call.args, self._timeout)
            info = call.result(await transport.wait(request, self._timeout))
        except ConnectionLost as error:
            raise ConnectionLost(
                f"{error} as soon as it was made: {self.socket_path} may be served by a kernel"
                " of another user, which accepts its own user and root only"
            ) from None
        connection = transport.connection
        connection.body_max = info.limits.get("frame_max", connection.body_max)
        connection.payload_max = info.limits.get("payload_max", connection.payload_max)
        return info

    async def _call(self, call: Call[T]) -> T:
        transport = await self._ready()
        wait = self._timeout if isinstance(call.wait, Default) else call.wait
        request = await transport.send(call.op, call.args, wait, call.deadline_ms)
        return call.result(await transport.wait(request, wait))

    async def _open_stream(self, call: Call[T]) -> tuple[AsyncTransport, StreamRequest]:
        """Sends a call that is answered in chunks, and waits for the first, which says that it stands."""
        transport = await self._ready()
        request = await transport.send(call.op, call.args, self._timeout, None, Stream)
        assert isinstance(request, Stream)
        try:
            answer = await transport.next(request, self._timeout)
            if answer is None:
                raise TimeoutError(f"no answer within {self._timeout} s")
            if not isinstance(answer, Chunk):
                call.result(answer)  # an error reply: raises
                raise ProtocolError(f"call {call.op:#x} was not answered in chunks")
            call.decode_chunk(answer)
        except BaseException:
            await transport.abandon(request)
            raise
        self._streams.add(request)
        return transport, request

    async def _end_stream(self, transport: AsyncTransport, stream: StreamRequest) -> None:
        self._streams.discard(stream)
        if transport.usable:
            await transport.abandon(stream)

    async def _start(self, call: Call[ExecResult], request_id: int | None) -> int:
        """Sends a call for poll_async() to collect; returns the number it goes by."""
        transport = await self._ready()
        entry = _Started(call)
        if request_id is None:
            request_id = next(i for i in self._async_ids if self._reserve(i, entry))
        elif not self._reserve(request_id, entry):
            raise ValidationError(f"request_id {request_id} is in use")
        try:
            entry.request = await transport.send(call.op, call.args, self._timeout)
        except BaseException:
            self._started.pop(request_id, None)
            raise
        return request_id

    def _reserve(self, request_id: int, entry: _Started) -> bool:
        # One step, so that threads cannot both take the number.
        return self._started.setdefault(request_id, entry) is entry

    async def _collect(self, results_max: int) -> list[AsyncResult]:
        if self._transport is not None and self._transport.usable:
            await self._transport.poll()
        elif self._transport is not None and self._transport.forked:
            await self._leave(self._transport)
        results: list[AsyncResult] = []
        for request_id, entry in list(self._started.items()):
            if len(results) >= results_max:
                break
            if entry.request is None or not entry.request.done:
                continue
            # Another thread may have taken it since the list was made.
            if self._started.pop(request_id, None) is not None:
                results.append(_async_result(request_id, entry.call, entry.request))
        return results


def _async_result(request_id: int, call: Call[ExecResult], request: Request) -> AsyncResult:
    try:
        return AsyncResult(request_id, call.op, call.result(request.take()))
    except CloveError as error:
        return AsyncResult(request_id, call.op, None, str(error))
