# SPDX-License-Identifier: MIT
"""The command line, the environment and the configuration file."""

import os
import re

import pytest

import kernel as kernels

SETTINGS = ["socket", "socket-mode", "no-sandbox", "log-level", "cores", "io", "data-dir", "sdk-dir", "require-limits",
            "box-commands", "cgroup", "config"]


def test_help_shows_every_option_and_an_example():
    done = kernels.run("--help")
    assert done.returncode == 0 and done.stderr == ""
    for name in SETTINGS:
        assert re.search(rf"^  --{name}\b", done.stdout, re.MULTILINE), name
    example = done.stdout.partition("Example:")[2]
    assert "clove_kernel --socket" in example


def test_version():
    done = kernels.run("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"clove_kernel \d+\.\d+\.\d+\n", done.stdout)


def test_the_version_is_the_one_of_hello(start_kernel):
    version = start_kernel().client().call("HELLO", 1, 1)["version"]
    assert kernels.run("--version").stdout == f"clove_kernel {version}\n"


def complaint(directory, *options, env=None) -> str:
    """What a kernel with wrong settings says on stderr, having started nothing."""
    socket_path = directory / "unused.sock"
    places = ["--socket", str(socket_path), "--data-dir", str(directory / "unused")]
    done = kernels.run(*places, *options, env=env)
    assert done.returncode == 2
    assert done.stdout == ""
    assert not socket_path.exists()
    return done.stderr


@pytest.mark.parametrize("option", ["--no-such-option", "-x", "--core-count=2"])
def test_an_unknown_option_is_refused_by_name(directory, option):
    message = complaint(directory, option)
    assert option.lstrip("-").partition("=")[0] in message
    assert "--help" in message


@pytest.mark.parametrize("option", ["--cores", "--socket", "--data-dir", "--io", "--log-level", "--config"])
def test_an_option_without_its_value_is_refused_by_name(directory, option):
    message = complaint(directory, option)
    assert option in message and "--help" in message


def test_a_word_that_is_no_option_is_refused(directory):
    message = complaint(directory, "start")
    assert '"start"' in message and "--help" in message


BAD_VALUES = [
    ("cores", "0", "1 to 16"),
    ("cores", "17", "1 to 16"),
    ("cores", "-1", "1 to 16"),
    ("cores", "two", "1 to 16"),
    ("cores", "2x", "1 to 16"),
    ("cores", "", "1 to 16"),
    ("cores", "99999999999999999999", "1 to 16"),
    ("io", "select", "epoll"),
    ("io", "", "epoll"),
    ("log-level", "loud", "debug, info, warn or error"),
    ("log-level", "Info", "debug, info, warn or error"),
    ("socket", "", "path"),
    ("data-dir", "", "path"),
]


def test_h_is_help():
    assert kernels.run("-h").stdout == kernels.run("--help").stdout


@pytest.mark.parametrize("name, value, wanted", BAD_VALUES)
def test_a_bad_value_is_refused_wherever_it_comes_from(directory, name, value, wanted):
    message = complaint(directory, f"--{name}", value)
    assert f"--{name}: " in message and f'"{value}"' in message and wanted in message

    variable = "CLOVE_" + name.upper().replace("-", "_")
    message = complaint(directory, env={variable: value})
    assert variable in message and f'"{value}"' in message and wanted in message

    if value:
        key = name.replace("-", "_")
        file = directory / "bad.ini"
        file.write_text(f"; a comment\n[core]\n{key} = {value}\n")
        message = complaint(directory, "--config", str(file))
        assert f"{file}:3:" in message and key in message and wanted in message


@pytest.mark.parametrize("value", ["maybe", "1", "true", ""])
@pytest.mark.parametrize("name", ["SANDBOX", "REQUIRE_LIMITS", "BOX_COMMANDS"])
def test_a_bad_switch_is_refused(directory, name, value):
    message = complaint(directory, env={f"CLOVE_{name}": value})
    assert f"CLOVE_{name}" in message and "yes or no" in message


@pytest.mark.parametrize("value", ["", "relative/group"])
def test_a_group_is_named_from_the_top(directory, value):
    message = complaint(directory, "--cgroup", value)
    assert "--cgroup" in message and "begins with /" in message


def test_a_group_that_is_not_there_is_said_and_limits_are_missing(start_kernel):
    kernel = start_kernel("--cgroup", "/no/such/group")
    assert set(kernel.client().call("HELLO", 1, 1)["protections"].values()) <= {"rlimit", "none"}
    assert re.search(r"layer-off layer=cgroup-memory reason=.*(no/such/group|no cgroup2)", kernel.log())


BAD_FILES = {
    "an unknown key": ("[core]\ncores = 2\nsockets = /x\n", 3, "sockets"),
    "an unknown section": ("[core]\ncores = 2\n\n[kernel]\ncores = 2\n", 5, "kernel"),
    "a key in no section": ("cores = 2\n", 1, "cores"),
    "a key of the command line": ("[core]\n# x\nlog-level = info\n", 3, "log-level"),
    "a line that is no setting": ("[core]\ncores 2\n", 2, "key = value"),
    "a section that is not closed": ("[core\ncores = 2\n", 1, "section"),
}


@pytest.mark.parametrize("text, line, name", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_mistake_in_the_file_names_its_line(directory, text, line, name):
    file = directory / "bad.ini"
    file.write_text(text)
    message = complaint(directory, "--config", str(file))
    assert f"{file}:{line}:" in message and name in message
    assert f"{file}:{line}:" in complaint(directory, env={"CLOVE_CONFIG": str(file)})


def test_a_file_that_cannot_be_read_is_refused(directory):
    message = complaint(directory, "--config", str(directory / "missing.ini"))
    assert "missing.ini" in message and "No such file" in message


def test_settings_from_the_file(directory):
    file = directory / "clove.ini"
    file.write_text("# comment\n[core]\ncores = 2 ; two\nio=epoll\nlog_level = debug\n[sandbox]\nenabled = no\n")
    kernel = kernels.Kernel(directory, ["--config", str(file)])
    try:
        client = kernel.client()
        stats = client.stats()
        assert len(stats["cores"]) == 2 and stats["io"] == "epoll"
        assert client.call("HELLO", 1, 1, "test name")["sandbox"] is False
        assert 'client="test name"' in kernel.log()
    finally:
        kernel.stop()


def cores_of(directory, *options, env=None) -> int:
    kernel = kernels.Kernel(directory, options, env=env)
    try:
        return len(kernel.client().stats()["cores"])
    finally:
        kernel.stop()


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(directory):
    file = directory / "clove.ini"
    file.write_text("[core]\ncores = 2\n")
    from_file = ["--config", str(file)]
    assert cores_of(directory, *from_file) == 2
    assert cores_of(directory, env={"CLOVE_CONFIG": str(file)}) == 2
    assert cores_of(directory, *from_file, env={"CLOVE_CORES": "3"}) == 3
    assert cores_of(directory, *from_file, "--cores", "4", env={"CLOVE_CORES": "3"}) == 4
    assert cores_of(directory, "--cores=4", env={"CLOVE_CORES": "3"}) == 4
    assert cores_of(directory, "--cores", "1", "--cores", "2") == 2


def test_the_command_lines_file_wins_over_the_environments(directory):
    ours, other = directory / "ours.ini", directory / "other.ini"
    ours.write_text("[core]\ncores = 2\n")
    other.write_text("[core]\nno_such_key = 1\n")
    assert cores_of(directory, "--config", str(ours), env={"CLOVE_CONFIG": str(other)}) == 2


def test_places_from_the_environment(directory):
    socket_path, data_dir = directory / "env.sock", directory / "env-data"
    env = {"CLOVE_SOCKET": str(socket_path), "CLOVE_DATA_DIR": str(data_dir), "CLOVE_LOG_LEVEL": "error"}
    # Each is told from its refusal: a kernel without --socket could otherwise not be waited for.
    data_dir.mkdir(0o777)
    data_dir.chmod(0o777)
    done = kernels.run(env=env)
    assert done.returncode == 1 and f"{data_dir}: must belong" in done.stderr
    data_dir.chmod(0o700)
    socket_path.write_text("no socket")
    done = kernels.run(env=env)
    assert done.returncode == 1 and f"{socket_path}: exists and is not a socket" in done.stderr
    assert (data_dir / "lock").exists()


def test_no_sandbox_is_an_option_and_a_setting(directory):
    def sandbox(*options, env=None):
        kernel = kernels.Kernel(directory, options, env=env)
        try:
            on = kernel.client().call("HELLO", 1, 1)["sandbox"]
            assert ("sandbox-off" in kernel.log()) is not on
            return on
        finally:
            kernel.stop()

    assert sandbox() is True
    assert sandbox("--no-sandbox") is False
    assert sandbox(env={"CLOVE_SANDBOX": "no"}) is False
    assert sandbox("--no-sandbox", env={"CLOVE_SANDBOX": "yes"}) is False


def test_the_log_level_is_kept_to(directory):
    def log(level):
        kernel = kernels.Kernel(directory, ["--log-level", level])
        kernel.client().call("HELLO", 1, 1, "test")
        kernel.stop()
        return kernel.log()

    assert " ready " in log("info") and " hello " not in log("info")
    assert " hello " in log("debug")
    assert log("error") == ""


def test_a_name_cannot_forge_a_line_of_the_log(start_kernel):
    kernel = start_kernel("--log-level", "debug")
    kernel.client().call("HELLO", 1, 1, "x\n2026 error forged \x1b[31m")
    kernel.stop()
    lines = [line for line in kernel.log().splitlines() if "forged" in line]
    assert len(lines) == 1 and " hello " in lines[0] and "\x1b" not in lines[0]


def test_every_line_of_the_log_has_one_form(start_kernel):
    kernel = start_kernel("--log-level", "debug")
    client = kernel.client()
    client.call("HELLO", 1, 1)
    client.exec(["true"])
    kernel.stop()
    for line in kernel.log().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info |warn |error) [a-z-]+ \w+=", line), line


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 1, 2)], ids=str)
def test_a_kernel_started_without_standard_descriptors_serves(start_kernel, io, directory, closed):
    """What it opens must not get their numbers: its log would be written into something else."""

    def close() -> None:
        for fd in closed:
            os.close(fd)

    kernel = start_kernel(io=io, preexec=close)
    client = kernel.client()
    assert client.exec("echo out; echo err >&2; cat")["stdout"] == b"out\n"
    client.call("WRITE", str(directory / "file"), "x")
    assert client.call("READ", str(directory / "file"))["data"] == b"x"
    client.call("SPAWN", "agent", ["true"], {"sandboxed": False})
    assert client.call("WAIT", "agent")["exit_code"] == 0
    if os.geteuid() == 0:
        for fd in closed:
            assert os.readlink(f"/proc/{kernel.pid}/fd/{fd}") == "/dev/null"
