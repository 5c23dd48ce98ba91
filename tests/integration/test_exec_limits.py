# SPDX-License-Identifier: MIT
"""EXEC when there is much: output, input, arguments, commands."""

import threading

import pytest

import kernel as kernels
import procfs
from wire import IN_FLIGHT_MAX, OUTPUT_MAX, Refused

MIB = 1024  # in KiB, as /proc counts


def test_output_above_the_cap_is_counted_but_not_kept(client):
    result = client.exec("printf 0123456789; printf abcdef >&2", output_max=4)
    assert result["stdout"] == b"0123" and result["stdout_bytes"] == 10
    assert result["stderr"] == b"abcd" and result["stderr_bytes"] == 6
    assert result["truncated"] is True
    assert result["exit_code"] == 0


@pytest.mark.parametrize("cap, truncated", [(0, True), (9, True), (10, False), (11, False)])
def test_output_is_truncated_only_above_the_cap(client, cap, truncated):
    result = client.exec(["printf", "0123456789"], output_max=cap)
    assert result["stdout"] == b"0123456789"[:cap]
    assert result["stdout_bytes"] == 10
    assert result["truncated"] is truncated


def test_one_cut_stream_does_not_cut_the_other(client):
    result = client.exec("printf 0123456789; printf abc >&2", output_max=5)
    assert result["stderr"] == b"abc" and result["stderr_bytes"] == 3
    assert result["truncated"] is True


def test_both_streams_may_be_full(client):
    result = client.exec("head -c 600000 /dev/zero; head -c 700000 /dev/zero >&2")
    assert len(result["stdout"]) == len(result["stderr"]) == OUTPUT_MAX
    assert (result["stdout_bytes"], result["stderr_bytes"]) == (600_000, 700_000)
    assert result["truncated"] is True
    exact = client.exec(f"head -c {OUTPUT_MAX} /dev/zero")
    assert len(exact["stdout"]) == OUTPUT_MAX and exact["truncated"] is False


def test_output_is_complete_up_to_its_last_byte(client):
    """What is in the pipe when the command ends still counts."""
    for size in (1, 4095, 65535, 65536, 65537, 200_000):
        result = client.exec(f"head -c {size} /dev/zero | tr '\\0' x")
        assert result["stdout"] == b"x" * size


def test_a_gibibyte_of_output_is_counted_in_bounded_memory(kernel, client):
    bystanders = [kernel.client() for _ in range(3)]
    before = procfs.anonymous_kib(kernel.pid)
    peak = 0
    running = client.send("EXEC", "head -c 1073741824 /dev/zero")
    answered = threading.Event()

    def keep_asking() -> None:
        while not answered.is_set():
            for bystander in bystanders:
                bystander.assert_alive()
            nonlocal peak
            peak = max(peak, procfs.anonymous_kib(kernel.pid))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        result = client.wait(running)
    finally:
        answered.set()
        asking.join()
    assert result["exit_code"] == 0
    assert result["stdout_bytes"] == 1 << 30
    assert len(result["stdout"]) == OUTPUT_MAX
    assert peak, "nobody was served meanwhile"
    if not kernels.is_sanitized():
        assert peak - before < 8 * MIB


def test_more_than_the_launcher_takes_is_too_large(client):
    for command, options in (
        ("#" * 70_000, {}),
        (["echo", "x" * 40_000, "y" * 40_000], {}),
        (["true"], {"env": {"A": "x" * 70_000}}),
    ):
        error = client.refused("EXEC", command, options)
        assert error.code == "TOO_LARGE"
        assert "64 KiB" in error.message
    client.assert_alive()
    assert client.exec(["printf", "%s", "x" * 60_000])["stdout_bytes"] == 60_000


def test_a_burst_of_as_many_commands_as_may_be_in_flight_runs(client):
    ids = [client.send("EXEC", ["true"]) for _ in range(IN_FLIGHT_MAX)]
    assert [client.wait(id)["exit_code"] for id in ids] == [0] * len(ids)


def test_a_burst_of_large_commands_runs(client):
    # Replies stay small: a client that sends without reading may not make the kernel hold much for it.
    ids = [client.send("EXEC", ["printf", "%s", "x" * 60_000], {"output_max": 64}) for _ in range(12)]
    assert [client.wait(id)["stdout_bytes"] for id in ids] == [60_000] * len(ids)


def open_files(kernel) -> int:
    try:
        return procfs.open_files(kernel.pid)
    except PermissionError:
        pytest.skip("only root may count the descriptors of an undumpable process")


def run_many(client, count: int, command: object, options: dict, at_once: int = 16) -> int:
    """Runs a command many times, a few at once; how often it was refused or failed."""
    failures = 0
    waiting: list[int] = []
    for i in range(count + at_once):
        if i >= at_once:
            try:
                failures += client.wait(waiting.pop(0))["exit_code"] != 0
            except Refused:
                failures += 1
        if i < count:
            waiting.append(client.send("EXEC", command, options))
    return failures


def test_a_thousand_commands_leave_no_process_and_no_descriptor(kernel):
    clients = [kernel.client() for _ in range(3)]
    for client in clients:
        client.exec(["true"])
    before = open_files(kernel)
    assert sum(run_many(client, 334, ["true"], {}) for client in clients) == 0
    assert procfs.children(kernel.pid) == [kernel.launcher_pid()]
    assert procfs.zombies(kernel.pid) == []
    kernels.wait_until(lambda: open_files(kernel) <= before, "no descriptor is left")


def test_failed_commands_leave_no_process_and_no_descriptor(kernel, client, marker):
    client.exec(["true"])
    before = open_files(kernel)
    assert run_many(client, 100, ["/no/such/program"], {}) == 100
    assert run_many(client, 100, ["true"], {"cwd": "/no/such/directory"}) == 100
    assert run_many(client, 100, ["true", "x" * 70_000], {}) == 100
    for _ in range(50):
        assert client.call("CANCEL", client.send("EXEC", marker.argv)) is True
    # Descriptors too: the launcher may not even have made the last ones yet.
    kernels.wait_until(
        lambda: open_files(kernel) <= before and procfs.children(kernel.pid) == [kernel.launcher_pid()],
        "all are reaped",
    )
