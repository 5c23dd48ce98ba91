# SPDX-License-Identifier: MIT
"""Arguments of the wrong type: every parameter of every public call, in both clients."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
from array import array
from collections import deque
from pathlib import Path

import clove_sdk
import pytest
from clove_sdk import AsyncCloveClient, CloveClient, _arguments, _calls, _codec


class BadPath(os.PathLike):
    def __fspath__(self):
        return 5


PATHS = [5, None, ["a"], bytearray(b"a"), BadPath(), "\ud800"]
DATA = [5, ["a"], {"a": 1}, memoryview(b"abcd")[::2], "a\ud800"]
INTEGERS = ["5", 1.5, True, -1, 2**64, 10**5000]
FLAGS = [1, "yes", [None]]
NAMES = [5, b"x", ["x"], True, "\ud800"]
BOX = {"sandbox": [*FLAGS, None], "agent": [1.5, b"x", ["x"], True, -1, "\ud800"]}
SECONDS = ["5", True, [1], -1, math.nan, math.inf, 366 * 86400, 10**5000]
KEY = {"key": [5, None, ["a"], bytearray(b"a"), True, "\ud800"]}
SCOPES = [5, "Global", "", ["agent"], True]
TTLS = ["5", True, [1], -1, 0, math.nan, math.inf, 101 * 366 * 86400]
VALUES = [object(), {1, 2}, [1, {"a": object()}], 2**64, "\ud800"]

# For each public call: arguments that are fine, and what each parameter must refuse.
CALLS = {
    "hello": ({}, {}),
    "exit": ({}, {}),
    "stats": ({}, {}),
    "connect": ({}, {}),
    "disconnect": ({}, {}),
    "noop": ({}, {"message": [object(), {1, 2}, [1, {"a": object()}], 2**64, -(2**63) - 1, "\ud800"]}),
    "echo": ({}, {"message": [object(), "\ud800"]}),
    "exec": (
        {"command": "true"},
        {
            "command": [5, None, {"a": 1}, {"a"}, Path("/bin/true"), bytearray(b"a"), ["a", 5], [None],
                        iter("a"), [["a"]], "a\ud800", ["a\ud800"], [BadPath()]],
            "cwd": [5, ["/"], "\ud800", BadPath()],
            "timeout": SECONDS,
            "async_": [*FLAGS, None],
            "request_id": INTEGERS,
            "env": ["A=b", [("A", "b")], {"A": 1}, {1: "a"}, {"A": None}, {"A": "\ud800"}, {"\ud800": "a"}],
            "stdin": DATA,
            "check": [*FLAGS, None],
            "output_max": INTEGERS,
            **BOX,
        },
    ),
    "poll_async": ({}, {"max_results": [*INTEGERS, None]}),
    "cancel": ({"request_id": 1}, {"request_id": [*INTEGERS, None]}),
    "read_file": ({"path": "x"}, {"path": PATHS, **BOX}),
    "read": ({"path": "x"}, {"path": PATHS, **BOX}),
    "write_file": (
        {"path": "x", "content": "x"},
        {"path": PATHS, "content": [*DATA, None], "mode": [5, None, "patch", "", ["write"]], **BOX},
    ),
    "write": (
        {"path": "x", "content": "x"},
        {"path": PATHS, "content": [*DATA, None], "mode": [5, None, "patch"], **BOX},
    ),
    "list_agents": ({}, {"all": [*FLAGS, None]}),
    "spawn": (
        {"name": "x", "script": "/x.py"},
        {
            "name": [5, None, b"x", ["x"], "\ud800"],
            "script": [5, ["a"], bytearray(b"a"), BadPath(), "\ud800"],
            "sandboxed": [*FLAGS, None],
            "network": [*FLAGS, None],
            "limits": [5, "memory", [1], {"disk": 1}, {"memory": -1}, {"memory": "1G"}, {"memory": 1.5}, {5: 1}],
            "restart_policy": [5, None, "sometimes", True],
            "max_restarts": [*INTEGERS, None],
            "restart_window": [*SECONDS, 0],
            "argv": ["ls", 5, [5]],
            "interpreter": [5, ["/x"], "\ud800"],
            "args": ["x", b"x", 5, [5], [None], {"a"}],
            "env": ["A=b", {"A": 1}],
            "cwd": [5, ["/"]],
            "stdin": DATA,
            "profile": [5, "weak", ["none"]],
            "ro": ["/x", 5, [5]],
            "rw": ["/x", 5, [5]],
            "workspace": [5, "tape", ["disk"]],
            "rights": ["exec", 5, [5]],
            "timeout": SECONDS,
            "require_limits": [*FLAGS, None],
            "tied": [*FLAGS, None],
        },
    ),
    "kill": ({}, {"name": NAMES, "agent_id": INTEGERS, "grace": SECONDS}),
    "wait": ({}, {"name": NAMES, "agent_id": INTEGERS, "timeout": [*SECONDS, 0]}),
    "pause": ({}, {"name": NAMES, "agent_id": INTEGERS}),
    "remove": ({}, {"name": NAMES, "agent_id": INTEGERS}),
    "resume": ({}, {"name": NAMES, "agent_id": INTEGERS}),
    "inspect": ({}, {"name": NAMES, "agent_id": INTEGERS}),
    "set_limits": (
        {"limits": {"memory": 1 << 26}},
        {
            "name": NAMES,
            "agent_id": INTEGERS,
            "limits": [5, None, "memory", [1], {"disk": 1}, {"memory": -1}, {"memory": 1.5}, {5: 1}],
        },
    ),
    "logs": ({}, {"name": NAMES, "agent_id": INTEGERS, "stream": [5, None, "stdin", ["stdout"]]}),
    "store": (
        {"key": "x", "value": 1},
        {**KEY, "value": VALUES, "scope": SCOPES, "ttl": TTLS, "durable": [*FLAGS, None], "if_version": INTEGERS},
    ),
    "fetch": ({"key": "x"}, {**KEY, "scope": SCOPES}),
    "delete_key": ({"key": "x"}, {**KEY, "scope": SCOPES, "durable": [*FLAGS, None], "if_version": INTEGERS}),
    "list_keys": ({}, {"prefix": KEY["key"], "scope": SCOPES}),
    "cas": (
        {"key": "x", "value": 1, "version": 1},
        {
            **KEY,
            "value": VALUES,
            "version": [*INTEGERS, None],
            "scope": SCOPES,
            "ttl": TTLS,
            "durable": [*FLAGS, None],
        },
    ),
    "incr": (
        {"key": "x"},
        {**KEY, "amount": ["1", None, True, 2**64, [1]], "scope": SCOPES, "ttl": TTLS, "durable": [*FLAGS, None]},
    ),
    "append": (
        {"key": "x", "value": "x"},
        {**KEY, "value": VALUES, "scope": SCOPES, "ttl": TTLS, "durable": [*FLAGS, None]},
    ),
    "mget": ({"keys": ["x"]}, {"keys": ["x", 5, None, [5], [None], {"a"}, ["\ud800"]], "scope": SCOPES}),
    "mset": (
        {"values": {"x": 1}},
        {
            "values": [5, None, ["x"], "x", {"x": object()}],
            "scope": SCOPES,
            "ttl": TTLS,
            "durable": [*FLAGS, None],
        },
    ),
    "state_usage": ({}, {}),
    "backup": ({"path": "/x"}, {"path": PATHS}),
    "restore": ({"path": "/x"}, {"path": PATHS}),
    "verify_state": ({}, {}),
}
# Those that need an agent beside what is tried.
WHO = {"grace", "timeout", "stream", "limits"}


def whole(call, good, name, value):
    if name == "argv":
        good = {"name": "x"}
    if name in WHO and call in {"kill", "wait", "set_limits", "logs"}:
        good = {"name": "x"}
    return {**good, name: value}


CASES = [
    pytest.param(call, whole(call, good, name, value), name, id=f"{call}-{name}-{number}")
    for call, (good, wrong) in CALLS.items()
    for name, values in wrong.items()
    for number, value in enumerate(values)
]


def test_no_parameter_is_forgotten():
    methods = {
        name: list(inspect.signature(method).parameters)[1:]
        for name, method in inspect.getmembers(CloveClient, inspect.isfunction)
        if not name.startswith("_") and name not in ("follow_logs", "sandbox", "scan", "transaction", "watch")
    }
    assert methods == {call: list(wrong) for call, (_, wrong) in CALLS.items()}


@pytest.mark.parametrize(("call", "arguments", "name"), CASES)
def test_a_wrong_argument_is_refused_by_name_before_anything_is_sent(tmp_path, call, arguments, name):
    # Were it to be sent, KernelNotFound would say that there is nowhere to.
    path = tmp_path / "none.sock"
    with pytest.raises(clove_sdk.ValidationError, match=rf"^(the name in )?{name}\b") as caught:
        getattr(CloveClient(path), call)(**arguments)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    with pytest.raises(clove_sdk.ValidationError, match=rf"\b{name}\b"):
        asyncio.run(getattr(AsyncCloveClient(path), call)(**arguments))


def test_an_agent_is_named_once():
    for call in ("kill", "wait", "pause", "resume", "inspect", "logs"):
        for arguments in ({}, {"name": "x", "agent_id": 1}):
            with pytest.raises(clove_sdk.ValidationError, match="either name or agent_id"):
                getattr(CloveClient("/none"), call)(**arguments)
    with pytest.raises(clove_sdk.ValidationError, match="^stream"):
        next(iter(CloveClient("/none").follow_logs("x", stream="stdin")))
    with pytest.raises(clove_sdk.ValidationError, match="either script or argv"):
        CloveClient("/none").spawn("x")
    with pytest.raises(clove_sdk.ValidationError, match="network=True"):
        CloveClient("/none").spawn("x", "/x.py", network=True, profile="strict")


@pytest.mark.parametrize("kind", [CloveClient, AsyncCloveClient])
@pytest.mark.parametrize(("name", "values"), [
    ("socket_path", [5, ["a"], BadPath(), "\ud800"]),
    ("timeout", [*SECONDS, 0]),
])
def test_wrong_arguments_of_a_client(kind, name, values):
    for value in values:
        with pytest.raises(clove_sdk.ValidationError, match=f"^{name} "):
            kind(**{name: value})


@pytest.mark.parametrize(("command", "sent"), [
    ("ls ü \udcff", "ls ü \udcff"),
    (b"ls", b"ls"),
    (["ls", b"-l", Path("/x")], ["ls", b"-l", "/x"]),
    (("ls",), ["ls"]),
    (deque(["ls"]), ["ls"]),
    ([], []),
])
def test_forms_of_a_command(command, sent):
    assert _calls.execute(command, None, None, None, None, None).args[0] == sent


@pytest.mark.parametrize(("data", "sent"), [
    ("ü\udcff", b"\xc3\xbc\xff"),
    (b"a", b"a"),
    (bytearray(b"a"), b"a"),
    (memoryview(b"abc")[1:], b"bc"),
    (memoryview(array("H", [0x6161])), b"aa"),
])
def test_forms_of_data(data, sent):
    assert _arguments.data("data", data) == sent
    options = _codec.unpack(_codec.pack([_calls.execute("cat", None, None, None, data, None).args[1]]))
    assert options == [{"stdin": sent, "timeout_ms": 0}]


def test_forms_of_other_arguments():
    options = _calls.execute("env", b"/x", 1, {"A": b"\xff", b"B": "b"}, "", 0).args[1]
    assert options["cwd"] == b"/x" and options["env"] == {"A": b"\xff", b"B": "b"}
    assert options["output_max"] == 0 and options["timeout_ms"] == 1000 and options["stdin"] == b""
    assert _arguments.environment("env", os.environ) == dict(os.environ)
    assert _arguments.seconds("timeout", 365 * 86400, zero=False) == 365 * 86400
