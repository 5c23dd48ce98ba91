# SPDX-License-Identifier: MIT
"""Clients that ask for much and read none of it: they harm only themselves."""

import time

import pytest

import kernel as kernels
import procfs
from kernel import wait_until
from wire import IN_FLIGHT_MAX, OUTPUT_MAX, PAYLOAD_MAX, Refused

MIB = 1024  # in KiB, as /proc counts
pytestmark = pytest.mark.parametrize("cores", [1])


def grown(kernel, before: int) -> int:
    """MiB; nothing under a sanitizer, whose memory is its own."""
    return 0 if kernels.is_sanitized() else (procfs.anonymous_kib(kernel.pid) - before) // MIB


def settled(client) -> None:
    """Everything asked for so far is done, or waits for its client: nothing but this question was answered lately."""
    before, since = None, time.monotonic()
    while time.monotonic() - since < 0.3:
        stats = client.stats()
        quiet = [core["frames"] - core["replies"] for core in stats["cores"]]
        # Each question is a frame and a reply; of the one in hand there is no reply yet.
        if quiet != before or stats["files_queued"]:
            before, since = quiet, time.monotonic()
        time.sleep(0.02)


def read_all(client, ids: list[int]) -> tuple[list, int]:
    """The answers, and how many were refused as BUSY."""
    answers, busy = [], 0
    for id in ids:
        try:
            answers.append(client.wait(id))
        except Refused as error:
            assert error.code == "BUSY"
            busy += 1
    return answers, busy


@pytest.fixture
def big(directory):
    path = directory / "big"
    path.write_bytes(b"z" * PAYLOAD_MAX)
    return str(path)


def test_one_who_reads_nothing_costs_little_and_loses_nothing(kernel, client, big):
    settled(client)
    before = procfs.anonymous_kib(kernel.pid)
    silent = kernel.client()
    ids = [silent.send("READ", big) for _ in range(IN_FLIGHT_MAX)]
    settled(client)
    assert grown(kernel, before) < 24
    answers, busy = read_all(silent, ids)
    assert not busy and all(len(answer["data"]) == PAYLOAD_MAX for answer in answers)


def test_files_that_nobody_reads_keep_nobody_from_theirs(kernel, client, big, directory):
    settled(client)
    before = procfs.anonymous_kib(kernel.pid)
    silent = [kernel.client() for _ in range(40)]
    asked = [(one, [one.send("READ", big) for _ in range(20)]) for one in silent]
    settled(client)
    assert grown(kernel, before) < 300
    path = str(directory / "own")
    for i in range(20):
        assert client.call("WRITE", path, b"%d" % i * 100_000)["bytes_written"]
        assert len(client.call("READ", big)["data"]) == PAYLOAD_MAX
    total_busy = 0
    for one, ids in asked:
        answers, busy = read_all(one, ids)
        assert all(len(answer["data"]) == PAYLOAD_MAX for answer in answers)
        total_busy += busy
    assert 0 < total_busy < 500  # of 800; 640 had a place, and 256 fit
    # Read, their share is free again.
    assert read_all(silent[0], [silent[0].send("READ", big) for _ in range(20)])[1] == 0


def assert_whole(result: dict) -> None:
    assert len(result["stdout"]) == len(result["stderr"]) == OUTPUT_MAX and not result["truncated"]


LOUD = f"head -c {OUTPUT_MAX} /dev/zero; head -c {OUTPUT_MAX} /dev/zero >&2"


def test_output_that_nobody_reads_cuts_nobody_elses(kernel, client):
    settled(client)
    before = procfs.anonymous_kib(kernel.pid)
    silent = [kernel.client() for _ in range(2)]
    asked = [[one.send("EXEC", LOUD) for _ in range(IN_FLIGHT_MAX - 1)] for one in silent]
    wait_until(lambda: procfs.children(kernel.pid) == [kernel.launcher_pid()], "all have ended", timeout=60)
    # Of 510 that were printed, 256 may be held; the rest is what the allocator keeps of outputs already cut.
    assert grown(kernel, before) < 384
    for _ in range(3):
        assert_whole(client.exec(LOUD))
    for one, ids in zip(silent, asked):
        answers, busy = read_all(one, ids)
        assert not busy
        for answer in answers:
            assert (answer["exit_code"], answer["stdout_bytes"]) == (0, OUTPUT_MAX)
            assert answer["truncated"] is (len(answer["stdout"]) + len(answer["stderr"]) < 2 * OUTPUT_MAX)
    # Read, their share is free again.
    assert_whole(silent[0].exec(LOUD))


def test_output_of_commands_that_do_not_end_cuts_nobody_elses(kernel, client, marker):
    greedy = [kernel.client() for _ in range(2)]
    for one in greedy:
        for _ in range(IN_FLIGHT_MAX - 1):
            one.send("EXEC", f"{LOUD}; exec {marker.shell}", {"timeout_ms": 0})
    wait_until(lambda: len(marker.pids()) == 2 * (IN_FLIGHT_MAX - 1), "all have written", timeout=60)
    for _ in range(3):
        assert_whole(client.exec(LOUD))
    for one in greedy:
        one.close()


def test_logs_that_nobody_reads_are_bounded(kernel, client):
    loud = ["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x"]
    client.call("SPAWN", "loud", loud, {"sandboxed": False})
    client.call("WAIT", "loud")
    assert len(client.call("LOGS", "loud")["data"]) == 1_000_000
    before = procfs.anonymous_kib(kernel.pid)
    silent = [kernel.client() for _ in range(3)]
    asked = [[one.send("LOGS", "loud") for _ in range(150)] for one in silent]
    settled(client)
    assert grown(kernel, before) < 300
    assert len(client.call("LOGS", "loud")["data"]) == 1_000_000
    for one, ids in zip(silent, asked):
        answers, _ = read_all(one, ids)
        assert answers and all(len(answer["data"]) == 1_000_000 for answer in answers)
