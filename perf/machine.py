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
    run("cmake", "--build", str(BUILD_DIR), "--target", "perf_load")
    return BUILD_DIR


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
