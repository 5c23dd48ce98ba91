# SPDX-License-Identifier: MIT
"""Further connections of an agent: whose they are, how many there may be, and what comes through the door besides."""

from __future__ import annotations

import os

import pytest

import kernel as kernels
import procfs
from kernel import wait_until
from test_agents import PRELUDE, agents, left_of, logs, script  # noqa: F401
from test_users import ADA, connections

each_kind = pytest.mark.parametrize("sandboxed", [True, False], ids=["boxed", "unboxed"])

# In an agent, with nothing but Debian's msgpack. ask(): a connection, or an errno; on(sock): calls are made there.
DOOR = (
    PRELUDE
    + """
import array, time
door = socket.socket(fileno=os.dup(int(os.environ["CLOVE_DOOR"])))
first = kernel
HEAD = struct.pack("=IiQ", 64, 0, 0)
def pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
def knock(fds, data=HEAD):
    socket.send_fds(door, [data], fds)
def answer(mine):
    data, fds, _, _ = socket.recv_fds(mine, 64, 4)
    if not data: return "end"
    error = struct.unpack("=IiQ", data)[1]
    return error or socket.socket(fileno=fds[0])
def ask():
    mine, theirs = pair()
    knock([theirs.fileno()])
    theirs.close()
    return answer(mine)
def on(sock):
    global kernel
    kernel = sock
def greeted(sock):
    "None, or the code of the error that turned it away."
    on(sock)
    try:
        error, value = call(HELLO, 1, 1)
    except (BrokenPipeError, EOFError, ConnectionResetError):
        length, _, flags, id = struct.unpack("<IHHQ", read(16))
        assert (flags, id) == (3, 0)
        error, value = 2, msgpack.unpackb(read(length))
    return value[0] if error else None
def some(n):
    "Up to n that were greeted, and the codes of the others; asked again while the kernel has not taken the last."
    got, codes = [], []
    while len(got) + len(codes) < n:
        sock = ask()
        if sock == 11:
            time.sleep(0.01)
            continue
        code = greeted(sock)
        if code is None: got.append(sock)
        else: codes.append(code)
    return got, codes
def say(*words):
    print(*words, flush=True)
"""
)


@pytest.fixture
def client(kernel):
    return kernel.client()


@pytest.fixture
def start(client, script, sandboxed):  # noqa: F811
    def start(text: str, name: str = "agent", **options: object) -> None:
        client.call("SPAWN", name, script(DOOR + text), {"sandboxed": sandboxed, **options})

    return start


def said(client, text: str, name: str = "agent") -> None:
    # What an agent prints comes in pieces.
    wait_until(
        lambda: logs(client, name).count("\n") >= text.count("\n") or logs(client, name, "stderr"), f"it says {text!r}"
    )
    assert logs(client, name) == text, logs(client, name, "stderr")


def held(kernel, client) -> tuple[int, int]:
    """Descriptors of the kernel, and connections."""
    return procfs.open_files(kernel.pid), client.stats()["connections"]


def held_at_rest(kernel, client) -> tuple[int, int]:
    """The same, when what the first agent of a kernel is started with is there."""
    client.call("SPAWN", "early", ["true"], {"sandboxed": False})
    client.call("WAIT", "early")
    wait_until(lambda: not left_of(kernel), "all are reaped")
    return held(kernel, client)


@each_kind
def test_parent_and_child_call_at_the_same_time(client, start):
    start(
        "import clove_sdk\n"
        "with clove_sdk.CloveClient() as one:\n"
        "    child = os.fork()\n"
        "    for n in range(400): assert one.noop([os.getpid(), n]) == [os.getpid(), n]\n"
        "    if not child: os._exit(0)\n"
        "    assert os.wait()[1] == 0\n"
        "    say(one.noop('parent'))\n"
    )
    assert client.call("WAIT", "agent")["exit_code"] == 0, logs(client, "agent", "stderr")
    assert logs(client, "agent") == "parent\n"


@each_kind
def test_a_further_connection_is_the_agents(client, start):
    start(
        "def seen():\n"
        "    return [call(HELLO, 1, 1)[1]['agent_id'], call(LIST)[1][0], call(EXEC, 'true')[1][0], call(KILL, 'other')[1][0]]\n"
        "here = seen()\n"
        "on(ask())\n"
        "say(seen() == here, here[0] == int(os.environ['CLOVE_AGENT_ID']), here[1:])\n"
        "on(first)\n"
        "first.close()\n"
        "door.close()\n"
        "os.close(4)\n"
        "say('lives')\n"
        "time.sleep(1000)\n",
        rights=["spawn"],
    )
    said(client, "True True [6, 6, 514]\nlives\n")
    # However many there were: it runs without any.
    assert agents(client) == ["agent"]


@each_kind
def test_what_it_starts_by_a_further_connection_is_confined_as_it_is(client, start, sandboxed):
    start(
        "on(ask())\n"
        "error, child = call(SPAWN, 'child', ['sleep', '1000'], {'sandboxed': False})\n"
        "say(error, child['sandboxed'], child['parent'] == int(os.environ['CLOVE_AGENT_ID']))\n"
        "error, result = call(EXEC, 'ls /proc/self/fd | tr \"\\\\n\" \" \"; echo ${CLOVE_DOOR-none}')\n"
        "say(result['stdout'].decode().split())\n"
        "time.sleep(1000)\n"
    )
    said(client, f"0 {sandboxed} True\n['0', '1', '2', '3', 'none']\n")
    client.call("KILL", "agent")
    wait_until(lambda: agents(client) == [], "the child ended with it")


@each_kind
def test_there_are_sixteen_and_again_when_some_are_closed(kernel, client, start):
    before = held_at_rest(kernel, client)
    start(
        "got, codes = some(30)\n"
        "say(len(got), codes)\n"
        "for sock in got[:5]: sock.close()\n"
        "more = []\n"
        "while len(more) < 5: more += some(1)[0]\n"
        "for sock in got[5:] + more + [first]:\n"
        "    on(sock)\n"
        "    assert call(NOOP, 'x') == (0, 'x')\n"
        "say('again')\n"
        "time.sleep(1000)\n"
    )
    said(client, f"15 {[9] * 15}\nagain\n")
    assert client.call("INSPECT", "agent")["connections"] == 16
    assert client.call("KILL", "agent")["reason"] == "killed"
    wait_until(lambda: held(kernel, client) == before, "all have ended with it")
    wait_until(lambda: not left_of(kernel), "all are reaped")


@each_kind
@pytest.mark.parametrize("cores", [1])
def test_what_comes_through_the_door_harms_nobody(kernel, client, start, marker):
    before = held_at_rest(kernel, client)
    start(
        "reader, writer = os.pipe()\n"
        "folder = os.open('/', os.O_RDONLY)\n"
        "stream, other = socket.socketpair()\n"
        "for fds in ([], [reader], [folder], [stream.fileno()], [3], [4], [reader, writer, folder]):\n"
        "    for data in (HEAD, b'', b'short', bytes(16), b'x' * 10000): knock(fds, data)\n"
        "knock([reader] * 253)\n"  # as many as a packet may have; a user may have but so many under way
        "for i in range(50):\n"
        "    mine, theirs = pair()\n"
        "    mine.close()\n"
        "    knock([theirs.fileno()])\n"
        "mine, theirs = pair()\n"
        "for i in range(5000): knock([theirs.fileno()])\n"
        "assert call(NOOP, 'x') == (0, 'x')\n"
        "mine.close()\n"
        "sock = ask()\n"
        "while sock == 11 or greeted(sock): sock = ask()\n"
        "say('served')\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0: os._exit(0)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "mine, theirs = pair()\n"
        "while True: knock([theirs.fileno()])\n"
    )
    said(client, "served\n")
    # While it goes on with it, and on the one core that there is.
    for n in range(100):
        assert client.call("NOOP", n) == n
    assert client.exec("echo here")["stdout"] == b"here\n"
    assert client.call("KILL", "agent")["reason"] == "killed"
    wait_until(lambda: not left_of(kernel), "the init has reaped all, and is reaped")
    wait_until(lambda: held(kernel, client) == before, f"what was handed over has gone: {before}, {held(kernel, client)}")


@pytest.mark.parametrize("sandboxed", [False])
def test_a_descriptor_that_is_slow_to_close_keeps_nobody_from_ending_it(kernel, client, start):
    start(
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "held = []\n"
        "def stuck():\n"
        "    slow = socket.create_connection(listener.getsockname())\n"
        "    held.append(listener.accept()[0])\n"
        "    slow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 600))\n"
        "    slow.setblocking(False)\n"
        "    try:\n"
        "        while True: slow.send(bytes(1 << 16))\n"
        "    except BlockingIOError: pass\n"
        "    reader, writer = os.pipe()\n"
        "    if os.fork() == 0:\n"
        "        os.read(reader, 1)\n"
        "        knock([slow.fileno()])\n"
        "        os._exit(0)\n"  # which does not linger
        "    slow.close()\n"
        "    os.write(writer, b'x')\n"
        "    os.wait()\n"
        "    mine, theirs = pair()\n"
        "    knock([theirs.fileno()])\n"
        "    theirs.close()\n"
        "    mine.settimeout(0.5)\n"
        "    try: answer(mine)\n"
        "    except TimeoutError: return True\n"
        "while not stuck(): pass\n"
        "say(call(NOOP, 'stuck')[1])\n"
        "time.sleep(1000)\n"
    )
    said(client, "stuck\n")
    assert client.call("KILL", "agent")["reason"] == "killed"
    wait_until(lambda: not left_of(kernel), "all are reaped")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be several users")
@each_kind
def test_they_count_as_connections_of_its_owner(start_kernel, io, directory, script, sandboxed):  # noqa: F811
    kernel = start_kernel(io=io, cores=2, env={"CLOVE_OWNER_CONNECTIONS": "5"})
    ada = ADA.connect(kernel)
    program = script(DOOR + "got, codes = some(10)\nsay(len(got), codes)\nsys.stdin.read()\ntime.sleep(1000)\n")
    os.chmod(program, 0o755)
    ada.call("SPAWN", "agent", program, {"sandboxed": sandboxed})
    said(ada, f"4 {[9] * 6}\n")
    served, told = connections(ADA, kernel, 1)
    assert not served and "owner_connections" in told[0]
    ada.call("KILL", "agent")
    assert ada.call("WAIT", "agent")["reason"] == "killed"
    wait_until(lambda: len(connections(ADA, kernel, 4)[0]) == 4, "its connections are given back")


@each_kind
def test_each_life_has_its_own(kernel, client, start):
    start(
        "got, codes = some(3)\n"
        "say(len(got))\n"
        "sys.stdin.read()\n"
        "os._exit(1)\n",
        restart_policy="on-failure",
        max_restarts=1,
    )
    end = client.call("WAIT", "agent")
    assert (end["restarts"], logs(client, "agent")) == (1, "3\n3\n"), logs(client, "agent", "stderr")


@each_kind
def test_a_kernel_stops_with_such_connections(kernel, client, start):
    start("got, codes = some(10)\nsay(len(got))\ntime.sleep(1000)\n")
    said(client, "10\n")
    kernel.terminate()
    assert kernel.wait() == 0


@each_kind
def test_the_command_line_works_in_a_subprocess_of_an_agent(kernel, client, start, sandboxed):
    if kernels.is_sanitized():
        pytest.skip("the command line is sanitized, too: its address space is beyond an agent's limit")
    binary = kernels.binary().parent / "clove"
    start(
        "import subprocess\n"
        f"binary = {str(binary)!r}\n"
        "for fds in ([4], [3, 4], [3]):\n"
        "    done = subprocess.run([binary, 'ping'], pass_fds=fds, capture_output=True, text=True)\n"
        "    say(done.returncode, 'CLOVE_DOOR' in done.stderr, done.stderr)\n"
        "assert call(NOOP, 'x') == (0, 'x')\n",
        **({"ro": [str(binary)]} if sandboxed else {}),
    )
    client.call("WAIT", "agent")
    assert logs(client, "agent").startswith("0 False \n0 False \n1 True "), logs(client, "agent") + logs(client, "agent", "stderr")
