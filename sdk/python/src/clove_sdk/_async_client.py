# SPDX-License-Identifier: MIT
"""The calls of a client."""

from __future__ import annotations

from typing import Any

from . import _arguments, _calls
from ._arguments import Command, Data, Environment, Path
from ._async_base import AsyncBaseClient
from ._errors_base import ProtocolError, ValidationError
from ._wire_errors import Busy
from ._wire_table import FRAME_LIST_MAX, SyscallOp
from .errors import CommandFailed
from .models import (
    AgentInfo,
    ExecResult,
    FileContent,
    KernelInfo,
    KernelStats,
    PollAsyncResult,
    WriteResult,
)


class AsyncCloveClient(AsyncBaseClient):
    """A client of the kernel.

    Every call raises SyscallError (a subclass for each code) when the kernel refuses it, TimeoutError
    when no answer comes in time, ConnectionError when there is no connection or it breaks, and, before
    anything is sent, ValidationError for an argument of the wrong type.
    """

    async def hello(self) -> KernelInfo:
        """Asks the kernel about itself."""
        return await self._call(_calls.hello())

    async def noop(self, message: object = None) -> Any:
        """Sends any value there and back: as MessagePack, so a tuple comes back as a list."""
        return await self._call(_calls.noop(message))

    async def echo(self, message: object) -> Any:
        """Another name of noop()."""
        return await self.noop(message)

    async def exit(self) -> bool:
        """Asks the kernel to close the connection, also an inherited one; True."""
        await self._call(_calls.leave())
        await self.disconnect()
        return True

    async def exec(
        self,
        command: Command,
        cwd: Path | None = None,
        timeout: float | None = 30,
        async_: bool = False,
        request_id: int | None = None,
        *,
        env: Environment | None = None,
        stdin: Data | None = None,
        check: bool = False,
        output_max: int | None = None,
    ) -> ExecResult:
        """Runs a command and returns when it has ended.

        command: a string for the shell, or a list of arguments without one. cwd: absolute; by default the
        user's home. timeout: seconds, after which it is ended; None or 0 for no limit. env: added to the
        base environment. output_max: bytes kept of stdout and of stderr each.

        A command that fails or is ended gives a result that is false, with its error as text; with
        check=True CommandFailed is raised. ExecFailed when it cannot be started.

        async_=True returns at once with a result that is pending and knows nothing but its
        async_request_id; poll_async() gives the result under that number. It is the request_id, or is chosen
        when that is None; ValidationError when it is in use.
        """
        call = _calls.execute(command, cwd, timeout, env, stdin, output_max)
        check = _arguments.flag("check", check)
        if request_id is not None:
            request_id = _arguments.integer("request_id", request_id)
        if _arguments.flag("async_", async_):
            if check:
                raise ValidationError("check needs the result and cannot go with async_")
            return ExecResult(async_request_id=await self._start(call, request_id))
        result = await self._call(call)
        if check and not result:
            raise CommandFailed(result)
        return result

    async def poll_async(self, max_results: int = 10) -> PollAsyncResult:
        """The results of asynchronous calls that have ended, without waiting for one."""
        return PollAsyncResult(await self._collect(_arguments.integer("max_results", max_results)))

    async def cancel(self, request_id: int) -> bool:
        """Ends an asynchronous call; whether it was still running. poll_async() reports it all the same."""
        entry = self._started.get(_arguments.integer("request_id", request_id))
        if entry is None or entry.request is None or entry.request.done:
            return False
        return await self._call(_calls.cancel(entry.request.id))

    async def read_file(self, path: Path) -> FileContent:
        """Reads a whole file, of any size; path may be relative to the user's home.

        A file that grows or shrinks meanwhile is read to the end it then has; one that is replaced is read
        anew. NotFound, PermissionDenied, NotAFile; Busy when it is replaced again and again.
        """
        path = _arguments.path("path", path)
        for _ in range(_calls.READ_RESTARTS_MAX):
            pieces = await self._read_pieces(path)
            if pieces is not None:
                return _calls.file_content(pieces)
        raise Busy("the file was replaced each time while it was being read", SyscallOp.READ)

    async def _read_pieces(self, path: str | bytes) -> list[bytes] | None:
        """None when the file was replaced between two pieces."""
        length = await self._payload_max()
        first = piece = await self._call(_calls.read_piece(path, 0, length))
        pieces = [piece.data]
        offset = len(piece.data)
        while not piece.eof:
            piece = await self._call(_calls.read_piece(path, offset, length))
            if piece.file != first.file:
                return None
            pieces.append(piece.data)
            offset += len(piece.data)
        return pieces

    async def write_file(
        self,
        path: Path,
        content: Data,
        mode: str = "write",
    ) -> WriteResult:
        """Writes a file, of any size: mode "write" replaces what it held, "append" adds at its end.

        Content above the payload limit (1 MiB) goes in pieces: others can see it partly written, and
        after an error it stays so. PermissionDenied, NotFound, NoSpace, NotAFile.
        """
        path = _arguments.path("path", path)
        data = _arguments.data("content", content)
        mode = _arguments.choice("mode", mode, ("write", "append"))
        length = await self._payload_max()
        result = await self._call(_calls.write_piece(path, data[:length], mode, 0))
        done = result.bytes_written
        while done < len(data):
            if not result.bytes_written:
                raise ProtocolError("WRITE succeeded without writing anything")
            piece = data[done : done + length]
            result = await self._call(_calls.write_piece(path, piece, mode, done))
            done += result.bytes_written
        return WriteResult(done, result.size)

    async def read(self, path: Path) -> str:
        """The content of read_file()."""
        return (await self.read_file(path)).content

    async def write(
        self,
        path: Path,
        content: Data,
        mode: str = "write",
    ) -> WriteResult:
        """Another name of write_file()."""
        return await self.write_file(path, content, mode)

    async def list_agents(self, all: bool = False) -> list[AgentInfo]:
        """The agents that were spawned; with all=True also the connected clients."""
        found: list[AgentInfo] = []
        while True:
            last = found[-1].id if found else None
            page = await self._call(_calls.list_agents(all, last))
            found += page
            if len(page) < FRAME_LIST_MAX:
                return found

    async def stats(self) -> KernelStats:
        """Counters of the kernel."""
        return await self._call(_calls.stats())

    async def _payload_max(self) -> int:
        return (await self._ready()).connection.payload_max
