# SPDX-License-Identifier: MIT
"""One store that is killed round after round"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

BUILD = Path(os.environ.get("CLOVE_BUILD", Path(__file__).resolve().parents[2] / "build/release")) / "tests"

NO_SYNC = 16  # tests/crash/disk.h


class Victim:
    """A directory with a store, its ledger, and the process that writes to both."""

    def __init__(self, *, powered: bool, no_sync: bool = False) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="clove-crash-"))
        self.data = self.base / "data"
        self.data.mkdir()
        self.ledger = self.base / "ledger"
        self.state = self.base / "disk"
        self.powered = powered
        self.no_sync = no_sync
        self.told = self.synced = self.lost = 0

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        if self.powered:
            environment |= {
                "LD_PRELOAD": str(BUILD / "libcrash_disk.so"),
                "CRASH_DISK_STATE": str(self.state),
                "CRASH_DISK_DIR": str(self.data),
            }
        return environment

    def round(self, seconds: float) -> str:
        """Checks, writes for some time, dies. What was found wrong; empty when nothing was."""
        if self.powered:
            self.state.unlink(missing_ok=True)
        options = ["--durable-only"] if self.powered else []
        with subprocess.Popen(
            [BUILD / "crash_load", self.data, self.ledger, *options],
            env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            if line and self.no_sync:
                with self.state.open("r+b") as state:
                    state.seek(4)
                    state.write(NO_SYNC.to_bytes(4, "little"))
            try:
                code = process.wait(seconds) if line else process.wait(60)
                found = process.stderr.read()
                return f"ended by itself with {code}: {line}{found}"
            except subprocess.TimeoutExpired:
                process.kill()
        result = json.loads(line)
        self.told, self.synced = result["told"], result["synced"]
        if self.powered:
            cut = subprocess.run([BUILD / "crash_cut", self.state, self.data], capture_output=True, text=True, check=True)
            self.lost += len(cut.stdout.splitlines())
            shutil.rmtree(f"{self.data}.graveyard")
        return ""

    def rounds(self, count: int) -> str:
        for number in range(count):
            found = self.round(random.uniform(0.002, 0.06))
            if found:
                return f"round {number} of {count}: {found}"
        # The last death has to be looked at, too.
        return self.round(0.002)

    def remove(self) -> None:
        shutil.rmtree(self.base)
