# SPDX-License-Identifier: MIT
"""The choice of the I/O back end, and what the kernel does without a feature of io_uring."""

import ctypes
import struct
from pathlib import Path

import pytest

import kernel as kernels
import procfs
from wire import Client, request

IO_URING_SETUP = 425  # on every machine


def without_io_uring() -> None:
    """As in a container whose seccomp profile refuses io_uring: EPERM. For preexec."""
    pr_set_no_new_privs, pr_set_seccomp, seccomp_mode_filter = 38, 22, 2
    load_number, jump_if_equal, give = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | 1
    program = b"".join(
        struct.pack("HBBI", code, yes, no, value)
        for code, yes, no, value in [
            (load_number, 0, 0, 0),
            (jump_if_equal, 0, 1, IO_URING_SETUP),
            (give, 0, 0, refuse),
            (give, 0, 0, allow),
        ]
    )
    code = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for args in ((pr_set_no_new_privs, 1, 0, 0, 0), (pr_set_seccomp, seccomp_mode_filter, header, 0, 0)):
        if libc.prctl(*args):
            raise OSError(ctypes.get_errno(), "prctl")


def test_the_log_says_which_and_why(start_kernel, io):
    log = start_kernel(io=io).log()
    assert f' io-chosen backend={io} reason="' in log


def test_auto_takes_epoll_where_io_uring_is_refused(start_kernel):
    kernel = start_kernel(io="auto", preexec=without_io_uring)
    assert kernel.client().stats()["io"] == "epoll"
    assert 'backend=epoll reason="io_uring: ' in kernel.log()


def test_io_uring_on_demand_where_it_is_refused_is_an_error(start_kernel):
    with pytest.raises(AssertionError) as caught:
        start_kernel(io="uring", preexec=without_io_uring)
    assert "status 1" in str(caught.value)
    assert "clove_kernel: --io uring: " in str(caught.value) and "--io auto" in str(caught.value)


def open_files(kernel) -> int:
    try:
        return procfs.open_files(kernel.pid)
    except PermissionError:
        pytest.skip("only root may count the descriptors of an undumpable process")


LOGGED = {"-multishot": "multishot recv off", "-msgring": "MSG_RING off"}


@pytest.mark.parametrize("switches", ["-multishot", "-msgring", "-multishot,-msgring"])
def test_a_kernel_without_a_feature_of_io_uring_serves_as_well(start_kernel, io, directory, switches):
    if io != "uring":
        pytest.skip("CLOVE_URING switches features of io_uring only")
    kernel = start_kernel(io=io, cores=3, env={"CLOVE_URING": switches})
    for switch in switches.split(","):
        assert LOGGED[switch] in kernel.log()
    watcher = kernel.client()
    watcher.exec(["true"])
    watcher.call("READ", "/proc/self/status")  # what both need is open from here on
    before = open_files(kernel)
    path = str(directory / "file")
    clients = [kernel.client() for _ in range(9)]
    for i, client in enumerate(clients):
        assert client.call("NOOP", bytes(300_000)) == bytes(300_000)
        client.send_bytes(b"".join(request("NOOP", n, id=n) for n in range(500)))
        assert [client.read_frame().id for _ in range(500)] == list(range(500))
        assert client.exec(f"echo {i}")["stdout"].decode() == f"{i}\n"
        client.call("WRITE", path, f"{i}", "append")
    assert watcher.call("READ", path)["data"] == b"012345678"
    for client in clients:
        client.close()
    for i in range(200):
        with Client(kernel.socket_path) as client:
            client.send_bytes(request("NOOP", "x" * 100)[: i % 130])
    kernels.wait_until(lambda: watcher.stats()["connections"] == 1, "all are closed")
    kernels.wait_until(lambda: open_files(kernel) <= before, "no descriptor is left")


def test_the_kernel_gives_up_its_rights(kernel):
    """What needs rights is the launcher's business."""
    kernel.client().call("READ", "/proc/self/status")
    threads = list(Path(f"/proc/{kernel.pid}/task").iterdir())
    assert len(threads) > 4
    for thread in threads:
        status = (thread / "status").read_text()
        fields = {name: value.strip() for name, _, value in map(lambda line: line.partition(":"), status.splitlines())}
        for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert int(fields[name], 16) == 0, f"thread {fields['Name']} keeps {name}"
        assert fields["NoNewPrivs"] == "1", f"thread {fields['Name']}"


def test_a_misspelt_switch_is_refused(directory):
    places = ["--socket", str(directory / "unused.sock"), "--data-dir", str(directory / "unused")]
    done = kernels.run(*places, "--io", "uring", env={"CLOVE_URING": "-multishots"})
    assert done.returncode == 1 and "CLOVE_URING" in done.stderr
