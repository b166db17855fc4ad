# SPDX-License-Identifier: GPL-2.0-or-later
"""Queues of one device, and pairs of a netdev, in several IOThreads."""

from __future__ import annotations

import json
import time
from typing import Any

from harness import GuestVm, IsolationTest, LaunchRefused
from net_case import Frames
from test_lifecycle import LOAD
from test_memory import plug_memory

QUEUES = 4


def homes(vm: GuestVm) -> list[list[str]]:
    """Where the queues of each device are carried."""
    return [[queue.get("iothread", "") for queue in device["queues"]]
            for device in vm.cmd("query-vhost-user-isolation")]


class Mapping(IsolationTest):
    """iothread-vq-mapping, as virtio-blk has it."""

    megabytes = 192

    def machine(self, mapping: list[dict[str, Any]],
                **more: Any) -> GuestVm:
        """Three IOThreads, and a disk with four queues."""
        vm = self.make_vm()
        vm.args[vm.args.index("-m") + 1] += ",slots=2,maxmem=1G"
        vm.add_args("-smp", str(QUEUES))
        for number in range(3):
            vm.add_args("-object", f"iothread,id=io{number}")
        vm.add_args("-chardev", f"socket,id=char,path={self.backend.socket},"
                    "reconnect-ms=100")
        vm.add_args("-device", json.dumps({
            "driver": "vhost-user-blk-pci", "id": "disk0", "chardev": "char",
            "num-queues": QUEUES, "memory-isolation": "on",
            "iothread-vq-mapping": mapping, **more}))
        return vm

    def carry(self, mapping: list[dict[str, Any]],
              expected: list[str]) -> None:
        """Under load: pauses, more memory, a backend that comes back."""
        image = self.make_disk("32M")
        self.backend = self.start_backend(image, queues=QUEUES)
        vm = self.machine(mapping)
        vm.add_job(LOAD)
        vm.launch()
        self.assertEqual(homes(vm), [expected])
        self.stop_and_cont(vm, 10, 0.1)
        for slot in range(2):
            plug_memory(vm, slot)
            self.backend.kill()
            time.sleep(0.2)
            self.backend.start()
            self.expect_progress(vm)
        self.stop_and_cont(vm, 10, 0.1)
        vm.say("end")
        self.expect_ok(vm)
        self.verify_image(image, "--generation", "7")

    def setUp(self) -> None:
        super().setUp()
        if not self.isolated:
            self.skipTest("stock has no such property")

    def test_taking_turns(self) -> None:
        self.carry([{"iothread": "io0"}, {"iothread": "io2"}],
                   ["io0", "io2"] * 2)

    def test_as_said(self) -> None:
        self.carry([{"iothread": "io1", "vqs": [0, 3]},
                    {"iothread": "io0", "vqs": [1]},
                    {"iothread": "io2", "vqs": [2]}],
                   ["io1", "io0", "io2", "io1"])

    def refused(self, why: str, mapping: list[dict[str, Any]],
                **more: Any) -> None:
        vm = self.machine(mapping, **more)
        with self.assertRaisesRegex(LaunchRefused, f"status 1: (?s:.*){why}"):
            vm.launch()
        vm.end()

    def test_mappings_that_are_none(self) -> None:
        self.backend = self.start_backend(self.make_disk(), queues=QUEUES)
        self.refused('"io7" object does not exist', [{"iothread": "io7"}])
        self.refused("less than num_queues 4",
                     [{"iothread": "io0", "vqs": [0, 1, 2, 3, 4]}])
        self.refused("iothread and iothread-vq-mapping are two ways",
                     [{"iothread": "io0"}], iothread="io1")
        self.refused("iothread-vq-mapping has no effect without",
                     [{"iothread": "io0"}], **{"memory-isolation": "off"})


class Pairs(Frames, IsolationTest):
    """iothreads, which netdevs have."""

    def setUp(self) -> None:
        super().setUp()
        if not self.isolated:
            self.skipTest("stock has no such option")

    def prepare(self, netdev: str, **options: Any) -> None:
        self.start(netdev=netdev, machine=[
            word for number in range(2)
            for word in ("-object", f"iothread,id=io{number}")], **options)

    def test_taking_turns(self) -> None:
        """Pauses and a backend that comes back; each frame once."""
        self.prepare(",iothreads=io0,iothreads=io1", queues=QUEUES // 2,
                     packed=True, chardev=",reconnect-ms=100")
        self.assertEqual(homes(self.vm), [["io0", "io0", "io1", "io1"]] * 2)
        self.exchange.frames(lanes=2)
        self.vm.cmd("stop")
        self.vm.cmd("cont")
        self.backend.kill()
        self.backend.start()
        self.backend.wait_for_guest()
        self.check_exact()

    def test_lists_that_are_none(self) -> None:
        for netdev, why in (
                (",iothreads=io0,iothreads=io7",
                 "iothreads: there is no object 'io7' of type iothread"),
                (",iothreads=io0,iothread=io1",
                 "iothread and iothreads are two ways to say the same")):
            with self.assertRaisesRegex(LaunchRefused, why):
                self.prepare(netdev)
            self.backend.stop()
