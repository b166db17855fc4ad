#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM is saved and loaded, and gets memory, while its disk is busy."""

from __future__ import annotations

import time
import unittest
from pathlib import Path

from harness import GuestVm, on_both_threads, wait_until
from test_lifecycle import LOAD, SLOW

# A part of what SLOW has out at once; booting writes nothing.
OUT = 40 << 10


@on_both_threads
class Save:
    """The backend neither logs dirty pages nor knows of migration."""

    megabytes = 192
    limit = 240

    def machine(self, name: str, script: str, *options: str) -> GuestVm:
        vm = self.make_vm(name)
        vm.add_args("-smp", "2", *options)
        self.add_disk(vm, self.backend.socket, props=",num-queues=2")
        vm.add_job(script)
        return vm

    def wait_migration(self, vm: GuestVm) -> str:
        for _ in range(600):
            status = vm.cmd("query-migrate")
            if status.get("status") in ("completed", "failed"):
                return str(status["status"])
            time.sleep(0.1)
        return "unfinished"

    def save(self, vm: GuestVm, path: Path) -> str:
        self.addCleanup(path.unlink, missing_ok=True)
        vm.cmd("migrate", uri=f"file:{path}")
        return self.wait_migration(vm)

    def test_saved_under_load_and_loaded(self) -> None:
        image = self.make_disk("32M")
        self.backend = self.start_backend(image)
        source = self.machine("source", LOAD)
        source.launch()
        source.wait_serial("^LOAD progress")
        state = self.work / "state"
        self.assertEqual(self.save(source, state), "completed")
        source.end()

        loaded = self.machine("loaded", LOAD, "-incoming", f"file:{state}")
        loaded.launch()
        loaded.wait_serial("^LOAD progress", 30)
        loaded.say("end")
        self.expect_ok(loaded)
        self.verify_image(image, "--generation", "7")

    def test_requests_that_are_kept_cannot_be_saved(self) -> None:
        """The save fails with a reason, and the guest loses nothing."""
        if not self.isolated:
            self.skipTest("stock QEMU keeps no request")
        image = self.make_disk("32M")
        self.backend = self.start_backend(image, iops=4)
        vm = self.machine("vm", SLOW)
        vm.launch()
        # All are out then, but for those that a busy machine has yet to carry.
        vm.wait_serial("^LOAD started")
        wait_until(lambda: vm.isolation_stats()["bytes-out"] > OUT, 30,
                   "requests to be out")
        self.assertEqual(self.save(vm, self.work / "state"), "failed")
        self.assertIn("memory-isolation-stop-ms", self.log_of(vm))
        self.expect_ok(vm, 200)
        self.verify_image(image, "--size", "256K", "--generation", "7")

    @staticmethod
    def log_of(vm: GuestVm) -> str:
        return (vm.work / f"{vm._name}.log").read_text("utf-8", "replace")

    def test_memory_plugged_under_load(self) -> None:
        """Guest memory changes under the rings that are in use."""
        image = self.make_disk("32M")
        self.backend = self.start_backend(image)
        vm = self.make_vm()
        vm.args[vm.args.index("-m") + 1] += ",slots=4,maxmem=1G"
        vm.add_args("-smp", "2")
        self.add_disk(vm, self.backend.socket, props=",num-queues=2")
        vm.add_job(LOAD)
        vm.launch()
        vm.wait_serial("^LOAD progress")
        for slot in range(4):
            vm.cmd("object-add", **{"qom-type": "memory-backend-ram",
                                    "id": f"mem{slot}", "size": 128 << 20})
            vm.cmd("device_add", driver="pc-dimm", id=f"dimm{slot}",
                   memdev=f"mem{slot}")
            time.sleep(0.2)
        self.expect_progress(vm)
        vm.say("end")
        self.expect_ok(vm)
        self.verify_image(image, "--generation", "7")


if __name__ == "__main__":
    unittest.main()
