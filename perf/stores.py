# SPDX-License-Identifier: MIT
"""Systems that keep values on a disk, and how they are measured."""

import ctypes
import mmap
import os
import socket
import struct
import time

import load
import machine
import process
import server

KEYS = ("durable", "size", "keys", "clients", "pipeline")
PROGRAMS = ("clove_kernel", "perf_load", "perf_fsyncs.so")
RANK = "ops_per_s"
COLUMNS = {
    "ops_per_s": "ops/s",
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "cpu_us": "server us/op",
    "client_cpu_us": "client us/op",
    "fsyncs": "fsyncs",
    "refused": "refused",
    "rss_bytes": "RSS bytes",
}
RATIOS = {
    "ops_per_s": "ops/s (more is better)",
    "p50_us": "p50 (less)",
    "p99_us": "p99 (less)",
    "cpu_us": "server CPU per op (less)",
    "rss_bytes": "RSS (less)",
}

SIZES = (100, 4096)
LOADS = ((1, 1), (50, 1), (500, 1), (1, 16), (50, 16), (500, 16))  # clients, pipeline
WARM_UP_S = 0.5
FILL_S = 1800
CALM_SHARE = 0.05  # of a processor, for a second: whatever was left to do in the background is done
CALM_S_MAX = 180

libc = ctypes.CDLL(None, use_errno=True)


class Store(server.Server):
    """A server whose calls of fsync and the like are counted."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.filled = set()
        self.durable = False

    def start(self):
        self.directory.mkdir()
        path = self.directory / "fsyncs"
        path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            self.count = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        super().start()

    def environment(self):
        preload = {"LD_PRELOAD": self.build_dir / "perf_fsyncs.so", "PERF_FSYNCS": self.directory / "fsyncs"}
        return {**super().environment(), **{name: str(path) for name, path in preload.items()}}

    def fsyncs(self):
        return struct.unpack("Q", self.count[:8])[0]

    def set_durable(self, durable):
        """Whether what is stored from now on is to be on the disk when it is answered."""
        self.durable = durable

    def fill(self, size, keys):
        """Each key once, unless they are there already. Returns what perf_load says of it, and the CPU time it took."""
        if (size, keys) in self.filled:
            return None
        self.set_durable(False)
        words = ["--work", "fill", "--keys", keys, "--size", size, "--clients", 50, "--pipeline", 16]
        with load.Load(self, FILL_S, *words) as run:
            run.wait_start()
            cpu_before_ns = process.cpu_ns(self.pid)
            fields = load.row_fields(run.result(), self, cpu_before_ns)
        self.filled.add((size, keys))
        wait_calm(self)
        return fields


class Clove(Store, server.Clove):
    """As a user starts it; each request says whether it is to be durable."""


class Redis(Store, server.Redis):
    """With its append-only file, synced for every write or every second; otherwise as it is installed."""

    def command(self):
        words = ["redis-server", "--save", "", "--appendonly", "yes", "--port", "0"]
        words += ["--appendfsync", "always" if self.durable else "everysec"]
        words += ["--unixsocket", self.socket_path, "--dir", self.directory]
        return [*words, "--maxclients", str(server.DESCRIPTORS // 2 + 1000)]

    def set_durable(self, durable):
        super().set_durable(durable)
        word = b"always" if durable else b"everysec"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(server.START_S)
            client.connect(str(self.socket_path))
            client.sendall(b"CONFIG SET appendfsync " + word + b"\r\n")
            answer = client.recv(100)
        if answer != b"+OK\r\n":
            self.fail(f"would not set appendfsync: {answer}")


SYSTEMS = {system.NAME: system for system in (Clove, Redis)}


def wait_calm(system):
    """Compactions and rewrites that earlier writes brought about belong to these."""
    deadline = time.monotonic() + CALM_S_MAX
    while time.monotonic() < deadline:
        before_ns = process.cpu_ns(system.pid)
        time.sleep(1)
        if process.cpu_ns(system.pid) - before_ns < CALM_SHARE * 1e9:
            return
    machine.say(f"{system.NAME}: still at work {CALM_S_MAX} s after it was filled")


def clean_disk(path):
    """Nobody's fsync is to wait for what others have written."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc.syncfs(descriptor)
    finally:
        os.close(descriptor)


def measure(system, work, seconds, durable, size, keys, clients, pipeline, warm_up_s=WARM_UP_S):
    """A timed window of load on keys that are all there: the fields of a row."""
    system.fill(size, keys)
    system.set_durable(durable)
    clean_disk(system.directory)
    words = ["--work", work, "--keys", keys, "--size", size, "--clients", clients, "--pipeline", pipeline]
    words += ["--warmup-ms", round(warm_up_s * 1000), "--window-ms", round(seconds * 1000)]
    if durable:
        words.append("--durable")
    with load.Load(system, warm_up_s + seconds + load.GRACE_S, *words) as run:
        run.wait_start()
        cpu_before_ns, fsyncs_before = process.cpu_ns(system.pid), system.fsyncs()
        result = run.result()
        fsyncs = system.fsyncs() - fsyncs_before
        fields = load.row_fields(result, system, cpu_before_ns)
    return {
        "ops_per_s": fields["ops_per_s"],
        "p50_us": fields["p50_us"],
        "p99_us": fields["p99_us"],
        "p999_us": fields["p999_us"],
        "cpu_us": fields["server_cpu_us_per_op"],
        "client_cpu_us": fields["client_cpu_us_per_op"],
        "ops": result["ops"],
        "fsyncs": fsyncs,
        "refused": result["refused"],
        "rss_bytes": fields["server_rss_kb"] * 1024,
        "io": fields["io"],
        "data": " on ".join(machine.file_system(system.directory)),
    }
