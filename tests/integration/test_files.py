# SPDX-License-Identifier: MIT
"""READ and WRITE."""

import hashlib
import os
import pwd
import shutil
import signal
import socket
import uuid
from pathlib import Path

import pytest

import kernel as kernels
import procfs
from wire import PAYLOAD_MAX, Refused

HOME = Path(pwd.getpwuid(os.geteuid()).pw_dir)
BINARY = bytes(range(256)) * 3

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write what its mode forbids")


@pytest.fixture
def path(directory) -> str:
    return str(directory / "file")


def read_whole(client, path: str, length: int = PAYLOAD_MAX) -> bytes:
    """In pieces, as the SDK does, checking what is said about each."""
    data = b""
    file = None
    while True:
        piece = client.call("READ", path, len(data), length)
        assert set(piece) == {"data", "size", "eof", "file"}
        assert file in (None, piece["file"])
        file = piece["file"]
        assert len(piece["data"]) <= length
        data += piece["data"]
        if piece["eof"]:
            return data
        assert piece["data"], "neither bytes nor the end"


def test_what_is_written_can_be_read(client, path):
    assert client.call("WRITE", path, BINARY) == {"bytes_written": 768, "size": 768}
    assert Path(path).read_bytes() == BINARY
    stat = os.stat(path)
    assert client.call("READ", path) == {
        "data": BINARY,
        "size": 768,
        "eof": True,
        "file": [stat.st_dev, stat.st_ino],
    }


def test_a_new_file_is_its_users_with_the_usual_mode(client, path):
    client.call("WRITE", path, "x")
    stat = os.stat(path)
    assert stat.st_mode & 0o7777 == 0o644
    assert stat.st_uid == os.geteuid()


def test_data_may_be_str_or_bin_or_nothing(client, path):
    client.call("WRITE", path, "grün")
    assert Path(path).read_bytes() == "grün".encode()
    client.call("WRITE", path.encode(), b"\0\xff")
    assert client.call("READ", path.encode())["data"] == b"\0\xff"
    assert client.call("WRITE", path, b"") == {"bytes_written": 0, "size": 0}
    assert client.call("READ", path)["data"] == b""
    assert client.call("READ", path)["eof"] is True


def test_modes(client, path):
    client.call("WRITE", path, "0123456789")
    assert client.call("WRITE", path, "ab", "append") == {"bytes_written": 2, "size": 12}
    assert client.call("WRITE", path, "XY", "patch", 3) == {"bytes_written": 2, "size": 12}
    assert Path(path).read_bytes() == b"012XY56789ab"
    assert client.call("WRITE", path, "Z", "patch") == {"bytes_written": 1, "size": 12}
    assert client.call("WRITE", path, "!", "patch", 14) == {"bytes_written": 1, "size": 15}
    assert Path(path).read_bytes() == b"Z12XY56789ab\0\0!"
    assert client.call("WRITE", path, "new", "write") == {"bytes_written": 3, "size": 3}
    assert client.call("WRITE", path, "er", None, None) == {"bytes_written": 2, "size": 2}
    error = client.refused("WRITE", path, "x", "overwrite")
    assert error.code == "INVALID_ARGUMENT" and "mode" in error.message
    assert Path(path).read_bytes() == b"er"


def test_append_makes_a_file_and_patch_does_not(client, path):
    assert client.refused("WRITE", path, "x", "patch", 0).code == "NOT_FOUND"
    assert not os.path.exists(path)
    assert client.call("WRITE", path, "x", "append")["size"] == 1


def test_a_piece_is_what_was_asked_for(client, path):
    client.call("WRITE", path, "0123456789")

    def piece(*args):
        got = client.call("READ", path, *args)
        assert got["size"] == 10
        return got["data"], got["eof"]

    assert piece(0, 4) == (b"0123", False)
    assert piece(4, 4) == (b"4567", False)
    assert piece(8, 4) == (b"89", True)
    assert piece(6, 4) == (b"6789", True)
    assert piece(10, 4) == (b"", True)
    assert piece(1000, 4) == (b"", True)
    assert piece(2**40, 4) == (b"", True)
    assert piece(3) == (b"3456789", True)
    assert piece(None, 2) == (b"01", False)
    assert piece(0, 2**63) == (b"0123456789", True)


def test_no_bytes_asked_for_is_not_the_end(client, path):
    client.call("WRITE", path, "0123456789")
    got = client.call("READ", path, 5, 0)
    assert got["data"] == b"" and got["eof"] is False


@pytest.mark.parametrize("offset", [2**63, 2**64 - 1])
def test_an_offset_no_file_can_have_is_refused(client, path, offset):
    client.call("WRITE", path, "x")
    for error in (client.refused("READ", path, offset), client.refused("WRITE", path, "x", "patch", offset)):
        assert error.code == "INVALID_ARGUMENT" and "offset" in error.message
    client.assert_alive()


@pytest.mark.parametrize("length", [PAYLOAD_MAX, 300_000])
def test_a_large_file_goes_in_pieces(client, path, length):
    data = hashlib.shake_128(b"large").digest(5 << 20)
    for at in range(0, len(data), length):
        mode = ["patch", at] if at else []
        written = client.call("WRITE", path, data[at : at + length], *mode)
        assert written["size"] == min(at + length, len(data))
    assert Path(path).read_bytes() == data
    assert read_whole(client, path, length) == data


def test_many_pieces_may_be_asked_for_at_once(client, path):
    """In any order of answers; together they are more than a connection's output may hold."""
    data = hashlib.shake_128(b"pieces").digest(4 << 20)
    Path(path).write_bytes(data)
    ids = [client.send("READ", path, at, 65536) for at in range(0, len(data), 65536)]
    assert b"".join(client.wait(id)["data"] for id in ids) == data


def test_a_file_that_does_not_know_its_size_is_read_whole(client):
    status = client.call("READ", "/proc/self/status")
    assert status["size"] == 0 and status["eof"] is True
    assert status["data"].startswith(b"Name:")
    assert read_whole(client, "/proc/cpuinfo") .startswith(b"processor")
    pieces = read_whole(client, "/proc/filesystems", 7)
    assert pieces == Path("/proc/filesystems").read_bytes()


def test_what_is_not_there_is_not_found(client, directory):
    for operation in (("READ",), ("WRITE", "x")):
        missing = client.refused(operation[0], str(directory / "a" / "b"), *operation[1:])
        assert missing.code == "NOT_FOUND" and missing.detail == {"errno": 2}
        assert "/a/b" in missing.message
    assert client.refused("READ", str(directory / "a")).code == "NOT_FOUND"
    (directory / "plain").touch()
    assert client.refused("READ", str(directory / "plain" / "x")).code == "NOT_FOUND"


def test_what_is_no_file_is_refused_without_waiting_for_it(client, directory):
    os.mkfifo(directory / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(directory / "socket"))
        for name in (directory, directory / "fifo", directory / "socket", "/dev/null", "/dev/tty", "/"):
            assert client.refused("READ", str(name)).code == "NOT_A_FILE", name
            for mode in ("write", "append", "patch"):
                assert client.refused("WRITE", str(name), "x", mode).code == "NOT_A_FILE", (name, mode)
    client.assert_alive()


@pytest.mark.parametrize("bad", ["", "a\0b", "/tmp/\0", "\0", "x" * 4096, "/" * 5000], ids=lambda path: path[:8])
def test_a_path_that_cannot_be_one_is_refused(client, bad):
    for error in (client.refused("READ", bad), client.refused("WRITE", bad, "x")):
        assert error.code == "INVALID_ARGUMENT" and "path" in error.message
    client.assert_alive()


def test_a_name_too_long_for_the_file_system_is_refused(client, directory):
    error = client.refused("WRITE", str(directory / ("x" * 256)), "x")
    assert error.code == "INVALID_ARGUMENT" and error.detail == {"errno": 36}


def test_a_relative_path_starts_at_home(client):
    if not os.access(HOME, os.W_OK):
        pytest.skip(f"{HOME} is not writable")
    folder = HOME / f".clove-test-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        client.call("WRITE", f"{folder.name}/./file", "x")
        assert (folder / "file").read_bytes() == b"x"
        assert client.call("READ", f"{folder.name}/../{folder.name}/file")["data"] == b"x"
    finally:
        shutil.rmtree(folder)


def test_symlinks_are_followed_but_not_those_of_proc(client, directory):
    (directory / "target").write_text("target")
    (directory / "link").symlink_to("target")
    (directory / "loop").symlink_to("loop")
    (directory / "dangling").symlink_to("made")
    assert client.call("READ", str(directory / "link"))["data"] == b"target"
    client.call("WRITE", str(directory / "link"), "new")
    assert (directory / "target").read_text() == "new" and (directory / "link").is_symlink()
    assert client.refused("READ", str(directory / "loop")).code == "INVALID_ARGUMENT"
    assert client.refused("READ", str(directory / "dangling")).code == "NOT_FOUND"
    for magic in ("/proc/self/root/etc/passwd", "/proc/self/cwd/etc/passwd", "/proc/self/fd/0", "/proc/self/exe"):
        error = client.refused("READ", magic)
        assert error.code in ("INVALID_ARGUMENT", "PERMISSION_DENIED"), magic


@not_as_root
def test_what_the_user_may_not_is_denied(client, path):
    Path(path).touch(0o400)
    assert client.refused("WRITE", path, "x").code == "PERMISSION_DENIED"
    os.chmod(path, 0)
    assert client.refused("READ", path).code == "PERMISSION_DENIED"


def kernel_with_mount(start_kernel, io, mount: str, at: Path):
    """A kernel in a mount namespace of its own, where a small file system lies at a directory."""
    at.mkdir()
    if not shutil.which("unshare"):
        pytest.skip("unshare (util-linux) is missing")
    script = f'{mount} "$0" && exec "$@"'
    wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, str(at)]
    try:
        return start_kernel(io=io, wrapper=wrapper)
    except AssertionError as error:
        if "mount" in str(error) or "unshare" in str(error):
            pytest.skip(f"a file system cannot be mounted here: {error}")
        raise


@as_root
def test_a_read_only_file_system_denies_writing(start_kernel, io, directory):
    kernel = kernel_with_mount(start_kernel, io, "mount -t tmpfs -o ro,size=64k tmpfs", directory / "ro")
    client = kernel.client()
    for mode in ("write", "append"):
        error = client.refused("WRITE", str(directory / "ro" / "x"), "x", mode)
        assert error.code == "PERMISSION_DENIED" and error.detail == {"errno": 30}
    client.call("WRITE", str(directory / "elsewhere"), "x")


@as_root
def test_a_full_disk_is_said_and_concerns_nobody_else(start_kernel, io, directory):
    kernel = kernel_with_mount(start_kernel, io, "mount -t tmpfs -o size=128k tmpfs", directory / "small")
    client, other = kernel.client(), kernel.client()
    path = str(directory / "small" / "file")
    error = client.refused("WRITE", path, bytes(300_000))
    assert error.code == "NO_SPACE"
    written = os.stat(f"/proc/{kernel.pid}/root{path}").st_size
    assert 0 < written < 300_000
    assert error.detail == {"errno": 28, "bytes_written": written}
    assert f"{written} of 300000 bytes" in error.message
    assert client.refused("WRITE", path, "x" * 70_000, "append").code == "NO_SPACE"
    other.call("WRITE", str(directory / "elsewhere"), "x")
    assert other.exec(["echo", "x"])["stdout"] == b"x\n"
    client.call("WRITE", path, "fits again")
    assert client.call("READ", path)["data"] == b"fits again"


def test_writers_of_one_file_do_not_lose_appended_pieces(kernel, path):
    clients = [kernel.client() for _ in range(6)]
    ids = [(c, c.send("WRITE", path, f"{n} {i}\n", "append")) for i in range(40) for n, c in enumerate(clients)]
    for client, id in ids:
        client.wait(id)
    lines = Path(path).read_text().splitlines()
    assert sorted(lines) == sorted(f"{n} {i}" for i in range(40) for n in range(6))


def test_a_client_that_goes_while_files_are_read_disturbs_nobody(kernel, path):
    Path(path).write_bytes(bytes(1 << 20))
    bystander = kernel.client()
    for _ in range(20):
        client = kernel.client()
        client.assert_alive()
        for _ in range(10):
            client.send("READ", path)
        client.close()
        assert bystander.call("READ", path, 0, 10)["data"] == bytes(10)
    kernels.wait_until(lambda: bystander.stats()["files_queued"] == 0, "nothing waits")


class Opener:
    """The process that opens files, made to stand still: both file threads wait, one for it and one for the other."""

    def __init__(self, kernel) -> None:
        self.kernel = kernel
        kernel.client().call("READ", "/etc/passwd")
        (self.pid,) = procfs.children(kernel.launcher_pid())

    def _switches(self) -> list[int]:
        """How often each file thread has gone to sleep."""
        return [
            int((task / "status").read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
            for task in Path(f"/proc/{self.kernel.pid}/task").iterdir()
            if (task / "comm").read_text() == "file\n"
        ]

    def occupy(self, client, *paths: str, deadline_ms: int | None = None) -> list[int]:
        """Stops it, and hands each of the two threads a WRITE that it cannot end."""
        os.kill(self.pid, signal.SIGSTOP)
        kernels.wait_until(lambda: len(self._switches()) == len(paths), "both threads have their name")
        before = self._switches()
        ids = [client.send("WRITE", path, "late", deadline_ms=deadline_ms) for path in paths]
        kernels.wait_until(
            lambda: all(now > then for now, then in zip(self._switches(), before)), "both threads have one"
        )
        return ids

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@pytest.fixture
def opener(kernel):
    opener = Opener(kernel)
    yield opener
    opener.go_on()


def test_what_is_cancelled_before_it_began_never_happens(client, directory, opener):
    paths = [directory / name for name in ("a", "b", "cancelled", "late", "kept")]
    begun = opener.occupy(client, *map(str, paths[:2]))
    cancelled = client.send("WRITE", str(paths[2]), "x")
    late = client.send("WRITE", str(paths[3]), "x", deadline_ms=50)
    kept = client.send("WRITE", str(paths[4]), "x")
    assert client.call("CANCEL", cancelled) is True
    with pytest.raises(Refused) as caught:
        client.wait(cancelled)
    assert caught.value.code == "CANCELLED"
    with pytest.raises(Refused) as caught:
        client.wait(late)
    assert caught.value.code == "TIMEOUT" and caught.value.detail == {}
    opener.go_on()
    for id in (*begun, kept):
        assert client.wait(id)["bytes_written"]
    # Those in the queue behind them had their turn before this one.
    client.call("WRITE", str(paths[4]), "last")
    assert [path.exists() for path in paths] == [True, True, False, False, True]


def test_what_has_begun_cannot_be_cancelled_and_says_how_it_ended(client, directory, opener):
    begun = opener.occupy(client, str(directory / "a"), str(directory / "missing" / "b"))
    assert [client.call("CANCEL", id) for id in begun] == [False, False]
    opener.go_on()
    assert client.wait(begun[0])["bytes_written"] == 4
    with pytest.raises(Refused) as caught:
        client.wait(begun[1])
    assert caught.value.code == "NOT_FOUND"
    client.assert_alive()


def test_a_deadline_over_what_has_begun_says_that_the_outcome_is_unknown(client, directory, opener):
    paths = [directory / "a", directory / "b"]
    for id in opener.occupy(client, *map(str, paths), deadline_ms=2000):
        with pytest.raises(Refused) as caught:
            client.wait(id)
        assert caught.value.code == "TIMEOUT"
        assert caught.value.detail == {"outcome": "unknown"}
    opener.go_on()
    for path in paths:
        kernels.wait_until(lambda: path.exists() and path.read_text() == "late", "it happens all the same")
    client.assert_alive()


def test_a_read_that_is_under_way_can_be_cancelled(client, directory, opener):
    opener.occupy(client, str(directory / "a"), str(directory / "b"))
    read = client.send("READ", "/etc/passwd")
    assert client.call("CANCEL", read) is True
    with pytest.raises(Refused) as caught:
        client.wait(read)
    assert caught.value.code == "CANCELLED"
