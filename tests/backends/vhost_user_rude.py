# SPDX-License-Identifier: GPL-2.0-or-later
"""A vhost-user backend that moves no data and is rude on purpose.

It answers what QEMU asks before a device starts.  Then it does what a backend
should not: it says that its configuration changed while nobody uses it, or
closes the socket when it is told to, or comes back again and again.
"""

from __future__ import annotations

import array
import socket
import struct
import threading
import time
from pathlib import Path

GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM = 1, 15, 17
SET_BACKEND_REQ_FD, GET_CONFIG = 21, 24
CONFIG_CHANGE = 2
F_VERSION_1, F_PROTOCOL_FEATURES = 1 << 32, 1 << 30
# Multiqueue, reply-ack, backend channel, configuration.
PROTOCOL_FEATURES = 1 << 0 | 1 << 3 | 1 << 5 | 1 << 9
NEED_REPLY, REPLY_FLAGS = 0x8, 0x5
NUM_QUEUES = 4
_HEADER = struct.Struct("<III")


class RudeBackend:
    """Listens on @path from the start; one connection at a time."""

    def __init__(self, path: Path, *, changes: int = 0) -> None:
        self.path = path
        self.sent_changes = 0
        self.answered = 0
        self._changes = changes
        self._listener: socket.socket | None = None
        self._connection: socket.socket | None = None
        self._channel: socket.socket | None = None
        self._listen()
        self._start()

    def _listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(1)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the connection now, and listen no more."""
        for sock in (self._listener, self._connection):
            if sock:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()
        self._thread.join(10)
        self._end_channel()
        if self._listener:
            self.path.unlink(missing_ok=True)

    def _end_channel(self) -> None:
        if self._channel:
            self._channel.close()
            self._channel = None

    def _serve(self) -> None:
        assert self._listener
        try:
            while True:
                self._connection = self._listener.accept()[0]
                while self._handle(self._connection):
                    pass
        except OSError:
            return

    def _handle(self, conn: socket.socket) -> bool:
        header, ancillary, _, _ = conn.recvmsg(_HEADER.size, 4096)
        if len(header) < _HEADER.size:
            return False
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
        request, flags, size = _HEADER.unpack(header)
        payload = conn.recv(size, socket.MSG_WAITALL) if size else b""
        answer = self._answer(request, payload)
        if request == SET_BACKEND_REQ_FD:
            self._end_channel()
            self._channel = socket.socket(fileno=fds[0])
        if answer is None and flags & NEED_REPLY:
            answer = struct.pack("<Q", 0)
        if answer is not None:
            conn.sendall(_HEADER.pack(request, REPLY_FLAGS, len(answer)) +
                         answer)
            self.answered += 1
        if request == SET_BACKEND_REQ_FD:
            self._send_changes()
        return True

    @staticmethod
    def _answer(request: int, payload: bytes) -> bytes | None:
        numbers = {GET_FEATURES: F_VERSION_1 | F_PROTOCOL_FEATURES,
                   GET_PROTOCOL_FEATURES: PROTOCOL_FEATURES,
                   GET_QUEUE_NUM: NUM_QUEUES}
        if request in numbers:
            return struct.pack("<Q", numbers[request])
        return payload if request == GET_CONFIG else None

    def _send_changes(self) -> None:
        for _ in range(self._changes):
            assert self._channel
            self._channel.sendall(_HEADER.pack(CONFIG_CHANGE, 1, 0))
            self.sent_changes += 1


class KnockingBackend(RudeBackend):
    """Connects to @path, as soon as somebody listens there."""

    def _reach(self) -> socket.socket:
        conn = socket.socket(socket.AF_UNIX)
        while True:
            try:
                conn.connect(str(self.path))
                return conn
            except OSError:
                time.sleep(0.01)

    def _listen(self) -> None:
        pass

    def _serve(self) -> None:
        try:
            self._connection = self._reach()
            while self._handle(self._connection):
                pass
        except OSError:
            return

    def knock(self, times: int) -> None:
        """End the connection, make @times more that end at once, then stay."""
        self.close()
        for _ in range(times):
            self._reach().close()
        self.answered = 0
        self._start()
