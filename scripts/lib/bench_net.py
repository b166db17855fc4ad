#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What isolation costs a NIC: frames from one NIC of the load VM to another.

DPDK's testpmd joins the two; it polls all the time, so only the one whose turn
it is runs, and the others are stopped.  Every frame is checked.  "frames/s" are
those that arrived, the latency is from one NIC to the other, and costs are a
frame's.

  virtio-net     both NICs are in QEMU and joined there; no vhost-user
  off            vhost-user, whose backend has the guest's memory
  on             memory-isolation=on, frames are carried in the main loop
  on-iothread    in an IOThread that sleeps when there is nothing to do
  on-polling     in an IOThread that looks for a while before it sleeps

Results go to build/bench: all samples as JSON, pictures as SVG.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/functional/isolation"),
                str(TOP / "scripts/lib")]

import harness                                          # noqa: E402
from harness import guest                               # noqa: E402
from net_testpmd import Testpmd                         # noqa: E402
import bench_docs                                       # noqa: E402
import bench_report                                     # noqa: E402
import loadvm                                           # noqa: E402
from bench_contender import Contender, Sample           # noqa: E402
from bench_table import Results                         # noqa: E402

OUT = harness.BUILD / "bench"
MEGABYTES = 16
CONFIGS = ("virtio-net", "off", "on", "on-iothread", "on-polling")
# Bytes of a frame, and frames under way.
LOADS = ((60, 1), (60, 32), (60, 128), (1514, 32), (1514, 128))


class Nics:
    """One configuration: a VM with two NICs, and a testpmd if it has one."""

    def __init__(self, config: str, work: Path) -> None:
        self.config = config
        self._testpmd: Testpmd | None = None
        if config != "virtio-net":
            self._testpmd = Testpmd(work, name=config).start()
        try:
            self._contender = Contender(
                config, [str(harness.QEMU), "-accel", "tcg", "-m",
                         str(MEGABYTES), *self._devices()],
                self._testpmd.pid if self._testpmd else None)
        except BaseException:
            self._stop()
            raise
        self._turn(signal.SIGSTOP)

    def _devices(self) -> list[str]:
        poll = ",poll-max-ns=0" if self.config == "on-iothread" else ""
        words, options = [], ""
        if self.config == "off":
            words = ["-machine", "memory-backend=ram", "-object",
                     "memory-backend-memfd,id=ram,share=on,"
                     f"size={MEGABYTES}M"]
        elif self._testpmd:
            options = ",memory-isolation=on"
        if self.config in ("on-iothread", "on-polling"):
            words = ["-object", f"iothread,id=io0{poll}"]
            options += ",iothread=io0"
        for number in range(2):
            name = f"net{number}"
            words += self._netdev(number, name, options)
            # QEMU's own sends from a ring of 256 at most.
            large = ",tx_queue_size=1024" if self._testpmd else ""
            words += ["-device", f"virtio-net-pci,netdev={name},packed=on,"
                      f"romfile=,rx_queue_size=1024{large}"]
        return words

    def _netdev(self, number: int, name: str, options: str) -> list[str]:
        if not self._testpmd:
            return ["-netdev", f"hubport,id={name},hubid=0"]
        return ["-chardev", f"socket,id=c{name},path="
                f"{self._testpmd.sockets[number]}", "-netdev",
                f"vhost-user,id={name},chardev=c{name}{options}"]

    def _turn(self, number: int) -> None:
        if self._testpmd:
            os.kill(self._testpmd.pid, number)

    def run(self, job: str) -> Sample:
        self._turn(signal.SIGCONT)
        try:
            return self._contender.run(job, lambda result: result.verified)
        finally:
            self._turn(signal.SIGSTOP)

    @property
    def counts_calls(self) -> bool:
        return self._contender.counts_calls

    def _stop(self) -> None:
        if self._testpmd:
            self._turn(signal.SIGCONT)
            self._testpmd.stop()

    def end(self) -> None:
        # The VM first: a stopped backend would keep it.
        self._contender.end()
        self._stop()


def measure(args: argparse.Namespace) -> tuple[Results, bool]:
    """And whether system calls were counted."""
    results: Results = {f"{size}-{depth}": {c: [] for c in CONFIGS}
                        for size, depth in LOADS}
    contenders: list[Nics] = []
    try:
        for config in CONFIGS:
            contenders.append(Nics(config, args.out / "work"))
        for number in range(args.rounds):
            for load, (size, depth) in zip(results, LOADS):
                job = (f"type=net to=1 bs={size} depth={depth} "
                       f"irq={args.irq} ring={args.ring} indirect=off "
                       f"time={int(args.seconds * 1000)}ms")
                for nics in contenders:
                    results[load][nics.config].append(nics.run(job))
            print(f"bench: round {number + 1} of {args.rounds} done",
                  file=sys.stderr)
        counts_calls = all(nics.counts_calls for nics in contenders)
    finally:
        for nics in contenders:
            nics.end()
    return results, counts_calls


def save(args: argparse.Namespace, results: Results,
         counts_calls: bool) -> Path:
    path = args.out / time.strftime("net-%Y%m%d-%H%M%S.json")
    return bench_report.save(path, args, results, {
        "counts_calls": counts_calls,
        "loads": {f"{size}-{depth}": {"bytes": size, "depth": depth}
                  for size, depth in LOADS}})


def parse() -> argparse.Namespace:
    description = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog="scripts/bench net", description=description[1],
        formatter_class=argparse.RawDescriptionHelpFormatter)
    bench_report.add_options(parser, bench_docs.NET, OUT)
    return parser.parse_args()


def main() -> int:
    args = parse()
    if args.plot:
        bench_report.show(args.plot, bench_docs.NET, args.write_docs)
        return 0
    bench_report.begin(args.out)
    try:
        guest.build(say=print)
        results, counts_calls = measure(args)
    except (harness.HarnessError, guest.debian.PackageError,
            loadvm.LoadvmError) as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    bench_report.show(save(args, results, counts_calls), bench_docs.NET,
                      args.write_docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
