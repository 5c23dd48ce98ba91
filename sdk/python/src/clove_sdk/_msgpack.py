# SPDX-License-Identifier: MIT
"""MessagePack in Python, for installations without the C extension.

Packing uses the shortest form of every value, as the extension does. TypeError, ValueError or OverflowError for what
cannot be packed, ValueError (or TypeError, for an unhashable key) for input that is not one whole value.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError

_U8 = Struct(">BB").pack
_U16 = Struct(">BH").pack
_U32 = Struct(">BI").pack
_U64 = Struct(">BQ").pack
_I8 = Struct(">Bb").pack
_I16 = Struct(">Bh").pack
_I32 = Struct(">Bi").pack
_I64 = Struct(">Bq").pack
_F64 = Struct(">Bd").pack

_SMALL_INTS = [bytes((n,)) for n in range(128)]
_FIXSTR = [bytes((0xA0 | n,)) for n in range(32)]


def pack(value: object, depth_max: int) -> bytes:
    """The bytes of value, which may be nested depth_max deep."""
    parts: list[bytes | bytearray | memoryview] = []
    _write(value, parts.append, depth_max)
    return b"".join(parts)


def _write(
    value: object, add: Callable[[bytes | bytearray | memoryview], None], depth: int
) -> None:
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        size = len(data)
        add(_FIXSTR[size] if size < 32 else _head(size, 0xD9, 0xDA, 0xDB))
        add(data)
    elif value is None:
        add(b"\xc0")
    elif value is True:
        add(b"\xc3")
    elif value is False:
        add(b"\xc2")
    elif isinstance(value, int):
        add(_integer(value))
    elif isinstance(value, float):
        add(_F64(0xCB, value))
    elif isinstance(value, (bytes, bytearray)):
        add(_head(len(value), 0xC4, 0xC5, 0xC6))
        add(value)
    elif isinstance(value, dict):
        if not depth:
            raise ValueError("nested too deeply")
        size = len(value)
        add(bytes((0x80 | size,)) if size < 16 else _head(size, 0, 0xDE, 0xDF))
        for key, item in value.items():
            _write(key, add, depth - 1)
            _write(item, add, depth - 1)
    elif isinstance(value, (list, tuple)):
        if not depth:
            raise ValueError("nested too deeply")
        size = len(value)
        add(bytes((0x90 | size,)) if size < 16 else _head(size, 0, 0xDC, 0xDD))
        for item in value:
            _write(item, add, depth - 1)
    elif isinstance(value, memoryview):
        add(_head(value.nbytes, 0xC4, 0xC5, 0xC6))
        add(value.cast("B"))
    else:
        raise TypeError(f"no MessagePack for {type(value).__name__}")


def _head(size: int, op8: int, op16: int, op32: int) -> bytes:
    """Head of a value with a length; arrays and maps have no form of 8 bits (op8 is 0)."""
    if size < 0x100 and op8:
        return _U8(op8, size)
    if size < 0x10000:
        return _U16(op16, size)
    if size < 0x100000000:
        return _U32(op32, size)
    raise ValueError("too long for MessagePack")


def _integer(value: int) -> bytes:
    if value >= 0:
        if value < 0x80:
            return _SMALL_INTS[value]
        if value < 0x100:
            return _U8(0xCC, value)
        if value < 0x10000:
            return _U16(0xCD, value)
        if value < 0x100000000:
            return _U32(0xCE, value)
        if value < 0x10000000000000000:
            return _U64(0xCF, value)
    else:
        if value >= -0x20:
            return bytes((0x100 + value,))
        if value >= -0x80:
            return _I8(0xD0, value)
        if value >= -0x8000:
            return _I16(0xD1, value)
        if value >= -0x80000000:
            return _I32(0xD2, value)
        if value >= -0x8000000000000000:
            return _I64(0xD3, value)
    raise OverflowError("an integer must fit 64 bits")


_LENGTHS = {
    # first byte: (struct of the length, its bytes, kind)
    0xC4: (Struct(">B").unpack_from, 1, "bin"),
    0xC5: (Struct(">H").unpack_from, 2, "bin"),
    0xC6: (Struct(">I").unpack_from, 4, "bin"),
    0xD9: (Struct(">B").unpack_from, 1, "str"),
    0xDA: (Struct(">H").unpack_from, 2, "str"),
    0xDB: (Struct(">I").unpack_from, 4, "str"),
    0xDC: (Struct(">H").unpack_from, 2, "array"),
    0xDD: (Struct(">I").unpack_from, 4, "array"),
    0xDE: (Struct(">H").unpack_from, 2, "map"),
    0xDF: (Struct(">I").unpack_from, 4, "map"),
}
_NUMBERS = {
    0xCA: (Struct(">f").unpack_from, 4),
    0xCB: (Struct(">d").unpack_from, 8),
    0xCC: (Struct(">B").unpack_from, 1),
    0xCD: (Struct(">H").unpack_from, 2),
    0xCE: (Struct(">I").unpack_from, 4),
    0xCF: (Struct(">Q").unpack_from, 8),
    0xD0: (Struct(">b").unpack_from, 1),
    0xD1: (Struct(">h").unpack_from, 2),
    0xD2: (Struct(">i").unpack_from, 4),
    0xD3: (Struct(">q").unpack_from, 8),
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def unpack(data: bytes, depth_max: int) -> object:
    """The one value in data, nested depth_max deep at most."""
    try:
        value, end = _read(data, 0, depth_max)
    except (IndexError, StructError):
        raise ValueError("a value is cut off") from None
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes behind the value")
    return value


def _read(data: bytes, at: int, depth: int) -> tuple[object, int]:
    first = data[at]
    at += 1
    if first < 0x80:
        return first, at
    if first >= 0xE0:
        return first - 0x100, at
    if first < 0x90:
        return _read_map(data, at, first & 0x0F, depth)
    if first < 0xA0:
        return _read_array(data, at, first & 0x0F, depth)
    if first < 0xC0:
        return _read_str(data, at, first & 0x1F)
    if first in _CONSTANTS:
        return _CONSTANTS[first], at
    if first in _NUMBERS:
        number, width = _NUMBERS[first]
        return number(data, at)[0], at + width
    if first not in _LENGTHS:
        raise ValueError("0xc1 is not MessagePack" if first == 0xC1 else "ext types are not used")
    length, width, kind = _LENGTHS[first]
    size: int = length(data, at)[0]
    at += width
    if kind == "str":
        return _read_str(data, at, size)
    if kind == "bin":
        return _take(data, at, size), at + size
    return (_read_array if kind == "array" else _read_map)(data, at, size, depth)


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("a value is cut off")
    return data[at : at + size]


def _read_str(data: bytes, at: int, size: int) -> tuple[str, int]:
    return _take(data, at, size).decode("utf-8", "surrogateescape"), at + size


def _read_array(data: bytes, at: int, size: int, depth: int) -> tuple[list[object], int]:
    if not depth:
        raise ValueError("nested too deeply")
    items: list[object] = []
    for _ in range(size):
        item, at = _read(data, at, depth - 1)
        items.append(item)
    return items, at


def _read_map(data: bytes, at: int, size: int, depth: int) -> tuple[dict[object, object], int]:
    if not depth:
        raise ValueError("nested too deeply")
    items: dict[object, object] = {}
    for _ in range(size):
        key, at = _read(data, at, depth - 1)
        item, at = _read(data, at, depth - 1)
        items[key] = item
    return items, at
