# SPDX-License-Identifier: MIT
"""Several cores, what they count, and that none works without work."""

import threading
import time

import pytest

from kernel import wait_until

COUNTERS = {
    "connections", "accepted", "frames", "replies", "wakeups", "sends", "crossings", "jobs", "in_bytes", "out_bytes",
}  # fmt: skip


def counts(stats: dict, name: str) -> list[int]:
    return [core[name] for core in stats["cores"]]


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_stats_tell_of_every_core(kernel, client, io, cores):
    wait_until(lambda: client.stats()["connections"] == 1, "the connection of the start is forgotten")
    stats = client.stats()
    assert set(stats) == {"io", "connections", "cores", "store", "files_queued", "launcher"}
    assert stats["io"] == io
    assert stats["files_queued"] == 0
    assert stats["launcher"] is True
    assert len(stats["cores"]) == cores
    for core in stats["cores"]:
        assert set(core) == COUNTERS
        assert all(isinstance(value, int) and value >= 0 for value in core.values())


def test_connections_are_spread_evenly(kernel):
    clients = []
    for _ in range(60):
        clients.append(kernel.client())
        clients[-1].assert_alive()
    stats = clients[0].stats()
    assert stats["connections"] == 60
    assert counts(stats, "connections") == [20, 20, 20]
    assert all(core > 0 for core in counts(stats, "frames"))
    # Core 0 accepts; what it gives away crosses over to another core.
    assert counts(stats, "crossings")[0] >= 40
    homes = [client.call("HELLO", 1, 1)["core"] for client in clients]
    assert sorted(homes) == [0] * 20 + [1] * 20 + [2] * 20


def test_connections_made_at_once_are_spread_evenly(kernel):
    """Nobody waits for an answer before the next connects: the placing must count those on their way."""
    clients = [kernel.client() for _ in range(60)]
    for client in clients:
        client.assert_alive()
    spread = counts(clients[0].stats(), "connections")
    assert sum(spread) == 60
    assert max(spread) - min(spread) <= 6, spread


def test_a_free_place_is_filled_again(kernel):
    clients = []
    for _ in range(30):
        clients.append(kernel.client())
        clients[-1].assert_alive()
    homes = [client.call("HELLO", 1, 1)["core"] for client in clients]
    for client, home in zip(clients, homes):
        if home == 1:
            client.close()
    watcher = clients[homes.index(0)]
    wait_until(lambda: counts(watcher.stats(), "connections") == [10, 0, 10], "core 1 is empty")
    for _ in range(10):
        client = kernel.client()
        assert client.call("HELLO", 1, 1)["core"] == 1


@pytest.mark.parametrize("cores", [1])
def test_one_core_crosses_nothing(kernel):
    clients = [kernel.client() for _ in range(10)]
    for client in clients:
        client.assert_alive()
        client.exec(["true"])
    assert counts(clients[0].stats(), "crossings") == [0]


@pytest.mark.parametrize("cores", [1])
def test_counters_count(kernel, client):
    client.assert_alive()
    before = client.stats()["cores"][0]
    for i in range(10):
        client.call("NOOP", "x" * 1000)
    client.exec(["true"])
    after = client.stats()["cores"][0]
    assert after["frames"] - before["frames"] == 12
    assert after["replies"] - before["replies"] == 12
    assert after["jobs"] - before["jobs"] == 1
    assert after["in_bytes"] - before["in_bytes"] > 10_000
    assert after["out_bytes"] - before["out_bytes"] > 10_000
    assert after["accepted"] == before["accepted"] == 2  # the other one waited for the start
    assert after["connections"] == 1


def test_all_cores_serve_at_once(kernel):
    """Each of many clients gets its own answers, whichever core it is on."""
    wrong = []

    def ask(number: int) -> None:
        try:
            with kernel.client() as client:
                for i in range(200):
                    if client.call("NOOP", [number, i]) != [number, i]:
                        wrong.append((number, i))
        except Exception as error:  # reported by the test's own thread
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_idle_kernel_does_not_wake_up(kernel):
    clients = [kernel.client() for _ in range(200)]
    for client in clients:
        client.assert_alive()
    clients[0].exec(["true"])
    clients[1].call("READ", "/proc/self/status")
    watcher = clients[0]
    home = watcher.call("HELLO", 1, 1)["core"]
    watcher.stats()
    time.sleep(0.3)  # what came before settles
    before = counts(watcher.stats(), "wakeups")
    time.sleep(1)
    after = counts(watcher.stats(), "wakeups")
    woken = [late - early for early, late in zip(before, after)]
    # The two questions themselves wake the core that answers them, once each.
    assert woken[home] <= 2
    woken[home] = 0
    assert woken == [0, 0, 0]
