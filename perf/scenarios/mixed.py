# SPDX-License-Identifier: MIT
"""Reads and some writes, of few keys often and of many rarely."""

import stores

NAME = "mixed"
TITLE = "nine FETCH to a STORE (Redis: GET, SET), keys by Zipf's law with 0.99"
PEERS = ("redis",)
ROUNDS = 3
SECONDS = 1.5
TAKES = "eight minutes"
FRESH_SERVER = False
KEYS, COLUMNS, RATIOS, RANK = stores.KEYS, stores.COLUMNS, stores.RATIOS, stores.RANK
SYSTEMS, PROGRAMS = stores.SYSTEMS, stores.PROGRAMS
DISK_BYTES = 6 << 30
POINTS = [
    (durable, size, 100000, *load)
    for durable in (True, False)
    for size in stores.SIZES
    for load in stores.LOADS
]


def measure(system, seconds, *point):
    return stores.measure(system, "mixed", seconds, *point)
