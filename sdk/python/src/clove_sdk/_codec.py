# SPDX-License-Identifier: MIT
"""MessagePack: the C extension of the msgpack package where there is one, otherwise _msgpack.py.

Both pack to the same bytes and accept the same input. A str holds bytes that are not UTF-8 by
surrogateescape, in both directions. Ext types (also timestamps) are refused both ways, and so is nesting
deeper than the limits below. CLOVE_PURE_PYTHON=1 in the environment chooses _msgpack.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from . import _msgpack
from ._errors_base import ProtocolError, ValidationError
from ._wire_table import FRAME_DEPTH_MAX

# The kernel counts the nesting of each argument by itself; the array around them comes on top.
PACK_DEPTH_MAX = FRAME_DEPTH_MAX + 1
# A reply may wrap a value that another agent handed over in a few layers of its own.
UNPACK_DEPTH_MAX = FRAME_DEPTH_MAX + 8

_pack: Callable[[object, int], bytes] = _msgpack.pack
_unpack: Callable[[bytes, int], object] = _msgpack.unpack
#: Which one is in use: "c" or "python".
implementation = "python"

if os.environ.get("CLOVE_PURE_PYTHON") != "1":
    try:
        from . import _codec_c
    except ImportError:
        pass
    else:
        _pack, _unpack, implementation = _codec_c.pack, _codec_c.unpack, "c"


def pack(args: Sequence[object]) -> bytes:
    """Bytes of an array of arguments. ValidationError for what cannot be packed or nests too deeply."""
    try:
        return _pack(args, PACK_DEPTH_MAX)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValidationError(f"cannot be sent: {error}") from None


def unpack(data: bytes) -> object:
    """The one value that the bytes hold. ProtocolError when they hold anything else."""
    try:
        return _unpack(data, UNPACK_DEPTH_MAX)
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"not MessagePack: {error}") from error
