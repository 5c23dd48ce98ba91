# SPDX-License-Identifier: MIT
"""What runs in the boxes of the scenario spawn: spawn_child.py WHAT INDEX

Its answers are lines on its output: INDEX, a word, and the monotonic clock at the first statement and behind the
first HELLO. WHAT is first-statement, hello or idle.
"""

import time

first_ns = time.monotonic_ns()

import sys

what, index = sys.argv[1:3]
IDLE_S = 300  # an agent that nobody ended ends by itself
HELLO, NOOP, REPLY = 0xFE, 0x00, 1


def say(word, *values):
    """One write, so that lines of many do not mix in a shared pipe."""
    sys.stdout.write(f"{index} {word} {' '.join(map(str, values))}\n")
    sys.stdout.flush()


if what == "first-statement":
    say("first", first_ns)
    sys.exit()

import os
import socket
import struct

import msgpack

HEADER = struct.Struct("<IHHQ")


def read(connection, length):
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise EOFError("the kernel closed the connection")
        data += piece
    return data


def write_frame(connection, op, flags, value):
    body = msgpack.packb(value, use_bin_type=True)
    connection.sendall(HEADER.pack(len(body), op, flags, 1) + body)


def read_frame(connection):
    length, op, flags, _ = HEADER.unpack(read(connection, HEADER.size))
    return op, flags, msgpack.unpackb(read(connection, length), strict_map_key=False)


class Kernel:
    """Clove, where there is one; elsewhere this process answers itself over a socket of the same kind."""

    def __init__(self):
        if "CLOVE_FD" in os.environ:
            self.mine, self.theirs = socket.socket(fileno=int(os.environ["CLOVE_FD"])), None
        else:
            self.mine, self.theirs = socket.socketpair()

    def call(self, op, *args):
        write_frame(self.mine, op, 0, list(args))
        if self.theirs:
            _, _, asked = read_frame(self.theirs)
            answer = asked[0] if op == NOOP else {"agent_id": 1, "version": asked[1]}
            write_frame(self.theirs, op, REPLY, answer)
        _, flags, answer = read_frame(self.mine)
        if flags != REPLY:
            raise RuntimeError(f"refused: {answer}")
        return answer


kernel = Kernel()
if not kernel.call(HELLO, 1, 1)["agent_id"]:
    raise RuntimeError("an agent without an id")
hello_ns = time.monotonic_ns()

if what == "hello":
    say("hello", first_ns, hello_ns)
    sys.exit()

import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
say("ready", first_ns, hello_ns)
while signal.sigtimedwait({signal.SIGUSR1}, IDLE_S):
    if kernel.call(NOOP, index) != index:
        raise RuntimeError("the echo is another")
    say("noop", time.monotonic_ns())
