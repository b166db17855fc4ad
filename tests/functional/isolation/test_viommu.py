# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that the guest keeps behind an IOMMU of its own.

Linux maps each buffer before a request and unmaps it afterwards: "strict"
tells the IOMMU of each by itself, "lazy" of all of them now and then.  No
backend has heard of it.
"""

from __future__ import annotations

import time
from typing import Any

from harness import (GuestVm, IsolationTest, long_form, on_both_threads,
                     wait_until)
from net_case import Frames
from test_lifecycle import LOAD
from test_save import Save

BEHIND = ",iommu_platform=on,disable-legacy=on"
# The device is where the test believes it to be.
WHERE = """
for i in /sys/bus/pci/devices/*; do
    [ "$(cat $i/vendor)" != 0x1af4 ] || echo GROUP $(cat $i/iommu_group/type)
done
"""
STRESS = ("load stress /dev/vda --seconds 3 --depth 32 --max-request 256K "
          "--segments 126 --generation 7 && "
          "load verify /dev/vda --generation 7")


# QEMU's IOMMUs: the device, and what Linux wants to hear.
IOMMUS = {"intel": ("intel-iommu", "intel_iommu=on "),
          "virtio": ("virtio-iommu-pci", "")}


def put_behind(vm: GuestVm, strict: bool = True, iommu: str = "intel") -> None:
    device, options = IOMMUS[iommu]
    vm.set_machine("q35,accel=tcg")
    vm.add_args("-device", device)
    vm.kernel_options = f"{options}iommu.strict={int(strict)}"


class Behind:
    """Mixed into tests that have a method to make a machine."""

    def setUp(self) -> None:
        super().setUp()                 # type: ignore[misc]
        if not self.isolated:           # type: ignore[attr-defined]
            self.skipTest(              # type: ignore[attr-defined]
                "the storage daemon knows no IOTLB")


class Load(Behind):
    """The load tool in the guest, then on the image."""

    megabytes = 256

    def check(self, props: str, strict: bool, size: str | None = None,
              iommu: str = "intel", kernel: str = "", vcpus: int = 1) -> None:
        image = self.make_disk("48M")
        backend = self.start_backend(image)
        vm = self.make_vm()
        put_behind(vm, strict, iommu)
        vm.add_args("-smp", str(vcpus))
        self.add_disk(vm, backend.socket, props=props + BEHIND, size=size)
        self.run_job(vm, f"{WHERE}\n{STRESS}\n", 240, kernel=kernel)
        self.assertIn("GROUP " + ("DMA\n" if strict else "DMA-FQ\n"),
                      vm.serial_text())
        self.assertNotIn("DMAR: [", vm.serial_text(), "faults")
        self.verify_image(image, "--generation", "7")


@on_both_threads
class Disk(Load):
    """In each thread."""

    def test_strict(self) -> None:
        self.check(",num-queues=1", True)

    def test_virtio_iommu(self) -> None:
        """Debian 13's kernel has its driver."""
        self.check(",num-queues=1", True, iommu="virtio", kernel="6.12")

    def test_stops_and_backends(self) -> None:
        """Under load."""
        image = self.make_disk("32M")
        self.backend = self.start_backend(image)
        vm = self.make_vm()
        put_behind(vm, False)
        self.add_disk(vm, self.backend.socket, props=",num-queues=2" + BEHIND,
                      chardev=",reconnect-ms=100")
        vm.add_job(LOAD)
        vm.launch()
        self.stop_and_cont(vm, 10, 0.1)
        for _ in range(3):
            self.backend.kill()
            time.sleep(0.2)
            self.backend.start()
            self.expect_progress(vm)
        vm.say("end")
        self.expect_ok(vm)
        self.verify_image(image, "--generation", "7")

    def test_unplugged_under_load(self) -> None:
        """The driver unmaps everything, and the device is gone."""
        backend = self.start_backend(self.make_disk("32M"))
        vm = self.make_vm()
        put_behind(vm)
        vm.add_args("-device", "pcie-root-port,id=port0,chassis=1,slot=1")
        self.add_disk(vm, backend.socket, chardev=",reconnect-ms=100",
                      props=",num-queues=1,bus=port0" + BEHIND)
        vm.add_job(LOAD)
        vm.launch()
        vm.wait_serial("^LOAD progress")
        vm.cmd("device_del", id="disk0")
        wait_until(lambda: vm.cmd("query-vhost-user-isolation") == [], 60,
                   "the disk to be gone")
        vm.wait_serial("^LOAD failed")
        self.assertEqual(vm.cmd("query-status")["status"], "running")


class Rings(Load, IsolationTest):
    """Of all kinds."""

    iothread = True

    @long_form
    def test_lazy(self) -> None:
        self.check(",num-queues=2", False)

    def test_packed(self) -> None:
        self.check(",num-queues=1,packed=on", True)

    def test_two_processors(self) -> None:
        """One of them unmaps what the other's requests are behind."""
        self.check(",num-queues=2", True, vcpus=2)

    @long_form
    def test_virtio_iommu_lazy(self) -> None:
        self.check(",num-queues=2,packed=on", False, iommu="virtio",
                   kernel="6.12", vcpus=2)

    @long_form
    def test_without_tables_and_event_indices(self) -> None:
        self.check(",num-queues=1,event_idx=off,indirect_desc=off", False)

    @long_form
    def test_region_so_small_that_requests_wait(self) -> None:
        self.check(",num-queues=1", True, "4M")


class Saved(Behind, IsolationTest):
    """What is out travels with the addresses that the driver gave it."""

    iothread = True
    megabytes = 256

    save = Save.save
    wait_migration = Save.wait_migration

    def machine(self, name: str, *options: str) -> GuestVm:
        vm = self.make_vm(name)
        put_behind(vm)
        vm.add_args(*options)
        self.add_disk(vm, self.backend.socket, props=",num-queues=1" + BEHIND,
                      chardev=",reconnect-ms=100")
        vm.add_job(LOAD)
        return vm

    def test_under_load(self) -> None:
        image = self.make_disk("32M")
        self.backend = self.start_backend(image)
        source = self.machine("source")
        source.launch()
        source.wait_serial("^LOAD progress")
        state = self.work / "state"
        self.assertEqual(self.save(source, state), "completed")
        source.end()
        loaded = self.machine("loaded", "-incoming", f"file:{state}")
        loaded.launch()
        loaded.wait_serial("^LOAD progress", 30)
        loaded.say("end")
        self.expect_ok(loaded)
        self.verify_image(image, "--generation", "7")


@on_both_threads
class Net(Behind, Frames):
    """Frames through testpmd, compared."""

    def make_vm(self, name: str = "vm") -> GuestVm:
        vm = super().make_vm(name)      # type: ignore[misc]
        put_behind(vm, self.strict)
        return vm

    def check(self, strict: bool, **options: Any) -> None:
        """More than the rings have elements: one of them crosses a page."""
        self.strict = strict
        self.start(device=BEHIND, **options)
        self.exchange.frames("--window 40", frames=1000)
        self.finish()

    def test_strict(self) -> None:
        self.check(True)

    def test_lazy_packed(self) -> None:
        self.check(False, guest_packed=True, packed=True)
