#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who can map the memory of a VM: its devices, the processes behind them, and
what each of these has mapped or holds a descriptor of, as /proc has it.

QEMU is asked which RAM blocks and devices there are.  What a process can read
is not asked but looked up in /proc, so this works with any QEMU, whether it
knows memory isolation or not.  Run it as root, or as the user that QEMU and the
backends run as.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from . import model, proc, qmp, sockets, svg, text

READABLE, UNKNOWN = 3, 4
STATUS = """\
exit status:
  0  no process but QEMU can map guest RAM
  1  QEMU or /proc could not be asked
  2  wrong usage
  3  a process besides QEMU can read guest RAM
  4  not known: the process behind a device could not be found or looked at;
     with --strict, any process of the machine could not be looked at

examples:
  isolation-map qmp.sock
  isolation-map qmp.sock --svg map.svg
  isolation-map --pid "$(cat /run/libvirt/qemu/vm.pid)" \\
      --via 'virsh -c qemu:///system qemu-monitor-command vm'
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="isolation-map", description=__doc__, epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("socket", nargs="?", type=Path, metavar="QMP-SOCKET",
                      help="unix socket of QEMU's QMP monitor that nobody "
                      "else is connected to")
    made.add_argument("--via", metavar="COMMAND", help="instead of a socket: "
                      "a command that takes a QMP command as its last "
                      "argument and prints the answer; needs --pid")
    made.add_argument("--pid", type=int, help="QEMU's process id (preset: who "
                      "is at the other end of the socket)")
    made.add_argument("--svg", type=Path, metavar="FILE",
                      help="also draw a picture there")
    made.add_argument("--json", action="store_true",
                      help="print JSON instead of text")
    made.add_argument("--strict", action="store_true", help="be content only "
                      "if every process of the machine was looked at")
    made.add_argument("--colour", choices=("auto", "always", "never"),
                      default="auto", help="of the text (preset: auto)")
    return made


def pid_behind(monitor: qmp.SocketMonitor) -> int:
    """Who has the other end of the monitor's socket."""
    mine = os.fstat(monitor.socket.fileno()).st_ino
    table = sockets.table(os.getpid())
    if mine in table:
        processes = [p for p in map(proc.look, proc.pids()) if p]
        found = sockets.holders(processes).get(table[mine].peer, [])
        if len(found) == 1:
            return found[0]
    raise proc.NotVisible("the process behind the socket is not found: run "
                          "this as root, or say --pid")


def coloured(choice: str) -> bool:
    if choice == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return choice == "always"


def run(args: argparse.Namespace) -> int:
    monitor: qmp.Monitor
    if args.via:
        monitor, pid = qmp.CommandMonitor(args.via), args.pid
    else:
        monitor = qmp.SocketMonitor(args.socket)
        pid = args.pid or pid_behind(monitor)
    found = model.make(monitor, pid)
    if args.svg:
        args.svg.write_text(svg.draw(found), encoding="utf-8")
    if args.json:
        print(json.dumps(model.document(found), indent=2))
    else:
        print(text.draw(found, coloured(args.colour)), end="")
    if found.readers():
        return READABLE
    if found.unknown() or (args.strict and found.unseen):
        return UNKNOWN
    return 0


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    if (args.socket is None) == (args.via is None):
        parser().error("either QMP-SOCKET or --via")
    if args.via and not args.pid:
        parser().error("--via needs --pid")
    try:
        return run(args)
    except (qmp.QmpError, proc.NotVisible, OSError) as err:
        print(f"isolation-map: {err}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
