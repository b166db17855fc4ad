#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What isolation costs a disk: the load VM on a null device, side by side.

One VM for each configuration, and a qemu-storage-daemon for those of
vhost-user; all of them are alive and take turns, a short run each.  What else
the machine does meanwhile meets all of them: the table shows medians and, for
the rate, the lowest and the highest run.  Ratios within one table mean more
than its figures do.

CPU time, wake-ups and system calls of each thread are divided by the requests
of that run.  A vCPU that is emulated takes time that a real one would not.

  virtio-blk     the disk is in QEMU, in an IOThread; no vhost-user
  off            vhost-user-blk, which has the guest's memory
  on             memory-isolation=on, requests are carried in the main loop
  on-iothread    in an IOThread that sleeps when there is nothing to do
  on-polling     in an IOThread that looks for a while before it sleeps

The trace is a Debian that boots, as fast as eight requests in flight allow.
Results go to build/bench: all samples as JSON, pictures as SVG.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/functional/isolation"),
                str(TOP / "scripts/lib")]

import harness                                          # noqa: E402
from harness import Backend, guest                      # noqa: E402
import bench_docs                                       # noqa: E402
import bench_report                                     # noqa: E402
import loadvm                                           # noqa: E402
import loadvm_trace                                     # noqa: E402
from bench_contender import Contender                   # noqa: E402
from bench_table import Results                         # noqa: E402

OUT = harness.BUILD / "bench"
MEGABYTES = 48
NULL = "driver=null-co,node-name=disk,size=1073741824,read-zeroes=on"
CONFIGS = ("virtio-blk", "off", "on", "on-iothread", "on-polling")


@dataclass(frozen=True)
class Load:
    """What the guest asks for; without a size it replays the trace."""

    kilobytes: int
    depth: int

    @property
    def name(self) -> str:
        if not self.kilobytes:
            return f"trace-qd{self.depth}"
        size = f"{self.kilobytes}k" if self.kilobytes < 1024 else \
            f"{self.kilobytes >> 10}m"
        return f"{size}-qd{self.depth}"

    def job(self, args: argparse.Namespace) -> str:
        what = f"rw=randread bs={self.kilobytes}k" if self.kilobytes \
            else "rw=trace passes=1000000"
        return (f"{what} verify=off depth={self.depth} irq={args.irq} "
                f"ring={args.ring} indirect={args.indirect} "
                f"queues={args.queues} time={int(args.seconds * 1000)}ms")


LOADS = (Load(4, 1), Load(4, 8), Load(4, 32), Load(4, 128), Load(64, 8),
         Load(1024, 4), Load(0, 8))
TRACE = loadvm.TRACES / "debian-boot.trace.gz"


class Disk:
    """One configuration: a VM, and a storage daemon if it has one."""

    def __init__(self, config: str, args: argparse.Namespace) -> None:
        self.config = config
        self._backend: Backend | None = None
        work = args.out / "work"
        try:
            if config != "virtio-blk":
                self._backend = Backend(work, None, queues=args.queues,
                                        name=config).start()
            self.contender = Contender(
                config, [str(harness.QEMU), "-accel", "tcg", "-m",
                         str(MEGABYTES), "-smp", str(args.queues),
                         *self._devices(args.queues)],
                self._backend.pid if self._backend else None, work / "trace")
        except BaseException:
            self._stop()
            raise

    def _devices(self, queues: int) -> list[str]:
        ring = f",packed=on,queue-size=256,num-queues={queues}"
        poll = ",poll-max-ns=0" if self.config == "on-iothread" else ""
        thread = ["-object", f"iothread,id=io0{poll}"]
        if self._backend is None:
            return [*thread, "-blockdev", NULL, "-device",
                    f"virtio-blk-pci,drive=disk,iothread=io0{ring}"]
        device = f"vhost-user-blk-pci,chardev=disk{ring}"
        words = ["-chardev", f"socket,id=disk,path={self._backend.socket}"]
        if self.config == "off":
            words += shared_memory()
        else:
            device += ",memory-isolation=on"
        if self.config in ("on-iothread", "on-polling"):
            words += thread
            device += ",iothread=io0"
        return [*words, "-device", device]

    def _stop(self) -> None:
        if self._backend:
            self._backend.stop()

    def end(self) -> None:
        self.contender.end()
        self._stop()


def shared_memory() -> list[str]:
    """What stock vhost-user needs."""
    return ["-machine", "memory-backend=ram", "-object",
            f"memory-backend-memfd,id=ram,share=on,size={MEGABYTES}M"]


def _seconds_a_copy(source: object, target: object, size: int,
                    copies: int) -> float:
    best = float("inf")
    for _ in range(20):
        begin = time.perf_counter()
        for _ in range(copies):
            ctypes.memmove(target, source, size)
        best = min(best, (time.perf_counter() - begin) / copies)
    return best


def memcpy_rate(size: int) -> float:
    """Bytes a second that a copy of @size bytes makes, hot, at best.

    What the call itself costs is that of a copy of nothing; on a busy machine
    that can come out longer than the copy, and then it is not taken off.
    """
    source = ctypes.create_string_buffer(size)
    target = ctypes.create_string_buffer(size)
    copies = max(1, (1 << 23) // size)
    whole = _seconds_a_copy(source, target, size, copies)
    alone = whole - _seconds_a_copy(source, target, 0, copies)
    return size / (alone if alone > 0 else whole)


def measure(args: argparse.Namespace) -> tuple[Results, dict[str, Any]]:
    """Turns: round by round, load by load, one contender after the other."""
    results: Results = {w.name: {c: [] for c in CONFIGS} for w in LOADS}
    disks: list[Disk] = []
    try:
        for config in CONFIGS:
            disks.append(Disk(config, args))
        for number in range(args.rounds):
            for load in LOADS:
                # Nobody is always first, or always behind the same one.
                first = (number + LOADS.index(load)) % len(disks)
                for d in disks[first:] + disks[:first]:
                    results[load.name][d.config].append(
                        d.contender.run(load.job(args)))
            print(f"bench: round {number + 1} of {args.rounds} done",
                  file=sys.stderr)
        facts: dict[str, Any] = {
            "resident": {d.config: d.contender.resident() for d in disks},
            "counts_calls": all(d.contender.counts_calls for d in disks),
        }
    finally:
        for disk in disks:
            disk.end()
    return results, facts


def save(args: argparse.Namespace, results: Results,
         facts: dict[str, Any]) -> Path:
    now = time.strftime("%Y%m%d-%H%M%S")
    copies = {str(load.kilobytes): memcpy_rate(load.kilobytes << 10)
              for load in LOADS if load.kilobytes}
    return bench_report.save(args.out / f"load-{now}.json", args, results, {
        "time": now, "indirect": args.indirect, "queues": args.queues,
        "host_kernel": platform.release(),
        "loads": {w.name: asdict(w) for w in LOADS},
        "memcpy_bytes_per_second": copies, **facts})


def parse() -> argparse.Namespace:
    description = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog="scripts/bench load", description=description[1],
        formatter_class=argparse.RawDescriptionHelpFormatter)
    bench_report.add_options(parser, bench_docs.LOAD, OUT)
    parser.add_argument("--indirect", choices=("on", "off"), default="on")
    parser.add_argument("--queues", type=int, default=1,
                        help="and as many vCPUs; depth is that of each")
    return parser.parse_args()


def main() -> int:
    args = parse()
    if args.plot:
        bench_report.show(args.plot, bench_docs.LOAD, args.write_docs)
        return 0
    work = bench_report.begin(args.out)
    try:
        guest.build(say=print)
        (work / "trace").write_bytes(loadvm_trace.for_guest(
            loadvm_trace.read(TRACE)))
        results, facts = measure(args)
    except (harness.HarnessError, guest.debian.PackageError,
            loadvm.LoadvmError) as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    bench_report.show(save(args, results, facts), bench_docs.LOAD,
                      args.write_docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
