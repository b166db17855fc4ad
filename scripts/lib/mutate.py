#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Breaks the ring files, one small fault at a time, and sees who notices.

Each mutant is compiled into copies of the ring tests; what those do not notice
goes to the explorer, what that does not notice to the proofs.  Survivors are
explained in tests/mutation-survivors, or the run fails; so it does if fewer
than nine of ten were noticed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import explore
import mutants
import qemu_build
import rings
from mutants import Mutant
from qemu_build import Compile, TOP

# The explorer and the proofs have a module of this name each.
sys.modules.pop("planted", None)
import proofs  # noqa: E402  pylint: disable=wrong-import-position

OUT = TOP / "build/mutation"
UNIT = TOP / "tests/unit"
SURVIVORS = TOP / "tests/mutation-survivors"
# So that lost memory is noticed.
SANITIZE = ("-fsanitize=leak",)
# Threads take long and notice what the explorer notices.
TESTS = ("test-shadow-ring-stop", "test-shadow-ring-hostile",
         "test-shadow-ring", "test-shadow-ring-notify")
HELPERS = ("ring-*.c", "mock-device*.c")
SAMPLE = 12
LEAST = 0.9

# Cheap orders first: most faults show in the first ones.
SCENARIOS = (
    "--size 1 --num 3 --memory tso",
    "--size 1 --num 3 --memory c11",
    "--size 2 --num 3 --memory tso",
    "--size 2 --num 2 --bufs 2 --memory c11",
    "--size 2 --num 4 --driver all --device reverse --bufs 2 --indirect "
    "--memory c11",
    "--size 4 --num 12 --driver all --device all --bufs 2 --memory tso",
    "--size 4 --num 4 --driver one --device free --bufs 2 --memory tso",
)


@dataclass
class Verdict:
    """Who noticed; "" for nobody, "compiler" if it is no program."""

    mutant: Mutant
    noticed: str = ""
    seconds: float = 0


class Bed:
    """What mutants are built and tried in."""

    def __init__(self) -> None:
        self.flags = (*(f for f in qemu_build.our_flags() if f != "-Werror"),
                      "-w", *SANITIZE, "-iquote", str(UNIT))
        self.helpers = OUT / "base/helpers.a"
        parts, self.arguments = qemu_build.parts_of(f"tests/unit/{TESTS[0]}")
        self.libraries = [p for p in parts if not p.startswith("tests/")]
        self.limits: dict[str, float] = {}
        self.explorer = rings.Program(
            "explore-mutants",
            [rings.EXPLORE / source for source in explore.SOURCES],
            first=[rings.EXPLORE / "include"], flags=["-w", "-Wno-error"],
            link=["-Wl," + ",".join(f"--wrap={w}"
                                    for w in explore.WRAPPED)])

    def objects(self, folder: Path, files: tuple[str, ...],
                ring: Path) -> dict[str, Path]:
        """Ring files of @ring, compiled into @folder."""
        jobs = [Compile(ring / "hw/virtio" / name, folder / (name + ".o"),
                        ("-iquote", str(ring), *self.flags))
                for name in files]
        for job in jobs:
            job.output.parent.mkdir(parents=True, exist_ok=True)
            qemu_build.run(["cc", *job.flags, "-c", str(job.source),
                            "-o", str(job.output)])
        return {job.source.name: job.output for job in jobs}

    def link(self, test: str, ring: dict[str, Path], folder: Path) -> Path:
        program = folder / test
        qemu_build.link(program, [
            str(OUT / "base" / (test + ".o")),
            *(str(path) for path in ring.values()), str(self.helpers),
            *self.libraries], [*SANITIZE, *self.arguments])
        return program

    def prepare(self) -> None:
        """Tests without a fault: they pass, and it is known how fast."""
        base = OUT / "base"
        base.mkdir(parents=True, exist_ok=True)
        sources = [p for h in HELPERS for p in sorted(UNIT.glob(h))]
        jobs = [Compile(p, base / (p.stem + ".o"), self.flags)
                for p in sources + [UNIT / (t + ".c") for t in TESTS]]
        qemu_build.compile_all(jobs)
        self.helpers.unlink(missing_ok=True)
        qemu_build.run(["ar", "rcs", str(self.helpers),
                        *(str(base / (p.stem + ".o")) for p in sources)])
        self.ring = self.objects(base, qemu_build.RING, TOP)
        for test in TESTS:
            program = self.link(test, self.ring, base)
            begin = time.monotonic()
            if not self.passes([str(program), "--tap"], 300):
                raise qemu_build.BuildError(f"{test} fails without a mutant")
            self.limits[test] = 30 + 8 * (time.monotonic() - begin)
        self.explorer.make()

    @staticmethod
    def passes(argv: list[str], limit: float) -> bool:
        """A test that hangs has noticed too."""
        try:
            return subprocess.run(argv, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, timeout=limit,
                                  check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def plant(self, mutant: Mutant, folder: Path) -> Path:
        """A copy of the ring files with @mutant in it."""
        ring = folder / "ring"
        shutil.rmtree(folder, ignore_errors=True)
        (ring / "hw/virtio").mkdir(parents=True)
        for name in (*qemu_build.RING, "shadow-ring.h",
                     "shadow-ring-internal.h"):
            text = (qemu_build.VIRTIO / name).read_text("utf-8")
            if name == mutant.file:
                text = mutant.apply(text)
            (ring / "hw/virtio" / name).write_text(text, encoding="utf-8")
        return ring

    def ask_tests(self, mutant: Mutant, ring: Path, folder: Path) -> str:
        header = mutant.file.endswith(".h")
        files = qemu_build.RING if header else (mutant.file,)
        changed = self.objects(folder, files, ring)
        for test in TESTS:
            program = self.link(test, {**self.ring, **changed}, folder)
            if not self.passes([str(program), "--tap"], self.limits[test]):
                return test
        return ""

    def ask_explorer(self, mutant: Mutant, ring: Path, folder: Path) -> str:
        program = self.explorer.make_with(ring, mutant.file, folder)
        forms = [f for f in ("split", "packed") if f in mutant.file] or \
            ["split", "packed"]
        for scenario in SCENARIOS:
            for form in forms:
                for event in explore.EVENTS:
                    words = f"--format {form} {scenario} {event}"
                    if form == "split":
                        words += " " + explore.BEFORE_WRAP
                    if not self.passes([str(program), *words.split()], 60):
                        return "explorer"
        return ""

    def ask_proofs(self, mutant: Mutant, ring: Path, folder: Path) -> str:
        """Proofs of one step from any state, of small rings."""
        forms = [f for f in ("split", "packed") if f in mutant.file] or \
            ["split", "packed"]
        for form in forms:
            proof = proofs.find(f"{form}-any-state-2")
            if proofs.first_violated(proof, ring, folder):
                return "proofs"
        return ""

    def judge(self, mutant: Mutant, number: int, prove: bool) -> Verdict:
        verdict = Verdict(mutant)
        begin = time.monotonic()
        folder = OUT / f"mutant-{number}"
        ring = self.plant(mutant, folder)
        try:
            verdict.noticed = self.ask_tests(mutant, ring, folder)
        except qemu_build.BuildError:
            verdict.noticed = "compiler"
        if not verdict.noticed:
            verdict.noticed = self.ask_explorer(mutant, ring, folder)
        if not verdict.noticed and prove:
            verdict.noticed = self.ask_proofs(mutant, ring, folder)
        shutil.rmtree(folder, ignore_errors=True)
        verdict.seconds = time.monotonic() - begin
        return verdict


def explained() -> dict[str, str]:
    """Name of a survivor: why nobody needs to notice."""
    found: dict[str, str] = {}
    name = ""
    for line in SURVIVORS.read_text("utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            found[name] = line.strip()
        else:
            name = line.strip()
            found[name] = ""
    return found


@dataclass
class Tally:
    """What became of all."""

    verdicts: list[Verdict] = field(default_factory=list)

    def noticed(self) -> int:
        return sum(1 for v in self.verdicts
                   if v.noticed not in ("", "compiler"))

    def alive(self) -> list[Mutant]:
        return [v.mutant for v in self.verdicts if not v.noticed]

    def report(self, all_of_them: bool) -> bool:
        programs = self.noticed() + len(self.alive())
        by = Counter(v.noticed or "nobody" for v in self.verdicts)
        print(", ".join(f"{who}: {n}" for who, n in by.most_common()))
        share = self.noticed() / max(1, programs)
        print(f"{self.noticed()} of {programs} mutants noticed "
              f"({100 * share:.1f} %)")
        known = explained()
        good = True
        for mutant in self.alive():
            if not known.get(mutant.name):
                print(f"survived without an explanation: {mutant.name}")
                good = False
        if all_of_them:
            names = {m.name for m in self.alive()}
            for name in known:
                if name not in names:
                    print(f"explained, but it did not survive: {name}")
                    good = False
            good = good and share >= LEAST
        return good


def all_mutants() -> list[Mutant]:
    return [m for name in mutants.FILES for m in mutants.mutants_of(
        name, (qemu_build.VIRTIO / name).read_text("utf-8"))]


def verdicts_so_far() -> dict[str, str]:
    path = OUT / "verdicts.json"
    if not path.exists():
        return {}
    loaded: dict[str, str] = json.loads(path.read_text("utf-8"))
    return loaded


def run(chosen: list[Mutant], jobs: int, prove: bool, resume: bool) -> Tally:
    bed = Bed()
    bed.prepare()
    tally = Tally()
    lock = threading.Lock()
    said = verdicts_so_far()
    known = dict(said) if resume else {}

    def one(job: tuple[int, Mutant]) -> Verdict:
        if known.get(job[1].name):
            verdict = Verdict(job[1], known[job[1].name])
        else:
            verdict = bed.judge(job[1], job[0], prove)
        with lock:
            print(f"{verdict.noticed or 'NOBODY':26}{verdict.seconds:6.1f} s  "
                  f"{verdict.mutant.name}", flush=True)
            said[verdict.mutant.name] = verdict.noticed
            (OUT / "verdicts.json").write_text(
                json.dumps(said, indent=1), encoding="utf-8")
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        tally.verdicts = list(pool.map(one, enumerate(chosen)))
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("--sample", action="store_true",
                        help=f"{SAMPLE} of them, always the same")
    parser.add_argument("--only", help="those with this text in their name")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--resume", action="store_true",
                        help="what was noticed the last time is not tried "
                             "again")
    parser.add_argument("--no-proofs", action="store_true")
    args = parser.parse_args()
    chosen = all_mutants()
    if args.only:
        chosen = [m for m in chosen if args.only in m.name]
    if args.sample:
        known = explained()
        chosen = [m for m in chosen if m.name not in known]
        chosen = chosen[len(chosen) // SAMPLE // 2::len(chosen) // SAMPLE]
    if args.list:
        print("\n".join(m.name for m in chosen))
        return 0
    try:
        tally = run(chosen, args.jobs,
                    not args.sample and not args.no_proofs, args.resume)
    except (qemu_build.BuildError, rings.RingsError,
            proofs.ProofError) as err:
        print(f"mutate: {err}", file=sys.stderr)
        return 1
    return 0 if tally.report(not args.sample and not args.only) else 1


if __name__ == "__main__":
    sys.exit(main())
