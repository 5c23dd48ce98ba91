# SPDX-License-Identifier: MIT
"""What a caller passes, checked before anything is sent.

One function for each kind of argument. It takes the argument's name and value and returns the value as
it is sent, or raises a ValidationError that names the argument. Every parameter of every public call goes
through one of them (tests/test_arguments.py looks for forgotten ones). Only types are checked, and what
could not be packed: limits, paths and names are the kernel's to judge.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from . import _codec
from ._errors_base import ValidationError

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Command = str | bytes | Sequence[Path]
Data = str | bytes | bytearray | memoryview
Environment = Mapping[str, str | bytes] | Mapping[bytes, str | bytes]

# The kernel refuses longer timeouts: whoever wants longer wants none.
SECONDS_MAX = 365 * 86400
# A value may outlive that.
TTL_SECONDS_MAX = 100 * 365 * 86400
INTEGER_MAX = 2**64 - 1


def _refuse(name: str, expected: str, given: object) -> ValidationError:
    return ValidationError(f"{name} must be {expected}, not {type(given).__name__}")


def _text(name: str, given: str) -> str:
    """A str may hold any bytes by surrogateescape, but no other lone surrogates."""
    if not given.isascii():
        try:
            given.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            character = given[error.start]
            raise ValidationError(
                f"{name} has the surrogate {character!r} at {error.start}, which stands for no byte"
            ) from None
    return given


def _word(name: str, given: object, expected: str) -> str | bytes:
    if isinstance(given, os.PathLike):
        try:
            given = os.fspath(given)
        except TypeError as error:
            raise ValidationError(f"{name} is no path: {error}") from None
    if isinstance(given, str):
        return _text(name, given)
    if isinstance(given, bytes):
        return given
    raise _refuse(name, expected, given)


def text(name: str, given: object) -> str:
    if not isinstance(given, str):
        raise _refuse(name, "a str", given)
    return _text(name, given)


def words(name: str, given: object) -> list[str | bytes]:
    """A list of strings or paths."""
    if isinstance(given, (str, bytes, bytearray, memoryview)) or not isinstance(given, Sequence):
        raise _refuse(name, "a list of str, bytes or os.PathLike", given)
    return [
        _word(f"{name}[{at}]", word, "str, bytes or os.PathLike") for at, word in enumerate(given)
    ]


def path(name: str, given: object) -> str | bytes:
    return _word(name, given, "a path (str, bytes or os.PathLike)")


def command(name: str, given: object) -> str | bytes | list[str | bytes]:
    """A str or bytes for the shell, or a list of arguments."""
    if isinstance(given, str):
        return _text(name, given)
    if isinstance(given, bytes):
        return given
    if not isinstance(given, Sequence) or isinstance(given, (bytearray, memoryview)):
        raise _refuse(name, "a str or bytes, or a list of them", given)
    return [
        _word(f"{name}[{at}]", word, "str, bytes or os.PathLike") for at, word in enumerate(given)
    ]


def data(name: str, given: object) -> memoryview:
    if isinstance(given, str):
        given = _text(name, given).encode("utf-8", "surrogateescape")
    if not isinstance(given, (bytes, bytearray, memoryview)):
        raise _refuse(name, "a str, bytes, bytearray or memoryview", given)
    try:
        return memoryview(given).cast("B")
    except (TypeError, ValueError) as error:
        raise ValidationError(f"{name} cannot be read as bytes: {error}") from None


def environment(name: str, given: object) -> dict[str | bytes, str | bytes]:
    if not isinstance(given, Mapping):
        raise _refuse(name, "a mapping of names to values", given)
    checked: dict[str | bytes, str | bytes] = {}
    for key, value in given.items():
        where = f"{name}[{key!r:.60}]"
        for part, what in ((key, f"the name in {where}"), (value, where)):
            if isinstance(part, str):
                _text(what, part)
            elif not isinstance(part, bytes):
                raise _refuse(what, "a str or bytes", part)
        checked[key] = value
    return checked


def seconds(
    name: str, given: object, *, zero: bool, longest: int = SECONDS_MAX
) -> float | None:
    """None stays None. zero: whether 0 is a duration, too."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise _refuse(name, "a number of seconds or None", given)
    if not (0 <= given <= longest if zero else 0 < given <= longest):
        least = "from" if zero else "above"
        raise ValidationError(f"{name} must be None or {least} 0 to {longest} seconds")
    return given


def integer(name: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise _refuse(name, "an int", given)
    if not 0 <= given <= INTEGER_MAX:
        raise ValidationError(f"{name} must be from 0 to {INTEGER_MAX}")
    return given


def flag(name: str, given: object) -> bool:
    if not isinstance(given, bool):
        raise _refuse(name, "True or False", given)
    return given


def choice(name: str, given: object, choices: Sequence[str]) -> str:
    if not isinstance(given, str) or given not in choices:
        expected = " or ".join(f'"{one}"' for one in choices)
        raise ValidationError(f"{name} must be {expected}, not {given!r:.60}")
    return given


def value(name: str, given: object) -> object:
    """Whatever MessagePack can express."""
    if given is None or isinstance(given, (bool, float, bytes)):
        return given
    if isinstance(given, str):
        return _text(name, given)
    try:
        _codec.pack([given])
    except ValidationError as error:
        raise ValidationError(f"{name} {error}") from None
    return given


def box(sandbox: object, agent: object) -> str | int | None:
    """The agent in whose box a call shall act, if it names one."""
    if flag("sandbox", sandbox) and agent is not None:
        raise ValidationError("sandbox and agent: give one of both")
    if agent is None:
        return None
    return text("agent", agent) if isinstance(agent, str) else integer("agent", agent)
