# SPDX-License-Identifier: MIT
"""What is different about the asyncio client, against a real kernel."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import os
import time
import warnings

import clove_sdk
import pytest
from clove_sdk import AsyncCloveClient, CloveClient
from test_connection import in_child, inherited  # noqa: F401


def on(path, work, **options):
    """Runs work(client) with a connected client in an event loop."""

    async def main():
        async with AsyncCloveClient(path, **options) as client:
            return await work(client)

    return asyncio.run(main())


def test_both_clients_have_the_same_calls():
    def surface(kind):
        return {
            name: re.sub(r"\bAsync(?=Iterator|Sandbox|Transaction|Watch)", "", str(inspect.signature(value)))
            for name, value in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert surface(CloveClient) == surface(AsyncCloveClient)


def test_calls_run_side_by_side(kernel):
    async def work(client):
        start = time.monotonic()
        results = await asyncio.gather(*(client.exec(f"sleep 0.3; echo {n}") for n in range(5)))
        assert time.monotonic() - start < 1.2
        return [result.stdout for result in results]

    assert on(kernel.path, work) == [f"{n}\n" for n in range(5)]


def test_files_and_large_values(kernel, tmp_path):
    async def work(client):
        raw = os.urandom(2_500_000)
        await client.write_file(tmp_path / "f", raw)
        assert (await client.read_file(tmp_path / "f")).content_bytes == raw
        values = [bytes((n,)) * 1_000_000 for n in range(12)]
        assert await asyncio.gather(*map(client.noop, values)) == values

    on(kernel.path, work)


def test_asynchronous_commands(kernel):
    async def work(client):
        started = await client.exec("echo done", async_=True)
        while not (found := await client.poll_async()).count:
            await asyncio.sleep(0.01)
        assert found.results[0].request_id == started.async_request_id
        assert found.results[0].result.stdout == "done\n"

    on(kernel.path, work)


def test_poll_sees_what_has_arrived(kernel):
    async def work(client):
        await client.exec("true", async_=True)
        time.sleep(0.3)
        return (await client.poll_async()).count

    assert on(kernel.path, work) == 1


def test_a_cancelled_task_ends_its_command(kernel, tmp_path):
    async def work(client):
        task = asyncio.create_task(client.exec(f"sleep 0.4; touch {tmp_path}/survived"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.5)
        return await client.noop("next")

    assert on(kernel.path, work) == "next"
    assert not (tmp_path / "survived").exists()


def test_timeouts_also_while_the_kernel_takes_nothing(kernel):
    async def work(client):
        client._timeout = 0.3
        with kernel.frozen():
            calls = [client.noop(b"x" * 1_000_000) for _ in range(12)]
            failed = await asyncio.gather(*calls, client.noop("y"), return_exceptions=True)
            assert client._transport._stream.get_write_buffer_size() < 2_000_000
        assert {type(error) for error in failed} == {clove_sdk.TimeoutError}
        client._timeout = 5
        return await client.noop("next")

    assert on(kernel.path, work) == "next"


def test_no_kernel(tmp_path):
    with pytest.raises(FileNotFoundError):
        on(tmp_path / "none", None)


def test_disconnecting_wakes_who_waits(kernel):
    async def work(client):
        task = asyncio.create_task(client.exec("sleep 20"))
        await asyncio.sleep(0.1)
        await client.disconnect()
        with pytest.raises(clove_sdk.ConnectionError):
            await task

    on(kernel.path, work)


def test_a_client_belongs_to_its_event_loop(kernel):
    client = AsyncCloveClient(kernel.path)

    async def other():
        with pytest.raises(clove_sdk.ConnectionError, match="event loop"):
            await client.noop("x")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.connect())
    asyncio.run(other())
    assert loop.run_until_complete(client.noop("x")) == "x"
    loop.run_until_complete(client.disconnect())
    loop.close()


def test_a_forked_child_gets_a_connection_of_its_own(kernel):
    async def work(client):
        mine = client.agent_id

        def child():
            async def main():
                assert not client.connected
                assert await client.noop("child") == "child"
                return client.agent_id != mine

            return asyncio.run(main())

        assert in_child(child) == "True"
        return await client.noop("parent")

    assert on(kernel.path, work) == "parent"


def test_an_inherited_connection_outlives_event_loops(inherited):  # noqa: F811
    async def leave_one_open(client):
        task = asyncio.create_task(client.exec("sleep 0.2; echo late"))
        await asyncio.sleep(0.05)
        task.cancel()
        return await client.noop("one")

    assert on(None, leave_one_open) == "one"
    time.sleep(0.3)
    for n in range(3):
        assert on(None, lambda client, n=n: client.noop(n)) == n
    with pytest.raises(clove_sdk.ConnectionError, match="one kind of client"):
        CloveClient().connect()


def test_clients_share_an_inherited_connection(inherited):  # noqa: F811
    async def work(one):
        async with AsyncCloveClient() as two:
            assert two.agent_id == one.agent_id
            three = [AsyncCloveClient() for _ in range(3)]
            await asyncio.gather(*(client.noop("x") for client in three))
            assert {client.agent_id for client in three} == {one.agent_id}
            await asyncio.gather(*(client.disconnect() for client in three))
            slow = asyncio.create_task(one.exec("sleep 0.1; echo one"))
            assert await two.noop("two") == "two"
        assert (await slow).stdout == "one\n"
        waiting = asyncio.create_task(one.exec("sleep 20"))
        await asyncio.sleep(0.05)
        await one.disconnect()
        with pytest.raises(clove_sdk.ConnectionError):
            await waiting
        await one.connect()
        return await one.noop("again")

    # A crowd that opens it at once gets one transport.
    async def crowd():
        clients = [AsyncCloveClient() for _ in range(5)]
        await asyncio.gather(*(client.connect() for client in clients))
        assert len({id(client._transport) for client in clients}) == 1
        await asyncio.gather(*(client.disconnect() for client in clients))

    asyncio.run(crowd())
    assert on(None, work) == "again"
    os.fstat(inherited.fileno())


def test_leaves_nothing_unclosed(kernel):
    gc.collect()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(3):
            on(kernel.path, lambda client: client.noop("x"))
        gc.collect()
    assert [str(warning.message) for warning in seen] == []


def test_a_sandbox_is_shared_by_its_calls_and_ends_with_its_block(kernel):
    async def work(client):
        async with client.sandbox(limits={"max_pids": 64}) as box:
            await box.write_file("a", "content")
            assert (await box.read_file("/workspace/a")).content == "content"
            results = await asyncio.gather(*(box.exec(f"cat a; echo {n}") for n in range(5)))
            assert [result.stdout for result in results] == [f"content{n}\n" for n in range(5)]
            other = client.sandbox()
            assert not await other.exec(["test", "-e", "a"])
            assert {agent.name for agent in await client.list_agents()} == {box.name, other.name}
            await other.close()
            await other.close()
        assert await client.list_agents() == []
        for closed in (box, other):
            try:
                await closed.exec("true")
                raise AssertionError("a closed box ran a command")
            except clove_sdk.ConnectionError as error:
                assert "closed" in str(error)
        return await asyncio.gather(*(client.exec("pwd", sandbox=True) for _ in range(5)))

    assert [result.stdout for result in on(kernel.path, work)] == ["/workspace\n"] * 5
