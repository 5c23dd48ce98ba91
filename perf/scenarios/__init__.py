# SPDX-License-Identifier: MIT
"""Every other file here is a scenario; ../README.md says what it must define."""

import importlib
from pathlib import Path


def load_all():
    """{name: module}"""
    known = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem != "__init__":
            known[path.stem] = importlib.import_module(f"scenarios.{path.stem}")
    return known
