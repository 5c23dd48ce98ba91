# SPDX-License-Identifier: MIT
"""Ways out of a box, one function each; run as a program inside an agent.

A function returns what it got when the attempt succeeded, and raises OSError when it was denied. Each runs in
a process of its own, so that one that is killed tells so and nothing it did remains. One JSON line each:
{"name", "succeeded", "error": errno name or signal name, "detail"}, or {"name", "skipped": reason}.

PROBE_FACTS, a JSON map from outside, names what there is to reach: files, processes, sockets. With
"control" the same functions run where nothing confines them, and are to succeed, doing no harm to the host.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable

try:
    import msgpack
except ImportError:  # for those who only want the names
    msgpack = None  # type: ignore[assignment]

FACTS: dict = json.loads(os.environ.get("PROBE_FACTS", "{}"))
CONTROL = bool(FACTS.get("control"))
WORK = FACTS.get("work", "/workspace")
# The process that looks after this box; where there is no box, the victim stands in.
INIT = FACTS.get("victim", 0) if CONTROL else 1
PROBE_S = 20
X86 = platform.machine() == "x86_64"

PROBES: dict[str, Callable[[], object]] = {}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Skip(Exception):
    """This machine has nothing to try it on."""


def probe(function: Callable[[], object]) -> Callable[[], object]:
    PROBES[function.__name__] = function
    return function


def checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


# x86_64 and the rest, whose numbers are those of asm-generic
NUMBERS = {
    "io_setup": (206, 0), "inotify_init1": (294, 26), "open_by_handle_at": (304, 265), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "mount_setattr": (442, 442), "clone": (56, 220), "clone3": (435, 435), "chroot": (161, 51),
    "pivot_root": (155, 41), "mount": (165, 40), "umount2": (166, 39), "ptrace": (101, 117), "kcmp": (312, 272),
    "process_vm_readv": (310, 270), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "io_uring_setup": (425, 425), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "finit_module": (313, 273), "delete_module": (176, 106), "syslog": (103, 116), "personality": (135, 92),
    "sethostname": (170, 161), "setdomainname": (171, 162), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "reboot": (169, 142), "swapoff": (168, 225), "acct": (163, 89),
    "iopl": (172, -1), "ioperm": (173, -1), "modify_ldt": (154, -1), "fanotify_init": (300, 262),
    "memfd_secret": (447, 447), "quotactl": (179, 60), "capset": (126, 91), "process_madvise": (440, 440),
    "kexec_load": (246, 104), "mq_open": (240, 180), "sched_setattr": (314, 274), "exit": (60, 93),
}


def call(name: str, *args: object) -> int:
    number = NUMBERS[name][0 if X86 else 1]
    if number < 0:
        raise Skip(f"{platform.machine()} has no {name}()")
    return checked(libc.syscall(ctypes.c_long(number), *[
        ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]))


def set_limit(what: int, soft: int, hard: int) -> None:
    try:
        resource.setrlimit(what, (soft, hard))
    except ValueError as error:  # as Python calls this EPERM
        raise deny(errno.EPERM, str(error)) from error


def private_mounts() -> None:
    """In a control, mounts are to stay with the process that tries."""
    if CONTROL:
        call("unshare", 0x20000)
        call("mount", b"none", b"/", None, 1 << 14 | 1 << 18, None)  # MS_REC | MS_PRIVATE


def read(path: str, n: int = 4096) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, n)
    finally:
        os.close(fd)


def opened(path: str, flags: int) -> str:
    os.close(os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY))
    return path


def deny(code: int, why: str = "") -> OSError:
    return OSError(code, why or os.strerror(code))


def reached(code: int, function: Callable[..., object], *args: object) -> object:
    """A call that ends with this errno once it is past every check of who asks."""
    try:
        return function(*args)
    except OSError as error:
        if error.errno == code:
            return f"refused only with {errno.errorcode[code]}"
        raise


# ---- files ----


@probe
def file_shadow() -> object:
    return len(read("/etc/shadow"))


@probe
def file_of_the_host() -> object:
    return read(FACTS["secret"])


@probe
def file_of_the_host_by_dotdot() -> object:
    return read("../" * 40 + FACTS["secret"][1:])


@probe
def file_of_the_host_by_own_root() -> object:
    return read("/proc/self/root/../.." + FACTS["secret"])


@probe
def file_of_the_host_by_symlink() -> object:
    link = f"{WORK}/link-{os.getpid()}"
    os.symlink(FACTS["secret"], link)
    try:
        return read(link)
    finally:
        os.unlink(link)


@probe
def file_of_the_host_by_hard_link() -> object:
    link = f"{WORK}/hard-{os.getpid()}"
    os.link(FACTS["secret"], link)
    try:
        return read(link)
    finally:
        os.unlink(link)


@probe
def file_of_the_host_by_handle() -> object:
    """As in "shocker": a handle needs no path to its file."""
    if not FACTS.get("handle"):
        raise Skip("the host's file system makes no handles")
    raw = bytes.fromhex(FACTS["handle"])
    root = os.open(os.path.dirname(FACTS["secret"]) if CONTROL else "/workspace", os.O_RDONLY)
    return os.read(call("open_by_handle_at", root, ctypes.create_string_buffer(raw, len(raw)), 0), 100)


@probe
def file_write_outside() -> object:
    return opened(FACTS["target"], os.O_WRONLY | os.O_APPEND)


@probe
def file_write_usr() -> object:
    path = f"/usr/clove-probe-{os.getpid()}"
    opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.unlink(path)
    return path


@probe
def file_write_root() -> object:
    path = f"/clove-probe-{os.getpid()}"
    os.mkdir(path)
    os.rmdir(path)
    return path


@probe
def file_write_script() -> object:
    """What runs next time."""
    return opened(os.path.abspath(__file__), os.O_WRONLY)


@probe
def file_proc_1_root() -> object:
    return os.listdir(f"/proc/{INIT}/root/")


@probe
def file_proc_1_cwd() -> object:
    return os.listdir(f"/proc/{INIT}/cwd/")


@probe
def file_environ_of_the_host() -> object:
    if FACTS["token"].encode() not in read(f"/proc/{FACTS['victim']}/environ", 1 << 16):
        raise deny(errno.ENOENT, "read, but the secret is not in it")


@probe
def file_environ_of_init() -> object:
    return len(read(f"/proc/{INIT}/environ"))


@probe
def file_core_pattern() -> object:
    return opened("/proc/sys/kernel/core_pattern", os.O_WRONLY)


@probe
def file_sysrq() -> object:
    return opened("/proc/sysrq-trigger", os.O_WRONLY)


@probe
def file_proc_keys() -> object:
    return len(read("/proc/keys")) + 1


@probe
def file_proc_sys() -> object:
    return len(os.listdir("/proc/sys/kernel"))


@probe
def file_sysfs() -> object:
    return len(os.listdir("/sys/kernel"))


@probe
def file_cgroup() -> object:
    return len(os.listdir("/sys/fs/cgroup"))


@probe
def file_make_disk() -> object:
    path = f"{WORK}/disk-{os.getpid()}"
    os.mknod(path, 0o600 | 0o060000, os.makedev(*FACTS.get("disk_number", (254, 0))))
    os.unlink(path)
    return path


@probe
def file_open_disk() -> object:
    if not FACTS.get("disk"):
        raise Skip("the host has no block device")
    return opened(FACTS["disk"], os.O_RDONLY)


@probe
def file_set_uid_bit() -> object:
    """A file in the workspace lies on the host's disk, with its bits."""
    path = f"{WORK}/suid-{os.getpid()}"
    opened(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.chmod(path, 0o4755)
        if not os.stat(path).st_mode & 0o4000:
            raise deny(errno.EPERM, "the bit was dropped")
    finally:
        os.unlink(path)


# ---- privileges ----


@probe
def priv_set_uid_program() -> object:
    """An ordinary user's su is root until it has asked for the password."""
    program = next((path for path in ("/usr/bin/su", "/bin/su") if os.path.exists(path)), None)
    if not program:
        raise Skip("the host has no su")
    child = subprocess.Popen([program, "-c", "true"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end and child.poll() is None:
            status = read(f"/proc/{child.pid}/status").decode()
            if "Name:\tsu\n" in status and status.partition("Uid:")[2].split()[1] == "0":
                return status.partition("Uid:")[2].splitlines()[0]
            time.sleep(0.005)
    finally:
        child.kill()
        child.wait()
    raise deny(errno.EPERM, "it ran as its caller")


@probe
def priv_become_root() -> object:
    os.setresuid(0, 0, 0)


@probe
def priv_become_another() -> object:
    os.setresuid(12345, 12345, 12345)


@probe
def priv_groups() -> object:
    os.setgroups([0])


@probe
def priv_capabilities() -> object:
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(1 << 21, 1 << 21, 0, 0, 0, 0)  # CAP_SYS_ADMIN
    call("capset", head, data)


@probe
def priv_unshare_user() -> object:
    call("unshare", 0x10000000)


@probe
def priv_unshare_net() -> object:
    call("unshare", 0x40000000)


@probe
def priv_clone_user() -> object:
    pid = call("clone", 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@probe
def priv_clone3_user() -> object:
    args = (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = call("clone3", args, ctypes.sizeof(args))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@probe
def priv_mount_in_own_user_namespace() -> object:
    call("unshare", 0x10000000 | 0x20000)
    call("mount", b"none", b"/tmp", b"tmpfs", 0, None)


@probe
def priv_mount() -> object:
    private_mounts()
    call("mount", b"none", b"/tmp", b"tmpfs", 0, None)


@probe
def priv_bind() -> object:
    private_mounts()
    call("mount", b"/usr", b"/tmp", None, 4096, None)


@probe
def priv_remount_writable() -> object:
    private_mounts()
    call("mount", b"none", b"/usr" if not CONTROL else b"/", None, 32 | 4096, None)


@probe
def priv_umount() -> object:
    private_mounts()
    call("umount2", b"/proc", 2)


@probe
def priv_open_tree() -> object:
    private_mounts()
    call("open_tree", -100, b"/", 1)


@probe
def priv_fsopen() -> object:
    call("fsopen", b"tmpfs", 0)


@probe
def priv_mount_setattr() -> object:
    private_mounts()
    call("mount_setattr", -100, b"/", 0, (ctypes.c_uint64 * 4)(0, 2, 0, 0), 32)


@probe
def priv_move_mount() -> object:
    return reached(errno.EBADF, call, "move_mount", 9999, b"", -100, b"/tmp", 4)


@probe
def priv_chroot() -> object:
    call("chroot", b"/tmp")


@probe
def priv_pivot_root() -> object:
    private_mounts()
    call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
    os.chdir("/tmp")
    call("pivot_root", b".", b".")


@probe
def priv_setns_own() -> object:
    call("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0)


@probe
def priv_setns_init() -> object:
    call("setns", os.open(f"/proc/{INIT}/ns/mnt", os.O_RDONLY), 0)


@probe
def priv_setns_host() -> object:
    call("setns", os.open(f"/proc/{FACTS['victim']}/ns/net", os.O_RDONLY), 0)


# ---- processes ----


@probe
def proc_kill_host() -> object:
    os.kill(FACTS["victim"], signal.SIGCONT)


@probe
def proc_pidfd_kill_host() -> object:
    call("pidfd_send_signal", call("pidfd_open", FACTS["victim"], 0), signal.SIGCONT, None, 0)


@probe
def proc_kill_init() -> object:
    """Allowed by uid, yet without effect on the init of its namespace."""
    if CONTROL:
        raise Skip("it would end the control's init or the host's")
    for signo in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV):
        os.kill(1, signo)
    time.sleep(0.2)
    raise deny(errno.EPERM, "it lives, since this does")


@probe
def proc_ptrace_host() -> object:
    call("ptrace", 0x4206, FACTS["victim"], 0, 0)  # PTRACE_SEIZE, ends with this process


@probe
def proc_ptrace_init() -> object:
    call("ptrace", 0x4206, INIT, 0, 0)


def sleeping_child() -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(PROBE_S)
        os._exit(0)
    return pid


def end_child(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@probe
def proc_ptrace_child() -> object:
    child = sleeping_child()
    try:
        call("ptrace", 0x4206, child, 0, 0)
    finally:
        end_child(child)


def vm_read(pid: int) -> None:
    """The stack's page, as /proc tells; where it does not, any address is as good for a refusal."""
    try:
        lines = read(f"/proc/{pid}/maps", 1 << 16).decode().splitlines()
        start = int(next(line for line in lines if " r" in line and "/" in line).split("-")[0], 16)
    except (OSError, StopIteration):
        start = 0x400000
    buffer = ctypes.create_string_buffer(16)
    local = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 16)
    remote = (ctypes.c_uint64 * 2)(start, 16)
    call("process_vm_readv", pid, local, 1, remote, 1, 0)


@probe
def proc_vm_readv_host() -> object:
    vm_read(FACTS["victim"])


@probe
def proc_vm_readv_init() -> object:
    vm_read(INIT)


@probe
def proc_vm_readv_child() -> object:
    child = sleeping_child()
    try:
        vm_read(child)
    finally:
        end_child(child)


@probe
def proc_mem_host() -> object:
    return opened(f"/proc/{FACTS['victim']}/mem", os.O_RDWR)


@probe
def proc_mem_init() -> object:
    return opened(f"/proc/{INIT}/mem", os.O_RDWR)


@probe
def proc_fds_of_init() -> object:
    return os.listdir(f"/proc/{INIT}/fd")


@probe
def proc_pidfd_getfd_host() -> object:
    call("pidfd_getfd", call("pidfd_open", FACTS["victim"], 0), 0, 0)


@probe
def proc_pidfd_getfd_init() -> object:
    call("pidfd_getfd", call("pidfd_open", INIT, 0), 0, 0)


@probe
def proc_kcmp_host() -> object:
    call("kcmp", os.getpid(), FACTS["victim"], 1, 0, 0)


@probe
def proc_madvise_host() -> object:
    nothing = (ctypes.c_uint64 * 2)(0, 0)
    call("process_madvise", call("pidfd_open", FACTS["victim"], 0), nothing, 1, 20, 0)  # MADV_COLD


@probe
def proc_list_host() -> object:
    """The victim's command line carries the token."""
    seen = [name for name in os.listdir("/proc") if name.isdigit()]
    for name in seen:
        try:
            if FACTS["token"].encode() in read(f"/proc/{name}/cmdline"):
                return f"found as {name} among {len(seen)}"
        except OSError:
            pass
    raise deny(errno.ENOENT, f"not among {len(seen)}")


@probe
def proc_list_init() -> object:
    return read(f"/proc/{INIT}/stat")


@probe
def proc_setpriority_host() -> object:
    os.setpriority(os.PRIO_PROCESS, FACTS["victim"], os.getpriority(os.PRIO_PROCESS, FACTS["victim"]))


@probe
def proc_raise_priority() -> object:
    os.setpriority(os.PRIO_PROCESS, 0, -5)


@probe
def proc_scheduler_fifo() -> object:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@probe
def proc_scheduler_deadline() -> object:
    call("sched_setattr", 0, struct.pack("<IIQiIQQQ", 48, 6, 0, 0, 0, 10_000_000, 100_000_000, 100_000_000), 0)


@probe
def proc_scheduler_slice() -> object:
    """To run long in a row, so that others wait."""
    call("sched_setattr", 0, struct.pack("<IIQiIQQQ", 48, 0, 0, 0, 0, 100_000_000, 0, 0), 0)


@probe
def proc_scheduler_host() -> object:
    os.sched_setscheduler(FACTS["victim"], os.SCHED_OTHER, os.sched_param(0))


@probe
def proc_affinity_host() -> object:
    os.sched_setaffinity(FACTS["victim"], os.sched_getaffinity(FACTS["victim"]))


@probe
def proc_prlimit_host() -> object:
    return resource.prlimit(FACTS["victim"], resource.RLIMIT_NOFILE)


@probe
def proc_prlimit_init() -> object:
    """With RLIMIT_FSIZE 0 the init would write no more logs, and nobody would know."""
    now = resource.prlimit(INIT, resource.RLIMIT_FSIZE)
    return resource.prlimit(INIT, resource.RLIMIT_FSIZE, now)


# ---- ipc ----


@probe
def ipc_shm_host() -> object:
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(FACTS["shm"], None, 0)
    if address == ctypes.c_void_p(-1).value:
        checked(-1)
    return ctypes.string_at(address, 4)


@probe
def ipc_sem_host() -> object:
    return checked(libc.semctl(FACTS["sem"], 0, 12))  # GETVAL


@probe
def ipc_msg_host() -> object:
    return checked(libc.msgrcv(FACTS["msg"], ctypes.create_string_buffer(64), 8, 0, 0o4000 | 0o40000))  # COPY


@probe
def ipc_mqueue_host() -> object:
    call("mq_open", FACTS["mqueue"].encode(), os.O_RDONLY, 0, None)


def unix(kind: int, address: str | bytes) -> None:
    with socket.socket(socket.AF_UNIX, kind) as connection:
        connection.connect(address)


@probe
def ipc_abstract_socket_host() -> object:
    unix(socket.SOCK_STREAM, b"\0" + FACTS["abstract"].encode())


@probe
def ipc_path_socket_host() -> object:
    unix(socket.SOCK_STREAM, FACTS["path_socket"])


@probe
def ipc_kernel_socket() -> object:
    """By the front door, where no agent is known as one."""
    unix(socket.SOCK_STREAM, FACTS["kernel_socket"])


@probe
def ipc_datagram_pair_to_abstract() -> object:
    """One end of a pair may be sent elsewhere."""
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with a, b:
        a.sendto(b"x", b"\0" + FACTS["abstract_datagram"].encode())


@probe
def ipc_stream_pair_bound_to_abstract() -> object:
    """A name of its own, for other boxes to connect to."""
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with a, b:
        a.bind(b"\0clove-probe-%d" % os.getpid())


@probe
def ipc_keyctl() -> object:
    call("keyctl", 0, -3, 1)  # KEYCTL_GET_KEYRING_ID of the session


@probe
def ipc_add_key() -> object:
    call("add_key", b"user", b"clove-probe", b"x", 1, -2)  # into the process's own, which ends with it


@probe
def ipc_request_key() -> object:
    return reached(errno.ENOKEY, call, "request_key", b"user", b"clove-no-such-key", None, 0)


# ---- network ----


@probe
def net_tcp_loopback() -> object:
    socket.create_connection(("127.0.0.1", FACTS["tcp"]), 3).close()


@probe
def net_tcp_loopback_6() -> object:
    with socket.socket(socket.AF_INET6) as sock:
        return reached(errno.ECONNREFUSED, sock.connect, ("::1", 1))


@probe
def net_udp_loopback() -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", FACTS["udp"]))


@probe
def net_udp_out() -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(b"x", ("192.0.2.1", 9))
        except OSError as error:
            if CONTROL and error.errno == errno.ENETUNREACH:
                raise Skip("the host itself has no route to the outside") from error
            raise


@probe
def net_tcp_fast_open() -> object:
    with socket.socket() as sock:
        sock.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", FACTS["tcp"]))


@probe
def net_listen() -> object:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()


@probe
def net_raw() -> object:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


@probe
def net_packet() -> object:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300).close()


@probe
def net_netlink() -> object:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


def optional_socket(family: int, kind: int, protocol: int = 0) -> None:
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        if CONTROL and error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
            raise Skip("this system has no such sockets at all") from error
        raise


@probe
def net_vsock() -> object:
    optional_socket(40, socket.SOCK_STREAM)


@probe
def net_alg() -> object:
    optional_socket(38, socket.SOCK_SEQPACKET)


@probe
def net_mptcp() -> object:
    """TCP by another number, which Landlock's rules do not know."""
    optional_socket(socket.AF_INET, socket.SOCK_STREAM, 262)


@probe
def net_sctp() -> object:
    optional_socket(socket.AF_INET, socket.SOCK_STREAM, 132)


@probe
def net_xdp() -> object:
    optional_socket(44, socket.SOCK_RAW)


@probe
def net_tun() -> object:
    return opened("/dev/net/tun", os.O_RDWR)


# ---- system calls ----


@probe
def sys_io_uring() -> object:
    call("io_uring_setup", 4, ctypes.create_string_buffer(120))


@probe
def sys_aio() -> object:
    """The host has so many contexts in all, fs.aio-max-nr, and one agent could take them."""
    call("io_setup", 64, ctypes.create_string_buffer(8))


@probe
def sys_inotify() -> object:
    """A user has so many, and those of every box count as its creator's on the host."""
    call("inotify_init1", 0)


@probe
def sys_bpf() -> object:
    call("bpf", 0, struct.pack("<IIIII", 2, 4, 4, 1, 0) + bytes(100), 48)  # an array map


@probe
def sys_perf_event_open() -> object:
    """The counter of its own page faults, without the kernel's."""
    attr = struct.pack("<IIQQQQQ", 1, 112, 2, 0, 0, 0, 1 << 5 | 1 << 6) + bytes(64)
    call("perf_event_open", attr, 0, -1, -1, 0)


@probe
def sys_userfaultfd() -> object:
    call("userfaultfd", 1)  # UFFD_USER_MODE_ONLY


@probe
def sys_load_module() -> object:
    return reached(errno.EBADF, call, "finit_module", -1, b"", 0)


@probe
def sys_delete_module() -> object:
    return reached(errno.ENOENT, call, "delete_module", b"clove_no_such_module", 0)


@probe
def sys_kexec() -> object:
    if CONTROL:
        raise Skip("it could drop a crash kernel of the host")
    call("kexec_load", 0, 0, None, 0)


@probe
def sys_hostname() -> object:
    name = os.uname().nodename.encode()
    call("sethostname", name, len(name))


@probe
def sys_domainname() -> object:
    name = read("/proc/sys/kernel/domainname").strip() if CONTROL else b"x"
    call("setdomainname", name, len(name))


@probe
def sys_clock() -> object:
    if CONTROL:
        return reached(errno.EINVAL, call, "clock_settime", 0, (ctypes.c_long * 2)(0, -1))
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    call("clock_settime", 0, (ctypes.c_long * 2)(*divmod(now, 10**9)))


@probe
def sys_adjtimex() -> object:
    data = (ctypes.c_long * 32)()
    call("adjtimex", data)  # reads, into the same place
    ctypes.cast(data, ctypes.POINTER(ctypes.c_uint32))[0] = 2  # ADJ_FREQUENCY, to what it is
    call("adjtimex", data)


@probe
def sys_dmesg() -> object:
    return call("syslog", 3, ctypes.create_string_buffer(64), 64)


@probe
def sys_reboot() -> object:
    return reached(errno.EINVAL, call, "reboot", 0xFEE1DEAD, 672274793, 0x12345, None)


@probe
def sys_swapoff() -> object:
    return reached(errno.ENOENT, call, "swapoff", b"/clove-no-such-swap")


@probe
def sys_acct() -> object:
    return reached(errno.ENOENT, call, "acct", b"/clove-no-such-file")


@probe
def sys_iopl() -> object:
    call("iopl", 3)


@probe
def sys_ioperm() -> object:
    call("ioperm", 0x80, 1, 1)


@probe
def sys_modify_ldt() -> object:
    call("modify_ldt", 0, ctypes.create_string_buffer(64), 64)


@probe
def sys_personality() -> object:
    call("personality", 0x0040000)  # ADDR_NO_RANDOMIZE


@probe
def sys_fanotify() -> object:
    call("fanotify_init", 0x200, 0)  # as a user may: FAN_REPORT_FID


@probe
def sys_memfd_secret() -> object:
    try:
        call("memfd_secret", 0)
    except OSError as error:
        if CONTROL and error.errno == errno.ENOSYS:
            raise Skip("this system has none") from error
        raise


@probe
def sys_unknown_call() -> object:
    """A number no system has: not known to the filter, so ENOSYS and not more."""
    if CONTROL:
        raise Skip("it exists nowhere")
    checked(libc.syscall(ctypes.c_long(1000)))


def machine_code(code: bytes) -> int:
    if not X86:
        raise Skip(f"{platform.machine()} has no such entry")
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    value = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if value < 0:
        raise OSError(-value, os.strerror(-value))
    return value


@probe
def sys_int80() -> object:
    """getpid() of i386."""
    return machine_code(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3")


@probe
def sys_x32() -> object:
    """getpid() of x32."""
    try:
        return machine_code(b"\xb8\x27\x00\x00\x40\x0f\x05\xc3")
    except OSError as error:
        if CONTROL and error.errno == errno.ENOSYS:
            raise Skip("this system is built without x32") from error
        raise


def on_terminal(request: int, argument: bytes) -> None:
    """On a terminal of its own where there is one, else on /dev/null, which has no such request."""
    try:
        master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        fcntl.ioctl(os.open("/dev/null", os.O_RDWR), request, argument)
        return
    fcntl.ioctl(master, 0x40045431, struct.pack("i", 0))  # TIOCSPTLCK
    number = struct.unpack("i", fcntl.ioctl(master, 0x80045430, bytes(4)))[0]  # TIOCGPTN
    os.setsid()
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR)  # controlling
    fcntl.ioctl(slave, request, argument)


@probe
def sys_tiocsti() -> object:
    on_terminal(0x5412, b"x")


@probe
def sys_tiocsti_with_high_bits() -> object:
    """The system takes 32 bits of the number, a careless filter compares 64."""
    on_terminal(0x5412, b"x") if CONTROL else checked(
        libc.syscall(ctypes.c_long(16 if X86 else 29), ctypes.c_long(os.open("/dev/null", os.O_RDWR)),
                     ctypes.c_long(1 << 32 | 0x5412), b"x"))


# ---- descriptors and secrets ----


@probe
def fd_directory() -> object:
    """A directory left open leads out: CVE-2024-21626."""
    if CONTROL:
        os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target != f"/proc/{os.getpid()}/fd" and os.path.isdir(f"/proc/self/fd/{name}"):
            return os.listdir(f"/proc/self/fd/{name}")
    raise deny(errno.ENOENT, "none is open")


@probe
def fd_unexpected() -> object:
    """Beyond standard input, output, errors, the connection, the door, and the pipe of this very report."""
    if CONTROL:
        os.open("/dev/null", os.O_RDONLY)
    listing = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
    more = {int(name) for name in os.listdir(listing)} - {0, 1, 2, 3, 4} - {listing, REPORT}
    found = {}
    for fd in more:
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the descriptor that listed them
            pass
    if not found:
        raise deny(errno.ENOENT, "none")
    return found


@probe
def fd_secret_in_environment() -> object:
    if CONTROL:
        os.environ["PLANTED"] = FACTS["token"]
    if not any(FACTS["token"] in value for name, value in os.environ.items() if name not in ("PROBE_FACTS", "PLACE")):
        raise deny(errno.ENOENT, "the kernel's environment is not here")


@probe
def fd_write_exe_of_init() -> object:
    """As runc's binary was: CVE-2019-5736. A file that runs is busy for whoever may write it."""
    return reached(errno.ETXTBSY, opened, f"/proc/{INIT}/exe", os.O_WRONLY)


@probe
def fd_write_own_exe() -> object:
    return reached(errno.ETXTBSY, opened, "/proc/self/exe", os.O_WRONLY)


@probe
def fd_read_back_output() -> object:
    """The read end of its own output pipe is the init's; here, output somebody else wrote would be read."""
    fd = os.open("/proc/self/fd/1", os.O_RDONLY | os.O_NONBLOCK)
    if os.fstat(fd).st_ino == os.fstat(1).st_ino and not CONTROL:
        raise deny(errno.EAGAIN, "its own pipe, which holds its own output alone")
    return "opened"


# ---- resources ----


@probe
def res_fork_bomb() -> object:
    limit, children = FACTS["max_pids"], []
    try:
        while len(children) <= limit:
            children.append(sleeping_child())
    finally:
        for pid in children:
            end_child(pid)
    return f"{len(children)} processes"


def fill(directory: str, most: int) -> str:
    path = f"{directory}/fill-{os.getpid()}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    block, written = bytes(1 << 20), 0
    try:
        while written <= most:
            written += os.write(fd, block)
    finally:
        os.close(fd)
        os.unlink(path)
    return f"{written} bytes"


@probe
def res_fill_tmp() -> object:
    return fill(WORK if CONTROL else "/tmp", FACTS["tmp"])


@probe
def res_fill_shm() -> object:
    return fill(WORK if CONTROL else "/dev/shm", FACTS["tmp"])


@probe
def res_fill_root() -> object:
    return fill(WORK if CONTROL else "/", FACTS["tmp"])


@probe
def res_names_of_tmp() -> object:
    """Names without content take memory as well."""
    directory, made = f"{WORK if CONTROL else '/tmp'}/names-{os.getpid()}", 0
    os.mkdir(directory)
    try:
        while made <= FACTS["tmp"] // 4096 + 64:
            os.close(os.open(f"{directory}/{made}", os.O_WRONLY | os.O_CREAT))
            made += 1
    finally:
        for number in range(made):
            os.unlink(f"{directory}/{number}")
        os.rmdir(directory)
    return f"{made} names"


@probe
def res_core_dump() -> object:
    os.chdir(WORK)
    set_limit(resource.RLIMIT_CORE, 1 << 20, 1 << 20)
    pid = os.fork()
    if pid == 0:
        os.abort()
    _, status = os.waitpid(pid, 0)
    for name in os.listdir("."):
        if name.startswith("core"):
            os.unlink(name)
    if not os.WCOREDUMP(status):
        raise deny(errno.EPERM, "no core was dumped")


@probe
def res_raise_rlimit() -> object:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    set_limit(resource.RLIMIT_NOFILE, limit + 1, limit + 1)


@probe
def res_descriptors() -> object:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit > 100_000:
        raise Skip(f"{limit} descriptors are allowed: too many to try")
    set_limit(resource.RLIMIT_NOFILE, *[limit + 100 if CONTROL else limit] * 2)
    for n in range(limit + 1):
        os.dup(0)
    return f"{n} descriptors"


@probe
def res_lock_memory() -> object:
    checked(libc.mlock(ctypes.create_string_buffer(1 << 20), ctypes.c_size_t(1 << 20)))


@probe
def res_memory() -> object:
    mmap.mmap(-1, FACTS["memory"], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


# ---- the kernel's own protocol ----

OPS = {"NOOP": 0, "EXEC": 2, "READ": 3, "WRITE": 4, "SPAWN": 0x10, "KILL": 0x11, "LIST": 0x12, "PAUSE": 0x14,
       "RESUME": 0x15, "HELLO": 0xFE, "WAIT": 0x200, "INSPECT": 0x201, "LOGS": 0x202, "STATS": 0x600}


class Refused(OSError):
    """An error reply; errno is its code, as ipc/wire.def has it."""


def connection() -> socket.socket:
    return socket.socket(fileno=os.dup(int(os.environ["CLOVE_FD"])))


def receive(sock: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        got = sock.recv(n - len(data))
        if not got:
            raise deny(errno.ECONNRESET, "the kernel closed the connection")
        data += got
    return data


def frame(op: str, *args: object, id: int = 7) -> bytes:
    body = msgpack.packb(list(args), use_bin_type=True)
    return struct.pack("<IHHQ", len(body), OPS[op], 0, id) + body


def ask(op: str, *args: object) -> object:
    with connection() as sock:
        sock.sendall(frame(op, *args))
        length, _, flags, _ = struct.unpack("<IHHQ", receive(sock, 16))
        value = msgpack.unpackb(receive(sock, length), strict_map_key=False)
    if flags & 2:
        raise Refused(value[0], value[1])
    return value


def ask_about_another(op: str) -> object:
    """By id and by name; either is one too many."""
    try:
        return ask(op, FACTS["other_id"])
    except Refused:
        return ask(op, FACTS["other_name"])


for _op in ("KILL", "WAIT", "PAUSE", "RESUME", "INSPECT", "LOGS"):
    PROBES[f"call_{_op.lower()}_another"] = lambda op=_op: ask_about_another(op)


@probe
def call_list() -> object:
    return ask("LIST")


@probe
def call_stats() -> object:
    return ask("STATS")


@probe
def call_read_outside() -> object:
    return ask("READ", FACTS["secret"])


@probe
def call_read_outside_relative() -> object:
    return ask("READ", "../" * 40 + FACTS["secret"][1:])


@probe
def call_write_outside() -> object:
    return ask("WRITE", FACTS["target"], b"", "append")


@probe
def call_exec_outside() -> object:
    """A command is to run where its agent is."""
    result = ask("EXEC", ["cat", FACTS["secret"]])
    if result["exit_code"]:
        raise deny(errno.ENOENT, result["stderr"].decode().strip())
    return result["stdout"]


@probe
def call_exec_finds_no_descriptor() -> object:
    """The process that enters a box comes from outside and was the launcher's."""
    result = ask("EXEC", ["sh", "-c", "exec 9</dev/null; ls /proc/self/fd" if CONTROL else "ls /proc/self/fd"])
    if len(result["stdout"].split()) > 4:  # 0, 1, 2, and the directory that is read
        return result["stdout"].split()
    raise deny(errno.ENOENT, "0, 1 and 2 alone")


@probe
def call_exec_race() -> object:
    """What enters is looked at all the while, for the moment in which it is still somebody else."""
    if CONTROL:
        raise Skip("outside, every process of the user can be looked at")
    own = os.readlink("/proc/self/exe")
    with connection() as sock:
        for n in range(40):
            sock.sendall(frame("EXEC", ["true"], id=n))
        left, pending = 40, b""
        while left:
            for name in os.listdir("/proc"):
                if not name.isdigit():
                    continue
                for what in ("exe", "root", "fd", "cwd"):
                    try:
                        at = f"/proc/{name}/{what}"
                        seen = os.listdir(at) if what == "fd" else os.readlink(at)
                    except OSError:
                        continue
                    if what == "exe" and "clove" in seen:
                        return f"{at} is {seen}"
                    if what == "fd" and os.readlink(f"/proc/{name}/exe") == own and int(name) == 1:
                        return f"{at} is open"
            if select.select([sock], [], [], 0)[0]:
                pending += sock.recv(65536)
                while len(pending) >= 16 and len(pending) >= 16 + struct.unpack_from("<I", pending)[0]:
                    pending = pending[16 + struct.unpack_from("<I", pending)[0]:]
                    left -= 1
    raise deny(errno.ENOENT, "never seen")


def spawn(program: object, **options: object) -> dict:
    """Starts a child and clears it away: what was it like?"""
    name = f"kid-{os.getpid()}"
    result = ask("SPAWN", name, program, options)
    assert isinstance(result, dict)
    try:
        ask("KILL", name)
    except Refused:
        pass
    return result


@probe
def call_spawn_unconfined() -> object:
    child = spawn(["sleep", "30"], sandboxed=False)
    if child["sandboxed"]:
        raise deny(errno.EPERM, "it was confined all the same")
    return child["profile"]


@probe
def call_spawn_trusted() -> object:
    child = spawn(["sleep", "30"], profile="none" if CONTROL else "trusted")
    if child["profile"] in ("strict", "standard"):
        raise deny(errno.EPERM, f"it became {child['profile']}")
    return child["profile"]


@probe
def call_spawn_sharing_the_host() -> object:
    return spawn(["sleep", "30"], ro=[WORK] if CONTROL else ["/"], profile="standard")["profile"]


@probe
def call_spawn_writing_the_host() -> object:
    return spawn(["sleep", "30"], rw=[os.path.dirname(FACTS["target"])], profile="standard")["profile"]


@probe
def call_spawn_script_of_the_host() -> object:
    return spawn(FACTS["secret"])["profile"]


@probe
def call_spawn_with_more_memory() -> object:
    child = spawn(["sleep", "30"], limits={"memory": 4 * FACTS["memory"]})
    if child["limits"]["memory"] <= FACTS["memory"]:
        raise deny(errno.EPERM, "it has no more")
    return child["limits"]


def output_of_child(program: list[str], **options: object) -> bytes:
    name = f"out-{os.getpid()}"
    ask("SPAWN", name, program, options)
    end = ask("WAIT", name)
    data = ask("LOGS", name, "stdout")["data"]
    assert isinstance(data, bytes)
    if not data:
        raise deny(errno.ENOENT, f"it ended with {end['exit_code']}")
    return data


@probe
def call_spawn_with_more_rights() -> object:
    """The child asks for what its parent may not."""
    script = (
        "import os, socket, struct\n"
        "s = socket.socket(fileno=int(os.environ['CLOVE_FD']))\n"
        "s.sendall(struct.pack('<IHHQ', 1, 0x600, 0, 1) + bytes([0x90]))\n"
        "print(struct.unpack('<IHHQ', s.recv(16))[2] & 2)\n"
    )
    if output_of_child(["/usr/bin/python3", "-c", script], rights=["OBSERVE", "ADMIN", "SPAWN"]) != b"0\n":
        raise deny(errno.EPERM, "the child was refused as well")


@probe
def call_spawn_with_more_tmp() -> object:
    """Its /tmp is memory, and not its parent's to hand out."""
    kib = int(output_of_child(["sh", "-c", "df -kP /tmp | tail -n 1"], limits={"tmp": 8 * FACTS["tmp"]}).split()[1])
    if kib * 1024 <= FACTS["tmp"]:
        raise deny(errno.EPERM, f"{kib} KiB")
    return f"{kib} KiB"


@probe
def call_spawn_with_more_workspace() -> object:
    """A workspace in memory, as large as one likes."""
    options: dict = {} if CONTROL else {"workspace": "memory", "limits": {"workspace": 1 << 40}}
    kib = int(output_of_child(["sh", "-c", "df -kP . | tail -n 1"], **options).split()[1])
    if kib * 1024 <= FACTS["memory"]:
        raise deny(errno.EPERM, f"{kib} KiB")
    return f"{kib} KiB"


@probe
def call_spawn_past_own_pids() -> object:
    """A limit of processes that children of children do not count against is none."""
    names, started = [f"many-{os.getpid()}-{i}" for i in range(FACTS["max_pids"] // 2 + 2)], 0
    try:
        for name in names:
            ask("SPAWN", name, ["sleep", "30"], {})
            started += 1
    finally:
        for name in names[:started]:
            ask("KILL", name)
    return f"{started} agents of two processes each, where {FACTS['max_pids']} processes are allowed"


@probe
def call_spawn_as_another() -> object:
    """The workspace is the name's; whoever takes the name takes what is in it."""
    ask("SPAWN", FACTS["ended_name"], ["cat", FACTS.get("ended_file", "/workspace/secret")], {})
    end = ask("WAIT", FACTS["ended_name"])
    data = ask("LOGS", FACTS["ended_name"], "stdout")["data"]
    if FACTS["token"].encode() not in data:
        raise deny(errno.ENOENT, f"it ended with {end['exit_code']}")
    return "read"


@probe
def call_hello_as_another() -> object:
    """Who one is, is not one's own to say."""
    reply = ask("HELLO", 1, 1, FACTS["other_name"])
    assert isinstance(reply, dict)
    if reply["agent_id"] != FACTS["other_id"]:
        raise deny(errno.EPERM, "it stays itself")
    return reply


@probe
def call_passing_descriptors() -> object:
    """The kernel keeps none that is sent along: its end of the pipe would keep the other open."""
    if CONTROL:  # somebody who does keep it
        a, b = socket.socketpair()
    with connection() as sock:
        reader, writer = os.pipe()
        to = a if CONTROL else sock
        socket.send_fds(to, [frame("NOOP", "x")], [writer] * 20)
        if CONTROL:
            kept = socket.recv_fds(b, 4096, 20)
        else:
            length = struct.unpack("<IHHQ", receive(sock, 16))[0]
            receive(sock, length)
        os.close(writer)
        if not select.select([reader], [], [], 2)[0]:
            return "the write end is still open" + (f", {len(kept[1])} times" if CONTROL else "")
        raise deny(errno.EPERM, "all were closed")


@probe
def call_forging_credentials() -> object:
    """SCM_CREDENTIALS of another uid and process."""
    with connection() as sock:
        body = struct.pack("iII", FACTS["victim"] if CONTROL else 1, 0, 0)
        sock.sendmsg([frame("NOOP", "x")], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, body)])
        receive(sock, struct.unpack("<IHHQ", receive(sock, 16))[0])


# ---- running them ----

REPORT = -1


def describe(error: OSError) -> dict:
    name = f"code {error.errno}" if isinstance(error, Refused) else errno.errorcode.get(error.errno or 0, "?")
    return {"succeeded": False, "error": name, "detail": str(error)}


def attempt(function: Callable[[], object]) -> dict:
    try:
        got = function()
        return {"succeeded": True, "error": "", "detail": repr(got)[:200]}
    except OSError as error:
        return describe(error)
    except MemoryError:
        return {"succeeded": False, "error": "ENOMEM", "detail": "no memory"}
    except Skip as skip:
        return {"skipped": str(skip)}
    except Exception as error:  # a defect here: told apart from any denial
        return {"succeeded": False, "error": type(error).__name__, "detail": str(error)}


def run(function: Callable[[], object]) -> dict:
    global REPORT
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(PROBE_S)
        os.close(reader)
        REPORT = writer
        os.write(writer, json.dumps(attempt(function)).encode()[:60000])
        os._exit(0)
    os.close(writer)
    text = b""
    while piece := os.read(reader, 65536):
        text += piece
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    if text:
        result = json.loads(text)
        assert isinstance(result, dict)
        return result
    signo = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status >> 8}"
    return {"succeeded": False, "error": signo, "detail": "the process ended"}


def main() -> None:
    for name, function in PROBES.items():
        print(json.dumps({"name": name, **run(function)}), flush=True)


if __name__ == "__main__":
    main()
