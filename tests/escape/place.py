# SPDX-License-Identifier: MIT
"""A kernel and, around it, a host with something to reach for every probe."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import procfs
from kernel import Kernel, binary, wait_until
from wire import Client

HERE = Path(__file__).parent
ROOTLESS_UID = 4242
PYTHON = "/usr/bin/python3"
MIB = 1 << 20

MEMORY, TMP, MAX_PIDS = 256 * MIB, 8 * MIB, 64
ALL_RIGHTS = ["EXEC", "READ", "WRITE", "SPAWN", "SEND", "STATE", "THINK", "HTTP", "OBSERVE", "ADMIN"]

libc = ctypes.CDLL(None, use_errno=True)


def become(uid: int) -> Callable[[], None] | None:
    """For a child: another user, unless it is the one already."""
    if uid == os.geteuid():
        return None

    def drop() -> None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)

    return drop


def uid_of(mode: str) -> int:
    if mode == "root":
        return 0
    return os.geteuid() or ROOTLESS_UID


def why_not(mode: str) -> str:
    """Empty when this host can have such a kernel."""
    if mode == "root":
        return "" if os.geteuid() == 0 else "a kernel of root takes root"
    drop = become(uid_of(mode))
    readable = subprocess.run([str(binary()), "--version"], preexec_fn=drop, capture_output=True, check=False)
    return _no_namespaces(drop) if readable.returncode == 0 else "another user cannot run this kernel's file"


def _no_namespaces(drop: Callable[[], None] | None) -> str:
    done = subprocess.run(["unshare", "--user", "true"], preexec_fn=drop, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"user namespaces without root: {done.stderr.strip()}"


def _victim_pid_is_high(pid: int) -> bool:
    """A number that no process of a box has by chance."""
    return pid > 2000


class Place:
    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.uid = uid_of(mode)
        self.token = f"token-{uuid.uuid4().hex}"
        self.directory = Path(tempfile.mkdtemp(prefix="clove-"))
        self._mounts = Path("/proc/self/mountinfo").read_text()
        self.kernel: Kernel | None = None
        self._undo: list[Callable[[], object]] = []
        self._count = 0

    # ---- the host ----

    def start(self) -> None:
        self.directory.chmod(0o755)
        self._own(self.directory)
        self.kernel = Kernel(
            self.directory, ["--cores", "2"], preexec=become(self.uid), env={"SECRET_OF_THE_KERNEL": self.token}
        )
        self._undo.append(self.kernel.stop)
        self.client = self.kernel.client()
        self.scratch = self.directory / "scratch"
        self.scratch.mkdir()
        self._own(self.scratch)
        self.facts: dict[str, object] = {
            "token": self.token,
            "kernel_socket": str(self.kernel.socket_path),
            "memory": MEMORY,
            "tmp": TMP,
            "max_pids": MAX_PIDS,
        }
        self._make_files()
        self._make_victim()
        self._make_ipc()
        self._make_sockets()
        self._make_agents()

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.uid)

    def _make_files(self) -> None:
        for name in ("secret", "target"):
            path = self.directory / name
            path.write_text(self.token)
            path.chmod(0o666)
            self._own(path)
            self.facts[name] = str(path)
        self.facts["handle"] = self._handle(str(self.facts["secret"]))
        for name in sorted(os.listdir("/dev")):
            st = os.lstat(f"/dev/{name}")
            if stat.S_ISBLK(st.st_mode) and not name.startswith(("loop", "ram", "nbd")):
                self.facts["disk"] = f"/dev/{name}"
                self.facts["disk_number"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
                break

    @staticmethod
    def _handle(path: str) -> str:
        raw = ctypes.create_string_buffer(8 + 128)
        ctypes.cast(raw, ctypes.POINTER(ctypes.c_uint32))[0] = 128
        if libc.name_to_handle_at(-100, path.encode(), raw, ctypes.byref(ctypes.c_int()), 0) < 0:
            return ""
        size = ctypes.cast(raw, ctypes.POINTER(ctypes.c_uint32))[0]
        return raw.raw[: 8 + size].hex()

    def _make_victim(self) -> None:
        """A process of the kernel's own user, with the secret in its arguments and its environment."""
        while True:
            victim = subprocess.Popen(
                [PYTHON, "-c", "import time; time.sleep(1000)", self.token],
                env={"SECRET": self.token},
                stdin=subprocess.DEVNULL,
                preexec_fn=become(self.uid),
            )
            if _victim_pid_is_high(victim.pid):
                break
            victim.kill()
            victim.wait()
        self.victim = victim
        self.facts["victim"] = victim.pid
        self._undo.append(lambda: (victim.kill(), victim.wait()))

    def _make_ipc(self) -> None:
        """As the kernel's user: objects of System V, and a message queue. Open to everybody."""
        code = (
            "import ctypes, sys; c = ctypes.CDLL(None); import os; os.umask(0)\n"
            "shm = c.shmget(0, 4096, 0o1666); c.shmat.restype = ctypes.c_void_p\n"
            "ctypes.memmove(c.shmat(shm, None, 0), b'host', 4)\n"
            "sem = c.semget(0, 1, 0o1666); msg = c.msgget(0, 0o1666)\n"
            "c.msgsnd(msg, ctypes.create_string_buffer(b'\\1' + bytes(7) + b'host'), 4, 0)\n"
            "mq = c.mq_open(sys.argv[1].encode(), os.O_CREAT | os.O_RDWR, 0o666, None)\n"
            "print(shm, sem, msg, mq)\n"
        )
        name = f"/clove-{uuid.uuid4().hex}"
        out = subprocess.run(
            [PYTHON, "-c", code, name], preexec_fn=become(self.uid), capture_output=True, text=True, check=True
        ).stdout
        shm, sem, msg, _ = (int(word) for word in out.split())
        self.facts.update(shm=shm, sem=sem, msg=msg, mqueue=name[1:])
        self._undo.append(lambda: libc.shmctl(shm, 0, None))
        self._undo.append(lambda: libc.semctl(sem, 0, 0))
        self._undo.append(lambda: libc.msgctl(msg, 0, None))
        self._undo.append(lambda: libc.mq_unlink(name.encode()))

    def _listen(self, family: int, kind: int, address: object) -> socket.socket:
        sock = socket.socket(family, kind)
        self._undo.append(sock.close)
        sock.bind(address)  # type: ignore[arg-type]
        if kind == socket.SOCK_STREAM:
            sock.listen(100)
        return sock

    def _make_sockets(self) -> None:
        names = [f"clove-{uuid.uuid4().hex}" for _ in range(2)]
        path = self.directory / "host.sock"
        self._listen(socket.AF_UNIX, socket.SOCK_STREAM, b"\0" + names[0].encode())
        self._listen(socket.AF_UNIX, socket.SOCK_DGRAM, b"\0" + names[1].encode())
        self._listen(socket.AF_UNIX, socket.SOCK_STREAM, str(path))
        path.chmod(0o666)
        tcp = self._listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        udp = self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self.facts.update(
            abstract=names[0],
            abstract_datagram=names[1],
            path_socket=str(path),
            tcp=tcp.getsockname()[1],
            udp=udp.getsockname()[1],
        )

    def _make_agents(self) -> None:
        """One that lives, and one that has ended and left a secret in its workspace."""
        other = self.client.call("SPAWN", "other", ["sleep", "1000"], {"env": {"PLACE": self.token}})
        self.facts.update(other_id=other["agent_id"], other_name="other")
        self.client.call("SPAWN", "ended", ["sh", "-c", f"echo {self.token} > /workspace/secret"])
        assert self.client.call("WAIT", "ended")["exit_code"] == 0
        self.facts["ended_name"] = "ended"

    # ---- agents ----

    def start_agent(self, script: str, **options: object) -> str:
        """A script in an agent of its own; its name."""
        self._count += 1
        name = f"agent-{self._count}"
        path = self.directory / f"{name}.py"
        path.write_text(script)
        path.chmod(0o644)
        env = {"PLACE": self.token, **options.pop("env", {})}  # type: ignore[dict-item]
        self.client.call("SPAWN", name, str(path), {**options, "env": env})
        return name

    def log(self, name: str, stream: str = "stdout") -> str:
        return self.client.call("LOGS", name, stream)["data"].decode(errors="replace")

    def ready(self, name: str) -> str:
        """The output of an agent that says when it has done its worst."""
        wait_until(lambda: "READY" in self.log(name) or not self._lives(name), f"{name} is ready", 30)
        text = self.log(name)
        assert "READY" in text, f"{text}{self.log(name, 'stderr')}"
        return text

    def _lives(self, name: str) -> bool:
        return name in [agent["name"] for agent in self.client.call("LIST")]

    def run_probes(self, control: bool = False) -> dict[str, dict]:
        facts = dict(self.facts)
        options: dict[str, object] = {}
        if control:
            facts.update(control=True, work=str(self.scratch), ended_file=facts["secret"], tmp=TMP // 4)
            options.update(sandboxed=False, rights=ALL_RIGHTS)
        else:
            options.update(limits={"memory": MEMORY, "tmp": TMP, "max_pids": MAX_PIDS})
        options["env"] = {"PROBE_FACTS": json.dumps(facts)}
        name = self.start_agent((HERE / "probe.py").read_text(), **options)
        end = self.client.call("WAIT", name)
        lines = [json.loads(line) for line in self.log(name).splitlines()]
        assert end["exit_code"] == 0, f"{end}\n{self.log(name, 'stderr')}"
        return {line.pop("name"): line for line in lines}

    # ---- the end ----

    def stop(self) -> None:
        """Everything is undone, whatever happens on the way, and what fails is said."""
        errors: list[Exception | AssertionError] = []
        for undo in reversed(self._undo):
            try:
                undo()
            except (OSError, AssertionError) as error:
                errors.append(error)
        shutil.rmtree(self.directory)
        assert not errors, errors
        assert Path("/proc/self/mountinfo").read_text() == self._mounts, "a mount is left"
        wait_until(lambda: not self._processes_of_token(), "no process is left")

    def _processes_of_token(self) -> list[int]:
        """Every agent started here has it in its environment, the victim in its arguments."""
        found = []
        for pid in procfs.pids():
            try:
                text = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            if self.token.encode() in text or str(self.directory).encode() in text:
                found.append(pid)
        return found
