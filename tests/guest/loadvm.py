#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The load VM from outside: its image, its command line, what it says.

    loadvm.py --output FILE    compile the image, as meson.build does

See tests/guest/loadvm/README.rst for what it does.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
SOURCES = HERE / "loadvm"
TRACES = HERE / "traces"
IMAGE = TOP / "build/guest/loadvm.elf"
SCRIPT = "loadvm.ld"

# No library, no red zone and no vector registers: interrupts save nothing.
FLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra",
         "-ffreestanding", "-fno-builtin", "-nostdlib", "-static",
         "-fno-pie", "-no-pie", "-mno-red-zone", "-mgeneral-regs-only",
         "-fno-stack-protector", "-fcf-protection=none",
         "-fno-asynchronous-unwind-tables",
         "-fno-tree-loop-distribute-patterns",
         "-Wl,--build-id=none,--no-warn-rwx-segments,-z,noexecstack,-n"]

SMALLEST_MEGABYTES = 12
MAX_TEXT = 4096          # more would overrun a buffer of QEMU's loader
UNITS = {"": 1, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30,
         "s": 1000, "ms": 1}


class LoadvmError(Exception):
    """The load VM could not do what it was told; the text says why."""


def sources() -> list[Path]:
    return sorted(p for p in SOURCES.iterdir()
                  if p.suffix in (".c", ".S", ".h", ".ld"))


def compile_image(output: Path, *more: str) -> None:
    code = [str(p) for p in sources() if p.suffix in (".c", ".S")]
    subprocess.run(["gcc", *FLAGS, *more, "-T", str(SOURCES / SCRIPT),
                    "-o", str(output), *code], check=True)


def image() -> Path:
    """The image, compiled if its sources have changed."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sources():
        digest.update(source.read_bytes())
    now, stamp = digest.hexdigest(), IMAGE.with_suffix(".stamp")
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    with IMAGE.with_suffix(".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not IMAGE.exists() or not stamp.exists() or \
                stamp.read_text("ascii") != now:
            new = IMAGE.with_suffix(".new")
            compile_image(new)
            new.rename(IMAGE)
            stamp.write_text(now, "ascii")
    return IMAGE


# Jobs

def options(job: str) -> dict[str, str]:
    """Names and values of a job; the guest checks them."""
    return dict(word.split("=", 1) for word in job.split() if "=" in word)


def number(text: str) -> int:
    found = re.fullmatch(r"(\d+)(\w*)", text)
    if not found or found.group(2) not in UNITS:
        raise LoadvmError(f"'{text}' is no number")
    return int(found.group(1)) * UNITS[found.group(2)]


def needed_megabytes(jobs: list[str], trace_bytes: int = 0,
                     trace_longest: int = 0, disk_bytes: int = 1 << 30) -> int:
    """RAM for @jobs: buffers, descriptors, a byte a block of content."""
    most = 0
    for job in jobs:
        given = {k: v for k, v in options(job).items()}
        length = number(given.get("bs", "4k"))
        if given.get("rw") == "trace":
            length = trace_longest
        slots = number(given.get("depth", "32")) * \
            number(given.get("queues", "1"))
        pieces = number(given.get("segments", "1")) + 2
        need = slots * (length + 2 * 4096 + pieces * 32)
        if given.get("verify", "on") == "on":
            area = number(given.get("area", "0")) or disk_bytes
            need += min(area, disk_bytes) // 512
        most = max(most, need)
    total = (4 << 20) + most + trace_bytes
    return max(SMALLEST_MEGABYTES, -(-total // (1 << 20)))


def kernel_args(jobs: list[str], trace: Path | None = None) -> list[str]:
    """QEMU's arguments that start the image.

    Without @jobs the VM takes them from its serial port.
    """
    args = ["-kernel", str(image())]
    text = ";".join(jobs)
    if len(text) >= MAX_TEXT:
        raise LoadvmError(f"more than {MAX_TEXT} characters of jobs")
    if text:
        args += ["-append", text]
    if trace:
        args += ["-initrd", str(trace)]
    return args


# Results

@dataclass
class Result:
    """What one job did."""

    type: str
    requests: int
    bytes: int
    ns: int
    errors: int
    verified: int
    unknown: int
    bad: int
    lost: int
    kicks: int
    batches: int
    interrupts: int
    sleeps: int
    p50_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int
    latency_ns: list[list[int]] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return self.requests * 1e9 / max(1, self.ns)

    @property
    def is_good(self) -> bool:
        return not self.errors and not self.bad

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def results(text: str) -> list[Result]:
    """All that the VM reported; raises if it gave up."""
    fatal = re.search(r"^LOADVM fatal: (.*?)\r?$", text, re.MULTILINE)
    if fatal:
        raise LoadvmError(fatal.group(1))
    return [Result(**json.loads(line)) for line in re.findall(
        r"^RESULT (\{.*\})\r?$", text, re.MULTILINE)]


def remarks(text: str) -> list[str]:
    """What it said of wrong blocks and the like."""
    return re.findall(r"^LOADVM ((?:block|frame) .*?)\r?$", text, re.MULTILINE)


class Session:
    """A VM that takes jobs one by one from its serial port.

    @command is QEMU with accelerator, memory and devices.  The port is a pipe:
    behind a socket that is read slowly, QEMU's log repeats characters.
    """

    def __init__(self, command: list[str], trace: Path | None = None) -> None:
        self._process = subprocess.Popen(
            [*command, "-nodefaults", "-display", "none", "-no-reboot",
             "-serial", "stdio", *kernel_args([], trace)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            encoding="ascii", errors="replace")
        self.pid = self._process.pid

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *args: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _hear(self, wanted: str) -> str:
        """Up to the line that begins with @wanted; raises if none comes."""
        assert self._process.stdout is not None
        text = ""
        for line in self._process.stdout:
            text += line
            if line.startswith(wanted):
                return text
        results(text)
        raise LoadvmError(f"QEMU ended: {text.strip()[-300:]}")

    def wait_ready(self) -> None:
        """Until run() starts something at once."""
        self._hear("READY")

    def run(self, job: str) -> Result:
        """What @job did; when it returns, the VM is busy no longer."""
        assert self._process.stdin is not None
        self._process.stdin.write(job + "\n")
        self._process.stdin.flush()
        return results(self._hear("RESULT"))[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--output", type=Path, help="compile the image to this")
    group.add_argument("--sources", action="store_true",
                       help="print what it is made of")
    args = parser.parse_args()
    if args.sources:
        print("\n".join(str(p) for p in sources()))
        return 0
    try:
        compile_image(args.output, "-Werror")
    except subprocess.CalledProcessError as err:
        return err.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
