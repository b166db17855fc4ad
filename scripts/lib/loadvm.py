#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Load for virtio devices from a VM that is a few kilobytes large.

It boots in a fraction of a second, puts load on one device after the other as
the JOBs say, checks what it reads, and ends.  A JOB is one word with options in
it, like 'rw=randrw bs=8k depth=64 ring=packed irq=msix'; all of them are in
tests/guest/loadvm/README.rst.  What follows "--" goes to QEMU.

  scripts/loadvm 'rw=randread depth=128'
  scripts/loadvm --disk disk.img 'rw=write bs=64k' 'rw=randrw time=5s'
  scripts/loadvm --vhost-user disk.sock --isolation 'rw=randread'
  scripts/loadvm --nics 'type=net to=1 bs=1514'
  scripts/loadvm --trace tests/guest/traces/debian-boot.trace.gz
  scripts/loadvm record boot.trace.gz -- qemu-system-x86_64 -m 1G ...
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/guest"))

import loadvm                                           # noqa: E402
import loadvm_trace as traces                           # noqa: E402
from loadvm import LoadvmError                          # noqa: E402

BUILT = TOP / "build/qemu/qemu-system-x86_64"
NULL_BYTES = 1 << 30
BAR = 50                 # characters


def find_qemu(wanted: str | None) -> str:
    if wanted:
        return wanted
    if BUILT.exists():
        return str(BUILT)
    found = shutil.which("qemu-system-x86_64")
    if not found:
        raise LoadvmError("no qemu-system-x86_64 (see --qemu, scripts/setup)")
    return found


# Devices

def most(jobs: list[str], name: str, preset: int) -> int:
    """The largest value that a job gives option @name."""
    return max([preset, *(loadvm.number(loadvm.options(j)[name])
                          for j in jobs if name in loadvm.options(j))])


def ring_properties(jobs: list[str]) -> str:
    """A device that has whatever the jobs ask for."""
    properties = f",packed=on,num-queues={most(jobs, 'queues', 1)}"
    size = most(jobs, "size", 0)
    return properties + (f",queue-size={size}" if size else "")


def blockdev(args: argparse.Namespace, trace_end: int) -> list[str]:
    if not args.disk:
        size = max(NULL_BYTES, trace_end)
        return ["-blockdev", f"driver=null-co,node-name=disk,size={size}"]
    name = str(args.disk).replace(",", ",,")
    file = f"driver=file,filename={name},node-name="
    if args.format == "raw":
        return ["-blockdev", file + "disk"]
    return ["-blockdev", file + "file", "-blockdev",
            f"driver={args.format},file=file,node-name=disk"]


def vhost_user_args(args: argparse.Namespace, jobs: list[str],
                    megabytes: int) -> list[str]:
    """A disk of a backend; without isolation it wants the guest's memory."""
    device = "vhost-user-blk-pci,chardev=disk" + ring_properties(jobs)
    memory = []
    if args.isolation:
        device += ",memory-isolation=on"
        device += ",iothread=io0" if args.iothread else ""
    else:
        memory = ["-machine", "memory-backend=ram", "-object",
                  f"memory-backend-memfd,id=ram,share=on,size={megabytes}M"]
    return [*memory, "-chardev", f"socket,id=disk,path={args.vhost_user}",
            "-device", device + args.properties]


def nic_args(args: argparse.Namespace, jobs: list[str]) -> list[str]:
    """Two NICs; what one sends the other receives."""
    words = []
    properties = f",packed=on{args.properties}"
    size = most(jobs, "size", 0)
    if size:
        properties += f",rx_queue_size={size},tx_queue_size={size}"
    for name in ("a", "b"):
        words += ["-netdev", f"hubport,id={name},hubid=0",
                  "-device", f"virtio-net-pci,netdev={name}{properties}"]
    return words


def device_args(args: argparse.Namespace, jobs: list[str], megabytes: int,
                trace_end: int) -> list[str]:
    words = ["-object", "iothread,id=io0"] if args.iothread else []
    if args.nics:
        return words + nic_args(args, jobs)
    if args.vhost_user:
        return words + vhost_user_args(args, jobs, megabytes)
    if args.no_device:
        return words
    thread = ",iothread=io0" if args.iothread else ""
    words += blockdev(args, trace_end)
    if args.scsi:
        return words + [
            "-device", "virtio-scsi-pci,id=scsi0" + thread +
            ring_properties(jobs).replace("num-queues", "num_queues")
            .replace("queue-size", "virtqueue_size") + args.properties,
            "-device", "scsi-hd,drive=disk,bus=scsi0.0"]
    return words + ["-device", "virtio-blk-pci,drive=disk" + thread +
                    ring_properties(jobs) + args.properties]


# Running

def default_jobs(args: argparse.Namespace) -> list[str]:
    if args.jobs:
        return list(args.jobs)
    if args.trace:
        return ["rw=trace"]
    return ["type=net to=1"] if args.nics else ["rw=randread"]


def complete(args: argparse.Namespace, job: str) -> str:
    """@job with what follows from the command line."""
    given = loadvm.options(job)
    if args.scsi and "type" not in given:
        job += " type=scsi"
    is_null = not (args.disk or args.vhost_user or args.nics or args.no_device)
    if is_null and "verify" not in given:
        job += " verify=off"
    return job


def run_vm(command: list[str], seconds: float) -> str:
    """What the VM says, as it says it, until it ends."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, timeout=seconds,
                              check=False)
    except subprocess.TimeoutExpired as err:
        text = (err.output or b"").decode("ascii", "replace")
        raise LoadvmError(f"not done after {seconds:g} s; it said:\n"
                          f"{text.strip()[-500:]}") from None
    text = done.stdout.decode("ascii", "replace")
    if done.returncode:
        raise LoadvmError(f"QEMU ended with status {done.returncode}")
    return text


def draw(result: loadvm.Result) -> None:
    """The histogram, a line a power of two."""
    rows: dict[int, int] = {}
    for low, count in result.latency_ns:
        top = max(10, low.bit_length() - 1)
        rows[top] = rows.get(top, 0) + count
    if not rows:
        return
    highest = max(rows.values())
    for top in range(min(rows), max(rows) + 1):
        count = rows.get(top, 0)
        print(f"{(1 << top) / 1000:12.1f} us {count:10} "
              f"{'#' * -(-BAR * count // highest)}")


def show(job: str, result: loadvm.Result, with_histogram: bool) -> None:
    seconds = result.ns / 1e9
    print(f"{job}\n  {result.requests} requests, {result.bytes >> 20} MiB in "
          f"{seconds:.3f} s: {result.per_second:.0f} a second, "
          f"{result.bytes / 1e6 / max(seconds, 1e-9):.0f} MB/s")
    if result.latency_ns:
        print("  latency in us: half of them up to "
              f"{result.p50_ns / 1000:.1f}, 99 % {result.p99_ns / 1000:.1f}, "
              f"99.9 % {result.p999_ns / 1000:.1f}, all "
              f"{result.max_ns / 1000:.1f}")
    print(f"  {result.kicks} kicks, {result.interrupts} interrupts, "
          f"{result.batches} batches")
    what = "frames" if result.type == "net" else "blocks"
    print(f"  {what}: {result.verified} right, {result.bad} wrong, "
          f"{result.unknown} unknown, {result.lost} lost; "
          f"{result.errors} requests failed")
    if with_histogram:
        draw(result)


def run(args: argparse.Namespace, qemu_args: list[str]) -> int:
    jobs = [complete(args, job) for job in default_jobs(args)]
    with tempfile.TemporaryDirectory(prefix="loadvm-") as folder:
        requests = traces.read(args.trace) if args.trace else []
        trace, data = None, b""
        if requests:
            data = traces.for_guest(requests)
            trace = Path(folder) / "trace"
            trace.write_bytes(data)
        disk = args.disk.stat().st_size if args.disk else NULL_BYTES
        megabytes = args.memory or loadvm.needed_megabytes(
            jobs, len(data), traces.longest(requests) if requests else 0, disk)
        command = [find_qemu(args.qemu), "-accel", args.accel,
                   "-nodefaults", "-display", "none", "-no-reboot",
                   "-serial", "stdio", "-m", str(megabytes),
                   "-smp", str(args.cpus),
                   *loadvm.kernel_args(jobs, trace),
                   *device_args(args, jobs, megabytes,
                                traces.end(requests) if requests else 0),
                   *qemu_args]
        if args.print:
            print(" ".join(command))
            return 0
        text = run_vm(command, args.timeout)
    found = loadvm.results(text)
    if len(found) < len(jobs):
        raise LoadvmError(f"it ended after {len(found)} job(s)")
    for job, result in zip(jobs, found):
        if args.json:
            print(json.dumps({"job": job, **result.as_dict()}))
        else:
            show(job, result, args.histogram)
    for remark in loadvm.remarks(text):
        print(remark, file=sys.stderr)
    return 0 if all(r.is_good for r in found) else 1


# Traces

def record(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/loadvm record",
        description="Run a QEMU and write a trace of what its guest asked a "
        "disk for.  Flushes are not in it: QEMU has no trace event for them.",
        usage="scripts/loadvm record [--disk N] TRACE -- COMMAND...")
    parser.add_argument("--disk", type=int, help="number of the disk, by its "
                        "first request (preset: the one that is used most)")
    parser.add_argument("--from-log", type=Path, metavar="LOG",
                        help="do not run QEMU: it has written this")
    parser.add_argument("--remark", action="append", default=[])
    parser.add_argument("trace", type=Path)
    at = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:at])
    with tempfile.TemporaryDirectory(prefix="loadvm-") as folder:
        log = args.from_log or Path(folder) / "log"
        if not args.from_log:
            if not argv[at + 1:]:
                parser.error("no command to run")
            subprocess.run([*argv[at + 1:], *traces.record_args(log)],
                           check=False)
        if not log.exists():
            raise LoadvmError("QEMU wrote no log")
        requests = traces.from_log(log.read_text("ascii", "replace"),
                                   args.disk)
    traces.write(args.trace, requests, args.remark)
    print(traces.summary(requests))
    return 0


def describe(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/loadvm show",
                                     description="What is in a trace?")
    parser.add_argument("trace", type=Path)
    print(traces.summary(traces.read(parser.parse_args(argv).trace)))
    return 0


def main_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/loadvm", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="scripts/loadvm [OPTION...] [JOB...] [-- QEMU ARGUMENT...]\n"
        "       scripts/loadvm record --help\n"
        "       scripts/loadvm show TRACE")
    device = parser.add_argument_group("what is driven (preset: a disk that "
                                       "stores nothing)")
    device.add_argument("--disk", type=Path, help="an image; IT IS WRITTEN TO")
    device.add_argument("--format", default="raw", help="of the image")
    device.add_argument("--scsi", action="store_true",
                        help="virtio-scsi instead of virtio-blk")
    device.add_argument("--vhost-user", type=Path, metavar="SOCKET",
                        help="vhost-user-blk; its backend listens there")
    device.add_argument("--isolation", action="store_true",
                        help="with memory-isolation=on")
    device.add_argument("--nics", action="store_true",
                        help="two NICs, connected with each other")
    device.add_argument("--no-device", action="store_true",
                        help="only what comes behind --")
    device.add_argument("--iothread", action="store_true")
    device.add_argument("--properties", default="", metavar=",NAME=VALUE",
                        help="more properties of the device")
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--qemu", help="which QEMU (preset: the one that "
                         "scripts/setup built, else Debian's)")
    machine.add_argument("--accel", default="tcg")
    machine.add_argument("--cpus", type=int, default=1)
    machine.add_argument("--memory", type=int, metavar="MIB")
    machine.add_argument("--timeout", type=float, default=300,
                         metavar="SECONDS")
    parser.add_argument("--trace", type=Path, help="for the job rw=trace")
    parser.add_argument("--histogram", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--print", action="store_true",
                        help="print QEMU's command line and do nothing")
    parser.add_argument("jobs", nargs="*", metavar="JOB")
    return parser


def main(argv: list[str]) -> int:
    try:
        if argv[:1] == ["record"]:
            return record(argv[1:])
        if argv[:1] == ["show"]:
            return describe(argv[1:])
        at = argv.index("--") if "--" in argv else len(argv)
        return run(main_parser().parse_args(argv[:at]), argv[at + 1:])
    except (LoadvmError, traces.TraceError, OSError,
            subprocess.CalledProcessError) as err:
        print(f"loadvm: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
