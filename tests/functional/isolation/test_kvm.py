# SPDX-License-Identifier: GPL-2.0-or-later
"""Isolated devices of guests that KVM runs.

Kicks come from KVM through eventfds (ioeventfd) and interrupts go to it through
eventfds (irqfd), neither through a thread that emulates.  Some machines have a
KVM that runs firmware and small guests only: what such a one cannot run is
skipped, after it was seen that the same guest does not run without an isolated
device either.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections import Counter

import net_tcp
from harness import (PATIENCE, GuestVm, HarnessError, IsolationTest,
                     isolation_args, wait_until)
import firmware
import loadvm

KVM_CREATE_VM = 0xae01
DISK = "4M"
NUM_BLOCKS = (4 << 20) // 512
# KVM's part: notifications come in by eventfds, vectors are routed to it.
TRACES = ("kvm_set_ioeventfd*", "kvm_irqchip_add_msi_route",
          "virtio_notify_irqfd", "virtio_notify")
BOOTED = "BOOTED through the network"
# Where a guest has not come up then, it is tried without isolated devices.
SECONDS = 60
# The load VM, which ends by itself.
DONE = "LOADVM done"
LONG_SECONDS = 300


def why_not() -> str:
    """Why there is no KVM here; "" if there is."""
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as err:
        return f"no KVM: {err}"
    try:
        os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
    except OSError as err:
        return f"no KVM: no VM can be made: {err}"
    finally:
        os.close(kvm)
    return ""


class KvmCase(IsolationTest):
    """Guests that are run by KVM, or not at all."""

    megabytes = 64
    limit = 400

    def setUp(self) -> None:
        reason = why_not()
        if reason:
            self.skipTest(reason)
        super().setUp()
        self.log = self.work / "trace.log"

    def make_vm(self, name: str = "vm") -> GuestVm:
        vm = super().make_vm(name)
        vm.set_machine("pc,accel=kvm,graphics=off" +
                       ("" if self.isolated else ",memory-backend=ram"))
        for event in TRACES:
            vm.add_args("-trace", event)
        vm.add_args("-D", str(self.log), "-no-reboot")
        return vm

    def events(self) -> Counter[str]:
        """How often each event was traced."""
        return Counter(re.findall(r"^(\w+) ", self.log.read_text(
            "utf-8", "replace"), re.MULTILINE))

    def says(self, vm: GuestVm, what: str, seconds: float) -> bool:
        """Whether @vm comes to say @what in that time."""
        vm.launch()
        try:
            wait_until(lambda: what in vm.serial_text() or
                       not vm.is_running(), seconds / PATIENCE, what)
        except HarnessError:
            pass
        if what in vm.serial_text():
            return True
        if vm.is_running() and \
                vm.cmd("query-status")["status"] == "internal-error":
            self.skipTest("the KVM of this machine gave up: internal error")
        vm.end()
        return False

    def compare(self, alone: GuestVm, what: str, seconds: float) -> None:
        """A guest has not said @what; nor does one without our devices?"""
        if self.says(alone, what, seconds):
            self.fail("only without an isolated device the guest said " + what)
        self.skipTest("the KVM of this machine does not run this guest, "
                      "isolated devices or not")

    def run_jobs(self, vm: GuestVm, jobs: list[str]) -> list[loadvm.Result]:
        """In the load VM; each has to come out well."""
        vm.add_args(*loadvm.kernel_args(jobs))
        if not self.says(vm, DONE, LONG_SECONDS):
            loadvm.results(vm.serial_text())     # raises what was fatal
            alone = self.make_vm("alone")
            alone.add_args(*loadvm.kernel_args(["rw=read irq=msix verify=off "
                                                "requests=20"]),
                           "-blockdev", "null-co,node-name=null,size=1048576",
                           "-device", "virtio-blk-pci,drive=null")
            self.compare(alone, DONE, LONG_SECONDS)
        results = loadvm.results(vm.serial_text())
        self.assertEqual(len(results), len(jobs))
        for job, result in zip(jobs, results):
            self.assertEqual((result.bad, result.errors, result.lost),
                             (0, 0, 0), job)
        return results

    def expect_eventfds(self, results: list[loadvm.Result]) -> None:
        """The guest slept until interrupts came, and they came by irqfd."""
        seen = self.events()
        taken = sum(result.interrupts for result in results)
        self.assertGreater(taken, 0)
        self.assertGreaterEqual(seen["virtio_notify_irqfd"], taken)
        self.assertEqual(seen["virtio_notify"], 0, seen)
        self.assertGreater(seen["kvm_irqchip_add_msi_route"], 0)
        self.assertGreater(seen["kvm_set_ioeventfd_mmio"], 0)

    def disk_jobs(self, *rings: str) -> None:
        """Fill a disk, change it, read it whole, with each of @rings."""
        backend = self.start_backend(self.make_disk(DISK), queues=1)
        vm = self.make_vm()
        self.add_disk(vm, backend.socket, props=",packed=on")
        jobs = [f"{job} irq=msix {ring}" for ring in rings for job in
                ("rw=write bs=64k depth=2", "rw=randwrite bs=8k depth=4 "
                 "requests=100", "rw=read bs=32k depth=2")]
        results = self.run_jobs(vm, jobs)
        for result in results[2::3]:
            self.assertEqual(result.verified, NUM_BLOCKS)
        self.expect_eventfds(results)

    def boot_disk(self, props: str, event: str) -> None:
        """Until the boot sector has read what it reads; kicks cause @event."""
        disk = self.work / "bios.img"
        firmware.make_bios_disk(disk, self.work)
        backend = self.start_backend(disk)
        vm = self.make_vm()
        self.add_disk(vm, backend.socket, props=",bootindex=0" + props)
        vm.launch()
        vm.wait_serial("^BOOT from the disk", 90)
        found = vm.wait_serial(r"^RESULT (.*?)\r?\n", 60)
        self.assertEqual(found.group(1), "ok")
        self.assertGreater(self.events()[event], 0)


class Kvm(KvmCase):
    """What is run each time."""

    iothread = True

    def test_isolated_disk_gets_its_interrupts(self) -> None:
        self.disk_jobs("ring=split")


class KvmMore(KvmCase):
    """In the main loop, other rings and devices, and what needs long."""

    group = "kvm"
    limit = 900

    def test_seabios_boots_from_an_isolated_disk(self) -> None:
        self.boot_disk("", "kvm_set_ioeventfd_pio")

    def test_seabios_modern(self) -> None:
        self.boot_disk(",disable-legacy=on", "kvm_set_ioeventfd_mmio")

    def test_rings_of_an_isolated_disk(self) -> None:
        self.disk_jobs("ring=split indirect=on event_idx=off",
                       "ring=packed", "ring=packed indirect=on")

    def test_disk_that_is_not_isolated(self) -> None:
        """As it was: interrupts come from the backend."""
        self.isolated = False
        backend = self.start_backend(self.make_disk(DISK), queues=1)
        vm = self.make_vm()
        self.add_disk(vm, backend.socket)
        job = "rw=write bs=64k depth=2 irq=msix"
        self.assertGreater(self.run_jobs(vm, [job])[0].interrupts, 0)
        self.assertEqual(self.events()["virtio_notify_irqfd"], 0)

    def expect(self, vm: GuestVm, alone: GuestVm, what: str) -> None:
        """@vm says @what; if not, @alone, without our devices, cannot either."""
        if not self.says(vm, what, SECONDS):
            self.compare(alone, what, SECONDS)
        self.assertGreater(self.events()["virtio_notify_irqfd"], 0)

    def pxe_vm(self, name: str, *netdev: str) -> GuestVm:
        vm = self.make_vm(name)
        vm.add_args(*netdev, "-device", "virtio-net-pci,netdev=net0,bootindex=0")
        return vm

    def test_ipxe_boots_through_an_isolated_network(self) -> None:
        """Address and program come from a second QEMU's user network."""
        served = self.work / "served"
        served.mkdir()
        (served / "boot.ipxe").write_text(f"#!ipxe\necho {BOOTED}\nsleep 60\n",
                                          "ascii")
        options = f",tftp={served},bootfile=boot.ipxe"
        backend = net_tcp.start_bridge(self, options)
        isolated = isolation_args(self.make_vm("none"), False, self.isolated)
        vm = self.pxe_vm("vm", "-chardev", f"socket,id=net,path={backend.socket}",
                         "-netdev", f"vhost-user,id=net0,chardev=net{isolated}")
        self.expect(vm, self.pxe_vm("alone", "-netdev", "user,id=net0" + options),
                    BOOTED)

    def linux_vm(self, name: str, script: str) -> GuestVm:
        vm = self.make_vm(name)
        vm.add_args("-m", "512")
        vm.add_job(script)
        return vm

    def test_linux_uses_an_isolated_disk(self) -> None:
        backend = self.start_backend(self.make_disk(DISK), queues=1)
        vm = self.linux_vm("vm", "load write /dev/vda --size 4M && "
                           "load verify /dev/vda --size 4M")
        self.add_disk(vm, backend.socket)
        self.expect(vm, self.linux_vm("alone", "true"), "RESULT ok")
