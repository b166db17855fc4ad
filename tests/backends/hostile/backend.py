# SPDX-License-Identifier: GPL-2.0-or-later
"""The honest part of the hostile backend, with places for moves.

One thread and one poll() serve the socket, the kicks and the control pipe.
A Behaviour is asked at each place where a backend can misbehave; the one of
this file says yes to everything, and that is an honest backend.

Control, a line each way.  In: "phase NAME" (what the test is about to do to
the device), "calm" (be honest from now on, on a new connection), "quit".  Out:
"at NAME" when the move's moment came, "connected N".
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Callable

from .device_fs import Fs
from .device_net import Net
from .devices import HELD, Blk, Device, Scsi
from .memory import Memory, Unmapped
from .rings import Chain, Queue
from .wire import (CHANNEL, F_EVENT_IDX, F_PACKED, F_PROTOCOL, F_VERSION_1,
                   NEED_REPLY, P_BACKEND_REQ, P_CONFIG, P_MQ,
                   P_REPLY_ACK, VERSION, Message, Reader, bits, packet, send)

KINDS: dict[str, Callable[[], Device]] = {
    "blk": Blk, "net": Net, "fs": Fs, "scsi": Scsi}
TICK_MS = 5
_SLICE = 512                        # requests before other things are looked at


class Behaviour:
    """Honest.  Moves override what they do otherwise."""

    phase = ""                      # of the test in which the move happens
    protocol = 0                    # protocol bits offered besides
    features = 0                    # features offered besides
    reads = True                    # whether the socket is read at all
    late = 0.0                      # seconds until it listens
    queues = 16                     # that it says it has

    def message(self, _b: "Backend", _m: Message) -> bool:
        """Before @m is handled; True: it has been."""
        return False

    def reply(self, b: "Backend", m: Message, data: bytes) -> None:
        """@data is the honest reply to @m, header and all."""
        b.say(data)

    def handled(self, _b: "Backend", _m: Message) -> None:
        """After @m was handled."""

    def request(self, b: "Backend", queue: Queue, chain: Chain) -> bool:
        """Before @chain is served; True: it is not."""
        return False

    def go(self, _b: "Backend") -> None:
        """The phase begins."""

    def tick(self, _b: "Backend") -> None:
        """Now and then, during the phase."""

    def connected(self, _b: "Backend") -> bool:
        """A new connection; False: close it at once."""
        return True


class Backend:
    """A device, a listening socket, at most one connection."""

    def __init__(self, path: str, kind: str, packed: bool,
                 behaviour: Behaviour) -> None:
        self.kind, self.device = kind, KINDS[kind]()
        self._packed = packed
        self.behaviour = behaviour
        self.phase = "plug"
        self.memory = Memory()
        self.queues: dict[int, Queue] = {}
        self.acked = 0
        self.sock: socket.socket | None = None
        self.channel: socket.socket | None = None
        self.connections = 0
        self.kept_fds: list[int] = []
        self._reader: Reader | None = None
        self._out = b""
        self._children: list[int] = []
        self._told: set[str] = set()
        self._control = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        time.sleep(behaviour.late)
        self._listener.listen(8)

    # What moves use

    @property
    def armed(self) -> bool:
        return self.behaviour.phase == self.phase

    def tell(self, text: str) -> None:
        """Say a line to the test, once."""
        if text not in self._told:
            self._told.add(text)
            print(text, flush=True)

    def say(self, data: bytes, fds: list[int] | None = None) -> None:
        """Send to QEMU; what it does not take now is sent later."""
        if self.sock is None:
            return
        if self._out:
            self._out += data
            return
        try:
            sent = send(self.sock, data, fds)
        except OSError:
            return self.disconnect()
        self._out = data[sent:]

    def ask(self, name: str, payload: bytes = b"", *, need: bool = False,
            fds: list[int] | None = None) -> bool:
        """A request on the channel; False if it does not go out."""
        data = packet(CHANNEL[name], payload,
                      VERSION | (NEED_REPLY if need else 0))
        return self.ask_raw(data, fds)

    def ask_raw(self, data: bytes, fds: list[int] | None = None) -> bool:
        if self.channel is None:
            return False
        try:
            return send(self.channel, data, fds) == len(data)
        except OSError:
            return False

    def fork(self, work: Callable[[], None]) -> None:
        """@work again and again, in a process of its own."""
        pid = os.fork()
        if pid:
            self._children.append(pid)
            return
        try:
            parent = os.getppid()
            while os.getppid() == parent:
                work()
        except BaseException:       # whatever: it is the child's end
            pass
        os._exit(0)

    def disconnect(self) -> None:
        """The end of this connection, seen from here."""
        self.end_children()
        for queue in self.queues.values():
            queue.close()
        self.queues = {}
        for sock in (self.channel, self.sock):
            if sock:
                sock.close()
        self.sock = self.channel = None
        if self._reader:
            self._reader.close()
        self._out = b""
        while self.kept_fds:
            os.close(self.kept_fds.pop())
        self.memory.close()

    def end_children(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._children = []

    def running(self) -> list[Queue]:
        return [q for q in self.queues.values() if q.ring]

    # The loop

    def run(self) -> None:
        while self._step():
            pass
        self.disconnect()

    def _step(self) -> bool:
        poll = select.poll()
        fds: dict[int, Callable[[], None]] = {}

        def watch(fd: int, what: Callable[[], None],
                  events: int = select.POLLIN) -> None:
            fds[fd] = what
            poll.register(fd, events)

        poll.register(0, select.POLLIN)
        watch(self._listener.fileno(), self._accept)
        if self.sock:
            events = select.POLLOUT if self._out else 0
            if self.behaviour.reads:
                events |= select.POLLIN
            watch(self.sock.fileno(), self._socket_event, events)
        for queue in self.running():
            if queue.kick >= 0:
                watch(queue.kick, lambda q=queue: self._kicked(q))
        for fd, _ in poll.poll(TICK_MS if self.armed else 200):
            if fd == 0:
                if not self._hear():
                    return False
            else:
                fds[fd]()
        if self.armed:
            self._guarded(lambda: self.behaviour.tick(self))
        return True

    def _hear(self) -> bool:
        data = os.read(0, 4096)
        self._control += data
        *lines, self._control = self._control.split(b"\n")
        for line in lines:
            self._obey(line.decode().split())
        return bool(data)

    def _obey(self, words: list[str]) -> None:
        if words[:1] == ["phase"]:
            self.phase = words[1]
            if self.armed:
                self._guarded(lambda: self.behaviour.go(self))
        elif words == ["calm"]:
            self.behaviour = Behaviour()
            self.disconnect()
            print("calm", flush=True)
        elif words == ["quiet"]:
            self.behaviour = Behaviour()
            self.end_children()
            print("quiet", flush=True)
        elif words == ["quit"]:
            self.disconnect()
            sys.exit(0)

    def _guarded(self, work: Callable[[], None]) -> None:
        """A connection that ends under a move is no fault of the move."""
        try:
            work()
        except (OSError, Unmapped, ValueError, struct.error,
                IndexError) as err:
            self.tell(f"note {type(err).__name__}: {err}")

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        self.connections += 1
        if self.sock:
            self.disconnect()
        if not self.behaviour.connected(self):
            sock.close()
            return
        self.tell(f"connected {self.connections}")
        self.sock, self._reader = sock, Reader(sock)

    def _socket_event(self) -> None:
        """What QEMU sent, and room for what was not sent to it."""
        try:
            if self._out and self.sock:
                self._out = self._out[send(self.sock, self._out):]
            while self.behaviour.reads and self._reader and self.sock:
                message = self._reader.next()
                if message is None:
                    return
                self._guarded(lambda m=message: self._handle(m))
                message.close()
        except (EOFError, OSError):
            self.disconnect()

    # Messages

    def _handle(self, m: Message) -> None:
        if self.behaviour.message(self, m):
            return
        answer = self._answer(m)
        if answer is None and m.flags & NEED_REPLY:
            answer = struct.pack("<Q", 0)
        if answer is not None:
            self.behaviour.reply(self, m, packet(m.request, answer))
        if self.sock:
            self.behaviour.handled(self, m)

    def _queue(self, index: int) -> Queue:
        return self.queues.setdefault(index, Queue(index))

    def offered(self) -> int:
        return (self.device.features | bits(F_VERSION_1, F_PROTOCOL) |
                (bits(F_PACKED) if self._packed else 0) |
                self.behaviour.features)

    def protocol(self) -> int:
        # QEMU has a configuration space of its own for the others.
        return (bits(P_MQ, P_REPLY_ACK, P_BACKEND_REQ) |
                (bits(P_CONFIG) if self.kind == "blk" else 0) |
                self.behaviour.protocol)

    def _answer(self, m: Message) -> bytes | None:
        """What the message does; its reply, if it has one."""
        if m.name == "GET_FEATURES":
            return struct.pack("<Q", self.offered())
        if m.name == "GET_PROTOCOL_FEATURES":
            return struct.pack("<Q", self.protocol())
        if m.name == "GET_QUEUE_NUM":
            return struct.pack("<Q", self.behaviour.queues)
        if m.name in ("GET_STATUS", "GET_MAX_MEM_SLOTS",
                      "CHECK_DEVICE_STATE"):
            return struct.pack("<Q", 8 if m.name[4] == "M" else 0)
        if m.name == "SET_DEVICE_STATE_FD":
            self.kept_fds.append(m.take_fd())
            return struct.pack("<Q", 1 << 8)
        if m.name == "GET_CONFIG":
            offset, size = struct.unpack_from("<II", m.payload)
            return m.payload[:12] + bytes(
                self.device.config[offset:offset + size]).ljust(size, b"\0")
        return self._set(m)

    def _set(self, m: Message) -> bytes | None:
        if m.name == "SET_FEATURES":
            self.acked = m.u64()
        elif m.name == "SET_BACKEND_REQ_FD":
            self.channel = socket.socket(fileno=m.take_fd())
        elif m.name == "SET_MEM_TABLE":
            self.memory.set_table(m.payload, m.fds)
        elif m.name.startswith("SET_VRING_") or m.name == "GET_VRING_BASE":
            return self._vring(m)
        return None

    def _vring(self, m: Message) -> bytes | None:
        what = m.name[4:]
        if what in ("VRING_KICK", "VRING_CALL", "VRING_ERR"):
            self._set_fd(m, what)
            return None
        index, number = m.state()
        queue = self._queue(index)
        if m.name == "GET_VRING_BASE":
            return struct.pack("<II", index, queue.stop())
        if what == "VRING_NUM":
            queue.size = number
        elif what == "VRING_BASE":
            queue.base = number
        elif what == "VRING_ENABLE":
            queue.enabled = bool(number)
            self._start(queue)
        elif what == "VRING_ADDR":
            queue.addrs = struct.unpack_from("<QQQ", m.payload, 8)
        return None

    def _set_fd(self, m: Message, what: str) -> None:
        queue = self._queue(m.u64() & 0xff)
        fd = m.take_fd()
        if what == "VRING_KICK":
            queue.close_kick()
            queue.kick = fd
            if fd >= 0:
                os.set_blocking(fd, False)
                self._start(queue)
        elif what == "VRING_CALL":
            if queue.call >= 0:
                os.close(queue.call)
            queue.call = fd
        elif fd >= 0:
            os.close(fd)

    def _start(self, queue: Queue) -> None:
        """With protocol features a ring runs once it is enabled."""
        if queue.kick >= 0 and queue.enabled:
            queue.start(self.memory, bool(self.acked & bits(F_PACKED)),
                        bool(self.acked & bits(F_EVENT_IDX)))

    # Rings

    def _kicked(self, queue: Queue) -> None:
        try:
            os.read(queue.kick, 8)
        except BlockingIOError:
            pass
        self._guarded(lambda: self.serve(queue))
        # What was sent may be answered on the other queue.
        if self.kind == "net" and queue.index == 1 and 0 in self.queues:
            self._guarded(lambda: self._receive(self.queues[0]))

    def serve(self, queue: Queue) -> None:
        if self.kind == "net" and queue.index == 0:
            return self._receive(queue)
        done = False
        for _ in range(_SLICE):
            chain = queue.ring.pop() if queue.ring else None
            if chain is None:
                break
            done |= self._one(queue, chain)
        if done:
            queue.notify()

    def _one(self, queue: Queue, chain: Chain) -> bool:
        if self.behaviour.request(self, queue, chain):
            return False
        length = self.device.serve(queue.index, chain)
        if length == HELD or not queue.ring:
            return False
        queue.ring.complete(chain, length)
        return True

    def _receive(self, queue: Queue) -> None:
        """Buffers are taken when there are frames for them."""
        done = False
        while self.device.frames and queue.ring:
            chain = queue.ring.pop()
            if chain is None:
                break
            done |= self._one(queue, chain)
        if done:
            queue.notify()


def wait_a_little() -> None:
    """For loops that would otherwise starve the two cores of a test."""
    time.sleep(0.0002)

