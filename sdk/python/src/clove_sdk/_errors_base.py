# SPDX-License-Identifier: MIT
"""The roots of the exception hierarchy; errors.py is the public module."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import ClassVar

from ._wire_table import ErrorCode, SyscallOp


class CloveError(Exception):
    """Every exception that this package raises is one."""


class ConnectionError(CloveError, builtins.ConnectionError):
    """There is no connection to the kernel, or it broke. Also the builtin ConnectionError."""

    def __str__(self) -> str:
        # The builtin puts the path last, behind a number and all that there is to do about it.
        return super().__str__() if self.filename is None else f"{self.filename}: {self.strerror}"


class KernelNotFound(ConnectionError, builtins.FileNotFoundError):
    """The socket does not exist; errno, strerror and filename are set as in the builtin."""


class KernelRefused(ConnectionError, builtins.ConnectionRefusedError):
    """The socket exists but no kernel listens on it; errno, strerror and filename are set."""


class ConnectionLost(ConnectionError):
    """The connection ended while it was in use. A call that was in flight may have been executed."""


class ProtocolError(CloveError):
    """The peer sent what the wire protocol does not allow."""


class TimeoutError(CloveError, builtins.TimeoutError):
    """No answer came in time. Also the builtin TimeoutError. The call may have been executed."""


class ValidationError(CloveError, ValueError):
    """An argument was refused before anything was sent. Also a ValueError."""


class SyscallError(CloveError):
    """The kernel answered a call with an error.

    message: its text. opcode: number of the call (a SyscallOp when this SDK knows it).
    code: the wire's error code (an ErrorCode when known). details: what the kernel added, such as errno.
    The class attribute retryable says whether the same call may succeed later.
    """

    default_code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        opcode: int | None = None,
        details: Mapping[str, object] | None = None,
        code: int | None = None,
    ) -> None:
        # The same values in the same order as the parameters, so that instances can be pickled.
        super().__init__(message, opcode, details, code)
        self.message = message
        self.opcode = None if opcode is None else _known(SyscallOp, opcode)
        self.details: dict[str, object] = dict(details or {})
        self.code = self.default_code if code is None else _known(ErrorCode, code)

    def __str__(self) -> str:
        return f"{self.message} ({getattr(self.code, 'name', self.code)})"


def _known(enum: type[SyscallOp] | type[ErrorCode], number: int) -> int:
    try:
        return enum(number)
    except ValueError:
        return number
