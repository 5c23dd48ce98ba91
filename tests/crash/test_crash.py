# SPDX-License-Identifier: MIT
"""The store is killed, or its power cut, at random instants under load

CLOVE_CRASH_ROUNDS is how often, for each (200; about 80 seconds in all).
"""

import os
import subprocess

import pytest

from crash import NO_SYNC, FailingVictim, Victim

ROUNDS = int(os.environ.get("CLOVE_CRASH_ROUNDS", "200"))


@pytest.fixture
def use():
    victims = []

    def used(victim):
        victims.append(victim)
        return victim

    yield used
    for victim in victims:
        victim.remove()


def report(capsys, kind, rounds, victim):
    counts = victim.counts
    with capsys.disabled():
        print(f"\n{kind}: {rounds} rounds, {counts['told']} writes acknowledged, {counts['synced']} of them durable, "
              f"{counts['failed']} failed, {victim.lost} files cut back: 0 violations")


def test_what_was_acknowledged_survives_kill_9(use, capsys):
    victim = use(Victim())
    assert not victim.rounds(ROUNDS)
    assert victim.counts["told"] > victim.counts["synced"] > 0
    report(capsys, "kill -9", ROUNDS, victim)


def test_what_was_durable_survives_a_power_cut(use, capsys):
    victim = use(Victim(disk=True))
    assert not victim.rounds(ROUNDS)
    assert victim.counts["synced"] > 0
    assert victim.lost > 0, "nothing was lost, so nothing was tested"
    report(capsys, "power cut", ROUNDS, victim)


def test_without_fsync_a_power_cut_is_noticed(use):
    """The test above can fail: with fsync taken out, it does."""
    found = use(Victim(disk=True, faults=NO_SYNC)).rounds(20)
    assert "violation" in found


def test_a_disk_that_fails_for_a_while_loses_nothing(use, capsys):
    victim = use(FailingVictim())
    rounds = ROUNDS // 12
    assert not victim.rounds(rounds)
    assert victim.counts["failed"] > 0
    assert victim.recovers(), "no write worked again"
    assert not victim.rounds(1)
    report(capsys, "failing disk", rounds, victim)


def test_one_flipped_byte_is_refused_and_flipped_back_is_not(use):
    victim = use(Victim())
    assert not victim.rounds(3)
    log = max((victim.data / "db").glob("*.log"), key=lambda path: path.stat().st_size)
    whole = log.read_bytes()
    assert len(whole) > 1000
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    log.write_bytes(damaged)

    done = subprocess.run(victim.command(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    for expected in (str(victim.data / "db"), "is damaged", "Ways out", "backup", "salvage it"):
        assert expected in done.stderr

    log.write_bytes(whole)
    assert not victim.round(0.01), "a refusal must change nothing"
