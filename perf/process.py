# SPDX-License-Identifier: MIT
"""What a server and everything it started use, from /proc.

A server is a tree of processes: Clove's kernel and launcher, Redis's single one. Figures are sums
over all threads of the tree.
"""

import os
from pathlib import Path

PROC = Path("/proc")
TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")

# Fields of /proc/PID/stat counted from the one after the command's closing parenthesis.
STAT_PPID, STAT_UTIME, STAT_STIME, STAT_CUTIME, STAT_CSTIME = 1, 11, 12, 13, 14


def read_stat(pid):
    """The fields after the command name, which may itself hold spaces and parentheses."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def children_of_all():
    """{pid: its children}"""
    children = {}
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int(read_stat(entry.name)[STAT_PPID])
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
        children.setdefault(parent, []).append(int(entry.name))
    return children


def descendants(roots, children):
    """@roots and what descends from them, parents first."""
    found, position = list(roots), 0
    while position < len(found):
        found += children.get(found[position], [])
        position += 1
    return found


def tree(root_pid):
    """@root_pid and its descendants."""
    return descendants([root_pid], children_of_all())


def process_cpu_ns(pid):
    """Time on the CPU of the live threads in ns, and of reaped children in ticks."""
    stat = read_stat(pid)
    reaped_ns = (int(stat[STAT_CUTIME]) + int(stat[STAT_CSTIME])) * TICK_NS
    try:
        threads = [
            int((task / "schedstat").read_text().split()[0])
            for task in (PROC / str(pid) / "task").iterdir()
        ]
        return sum(threads) + reaped_ns
    except FileNotFoundError:  # a Linux without schedstats
        return (int(stat[STAT_UTIME]) + int(stat[STAT_STIME])) * TICK_NS + reaped_ns


def status_sum(path, key):
    for line in path.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0  # a zombie has no memory


def sum_over(pids, measure):
    total = 0
    for pid in pids:
        try:
            total += measure(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
    return total


def cpu_ns(root_pid):
    """User and system time."""
    return sum_over(tree(root_pid), process_cpu_ns)


def rss_kb(root_pid):
    return sum_over(tree(root_pid), lambda pid: status_sum(PROC / str(pid) / "status", "VmRSS"))


def pss_kb(pids):
    """Resident memory, that which is shared divided by those who share it. None where it may not be read."""
    try:
        return sum_over(pids, lambda pid: status_sum(PROC / str(pid) / "smaps_rollup", "Pss"))
    except PermissionError:
        return None


def system_kb():
    """What the operating system keeps for processes, of the whole machine: objects, stacks, page tables."""
    keys = ("Slab", "KernelStack", "PageTables")
    return sum(status_sum(PROC / "meminfo", key) for key in keys)


def rss_peak_kb(root_pid):
    """The most that each of those still alive has had."""
    return sum_over(tree(root_pid), lambda pid: status_sum(PROC / str(pid) / "status", "VmHWM"))


def rss_anon_kb(root_pid):
    """Resident memory without files and shared memory: what was allocated."""
    return sum_over(tree(root_pid), lambda pid: status_sum(PROC / str(pid) / "status", "RssAnon"))


def sleeps(root_pid):
    """How often threads went to sleep of their own accord: as often as they were woken up."""

    def measure(pid):
        tasks = (PROC / str(pid) / "task").iterdir()
        return sum(status_sum(task / "status", "voluntary_ctxt_switches") for task in tasks)

    return sum_over(tree(root_pid), measure)
