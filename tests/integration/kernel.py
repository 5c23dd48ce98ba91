# SPDX-License-Identifier: MIT
"""A real clove_kernel, started and stopped by a test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import procfs
from wire import ROOT, Client, Closed

START_S = 20.0
STOP_S = 30.0  # of a sanitized one on a busy machine, too

# What a defect leaves in the log, whatever the exit code says.
_DEFECTS = re.compile(
    r"check-failed|core-lost|AddressSanitizer|ThreadSanitizer|LeakSanitizer|MemorySanitizer|runtime error:"
)


def binary() -> Path:
    path = Path(os.environ.get("CLOVE_KERNEL") or ROOT / "build" / "release" / "clove_kernel")
    assert os.access(path, os.X_OK), f"{path}: build it, or set CLOVE_KERNEL"
    return path.resolve()


def is_sanitized() -> bool:
    """Whether the kernel was built with a sanitizer, which has memory of its own."""
    data = binary().read_bytes()
    return b"__asan_init" in data or b"__tsan_init" in data


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, without what would configure a kernel or a client."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CLOVE_")}
    # A kernel that ends does not wait long for a thread that hangs in a file; on a busy machine that may be any.
    clean.setdefault("TSAN_OPTIONS", "report_thread_leaks=0")
    return {**clean, **(extra or {})}


def run(*options: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a kernel that is expected to end by itself."""
    return subprocess.run(
        [str(binary()), *options],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )


def wait_until(condition: Callable[[], object], what: str, timeout: float = 15.0) -> None:
    """Returns as soon as condition() is true; fails when that takes too long."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}"
        time.sleep(0.01)


class Kernel:
    """A running kernel in a directory of its own. stop() also checks that it ended well."""

    def __init__(
        self,
        directory: Path,
        options: Sequence[str] = (),
        *,
        socket_path: Path | None = None,
        env: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        preexec: Callable[[], None] | None = None,
    ) -> None:
        self.directory = directory
        self.socket_path = socket_path or directory / "kernel.sock"
        self.data_dir = directory / "data"
        self._log_path = directory / f"stderr-{time.monotonic_ns()}"
        command = [*wrapper, str(binary()), "--socket", str(self.socket_path)]
        command += ["--data-dir", str(self.data_dir), *options]
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=preexec,
            )
        self._clients: list[Client] = []
        self._ended = False  # by kill() or wait(), whose caller judges how
        self._wait_ready()

    def _wait_ready(self) -> None:
        end = time.monotonic() + START_S
        while True:
            try:
                with Client(self.socket_path) as client:
                    client.assert_alive()
                return
            except (OSError, Closed):  # Closed: a predecessor that is not quite gone accepted
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise AssertionError(
                    f"the kernel did not start (status {self.process.returncode}):\n{self.log()}"
                )
            time.sleep(0.005)

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def client(self, timeout: float | None = None) -> Client:
        """A new connection, closed at the latest when the kernel is stopped."""
        client = Client(self.socket_path) if timeout is None else Client(self.socket_path, timeout)
        self._clients.append(client)
        return client

    def launcher_pid(self) -> int:
        for pid in procfs.children(self.pid):
            if procfs.name(pid) == "clove-launcher":
                return pid
        raise AssertionError("the kernel has no launcher")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The kernel does nothing inside of this."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            # Threads on other processors run on for a moment.
            wait_until(lambda: procfs.threads_stand_still(self.pid), "the kernel stands still")
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a crash: no chance to tidy up."""
        self._ended = True
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._close_clients()

    def wait(self, timeout: float = STOP_S) -> int:
        """The exit status, negative for a signal, of a kernel that was told to end."""
        self._ended = True
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the kernel did not end within {timeout:g} s:\n{self.log()}") from None

    def stop(self) -> None:
        """Ends it with SIGTERM, unless the test did, and checks that it was healthy to the end."""
        self._close_clients()
        if not self._ended:
            self.terminate()  # does nothing to one that died by itself
            status = self.wait()
            assert status == 0, f"exit status {status}:\n{self.log()}"
        self.check_log()

    def check_log(self) -> None:
        found = _DEFECTS.search(self.log())
        assert not found, f"{found[0]} in the kernel's log:\n{self.log()}"

    def _close_clients(self) -> None:
        for client in self._clients:
            client.close()
