# SPDX-License-Identifier: MIT
"""Answers of a connection come whole and in the order of their requests, also when sends fall short all the time."""

import subprocess

import pytest

import kernel as kernels

CLIENTS, REQUESTS = 6, 4000


@pytest.mark.parametrize("multishot", [True, False])
def test_answers_to_clients_that_pause_stay_whole_and_in_order(start_kernel, io, multishot):
    """In C: the kernel must be making answers while those before them wait for a reader that is fast, but pauses."""
    client = kernels.binary().parent / "tests" / "order_client"
    kernel = start_kernel(io=io, cores=1, env={} if multishot else {"CLOVE_URING": "-multishot"})
    done = subprocess.run(
        [str(client), str(kernel.socket_path), str(CLIENTS), str(REQUESTS)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kernel.client().assert_alive()
