# SPDX-License-Identifier: MIT
"""Client of the Clove kernel: CloveClient, and AsyncCloveClient for asyncio."""

from . import errors as _errors
from ._async_client import AsyncCloveClient
from ._async_sandbox import AsyncSandbox
from ._async_transaction import AsyncTransaction
from ._async_watch import AsyncWatch
from ._sync_client import CloveClient
from ._sync_sandbox import Sandbox
from ._sync_transaction import Transaction
from ._sync_watch import Watch
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
from .state import (
    CasResult,
    Change,
    DeleteResult,
    FetchResult,
    IncrResult,
    Item,
    KeysResult,
    OperationResult,
    StateUsage,
    StoreResult,
    TransactionResult,
    VerifyResult,
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
    "AsyncTransaction",
    "AsyncWatch",
    "CasResult",
    "Change",
    "CloveClient",
    "DeleteResult",
    "ErrorCode",
    "ExecResult",
    "ExitResult",
    "FetchResult",
    "FileContent",
    "IncrResult",
    "Item",
    "KernelInfo",
    "KernelStats",
    "KeysResult",
    "LimitsResult",
    "LogPiece",
    "OperationResult",
    "PollAsyncResult",
    "Sandbox",
    "SpawnResult",
    "StateUsage",
    "StoreResult",
    "SyscallOp",
    "Transaction",
    "TransactionResult",
    "VerifyResult",
    "Watch",
    "WriteResult",
]
__all__ += _errors.__all__
