# SPDX-License-Identifier: MIT
"""MessagePack by the C extension of the msgpack package; importing this fails where there is none.

The extension bounds neither nesting as the wire does nor the ext types it makes by itself
(ExtType, Timestamp), so values are checked level by level.
"""

from __future__ import annotations

import threading

from msgpack import ExtType, Timestamp
from msgpack._cmsgpack import Packer, unpackb

_local = threading.local()
_COMPOUND = (list, tuple, dict, Timestamp)
_UNPACKED_COMPOUND = frozenset((list, dict, Timestamp))


def pack(value: object, depth_max: int) -> bytes:
    """As _msgpack.pack()."""
    try:
        # A Packer keeps its buffer, which makes it four times as fast, but serves one thread only.
        packer = _local.packer
    except AttributeError:
        packer = _local.packer = Packer(use_bin_type=True, unicode_errors="surrogateescape")
    if isinstance(value, _COMPOUND):
        _check_packable(value, depth_max)
    packed: bytes = packer.pack(value)
    return packed


def _check_packable(value: object, depth_max: int) -> None:
    level: list[object] = [value]
    for _ in range(depth_max):
        inner: list[object] = []
        for one in level:
            if isinstance(one, (ExtType, Timestamp)):
                raise TypeError(f"no MessagePack for {type(one).__name__}")
            if isinstance(one, dict):
                inner += [item for item in one if isinstance(item, _COMPOUND)]
                inner += [item for item in one.values() if isinstance(item, _COMPOUND)]
            elif isinstance(one, (list, tuple)):
                inner += [item for item in one if isinstance(item, _COMPOUND)]
        if not inner:
            return
        level = inner
    raise ValueError("nested too deeply")


def unpack(data: bytes, depth_max: int) -> object:
    """As _msgpack.unpack()."""
    value: object = unpackb(
        data,
        raw=False,
        strict_map_key=False,
        unicode_errors="surrogateescape",
        ext_hook=_refuse_ext,
    )
    if type(value) in _UNPACKED_COMPOUND:
        _check_unpacked(value, depth_max)
    return value


def _check_unpacked(value: object, depth_max: int) -> None:
    level: list[object] = [value]
    for _ in range(depth_max):
        inner: list[object] = []
        for one in level:
            if type(one) is dict:
                inner += [item for item in one if type(item) is Timestamp]
                inner += [item for item in one.values() if type(item) in _UNPACKED_COMPOUND]
            elif type(one) is list:
                inner += [item for item in one if type(item) in _UNPACKED_COMPOUND]
            else:
                raise ValueError("ext types are not used")
        if not inner:
            return
        level = inner
    raise ValueError("nested too deeply")


def _refuse_ext(code: int, data: bytes) -> object:
    raise ValueError("ext types are not used")
