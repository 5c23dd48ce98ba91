# SPDX-License-Identifier: MIT
"""Exceptions.

    CloveError
      ConnectionError (also builtins.ConnectionError)
        KernelNotFound (FileNotFoundError), KernelRefused (ConnectionRefusedError), ConnectionLost
      ProtocolError
      TimeoutError (also builtins.TimeoutError)
      ValidationError (also ValueError)
      CommandFailed            exec(..., check=True) of a command that did not succeed
      SyscallError             the kernel's error replies: one class for each code
        AgentNotFound
        NotFound
          StateKeyNotFound, WorldNotFound
        TunnelError
        ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors_base import (
    CloveError,
    ConnectionError,
    ConnectionLost,
    KernelNotFound,
    KernelRefused,
    ProtocolError,
    SyscallError,
    TimeoutError,
    ValidationError,
)
from ._wire_errors import (
    BY_CODE,
    AgentNotFound,
    Busy,
    CallNotImplemented,
    Cancelled,
    Compacted,
    Conflict,
    DeadlinePassed,
    ExecFailed,
    InvalidArgument,
    IoError,
    KernelDefect,
    LimitsUnavailable,
    NameTaken,
    NoSpace,
    NotAFile,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ProtocolRejected,
    QuotaExceeded,
    SandboxUnavailable,
    ShuttingDown,
    StoreDamaged,
    StoreFailed,
    TooLarge,
    Unavailable,
    UnknownOp,
    VersionMismatch,
    WrongType,
)

if TYPE_CHECKING:
    from .models import ExecResult


class StateKeyNotFound(NotFound):
    """The state store has no such key."""


class WorldNotFound(NotFound):
    """No world has this id."""


class TunnelError(SyscallError):
    """A call about the relay failed."""


class CommandFailed(CloveError):
    """A command run with check=True did not succeed; result is its ExecResult."""

    def __init__(self, result: ExecResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        last = self.result.stderr.strip().rpartition("\n")[2]
        return f"{self.result.error}: {last}" if last else str(self.result.error)


def syscall_error(op: int, body: object) -> CloveError:
    """The exception for the decoded body of an error reply to call op."""
    match body:
        case [int(code), str(message), dict(details)]:
            return BY_CODE.get(code, SyscallError)(message, op, details, code)
        case _:
            return ProtocolError(f"an error reply is not [code, message, details]: {body!r:.200}")


__all__ = [
    "AgentNotFound",
    "Busy",
    "CallNotImplemented",
    "Cancelled",
    "CloveError",
    "CommandFailed",
    "Compacted",
    "Conflict",
    "ConnectionError",
    "ConnectionLost",
    "DeadlinePassed",
    "ExecFailed",
    "InvalidArgument",
    "IoError",
    "KernelDefect",
    "KernelNotFound",
    "KernelRefused",
    "LimitsUnavailable",
    "NameTaken",
    "NoSpace",
    "NotAFile",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ProtocolError",
    "ProtocolRejected",
    "QuotaExceeded",
    "SandboxUnavailable",
    "ShuttingDown",
    "StateKeyNotFound",
    "StoreDamaged",
    "StoreFailed",
    "SyscallError",
    "TimeoutError",
    "TooLarge",
    "TunnelError",
    "Unavailable",
    "UnknownOp",
    "ValidationError",
    "VersionMismatch",
    "WorldNotFound",
    "WrongType",
]
