# SPDX-License-Identifier: MIT
"""Client of the Clove kernel: CloveClient, and AsyncCloveClient for asyncio."""

from . import errors as _errors
from ._async_client import AsyncCloveClient
from ._async_sandbox import AsyncSandbox
from ._sync_client import CloveClient
from ._sync_sandbox import Sandbox
from ._version import __version__ as __version__
from ._wire_table import ErrorCode, SyscallOp
from .agents import AgentDetails, ExitResult, LimitsResult, LogPiece, SpawnResult
from .errors import *  # noqa: F403
from .models import (
    AgentInfo,
    AgentState,
    AsyncResult,
    ExecResult,
    FileContent,
    KernelInfo,
    KernelStats,
    PollAsyncResult,
    WriteResult,
)

AgentOSClient = CloveClient

__all__ = [
    "AgentDetails",
    "AgentInfo",
    "AgentOSClient",
    "AgentState",
    "AsyncCloveClient",
    "AsyncResult",
    "AsyncSandbox",
    "CloveClient",
    "ErrorCode",
    "ExecResult",
    "ExitResult",
    "FileContent",
    "KernelInfo",
    "KernelStats",
    "LimitsResult",
    "LogPiece",
    "PollAsyncResult",
    "Sandbox",
    "SpawnResult",
    "SyscallOp",
    "WriteResult",
]
__all__ += _errors.__all__
