# SPDX-License-Identifier: MIT
"""EXEC: what a command gets, and what its caller learns of it."""

import hashlib
import os
import pwd
import resource
import signal

import pytest

from wire import Refused

ME = pwd.getpwuid(os.geteuid())
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_the_result_of_a_command(client):
    result = client.exec("printf out; printf err >&2; exit 3")
    duration = result.pop("duration_ms")
    assert isinstance(duration, float) and duration > 0
    assert result == {
        "exit_code": 3,
        "signal": 0,
        "timed_out": False,
        "stdout": b"out",
        "stderr": b"err",
        "stdout_bytes": 3,
        "stderr_bytes": 3,
        "truncated": False,
    }


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_the_exit_code_is_the_commands(client, code):
    assert client.exec(f"exit {code}")["exit_code"] == code


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "INT"])
def test_a_command_ended_by_a_signal_names_it(client, name):
    result = client.exec(f"ulimit -c 0; kill -{name} $$")
    assert result["signal"] == signal.Signals[f"SIG{name}"]
    assert result["exit_code"] == -1
    assert result["timed_out"] is False


def test_a_string_is_for_the_shell_and_an_array_is_not(client):
    assert client.exec("echo $((6 * 7)) | tr 4 5")["stdout"] == b"52\n"
    assert client.exec(["echo", "$((6 * 7))", "|", "a  b"])["stdout"] == b"$((6 * 7)) | a  b\n"
    assert client.exec(b"echo bytes")["stdout"] == b"bytes\n"
    assert client.exec([b"printf", b"%s", b"\xff\xfe"])["stdout"] == b"\xff\xfe"
    assert client.exec("")["exit_code"] == 0
    assert client.exec(["printf", "%s.", "", "x", ""])["stdout"] == b".x.."


def test_a_program_is_looked_up_in_the_path_of_its_environment(client, directory):
    program = directory / "my-program"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    assert client.exec(["my-program"], env={"PATH": f"/nowhere:{directory}"})["stdout"] == b"found\n"
    assert client.exec([str(program)])["stdout"] == b"found\n"
    assert client.exec(["./my-program"], cwd=str(directory))["stdout"] == b"found\n"
    assert client.refused("EXEC", ["my-program"]).code == "EXEC_FAILED"


def assert_exec_failed(error: Refused, step: str, number: int) -> None:
    assert error.code == "EXEC_FAILED"
    assert error.detail == {"step": step, "errno": number}
    assert step in error.message and os.strerror(number) in error.message


def test_a_command_that_cannot_be_run_says_at_which_step(client, directory):
    plain = directory / "plain"
    plain.write_text("no program")
    broken = directory / "broken"
    broken.write_bytes(b"\x00\x01\x02")
    broken.chmod(0o755)
    assert_exec_failed(client.refused("EXEC", ["/no/such/program"]), "exec", 2)
    assert_exec_failed(client.refused("EXEC", ["no-such-program-anywhere"]), "exec", 2)
    assert_exec_failed(client.refused("EXEC", [str(plain)]), "exec", 13)
    assert_exec_failed(client.refused("EXEC", [str(directory)]), "exec", 13)
    assert_exec_failed(client.refused("EXEC", [str(broken)]), "exec", 8)
    assert_exec_failed(client.refused("EXEC", ["true"], {"cwd": "/no/such/directory"}), "cwd", 2)
    assert '"/no/such/directory"' in client.refused("EXEC", ["true"], {"cwd": "/no/such/directory"}).message
    assert '"/no/such/program"' in client.refused("EXEC", ["/no/such/program"]).message
    assert client.refused("EXEC", [b"/no/\x1b\xff"]).message.count('"/no/??"') == 1
    assert_exec_failed(client.refused("EXEC", ["true"], {"cwd": str(plain)}), "cwd", 20)
    client.assert_alive()


def test_a_shell_that_does_not_find_a_program_answers_itself(client):
    result = client.exec("no-such-program-anywhere")
    assert result["exit_code"] == 127 and b"not found" in result["stderr"]


def test_the_working_directory(client, directory):
    assert client.exec(["pwd", "-P"])["stdout"].decode() == os.path.realpath(ME.pw_dir) + "\n"
    assert client.exec("pwd -P", cwd=str(directory))["stdout"].decode() == f"{directory}\n"
    assert client.exec("pwd -P", cwd=None)["stdout"].decode() == os.path.realpath(ME.pw_dir) + "\n"


def env_of(client, **options) -> dict[str, str]:
    output = client.exec(["env", "-0"], **options)["stdout"].decode("utf-8", "surrogateescape")
    return dict(entry.split("=", 1) for entry in output.split("\0") if entry)


BASE = {
    "HOME": ME.pw_dir,
    "USER": ME.pw_name,
    "LOGNAME": ME.pw_name,
    "PATH": PATH,
    "LANG": "C.UTF-8",
}


def test_the_environment_is_the_base_and_no_more(start_kernel, io):
    kernel = start_kernel(io=io, env={"SECRET": "of the kernel", "GEMINI_API_KEY": "secret"})
    assert env_of(kernel.client()) == BASE


def test_the_environment_is_added_to(client):
    extra = {"A": "1", "EMPTY": "", "SPACE": " a = b ", "UNICODE": "grün", "HOME": "/elsewhere"}
    assert env_of(client, env=extra) == {**BASE, **extra}
    assert client.exec("echo $A", env={"A": b"bytes"})["stdout"] == b"bytes\n"
    assert env_of(client, env={}) == BASE


@pytest.mark.parametrize("kind", ["str", "bin"])
def test_a_mebibyte_of_input_arrives(client, kind):
    if kind == "str":
        data = "ä" * (1 << 19)
        raw = data.encode()
    else:
        data = raw = hashlib.shake_128(b"input").digest(1 << 20)
    assert len(raw) == 1 << 20
    # Beside the input there is room for little else in a frame.
    result = client.exec(["sha256sum"], stdin=data)
    assert result["stdout"].split()[0].decode() == hashlib.sha256(raw).hexdigest()


def test_input_need_not_be_read_and_none_is_an_empty_one(client):
    assert client.exec(["true"], stdin=b"x" * 500_000)["exit_code"] == 0
    assert client.exec(["cat"], stdin="")["stdout"] == b""
    assert client.exec(["cat"])["stdout"] == b""
    assert client.exec("head -n1; head -n1", stdin="a\nb\n")["stdout"].startswith(b"a\n")


def test_a_command_has_only_its_three_descriptors(client):
    # The fourth is of the directory that ls reads.
    assert client.exec(["ls", "/proc/self/fd"])["stdout"].split() == [b"0", b"1", b"2", b"3"]
    assert client.exec(["ls", "/proc/self/fd"], stdin="x")["stdout"].split() == [b"0", b"1", b"2", b"3"]


def test_a_command_starts_with_no_signal_blocked_or_ignored(client):
    status = client.exec(["cat", "/proc/self/status"])["stdout"].decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert int(fields["SigBlk"], 16) == 0
    assert int(fields["SigIgn"], 16) == 0


def test_a_command_is_its_users_and_the_kernels_child(kernel, client):
    assert client.exec("echo $PPID")["stdout"].decode() == f"{kernel.pid}\n"
    assert client.exec(["id", "-u"])["stdout"].decode() == f"{os.geteuid()}\n"
    groups = sorted(set(os.getgrouplist(ME.pw_name, ME.pw_gid)))
    if os.geteuid() == 0:  # without root a process keeps the groups it has
        got = client.exec(["id", "-G"])["stdout"].split()
        assert sorted(map(int, got)) == groups
    assert client.exec("umask")["stdout"] == b"0022\n"


def test_a_command_leads_a_session_of_its_own(client):
    """Which is what lets the whole process group be killed."""
    pid, group, session = client.exec("cut -d' ' -f1,5,6 /proc/$$/stat")["stdout"].split()
    assert pid == group == session


def test_a_command_gets_the_limits_that_the_kernel_was_given(start_kernel, io):
    def lower() -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (777, hard))

    kernel = start_kernel(io=io, preexec=lower)
    assert kernel.client().exec("ulimit -Sn")["stdout"] == b"777\n"


def test_commands_of_one_connection_run_side_by_side(client, directory):
    """Each waits for a file that the other makes."""
    here = {"cwd": str(directory)}
    script = "touch {0}; while ! test -e {1}; do sleep 0.01; done; echo {0}"
    first = client.send("EXEC", script.format("a", "b"), here)
    second = client.send("EXEC", script.format("b", "a"), here)
    assert client.wait(second)["stdout"] == b"b\n"
    assert client.wait(first)["stdout"] == b"a\n"


def test_requests_are_answered_while_a_command_runs(client, directory):
    go = directory / "go"
    running = client.send("EXEC", f"while ! test -e {go}; do sleep 0.01; done; echo done")
    for i in range(50):
        assert client.call("NOOP", i) == i
    go.touch()
    assert client.wait(running)["stdout"] == b"done\n"


WRONG = {
    "an option that does not exist": ({"timeout": 5}, "timeout"),
    "a misspelt option": ({"cwd": "/", "Env": {}}, "Env"),
    "an option that is no string": ({1: 2}, "option"),
    "cwd of another type": ({"cwd": 5}, "cwd"),
    "cwd that is relative": ({"cwd": "tmp"}, "cwd"),
    "cwd that is empty": ({"cwd": ""}, "cwd"),
    "cwd with NUL": ({"cwd": "/tmp\0/x"}, "cwd"),
    "cwd too long": ({"cwd": "/" + "x" * 4095}, "cwd"),
    "env of another type": ({"env": ["A=b"]}, "env"),
    "env with a name that is no string": ({"env": {1: "x"}}, "env"),
    "env with a value that is no string": ({"env": {"A": 1}}, "env"),
    "env with an empty name": ({"env": {"": "x"}}, "env"),
    "env with = in a name": ({"env": {"A=B": "x"}}, "env"),
    "env with NUL in a name": ({"env": {"A\0": "x"}}, "env"),
    "env with NUL in a value": ({"env": {"A": "x\0y"}}, "env"),
    "env with too many": ({"env": {f"V{i}": "" for i in range(1025)}}, "env"),
    "stdin of another type": ({"stdin": 5}, "stdin"),
    "stdin over a mebibyte": ({"stdin": bytes((1 << 20) + 1)}, "stdin"),
    "timeout_ms of another type": ({"timeout_ms": "5"}, "timeout_ms"),
    "timeout_ms that is a float": ({"timeout_ms": 5.0}, "timeout_ms"),
    "timeout_ms below zero": ({"timeout_ms": -1}, "timeout_ms"),
    "timeout_ms above a year": ({"timeout_ms": 2**63}, "timeout_ms"),
    "output_max of another type": ({"output_max": True}, "output_max"),
    "output_max below zero": ({"output_max": -1}, "output_max"),
    "output_max above the limit": ({"output_max": (512 << 10) + 1}, "output_max"),
}


@pytest.mark.parametrize("options, name", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_option_is_refused_by_name(client, options, name):
    error = client.refused("EXEC", ["true"], options)
    assert error.code == "INVALID_ARGUMENT"
    assert name in error.message
    client.assert_alive()


WRONG_COMMANDS = {
    "an empty array": [],
    "an empty program": ["", "x"],
    "an element that is no string": ["echo", 1],
    "an element that is an array": ["echo", ["x"]],
    "NUL in an element": ["echo", "a\0b"],
    "NUL in a string": "echo a\0b",
    "NUL in bytes": b"\0",
    "too many elements": ["echo"] + ["x"] * 1024,
}


@pytest.mark.parametrize("command", WRONG_COMMANDS.values(), ids=WRONG_COMMANDS.keys())
def test_a_wrong_command_is_refused(client, command):
    error = client.refused("EXEC", command)
    assert error.code == "INVALID_ARGUMENT"
    assert "command" in error.message
    client.assert_alive()


def test_an_option_that_is_nil_counts_as_absent(client):
    options = dict.fromkeys(["cwd", "env", "stdin", "timeout_ms", "output_max"])
    assert client.exec(["echo", "x"], **options)["stdout"] == b"x\n"
    assert client.call("EXEC", ["echo", "x"], None)["stdout"] == b"x\n"
