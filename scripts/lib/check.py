#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the project's tests; scripts/check sets up and calls this."""

from __future__ import annotations

import argparse
import fnmatch
import os
import signal
import sys
import threading
from pathlib import Path

import check_list
import devices
from check_run import Outcome, Reaper, Test, own_mark, run

LOGS = check_list.BUILD / "log" / "check"
TAIL_LINES = 15

EPILOG = """\
groups: unit, qtest, functional, devices, rings, proofs, code (together: what
runs without arguments; devices prints the matrix of devices and backends),
proofs (machine-checked; names each property), proofs-deep (larger rings, slow),
asan (unit tests and qtests in a QEMU with sanitizers), bare (from a bare Debian 12 and 13,
and from one that has everything installed already, also as an ordinary user;
hours), compile (each commit of the
exported series; slow), port (other versions of QEMU: builds them and runs a
part of the tests with them; slow), fuzz (two minutes; scripts/fuzz for longer), mutation
(breaks the ring files in hundreds of places; slow), hostile (all moves of the
hostile backend; hours), hostile-once (each move with one device), vdpa (vDPA's queue on a kernel with VDUSE; ten
minutes, and a short form of it without arguments), s390x (a guest that is big-endian),
exposure (who can read how much), kvm (more guests that KVM runs), deb (Debian
packages, built and tried in a bare Debian 12 and 13; slow), libvirt (the packages
with Debian's libvirt), devices-off (the rest of that matrix with isolation
off), long (long forms of plain tests), events (is what the user documentation says of events
without isolation so? Slow).  A name may be a
pattern:
'functional/data.*'.
"""


def select(tests: list[Test], wanted: list[str]) -> list[Test]:
    """Tests whose group, name or claim fits; all plain ones for no words."""
    if not wanted:
        return [t for t in tests if t.group in check_list.PLAIN_GROUPS]
    chosen: list[Test] = []
    for word in wanted:
        fits = [t for t in tests
                if word == t.group or fnmatch.fnmatchcase(t.name, word) or
                fnmatch.fnmatchcase(t.name.split("/", 1)[1], word)]
        if not fits:
            sys.exit(f"check: no test is called '{word}'; "
                     "scripts/check --list shows them")
        chosen += [t for t in fits if t not in chosen]
    # What a chosen test builds on comes along.
    names = {t.after for t in chosen} - {t.name for t in chosen}
    return [t for t in tests if t in chosen or t.name in names]


class Report:
    """A line a test, as it ends; the sum at the end."""

    def __init__(self, cases: bool = False) -> None:
        self._cases = cases             # name those that have names
        self._lock = threading.Lock()
        self.outcomes: list[Outcome] = []
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def _paint(self, word: str, colour: int) -> str:
        return f"\033[{colour}m{word}\033[0m" if self._colour else word

    def add(self, outcome: Outcome) -> None:
        with self._lock:
            self.outcomes.append(outcome)
            self._print(outcome)
            sys.stdout.flush()

    def _print(self, out: Outcome) -> None:
        name, why = out.test.name, out.why.strip()
        if out.failed:
            log = os.path.relpath(out.log)
            print(f"{self._paint('FAIL', 31)} {name}: {why} (log: {log})")
            text = out.log.read_text("utf-8", "replace") if \
                out.log.exists() else ""
            for line in text.splitlines()[-TAIL_LINES:]:
                print(f"     | {line}")
        elif out.passed:
            cases = f" {out.passed} cases" if out.test.tap else ""
            more = f" ({why})" if why else ""
            print(f"{self._paint('ok  ', 32)} {name} {out.seconds:.1f} s"
                  f"{cases}{more}")
            self._print_figures(out)
            if self._cases and out.test.named:
                self._print_cases(out)
        else:
            print(f"{self._paint('skip', 33)} {name}: {why}")

    @staticmethod
    def _print_figures(out: Outcome) -> None:
        """What a test measured, for people: its lines with FIGURES in front."""
        for line in out.log.read_text("utf-8", "replace").splitlines():
            if line.startswith("FIGURES "):
                print(f"     | {line.removeprefix('FIGURES ')}")

    @staticmethod
    def _print_cases(out: Outcome) -> None:
        for line in out.log.read_text("utf-8", "replace").splitlines():
            if line.startswith("ok "):
                print(f"     | ok  {line.split(' ', 2)[2]}")

    def matrix(self) -> None:
        """Devices and backends, if any of them was tried."""
        words = {o.test.name: "FAIL" if o.failed else "ok" if o.passed
                 else "skip" for o in self.outcomes
                 if o.test.group in devices.GROUPS}
        if words:
            print("\n" + devices.table(words) + "\n")

    def again(self) -> None:
        """What failed or was skipped once more: a long log gets cut."""
        for out in self.outcomes:
            if out.failed:
                self._print(out)
        for out in self.outcomes:
            if out.skipped and not out.failed:
                print(f"skip {out.test.name}: {out.why.strip()}")

    def total(self) -> int:
        passed = sum(o.passed for o in self.outcomes)
        failed = sum(o.failed for o in self.outcomes)
        skipped = sum(o.skipped for o in self.outcomes)
        print(f"{passed} passed, {failed} failed, {skipped} skipped")
        return 1 if failed else 0


class Scheduler:
    """Threads that take tests in order; some tests want to be alone."""

    def __init__(self, tests: list[Test], jobs: int, report: Report) -> None:
        self._todo = list(tests)
        self._jobs = jobs
        self._report = report
        self._reaper = Reaper()
        self._change = threading.Condition()
        self._running = 0
        self._alone = False
        self._failed: set[str] = set()
        self._open = {t.name for t in tests}

    def _next(self) -> Test | None:
        """The first test that may start now; None when all have started."""
        with self._change:
            while self._todo:
                for test in self._todo:
                    if self._may_start(test):
                        self._todo.remove(test)
                        self._running += 1
                        self._alone = test.alone
                        return test
                    if test.alone:
                        break       # what comes later does not overtake it
                self._change.wait()
            return None

    def _may_start(self, test: Test) -> bool:
        if self._alone or (test.alone and self._running):
            return False
        return test.after not in self._open

    def _done(self, outcome: Outcome) -> None:
        with self._change:
            self._running -= 1
            self._alone = False
            self._open.discard(outcome.test.name)
            if outcome.failed:
                self._failed.add(outcome.test.name)
            self._change.notify_all()
        self._report.add(outcome)

    def _run_one(self, test: Test) -> Outcome:
        log = LOGS / (test.name.replace("/", ".") + ".log")
        if test.after in self._failed:
            return Outcome(test, log, failed=1, why=f"{test.after} failed")
        if not Path(test.argv[0]).exists():
            log.write_text("", encoding="ascii")
            return Outcome(test, log, failed=1,
                           why=f"{test.argv[0]} does not exist")
        return run(test, LOGS, self._reaper)

    def _work(self) -> None:
        while (test := self._next()) is not None:
            try:
                outcome = self._run_one(test)
            except Exception as err:    # else nobody would end the run
                outcome = Outcome(test, LOGS / "none", failed=1,
                                  why=repr(err))
            self._done(outcome)

    def run(self) -> None:
        threads = [threading.Thread(target=self._work, daemon=True)
                   for _ in range(self._jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            with self._change:
                self._todo.clear()
            self._reaper.end(own_mark())
            raise


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/check", description="Run the tests.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="GROUP|NAME")
    # On two processors: of three tests one waits at any time.
    parser.add_argument("-j", "--jobs", type=int, default=3)
    parser.add_argument("-l", "--list", action="store_true",
                        help="name the tests, run nothing")
    return parser.parse_args()


def main() -> int:
    args = parse()
    tests = select(check_list.all_tests(), args.names)
    if args.list:
        print("\n".join(t.name for t in tests))
        return 0
    LOGS.mkdir(parents=True, exist_ok=True)
    report = Report(cases=bool(args.names))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        Scheduler(tests, max(1, args.jobs), report).run()
    except KeyboardInterrupt:
        print("check: interrupted")
        return 130
    report.matrix()
    report.again()
    return report.total()


if __name__ == "__main__":
    sys.exit(main())
