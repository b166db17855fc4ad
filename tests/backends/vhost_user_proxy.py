# SPDX-License-Identifier: GPL-2.0-or-later
"""A vhost-user backend made of a real one and a man in the middle.

QEMU connects to the proxy, the proxy to the real backend.  Messages and their
file descriptors pass unchanged unless a hook changes them or ends the
connection, so a test can be any kind of difficult backend and still store
data.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

GET_FEATURES, SET_FEATURES = 1, 2
SET_VRING_NUM, GET_VRING_BASE, SET_VRING_KICK = 8, 11, 12
GET_PROTOCOL_FEATURES = 15
GET_CONFIG = 24
F_VERSION_1 = 1 << 32

_HEADER = struct.Struct("<III")
_REPLY = 0x4
_MAX_FDS = 16


class Cut(Exception):
    """Raised by a hook: close the connection here."""


@dataclass
class Message:
    """One message on its way."""

    request: int
    flags: int
    payload: bytes
    fds: list[int] = field(default_factory=list)
    connection: int = 0             # counts QEMU's connections, from 0
    index: int = 0                  # counts QEMU's messages on it, from 0

    @property
    def is_reply(self) -> bool:
        return bool(self.flags & _REPLY)

    def u64(self) -> int:
        return int(struct.unpack("<Q", self.payload[:8])[0])

    def set_u64(self, value: int) -> None:
        self.payload = struct.pack("<Q", value)


Hook = Callable[[Message], None]


def _receive(peer: socket.socket) -> Message | None:
    """The next whole message; None when the other side has gone."""
    fds = array.array("i")
    room = socket.CMSG_LEN(_MAX_FDS * fds.itemsize)
    head, ancillary, _, _ = peer.recvmsg(_HEADER.size, room,
                                         socket.MSG_WAITALL)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
    if len(head) < _HEADER.size:
        return None
    request, flags, size = _HEADER.unpack(head)
    payload = b""
    while len(payload) < size:
        part = peer.recv(size - len(payload))
        if not part:
            return None
        payload += part
    return Message(request, flags, payload, list(fds))


def _send(peer: socket.socket, message: Message) -> None:
    data = _HEADER.pack(message.request, message.flags,
                        len(message.payload)) + message.payload
    rights = []
    if message.fds:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                   array.array("i", message.fds))]
    sent = peer.sendmsg([data], rights)
    if sent < len(data):
        peer.sendall(data[sent:])


class Proxy:
    """Listens on @path; every connection gets one to @backend."""

    def __init__(self, path: Path, backend: Path,
                 on_request: Hook | None = None,
                 on_reply: Hook | None = None) -> None:
        self.path = path
        self.connections = 0
        self.messages = 0               # of QEMU, on the present connection
        self._backend = backend
        self._hooks = (on_request, on_reply)
        self._pair: list[socket.socket] = []
        self._closed = False
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.disconnect()

    def disconnect(self) -> None:
        """Cut the present connection on both sides."""
        for end in self._pair:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self) -> None:
        while not self._closed:
            try:
                front, _ = self._listener.accept()
            except OSError:
                return
            self._serve(front)

    def _serve(self, front: socket.socket) -> None:
        back = socket.socket(socket.AF_UNIX)
        try:
            back.connect(str(self._backend))
        except OSError:
            front.close()
            back.close()
            return
        number = self.connections
        self.connections += 1
        self.messages = 0
        self._pair = [front, back]
        threads = [
            threading.Thread(target=self._pump, daemon=True,
                             args=(front, back, self._hooks[0], number, True)),
            threading.Thread(target=self._pump, daemon=True,
                             args=(back, front, self._hooks[1], number,
                                   False))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        front.close()
        back.close()

    def _pump(self, source: socket.socket, sink: socket.socket,
              hook: Hook | None, number: int, from_qemu: bool) -> None:
        message = None
        try:
            while (message := _receive(source)) is not None:
                message.connection = number
                message.index = self.messages
                if from_qemu:
                    self.messages += 1
                if hook is not None:
                    hook(message)
                _send(sink, message)
                self._close_fds(message)
        except (Cut, OSError):
            pass
        if message is not None:
            self._close_fds(message)
        self.disconnect()

    @staticmethod
    def _close_fds(message: Message) -> None:
        while message.fds:
            os.close(message.fds.pop())


def cut_at(index: int, connections: Callable[[int], bool]) -> Hook:
    """Close instead of passing QEMU's message number @index on."""
    def hook(message: Message) -> None:
        if message.index == index and connections(message.connection):
            raise Cut
    return hook


def hide_feature(bit: int) -> tuple[Hook, Hook]:
    """The backend seems not to have @bit, whatever QEMU then asks for."""
    def request(message: Message) -> None:
        if message.request == SET_FEATURES:
            message.set_u64(message.u64() | bit)

    def reply(message: Message) -> None:
        if message.request == GET_FEATURES and message.is_reply:
            message.set_u64(message.u64() & ~bit)
    return request, reply


def refuse_rings(longest: int, seen: list[int]) -> Hook:
    """Hang up on rings that are longer; note the lengths that were asked."""
    def request(message: Message) -> None:
        if message.request == SET_VRING_NUM:
            seen.append(struct.unpack("<II", message.payload)[1])
            if seen[-1] > longest:
                raise Cut
    return request


# Configuration of a block device: seg_max lies behind capacity and size_max.
_SEG_MAX_OFFSET = 12
_CONFIG_HEADER = 12


def offer_segments(count: int) -> Hook:
    """The block backend says that it takes @count segments a request."""
    def reply(message: Message) -> None:
        if message.request != GET_CONFIG or not message.is_reply:
            return
        offset, size = struct.unpack("<II", message.payload[:8])
        at = _CONFIG_HEADER + _SEG_MAX_OFFSET - offset
        if at >= _CONFIG_HEADER and at + 4 <= _CONFIG_HEADER + size:
            data = bytearray(message.payload)
            data[at:at + 4] = struct.pack("<I", count)
            message.payload = bytes(data)
    return reply
