# SPDX-License-Identifier: MIT
"""The command line, clove, against a real kernel; and against one that lies."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kernel as kernels
import procfs
from kernel import wait_until
from wire import CALLS, FLAGS, HEADER, HEADER_BYTES, LIST_MAX, ROOT, Client, pack

CLOVE = kernels.binary().with_name("clove")
COMMANDS = ["run", "ps", "logs", "kill", "rm", "pause", "resume", "wait", "inspect", "ping"]

Word = str | bytes
_DEFECT = re.compile(rb"Sanitizer|runtime error:")


class Ended:
    """How a command ended. Its stderr is checked for defects, whatever the test is about."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code, self.bytes = code, out
        self.err = err.decode(errors="replace")
        assert not _DEFECT.search(err), self.err

    @property
    def out(self) -> str:
        return self.bytes.decode()

    def json(self) -> object:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit status {self.code}\n{self.bytes!r}\n{self.err}"


def clove(*words: Word, env: dict[str, str] | None = None, stdin: bytes = b"", cwd: Path | None = None) -> Ended:
    done = subprocess.run(
        [str(CLOVE), *words],
        env=kernels.environment(env),
        input=stdin,
        capture_output=True,
        cwd=cwd,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class Cli:
    """clove with the socket of a kernel."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *words: Word, **kwargs: object) -> Ended:
        return clove("--socket", str(self.path), *words, **kwargs)

    def start(self, *words: Word, **kwargs: object) -> subprocess.Popen[bytes]:
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
        command = [str(CLOVE), "--socket", str(self.path), *words]
        return subprocess.Popen(command, env=kernels.environment(), **settings)


@pytest.fixture
def cli(kernel: kernels.Kernel) -> Cli:
    return Cli(kernel.socket_path)


def finish(process: subprocess.Popen[bytes], timeout: float = 30) -> Ended:
    out, err = process.communicate(timeout=timeout)
    return Ended(process.returncode, out or b"", err or b"")


def read_until(stream: object, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        byte = stream.read(1)
        assert byte, f"it ended after {data!r}"
        data += byte
    return data


def names(client: Client) -> list[str]:
    return [agent["name"] for agent in client.call("LIST")]


def spawn(client: Client, name: str, *command: str) -> dict:
    return client.call("SPAWN", name, list(command) or ["sleep", "1000"], {"profile": "none"})


def states(client: Client) -> dict[str, str]:
    return {agent["name"]: agent["state"] for agent in client.call("LIST")}


@pytest.fixture
def script(directory: Path) -> Callable[[str], str]:
    def write(text: str, name: str = "agent.py") -> str:
        path = directory / name
        path.write_text(text)
        return str(path)

    return write


# ---- ping ----


def test_ping_says_what_answers(kernel, cli, io):
    pong = cli("ping")
    assert pong.code == 0 and not pong.err
    lines = dict(line.split(None, 1) for line in pong.out.splitlines())
    assert lines["socket"] == str(kernel.socket_path) and lines["pid"] == str(kernel.pid)
    assert lines["io"] == io and lines["sandbox"] == "on"
    hello = kernel.client().call("HELLO", 1, 1)
    assert lines["kernel"] == f"{hello['version']}, protocol 1" and lines["epoch"] == str(hello["epoch"])
    told = cli("ping", "--format", "json").json()
    assert told["hello"]["epoch"] == hello["epoch"] and told["hello"]["features"] == hello["features"]
    assert told["pid"] == kernel.pid and told["round_trip_us"] > 0


def test_ping_says_that_nothing_is_confined(start_kernel):
    pong = Cli(start_kernel("--no-sandbox").socket_path)("ping")
    assert "sandbox     off" in pong.out


# ---- no kernel ----


def line_for(command: str) -> list[str]:
    """A line that is complete as far as the kernel matters."""
    return [command, *([] if command in ("ps", "ping") else ["someone"])]


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_kernel_it_says_how_to_start_one(directory, command):
    path = directory / "none.sock"
    ended = clove("--socket", str(path), *line_for(command))
    assert ended.code == (125 if command in ("run", "wait") else 1)
    assert f"clove_kernel --socket {path}" in ended.err and "CLOVE_SOCKET" in ended.err and not ended.bytes
    assert ended.err.count("\n") == 1
    by_environment = clove(*line_for(command), env={"CLOVE_SOCKET": str(path)})
    assert (by_environment.code, by_environment.err) == (ended.code, ended.err)
    behind = clove(command, "--socket", str(path), *line_for(command)[1:])
    assert (behind.code, behind.err) == (ended.code, ended.err)


def test_a_socket_that_is_none(directory):
    (directory / "file").write_text("x")
    assert "no kernel listens" in clove("--socket", str(directory / "file"), "ps").err
    assert "too long" in clove("--socket", "/tmp/" + "x" * 200, "ps").err
    assert "CLOVE_FD" in clove("ps", env={"CLOVE_FD": "77"}).err


def test_a_kernel_that_stands_still_is_given_up(kernel, cli):
    with kernel.frozen():
        for command in COMMANDS:
            ended = cli("--timeout", "100ms", *line_for(command))
            assert ended.code in (1, 125) and "no answer in time" in ended.err, (command, ended)


# ---- ps ----


def test_ps_lists_agents(kernel, cli):
    title = "ID  NAME  STATE  PID  OWNER  UPTIME  PROFILE  SANDBOXED  RESTARTS"
    assert cli("ps").out == title + "\n"
    assert cli("ps", "-q").out == "" and cli("ps", "--format", "json").json() == []
    client = kernel.client()
    spawned = spawn(client, "first")
    client.call("SPAWN", "a-longer-name", ["false"], {"profile": "none", "restart_policy": "always"})
    wait_until(lambda: states(client)["a-longer-name"] == "crashed", "it waits for its restart")
    table = cli("ps").out.splitlines()
    rows = {line.split()[1]: line for line in table}
    assert len({rows["NAME"].index("STATE"), rows["first"].index("running")}) == 1 and len(table) == 3
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    first = rows["first"].split()
    assert first[:5] == [str(spawned["agent_id"]), "first", "running", str(spawned["pid"]), user]
    assert re.fullmatch(r"\d+s", first[5]) and first[6:] == ["none", "no", "0"]
    wait_until(lambda: re.search(r"a-longer-name  crashed  -  .* [1-9]$", cli("ps").out, re.M), "it was restarted")
    told = {agent["id"]: agent for agent in client.call("LIST")}
    assert sorted(cli("ps", "--quiet").out.split()) == sorted(map(str, told))
    listed = {agent["id"]: agent for agent in cli("ps", "--format", "json").json()}
    now = {"uptime_ms": 0, "calls": 0}
    assert listed[spawned["agent_id"]] | now == told[spawned["agent_id"]] | now
    assert listed.keys() == told.keys() and len({tuple(agent) for agent in [*listed.values(), *told.values()]}) == 1


def test_ps_lists_clients_over_many_pages(kernel, cli):
    count = 2 * LIST_MAX + 10
    client = kernel.client()
    others = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    for other in others:
        other.connect(str(kernel.socket_path))
    client.assert_alive()
    # Accepted is not yet arrived at its core.
    arrived = lambda: sum(core["connections"] for core in client.call("STATS")["cores"])  # noqa: E731
    wait_until(lambda: arrived() >= count, "all are in")
    ids = cli("ps", "-aq").out.split()
    assert len(set(ids)) == len(ids) >= count + 1
    listed = cli("ps", "--all", "--format", "json").json()
    assert len({agent["id"] for agent in listed} & {int(id) for id in ids}) >= count + 1
    table = cli("ps", "-a").out.splitlines()
    assert len(table) >= count + 2 and table[0].endswith("  KIND")
    assert all(line.endswith("  external") for line in table[1:])
    for other in others:
        other.close()


# ---- run ----


@pytest.mark.parametrize(
    "command, status",
    [("exit 0", 0), ("exit 7", 7), ("kill -SEGV $$", 128 + 11), ("kill -KILL $$", 128 + 9)],
)
def test_run_ends_as_the_agent_does(cli, command, status):
    ended = cli("run", "sh", "-c", f"echo out; echo err >&2; {command}")
    assert ended.code == status and ended.out == "out\n"
    assert "\nerr\n" in "\n" + ended.err
    assert ("SIGSEGV" in ended.err) == (status == 139) and ("SIGKILL" in ended.err) == (status == 137)


def test_run_passes_a_script_its_arguments(kernel, cli, script, directory):
    path = script("import sys\nprint(sys.argv[1:])\n")
    ended = cli("run", Path(path).name, "--flag", "-q", "--", "--help", cwd=directory)
    assert ended.code == 0, ended
    assert ended.out == "['--flag', '-q', '--', '--help']\n"
    assert cli("run", "--", path, "-x").out == "['-x']\n"
    plain = script("echo $0 $1\n", "plain")
    assert cli("run", "--interpreter", "/bin/sh", plain, "--flag").out.endswith("/plain --flag\n")
    assert names(kernel.client()) == []


def test_run_passes_any_bytes(cli):
    words = [b"\xff\xfe", b"a b", b"", b"\x1b[31m\n", "grün".encode()]
    ended = cli("run", "printf", r"%s\0", *words)
    assert ended.bytes == b"".join(word + b"\0" for word in words)


def test_run_hands_on_what_it_is_given(kernel, cli):
    options = ["-e", "ONE=1=1", "--env=TWO", "--env", "TWO=second", "-e", "HERE"]
    command = ["sh", "-c", 'echo "$ONE|$TWO|$HERE"; cat']
    ended = cli("run", *options, "-i", *command, env={"HERE": "here", "TWO": "first"}, stdin=b"in\xff\0put")
    assert ended.bytes == b"1=1|second|here\nin\xff\0put", ended
    assert cli("run", *options[:5], "env", env={"TWO": "first"}).out.count("TWO=") == 1
    assert cli("run", *options[:5], "env").out.count("TWO=") == 1
    assert cli("run", "cat", stdin=b"not handed on").bytes == b""
    whole = b"x" * (1 << 20)
    assert cli("run", "-i", "wc", "-c", stdin=whole[:1_000_000]).out.strip() == "1000000"
    too_much = cli("run", "-i", "wc", "-c", stdin=whole + b"x")
    assert too_much.code == 125 and "standard input has more than 1 MiB" in too_much.err


def test_run_limits(kernel, cli):
    options = ["--memory", "256M", "--cpus", "0.5", "--pids", "99", "--restart", "on-failure:3", "--timeout", "10m"]
    started = cli("run", "-d", "--name", "limited", *options, "sleep", "1000")
    assert started.code == 0, started
    seen = kernel.client().call("INSPECT", "limited")
    assert started.out == f"{seen['id']}\n"
    assert seen["limits"] == {"memory": 256 << 20, "cpu_quota": 50000, "max_pids": 99, "io_read": 0, "io_write": 0}
    assert seen["restart_policy"] == "on-failure"
    for warning in seen["warnings"]:
        assert f"clove run: warning: {warning}\n" in started.err


def test_run_ends_what_takes_too_long(cli):
    ended = cli("run", "--timeout", "100ms", "sleep", "1000")
    assert ended.code == 124 and "--timeout" in ended.err


def test_run_shares_paths(cli, directory):
    (directory / "shared").mkdir()
    (directory / "shared" / "in").write_text("given")
    (directory / "shared").chmod(0o777)
    command = ["sh", "-c", f"cat {directory}/shared/in; echo x > {directory}/shared/out"]
    ended = cli("run", "--ro", "shared", *command, cwd=directory)
    assert ended.out == "given" and ended.code != 0 and not (directory / "shared" / "out").exists()
    ended = cli("run", "--rw", f"{directory}/shared", *command)
    assert ended.code == 0 and (directory / "shared" / "out").read_text() == "x\n"
    missing = cli("run", "--ro", "not-there", "true", cwd=directory)
    assert missing.code == 125 and "--ro not-there: No such file" in missing.err


def test_run_restarts(cli, directory):
    count = directory / "count"
    ended = cli("run", "--profile", "none", "--restart", "on-failure:1", "sh", "-c", f"echo life; echo >> {count}; exit 5")
    assert ended.code == 5 and ended.out == "life\nlife\n" and count.read_text() == "\n\n"


def test_run_tells_what_could_not_be_started(kernel, cli, directory):
    absent = cli("run", "no-such-program")
    assert absent.code == 127 and "no-such-program" in absent.err and ".py" in absent.err
    assert cli("run", "-d", "no-such-program").code == 127
    assert cli("run", "/etc/passwd").code == 126
    script = cli("run", f"{directory}/absent.py")
    assert script.code == 125 and "absent.py: No such file" in script.err and "check the path" in script.err
    spawn(kernel.client(), "held")
    taken = cli("run", "--name", "held", "true")
    assert taken.code == 125 and "NAME_TAKEN" in taken.err and "another name" in taken.err
    assert names(kernel.client()) == ["held"]


def test_run_shows_only_this_agents_output(cli):
    assert cli("run", "--name", "again", "sh", "-c", "echo first; echo one >&2").out == "first\n"
    second = cli("run", "--name", "again", "sh", "-c", "echo second; echo two >&2")
    assert second.out == "second\n" and "one" not in second.err and "two" in second.err
    assert cli("logs", "again").out == "first\nsecond\n"


def test_run_makes_up_names(kernel, cli, script):
    path = script("import time; time.sleep(1000)", "my worker.py")
    for _ in range(3):
        assert cli("run", "-d", path).code == 0
    assert cli("run", "-d", "--workdir", "/", "sleep", "1000").code == 0
    found = sorted(names(kernel.client()))
    assert len(set(found)) == 4
    assert all(re.fullmatch("myworker-[0-9a-f]{8}", name) for name in found[:3])
    assert re.fullmatch("sleep-[0-9a-f]{8}", found[3])


def test_run_brings_everything_that_is_kept(cli):
    ended = cli("run", "sh", "-c", "seq 1 50000; seq 1 50000 >&2")
    whole = "".join(f"{i}\n" for i in range(1, 50001))
    assert ended.code == 0 and ended.out == whole and ended.err.endswith(whole)


READY_AND_DEAF = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"
READY_AND_POLITE = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_agent_first(kernel, cli, number):
    process = cli.start("run", "sh", "-c", READY_AND_POLITE)
    read_until(process.stdout, b"ready\n")
    process.send_signal(number)
    ended = finish(process)
    assert ended.out == "bye\n" and ended.code == 128 + number
    assert names(kernel.client()) == []


def test_a_second_signal_ends_it_at_once(kernel, cli):
    process = cli.start("run", "--name", "deaf", "sh", "-c", READY_AND_DEAF)
    read_until(process.stdout, b"ready\n")
    process.send_signal(signal.SIGINT)
    read_until(process.stdout, b"asked\n")
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    # It was not asked again.
    assert ended.code == 130 and ended.out == ""
    assert kernel.client().call("WAIT", "deaf")["reason"] == "killed"


def test_a_third_signal_leaves_a_kernel_that_does_not_answer(kernel, cli):
    process = cli.start("run", "--name", "left", "sh", "-c", "echo ready; sleep 1000")
    read_until(process.stdout, b"ready\n")
    with kernel.frozen():
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        ended = finish(process)
    assert ended.code == 130 and "clove kill" in ended.err


def test_an_agent_whose_reader_goes_is_ended(kernel, cli):
    process = cli.start("run", "sh", "-c", "while echo line; do sleep 0.01; done")
    read_until(process.stdout, b"line\n")
    process.stdout.close()
    assert process.wait(30) == -signal.SIGPIPE
    wait_until(lambda: names(kernel.client()) == [], "the agent has ended")
    # Also when nothing more is written.
    process = cli.start("run", "sh", "-c", "echo line; sleep 1000")
    read_until(process.stdout, b"line\n")
    process.stdout.close()
    assert process.wait(30) == -signal.SIGPIPE
    assert names(kernel.client()) == []


def test_a_reader_that_stands_still_does_not_keep_anybody(kernel, cli):
    process = cli.start("run", "yes")
    wait_until(lambda: names(kernel.client()), "it runs")
    time.sleep(0.3)  # the pipe is full by now
    process.send_signal(signal.SIGINT)
    wait_until(lambda: not names(kernel.client()), "the agent has ended")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("words", [["run", "sh", "-c", "echo ready; sleep 1000"], ["logs", "-f", "someone"], ["wait", "someone"]])
def test_the_kernel_may_go_away(kernel, cli, words):
    client = kernel.client()
    spawn(client, "someone", "sh", "-c", "echo ready; sleep 1000")
    connections = client.call("STATS")["connections"]
    process = cli.start(*words)
    wait_until(lambda: client.call("STATS")["connections"] > connections, "it is connected")
    if words[0] != "wait":
        read_until(process.stdout, b"ready\n")
    kernel.kill()
    ended = finish(process)
    assert ended.code == (1 if words[0] == "logs" else 125)
    assert "the kernel has closed the connection" in ended.err and "clove_kernel --socket" in ended.err


# ---- kill, pause, resume, wait ----


def test_kill_takes_several_and_goes_on(kernel, cli):
    client = kernel.client()
    first, second = spawn(client, "first"), spawn(client, "second")
    spawn(client, "7")
    ended = cli("kill", "first", "absent", str(second["agent_id"]), "name:7")
    assert ended.code == 1 and ended.out == f"first\n{second['agent_id']}\nname:7\n"
    assert "absent" in ended.err and "AGENT_NOT_FOUND" in ended.err and "clove ps" in ended.err
    assert names(client) == []
    assert client.call("WAIT", first["agent_id"])["reason"] == "killed"
    again = cli("kill", "first")
    assert again.code == 1 and "has ended" in again.err


def test_kill_takes_more_than_it_asks_at_once(kernel, cli):
    client = kernel.client()
    for i in range(70):
        spawn(client, f"agent-{i}")
    ended = cli("kill", *cli("ps", "-q").out.split())
    assert ended.code == 0 and len(ended.out.splitlines()) == 70
    assert names(client) == []


def test_digits_are_an_id(kernel, cli):
    client = kernel.client()
    spawn(client, "5")
    assert cli("kill", "5").code == 1
    assert names(client) == ["5"]
    assert cli("kill", "99999999999999999999999").code == 1
    assert cli("kill", "name:5").code == 0


def test_kill_with_grace(kernel, cli):
    client = kernel.client()
    spawn(client, "polite", "sh", "-c", READY_AND_POLITE)
    wait_until(lambda: cli("logs", "polite").out == "ready\n", "it runs")
    assert cli("kill", "--grace", "10s", "polite").code == 0
    assert cli("logs", "polite").out == "ready\nbye\n"


@pytest.mark.parametrize("operand", [b"\xff\x1b[2J", "a b", "x" * 5000, "name:", "\u202e"])
def test_no_operand_steers_the_terminal(cli, operand):
    ended = cli("kill", operand)
    assert ended.code == 1 and "AGENT_NOT_FOUND" in ended.err
    assert "\x1b" not in ended.err and "\u202e" not in ended.err


def test_pause_and_resume(kernel, cli):
    client = kernel.client()
    spawn(client, "one")
    spawn(client, "two")
    assert cli("pause", "one", "two").out == "one\ntwo\n"
    assert states(client) == {"one": "paused", "two": "paused"}
    partly = cli("resume", "one", "absent")
    assert partly.code == 1 and partly.out == "one\n" and "absent" in partly.err
    assert states(client) == {"one": "running", "two": "paused"}


def test_rm_deletes_what_ended_agents_left(kernel, cli):
    client = kernel.client()
    spawn(client, "gone", "true")
    spawn(client, "alive")
    client.call("WAIT", "gone")
    partly = cli("rm", "alive", "gone", "absent")
    assert partly.code == 1 and partly.out == "gone\n"
    assert "kill it first" in partly.err and "absent" in partly.err
    homes = [home.name for home in (kernel.data_dir / "agents" / str(os.geteuid())).iterdir()]
    assert homes == ["alive"]


def test_wait_ends_as_the_agents_did(kernel, cli):
    client = kernel.client()
    for name, command in {"good": "exit 0", "seven": "exit 7", "killed": "kill -KILL $$", "nine": "exit 9"}.items():
        spawn(client, name, "sh", "-c", command)
    ended = cli("wait", "good", "killed", "seven", "nine")
    assert ended.out == "0\n137\n7\n9\n" and ended.code == 137 and not ended.err
    assert cli("wait", "good").code == 0
    failed = cli("wait", "seven", "absent")
    assert failed.code == 125 and failed.out == "7\n"
    told = cli("wait", "--format", "json", "good", "seven")
    assert told.code == 7
    ends = json.loads(told.out)
    assert [end["name"] for end in ends] == ["good", "seven"] and ends[1]["exit_code"] == 7


def test_wait_waits(kernel, cli):
    client = kernel.client()
    spawn(client, "slow")
    process = cli.start("wait", "slow")
    late = cli("wait", "--timeout", "100ms", "slow")
    assert late.code == 124 and "TIMEOUT" in late.err
    assert process.poll() is None
    client.call("KILL", "slow")
    ended = finish(process)
    assert ended.code == 137 and ended.out == "137\n"


# ---- logs ----


@pytest.fixture
def writer(kernel) -> str:
    client = kernel.client()
    spawn(client, "writer", "sh", "-c", r"printf 'one\ntwo\nthree\377\0\n'; printf 'err1\nerr2' >&2")
    client.call("WAIT", "writer")
    return "writer"


def test_logs_come_unchanged(cli, writer):
    both = cli("logs", writer)
    assert both.code == 0 and both.bytes == b"one\ntwo\nthree\xff\0\n" and both.err == "err1\nerr2"
    assert cli("logs", "--stdout", writer).err == ""
    assert cli("logs", "--stderr", writer).out == "err1\nerr2"
    both = cli("logs", "--stderr", "--stdout", writer)
    assert both.bytes.startswith(b"one") and both.err == "err1\nerr2"


def test_logs_begin_where_they_are_asked_to(cli, writer):
    tail = cli("logs", "--tail", "1", writer)
    assert tail.bytes == b"three\xff\0\n" and tail.err == "err2"
    assert cli("logs", "-n2", "--stdout", writer).bytes == b"two\nthree\xff\0\n"
    assert cli("logs", "--bytes", "3", writer).bytes == b"\xff\0\n"
    assert cli("logs", "--tail", "0", "-f", writer).bytes == b""
    assert cli("logs", "--bytes", "1K", writer).bytes == b"one\ntwo\nthree\xff\0\n"


def test_logs_are_followed_to_the_end(kernel, cli, directory):
    go = directory / "go"
    client = kernel.client()
    spawn(client, "slow", "sh", "-c", f"echo old; echo last; while ! [ -e {go} ]; do sleep 0.01; done; echo new; echo err >&2")
    wait_until(lambda: cli("logs", "slow").out == "old\nlast\n", "it runs")
    process = cli.start("logs", "--follow", "--tail=1", "slow")
    assert read_until(process.stdout, b"last\n") == b"last\n"
    assert process.poll() is None
    go.touch()
    ended = finish(process)
    assert ended.code == 0 and ended.out == "new\n" and ended.err == "err\n"


def test_a_large_log_is_read_whole_and_stops_there(kernel, cli):
    client = kernel.client()
    spawn(client, "large", "sh", "-c", "seq 1 400000; echo last; sleep 1000")
    wait_until(lambda: cli("logs", "--bytes", "5", "large").out == "last\n", "all is written")
    lines = cli("logs", "large").out.splitlines()
    assert lines[-1] == "last" and lines[-2] == "400000" and len(lines) > 50_000
    assert cli("logs", "--tail", "3", "large").out == "399999\n400000\nlast\n"


def test_logs_end_quietly_with_their_reader(kernel, cli):
    spawn(kernel.client(), "quiet", "sh", "-c", "echo line; sleep 1000")
    process = cli.start("logs", "-f", "quiet")
    read_until(process.stdout, b"line\n")
    process.stdout.close()  # and nothing more is written
    assert process.wait(30) == -signal.SIGPIPE
    assert process.stderr.read() == b""
    process.stderr.close()
    command = f"'{CLOVE}' --socket {cli.path} logs -f quiet | head -n 1"
    done = subprocess.run(["bash", "-c", command], env=kernels.environment(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"line\n", b"")


def on_terminal(cli: Cli, *words: str) -> bytes:
    """What a command writes when its stdout is a terminal."""
    ours, theirs = pty.openpty()
    process = cli.start(*words, stdout=theirs)
    os.close(theirs)
    data = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        data += piece
    os.close(ours)
    assert finish(process).code == 0
    return data.replace(b"\r\n", b"\n")


def test_no_output_steers_the_terminal(kernel, cli):
    text = r"\033]0;title\007\033[2Jplain \033[31mred\033[0m \342\202\254 \377\n"
    shown = rb"\x1b]0;title\x07\x1b[2Jplain " + b"\x1b[31mred\x1b[0m \xe2\x82\xac " + rb"\xff" + b"\n\x1b[0m"
    raw = b"\x1b]0;title\x07\x1b[2Jplain \x1b[31mred\x1b[0m \xe2\x82\xac \xff\n"
    spawn(kernel.client(), "evil", "printf", text)
    kernel.client().call("WAIT", "evil")
    assert on_terminal(cli, "logs", "evil") == shown
    assert on_terminal(cli, "logs", "--raw", "evil") == raw
    assert on_terminal(cli, "run", "printf", text) == shown
    assert on_terminal(cli, "run", "--raw", "printf", text) == raw
    assert cli("logs", "evil").bytes == raw


# ---- inspect ----


def test_inspect_prints_json(kernel, cli):
    client = kernel.client()
    spawn(client, "one")
    two = spawn(client, "two")
    told = cli("inspect", "one", str(two["agent_id"])).json()
    assert [agent["name"] for agent in told] == ["one", "two"]
    seen = client.call("INSPECT", "two")
    moving = {"uptime_ms": 0, "cpu_percent": 0, "memory_bytes": 0, "processes": 0}
    assert told[1] | moving == seen | moving
    partly = cli("inspect", "absent", "one")
    assert partly.code == 1 and [agent["name"] for agent in json.loads(partly.out)] == ["one"]
    assert json.loads(cli("inspect", "absent").out) == []


# ---- a kernel that lies ----


class Liar:
    """Listens as a kernel does, and answers every request with what answer(op, id) gives."""

    def __init__(self, path: Path, answer: Callable[[int, int], bytes]) -> None:
        self.path = path
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._talk(connection)
                except OSError:
                    pass

    def _talk(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        while len(head := reader.read(HEADER_BYTES)) == HEADER_BYTES:
            length, op, _, id = HEADER.unpack(head)
            reader.read(length)
            data = self._answer(op, id)
            connection.sendall(data)
            if not data:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def lie(directory: Path) -> Iterator[Callable[[Callable[[int, int], bytes]], Cli]]:
    liars: list[Liar] = []

    def start(answer: Callable[[int, int], bytes]) -> Cli:
        liars.append(Liar(directory / f"liar-{len(liars)}", answer))
        return Cli(liars[-1].path)

    yield start
    for liar in liars:
        liar.close()


def reply(value: object, flags: int = FLAGS["REPLY"], raw: bytes | None = None) -> Callable[[int, int], bytes]:
    body = pack(value) if raw is None else raw
    return lambda op, id: HEADER.pack(len(body), op, flags, id) + body


ODD_NAMES = [b"\xff\xfe", b"\x1b[2J\x07", b"a\x00b", b"new\nline", "grün €".encode(), b"\xed\xa0\x80\xe2\x80\xae", b'"\\']


def odd_agent(name: bytes) -> dict:
    text = name.decode(errors="surrogateescape")
    numbers = dict.fromkeys(["id", "pid", "uid", "uptime_ms", "incarnation"], 2**64 - 1)
    return {**numbers, "name": text, "kind": text, "state": text, "profile": text, "sandboxed": True}


def raw_agents(names: list[bytes]) -> bytes:
    """A LIST answer whose strings are those bytes; msgpack refuses to pack them."""
    import msgpack

    agents = [odd_agent(name) for name in names]
    return msgpack.packb(agents, use_bin_type=True, unicode_errors="surrogateescape")


def test_odd_bytes_make_good_json_and_a_harmless_table(lie):
    cli = lie(reply(None, raw=raw_agents(ODD_NAMES)))
    listed = cli("ps", "--format", "json").json()
    # As Python and the Unicode standard replace what is no UTF-8.
    assert [agent["name"] for agent in listed] == [name.decode(errors="replace") for name in ODD_NAMES]
    assert listed[0]["pid"] == 2**64 - 1
    table = cli("ps", "-a")
    assert table.code == 0, table
    assert not [c for c in table.out if c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c == "\u202e")]
    lines = table.out.splitlines()
    assert len(lines) == len(ODD_NAMES) + 1
    assert r"\xff\xfe" in lines[1] and r"\x1b[2J\x07" in lines[2] and "grün €" in lines[5]
    assert len({len(line[: line.index("18446744073709551615", 22)]) for line in lines[1:]}) == 1


NONSENSE = {
    "nothing": b"",
    "nil": b"\xc0",
    "a number": b"\x05",
    "an empty map": b"\x80",
    "an empty array": b"\x90",
    "a cut map": b"\x82\xa1a",
    "a lying array": b"\xdd\xff\xff\xff\xff",
    "an array of nil": b"\x91\xc0",
    "deep": b"\x91" * 5000 + b"\xc0",
    "no MessagePack": b"\xc1",
    "a key that JSON lacks": b"\x82\xa1a\x01\x90\x01",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("nonsense", NONSENSE)
def test_an_answer_that_makes_no_sense_is_refused(lie, command, nonsense):
    ended = lie(reply(None, raw=NONSENSE[nonsense]))(*line_for(command))
    if (command, nonsense) in (("ps", "an empty array"), ("rm", "nil")):
        assert ended.code == 0
    elif command == "inspect" and ended.code == 0:
        json.loads(ended.out)  # it prints whatever is well-formed
    else:
        assert ended.code in (1, 125) and "clove ping" in ended.err, ended
        assert ended.err.count("\n") == 1
        assert ended.out in ("", "[]\n")


@pytest.mark.parametrize(
    "bytes_of",
    [
        lambda op, id: b"HTTP/1.1 400 Bad Request\r\n\r\n",
        lambda op, id: HEADER.pack(100, op, FLAGS["REPLY"], id) + b"half",
        lambda op, id: HEADER.pack(2**31, op, FLAGS["REPLY"], id),
        lambda op, id: HEADER.pack(1, op, FLAGS["REPLY"], id + 1000) + b"\xc0",
        lambda op, id: b"",
    ],
    ids=["another protocol", "half a frame", "a huge frame", "an answer to somebody else", "the end"],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_bytes_that_are_no_answer_end_in_words(lie, command, bytes_of):
    told = False

    def once(op: int, id: int) -> bytes:
        nonlocal told
        told, before = True, told
        return b"" if before else bytes_of(op, id)

    ended = lie(once)("--timeout", "300ms", *line_for(command))
    assert ended.code in (1, 125) and ended.err.startswith(f"clove {command}: ") and ended.err.count("\n") == 1


def test_one_answer_is_not_taken_for_two(lie):
    answer = reply({"agent_id": 7})
    ended = lie(lambda op, id: answer(op, 1) + answer(op, 1))("kill", "one", "two")
    assert ended.code == 1 and ended.out == "one\n" and "clove ping" in ended.err


def test_a_list_without_end_is_given_up(lie):
    agents = raw_agents([b"x"] * LIST_MAX)
    ended = lie(reply(None, raw=agents))("ps", "-q")
    assert ended.code == 1 and "not understood" in ended.err and ended.out == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_is_harmless_and_says_what_to_do(lie, command):
    error = reply([514, "\x1b[31mno\nagent\u202e", {}], FLAGS["REPLY"] | FLAGS["ERROR"])
    ended = lie(error)(*line_for(command))
    assert ended.code in (1, 125)
    assert "AGENT_NOT_FOUND" in ended.err and "clove ps" in ended.err
    assert "\x1b" not in ended.err and "\u202e" not in ended.err and ended.err.count("\n") == 1


# ---- the command line itself ----

MISUSE = [
    ([], "which command"),
    (["bogus"], "no command"),
    (["--bogus", "ps"], "--bogus"),
    (["ps", "--al"], "--al"),
    (["ps", "-x"], "-x"),
    (["ps", "extra"], "one argument too many"),
    (["ps", "--format", "xml"], "table|json"),
    (["ps", "-q", "--format", "json"], "choose one"),
    (["ps", "--all=yes"], "takes no value"),
    (["ps", "--socket"], "needs a value"),
    (["kill"], "missing"),
    (["kill", "--grace", "5", "x"], "500ms, 30s or 2m"),
    (["kill", "--grace", "5y", "x"], "500ms, 30s or 2m"),
    (["kill", "--grace", "60d", "x"], "at most 24d"),
    (["--timeout", "60d", "ps"], "at most 24d"),
    (["--timeout", "-1s", "ps"], "500ms, 30s or 2m"),
    (["logs"], "missing"),
    (["logs", "a", "b"], "too many"),
    (["logs", "--tail", "-1", "a"], "whole number"),
    (["logs", "--tail", "1", "--bytes", "1", "a"], "choose one"),
    (["help", "bogus"], "no command"),
    (["help", "ps", "ps"], "one command at a time"),
    (["run"], "missing"),
    (["run", "--memory", "256Q", "x"], "256M or 1.5G"),
    (["run", "--memory", "99999999T", "x"], "out of range"),
    (["run", "--cpus", "half", "x"], "0.5 or 2"),
    (["run", "--env", "=x", "x"], "NAME=VALUE"),
    (["run", "--env", "NOT_SET_HERE", "x"], "no such variable"),
    (["run", "--restart", "always:x", "x"], "on-failure:3"),
    (["wait"], "missing"),
]


@pytest.mark.parametrize("words, text", MISUSE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_misuse_is_explained_without_a_kernel(words, text):
    ended = clove(*words, env={"CLOVE_SOCKET": "/nonexistent"})
    assert ended.code == (125 if words and words[0] in ("run", "wait") else 2)
    assert text in ended.err and ended.err.startswith("clove") and ended.err.count("\n") == 1 and not ended.bytes


KERNEL_MISUSE = [
    (["--memory", "1"], "memory must be"),
    (["--memory", "0"], "memory must be"),
    (["--cpus", "0.0001"], "cpu_quota must be"),
    (["--pids", "0"], "max_pids must be"),
    (["--profile", "weak"], "profile must be one of"),
    (["--restart", "sometimes"], "restart_policy must be one of"),
    (["--workspace", "tape"], "workspace must be one of"),
    (["--name", ""], "name must be"),
    (["--name", "a/b"], "name must be"),
    (["--workdir", "relative"], "absolute"),
]


@pytest.mark.parametrize("options, text", KERNEL_MISUSE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_the_kernel_refuses_is_told(kernel, cli, options, text):
    ended = cli("run", *options, "true")
    assert ended.code == 125 and text in ended.err and "--help" in ended.err
    assert names(kernel.client()) == []


def test_every_command_explains_itself():
    overview = clove("help")
    assert overview.code == 0 and clove("--help").out == overview.out
    for command in COMMANDS:
        assert f"\n  {command} " in overview.out
        told = clove(command, "--help")
        assert told.code == 0 and not told.err and told.out == clove("help", command).out
        assert told.out.startswith(f"Usage: clove {command} ")
        examples = told.out.partition("\nExamples:\n")[2].splitlines()
        assert examples and all(f"clove {command} " in f"{line} " for line in examples)
        assert all(len(line) <= 110 for line in told.out.splitlines())
    assert clove("run", "script.py", "--help", env={"CLOVE_SOCKET": "/nonexistent"}).code == 125


def test_the_version_is_the_kernels(kernel):
    version = kernel.client().call("HELLO", 1, 1)["version"]
    assert clove("--version").out == clove("ps", "--version").out == f"clove {version}\n"


def test_output_that_cannot_be_written_is_a_failure(kernel, cli, writer):
    for words in [["ps"], ["ping"], ["logs", writer], ["inspect", "absent"], ["help"], ["--version"]]:
        with open("/dev/full", "wb") as full:
            ended = finish(cli.start(*words, stdout=full))
        assert ended.code == 1 and "No space left" in ended.err, words
    with open("/dev/full", "wb") as full:
        ended = finish(cli.start("run", "sh", "-c", "echo x; sleep 1000", stdout=full))
    assert ended.code == 125 and "No space left" in ended.err
    assert names(kernel.client()) == []


def test_a_closed_stdout_is_not_the_connection(kernel, cli, writer):
    for words in [["ps"], ["logs", writer], ["run", "echo", "x"]]:
        ended = finish(cli.start(*words, stdout=None, preexec_fn=lambda: (os.close(0), os.close(1))))
        assert ended.code in (1, 125) and "Bad file descriptor" in ended.err, words
    kernel.client().assert_alive()


def test_it_needs_few_descriptors_and_leaves_nothing(kernel, cli):
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))

    process = cli.start("run", "true", preexec_fn=few)
    assert finish(process).code == 0
    left = [pid for pid in procfs.children(kernel.pid) if procfs.name(pid) not in ("clove-launcher", "clove-opener")]
    assert not left


def complete(cli: Cli, *words: str) -> list[str]:
    program = (
        f"source '{ROOT}/sdk/cli/clove.bash'; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _clove; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    line = [str(CLOVE), "--socket", str(cli.path), *words]
    done = subprocess.run(
        ["bash", "-c", program, "bash", *line], env=kernels.environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.stderr, done.stderr
    return done.stdout.split()


def test_bash_completes(kernel, cli):
    spawn(kernel.client(), "worker")
    assert complete(cli, "") == [*COMMANDS, "help"]
    assert complete(cli, "p") == ["ps", "pause", "ping"]
    assert complete(cli, "help", "re") == ["resume"]
    assert complete(cli, "kill", "wo") == ["worker"] and complete(cli, "logs", "x") == []
    assert complete(cli, "run", "--re") == ["--require-limits", "--restart"]
    assert complete(cli, "logs", "--f") == ["--follow"] and complete(cli, "inspect", "--f") == []
    assert "--timeout" in complete(cli, "ps", "--")
