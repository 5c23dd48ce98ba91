# SPDX-License-Identifier: MIT
"""Results of the calls about agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ._results import Result


@dataclass(frozen=True, slots=True)
class SpawnResult(Result):
    """Answer of spawn(): the agent runs.

    agent_id: the same in list_agents(), hello() of the agent and KILL; kept over restarts, each of which is
    another incarnation, from 1. pid: of its program, on the host. profile: what confines it;
    protections: how its limits hold, "memory", "cpu", "pids" and "io" each "cgroup", "rlimit" or "none",
    "workspace" "quota" (of the file system), "polled" (measured now and then), "memory" or "none", and "layers", the
    names of what is in force. warnings: what is not enforced on this host.
    """

    agent_id: int
    name: str
    pid: int
    status: str
    profile: str
    sandboxed: bool
    start: str
    restart_policy: str
    incarnation: int
    protections: dict[str, Any]
    warnings: list[str]

    OLDER_KEYS: ClassVar[dict[str, str]] = {}

    @property
    def id(self) -> int:
        return self.agent_id


@dataclass(frozen=True, slots=True)
class ExitResult(Result):
    """Answer of wait(): how an agent ended for good. It succeeded when it exited with code 0.

    reason: exited, signal, out-of-memory, timeout, killed (killed_by is the id of who did), start-failed
    (of a restart), lost (with the process that starts agents), workspace-full (beyond its limit, where that
    is polled). exit_code: -1 unless exited. left_processes:
    whether others of its box outlived the program and were killed. log_bytes_lost: output
    that could not be kept.
    """

    agent_id: int
    name: str
    reason: str
    exit_code: int
    signal: int
    killed_by: int
    incarnation: int
    restarts: int
    uptime_seconds: float
    log_bytes_lost: int
    left_processes: bool

    @property
    def success(self) -> bool:
        return self.error is None

    @property
    def error(self) -> str | None:
        if self.reason != "exited":
            return f"{self.reason} (signal {self.signal})" if self.signal else self.reason
        return f"exit code {self.exit_code}" if self.exit_code else None


@dataclass(frozen=True, slots=True)
class AgentDetails(Result):
    """Answer of inspect(). spawned: as spawn() answers now. parent_id: 0 when a client started it.

    The last three: as in AgentInfo.
    """

    spawned: SpawnResult
    state: str
    parent_id: int
    uid: int
    core: int
    uptime_seconds: float
    calls: int
    restarts: int
    limits: dict[str, int]
    memory_bytes: int | None = None
    cpu_percent: float | None = None
    processes: int | None = None


@dataclass(frozen=True, slots=True)
class LimitsResult(Result):
    """Answer of set_limits(): all limits as they are now, and by what they hold."""

    agent_id: int
    limits: dict[str, int]
    protections: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogPiece(Result):
    """A piece of a log. cursor: where the next begins; lost: bytes before data were rotated away."""

    data: bytes
    cursor: int
    lost: bool
    running: bool

    @property
    def text(self) -> str:
        """data; bytes that are not UTF-8 stand as surrogate escapes."""
        return self.data.decode("utf-8", "surrogateescape")
