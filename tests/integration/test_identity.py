# SPDX-License-Identifier: MIT
"""The socket, who may use it, and the directory a kernel holds."""

import os
import resource
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import kernel as kernels
import procfs
import wire
from wire import LIST_MAX

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another user")

NOBODY = 65534
OTHER = 4242


def become_other() -> None:
    os.setgroups([])
    os.setresgid(OTHER, OTHER, OTHER)
    os.setresuid(OTHER, OTHER, OTHER)


_INTRUDER = """
import os, socket, sys
os.setgroups([]); os.setgid(%d); os.setuid(%d)
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(20)
try:
    connection.connect(sys.argv[1])
    try:
        connection.sendall(bytes.fromhex(sys.argv[2]))
    except BrokenPipeError:
        pass  # closed already; the reason can be read all the same
    print("got", connection.recv(1000).hex())
except OSError as error:
    print("refused", type(error).__name__)
""" % (NOBODY, NOBODY)


def ask_as_another_user(kernel) -> str:
    """What somebody else gets who asks for a command to be run."""
    question = wire.request("EXEC", ["id"]).hex()
    done = subprocess.run(
        [sys.executable, "-c", _INTRUDER, str(kernel.socket_path), question],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def closed_kernel(start_kernel, directory, io, cores):
    """One that serves nobody but its own user and root, as every kernel not run by root does."""
    place = directory / "theirs"
    place.mkdir()
    preexec = None
    if os.geteuid() == 0:
        os.chown(place, OTHER, OTHER)
        preexec = become_other
        if subprocess.run([str(kernels.binary()), "--version"], preexec_fn=preexec, capture_output=True).returncode:
            pytest.skip("another user cannot run this kernel's file")
    return start_kernel(io=io, cores=cores, place=place, preexec=preexec)


def test_a_kernel_of_root_is_open_to_all_and_another_to_its_user(kernel, closed_kernel):
    mode = 0o666 if os.geteuid() == 0 else 0o600
    assert stat.S_IMODE(os.stat(kernel.socket_path).st_mode) == mode
    assert stat.S_IMODE(os.stat(closed_kernel.socket_path).st_mode) == 0o600


@pytest.mark.parametrize("mode", ["0600", "0660", "0666"])
def test_the_socket_has_the_mode_asked_for_whatever_the_umask(start_kernel, io, mode):
    if mode != "0600" and os.geteuid() != 0:
        pytest.skip("only a kernel of root may be open to others")
    kernel = start_kernel("--socket-mode", mode, io=io, preexec=lambda: os.umask(0))
    assert stat.S_IMODE(os.stat(kernel.socket_path).st_mode) == int(mode, 8)
    assert stat.S_IMODE(os.stat(kernel.data_dir).st_mode) == 0o700


@as_root
def test_root_can_keep_others_out(start_kernel, io):
    kernel = start_kernel("--socket-mode", "0600", io=io)
    assert ask_as_another_user(kernel) == "refused PermissionError"


@as_root
def test_another_user_cannot_connect_to_the_kernel_of_a_user(closed_kernel):
    assert ask_as_another_user(closed_kernel) == "refused PermissionError"


@as_root
def test_another_user_is_refused_even_through_an_open_socket(closed_kernel):
    bystander = closed_kernel.client()
    os.chmod(closed_kernel.socket_path, 0o666)
    for _ in range(6):  # whichever core it falls to
        got = ask_as_another_user(closed_kernel)
        assert b"root only" in bytes.fromhex(got.removeprefix("got ")), got
    bystander.assert_alive()
    kernels.wait_until(lambda: bystander.stats()["connections"] == 1, "the refused are not counted")
    assert f"uid={NOBODY}" in closed_kernel.log()


@as_root
def test_root_acts_as_the_user_of_a_users_kernel(closed_kernel):
    client = closed_kernel.client()
    assert client.call("HELLO", 1, 1)["uid"] == OTHER
    assert client.exec("id -u")["stdout"] == b"%d\n" % OTHER


@as_root
def test_a_kernel_of_a_user_cannot_be_opened_to_others(directory):
    done = subprocess.run(
        [str(kernels.binary()), "--socket", str(directory / "k.sock"), "--socket-mode", "0666"],
        preexec_fn=become_other,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2 and "--socket-mode" in done.stderr


def test_the_list_shows_clients_only_when_asked_to(kernel):
    client, other = kernel.client(), kernel.client()
    me = client.call("HELLO", 1, 1)
    them = other.call("HELLO", 1, 1)
    assert client.call("LIST") == []
    assert client.call("LIST", False) == []
    agents = {agent["id"]: agent for agent in client.call("LIST", True)}
    assert set(agents) == {me["agent_id"], them["agent_id"]}
    mine = agents[me["agent_id"]]
    assert mine["pid"] == os.getpid()
    assert mine["uid"] == os.geteuid()
    assert mine["kind"] == "external" and mine["state"] == "running"
    assert mine["core"] == me["core"]
    assert mine["calls"] == 4
    keys = "id name kind state pid uid core uptime_ms calls parent sandboxed profile incarnation protections"
    assert set(mine) == set(keys.split())
    other.close()
    kernels.wait_until(lambda: len(client.call("LIST", True)) == 1, "who has gone is not listed")


def test_the_list_goes_on_after_an_agent(kernel):
    ids = {kernel.client().call("HELLO", 1, 1)["agent_id"] for _ in range(300)}
    assert len(ids) == 300
    client = kernel.client()
    listed = [agent["id"] for agent in client.call("LIST", True)]
    assert len(listed) == len(set(listed)) == 301 and set(listed) > ids
    for at in (0, 1, 150, 299, 300):
        assert [agent["id"] for agent in client.call("LIST", True, listed[at])] == listed[at + 1 :]
    assert client.call("LIST", True, 2**32 - 1) == client.call("LIST", True, 2**64 - 1) == []


def test_a_long_list_comes_in_several_answers(kernel):
    count = LIST_MAX + 100
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2 * count:
        pytest.skip(f"{count} connections need more descriptors than RLIMIT_NOFILE allows")
    clients = [kernel.client() for _ in range(count)]
    for client in clients:
        client.assert_alive()
    first = clients[0].call("LIST", True)
    assert len(first) == LIST_MAX
    second = clients[0].call("LIST", True, first[-1]["id"])
    assert len(second) == 100
    assert len({agent["id"] for agent in first + second}) == count
    assert {agent["pid"] for agent in first + second} == {os.getpid()}


@pytest.mark.parametrize("cores", [1])
@pytest.mark.skipif(kernels.is_sanitized(), reason="a sanitizer's work is not the kernel's")
def test_a_list_costs_what_there_is_and_not_what_there_was(kernel, client):
    """By the processor time of the kernel, with room: what is to be told apart differs by a factor of hundreds."""

    def cost() -> float:
        before = procfs.cpu_seconds(kernel.pid)
        for _ in range(3000):
            assert client.call("LIST") == []
        return procfs.cpu_seconds(kernel.pid) - before

    fresh = cost()
    for _ in range(70_000):
        with socket.socket(socket.AF_UNIX) as short:
            short.connect(str(kernel.socket_path))
    client.assert_alive()
    assert cost() < 2 * fresh + 0.1


def test_an_id_is_not_given_to_the_next_client(kernel):
    seen = set()
    for _ in range(200):
        with kernel.client() as client:
            seen.add(client.call("HELLO", 1, 1)["agent_id"])
    assert len(seen) == 200


def test_a_socket_left_by_a_killed_kernel_is_taken_over(start_kernel, io):
    first = start_kernel(io=io)
    epoch = first.client().call("HELLO", 1, 1)["epoch"]
    first.kill()
    assert first.socket_path.is_socket()
    second = start_kernel(io=io)
    assert second.client().call("HELLO", 1, 1)["epoch"] != epoch
    assert "socket-taken-over" in second.log()


def refused(directory: Path, *options: str) -> str:
    """What a kernel says that does not start."""
    done = kernels.run("--data-dir", str(directory / "other-data"), *options)
    assert done.returncode == 1
    complaint = [line for line in done.stderr.splitlines() if line.startswith("clove_kernel: ")]
    assert len(complaint) == 1, done.stderr
    return complaint[0]


def test_a_live_socket_is_left_alone(kernel, directory):
    message = refused(directory, "--socket", str(kernel.socket_path))
    assert str(kernel.socket_path) in message and "already listening" in message
    kernel.client().assert_alive()


def test_a_file_in_the_sockets_place_is_left_alone(directory):
    place = directory / "precious"
    place.write_text("data")
    message = refused(directory, "--socket", str(place))
    assert str(place) in message and "not a socket" in message
    assert place.read_text() == "data"


def test_a_socket_in_no_directory_is_refused(directory):
    message = refused(directory, "--socket", str(directory / "missing" / "k.sock"))
    assert "missing" in message and "No such file" in message


def test_a_socket_path_too_long_is_refused(directory):
    message = refused(directory, "--socket", str(directory / ("x" * 108)))
    assert "107" in message


@as_root
def test_the_socket_of_another_users_kernel_is_left_alone(directory):
    place = directory / "theirs.sock"
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(place))
        theirs.listen(1)
        os.chown(place, NOBODY, NOBODY)
        assert "already listening" in refused(directory, "--socket", str(place))
        assert place.is_socket()


@as_root
def test_a_dead_socket_of_another_user_is_roots_to_remove_and_nobody_elses(start_kernel, directory, io):
    place = directory / "theirs.sock"
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(place))
    os.chown(place, NOBODY, NOBODY)
    directory.chmod(0o1777)
    done = subprocess.run(
        [str(kernels.binary()), "--socket", str(place), "--data-dir", str(directory / "theirs")],
        preexec_fn=become_other,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1 and "another user" in done.stderr
    assert os.stat(place).st_uid == NOBODY
    kernel = start_kernel(io=io, socket_path=place)
    assert os.stat(place).st_uid == 0
    kernel.client().assert_alive()


@as_root
@pytest.mark.parametrize("owner, mode", [(0, 0o777), (NOBODY, 0o755), (NOBODY, 0o1777)])
def test_a_socket_that_others_could_replace_is_refused(directory, owner, mode):
    place = directory / "shared"
    place.mkdir()
    os.chown(place, owner, owner)
    place.chmod(mode)
    assert "could replace" in refused(directory, "--socket", str(place / "k.sock"))
    assert not list(place.iterdir())


def test_a_data_directory_in_use_is_left_alone(kernel, directory):
    done = kernels.run("--socket", str(directory / "b.sock"), "--data-dir", str(kernel.data_dir))
    assert done.returncode == 1
    assert str(kernel.data_dir) in done.stderr and "another kernel uses" in done.stderr
    kernel.client().assert_alive()


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o750, 0o701])
def test_a_data_directory_open_to_others_is_refused(directory, mode):
    shared = directory / "shared"
    shared.mkdir()
    shared.chmod(mode)
    done = kernels.run("--socket", str(directory / "b.sock"), "--data-dir", str(shared))
    assert done.returncode == 1
    assert str(shared) in done.stderr and "chmod 700" in done.stderr


def test_a_data_directory_that_is_a_file_is_refused(directory):
    place = directory / "file"
    place.touch()
    for path in (place, place / "below"):
        done = kernels.run("--socket", str(directory / "b.sock"), "--data-dir", str(path))
        assert done.returncode == 1
        assert str(path) in done.stderr and "Not a directory" in done.stderr


def test_a_data_directory_is_made_with_its_parents(start_kernel, directory, io):
    place = directory / "a" / "b" / "data"
    start_kernel("--data-dir", str(place), io=io).client().assert_alive()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
