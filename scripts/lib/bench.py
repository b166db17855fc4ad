#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What isolation costs: Debian's fio on a null device, side by side.

One VM with a backend of its own for each configuration, all of them alive.
They take turns, a short run each, and the table shows medians: what else the
machine does meanwhile meets all of them.

CPU time and wake-ups are those of the thread that carries requests and of the
backend, from /proc, divided by the requests of that run.  With the property
off no thread of QEMU carries requests; the main loop is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/functional/isolation"))

import harness                                          # noqa: E402
from harness import Backend, GuestVm, guest             # noqa: E402

OUT = harness.BUILD / "bench"
WORK = OUT / "work"

# The guest runs what the host types.
JOB = """
while read name options; do
    [ "$name" = end ] && break
    fio --name=$name --filename=/dev/vda --rw=randread --direct=1 \\
        --ioengine=libaio --time_based --minimal --terse-version=3 \\
        $options < /dev/null > /tmp/out 2>/tmp/err || cat /tmp/err
    echo "FIO $name $(tail -n 1 /tmp/out)"
done
"""
# Fields of fio's terse output, version 3, counted from 0.
_READ_IOPS, _READ_MSEC = 7, 8


@dataclass(frozen=True)
class Workload:
    """What fio does.  With a batch, it submits so many requests at once."""

    name: str
    block_size: str
    depth: int
    batch: int = 1

    def options(self) -> str:
        options = f"--bs={self.block_size} --iodepth={self.depth}"
        if self.batch > 1:
            options += (f" --iodepth_batch_submit={self.batch}"
                        f" --iodepth_batch_complete_min={self.batch // 2}"
                        f" --iodepth_batch_complete_max={self.depth}")
        return options


WORKLOADS = (Workload("4k-qd1", "4k", 1), Workload("4k-qd32", "4k", 32),
             Workload("4k-qd32-b16", "4k", 32, 16),
             Workload("1m-qd4", "1m", 4))
# "sleep": the IOThread does not poll before it sleeps (poll-max-ns=0).
CONFIGS = ("off", "on", "on-iothread", "on-iothread-sleep")


@dataclass
class Sample:
    """One short run."""

    requests_per_second: float
    qemu_ns: float                  # a request
    qemu_wakeups: float             # a request
    backend_ns: float
    backend_wakeups: float
    # What the isolated queue counted; 0 with the property off.
    kicks: float = 0                # a request
    calls: float = 0                # a request
    forward_batch: float = 0        # requests
    return_batch: float = 0         # requests


@dataclass
class Usage:
    """CPU time and voluntary context switches so far."""

    ns: int = 0
    switches: int = 0

    def add_thread(self, pid: int, tid: int) -> None:
        task = Path(f"/proc/{pid}/task/{tid}")
        try:
            self.ns += int((task / "schedstat").read_text("ascii").split()[0])
            status = (task / "status").read_text("ascii")
        except FileNotFoundError:
            return
        for line in status.splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                self.switches += int(line.split()[1])


class Contender:
    """One configuration: its VM and its backend."""

    def __init__(self, config: str) -> None:
        self.config = config
        isolated = config != "off" and harness.is_isolated()
        self.backend = Backend(WORK, None, queues=1, name=config).start()
        self.vm = GuestVm(WORK, f"vm-{config}")
        self.isolated = isolated
        try:
            if isolated and config == "on-iothread-sleep":
                self.vm.add_args("-object", "iothread,id=io0,poll-max-ns=0")
            self.vm.add_memory(512, shared=not isolated)
            self.vm.add_args("-chardev",
                             f"socket,id=disk,path={self.backend.socket}",
                             "-device", "vhost-user-blk-pci,id=disk0," +
                             "chardev=disk,num-queues=1" +
                             self._isolation_args())
            self.vm.add_job(JOB, with_fio=True)
            self.vm.launch()
            self.vm.wait_serial("^GUEST ready")
        except BaseException:
            self.end()
            raise
        self.thread = self._data_path_thread()

    def _isolation_args(self) -> str:
        if self.isolated and self.config == "on-iothread-sleep":
            return ",memory-isolation=on,iothread=io0"
        return harness.isolation_args(self.vm, self.config == "on-iothread",
                                      self.isolated)

    def _stats(self) -> Counter[str]:
        """Counters of the isolated queue, so far."""
        if not self.isolated:
            return Counter()
        return Counter(self.vm.cmd(
            "qom-get", path="/machine/peripheral/disk0/virtio-backend",
            property="memory-isolation-stats"))

    def _data_path_thread(self) -> int:
        threads = self.vm.cmd("query-iothreads")
        if threads:
            return int(threads[0]["thread-id"])
        pid = self.vm.get_pid()
        assert pid is not None
        return pid

    def end(self) -> None:
        self.vm.end()
        self.backend.stop()

    def _usage(self) -> tuple[Usage, Usage]:
        qemu, backend = Usage(), Usage()
        pid = self.vm.get_pid()
        assert pid is not None
        qemu.add_thread(pid, self.thread)
        for task in Path(f"/proc/{self.backend.pid}/task").iterdir():
            backend.add_thread(self.backend.pid, int(task.name))
        return qemu, backend

    def run(self, load: Workload, seconds: float) -> Sample:
        start = len(self.vm.serial_text())
        before = self._usage()
        counted = self._stats()
        self.vm.say(f"{load.name} {load.options()} --runtime={seconds:g}")
        found = self.vm.wait_serial(rf"^FIO {load.name} (.*?)\r?\n",
                                    seconds + 30, start)
        after = self._usage()
        counted = self._stats() - counted
        fields = found.group(1).split(";")
        if len(fields) <= _READ_MSEC:
            raise harness.HarnessError(f"fio said: {found.group(1)!r}")
        rate = float(fields[_READ_IOPS])
        requests = max(1.0, rate * float(fields[_READ_MSEC]) / 1000)
        done = counted["requests"]
        return Sample(
            rate,
            (after[0].ns - before[0].ns) / requests,
            (after[0].switches - before[0].switches) / requests,
            (after[1].ns - before[1].ns) / requests,
            (after[1].switches - before[1].switches) / requests,
            counted["kicks"] / max(1, done), counted["calls"] / max(1, done),
            done / max(1, counted["forward-batches"]),
            done / max(1, counted["return-batches"]))


Results = dict[str, dict[str, list[Sample]]]


def measure(rounds: int, seconds: float) -> Results:
    """Turns: round by round, workload by workload, one after the other."""
    results: Results = {w.name: {c: [] for c in CONFIGS} for w in WORKLOADS}
    contenders: list[Contender] = []
    try:
        for config in CONFIGS:
            contenders.append(Contender(config))
        for number in range(rounds):
            for load in WORKLOADS:
                for contender in contenders:
                    sample = contender.run(load, seconds)
                    results[load.name][contender.config].append(sample)
            print(f"bench: round {number + 1} of {rounds} done",
                  file=sys.stderr)
    finally:
        for contender in contenders:
            contender.end()
    return results


def median(samples: list[Sample], name: str) -> float:
    return statistics.median(getattr(s, name) for s in samples)


# Heading, its second line, field of Sample, divisor, decimals.
COLUMNS = (
    ("requests/s", "", "requests_per_second", 1, 0),
    ("QEMU", "us/req", "qemu_ns", 1000, 2),
    ("wake-ups", "/req", "qemu_wakeups", 1, 3),
    ("backend", "us/req", "backend_ns", 1000, 2),
    ("wake-ups", "/req", "backend_wakeups", 1, 3),
    ("kicks", "/req", "kicks", 1, 3),
    ("calls", "/req", "calls", 1, 3),
    ("batch", "out", "forward_batch", 1, 1),
    ("batch", "back", "return_batch", 1, 1),
)


def print_table(results: Results) -> None:
    for line in (0, 1):
        print(f"{'':12} {('property', '')[line]:18}" +
              "".join(f"{column[line]:>11}" for column in COLUMNS))
    for load, by_config in results.items():
        for config, samples in by_config.items():
            cells = (f"{median(samples, name) / divisor:11.{decimals}f}"
                     for _, _, name, divisor, decimals in COLUMNS)
            print(f"{load:12} {config:18}{''.join(cells)}")
            load = ""


def save(results: Results, rounds: int, seconds: float) -> Path:
    now = time.strftime("%Y%m%d-%H%M%S")
    path = OUT / f"bench-{now}.json"
    document = {
        "time": now, "rounds": rounds, "seconds": seconds,
        "cpus": os.cpu_count(), "host_kernel": platform.release(),
        "guest_kernel": guest.modules_folder().name,
        "samples": {load: {config: [asdict(s) for s in samples]
                           for config, samples in by_config.items()}
                    for load, by_config in results.items()},
    }
    path.write_text(json.dumps(document, indent=1), encoding="ascii")
    return path


def main() -> int:
    description = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(prog="scripts/bench",
                                     description=description[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3,
                        help="length of one run (default: 3)")
    args = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    try:
        guest.build(with_fio=True, say=print)
        results = measure(args.rounds, args.seconds)
    except (harness.HarnessError, guest.debian.PackageError) as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print_table(results)
    path = save(results, args.rounds, args.seconds)
    print(f"\nmedians of {args.rounds} runs of {args.seconds:g} s, taken in "
          f"turns; all samples: {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
