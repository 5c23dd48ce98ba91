# SPDX-License-Identifier: MIT
"""Results of the calls about state. A version is the store's revision at which a value was stored: a number that
only grows; 0 stands for a key that does not exist. Sizes are bytes, times Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ._results import Result


@dataclass(frozen=True, slots=True)
class StoreResult(Result):
    """Answer of store() and append(). durability: "synced", it survives a power cut; "log", it survives the kernel's
    death; "memory", of an ephemeral kernel.
    """

    version: int
    durability: str


@dataclass(frozen=True, slots=True)
class FetchResult(Result):
    """Answer of fetch(). value: None also when the key was not found. scope: where it was found; expires_at: None for
    a value that does not expire. revision: every change up to this version is in the answer, also when there is
    nothing: watch(key, after=revision) misses none.
    """

    value: Any
    found: bool
    version: int = 0
    scope: str | None = None
    expires_at: float | None = None
    revision: int = 0

    OLDER_KEYS: ClassVar[dict[str, str]] = {"exists": "found"}


@dataclass(frozen=True, slots=True)
class DeleteResult(Result):
    """Answer of delete_key(). deleted: whether it existed."""

    deleted: bool
    version: int
    durability: str


@dataclass(frozen=True, slots=True)
class KeysResult(Result):
    """Answer of list_keys(), in the order of their bytes. Bytes that are not UTF-8 stand as surrogate escapes.
    revision: every change up to this version is in the answer: watch(prefix=prefix, after=revision) misses none.
    """

    # Takes the place of the mapping's keys(): dict(result) is not for this one.
    keys: list[str] = field()  # type: ignore[assignment]
    revision: int = 0

    @property
    def count(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class CasResult(Result):
    """Answer of cas(): true when it won. version: of the value that is there now; 0: there is none."""

    swapped: bool
    version: int
    durability: str | None = None

    @property
    def success(self) -> bool:
        return self.swapped

    @property
    def error(self) -> str | None:
        if self.swapped:
            return None
        return f"the key has version {self.version}" if self.version else "the key does not exist"


@dataclass(frozen=True, slots=True)
class IncrResult(Result):
    """Answer of incr(). value: the sum."""

    value: int | float
    version: int
    durability: str


@dataclass(frozen=True, slots=True)
class OperationResult(Result):
    """What one operation of a transaction came to. existed: its key, before. value: the sum of an incr()."""

    existed: bool
    value: int | float | None = None


@dataclass(frozen=True, slots=True)
class TransactionResult(Result):
    """Answer of a transaction, and of mset(): version is that of every value it left. One that had nothing to change
    has version 0 and durability "none".
    """

    version: int
    durability: str
    operations: list[OperationResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Item(Result):
    """A key with its value, of scan()."""

    key: str
    value: Any
    version: int


@dataclass(frozen=True, slots=True)
class Change(Result):
    """A change that a watch tells. change: "stored", "deleted" or "expired"; value: None unless stored; more: further
    changes of this watch have the same version, being of the same transaction.
    """

    key: str
    change: str
    value: Any
    version: int
    more: bool


@dataclass(frozen=True, slots=True)
class StateUsage(Result):
    """Answer of state_usage(), with 64 bytes for each key. The limits are None where there is none."""

    bytes: int
    key_count: int
    bytes_max: int | None
    keys_max: int | None


@dataclass(frozen=True, slots=True)
class VerifyResult(Result):
    """Answer of verify_state(): what was read and found well."""

    bytes: int
    key_count: int
