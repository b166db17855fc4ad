# SPDX-License-Identifier: GPL-2.0-or-later
"""vsock on Debian's vhost-device-vsock: see matrix.py.

The daemon joins each connection of the guest to a socket of the host, on which
an echo listens that changes every byte, as tests/backends/small-vsock does.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from pathlib import Path

import small_load
from device_case import DeviceCase
from harness import debian, guest, socket_folder
from matrix import Cell

# As tests/guest/small-content.h has them.
PORT, TURN = 77, 0x5a
CHUNK = 1 << 16
TURNED = bytes(byte ^ TURN for byte in range(256))


class Echo:
    """Listens on @path, and remembers what came."""

    def __init__(self, path: Path) -> None:
        self.received: list[str] = []
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:              # closed
                return
            threading.Thread(target=self._serve, args=[client],
                             daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        digest = hashlib.sha256()
        with client:
            try:
                while data := client.recv(CHUNK):
                    digest.update(data)
                    client.sendall(data.translate(TURNED))
                self.received.append(digest.hexdigest())
                client.shutdown(socket.SHUT_WR)
            except OSError:              # the guest says what it got
                pass


def vhost_device(run: DeviceCase, cell: Cell) -> None:
    try:
        command = guest.program("vhost-device-vsock")
    except debian.PackageError as err:
        run.need(f"Debian's archive has no vhost-device-vsock: {err}")
    small_load.build_ops()
    path = socket_folder(run.work) / "vm.vsock"
    echo = Echo(path.with_name(f"{path.name}_{PORT}"))
    run.addCleanup(echo.close)
    backend = run.start_program([
        *command, f"--guest-cid={small_load.CID}", "--socket={socket}",
        f"--uds-path={path}"])
    # It ends a connection as soon as one of its ends sends no more.
    script = small_load.VSOCK.replace("small-ops vsock ",
                                      "small-ops vsock-whole ")
    said = small_load._run(run, cell, backend, script)
    sent = re.findall(r"^SENT (\w+)", said, re.MULTILINE)
    run.assertEqual(len(sent), 4)
    run.assertEqual(sorted(sent), sorted(echo.received))
