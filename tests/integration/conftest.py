# SPDX-License-Identifier: MIT
"""Fixtures: kernels in directories of their own, on both I/O back ends

io       "uring" or "epoll"; a test that uses it (most do, through kernel) runs on each
cores    3; a test may parametrise it
kernel   a kernel on io with cores
start_kernel(*options, ...)   another one; io= and cores= stand for the options
marker   a sleep that can be found, killed when the test is over
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import kernel as kernels  # noqa: E402
from procfs import Marker  # noqa: E402
from wire import Client  # noqa: E402

# Some tests hold thousands of connections.
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

_BACK_ENDS = [os.environ["CLOVE_TEST_IO"]] if os.environ.get("CLOVE_TEST_IO") else ["uring", "epoll"]


@pytest.fixture(scope="session")
def _refusals() -> dict[str, str]:
    """Back ends that this host does not have, with the reason."""
    return {}


def _why_not(io: str, refusals: dict[str, str]) -> str:
    """Empty when a kernel starts with the back end."""
    if io not in refusals:
        directory = Path(tempfile.mkdtemp(prefix="clove-"))
        try:
            kernels.Kernel(directory, ["--io", io, "--cores", "1"]).stop()
            refusals[io] = ""
        except AssertionError as error:
            if f"--io {io}:" not in str(error):
                raise
            refusals[io] = str(error)
        finally:
            shutil.rmtree(directory)
    return refusals[io]


@pytest.fixture(params=_BACK_ENDS)
def io(request: pytest.FixtureRequest, _refusals: dict[str, str]) -> str:
    reason = _why_not(request.param, _refusals)
    if reason:
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture
def cores() -> int:
    return 3


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path, because a socket's has 107 bytes at most; open to others, as /tmp is."""
    path = Path(tempfile.mkdtemp(prefix="clove-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start_kernel(directory: Path) -> Iterator[Callable[..., kernels.Kernel]]:
    started: list[kernels.Kernel] = []

    def start(*options: str, io: str = "auto", cores: int = 1, **kwargs: object) -> kernels.Kernel:
        place = kwargs.pop("place", None) or directory
        settings = ["--io", io, "--cores", str(cores), *options]
        started.append(kernels.Kernel(place, settings, **kwargs))
        return started[-1]

    yield start
    complaints = []
    for kernel in reversed(started):
        try:
            kernel.stop()
        except AssertionError as error:
            complaints.append(str(error))
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def kernel(start_kernel: Callable[..., kernels.Kernel], io: str, cores: int) -> kernels.Kernel:
    return start_kernel(io=io, cores=cores)


@pytest.fixture
def client(kernel: kernels.Kernel) -> Client:
    return kernel.client()


@pytest.fixture
def marker() -> Iterator[Marker]:
    marker = Marker()
    yield marker
    marker.kill()
