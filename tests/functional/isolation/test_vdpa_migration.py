# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest on vhost-vdpa arrives, with every byte of its memory."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

from harness import TOP, WORK, GuestVm, IsolationTest, guest, take_folder
from test_docs import blocks
from vdpa import KERNEL, MODULES, Rings, firmware_files, kernel_modules, \
    program, stripped_qemu
from vdpa_migration import DEPTH, FAST, PATIENT, Outer, Pair, is_debians

PLAIN = Rings(packed=False, event_idx=False, indirect=False)
SPLIT, PACKED = (
    Rings(packed=packed and not is_debians(), event_idx=True,
          indirect=not is_debians()) for packed in (False, True))


CTRL_VQ = 17
TEXT = TOP / "docs/system/devices/vhost-vdpa-migration.rst"


class MigrationTest(IsolationTest):
    """Side a has split rings, side b packed ones; each is left and entered.

    All tests of a class share an outer guest, which takes long to boot.
    """

    limit = 1200
    together = True
    _outer: Outer | None = None

    @classmethod
    def _boot(cls) -> Outer:
        work = WORK / cls.__qualname__
        cls.addClassCleanup(take_folder(work).close)
        vm = GuestVm(work)
        vm.add_memory(1000, shared=False)
        cls.addClassCleanup(vm.end)
        cls.addClassCleanup((work / "qemu").unlink, missing_ok=True)
        outer = Outer(vm)
        cls.addClassCleanup(outer.close)
        cls.addClassCleanup(outer.end)
        return outer

    def outer(self, a: Rings = SPLIT, b: Rings = PACKED,
              size: int = 1024) -> Outer:
        """With new devices.  What everybody said is in its log at the end."""
        cls = type(self)
        if cls._outer is None:
            cls._outer = self._boot()
        self.addCleanup(cls._outer.tell)
        cls._outer.renew(a, b, size)
        return cls._outer

    def same_memory(self, said: str) -> None:
        self.assertIn("same memory", said)

    def move_all(self, pair: Pair, times: int) -> None:
        """Each side that was left had shadow rings, as good as it can."""
        for _ in range(times):
            pair.move(self.same_memory)
        rest = self.finish(pair)
        for name, rings in list(zip("ab", (SPLIT, PACKED)))[:times]:
            for i in range(2):
                self.assertIn(f"{name}:{name}{i}: queue {1 - i}: "
                              f"{rings.log_line(1024)}\n", rest)

    def finish(self, pair: Pair) -> str:
        """Frames that were lost are no more than were under way once."""
        results, rest = pair.finish()
        self.assertTrue(results)
        for result in results:
            self.assertEqual((result.bad, result.errors), (0, 0), result)
            self.assertGreater(result.verified, 0)
            self.assertLessEqual(result.lost, DEPTH)
        return rest

    def expect_rings(self, said: str, line: str) -> None:
        """Each that a device had was such a one."""
        self.assertEqual(set(re.findall(r"queue \d: (.* base .*)\n", said)),
                         {line})


class VdpaByHand(IsolationTest):
    """What docs/system tells people to type."""

    group = "vdpa"
    limit = 1200

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
        self.move_all(Pair(self.outer()), 2)


class VdpaMigrationOften(MigrationTest):
    """In an outer guest of its own: it takes as long as all others."""

    group = "vdpa"
    limit = 1800

    def test_ten_times_there_and_back(self) -> None:
        self.move_all(Pair(self.outer()), 20)


class VdpaMigrationAll(MigrationTest):
    """With rings of all kinds, and all that can go wrong."""

    group = "vdpa"
    limit = 1500

    def test_kernel_takes_no_control_queue(self) -> None:
        """When one does, the control queue is to be tried here as well."""
        said = self.outer().run(f"vduse-net {1 << CTRL_VQ} 1024 0 c0 c1; true")
        self.assertIn("VDUSE_CREATE_DEV: Invalid argument", said)

    def test_guest_with_packed_rings(self) -> None:
        """They are QEMU's all the time, and the device's are split or packed."""
        self.move_all(Pair(self.outer(), ",x-svq=on", ",packed=on",
                           job="ring=packed"), 4)

    def test_guest_with_packed_rings_is_paused(self) -> None:
        """All that was popped when the VM stopped is there when it goes on."""
        pair = Pair(self.outer(PLAIN), ",x-svq=on", ",packed=on",
                    job="ring=packed")
        pair.pause()
        self.expect_rings(self.finish(pair), PLAIN.log_line(1024))

    def test_device_with_a_ring_of_any_size(self) -> None:
        """Vhost takes powers of two only, also where the device does not."""
        pair = Pair(self.outer(PACKED, size=300), ",x-svq=on")
        self.expect_rings(self.finish(pair), PACKED.log_line(256))

    def test_packed_rings_that_cannot_be_suspended(self) -> None:
        """They are not migrated.  They stay the guest's and do not even stop."""
        pair = Pair(self.outer(PACKED), "", ",packed=on", job="ring=packed")
        pair.ask("a", "migrate", uri="exec:cat > /dev/null")
        pair.wait_migration("failed")
        self.assertIn("this device does not tell where",
                      pair.migration()["error-desc"])
        ring = Rings(packed=True, event_idx=True, indirect=False)
        self.expect_rings(self.finish(pair), ring.log_line(1024))

    def test_device_that_refused_to_start_starts_later(self) -> None:
        """QEMU takes the frames till then."""
        pair = Pair(self.outer(), ",x-svq=on")
        pair.refuse_start(1)
        pair.relink()
        pair.wait_refused()
        pair.relink()
        pair.expect_new_work()
        results, said = pair.finish()
        self.assertEqual([(r.bad, r.errors) for r in results],
                         [(0, 0)] * len(results))
        self.assertEqual(said.count("falling back"), 1)

    def test_cancelled_at_any_moment(self) -> None:
        """Or too late, when the migration to nowhere has ended."""
        pair = Pair(self.outer())
        dice = random.Random()
        for i in range(10):
            after = dice.choice((0, 0.1, 0.5, 2)) * dice.random()
            speed = FAST if i % 2 else PATIENT
            with self.subTest(seconds=after, speed=speed):
                pair.cancel(after, speed)
        pair.go_nowhere()
        self.move_all(pair, 1)

    def test_destination_that_cannot_load(self) -> None:
        """It has got all memory by then; the guest goes on where it was."""
        pair = Pair(self.outer())
        pair.ask("a", "migrate-set-capabilities", capabilities=[
            {"capability": "return-path", "state": True}])
        for _ in range(2):
            pair.wait_for_guest(props=",event_idx=off")
            pair.begin_migration()
            pair.set_speed(FAST)
            pair.wait_migration("failed")
            pair.expect_end("b")
            pair.expect_new_work()
        self.move_all(pair, 1)

    def test_device_that_refuses_shadow_queues(self) -> None:
        """Nothing migrates, and the guest keeps its own, on both devices."""
        # Long enough that no start is one of a new job's.
        pair = Pair(self.outer(), seconds=60)
        for which in (1, 2):
            pair.refuse_start(which)
            pair.ask("a", "migrate", uri="exec:cat > /dev/null")
            pair.wait_migration("failed")
            pair.expect_new_work()
        self.move_all(pair, 1)
