# SPDX-License-Identifier: MIT
"""The machine: what it is, which packages it lacks, and the build of this tree."""

import functools
import os
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD_DIR = ROOT / "build" / "release"

# What building needs, with Debian's package of it: programs, then libraries by pkg-config's name.
# The C library of MessagePack has another name and package from Ubuntu 24.04 on.
BUILD_PROGRAMS = {
    "cmake": "cmake",
    "ninja": "ninja-build",
    "cc": "gcc",
    "pkg-config": "pkg-config",
}
BUILD_LIBRARIES = {
    "liburing": "liburing-dev",
    "inih": "libinih-dev",
    "msgpack": "libmsgpack-dev",
    "msgpack-c": "libmsgpack-c-dev",
    "cmocka": "libcmocka-dev",
}


class Unusable(Exception):
    """The measurement cannot take place; the text says why."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def quiet(*command):
    """Whether @command succeeds."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def require_programs(packages):
    """Installs with apt what of {program: package} is missing."""
    install([package for program, package in packages.items() if not shutil.which(program)])


def require_libraries():
    missing = {name for name in BUILD_LIBRARIES if not quiet("pkg-config", "--exists", name)}
    msgpack = {"msgpack", "msgpack-c"}
    if missing >= msgpack:
        missing.remove("msgpack-c" if quiet("apt-cache", "show", "libmsgpack-dev") else "msgpack")
    else:
        missing -= msgpack
    install(sorted(BUILD_LIBRARIES[name] for name in missing))


def install(packages):
    if not packages:
        return
    names = " ".join(packages)
    root = [] if os.geteuid() == 0 else ["sudo"]
    if not shutil.which("apt-get") or (root and not shutil.which("sudo")):
        raise Unusable(f"please install (by their Debian names): {names}")
    command = [*root, "apt-get", "install", "-y", "--no-install-recommends", *packages]
    say(f"installing {names}: {' '.join(command)}")
    if subprocess.run(command, stdout=sys.stderr).returncode == 0:
        return
    # A package list that is missing or too old is the usual reason.
    subprocess.run([*root, "apt-get", "update"], stdout=sys.stderr)
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise Unusable(f"could not install {names}")


def require_descriptors(count):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < count:
        raise Unusable(f"needs {count} descriptors a process; the hard limit here is {limit}")


def build():
    """Builds Release and returns its directory."""
    require_programs(BUILD_PROGRAMS)
    require_libraries()
    steps = [["cmake", "--build", "--preset", "release", "-t", "clove_kernel", "perf_load"]]
    if not (BUILD_DIR / "build.ninja").exists():
        steps.insert(0, ["cmake", "--preset", "release"])
    for step in steps:
        say(" ".join(step))
        done = subprocess.run(step, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            text = done.stdout.decode(errors="replace")
            raise Unusable(f"the build failed:\n{text}")
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
