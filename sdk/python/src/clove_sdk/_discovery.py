# SPDX-License-Identifier: MIT
"""Where the kernel is: argument, CLOVE_FD and CLOVE_DOOR, CLOVE_SOCKET, the default socket; why it cannot be reached."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from dataclasses import dataclass

from . import _arguments
from ._arguments import Path
from ._errors_base import ConnectionError, KernelNotFound, KernelRefused, ValidationError

DEFAULT_SOCKET = "/tmp/clove.sock"
# Of struct sockaddr_un, less the byte that ends it.
PATH_BYTES_MAX = 107

_PEERCRED = struct.Struct("3i")

# Descriptors in use by this process: number to (process, "sync" or "async").
_claims: dict[int, tuple[int, str]] = {}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """path is a socket, unless one of the next two says otherwise.

    fd: an inherited connection, never closed by the SDK. door: by which an agent's processes get others.
    checked: the peer must be root or this process's own user, because anybody could have put a
    socket there: so for the default one. One that was named is somebody's decision.
    """

    path: str
    fd: int | None = None
    door: int | None = None
    checked: bool = False

    @property
    def in_agent(self) -> bool:
        return self.fd is not None or self.door is not None


def find(argument: Path | None) -> Endpoint:
    """The endpoint by order of precedence. ValidationError for what cannot be one."""
    if argument is not None:
        path = os.fsdecode(_arguments.path("socket_path", argument))
        _check_path("socket_path", path)
        return Endpoint(path)
    fd, door = _number("CLOVE_FD", "a descriptor"), _number("CLOVE_DOOR", "a descriptor")
    if fd is not None or door is not None:
        return Endpoint(f"door:{door}" if fd is None else f"fd:{fd}", fd=fd, door=door)
    path = os.environ.get("CLOVE_SOCKET", "")
    _check_path("CLOVE_SOCKET", path)
    return Endpoint(path) if path else Endpoint(DEFAULT_SOCKET, checked=True)


def _number(name: str, of: str) -> int | None:
    number = os.environ.get(name)
    if not number:
        return None
    if not number.isdecimal():
        raise ValidationError(f"{name} must be the number of {of}, not {number!r}")
    return int(number)


def _check_path(name: str, path: str) -> None:
    # connect(2) of Python fails on both without saying which path it was.
    if "\0" in path:
        raise ValidationError(f"{name} must not contain NUL")
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise ValidationError(f"{name} is longer than the {PATH_BYTES_MAX} bytes of a socket's path: {path}")


def claim(endpoint: Endpoint, user: str) -> bool:
    """Whether the inherited connection is for this process's clients of one kind, "sync" or "async".

    One stream cannot be read from two places. Otherwise they get theirs by the door; ConnectionError when
    there is none.
    """
    if endpoint.fd is None:
        return False
    pid = os.getpid()
    owner = (_number("CLOVE_PID", "a process") or pid, user)
    if owner[0] == pid:
        owner = _claims.setdefault(endpoint.fd, owner)
        if owner == (pid, user):
            return True
    if endpoint.door is not None:
        return False
    if owner[0] != pid:
        raise ConnectionError(
            f"CLOVE_FD={endpoint.fd} is in use by another process ({owner[0]}), and CLOVE_DOOR, by which this one"
            " could get a connection, is not set; pass it on, too, or connect by path (CLOVE_SOCKET)"
        )
    raise ConnectionError(
        f"CLOVE_FD={endpoint.fd} is in use by this process's {owner[1]} clients, and CLOVE_DOOR, by which others"
        " could get a connection, is not set; use one kind of client only"
    )


def duplicate(fd: int) -> socket.socket:
    """A socket of one's own on an inherited connection. ConnectionError when fd is none."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        return socket.socket(fileno=os.dup(fd))
    except OSError as error:
        raise ConnectionError(
            f"CLOVE_FD={fd} is no connection to a kernel ({error.strerror});"
            " a child of an agent gets one only if it is passed on (pass_fds of subprocess)"
        ) from None


def check_peer(endpoint: Endpoint, sock: socket.socket) -> None:
    """ConnectionError when a socket that must be checked is served by another user."""
    if not endpoint.checked:
        return
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, _ = _PEERCRED.unpack(raw)
    if uid not in (0, os.geteuid()):
        raise ConnectionError(
            f"{endpoint.path} is served by user {uid} (process {pid}), neither root nor you;"
            " to trust it all the same, name this path: CLOVE_SOCKET or CloveClient(path)"
        )


def connect_error(path: str, error: OSError) -> ConnectionError:
    """What to raise for a failed connect(2)."""
    hint = (
        "start a kernel with `core/run serve` in the source tree or with `clove_kernel`,"
        " or name the socket of one that runs by CLOVE_SOCKET or CloveClient(path)"
    )
    if error.errno == errno.ENOENT:
        return KernelNotFound(errno.ENOENT, f"there is no such socket; {hint}", path)
    if error.errno == errno.ECONNREFUSED:
        return KernelRefused(errno.ECONNREFUSED, f"no kernel listens on this socket; {hint}", path)
    if error.errno == errno.EACCES:
        hint = "the kernel there is not open to you (--socket-mode); ask who runs it, or run one of your own"
    return ConnectionError(error.errno, f"cannot connect to a kernel ({error.strerror}); {hint}", path)
