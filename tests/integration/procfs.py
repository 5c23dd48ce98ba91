# SPDX-License-Identifier: MIT
"""What /proc says about processes."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(parent: int) -> list[int]:
    """Direct children, zombies included."""
    return [pid for pid in pids() if (stat := _stat(pid)) and int(stat[1]) == parent]


def zombies(parent: int) -> list[int]:
    return [pid for pid in children(parent) if (stat := _stat(pid)) and stat[0] == "Z"]


def cgroup(pid: int) -> Path | None:
    """Its group of cgroup v2; None without one, or when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    for top in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (top / "cgroup.controllers").exists():
            return next((top / line[4:] for line in lines if line.startswith("0::/")), None)
    return None


def stands_still(pid: int) -> bool:
    """Whether it is stopped, by a signal or with its group."""
    if (stat := _stat(pid)) and stat[0] == "T":
        return True
    group = cgroup(pid)
    try:
        return group is not None and "frozen 1" in (group / "cgroup.events").read_text()
    except OSError:
        return False


def threads_stand_still(pid: int) -> bool:
    """Whether all of its threads are stopped by a signal."""
    stats = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def open_files(pid: int) -> int:
    """Number of open descriptors. PermissionError for an undumpable process of another right."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def anonymous_kib(pid: int) -> int:
    """Memory that a process holds of its own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no memory")


def cpu_seconds(pid: int) -> float:
    """Processor time of its own, in user and kernel mode."""
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


class Marker:
    """A sleep that no other has: its argument finds the processes that a test caused, and only those."""

    def __init__(self) -> None:
        # A fraction is a valid duration and as long as need be.
        self.seconds = f"1000.{uuid.uuid4().int}"

    @property
    def argv(self) -> list[str]:
        return ["sleep", self.seconds]

    @property
    def shell(self) -> str:
        return f"sleep {self.seconds}"

    def pids(self) -> list[int]:
        """Living processes whose command is the sleep itself."""
        wanted = b"\0".join(word.encode() for word in self.argv) + b"\0"
        found = []
        for pid in pids():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if command == wanted:
                found.append(pid)
        return found

    def kill(self) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
