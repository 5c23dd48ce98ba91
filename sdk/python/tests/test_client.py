# SPDX-License-Identifier: MIT
"""The blocking client's calls, against a real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import clove_sdk
import pytest
from clove_sdk import AgentState, CloveClient, CommandFailed, SyscallOp, _calls

MIB = 1 << 20
PYTHON = Path(__file__).resolve().parent.parent


def test_hello_tells_about_the_kernel_and_the_client(client):
    info = client.hello()
    assert info.version and info.protocol == 1
    assert {"NOOP", "EXEC", "READ", "WRITE"} <= set(info.capabilities)
    assert info.agent_id == info["agent_id"] == client.agent_id
    assert info.uptime_seconds >= 0 and info.limits["payload_max"] == MIB
    assert client.connected


@pytest.mark.parametrize("value", [
    None, "text", "\udc80\udcff", b"\x00\xff", 2**64 - 1, -(2**63), 1.5, [1, [2, {"k": None}]], "x" * MIB,
], ids=lambda value: repr(value)[:20])
def test_a_value_comes_back_as_it_went(client, value):
    assert client.noop(value) == value
    assert client.echo(value) == value


def test_a_command_that_succeeds(client):
    result = client.exec("echo 'Hello from Clove!'; echo oops >&2")
    assert result and result.success and result.error is None
    assert (result.stdout, result.stderr, result.exit_code) == ("Hello from Clove!\n", "oops\n", 0)
    assert result.duration_ms > 0 and not result.timed_out and not result.truncated


def test_a_command_that_fails_is_a_result(client):
    result = client.exec("echo why >&2; exit 3")
    assert not result and result.exit_code == 3 and result["error"] == "exit code 3"
    with pytest.raises(CommandFailed, match="exit code 3: why") as caught:
        client.exec("echo why >&2; exit 3", check=True)
    assert caught.value.result.exit_code == 3
    assert client.exec("true", check=True)


def test_a_command_ended_by_a_signal(client):
    result = client.exec("kill -TERM $$")
    assert not result and result.signal == 15 and "SIGTERM" in result.error


def test_a_command_that_takes_too_long(client):
    start = time.monotonic()
    result = client.exec("echo before; sleep 20", timeout=0.2)
    assert time.monotonic() - start < 5
    assert not result and result.timed_out and "timed out" in result.error
    assert result.stdout == "before\n"


def test_a_command_without_a_shell(client):
    assert client.exec(["printf", "%s|", "a b", "$HOME", b"\xff"]).stdout_bytes == b"a b|$HOME|\xff|"


def test_a_command_that_cannot_start_raises(client):
    with pytest.raises(clove_sdk.ExecFailed) as caught:
        client.exec(["/no/such/program"])
    assert caught.value.opcode == SyscallOp.EXEC and caught.value.details["errno"] == 2
    with pytest.raises(clove_sdk.InvalidArgument):
        client.exec([])


def test_directory_environment_and_input_of_a_command(client, tmp_path):
    result = client.exec('pwd; echo "$A"; cat', cwd=tmp_path, env={"A": "x=y"}, stdin=b"in\xff")
    assert result.stdout_bytes == f"{tmp_path}\nx=y\n".encode() + b"in\xff"


def test_what_a_command_leaves_in_the_background_runs_on(client, tmp_path):
    # As the README says: nobody waits for it, and its output goes nowhere.
    begin, end = tmp_path / "begin", tmp_path / "end"
    left = f"(while ! test -e {begin}; do sleep 0.01; done; touch {end}) &"
    assert client.exec(f"{left} echo started").stdout == "started\n"
    client.disconnect()
    begin.touch()
    deadline = time.monotonic() + 10
    while not end.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert end.exists()


def test_output_is_cut_at_output_max(client):
    result = client.exec("head -c 100000 /dev/zero", output_max=1000)
    assert result and result.truncated
    assert len(result.stdout_bytes) == 1000 and result.stdout_size == 100_000


def test_asynchronous_commands(client):
    first = client.exec("sleep 0.2; echo slow", async_=True)
    second = client.exec("echo fast", async_=True, request_id=4711)
    broken = client.exec(["/no/such/program"], async_=True)
    assert first.pending and not first
    assert second.async_request_id == 4711 and first.async_request_id != 4711
    with pytest.raises(clove_sdk.ValidationError):
        client.exec("true", async_=True, request_id=4711)
    found = collect(client, 3)
    assert found[4711].result.stdout == "fast\n" and found[4711].opcode == SyscallOp.EXEC
    slow = found[first.async_request_id]
    assert slow and slow.result.stdout == "slow\n" and not slow.result.pending
    failure = found[broken.async_request_id]
    assert not failure and failure.result is None and "EXEC_FAILED" in failure.error
    assert client.poll_async().count == 0


def collect(client, count):
    found = {}
    deadline = time.monotonic() + 10
    while len(found) < count and time.monotonic() < deadline:
        found.update({item.request_id: item for item in client.poll_async(max_results=1).results})
        time.sleep(0.005)
    return found


def test_cancel_ends_an_asynchronous_command(client):
    started = client.exec("sleep 20", async_=True)
    assert client.cancel(started.async_request_id) is True
    assert client.cancel(started.async_request_id) is False
    assert client.cancel(999) is False
    assert "CANCELLED" in collect(client, 1)[started.async_request_id].error


@pytest.mark.parametrize("content", ["Hello World", "", "\udcff\udc80 ü", b"\x00\xff" * 1000])
def test_a_file_comes_back_as_it_was_written(client, tmp_path, content):
    path = tmp_path / "file"
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    written = client.write_file(path, content)
    assert written and written.bytes_written == len(raw) and path.read_bytes() == raw
    read = client.read_file(path)
    assert read.content_bytes == raw and read.size == len(raw) and read["content"] == read.content
    assert client.read(str(path)) == read.content


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
def test_files_larger_than_a_frame(client, tmp_path, size):
    path, raw = tmp_path / "large", os.urandom(size)
    path.write_bytes(b"old" * 2 * MIB)
    assert client.write_file(path, raw).size == size
    assert path.read_bytes() == raw
    assert client.read_file(path).content_bytes == raw
    assert client.write_file(path, memoryview(raw), "append").bytes_written == size
    assert path.read_bytes() == raw * 2


def test_append_and_the_short_names(client, tmp_path):
    path = os.fsencode(tmp_path / "f\udcff")
    client.write(path, "a")
    client.write(path, "b", mode="append")
    assert client.read(path) == "ab"
    with pytest.raises(clove_sdk.ValidationError):
        client.write_file(path, "c", mode="patch")


def test_a_file_replaced_while_it_is_read_is_read_anew(kernel, tmp_path):
    path, new = tmp_path / "file", tmp_path / "new"
    path.write_bytes(b"a" * 3 * MIB)
    new.write_bytes(b"b" * 3 * MIB)

    class Replacing(CloveClient):
        def _call(self, call):
            result = super()._call(call)
            if isinstance(result, _calls.Piece) and new.exists():
                new.rename(path)
            return result

    with Replacing(kernel.path) as client:
        assert client.read_file(path).content_bytes == b"b" * 3 * MIB


def test_a_file_replaced_again_and_again_is_busy(kernel, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0" * 2 * MIB)

    class Replacing(CloveClient):
        def _call(self, call):
            result = super()._call(call)
            new = tmp_path / "new"
            new.write_bytes(b"n" * 2 * MIB)
            new.rename(path)
            return result

    with Replacing(kernel.path) as client, pytest.raises(clove_sdk.Busy):
        client.read_file(path)


def test_errors_of_files(client, tmp_path):
    with pytest.raises(clove_sdk.NotFound) as caught:
        client.read_file(tmp_path / "missing")
    assert caught.value.opcode == SyscallOp.READ and caught.value.code == clove_sdk.ErrorCode.NOT_FOUND
    with pytest.raises(clove_sdk.NotAFile):
        client.read_file(tmp_path)
    with pytest.raises(clove_sdk.SyscallError):
        client.write_file(tmp_path / "no" / "such", "x")
    with pytest.raises(clove_sdk.SyscallError):
        client.read_file("nul\0byte")


def test_list_agents(client):
    mine = [agent for agent in client.list_agents(all=True) if agent.id == client.agent_id]
    assert len(mine) == 1
    assert (mine[0].kind, mine[0].state, mine[0].pid) == ("external", AgentState.RUNNING, os.getpid())
    assert client.agent_id not in [agent.id for agent in client.list_agents()]


def test_stats(client):
    before = sum(core["frames"] for core in client.stats().cores)
    stats = client.stats()
    assert sum(core["frames"] for core in stats.cores) > before
    assert stats.connections >= 1 and stats.launcher and stats["io"] == client.hello().io


def test_exit_ends_the_connection(kernel):
    client = CloveClient(kernel.path)
    client.connect()
    assert client.exit() is True
    assert not client.connected and client.agent_id is None
    with pytest.raises(clove_sdk.ConnectionError):
        client.noop("x")
    assert client.connect() and client.noop("again") == "again"
    client.disconnect()


def test_what_a_frame_cannot_hold_is_refused_before_it_is_sent(client):
    with pytest.raises(clove_sdk.TooLarge):
        client.noop(b"x" * 2 * MIB)
    with pytest.raises(clove_sdk.ValidationError):
        client.noop(object())
    assert client.noop("still here") == "still here"


def test_threads_share_a_client(client):
    wrong = []

    def work(number):
        for i in range(150):
            value = [number, i]
            if client.noop(value) != value:
                wrong.append(value)
        if client.exec(f"echo {number}").stdout != f"{number}\n":
            wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_a_waiting_thread_does_not_hold_up_another(client):
    done = []
    slow = threading.Thread(target=lambda: done.append(client.exec("sleep 0.5; echo slow").stdout))
    slow.start()
    time.sleep(0.1)
    start = time.monotonic()
    assert client.noop("quick") == "quick"
    assert time.monotonic() - start < 0.3
    slow.join(10)
    assert done == ["slow\n"]


def test_large_requests_while_large_answers_wait(client):
    # The kernel takes no more requests from a client that leaves its answers: sending must read.
    for _ in range(6):
        client.exec("head -c 500000 /dev/zero", async_=True)
    time.sleep(0.3)
    for _ in range(4):
        client.exec("wc -c", stdin=b"x" * MIB, async_=True)
    assert len(client.noop(b"x" * MIB)) == MIB
    found = collect(client, 10).values()
    assert sorted(item.result.stdout_size for item in found) == [8] * 4 + [500_000] * 6


@pytest.mark.parametrize("inputs", [{}, {"CLOVE_PURE_PYTHON": "1"}])
def test_the_first_agent_of_the_readme(kernel, inputs):
    program = PYTHON / "examples" / "first_agent.py"
    env = {**os.environ, **inputs, "PYTHONPATH": str(PYTHON / "src"), "CLOVE_SOCKET": kernel.path}
    done = subprocess.run([sys.executable, program], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("Connected to kernel v")
    assert rest == ["Hello from Clove!", "", "Hello World"]
