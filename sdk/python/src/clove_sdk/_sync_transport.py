# SPDX-License-Identifier: MIT
"""Blocking socket, shared by threads.

There is no thread of its own: of the threads that wait for an answer, one at a time reads (the reader) and
completes the requests of all; the others sleep. A reader that has its own answer hands over to
another waiter. Alone, a thread sends once, reads once and sleeps on nothing but the socket.

While a frame does not fit the socket, its sender reads too: the kernel stops taking requests from a
client that does not take its answers.

A signal handler may raise at any point. Between two frames that only abandons the caller's request; where
it could have lost bytes of the stream, the connection is given up.
"""

from __future__ import annotations

import copy
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from time import monotonic

from . import _discovery
from ._discovery import Endpoint
from ._door import Knock
from ._errors_base import CloveError, ConnectionError, ConnectionLost, TimeoutError
from ._pending import Pending, Stream, Table
from ._protocol import Chunk, Connection, ErrorReply, Reply

Mutex = threading.Lock
Request = Pending[threading.Event]
StreamRequest = Stream[threading.Event]

_TIMEVAL = struct.Struct("ll")
_FOREVER = 365 * 86400.0
# recv(2)'s timeout is set anew only when the one in force is this much longer than wanted.
_TIMEOUT_SLACK = 0.01
# A sender that is not the reader sees in this time that there is none any more.
_LOOK_AGAIN = 0.05
_DONT_WAIT = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

_shared: dict[int, SyncTransport] = {}


class SyncTransport:
    """One connection to the kernel, usable from any thread of the process that opened it."""

    def __init__(self, sock: socket.socket, shared: bool) -> None:
        sock.setblocking(True)
        self._pid = os.getpid()
        self._sock = sock
        self._shared = shared
        self._recv_timeout = _FOREVER
        self._inbox: deque[bytes] = deque()  # received, not yet fed
        self._send_lock = threading.Lock()  # _out, and whole frames on the socket
        self._out = bytearray()  # the rest of frames that were begun
        self._owed: deque[bytes] = deque()  # CANCEL frames, to be sent when possible
        self._lock = threading.Lock()  # all below
        self._table: Table[threading.Event] = Table()
        self._reading = False
        self._lost: CloveError | None = None

    @classmethod
    def open(cls, endpoint: Endpoint, timeout: float | None) -> SyncTransport:
        """Connects, or joins the process's connection on CLOVE_FD. ConnectionError, TimeoutError, Busy."""
        if endpoint.in_agent:
            return cls._inherited(endpoint, timeout)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A socket in Python's timeout mode would not wait for room in the listener's backlog.
            _set_timeout(sock, socket.SO_SNDTIMEO, timeout or 0)
            sock.connect(endpoint.path)
            _discovery.check_peer(endpoint, sock)
        except BlockingIOError:
            sock.close()
            raise TimeoutError(f"{endpoint.path} did not accept within {timeout} s") from None
        except CloveError:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            raise _discovery.connect_error(endpoint.path, error) from None
        return cls(sock, shared=False)

    @classmethod
    def _inherited(cls, endpoint: Endpoint, timeout: float | None) -> SyncTransport:
        fd, door = endpoint.fd, endpoint.door
        if fd is None or not _discovery.claim(endpoint, "sync"):
            assert door is not None
            return cls(_through(door, timeout), shared=False)
        known = _shared.get(fd)
        if known is None:
            sock = _discovery.duplicate(fd)
            # One step, so that of several threads only one gets to read the stream.
            known = _shared.setdefault(fd, cls(sock, shared=True))
            if known._sock is not sock:
                sock.close()
        if known._lost and door is not None:
            return cls(_through(door, timeout), shared=False)
        if known._lost:
            raise copy.copy(known._lost)
        return known

    @property
    def usable(self) -> bool:
        return self._lost is None and self._pid == os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this is a copy in a forked child, whose socket belongs to the parent."""
        return self._pid != os.getpid()

    @property
    def connection(self) -> Connection:
        return self._table.connection

    def send(
        self,
        op: int,
        args: Sequence[object],
        timeout: float | None,
        deadline_ms: int | None = None,
        kind: type[Request] = Pending,
    ) -> Request:
        """Sends a request; wait() or poll() collects its answer. TimeoutError, ConnectionLost."""
        deadline = monotonic() + (_FOREVER if timeout is None else timeout)
        if not self._send_lock.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError(f"the requests of other threads took the {timeout} s")
        pending: Request | None = None
        try:
            if self._out:
                self._flush(deadline)
            with self._lock:
                if self._lost:
                    raise copy.copy(self._lost)
                request_id, frame = self._table.connection.request(op, args, deadline_ms)
                pending = self._table.waiting[request_id] = kind(request_id)
            self._begin(frame)
            if self._out:
                self._flush(deadline)
        except BaseException:
            self._send_lock.release()
            if pending:
                self.abandon(pending)
            raise
        self._send_lock.release()
        if self._owed:
            self._send_owed()
        return pending

    def wait(self, pending: Request, timeout: float | None) -> Reply | ErrorReply:
        """The answer. On timeout (seconds, None for ever), or interrupted, the request is abandoned."""
        left = _FOREVER if timeout is None else timeout
        deadline = monotonic() + left
        reader = False
        try:
            while not pending.done:
                if left <= 0:
                    raise TimeoutError(f"no answer within {timeout} s")
                with self._lock:
                    if pending.done:
                        break
                    if not self._reading:
                        reader = self._reading = True
                    elif pending.wake is None:
                        pending.wake = threading.Event()
                if reader:
                    self._read(pending, left, deadline)
                elif pending.wake:
                    pending.wake.wait(left)
                    pending.wake.clear()
                left = deadline - monotonic()
        except BaseException:
            self.abandon(pending)
            raise
        finally:
            # One who was to become the reader and leaves instead must pass that on as well.
            if reader or pending.wake:
                self._hand_over(reader)
        return pending.take()

    def next(
        self, stream: StreamRequest, timeout: float | None
    ) -> Chunk | Reply | ErrorReply | None:
        """The next of a stream; None when there is none within timeout seconds, or it has overflowed."""
        left = _FOREVER if timeout is None else timeout
        deadline = monotonic() + left
        reader = False
        if left <= 0 and not stream.ready:
            self.poll()
        try:
            while not stream.ready and left > 0:
                with self._lock:
                    if stream.ready:
                        break
                    if not self._reading:
                        reader = self._reading = True
                    elif stream.wake is None:
                        stream.wake = threading.Event()
                if reader:
                    self._read(stream, left, deadline)
                elif stream.wake:
                    stream.wake.wait(left)
                    stream.wake.clear()
                left = deadline - monotonic()
        finally:
            with self._lock:
                # Nobody sleeps on it until the next time: it must not be chosen to read.
                woken, stream.wake = stream.wake, None
            if reader or woken:
                self._hand_over(reader)
        with self._lock:
            return stream.take_next()

    def poll(self) -> None:
        """Takes in what has arrived, without waiting."""
        with self._lock:
            if self._reading or self._lost:
                return
            self._reading = True
        try:
            while self._receive(socket.MSG_DONTWAIT):
                pass
        finally:
            self._hand_over(True)

    def abandon(self, pending: Request) -> None:
        """Forgets a request and tells the kernel so; its late answer is discarded. Does not wait."""
        with self._lock:
            frame = self._table.abandon(pending)
            if frame is None:
                return
            self._owed.append(frame)
            # One that reads itself is woken by the answer to this.
            if pending.wake:
                pending.wake.set()
        self._send_owed()

    def close(self) -> None:
        """Ends the connection and every wait on it. A shared connection stays."""
        if self._shared:
            return
        if not self.forked:
            self._fail(ConnectionError("disconnected"))
        self._sock.close()

    def _begin(self, frame: bytes) -> None:
        """Sends what the socket takes at once of a frame; the rest is in _out."""
        known = False
        try:
            sent = self._try_send(frame)
            if sent < len(frame):
                self._out += memoryview(frame)[sent:]
            known = True
        finally:
            if not known:
                self._fail(ConnectionLost("interrupted while sending"))

    def _flush(self, deadline: float) -> None:
        """Sends _out, and reads meanwhile unless another thread does."""
        poll = select.poll()
        while True:
            rest, self._out = bytes(self._out), bytearray()
            self._begin(rest)
            if not self._out:
                return
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError("the kernel takes no requests")
            with self._lock:
                reader = not self._reading
                self._reading = True
            try:
                poll.register(self._sock, select.POLLOUT | (select.POLLIN if reader else 0))
                ready = poll.poll(min(left, 3600 if reader else _LOOK_AGAIN) * 1000)
                if reader and any(events & select.POLLIN for _, events in ready):
                    self._receive(socket.MSG_DONTWAIT)
            finally:
                if reader:
                    self._hand_over(True)

    def _send_owed(self) -> None:
        # Whoever holds the lock looks for owed frames after releasing it, so none stays behind.
        while self._owed and not self._lost and self._send_lock.acquire(blocking=False):
            try:
                while self._owed:
                    self._out += self._owed.popleft()
                rest, self._out = bytes(self._out), bytearray()
                self._begin(rest)
            except CloveError:
                return
            finally:
                self._send_lock.release()

    def _try_send(self, data: bytes) -> int:
        try:
            return self._sock.send(data, _DONT_WAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            lost = ConnectionLost(f"the connection to the kernel is lost: {error.strerror}")
            # An error frame that says why may be waiting to be read.
            self.poll()
            self._fail(lost)
            raise copy.copy(self._lost or lost) from None

    def _read(self, pending: Request, left: float, deadline: float) -> None:
        """As the reader: takes in answers until this one has come, or the deadline."""
        woken_early = False
        while not pending.ready and left > 0:
            if woken_early or self._recv_timeout > left + _TIMEOUT_SLACK:
                _set_timeout(self._sock, socket.SO_RCVTIMEO, left)
                self._recv_timeout = left
            woken_early = not self._receive(0)
            left = deadline - monotonic()

    def _receive(self, flags: int) -> bool:
        """As the reader: one read. False when there was nothing, or no more to come."""
        try:
            if not self._inbox:
                # All in C: a signal's exception comes before the read, or when the bytes are safe.
                size = self._table.connection.recv_bytes
                self._inbox.extend(map(self._sock.recv, (size,), (flags,)))
        except BlockingIOError:
            return False
        except OSError as error:
            self._fail(ConnectionLost(f"the connection to the kernel is lost: {error.strerror}"))
            return False
        known = False
        try:
            data = self._inbox.popleft()
            with self._lock:
                for done in self._table.feed(data):
                    if done.wake:
                        done.wake.set()
            known = True
        finally:
            if not known:
                self._fail(ConnectionLost("interrupted while receiving"))
        if self._table.connection.broken:
            self._fail(self._table.connection.broken)
        elif not data:
            self._fail(self._table.end_of_stream())
        return self._lost is None

    def _hand_over(self, reader: bool) -> None:
        """The reader stops, or one who could have become it leaves: wakes another waiter to be it."""
        with self._lock:
            if reader:
                self._reading = False
            if not self._reading:
                for pending in self._table.waiting.values():
                    if pending.wake:
                        pending.wake.set()
                        return

    def _fail(self, error: CloveError) -> None:
        """The connection is of no use from here on; the first reason counts."""
        with self._lock:
            if self._lost:
                return
            self._lost = error
            for pending in self._table.fail(error):
                if pending.wake:
                    pending.wake.set()
        try:
            # Not close(): a reader may be in recv(2), and the descriptor's number must stay ours till then.
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def _through(door: int, timeout: float | None) -> socket.socket:
    """A connection of one's own by the door of the agent."""
    deadline = monotonic() + (_FOREVER if timeout is None else timeout)
    knock = Knock(door)
    try:
        while not knock.send():
            _await(knock.door, select.POLLOUT, deadline)
        while not (sock := knock.receive()):
            _await(knock.answer, select.POLLIN, deadline)
        return sock
    finally:
        knock.close()


def _await(sock: socket.socket, events: int, deadline: float) -> None:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("the door of the agent did not answer in time")
    poll = select.poll()
    poll.register(sock, events)
    poll.poll(min(left, 3600) * 1000)


def _set_timeout(sock: socket.socket, option: int, seconds: float) -> None:
    """Of the socket itself: unlike Python's, it costs no further system call a read. 0 is none."""
    whole, part = divmod(seconds, 1)
    micros = int(part * 1e6)
    # All zero would mean none.
    sock.setsockopt(
        socket.SOL_SOCKET, option, _TIMEVAL.pack(int(whole), micros or int(0 < seconds < 1))
    )
