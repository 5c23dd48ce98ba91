# SPDX-License-Identifier: MIT
"""A real kernel for the tests that need one; they are skipped where it has not been built."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from clove_sdk import CloveClient

ROOT = Path(__file__).resolve().parents[3]


def kernel_binary() -> str | None:
    names = [os.environ.get("CLOVE_KERNEL", "")]
    names += [str(ROOT / "build" / preset / "clove_kernel") for preset in ("release", "dev")]
    return next((name for name in names if name and os.access(name, os.X_OK)), None)


@dataclass
class Kernel:
    """A running kernel; its files are in folder, which is not its data directory."""

    path: str
    folder: Path
    process: subprocess.Popen[bytes]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The kernel does nothing inside of this."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        self.process.send_signal(signal.SIGSTOP)
        try:
            # Threads on other processors run on for a moment.
            while {task.read_text().rpartition(")")[2].split()[0] for task in tasks.glob("*/stat")} != {"T"}:
                time.sleep(0.001)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_kernel(folder: Path) -> Kernel:
    binary = kernel_binary()
    if binary is None:
        pytest.skip("no clove_kernel: set CLOVE_KERNEL, or build the preset release or dev")
    path = str(folder / "clove.sock")
    arguments = ["--socket", path, "--data-dir", str(folder / "data"), "--log-level", "warn"]
    process = subprocess.Popen([binary, *arguments])
    kernel = Kernel(path, folder, process)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                return kernel
        if process.poll() is not None:
            break
        time.sleep(0.01)
    kernel.stop()
    pytest.fail(f"{binary} {' '.join(arguments)} does not listen (exit code {process.returncode})")


@pytest.fixture(scope="session")
def kernel():
    with tempfile.TemporaryDirectory(prefix="clove-test-") as folder:
        running = start_kernel(Path(folder))
        yield running
        running.stop()


@pytest.fixture
def own_kernel(tmp_path):
    """A kernel that the test may stop."""
    running = start_kernel(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def client(kernel):
    with CloveClient(kernel.path) as connected:
        yield connected


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("CLOVE_FD", "CLOVE_DOOR", "CLOVE_PID", "CLOVE_SOCKET"):
        monkeypatch.delenv(name, raising=False)
