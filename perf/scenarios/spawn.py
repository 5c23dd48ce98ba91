# SPDX-License-Identifier: MIT
"""From the call to a program that runs in its box, and to its end: what an agent costs to start, and to keep."""

import math
import os
import resource
import signal
import time

import process
import spawners

NAME = "spawn"
TITLE = "a program in a sandbox of its own: start, end, and what it takes while it is idle"
PEERS = ("bubblewrap", "crun", "python3")
ROUNDS = 3
SECONDS = 1.5  # of one at a time
TAKES = "six minutes"
FRESH_SERVER = False
KEYS = ("what", "burst")
OWN = ("clove-strict", "clove-standard")
SYSTEMS = spawners.SYSTEMS
MODULES = {"msgpack": "python3-msgpack"}
PROGRAMS = ("clove_kernel",)
IDLE = "python-idle"
POINTS = [
    *[(what, 1) for what in ("true", "python-first-statement", "python-hello")],
    *[(what, 100) for what in ("true", "python-first-statement", "python-hello")],
    *[(what, 1000) for what in ("true", "python-first-statement", "python-hello")],
    (IDLE, 1000),
]
RANK = "per_s"
COLUMNS = {
    "per_s": "per s",
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "cpu_us": "CPU us",
    "client_cpu_us": "client us",
    "pss_kb": "PSS kB",
    "kernel_kb": "kernel kB",
}
RATIOS = {
    "per_s": "per s (more is better)",
    "p50_us": "p50 (less)",
    "p99_us": "p99 (less)",
    "cpu_us": "CPU (less)",
    "pss_kb": "PSS (less)",
    "kernel_kb": "kernel memory (less)",
}

AT_A_TIME = 100  # begun and not yet ended, or not yet ready to be idle
SAMPLES_MIN = 20  # one at a time, however slow
LIMIT_S = 180
SETTLE_S = 2.0
QUIET_KB = 1024
QUIET_S_MAX = 10
ROUND_S = 30  # for a round of NOOPs
POLL_S = 0.02


def takes_part(system, point, number):
    """A thousand are measured in every third round; they are an average already."""
    what, burst = point
    return (burst < 1000 or number % 3 == 1) and not (what == "true" and system == "python3")


def measure(system, seconds, what, burst):
    with spawners.time_limit(system, LIMIT_S):
        system.forget()
        if what == IDLE:
            return {**FIELDS, "profile": system.PROFILE, **measure_idle(system, burst)}
        return {**FIELDS, "profile": system.PROFILE, **measure_starts(system, seconds, what, burst)}


FIELDS = {"cpu_us": None, "client_cpu_us": None, "pss_kb": None, "kernel_kb": None, "daemon_kb": None}


def child_word(what):
    """What spawn_child.py is told; nothing for /bin/true."""
    return "" if what == "true" else what.removeprefix("python-")


def client_ns():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e9


def percentile_us(sorted_ns, share):
    """The smallest value that so many do not exceed."""
    return round(sorted_ns[math.ceil(share * len(sorted_ns)) - 1] / 1000, 1)


def percentiles(spans_ns):
    ordered = sorted(spans_ns)
    return {"p50_us": percentile_us(ordered, 0.50), "p99_us": percentile_us(ordered, 0.99)}


def measure_starts(system, seconds, what, burst):
    cpu_before, client_before = system.cpu_ns(), client_ns()
    if burst == 1:
        called, ended = run(system, child_word(what), 1, seconds=seconds)
    else:
        called, ended = run(system, child_word(what), min(burst, AT_A_TIME), count=burst)
    client = client_ns() - client_before
    cpu = system.cpu_ns() - cpu_before
    count = len(called)
    reached = ended if what == "true" else stamps(system, called)
    return {
        "count": count,
        "per_s": round(count / (max(ended.values()) - min(called.values())) * 1e9, 2),
        **percentiles([reached[index] - called[index] for index in called]),
        "cpu_us": round(cpu / count / 1000, 1),
        "client_cpu_us": round(client / count / 1000, 1),
    }


def run(system, word, window, count=None, seconds=0.0):
    """Starts one after the other, never more than @window at a time: {index: begun}, {index: ended}."""
    called, ended = {}, {}
    clock = time.monotonic_ns
    deadline = clock() + seconds * 1e9

    def take_ended():
        index = system.take_ended()
        ended[index] = clock()

    def wants_more():
        if count is not None:
            return len(called) < count
        return len(called) < SAMPLES_MIN or clock() < deadline

    while wants_more():
        index = len(called)
        called[index] = clock()
        system.begin(index, word)
        if len(called) - len(ended) == window:
            take_ended()
    while len(ended) < len(called):
        take_ended()
    return called, ended


def stamps(system, indexes):
    """The last clock value that each program wrote."""
    return {index: int(lines[-1].split()[-1]) for index, lines in system.lines(indexes).items()}


def measure_idle(system, burst):
    wait_quiet()
    system_before_kb = process.system_kb()
    daemon_before_kb = daemon_pss_kb(system)
    try:
        called, ready = start_idle(system, burst)
        time.sleep(SETTLE_S)
        boxes = system.boxes()
        pss_kb = process.pss_kb(boxes)
        kernel_kb = process.system_kb() - system_before_kb
        daemon_kb = daemon_pss_kb(system) - daemon_before_kb
        noop_s = round_of_noops(system, boxes, called)
    finally:
        system.kill_all()
    return {
        "count": burst,
        "per_s": round(burst / (max(ready.values()) - min(called.values())) * 1e9, 2),
        **percentiles([ready[index] - called[index] for index in called]),
        "pss_kb": None if pss_kb is None else round(pss_kb / burst, 1),
        "kernel_kb": round(kernel_kb / burst, 1),
        "daemon_kb": round(daemon_kb / burst, 1),
        "processes": round(len(boxes) / burst, 2),
        "noop_round_s": noop_s,
    }


def daemon_pss_kb(system):
    return process.pss_kb(system.daemons()) or 0


def wait_quiet():
    """The operating system takes network namespaces apart behind everyone's back."""
    deadline = time.monotonic() + QUIET_S_MAX
    before = process.system_kb()
    while time.monotonic() < deadline:
        time.sleep(1)
        after = process.system_kb()
        if abs(after - before) < QUIET_KB:
            return
        before = after


def start_idle(system, count):
    """Starts agents that stay: {index: begun}, {index: its first HELLO was answered}."""
    called, ready = {}, {}
    while len(ready) < count:
        if len(called) < count and len(called) - len(ready) < AT_A_TIME:
            index = len(called)
            called[index] = time.monotonic_ns()
            system.begin(index, child_word(IDLE), stays=True)
            continue
        waiting = called.keys() - ready.keys()
        for index, lines in system.lines(waiting).items():
            if lines:
                ready[index] = int(lines[0].split()[-1])
        time.sleep(POLL_S)
    return called, ready


def round_of_noops(system, boxes, indexes):
    """Each program calls NOOP, checks the answer and says so. Returns how long the round took."""
    children = process.children_of_all()
    begun = time.monotonic()
    programs = [pid for pid in boxes if pid not in children]
    if len(programs) != len(indexes):
        system.fail(f"{len(programs)} programs are alive, not {len(indexes)}")
    for pid in programs:
        os.kill(pid, signal.SIGUSR1)
    waiting = set(indexes)
    while waiting:
        time.sleep(POLL_S)
        waiting -= {index for index, lines in system.lines(waiting).items() if len(lines) == 2}
        if time.monotonic() > begun + ROUND_S:
            system.fail(f"{len(waiting)} agents did not answer a round of NOOPs")
    return round(time.monotonic() - begun, 3)
