# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest on vhost-vdpa arrives, with every byte of its memory."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from harness import TOP, GuestVm, IsolationTest, guest
from test_docs import blocks
from vdpa import KERNEL, MODULES, Rings, firmware_files, kernel_modules, \
    program, stripped_qemu
from vdpa_migration import DEPTH, FAST, PATIENT, Outer, Pair, is_debians

SPLIT, PACKED = (
    Rings(packed=packed and not is_debians(), event_idx=True,
          indirect=not is_debians()) for packed in (False, True))


CTRL_VQ = 17
TEXT = TOP / "docs/system/devices/vhost-vdpa-migration.rst"


class MigrationTest(IsolationTest):
    """Side a has split rings, side b packed ones; each is left and entered."""

    limit = 1200

    def outer(self, job: str = "", seconds: int = 20) -> Outer:
        vm = GuestVm(self.work)
        vm.add_memory(1000, shared=False)
        self.addCleanup(vm.end)
        self.addCleanup((self.work / "qemu").unlink, missing_ok=True)
        outer = Outer(vm, SPLIT, PACKED, job, seconds)
        self.addCleanup(outer.close)
        self.addCleanup(outer.tell)
        return outer

    def same_memory(self, said: str) -> None:
        self.assertIn("same memory", said)

    def move_all(self, outer: Outer, pair: Pair, times: int) -> None:
        """Each side that was left had shadow rings, as good as it can."""
        for _ in range(times):
            pair.move(self.same_memory)
        rest = self.finish(pair, outer)
        for name, rings in list(zip("ab", (SPLIT, PACKED)))[:times]:
            for i in range(2):
                self.assertIn(f"{name}:{name}{i}: queue {1 - i}: "
                              f"{rings.log_line(1024)}\n", rest)

    def finish(self, pair: Pair, outer: Outer) -> str:
        """Frames that were lost are no more than were under way once."""
        results, rest = pair.finish()
        self.assertTrue(results)
        for result in results:
            self.assertEqual((result.bad, result.errors), (0, 0), result)
            self.assertGreater(result.verified, 0)
            self.assertLessEqual(result.lost, DEPTH)
        outer.end()
        return rest


class VdpaByHand(MigrationTest):
    """What docs/system tells people to type."""

    group = "vdpa"

    def test_all_commands_of_the_text(self) -> None:
        build, *steps = blocks(TEXT)
        made = subprocess.run(["sh", "-ec", build], cwd=TOP, check=True,
                              capture_output=True, text=True).stdout.split()
        self.assertEqual([Path(p).name for p in made],
                         ["vduse-net", "loadvm.elf"])
        script = "\n".join([
            "cd /", "ip link set lo up", "modprobe() {",
            f"for m in {' '.join(MODULES)}; do insmod modules/$m.ko; done", "}",
            *steps, "wait", "[ ! -e /dev/vhost-vdpa-0 ]"])
        qemu = stripped_qemu(self.work)
        self.addCleanup(qemu.unlink)
        bundle = "build/qemu/qemu-bundle/usr/local/share/qemu"
        files = {**program("vdpa", guest.sbin("vdpa")),
                 **program("qemu-system-x86_64", qemu),
                 **{f"build/guest/{Path(p).name}": Path(p) for p in made},
                 **kernel_modules(self.work),
                 **firmware_files(bundle)}
        files["build/qemu/qemu-system-x86_64"] = \
            files.pop("usr/bin/qemu-system-x86_64")
        vm = GuestVm(self.work)
        vm.add_memory(800, shared=False)
        self.addCleanup(vm.end)
        vm.add_args("-smp", "2")
        vm.add_job(script, files, kernel=KERNEL)
        vm.launch()
        self.expect_ok(vm, 600)
        text = vm.serial_text()
        self.assertIn("the same memory", text)
        self.assertRegex(text, r'"bad":0,"lost":[0-8],')
        for name in ("a0", "a1"):
            for ring in ("split ring of 1024, event_idx, base 0",
                         "split ring of 1024, event_idx, indirect, base 0"):
                self.assertIn(f"{name}: queue 0: {ring}", text)


class VdpaMigration(MigrationTest):
    """There and back."""

    def test_guest_arrives_and_comes_back(self) -> None:
        outer = self.outer()
        self.move_all(outer, Pair(outer), 2)


class VdpaMigrationAll(MigrationTest):
    """Often, with rings of all kinds, and all that can go wrong."""

    group = "vdpa"

    def test_ten_times_there_and_back(self) -> None:
        outer = self.outer()
        self.move_all(outer, Pair(outer), 20)

    def test_kernel_takes_no_control_queue(self) -> None:
        """When one does, the control queue is to be tried here as well."""
        outer = self.outer()
        said = outer.run(f"vduse-net {1 << CTRL_VQ} 1024 0 c0 c1; true")
        self.assertIn("VDUSE_CREATE_DEV: Invalid argument", said)
        outer.end()

    def test_guest_with_packed_rings(self) -> None:
        """They are QEMU's all the time, and the device's are split or packed."""
        outer = self.outer(job=" ring=packed")
        self.move_all(outer, Pair(outer, ",x-svq=on", ",packed=on"), 4)

    def test_cancelled_at_any_moment(self) -> None:
        """Or too late, when the migration to nowhere has ended."""
        outer = self.outer()
        pair = Pair(outer)
        dice = random.Random()
        for i in range(10):
            after = dice.choice((0, 0.1, 0.5, 2)) * dice.random()
            speed = FAST if i % 2 else PATIENT
            with self.subTest(seconds=after, speed=speed):
                pair.cancel(after, speed)
        pair.go_nowhere()
        self.move_all(outer, pair, 1)

    def test_destination_that_cannot_load(self) -> None:
        """It has got all memory by then; the guest goes on where it was."""
        outer = self.outer()
        pair = Pair(outer)
        pair.ask("a", "migrate-set-capabilities", capabilities=[
            {"capability": "return-path", "state": True}])
        for _ in range(2):
            pair.wait_for_guest(props=",event_idx=off")
            pair.begin_migration()
            pair.set_speed(FAST)
            pair.wait_migration("failed")
            pair.expect_end("b")
            pair.expect_new_work()
        self.move_all(outer, pair, 1)

    def test_device_that_refuses_shadow_queues(self) -> None:
        """Nothing migrates, and the guest keeps its own, on both devices."""
        # Long enough that no start is one of a new job's.
        outer = self.outer(seconds=60)
        pair = Pair(outer)
        for which in (1, 2):
            pair.refuse_start(which)
            pair.ask("a", "migrate", uri="exec:cat > /dev/null")
            pair.wait_migration("failed")
            pair.expect_new_work()
        self.move_all(outer, pair, 1)
