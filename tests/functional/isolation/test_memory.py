#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of all kinds, that comes and goes under load."""

from __future__ import annotations

import time
import unittest
from pathlib import Path

from events import event
from harness import (GuestVm, HarnessError, IsolationTest, on_both_threads,
                     wait_until)
from test_lifecycle import LOAD

HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
STRESS = """
load stress /dev/vda --seconds 2 --depth 24 --max-request 256K \\
    --segments 100 --generation 7 && load verify /dev/vda --generation 7
"""
# What is plugged in is used at once, and can be given back.
OPTIONS = "memhp_default_state=online_movable"


def plug_memory(vm: GuestVm, slot: int, shared: bool = False) -> None:
    """128 MiB more, in a DIMM; ordinary vhost-user wants it @shared."""
    vm.cmd("object-add", **{"qom-type": "memory-backend-memfd",
                            "id": f"mem{slot}", "size": 128 << 20,
                            "share": shared})
    vm.cmd("device_add", driver="pc-dimm", id=f"dimm{slot}",
           memdev=f"mem{slot}")


@on_both_threads
class Changes:
    """Guest memory changes under the rings that are in use."""

    megabytes = 320
    limit = 240

    def start(self, *options: str, before: str = "") -> GuestVm:
        self.image = self.make_disk("32M")
        self.backend = self.start_backend(self.image)
        vm = self.make_vm()
        vm.args[vm.args.index("-m") + 1] += ",slots=4,maxmem=1G"
        vm.kernel_options = OPTIONS
        vm.add_args("-smp", "2", *options)
        self.add_disk(vm, self.backend.socket, props=",num-queues=2")
        vm.add_job(before + LOAD)
        vm.launch()
        vm.wait_serial("^LOAD progress")
        return vm

    def finish(self, vm: GuestVm) -> None:
        self.expect_progress(vm)
        vm.say("end")
        self.expect_ok(vm)
        self.verify_image(self.image, "--generation", "7")

    @event("Disk", "Memory is plugged in under load.", "The memory.")
    def test_plugged(self) -> None:
        vm = self.start()
        for slot in range(4):
            plug_memory(vm, slot, not self.isolated)
            time.sleep(0.2)
        self.finish(vm)

    @event("Disk", "Memory is unplugged under load.",
           "That it has less memory.")
    def test_unplugged(self) -> None:
        vm = self.start()

        def is_there() -> bool:
            return vm.cmd("query-memory-devices") != []
        for _ in range(3):
            plug_memory(vm, 0, not self.isolated)
            self.expect_progress(vm)
            while is_there():
                # A guest that uses it just now may refuse.
                vm.cmd("device_del", id="dimm0")
                try:
                    wait_until(lambda: not is_there(), 10, "an answer")
                except HarnessError:
                    continue
            vm.cmd("object-del", id="mem0")
        self.finish(vm)

    @event("Disk", "Memory of virtio-mem comes and goes under load.",
           "How much there is.")
    def test_virtio_mem(self) -> None:
        memory = "memory-backend-memfd,id=more,size=256M,share=on" \
            if not self.isolated else "memory-backend-ram,id=more,size=256M"
        vm = self.start("-object", memory, "-device",
                        "virtio-mem-pci,id=vmem0,memdev=more",
                        before="modprobe virtio_mem\n")
        for size in (256, 0, 128, 0):
            vm.cmd("qom-set", path="/machine/peripheral/vmem0",
                   property="requested-size", value=size << 20)
            wait_until(lambda: vm.cmd(
                "qom-get", path="/machine/peripheral/vmem0",
                property="size") == size << 20, 60, f"{size} MiB")
            self.expect_progress(vm)
        self.finish(vm)

    @event("Disk", "The balloon is filled and emptied under load.",
           "How much there is.")
    def test_balloon(self) -> None:
        vm = self.start("-device", "virtio-balloon-pci",
                        before="modprobe virtio_balloon\n")
        for size in (240, 320, 260, 320):
            vm.cmd("balloon", value=size << 20)
            wait_until(lambda: vm.cmd("query-balloon")["actual"] ==
                       size << 20, 60, f"{size} MiB")
            self.expect_progress(vm)
        self.finish(vm)


class Kinds(IsolationTest):
    """Wherever the guest's memory comes from."""

    iothread = True
    megabytes = 128
    limit = 200

    def check(self, backend: str, options: str = "") -> None:
        if not self.isolated:
            self.skipTest("ordinary vhost-user wants shared memory")
        image = self.make_disk("32M")
        disk = self.start_backend(image)
        vm = self.make_vm()
        vm.add_args("-machine", "memory-backend=ram", "-smp", "2", "-object",
                    f"{backend},id=ram,size={self.megabytes}M{options}")
        self.add_disk(vm, disk.socket, props=",num-queues=2")
        self.run_job(vm, STRESS)
        self.verify_image(image, "--generation", "7")

    def file(self, options: str) -> None:
        path = self.work / "memory"
        self.addCleanup(path.unlink, missing_ok=True)
        self.check("memory-backend-file", f",mem-path={path}{options}")

    def test_anonymous(self) -> None:
        self.check("memory-backend-ram", ",merge=on,dump=off")

    def test_anonymous_shared(self) -> None:
        self.check("memory-backend-ram", ",share=on,prealloc=on")

    def test_memfd_private(self) -> None:
        self.check("memory-backend-memfd", ",share=off")

    def test_memfd_shared(self) -> None:
        self.check("memory-backend-memfd", ",share=on,seal=on")

    def test_file_private(self) -> None:
        self.file(",share=off,rom=off")

    def test_file_shared(self) -> None:
        self.file(",share=on,discard-data=on")

    def test_huge_pages(self) -> None:
        """As many as it takes, which are given back afterwards."""
        wanted = self.megabytes // 2
        pages = HUGE_PAGES / "nr_hugepages"
        try:
            before = int(pages.read_text())
            pages.write_text(str(before + wanted))
            self.addCleanup(pages.write_text, str(before))
            free = int((HUGE_PAGES / "free_hugepages").read_text())
        except OSError as err:
            self.skipTest(f"no huge pages can be had: {err}")
        if free < wanted:
            self.skipTest(f"no {wanted} huge pages can be had, but {free}")
        self.check("memory-backend-memfd", ",share=off,hugetlb=on")


if __name__ == "__main__":
    unittest.main()
