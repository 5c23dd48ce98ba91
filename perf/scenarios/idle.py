# SPDX-License-Identifier: MIT
"""A crowd that is connected and silent: what a connection costs that does nothing."""

import time

import load
import machine
import process

NAME = "idle"
TITLE = "10,000 connections, one request on each, then silence"
PEERS = ("redis",)
ROUNDS = 3
SECONDS = 5.0
TAKES = "50 seconds"
FRESH_SERVER = True  # memory that a former crowd left behind would be used again
POINTS = [(10000, 1, 0)]
RANK = "ops_per_s"
COLUMNS = {
    "io": "io",
    "rss_anon_bytes_per_conn": "bytes/conn",
    "wakeups_per_s": "wake-ups/s",
    "ops_per_s": "connects/s",
    "p99_us": "p99 us",
    "server_cpu_us_per_op": "server us/connect",
    "server_rss_kb": "RSS kB",
}
RATIOS = {
    "rss_anon_bytes_per_conn": "bytes per connection (less is better)",
    "wakeups_per_s": "wake-ups (less)",
    "ops_per_s": "connects/s (more)",
}

REHEARSAL = 100  # connections that make the server set up what it needs once
SETTLE_S = 1.0


def measure(server, seconds, clients, pipeline, size):
    machine.require_descriptors(clients + REHEARSAL)
    with load.Load(server, load.GRACE_S, "--crowd", "--clients", REHEARSAL) as rehearsal:
        rehearsal.wait_start()
        rehearsal.result()
    time.sleep(SETTLE_S)
    rss_before_kb = process.rss_anon_kb(server.pid)
    arguments = ["--crowd", "--clients", clients, "--pipeline", pipeline, "--size", size]
    with load.Load(server, load.GRACE_S, *arguments) as crowd:
        crowd.wait_start()
        cpu_before_ns = process.cpu_ns(server.pid)
        fields = load.row_fields(crowd.result(), server, cpu_before_ns)
        time.sleep(SETTLE_S)
        grown_bytes = (process.rss_anon_kb(server.pid) - rss_before_kb) * 1024
        sleeps_before, start = process.sleeps(server.pid), time.monotonic()
        time.sleep(seconds)
        wakeups = process.sleeps(server.pid) - sleeps_before
        seconds_idle = time.monotonic() - start
    return {
        **fields,
        "rss_anon_bytes_per_conn": round(grown_bytes / clients, 1),
        "wakeups_per_s": round(wakeups / seconds_idle, 2),
    }
