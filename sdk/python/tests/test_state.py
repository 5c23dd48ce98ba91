# SPDX-License-Identifier: MIT
"""State as programs use it: results, transactions, lists, and watches that miss nothing and hold up nobody."""

from __future__ import annotations

import asyncio
import threading

import pytest
from clove_sdk import (
    AsyncCloveClient,
    CloveClient,
    Compacted,
    Conflict,
    ConnectionError,
    FetchResult,
    InvalidArgument,
    ValidationError,
    WrongType,
)
from clove_sdk._pending import Stream


@pytest.fixture
def state(client):
    """A client before an empty store."""
    for key in client.list_keys().keys:
        client.delete_key(key)
    return client


@pytest.mark.parametrize("value", [None, True, 2**64 - 1, -(2**63), 0.5, "\u20ac\udcff", b"\xff", [1, {"a": []}], {1: 2}])
def test_values_come_back(state, value):
    stored = state.store("key", value, durable=True)
    assert stored and stored["durability"] == "synced"
    fetched = state.fetch("key")
    assert fetched.value == value and type(fetched.value) is type(value)
    assert (fetched.found, fetched["exists"], fetched.version, fetched.scope) == (True, True, stored.version, "global")
    assert state.delete_key("key").deleted is True and state.delete_key("key").deleted is False
    assert state.fetch("key") == FetchResult(None, False)


def test_ttl_is_in_seconds(state):
    state.store("key", 1, ttl=0.2)
    expires = state.fetch("key").expires_at
    state.incr("key", ttl=1000)
    assert state.fetch("key").expires_at > expires + 900
    assert state.store("key", 1) and state.fetch("key").expires_at is None


def test_cas_tells_who_won(state):
    assert state.cas("key", "first", 0)
    lost = state.cas("key", "second", 0)
    assert not lost and lost.version == state.fetch("key").version and "version" in lost.error
    assert state.cas("key", "second", lost.version)
    gone = state.cas("absent", 1, 5)
    assert not gone and gone.version == 0 and gone.error == "the key does not exist"


def test_counters_and_lists(state):
    assert [state.incr("n").value, state.incr("n", 4).value, state.incr("n", -0.5).value] == [1, 5, 4.5]
    state.append("list", [1])
    state.append("list", [2, "x"])
    assert state.fetch("list").value == [1, 2, "x"]
    with pytest.raises(WrongType):
        state.incr("list")
    with pytest.raises(InvalidArgument):
        state.store("", 1)


def test_many_at_once(state):
    result = state.mset({"a": 1, b"\xff": None})
    assert [item.value for item in state.mget(["a", b"\xff", "none"])] == [1, None, None]
    assert [item.found for item in state.mget(["a", b"\xff", "none"])] == [True, True, False]
    assert {item.version for item in state.mget(["a", b"\xff"])} == {result.version}
    assert state.mget([]) == []
    assert state.list_keys().keys == ["a", "\udcff"] and state.list_keys("a").count == 1


def test_a_transaction_is_sent_at_the_end_of_its_block(state):
    with state.transaction() as changes:
        changes.put("a", 1, if_exists=False)
        changes.incr("n", 2)
        changes.append("l", "x")
        changes.delete("gone")
        assert not state.fetch("a").found
    assert [item.value for item in changes.result.operations] == [None, 2, None, None]
    with pytest.raises(Conflict) as caught, state.transaction() as changes:
        changes.put("b", 1)
        changes.check("a", if_version=0)
    assert caught.value.details["version"] == state.fetch("a").version
    with pytest.raises(ZeroDivisionError), state.transaction() as changes:
        changes.put("b", 1)
        raise ZeroDivisionError
    assert not state.fetch("b").found
    with state.transaction() as changes:
        pass
    with pytest.raises(ValidationError, match="was committed"):
        changes.commit()


@pytest.mark.parametrize("add", [
    lambda t: t.put(5, 1), lambda t: t.put("a", object()), lambda t: t.put("a", 1, "nowhere"), lambda t: t.put("a", 1, ttl=-1),
    lambda t: t.incr("a", "1"), lambda t: t.check("a"), lambda t: t.delete("a", if_version=1, if_exists=True),
    lambda t: t.delete("a", if_exists=1), lambda t: t.append("a", {1, 2}),
])
def test_what_cannot_be_in_a_transaction_is_refused_at_once(add):
    with pytest.raises(ValidationError):
        add(CloveClient("/none").transaction())
    with pytest.raises(ValidationError, match="durable"):
        CloveClient("/none").transaction(durable=1)


def test_scopes(kernel, state):
    state.store("key", "all")
    state.store("key", "mine", "session")
    state.store("other", 1, "agent")
    assert state.fetch("key").value == "mine" and state.fetch("key", "global").value == "all"
    assert state.list_keys().keys == ["key", "other"] and state.list_keys(scope="global").keys == ["key"]
    with CloveClient(kernel.path) as other:
        assert other.fetch("key").value == "all" and not other.fetch("other").found
    state.delete_key("key"), state.delete_key("other")
    assert state.fetch("key").value == "all"


def test_scan_goes_through_pages(state):
    state.mset({f"k{n:03}": n for n in range(250)})
    state.store("z", 1)
    items = list(state.scan("k", page_size=30))
    assert [(item.key, item.value) for item in items] == [(f"k{n:03}", n) for n in range(250)]
    for wrong in ({"prefix": 5}, {"scope": "x"}, {"page_size": -1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            next(iter(state.scan(**wrong)))


def test_a_watch_begins_with_its_block(kernel, state):
    with CloveClient(kernel.path) as writer, state.watch("key") as watch:
        version = writer.store("key", 1).version
        writer.store("other", 2)
        writer.delete_key("key")
        first, second = next(watch), next(watch)
        assert (first.key, first.change, first.value, first.version) == ("key", "stored", 1, version)
        assert (second.change, second.value) == ("deleted", None)
        assert watch.next(0) is None and watch.next(0.01) is None
        assert watch.version == second.version
    with pytest.raises(ConnectionError, match="closed"):
        next(watch)
    with state.watch("key", after=first.version) as again:
        assert next(again) == second


def test_what_does_not_fit_here_is_asked_for_again(kernel, state, monkeypatch):
    """Changes of one transaction, too, which share a version: none twice, none lost."""
    monkeypatch.setattr(Stream, "CHUNKS_MAX", 30)
    with CloveClient(kernel.path) as writer, state.watch(prefix="k") as watch:
        for n in range(30):
            writer.mset({f"k{m}": (n, m) for m in range(20)})
            state.noop()
        seen = [tuple(next(watch).value) for _ in range(600)]
        assert seen == [(n, m) for n in range(30) for m in range(20)]
        assert watch.next(0.05) is None


def test_a_watch_that_was_forgotten_says_so(state):
    for wrong in ({"key": "a", "prefix": "a"}, {}, {"key": 5}, {"key": "a", "after": -1}, {"key": "a", "scope": "x"}):
        with pytest.raises(ValidationError):
            state.watch(**wrong)
    with pytest.raises(Compacted), state.watch("key", after=2**60):
        pass
    with state.watch("key") as watch, pytest.raises(ValidationError, match="timeout"):
        watch.next(-1)


def test_threads_watch_and_call_on_one_connection(kernel, state):
    told: list[int] = []

    def follow():
        with state.watch("key") as watch:
            begun.set()
            for change in watch:
                told.append(change.value)
                if change.value == 199:
                    return

    begun = threading.Event()
    threads = [threading.Thread(target=follow)]
    threads[0].start()
    assert begun.wait(10)
    threads += [threading.Thread(target=lambda: [state.noop(n) for n in range(200)]) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    for n in range(200):
        state.store("key", n)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert told == list(range(200))


def test_with_asyncio(kernel, state):
    async def main():
        async with AsyncCloveClient(kernel.path) as client, client.watch(prefix="a") as watch:
            async with client.transaction() as changes:
                changes.put("a1", 1)
                changes.put("a2", 2)
            assert [(await watch.next(10)).key, (await watch.next(10)).key] == ["a1", "a2"]
            await asyncio.gather(*(client.incr("a3") for _ in range(50)))
            got = []
            async for change in watch:
                got.append(change.value)
                if len(got) == 50:
                    break
            assert got == list(range(1, 51)) and await watch.next(0.01) is None
            assert [item.key async for item in client.scan("a", page_size=1)] == ["a1", "a2", "a3"]

    asyncio.run(main())


def test_a_kernel_that_goes_ends_a_watch(own_kernel):
    client = CloveClient(own_kernel.path)
    with client.watch("key") as watch:
        own_kernel.process.kill()
        with pytest.raises(ConnectionError):
            next(watch)


def test_backup_and_restore(own_kernel, tmp_path):
    with CloveClient(own_kernel.path) as client:
        client.store("key", 1)
        assert client.backup(tmp_path / "backup") is True
        client.store("key", 2)
        assert client.verify_state().key_count >= 1
        assert client.restore(tmp_path / "backup") is True
        assert client.fetch("key").value == 1 and client.state_usage().key_count == 1
