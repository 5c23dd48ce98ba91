# SPDX-License-Identifier: MIT
"""The cheapest request there is: what the way in and out of a server costs."""

import load

NAME = "ping"
TITLE = "NOOP (Redis: PING), nothing to carry: the cost of a request as such"
PEERS = ("redis",)
ROUNDS = 5
SECONDS = 2.0
TAKES = "two minutes"
FRESH_SERVER = False
POINTS = [(1, 1, 0), (50, 1, 0), (500, 1, 0), (50, 16, 0), (50, 64, 0)]
RANK = "ops_per_s"
COLUMNS = {
    "io": "io",
    "ops_per_s": "ops/s",
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "p999_us": "p99.9 us",
    "server_cpu_us_per_op": "server us/op",
    "client_cpu_us_per_op": "client us/op",
    "server_rss_kb": "RSS kB",
}
RATIOS = {
    "ops_per_s": "ops/s (more is better)",
    "p50_us": "p50 (less)",
    "p99_us": "p99 (less)",
    "server_cpu_us_per_op": "server CPU per op (less)",
}


def measure(server, seconds, clients, pipeline, size):
    return load.measure(server, seconds, clients, pipeline, size)
