#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fuzzes the data path of memory isolation, or what a backend says.

    scripts/fuzz [queue|messages] ...

"queue", which is meant if nothing is said: one string of bytes moves a guest,
an isolated queue and a backend.  "messages": it moves a device of QEMU's and a
backend that answers, sends and closes what it likes, on a real socket.

clang's libFuzzer looks for strings that break a promise, under its address and
undefined-behaviour sanitizers.  What is found lies under build/fuzz or
build/fuzz-messages.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import qemu_build
from qemu_build import Compile, TOP

FUZZ = TOP / "tests/fuzz"
# QEMU calls functions of RCU through pointers of another type, on purpose.
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize=function")
# Debian 12's clang does not know these.
GCC_ONLY = ("-fzero-call-used-regs", "-ftrivial-auto-var-init")
INPUT_MAX = 1024


@dataclass(frozen=True)
class Target:
    """Something to be fuzzed.

    @sources are its parties, which are not instrumented for coverage; @tested
    are.  @flags are those of a file of QEMU.  @like is a program of QEMU's
    build that has what is needed of QEMU besides libqemuutil.  @asan are
    options of the address sanitizer.
    """

    name: str
    out: Path
    corpus: Path
    flags: str
    sources: tuple[Path, ...]
    tested: tuple[Path, ...]
    wrapped: tuple[str, ...]
    like: str = ""
    asan: str = ""

    @property
    def program(self) -> Path:
        return self.out / f"fuzz-{self.name}"


def queue() -> Target:
    virtio = FUZZ / "fuzz-virtio.c"
    return Target(
        "queue", TOP / "build/fuzz", FUZZ / "corpus", "hw/virtio/virtio.c",
        (*(p for p in sorted(FUZZ.glob("*.c")) if p != virtio),
         *sorted((TOP / "tests/unit").glob("mock-device*.c"))),
        (*(qemu_build.VIRTIO / name
           for name in qemu_build.RING + qemu_build.QUEUE +
           ("guest-chain.c", "virtio-chain.c", "virtio-chain-undo.c")), virtio),
        ("aio_set_event_notifier", "aio_set_event_notifier_poll",
         "aio_bh_new_full", "qemu_bh_schedule", "qemu_bh_delete",
         "qemu_get_current_aio_context", "call_rcu1", "defer_call"))


def messages() -> Target:
    ours = ("vhost-user-transport.c", "vhost-user-channel.c",
            "vhost-user-isolation.c", "vhost-user-isolation-config.c",
            "vhost-user-dial.c", "vhost-user-isolation-connection.c",
            "vhost-user-isolation-device.c",
            "vhost-user-isolation-features.c",
            "vhost-user-isolation-policy.c", "vhost-user-isolation-rings.c")
    return Target(
        "messages", TOP / "build/fuzz-messages", FUZZ / "corpus-messages",
        "hw/virtio/vhost-user.c",
        (*sorted((FUZZ / "messages").glob("*.c")),
         *(qemu_build.VIRTIO / name for name in qemu_build.RING + (
             "bounce.c", "bounce-pool.c", "isolated-kick.c"))),
        (*(qemu_build.VIRTIO / name for name in ours),
         *(qemu_build.SOURCE / "hw/virtio" / name
           for name in ("vhost-user.c", "iothread-vq-mapping.c"))),
        ("clock_gettime", "qemu_poll_ns", "sendmsg", "recvmsg", "close",
         "g_thread_pool_new", "g_thread_pool_push",
         "g_thread_pool_unprocessed", "g_thread_pool_free", "error_report",
         "warn_report", "error_report_err"), "tests/unit/test-char",
        # A string frees less than that; fresh pages would cost half the time.
        ":quarantine_size_mb=1:allocator_release_to_os_interval_ms=-1")


TARGETS = {"queue": queue, "messages": messages}


def compiler_flags(source: str) -> tuple[str, ...]:
    flags = ("-iquote", str(TOP), "-iquote", str(TOP / "include"),
             "-iquote", str(qemu_build.VIRTIO),
             "-iquote", str(qemu_build.SOURCE / "include"),
             "-iquote", str(qemu_build.SOURCE / "hw/virtio"),
             "-iquote", str(FUZZ), *qemu_build.flags_of(source))
    return (*(f for f in flags if not f.startswith(GCC_ONLY)),
            "-Wno-unknown-warning-option", "-g", "-O1",
            "-fno-omit-frame-pointer", *SANITIZE,
            "-fno-sanitize-recover=undefined")


def build(target: Target) -> None:
    """The parties are not instrumented for coverage, what they test is."""
    parties = compiler_flags(target.flags)
    tested = (*parties, "-fsanitize=fuzzer-no-link")
    jobs = [Compile(source, target.out / "obj" / (source.name + ".o"), how)
            for sources, how in ((target.tested, tested),
                                   (target.sources, parties))
            for source in sources]
    qemu_build.compile_all(jobs, "clang")
    parts: list[str] = []
    libraries = ["libqemuutil.a", "-lglib-2.0", "-lm"]
    if target.like:
        objects, flags = qemu_build.parts_of(target.like)
        parts = [o for o in objects if not o.startswith("tests/")]
        libraries += [a for a in flags if a.endswith(".so")]
    # What is called nowhere in a run stays undefined: calling it would be
    # seen.
    qemu_build.link(
        target.program, [*(str(job.output) for job in jobs), *parts],
        ["-fsanitize=fuzzer", *SANITIZE, "-no-pie",
         *(f"-Wl,--wrap={name}" for name in target.wrapped), *libraries,
         "-pthread",
         "-Wl,--unresolved-symbols=ignore-all"], "clang")


def environment(target: Target) -> dict[str, str]:
    return {**os.environ,
            "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1:"
                            "allocator_may_return_null=0" + target.asan,
            "UBSAN_OPTIONS": "print_stacktrace=1"}


def fuzzer(target: Target, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(target.program), f"-max_len={INPUT_MAX}", "-timeout=60",
         "-rss_limit_mb=1024", f"-artifact_prefix={target.out}/found/",
         *arguments],
        env=environment(target), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, cwd=target.out)


def report(output: str) -> None:
    """What a run of libFuzzer said, if it found something."""
    print(output[-6000:])
    for path in re.findall(r"Test unit written to (\S+)", output):
        print(f"fuzz: found {os.path.relpath(path, TOP)}")


def replay(target: Target) -> bool:
    """The corpus: every string that was worth keeping."""
    strings = [str(p) for p in sorted(target.corpus.iterdir())]
    run = fuzzer(target, strings)
    output = run.communicate()[0]
    if run.returncode:
        report(output)
    print(f"corpus: {len(strings)} strings, "
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


def search_long(target: Target, seconds: int, jobs: int, work: Path) -> bool:
    """Look for new strings, in @jobs processes that share what they find."""
    work.mkdir(parents=True, exist_ok=True)
    total = search([fuzzer(target, [f"-max_total_time={seconds}", "-reload=5",
                                    "-print_final_stats=1", str(work),
                                    str(target.corpus)])
                    for _ in range(jobs)])
    # A run that hardly ran shows nothing.
    return total > 0


def search_again(target: Target, strings: int, jobs: int) -> bool:
    """The same strings every time: a test must not find what the change that
    it tests has nothing to do with."""
    runs = []
    for seed in range(1, jobs + 1):
        work = target.out / f"again-{seed}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        # Each file system lists a folder in an order of its own.
        corpus = work.with_suffix(".list")
        corpus.write_text(",".join(str(p)
                                   for p in sorted(target.corpus.iterdir())),
                          encoding="utf-8")
        runs.append(fuzzer(target, [
            f"-runs={strings}", f"-seed={seed}", "-reload=0",
            "-print_final_stats=1", f"-seed_inputs=@{corpus}", str(work)]))
    return search(runs) >= strings * jobs


def keep(target: Target, work: Path) -> None:
    """The corpus anew: the seeds, and what reaches more than they do."""
    corpus = target.corpus
    fresh = target.out / "merged"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    seeds = sorted(corpus.glob("seed-*.bin"))
    for seed in seeds:
        shutil.copy(seed, fresh)
    run = fuzzer(target, ["-merge=1", "-use_counters=0", str(fresh),
                          str(corpus), str(work)])
    output = run.communicate()[0]
    if run.returncode:
        report(output)
        return
    for path in corpus.iterdir():
        if path not in seeds:
            path.unlink()
    for path in sorted(fresh.iterdir()):
        if not path.name.startswith("seed-"):
            shutil.copy(path, corpus / (path.name[:12] + ".bin"))
    print(f"fuzz: the corpus has {len(list(corpus.iterdir()))} strings")


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz [queue|messages]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(__doc__ or "").split("\n\n", 2)[2])
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
    return parser.parse_args(argv)


def main() -> int:
    argv = sys.argv[1:]
    target = TARGETS[argv.pop(0) if argv and argv[0] in TARGETS else "queue"]()
    args = arguments(argv)
    try:
        (target.out / "found").mkdir(parents=True, exist_ok=True)
        build(target)
    except qemu_build.BuildError as err:
        print(f"fuzz: {err}", file=sys.stderr)
        return 1
    if args.strings:
        return subprocess.run(
            [str(target.program), *(str(p.resolve()) for p in args.strings)],
            env=environment(target), cwd=target.out, check=False).returncode
    work = target.out / "work"
    good = replay(target)
    if good and args.again:
        good = search_again(target, args.again, args.jobs)
    elif good:
        good = search_long(target, args.seconds, args.jobs, work)
    if args.merge and good:
        keep(target, work)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
