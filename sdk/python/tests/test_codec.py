# SPDX-License-Identifier: MIT
"""Both codecs against each other, and their limits."""

from __future__ import annotations

import enum
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clove_sdk import ProtocolError, ValidationError, _codec, _msgpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

c = pytest.importorskip("clove_sdk._codec_c", reason="needs the msgpack C extension")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=300).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    | st.text(max_size=40)
    | st.binary(max_size=300)
)
KEYS = st.text(max_size=8) | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(KEYS, inner, max_size=20),
    max_leaves=25,
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(VALUES)
def test_packs_to_the_same_bytes_and_back(value):
    packed = _msgpack.pack(value, 33)
    assert packed == c.pack(value, 33)
    assert _msgpack.unpack(packed, 40) == value
    assert c.unpack(packed, 40) == value


@QUICK
@given(st.binary(max_size=60) | VALUES.map(lambda v: _msgpack.pack(v, 33)).map(lambda b: b[:-1]))
def test_refuses_the_same_input(data):
    results = []
    for codec in (_msgpack, c):
        try:
            results.append(repr(codec.unpack(data, 40)))
        except (ValueError, TypeError):
            results.append("refused")
    assert results[0] == results[1]


@pytest.mark.parametrize("size", [0, 15, 16, 31, 32, 255, 256, 65535, 65536])
@pytest.mark.parametrize("make", [
    lambda n: "x" * n,
    lambda n: b"x" * n,
    lambda n: [0] * n,
    lambda n: {i: None for i in range(n)},
])
def test_every_length_form(make, size):
    value = make(size)
    assert _msgpack.pack(value, 33) == c.pack(value, 33)
    assert _msgpack.unpack(c.pack(value, 33), 40) == value


@pytest.mark.parametrize("edge", [7, 8, 15, 16, 31, 32, 63, 64])
def test_every_integer_form(edge):
    for value in {sign * 2**edge + off for sign in (1, -1) for off in (-1, 0, 1)} | {-32, -33}:
        if -(2**63) <= value < 2**64:
            packed = _msgpack.pack(value, 33)
            assert packed == c.pack(value, 33)
            assert _msgpack.unpack(packed, 40) == value == c.unpack(packed, 40)


def test_python_types_beside_the_plain_ones():
    class Text(str, enum.Enum):
        A = "a"

    class Number(enum.IntEnum):
        B = 7

    for value in [(1, 2), Text.A, Number.B, bytearray(b"x"), memoryview(b"abc")[1:], math.inf]:
        assert _msgpack.pack(value, 33) == c.pack(value, 33)


def nested(depth):
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(params=["python", "c"])
def codec(request, monkeypatch):
    module = _msgpack if request.param == "python" else c
    monkeypatch.setattr(_codec, "_pack", module.pack)
    monkeypatch.setattr(_codec, "_unpack", module.unpack)
    return _codec


def test_bounds_nesting_when_packing(codec):
    assert codec.pack([nested(32)])
    with pytest.raises(ValidationError):
        codec.pack([nested(33)])
    with pytest.raises(ValidationError):
        codec.pack([{"a": nested(32)}])
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValidationError):
        codec.pack(loop)


def test_bounds_nesting_when_unpacking(codec):
    assert codec.unpack(b"\x91" * 39 + b"\x90")
    for depth in (40, 2000, 100_000):
        with pytest.raises(ProtocolError):
            codec.unpack(b"\x91" * depth + b"\x90")
        with pytest.raises(ProtocolError):
            codec.unpack(b"\x81\x01" * depth + b"\x80")


@pytest.mark.parametrize("value", [
    object(), {1, 2}, 2**64, -(2**63) - 1, "\ud800", [1, {"a": object()}],
])
def test_refuses_what_has_no_messagepack(codec, value):
    with pytest.raises(ValidationError):
        codec.pack([value])


@pytest.mark.parametrize("data", [
    b"", b"\xc1", b"\x01\x02", b"\xa5abc", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff\x01",
    b"\xc6\xff\xff\xff\xffx", b"\xd4\x05x", b"\xd6\xff\0\0\0\0", b"\x91\xd6\xff\0\0\0\0",
    b"\x81\xd6\xff\0\0\0\0\x01", b"\x81\x91\x01\x02", b"\x81\x90\x02", b"\xcf\x01",
])
def test_refuses_malformed_input(codec, data):
    with pytest.raises(ProtocolError):
        codec.unpack(data)


def test_a_failed_pack_leaves_nothing_behind(codec):
    with pytest.raises(ValidationError):
        codec.pack(["left over", object()])
    assert codec.unpack(codec.pack(["next"])) == ["next"]


def test_environment_chooses_the_python_codec():
    source = Path(_codec.__file__).parent.parent
    code = "from clove_sdk import _codec; print(_codec.implementation)"
    for setting, expected in {"1": "python", "0": "c"}.items():
        env = {**os.environ, "PYTHONPATH": str(source), "CLOVE_PURE_PYTHON": setting}
        shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert shown.stdout.strip() == expected
