# SPDX-License-Identifier: MIT
"""State as programs use it: results, transactions, lists, and watches that miss nothing and hold up nobody."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from clove_sdk import (
    AsyncCloveClient,
    CloveClient,
    Compacted,
    Conflict,
    ConnectionError,
    FetchResult,
    InvalidArgument,
    OutOfRange,
    StoreFailed,
    TooLarge,
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
    nothing = state.fetch("key")
    assert nothing == FetchResult(None, False, revision=nothing.revision)


def test_ttl_is_in_seconds(state):
    state.store("key", 1, ttl=0.2)
    expires = state.fetch("key").expires_at
    state.incr("key", ttl=1000)
    assert state.fetch("key").expires_at > expires + 900
    assert state.store("key", 1) and state.fetch("key").expires_at is None


IN_SESSION = {"scope": "session", "ttl": 1000, "durable": True}


@pytest.mark.parametrize("change", [
    lambda c: c.store("key", "x", **IN_SESSION), lambda c: c.cas("key", "x", 0, **IN_SESSION),
    lambda c: c.incr("key", 2, **IN_SESSION), lambda c: c.append("key", "x", **IN_SESSION),
    lambda c: c.mset({"key": "x"}, **IN_SESSION),
    lambda c: in_block(c, lambda t: t.put("key", "x", "session", 1000)),
    lambda c: in_block(c, lambda t: t.incr("key", 2, "session", 1000)),
    lambda c: in_block(c, lambda t: t.append("key", "x", "session", 1000)),
])
def test_where_how_long_and_how_safe(state, change):
    now = time.time()
    changed = change(state)
    there = state.fetch("key", "session")
    assert there.value in ("x", 2) and there.version == changed.version and changed.durability == "synced"
    assert now + 990 < there.expires_at < time.time() + 1010
    assert not state.fetch("key", "global").found
    assert [item.key for item in state.scan(scope="session")] == ["key"] and not list(state.scan())
    assert [item.found for item in (*state.mget(["key"], "session"), *state.mget(["key"], "global"))] == [True, False]
    with state.watch("key", scope="session") as near, state.watch("key") as far:
        assert state.delete_key("key", "session", durable=True).durability == "synced"
        assert near.next(5).change == "deleted" and far.next(0) is None


def in_block(client, add):
    with client.transaction(durable=True) as changes:
        add(changes)
    return changes.result


def test_conditions(state):
    """Of a store, of a deletion and of each operation in a transaction: held, or nothing happens."""
    version = state.store("key", 1, if_version=0).version
    for change in (
        lambda: state.store("key", 2, if_version=0), lambda: state.delete_key("key", if_version=version + 1),
        lambda: in_block(state, lambda t: t.put("key", 2, if_exists=False)),
        lambda: in_block(state, lambda t: t.incr("key", if_version=0)),
        lambda: in_block(state, lambda t: t.append("key", "x", if_version=version + 1)),
        lambda: in_block(state, lambda t: t.delete("key", if_version=version + 1)),
        lambda: in_block(state, lambda t: t.check("key", if_exists=False)),
        lambda: in_block(state, lambda t: t.check("key", if_version=version + 1)),
    ):
        with pytest.raises(Conflict) as caught:
            change()
        assert caught.value.details["version"] == version
    assert state.fetch("key").value == 1
    in_block(state, lambda t: (t.check("key", if_version=version), t.delete("key", if_exists=True)))
    assert not state.fetch("key").found
    assert state.delete_key("key", if_version=0).deleted is False


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


def test_a_transaction_is_sent_once_whatever_came_of_it(state):
    with state.transaction() as changes:
        changes.incr("n")
        assert changes.commit().operations[0].value == 1
        for add in (lambda: changes.put("late", 1), lambda: changes.check("n", if_exists=True), changes.commit):
            with pytest.raises(ValidationError, match="was sent"):
                add()
    with state.transaction() as changes:
        changes.incr("n")
        changes.check("n", if_version=0)
        with pytest.raises(Conflict):
            changes.commit()
        state.delete_key("n")
    assert changes.result is None and not state.fetch("n").found


def test_nothing_to_change_is_not_sent(state):
    before = state.store("key", 1).version
    with state.transaction() as changes:
        pass
    assert changes.result == state.mset({}) and changes.result
    assert (changes.result.version, changes.result.durability, changes.result.operations) == (0, "none", [])
    assert state.store("key", 1).version == before + 1


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


def test_lists_go_through_pages(state):
    wanted = sorted(f"{'k' * 500}{n:04}" for n in range(2500))
    for at in range(0, 2500, 500):
        state.mset(dict.fromkeys(wanted[at : at + 500]))
    state.store(wanted[0], 1, "session")
    state.mset({f"other{n}": n for n in range(10)}, "session")
    assert state.list_keys("k").keys == wanted
    assert state.list_keys().count == 2510 and state.list_keys("k", "session").keys == wanted[:1]
    assert [item.key for item in state.scan(b"k")] == wanted


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


@pytest.mark.parametrize(("wrong", "message"), [
    ({"key": "a", "prefix": "a"}, "^give either key or prefix"), ({}, "^give either key or prefix"),
    ({"key": 5}, "^key "), ({"key": "\ud800"}, "^key "), ({"prefix": 5}, "^prefix "), ({"key": "a", "scope": "x"}, "^scope "),
    ({"key": "a", "after": -1}, "^after "), ({"key": "a", "after": "1"}, "^after "), ({"key": "a", "after": True}, "^after "),
])
def test_what_cannot_be_watched_is_refused_at_once(wrong, message):
    for kind in (CloveClient, AsyncCloveClient):
        with pytest.raises(ValidationError, match=message):
            kind("/none").watch(**wrong)


def test_wrong_timeouts_of_a_watch(state):
    with state.watch("key") as watch:
        for wrong in (-1, "1", True, float("nan")):
            with pytest.raises(ValidationError, match="^timeout "):
                watch.next(wrong)


def test_read_within_a_watch_and_none_is_missed(kernel, state):
    """Also of a key that does not exist, and of one that was stored long ago: neither has a version to watch from."""
    state.store("old", 1)
    for n in range(70):
        state.mset({f"n{m}": n for m in range(1000)})
    old = state.fetch("old")
    with pytest.raises(Compacted), state.watch("old", after=old.version):
        pass
    with CloveClient(kernel.path) as writer:
        for key in ("old", "absent"):
            with state.watch(key) as watch:
                writer.store(key, "meanwhile")
                read = state.fetch(key)
                writer.store(key, "later")
                changes = [watch.next(5), watch.next(5)]
            assert [change.value for change in changes if change.version > read.version] == ["later"]


def test_watching_after_the_revision_of_a_read_misses_nothing(kernel, state):
    state.store("a", 0)
    reads = [state.fetch("a"), state.fetch("absent"), *state.mget(["a", "absent"]), state.list_keys("a")]
    made = state.store("a", 1).version
    with CloveClient(kernel.path) as writer:
        writer.store("absent", 1)
    for read in reads:
        assert 0 < read.revision < made
        for key in ("a", "absent"):
            with state.watch(key, after=read.revision) as watch:
                assert watch.next(5).value == 1 and watch.next(0) is None


def test_who_stops_within_a_transaction_goes_on_from_before_it(state):
    """after=watch.version loses none of it, and is past it only with its last change: here and in the kernel."""
    before = state.store("a0", 0).version
    made = state.mset({f"{'xa'[n % 2]}{n:02}": n for n in range(40)})
    keys = [f"a{n:02}" for n in range(1, 40, 2)]
    told: list[str] = []
    version = before
    for _ in keys:
        with state.watch(prefix="a", after=version) as watch:
            told = [next(watch).key for _ in range(len(told) + 1)]
            assert told == keys[: len(told)]
            version = watch.version
        assert version == (before if len(told) < 20 else made.version)
    with state.watch(prefix="a", after=version) as watch:
        assert watch.next(0.05) is None


def test_a_watch_cut_within_a_transaction_goes_on_with_its_rest(kernel, state):
    """Its stream is begun anew after each change told: every change once."""
    with CloveClient(kernel.path) as writer, state.watch(prefix="k") as watch:
        writer.store("k", "first")
        writer.mset({f"k{n:02}": n for n in range(20)})
        writer.store("k", "last")
        told = []
        for _ in range(22):
            told.append(next(watch))
            watch._end()
            assert watch.version == told[-1].version - told[-1].more
        assert [change.value for change in told] == ["first", *range(20), "last"]
        assert [change.more for change in told] == [False] + [True] * 19 + [False] * 2
        assert watch.next(0.05) is None


def test_a_watch_from_version_0_tells_everything_or_is_refused(own_kernel):
    with CloveClient(own_kernel.path) as client:
        client.store("key", 1)
        with client.watch("key", after=0) as watch:
            assert next(watch).value == 1
        for n in range(70):
            client.mset({f"n{m}": n for m in range(1000)})
        with pytest.raises(Compacted), client.watch("key", after=0):
            pass


def test_a_watch_tells_of_expiry(state):
    with state.watch("key") as watch:
        stored = state.store("key", 1, ttl=0.05)
        assert next(watch).change == "stored"
        expired = watch.next(10)
        assert (expired.change, expired.value) == ("expired", None) and expired.version > stored.version


def test_who_never_takes_is_told_so_and_harms_nobody(kernel, state):
    """Here a bounded number waits while another call reads; then in the kernel, which forgets."""
    with CloveClient(kernel.path) as writer, state.watch(prefix="k") as watch:
        for n in range(70):
            writer.mset({f"k{m}": n for m in range(1000)})
            state.noop(n)
        assert 0 < len(watch._open[1].chunks) <= Stream.CHUNKS_MAX
        told = 0
        with pytest.raises(Compacted):
            for _ in watch:
                told += 1
        assert told >= Stream.CHUNKS_MAX
        with pytest.raises(ConnectionError, match="closed"):
            next(watch)
        assert state.noop("goes on") == "goes on"


def test_large_changes_that_are_not_taken_are_bounded_by_their_bytes(kernel, state, monkeypatch):
    monkeypatch.setattr(Stream, "BYTES_MAX", 1 << 20)
    with CloveClient(kernel.path) as writer, state.watch("key") as watch:
        for n in range(12):
            writer.store("key", [n, b"x" * 500_000])
            state.noop(n)
        assert watch._open[1].size <= 2 << 20
        assert [next(watch).value[0] for _ in range(12)] == list(range(12))


def test_closing_a_watch_wakes_who_waits_for_it(state):
    told: list[str] = []

    def follow(watch):
        try:
            next(watch)
        except ConnectionError as error:
            told.append(str(error))

    watches = [state.watch("key").__enter__() for _ in range(3)]
    threads = [threading.Thread(target=follow, args=[watch], daemon=True) for watch in watches]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    # The first of them reads for all; the last one only sleeps.
    for watch, thread in reversed(list(zip(watches, threads))):
        watch.close()
        thread.join(10)
        assert not thread.is_alive()
    assert len(told) == 3 and all("closed" in text for text in told)
    assert not state._transport._table.waiting and not state._streams and state.noop("next") == "next"


def test_closing_a_watch_wakes_a_task_that_waits_for_it(kernel):
    async def main():
        async with AsyncCloveClient(kernel.path) as client:
            watch = await client.watch("key").__aenter__()
            task = asyncio.create_task(watch.next())
            await asyncio.sleep(0.05)
            await watch.close()
            with pytest.raises(ConnectionError, match="closed"):
                await asyncio.wait_for(task, 10)
            assert not client._transport._table.waiting

    asyncio.run(main())


def test_a_task_that_gives_up_waiting_loses_no_change(kernel):
    async def main():
        async with AsyncCloveClient(kernel.path) as client, client.watch("key") as watch:
            async def write():
                for n in range(300):
                    await client.store("key", n)
                    await asyncio.sleep(0.001)

            writing = asyncio.create_task(write())
            told, given_up = [], 0
            while len(told) < 300:
                try:
                    told.append((await asyncio.wait_for(watch.next(), 0.0005)).value)
                except asyncio.TimeoutError:
                    given_up += 1
            await writing
            assert told == list(range(300)) and given_up

    asyncio.run(main())


@pytest.mark.parametrize(("call", "error"), [
    (lambda c: c.store("", 1), InvalidArgument), (lambda c: c.fetch(b""), InvalidArgument),
    (lambda c: c.watch("").next(0), InvalidArgument), (lambda c: c.store("x" * 1025, 1), TooLarge),
    (lambda c: c.store("x", b"x" * (1 << 20)), TooLarge), (lambda c: c.store("x", b"x" * (2 << 20)), TooLarge),
    (lambda c: c.mget(["x"] * 1025), TooLarge), (lambda c: c.mset({f"x{n}": 1 for n in range(1025)}), TooLarge),
    (lambda c: c.incr("x", float("nan")), OutOfRange), (lambda c: c.append("x", 5), WrongType),
    (lambda c: c.backup("/tmp"), InvalidArgument), (lambda c: c.restore("/no/such/backup"), StoreFailed),
])
def test_what_the_kernel_refuses_changes_nothing(state, call, error):
    with pytest.raises(error):
        call(state)
    assert state.list_keys().keys == [] and state.noop("next") == "next"


def test_a_number_of_64_bits_and_no_more(state):
    for at, step in ((2**64 - 1, 1), (-(2**63), -1)):
        state.store("n", at)
        with pytest.raises(OutOfRange):
            state.incr("n", step)
        assert state.fetch("n").value == at


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
