# SPDX-License-Identifier: GPL-2.0-or-later
"""The load VM drives disks and NICs, and notices what is wrong with them."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path
from typing import BinaryIO, Callable

from harness import TOP, QEMU, GuestVm, IsolationTest, isolation_args
from net_guest import add_interface
from net_testpmd import Testpmd
import loadvm
import loadvm_trace
from loadvm import Result

MEGABYTES = 16
DISK = "16M"
BLOCK = 512
NUM_BLOCKS = (16 << 20) // BLOCK
RINGS = [f"ring={ring} irq={irq} indirect={indirect} event_idx={event_idx}"
         for ring, irq, indirect, event_idx in itertools.product(
             ("split", "packed"), ("poll", "msix"), ("off", "on"),
             ("off", "on"))]
# Filled, worked on, and read whole again; chains of 3, of 9 and of 4.
ROUND = ("rw=write bs=64k depth=8", "rw=randrw bs=8k segments=7 queues=2 "
         "batch=4 depth=16 requests=600", "rw=read bs=36k segments=2 depth=16")


class LoadVm(IsolationTest):
    """Jobs in one VM; each ring is worked on by three of them."""

    megabytes = MEGABYTES

    def run_jobs(self, vm: GuestVm, jobs: list[str],
                 trace: Path | None = None) -> list[Result]:
        vm.add_args("-no-reboot", *loadvm.kernel_args(jobs, trace))
        vm.launch()
        vm.wait_serial("^LOADVM (done|fatal)")
        vm.wait(30)
        return loadvm.results(vm.serial_text())

    def expect_good(self, results: list[Result], jobs: list[str]) -> None:
        self.assertEqual(len(results), len(jobs))
        for job, result in zip(jobs, results):
            self.assertEqual((result.bad, result.errors, result.unknown),
                             (0, 0, 0), job)

    def expect_rings_work(self, make: Callable[[], GuestVm]) -> None:
        """Two VMs, since the text behind -append must not be long."""
        for rings in (RINGS[:8], RINGS[8:]):
            jobs = [f"{job} {ring}" for ring in rings for job in ROUND]
            results = self.run_jobs(make(), jobs)
            self.expect_good(results, jobs)
            for ring, result in zip(rings, results[2::3]):
                self.assertEqual(result.verified, NUM_BLOCKS, ring)

    def own_disk(self, vm: GuestVm, image: Path, device: str = "") -> None:
        """A disk in QEMU itself."""
        vm.add_args("-blockdev",
                    f"driver=file,node-name=disk,filename={image}", "-device",
                    device or "virtio-blk-pci,drive=disk,packed=on,"
                    "num-queues=2")

    def test_every_ring_on_a_disk_of_qemu(self) -> None:
        image = self.make_disk(DISK)

        def make() -> GuestVm:
            vm = self.make_vm()
            vm.add_args("-smp", "2")
            self.own_disk(vm, image)
            return vm
        self.expect_rings_work(make)

    def test_every_ring_on_an_isolated_disk(self) -> None:
        backend = self.start_backend(self.make_disk(DISK), queues=2)

        def make() -> GuestVm:
            vm = self.make_vm()
            vm.add_args("-smp", "2")
            self.add_disk(vm, backend.socket, props=",packed=on,num-queues=2")
            return vm
        self.expect_rings_work(make)

    def test_a_disk_that_is_not_isolated(self) -> None:
        """Its backend knows split rings and gets the guest's memory."""
        self.isolated = False
        backend = self.start_backend(self.make_disk(DISK), queues=2)
        vm = self.make_vm()
        self.add_disk(vm, backend.socket, props=",num-queues=2")
        jobs = [f"{job} {ring}" for ring in RINGS[:8] for job in ROUND]
        self.expect_good(self.run_jobs(vm, jobs), jobs)

    def test_scsi(self) -> None:
        vm = self.make_vm()
        self.own_disk(vm, self.make_disk(DISK), "virtio-scsi-pci,id=scsi,"
                      "packed=on,num_queues=2")
        vm.add_args("-device", "scsi-hd,drive=disk,bus=scsi.0")
        jobs = [f"type=scsi {job} {RINGS[-1]}" for job in ROUND]
        self.expect_good(self.run_jobs(vm, jobs), jobs)

    def test_chain_as_long_as_the_ring(self) -> None:
        vm = self.make_vm()
        self.own_disk(vm, self.make_disk(DISK))
        log = self.work / "pops.log"
        vm.add_args("-trace", "enable=virtqueue_pop", "-D", str(log))
        jobs = [f"rw={rw} bs=127k segments=254 size=256 depth=1 ring={ring}"
                for ring in ("split", "packed") for rw in ("write", "read")]
        self.expect_good(self.run_jobs(vm, jobs), jobs)
        seen = set(re.findall(r"in_num (\d+) out_num (\d+)",
                              log.read_text("ascii", "replace")))
        # Header and data, and the status; or header, and data and status.
        self.assertEqual(seen, {("1", "255"), ("255", "1")})

    def read_after(self, writes: list[str], change: Callable[[BinaryIO], None],
                   read: str) -> tuple[Result, str]:
        """Of a VM that reads what another one wrote and @change changed."""
        image = self.make_disk(DISK)
        writer = self.make_vm("writer")
        self.own_disk(writer, image)
        self.run_jobs(writer, writes)
        with image.open("r+b") as disk:
            change(disk)
        reader = self.make_vm("reader")
        self.own_disk(reader, image)
        result = self.run_jobs(reader, [read])[0]
        return result, " ".join(loadvm.remarks(reader.serial_text()))

    def test_changed_bit_is_noticed(self) -> None:
        def flip(disk: BinaryIO) -> None:
            disk.seek(1000 * BLOCK + 77)
            byte = disk.read(1)[0]
            disk.seek(-1, 1)
            disk.write(bytes([byte ^ 0x10]))
        result, said = self.read_after(["rw=write bs=64k"], flip,
                                       "rw=read bs=64k filled=1")
        self.assertEqual((result.bad, result.verified), (1, NUM_BLOCKS - 1))
        self.assertIn("block 1000 generation 1: word 9", said)

    def test_misplaced_block_is_noticed(self) -> None:
        def copy(disk: BinaryIO) -> None:
            disk.seek(2000 * BLOCK)
            block = disk.read(BLOCK)
            disk.seek(1000 * BLOCK)
            disk.write(block)
        result, said = self.read_after(["rw=write"], copy, "rw=read filled=1")
        self.assertEqual((result.bad, result.verified), (1, NUM_BLOCKS - 1))
        self.assertIn("block 1000 generation 1", said)
        self.assertIn("it is block 2000 generation 1", said)

    def test_stale_blocks_are_noticed(self) -> None:
        result, said = self.read_after(
            ["rw=write", "rw=write area=1M filled=1"], lambda disk: None,
            "rw=read bs=64k filled=1")
        self.assertEqual((result.bad, result.verified), (2048, NUM_BLOCKS - 2048))
        self.assertIn("it is block 0 generation 2", said)

    def test_disk_that_returns_nothing_is_noticed(self) -> None:
        """Even though the buffer held the right bytes before."""
        vm = self.make_vm()
        vm.add_args("-blockdev", "driver=null-co,node-name=disk,size=65536",
                    "-device", "virtio-blk-pci,drive=disk")
        result = self.run_jobs(vm, ["rw=randrw area=4k depth=1 requests=50"
                                    " filled=1"])[0]
        self.assertEqual(result.verified, 0)
        self.assertGreater(result.bad, 0)

    def test_failed_request_is_counted(self) -> None:
        """Once; what the block holds is known all the same."""
        image, vm = self.make_disk(DISK), self.make_vm()
        vm.add_args("-blockdev", f"driver=file,node-name=file,"
                    f"filename={image}", "-blockdev",
                    "driver=blkdebug,node-name=disk,image=file,"
                    "inject-error.0.event=none,inject-error.0.iotype=read,"
                    "inject-error.0.errno=5,inject-error.0.once=on,"
                    "inject-error.0.sector=1600",
                    "-device", "virtio-blk-pci,drive=disk,rerror=report,"
                    "request-merging=off")
        results = self.run_jobs(vm, ["rw=write", "rw=read", "rw=read"])
        self.assertEqual([r.errors for r in results], [0, 1, 0])
        self.assertEqual([r.verified for r in results],
                         [0, NUM_BLOCKS - 8, NUM_BLOCKS])

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(TOP / "scripts/loadvm"), "--qemu", str(QEMU), *args],
            capture_output=True, text=True, check=False)

    def test_command_says_how_it_went(self) -> None:
        image = self.make_disk(DISK)
        good = self.command("--disk", str(image), "rw=write", "rw=read")
        self.assertEqual(good.returncode, 0, good.stderr)
        self.assertIn(f"{NUM_BLOCKS} right, 0 wrong", good.stdout)
        bad = self.command("--disk", str(image), "--scsi",
                           "rw=read filled=1 seed=2")
        self.assertEqual(bad.returncode, 1, bad.stderr)
        self.assertIn(f"0 right, {NUM_BLOCKS} wrong", bad.stdout)
        self.assertIn("generation 1: word 0", bad.stderr)
        self.assertIn("it is of another seed", bad.stderr)
        none = self.command("--disk", str(image), "rw=up")
        self.assertEqual(none.returncode, 2)
        self.assertIn("rw cannot be 'up'", none.stderr)

    def test_traces_are_replayed(self) -> None:
        for path in sorted(loadvm.TRACES.glob("*.trace.gz")):
            with self.subTest(trace=path.name):
                self.replay(path)

    def replay(self, path: Path) -> None:
        """What QEMU saw of the replay is what the trace says."""
        requests = loadvm_trace.read(path)
        data, log = self.work / "trace", self.work / f"{path.name}.log"
        data.write_bytes(loadvm_trace.for_guest(requests))
        megabytes = (loadvm_trace.end(requests) >> 20) + 1
        image = self.make_disk(f"{megabytes}M", f"{path.name}.img")
        vm = self.make_vm(path.name.split(".")[0])
        self.own_disk(vm, image)
        vm.add_args(*loadvm_trace.record_args(log))
        # One after the other, so that they stay in order; and then not.
        jobs = ["rw=trace depth=1", "rw=trace depth=16 ring=packed"]
        vm.add_args("-m", str(loadvm.needed_megabytes(
            jobs, data.stat().st_size, loadvm_trace.longest(requests),
            image.stat().st_size)))
        for result in self.run_jobs(vm, jobs, data):
            self.assertTrue(result.is_good)
            self.assertEqual(result.requests, len(requests))
            self.assertEqual(result.bytes, sum(r.length for r in requests))
        seen = [(r.op, r.offset, r.length) for r in loadvm_trace.from_log(
            log.read_text("ascii", "replace"))]
        wanted = [(r.op, r.offset, r.length) for r in requests if r.op != "f"]
        self.assertEqual(seen[:len(wanted)], wanted)
        self.assertEqual(sorted(seen[len(wanted):]), sorted(wanted))

    def test_frames_from_one_nic_to_the_other(self) -> None:
        for bs in (60, 1001, 1514):
            vm = self.make_vm(f"vm{bs}")
            for name in ("a", "b"):
                vm.add_args("-netdev", f"hubport,id={name},hubid=0",
                            "-device",
                            f"virtio-net-pci,netdev={name},packed=on")
            jobs = [f"type=net to=1 requests=500 bs={bs} segments=3 {ring}"
                    for ring in RINGS]
            results = self.run_jobs(vm, jobs)
            self.expect_good(results, jobs)
            self.assertEqual({(r.verified, r.lost) for r in results},
                             {(500, 0)})

    def test_frames_through_isolated_nics(self) -> None:
        """DPDK joins the two; it drops what comes before both are up."""
        backend = Testpmd(self.work, queues=2)
        self.addCleanup(backend.stop)
        backend.start()
        vm = self.make_vm()
        vm.add_args("-smp", "2")
        for number, path in enumerate(backend.sockets):
            add_interface(vm, path, number, queues=2, device=",packed=on",
                          netdev=isolation_args(vm, False, self.isolated))
        jobs = [f"type=net to=1 requests=400 queues={queues} {ring}"
                for queues in (1, 2) for ring in RINGS[::5]]
        results = self.run_jobs(vm, jobs)
        self.expect_good(results, jobs)
        for job, result in zip(jobs, results):
            self.assertGreaterEqual(result.verified + result.lost, 400, job)
            self.assertGreater(result.verified, 300, job)

    def test_jobs_that_are_typed(self) -> None:
        image = self.make_disk(DISK)
        with loadvm.Session(
                [str(QEMU), "-accel", "tcg", "-m", str(MEGABYTES),
                 "-blockdev", f"driver=file,node-name=disk,filename={image}",
                 "-device", "virtio-blk-pci,drive=disk"]) as session:
            session.run("rw=write")
            result = session.run("rw=read")
            self.assertEqual(result.verified, NUM_BLOCKS)
            with self.assertRaisesRegex(loadvm.LoadvmError, "no option"):
                session.run("rw=read colour=red")

    def test_what_cannot_be_is_refused(self) -> None:
        for number, (job, text) in enumerate((
                ("rw=sideways", "rw cannot be 'sideways'"),
                ("colour=red", "no option 'colour'"),
                ("depth=0", "depth=0 is not from 1"),
                ("dev=3", "there is no such disk"),
                ("depth=100 segments=9 size=256", "do not fit"),
                ("bs=100", "bs=100 is no multiple"),
                ("bs=1M depth=128", "out of memory"))):
            vm = self.make_vm(f"vm{number}")
            self.own_disk(vm, self.make_disk(DISK, f"disk{number}.img"))
            with self.subTest(job=job), \
                    self.assertRaisesRegex(loadvm.LoadvmError, text):
                self.run_jobs(vm, [job])
