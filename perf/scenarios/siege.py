# SPDX-License-Identifier: MIT
"""A hundred agents that mind their own business while others take all they can get; and how fast a tree is gone."""

import math
import statistics
import sys
import time
from pathlib import Path

import machine
import server
import siege_child
import spawners

NAME = "siege"
TITLE = "100 agents call NOOP, alone and beside every bomb at once; the end of an agent of 200 processes"
PEERS = ()
ROUNDS = 3
SECONDS = 5
TAKES = "two minutes"
FRESH_SERVER = True
KEYS = ("what",)
PROGRAMS = ("clove_kernel",)
MODULES = {"msgpack": "python3-msgpack"}
POINTS = [("quiet",), ("bombs",), ("kill-200",)]
RANK = "per_s"
COLUMNS = {
    "per_s": "per s",
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "max_us": "max us",
    "lost": "lost",
}
RATIOS = {}

CALLERS = 100
PAUSE_S = 0.05
KILLS = 10
START_S = 180
TELL_S = 15  # by then all callers know when to begin
HERE = Path(__file__).resolve().parent.parent
CHILD = HERE / "siege_child.py"


class Clove(server.Clove):
    NAME = "clove"


SYSTEMS = {"clove": Clove}


def client_of(system):
    sys.path.insert(0, str(HERE.parent / "sdk/python/src"))
    from clove_sdk import CloveClient

    return CloveClient(str(system.socket_path), timeout=START_S)


def wait_for_word(client, name, word):
    deadline = time.monotonic() + START_S
    while word not in client.logs(name):
        if time.monotonic() > deadline:
            raise machine.Unusable(f"siege: agent {name} did not say {word!r}: {client.logs(name, stream='stderr')}")
        time.sleep(0.01)


def measure(system, seconds, what):
    with client_of(system) as client, spawners.time_limit(system, 600):
        if what == "kill-200":
            return measure_kills(client)
        return measure_calls(system, client, seconds, what)


def spawn(client, name, *words, **options):
    return client.spawn(name, str(CHILD), args=[str(word) for word in words], **options)


def quantile(ordered, share):
    return round(ordered[math.ceil(share * len(ordered)) - 1] / 1000, 1)


def measure_calls(system, client, seconds, what):
    bombs = list(siege_child.BOMBS) if what == "bombs" else []
    callers = [f"caller{number}" for number in range(CALLERS)]
    protections = None
    for name in callers:
        protections = spawn(client, name, "caller", seconds, PAUSE_S, workspace="memory").protections
    for name in callers:
        wait_for_word(client, name, "ready")
    for name in bombs:
        spawn(client, name, name, restart_policy="always", max_restarts=1000)
    begin = time.monotonic() + TELL_S
    for name in callers:
        client.write_file("begin", f"{begin:.3f}", agent=name)
    took, lost = [], 0
    for name in callers:
        end = client.wait(name, timeout=START_S + TELL_S + seconds)
        words = client.logs(name).split()
        if end.reason != "exited" or end.exit_code or "took" not in words:
            lost += 1
            continue
        took += map(int, words[words.index("took") + 1 :])
    for name in bombs:
        client.kill(name)
    if not took:
        raise machine.Unusable("siege: no caller came through")
    took.sort()
    return {
        "per_s": round(len(took) / seconds, 1),
        "p50_us": quantile(took, 0.50),
        "p99_us": quantile(took, 0.99),
        "max_us": quantile(took, 1),
        "lost": lost,
        "agents": CALLERS,
        "bombs": bombs,
        "limits": {name: protections[name] for name in ("memory", "cpu", "pids")},
    }


def measure_kills(client):
    spans = []
    for number in range(KILLS):
        name = f"tree{number}"
        spawn(client, name, "tree")
        wait_for_word(client, name, "ready")
        begun = time.monotonic_ns()
        client.kill(name)  # answers when the last process is gone
        spans.append(time.monotonic_ns() - begun)
    spans.sort()
    return {
        "per_s": round(1e9 / statistics.median(spans), 1),
        "p50_us": quantile(spans, 0.50),
        "p99_us": quantile(spans, 0.99),
        "max_us": quantile(spans, 1),
        "lost": 0,
    }
