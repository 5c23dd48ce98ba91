# SPDX-License-Identifier: MIT
"""Several users of one kernel: each acts as itself, and nobody is there for the others.

ADA and BOB have no entry in the user database. A connection is one of theirs because the process's effective ids
were when it was made: that is what the kernel is told of a peer.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import kernel as kernels
import procfs
import wire
from kernel import wait_until
from test_agents import PRELUDE
from wire import Client, Closed, Refused

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may be several users")

libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class User:
    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        before = os.getgroups()
        os.setgroups(self.groups)
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(before)

    def connect(self, kernel: kernels.Kernel) -> Client:
        with self.acting():
            return kernel.client()

    def file(self, path: Path, text: str, mode: int = 0o600) -> Path:
        """One of its own."""
        path.write_text(text)
        os.chown(path, self.uid, self.gid)
        path.chmod(mode)
        return path

    def folder(self, path: Path, mode: int = 0o700) -> Path:
        path.mkdir()
        os.chown(path, self.uid, self.gid)
        path.chmod(mode)
        return path


ADA = User(61001, 61101, (61201,))
BOB = User(61002, 61102, (61202,))


@pytest.fixture
def ada(kernel) -> Client:
    return ADA.connect(kernel)


@pytest.fixture
def bob(kernel) -> Client:
    return BOB.connect(kernel)


def out(client: Client, command: object, **options: object) -> str:
    result = client.exec(command, **options)
    return result["stdout"].decode() + result["stderr"].decode()


def logs(client: Client, agent: object, stream: str = "stdout") -> str:
    return client.call("LOGS", agent, stream)["data"].decode()


def run(client: Client, name: str, program: object, **options: object) -> str:
    """Starts an agent and waits for its end; what it printed."""
    client.call("SPAWN", name, program, options)
    client.call("WAIT", name)
    return logs(client, name) + logs(client, name, "stderr")


def names(client: Client) -> list[str]:
    return sorted(agent["name"] for agent in client.call("LIST"))


# ---- who one is ----


def test_everybody_is_served_as_who_they_are(kernel, ada, bob):
    assert ada.call("HELLO", 1, 1)["uid"] == ADA.uid
    assert bob.call("HELLO", 1, 1)["uid"] == BOB.uid
    assert kernel.client().call("HELLO", 1, 1)["uid"] == 0
    for client, user in ((ada, ADA), (bob, BOB)):
        assert out(client, "id -u; id -g; id -G").split() == [
            str(user.uid),
            str(user.gid),
            *(str(group) for group in (user.gid, *user.groups)),
        ]


def test_a_command_has_the_environment_of_its_user(kernel, ada):
    assert out(ada, "echo $HOME $USER $LOGNAME; pwd") == f"/ {ADA.uid} {ADA.uid}\n/\n"
    nobody = User(65534, 65534).connect(kernel)
    assert out(nobody, "echo $USER; pwd") == "nobody\n/\n"  # /nonexistent is no place to start
    error = nobody.refused("EXEC", "pwd", {"cwd": "/nonexistent"})
    assert error.code == "EXEC_FAILED" and error.detail["step"] == "cwd"


def test_a_command_starts_in_its_users_home_and_cannot_enter_anothers(kernel, directory):
    ADA.folder(directory / "hers")
    assert kernel.client().call("EXEC", "pwd", {"cwd": str(directory / "hers")})["exit_code"] == 0
    assert out(ADA.connect(kernel), "pwd", cwd=str(directory / "hers")) == f"{directory}/hers\n"
    error = BOB.connect(kernel).refused("EXEC", "pwd", {"cwd": str(directory / "hers")})
    assert error.code == "EXEC_FAILED" and error.detail["errno"] == 13


def test_a_command_can_open_its_own_output(ada):
    result = ada.exec("echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin", stdin="in")
    assert (result["stdout"], result["stderr"]) == (b"out\nin", b"err\n")


def test_a_command_gains_nothing_from_roots_kernel(ada):
    status = out(ada, "grep -E '^(Cap|Groups|Uid|Gid)' /proc/self/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert set(fields["Uid"].split()) == {str(ADA.uid)} and set(fields["Gid"].split()) == {str(ADA.gid)}
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(fields[name], 16) == 0, status
    assert not int(out(ada, "ls /proc/self/fd | grep -cvE '^[0123]$'").split()[0])


def test_a_command_does_not_share_roots_session_keys(ada, bob, kernel):
    show = "import ctypes; print(ctypes.CDLL(None).syscall(250, 0, -3, 0))"  # KEYCTL_GET_KEYRING_ID
    mine = [out(c, ["/usr/bin/python3", "-c", show]).strip() for c in (kernel.client(), ada, ada, bob)]
    if mine[0] == "-1":
        pytest.skip("this system has no keys, or lets nobody at them")
    assert len(set(mine)) == 4, mine


def test_commands_of_another_user_are_ended_by_time_and_by_leaving(kernel, ada, marker):
    assert ada.exec(marker.argv, timeout_ms=100)["timed_out"]
    assert not marker.pids()
    ada.send("EXEC", marker.argv, {"timeout_ms": 0})
    wait_until(marker.pids, "it runs")
    ada.close()
    wait_until(lambda: not marker.pids(), "it ended with its client")


# ---- files ----


def test_files_are_read_and_written_as_their_user(kernel, ada, bob, directory):
    secret = ADA.file(directory / "secret", "hers")
    assert ada.call("READ", str(secret))["data"] == b"hers"
    for call in (("READ",), ("WRITE", "x"), ("WRITE", "x", "append"), ("WRITE", "x", "patch", 0)):
        assert bob.refused(call[0], str(secret), *call[1:]).code == "PERMISSION_DENIED"
    assert secret.read_text() == "hers"
    shared = directory / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    bob.call("WRITE", str(shared / "new"), "his")
    made = os.stat(shared / "new")
    assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (BOB.uid, BOB.gid, 0o644)
    assert ada.refused("WRITE", str(shared / "new"), "x").code == "PERMISSION_DENIED"
    roots = directory / "roots"
    roots.write_text("root's")
    roots.chmod(0o600)
    assert ada.refused("READ", str(roots)).code == "PERMISSION_DENIED"
    assert kernel.client().call("READ", str(roots))["data"] == b"root's"


def test_groups_are_honoured(kernel, ada, bob, directory):
    file = directory / "grouped"
    file.write_text("for the group")
    os.chown(file, 0, ADA.groups[0])
    file.chmod(0o640)
    assert ada.call("READ", str(file))["data"] == b"for the group"
    assert out(ada, ["cat", str(file)]) == "for the group"
    assert bob.refused("READ", str(file)).code == "PERMISSION_DENIED"
    assert "Permission denied" in out(bob, ["cat", str(file)])
    # The same user without the group, and one whom the group is denied to.
    without = User(ADA.uid, ADA.gid).connect(kernel)
    assert without.refused("READ", str(file)).code == "PERMISSION_DENIED"
    file.chmod(0o604)
    assert ada.refused("READ", str(file)).code == "PERMISSION_DENIED"
    assert without.call("READ", str(file))["data"] == b"for the group"


def openers(kernel) -> list[int]:
    return [pid for pid in procfs.children(kernel.launcher_pid()) if procfs.name(pid) == "clove-opener"]


def of_uid(kernel, uid: int) -> list[int]:
    def real(pid: int) -> str:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                return line.split()[1]
        return ""

    return [pid for pid in openers(kernel) if real(pid) == str(uid)]


def test_an_opener_that_was_killed_is_replaced(kernel, ada, directory):
    file = ADA.file(directory / "file", "text")
    for _ in range(3):
        assert ada.call("READ", str(file))["data"] == b"text"
        for pid in of_uid(kernel, ADA.uid):
            os.kill(pid, signal.SIGKILL)
    assert ada.call("READ", str(file))["data"] == b"text"


def test_a_script_is_whole_when_its_opener_is_lost_midway(kernel, ada, directory):
    script = ADA.file(directory / "script.sh", "echo begun\n" + ("#" * 63 + "\n") * (15 << 14))
    over = threading.Event()

    def kill_all() -> None:
        while not over.wait(0.003):
            with contextlib.suppress(OSError):  # gone meanwhile
                for pid in of_uid(kernel, ADA.uid):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_all)
    thread.start()
    try:
        for _ in range(30):
            with contextlib.suppress(Refused):  # where the second was lost as well
                ada.call("SPAWN", "a", str(script), {"interpreter": "/bin/sh"})
                assert ada.call("WAIT", "a")["reason"] == "exited"
                copy = kernel.data_dir / "agents" / str(ADA.uid) / "a/script/script.sh"
                assert copy.stat().st_size == script.stat().st_size
    finally:
        over.set()
        thread.join()


def test_scripts_on_their_way_are_content_in_memory(kernel, ada, bob, directory):
    script = ADA.file(directory / "script.sh", "exit 0\n" + ("#" * 63 + "\n") * (15 << 14))
    script.chmod(0o644)
    part = wire.HEADER.pack(wire.BODY_MAX, wire.number_of("NOOP"), 0, 1) + bytes(wire.BODY_MAX - 1)

    def start(client: Client) -> str:
        try:
            client.call("SPAWN", "a", str(script), {"interpreter": "/bin/sh", "sandboxed": False})
            client.call("WAIT", "a")
        except Refused as error:
            assert error.code == "BUSY" and "too much file content" in error.message, error
            return error.code
        return ""

    for _ in range(6):  # nothing of it stays counted
        assert not start(ada)
    with ADA.acting():
        others = [Client(kernel.socket_path) for _ in range(26)]
    for other in others:
        other.send_bytes(part)
    wait_until(lambda: start(ada), "what she has sent leaves no room for it")
    assert not start(bob)
    for other in others:
        other.close()
    wait_until(lambda: not start(ada), "there is room again")


def test_a_user_who_stops_its_openers_waits_alone(kernel, ada, bob, directory):
    hers, his = ADA.file(directory / "hers", "hers"), BOB.file(directory / "his", "his")
    assert ada.call("READ", str(hers))["data"] == b"hers"
    stopped = of_uid(kernel, ADA.uid)
    assert stopped
    with ADA.acting():
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
    first = ada.send("READ", str(hers))
    assert bob.call("READ", str(his))["data"] == b"his"
    # The second of her openers does the rest; the first is given up after its time.
    assert ada.call("READ", str(hers))["data"] == b"hers"
    with pytest.raises(Refused) as refused:
        ada.wait(first)
    assert refused.value.code == "IO_ERROR" and "did not answer" in refused.value.message
    wait_until(lambda: not set(stopped) & set(openers(kernel)), "what was stopped has been killed")
    assert "opener-slow" in kernel.log()


def test_openers_are_bounded_and_serve_more_users_than_there_may_be(kernel, directory):
    file = directory / "file"
    file.write_text("text")
    users = [User(61100 + n, 61100).connect(kernel) for n in range(100)]
    for _ in range(2):
        ids = [(user, user.send("READ", str(file))) for user in users]
        assert {user.wait(id)["data"] for user, id in ids} == {b"text"}
        assert len(openers(kernel)) <= 64


def test_one_user_with_many_groups_has_few_openers(kernel, directory):
    file = directory / "file"
    file.write_text("text")
    clients = [User(ADA.uid, ADA.gid, (62000 + n,)).connect(kernel) for n in range(30)]
    for _ in range(10):  # each round ends more openers than the launcher lets one user have, the ended included
        ids = [(client, client.send("READ", str(file))) for client in clients]
        assert {client.wait(id)["data"] for client, id in ids} == {b"text"}
    assert len(of_uid(kernel, ADA.uid)) <= 4


@pytest.fixture
def hanging(start_kernel, io, directory) -> Iterator[tuple[kernels.Kernel, Path, int]]:
    """A kernel that sees, for itself, a file system that never answers."""
    place = directory / "hangs"
    place.mkdir()
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"FUSE is needed for a file system that hangs: {error}")

    def mount() -> None:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
        assert libc.mount(b"none", b"/", None, (1 << 14) | (1 << 18), None) == 0  # MS_REC | MS_PRIVATE
        assert libc.mount(b"hangs", str(place).encode(), b"fuse", 0, options) == 0

    try:
        yield start_kernel(io=io, cores=2, preexec=mount), place / "file", device
    finally:
        os.close(device)


class Deaf:
    """Takes every question to a FUSE file system and answers none but the first: who asks cannot even be killed."""

    def __init__(self, device: int) -> None:
        self.asked = 0
        self._device = device
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        os.set_blocking(self._device, False)
        while not self._stop.wait(0.01):
            with contextlib.suppress(BlockingIOError):
                question = os.read(self._device, 1 << 18)
                opcode, unique = struct.unpack_from("=4xIQ", question)
                if opcode == 26:  # FUSE_INIT
                    answer = struct.pack("=IIIIHHI", 7, 22, 0, 0, 12, 9, 4096)
                    os.write(self._device, struct.pack("=IiQ", 16 + len(answer), 0, unique) + answer)
                self.asked += opcode in (1, 3)  # FUSE_LOOKUP, FUSE_GETATTR

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def deaf(hanging) -> Iterator[tuple[kernels.Kernel, Path, Deaf]]:
    kernel, place, device = hanging
    server = Deaf(device)
    try:
        yield kernel, place, server
    finally:
        server.stop()


def test_openers_that_cannot_be_killed_count_and_harm_nobody_else(deaf, directory):
    """Until they are gone, the launcher starts no more for their user, also where an earlier one is still at work."""
    kernel, hangs, server = deaf
    clients = [ADA.connect(kernel), User(ADA.uid, ADA.gid, (62000,)).connect(kernel)]
    his, bob = BOB.file(directory / "his", "his"), BOB.connect(kernel)
    ids = []
    for n in range(4):
        ids += [(client, client.send("READ", str(hangs.parent / f"{n}"))) for client in clients]
        time.sleep(0.5)  # so that of two openers one is given up first
    for client, id in ids:
        with pytest.raises(Refused, match="did not answer|hang"):
            client.wait(id)
    assert server.asked
    wait_until(lambda: len(of_uid(kernel, ADA.uid)) == 8, "those given up are still there")
    assert clients[0].refused("READ", "/etc/passwd").code == "BUSY"
    assert bob.call("READ", str(his))["data"] == b"his"


def test_a_file_system_that_hangs_holds_up_its_user_alone(hanging, directory):
    kernel, hangs, _ = hanging
    ada, bob = ADA.connect(kernel), BOB.connect(kernel)
    his = BOB.file(directory / "his", "his")
    slowest = 0.0
    stuck = [ada.send("READ", str(hangs)) for _ in range(20)] + [ada.send("WRITE", str(hangs), "x")]
    other = BOB.connect(kernel)
    for _ in range(100):
        start = time.monotonic()
        assert bob.call("READ", str(his))["data"] == b"his"
        bob.call("WRITE", str(his), "his")
        slowest = max(slowest, time.monotonic() - start)
    assert other.exec("true")["exit_code"] == 0
    print(f"slowest of another user's files meanwhile: {slowest * 1000:.1f} ms")
    with pytest.raises(Refused) as refused:
        ada.wait(stuck[0])
    assert refused.value.code == "IO_ERROR" and refused.value.detail == {"errno": 110}
    ada.close()
    wait_until(lambda: kernel.client().stats()["files_queued"] == 0, "what nobody waits for is dropped", 40)


def test_a_script_and_binds_that_hang_hold_up_nobody(hanging, directory):
    kernel, hangs, _ = hanging
    ada, bob = ADA.connect(kernel), BOB.connect(kernel)
    ada.send("SPAWN", "stuck", str(hangs), {"sandboxed": False})
    ada.send("SPAWN", "stuck-too", ["true"], {"ro": [str(hangs.parent)]})
    for n in range(20):
        assert bob.call("SPAWN", f"free-{n}", ["true"], {"sandboxed": False})["status"] == "running"
        assert isinstance(logs(bob, f"free-{n}"), str)


def test_a_file_that_would_block_is_not_waited_for(kernel, directory):
    root = kernel.client()
    if not os.path.exists("/proc/kmsg"):
        pytest.skip("no /proc/kmsg")
    for _ in range(1000):
        try:
            root.call("READ", "/proc/kmsg")
        except Refused as error:
            assert error.code in ("IO_ERROR", "PERMISSION_DENIED"), error
            break
    assert root.call("READ", "/etc/passwd")["size"]


# ---- agents of different owners ----


def test_agents_of_another_owner_do_not_exist(kernel, ada, bob):
    id = ada.call("SPAWN", "secret", ["sh", "-c", "echo hers; exec sleep 1000"], {"sandboxed": False})["agent_id"]
    assert names(ada) == ["secret"] and names(bob) == []
    wait_until(lambda: logs(ada, "secret") == "hers\n", "it has spoken")
    absent = bob.refused("INSPECT", "absent").message.replace("absent", "{}")
    for call in ("INSPECT", "KILL", "WAIT", "PAUSE", "RESUME", "LOGS"):
        for who in ("secret", id):
            error = bob.refused(call, who)
            assert error.code == "AGENT_NOT_FOUND", call
            if who == "secret":
                assert error.message == absent.format(who) and error.detail == {}
        assert bob.refused(call, id ^ 1 << 19).message.replace(str(id ^ 1 << 19), str(id)) == error.message
    assert ada.call("INSPECT", "secret")["state"] == "running"
    everybody = {agent["uid"] for agent in bob.call("LIST", True)}
    assert everybody == {BOB.uid}
    assert kernel.client().call("LIST")[0]["uid"] == ADA.uid


def test_a_name_may_be_had_by_each_owner(kernel, ada, bob):
    hers = ada.call("SPAWN", "same", ["sleep", "1000"], {"sandboxed": False})
    his = bob.call("SPAWN", "same", ["sleep", "1000"], {"sandboxed": False})
    assert hers["agent_id"] != his["agent_id"]
    assert ada.refused("SPAWN", "same", ["true"]).code == "NAME_TAKEN"
    bob.call("KILL", "same")
    assert names(ada) == ["same"] and names(bob) == []
    assert ada.call("INSPECT", "same")["agent_id"] == hers["agent_id"]


def test_root_reaches_all_and_its_own_first(kernel, ada, bob):
    root = kernel.client()
    hers = ada.call("SPAWN", "one", ["sleep", "1000"], {"sandboxed": False})["agent_id"]
    ada.call("SPAWN", "same", ["sleep", "1000"], {"sandboxed": False})
    his = bob.call("SPAWN", "same", ["sleep", "1000"], {"sandboxed": False})["agent_id"]
    assert {(agent["name"], agent["uid"]) for agent in root.call("LIST")} == {
        ("one", ADA.uid), ("same", ADA.uid), ("same", BOB.uid)
    }
    assert root.call("INSPECT", "one")["uid"] == ADA.uid
    error = root.refused("KILL", "same")
    assert error.code == "INVALID_ARGUMENT" and "id" in error.message
    mine = root.call("SPAWN", "same", ["sleep", "1000"], {"sandboxed": False})["agent_id"]
    assert root.call("INSPECT", "same")["agent_id"] == mine
    assert root.call("KILL", his)["reason"] == "killed"
    assert root.call("KILL", "one")["agent_id"] == hers
    assert names(ada) == ["same"] and names(bob) == []


def test_an_agent_of_root_is_no_operator(kernel, ada):
    target = ada.call("SPAWN", "hers", ["sleep", "1000"], {"sandboxed": False})["agent_id"]
    root = kernel.client()
    script = PRELUDE + f"print(call(KILL, {target})[1][0], call(LIST)[1] and len(call(LIST)[1]))\n"
    said = run(root, "agent", ["/usr/bin/python3", "-c", script], sandboxed=False,
               rights=["OBSERVE", "SPAWN", "EXEC"])
    assert said == "514 1\n", said  # AGENT_NOT_FOUND, and itself alone
    assert names(ada) == ["hers"]


def test_counters_of_the_kernel_are_for_operators(kernel, ada):
    assert ada.refused("STATS").code == "PERMISSION_DENIED"
    assert kernel.client().stats()["connections"] >= 1


def test_an_unsandboxed_agent_is_its_owner_and_never_root(kernel, ada, directory):
    secret = directory / "roots"
    secret.write_text("root's")
    secret.chmod(0o600)
    said = run(ada, "free", ["sh", "-c", f"id -u; id -g; id -G; cat {secret}; grep CapEff /proc/self/status"],
               sandboxed=False)
    lines = said.splitlines()
    assert lines[:2] == [str(ADA.uid), str(ADA.gid)]
    assert lines[2].split() == [str(ADA.gid), str(ADA.groups[0])]
    assert "CapEff:\t0000000000000000" in said and "root's" not in said
    # What it asks the kernel for is done as its owner as well.
    script = PRELUDE + f"print(call(EXEC, 'id -u')[1]['stdout'], call(READ, {str(secret)!r})[1][0])\n"
    assert run(ada, "asks", ["/usr/bin/python3", "-c", script], sandboxed=False) == f"b'{ADA.uid}\\n' 6\n"


def test_without_a_sandbox_agents_of_users_are_still_their_own(start_kernel, io):
    kernel = start_kernel("--no-sandbox", io=io)
    assert run(ADA.connect(kernel), "x", ["id", "-u"]) == f"{ADA.uid}\n"


def test_an_agent_outlives_the_connection_of_its_user_as_that_user(kernel, directory):
    place = ADA.folder(directory / "hers")
    client = ADA.connect(kernel)
    program = ["sh", "-c", f"id -u >> {place}/lives; test $(wc -l < {place}/lives) = 2"]
    client.call("SPAWN", "again", program, {"sandboxed": False, "restart_policy": "on-failure"})
    client.close()
    wait_until(lambda: (place / "lives").exists() and (place / "lives").read_text().count("\n") == 2, "it ran twice")
    assert (place / "lives").read_text() == f"{ADA.uid}\n" * 2


def test_homes_of_two_owners_are_two(kernel, ada, bob):
    assert run(ada, "same", ["sh", "-c", "echo hers > note"]) == ""
    assert run(bob, "same", ["sh", "-c", "ls; echo his > note; cat note"]) == "his\n"
    assert run(ada, "same", ["cat", "note"]) == "hers\n"
    uids = {os.stat(kernel.data_dir / "agents" / str(u.uid) / "same" / "workspace").st_uid for u in (ADA, BOB)}
    assert len(uids) == 2 and not uids & {0, ADA.uid, BOB.uid}
    assert "Permission denied" in out(ada, ["ls", str(kernel.data_dir)])


def test_an_agent_in_a_box_cannot_become_a_user_of_the_host(kernel, ada, directory):
    """By the kernel's socket, which a trusted one can be shown."""
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        "try: s.sendall(bytes.fromhex(sys.argv[2]))\n"
        "except BrokenPipeError: pass\n"  # turned away already; why, can be read
        "print(s.recv(1000))\n"
    )
    question = wire.request("EXEC", ["id"]).hex()
    said = run(ada, "trusted", ["/usr/bin/python3", "-c", script, str(kernel.socket_path), question],
               profile="trusted", ro=[str(directory)])
    assert "uid=" not in said and ("sandbox" in said or "reset" in said), said


def uid_of(agent: dict) -> int:
    return int(Path(f"/proc/{agent['pid']}/status").read_text().split("Uid:")[1].split()[0])


def test_what_is_removed_while_it_starts_is_not_taken_from_under_it(kernel, ada, bob):
    """Nor is its uid given to another's agent."""
    place = kernel.data_dir / "agents" / str(ADA.uid)
    place.mkdir()
    for n in range(3000):  # among which to look
        (place / f"x{n}").mkdir()
    run(ada, "a", ["true"])
    for n in range(40):
        removal, start = ada.send("REMOVE", "a"), ada.send("SPAWN", "a", ["sleep", "1000"], {})
        try:
            ada.wait(removal)
        except Refused as error:
            assert error.code in ("BUSY", "AGENT_NOT_FOUND"), error
        hers = ada.wait(start)
        assert (place / "a" / "workspace").exists()
        his = bob.call("SPAWN", f"b{n}", ["sleep", "1000"], {})
        assert uid_of(hers) != uid_of(his)
        ada.call("KILL", "a")
        bob.call("KILL", f"b{n}")


def test_agents_that_do_not_start_use_up_no_uids(kernel, ada):
    def try_in_vain(name: str) -> None:
        error = ada.refused("SPAWN", name, ["true"], {"ro": ["/proc/self"]})
        assert error.detail["step"] == "spec", error

    for _ in range(5):
        try_in_vain("same")
    assert uid_of(ada.call("SPAWN", "same", ["sleep", "1000"])) == 2000000
    for n in range(5):
        try_in_vain(f"vain-{n}")
        ada.call("REMOVE", f"vain-{n}")
    assert uid_of(ada.call("SPAWN", "other", ["sleep", "1000"])) == 2000001


def test_one_user_does_not_have_all_uids_of_agents(start_kernel, io, directory):
    place = directory / "data" / "agents" / str(ADA.uid)
    place.mkdir(parents=True)
    (directory / "data").chmod(0o700)
    for n in range(16384):
        (place / f"a{n}" / "logs").mkdir(parents=True)
        os.chown(place / f"a{n}" / "logs", 2000000 + n, 2000000 + n)
    kernel = start_kernel(io=io, cores=2)
    ada = ADA.connect(kernel)
    error = ada.refused("SPAWN", "more", ["true"])
    assert error.code == "BUSY" and "REMOVE" in error.message and str(ADA.uid) in error.message
    assert run(ada, "a7", ["id", "-u"]) == "1000\n"
    assert uid_of(BOB.connect(kernel).call("SPAWN", "his", ["sleep", "1000"])) == 2016384
    ada.call("REMOVE", "a8")
    assert uid_of(ada.call("SPAWN", "more", ["sleep", "1000"])) == 2000008


# ---- binds ----


def box_read(client: Client, path: Path, name: str = "reader", **options: object) -> str:
    return run(client, name, ["cat", str(path)], **options)


def test_binds_give_just_what_their_user_may(kernel, ada, directory):
    place = ADA.folder(directory / "hers", 0o755)
    ADA.file(place / "secret", "hers alone")
    (place / "roots").write_text("root's alone")
    (place / "roots").chmod(0o600)
    (place / "open").write_text("of root, for all to read")
    (place / "grouped").write_text("by a group")
    os.chown(place / "grouped", 0, ADA.groups[0])
    (place / "grouped").chmod(0o640)
    program = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "for name in ('secret', 'roots', 'open', 'grouped'):\n"
        "    try: print(name, open(name).read())\n"
        "    except OSError as error: print(name, error.errno)\n"
        "for name in ('secret', 'roots', 'open', 'new'):\n"
        "    try: open(name, 'a').write('+'); print('wrote', name)\n"
        "    except OSError as error: print('not', name, error.errno)\n"
    )
    reading = run(ada, "r", ["/usr/bin/python3", "-c", program, str(place)], ro=[str(place)]).splitlines()
    assert reading[:4] == ["secret hers alone", "roots 13", "open of root, for all to read", "grouped by a group"]
    assert all(line.startswith("not ") for line in reading[4:]), reading
    writing = run(ada, "w", ["/usr/bin/python3", "-c", program, str(place)], rw=[str(place)]).splitlines()
    assert writing[4:] == ["wrote secret", "not roots 13", "not open 13", "wrote new"], writing
    made = os.stat(place / "new")
    assert (made.st_uid, made.st_gid) == (ADA.uid, ADA.gid)
    assert (place / "secret").read_text() == "hers alone+"


def test_a_bind_of_roots_gives_roots_files_to_roots_agent(kernel, directory):
    place = directory / "roots"
    place.mkdir(0o755)
    (place / "secret").write_text("root's")
    (place / "secret").chmod(0o600)
    root = kernel.client()
    assert box_read(root, place / "secret", ro=[str(place)]) == "root's"
    assert run(root, "w", ["sh", "-c", f"echo x > {place}/new && cat {place}/new"], rw=[str(place)]) == "x\n"
    assert os.stat(place / "new").st_uid == 0
    ADA.file(place / "hers", "hers")
    assert "Permission denied" in box_read(root, place / "hers", "other", ro=[str(place)])


def test_no_setid_file_is_left_in_a_bind(kernel, ada, directory):
    place = ADA.folder(directory / "hers", 0o755)
    program = (
        "import os, sys, ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "os.chdir(sys.argv[1]); os.umask(0)\n"
        "def attempt(name, f):\n"
        "    try: f()\n"
        "    except OSError: pass\n"
        "for bit in (0o4000, 0o2000):\n"
        "    n = '%o' % bit\n"
        "    attempt(n, lambda: os.close(os.open('open' + n, os.O_CREAT | os.O_WRONLY, bit | 0o755)))\n"
        "    attempt(n, lambda: os.mknod('mknod' + n, bit | 0o100755))\n"
        "    libc.syscall(85, ('creat' + n).encode(), bit | 0o755)\n"
        "    libc.syscall(2, ('old' + n).encode(), os.O_CREAT | os.O_WRONLY, bit | 0o755)\n"
        "    how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, bit | 0o755, 0)\n"
        "    libc.syscall(437, -100, ('how' + n).encode(), how, 24)\n"
        "    fd = os.open('.', 0o20200000 | os.O_WRONLY, 0o755)\n"
        "    attempt(n, lambda: os.chmod(fd, bit | 0o755))\n"
        "    attempt(n, lambda: os.link('/proc/self/fd/%d' % fd, 'tmp' + n))\n"
        "    open('chmod' + n, 'w').close()\n"
        "    attempt(n, lambda: os.chmod('chmod' + n, bit | 0o755))\n"
        "    libc.syscall(452, -100, ('chmod' + n).encode(), bit | 0o755, 0)\n"
        "print('tried')\n"
    )
    assert run(ada, "x", ["/usr/bin/python3", "-c", program, str(place)], rw=[str(place)]).endswith("tried\n")
    found = {path.name: oct(path.stat().st_mode) for path in place.iterdir()}
    assert "chmod4000" in found
    assert not [name for name, mode in found.items() if int(mode, 8) & 0o6000], found


def test_a_bind_of_what_the_user_may_not_see_is_refused(kernel, ada, directory):
    BOB.folder(directory / "his")
    (directory / "his" / "inner").mkdir()
    BOB.file(directory / "note", "his")
    for path in (directory / "his", directory / "his" / "inner", directory / "note", Path("/root/.ssh"), kernel.data_dir):
        for option in ("ro", "rw"):
            assert ada.refused("SPAWN", "x", ["true"], {option: [str(path)]}).code in ("PERMISSION_DENIED", "NOT_FOUND")
    assert ada.refused("SPAWN", "x", ["true"], {"rw": ["/etc"]}).code == "PERMISSION_DENIED"
    (directory / "secret.py").write_text("print('root')")
    (directory / "secret.py").chmod(0o600)
    assert ada.refused("SPAWN", "x", str(directory / "secret.py")).code == "PERMISSION_DENIED"
    assert names(ada) == []


@pytest.mark.parametrize("what", ["script", "bind"])
def test_a_symlink_that_changes_leads_nowhere_else(kernel, ada, directory, what):
    """Whatever it points at when it is looked at, it is opened by her own process."""
    place = ADA.folder(directory / "hers", 0o755)
    ADA.file(place / "mine", "print('mine')", 0o644)
    BOB.file(directory / "his", "print('his secret')")
    link, done = place / "link", threading.Event()

    def flip() -> None:
        for n in range(1 << 30):
            if done.is_set():
                return
            target = directory / "his" if n % 2 else place / "mine"
            (place / "next").symlink_to(target)
            (place / "next").rename(link)

    link.symlink_to(place / "mine")
    thread = threading.Thread(target=flip)
    thread.start()
    seen = set()
    try:
        for n in range(40):
            program = str(link) if what == "script" else ["cat", str(link)]
            options = {} if what == "script" else {"ro": [str(link)]}
            try:
                seen.add(run(ada, f"x{n}", program, **options).strip())
            except Refused as error:
                seen.add(error.code)
    finally:
        done.set()
        thread.join()
    assert seen <= {"mine", "print('mine')", "PERMISSION_DENIED"}, seen


def without_idmaps(start_kernel, io, directory) -> kernels.Kernel:
    """A kernel that sees a file system which knows no id-mapped mounts."""
    script = 'mount -t ramfs ramfs "$0" && chmod 755 "$0" && exec "$@"'
    wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, str(directory / "old")]
    (directory / "old").mkdir()
    return start_kernel(io=io, wrapper=wrapper)


def test_a_file_system_without_idmapped_mounts_is_shown_as_it_is_and_said(start_kernel, io, directory):
    kernel = without_idmaps(start_kernel, io, directory)
    root, ada = kernel.client(), ADA.connect(kernel)
    old = directory / "old"
    root.exec(f"echo shown > {old}/open; echo hers > {old}/secret; chmod 600 {old}/secret; "
              f"chown {ADA.uid} {old} {old}/secret")
    assert ada.call("READ", f"{old}/secret")["data"] == b"hers\n"
    spawned = ada.call("SPAWN", "x", ["sh", "-c", f"cat {old}/open {old}/secret"], {"ro": [str(old)]})
    warning = [text for text in spawned["warnings"] if str(old) in text]
    if not warning and spawned["warnings"] is not None:
        ada.call("WAIT", "x")
        if "hers" in logs(ada, "x"):
            pytest.skip("this system's ramfs has id-mapped mounts")
    assert len(warning) == 1 and "id-mapped" in warning[0]
    ada.call("WAIT", "x")
    assert logs(ada, "x") == "shown\n"
    error = ada.refused("SPAWN", "y", ["true"], {"rw": [str(old)]})
    assert error.code == "SANDBOX_UNAVAILABLE" and str(old) in error.message and "id-mapped" in error.message
    assert names(ada) == []


@pytest.fixture
def venv(directory) -> Path:
    place = ADA.folder(directory / "hers", 0o755) / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(place)], check=True, stdin=subprocess.DEVNULL)
    site = next(place.glob("lib/python3*/site-packages"))
    (site / "only_here.py").write_text("what = 'from the environment'")
    subprocess.run(["chown", "-R", f"{ADA.uid}:{ADA.gid}", str(place)], check=True)
    (site / "only_here.py").chmod(0o600)
    return place


def test_an_interpreter_outside_usr_brings_its_prefix(kernel, ada, directory, venv):
    script = ADA.file(directory / "agent.py", "import only_here, sys\nprint(only_here.what, sys.prefix)\n", 0o644)
    said = run(ada, "x", str(script), interpreter=str(venv / "bin" / "python3"))
    assert said == f"from the environment {venv}\n"
    (directory / "hers" / "link").symlink_to(venv / "bin" / "python3")
    said = run(ada, "y", str(script), interpreter=str(directory / "hers" / "link"))
    assert "from the environment" in said or "only_here" in said  # its prefix is that of the link itself
    ADA.file(directory / "hers" / "other", "private")
    peek = ADA.file(directory / "peek.py", f"import os\nprint(sorted(os.listdir({str(directory / 'hers')!r})))\n", 0o644)
    assert run(ada, "z", str(peek), interpreter=str(venv / "bin" / "python3")) == "['venv']\n"


def test_an_interpreters_prefix_takes_the_rights_of_its_user(kernel, bob, directory, venv):
    script = BOB.file(directory / "agent.py", "print('ran')\n", 0o644)
    os.chmod(venv.parent, 0o700)
    error = bob.refused("SPAWN", "x", str(script), {"interpreter": str(venv / "bin" / "python3")})
    assert error.code == "PERMISSION_DENIED"
    error = bob.refused("SPAWN", "x", str(script), {"interpreter": str(directory / "absent" / "bin" / "python3")})
    assert error.code == "NOT_FOUND" and "absent" in error.message
    for path in ("/python3", "/opt/python3"):
        error = bob.refused("SPAWN", "x", str(script), {"interpreter": path})
        assert error.code == "INVALID_ARGUMENT" and "ro" in error.message


# ---- limits ----


def connections(user: User, kernel: kernels.Kernel, count: int) -> tuple[list[Client], list[str]]:
    """Those that are served, and what the others are told."""
    served, told = [], []
    with user.acting():
        clients = [Client(kernel.socket_path) for _ in range(count)]
    for client in clients:
        try:
            client.assert_alive()
            served.append(client)
        except Refused as error:
            told.append(f"{error.code} {error.message}")
        except OSError:  # it was closed before the question; what was said before that can be read
            try:
                client.read_frame().value()
            except Refused as error:
                told.append(f"{error.code} {error.message}")
    return served, told


def test_a_thousand_connections_of_one_leave_room_for_others(kernel, bob):
    served, told = connections(ADA, kernel, 1000)
    assert len(served) == 512 and len(told) == 488
    assert set(told) == {
        f"BUSY user {ADA.uid} has 512 connections, which is all it may (owner_connections)"
    }
    assert BOB.connect(kernel).exec("true")["exit_code"] == 0
    bob.assert_alive()
    for client in served:
        client.close()
    wait_until(lambda: len(connections(ADA, kernel, 1)[0]) == 1, "who has gone makes room")


def test_root_gets_in_when_all_is_taken(start_kernel, io):
    import resource

    kernel = start_kernel(io=io, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400)))
    users = [User(61500 + n, 61500) for n in range(20)]
    held = [connections(user, kernel, 20)[0] for user in users]
    assert sum(len(clients) for clients in held) < 200
    assert connections(ADA, kernel, 1)[0] == []
    root = kernel.client()
    assert root.call("LIST") == []


@pytest.mark.parametrize("setting, text", [
    ("owner_agents", "live agents"), ("owner_commands", "running commands"), ("owner_requests", "requests in flight"),
])
def test_what_an_owner_may_take_is_configurable_and_named(start_kernel, io, marker, setting, text):
    kernel = start_kernel(io=io, cores=2, env={f"CLOVE_{setting.upper()}": "3"})
    ada, bob, root = ADA.connect(kernel), BOB.connect(kernel), kernel.client()
    if setting == "owner_agents":
        for n in range(3):
            ada.call("SPAWN", f"a{n}", ["sleep", "1000"], {"sandboxed": False})
        error = ada.refused("SPAWN", "more", ["true"], {"sandboxed": False})
        bob.call("SPAWN", "his", ["sleep", "1000"], {"sandboxed": False})
        for n in range(5):
            root.call("SPAWN", f"r{n}", ["sleep", "1000"], {"sandboxed": False})
        ada.call("KILL", "a0")
        assert ada.call("SPAWN", "more", ["true"], {"sandboxed": False})["status"] == "running"
    else:
        running = [ADA.connect(kernel).send("EXEC", marker.argv, {"timeout_ms": 0}) for _ in range(3)]
        wait_until(lambda: len(marker.pids()) == 3, "all run")
        assert running
        error = ada.refused("EXEC", "true")
        assert bob.exec("true")["exit_code"] == 0 and root.exec("true")["exit_code"] == 0
        marker.kill()
        wait_until(lambda: not marker.pids(), "they have ended")
        assert ada.exec("true")["exit_code"] == 0
    assert error.code == "BUSY" and text in error.message and setting in error.message


def test_what_starts_faster_than_it_may_is_told_so(start_kernel, io):
    kernel = start_kernel(io=io, env={"CLOVE_OWNER_LAUNCH_RATE": "2"})
    ada, bob = ADA.connect(kernel), BOB.connect(kernel)
    ids = [ada.send("EXEC", "true") for _ in range(20)]
    refused = []
    for id in ids:
        try:
            ada.wait(id)
        except Refused as error:
            refused.append(error)
    assert len(refused) >= 10
    assert all(error.code == "BUSY" and "owner_launch_rate" in error.message for error in refused)
    assert bob.exec("true")["exit_code"] == 0
    for _ in range(20):
        assert kernel.client().exec("true")["exit_code"] == 0


def test_what_is_restarted_counts_as_started(start_kernel, io):
    """By a policy that knows no pause, agents would start as often as they like."""
    kernel = start_kernel(io=io, cores=2, env={"CLOVE_OWNER_LAUNCH_RATE": "2"})
    ada = ADA.connect(kernel)
    policy = {"sandboxed": False, "restart_policy": "always", "max_restarts": 1000000, "restart_window_ms": 1}
    begin, n = time.monotonic(), 0
    while n < 10:
        try:
            ada.call("SPAWN", f"again-{n}", ["true"], policy)
            n += 1
        except Refused as error:
            assert error.code == "BUSY"
            time.sleep(0.05)
    time.sleep(4)
    lives = sum(agent["incarnation"] for agent in ada.call("LIST"))
    assert 10 < lives <= 2 * (time.monotonic() - begin) + 5, lives


def test_agents_that_end_together_are_restarted_one_after_the_other(start_kernel, io):
    """What their owner may not have at once costs none of them one of its restarts."""
    kernel = start_kernel(io=io, cores=2, env={"CLOVE_OWNER_FILES": "1"})
    ada = ADA.connect(kernel)
    policy = {"sandboxed": False, "restart_policy": "on-failure", "max_restarts": 1}
    agents = [ada.call("SPAWN", f"a{n}", ["sleep", "1000"], policy) for n in range(12)]
    for agent in agents:
        os.kill(agent["pid"], signal.SIGKILL)

    def again() -> list[int]:
        return [agent["incarnation"] for agent in ada.call("LIST") if agent["state"] == "running"]

    wait_until(lambda: again() == [2] * 12, "all are back", 30)


def test_the_standard_input_of_agents_is_bounded(kernel, ada, bob):
    def spawn(client: Client, name: str, **options: object) -> None:
        client.call("SPAWN", name, ["sleep", "1000"], {"sandboxed": False, "stdin": bytes(1 << 20), **options})

    for n in range(60):
        spawn(ada, f"a{n}")
    spawn(ada, "restarts-0", restart_policy="always")
    spawn(ada, "restarts-1", restart_policy="always")
    error = ada.refused("SPAWN", "more", ["true"], {"sandboxed": False, "stdin": b"x"})
    assert error.code == "BUSY" and "64 MiB of stdin" in error.message
    assert ada.call("NOOP", bytes(1 << 20)) == bytes(1 << 20)  # what is in transit has its own
    assert run(ada, "none", ["true"], sandboxed=False) == ""
    spawn(bob, "his")
    kib = int(Path(f"/proc/{kernel.pid}/status").read_text().split("VmRSS:")[1].split()[0])
    assert kernels.is_sanitized() or kib < 40 << 10, kib  # two copies, and what was in transit
    ada.call("KILL", "restarts-0")
    for n in range(2):
        spawn(ada, f"b{n}")
    assert ada.refused("SPAWN", "more", ["true"], {"sandboxed": False, "stdin": b"x"}).code == "BUSY"


def test_unread_input_of_one_does_not_use_up_what_others_need(kernel, bob, directory):
    """Whole megabytes of frames that never end."""
    part = wire.HEADER.pack(wire.BODY_MAX, wire.number_of("NOOP"), 0, 1) + bytes(wire.BODY_MAX - 1)
    with ADA.acting():
        clients = [Client(kernel.socket_path) for _ in range(120)]
    for client in clients:
        with contextlib.suppress(OSError):
            client.send_bytes(part)
        client.socket.setblocking(False)
    assert bob.call("NOOP", bytes(1 << 20)) == bytes(1 << 20)
    def told() -> int:
        count = 0
        for client in clients:
            with contextlib.suppress(OSError):
                count += b"too much input" in client.socket.recv(1000, socket.MSG_PEEK)
        return count

    wait_until(lambda: told() > 20, "most are turned away")
    for client in clients:
        client.close()
    again = ADA.connect(kernel)
    wait_until(lambda: again.call("NOOP", bytes(1 << 20)) == bytes(1 << 20), "she is served again")


# ---- agents' own limits ----


@pytest.mark.parametrize("sandboxed", [True, False])
def test_agents_have_few_descriptors(kernel, ada, sandboxed):
    said = run(ada, "x", ["sh", "-c", "ulimit -Sn; ulimit -Hn"], sandboxed=sandboxed).split()
    assert int(said[0]) <= 1024 and int(said[1]) <= 4096
