# SPDX-License-Identifier: MIT
"""The store is killed, or its power cut, at random instants under load

CLOVE_CRASH_ROUNDS is how often, for each (200).
"""

import os

import pytest

from crash import Victim

ROUNDS = int(os.environ.get("CLOVE_CRASH_ROUNDS", "200"))


@pytest.fixture
def victim(request):
    victim = Victim(**request.param)
    yield victim
    victim.remove()


def report(capsys, victim, kind):
    with capsys.disabled():
        print(f"\n{kind}: {ROUNDS} rounds, {victim.told} writes acknowledged, {victim.synced} of them durable, "
              f"{victim.lost} files cut back")


@pytest.mark.parametrize("victim", [{"powered": False}], indirect=True)
def test_what_was_acknowledged_survives_kill_9(victim, capsys):
    assert not victim.rounds(ROUNDS)
    assert victim.told > 0
    report(capsys, victim, "kill -9")


@pytest.mark.parametrize("victim", [{"powered": True}], indirect=True)
def test_what_was_durable_survives_a_power_cut(victim, capsys):
    assert not victim.rounds(ROUNDS)
    assert victim.synced > 0
    assert victim.lost > 0, "nothing was lost, so nothing was tested"
    report(capsys, victim, "power cut")


@pytest.mark.parametrize("victim", [{"powered": True, "no_sync": True}], indirect=True)
def test_without_fsync_a_power_cut_is_noticed(victim):
    """The test above can fail: with fsync taken out, it does."""
    found = victim.rounds(20)
    assert "violation" in found
