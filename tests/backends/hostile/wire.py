# SPDX-License-Identifier: GPL-2.0-or-later
"""vhost-user on the socket: numbers, messages, and how they are sent.

Nothing here blocks: a backend that waits for QEMU cannot be hostile to it at
the same time.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from dataclasses import dataclass, field

HEADER = struct.Struct("<III")
VERSION, REPLY, NEED_REPLY = 0x1, 0x4, 0x8
MAX_FDS = 253                       # what Linux takes with one message

# What QEMU asks.
REQUESTS = {
    1: "GET_FEATURES", 2: "SET_FEATURES", 3: "SET_OWNER", 4: "RESET_OWNER",
    5: "SET_MEM_TABLE", 6: "SET_LOG_BASE", 7: "SET_LOG_FD",
    8: "SET_VRING_NUM", 9: "SET_VRING_ADDR", 10: "SET_VRING_BASE",
    11: "GET_VRING_BASE", 12: "SET_VRING_KICK", 13: "SET_VRING_CALL",
    14: "SET_VRING_ERR", 15: "GET_PROTOCOL_FEATURES",
    16: "SET_PROTOCOL_FEATURES", 17: "GET_QUEUE_NUM",
    18: "SET_VRING_ENABLE", 19: "SEND_RARP", 20: "NET_SET_MTU",
    21: "SET_BACKEND_REQ_FD", 22: "IOTLB_MSG", 23: "SET_VRING_ENDIAN",
    24: "GET_CONFIG", 25: "SET_CONFIG", 31: "GET_INFLIGHT_FD",
    32: "SET_INFLIGHT_FD", 34: "RESET_DEVICE", 36: "GET_MAX_MEM_SLOTS",
    37: "ADD_MEM_REG", 38: "REM_MEM_REG", 39: "SET_STATUS",
    40: "GET_STATUS", 41: "GET_SHARED_OBJECT", 42: "SET_DEVICE_STATE_FD",
    43: "CHECK_DEVICE_STATE",
}
NUMBERS = {name: number for number, name in REQUESTS.items()}

# What a backend asks on its channel.
CHANNEL = {"IOTLB": 1, "CONFIG_CHANGE": 2, "HOST_NOTIFIER": 3,
           "VRING_CALL": 4, "VRING_ERR": 5, "SHARED_ADD": 6,
           "SHARED_REMOVE": 7, "SHARED_LOOKUP": 8, "UNKNOWN": 77}

# Protocol features.
P_MQ, P_REPLY_ACK, P_BACKEND_REQ, P_CONFIG = 0, 3, 5, 9
P_RESET_DEVICE, P_STATUS, P_DEVICE_STATE = 13, 16, 19
# Features of rings and transport.
F_INDIRECT, F_EVENT_IDX, F_PROTOCOL, F_VERSION_1, F_PACKED = \
    28, 29, 30, 32, 34


def bits(*numbers: int) -> int:
    return sum(1 << n for n in numbers)


@dataclass
class Message:
    """One request of QEMU."""

    request: int
    flags: int
    payload: bytes
    fds: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return REQUESTS.get(self.request, str(self.request))

    def u64(self) -> int:
        return int.from_bytes(self.payload[:8], "little")

    def state(self) -> tuple[int, int]:
        """Index and number of a vring."""
        return struct.unpack("<II", self.payload[:8])

    def take_fd(self) -> int:
        return self.fds.pop(0) if self.fds else -1

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


def packet(request: int, payload: bytes = b"",
           flags: int = VERSION | REPLY, size: int | None = None) -> bytes:
    """The bytes of a message; @size is what it says of itself."""
    return HEADER.pack(request, flags,
                       len(payload) if size is None else size) + payload


def send(sock: socket.socket, data: bytes, fds: list[int] | None = None,
         ) -> int:
    """As much of @data as the socket takes now; how much that was."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
               array.array("i", fds))] if fds else []
    try:
        return sock.sendmsg([data], rights, socket.MSG_DONTWAIT |
                            socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return 0


class Reader:
    """One message after the other, as it arrives.

    Never reads beyond the present message: descriptors come with the first
    byte of theirs, and nothing else says whose they are.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = b""
        self._fds: list[int] = []

    def _missing(self) -> int:
        if len(self._data) < HEADER.size:
            return HEADER.size - len(self._data)
        return HEADER.size + HEADER.unpack_from(self._data)[2] - \
            len(self._data)

    def next(self) -> Message | None:
        """None if it has not come whole; EOFError at the end."""
        while missing := self._missing():
            try:
                data, ancillary, _, _ = self._sock.recvmsg(
                    missing, socket.CMSG_SPACE(MAX_FDS * 4),
                    socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            for level, kind, rights in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds = array.array("i")
                    fds.frombytes(rights[:len(rights) - len(rights) % 4])
                    self._fds += fds
            if not data:
                raise EOFError
            self._data += data
        request, flags, _ = HEADER.unpack_from(self._data)
        message = Message(request, flags, self._data[HEADER.size:], self._fds)
        self._data, self._fds = b"", []
        return message

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())
