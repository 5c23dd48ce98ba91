# SPDX-License-Identifier: MIT
"""More keys than memory is meant for."""

import process
import stores

NAME = "keys"
TITLE = "memory of many small values, and FETCH (Redis: GET) of any of them at random"
PEERS = ("redis",)
ROUNDS = 1
SECONDS = 5.0
TAKES = "eight minutes"
FRESH_SERVER = True
KEYS = ("keys", "size", "clients", "pipeline")
SYSTEMS, PROGRAMS = stores.SYSTEMS, stores.PROGRAMS
DISK_BYTES = 12 << 30
POINTS = [(1000000, 100, 50, 1), (10000000, 100, 50, 1)]
RANK = "ops_per_s"
COLUMNS = {
    "rss_bytes": "RSS bytes",
    "rss_peak_bytes": "peak",
    "rss_bytes_per_key": "per key",
    "disk_bytes": "disk bytes",
    "fill_per_s": "fill/s",
    "fill_cpu_us": "server us/fill",
    "ops_per_s": "fetch/s",
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "cpu_us": "server us/fetch",
}
RATIOS = {
    "rss_bytes": "RSS (less is better)",
    "disk_bytes": "disk (less)",
    "fill_per_s": "fill/s (more)",
    "ops_per_s": "fetch/s (more)",
    "p99_us": "p99 of fetch (less)",
    "cpu_us": "server CPU per fetch (less)",
}

WARM_UP_S = 2.0  # for caches


def disk_bytes(directory):
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def measure(system, seconds, keys, size, clients, pipeline):
    filled = system.fill(size, keys)
    fields = stores.measure(
        system, "fetch", seconds, False, size, keys, clients, pipeline, warm_up_s=WARM_UP_S
    )
    return {
        **fields,
        "durable": False,
        "rss_peak_bytes": process.rss_peak_kb(system.pid) * 1024,
        "rss_bytes_per_key": round(fields["rss_bytes"] / keys, 1),
        "disk_bytes": disk_bytes(system.directory),
        "fill_per_s": filled["ops_per_s"],
        "fill_cpu_us": filled["server_cpu_us_per_op"],
    }
