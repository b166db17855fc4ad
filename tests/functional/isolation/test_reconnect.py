# SPDX-License-Identifier: GPL-2.0-or-later
"""A backend that dies, comes back, or gives up in the middle of a word."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from typing import Callable

from events import event
from harness import (GuestVm, IsolationTest, LaunchRefused, long_form,
                     on_both_threads, wait_until)
from test_lifecycle import LOAD, UNBIND, memory_digest
from test_memory import plug_memory
from test_save import HOLDING
from vhost_user_proxy import (F_VERSION_1, Cut, Message, Proxy, cut_at,
                              hide_feature)

RECONNECT = ",reconnect-ms=100"
# More messages than QEMU sends until a device with two queues runs.
MAX_STEPS = 60


class CutOnce:
    """Ends a connection at message number @step, the next one lives."""

    def __init__(self) -> None:
        self.step: int | None = None
        self.happened = False

    def __call__(self, message: Message) -> None:
        if self.step is not None and message.index == self.step:
            self.step = None
            self.happened = True
            raise Cut


@on_both_threads
class Reconnect:
    """The guest loads a disk whose backend does not last."""

    megabytes = 192
    limit = 240

    def start(self, *, through_proxy: bool = False) -> GuestVm:
        self.image = self.make_disk("32M")
        self.backend = self.start_backend(self.image)
        path = self.backend.socket
        self.cut = CutOnce()
        if through_proxy:
            self.proxy = self.start_proxy(self.backend, self.cut)
            path = self.proxy.path
        vm = self.make_vm()
        self.add_disk(vm, path, props=",num-queues=2", chardev=RECONNECT)
        vm.add_job(LOAD)
        vm.launch()
        vm.wait_serial("^LOAD progress")
        return vm

    def finish(self, vm: GuestVm) -> None:
        vm.say("end")
        self.expect_ok(vm)
        self.verify_image(self.image, "--generation", "7")

    @event("Disk", "The backend is killed under load, and started again.",
           "Nothing: requests wait.")
    def test_backend_killed_and_started_again(self) -> None:
        vm = self.start()
        for _ in range(4):
            self.backend.kill()
            time.sleep(0.2)
            self.backend.start()
            self.expect_progress(vm)
        self.finish(vm)

    @event("Disk",
           "The backend is killed when it has done requests that came later "
           "than what it still has, and started again.",
           "Nothing: requests wait.",
           off="Requests are lost.")
    def test_backend_killed_with_gaps(self) -> None:
        """It has done requests that came later than what it still has."""
        self.image = self.make_disk("8M")
        self.backend = self.start_program(
            [sys.executable, str(HOLDING), "{socket}", str(self.image)])
        vm = self.make_vm()
        self.add_disk(vm, self.backend.socket, chardev=RECONNECT)
        vm.add_job(LOAD)
        vm.launch()
        vm.wait_serial("^LOAD progress")
        os.kill(self.backend.pid, signal.SIGUSR1)
        # Each thread of the load has met one that stays out.
        vm.wait_serial(r"LOAD progress (\d+)\s+LOAD progress \1\b", 30)
        self.backend.kill()
        self.backend.start()
        self.expect_progress(vm)
        self.finish(vm)

    @event("Disk", "The backend is replaced while the VM is stopped.",
           "Nothing.")
    def test_backend_replaced_while_the_vm_is_paused(self) -> None:
        vm = self.start()
        for _ in range(2):
            vm.cmd("stop")
            before = memory_digest(vm, self.megabytes << 20)
            self.backend.kill()
            time.sleep(0.3)
            self.backend.start()
            time.sleep(0.7)
            after = memory_digest(vm, self.megabytes << 20)
            self.assertEqual(before, after, "written while paused")
            vm.cmd("cont")
            self.expect_progress(vm)
        self.finish(vm)

    @event("Disk", "The VM is stopped and goes on while the backend is away.",
           "Nothing: requests wait.")
    def test_backend_dead_while_the_vm_stops_and_goes_on(self) -> None:
        vm = self.start()
        self.backend.kill()
        time.sleep(0.2)
        vm.cmd("stop")
        vm.cmd("cont")
        vm.cmd("stop")
        self.backend.start()
        vm.cmd("cont")
        self.expect_progress(vm)
        self.finish(vm)

    @event("Disk",
           "The connection ends at any message of the start of the next "
           "one.",
           "Nothing: requests wait.",
           off="No request is completed any more.")
    def test_connection_cut_at_each_message_of_a_new_start(self) -> None:
        vm = self.start(through_proxy=True)
        for step in range(1, MAX_STEPS):
            print(f"cut at message {step}", flush=True)
            self.cut.happened = False
            self.cut.step = step
            # Requests are done only once QEMU has said all of a start.
            self.expect_requests_after(self.proxy.disconnect, vm)
            if not self.cut.happened:
                break
        self.cut.step = None
        self.assertGreater(step, 10, "too few messages were seen")
        self.expect_progress(vm)
        self.finish(vm)

    def expect_requests_after(self, disconnect: Callable[[], None],
                              vm: GuestVm) -> None:
        """Some are done on another connection than the present one."""
        number = self.proxy.connections
        disconnect()
        wait_until(lambda: self.revive() and
                   self.proxy.connections > number, 60, "a new connection")
        if not self.isolated:
            # What the guest says first may be older.
            self.expect_progress(vm)
            self.expect_progress(vm)
            return
        before = vm.isolation_stats()["requests"]
        wait_until(lambda: self.revive() and
                   vm.isolation_stats()["requests"] > before, 60,
                   "requests to be done")


class Often(IsolationTest):
    """A backend that does not last, and a VM that does not rest."""

    iothread = True
    megabytes = 192
    limit = 500

    def die(self, vm: GuestVm, dice: random.Random) -> None:
        """Between two connections, the VM may be stopped, and go on."""
        self.backend.kill()
        stops = dice.random() < 0.4
        if stops:
            vm.cmd("stop")
        if dice.random() < 0.5:
            time.sleep(dice.uniform(0, 0.2))
        if stops and dice.random() < 0.5:
            vm.cmd("cont")
            stops = False
        self.backend.start()
        if stops:
            vm.cmd("cont")
        time.sleep(dice.uniform(0, 0.4))

    def killed(self, times: int) -> None:
        """While drivers come and go, the VM stops, and memory is plugged in."""
        self.image = self.make_disk("32M")
        self.backend = self.start_backend(self.image)
        vm = self.make_vm()
        vm.args[vm.args.index("-m") + 1] += ",slots=4,maxmem=1G"
        vm.add_args("-smp", "2")
        self.add_disk(vm, self.backend.socket, props=",num-queues=2",
                      chardev=RECONNECT)
        vm.add_job(UNBIND.rstrip() + " || exit 1\n" + LOAD)
        vm.launch()
        vm.wait_serial("^UNBIND 1 done")
        dice = random.Random(1)
        left = times
        while not re.search("^LOAD started", vm.serial_text(), re.MULTILINE):
            self.die(vm, dice)
            left -= 1
        vm.wait_serial("^LOAD progress")
        for number in range(max(left, 8)):
            self.die(vm, dice)
            if number in range(1, 8, 2):
                plug_memory(vm, number // 2, not self.isolated)
            if number % 8 == 0:
                self.expect_progress(vm)
        vm.say("end")
        self.expect_ok(vm)
        self.verify_image(self.image, "--generation", "7")

    def test_killed_again_and_again(self) -> None:
        self.killed(25)

    @long_form
    def test_killed_a_hundred_times(self) -> None:
        self.killed(100)


@on_both_threads
class FailedStart:
    """QEMU must say what is wrong, or go on; it must not abort."""

    def launch_with_cut(self, step: int) -> tuple[bool, Proxy]:
        """Whether QEMU comes up when each connection ends at @step."""
        proxy = self.start_proxy(
            self.backend,
            cut_at(step, lambda connection: True))
        vm = self.make_vm(f"vm{step}")
        vm.add_args("-S")
        self.add_disk(vm, proxy.path, props=",num-queues=2")
        try:
            vm.launch()
        except LaunchRefused as err:
            self.assertIn("status 1:", str(err), "QEMU must not abort")
            return False, proxy
        finally:
            vm.end()
            proxy.close()
        return True, proxy

    def test_connection_cut_at_each_message_of_realize(self) -> None:
        self.backend = self.start_backend(self.make_disk())
        for step in range(MAX_STEPS):
            came_up, proxy = self.launch_with_cut(step)
            if came_up and proxy.messages <= step:
                break
        self.assertGreater(step, 5, "too few messages were seen")

    def test_connection_cut_during_the_first_start(self) -> None:
        """The device works as soon as a later connection does."""
        self.backend = self.start_backend(self.make_disk())
        for step in range(12, 34, 3):
            cut = CutOnce()
            cut.step = step
            proxy = self.start_proxy(self.backend, cut)
            vm = self.make_vm(f"vm{step}")
            self.add_disk(vm, proxy.path, props=",num-queues=2",
                          chardev=RECONNECT)
            self.run_job(vm, "load write /dev/vda --size 1M\n")
            proxy.close()

    def test_backend_without_version_1_and_a_modern_device(self) -> None:
        self.backend = self.start_backend(self.make_disk())
        request, reply = hide_feature(
            F_VERSION_1)
        proxy = self.start_proxy(self.backend, request, reply)
        vm = self.make_vm()
        self.add_disk(vm, proxy.path, props=",disable-legacy=on")
        with self.assertRaises(LaunchRefused) as caught:
            vm.launch()
        self.assertRegex(str(caught.exception), "(?i)VERSION_1|modern")

    def test_backend_without_version_1_and_a_transitional_device(self) -> None:
        image = self.make_disk()
        self.backend = self.start_backend(image)
        request, reply = hide_feature(
            F_VERSION_1)
        proxy = self.start_proxy(self.backend, request, reply)
        vm = self.make_vm()
        self.add_disk(vm, proxy.path)
        self.run_job(vm, "load write /dev/vda --size 16M && "
                         "load verify /dev/vda --size 16M\n")
        self.verify_image(image, "--size", "16M")


@on_both_threads
class BadInput:
    """A clear error at start that names the property."""

    def refused(self, props: str, size: str | None = None) -> str:
        backend = self.start_backend(self.make_disk())
        vm = self.make_vm()
        self.add_disk(vm, backend.socket, props=props, size=size)
        with self.assertRaises(LaunchRefused) as caught:
            vm.launch()
        return str(caught.exception)

    def test_region_too_small_for_a_request(self) -> None:
        self.assertIn("memory-isolation-size", self.refused("", "4K"))

    def test_region_that_the_host_cannot_have(self) -> None:
        self.assertIn("memory-isolation-size",
                      self.refused("", "9000000000G"))


