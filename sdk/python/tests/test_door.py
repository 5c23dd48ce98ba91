# SPDX-License-Identifier: MIT
"""Clients in an agent: one connection that it inherits, and the door by which its processes get others."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
import textwrap
import threading

import clove_sdk
import pytest
from clove_sdk import CloveClient

PRELUDE = """
import asyncio, contextlib, multiprocessing, os, subprocess, sys, threading
import clove_sdk
from clove_sdk import AsyncCloveClient, CloveClient

def in_child(work):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = str(work())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text

"""


numbers = itertools.count(1)


@pytest.fixture(params=[True, False], ids=["boxed", "unboxed"])
def agent(client, tmp_path, request):
    """Runs a program as an agent to its end; what it printed."""

    def run(text):
        script = tmp_path / "agent.py"
        script.write_text(PRELUDE + textwrap.dedent(text))
        tmp_path.chmod(0o755)
        name = f"door-{next(numbers)}"
        client.spawn(name, script=str(script), sandboxed=request.param)
        end = client.wait(name, timeout=60)
        assert end.success, f"{end.error}\n{client.logs(name, stream='stderr')}"
        return client.logs(name)

    return run


def test_parent_and_child_call_at_the_same_time(agent):
    out = agent("""
        client = CloveClient()
        mine = client.agent_id or client.hello().agent_id
        child = os.fork()
        for n in range(300):
            assert client.noop((os.getpid(), n)) == [os.getpid(), n]
        assert client.hello().agent_id == mine
        if not child:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        print(client.noop("parent"), client.socket_path)
    """)
    assert out == "parent fd:3\n"


def test_a_pool_of_processes(agent):
    out = agent("""
        kept = {}
        def work(n):
            client = kept.setdefault("client", CloveClient())
            return client.noop(n), client.hello().agent_id, os.getpid()
        with CloveClient() as client, multiprocessing.get_context("fork").Pool(4) as pool:
            results = pool.map(work, range(200), chunksize=1)
            assert [n for n, _, _ in results] == list(range(200))
            assert {agent for _, agent, _ in results} == {client.agent_id}
            assert os.getpid() not in {pid for _, _, pid in results}
            print(client.noop("parent"))
    """)
    assert out == "parent\n"


def test_a_subprocess_that_the_door_is_passed_on_to(agent):
    out = agent("""
        program = "from clove_sdk import CloveClient\\nwith CloveClient() as c: print(c.noop('sub'), c.agent_id, flush=True)"
        def run(code, **options):
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
        with CloveClient() as client:
            door = int(os.environ["CLOVE_DOOR"])
            for fds in ([door], [3, door]):
                assert run(program, pass_fds=fds).stdout == f"sub {client.agent_id}\\n"
            alone = {name: value for name, value in os.environ.items() if name not in ("CLOVE_FD", "CLOVE_PID")}
            assert run(program, pass_fds=[door], env=alone).stdout == f"sub {client.agent_id}\\n"
            failed = run(program)
            assert failed.returncode == 1 and "pass_fds=[4]" in failed.stderr, failed.stderr
            shell = subprocess.run(["sh", "-c", f"{sys.executable} -c \\"$0\\"; exit $?", program], close_fds=False,
                                   capture_output=True, text=True)
            assert shell.stdout == f"sub {client.agent_id}\\n", shell.stderr
            print(client.noop("parent"))
    """)
    assert out == "parent\n"


def test_two_in_one_process_share_what_it_inherits(agent):
    out = agent("""
        with CloveClient() as one, CloveClient() as two:
            print(one.noop(1), two.noop(2), one._transport is two._transport)
        with CloveClient() as three:
            print(three.noop(3))
    """)
    assert out == "1 2 True\n3\n"


def test_both_kinds_in_one_process(agent):
    out = agent("""
        async def main():
            async with AsyncCloveClient() as client:
                return [await client.noop("async"), client.agent_id]
        with CloveClient() as client:
            for _ in range(3):
                assert asyncio.run(main()) == ["async", client.agent_id]
            print(client.noop("sync"))
    """)
    assert out == "sync\n"


def test_asyncio_after_a_fork(agent):
    out = agent("""
        async def main():
            async with AsyncCloveClient() as one, AsyncCloveClient() as two:
                answers = await asyncio.gather(*(c.noop(n) for n in range(50) for c in (one, two)))
                return answers == [n for n in range(50) for _ in range(2)] and one.agent_id == two.agent_id
        print(asyncio.run(main()), in_child(lambda: asyncio.run(main())), asyncio.run(main()))
    """)
    assert out == "True True True\n"


def test_a_fork_while_threads_use_the_client(agent):
    out = agent("""
        stop = threading.Event()
        client = CloveClient()
        def work():
            while not stop.is_set():
                assert client.noop("x") == "x"
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        try:
            for _ in range(20):
                assert in_child(lambda: client.noop("child")) == "child"
        finally:
            stop.set()
            for thread in threads: thread.join()
        print(client.noop("parent"))
    """)
    assert out == "parent\n"


def test_more_than_there_may_be_are_refused_until_some_are_closed(agent):
    out = agent("""
        def work():
            clients = []
            with contextlib.ExitStack() as stack:
                try:
                    for _ in range(30):
                        clients.append(stack.enter_context(CloveClient()))
                except clove_sdk.Busy as error:
                    assert error.retryable and "16 connections" in str(error), error
                else:
                    return "no limit"
                try:
                    asyncio.run(AsyncCloveClient().connect())
                except clove_sdk.Busy as error:
                    assert "16 connections" in str(error), error
                else:
                    return "no limit for asyncio"
                assert len(clients) == 15 and [c.noop(1) for c in clients] == [1] * 15
                for client in clients[:5]:
                    client.disconnect()
                again = [stack.enter_context(CloveClient()) for _ in range(5)]
                return [c.noop(2) for c in again]
        with CloveClient() as client:
            print(in_child(work), client.noop("parent"))
    """)
    assert out == "[2, 2, 2, 2, 2] parent\n"


def test_an_inherited_stream_that_has_ended_is_replaced(agent):
    out = agent("""
        import socket
        client = CloveClient()
        client.connect()
        socket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_RDWR)
        try:
            client.noop(1)
        except clove_sdk.ConnectionLost as error:
            print("lost")
        client.connect()
        async def main():
            async with AsyncCloveClient() as other:
                return await other.noop("async")
        print(client.noop("again"), asyncio.run(main()))
    """)
    assert out == "lost\nagain async\n"


def test_rights_are_the_agents(agent, request):
    out = agent("""
        client = CloveClient()
        def work():
            try:
                return client.list_agents() and client.spawn("x", argv=["true"], sandboxed=False).profile
            except clove_sdk.SyscallError as error:
                return type(error).__name__
        here = work()
        with contextlib.suppress(clove_sdk.CloveError):
            client.kill("x")
        print(here == in_child(work), in_child(lambda: client.agent_id or client.hello().agent_id) == str(client.agent_id))
    """)
    assert out == "True True\n"


def test_a_door_that_is_none(monkeypatch):
    reader, writer = os.pipe()
    stream, other = socket.socketpair()
    for number in (reader, stream.fileno(), 987654):
        monkeypatch.setenv("CLOVE_DOOR", str(number))
        with pytest.raises(clove_sdk.ConnectionError, match="pass_fds"):
            CloveClient().connect()
    monkeypatch.setenv("CLOVE_DOOR", "four")
    with pytest.raises(clove_sdk.ValidationError, match="CLOVE_DOOR"):
        CloveClient()
    for fd in (reader, writer):
        os.close(fd)
    stream.close()
    other.close()


@pytest.fixture
def door(monkeypatch):
    """The other end of a door that the test keeps itself."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setenv("CLOVE_DOOR", str(theirs.fileno()))
    with ours, theirs:
        yield ours, theirs


def open_files():
    return len(os.listdir("/proc/self/fd"))


def connect(kind):
    if kind == "sync":
        CloveClient(timeout=0.3).connect()
    else:
        asyncio.run(clove_sdk.AsyncCloveClient(timeout=0.3).connect())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_door_that_does_not_answer(door, kind):
    before = open_files()
    with pytest.raises(clove_sdk.TimeoutError, match="did not answer"):
        connect(kind)
    # Nor takes requests: what waits in it fills it.
    door[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            door[1].send(bytes(16))
    with pytest.raises(clove_sdk.TimeoutError):
        connect(kind)
    assert open_files() == before
    door[0].close()
    with pytest.raises(clove_sdk.ConnectionLost):
        connect(kind)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "answer, error",
    [
        (None, clove_sdk.ConnectionLost),
        (struct.pack("=IiQ", 64, 11, 0), clove_sdk.Busy),
        (struct.pack("=IiQ", 64, 24, 0), clove_sdk.ConnectionError),
        (struct.pack("=IiQ", 64, 0, 0), clove_sdk.ConnectionError),
        (b"?", clove_sdk.ConnectionError),
    ],
)
def test_what_a_door_answers(door, kind, answer, error):
    before = open_files()

    def keep():
        _, fds, _, _ = socket.recv_fds(door[0], 64, 4)
        with socket.socket(fileno=fds[0]) as asker:
            if answer:
                asker.send(answer)

    keeper = threading.Thread(target=keep)
    keeper.start()
    with pytest.raises(error):
        connect(kind)
    keeper.join()
    assert open_files() == before
