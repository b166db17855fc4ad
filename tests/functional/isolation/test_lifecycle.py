# SPDX-License-Identifier: GPL-2.0-or-later
"""Stop, reset, rebind and unplug under load: right data, nothing lost."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import small_load
from events import event
from harness import GuestVm, guest, on_both_threads, wait_until
from test_data import SMALLEST_REGION

# Load until the host says a line; the load tool then verifies everything.
LOAD = """
load stress /dev/vda --seconds 1000 --depth 24 --max-request 256K \\
    --segments 100 --generation 7 --progress 1 &
load=$!
read word
kill $load
wait $load && load verify /dev/vda --generation 7
"""
# For a backend that is slow: every request of it is out at once.
SLOW = """
load write /dev/vda --size 256K --depth 40 --max-request 4K --generation 7 \\
    --progress 1 &&
    load verify /dev/vda --size 256K --generation 7 --depth 40
"""
UNBIND = """
device=$(basename $(readlink /sys/block/vda/device))
driver=/sys/bus/virtio/drivers/virtio_blk
for round in 1 2 3 4 5 6; do
    load stress /dev/vda --seconds 1000 --depth 24 > /tmp/log &
    usleep $((300000 + round * 37000))
    echo $device > $driver/unbind || exit 1
    wait $!
    grep -q mismatch /tmp/log && cat /tmp/log && exit 1
    echo $device > $driver/bind || exit 1
    echo UNBIND $round done
done
load stress /dev/vda --seconds 2 --generation 7 &&
    load verify /dev/vda --generation 7
"""
REBIND_PCI = """
function=$(basename $(readlink -f /sys/block/vda/device/..))
driver=/sys/bus/pci/drivers/virtio-pci
for round in 1 2 3 4 5 6; do
    load stress /dev/vda --seconds 1000 --depth 24 > /tmp/log &
    usleep $((300000 + round * 37000))
    echo $function > $driver/unbind || exit 1
    wait $!
    grep -q mismatch /tmp/log && cat /tmp/log && exit 1
    echo $function > $driver/bind || exit 1
done
load stress /dev/vda --seconds 2 --generation 7 &&
    load verify /dev/vda --generation 7
"""
UNPLUG = """
load stress /dev/vda --seconds 1000 --depth 24 --progress 1 > /tmp/log &
sleep 1
echo UNPLUG now
while [ -e /sys/block/vda ]; do usleep 50000; done
wait $!
grep mismatch /tmp/log && exit 1
echo UNPLUG done
while [ ! -e /dev/vda ]; do usleep 50000; done
load stress /dev/vda --seconds 2 --generation 7 &&
    load verify /dev/vda --generation 7
"""

# What firmware can do without a word to the other processor, which is on its
# way to the device meanwhile.
EJECT = """
device=$(basename $(dirname $(readlink -f /sys/block/vda/../..)))
echo $device > /sys/bus/pci/drivers/virtio-pci/unbind
touch /tmp/said
taskset 2 peek /sys/bus/pci/devices/$device/resource1 32 >> /tmp/said &
until grep begins /tmp/said; do usleep 10000; done
taskset 1 eject 9
wait $! && cat /tmp/said
"""


def memory_digest(vm: GuestVm, size: int) -> str:
    """Of all guest memory, which the caller knows to be at rest."""
    path = Path(vm.work) / "memory"
    vm.cmd("pmemsave", val=0, size=size, filename=str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.unlink()
    return digest


@on_both_threads
class Lifecycle:
    """The guest loads a disk while the VM changes state."""

    megabytes = 192
    limit = 240

    def start(self, script: str, *, props: str = ",num-queues=2",
              size: str | None = None, reboots: bool = False,
              files: dict[str, Path] | None = None) -> GuestVm:
        self.image = self.make_disk("32M")
        self.backend = self.start_backend(self.image)
        vm = self.make_vm()
        vm.add_args("-smp", "2")
        self.add_disk(vm, self.backend.socket, props=props, size=size)
        vm.add_job(script, files, reboots=reboots)
        vm.launch()
        return vm

    def finish(self, vm: GuestVm) -> None:
        vm.say("end")
        self.expect_ok(vm)
        self.verify_image(self.image, "--generation", "7")

    @event("Disk",
           "The VM is stopped and goes on under load, a hundred times.",
           "Nothing.")
    def test_stop_and_cont_a_hundred_times(self) -> None:
        vm = self.start(LOAD)
        self.stop_and_cont(vm, 100, 0.06)
        self.finish(vm)

    def test_stop_and_cont_while_requests_wait_for_room(self) -> None:
        vm = self.start(LOAD.replace("256K", "1M").replace("24", "48"),
                        size=SMALLEST_REGION)
        vm.wait_serial("^LOAD progress")
        for _ in range(30):
            self.wait_parked(vm)
            vm.cmd("stop")
            vm.cmd("cont")
        self.expect_progress(vm)
        self.finish(vm)

    def wait_parked(self, vm: GuestVm) -> None:
        """Until one more request has had to wait for room."""
        if not self.isolated:
            return
        before = vm.isolation_stats()["parked"]
        wait_until(lambda: vm.isolation_stats()["parked"] > before, 30,
                   "a request that waits for room")

    def test_nothing_is_written_to_a_stopped_guest(self) -> None:
        vm = self.start(LOAD)
        vm.wait_serial("^LOAD progress")
        for _ in range(3):
            vm.cmd("stop")
            before = memory_digest(vm, self.megabytes << 20)
            time.sleep(0.5)
            after = memory_digest(vm, self.megabytes << 20)
            self.assertEqual(before, after)
            vm.cmd("cont")
            time.sleep(0.3)
        self.finish(vm)

    def test_guest_reset_under_load(self) -> None:
        vm = self.start(LOAD, reboots=True)
        self.reset_under_load(vm, 4)
        self.finish(vm)

    @event("Disk", "The driver is unbound under load, and bound again.",
           "Nothing that its driver does not do.")
    def test_driver_unbound_and_bound_under_load(self) -> None:
        vm = self.start(UNBIND)
        self.expect_ok(vm)
        self.verify_image(self.image, "--generation", "7")

    def test_pci_driver_unbound_and_bound_under_load(self) -> None:
        vm = self.start(REBIND_PCI)
        self.expect_ok(vm)
        self.verify_image(self.image, "--generation", "7")

    @event("Disk", "It is unplugged under load, and plugged again.",
           "Another disk, with what was on the first.")
    def test_unplugged_under_load_and_plugged_again(self) -> None:
        vm = self.start(UNPLUG)
        vm.wait_serial("^UNPLUG now")
        vm.cmd("device_del", id="disk0")
        vm.event_wait("DEVICE_DELETED", 60, {"data": {"device": "disk0"}})
        vm.wait_serial("^UNPLUG done")
        options = self.device_options()
        vm.cmd("device_add", driver="vhost-user-blk-pci", id="disk0",
               chardev="disk0char", **options)
        self.expect_ok(vm)
        self.verify_image(self.image, "--generation", "7")

    def test_ejected_while_another_processor_looks_at_it(self) -> None:
        for name in ("eject", "peek"):
            small_load.compile_program(
                guest.OUT / name, [small_load.GUEST / f"{name}.c"],
                [*small_load.WARNINGS, "-static"], [])
        vm = self.start(EJECT, props=",addr=9", files={
            f"usr/bin/{name}": guest.OUT / name for name in ("eject", "peek")})
        self.expect_ok(vm)
        self.assertEqual(vm.exitcode(), 0, vm.qemu_log())

    def device_options(self) -> dict[str, object]:
        if not self.isolated:
            return {}
        options: dict[str, object] = {"memory-isolation": "on"}
        if self.iothread:
            options["iothread"] = "io0"
        return options

    @event("Disk",
           "The VM is stopped with requests that its backend does not "
           "complete in time.",
           "Nothing: they are completed later, and its memory stays as it "
           "is meanwhile.",
           off="No request is completed any more: the storage daemon ends "
               "the connection.")
    def test_stop_while_requests_are_slow(self) -> None:
        """Requests that the backend still has at the deadline are kept."""
        image = self.make_disk("32M")
        backend = self.start_backend(image, iops=15)
        vm = self.make_vm()
        self.add_disk(vm, backend.socket, props=",num-queues=1")
        vm.add_job(SLOW)
        vm.launch()
        vm.wait_serial("^LOAD started")
        for _ in range(3):
            time.sleep(0.4)
            vm.cmd("stop")
            before = memory_digest(vm, self.megabytes << 20)
            time.sleep(0.7)
            self.assertEqual(before, memory_digest(vm,
                                                   self.megabytes << 20))
            vm.cmd("cont")
        self.expect_ok(vm)
        self.verify_image(image, "--size", "256K", "--generation", "7")

    @event("Disk",
           "The machine is reset while the backend has requests.",
           "Nothing but the reset.",
           off="It does not start again: the storage daemon ends the "
               "connection.")
    def test_guest_reset_while_requests_are_slow(self) -> None:
        """What the backend still has belongs to a guest that is no more."""
        image = self.make_disk("32M")
        backend = self.start_backend(image, iops=15)
        vm = self.make_vm()
        self.add_disk(vm, backend.socket, props=",num-queues=1")
        vm.add_job(SLOW, reboots=True)
        vm.launch()
        for pause in (0.4, 3, 9):
            so_far = len(vm.serial_text())
            vm.wait_serial("^LOAD started", 60, so_far)
            time.sleep(pause)
            vm.cmd("system_reset")
        self.expect_ok(vm)
        self.verify_image(image, "--size", "256K", "--generation", "7")
