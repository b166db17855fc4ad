# SPDX-License-Identifier: GPL-2.0-or-later
"""How much a backend sees of what it was not given.

tests/backends/small-spy counts, for a load, the bytes that came to be visible
to it and the bytes that the guest gave it.  One over the other is 1 if it sees
no padding, nothing of a neighbour, and nothing of an earlier request in a part
that the device writes.
"""

from __future__ import annotations

import json
import os
import re
import signal

from harness import QEMU, IsolationTest, Program, wait_until
import loadvm
import small_load

# Chains of three and of nine, of all sizes that a disk has; then all read back.
DISK_LOAD = ("rw=write bs=64k depth=4", "rw=randrw bs=8k segments=7 depth=16 "
             "requests=600", "rw=randrw bs=512 depth=8 requests=300",
             "rw=read bs=36k segments=2 depth=4")
TRIM = ",memory-isolation-trim=on"
# As one would use it: what the device writes is cleared once.
WIPE = ",memory-isolation-wipe=on,memory-isolation-scrub=off"
# Frames of odd lengths.
NET_LOAD = tuple(f"type=net bs={size} depth=4 requests={count}" for size, count
                 in ((61, 100), (333, 200), (1513, 300)))


class ExposureCase(IsolationTest):
    """A guest without an operating system on a backend that spies."""

    megabytes = 16
    limit = 400

    def start_spy(self, kind: str) -> Program:
        program = str(small_load.compile_backend("spy"))
        return self.start_program([program, "{socket}", kind])

    def report(self, spy: Program) -> dict[str, int]:
        """What the spy has counted until now."""
        def lines() -> list[str]:
            return re.findall(r"^SPY (.*)$", spy.log.read_text("utf-8"),
                              re.MULTILINE)
        before = len(lines())
        os.kill(spy.pid, signal.SIGUSR1)
        wait_until(lambda: len(lines()) > before, 10, "the spy's report")
        found: dict[str, int] = json.loads(lines()[-1])
        return found

    def boot(self, *devices: str) -> loadvm.Session:
        """A guest that waits for jobs, ended with the test."""
        ram = f"memory-backend-memfd,id=ram,share=on,size={self.megabytes}M"
        command = [str(QEMU), "-m", str(self.megabytes), "-machine",
                   "pc,accel=tcg" + ("" if self.isolated else
                                     ",memory-backend=ram")]
        command += [] if self.isolated else ["-object", ram]
        command += ["-object", "iothread,id=io0"] if self.iothread else []
        session = loadvm.Session([*command, *devices])
        self.addCleanup(session.__exit__)
        session.wait_ready()
        return session

    def properties(self, megabytes: int) -> str:
        """Of a device with a region of that size, or of an ordinary one."""
        if not self.isolated:
            return ""
        return (",memory-isolation=on,x-memory-isolation-indirect=off,"
                f"memory-isolation-size={megabytes}M" +
                (",iothread=io0" if self.iothread else ""))

    def run_job(self, session: loadvm.Session, job: str) -> None:
        """It comes out well."""
        result = session.run(job)
        self.assertEqual((result.bad, result.errors), (0, 0), job)

    def disk_load(self, props: str = "") -> tuple[loadvm.Session, Program]:
        """A VM that has done DISK_LOAD and waits, and the spy."""
        spy = self.start_spy("blk")
        session = self.boot(
            "-chardev", f"socket,id=disk,path={spy.socket}", "-device",
            "vhost-user-blk-pci,chardev=disk" + self.properties(2) + props)
        for job in DISK_LOAD:
            self.run_job(session, job)
        return session, spy

    def expect_no_residue(self, spy: Program) -> None:
        """Sooner or later, once the device is idle."""
        wait_until(lambda: self.report(spy)["residue"] == 0, 5,
                   "the region to be trimmed")
        self.say_figures(self.report(spy))

    def expect_ratio_of_one(self, seen: dict[str, int], given: int) -> None:
        """Of @given bytes at least, which is what the load had."""
        self.say_figures(seen)
        self.assertGreaterEqual(seen["given"], given)
        self.assertEqual((seen["stray"], seen["stale"]), (0, 0), seen)
        self.assertEqual(seen["visible"], seen["given"])

    def say_figures(self, seen: dict[str, int]) -> None:
        # unittest has begun a line.
        print(f"\nFIGURES visible {seen['visible']:,}, given "
              f"{seen['given']:,}: {seen['visible'] / seen['given']:.3f}; "
              f"readable afterwards {seen['residue']:,}", flush=True)


class Exposure(ExposureCase):
    """What is run each time."""

    iothread = True

    def test_disk_shows_what_it_was_given_and_no_more(self) -> None:
        self.expect_ratio_of_one(self.report(self.disk_load()[1]), 4 << 20)

    def test_wiped_disk_shows_no_more_and_leaves_nothing(self) -> None:
        """It need not be idle for that."""
        seen = self.report(self.disk_load(WIPE)[1])
        self.expect_ratio_of_one(seen, 4 << 20)
        self.assertEqual(seen["residue"], 0)

    def test_trimmed_disk_leaves_nothing(self) -> None:
        """And has lost nothing: it goes on, and what it holds is right."""
        session, spy = self.disk_load(TRIM)
        for _ in range(2):
            self.expect_no_residue(spy)
            self.run_job(session, DISK_LOAD[1])
            self.run_job(session, DISK_LOAD[3])
        seen = self.report(spy)
        self.assertEqual((seen["stray"], seen["stale"]), (0, 0), seen)
        self.expect_no_residue(spy)


class ExposureMore(ExposureCase):
    """Other threads, rings and devices; and that the spy sees what is wrong."""

    group = "exposure"

    def test_disk_in_the_main_loop(self) -> None:
        self.expect_ratio_of_one(self.report(self.disk_load()[1]), 4 << 20)

    def test_trimmed_disk_in_the_main_loop(self) -> None:
        self.expect_no_residue(self.disk_load(TRIM)[1])

    def test_trimmed_network_keeps_its_receive_buffers(self) -> None:
        """They are out all the time, and what is between them is cleared."""
        spy = self.start_spy("net")
        session = self.network(spy, TRIM)
        for _ in range(2):
            for job in NET_LOAD:
                self.run_job(session, job)
            self.expect_no_residue(spy)

    def test_disk_that_is_not_trimmed_leaves_something(self) -> None:
        self.assertGreater(self.report(self.disk_load()[1])["residue"], 0)

    def network(self, spy: Program, props: str = "") -> loadvm.Session:
        return self.boot(
            "-chardev", f"socket,id=net,path={spy.socket}", "-netdev",
            f"vhost-user,id=net0,chardev=net{self.properties(4)}{props}",
            "-device", "virtio-net-pci,netdev=net0,romfile=")

    def network_load(self, props: str = "") -> dict[str, int]:
        """What the spy saw of NET_LOAD."""
        spy = self.start_spy("net")
        session = self.network(spy, props)
        for job in NET_LOAD:
            self.run_job(session, job)
        return self.report(spy)

    def test_network(self) -> None:
        self.expect_ratio_of_one(self.network_load(), 500_000)

    def test_wiped_network(self) -> None:
        seen = self.network_load(WIPE)
        self.expect_ratio_of_one(seen, 500_000)
        self.assertEqual(seen["residue"], 0)

    def test_spy_sees_an_earlier_request_where_nobody_clears(self) -> None:
        seen = self.report(self.disk_load(",memory-isolation-scrub=off")[1])
        self.say_figures(seen)
        self.assertGreater(seen["stale"], 0)
        self.assertEqual(seen["stray"], 0, seen)

    def test_spy_sees_more_of_a_guest_whose_ram_it_has(self) -> None:
        self.isolated = False
        seen = self.report(self.disk_load()[1])
        self.say_figures(seen)
        self.assertGreater(seen["stray"], 0, seen)
