# SPDX-License-Identifier: MIT
"""The whole kernel is killed, its power cut, its disk filled and broken, while clients write

CLOVE_CRASH_ROUNDS is how often it is killed, and how often the power is cut (200).
"""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

import kernel as kernels  # noqa: E402
from wire import Client, Closed, Refused  # noqa: E402

ROUNDS = int(os.environ.get("CLOVE_CRASH_ROUNDS", "200"))
BUILD = Path(os.environ.get("CLOVE_BUILD", ROOT / "build" / "release")) / "tests"

DISK_FULL, DISK_SYNC_FAILS, DISK_WRITE_FAILS, DISK_NO_SYNC = 1, 2, 4, 16  # tests/crash/disk.h
WRITERS, KEYS, WINDOW = 3, 8, 16


class Track:
    """States of one key, counted up: asked for, told, told to be synced."""

    def __init__(self) -> None:
        self.asked = self.told = self.synced = 0


class Writer:
    """Writes over a connection of its own until the kernel is gone, and knows what it was told."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tracks = {f"{number}-{key}": Track() for key in range(KEYS)}
        self.sums = Track()
        self.version = self.told = self.synced = 0
        self.trouble = ""

    @staticmethod
    def value(n: int):
        """State n of a key: absent when n is a multiple of 5."""
        return None if n % 5 == 0 else [n, "x" * (n * 37 % 700)]

    def _next(self, client: Client) -> tuple[int, str, int, bool]:
        name = random.choice(list(self.tracks))
        track = self.tracks[name]
        durable = random.random() < 0.2
        track.asked += 1
        n = track.asked
        if n % 5 == 0:
            return client.send("DELETE", name, "global", durable), name, n, durable
        if n % 3:
            return client.send("STORE", name, self.value(n), None, None, durable), name, n, durable
        # Both halves and the sum, or none of them.
        self.sums.asked += 1
        pair = [["put", name, self.value(n)], ["put", f"twin-{name}", n], ["increment", f"sum-{self.number}", 1]]
        return client.send("TRANSACT", pair, durable), name, -n, durable

    def _told(self, answer: dict, name: str, n: int, durable: bool) -> None:
        for track, state in ((self.tracks[name], abs(n)), *(((self.sums, self.sums.told + 1),) if n < 0 else ())):
            track.told = max(track.told, state)
            if durable:
                track.synced = track.told
        if answer["version"] <= self.version:
            self.trouble = f"version {answer['version']} after {self.version}"
        self.version = answer["version"]
        self.told += 1
        if durable:
            self.synced += 1
            if answer["durability"] != "synced":
                self.trouble = f"durable was answered {answer}"

    def run(self, client: Client) -> None:
        waiting: list[tuple[int, str, int, bool]] = []
        try:
            while True:
                while len(waiting) < WINDOW:
                    waiting.append(self._next(client))
                first = waiting.pop(0)
                self._told(client.wait(first[0]), *first[1:])
        except (Closed, OSError):
            pass
        except Refused as refused:
            self.trouble = str(refused)

    def check(self, client: Client, lost_power: bool) -> None:
        """What the store has is between what was told and what was asked for."""
        for name, track in self.tracks.items():
            told = track.synced if lost_power else track.told
            one, twin = client.call("FETCH_MANY", [name, f"twin-{name}"])["values"]
            value = one and one[0]
            # Its twin was written with every third state that is stored: it tells two deletions apart.
            states = [
                n
                for n in range(told, track.asked + 1)
                if self.value(n) == value and self.last_pair(n) == (twin[0] if twin else 0)
            ]
            assert len(states) == 1 or states and value is None, (name, one, twin, vars(track), states)
            track.asked = track.told = track.synced = states[-1]
        value = client.call("FETCH", f"sum-{self.number}")["value"] or 0
        told = self.sums.synced if lost_power else self.sums.told
        assert told <= value <= self.sums.asked, (value, vars(self.sums))
        self.sums.asked = self.sums.told = self.sums.synced = value
        assert not self.trouble, self.trouble

    @staticmethod
    def last_pair(n: int) -> int:
        """The latest state up to n that was written together with the twin."""
        return next((m for m in range(n, 0, -1) if m % 3 == 0 and m % 5), 0)


class Victim:
    """A kernel on one data directory, started again and again."""

    def __init__(self, *, disk: bool) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="clove-crash-"))
        self.data = self.base / "data"
        self.state = self.base / "disk"
        self.env = {}
        if disk:
            self.env = {
                "LD_PRELOAD": str(BUILD / "libcrash_disk.so"),
                "CRASH_DISK_STATE": str(self.state),
                "CRASH_DISK_DIR": str(self.data),
            }
        self.writers = [Writer(number) for number in range(WRITERS)]
        self.kernel: kernels.Kernel | None = None
        self.cut_back = 0

    def start(self) -> kernels.Kernel:
        self.state.unlink(missing_ok=True)
        self.kernel = kernels.Kernel(self.base, ["--cores", "2"], env=self.env)
        return self.kernel

    def faults(self, mask: int) -> None:
        with self.state.open("r+b") as state:
            state.seek(4)
            state.write(mask.to_bytes(4, "little"))

    def write_and_die(self, seconds: float, faults: int = 0) -> None:
        assert self.kernel is not None
        if faults:
            self.faults(faults)
        clients = [self.kernel.client() for _ in self.writers]
        threads = [
            threading.Thread(target=writer.run, args=(client,)) for writer, client in zip(self.writers, clients)
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        os.kill(self.kernel.pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
        self.kernel.kill()

    def cut(self) -> None:
        """What was not synced is gone."""
        done = subprocess.run(
            [BUILD / "crash_cut", self.state, self.data], capture_output=True, text=True, check=True
        )
        self.cut_back += len(done.stdout.splitlines())
        shutil.rmtree(f"{self.data}.graveyard")

    def check(self, lost_power: bool) -> None:
        assert self.kernel is not None
        client = self.kernel.client()
        before = max(writer.version for writer in self.writers)
        for writer in self.writers:
            writer.check(client, lost_power)
        version = client.call("STORE", "version", 1)["version"]
        assert version > before or lost_power, f"version {version} after {before}"
        for writer in self.writers:
            writer.version = version

    def remove(self) -> None:
        if self.kernel:
            self.kernel.kill()
        shutil.rmtree(self.base)

    def report(self, capsys, what: str, rounds: int) -> None:
        told, synced = (sum(getattr(writer, name) for writer in self.writers) for name in ("told", "synced"))
        with capsys.disabled():
            print(f"\n{what}: {rounds} rounds, {told} writes acknowledged, {synced} of them durable, {self.cut_back} files cut back")


@pytest.fixture
def victim(request):
    victim = Victim(disk=request.param)
    yield victim
    victim.remove()


@pytest.mark.parametrize("victim", [False], indirect=True)
def test_what_was_acknowledged_survives_kill_9_of_the_kernel(victim, capsys):
    for _ in range(ROUNDS):
        victim.start()
        victim.check(lost_power=False)
        victim.write_and_die(random.uniform(0.002, 0.08))
    victim.start()
    victim.check(lost_power=False)
    victim.report(capsys, "kill -9 of the kernel", ROUNDS)
    assert sum(writer.told for writer in victim.writers) > ROUNDS


@pytest.mark.parametrize("victim", [True], indirect=True)
def test_what_was_durable_survives_a_power_cut(victim, capsys):
    rounds = ROUNDS // 2
    for _ in range(rounds):
        victim.start()
        victim.check(lost_power=True)
        victim.write_and_die(random.uniform(0.002, 0.08))
        victim.cut()
    victim.start()
    victim.check(lost_power=True)
    victim.report(capsys, "power cut under the kernel", rounds)
    assert victim.cut_back > 0, "nothing was lost, so nothing was tested"


@pytest.mark.parametrize("victim", [True], indirect=True)
def test_without_fsync_a_power_cut_is_noticed(victim):
    """The test above can fail: with fsync taken out, it does."""
    with pytest.raises(AssertionError):
        for _ in range(20):
            victim.start()
            victim.check(lost_power=True)
            victim.write_and_die(random.uniform(0.02, 0.08), DISK_NO_SYNC)
            victim.cut()


@pytest.mark.parametrize("faults", [DISK_FULL, DISK_SYNC_FAILS, DISK_WRITE_FAILS], ids=["full", "sync", "write"])
@pytest.mark.parametrize("victim", [True], indirect=True)
def test_a_disk_that_fails_is_told_and_survived(victim, faults):
    kernel = victim.start()
    client = kernel.client()
    for n in range(100):
        client.call("STORE", f"k{n}", n, None, None, n % 10 == 0)

    def code(durable: bool) -> str:
        try:
            client.call("STORE", "probe", 1, None, None, durable)
        except Refused as refused:
            assert refused.code in ("STORE_FAILED", "BUSY"), refused
            return refused.code
        return "stored"

    victim.faults(faults)
    kernels.wait_until(lambda: code(True) == "STORE_FAILED", "the caller is told")
    assert [client.call("FETCH", f"k{n}")["value"] for n in range(100)] == list(range(100))
    other = kernel.client()
    assert other.call("NOOP", "x") == "x"
    victim.faults(0)
    kernels.wait_until(lambda: code(True) == "stored", "it opens the store anew", timeout=30)
    assert [client.call("FETCH", f"k{n}")["value"] for n in range(100)] == list(range(100))
    client.call("STORE", "after", 2, None, None, True)
    os.kill(kernel.pid, signal.SIGKILL)
    kernel.kill()
    victim.cut()
    client = victim.start().client()
    assert client.call("FETCH", "after")["value"] == 2
    assert client.call("FETCH", "k90")["value"] == 90
