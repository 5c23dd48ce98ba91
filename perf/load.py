# SPDX-License-Identifier: MIT
"""Runs perf_load against a server and observes the server meanwhile."""

import json
import os
import select
import subprocess
import time

import machine
import process

GRACE_S = 60  # beyond what the load itself takes


class Load:
    """One run of perf_load: it prints "start" when its window opens, and JSON when that is over."""

    def __init__(self, server, limit_s, *arguments):
        command = [server.build_dir / "perf_load", "--protocol", server.NAME]
        command += ["--socket", server.socket_path, *arguments]
        self.name = server.NAME
        self.deadline = time.monotonic() + limit_s
        self.text = b""
        self.child = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        try:
            self.child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()

    def read_line(self):
        descriptor = self.child.stdout.fileno()
        while b"\n" not in self.text:
            left = self.deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                self.child.kill()
                raise machine.Unusable(f"{self.name}: the load generator did not end in time")
            piece = os.read(descriptor, 65536)
            if not piece:
                raise machine.Unusable(f"{self.name}: the load generator failed")
            self.text += piece
        line, _, self.text = self.text.partition(b"\n")
        return line.decode()

    def wait_start(self):
        line = self.read_line()
        if line != "start":
            raise machine.Unusable(f"{self.name}: unexpected from the load generator: {line}")

    def result(self):
        return json.loads(self.read_line())


def measure(server, seconds, clients, pipeline, size, warmup_s=0.5):
    """A timed window of load: the fields of a row."""
    arguments = ["--clients", clients, "--pipeline", pipeline, "--size", size]
    arguments += ["--warmup-ms", round(warmup_s * 1000), "--window-ms", round(seconds * 1000)]
    with Load(server, warmup_s + seconds + GRACE_S, *arguments) as load:
        load.wait_start()
        cpu_before_ns = process.cpu_ns(server.pid)
        result = load.result()
        return row_fields(result, server, cpu_before_ns)


def row_fields(result, server, cpu_before_ns):
    cpu_us = (process.cpu_ns(server.pid) - cpu_before_ns) / 1000
    return {
        "ops_per_s": result["ops_per_s"],
        "p50_us": result["p50_us"],
        "p99_us": result["p99_us"],
        "p999_us": result["p999_us"],
        "server_cpu_us_per_op": round(cpu_us / max(result["ops"], 1), 4),
        "server_rss_kb": process.rss_kb(server.pid),
        "io": result["io"],
        "client_cpu_us_per_op": result["client_cpu_us_per_op"],
    }
