# SPDX-License-Identifier: MIT
"""What runs in the agents of the scenario siege: siege_child.py WHAT [SECONDS PAUSE_S]

caller   waits for a file "begin" with a moment of the monotonic clock; from then on calls NOOP, sleeps,
         again, and says how long each call took, in nanoseconds, one line for all
tree     starts 200 processes and says so
The others take all they can get until they are ended.
"""

import os
import sys
import time


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def caller(seconds, pause_s):
    import random

    from clove_sdk import CloveClient

    with CloveClient() as kernel:
        kernel.noop()
        say("ready")
        while not os.path.exists("begin"):
            time.sleep(0.1)
        time.sleep(0.1)  # it is one write, but not made and written in one
        begin = float(open("begin").read())
        if time.monotonic() > begin:
            raise SystemExit("told too late")
        time.sleep(begin - time.monotonic() + random.random() * pause_s)
        end = begin + seconds
        took = []
        while time.monotonic() < end:
            before = time.monotonic_ns()
            kernel.noop()
            took.append(time.monotonic_ns() - before)
            time.sleep(pause_s)
    say("took", *took)


def tree(depth=2):
    # 199 and this one: sessions of their own, orphans, some deaf.
    import signal

    for number in range(199):
        if os.fork() == 0:
            if number % 3 == 0:
                os.setsid()
            if number % 4 == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(1000)
            os._exit(0)
    say("ready")
    time.sleep(1000)


def fork_bomb():
    while True:
        try:
            os.fork()
        except OSError:
            pass


def spinners():
    for _ in range(8):
        if os.fork() == 0:
            break
    while True:
        pass


def memory_bomb():
    kept = []
    while True:
        try:
            kept.append(bytearray(8 << 20))
        except MemoryError:
            kept.clear()


def disk_filler():
    number = 0
    while True:
        number += 1
        try:
            with open(f"/tmp/{number % 1000}", "wb") as file:
                file.write(bytes(1 << 20))
        except OSError:
            pass


def descriptor_hog():
    kept = []
    while True:
        try:
            kept.append(os.pipe())
        except OSError:
            kept.clear()


def output_flood():
    data = b"x" * (1 << 16)
    while True:
        os.write(1, data)


def call_flood():
    import socket
    import struct

    kernel = socket.socket(fileno=int(os.environ["CLOVE_FD"]))
    frames = struct.pack("<IHHQ", 1, 0, 0, 1) + b"\x90"
    kernel.setblocking(False)
    while True:
        try:
            kernel.send(frames * 2000)
        except BlockingIOError:
            pass
        try:
            kernel.recv(1 << 18)
        except BlockingIOError:
            pass


def setsid_and_double_fork():
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(0.2)
                os._exit(0)
            os.waitpid(-1, 0)
        except OSError:
            time.sleep(0.001)


BOMBS = {
    "fork-bomb": fork_bomb,
    "spinners": spinners,
    "memory-bomb": memory_bomb,
    "disk-filler": disk_filler,
    "descriptor-hog": descriptor_hog,
    "output-flood": output_flood,
    "call-flood": call_flood,
    "orphans": setsid_and_double_fork,
}

if __name__ == "__main__":
    what = sys.argv[1]
    if what == "caller":
        caller(*map(float, sys.argv[2:4]))
    elif what == "tree":
        tree()
    else:
        BOMBS[what]()
