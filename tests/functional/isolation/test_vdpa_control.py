# SPDX-License-Identifier: GPL-2.0-or-later
"""The control queue of vhost-vdpa: what a guest has set arrives with it."""

from __future__ import annotations

import os
import re
import subprocess

from harness import IsolationTest, socket_folder, wait_until
from net_frames import SAID
from vdpa import Rings
from vdpa_inside import BALLAST, Inside, InsideVm

SPLIT, PACKED = (Rings(packed=packed, event_idx=True, indirect=True)
                 for packed in (False, True))

# A table of addresses, modes, filters, and offloads that are not the default.
SET_ALL = [
    "ip link set eth0 address 52:54:00:aa:bb:cc",
    "ip link add link eth0 name eth0.5 type vlan id 5",
    "ip link add link eth0 name eth0.4000 type vlan id 4000",
    "ip link add link eth0 name mac0 address 52:54:00:aa:bb:dd type macvlan",
    "ip link set mac0 up",
    "ip addr add 10.0.2.15/24 dev eth0",
    "ifconfig eth1 allmulti",
    "ifconfig eth1 promisc",
    "ethtool -K eth0 rx-gro-hw off",
    "ethtool -L eth0 combined 2",
    "ethtool -L eth1 combined 2",
]
IN_STATE = ["mac 52:54:00:aa:bb:cc pairs 2 offloads 0x2 ", " promisc 0 ",
            " unicast 52:54:00:aa:bb:dd", "01:00:5e:00:00:01",
            " vlans 0 5 4000"]


LANES, UNDER_WAY = 2, 64


class ControlTest(IsolationTest):
    """A guest that moves from one QEMU to another and back."""

    props = ""

    def boot(self, rings: Rings = SPLIT) -> None:
        self.vm, self.console = self.machine("vm0", rings)
        self.console.launch()

    def machine(self, name: str, rings: Rings,
                *args: str) -> tuple[InsideVm, Inside]:
        vm = InsideVm(self.work, name, rings, self.props)
        self.addCleanup(vm.end)
        if not args:
            vm.ballast.write_bytes(os.urandom(BALLAST << 20))
        vm.add_args(*args)
        console = Inside(vm)
        self.addCleanup(console.close)
        return vm, console

    def set_all(self) -> None:
        for command in SET_ALL:
            self.console.run(command)
        first, second = self.vm.states()
        for words in IN_STATE:
            self.assertIn(words, first)
        self.assertIn(" promisc 1 allmulti 1 ", second)

    def begin_traffic(self) -> None:
        start = len(self.vm.said())
        self.console.run(f"touch /tmp/traffic; traffic {LANES} &")
        self.vm.wait_work(start)

    def end_traffic(self) -> None:
        """What came was right; no more was lost than is under way once."""
        said = self.console.run("rm /tmp/traffic; wait; cat /tmp/frames; "
                                "[ ! -e /tmp/bad ]")
        lines = SAID.findall(said)
        self.assertGreater(len(lines), 2 * LANES)
        for line in lines:
            self.assertLessEqual(int(line[2]) - int(line[5]), UNDER_WAY, line)

    def arrive(self, rings: Rings, number: int) -> tuple[InsideVm, Inside]:
        """A VM that waits for the guest."""
        uri = f"unix:{socket_folder(self.work)}/migration"
        other, console = self.machine(f"vm{number}", rings, "-S",
                                      "-incoming", uri)
        console.go_on()
        self.vm.begin_migration(uri)
        self.vm.end_migration()
        other.wait_status("paused")
        return other, console

    def move(self, rings: Rings, number: int) -> None:
        other, console = self.arrive(rings, number)
        self.assertEqual(subprocess.run(
            ["cmp", str(self.vm.memory), str(other.memory)], check=False,
            capture_output=True).stdout, b"")
        states = self.vm.states()
        start = len(other.said())
        other.cmd("cont")
        other.wait_work(start)
        self.assertEqual(other.states(), states)
        self.assertNotIn("refused", self.vm.said() + other.said())
        wait_until(lambda: other.announced() == 2, 60,
                   "the guest to have announced both devices")
        self.console.close()
        self.vm.end()
        self.vm, self.console = other, console

    def expect_control_rings(self, vm: InsideVm, inside: Rings,
                             best: Rings) -> None:
        """In a space of its own, until all queues are shadowed."""
        found = re.findall(r"^0: queue 4: (.* ring .*)\n", vm.said(),
                           re.MULTILINE)
        self.assertEqual(found, [f"{inside.log_line(1024)}, space 1",
                                 f"{best.log_line(1024)}, space 0"])

    def finish(self) -> None:
        self.end_traffic()
        self.console.end()


class VdpaControl(ControlTest):
    """There and back."""

    def test_all_that_was_set_arrives(self) -> None:
        self.boot()
        self.set_all()
        self.begin_traffic()
        self.move(PACKED, 1)
        self.console.run("ip link del eth0.5")
        self.assertIn(" vlans 0 4000", self.vm.states()[0])
        middle = self.vm
        self.move(SPLIT, 2)
        self.expect_control_rings(middle, SPLIT, PACKED)
        self.finish()
