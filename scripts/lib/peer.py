#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the shadow ring at full speed against devices of other people.

    peer.py linux|linux-deep      Linux's vringh, split rings
    peer.py threads|threads-deep  the explorer's device, both formats
    peer.py tsan                  the same under ThreadSanitizer
    peer.py planted               faults that these must find

vringh comes from Debian's package of Linux's source, fetched and not
installed; see tests/guest/linux_source.py.  Linux has no device side of a
packed ring, so there is no peer for one here.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import rings

sys.path.insert(0, str(rings.TOP / "tests/guest"))
sys.path.insert(0, str(rings.PEER))
import build as guest  # noqa: E402  pylint: disable=wrong-import-position
import debian  # noqa: E402  pylint: disable=wrong-import-position
import planted_peer  # noqa: E402  pylint: disable=wrong-import-position

HONEST = [rings.PEER / "peer-honest.c", rings.EXPLORE / "device.c",
          rings.EXPLORE / "device-split.c", rings.EXPLORE / "device-packed.c"]
TRAFFIC = [rings.PEER / "main.c", rings.PEER / "traffic.c"]
LIMIT = 240
TSAN = ["-fsanitize=thread", "-fPIE"]
MILLION = 1000000


def honest(name: str, compiler: str = "cc",
           flags: list[str] | None = None) -> rings.Program:
    return rings.Program(name, TRAFFIC + HONEST, compiler=compiler,
                         flags=flags, link=["-pthread"])


@functools.cache
def linux() -> rings.Program:
    """The program with vringh as the device; its objects are Linux's."""
    tree = guest.kernel_source()
    program = rings.Program("peer-linux", TRAFFIC, link=["-pthread"])
    with rings.locked(program.folder):
        objects = linux_objects(tree, program.folder)
    program.extra = objects
    program.make()
    return program


def linux_objects(tree: Path, folder: Path) -> list[Path]:
    """vringh and what drives it, compiled as Linux does for its own tests."""
    virtio = tree / "tools/virtio"
    flags = ["-g", "-O2", "-w", "-fno-strict-overflow",
             "-fno-strict-aliasing", "-fno-common", "-U_FORTIFY_SOURCE",
             "-fPIE", "-pthread", "-I.", "-I../include/", "-idirafter",
             "../../include", "-include", "../../include/linux/kconfig.h",
             "-Ddata_race(x)=(x)", "-DMODULE_DESCRIPTION(x)=", "-iquote", str(rings.PEER)]
    objects = []
    for source in (tree / "drivers/vhost/vringh.c",
                   rings.PEER / "peer-linux.c"):
        objects.append(folder / (source.stem + ".o"))
        rings.run(["cc", *flags, "-c", str(source), "-o", str(objects[-1])],
                  cwd=virtio)
    return objects


def traffic(program: Path, words: str) -> tuple[int, str]:
    """One run, the last line that it said."""
    env = dict(os.environ, TSAN_OPTIONS="halt_on_error=1:exitcode=66")
    try:
        done = subprocess.run([str(program), *words.split()],
                              capture_output=True, text=True, check=False,
                              env=env, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return -1, f"it was not done after {LIMIT} s"
    return done.returncode, (done.stdout + done.stderr).strip()


def run_all(tap: rings.Tap, program: Path, runs: list[str],
            prefix: str = "") -> None:
    for words in runs:
        status, text = traffic(program, words)
        lines = text.splitlines() or ["it said nothing"]
        tap.result(status == 0,
                   f"{prefix}{words.replace('--', '')}: {lines[-1]}",
                   "" if status == 0 else "\n".join(lines[-40:]))


def matrix(forms: tuple[str, ...], modes: tuple[str, ...], num: int,
           sizes: tuple[int, ...]) -> list[str]:
    """Options of the runs: all combinations."""
    return [" ".join(filter(None, words)) + f" --num {num}"
            for words in product(forms, ("", "--event-idx"),
                                 ("", "--indirect"), modes,
                                 [f"--size {size}" for size in sizes])]


def run_linux(deep: bool) -> int:
    tap = rings.Tap()
    try:
        program = linux().path
    except debian.PackageError as err:
        tap.skip("vringh", f"no Linux source: {err}")
        return tap.end()
    runs = matrix(("",), ("--one-thread", ""), MILLION, (256,))
    if deep:
        runs = matrix(("",), ("--one-thread", "", "--in-order"), 8 * MILLION,
                      (1, 8, 256, 1024))
    run_all(tap, program, runs, "vringh ")
    tap.skip("vringh packed", "Linux has no device side of a packed ring")
    return tap.end()


def run_threads(deep: bool) -> int:
    program = honest("peer-honest").make()
    runs = matrix(("", "--packed"), ("",), MILLION, (256,))
    runs += matrix(("", "--packed"), ("",), MILLION // 5, (4,))
    runs += matrix(("--packed",), ("",), MILLION // 5, (7,))
    if deep:
        runs = matrix(("", "--packed"), ("", "--in-order"), 8 * MILLION,
                      (1, 8, 256, 1024))
        runs += matrix(("--packed",), ("",), 8 * MILLION, (7, 100))
    tap = rings.Tap()
    run_all(tap, program, runs)
    return tap.end()


def sanitized(compiler: str) -> rings.Program:
    """ThreadSanitizer cannot follow fences; only sleeping needs them."""
    extra = ["-Wno-error", "-Wno-tsan"] if compiler == "gcc" else []
    return honest(f"peer-tsan-{compiler}", compiler, TSAN + extra)


def run_tsan() -> int:
    runs = matrix(("", "--packed"), ("",), MILLION // 5, (64,))
    tap = rings.Tap()
    for compiler in ("gcc", "clang"):
        run_all(tap, sanitized(compiler).make(), runs, f"{compiler} ")
    return tap.end()


def planted_program(which: str) -> rings.Program:
    if which == "linux":
        return linux()
    if which == "honest":
        program = honest("peer-honest")
    else:
        program = sanitized(which)
    program.make()
    return program


def find_planted() -> int:
    """Each fault is found, in a run that passes without it."""
    tap = rings.Tap()
    for fault in planted_peer.FAULTS:
        try:
            program = planted_program(fault.device)
        except debian.PackageError as err:
            tap.skip(fault.name, f"no Linux source: {err}")
            continue
        clean, _ = traffic(program.path, fault.words)
        with rings.planted_copy(fault) as (folder, why):
            if not why:
                bad = program.make_with(folder / "ring", fault.file, folder)
                status, text = traffic(bad, fault.words)
                good = status != 0 and fault.fault in text and clean == 0
                why = fault.fault if good else (
                    f"status {status}, {clean} without the fault; "
                    f"{text[-200:]}")
                tap.result(good, f"{fault.name}: {why}")
            else:
                tap.result(False, f"{fault.name}: {why}")
    return tap.end()


def main() -> int:
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    actions = {
        "linux": lambda: run_linux(False),
        "linux-deep": lambda: run_linux(True),
        "threads": lambda: run_threads(False),
        "threads-deep": lambda: run_threads(True),
        "tsan": run_tsan,
        "planted": find_planted,
    }
    if what not in actions:
        print(__doc__, file=sys.stderr)
        return 2
    return actions[what]()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (rings.RingsError, debian.PackageError) as err:
        sys.exit(f"Bail out! {err}")
