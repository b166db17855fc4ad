# SPDX-License-Identifier: GPL-2.0-or-later
"""The control queue of vhost-vdpa: what a guest has set arrives with it."""

from __future__ import annotations

import random
import re
import subprocess

from harness import IsolationTest, socket_folder, wait_until
from net_frames import SAID
from vdpa import Rings
from vdpa_inside import Inside, InsideVm

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

    limit = 600
    props = ""

    def boot(self, rings: Rings = SPLIT) -> None:
        self.vm, self.console = self.machine("vm0", rings)
        self.vm.make_ballast()
        self.console.launch()
        for command in SET_ALL:
            self.console.run(command)
        first, second = self.vm.states()
        for words in IN_STATE:
            self.assertIn(words, first)
        self.assertIn(" promisc 1 allmulti 1 ", second)
        self.console.run(f"touch /tmp/traffic; traffic {LANES} &")
        self.vm.wait_work()

    def machine(self, name: str, rings: Rings, netdev: str = "",
                *args: str) -> tuple[InsideVm, Inside]:
        vm = InsideVm(self.work, name, rings, self.props, netdev)
        self.addCleanup(vm.end)
        vm.add_args(*args)
        console = Inside(vm)
        self.addCleanup(console.close)
        return vm, console

    def arrive(self, rings: Rings, name: str,
               netdev: str = "") -> tuple[InsideVm, Inside]:
        """A paused VM that has got everything."""
        uri = f"unix:{socket_folder(self.work)}/migration"
        other, console = self.machine(name, rings, netdev, "-S", "-incoming",
                                      uri)
        console.go_on()
        before = self.vm.states()
        self.vm.begin_migration(uri)
        self.assertEqual(self.vm.states(), before)
        self.vm.end_migration()
        other.wait_status("paused")
        return other, console

    def go_on(self, other: InsideVm, console: Inside) -> None:
        """Leave one machine for the other, where it has arrived."""
        other.cmd("cont")
        other.wait_work()
        wait_until(lambda: other.announced() == 2, 60,
                   "the guest to have announced both devices")
        for vm in (self.vm, other):
            self.assertNotIn("refused", vm.said())
            self.assertNotIn("error", vm.said())
        self.console.close()
        self.vm.end()
        self.vm, self.console = other, console

    def move(self, rings: Rings, name: str, netdev: str = "") -> None:
        other, console = self.arrive(rings, name, netdev)
        compared = subprocess.run(
            ["cmp", str(self.vm.memory), str(other.memory)], check=False,
            capture_output=True, text=True)
        self.assertEqual(compared.returncode, 0, compared.stdout)
        states = self.vm.states()
        self.go_on(other, console)
        self.assertEqual(other.states(), states)

    def expect_control(self, command: str, words: str) -> None:
        """The guest's @command makes @words part of the first state."""
        self.assertNotIn(words, self.vm.states()[0])
        self.console.run(command)
        self.assertIn(words, self.vm.states()[0])

    def expect_control_rings(self, vm: InsideVm, inside: Rings,
                             best: Rings) -> None:
        """In a space of its own, until all queues are shadowed."""
        found = re.findall(r"^0: queue 4: (.* ring .*)\n", vm.said(),
                           re.MULTILINE)
        self.assertEqual(found, [f"{inside.log_line(1024)}, space 1",
                                 f"{best.log_line(1024)}, space 0"])

    def finish(self) -> None:
        """What came was right; no more was lost than is under way once."""
        said = self.console.run("rm /tmp/traffic; wait; cat /tmp/frames; "
                                "[ ! -e /tmp/bad ]")
        lines = SAID.findall(said)
        self.assertGreater(len(lines), 2 * LANES)
        for line in lines:
            self.assertLessEqual(int(line[2]) - int(line[5]), UNDER_WAY, line)
        self.console.end()


class VdpaControl(ControlTest):
    """There and back."""

    def test_all_that_was_set_arrives(self) -> None:
        self.boot()
        self.move(PACKED, "vm1")
        self.expect_control("ip link del eth0.5", " vlans 0 4000")
        middle = self.vm
        self.move(SPLIT, "vm2")
        self.expect_control_rings(middle, SPLIT, PACKED)
        self.finish()


class VdpaControlAll(ControlTest):
    """What can go wrong, and what takes long."""

    group = "vdpa"

    def test_many_commands_of_a_slow_device(self) -> None:
        """A limit of 5 s is for each of them, not for all; nothing is lost."""
        self.boot()
        self.console.run(
            "for i in $(seq 100 199); do ip link add link eth0 name eth0.$i "
            "type vlan id $i || break; done")
        self.assertIn(" 199 4000", self.vm.states()[0])
        other, console = self.arrive(PACKED, "vm1")
        other.order("delay 60")
        states = self.vm.states()
        self.go_on(other, console)
        self.assertEqual(other.states(), states)

        # A device that does not do what it says is found out.
        other, console = self.arrive(SPLIT, "vm2")
        other.order("forget 2.0")
        self.go_on(other, console)
        self.assertNotEqual(other.states(), states)
        self.finish()

    def test_cancelled_at_any_moment(self) -> None:
        """The control queue, in its own space, goes on with the frames."""
        self.boot()
        dice = random.Random()
        states = self.vm.states()
        for i in range(6):
            after = dice.choice((0, 0.1, 0.5, 2)) * dice.random()
            with self.subTest(seconds=after):
                self.vm.cancel(after)
                self.vm.wait_new_work()
                self.assertEqual(self.vm.states(), states)
                self.expect_control(f"ip link add link eth0 name eth0.{i + 10} "
                                    f"type vlan id {i + 10}", f" {i + 10} ")
                states = self.vm.states()
        self.assertNotIn("refused", self.vm.said())
        self.move(PACKED, "vm1")
        self.finish()

    def test_destination_refuses_a_command(self) -> None:
        """It says so, and the guest goes on where it was."""
        self.boot()
        other, console = self.arrive(PACKED, "vm1")
        other.order("refuse 2.0")
        other.cmd("cont")
        wait_until(lambda: other.log_text().count(
            "unable to start vhost net: 5: falling back") == 2, 60,
            "devices that do not start")
        console.close()
        other.end()
        self.vm.cmd("cont")
        self.vm.wait_new_work()
        self.move(PACKED, "vm2")
        self.finish()


class VdpaControlPacked(ControlTest):
    """Guest rings are packed, which takes a device that can be suspended."""

    group = "vdpa"
    props = ",packed=on"

    def test_packed_rings_arrive(self) -> None:
        self.boot(PACKED)
        first = self.vm
        self.move(PACKED, "vm1")
        self.expect_control_rings(first, PACKED, PACKED)
        # On a device that has none, they are QEMU's.
        self.move(SPLIT, "vm2", ",x-svq=on")
        self.expect_control("ip link del eth0.5", " vlans 0 4000")
        self.move(PACKED, "vm3")
        self.finish()
