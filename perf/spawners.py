# SPDX-License-Identifier: MIT
"""The systems of the scenario spawn: what puts a program into a box.

All have the same four calls: begin() starts one program, take_ended() waits until at least one has ended and is
reaped, lines() is what the programs wrote, and kill_all() ends those that stay. Each program gets a fresh workspace,
whose making belongs to the start.
"""

import contextlib
import fcntl
import functools
import json
import os
import resource
import shutil
import signal
import socket
import struct
import time
from pathlib import Path

import machine
import process
import server

HERE = Path(__file__).resolve().parent
CHILD = HERE / "spawn_child.py"
PYTHON = "/usr/bin/python3"
TRUE = "/bin/true"
INSIDE_CHILD = f"/agent/{CHILD.name}"
ENVIRONMENT = {  # as core/bag.c and core/agent_launch.c give it to agents
    "HOME": "/workspace",
    "USER": "agent",
    "LOGNAME": "agent",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
}
TOPS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
PIPE_BYTES = 1 << 20
ORPHANS_S = 0.1  # they end by themselves
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
PROBE_S = 20


@contextlib.contextmanager
def time_limit(system, seconds):
    """Ends whatever waits within."""

    def on_alarm(*_):
        raise machine.Unusable(f"{system.NAME}: not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def probe(system):
    """Whether both programs run in it on this host."""
    with time_limit(system, PROBE_S):
        for what in ("", "hello"):
            system.begin(0, what)
            system.take_ended()
        if len(system.lines([0])[0]) != 1:
            raise machine.Unusable(f"{system.NAME}: the program's output did not arrive")
    system.forget()


class Clove(server.Clove):
    """The kernel, and one connection that asks it for agents."""

    NAME = "clove-cold"
    HEADER = struct.Struct("<IHHQ")
    SPAWN, WAIT, KILL, LOGS = 0x10, 0x200, 0x11, 0x202
    FLAG_ERROR = 2

    def __init__(self, *where, profile):
        super().__init__(*where)
        self.PROFILE = profile
        self.serial = 0
        self.names = {}  # index: name, of the run
        self.starting = {}  # id of SPAWN: index
        self.waiting = {}  # id of WAIT: index
        self.received = bytearray()
        self.connection = None

    def start(self):
        super().start()
        self.helpers = process.children_of_all()[self.pid]  # an init of a box has the launcher's name
        try:
            self.connection = socket.socket(socket.AF_UNIX)
            self.connection.connect(str(self.socket_path))
            probe(self)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        if self.connection:
            self.connection.close()
        super().stop()

    def settings(self):
        return f"{super().settings()}; SPAWN with profile {self.PROFILE}"

    def request(self, op, request_id, *args):
        import msgpack

        body = msgpack.packb(list(args))
        return self.HEADER.pack(len(body), op, 0, request_id) + body

    def next_reply(self):
        """(id, value) of the next frame."""
        import msgpack

        while True:
            if len(self.received) >= self.HEADER.size:
                length, op, flags, request_id = self.HEADER.unpack_from(self.received)
                end = self.HEADER.size + length
                if len(self.received) >= end:
                    value = msgpack.unpackb(bytes(self.received[self.HEADER.size : end]))
                    del self.received[:end]
                    if flags & self.FLAG_ERROR:
                        self.fail(f"refused call {op:#x}: {value}")
                    return request_id, value
            piece = self.connection.recv(1 << 18)
            if not piece:
                self.fail("closed the connection")
            self.received += piece

    def forget(self):
        self.names.clear()

    def begin(self, index, what, stays=False):
        self.serial += 1
        name = self.names[index] = f"s{self.serial}"
        program, options = [TRUE], {"profile": self.PROFILE}
        if what:
            program, options["args"] = str(CHILD), [what, str(index)]
        if not stays:
            self.starting[self.serial] = index
        self.connection.sendall(self.request(self.SPAWN, self.serial, name, program, options))

    def take_ended(self):
        """WAIT knows an agent as soon as SPAWN is answered."""
        while True:
            request_id, value = self.next_reply()
            if request_id in self.starting:
                self.serial += 1
                self.waiting[self.serial] = self.starting.pop(request_id)
                self.connection.sendall(self.request(self.WAIT, self.serial, value["agent_id"]))
            elif request_id in self.waiting:
                index = self.waiting.pop(request_id)
                if (value["reason"], value["exit_code"]) != ("exited", 0):
                    self.fail(f"an agent ended otherwise: {value}")
                return index

    def ask(self, indexes, op, *args):
        """{index: value} of one call for each."""
        values = {}
        for chunk in chunks(list(indexes), 100):
            asked = {}
            data = b""
            for index in chunk:
                self.serial += 1
                asked[self.serial] = index
                data += self.request(op, self.serial, self.names[index], *args)
            self.connection.sendall(data)
            while asked:
                request_id, value = self.next_reply()
                if request_id in asked:
                    values[asked.pop(request_id)] = value
        return values

    def lines(self, indexes):
        logs = self.ask(indexes, self.LOGS, "stdout")
        return {index: value["data"].decode().splitlines() for index, value in logs.items()}

    def boxes(self):
        """The processes of all agents."""
        children = process.children_of_all()
        roots = [pid for pid in children[self.pid] if pid not in self.helpers]
        return process.descendants(roots, children)

    def daemons(self):
        """The kernel and its helpers."""
        boxes = set(self.boxes())
        return [pid for pid in process.tree(self.pid) if pid not in boxes]

    def kill_all(self):
        self.ask(self.names, self.KILL)

    def cpu_ns(self):
        return process.cpu_ns(self.pid)


def chunks(items, size):
    return [items[start : start + size] for start in range(0, len(items), size)]


class Peer:
    """A program that makes a box, runs a program in it and ends with it: one process for each box."""

    PACKAGES = {}
    PROFILE = ""

    def __init__(self, directory, build_dir, options):
        self.directory = directory
        self.log_path = directory / "stderr.log"
        self.serial = 0
        self.alive = {}  # pid: index
        self.texts = {}  # index: lines

    def command(self, what, index):
        raise NotImplementedError

    def settings(self):
        words = " ".join(self.command("", "0")).replace(str(self.directory), "DIR")
        return words.replace(str(HERE), "perf")

    def start(self):
        self.directory.mkdir()
        server.libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.output, self.input = os.pipe()
        fcntl.fcntl(self.output, fcntl.F_SETFL, os.O_NONBLOCK)
        fcntl.fcntl(self.input, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.prepare()
        try:
            probe(self)
        except machine.Unusable as problem:
            self.stop()
            raise machine.CannotRun(str(problem)) from None

    def prepare(self):
        pass

    def stop(self):
        self.kill_all()
        for descriptor in (self.log, self.output, self.input, self.nothing):
            os.close(descriptor)
        shutil.rmtree(self.directory, ignore_errors=True)

    def forget(self):
        self.texts.clear()

    def fresh_workspace(self):
        self.serial += 1
        path = f"{self.directory}/workspace-{self.serial}"
        os.mkdir(path)
        return path

    def begin(self, index, what, stays=False):
        command = self.command(what, str(index))
        actions = [(os.POSIX_SPAWN_DUP2, self.nothing, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, self.input, 1), (os.POSIX_SPAWN_DUP2, self.log, 2)]
        pid = os.posix_spawn(command[0], command, ENVIRONMENT, file_actions=actions)
        self.alive[pid] = index

    def take_ended(self):
        pid = 0
        while pid not in self.alive:  # others are those that their parent left behind
            pid, status = os.wait()
        index = self.alive.pop(pid)
        if status:
            self.fail(f"ended with status {status:#x}")
        return index

    def lines(self, indexes):
        try:
            while piece := os.read(self.output, PIPE_BYTES):
                for line in piece.decode().splitlines():
                    self.texts.setdefault(int(line.split()[0]), []).append(line)
        except BlockingIOError:
            pass
        return {index: self.texts.get(index, []) for index in indexes}

    def boxes(self):
        return process.descendants(list(self.alive), process.children_of_all())

    def daemons(self):
        return []

    def fail(self, reason):
        tail = self.log_path.read_text(errors="replace")[-500:]
        raise machine.Unusable(f"{self.NAME}: {reason}\n{tail}")

    def kill_all(self):
        """From within: then what is around a program ends by itself, and tidies up."""
        children = process.children_of_all()
        for root in self.alive:
            below = process.descendants([root], children)[1:]
            for pid in below or [root]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        deadline = time.monotonic() + server.STOP_S
        while self.alive:
            for pid in list(self.alive):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del self.alive[pid]
                elif time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def cpu_ns(self):
        """Of all that is reaped. Bubblewrap ends before its box does, whose time would be nobody's."""
        time.sleep(ORPHANS_S)
        while not self.alive and os.waitpid(-1, os.WNOHANG)[0]:
            pass
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return round((used.ru_utime + used.ru_stime) * 1e9)


class Python3(Peer):
    """No box: the base line."""

    NAME = "python3"
    PROFILE = "none"

    def command(self, what, index):
        return [PYTHON, str(CHILD), what, index] if what else [TRUE]


class Bubblewrap(Peer):
    """The namespaces of Clove's profile strict and the same tree of files; no seccomp, no Landlock."""

    NAME = "bubblewrap"
    PROFILE = "unshare-all"
    PACKAGES = {"bwrap": "bubblewrap"}

    def prepare(self):
        words = [shutil.which("bwrap"), "--unshare-all", "--die-with-parent", "--new-session"]
        words += ["--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--hostname", "box"]
        words += ["--ro-bind", "/usr", "/usr"]
        for name, target in top_links():
            words += ["--symlink", target, f"/{name}"]
        words += ["--ro-bind", "/etc", "/etc", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        self.words = [*words, "--chdir", "/workspace"]

    def command(self, what, index):
        words = [*self.words, "--bind", self.fresh_workspace(), "/workspace"]
        if not what:
            return [*words, TRUE]
        return [*words, "--ro-bind", str(CHILD), INSIDE_CHILD, PYTHON, INSIDE_CHILD, what, index]


class Crun(Peer):
    """An OCI bundle for each box: the same namespaces and tree of files, no seccomp."""

    NAME = "crun"
    PROFILE = "own-namespaces"
    PACKAGES = {"crun": "crun"}

    def prepare(self):
        self.rootfs = self.directory / "rootfs"
        for name in ("usr", "etc", "proc", "dev", "tmp", "workspace", "agent"):
            (self.rootfs / name).mkdir(parents=True)
        (self.rootfs / "agent" / CHILD.name).touch()
        for name, target in top_links():
            (self.rootfs / name).symlink_to(target)
        (self.directory / "state").mkdir()
        manager = "cgroupfs" if has_own_cgroups() else "disabled"
        self.words = [shutil.which("crun"), "--cgroup-manager", manager]
        self.words += ["--root", f"{self.directory}/state", "run"]
        self.template = json.dumps(self.config(["ARGV"], "WORKSPACE"))
        if is_hybrid() and os.geteuid() == 0:
            hide_cgroups()

    def command(self, what, index):
        bundle = self.fresh_workspace()
        os.mkdir(f"{bundle}/workspace")
        argv = [PYTHON, INSIDE_CHILD, what, index] if what else [TRUE]
        config = self.template.replace('["ARGV"]', json.dumps(argv))
        with open(f"{bundle}/config.json", "w") as file:
            file.write(config.replace("WORKSPACE", f"{bundle}/workspace"))
        return [*self.words, "--bundle", bundle, f"clove-perf-{os.getpid()}-{self.serial}"]

    def config(self, argv, workspace):
        def bind(source, target, *options):
            options = ["bind", "nosuid", "nodev", *options]
            return {"type": "bind", "source": str(source), "destination": target, "options": options}

        def scratch(target, *options):
            return {"type": "tmpfs", "source": "tmpfs", "destination": target, "options": ["nosuid", *options]}

        mounts = [bind("/usr", "/usr", "ro"), bind("/etc", "/etc", "ro")]
        mounts += [{"type": "proc", "source": "proc", "destination": "/proc"}]
        mounts += [scratch("/dev", "mode=755"), scratch("/tmp", "mode=1777")]
        mounts += [bind(workspace, "/workspace", "rw"), bind(CHILD, INSIDE_CHILD, "ro")]
        spaces = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")
        return {
            "ociVersion": "1.0.0",
            "root": {"path": str(self.rootfs), "readonly": True},
            "hostname": "box",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": argv,
                "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
                "cwd": "/workspace",
                "noNewPrivileges": True,
            },
            "mounts": mounts,
            "linux": {
                "namespaces": [{"type": each} for each in spaces],
                "uidMappings": [{"containerID": 0, "hostID": os.geteuid(), "size": 1}],
                "gidMappings": [{"containerID": 0, "hostID": os.getegid(), "size": 1}],
            },
        }


def top_links():
    """[(name, target)] of the links to /usr in this host's root."""
    return [(name, os.readlink(f"/{name}")) for name in TOPS if os.path.islink(f"/{name}")]


def is_hybrid():
    """Whether cgroup v2 holds some controllers and v1 others: there crun refuses to start, even without cgroups."""
    controllers = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    return controllers.exists() and bool(controllers.read_text().strip())


def hide_cgroups():
    """From this process and what it starts, by a mount namespace of its own."""
    private = MS_REC | MS_PRIVATE
    if server.libc.unshare(CLONE_NEWNS) or server.libc.mount(None, b"/", None, private, None):
        raise machine.CannotRun("cgroup v1 and v2 are mixed here, and cannot be hidden from crun")
    if server.libc.mount(b"tmpfs", b"/sys/fs/cgroup", b"tmpfs", 0, None):
        raise machine.CannotRun("cgroup v1 and v2 are mixed here, and cannot be hidden from crun")


def has_own_cgroups():
    """Whether crun can make groups here: cgroup v2 alone, and root."""
    return os.geteuid() == 0 and Path("/sys/fs/cgroup/cgroup.controllers").exists()


SYSTEMS = {
    "clove-strict": functools.partial(Clove, profile="strict"),
    "clove-standard": functools.partial(Clove, profile="standard"),
    "bubblewrap": Bubblewrap,
    "crun": Crun,
    "python3": Python3,
}
