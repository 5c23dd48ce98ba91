# SPDX-License-Identifier: MIT
"""The machine: what it is, which packages it lacks, and the build of this tree."""

import functools
import importlib.util
import os
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD_DIR = ROOT / "build" / "release"


class Unusable(Exception):
    """The measurement cannot take place; the text says why."""


class CannotRun(Unusable):
    """A peer cannot be measured on this host; the others can."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command):
    """Runs @command with its output among the progress."""
    say(" ".join(command))
    if subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode:
        raise Unusable(f"{command[0]} failed; its message is above")


def require_programs(packages):
    """Installs with apt what of {program: package} is missing."""
    missing = [package for program, package in packages.items() if not shutil.which(program)]
    if missing:
        run("core/setup", "install", *missing)


def require_modules(packages):
    """Installs with apt what of {Python module: package} is missing."""
    missing = [package for name, package in packages.items() if not importlib.util.find_spec(name)]
    if missing:
        run("core/setup", "install", *missing)
        importlib.invalidate_caches()


def require_descriptors(count):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < count:
        raise Unusable(f"needs {count} descriptors a process; the hard limit here is {limit}")


def build():
    """Builds Release and returns its directory."""
    run("core/run", "build")
    run("cmake", "--build", str(BUILD_DIR), "--target", "perf_load", "perf_fsyncs")
    return BUILD_DIR


def file_system(path):
    """Type and source of what is mounted there."""
    found = ("unknown", "unknown")
    longest = -1
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        where = Path(left.split()[4].encode().decode("unicode_escape"))
        if path.resolve().is_relative_to(where) and len(where.parts) >= longest:
            longest = len(where.parts)
            found = tuple(right.split()[:2])
    return found


def require_disk(path, bytes_wanted, memory_will_do):
    """A file system that has a disk behind it, and the room. Returns what it is, for people."""
    kind, source = file_system(path)
    if kind in ("tmpfs", "ramfs") and not memory_will_do:
        raise Unusable(
            f"{path} is in memory ({kind}), where nothing is durable: "
            "give a directory on a disk with --dir, or --allow-tmpfs to measure all the same"
        )
    free = shutil.disk_usage(path).free
    if free < bytes_wanted:
        raise Unusable(
            f"{path} has {free >> 20} MiB free, this takes up to {bytes_wanted >> 20}: "
            "give another directory with --dir, or fewer keys with --keys"
        )
    return f"{kind} on {source}"


def processor_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def commit():
    ask = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(ask, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() or "no commit"


@functools.cache
def describe():
    return (
        f"{os.cpu_count()} x {processor_model()}, Linux {platform.release()}, Clove at {commit()}"
    )
