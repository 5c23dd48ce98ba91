# SPDX-License-Identifier: MIT
"""Kernels to escape from, and runs of the probes in them

mode     "root" or "rootless": whose kernel it is
place    a Place: a kernel of that mode, and a host with things to reach; one for the whole module
denied   what every probe came to in an agent of profile standard
allowed  what it came to where nothing confines it
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "integration")]

import probe  # noqa: E402
from place import Place, why_not  # noqa: E402


@pytest.fixture(scope="module", params=["root", "rootless"])
def mode(request: pytest.FixtureRequest) -> str:
    reason = why_not(request.param)
    if reason:
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="module")
def place(mode: str) -> Iterator[Place]:
    place = Place(mode)
    try:
        place.start()
        yield place
    finally:
        place.stop()


@pytest.fixture(scope="module")
def denied(place: Place) -> dict[str, dict]:
    return place.run_probes()


@pytest.fixture(scope="module")
def allowed(place: Place) -> dict[str, dict]:
    return place.run_probes(control=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"{len(probe.PROBES)} probes, tried under each kernel and where nothing confines them")
