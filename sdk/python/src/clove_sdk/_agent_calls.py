# SPDX-License-Identifier: MIT
"""Calls about agents, without I/O: as _calls.py, of which this is the second part."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from . import _arguments
from ._arguments import Command, Data, Environment, Path
from ._calls import Call
from ._errors_base import ValidationError
from ._results import Fields
from ._wire_table import SyscallOp
from .agents import AgentDetails, ExitResult, LimitsResult, LogPiece, SpawnResult

PROFILES = ("strict", "standard", "loopback", "trusted", "none")
POLICIES = ("never", "on-failure", "always")
LIMITS = ("memory", "cpu_quota", "max_pids", "io_read", "io_write", "workspace", "tmp")
STREAMS = ("stdout", "stderr")
# What ending an agent takes beyond its grace.
KILL_MARGIN_SECONDS = 30.0
# Between two looks at a log that did not grow.
FOLLOW_SECONDS = 0.1


def agent(name: str | None, agent_id: int | None) -> str | int:
    """Exactly one of both."""
    if (name is None) == (agent_id is None):
        raise ValidationError("give either name or agent_id")
    if name is not None:
        return _arguments.text("name", name)
    return _arguments.integer("agent_id", agent_id)


def _program(script: Path | None, argv: Sequence[Path] | None) -> str | bytes | list[str | bytes]:
    if (script is None) == (argv is None):
        raise ValidationError("give either script or argv")
    if argv is None:
        return os.path.abspath(_arguments.path("script", script))
    words = _arguments.command("argv", argv)
    if not isinstance(words, list):
        raise ValidationError("argv must be a list of arguments, not one string")
    return words


def _limits(given: object) -> dict[str, int]:
    if not isinstance(given, Mapping):
        raise ValidationError(f"limits must be a mapping, not {type(given).__name__}")
    checked: dict[str, int] = {}
    for key, value in given.items():
        if key not in LIMITS:
            raise ValidationError(f"limits knows {', '.join(LIMITS)}, not {key!r:.60}")
        checked[key] = _arguments.integer(f"limits[{key!r}]", value)
    return checked


def _profile(sandboxed: bool, network: bool, profile: str | None) -> str | None:
    if profile is not None:
        profile = _arguments.choice("profile", profile, PROFILES)
    if network and sandboxed:
        if profile not in (None, "trusted", "none"):
            raise ValidationError(f'network=True and profile="{profile}", which has none')
        return profile or "trusted"
    return profile


def spawn(
    name: str,
    script: Path | None,
    sandboxed: bool,
    network: bool,
    limits: Mapping[str, int] | None,
    restart_policy: str,
    max_restarts: int,
    restart_window: float,
    argv: Sequence[Path] | None,
    interpreter: Path | None,
    args: Sequence[Path] | None,
    env: Environment | None,
    cwd: Path | None,
    stdin: Data | None,
    profile: str | None,
    ro: Sequence[Path] | None,
    rw: Sequence[Path] | None,
    workspace: str | None,
    rights: Sequence[str] | None,
    timeout: float | None,
    require_limits: bool,
    tied: bool,
) -> Call[SpawnResult]:
    sandboxed = _arguments.flag("sandboxed", sandboxed)
    network = _arguments.flag("network", network)
    timeout = _arguments.seconds("timeout", timeout, zero=True)
    window = _arguments.seconds("restart_window", restart_window, zero=False)
    options: dict[str, Any] = {
        "sandboxed": sandboxed,
        "profile": _profile(sandboxed, network, profile),
        "limits": None if limits is None else _limits(limits),
        "restart_policy": _arguments.choice("restart_policy", restart_policy, POLICIES),
        "max_restarts": _arguments.integer("max_restarts", max_restarts),
        "restart_window_ms": None if window is None else max(1, round(window * 1000)),
        "interpreter": None if interpreter is None else _arguments.path("interpreter", interpreter),
        "args": None if args is None else _arguments.words("args", args),
        "env": None if env is None else _arguments.environment("env", env),
        "cwd": None if cwd is None else _arguments.path("cwd", cwd),
        "stdin": None if stdin is None else _arguments.data("stdin", stdin),
        "ro": None if ro is None else _arguments.words("ro", ro),
        "rw": None if rw is None else _arguments.words("rw", rw),
        "workspace": None
        if workspace is None
        else _arguments.choice("workspace", workspace, ("disk", "memory")),
        "rights": None if rights is None else _arguments.words("rights", rights),
        "timeout_ms": max(1, round(timeout * 1000)) if timeout else None,
        "require_limits": _arguments.flag("require_limits", require_limits),
        "tied": _arguments.flag("tied", tied),
    }
    return Call(
        SyscallOp.SPAWN,
        [
            _arguments.text("name", name),
            _program(script, argv),
            {key: value for key, value in options.items() if value is not None},
        ],
        _spawned,
    )


def _spawned(value: object) -> SpawnResult:
    fields = Fields(value, "SPAWN")
    return SpawnResult(
        agent_id=fields.integer("agent_id"),
        name=fields.text("name"),
        pid=fields.integer("pid"),
        status=fields.text("status"),
        profile=fields.text("profile"),
        sandboxed=fields.boolean("sandboxed"),
        start=fields.text("start"),
        restart_policy=fields.text("restart_policy"),
        incarnation=fields.integer("incarnation"),
        protections=_protections(fields),
        warnings=[str(text) for text in fields.items("warnings")],
    )


def _protections(fields: Fields) -> dict[str, Any]:
    inner = fields.fields("protections")
    names = ("memory", "cpu", "pids", "io", "workspace")
    found: dict[str, Any] = {name: inner.text(name) for name in names}
    found["layers"] = [str(name) for name in inner.items("layers")]
    return found


def kill(who: str | int, grace: float) -> Call[ExitResult]:
    seconds = _arguments.seconds("grace", grace, zero=True) or 0.0
    return Call(SyscallOp.KILL, [who, round(seconds * 1000)], _ended, seconds + KILL_MARGIN_SECONDS)


def wait(who: str | int, timeout: float | None) -> Call[ExitResult]:
    seconds = _arguments.seconds("timeout", timeout, zero=False)
    return Call(SyscallOp.WAIT, [who], _ended, None if seconds is None else float(seconds))


def _ended(value: object) -> ExitResult:
    fields = Fields(value, "WAIT")
    return ExitResult(
        agent_id=fields.integer("agent_id"),
        name=fields.text("name"),
        reason=fields.text("reason"),
        exit_code=fields.integer("exit_code"),
        signal=fields.integer("signal"),
        killed_by=fields.integer("killed_by"),
        incarnation=fields.integer("incarnation"),
        restarts=fields.integer("restarts"),
        uptime_seconds=fields.integer("uptime_ms") / 1000,
        log_bytes_lost=fields.integer("log_bytes_lost"),
        left_processes=fields.boolean("left_processes"),
    )


def pause(who: str | int) -> Call[bool]:
    return Call(SyscallOp.PAUSE, [who], _done)


def remove(who: str | int) -> Call[bool]:
    return Call(SyscallOp.REMOVE, [who], _done)


def resume(who: str | int) -> Call[bool]:
    return Call(SyscallOp.RESUME, [who], _done)


def _done(value: object) -> bool:
    return True


def inspect(who: str | int) -> Call[AgentDetails]:
    return Call(SyscallOp.INSPECT, [who], _details)


def _details(value: object) -> AgentDetails:
    fields = Fields(value, "INSPECT")
    return AgentDetails(
        spawned=_spawned(value),
        state=fields.text("state"),
        parent_id=fields.integer("parent"),
        uid=fields.integer("uid"),
        core=fields.integer("core"),
        uptime_seconds=fields.integer("uptime_ms") / 1000,
        calls=fields.integer("calls"),
        restarts=fields.integer("restarts"),
        limits=fields.fields("limits").integers(),
        memory_bytes=fields.integer_or_none("memory_bytes"),
        cpu_percent=fields.number_or_none("cpu_percent"),
        processes=fields.integer_or_none("processes"),
    )


def set_limits(who: str | int, limits: Mapping[str, int]) -> Call[LimitsResult]:
    return Call(SyscallOp.SET_LIMITS, [who, _limits(limits)], _limits_set)


def _limits_set(value: object) -> LimitsResult:
    fields = Fields(value, "SET_LIMITS")
    return LimitsResult(
        agent_id=fields.integer("agent_id"),
        limits=fields.fields("limits").integers(),
        protections=_protections(fields),
    )


def logs(who: str | int, stream: str, cursor: int | None) -> Call[LogPiece]:
    return Call(SyscallOp.LOGS, [who, _arguments.choice("stream", stream, STREAMS), cursor], _log)


def _log(value: object) -> LogPiece:
    fields = Fields(value, "LOGS")
    return LogPiece(
        data=fields.data("data"),
        cursor=fields.integer("next"),
        lost=fields.boolean("lost"),
        running=fields.boolean("running"),
    )
