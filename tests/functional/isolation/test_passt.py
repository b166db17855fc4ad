# SPDX-License-Identifier: GPL-2.0-or-later
"""-netdev passt, which starts passt itself.  QEMU has it since 10.1."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import net_tcp
from harness import (QEMU, GuestVm, IsolationTest, LaunchRefused,
                     isolation_args)
from net_guest import Console


class _Netdev(IsolationTest):
    """With whatever passt; there must be a -netdev of that name."""

    group = "newer"                 # scripts/lib/check_port.py runs these
    megabytes = 512

    def setUp(self) -> None:
        super().setUp()
        known = subprocess.run([str(QEMU), "-netdev", "help"], check=True,
                               capture_output=True, text=True).stdout
        if "passt" not in known.split():
            self.skipTest("this QEMU has no -netdev passt")

    def program(self) -> Path:
        """passt as QEMU wants it: one word."""
        path = self.work / "passt"
        command = shlex.join(net_tcp.passt_command())
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
        path.chmod(0o755)
        return path

    def passt_vm(self, path: Path | str, props: str,
                 vhost_user: str = "on") -> GuestVm:
        vm = self.make_vm()
        isolated = isolation_args(vm, self.iothread, self.isolated)
        vm.add_args("-netdev", f"passt,id=net0,path={path},"
                    f"vhost-user={vhost_user}{isolated}{props}",
                    "-device", "virtio-net-pci,id=net0dev,netdev=net0,"
                    "mac=52:54:00:00:00:01,romfile=")
        return vm

    def refused(self, path: Path | str, props: str, why: str,
                vhost_user: str = "on") -> None:
        """QEMU says @why and ends, as it would for any other mistake."""
        vm = self.passt_vm(path, props, vhost_user)
        with self.assertRaisesRegex(LaunchRefused, f"(?s)status 1: .*{why}"):
            vm.launch()


class NetdevMainLoop(_Netdev):
    """The data path in the main loop; and what does not depend on that."""

    def test_file_in_and_back(self) -> None:
        vm = self.passt_vm(self.program(), "")
        console = Console(vm, 1, net_tcp.PASST_MTU)
        net_tcp.carry(self, console, 30, net_tcp.PASST_HOST,
                      net_tcp.PASST_GUEST)

    def test_ring_that_passt_has_not_is_refused(self) -> None:
        self.refused(self.program(), ",x-memory-isolation-packed=on",
                     "packed=on, but the backend does not offer it")

    def test_frames_on_a_stream_cannot_be_isolated(self) -> None:
        self.refused(self.program(), "", "needs vhost-user=on", "off")

    def test_passt_that_does_not_start(self) -> None:
        self.refused("/bin/false", "", "could not be initialized")

    def test_passt_ends(self) -> None:
        vm = self.passt_vm(self.program(), "")
        vm.add_args("-S")
        vm.launch()
        said = str(vm.cmd("human-monitor-command",
                          command_line="info network"))
        found = re.search(r"vhost-user,connected to pid (\d+)", said)
        assert found, said
        os.kill(int(found.group(1)), signal.SIGKILL)
        time.sleep(0.2)             # for a crash, if there is one
        vm.cmd("netdev_del", id="net0")
        time.sleep(0.2)
        self.assertFalse(vm.cmd("query-status")["running"])


class NetdevIOThread(_Netdev):
    """The data path in an IOThread."""

    iothread = True

    def test_file_in_and_back(self) -> None:
        vm = self.passt_vm(self.program(), "")
        console = Console(vm, 1, net_tcp.PASST_MTU)
        net_tcp.carry(self, console, 30, net_tcp.PASST_HOST,
                      net_tcp.PASST_GUEST)
