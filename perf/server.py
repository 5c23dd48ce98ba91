# SPDX-License-Identifier: MIT
"""The systems that are measured: how each is installed, started and stopped."""

import ctypes
import os
import signal
import socket
import subprocess
import time

import machine

DESCRIPTORS = 20480  # for the largest scenario, with room to spare
START_S = 15
STOP_S = 15
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None)


def end_with_parent():
    """In the child: a server does not outlive perf/run, however that ends."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def neutral_environment():
    """Without the user's own settings for Clove: a row's settings are all there are."""
    return {name: text for name, text in os.environ.items() if not name.startswith("CLOVE_")}


class Server:
    """One running server on a Unix socket in a directory of its own."""

    PACKAGES = {}  # {program: Debian package} that must be there

    def __init__(self, directory, build_dir, options):
        self.directory = directory
        self.build_dir = build_dir
        self.options = options
        self.socket_path = directory / f"{self.NAME}.sock"
        self.log_path = directory / f"{self.NAME}.log"
        self.process = None

    def command(self):
        raise NotImplementedError

    def environment(self):
        return neutral_environment()

    @property
    def pid(self):
        return self.process.pid

    def settings(self):
        """The command line, for the row; paths of the run would only be noise in it."""
        words = [str(word).replace(str(self.directory), "DIR") for word in self.command()]
        return " ".join(word if word else '""' for word in [words[0].split("/")[-1], *words[1:]])

    def start(self):
        self.directory.mkdir(exist_ok=True)
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in self.command()],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
                start_new_session=True,  # as a service
            )
        deadline = time.monotonic() + START_S
        while not self.answers():
            if self.process.poll() is not None:
                self.fail(f"ended at start with status {self.process.returncode}")
            if time.monotonic() > deadline:
                self.stop()
                self.fail(f"did not listen within {START_S} s")
            time.sleep(0.02)

    def answers(self):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket_path)) == 0

    def fail(self, reason):
        tail = self.log_path.read_text(errors="replace")[-2000:]
        raise machine.Unusable(f"{self.NAME}: {reason}\n{tail}")

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            machine.say(f"{self.NAME}: did not stop within {STOP_S} s of SIGTERM")
            self.process.kill()
            self.process.wait()


class Clove(Server):
    """As core/run starts it: a socket, a data directory, defaults otherwise."""

    NAME = "clove"

    def command(self):
        words = [self.build_dir / "clove_kernel", "--socket", self.socket_path]
        words += ["--data-dir", self.directory / "data"]
        if self.options.io:
            words += ["--io", self.options.io]
        if self.options.cores is not None:
            words += ["--cores", self.options.cores]
        return words


class Redis(Server):
    """In memory only, without a TCP port."""

    NAME = "redis"
    PACKAGES = {"redis-server": "redis-server"}

    def command(self):
        words = ["redis-server", "--save", "", "--appendonly", "no", "--port", "0"]
        words += ["--unixsocket", self.socket_path, "--dir", self.directory]
        return [*words, "--maxclients", str(DESCRIPTORS // 2 + 1000)]


SYSTEMS = {system.NAME: system for system in (Clove, Redis)}
