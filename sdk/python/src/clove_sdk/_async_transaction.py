# SPDX-License-Identifier: MIT
"""Several changes of state, all or none."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from . import _arguments, _state_calls
from ._errors_base import ValidationError
from ._state_calls import Key
from .state import TransactionResult

if TYPE_CHECKING:
    from ._async_client import AsyncCloveClient


class AsyncTransaction:
    """Changes that happen all at once, for every reader, or not at all.

    Collected without asking the kernel; sent at the end of the "with" block unless an exception leaves it, or by
    commit(). Conditions hold for the state before: if_version, the key has this version (0: does not exist);
    if_exists. Conflict when one does not hold. Up to 1024 changes; without any, nothing is sent. result: what commit()
    returned; None before, and when it failed.
    """

    def __init__(self, client: AsyncCloveClient, durable: bool) -> None:
        self._client = client
        self._durable = durable
        self._operations = _state_calls.Operations()
        self.result: TransactionResult | None = None

    async def __aenter__(self) -> AsyncTransaction:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and not self._operations.sent:
            await self.commit()

    def put(
        self,
        key: Key,
        value: object,
        scope: str | None = None,
        ttl: float | None = None,
        *,
        if_version: int | None = None,
        if_exists: bool | None = None,
    ) -> None:
        """As store()."""
        held = _arguments.value("value", value)
        self._operations.add("put", key, held, scope, ttl, if_version, if_exists)

    def delete(
        self,
        key: Key,
        scope: str | None = None,
        *,
        if_version: int | None = None,
        if_exists: bool | None = None,
    ) -> None:
        """As delete_key(); without a scope the global one."""
        self._operations.add("delete", key, None, scope, None, if_version, if_exists)

    def incr(
        self,
        key: Key,
        amount: int | float = 1,
        scope: str | None = None,
        ttl: float | None = None,
        *,
        if_version: int | None = None,
        if_exists: bool | None = None,
    ) -> None:
        """As incr(); the sum is in the result."""
        held = _state_calls.number("amount", amount)
        self._operations.add("increment", key, held, scope, ttl, if_version, if_exists)

    def append(
        self,
        key: Key,
        value: object,
        scope: str | None = None,
        ttl: float | None = None,
        *,
        if_version: int | None = None,
        if_exists: bool | None = None,
    ) -> None:
        """As append()."""
        held = _arguments.value("value", value)
        self._operations.add("append", key, held, scope, ttl, if_version, if_exists)

    def check(
        self,
        key: Key,
        scope: str | None = None,
        *,
        if_version: int | None = None,
        if_exists: bool | None = None,
    ) -> None:
        """A condition alone."""
        if if_version is None and if_exists is None:
            raise ValidationError("give if_version or if_exists")
        self._operations.add("check", key, None, scope, None, if_version, if_exists)

    async def commit(self) -> TransactionResult:
        """Sends it, once whatever comes of it: make another to try again.

        Conflict, WrongType, OutOfRange, QuotaExceeded, TooLarge, Busy: nothing has changed. After a TimeoutError,
        ConnectionLost or StoreFailed it may have.
        """
        rows = self._operations.send()
        result = _state_calls.nothing_changed()
        if rows:
            result = await self._client._call(_state_calls.transact(rows, self._durable))
        self.result = result
        return result
