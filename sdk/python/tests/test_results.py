# SPDX-License-Identifier: MIT
"""Results and exceptions as programs of the original API use them."""

from __future__ import annotations

import builtins
import copy
import json
import pickle

import clove_sdk
import pytest
from clove_sdk import (
    AgentInfo,
    AgentState,
    AsyncResult,
    ErrorCode,
    ExecResult,
    PollAsyncResult,
    SyscallError,
    SyscallOp,
    _calls,
    _codec,
)
from clove_sdk._errors_base import CloveError
from clove_sdk._protocol import ErrorReply, Reply
from clove_sdk.errors import syscall_error


def test_a_result_is_also_a_mapping():
    result = ExecResult(stdout="out", exit_code=0)
    assert result["stdout"] == result.get("stdout") == result.stdout == "out"
    assert result["success"] is True and bool(result)
    assert "exit_code" in result and "nothing" not in result and 3 not in result
    assert result.get("nothing") is None and result.get("nothing", 7) == 7
    with pytest.raises(KeyError):
        result["nothing"]
    assert dict(result)["exit_code"] == 0


def test_error_is_in_a_result_only_when_it_failed():
    assert "error" not in ExecResult(exit_code=0)
    assert "error" in ExecResult(exit_code=3)
    assert "error" not in dict(ExecResult(exit_code=0))


@pytest.mark.parametrize(("fields", "text"), [
    ({"exit_code": 3}, "exit code 3"),
    ({"exit_code": -1, "signal": 9}, "ended by signal 9 (SIGKILL)"),
    ({"exit_code": -1, "signal": 9, "timed_out": True, "duration_ms": 1500.0}, "timed out after 1.5 s"),
    ({"exit_code": 0, "timed_out": True}, "timed out after 0 s"),
])
def test_a_failed_command_says_why(fields, text):
    result = ExecResult(**fields)
    assert not result and result.error == text and result["success"] is False


def test_output_that_is_not_utf8_survives():
    raw = bytes(range(256))
    assert ExecResult(stdout=raw.decode("utf-8", "surrogateescape")).stdout_bytes == raw


def test_a_pending_command_is_neither_a_success_nor_failed():
    result = ExecResult(async_request_id=5)
    assert result.pending and result["pending"] is True and result["request_id"] == 5
    assert not result and result.success is False
    assert result.error is None and "error" not in result
    assert not ExecResult(exit_code=0).pending and not ExecResult(exit_code=3).pending


def test_agent_state_is_a_str():
    assert AgentState("paused").lower() == "paused" and AgentState.PAUSED == "paused"
    assert AgentState("something new") is AgentState.UNKNOWN
    agent = AgentInfo(1, "a", 2, AgentState.RUNNING, 0.5, "spawned", 0, 0, 0)
    assert agent["running"] and agent["status"] == "running" and agent.state.value == "running"


def test_async_results():
    good = AsyncResult(4, SyscallOp.EXEC, ExecResult(stdout="\udcff", exit_code=0))
    bad = AsyncResult(5, SyscallOp.EXEC, None, "lost")
    assert good and not bad and bad.error == "lost"
    assert json.loads(good["payload"])["stdout"] == "\udcff"
    assert json.loads(bad["payload"]) == {"success": False, "error": "lost"}
    assert PollAsyncResult([good, bad])["count"] == 2


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_reply_becomes_the_exception_of_its_code(code):
    error = syscall_error(SyscallOp.READ, [int(code), "text", {"errno": 2}])
    assert isinstance(error, SyscallError)
    assert (error.message, error.opcode, error.code) == ("text", SyscallOp.READ, code)
    assert error.details == {"errno": 2}
    assert str(error) == f"text ({code.name})"
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(twin), str(twin), twin.details) == (type(error), str(error), error.details)


def test_codes_and_calls_of_a_newer_kernel():
    error = syscall_error(0x1234, [999, "new", {}])
    assert type(error) is SyscallError and (error.code, error.opcode) == (999, 0x1234)


@pytest.mark.parametrize("body", [None, [], [1], ["a", "b", {}], [1, 2, {}], [1, "a", []]])
def test_an_error_reply_of_another_shape_is_a_protocol_error(body):
    assert isinstance(syscall_error(0, body), clove_sdk.ProtocolError)


def test_the_hierarchy():
    assert issubclass(clove_sdk.ConnectionError, builtins.ConnectionError)
    assert issubclass(clove_sdk.KernelNotFound, FileNotFoundError)
    assert issubclass(clove_sdk.KernelRefused, ConnectionRefusedError)
    assert issubclass(clove_sdk.TimeoutError, builtins.TimeoutError)
    assert issubclass(clove_sdk.DeadlinePassed, clove_sdk.TimeoutError)
    assert issubclass(clove_sdk.ProtocolRejected, clove_sdk.ProtocolError)
    assert issubclass(clove_sdk.AgentNotFound, SyscallError)
    assert clove_sdk.Busy.retryable and not clove_sdk.NotFound.retryable
    for name in clove_sdk.errors.__all__:
        assert issubclass(getattr(clove_sdk, name), CloveError)
    assert clove_sdk.AgentOSClient is clove_sdk.CloveClient


ALL_CALLS = [
    _calls.hello(), _calls.read_piece("x", 0, 1), _calls.list_agents(False, None), _calls.stats(),
    _calls.execute("x", None, 1, None, None, None),
    _calls.write_piece("x", memoryview(b""), "write", 0),
]


@pytest.mark.parametrize("call", ALL_CALLS, ids=lambda call: call.op.name)
@pytest.mark.parametrize("value", [None, 1, "x", [1], {}, {"version": 1, "data": "str"}, [{}]])
def test_a_reply_of_another_shape_is_a_protocol_error(call, value):
    body = _codec.pack([value])[1:]
    with pytest.raises(clove_sdk.ProtocolError):
        call.result(Reply(1, call.op, body))


def test_a_malformed_error_reply_is_a_protocol_error():
    with pytest.raises(clove_sdk.ProtocolError):
        _calls.stats().result(ErrorReply(1, 0x600, b"\xc1"))


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf")])
def test_a_timeout_must_be_a_duration(timeout):
    with pytest.raises(clove_sdk.ValidationError):
        _calls.execute("x", None, timeout, None, None, None)


def test_a_timeout_becomes_milliseconds():
    def options(timeout):
        call = _calls.execute("x", None, timeout, None, None, None)
        return call.args[1]["timeout_ms"], call.wait, call.deadline_ms

    assert options(30) == (30000, 35.0, 35000)
    assert options(0.25) == (250, 5.25, 5250)
    assert options(0.0001)[0] == 1
    assert options(None) == options(0) == (0, None, None)
