#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM is saved and loaded, and gets memory, while its disk is busy."""

from __future__ import annotations

import os
import signal
import sys
import time
import unittest
from pathlib import Path

from events import event
from harness import TOP, GuestVm, on_both_threads, wait_until
from test_lifecycle import LOAD, SLOW

# A part of what SLOW has out at once; booting writes nothing.
OUT = 40 << 10
HOLDING = TOP / "tests/backends/holding_disk.py"


@on_both_threads
class Save:
    """The backend neither logs dirty pages nor knows of migration."""

    megabytes = 192
    limit = 240

    def machine(self, name: str, script: str, *options: str,
                ring: str = "packed=off") -> GuestVm:
        vm = self.make_vm(name)
        vm.add_args("-smp", "2", *options)
        # Only what can connect again can be saved.
        self.add_disk(vm, self.backend.socket, props=f",num-queues=2,{ring}",
                      chardev=",reconnect-ms=100")
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

    @event("Disk", "The VM is saved under load, and loaded.", "Nothing.")
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

    def slow_machine(self, image: Path) -> GuestVm:
        """With more out than it can write in a while."""
        if not self.isolated:
            self.skipTest("stock QEMU keeps no request")
        self.backend = self.start_backend(image, iops=4)
        vm = self.machine("vm", SLOW)
        vm.launch()
        # All are out then, but for those that a busy machine has yet to carry.
        vm.wait_serial("^LOAD started")
        wait_until(lambda: vm.isolation_stats()["bytes-out"] > OUT, 30,
                   "requests to be out")
        return vm

    @event("Disk",
           "The VM is saved while the backend has requests, and loaded.",
           "Nothing: they are completed where it is loaded.",
           off="Not possible: QEMU keeps no requests.")
    def test_requests_that_are_out_travel(self) -> None:
        """Where it is loaded they are the first that are done."""
        image = self.make_disk("32M")
        source = self.slow_machine(image)
        state = self.work / "state"
        self.assertEqual(self.save(source, state), "completed")
        source.end()
        self.backend.stop()

        self.backend = self.start_backend(image)
        loaded = self.machine("loaded", SLOW, "-incoming", f"file:{state}")
        loaded.launch()
        self.expect_ok(loaded, 200)
        self.verify_image(image, "--size", "256K", "--generation", "7")

    def test_requests_that_are_out_go_on_after_a_save(self) -> None:
        """They were in the stream, and are still the source's."""
        image = self.make_disk("32M")
        vm = self.slow_machine(image)
        self.assertEqual(self.save(vm, self.work / "state"), "completed")
        vm.cmd("cont")
        self.expect_ok(vm, 200)
        self.verify_image(image, "--size", "256K", "--generation", "7")

    def carry_gaps(self, ring: str) -> None:
        """Requests are out whose successors are done."""
        if not self.isolated:
            self.skipTest("stock QEMU keeps no request")
        image = self.make_disk("8M")
        holding = self.start_program([sys.executable, str(HOLDING), "{socket}",
                                      str(image)], "holding")
        self.backend = holding
        source = self.machine("source", LOAD, ring=ring)
        source.launch()
        source.wait_serial("^LOAD progress")
        before = source.isolation_stats()["requests"]
        os.kill(holding.pid, signal.SIGUSR1)
        wait_until(lambda: source.isolation_stats()["requests"] > before + 24,
                   30, "requests to be held")
        state = self.work / "state"
        self.assertEqual(self.save(source, state), "completed")
        self.assertIn(b"virtio/ring_user", state.read_bytes(),
                      "the ring alone could not say what was out")
        source.end()
        holding.stop()

        self.backend = self.start_backend(image)
        loaded = self.machine("loaded", LOAD, "-incoming", f"file:{state}",
                              ring=ring)
        loaded.launch()
        loaded.wait_serial("^LOAD progress", 30)
        loaded.say("end")
        self.expect_ok(loaded)
        self.verify_image(image, "--generation", "7")

    def test_gaps_on_split_rings_travel(self) -> None:
        self.carry_gaps("packed=off")

    def test_gaps_on_packed_rings_travel(self) -> None:
        self.carry_gaps("packed=on")

    def test_disk_that_cannot_connect_again_is_not_saved(self) -> None:
        """It is said before anything is done."""
        if not self.isolated:
            self.skipTest("stock QEMU keeps no request")
        self.backend = self.start_backend(self.make_disk("32M"))
        vm = self.make_vm()
        self.add_disk(vm, self.backend.socket)
        vm.add_job("read word")
        vm.launch()
        with self.assertRaisesRegex(Exception, "reconnect-ms"):
            vm.cmd("migrate", uri=f"file:{self.work / 'state'}")
        self.assertEqual(vm.cmd("query-status")["status"], "running")


if __name__ == "__main__":
    unittest.main()
