# SPDX-License-Identifier: MIT
"""The end of a kernel: what is in flight is answered, what will not end is ended."""

import os
import re
import signal
import time

import pytest

import procfs
from kernel import wait_until
from wire import Client, Closed, Refused

SERVED_TO_THE_END = [("NOOP", ["x"]), ("HELLO", [1, 1]), ("STATS", []), ("CANCEL", [99])]
NOT_STARTED_ANY_MORE = [("EXEC", ["true"]), ("READ", ["/etc/passwd"]), ("WRITE", ["/tmp/x", "x"]), ("LIST", [])]


def stopping(kernel) -> None:
    """SIGTERM, and the kernel has seen it."""
    kernel.terminate()
    wait_until(lambda: " stopping " in kernel.log(), "the kernel stops")


def ends(client: Client) -> None:
    """The connection ends, with or without a word of farewell."""
    try:
        while True:
            with pytest.raises(Refused) as caught:
                client.read_frame().value()
            assert caught.value.code in ("SHUTTING_DOWN", "CANCELLED")
    except Closed as closed:
        assert not closed.rest


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_kernel_ends_well_and_takes_its_socket_along(kernel, signo):
    launcher = kernel.launcher_pid()
    clients = [kernel.client() for _ in range(5)]
    os.kill(kernel.pid, signo)
    assert kernel.wait() == 0
    assert not kernel.socket_path.exists()
    assert procfs.name(launcher) != "clove-launcher"
    for client in clients:
        client.assert_closed()
    log = kernel.log()
    assert f" stopping signal={int(signo)} " in log and " stopped " in log


@pytest.mark.parametrize("cores", [1, 3])
def test_a_command_in_flight_is_answered(kernel, directory):
    client = kernel.client()
    started = directory / "started"
    running = client.send("EXEC", f"touch {started}; sleep 1; echo done")
    wait_until(started.exists, "the command runs")
    kernel.terminate()
    assert client.wait(running)["stdout"] == b"done\n"
    client.assert_closed()
    assert kernel.wait() == 0
    assert not kernel.socket_path.exists()


@pytest.mark.parametrize("cores", [1, 3])
def test_a_command_that_does_not_end_is_ended(kernel, marker):
    clients = [kernel.client() for _ in range(3)]
    for client in clients:
        client.send("EXEC", f"trap '' TERM; {marker.shell} & {marker.shell}", {"timeout_ms": 0})
    wait_until(lambda: len(marker.pids()) == 6, "the commands run")
    kernel.terminate()
    assert kernel.wait() == 0
    wait_until(lambda: not marker.pids(), "the commands are gone")
    for client in clients:
        ends(client)


def test_a_second_signal_ends_at_once(kernel, marker):
    launcher = kernel.launcher_pid()
    client = kernel.client()
    client.send("EXEC", marker.argv)
    wait_until(marker.pids, "the command runs")
    stopping(kernel)
    time.sleep(0.15)  # sooner it would be taken for the first one's echo
    kernel.terminate()
    # Not the 0 of a kernel that took its time.
    assert kernel.wait() == -signal.SIGTERM
    wait_until(lambda: not marker.pids(), "the command is gone")
    wait_until(lambda: procfs.name(launcher) != "clove-launcher", "the launcher is gone")
    ends(client)


def test_an_echo_of_the_signal_does_not_cut_the_end_short(kernel):
    client = kernel.client()
    running = client.send("EXEC", "sleep 0.3")
    client.assert_alive()
    stopping(kernel)
    kernel.terminate()
    assert client.wait(running)["exit_code"] == 0
    assert kernel.wait() == 0


@pytest.mark.parametrize("cores", [1])
def test_while_it_stops_new_work_is_refused_and_the_rest_served(kernel, directory):
    client = kernel.client()
    started, go = directory / "started", directory / "go"
    running = client.send("EXEC", f"touch {started}; while ! test -e {go}; do sleep 0.01; done")
    wait_until(started.exists, "the command runs")
    stopping(kernel)

    def refused() -> bool:
        try:
            return client.call("LIST") is None
        except Refused as error:
            return error.code == "SHUTTING_DOWN"

    wait_until(refused, "the core knows")
    for op, args in NOT_STARTED_ANY_MORE:
        assert client.refused(op, *args).code == "SHUTTING_DOWN", op
    for op, args in SERVED_TO_THE_END:
        client.call(op, *args)
    go.touch()
    assert client.wait(running)["exit_code"] == 0
    assert kernel.wait() == 0


@pytest.mark.parametrize("cores", [1])
def test_a_command_may_still_be_cancelled_while_it_stops(kernel, marker):
    client = kernel.client()
    running = client.send("EXEC", marker.argv)
    wait_until(marker.pids, "the command runs")
    stopping(kernel)
    assert client.call("CANCEL", running) is True
    with pytest.raises(Refused) as caught:
        client.wait(running)
    assert caught.value.code == "CANCELLED"
    assert kernel.wait() == 0
    wait_until(lambda: not marker.pids(), "the command is gone")


def test_answers_that_were_not_read_yet_are_delivered(kernel):
    """More than a socket holds, so the kernel must wait for the reader."""
    client = kernel.client()
    ids = [client.send("NOOP", bytes([i]) * 30_000) for i in range(12)]
    other = kernel.client()
    wait_until(lambda: sum(c["frames"] for c in other.stats()["cores"]) > 12, "all are parsed")
    stopping(kernel)
    for i, id in enumerate(ids):
        assert client.wait(id) == bytes([i]) * 30_000
    client.assert_closed()
    assert kernel.wait() == 0


def test_a_client_that_reads_nothing_does_not_keep_it_alive(kernel):
    client = kernel.client()
    client.socket.setblocking(False)
    try:
        while True:
            client.send("NOOP", bytes(30_000))
    except BlockingIOError:
        pass
    kernel.terminate()
    assert kernel.wait() == 0


def test_it_can_be_started_again_at_once(start_kernel, io):
    epochs = set()
    for _ in range(5):
        kernel = start_kernel(io=io)
        epochs.add(kernel.client().call("HELLO", 1, 1)["epoch"])
        kernel.stop()
        assert not kernel.socket_path.exists()
    assert len(epochs) == 5


def test_the_socket_of_a_successor_is_left_alone(start_kernel, io, directory):
    """A kernel whose socket file was removed and taken by another does not remove the other's."""
    first = start_kernel(io=io)
    first.socket_path.unlink()
    second_place = directory / "second"
    second_place.mkdir()
    second = start_kernel(io=io, place=second_place, socket_path=first.socket_path)
    first.stop()
    assert first.socket_path.is_socket()
    with Client(first.socket_path) as client:
        client.assert_alive()
    second.stop()


def test_a_file_that_replaced_the_socket_is_left_alone(kernel):
    kernel.socket_path.unlink()
    kernel.socket_path.write_text("mine")
    kernel.stop()
    assert kernel.socket_path.read_text() == "mine"


def test_a_signal_right_after_the_start_ends_it_well(start_kernel, io):
    for _ in range(5):
        kernel = start_kernel(io=io, cores=3)
        kernel.stop()


def test_a_log_that_nobody_reads_stops_nothing(start_kernel):
    read_end, write_end = os.pipe()
    kernel = start_kernel(cores=2, preexec=lambda: os.dup2(write_end, 2))
    filler = os.open(f"/proc/self/fd/{write_end}", os.O_WRONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(filler, b"x" * 4096)
    os.kill(kernel.launcher_pid(), signal.SIGKILL)  # which every core has a line for
    for _ in range(2):
        client = kernel.client()
        wait_until(lambda c=client: c.call("STATS")["launcher"] is False, "the launcher is missed")
        client.assert_alive()
    os.read(read_end, 1 << 20)
    kernel.stop()
    os.close(write_end)
    os.close(filler)
    assert re.search(rb"^log-lost lines=[1-9]\d*$", os.read(read_end, 1 << 20), re.MULTILINE)
    os.close(read_end)


@pytest.mark.parametrize("round", range(4))
def test_what_is_between_its_parts_when_it_stops_is_let_go(start_kernel, io, round):
    """Work of clients that have left is on its way from core to core, and to file threads and back."""
    kernel = start_kernel(io=io, cores=3)
    clients = [kernel.client() for _ in range(8)]
    options = {"sandboxed": False}
    for n in range(6):
        for number, client in enumerate(clients):
            client.send("SPAWN", f"a{number}-{n}", ["sleep", "100"], options)
            client.send("WAIT", f"a{number}-{n}")
            client.send("KILL", f"a{(number + 1) % 8}-{n}")
            client.send("READ", "/etc/passwd")
    time.sleep(0.002 * round)
    for client in clients:
        client.close()
    # That it ended well, with nothing left over, is what stop() looks at.
    kernel.terminate()
