# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiling the ring files into programs of their own, outside of QEMU.

The compiler's flags are those of QEMU's own build, so the code is what runs
there.  Everything made lies under build/check/rings.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

TOP = Path(__file__).resolve().parents[2]
QEMU = TOP / "build/qemu"
OUT = TOP / "build/check/rings"
EXPLORE = TOP / "tests/explore"
PEER = TOP / "tests/peer"
RING = [Path("hw/virtio") / name
        for name in ("shadow-ring.c", "shadow-ring-split.c",
                     "shadow-ring-packed.c")]
HEADERS = [Path("hw/virtio") / name
           for name in ("shadow-ring.h", "shadow-ring-internal.h")]
WITH_VALUE = ("-isystem", "-iquote")
# QEMU chooses these for gcc; Debian 12's clang has them not.
GCC_ONLY = ("-fzero-call-used-regs", "-ftrivial-auto-var-init",
            "-Wold-style-declaration", "-Wimplicit-fallthrough=",
            "-Wshadow=", "-Wno-psabi")


class RingsError(Exception):
    """Something could not be made; the text says what."""


def run(argv: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise RingsError(f"{shlex.join(argv)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def qemu_flags(compiler: str) -> list[str]:
    """What QEMU's build compiles shadow-ring.c with."""
    database = QEMU / "compile_commands.json"
    entries = json.loads(database.read_text(encoding="utf-8"))
    for entry in entries:
        if entry["file"].endswith("hw/virtio/shadow-ring.c"):
            break
    else:
        raise RingsError("QEMU's build does not know hw/virtio/shadow-ring.c")
    flags: list[str] = []
    words = iter(shlex.split(entry["command"]))
    for word in words:
        if word in WITH_VALUE:
            flags += [word, next(words)]
        elif word.startswith(("-I", "-D", "-W", "-f", "-m", "-std")):
            flags.append(word)
    if "clang" in compiler:
        flags = [f for f in flags if not f.startswith(GCC_ONLY)]
        flags.append("-Wno-unknown-warning-option")
    return flags


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Two tests may want the same program at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Program:
    """A program made of the ring files and of others."""

    def __init__(self, name: str, sources: list[Path], *,
                 compiler: str = "cc",
                 first: list[Path] | None = None,
                 flags: list[str] | None = None,
                 link: list[str] | None = None) -> None:
        self.folder = OUT / name
        self.path = self.folder / "program"
        self._sources = [TOP / source for source in RING] + sources
        self._compiler = compiler
        self._first = [flag for folder in first or []
                       for flag in ("-iquote", str(folder))]
        self._flags = flags or []
        self._link = link or []
        self.extra: list[Path] = []     # objects that somebody else made

    def _inputs(self) -> list[Path]:
        headers = [TOP / header for header in HEADERS]
        for folder in (EXPLORE, EXPLORE / "include/qemu", PEER):
            headers += sorted(folder.glob("*.h"))
        return self._sources + headers + [Path(__file__)]

    def _is_new(self) -> bool:
        if not self.path.exists():
            return False
        made = self.path.stat().st_mtime
        return all(p.stat().st_mtime < made for p in self._inputs())

    def _compile(self, source: Path, ring: Path, folder: Path) -> str:
        """One source into @folder, with the ring's headers of @ring."""
        target = str(folder / (source.stem + ".o"))
        run([self._compiler, *self._first, "-iquote", str(ring),
             "-iquote", str(TOP), "-iquote", str(EXPLORE),
             *qemu_flags(self._compiler), "-O2", "-g", *self._flags,
             "-c", str(source), "-o", target], cwd=QEMU)
        return target

    def _link_program(self, objects: list[str], path: Path) -> None:
        glib = shlex.split(run(["pkg-config", "--libs", "glib-2.0"]))
        run([self._compiler, *self._flags, "-o", str(path), *objects, *glib,
             *self._link])

    def make(self) -> Path:
        """The program, new if something that it is made of is."""
        with locked(self.folder):
            if not self._is_new():
                objects = [self._compile(source, TOP, self.folder)
                           for source in self._sources]
                objects += [str(path) for path in self.extra]
                self._link_program(objects, self.path)
        return self.path

    def make_with(self, ring: Path, changed: str, folder: Path) -> Path:
        """The same with the ring files of @ring, which differ in @changed."""
        own = [source for source in RING
               if source.name == changed or changed.endswith(".h")]
        names = {source.stem for source in own}
        objects = [self._compile(ring / source, ring, folder)
                   for source in own]
        objects += [str(self.folder / (source.stem + ".o"))
                    for source in self._sources if source.stem not in names]
        objects += [str(path) for path in self.extra]
        self._link_program(objects, folder / "program")
        return folder / "program"


class Planted(Protocol):
    """A fault: in @file, the text @old is replaced by @new."""

    @property
    def name(self) -> str: ...

    @property
    def file(self) -> str: ...

    @property
    def old(self) -> str: ...

    @property
    def new(self) -> str: ...


@contextmanager
def planted_copy(fault: Planted) -> Iterator[tuple[Path, str]]:
    """A folder with the ring files in ring/, @fault in them; or why not."""
    # Explorer and peers have faults of the same name, at the same time.
    folder = OUT / "planted" / f"{fault.name}.{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "ring/hw/virtio").mkdir(parents=True)
    for name in RING + HEADERS:
        shutil.copy2(TOP / name, folder / "ring" / name)
    target = folder / "ring/hw/virtio" / fault.file
    text = target.read_text(encoding="utf-8")
    target.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    times = text.count(fault.old)
    try:
        yield folder, "" if times == 1 else (
            f"{fault.file} has its text {times} times: bring the list of "
            "faults up to date")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Tap:
    """Lines for whoever counts."""

    def __init__(self) -> None:
        self._num = 0
        self._failed = 0

    def result(self, good: bool, claim: str, detail: str = "") -> None:
        self._num += 1
        self._failed += not good
        print(f"{'ok' if good else 'not ok'} {self._num} {claim}", flush=True)
        for line in detail.splitlines():
            print(f"# {line}", flush=True)

    def skip(self, claim: str, why: str) -> None:
        self._num += 1
        print(f"ok {self._num} {claim} # SKIP {why}", flush=True)

    def end(self) -> int:
        print(f"1..{self._num}", flush=True)
        return 1 if self._failed else 0
