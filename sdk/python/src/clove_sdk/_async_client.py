# SPDX-License-Identifier: MIT
"""The calls of a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from . import _agent_calls, _arguments, _calls, _state_calls
from ._arguments import Command, Data, Environment, Path
from ._async_base import AsyncBaseClient
from ._async_sandbox import AsyncSandbox
from ._async_transaction import AsyncTransaction
from ._async_transport import sleep
from ._async_watch import AsyncWatch
from ._errors_base import ProtocolError, ValidationError
from ._results import Fields
from ._state_calls import Key
from ._wire_errors import Busy, Conflict
from ._wire_table import FRAME_USAGE_MAX, SyscallOp
from .agents import AgentDetails, ExitResult, LimitsResult, LogPiece, SpawnResult
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
from .state import (
    CasResult,
    DeleteResult,
    FetchResult,
    IncrResult,
    Item,
    KeysResult,
    StateUsage,
    StoreResult,
    TransactionResult,
    VerifyResult,
)


class AsyncCloveClient(AsyncBaseClient):
    """A client of the kernel.

    Every call raises SyscallError (a subclass for each code) when the kernel refuses it, TimeoutError
    when no answer comes in time, ConnectionError when there is no connection or it breaks, and, before
    anything is sent, ValidationError for an argument of the wrong type.
    """

    _box: AsyncSandbox | None = None  # for calls with sandbox=True

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
        sandbox: bool = False,
        agent: str | int | None = None,
    ) -> ExecResult:
        """Runs a command and returns when it has ended.

        command: a string for the shell, or a list of arguments without one. cwd: absolute; by default the
        user's home. timeout: seconds, after which it is ended; None or 0 for no limit. env: added to the
        base environment. output_max: bytes kept of stdout and of stderr each.

        It runs on the host as this user. sandbox=True: in a box of this connection's own, which all its calls
        with sandbox=True share and which ends with it (sandbox() makes others). agent: name or id of a
        sandboxed agent in whose box, and within whose limits, it runs. In an agent: always in its box.

        A command that fails or is ended gives a result that is false, with its error as text; with
        check=True CommandFailed is raised. ExecFailed when it cannot be started.

        async_=True returns at once with a result that is pending and knows nothing but its
        async_request_id; poll_async() gives the result under that number. It is the request_id, or is chosen
        when that is None; ValidationError when it is in use.
        """
        agent = _arguments.box(sandbox, agent)
        call = _calls.execute(command, cwd, timeout, env, stdin, output_max)
        check = _arguments.flag("check", check)
        if request_id is not None:
            request_id = _arguments.integer("request_id", request_id)
        async_ = _arguments.flag("async_", async_)
        if async_ and check:
            raise ValidationError("check needs the result and cannot go with async_")
        call = _calls.execute_in(call, await self._where(sandbox, agent))
        if async_:
            return ExecResult(async_request_id=await self._start(call, request_id))
        result = await self._call(call)
        if check and not result:
            raise CommandFailed(result)
        return result

    async def poll_async(self, max_results: int = 10) -> PollAsyncResult:
        """The results of asynchronous calls that have ended, without waiting for one."""
        return PollAsyncResult(await self._collect(_arguments.integer("max_results", max_results)))

    async def cancel(self, request_id: int) -> bool:
        """Ends an asynchronous call; whether it could be ended. poll_async() reports it all the same."""
        entry = self._started.get(_arguments.integer("request_id", request_id))
        if entry is None or entry.request is None or entry.request.done:
            return False
        return await self._call(_calls.cancel(entry.request.id))

    async def read_file(
        self, path: Path, *, sandbox: bool = False, agent: str | int | None = None
    ) -> FileContent:
        """Reads a whole file, of any size; path may be relative to the user's home. sandbox, agent: as of
        exec(), in whose box the path is.

        A file that grows or shrinks meanwhile is read to the end it then has; one that is replaced is read
        anew. NotFound, PermissionDenied, NotAFile; Busy when it is replaced again and again.
        """
        path = _arguments.path("path", path)
        where = await self._where(sandbox, _arguments.box(sandbox, agent))
        for _ in range(_calls.READ_RESTARTS_MAX):
            pieces = await self._read_pieces(path, where)
            if pieces is not None:
                return _calls.file_content(pieces)
        raise Busy("the file was replaced each time while it was being read", SyscallOp.READ)

    async def _read_pieces(
        self, path: str | bytes, where: str | int | None
    ) -> list[bytes] | None:
        """None when the file was replaced between two pieces."""
        length = await self._payload_max()
        first = piece = await self._call(_calls.read_piece(path, 0, length, where))
        pieces = [piece.data]
        offset = len(piece.data)
        while not piece.eof:
            piece = await self._call(_calls.read_piece(path, offset, length, where))
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
        *,
        sandbox: bool = False,
        agent: str | int | None = None,
    ) -> WriteResult:
        """Writes a file, of any size: mode "write" replaces what it held, "append" adds at its end. sandbox,
        agent: as of exec(), in whose box the path is.

        Content above the payload limit (1 MiB) goes in pieces: others can see it partly written, and
        after an error it stays so. PermissionDenied, NotFound, NoSpace, NotAFile.
        """
        path = _arguments.path("path", path)
        data = _arguments.data("content", content)
        mode = _arguments.choice("mode", mode, ("write", "append"))
        where = await self._where(sandbox, _arguments.box(sandbox, agent))
        length = await self._payload_max()
        result = await self._call(_calls.write_piece(path, data[:length], mode, 0, where))
        done = result.bytes_written
        while done < len(data):
            if not result.bytes_written:
                raise ProtocolError("WRITE succeeded without writing anything")
            piece = data[done : done + length]
            result = await self._call(_calls.write_piece(path, piece, mode, done, where))
            done += result.bytes_written
        return WriteResult(done, result.size)

    async def read(
        self, path: Path, *, sandbox: bool = False, agent: str | int | None = None
    ) -> str:
        """The content of read_file()."""
        return (await self.read_file(path, sandbox=sandbox, agent=agent)).content

    async def write(
        self,
        path: Path,
        content: Data,
        mode: str = "write",
        *,
        sandbox: bool = False,
        agent: str | int | None = None,
    ) -> WriteResult:
        """Another name of write_file()."""
        return await self.write_file(path, content, mode, sandbox=sandbox, agent=agent)

    async def list_agents(self, all: bool = False) -> list[AgentInfo]:
        """The agents that were spawned; with all=True also the connected clients."""
        found: list[AgentInfo] = []
        while True:
            last = found[-1].id if found else None
            page = await self._call(_calls.list_agents(all, last))
            found += page
            if len(page) < FRAME_USAGE_MAX:
                return found

    async def spawn(
        self,
        name: str,
        script: Path | None = None,
        sandboxed: bool = True,
        network: bool = False,
        limits: Mapping[str, int] | None = None,
        restart_policy: str = "never",
        max_restarts: int = 5,
        restart_window: float = 300,
        *,
        argv: Sequence[Path] | None = None,
        interpreter: Path | None = None,
        args: Sequence[Path] | None = None,
        env: Environment | None = None,
        cwd: Path | None = None,
        stdin: Data | None = None,
        profile: str | None = None,
        ro: Sequence[Path] | None = None,
        rw: Sequence[Path] | None = None,
        workspace: str | None = None,
        rights: Sequence[str] | None = None,
        timeout: float | None = None,
        require_limits: bool = False,
        tied: bool = False,
    ) -> SpawnResult:
        """Starts an agent and returns when its program runs.

        name: 1 to 63 of a-z A-Z 0-9 . _ -, held until the agent has ended for good. script: a Python
        program, read as this user and copied; in the sandbox it is /agent/NAME, starts in
        /workspace, which keeps its files for the next agent of that name, and has no network. args: behind the
        script. argv: a command instead of a script. interpreter: by default /usr/bin/python3.

        sandboxed=False: on the host, as this user. network=True: the host's network. profile: strict (a network
        namespace of its own), standard, loopback (its own with lo up), trusted (the host's network), none. ro,
        rw: paths of this user that it sees at the same place. workspace: "disk" or "memory".

        limits: "memory" in bytes (512 MiB), "cpu_quota" in microseconds of every 100,000 (100,000: one
        core), "max_pids" (256), "io_read" and "io_write" in bytes per second (none), "workspace"
        (1 GiB on disk, 64 MiB in memory) and "tmp" (64 MiB) in bytes. All but the last two hold for it and what it spawns together. Where
        the host cannot enforce one, the result's warnings say so; require_limits=True refuses instead.

        restart_policy: "never", "on-failure" or "always", after a pause of 1 s that doubles up to 60 s;
        given up after max_restarts within restart_window seconds. timeout: seconds of one life. rights: of
        exec, read, write, spawn, send, state, think, http, observe; by default all but the last two.

        NameTaken, NotFound, SandboxUnavailable, LimitsUnavailable, ExecFailed, Busy.
        """
        return await self._call(
            _agent_calls.spawn(
                name,
                script,
                sandboxed,
                network,
                limits,
                restart_policy,
                max_restarts,
                restart_window,
                argv,
                interpreter,
                args,
                env,
                cwd,
                stdin,
                profile,
                ro,
                rw,
                workspace,
                rights,
                timeout,
                require_limits,
                tied,
            )
        )

    async def kill(
        self, name: str | None = None, agent_id: int | None = None, grace: float = 0
    ) -> bool:
        """Ends an agent and all it started, for good; True when the last process is gone.

        grace: seconds for its program to act on SIGTERM first. AgentNotFound.
        """
        await self._call(_agent_calls.kill(_agent_calls.agent(name, agent_id), grace))
        return True

    async def wait(
        self, name: str | None = None, agent_id: int | None = None, timeout: float | None = None
    ) -> ExitResult:
        """Returns when an agent has ended for good, also before the call. AgentNotFound, TimeoutError."""
        return await self._call(_agent_calls.wait(_agent_calls.agent(name, agent_id), timeout))

    async def remove(self, name: str | None = None, agent_id: int | None = None) -> bool:
        """Deletes what an agent that has ended left, workspace and logs, also of agents it started; True.
        Busy while it is alive, AgentNotFound when there is nothing.
        """
        return await self._call(_agent_calls.remove(_agent_calls.agent(name, agent_id)))

    async def pause(self, name: str | None = None, agent_id: int | None = None) -> bool:
        """Stops every process of an agent; True. AgentNotFound."""
        return await self._call(_agent_calls.pause(_agent_calls.agent(name, agent_id)))

    async def resume(self, name: str | None = None, agent_id: int | None = None) -> bool:
        """Lets a paused agent run; True. AgentNotFound."""
        return await self._call(_agent_calls.resume(_agent_calls.agent(name, agent_id)))

    async def set_limits(
        self,
        name: str | None = None,
        agent_id: int | None = None,
        *,
        limits: Mapping[str, int],
    ) -> LimitsResult:
        """Changes limits of a live agent, at once and for its later lives. Keys as of spawn(), without
        "workspace" and "tmp"; what is not given stays. LimitsUnavailable where no cgroup holds them,
        AgentNotFound.
        """
        who = _agent_calls.agent(name, agent_id)
        return await self._call(_agent_calls.set_limits(who, limits))

    async def inspect(
        self, name: str | None = None, agent_id: int | None = None
    ) -> AgentDetails:
        """Everything the kernel knows of a live agent. AgentNotFound."""
        return await self._call(_agent_calls.inspect(_agent_calls.agent(name, agent_id)))

    async def logs(
        self, name: str | None = None, agent_id: int | None = None, stream: str = "stdout"
    ) -> str:
        """What is kept of what an agent wrote to stdout or stderr, also after its end. AgentNotFound."""
        who = _agent_calls.agent(name, agent_id)
        data = b""
        cursor = None
        while True:
            piece = await self._call(_agent_calls.logs(who, stream, cursor))
            if not piece.data:
                return data.decode("utf-8", "surrogateescape")
            data += piece.data
            cursor = piece.cursor

    async def follow_logs(
        self, name: str | None = None, agent_id: int | None = None, stream: str = "stdout"
    ) -> AsyncIterator[LogPiece]:
        """The same piece by piece, and what is added, until the agent has ended for good."""
        who = _agent_calls.agent(name, agent_id)
        cursor = None
        while True:
            piece = await self._call(_agent_calls.logs(who, stream, cursor))
            cursor = piece.cursor
            if piece.data:
                yield piece
            elif not piece.running:
                return
            else:
                await sleep(_agent_calls.FOLLOW_SECONDS)

    def sandbox(
        self,
        name: str | None = None,
        network: bool = False,
        limits: Mapping[str, int] | None = None,
        *,
        profile: str | None = None,
        ro: Sequence[Path] | None = None,
        rw: Sequence[Path] | None = None,
        workspace: str = "memory",
        timeout: float | None = None,
        require_limits: bool = False,
    ) -> AsyncSandbox:
        """A box of its own for commands and files: exec(), read_file() and write_file() of what is returned
        share its /workspace until it is closed, or this connection ends. Made by its first call, or by
        "with". Arguments as of spawn(); with a name and workspace="disk" the next box of that name finds
        its files again.
        """
        return AsyncSandbox(
            self,
            {
                "name": name,
                "network": network,
                "limits": limits,
                "profile": profile,
                "ro": ro,
                "rw": rw,
                "workspace": workspace,
                "timeout": timeout,
                "require_limits": require_limits,
            },
        )

    async def _where(self, sandbox: bool, agent: str | int | None) -> str | int | None:
        """In whose box a call acts, of arguments that were checked; None: where the kernel puts it."""
        if agent is not None:
            return agent
        transport = await self._ready()
        if self._endpoint.fd is not None or not (sandbox or (self._info and self._info.box_commands)):
            return None
        if self._box is None or self._box.connection not in (None, transport):
            self._box = self.sandbox()
        return await self._box.start()

    async def store(
        self,
        key: Key,
        value: object,
        scope: str = "global",
        ttl: float | None = None,
        *,
        durable: bool = False,
        if_version: int | None = None,
    ) -> StoreResult:
        """Keeps a value, anything that MessagePack can express, up to 1 MiB.

        key: 1 to 1024 bytes. scope: "global", of this user; "agent", of this agent's name (of a client: its session);
        "session", gone with this connection. ttl: seconds until it is gone; None: never. durable: return when it
        survives a power cut. if_version: only if the key has this version, 0: does not exist.

        Conflict, QuotaExceeded, TooLarge, InvalidArgument, Busy, StoreFailed.
        """
        return await self._call(_state_calls.store(key, value, scope, ttl, durable, if_version))

    async def fetch(self, key: Key, scope: str | None = None) -> FetchResult:
        """The value under a key, and whether there is one; without a scope the nearest of agent, session, global."""
        return await self._call(_state_calls.fetch(key, scope))

    async def delete_key(
        self,
        key: Key,
        scope: str | None = None,
        *,
        durable: bool = False,
        if_version: int | None = None,
    ) -> DeleteResult:
        """Deletes what fetch() would have found; whether there was something. Conflict, as of store()."""
        return await self._call(_state_calls.delete(key, scope, durable, if_version))

    async def list_keys(self, prefix: Key = "", scope: str | None = None) -> KeysResult:
        """All keys that begin with prefix; without a scope those of all that fetch() looks in."""
        found: list[str] = []
        revision: int | None = None  # of the first page, the oldest
        places = _state_calls.SCOPES if scope is None else (_state_calls.scope(scope, None),)
        for place in places:
            cursor: bytes | None = None
            while True:
                page = await self._call(_state_calls.keys(prefix, str(place), cursor))
                revision = page.revision if revision is None else revision
                found += page.rows
                cursor = page.cursor
                if cursor is None:
                    break
        return _state_calls.keys_result(found, revision or 0)

    async def cas(
        self,
        key: Key,
        value: object,
        version: int,
        scope: str = "global",
        ttl: float | None = None,
        *,
        durable: bool = False,
    ) -> CasResult:
        """Stores if the key still has this version, of a fetch(); 0: if it does not exist. The result is false when it
        has another, and says which. Errors as of store(), but for Conflict.
        """
        version = _arguments.integer("version", version)
        try:
            stored = await self.store(key, value, scope, ttl, durable=durable, if_version=version)
        except Conflict as conflict:
            return CasResult(False, Fields(conflict.details, "CONFLICT").integer("version"))
        return CasResult(True, stored.version, stored.durability)

    async def incr(
        self,
        key: Key,
        amount: int | float = 1,
        scope: str = "global",
        ttl: float | None = None,
        *,
        durable: bool = False,
    ) -> IncrResult:
        """Adds to a number; a key that does not exist counts as 0. ttl: None leaves what it had. WrongType, OutOfRange."""
        return await self._call(_state_calls.increment(key, amount, scope, ttl, durable))

    async def append(
        self,
        key: Key,
        value: object,
        scope: str = "global",
        ttl: float | None = None,
        *,
        durable: bool = False,
    ) -> StoreResult:
        """Joins str to str, bytes to bytes, a list's elements to a list. ttl: None leaves what it had. WrongType."""
        return await self._call(_state_calls.append(key, value, scope, ttl, durable))

    async def mget(self, keys: Sequence[Key], scope: str | None = None) -> list[FetchResult]:
        """Several fetch() as of one moment: 1024 keys in one scope, a third without one. TooLarge above 1 MiB in all."""
        names = _state_calls.keys_of(keys)
        call = _state_calls.fetch_many(names, scope)
        return await self._call(call) if names else []

    async def mset(
        self,
        values: Mapping[Any, object],
        scope: str = "global",
        ttl: float | None = None,
        *,
        durable: bool = False,
    ) -> TransactionResult:
        """Several store(), all or none and for every reader at once; up to 1024."""
        call = _state_calls.mset(values, scope, ttl, durable)
        return await self._call(call) if values else _state_calls.nothing_changed()

    def transaction(self, *, durable: bool = False) -> AsyncTransaction:
        """Changes of several keys, all or none: collected in a "with" block and sent at its end."""
        return AsyncTransaction(self, _arguments.flag("durable", durable))

    async def scan(
        self, prefix: Key = "", scope: str = "global", page_size: int | None = None
    ) -> AsyncIterator[Item]:
        """Keys with their values, in the order of their bytes. Pages are fetched as needed, each as of one moment;
        page_size: at most and by default 1000.
        """
        cursor: bytes | None = None
        while True:
            page = await self._call(_state_calls.scan(prefix, scope, page_size, cursor))
            for item in page.rows:
                yield item
            cursor = page.cursor
            if cursor is None:
                return

    def watch(
        self,
        key: Key | None = None,
        *,
        prefix: Key | None = None,
        scope: str = "global",
        after: int | None = None,
    ) -> AsyncWatch:
        """Changes of a key, or of all with a prefix ("": of the scope), as they happen; a "with" block and an iterator.

        To read and miss nothing, watch after the revision of a fetch(), mget() or list_keys(), also of a key that does
        not exist. after: begins with what happened behind this version; of another watch, to go on where that
        ended; 0: with all that ever happened. Compacted when the kernel has forgotten some of it: begin one without after, read again.
        """
        return AsyncWatch(self, _state_calls.watch(key, prefix, scope, after), after)

    async def state_usage(self) -> StateUsage:
        """How much state there is and may be: of this agent, or of this client's user."""
        return await self._call(_state_calls.usage())

    async def backup(self, path: Path) -> bool:
        """Writes a copy of all state to a directory that does not exist yet, while it is in use; True. For root and the
        kernel's own user: PermissionDenied.
        """
        return await self._call(_state_calls.backup(path))

    async def restore(self, path: Path) -> bool:
        """Puts a backup in place of all state; True. It is checked first; StoreDamaged, and nothing has changed. Watches
        end with Compacted. For root and the kernel's own user.
        """
        return await self._call(_state_calls.restore(path))

    async def verify_state(self) -> VerifyResult:
        """Reads all state and compares checksums; StoreDamaged. For root and the kernel's own user."""
        return await self._call(_state_calls.verify())

    async def stats(self) -> KernelStats:
        """Counters of the kernel."""
        return await self._call(_calls.stats())

    async def _payload_max(self) -> int:
        return (await self._ready()).connection.payload_max
