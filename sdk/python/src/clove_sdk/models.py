# SPDX-License-Identifier: MIT
"""Results of the calls. Sizes are bytes; what a unit is else stands in the field's name."""

from __future__ import annotations

import enum
import json
import signal as signals
from dataclasses import dataclass, field
from typing import ClassVar

from ._results import Result
from ._wire_table import SyscallOp


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class KernelInfo(Result):
    """Answer of hello(). capabilities: the calls that this kernel has. epoch: changes with each start.

    agent_id: who the kernel takes this client for. io: how it does its I/O. sandbox: False when it
    runs with --no-sandbox. box_commands: True when clients may run commands and open files in boxes only. limits: by name, in bytes or counts. protections: by what this host holds an
    agent to its "memory", "cpu", "pids" and "io": "cgroup", "rlimit" or "none".
    """

    version: str
    capabilities: list[str]
    agent_id: int
    uptime_seconds: float
    protocol: int
    uid: int
    core: int
    io: str
    limits: dict[str, int]
    epoch: int
    sandbox: bool
    box_commands: bool
    protections: dict[str, str]

    OLDER_KEYS: ClassVar[dict[str, str]] = {"features": "capabilities"}


@dataclass(frozen=True, slots=True)
class ExecResult(Result):
    """Answer of exec(). It succeeded when the command ended by itself with exit code 0.

    stdout, stderr: what was kept of the output; bytes that are not UTF-8 stand as surrogate escapes, and
    stdout_bytes and stderr_bytes give the bytes themselves. stdout_size, stderr_size: bytes
    that the command wrote; truncated: more than was kept, which is no failure. exit_code: -1 when signal
    ended it.

    With async_=True the result is pending: the command was accepted and nothing else is known. Such a
    result has an async_request_id and is neither a success nor has an error; its other fields mean nothing.
    poll_async() gives the result itself, which is not pending.
    """

    stdout: str = ""
    stderr: str = ""
    exit_code: int = -1
    duration_ms: float = 0.0
    async_request_id: int | None = None
    timed_out: bool = False
    signal: int = 0
    truncated: bool = False
    stdout_size: int = 0
    stderr_size: int = 0

    OLDER_KEYS: ClassVar[dict[str, str]] = {"request_id": "async_request_id"}

    @property
    def pending(self) -> bool:
        """Whether this only says that the command was accepted; poll_async() will have its result."""
        return self.async_request_id is not None

    @property
    def success(self) -> bool:
        return self.error is None and not self.pending

    @property
    def error(self) -> str | None:
        if self.pending:
            return None
        if self.timed_out:
            return f"timed out after {self.duration_ms / 1000:.3g} s"
        if self.signal:
            return f"ended by signal {self.signal} ({_signal_name(self.signal)})"
        return f"exit code {self.exit_code}" if self.exit_code else None

    @property
    def stdout_bytes(self) -> bytes:
        return _to_bytes(self.stdout)

    @property
    def stderr_bytes(self) -> bytes:
        return _to_bytes(self.stderr)


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class FileContent(Result):
    """Answer of read_file(). content: as stdout of ExecResult; size: bytes read."""

    content: str
    size: int

    @property
    def content_bytes(self) -> bytes:
        return _to_bytes(self.content)


@dataclass(frozen=True, slots=True)
class WriteResult(Result):
    """Answer of write_file(). bytes_written: by this call; size: of the whole file after it."""

    bytes_written: int
    size: int


class AgentState(str, enum.Enum):
    """State of an agent; also a str. UNKNOWN stands for one that this SDK does not know."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    STARTING = "starting"
    CRASHED = "crashed"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> AgentState:
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class AgentInfo(Result):
    """An item of list_agents(). uid: of its owner. calls: made so far. parent_id: 0 without one.

    kind: "spawned" or "external". memory_bytes, processes, and cpu_percent, of one CPU on average over its
    present life, are None where no cgroup counts them. protections: as in SpawnResult.
    """

    id: int
    name: str
    pid: int
    state: AgentState
    uptime_seconds: float
    kind: str
    uid: int
    core: int
    calls: int
    parent_id: int = 0
    sandboxed: bool = False
    profile: str = "none"
    incarnation: int = 0
    memory_bytes: int | None = None
    cpu_percent: float | None = None
    processes: int | None = None
    protections: dict[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.state is AgentState.RUNNING

    @property
    def status(self) -> str:
        return self.state.value


@dataclass(frozen=True, slots=True)
class AsyncResult(Result):
    """An item of poll_async(): how the call request_id ended. result: None when the call failed.

    success and error are the result's own, or the reason why there is none.
    """

    request_id: int
    opcode: SyscallOp
    result: ExecResult | None
    failure: str | None = None

    @property
    def success(self) -> bool:
        return self.error is None

    @property
    def error(self) -> str | None:
        return self.failure if self.result is None else self.result.error

    @property
    def payload(self) -> str:
        """The result as JSON text."""
        fields: dict[str, object] = {"success": self.success}
        if self.error is not None:
            fields["error"] = self.error
        if self.result is not None:
            for key in ("stdout", "stderr", "exit_code", "duration_ms"):
                fields[key] = self.result[key]
        return json.dumps(fields)


@dataclass(frozen=True, slots=True)
class PollAsyncResult(Result):
    """Answer of poll_async(): the calls that have ended, in no order, each reported once."""

    results: list[AsyncResult]

    @property
    def count(self) -> int:
        return len(self.results)


@dataclass(frozen=True, slots=True)
class KernelStats(Result):
    """Answer of stats(). cores: for each core its counters by name, counted since the start.

    store: those of the state store. files_queued: file operations that wait. launcher: whether the helper that starts commands lives.
    """

    io: str
    connections: int
    cores: list[dict[str, int]]
    store: dict[str, int]
    files_queued: int
    launcher: bool
