# SPDX-License-Identifier: MIT
"""Every other file here is a scenario; ../README.md says what it must define."""

import importlib
from pathlib import Path

import server

DEFAULTS = {
    "KEYS": ("clients", "pipeline", "size"),
    "OWN": ("clove",),
    "SYSTEMS": server.SYSTEMS,
    "MODULES": {},
    "PROGRAMS": ("clove_kernel", "perf_load"),
    "DISK_BYTES": 0,  # of a real file system, at most; 0: it matters not where files are
    "takes_part": lambda system, point, number: True,
}


def load_all():
    """{name: module}"""
    known = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem != "__init__":
            scenario = importlib.import_module(f"scenarios.{path.stem}")
            for name, value in DEFAULTS.items():
                vars(scenario).setdefault(name, value)
            known[path.stem] = scenario
    return known
