# SPDX-License-Identifier: GPL-2.0-or-later
"""A file over TCP: from the host into the guest and back.

Two backends bring the guest's connections to the host's own loopback: passt,
which is a vhost-user-net backend itself, and vhost-user-bridge, whose frames
another QEMU gives to its user network.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
from pathlib import Path
from typing import Any

from harness import QEMU, QEMU_BUILD, HarnessError, guest, wait_until
from net_guest import Console, add_interface

BRIDGE = QEMU_BUILD / "tests/vhost-user-bridge"
CHUNK = 1 << 18
PASST_HOST = "10.77.0.2"
PASST_GUEST = "10.77.0.15"
PASST_MTU = 65520

# Last both ways at once.
TRANSFER = """
ip addr add {guest}/24 dev eth0 &&
wget -q -O /tmp/down http://{host}:{port}/ &&
sha256sum < /tmp/down &&
nc {host} {sink} < /tmp/down &&
{{ nc {host} {sink} < /tmp/down & }} &&
wget -q -O /tmp/again http://{host}:{port}/ && wait $! &&
cmp /tmp/down /tmp/again
""".strip().replace("\n", " ")


class FileServer:
    """Gives @content by HTTP at one port, takes what comes at the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._threads: list[threading.Thread] = []
        self._give = socket.create_server(("127.0.0.1", 0))
        self._take = socket.create_server(("127.0.0.1", 0))
        self.received: list[str] = []
        for server, body in ((self._give, self._send),
                             (self._take, self._receive)):
            threading.Thread(target=self._serve, args=[server, body],
                             daemon=True).start()

    @property
    def port(self) -> int:
        return self._give.getsockname()[1]

    @property
    def sink(self) -> int:
        return self._take.getsockname()[1]

    @staticmethod
    def _serve(server: socket.socket, body: Any) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:          # closed
                return
            with client:
                try:
                    body(client)
                except OSError:
                    pass             # the guest says what it got

    def _send(self, client: socket.socket) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            more = client.recv(CHUNK)
            if not more:
                return
            asked += more
        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" %
                       len(self._content) + self._content)

    def _receive(self, client: socket.socket) -> None:
        digest = hashlib.sha256()
        while data := client.recv(CHUNK):
            digest.update(data)
        self.received.append(digest.hexdigest())

    def close(self) -> None:
        for server in (self._give, self._take):
            server.shutdown(socket.SHUT_RDWR)
            server.close()


def _run(run: Any, cell: Any, path: Path, host: str, address: str,
         mtu: int) -> None:
    run.megabytes = 512              # the file is there twice
    vm = run.make_cell_vm(cell)
    packed = "on" if run.guest_ring(cell) == "packed" else "off"
    add_interface(vm, path, 0, netdev=run.netdev_props(vm, cell),
                  device=f",packed={packed}")
    console = Console(vm, 1, mtu, cell.kernel)
    carry(run, console, cell.row.options.get("megabytes", 100), host, address)


def carry(run: Any, console: Console, megabytes: int, host: str,
          address: str) -> None:
    """Boot a guest, send a file both ways, let it power off."""
    content = os.urandom(megabytes << 20)
    digest = hashlib.sha256(content).hexdigest()
    server = FileServer(content)
    run.addCleanup(server.close)
    run.addCleanup(console.close)
    console.launch()
    said = console.run(TRANSFER.format(
        guest=address, host=host, port=server.port, sink=server.sink), 200)
    run.assertEqual(re.findall(r"^(\w{64}) ", said, re.MULTILINE), [digest],
                    "what came into the guest")
    wait_until(lambda: len(server.received) == 2, 20, "both uploads")
    run.assertEqual(server.received, [digest] * 2, "what the guest sent")
    console.end()


def passt_command() -> list[str]:
    """Debian 13's, for a guest that is PASST_GUEST."""
    command = [*guest.program("passt"), "--ipv4-only", "--interface", "lo",
               "--address", PASST_GUEST, "--netmask", "24", "--gateway",
               PASST_HOST, "--dns", "none", "--tcp-ports", "none",
               "--udp-ports", "none"]
    if os.geteuid() == 0:
        command += ["--runas", "0"]
    return command


def passt(run: Any, cell: Any) -> None:
    """One that was started beforehand."""
    backend = run.start_program([*passt_command(), "--vhost-user",
                                 "--foreground", "--socket", "{socket}"])
    _run(run, cell, backend.socket, PASST_HOST, PASST_GUEST, PASST_MTU)


def start_bridge(run: Any, options: str = "") -> Any:
    """QEMU's test program, and a second QEMU with a user network."""
    if not BRIDGE.exists():
        raise HarnessError(f"{BRIDGE} was not built")
    here, there = _free_udp_ports()
    backend = run.start_program([
        str(BRIDGE), "-u", "{socket}", "-l", f"127.0.0.1:{here}",
        "-r", f"127.0.0.1:{there}"])
    run.start_program([
        str(QEMU), "-machine", "none", "-display", "none", "-nodefaults",
        "-netdev", f"socket,id=wire,udp=127.0.0.1:{here},"
        f"localaddr=127.0.0.1:{there}",
        "-netdev", "hubport,id=wire0,hubid=0,netdev=wire",
        "-netdev", f"user,id=out{options}",
        "-netdev", "hubport,id=out0,hubid=0,netdev=out",
        "-qmp", "unix:{socket},server=on,wait=off"], "network")
    return backend


def bridge(run: Any, cell: Any) -> None:
    """A guest on that network."""
    backend = start_bridge(run)
    _run(run, cell, backend.socket, "10.0.2.2", "10.0.2.15", 1500)


def _free_udp_ports() -> tuple[int, int]:
    """Two, and not one of them twice."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
