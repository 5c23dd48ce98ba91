# SPDX-License-Identifier: MIT
"""The door of an agent: how its processes get connections of their own; see ipc/WIRE.md.

Nothing here waits: the transports do, with threads or with asyncio.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from ._errors_base import ConnectionError, ConnectionLost
from ._wire_errors import Busy

# Op, error, reserved; the host's byte order.
_HEAD = struct.Struct("=IiQ")
_DESCRIPTOR = struct.Struct("=i")
_OP = 64
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Knock:
    """One request for a connection. To be closed, whatever came of it."""

    def __init__(self, fd: int) -> None:
        """fd: of the door. ConnectionError when it is none."""
        self._fd = fd
        try:
            self.door = socket.socket(fileno=os.dup(fd))
        except OSError as error:
            raise _no_door(fd, error.strerror) from None
        if (self.door.family, self.door.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            self.door.close()
            raise _no_door(fd, "another kind of socket")
        try:
            # answer: readable when there is one.
            self.answer, self._passed = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            self.door.close()
            raise ConnectionError(f"no descriptors for another connection ({error.strerror})") from None

    def send(self) -> bool:
        """Whether the request is on its way; otherwise there was no room: door becomes writable then."""
        try:
            # Not send_fds() and recv_fds(): before Python 3.13 they forget the flags.
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.pack(self._passed.fileno()))
            self.door.sendmsg([_HEAD.pack(_OP, 0, 0)], [rights], _FLAGS)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                raise ConnectionLost("the agent is being ended: its door is closed") from None
            if error.errno in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
                raise Busy(f"the agent cannot ask for another connection now ({error.strerror}); try again") from None
            raise _no_door(self._fd, error.strerror) from None
        # The last copy goes with whoever got it, so that an answer that never comes shows as the end.
        self._passed.close()
        return True

    def receive(self) -> socket.socket | None:
        """The connection; None: not yet. Busy, ConnectionError."""
        try:
            flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            room = socket.CMSG_LEN(_DESCRIPTOR.size)
            data, rights, _, _ = self.answer.recvmsg(_HEAD.size, room, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ConnectionLost(f"no answer from the door of the agent: {error.strerror}") from None
        if not data:
            raise ConnectionLost("the agent's door was closed before it answered; try again, unless the agent ends")
        code = _HEAD.unpack(data)[1] if len(data) == _HEAD.size else errno.EBADMSG
        if code == errno.EAGAIN:
            raise Busy("the agent asks for more connections than the kernel takes at once; try again")
        if code:
            raise ConnectionError(f"the agent got no further connection ({os.strerror(code)})")
        if not rights:
            raise ConnectionError("no descriptors for another connection")
        return socket.socket(fileno=_DESCRIPTOR.unpack(rights[0][2])[0])

    def close(self) -> None:
        for each in (self.door, self.answer, self._passed):
            each.close()


def _no_door(fd: int, reason: str | None) -> ConnectionError:
    return ConnectionError(
        f"CLOVE_DOOR={fd} is no door of an agent ({reason}); a child of an agent gets connections only if it is"
        f" passed on: pass_fds=[{fd}] of subprocess, or multiprocessing by fork"
    )
