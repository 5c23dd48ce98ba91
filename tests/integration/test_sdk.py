# SPDX-License-Identifier: MIT
"""The Python SDK against a real kernel: that both mean the same by the protocol."""

import asyncio
import builtins
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import procfs
from kernel import environment, wait_until
from wire import BUILT, ROOT

SDK = ROOT / "sdk" / "python"
sys.path.insert(0, str(SDK / "src"))

import clove_sdk  # noqa: E402
from clove_sdk import AsyncCloveClient, CloveClient  # noqa: E402


@pytest.fixture
def sdk(kernel):
    with CloveClient(str(kernel.socket_path)) as client:
        yield client


def run_agent(kernel, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment({"CLOVE_SOCKET": str(kernel.socket_path), "PYTHONPATH": str(SDK / "src")}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def the_example_file():
    """What the example writes; put back as it was."""
    path = Path("/tmp/test.txt")
    before = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)
    if before is not None:
        path.write_bytes(before)


def test_the_first_agent_runs_as_it_stands(kernel, the_example_file):
    output = run_agent(kernel, str(SDK / "examples" / "first_agent.py"))
    version = kernel.client().call("HELLO", 1, 1)["version"]
    assert output == f"Connected to kernel v{version}\nHello from Clove!\n\nHello World\n"
    assert the_example_file.read_text() == "Hello World"


def test_hello(sdk, kernel, io):
    info = sdk.hello()
    assert info.io == io and info.uid == os.geteuid()
    assert sorted(info.capabilities) == sorted(call.name for call in BUILT)
    assert info.agent_id == sdk.agent_id
    listed = {agent.id: agent for agent in sdk.list_agents(all=True)}
    assert listed[info.agent_id].pid == os.getpid()
    assert sdk.list_agents() == []
    assert sdk.stats().io == io


def test_values_come_back_as_they_are(sdk):
    for value in (None, True, -(2**63), 2**64 - 1, 1.5, "grün", b"\0\xff", [1, [2]], {"a": {1: None}}):
        assert sdk.noop(value) == value
    assert sdk.echo("x") == "x"
    assert sdk.noop(b"x" * 1_000_000) == b"x" * 1_000_000


def test_exec(sdk, directory):
    result = sdk.exec("printf out; printf err >&2; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("out", "err", 3)
    assert not result and "3" in result.error
    assert sdk.exec(["pwd", "-P"], cwd=directory).stdout == f"{directory}\n"
    assert sdk.exec("cat; echo $A", stdin="in ", env={"A": "b"}).stdout == "in b\n"
    assert sdk.exec(["printf", b"\xff\xfe"]).stdout_bytes == b"\xff\xfe"
    assert sdk.exec("head -c 100 /dev/zero", output_max=10).truncated
    assert sdk.exec("kill -TERM $$").signal == signal.SIGTERM


def test_exec_times_out_and_leaves_nothing(sdk, marker):
    result = sdk.exec(f"{marker.shell} & {marker.shell}", timeout=0.3)
    assert result.timed_out and not result and "timed out" in result.error
    wait_until(lambda: not marker.pids(), "the command is gone")


def test_exec_in_the_background_of_the_client(sdk, marker):
    one = sdk.exec("echo one", async_=True)
    two = sdk.exec(marker.argv, async_=True, request_id=77)
    assert two.async_request_id == 77
    wait_until(marker.pids, "the command runs")
    assert sdk.noop("meanwhile") == "meanwhile"
    assert sdk.cancel(77) is True
    found = {}

    def collected() -> bool:
        found.update({item.request_id: item for item in sdk.poll_async().results})
        return len(found) == 2

    wait_until(collected, "both have ended")
    assert found[one.async_request_id].result.stdout == "one\n"
    assert found[77].error and not found[77]
    wait_until(lambda: not marker.pids(), "the command is gone")


def test_files_of_any_size(sdk, directory):
    path = directory / "file"
    data = os.urandom(5 * 1024 * 1024 + 17)
    assert sdk.write_file(path, data).bytes_written == len(data)
    assert path.read_bytes() == data
    assert sdk.read_file(path).content_bytes == data
    assert sdk.write_file(str(path), "grün").size == 5
    assert sdk.write_file(path, "!", mode="append").size == 6
    assert sdk.read(path) == "grün!"
    assert sdk.read_file("/proc/cpuinfo").content.startswith("processor")


def test_errors_are_exceptions_of_their_own(sdk, directory):
    with pytest.raises(clove_sdk.NotFound) as caught:
        sdk.read_file(directory / "missing")
    assert isinstance(caught.value, clove_sdk.SyscallError)
    assert caught.value.details == {"errno": 2}
    with pytest.raises(clove_sdk.NotAFile):
        sdk.read_file(directory)
    with pytest.raises(clove_sdk.ExecFailed) as caught:
        sdk.exec(["/no/such/program"])
    assert caught.value.details == {"step": "exec", "errno": 2}
    with pytest.raises(clove_sdk.TooLarge):
        sdk.exec(["true", "x" * 70_000])
    sdk.noop()


def test_a_kernel_that_is_not_there_is_said_so(directory):
    with pytest.raises(clove_sdk.ConnectionError) as caught:
        with CloveClient(str(directory / "no.sock")):
            pass
    assert isinstance(caught.value, builtins.FileNotFoundError)


def test_a_kernel_that_dies_is_said_so_and_its_successor_found(start_kernel, io):
    first = start_kernel(io=io)
    client = CloveClient(str(first.socket_path))
    client.connect()
    epoch = client.hello().epoch
    first.kill()
    with pytest.raises(clove_sdk.ConnectionError):
        client.noop("x")
    wait_until(lambda: _refused(first.socket_path), "the socket is dead")
    start_kernel(io=io)
    client.connect()
    assert client.hello().epoch != epoch
    client.disconnect()


def _refused(path) -> bool:
    try:
        with CloveClient(str(path)):
            return False
    except clove_sdk.ConnectionError:
        return True


def test_a_kernel_that_stops_ends_the_connection_in_words(kernel, marker):
    with CloveClient(str(kernel.socket_path)) as client:
        client.exec(marker.argv, async_=True)
        wait_until(marker.pids, "the command runs")
        kernel.stop()
        with pytest.raises(clove_sdk.CloveError):
            client.noop("x")


def test_one_async_client_serves_many_tasks(kernel):
    async def main() -> None:
        async with AsyncCloveClient(str(kernel.socket_path)) as client:
            slow = asyncio.create_task(client.exec("sleep 0.2; echo slow"))
            echoes = await asyncio.gather(*(client.noop(i) for i in range(300)))
            assert echoes == list(range(300))
            results = await asyncio.gather(*(client.exec(f"echo {i}") for i in range(20)))
            assert [result.stdout for result in results] == [f"{i}\n" for i in range(20)]
            assert (await slow).stdout == "slow\n"

    asyncio.run(main())


def test_a_cancelled_task_ends_its_command(kernel, marker):
    async def main() -> None:
        async with AsyncCloveClient(str(kernel.socket_path)) as client:
            task = asyncio.create_task(client.exec(marker.argv))
            while not marker.pids():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while marker.pids():
                await asyncio.sleep(0.01)
            assert await client.noop("lives") == "lives"

    asyncio.run(asyncio.wait_for(main(), 30))


def test_programs_that_leave_take_their_commands_along(kernel, marker):
    program = (
        "from clove_sdk import CloveClient; import sys\n"
        "client = CloveClient(); client.connect()\n"
        "client.exec(sys.argv[1:], async_=True)\n"
        "client.noop(); client.exec('true')\n"
    )
    run_agent(kernel, "-c", program, *marker.argv)
    wait_until(lambda: not marker.pids(), "the command is gone")
    wait_until(lambda: procfs.children(kernel.pid) == [kernel.launcher_pid()], "it is reaped")
