#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes the seeds of the fuzz corpus: one small input for each format, call and option.

Example: tests/fuzz/seed_corpus.py (from anywhere; rewrites tests/fuzz/corpus/*/seed-*)
"""

import struct
from pathlib import Path

import msgpack

CORPUS = Path(__file__).resolve().parent / "corpus"


def pack(value):
    return msgpack.packb(value, use_bin_type=True)


def frame(op, args=None, request_id=1, flags=0, deadline=None):
    body = b"" if args is None else pack(args)
    if deadline is not None:
        flags |= 16
        body = struct.pack("<I", deadline) + body
    return struct.pack("<IHHQ", len(body), op, flags, request_id) + body


VALUES = {
    "nil": None, "bool": True, "fixint": 5, "negative": -1, "u16": 300, "u64": 2**63, "i64": -(2**40),
    "float": 1.5, "str": "hello", "str8": "x" * 40, "bin": b"\x00\xff", "array": [1, [2, [3]]],
    "map": {"a": 1, "b": {"c": None}}, "ext": msgpack.ExtType(5, b"abc"), "array16": list(range(20)),
}

OPTIONS = {
    "shell": ("true", None),
    "argv": (["ls", "-l", b"\xff"], {}),
    "all": ("cat", {"cwd": "/tmp", "env": {"A": "1", "PATH": "/bin"}, "stdin": b"in", "timeout_ms": 5,
                    "output_max": 100}),
    "unknown": ("cat", {"nothing": 1}),
    "wrong": ("cat", {"cwd": 5, "env": [], "stdin": {}}),
}

FRAMES = {
    "hello": frame(0xFE, [1, 1, "fuzz"]),
    "hello-new": frame(0xFE, [9, 12]),
    "noop": frame(0x00) + frame(0x00, [None]) + frame(0x00, ["x" * 300]),
    "exec": frame(0x02, ["true"], deadline=5) + frame(0x02, [["true"], {"cwd": "/"}]),
    "list": frame(0x12, [True]) + frame(0x12),
    "cancel": frame(0x101, [7]),
    "exit": frame(0x00) + frame(0xFF) + frame(0x00),
    "unknown": frame(0x05) + frame(0xFFFF),
    "unbuilt": frame(0x30, ["k", "v"]),
    "wrong-args": frame(0x101, ["x"]) + frame(0xFE) + frame(0x00, [1, 2, 3]),
    "reply-flag": frame(0x00, flags=1),
    "large": struct.pack("<IHHQ", 2**32 - 1, 0, 0, 1),
    "deep": frame(0x00, None) + struct.pack("<IHHQ", 200, 0, 0, 1) + b"\x91" * 200,
}


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(data)


for name, value in VALUES.items():
    write("cursor", name, pack(value))
for name, (command, options) in OPTIONS.items():
    write("options", name, pack(command) + (pack(options) if options is not None else b""))
for name, data in FRAMES.items():
    write("frame", name, b"\x00" + data)
    write("frame", f"{name}-pieces", b"\x07" + data)
