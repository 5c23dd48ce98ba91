# SPDX-License-Identifier: MIT
"""Values read that everybody has in memory."""

import stores

NAME = "fetch"
TITLE = "FETCH (Redis: GET) of 1,000 hot keys at random"
PEERS = ("redis",)
ROUNDS = 3
SECONDS = 1.5
TAKES = "three minutes"
FRESH_SERVER = False
KEYS, COLUMNS, RATIOS, RANK = stores.KEYS, stores.COLUMNS, stores.RATIOS, stores.RANK
SYSTEMS, PROGRAMS = stores.SYSTEMS, stores.PROGRAMS
DISK_BYTES = 1 << 30
POINTS = [(False, size, 1000, *load) for size in stores.SIZES for load in stores.LOADS]


def measure(system, seconds, *point):
    return stores.measure(system, "fetch", seconds, *point)
