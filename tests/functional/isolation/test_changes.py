# SPDX-License-Identifier: GPL-2.0-or-later
"""Backends that are not, after a restart, what they were before."""

from __future__ import annotations

from pathlib import Path

from events import event
from harness import GuestVm, IsolationTest, wait_until
from vhost_user_proxy import GET_FEATURES, SET_FEATURES, Message

LOAD = """
load stress /dev/vda --size 32M --seconds 1000 --depth 24 --generation 7 \\
    --progress 1 &
load=$!
read word
kill $load
wait $load && load verify /dev/vda --size 32M --generation 7
"""
GROW = """
load write /dev/vda --size 32M --generation 7 || exit 1
echo SIZE $(cat /sys/block/vda/size)
while [ $(cat /sys/block/vda/size) = 65536 ]; do usleep 100000; done
echo SIZE $(cat /sys/block/vda/size)
load verify /dev/vda --size 32M --generation 7 &&
    load write /dev/vda --size 64M --generation 7 &&
    load verify /dev/vda --size 64M --generation 7
"""
F_WRITE_ZEROES, F_INDIRECT, F_EVENT_IDX = 14, 28, 29


class Changes(IsolationTest):
    """The guest goes on; what cannot work waits, with a sentence."""

    iothread = True
    megabytes = 192

    def setUp(self) -> None:
        super().setUp()
        self.hidden = 0
        self.told = 0                   # not hidden on this connection
        self.wrong: list[int] = []

    def start(self, image: Path, script: str) -> GuestVm:
        self.backend = self.start_backend(image)
        self.proxy = self.start_proxy(self.backend, self.ask, self.answer)
        vm = self.make_vm()
        self.add_disk(vm, self.proxy.path, props=",num-queues=2",
                      chardev=",reconnect-ms=100")
        vm.add_job(script)
        vm.launch()
        return vm

    def ask(self, message: Message) -> None:
        """The real backend has more features than it seems to have."""
        if message.request == SET_FEATURES and message.u64() & ~self.told:
            self.wrong.append(message.u64() & ~self.told)

    def answer(self, message: Message) -> None:
        if message.request == GET_FEATURES and message.is_reply:
            self.told = message.u64() & ~self.hidden
            message.set_u64(self.told)

    def replace(self, *hidden: int) -> None:
        """The next backend does not have the features @hidden."""
        self.hidden = sum(1 << bit for bit in hidden)
        number = self.proxy.connections
        self.proxy.disconnect()
        wait_until(lambda: self.revive() and self.proxy.connections > number,
                   60, "a new connection")

    def finish(self, vm: GuestVm, image: Path) -> None:
        vm.say("end")
        self.expect_ok(vm)
        self.verify_image(image, "--size", "32M", "--generation", "7")
        self.assertEqual(self.wrong, [], "asked for what was not offered")

    @event("Disk",
           "The next backend lacks event indices or indirect descriptors.",
           "Nothing.",
           off="No request is completed any more.")
    def test_with_other_rings(self) -> None:
        """Which is between QEMU and the backend."""
        image = self.make_disk("32M")
        vm = self.start(image, LOAD)
        vm.wait_serial("^LOAD progress")
        for hidden in ((F_EVENT_IDX,), (F_INDIRECT, F_EVENT_IDX),
                       (F_INDIRECT,), ()):
            self.replace(*hidden)
            self.expect_progress(vm)
            self.expect_progress(vm)
        self.finish(vm, image)

    @event("Disk",
           "The next backend lacks a feature that the driver uses.",
           "Requests wait for a backend that has it.",
           off="Requests fail.")
    def test_without_a_feature_of_the_driver(self) -> None:
        image = self.make_disk("32M")
        vm = self.start(image, LOAD)
        vm.wait_serial("^LOAD progress")
        for _ in range(2):
            self.replace(F_WRITE_ZEROES)
            number = self.proxy.connections
            wait_until(lambda: self.revive() and
                       self.proxy.connections > number, 60,
                       "the connection to be refused")
            vm.cmd("query-status")
            self.replace()
            self.expect_progress(vm)
            self.expect_progress(vm)
        self.finish(vm, image)
        self.assertIn("lacks features that the driver uses (0x4000)",
                      vm.qemu_log())

    @event("Disk", "The disk has grown while its backend was away.",
           "The new size.")
    def test_with_a_larger_disk(self) -> None:
        image = self.make_disk("32M")
        vm = self.start(image, GROW)
        vm.wait_serial("^SIZE 65536")
        self.backend.kill()
        with image.open("r+b") as disk:
            disk.truncate(64 << 20)
        self.backend.start()
        vm.wait_serial("^SIZE 131072")
        self.expect_ok(vm)
        self.verify_image(image, "--size", "64M", "--generation", "7")
