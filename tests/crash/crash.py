# SPDX-License-Identifier: MIT
"""One store that is killed round after round"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

BUILD = Path(os.environ.get("CLOVE_BUILD", Path(__file__).resolve().parents[2] / "build/release")) / "tests"

# tests/crash/disk.h
FULL, SYNC_FAILS, WRITE_FAILS, HOLD_TABLES, NO_SYNC = (1 << bit for bit in range(5))


class Victim:
    """A directory with a store, its ledger, and the process that writes to both.

    With disk=True it writes by way of tests/crash/disk.c, and only what was synced must survive.
    """

    def __init__(self, *, disk: bool = False, faults: int = 0) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="clove-crash-"))
        self.data = self.base / "data"
        self.data.mkdir()
        self.ledger = self.base / "ledger"
        self.state = self.base / "disk"
        self.disk = disk
        self.faults = faults
        self.counts: dict[str, int] = {}
        self.lost = 0

    def command(self) -> list[str | Path]:
        """Checks what the ledger knows, prints a line, then writes until it is killed."""
        options = ["--durable-only"] if self.disk else []
        return [BUILD / "crash_load", self.data, self.ledger, *options]

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        if self.disk:
            environment |= {
                "LD_PRELOAD": str(BUILD / "libcrash_disk.so"),
                "CRASH_DISK_STATE": str(self.state),
                "CRASH_DISK_DIR": str(self.data),
            }
        return environment

    def set_faults(self, faults: int) -> None:
        with self.state.open("r+b") as state:
            state.seek(4)
            state.write(faults.to_bytes(4, "little"))

    def under_load(self, process: subprocess.Popen[str], seconds: float) -> None:
        """What happens between the check and the kill: by default nothing but the load."""
        process.wait(seconds)

    def round(self, seconds: float) -> str:
        """Checks, writes for some time, dies. What was found wrong; empty when nothing was."""
        self.state.unlink(missing_ok=True)
        with subprocess.Popen(
            self.command(), env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            if line and self.faults:
                self.set_faults(self.faults)
            try:
                self.under_load(process, seconds if line else 60)
                return f"ended by itself with {process.returncode}: {line}{process.stderr.read()}"
            except subprocess.TimeoutExpired:
                process.kill()
        self.counts = json.loads(line)
        return ""

    def cut(self, *, by_chance: bool) -> str:
        """Takes the directory back to what a power cut leaves. How to get the same again."""
        seed = [str(random.randrange(1 << 32))] if by_chance else []
        cut = subprocess.run([BUILD / "crash_cut", self.state, self.data, *seed],
                             capture_output=True, text=True, check=True)
        self.lost += len(cut.stdout.splitlines())
        shutil.rmtree(f"{self.data}.graveyard")
        return f"cut with {seed}:\n{cut.stdout}"

    def rounds(self, count: int) -> str:
        last = ""
        for number in range(count):
            found = self.round(random.uniform(0.002, 0.05))
            if found:
                return f"round {number} of {count}: {found}; before it {last}"
            if self.disk:
                last = self.cut(by_chance=number % 2 == 1)
        # The last death has to be looked at, too.
        return self.round(0.002)

    def remove(self) -> None:
        shutil.rmtree(self.base)


class FailingVictim(Victim):
    """In each round its disk fails, works again, and only then the power goes."""

    def __init__(self) -> None:
        super().__init__(disk=True)
        self.fault = itertools.cycle([FULL, SYNC_FAILS, WRITE_FAILS, FULL | SYNC_FAILS])

    def under_load(self, process: subprocess.Popen[str], seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        self.set_faults(next(self.fault))
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        self.set_faults(0)
        process.wait(random.uniform(0.2, 0.8))  # around the time it tries again

    def recovers(self) -> bool:
        """One round more: its disk fails for so long that it is noticed, works again, and then it does so, too."""
        self.state.unlink(missing_ok=True)
        with subprocess.Popen(self.command(), env=self._environment(), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["violations"] == 0
            self.set_faults(SYNC_FAILS | WRITE_FAILS)
            time.sleep(1)
            self.set_faults(0)
            # How long a database takes to be opened is the disk's affair.
            timer = threading.Timer(60, process.kill)
            timer.start()
            line = process.stdout.readline()
            timer.cancel()
            process.kill()
        self.cut(by_chance=False)
        return line == "recovered\n"
