# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest on vhost-vdpa arrives, with every byte of its memory."""

from __future__ import annotations

import random

from harness import GuestVm, IsolationTest
from vdpa import Rings
from vdpa_migration import DEPTH, Outer, Pair, is_debians

SPLIT = Rings(packed=False, event_idx=True, indirect=True)
PACKED = Rings(packed=not is_debians(), event_idx=True, indirect=True)


class MigrationTest(IsolationTest):
    """Side a has split rings, side b packed ones: either is left and entered."""

    limit = 1200

    def outer(self, job: str = "") -> Outer:
        vm = GuestVm(self.work)
        vm.add_memory(1000, shared=False)
        self.addCleanup(vm.end)
        self.addCleanup((self.work / "qemu").unlink, missing_ok=True)
        outer = Outer(vm, SPLIT, PACKED, job)
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
            with self.subTest(seconds=after, slowly=i % 2):
                pair.cancel(after, slowly=bool(i % 2))
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
            pair.fast()
            pair.wait_migration("failed")
            pair.expect_end("b")
            pair.expect_new_work()
        self.move_all(outer, pair, 1)

    def test_device_that_refuses_shadow_queues(self) -> None:
        """Nothing migrates, and the guest keeps its own."""
        outer = self.outer()
        pair = Pair(outer)
        for _ in range(2):
            pair.refuse_next_start()
            pair.ask("a", "migrate", uri="exec:cat > /dev/null")
            pair.wait_migration("failed")
            pair.expect_new_work()
        self.move_all(outer, pair, 1)
