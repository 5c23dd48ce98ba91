# SPDX-License-Identifier: MIT
"""What every result object can do; the results themselves are in models.py."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from ._errors_base import ProtocolError


class Result:
    """Base of the results: attributes that can also be read as a mapping's keys.

    result["field"], result.get("field", default) and "field" in result answer for every field, and for the
    keys that older programs use (OLDER_KEYS: key to attribute). "error" is in a result only when it
    failed. A result is true when it succeeded; a pending one (ExecResult) is neither true nor failed.
    """

    __slots__ = ()
    OLDER_KEYS: ClassVar[dict[str, str]] = {}

    @property
    def success(self) -> bool:
        """Whether the call did what it was asked to."""
        return True

    @property
    def error(self) -> str | None:
        """Why not, as text for people; None on success."""
        return None

    def __bool__(self) -> bool:
        return self.success

    def __getitem__(self, key: str) -> Any:
        attribute = _attributes(type(self)).get(key)
        if attribute is None:
            raise KeyError(key)
        return getattr(self, attribute)

    def __contains__(self, key: object) -> bool:
        if key == "error":
            return self.error is not None
        return key in _attributes(type(self))

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default

    def keys(self) -> list[str]:
        """Every key in use, which lets dict(result) work."""
        return [key for key in _attributes(type(self)) if key in self]


_cache: dict[type[Result], dict[str, str]] = {}


def _attributes(kind: type[Result]) -> dict[str, str]:
    """Key to attribute: fields, public properties, older keys."""
    known = _cache.get(kind)
    if known is None:
        names = [item.name for item in dataclasses.fields(kind)]
        for base in kind.__mro__:
            names += [name for name, value in vars(base).items() if isinstance(value, property)]
        known = _cache[kind] = {**{name: name for name in names}, **kind.OLDER_KEYS}
    return known


class Fields:
    """Typed access to a map that came over the wire. ProtocolError when it is not as declared."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise ProtocolError(f"{what}: a map was expected, not {type(value).__name__}")
        self._map = value
        self._what = what

    def _get(self, key: str, kind: type | tuple[type, ...]) -> Any:
        value = self._map.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ProtocolError(f"{self._what}: {key} is missing or of another type: {value!r:.80}")
        return value

    def integer(self, key: str) -> int:
        value: int = self._get(key, int)
        return value

    def number(self, key: str) -> float:
        return float(self._get(key, (int, float)))

    def integer_or_none(self, key: str) -> int | None:
        return None if self._map.get(key) is None else self.integer(key)

    def number_or_none(self, key: str) -> float | None:
        return None if self._map.get(key) is None else self.number(key)

    def boolean(self, key: str) -> bool:
        value: bool = self._get(key, bool)
        return value

    def text(self, key: str) -> str:
        value: str = self._get(key, str)
        return value

    def data(self, key: str) -> bytes:
        value: bytes = self._get(key, bytes)
        return value

    def any(self, key: str) -> Any:
        if key not in self._map:
            raise ProtocolError(f"{self._what}: {key} is missing")
        return self._map[key]

    def data_or_none(self, key: str) -> bytes | None:
        return None if self._map.get(key) is None else self.data(key)

    @staticmethod
    def wrong(what: str, item: object) -> ProtocolError:
        """For a part that is not as declared."""
        return ProtocolError(f"{what}: not as declared: {item!r:.80}")

    def items(self, key: str) -> list[object]:
        value: list[object] = self._get(key, list)
        return value

    def fields(self, key: str) -> Fields:
        return Fields(self._get(key, dict), f"{self._what}: {key}")

    def integers(self) -> dict[str, int]:
        """All of it, as a map of names to integers."""
        return {str(key): self.integer(key) for key in self._map}

    def texts(self) -> dict[str, str]:
        """The same of names to texts."""
        return {str(key): self.text(key) for key in self._map}
