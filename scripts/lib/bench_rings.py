#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a request costs in a shadow virtqueue: ours, and QEMU's own.

A read of one block (three descriptors) goes from a guest's ring to a device's
ring and back, in one thread, in batches.  Instructions are counted by
callgrind and repeat; nanoseconds are what this machine made of them.  The
stock code is compiled from the file that QEMU has before our hooks.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

import qemu_build
from qemu_build import Compile, TOP

OUT = TOP / "build/bench/rings"
BENCH = TOP / "tests/bench"
DOCS = TOP / "docs/devel/vhost-user-memory-isolation-numbers.rst"
PROGRAM = OUT / "bench-rings"
OUR_SOURCES = ("bench-rings.c", "bench-ours.c", "bench-guest.c",
               "bench-device.c", "bench-syscalls.c")
WRAPPED = ("aio_set_event_notifier", "read", "write", "preadv64v2", "syscall")
STOCK = "vhost-shadow-virtqueue"
BATCHES = (1, 8, 64)
CHECK_ROUNDS = 8

# Callees whose instructions are shown apart.  Copying is what isolation is
# for; QEMU's own code passes addresses.  Clearing is a few instructions that
# repeat themselves, and callgrind counts each repetition: the data that a
# device will write with us, 24 KiB of stack in virtqueue_pop() with QEMU.
COPY = ("guest_chain_read", "guest_chain_write")
CLEAR = ("memset",)
LOOKUPS = ("vhost_iova_tree_find_gpa", "vhost_iova_tree_find_iova")


DOCS_TEXT = """\
..
   SPDX-License-Identifier: GPL-2.0-or-later

:orphan:

Numbers of vhost-user memory isolation
======================================

What a request costs in a shadow virtqueue
------------------------------------------

``scripts/bench rings --write-docs`` wrote these tables.  A request is a read
of one block: three descriptors, of 16, 4096 and 1 bytes.  Everything runs in
one thread, with a device that uses at once what it is shown, so caches are warm.
Both sides have event_idx, and each batch is one kick and one call.  QEMU's own
is its shadow virtqueue as it was before this project; it knows split device
rings only.

Instructions are counted by callgrind, in user space, and repeat from run to
run.  Nanoseconds include system calls (the kicks and calls); they are the
least of several runs on one machine, to be compared within a table only.
Columns are batches.

The ring alone: publish, decide about the kick, take, arm.  Looking guest
addresses up, which QEMU's own does in the same function, is left out.

{ring}
The whole path: pop from the guest's ring, publish; take, push, notify.  For
ours that includes reserving a span in the bounce region; QEMU's own maps and
unmaps the buffers instead.  Left out of the instructions (not of the
nanoseconds) is what the two do not have in common:

{path}
Copying is translating the guest's addresses and moving the bytes.  Clearing is
the part of the span that the device may write, and in QEMU's own the arrays on
the stack of ``virtqueue_pop()``.  Both are few instructions that repeat
themselves, and callgrind counts each repetition.  Instructions a request:

{copies}
Ratios are of instructions at batch 8.  A batch is one event heard and one sent,
each way; where a side polls there is none.

{reached}
A goal of 1,500 instructions for the whole path, split on split in batches of 8,
is not met.  Where they go there: the functions that take most, each without
those that it calls, but with those that are inlined.  The two at the top, what
finds guest memory and what marks it as written are copying and clearing.  With
``--profile`` the bench shows more, for each case.

{functions}
On the whole path the choice of the shadow ring's format matters little, since
the ring is a seventh of it: packed by split is {whole:.2f} there.
"""


@dataclass(frozen=True)
class Case:
    """One line of the bench's output, without its figure."""

    part: str           # "ring" or "path"
    who: str            # "ours" or "stock"
    guest: str          # format of the guest's ring
    device: str         # format of the device's ring
    batch: int

    @staticmethod
    def parse(words: list[str]) -> Case:
        return Case(words[0], words[1], words[2], words[3], int(words[4]))


@dataclass
class Cost:
    """Of one request."""

    instructions: float = 0     # all of them
    copy: float = 0             # of these: translating and copying buffers
    clear: float = 0            # of these: clearing memory
    lookups: float = 0          # of these: stock's tree of guest memory
    ns: float = 0               # the least of several runs
    syscalls: float = 0         # of a batch: events heard and sent
    wakeups: float = 0          # of these: events sent
    # Instructions by function, the function alone.
    functions: dict[str, float] = field(default_factory=dict)

    def plain(self, part: str) -> float:
        """Instructions that the contenders can be compared by."""
        if part == "ring":
            return self.instructions - self.lookups
        return self.instructions - self.copy - self.clear


Costs = dict[Case, Cost]


def build() -> None:
    """The bench is QEMU with another main and the other contender."""
    stock = OUT / "stock" / "hw/virtio"
    stock.mkdir(parents=True, exist_ok=True)
    for suffix in (".c", ".h"):
        name = f"hw/virtio/{STOCK}{suffix}"
        (stock / f"{STOCK}{suffix}").write_text(
            qemu_build.pristine(name), encoding="utf-8")
    ours = qemu_build.our_flags()
    device = (*qemu_build.flags_of("hw/virtio/virtio.c"),
              "-iquote", str(TOP), "-iquote", str(TOP / "include"))
    path = qemu_build.RING + qemu_build.QUEUE + ("guest-chain.c",)
    jobs = [Compile(qemu_build.VIRTIO / name, OUT / (name + ".o"), ours)
            for name in path]
    # Clears arrays on the stack by memset(), so that CLEAR sees it.
    jobs.append(Compile(qemu_build.SOURCE / "hw/virtio/virtio.c",
                        OUT / "virtio.c.o",
                        (*device, "-iquote", str(qemu_build.VIRTIO),
                         "-mmemset-strategy=libcall:-1:align")))
    jobs += [Compile(BENCH / name, OUT / (name + ".o"), device)
             for name in OUR_SOURCES]
    stock_object = OUT / "bench-stock.c.o"
    jobs.append(Compile(
        BENCH / "bench-stock.c", stock_object,
        ("-iquote", str(OUT / "stock"), *device, "-I", str(BENCH),
         f'-DSTOCK_SOURCE="{stock / STOCK}.c"', "-Wno-error")))
    qemu_build.compile_all(jobs)
    # What else has the names of the stock file is another implementation.
    qemu_build.run(["objcopy", "-w", "--keep-global-symbol=bench_*",
                    str(stock_object)])
    objects, arguments = qemu_build.parts_of("qemu-system-x86_64")
    replaced = tuple("hw_virtio_" + name + ".o" for name in path) + \
        ("hw_virtio_virtio.c.o", "system_main.c.o")
    objects = [o for o in objects if not o.endswith(replaced)]
    objects += [str(job.output) for job in jobs]
    qemu_build.link(PROGRAM, objects,
                    [*arguments, *(f"-Wl,--wrap={name}" for name in WRAPPED)])
    firmware = OUT / "qemu-bundle"
    if not firmware.is_symlink():
        firmware.symlink_to(qemu_build.QEMU / "qemu-bundle")


class Profile:
    """A dump of callgrind: costs of functions and of calls."""

    def __init__(self, text: str) -> None:
        self._names: dict[str, str] = {}
        self.self_cost: dict[str, int] = defaultdict(int)
        # (caller, callee): what the calls cost, all below included.
        self.calls: dict[tuple[str, str], int] = defaultdict(int)
        self.total = 0
        self._read(text.splitlines())

    def _name(self, word: str) -> str:
        found = re.match(r"\((\d+)\)(?: (.*))?$", word)
        if not found:
            return word
        if found.group(2):
            # Versions of one function: recursion, clones.
            self._names[found.group(1)] = found.group(2).split("'")[0]
        return self._names[found.group(1)]

    def _read(self, lines: list[str]) -> None:
        function = callee = ""
        is_call = False
        for line in lines:
            if line.startswith("fn="):
                function = self._name(line[3:])
            elif line.startswith("cfn="):
                callee = self._name(line[4:])
            elif line.startswith("calls="):
                is_call = True
            elif line.startswith("totals: "):
                self.total = int(line.split()[1])
            elif line[:1].isdigit() or line[:1] in "+-*":
                words = line.split()
                cost = int(words[1]) if len(words) > 1 else 0
                if is_call:
                    self.calls[function, callee] += cost
                    is_call = False
                else:
                    self.self_cost[function] += cost

    def calls_cost(self, callees: tuple[str, ...]) -> int:
        return sum(cost for (_, callee), cost in self.calls.items()
                   if any(name in callee for name in callees))


def count(rounds: int) -> Costs:
    """Instructions: one run of the bench under callgrind."""
    if not shutil.which("valgrind"):
        raise qemu_build.BuildError("valgrind is not installed")
    for old in OUT.glob("callgrind.out*"):
        old.unlink()
    text = qemu_build.run(
        ["valgrind", "--tool=callgrind", "--instr-atstart=no",
         "--collect-atstart=no", "--compress-strings=yes",
         "--dump-line=no", "--quiet",
         f"--callgrind-out-file={OUT}/callgrind.out", str(PROGRAM), "count",
         str(rounds)], OUT)
    costs = {}
    dumps = {}
    for path in OUT.glob("callgrind.out.*"):
        dump = path.read_text("utf-8")
        found = re.search(r"^desc: Trigger: Client Request: (.*)$", dump,
                          re.MULTILINE)
        if found:
            dumps[found.group(1).strip()] = Profile(dump)
    for words in (ln.split() for ln in text.splitlines()):
        if words[:1] != ["COUNT"]:
            continue
        case = Case.parse(words[1:])
        batches, syscalls, wakeups = map(int, words[6:])
        number = batches * case.batch
        profile = dumps[" ".join(words[1:6])]
        costs[case] = Cost(
            profile.total / number,
            profile.calls_cost(COPY) / number,
            profile.calls_cost(CLEAR) / number,
            profile.calls_cost(LOOKUPS) / number, 0,
            syscalls / batches, wakeups / batches,
            {name: cost / number
             for name, cost in profile.self_cost.items() if cost})
    return costs


def clock(costs: Costs, rounds: int, repetitions: int) -> None:
    """Nanoseconds, into @costs."""
    text = qemu_build.run([str(PROGRAM), "time", str(rounds),
                           str(repetitions)], OUT)
    samples: dict[Case, list[float]] = defaultdict(list)
    for words in (ln.split() for ln in text.splitlines()):
        if words[:1] == ["TIME"]:
            samples[Case.parse(words[1:])].append(float(words[6]))
    for case, values in samples.items():
        # What else the machine does only ever adds to it.
        costs[case].ns = min(values)


def rows(costs: Costs, part: str) -> list[Case]:
    """The cases of @part with the smallest batch, in the bench's order."""
    return [c for c in costs if c.part == part and c.batch == BATCHES[0]]


def at(costs: Costs, case: Case, batch: int) -> Cost:
    return costs[Case(case.part, case.who, case.guest, case.device, batch)]


def label(case: Case) -> str:
    who = "QEMU's own" if case.who == "stock" else "ours"
    if case.part == "ring":
        return f"{who}, {case.device}"
    return f"{who}, guest {case.guest}, device {case.device}"


def print_part(costs: Costs, part: str) -> None:
    for case in rows(costs, part):
        cells = ""
        for batch in BATCHES:
            cost = at(costs, case, batch)
            cells += f"{cost.plain(part):10.0f}{cost.ns:9.0f}"
        print(f"  {label(case):42}{cells}")


def print_table(costs: Costs) -> None:
    heading = "".join(f"{f'{b}: instr.':>10}{'ns':>9}" for b in BATCHES)
    print(f"{'a request, by batch':44}{heading}")
    print("ring alone (without looking guest addresses up)")
    print_part(costs, "ring")
    print("pop, publish, take, push (instructions without the copy)")
    print_part(costs, "path")
    print("of that path apart: copying 4 KiB and 17 bytes, clearing")
    for case in rows(costs, "path"):
        cost = at(costs, case, 8)
        print(f"  {label(case):42}{cost.copy:10.0f}{cost.clear:9.0f}")


def print_profile(costs: Costs, batch: int) -> None:
    """The functions that matter, for those who make them faster."""
    for case, cost in costs.items():
        if case.batch == batch:
            print(f"\n{case.part}: {label(case)}: {cost.instructions:.0f}, "
                  f"copy {cost.copy:.0f}, clear {cost.clear:.0f}, "
                  f"lookups {cost.lookups:.0f}")
            for name, own in top(cost, 50):
                print(f"  {own:8.1f} {name}")


def goals(costs: Costs) -> dict[str, tuple[float, float]]:
    """At batch 8: what there is, what is allowed."""
    def plain(part: str, who: str, guest: str, device: str) -> float:
        return costs[Case(part, who, guest, device, 8)].plain(part)

    ours = [cost for case, cost in costs.items()
            if (case.part, case.who) == ("path", "ours")]
    return {
        "our split / QEMU's own, whole path":
            (plain("path", "ours", "split", "split") /
             plain("path", "stock", "split", "split"), 0.70),
        "our split / QEMU's own, ring alone":
            (plain("ring", "ours", "split", "split") /
             plain("ring", "stock", "split", "split"), 0.70),
        "our packed / our split, ring alone":
            (plain("ring", "ours", "split", "packed") /
             plain("ring", "ours", "split", "split"), 0.90),
        "system calls of a batch, whole path":
            (max(cost.syscalls for cost in ours), 4),
        "wake-ups of a batch, whole path":
            (max(cost.wakeups for cost in ours), 2),
    }


def whole_ratio(costs: Costs) -> float:
    """Our packed shadow ring by our split one, for a split guest."""
    packed, split = (costs[Case("path", "ours", "split", device, 8)]
                     for device in ("packed", "split"))
    return packed.plain("path") / split.plain("path")


def rst_table(costs: Costs, part: str) -> str:
    """Instructions and nanoseconds by batch."""
    head = ["", *(f"{b}: {what}" for b in BATCHES
                  for what in ("instructions", "ns"))]
    body = []
    for case in rows(costs, part):
        cells = [label(case)]
        for batch in BATCHES:
            cost = at(costs, case, batch)
            cells += [f"{cost.plain(part):.0f}", f"{cost.ns:.0f}"]
        body.append(cells)
    return list_table(head, body)


def list_table(head: list[str], body: list[list[str]]) -> str:
    lines = [".. list-table::", "  :header-rows: 1", ""]
    for row in (head, *body):
        for number, cell in enumerate(row):
            lines.append(f"  {'*' if number == 0 else ' '} - {cell}".rstrip())
    return "\n".join(lines) + "\n"


def top(cost: Cost, number: int) -> list[tuple[str, float]]:
    """The functions that take most of it."""
    return sorted(cost.functions.items(), key=lambda f: -f[1])[:number]


def write_docs(costs: Costs) -> None:
    copies = list_table(
        ["", "copying", "clearing"],
        [[label(case), f"{at(costs, case, 8).copy:.0f}",
          f"{at(costs, case, 8).clear:.0f}"] for case in rows(costs, "path")])
    reached = list_table(
        ["", "now", "goal"],
        [[goal, f"{ratio:.2f}", f"{most:.2f}"]
         for goal, (ratio, most) in goals(costs).items()])
    functions = list_table(
        ["function", "instructions"],
        [[f"``{name}``", f"{own:.0f}"] for name, own in top(
            costs[Case("path", "ours", "split", "split", 8)], 24)])
    DOCS.write_text(DOCS_TEXT.format(
        ring=rst_table(costs, "ring"), path=rst_table(costs, "path"),
        copies=copies, reached=reached, functions=functions,
        whole=whole_ratio(costs)), encoding="utf-8")
    print(f"bench: wrote {DOCS.relative_to(TOP)}")


# Counts repeat with one compiler; another one may lose a few instructions.
SLACK = 0.04


def check(costs: Costs) -> int:
    """Counts repeat, so they may be judged."""
    missed = 0
    for goal, (ratio, most) in goals(costs).items():
        print(f"{goal}: {ratio:.3f}, the goal is {most}")
        missed += ratio > most + SLACK
    return 1 if missed else 0


def save(costs: Costs) -> Path:
    now = time.strftime("%Y%m%d-%H%M%S")
    path = OUT / f"rings-{now}.json"
    path.write_text(json.dumps(
        {"time": now, "kernel": platform.release(),
         "costs": [{**asdict(case), **asdict(cost)}
                   for case, cost in costs.items()]}, indent=1),
        encoding="ascii")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench rings",
        description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("--rounds", type=int, default=2000,
                        help="batches of a case (default: 2000)")
    parser.add_argument("--repetitions", type=int, default=15,
                        help="of a timed case (default: 15)")
    parser.add_argument("--profile", type=int, metavar="BATCH",
                        help="show functions too")
    parser.add_argument("--write-docs", action="store_true",
                        help=f"write {DOCS.relative_to(TOP)}")
    parser.add_argument("--check", action="store_true",
                        help="count only, shortly, and fail if a goal is "
                             "missed")
    args = parser.parse_args()
    try:
        build()
        if args.check:
            return check(count(CHECK_ROUNDS))
        costs = count(max(1, args.rounds // 20))
        clock(costs, args.rounds, args.repetitions)
    except qemu_build.BuildError as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    print_table(costs)
    print()
    for goal, (ratio, most) in goals(costs).items():
        print(f"{goal}: {ratio:.2f} (goal: {most:.2f})")
    if args.profile:
        print_profile(costs, args.profile)
    if args.write_docs:
        write_docs(costs)
    save(costs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
