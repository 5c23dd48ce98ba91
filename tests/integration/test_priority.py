# SPDX-License-Identifier: MIT
"""Who runs before whom: the kernel before its agents, and no agent for long in a row."""

import ctypes
import os
import platform
import struct
import subprocess
from pathlib import Path

import pytest

import procfs
from kernel import wait_until

SLICE_NS = 300_000
SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
AGENT = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
attr = ctypes.create_string_buffer(struct.pack('<IIQiIQQQ', 48, 0, 0, 0, 0, 100_000_000, 0, 0))
refused = libc.syscall(%d, 0, attr, 0) and ctypes.get_errno()
print('refused', refused, 'nice', os.nice(0), flush=True)
import time
time.sleep(100)
"""


def slice_ns(pid: int) -> int:
    attr = ctypes.create_string_buffer(48)
    libc = ctypes.CDLL(None, use_errno=True)
    assert not libc.syscall(SCHED_GETATTR[platform.machine()], pid, attr, 48, 0), os.strerror(ctypes.get_errno())
    return struct.unpack("<IIQiIQQQ", attr.raw)[5]


def nices(pid: int) -> set[int]:
    return {os.getpriority(os.PRIO_PROCESS, int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()}


def may_raise() -> bool:
    return subprocess.run(["nice", "-n", "-1", "true"], capture_output=True, check=False).stderr == b""


@pytest.mark.skipif(not may_raise(), reason="this user may not raise a priority")
def test_the_kernel_runs_before_what_it_starts(kernel, client):
    assert nices(kernel.pid) == {-10}
    assert nices(kernel.launcher_pid()) == {0}
    assert client.exec("nice")["stdout"] == b"0\n"


def test_an_agent_runs_for_short_times_and_cannot_change_it(kernel, client):
    number = SCHED_GETATTR[platform.machine()] - 1
    pid = client.call("SPAWN", "a", ["/usr/bin/python3", "-c", AGENT % number])["pid"]
    wait_until(lambda: b"\n" in client.call("LOGS", "a")["data"], "it has tried")
    assert client.call("LOGS", "a")["data"] == b"refused 1 nice 0\n"
    if not slice_ns(os.getpid()):
        pytest.skip("this Linux has no slices of one's own (6.12)")
    for process in (pid, *procfs.children(pid)):
        assert slice_ns(process) == SLICE_NS
