# SPDX-License-Identifier: MIT
"""Values overwritten at random."""

import stores

NAME = "store"
TITLE = "STORE (Redis: SET) of keys that exist, at random; durable: on the disk before it is answered"
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
    return stores.measure(system, "store", seconds, *point)
