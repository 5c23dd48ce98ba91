# SPDX-License-Identifier: MIT
"""State: values with versions, scopes and owners, in and out of the store, and what happens to bad requests"""

from __future__ import annotations

import bisect
import os
import shutil
import signal
import threading
import time

import msgpack
import pytest

import kernel as kernels
from kernel import wait_until
from test_agents import PRELUDE, logs
from test_users import ADA, BOB
from wire import FLAGS, PAYLOAD_MAX, Client, Refused

KEY_MAX = 1024
OPS_MAX = 1024
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may be several users")

VALUES = [
    None,
    True,
    0,
    -1,
    2**63 - 1,
    2**64 - 1,
    -(2**63),
    1.5,
    "",
    "text \u20ac",
    b"",
    b"\x00\xff",
    [],
    [1, [2, {}]],
    {"model": "gpt-4", "temp": 0.7},
    {1: "int key"},
    msgpack.ExtType(5, b"ext"),
    "x" * 70000,
    list(range(1000)),
]


def fetch(client: Client, key, *rest):
    answer = client.call("FETCH", key, *rest)
    return answer["value"] if answer["found"] else None


def watching(client: Client, *args) -> int:
    """Starts a watch; its id once it stands."""
    id = client.send("WATCH", *args)
    frame = client.read_frame()
    assert frame.id == id and frame.flags & FLAGS["MORE"] and frame.value() is None
    return id


def events(client: Client, id: int, count: int) -> list[dict]:
    """The next @count of a watch that stands."""
    got = []
    while len(got) < count:
        frame = client.read_frame()
        assert frame.id == id and frame.flags & FLAGS["MORE"], frame
        got.append(frame.value())
    return got


def ended(client: Client, id: int) -> str:
    """How a watch ended, whatever it told before."""
    while True:
        frame = client.read_frame()
        assert frame.id == id, frame
        if frame.is_error:
            with pytest.raises(Refused) as caught:
                frame.value()
            return caught.value.code


def store_patiently(client: Client, key: str, value: object) -> None:
    """The disk may not keep up."""

    def stored() -> bool:
        try:
            client.call("STORE", key, value)
        except Refused as refused:
            assert refused.code == "BUSY" and refused.detail["retry_ms"] > 0
            return False
        return True

    wait_until(stored, "the store keeps up")


def pages(client: Client, op: str, *args) -> list:
    found, cursor = [], None
    for _ in range(1000):
        page = client.call(op, *args, cursor)
        found += page["keys"] if op == "KEYS" else page["items"]
        cursor = page["cursor"]
        if cursor is None:
            return found
    raise AssertionError("a list without an end")


# ---- values ----


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_value_comes_back_as_it_was(client, value):
    client.call("STORE", "key", value)
    assert msgpack.packb(fetch(client, "key")) == msgpack.packb(value)


def test_what_is_absent_is_not_nil(client):
    absent = client.call("FETCH", "key")
    assert absent == {"found": False, "value": None, "revision": absent["revision"]}
    client.call("STORE", "key", None)
    assert client.call("FETCH", "key")["found"] is True


@pytest.mark.parametrize("key", ["k", b"\x00\xff\x80", "\u20ac", "x" * KEY_MAX, "a/b:c"], ids=lambda key: repr(key)[:9])
def test_a_key_is_any_bytes(client, key):
    client.call("STORE", key, 1)
    assert fetch(client, key) == 1
    raw = key if isinstance(key, bytes) else key.encode()
    assert [k.encode("utf-8", "surrogateescape") for k in client.call("KEYS")["keys"]] == [raw]


def test_versions_only_go_up(kernel, client):
    seen = []
    for n in range(5):
        seen.append(client.call("STORE", "key", n)["version"])
        seen.append(kernel.client().call("STORE", f"other{n}", n)["version"])
        seen.append(client.call("DELETE", "key")["version"])
    assert seen == sorted(set(seen))
    assert client.call("FETCH", "other4")["version"] == seen[-2]


def test_the_answer_says_what_was_given(client):
    assert client.call("STORE", "key", 1)["durability"] == "log"
    assert client.call("STORE", "key", 1, None, None, True)["durability"] == "synced"


def test_a_fetch_sees_what_was_sent_before_it(client):
    """And perhaps what was sent after it, but never what was before."""
    ids = []
    for n in range(50):
        client.send("STORE", "key", n)
        client.send("STORE", f"gone{n}", n)
        client.send("DELETE", f"gone{n}")
        ids.append((n, client.send("FETCH", "key"), client.send("FETCH", f"gone{n}")))
    for n, stored, deleted in ids:
        assert client.wait(stored)["value"] >= n
        assert client.wait(deleted)["found"] is False
    assert fetch(client, "key") == 49


def test_clients_of_other_cores_see_it_once_it_was_answered(kernel, client):
    others = [kernel.client() for _ in range(6)]
    for n in range(50):
        client.call("STORE", "key", n)
        assert [fetch(other, "key") for other in others] == [n] * 6


# ---- conditions ----


def test_compare_and_set(client):
    first = client.call("STORE", "key", 1, None, None, None, 0)["version"]
    refused = client.refused("STORE", "key", 2, None, None, None, 0)
    assert refused.code == "CONFLICT" and refused.detail == {"version": first}
    second = client.call("STORE", "key", 2, None, None, None, first)["version"]
    assert client.refused("STORE", "key", 3, None, None, None, first).detail == {"version": second}
    assert client.refused("DELETE", "key", None, None, first).code == "CONFLICT"
    assert client.call("DELETE", "key", None, None, second)["deleted"] is True
    missing = client.refused("STORE", "key", 3, None, None, None, second)
    assert missing.code == "CONFLICT" and missing.detail == {"version": 0}


def test_only_one_of_many_wins(kernel):
    clients = [kernel.client() for _ in range(20)]
    for round in range(10):
        ids = [client.send("STORE", f"lock{round}", n, None, None, None, 0) for n, client in enumerate(clients)]
        won = []
        for n, client in enumerate(clients):
            try:
                client.wait(ids[n])
                won.append(n)
            except Refused as refused:
                assert refused.code == "CONFLICT"
        assert len(won) == 1 and fetch(clients[0], f"lock{round}") == won[0]


def test_increments_of_all_add_up(kernel):
    clients = [kernel.client() for _ in range(8)]
    ids = [(client, client.send("INCREMENT", "n", 1)) for client in clients for _ in range(50)]
    answers = [client.wait(id)["value"] for client, id in ids]
    assert sorted(answers) == list(range(1, 401))


def test_increment_and_append(client):
    assert client.call("INCREMENT", "n", 5)["value"] == 5
    assert client.call("INCREMENT", "n", -7)["value"] == -2
    assert client.call("INCREMENT", "n", 0.5)["value"] == -1.5
    for first, second, both in [("a", "b", "ab"), (b"a", b"b", b"ab"), ([1], [2, 3], [1, 2, 3])]:
        client.call("DELETE", "list")
        client.call("APPEND", "list", first)
        client.call("APPEND", "list", second)
        assert fetch(client, "list") == both


def test_what_cannot_be_added_is_refused(client):
    client.call("STORE", "text", "a")
    client.call("STORE", "big", 2**64 - 1)
    client.call("STORE", "huge", 1.7e308)
    assert client.refused("INCREMENT", "text", 1).code == "WRONG_TYPE"
    assert client.refused("INCREMENT", "big", 1).code == "OUT_OF_RANGE"
    assert client.refused("INCREMENT", "huge", 1.7e308).code == "OUT_OF_RANGE"
    assert client.refused("INCREMENT", "n", "1").code == "INVALID_ARGUMENT"
    assert client.refused("APPEND", "text", b"bytes").code == "WRONG_TYPE"
    assert client.refused("APPEND", "big", "x").code == "WRONG_TYPE"
    assert client.refused("APPEND", "map", {}).code == "WRONG_TYPE"
    assert fetch(client, "text") == "a" and fetch(client, "big") == 2**64 - 1


# ---- several at once ----


def test_a_transaction_is_all_or_nothing(client):
    version = client.call("STORE", "a", 1)["version"]
    check = ["check", "a", None, None, None, version]
    answer = client.call(
        "TRANSACT", [["put", "b", 2], ["increment", "a", 10], ["delete", "c"], ["append", "d", "x"], check]
    )
    assert answer["results"] == [[False, None], [True, 11], [False, None], [False, None], [True, None]]
    assert [fetch(client, key) for key in "abd"] == [11, 2, "x"]
    assert {client.call("FETCH", key)["version"] for key in "abd"} == {answer["version"]}
    for losing in [
        ["put", "b", 3, None, None, False],
        ["put", "z", 3, None, None, True],
        check,
        ["increment", "d", 1],
    ]:
        refused = client.refused("TRANSACT", [["put", "a", 99], ["delete", "b"], losing])
        assert refused.code in ("CONFLICT", "WRONG_TYPE") and "operation 2" in refused.message
        assert [fetch(client, key) for key in "abd"] == [11, 2, "x"]


def test_no_reader_sees_half_a_transaction(kernel):
    writer, reader = kernel.client(), kernel.client()
    writer.call("TRANSACT", [["put", key, 0] for key in "abcdef"])
    ids = [writer.send("TRANSACT", [["put", key, n] for key in "abcdef"]) for n in range(1, 200)]
    seen = 0
    while seen < 199:
        values = reader.call("FETCH_MANY", list("abcdef"))["values"]
        assert len({value[0] for value in values}) == 1 and len({value[1] for value in values}) == 1
        assert len({row[1] for row in reader.call("SCAN", "")["items"]}) == 1
        seen = values[0][0]
    for id in ids:
        writer.wait(id)


@pytest.mark.parametrize(
    "operation",
    [
        1,
        [],
        ["put"],
        ["put", "k"],
        ["burn", "k", 1],
        ["put", 5, 1],
        ["put", "", 1],
        ["put", "k", 1, "nowhere"],
        ["put", "k", 1, 7],
        ["put", "k", 1, None, -1],
        ["put", "k", 1, None, "1"],
        ["put", "k", 1, None, None, -1],
        ["put", "k", 1, None, None, "x"],
        ["put", "k", 1, None, None, None, None],
        {"put": "k"},
    ],
    ids=repr,
)
def test_a_transaction_that_makes_no_sense_is_refused(client, operation):
    assert client.refused("TRANSACT", [["put", "before", 1], operation]).code == "INVALID_ARGUMENT"
    assert fetch(client, "before") is None


def test_a_transaction_has_a_size(client):
    client.call("TRANSACT", [["put", f"k{n}", n] for n in range(OPS_MAX)])
    assert client.refused("TRANSACT", [["put", f"k{n}", n] for n in range(OPS_MAX + 1)]).code == "TOO_LARGE"
    assert client.refused("TRANSACT", []).code == "INVALID_ARGUMENT"
    assert client.refused("FETCH_MANY", [f"k{n}" for n in range(OPS_MAX + 1)], "global").code == "TOO_LARGE"
    assert len(client.call("FETCH_MANY", [f"k{n}" for n in range(OPS_MAX)], "global")["values"]) == OPS_MAX
    assert client.refused("FETCH_MANY", []).code == "INVALID_ARGUMENT"
    assert client.refused("FETCH_MANY", ["a", 5]).code == "INVALID_ARGUMENT"


def test_an_answer_has_a_size(client):
    for n in range(4):
        client.call("STORE", f"k{n}", b"x" * (PAYLOAD_MAX // 2))
    assert client.refused("FETCH_MANY", [f"k{n}" for n in range(4)]).code == "TOO_LARGE"
    assert [item[0] for item in pages(client, "SCAN", "", None, None)] == ["k0", "k1", "k2", "k3"]


# ---- lists ----


def test_lists_come_in_order_and_in_pages(client):
    names = sorted(f"user:{n}" for n in range(2500))
    for start in range(0, 2500, 500):
        client.call("TRANSACT", [["put", f"user:{n}", n] for n in range(start, start + 500)])
    client.call("STORE", "user", 0)
    client.call("STORE", "user;", 0)
    assert pages(client, "KEYS", "user:", None, None) == names
    assert pages(client, "KEYS", "user:", None, 7) == names
    assert pages(client, "SCAN", "user:24", None, 10) == [
        [name, int(name[5:]), client.call("FETCH", name)["version"]] for name in names if name.startswith("user:24")
    ]
    assert len(client.call("KEYS", "user:", None, 10**9)["keys"]) <= 1000
    assert client.call("KEYS", "nobody")["keys"] == []


def test_a_forged_cursor_leads_nowhere_else(client):
    client.call("TRANSACT", [["put", f"a{n}", n] for n in range(10)] + [["put", "b", 1], ["put", "z", 1]])
    for cursor in [b"", b"\x00", b"\xff" * 300, b"b", b"z", os.urandom(40), b"x" * 2000]:
        try:
            assert set(client.call("KEYS", "a", None, 5, cursor)["keys"]) <= {f"a{n}" for n in range(10)}
        except Refused as refused:
            assert refused.code == "INVALID_ARGUMENT"
    assert client.refused("KEYS", "a", None, 5, 5).code == "INVALID_ARGUMENT"


# ---- time ----


def test_what_has_expired_is_gone_at_once(client):
    before = time.time()
    client.call("STORE", "brief", 1, None, 300)
    client.call("STORE", "long", 1, None, 10**9)
    client.call("STORE", "ever", 1, None, 0)
    answer = client.call("FETCH", "brief")
    assert before + 0.299 <= answer["expires_at"] <= time.time() + 0.301
    assert client.call("FETCH", "ever")["expires_at"] is None
    wait_until(lambda: time.time() > answer["expires_at"] + 0.001, "it expires")
    assert client.call("FETCH", "brief")["found"] is False
    assert client.call("KEYS")["keys"] == ["ever", "long"]
    client.call("STORE", "brief", 2, None, None, None, 0)
    assert fetch(client, "brief") == 2


@pytest.mark.parametrize("ttl", [-1, -(2**63), 2**63, 2**64 - 1, 10**15, "1", 1.5])
def test_a_ttl_that_makes_no_sense_is_refused(client, ttl):
    assert client.refused("STORE", "key", 1, None, ttl).code == "INVALID_ARGUMENT"
    assert fetch(client, "key") is None


# ---- bad input ----


@pytest.mark.parametrize("key", ["", b"", "x" * (KEY_MAX + 1), 5, None, ["a"]], ids=lambda key: repr(key)[:10])
def test_a_key_that_is_none_is_refused(client, key):
    code = "TOO_LARGE" if isinstance(key, str) and len(key) > KEY_MAX else "INVALID_ARGUMENT"
    for op, rest in [("STORE", [1]), ("FETCH", []), ("DELETE", []), ("INCREMENT", [1]), ("APPEND", ["x"])]:
        assert client.refused(op, key, *rest).code == code, op
    assert client.refused("WATCH", key).code == code
    client.assert_alive()


def test_a_prefix_is_as_long_as_a_key_at_most(client):
    longest = "x" * KEY_MAX
    client.call("STORE", longest, 1)
    assert client.call("KEYS", longest)["keys"] == [longest]
    watching(client, longest, None, True)
    for op, rest in [("KEYS", []), ("SCAN", []), ("WATCH", [None, True])]:
        refused = client.refused(op, longest + "x", *rest)
        assert refused.code == "TOO_LARGE" and refused.message.startswith("a prefix has at most 1024 bytes"), op
    assert "cursor" in client.refused("KEYS", "x", None, None, b"forged").message


def test_a_value_has_a_size(client):
    largest = b"x" * (PAYLOAD_MAX - 5)
    client.call("STORE", "key", largest)
    assert fetch(client, "key") == largest
    assert client.refused("STORE", "key", largest + b"x").code == "TOO_LARGE"
    assert client.refused("APPEND", "key", b"more").code == "TOO_LARGE"
    assert fetch(client, "key") == largest


@pytest.mark.parametrize("scope", ["", "Global", "agents", 5, b"global"])
def test_an_unknown_scope_is_refused(client, scope):
    assert client.refused("STORE", "key", 1, scope).code == "INVALID_ARGUMENT"
    assert client.refused("FETCH", "key", scope).code == "INVALID_ARGUMENT"
    assert client.refused("KEYS", "", scope).code == "INVALID_ARGUMENT"


# ---- scopes and owners ----


def test_a_session_is_one_connections(kernel, client):
    other = kernel.client()
    client.call("STORE", "key", "global")
    client.call("STORE", "key", "mine", "session")
    assert (fetch(client, "key"), fetch(other, "key")) == ("mine", "global")
    assert (fetch(client, "key", "session"), fetch(client, "key", "global")) == ("mine", "global")
    assert fetch(other, "key", "session") is None
    assert client.call("KEYS", "", "session")["keys"] == ["key"]
    assert client.call("DELETE", "key")["deleted"] is True
    assert fetch(client, "key") == "global"
    assert client.call("DELETE", "key")["deleted"] is True
    assert client.call("DELETE", "key")["deleted"] is False


def test_a_session_is_gone_with_its_connection(kernel):
    client = kernel.client()
    client.call("TRANSACT", [["put", f"k{n}", n, "session"] for n in range(1000)])
    assert kernel.client().call("STATE_USAGE")["keys"] == 1000
    client.close()
    wait_until(lambda: kernel.client().call("STATE_USAGE")["keys"] == 0, "the session is deleted")


@as_root
def test_users_do_not_see_each_others(kernel):
    ada, bob, root = ADA.connect(kernel), BOB.connect(kernel), kernel.client()
    ada.call("STORE", "key", "ada")
    watch = watching(bob, "", None, True)
    for other in (bob, root):
        assert fetch(other, "key") is None and other.call("KEYS")["keys"] == []
        assert other.call("DELETE", "key", "global")["deleted"] is False
    ada.call("STORE", "key", "ada again")
    BOB.connect(kernel).call("STORE", "mark", 1)
    assert events(bob, watch, 1)[0]["key"] == "mark"
    assert fetch(ada, "key") == "ada again"
    for op, args in [("BACKUP", ["/tmp/x"]), ("RESTORE", ["/tmp/x"]), ("VERIFY", [])]:
        assert ada.refused(op, *args).code == "PERMISSION_DENIED"


STATEFUL = (
    PRELUDE
    + """
STORE, FETCH, DELETE, KEYS, USAGE, BACKUP = 0x30, 0x31, 0x32, 0x33, 0x406, 0x407
def must(*args):
    error, value = call(*args)
    assert not error, value
    return value
"""
)


def agent(client: Client, directory, name: str, text: str) -> None:
    """Runs an agent; what it asserts must hold."""
    path = directory / f"{name}-{time.monotonic_ns()}.py"
    path.write_text(STATEFUL + text)
    client.call("SPAWN", name, str(path))
    end = client.call("WAIT", name)
    assert end["reason"] == "exited" and end["exit_code"] == 0, logs(client, name) + logs(client, name, "stderr")


def test_an_agents_own_state_is_found_by_its_later_lives(client, directory):
    client.call("STORE", "shared", "by the client")
    first = """
assert must(FETCH, "shared")["value"] == "by the client"
must(STORE, "n", 1, "agent"); must(STORE, "n", 2, "session"); must(STORE, "g", 3)
found = must(FETCH, "n"); assert (found["value"], found["scope"]) == (1, "agent"), found
assert must(KEYS, "", "agent")["keys"] == ["n"]
assert call(BACKUP, "/tmp/x")[0]
"""
    agent(client, directory, "worker", first)
    assert fetch(client, "g") == 3 and fetch(client, "n") is None
    agent(client, directory, "other", 'assert not must(FETCH, "n")["found"]')
    later = 'assert must(FETCH, "n")["value"] == 1; assert not must(FETCH, "n", "session")["found"]'
    agent(client, directory, "worker", later)
    client.call("REMOVE", "worker")
    agent(client, directory, "worker", 'assert not must(FETCH, "n")["found"]')


def test_an_agent_pays_from_a_share_of_its_own(start_kernel, io, directory):
    config = directory / "clove.ini"
    config.write_text("[store]\nagent_keys = 3\nagent_bytes = 1K\n")
    client = start_kernel("--config", str(config), io=io).client()
    text = """
for n in range(3): must(STORE, f"k{n}", n)
error, what = call(STORE, "k3", 3); assert error and what[0] == 1025, what
assert "agent_keys" in what[1], what
must(STORE, "k1", "other"); must(DELETE, "k2"); must(STORE, "k3", 3)
error, what = call(STORE, "k1", "x" * 2000); assert error and what[0] == 1025 and "agent_bytes" in what[1], what
used = must(USAGE); assert used["keys"] == 3 and used["keys_max"] == 3 and used["bytes_max"] == 1024, used
"""
    agent(client, directory, "worker", text)
    client.call("STORE", "more", "x" * 2000)


@as_root
def test_a_user_has_a_quota(start_kernel, io, directory):
    config = directory / "clove.ini"
    config.write_text("[store]\nowner_keys = 5\n")
    kernel = start_kernel("--config", str(config), io=io)
    ada, bob, root = ADA.connect(kernel), BOB.connect(kernel), kernel.client()
    for n in range(5):
        ada.call("STORE", f"k{n}", n)
    refused = ada.refused("STORE", "k5", 5)
    assert refused.code == "QUOTA_EXCEEDED" and "owner_keys" in refused.message
    assert ada.refused("TRANSACT", [["delete", "k0"], ["put", "a", 1], ["put", "b", 1]]).code == "QUOTA_EXCEEDED"
    ada.call("STORE", "k0", "other")
    ada.call("TRANSACT", [["delete", "k0"], ["put", "a", 1]])
    bob.call("STORE", "k", 1)
    for n in range(10):
        root.call("STORE", f"k{n}", n)
    assert ada.call("STATE_USAGE")["keys_max"] == 5 and root.call("STATE_USAGE")["keys_max"] is None


# ---- watching ----


def test_a_watch_tells_changes_as_they_happen(kernel, client):
    writer = kernel.client()
    watch = watching(client, "key")
    version = writer.call("STORE", "key", {"a": 1})["version"]
    writer.call("STORE", "keys", 2)
    gone = writer.call("DELETE", "key")["version"]
    assert events(client, watch, 2) == [
        {"version": version, "change": "stored", "key": "key", "value": {"a": 1}, "more": False},
        {"version": gone, "change": "deleted", "key": "key", "value": None, "more": False},
    ]
    brief = writer.call("STORE", "key", 3, None, 100)["version"]
    stored, expired = events(client, watch, 2)
    assert stored["version"] == brief and expired["change"] == "expired" and expired["version"] > brief
    assert client.call("CANCEL", watch) is True
    with pytest.raises(Refused, match="CANCELLED"):
        client.wait(watch)
    writer.call("STORE", "key", 4)
    client.assert_alive()


def test_no_change_is_missed_between_a_read_and_its_watch(kernel, client):
    writer = kernel.client()
    writer.call("STORE", "key", 0)
    fetched = client.call("FETCH", "key")["version"]
    scanned = client.call("SCAN", "")["revision"]
    for n in range(1, 50):
        writer.call("STORE", "key", n)
    for after in (fetched, scanned):
        watch = watching(client, "key", None, None, after)
        assert [event["value"] for event in events(client, watch, 49)] == list(range(1, 50))
        client.call("CANCEL", watch)
        with pytest.raises(Refused):
            client.wait(watch)
    for never in (2**62, 2**64 - 1):
        assert client.refused("WATCH", "key", None, None, never).code == "COMPACTED"


def test_after_0_is_everything_there_ever_was_or_refused(start_kernel, io):
    kernel = start_kernel(io=io)
    client = kernel.client()
    for n in range(3):
        client.call("STORE", "key", n)
    watch = watching(client, "key", None, None, 0)
    assert [event["value"] for event in events(client, watch, 3)] == [0, 1, 2]
    kernel.terminate()
    assert kernel.wait() == 0
    client = start_kernel(io=io).client()
    assert client.refused("WATCH", "key", None, None, 0).code == "COMPACTED"
    client.call("STORE", "key", 3)
    assert client.refused("WATCH", "key", None, None, 0).code == "COMPACTED"


@pytest.mark.parametrize("cores", [1, 2])
def test_a_watch_after_a_read_misses_no_change_made_meanwhile(start_kernel, io, cores):
    """Whatever answered the read, cache, memory or disk, and whether the key was there, while another connection writes
    as fast as it can: every change up to the revision is in the answer, and every later one is told.
    """
    kernel = start_kernel(io=io, cores=cores)
    writer = kernel.client()
    stop = threading.Event()
    wrote: list[int] = []

    def write() -> None:
        while not stop.is_set():
            if len(wrote) % 3 < 2:
                writer.call("STORE", "key", len(wrote))
            else:
                writer.call("DELETE", "key")
            wrote.append(len(wrote))

    def read(reader: Client, turn: int) -> tuple:
        if turn % 2:
            found = reader.call("FETCH", "key")
            return found.get("version"), found["revision"]
        found = reader.call("FETCH_MANY", ["key", "never"], "global")
        return (found["values"][0] or [None, None])[1], found["revision"]

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = []
        wait_until(lambda: len(wrote) > 3, "there is something to read")
        for turn in range(150):
            reader = kernel.client()
            for _ in range(turn % 3):  # so that its core may have it in its cache
                reader.call("FETCH", "key")
            version, revision = read(reader, turn)
            latest = len(wrote)  # the change of this index may be there already, none behind it
            told = events(reader, watching(reader, "key", None, None, revision), 4)
            seen.append((version, revision, latest, [event["version"] for event in told]))
            reader.close()
    finally:
        stop.set()
        thread.join()
    observer = kernel.client()
    changes = events(observer, watching(observer, "key", None, None, 0), len(wrote))
    versions = [event["version"] for event in changes]
    for version, revision, latest, told in seen:
        later = bisect.bisect_right(versions, revision)
        assert told == versions[later : later + 4]
        if version is not None:
            assert version >= versions[later - 1]
        else:
            assert any(event["change"] == "deleted" for event in changes[later - 1 : latest + 1])
    assert 0 < sum(version is None for version, *_ in seen) < 150


def test_a_transaction_is_told_in_its_order(kernel, client):
    watch = watching(client, "job:", None, True)
    changes = [["put", "job:2", "b"], ["put", "x", 0], ["put", "job:1", "a"], ["delete", "job:0"]]
    kernel.client().call("TRANSACT", changes)
    told = events(client, watch, 2)
    assert [(event["key"], event["value"]) for event in told] == [("job:2", "b"), ("job:1", "a")]
    assert told[0]["version"] == told[1]["version"]
    assert [event["more"] for event in told] == [True, False]


def test_a_watch_cut_in_a_transaction_goes_on_without_a_loss(kernel, client):
    """Whoever takes a version for told only with the last change of it misses none, wherever it was cut."""
    before = client.call("STORE", "start", 0)["version"]
    writer = kernel.client()
    writer.call("TRANSACT", [["put", f"{'xk'[n % 2]}{n:02}", n] for n in range(40)])
    writer.call("STORE", "k-later", 40)
    for cut in range(1, 21):
        after = before
        reader = kernel.client()
        for event in events(reader, watching(reader, "k", None, True, after), cut):
            if not event["more"]:
                after = event["version"]
        reader.close()
        assert (after == before) == (cut < 20)
        reader = kernel.client()
        rest = [*range(1, 40, 2), 40] if cut < 20 else [40]
        again = events(reader, watching(reader, "k", None, True, after), len(rest))
        assert [event["value"] for event in again] == rest
        reader.close()


def test_a_watcher_that_does_not_read_harms_nobody(kernel, client):
    """It falls behind what the store remembers and is told so; the others notice nothing."""
    lazy = kernel.client()
    behind = watching(lazy, "", None, True)
    beside = watching(client, "last")
    writer = kernel.client()
    for n in range(300):
        store_patiently(writer, f"k{n % 10}", os.urandom(200_000))
    writer.call("STORE", "last", 1)
    assert events(client, beside, 1)[0]["value"] == 1
    assert ended(lazy, behind) == "COMPACTED"
    assert lazy.call("KEYS", "last")["keys"] == ["last"]


def test_one_that_waits_for_room_can_be_cancelled(kernel):
    lazy, writer = kernel.client(), kernel.client()
    watch = watching(lazy, "k")
    for _ in range(20):
        writer.call("STORE", "k", os.urandom(200_000))
    cancelled = lazy.send("CANCEL", watch)
    assert ended(lazy, watch) == "CANCELLED"
    assert lazy.wait(cancelled) is True
    lazy.assert_alive()


def test_one_that_leaves_in_the_middle_is_forgotten(kernel):
    lazy, writer = kernel.client(), kernel.client()
    watching(lazy, "k")
    for _ in range(20):
        writer.call("STORE", "k", os.urandom(200_000))
    lazy.close()
    wait_until(lambda: writer.stats()["connections"] == 1, "it is gone")
    writer.call("STORE", "k", 1)
    writer.assert_alive()


def test_watches_end_with_the_kernel(kernel, client):
    watch = watching(client, "", None, True)
    kernel.terminate()
    assert ended(client, watch) == "SHUTTING_DOWN"
    assert kernel.wait() == 0


def test_watches_are_bounded_like_other_requests(client):
    for _ in range(256):
        watching(client, "key")
    assert client.refused("WATCH", "key").code == "BUSY"


# ---- the store as a whole ----


def test_stats_count_what_the_store_did(client):
    def since(before: dict) -> dict:
        return {name: value - before[name] for name, value in client.stats()["store"].items()}

    before = client.stats()["store"]
    client.call("STORE", "key", "value")
    did = since(before)
    assert (did["batches"], did["writes"], did["ops"], did["syncs"], did["revision"]) == (1, 1, 1, 0, 1)
    assert 8 < did["bytes"] < 40  # the key with what it is stored under, and the value
    before = client.stats()["store"]
    client.call("TRANSACT", [["put", "a", 1], ["put", "b", 2], ["check", "key"]], True)
    did = since(before)
    assert (did["writes"], did["ops"], did["syncs"], did["revision"]) == (1, 3, 1, 1)
    before = client.stats()["store"]
    assert fetch(client, "key", "global") == "value" and fetch(client, "absent", "global") is None
    did = since(before)
    assert (did["reads_cache"], did["reads_memory"], did["reads_disk"]) == (1, 0, 1)
    watching(client, "key")
    assert since(before)["watches"] == 1 and since(before)["failures"] == since(before)["reopens"] == 0


def test_what_was_answered_is_there_after_kill_9(start_kernel, io):
    kernel = start_kernel(io=io, cores=2)
    client = kernel.client()
    versions = {n: client.call("STORE", f"k{n}", n)["version"] for n in range(500)}
    client.call("STORE", "s", 1, "session")
    os.kill(kernel.pid, signal.SIGKILL)
    kernel.kill()
    client = start_kernel(io=io, cores=3).client()
    values = client.call("FETCH_MANY", [f"k{n}" for n in range(500)], "global")["values"]
    assert [(value[0], value[1]) for value in values] == [(n, versions[n]) for n in range(500)]
    assert client.call("STORE", "next", 1)["version"] > versions[499]
    assert client.call("STATE_USAGE")["keys"] == 501


def test_backup_and_restore_while_in_use(kernel, client, directory):
    place = directory / "backup"
    client.call("TRANSACT", [["put", f"k{n}", n] for n in range(100)])
    client.call("BACKUP", str(place))
    assert client.refused("BACKUP", str(place)).code == "INVALID_ARGUMENT"
    client.call("STORE", "k0", "changed")
    version = client.call("STORE", "later", 1)["version"]
    other = kernel.client()
    watch = watching(other, "k0")
    assert client.call("RESTORE", str(place)) is None
    assert ended(other, watch) == "COMPACTED"
    assert fetch(client, "k0") == 0 and fetch(client, "later") is None
    assert client.call("STORE", "after", 1)["version"] > version
    assert client.call("VERIFY")["keys"] >= 101
    for path in ["relative", "", b"/a\x00b"]:
        assert client.refused("BACKUP", path).code == "INVALID_ARGUMENT"
        assert client.refused("RESTORE", path).code == "INVALID_ARGUMENT"
    for path in ["/", "/nowhere/at/all", str(directory)]:
        message = client.refused("RESTORE", path).message
        assert path in message, message
    assert fetch(client, "k99") == 99


def test_a_damaged_store_is_refused_with_the_way_out(start_kernel, io):
    kernel = start_kernel(io=io)
    client = kernel.client()
    for n in range(300):
        client.call("STORE", f"k{n}", "value" * 10, None, None, n % 10 == 0)
    os.kill(kernel.pid, signal.SIGKILL)
    kernel.kill()
    largest = max((kernel.data_dir / "db").glob("*.log"), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        middle = file.seek(0, os.SEEK_END) // 2
        file.seek(middle)
        byte = file.read(1)
        file.seek(middle)
        file.write(bytes([byte[0] ^ 0xFF]))
    refused = kernels.run("--socket", str(kernel.socket_path), "--data-dir", str(kernel.data_dir))
    assert refused.returncode == 1
    assert str(kernel.data_dir) in refused.stderr and "--salvage" in refused.stderr
    client = start_kernel("--salvage", io=io).client()
    assert 0 < len(pages(client, "KEYS", "", None, None)) < 300


def test_the_store_may_be_removed_under_it(kernel, client):
    client.call("STORE", "key", 1)
    shutil.rmtree(kernel.data_dir / "db")

    def refusal() -> str:
        try:
            client.call("STORE", "key", 2, None, None, True)
        except Refused as refused:
            return refused.code
        return ""

    wait_until(lambda: refusal() == "STORE_FAILED", "writes are refused")
    assert fetch(client, "key") is not None
    client.assert_alive()


def test_an_ephemeral_kernel_leaves_nothing(start_kernel, io, directory):
    temporary = directory / "tmp"
    temporary.mkdir()
    kernel = start_kernel("--ephemeral", io=io, env={"TMPDIR": str(temporary)})
    client = kernel.client()
    assert client.call("STORE", "key", 1, None, None, True)["durability"] == "memory"
    assert fetch(client, "key") == 1
    agent(client, directory, "worker", 'open("file", "w").write("x"); os.mkdir("d", 0o700)')
    (place,) = temporary.iterdir()
    assert place.stat().st_mode & 0o777 == 0o700
    kernel.terminate()
    assert kernel.wait() == 0
    assert list(temporary.iterdir()) == [] and "data-left" not in kernel.log()
