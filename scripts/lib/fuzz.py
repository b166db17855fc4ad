#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fuzzes the data path of memory isolation.

One string of bytes moves a guest, an isolated queue and a backend; clang's
libFuzzer looks for strings that break a promise, under its address and
undefined-behaviour sanitizers.  What is found lies under build/fuzz.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import qemu_build
from qemu_build import Compile, TOP

OUT = TOP / "build/fuzz"
FUZZ = TOP / "tests/fuzz"
CORPUS = FUZZ / "corpus"
PROGRAM = OUT / "fuzz-queue"
SANITIZE = "-fsanitize=address,undefined"
# Debian 12's clang does not know these.
GCC_ONLY = ("-fzero-call-used-regs", "-ftrivial-auto-var-init")
WRAPPED = ("aio_set_event_notifier", "aio_set_event_notifier_poll",
           "aio_bh_new_full", "qemu_bh_schedule", "qemu_bh_delete",
           "qemu_get_current_aio_context", "call_rcu1", "defer_call")
INPUT_MAX = 1024


def compiler_flags() -> tuple[str, ...]:
    flags = (*qemu_build.flags_of("hw/virtio/virtio.c"),
             "-iquote", str(TOP), "-iquote", str(TOP / "include"),
             "-iquote", str(qemu_build.VIRTIO),
             "-iquote", str(qemu_build.SOURCE / "hw/virtio"),
             "-iquote", str(FUZZ))
    return (*(f for f in flags if not f.startswith(GCC_ONLY)),
            "-Wno-unknown-warning-option", "-g", "-O1",
            "-fno-omit-frame-pointer", SANITIZE,
            "-fno-sanitize-recover=undefined")


def build() -> None:
    """The parties are not instrumented for coverage, what they test is."""
    parties = compiler_flags()
    tested = (*parties, "-fsanitize=fuzzer-no-link")
    jobs = [Compile(qemu_build.VIRTIO / name, OUT / "obj" / (name + ".o"),
                    tested)
            for name in qemu_build.RING + qemu_build.QUEUE +
            ("guest-chain.c", "virtio-chain.c")]
    for source in sorted(FUZZ.glob("*.c")):
        flags = tested if source.name == "fuzz-virtio.c" else parties
        jobs.append(Compile(source, OUT / "obj" / (source.name + ".o"),
                            flags))
    for source in sorted((TOP / "tests/unit").glob("mock-device*.c")):
        jobs.append(Compile(source, OUT / "obj" / (source.name + ".o"),
                            parties))
    qemu_build.compile_all(jobs, "clang")
    # What virtio.c calls and no queue needs stays undefined: calling it would
    # be seen.
    qemu_build.link(
        PROGRAM, [str(job.output) for job in jobs],
        ["-fsanitize=fuzzer", SANITIZE, "-no-pie",
         *(f"-Wl,--wrap={name}" for name in WRAPPED), "libqemuutil.a",
         "-lglib-2.0", "-lm", "-pthread",
         "-Wl,--unresolved-symbols=ignore-all"], "clang")


def environment() -> dict[str, str]:
    return {**os.environ,
            "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1:"
                            "allocator_may_return_null=0",
            "UBSAN_OPTIONS": "print_stacktrace=1"}


def fuzzer(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(PROGRAM), f"-max_len={INPUT_MAX}", "-timeout=60",
         "-rss_limit_mb=1024", f"-artifact_prefix={OUT}/found/", *arguments],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, cwd=OUT)


def report(output: str) -> None:
    """What a run of libFuzzer said, if it found something."""
    print(output[-6000:])
    for path in re.findall(r"Test unit written to (\S+)", output):
        print(f"fuzz: found {os.path.relpath(path, TOP)}")


def replay() -> bool:
    """The corpus: every string that was worth keeping."""
    run = fuzzer([str(p) for p in sorted(CORPUS.iterdir())])
    output = run.communicate()[0]
    if run.returncode:
        report(output)
    print(f"corpus: {len(list(CORPUS.iterdir()))} strings, "
          f"status {run.returncode}")
    return run.returncode == 0


def search(runs: list[subprocess.Popen[str]]) -> int:
    """Wait for @runs; how many strings they tried, -1 if one found a bug."""
    good = True
    total = 0
    try:
        for run in runs:
            output = run.communicate()[0]
            found = re.search(r"stat::number_of_executed_units:\s*(\d+)",
                              output)
            total += int(found.group(1)) if found else 0
            covered = re.findall(r"cov: (\d+)", output)
            print(f"fuzz: {covered[-1] if covered else '?'} edges covered")
            if run.returncode:
                good = False
                report(output)
    finally:
        for run in runs:
            if run.poll() is None:
                run.kill()
                run.wait()
    print(f"fuzz: {total} strings, {len(runs)} process(es)")
    return total if good else -1


def search_long(seconds: int, jobs: int, work: Path) -> bool:
    """Look for new strings, in @jobs processes that share what they find."""
    work.mkdir(parents=True, exist_ok=True)
    total = search([fuzzer([f"-max_total_time={seconds}", "-reload=5",
                            "-print_final_stats=1", str(work), str(CORPUS)])
                    for _ in range(jobs)])
    # A run that hardly ran shows nothing.
    return total > 0


def search_again(strings: int, jobs: int) -> bool:
    """The same strings every time: a test must not find what the change that
    it tests has nothing to do with."""
    runs = []
    for seed in range(1, jobs + 1):
        work = OUT / f"again-{seed}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        # Each file system lists a folder in an order of its own.
        corpus = work.with_suffix(".list")
        corpus.write_text(",".join(str(p) for p in sorted(CORPUS.iterdir())),
                          encoding="utf-8")
        runs.append(fuzzer([f"-runs={strings}", f"-seed={seed}", "-reload=0",
                            "-print_final_stats=1",
                            f"-seed_inputs=@{corpus}", str(work)]))
    return search(runs) >= strings * jobs


def keep(work: Path) -> None:
    """The corpus anew: the seeds, and what reaches more than they do."""
    fresh = OUT / "merged"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    seeds = sorted(CORPUS.glob("seed-*.bin"))
    for seed in seeds:
        shutil.copy(seed, fresh)
    run = fuzzer(["-merge=1", "-use_counters=0", str(fresh), str(CORPUS),
                  str(work)])
    output = run.communicate()[0]
    if run.returncode:
        report(output)
        return
    for path in CORPUS.iterdir():
        if path not in seeds:
            path.unlink()
    for path in sorted(fresh.iterdir()):
        if not path.name.startswith("seed-"):
            shutil.copy(path, CORPUS / (path.name[:12] + ".bin"))
    print(f"fuzz: the corpus has {len(list(CORPUS.iterdir()))} strings")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--again", type=int, default=0, metavar="STRINGS",
                        help="in each process as many, the same ones each "
                             "time")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--merge", action="store_true",
                        help="afterwards, add to the corpus what is worth "
                             "it")
    parser.add_argument("strings", nargs="*", type=Path,
                        help="run these only, as a debugger would")
    args = parser.parse_args()
    try:
        (OUT / "found").mkdir(parents=True, exist_ok=True)
        build()
    except qemu_build.BuildError as err:
        print(f"fuzz: {err}", file=sys.stderr)
        return 1
    if args.strings:
        return subprocess.run(
            [str(PROGRAM), *(str(p.resolve()) for p in args.strings)],
            env=environment(), cwd=OUT, check=False).returncode
    work = OUT / "work"
    good = replay()
    if good and args.again:
        good = search_again(args.again, args.jobs)
    elif good:
        good = search_long(args.seconds, args.jobs, work)
    if args.merge and good:
        keep(work)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
