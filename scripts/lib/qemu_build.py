# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiling and linking beside QEMU's build, with QEMU's own flags.

Benches, fuzz targets and mutants are made of our sources and of what
build/qemu holds already.  Flags come from its compile_commands.json, a
program's parts from its build.ninja; nothing is written there.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
QEMU = TOP / "build/qemu"
SOURCE = TOP / "build/qemu-src"
VIRTIO = TOP / "hw/virtio"

# The data path, as far as it can be had without the rest of a device.
RING = ("shadow-ring.c", "shadow-ring-split.c", "shadow-ring-packed.c")
QUEUE = ("isolated-kick.c", "isolated-queue-state.c",
         "isolated-request-copy.c", "isolated-request.c",
         "isolated-queue.c", "isolated-queue-dispatch.c",
         "isolated-queue-stop.c", "bounce.c", "bounce-pool.c")


class BuildError(Exception):
    """A compiler or linker failed; the text is what it said."""


@dataclass(frozen=True)
class Compile:
    """One object file to be."""

    source: Path
    output: Path
    flags: tuple[str, ...]


def run(argv: list[str], cwd: Path = QEMU) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(argv)[:200]} ...\n{done.stderr[-4000:]}")
    return done.stdout


@functools.cache
def _database() -> list[dict[str, str]]:
    path = QEMU / "compile_commands.json"
    if not path.exists():
        raise BuildError("build/qemu is not configured; run scripts/setup")
    loaded: list[dict[str, str]] = json.loads(path.read_text("utf-8"))
    return loaded


def flags_of(source: str) -> tuple[str, ...]:
    """Flags that build/qemu compiles @source with, a path in QEMU's tree."""
    for entry in _database():
        if entry["file"].endswith("/" + source):
            words = shlex.split(entry["command"])
            while not re.search(r"(^|/)(cc|gcc|clang)$", words[0]):
                words.pop(0)
            words.pop(0)
            for flag in ("-o", "-MF", "-MQ"):
                at = words.index(flag)
                del words[at:at + 2]
            return tuple(w for w in words if w not in ("-MD", "-c") and
                         not w.endswith("/" + source))
    raise BuildError(f"build/qemu does not compile {source}")


def our_flags() -> tuple[str, ...]:
    """Flags for files of ours: their headers are found where they lie."""
    return (*flags_of("hw/virtio/shadow-ring.c"), "-iquote", str(TOP),
            "-iquote", str(TOP / "include"),
            "-iquote", str(SOURCE / "hw/virtio"))


def compile_all(jobs: list[Compile], compiler: str = "cc") -> None:
    """Two at a time."""
    def one(job: Compile) -> None:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        run([compiler, *job.flags, "-c", str(job.source),
             "-o", str(job.output)])

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(one, jobs):
            pass


def parts_of(program: str) -> tuple[list[str], list[str]]:
    """Objects and link arguments of a @program of build/qemu."""
    text = (QEMU / "build.ninja").read_text("utf-8")
    found = re.search(rf"^build {re.escape(program)}: \S+ (.*?) \|.*\n"
                      r"(?: .*\n)*? LINK_ARGS = (.*)\n", text, re.MULTILINE)
    if not found:
        raise BuildError(f"build/qemu has no program {program}")
    return found.group(1).split(), shlex.split(found.group(2))


def link(output: Path, objects: list[str], arguments: list[str],
         compiler: str = "cc") -> None:
    """@objects may be many: they go through a file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    response = output.with_suffix(".rsp")
    response.write_text(" ".join(objects), encoding="utf-8")
    run([compiler, "-m64", "-o", str(output), f"@{response}", *arguments])


def pristine(path: str) -> str:
    """The text of a file of QEMU before any hook."""
    base = run(["git", "rev-list", "--max-parents=0", "HEAD"], SOURCE).strip()
    return run(["git", "show", f"{base}:{path}"], SOURCE)
