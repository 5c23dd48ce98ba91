# SPDX-License-Identifier: MIT
"""Calls without I/O: arguments to a Call, a reply's value to a result.

To add a call: a function here that checks its arguments (_arguments.py) and returns its Call, a result in
models.py, and a method in _async_client.py that hands the Call to _call(); then run tools/unasync.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from . import _arguments, _codec
from ._arguments import Command, Data, Environment, Path
from ._protocol import Chunk, ErrorReply, Reply
from ._results import Fields
from ._version import __version__
from ._wire_table import FRAME_VERSION, SyscallOp
from .errors import syscall_error
from .models import (
    AgentInfo,
    AgentState,
    ExecResult,
    FileContent,
    KernelInfo,
    KernelStats,
    WriteResult,
)

T = TypeVar("T")

# Beyond a command's own timeout: the kernel ends it, collects its output and answers.
EXEC_MARGIN_SECONDS = 5.0
# How often a file may be replaced while it is being read before read_file() gives up.
READ_RESTARTS_MAX = 8
CLIENT_NAME = f"clove-sdk/{__version__}"


class Default:
    """Type of DEFAULT: wait as long as the client was told to."""


DEFAULT: Final = Default()


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call. wait: seconds that its answer may take, None for ever; if given, the kernel knows."""

    op: SyscallOp
    args: Sequence[object]
    decode: Callable[[Any], T]
    wait: float | None | Default = DEFAULT

    @property
    def deadline_ms(self) -> int | None:
        return math.ceil(self.wait * 1000) if isinstance(self.wait, float) else None

    def result(self, answer: Reply | ErrorReply) -> T:
        """The call's result. SyscallError for an error reply, ProtocolError for one not understood."""
        value = _codec.unpack(answer.body)
        if isinstance(answer, ErrorReply):
            raise syscall_error(self.op, value)
        return self.decode(value)

    def decode_chunk(self, chunk: Chunk) -> T:
        """A part of the call's answer. ProtocolError for one not understood."""
        return self.decode(_codec.unpack(chunk.body))


def _any(value: Any) -> Any:
    return value


def _true(value: object) -> bool:
    return True


def hello() -> Call[KernelInfo]:
    return Call(SyscallOp.HELLO, [FRAME_VERSION, FRAME_VERSION, CLIENT_NAME], _kernel_info)


def _kernel_info(value: object) -> KernelInfo:
    fields = Fields(value, "HELLO")
    return KernelInfo(
        version=fields.text("version"),
        capabilities=[str(name) for name in fields.items("features")],
        agent_id=fields.integer("agent_id"),
        uptime_seconds=fields.integer("uptime_ms") / 1000,
        protocol=fields.integer("protocol"),
        uid=fields.integer("uid"),
        core=fields.integer("core"),
        io=fields.text("io"),
        limits=fields.fields("limits").integers(),
        epoch=fields.integer("epoch"),
        sandbox=fields.boolean("sandbox"),
        box_commands=fields.boolean("box_commands"),
        protections=fields.fields("protections").texts(),
    )


def noop(message: object) -> Call[Any]:
    return Call(SyscallOp.NOOP, [_arguments.value("message", message)], _any)


def leave() -> Call[bool]:
    return Call(SyscallOp.EXIT, (), _true)


def execute(
    command: Command,
    cwd: Path | None,
    timeout: float | None,
    env: Environment | None,
    stdin: Data | None,
    output_max: int | None,
) -> Call[ExecResult]:
    """timeout: seconds; None or 0 for none."""
    argv = _arguments.command("command", command)
    timeout = _arguments.seconds("timeout", timeout, zero=True)
    options = {
        "cwd": None if cwd is None else _arguments.path("cwd", cwd),
        "env": None if env is None else _arguments.environment("env", env),
        "stdin": None if stdin is None else _arguments.data("stdin", stdin),
        # A timeout that rounds to 0 would mean none.
        "timeout_ms": max(1, round(timeout * 1000)) if timeout else 0,
        "output_max": None if output_max is None else _arguments.integer("output_max", output_max),
    }
    return Call(
        SyscallOp.EXEC,
        [argv, {key: value for key, value in options.items() if value is not None}],
        _exec_result,
        timeout + EXEC_MARGIN_SECONDS if timeout else None,
    )


def execute_in(call: Call[ExecResult], agent: str | int | None) -> Call[ExecResult]:
    """The same in the box of an agent; None: where the kernel puts it."""
    return replace(call, args=[*call.args, agent])


def _exec_result(value: object) -> ExecResult:
    fields = Fields(value, "EXEC")
    return ExecResult(
        stdout=fields.data("stdout").decode("utf-8", "surrogateescape"),
        stderr=fields.data("stderr").decode("utf-8", "surrogateescape"),
        exit_code=fields.integer("exit_code"),
        duration_ms=fields.number("duration_ms"),
        timed_out=fields.boolean("timed_out"),
        signal=fields.integer("signal"),
        truncated=fields.boolean("truncated"),
        stdout_size=fields.integer("stdout_bytes"),
        stderr_size=fields.integer("stderr_bytes"),
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a file; file tells whether two pieces are of the same one."""

    data: bytes
    eof: bool
    file: list[object]


def read_piece(
    path: str | bytes, offset: int, length: int, agent: str | int | None = None
) -> Call[Piece]:
    return Call(SyscallOp.READ, [path, offset, length, agent], _piece)


def _piece(value: object) -> Piece:
    fields = Fields(value, "READ")
    data = fields.data("data")
    # Without progress there is no next piece, whatever the kernel thinks of the file's end.
    return Piece(data, fields.boolean("eof") or not data, fields.items("file"))


def file_content(pieces: Sequence[bytes]) -> FileContent:
    data = b"".join(pieces)
    return FileContent(data.decode("utf-8", "surrogateescape"), len(data))


def write_piece(
    path: str | bytes, data: memoryview, mode: str, offset: int, agent: str | int | None = None
) -> Call[WriteResult]:
    where: list[object] = ["append", None] if mode == "append" else ["patch", offset]
    if mode == "write" and offset == 0:
        where = ["write", None]
    return Call(SyscallOp.WRITE, [path, data, *where, agent], _write_result)


def _write_result(value: object) -> WriteResult:
    fields = Fields(value, "WRITE")
    return WriteResult(fields.integer("bytes_written"), fields.integer("size"))


def list_agents(everybody: bool, after: int | None) -> Call[list[AgentInfo]]:
    return Call(SyscallOp.LIST, [_arguments.flag("all", everybody), after, True], _agents)


def _agents(value: object) -> list[AgentInfo]:
    return [_agent(item) for item in Fields({"agents": value}, "LIST").items("agents")]


def _agent(value: object) -> AgentInfo:
    fields = Fields(value, "LIST")
    return AgentInfo(
        id=fields.integer("id"),
        name=fields.text("name"),
        pid=fields.integer("pid"),
        state=AgentState(fields.text("state")),
        uptime_seconds=fields.integer("uptime_ms") / 1000,
        kind=fields.text("kind"),
        uid=fields.integer("uid"),
        core=fields.integer("core"),
        calls=fields.integer("calls"),
        parent_id=fields.integer("parent"),
        sandboxed=fields.boolean("sandboxed"),
        profile=fields.text("profile"),
        incarnation=fields.integer("incarnation"),
        memory_bytes=fields.integer_or_none("memory_bytes"),
        cpu_percent=fields.number_or_none("cpu_percent"),
        processes=fields.integer_or_none("processes"),
        protections=fields.fields("protections").texts(),
    )


def cancel(request_id: int) -> Call[bool]:
    return Call(SyscallOp.CANCEL, [request_id], bool)


def stats() -> Call[KernelStats]:
    return Call(SyscallOp.STATS, (), _stats)


def _stats(value: object) -> KernelStats:
    fields = Fields(value, "STATS")
    return KernelStats(
        io=fields.text("io"),
        connections=fields.integer("connections"),
        cores=[Fields(core, "STATS: cores").integers() for core in fields.items("cores")],
        store=Fields(fields.any("store"), "STATS: store").integers(),
        files_queued=fields.integer("files_queued"),
        launcher=fields.boolean("launcher"),
    )
