# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's VM that stays: starting it, and talking to it from a terminal."""

from __future__ import annotations

import os
import select
import shutil
import socket
import sys
import termios
import tty
from pathlib import Path
from typing import Callable

from harness import Backend, GuestVm, guest, is_isolated

LEAVE = b"\x1d"                     # Ctrl-]

HOWTO = """\
The VM runs (QEMU {qemu}, backend {backend}).  Its isolated disk is /dev/vda.

  serial console   scripts/demo --attach serial    (leave with Ctrl-])
                   socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:{serial}
  QEMU's monitor   scripts/demo --attach monitor
                   socat - UNIX-CONNECT:{monitor}
  what it sees     sudo grep memfd /proc/{backend}/maps
  the end          kill {qemu} {backend}
"""


def keep_running(work: Path, iothread: bool,
                 make_vm: Callable[..., GuestVm],
                 make_image: Callable[[Path], None]) -> int:
    """Boot a guest with a shell on an isolated disk and leave it alone."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    guest.build(say=print)
    image = work / "keep.qcow2"
    make_image(image)
    backend = Backend(work, image, fmt="qcow2", queues=1, name="keep")
    # Away from this terminal's signals.
    os.setpgid(0, 0)
    try:
        backend.start()
        vm = make_vm(backend, is_isolated(), iothread, "keep")
        vm.add_monitor(work / "keep.monitor")
        vm.add_shell()
        vm.launch()
        vm.wait_serial("^GUEST ready")
    except BaseException:
        backend.stop()
        raise
    print(HOWTO.format(
        qemu=vm.get_pid(), backend=backend.pid,
        serial=os.path.relpath(vm.serial_socket),
        monitor=os.path.relpath(work / "keep.monitor")))
    return 0


def _relay(peer: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([peer, sys.stdin.fileno()], [], [])
        if peer in ready:
            data = peer.recv(65536)
            if not data:
                return
            os.write(sys.stdout.fileno(), data)
        if sys.stdin.fileno() in ready:
            data = os.read(sys.stdin.fileno(), 1024)
            if not data or LEAVE in data:
                return
            peer.sendall(data)


def attach(path: Path) -> int:
    """This terminal on the socket @path until Ctrl-]."""
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.connect(str(path))
    except OSError as err:
        print(f"demo: {path.name}: {err.strerror}; is a VM running that "
              "scripts/demo --keep started?", file=sys.stderr)
        return 1
    if not sys.stdin.isatty():
        _relay(peer)
        return 0
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        _relay(peer)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        print()
    return 0
