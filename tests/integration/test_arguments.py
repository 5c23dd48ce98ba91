# SPDX-License-Identifier: MIT
"""Arguments that are wrong: every built call, every argument, from ipc/wire.def."""

import pytest

from wire import BUILT, DEPTH_MAX, Refused, frame, pack, request

# A value of each type, as the declaration names them.
RIGHT = {
    "ANY": 1,
    "BOOL": True,
    "INT": -1,
    "UINT": 1,
    "FLOAT": 1.5,
    "NUMBER": 1.5,
    "STR": "text",
    "BYTES": "text",
    "MAP": {},
    "ARRAY": [],
    "COMMAND": "true",
}

SAMPLES = [None, True, -1, 1, 1.5, "text", b"bytes", [], {}]

FITS = {
    "ANY": SAMPLES,
    "BOOL": [True],
    "INT": [-1, 1],
    "UINT": [1],
    "FLOAT": [1.5],
    "NUMBER": [-1, 1, 1.5],
    "STR": ["text"],
    "BYTES": ["text", b"bytes"],
    "MAP": [{}],
    "ARRAY": [[]],
    "COMMAND": ["text", b"bytes", []],
}


def fits(type_name: str, value: object) -> bool:
    return any(type(value) is type(right) and value == right for right in FITS[type_name])


@pytest.fixture(params=BUILT, ids=lambda call: call.name)
def call(request):
    return request.param


def right_args(call):
    return [RIGHT[arg.type] for arg in call.args]


def answer(client, data: bytes) -> Refused:
    """The error that the kernel answers these bytes with."""
    client.send_bytes(data)
    try:
        value = client.read_frame().value()
    except Refused as error:
        return error
    raise AssertionError(f"{data[:100]!r} succeeded: {value!r:.200}")


def test_a_value_of_another_type_is_refused_by_argument_name(client, call):
    for i, arg in enumerate(call.args):
        for value in SAMPLES:
            if fits(arg.type, value) or (value is None and arg.optional):
                continue
            args = right_args(call)[:i] + [value]
            error = answer(client, request(call.name, *args))
            assert error.code == "INVALID_ARGUMENT", (arg, value)
            assert call.name in error.message and arg.name in error.message, (arg, value)
    client.assert_alive()


def test_an_integer_below_zero_is_no_uint_in_any_encoding(client, call):
    for i, arg in enumerate(call.args):
        if arg.type != "UINT":
            continue
        before = b"".join(pack(value) for value in right_args(call)[:i])
        for minus_one in (b"\xff", b"\xd0\xff", b"\xd1\xff\xff", b"\xd2" + b"\xff" * 4, b"\xd3" + b"\xff" * 8):
            error = answer(client, frame(call.name, bytes([0x90 + i + 1]) + before + minus_one))
            assert error.code == "INVALID_ARGUMENT" and arg.name in error.message
    client.assert_alive()


def test_a_missing_argument_is_refused_by_name(client, call):
    required = [arg for arg in call.args if not arg.optional]
    for i, arg in enumerate(required):
        error = answer(client, request(call.name, *right_args(call)[:i]))
        assert error.code == "INVALID_ARGUMENT"
        assert call.name in error.message and arg.name in error.message
    if required:
        assert answer(client, frame(call.name, b"")).code == "INVALID_ARGUMENT"
    client.assert_alive()


def test_an_argument_too_many_is_refused(client, call):
    for extra in (1, None, "x"):
        error = answer(client, request(call.name, *right_args(call), extra))
        assert error.code == "INVALID_ARGUMENT"
        assert call.name in error.message and str(len(call.args)) in error.message
    client.assert_alive()


@pytest.mark.parametrize("body", [b"\x01", b"\x80", b"\xa1x", b"\xc0", b"\xc1"], ids=bytes.hex)
def test_a_body_that_is_no_array_is_refused(client, call, body):
    error = answer(client, frame(call.name, body))
    assert error.code == "INVALID_ARGUMENT" and call.name in error.message
    client.assert_alive()


def test_bytes_behind_the_arguments_are_refused(client, call):
    error = answer(client, frame(call.name, pack(right_args(call)) + b"\xc0"))
    assert error.code == "INVALID_ARGUMENT" and call.name in error.message
    client.assert_alive()


CUT_OFF = {
    "array without elements": b"\x91",
    "array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "str of 4 GiB": b"\x91\xdb\xff\xff\xff\xff",
    "bin longer than the body": b"\x91\xc4\x05xx",
    "ext longer than the body": b"\x91\xc7\x05\x01x",
    "uint 64 of 3 bytes": b"\x91\xcf\x00\x00\x00",
    "map of 2 billion": b"\x91\xdf\x7f\xff\xff\xff",
    "array of 4 billion inside": b"\x91\xdd\xff\xff\xff\xff\x01",
    "type that does not exist": b"\x91\xc1",
    "type that does not exist, inside": b"\x91\x92\x01\xc1",
}


@pytest.mark.parametrize("body", CUT_OFF.values(), ids=CUT_OFF.keys())
def test_a_body_that_is_no_messagepack_is_refused(client, call, body):
    error = answer(client, frame(call.name, body))
    assert error.code == "INVALID_ARGUMENT" and call.name in error.message
    client.assert_alive()


@pytest.mark.parametrize("opener", [b"\x91", b"\x81\x01", b"\xdd\x00\x00\x00\x01"], ids=bytes.hex)
@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 10_000])
def test_nesting_too_deep_is_refused(client, opener, depth):
    error = answer(client, frame("NOOP", b"\x91" + opener * depth + b"\xc0"))
    assert error.code == "INVALID_ARGUMENT"
    assert "deep" in error.message
    client.assert_alive()


def test_nesting_too_deep_in_options_is_refused(client):
    options = b"\x81\xa3env" + b"\x81\xa1x" * 10_000 + b"\xc0"
    error = answer(client, frame("EXEC", b"\x92\xa4true" + options))
    assert error.code == "INVALID_ARGUMENT"
    client.assert_alive()
