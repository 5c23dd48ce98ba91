# SPDX-License-Identifier: MIT
"""Calls about state, without I/O: as _calls.py, of which this is the third part."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import _arguments
from ._arguments import Path
from ._calls import Call
from ._errors_base import ValidationError
from ._results import Fields
from ._wire_table import SyscallOp
from .state import (
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

Key = str | bytes
SCOPES = ("global", "agent", "session")
# Keys of one call.
KEYS_MAX = 1024
# A backup or a restore of much state.
CHORE_SECONDS = 3600.0


def key(name: str, given: object) -> str | bytes:
    if isinstance(given, bytes):
        return given
    return _arguments.text(name, given)


def scope(given: object, default: str | None) -> str | None:
    """None: the default of the call."""
    return default if given is None else _arguments.choice("scope", given, SCOPES)


def ttl_ms(given: object) -> int | None:
    """Seconds, as milliseconds; None: for ever."""
    seconds = _arguments.seconds("ttl", given, zero=False, longest=_arguments.TTL_SECONDS_MAX)
    return None if seconds is None else max(1, round(seconds * 1000))


def version(name: str, given: object) -> int | None:
    return None if given is None else _arguments.integer(name, given)


def _words(fields: Fields) -> tuple[int, str]:
    return fields.integer("version"), fields.text("durability")


def _text(value: object) -> str:
    """A key, which comes as str whatever its bytes are."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


# ---- one key ----


def store(
    at: Key,
    value: object,
    where: str | None,
    ttl: float | None,
    durable: bool,
    if_version: int | None,
) -> Call[StoreResult]:
    return Call(
        SyscallOp.STORE,
        [
            key("key", at),
            _arguments.value("value", value),
            scope(where, "global"),
            ttl_ms(ttl),
            _arguments.flag("durable", durable),
            version("if_version", if_version),
        ],
        _stored,
    )


def _stored(value: object) -> StoreResult:
    return StoreResult(*_words(Fields(value, "STORE")))


def fetch(at: Key, where: str | None) -> Call[FetchResult]:
    return Call(SyscallOp.FETCH, [key("key", at), scope(where, None)], _fetched)


def _fetched(value: object) -> FetchResult:
    fields = Fields(value, "FETCH")
    if not fields.boolean("found"):
        return FetchResult(None, False, revision=fields.integer("revision"))
    return FetchResult(
        fields.any("value"),
        True,
        fields.integer("version"),
        fields.text("scope"),
        fields.number_or_none("expires_at"),
        fields.integer("revision"),
    )


def delete(
    at: Key, where: str | None, durable: bool, if_version: int | None
) -> Call[DeleteResult]:
    return Call(
        SyscallOp.DELETE,
        [
            key("key", at),
            scope(where, None),
            _arguments.flag("durable", durable),
            version("if_version", if_version),
        ],
        _deleted,
    )


def _deleted(value: object) -> DeleteResult:
    fields = Fields(value, "DELETE")
    return DeleteResult(fields.boolean("deleted"), *_words(fields))


def increment(
    at: Key, amount: int | float, where: str | None, ttl: float | None, durable: bool
) -> Call[IncrResult]:
    return Call(
        SyscallOp.INCREMENT,
        [
            key("key", at),
            number("amount", amount),
            scope(where, "global"),
            ttl_ms(ttl),
            _arguments.flag("durable", durable),
        ],
        _incremented,
    )


def number(name: str, given: object) -> int | float:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise ValidationError(f"{name} must be a number, not {type(given).__name__}")
    _arguments.value(name, given)
    return given


def _incremented(value: object) -> IncrResult:
    fields = Fields(value, "INCREMENT")
    total = fields.any("value")
    return IncrResult(total, *_words(fields))


def append(
    at: Key, value: object, where: str | None, ttl: float | None, durable: bool
) -> Call[StoreResult]:
    return Call(
        SyscallOp.APPEND,
        [
            key("key", at),
            _arguments.value("value", value),
            scope(where, "global"),
            ttl_ms(ttl),
            _arguments.flag("durable", durable),
        ],
        _stored,
    )


# ---- several keys ----


def keys_of(given: object) -> list[str | bytes]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise ValidationError(f"keys must be a list of str or bytes, not {type(given).__name__}")
    return [key(f"keys[{at}]", one) for at, one in enumerate(given)]


def fetch_many(keys: list[str | bytes], where: str | None) -> Call[list[FetchResult]]:
    return Call(SyscallOp.FETCH_MANY, [keys, scope(where, None)], _fetched_many)


def _fetched_many(value: object) -> list[FetchResult]:
    fields = Fields(value, "FETCH_MANY")
    revision = fields.integer("revision")
    found = []
    for item in fields.items("values"):
        match item:
            case None:
                found.append(FetchResult(None, False, revision=revision))
            case [held, int(at), str(where), (float() | None) as expires]:
                found.append(FetchResult(held, True, at, where, expires, revision))
            case _:
                raise Fields.wrong("FETCH_MANY", item)
    return found


class Operations:
    """The operations of a transaction, in order."""

    def __init__(self) -> None:
        self.rows: list[list[object]] = []
        self.sent = False

    def send(self) -> list[list[object]]:
        """All of them, once. ValidationError the second time."""
        self._check()
        self.sent = True
        return self.rows

    def _check(self) -> None:
        if self.sent:
            raise ValidationError("this transaction was sent already: make another")

    def add(
        self,
        verb: str,
        at: Key,
        value: object,
        where: str | None,
        ttl: float | None,
        if_version: int | None,
        if_exists: bool | None,
    ) -> None:
        self._check()
        if if_version is not None and if_exists is not None:
            raise ValidationError("if_version and if_exists: give one of both")
        condition: object = version("if_version", if_version)
        if if_exists is not None:
            condition = _arguments.flag("if_exists", if_exists)
        self.rows.append(
            [verb, key("key", at), value, scope(where, "global"), ttl_ms(ttl), condition]
        )


def transact(rows: Sequence[Sequence[object]], durable: bool) -> Call[TransactionResult]:
    return Call(SyscallOp.TRANSACT, [rows, _arguments.flag("durable", durable)], _transacted)


def nothing_changed() -> TransactionResult:
    """Of a transaction without operations, which is not sent."""
    return TransactionResult(0, "none")


def mset(
    values: Mapping[Any, object], where: str | None, ttl: float | None, durable: bool
) -> Call[TransactionResult]:
    if not isinstance(values, Mapping):
        raise ValidationError(f"values must be a mapping, not {type(values).__name__}")
    operations = Operations()
    for at, value in values.items():
        held = _arguments.value(f"values[{at!r:.60}]", value)
        operations.add("put", at, held, where, ttl, None, None)
    return transact(operations.rows, durable)


def _transacted(value: object) -> TransactionResult:
    fields = Fields(value, "TRANSACT")
    operations = []
    for item in fields.items("results"):
        match item:
            case [bool(existed), (int() | float() | None) as total]:
                operations.append(OperationResult(existed, total))
            case _:
                raise Fields.wrong("TRANSACT", item)
    return TransactionResult(*_words(fields), operations)


# ---- lists ----


class Page:
    """A page of keys or items; cursor: of the next one, None behind the last."""

    def __init__(self, rows: list[Any], cursor: bytes | None, revision: int) -> None:
        self.rows = rows
        self.cursor = cursor
        self.revision = revision


def keys(prefix: Key, where: str, cursor: bytes | None) -> Call[Page]:
    return Call(SyscallOp.KEYS, [key("prefix", prefix), where, None, cursor], _keys)


def _keys(value: object) -> Page:
    fields = Fields(value, "KEYS")
    return Page(
        [_text(item) for item in fields.items("keys")],
        fields.data_or_none("cursor"),
        fields.integer("revision"),
    )


def keys_result(found: Sequence[str], revision: int) -> KeysResult:
    ordered = sorted(set(found), key=lambda one: one.encode("utf-8", "surrogateescape"))
    return KeysResult(ordered, revision)


def scan(prefix: Key, where: str | None, limit: int | None, cursor: bytes | None) -> Call[Page]:
    return Call(
        SyscallOp.SCAN,
        [key("prefix", prefix), scope(where, "global"), version("page_size", limit), cursor],
        _scanned,
    )


def _scanned(value: object) -> Page:
    fields = Fields(value, "SCAN")
    rows = []
    for item in fields.items("items"):
        match item:
            case [at, held, int(since)]:
                rows.append(Item(_text(at), held, since))
            case _:
                raise Fields.wrong("SCAN", item)
    return Page(rows, fields.data_or_none("cursor"), fields.integer("revision"))


# ---- watching ----


def watch(
    at: Key | None, prefix: Key | None, where: str | None, after: int | None
) -> Call[Change | None]:
    if (at is None) == (prefix is None):
        raise ValidationError("give either key or prefix")
    place = key("key", at) if prefix is None else key("prefix", prefix)
    return Call(
        SyscallOp.WATCH,
        [place, scope(where, "global"), prefix is not None, version("after", after)],
        _change,
        None,
    )


def watch_from(call: Call[Change | None], after: int | None) -> Call[Change | None]:
    return replace(call, args=[*call.args[:3], after])


def watch_timeout(given: object) -> float | None:
    return _arguments.seconds("timeout", given, zero=True)


def _change(value: object) -> Change | None:
    """None: the watch stands."""
    if value is None:
        return None
    fields = Fields(value, "WATCH")
    return Change(
        _text(fields.any("key")),
        fields.text("change"),
        fields.any("value"),
        fields.integer("version"),
        fields.boolean("more"),
    )


# ---- the store as a whole ----


def usage() -> Call[StateUsage]:
    return Call(SyscallOp.STATE_USAGE, (), _usage)


def _usage(value: object) -> StateUsage:
    fields = Fields(value, "STATE_USAGE")
    return StateUsage(
        fields.integer("bytes"),
        fields.integer("keys"),
        fields.integer_or_none("bytes_max"),
        fields.integer_or_none("keys_max"),
    )


def _done(value: object) -> bool:
    return True


def _absolute(path: object) -> str | bytes:
    return os.path.abspath(_arguments.path("path", path))


def backup(path: Path) -> Call[bool]:
    return Call(SyscallOp.BACKUP, [_absolute(path)], _done, CHORE_SECONDS)


def restore(path: Path) -> Call[bool]:
    return Call(SyscallOp.RESTORE, [_absolute(path)], _done, CHORE_SECONDS)


def verify() -> Call[VerifyResult]:
    return Call(SyscallOp.VERIFY, (), _verified, CHORE_SECONDS)


def _verified(value: object) -> VerifyResult:
    fields = Fields(value, "VERIFY")
    return VerifyResult(fields.integer("bytes"), fields.integer("keys"))
