#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Do documentation and code say the same?

The trust table of docs/devel names functions and tests: each exists.  Tables of
properties, states, trace events and counters have a row for each one in the
code, and no other.  Messages in the user documentation are printed by the code.
Functions and files that are mentioned anywhere exist.

Prints a line for each problem; exit status 1 if there is one.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
QEMU = TOP / "build/qemu-src"
USER = "docs/system/devices/vhost-user-memory-isolation.rst"
DEVEL = "docs/devel/vhost-user-memory-isolation.rst"
DOCS = ("README.rst", USER, DEVEL)
HEADER = "include/hw/virtio/vhost-user-isolation.h"
QEMU_FOLDERS = ("backends", "hw/block", "hw/net", "hw/scsi", "hw/virtio",
                "net", "util")
LITERAL = re.compile(r"``(.+?)``", re.DOTALL)
C_STRING = re.compile(r'"((?:\\.|[^"\\\n])*)"')
# A run of adjacent strings.
C_STRINGS = re.compile(r'"(?:\\.|[^"\\\n])*"(?:\s*"(?:\\.|[^"\\\n])*")*')

Row = list[str]
Problems = list[str]


def read(name: str) -> str:
    return (TOP / name).read_text(encoding="utf-8")


def table(name: str, title: str) -> list[Row]:
    """Rows of the list-table @title in the file @name, without its heading."""
    match = re.search(rf"^\.\. list-table:: {re.escape(title)}\n(?:[ ]+:.*\n)+"
                      r"\n((?:(?:  .*)?\n)+)", read(name), re.MULTILINE)
    if not match:
        return []
    rows = re.split(r"^  \* - ", match.group(1), flags=re.MULTILINE)[1:]
    return [[" ".join(cell.split()) for cell in
             re.split(r"^    - ", row, flags=re.MULTILINE)]
            for row in rows][1:]


def first_literals(name: str, title: str) -> list[str]:
    """The literal in the first cell of each row."""
    return [LITERAL.findall(row[0])[0] for row in table(name, title)
            if LITERAL.search(row[0])]


def added_by_hooks(path: str = "") -> str:
    """Lines that patches/ add, to all files or to those that end in @path."""
    lines, wanted = [], False
    for patch in sorted((TOP / "patches").glob("*.patch")):
        for line in patch.read_text(encoding="utf-8").splitlines():
            if line.startswith("+++ "):
                wanted = line.endswith(path)
            elif line.startswith("+") and wanted:
                lines.append(line[1:])
    return "\n".join(lines)


@functools.cache
def our_code() -> str:
    files = [p for folder in ("hw", "include")
             for p in sorted((TOP / folder).rglob("*")) if p.is_file()]
    return "\n".join([p.read_text(encoding="utf-8") for p in files] +
                     [added_by_hooks()])


@functools.cache
def qemu_code() -> str:
    """QEMU's own files as the hooks left them; ours are links there."""
    return "\n".join(
        p.read_text(encoding="utf-8") for folder in QEMU_FOLDERS
        for p in sorted((QEMU / folder).glob("*.[ch]"))
        if not p.is_symlink())


@functools.cache
def defined(code: str) -> frozenset[str]:
    """Functions and function-like macros that @code defines."""
    code = re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL)
    return frozenset(re.findall(
        r"^\w[^\n;(]*?\b(\w+)\([^;{}]*?\)\s*\{", code, re.MULTILINE) +
        re.findall(r"^(\w+)\([^;{}]*?\)\s*\n\{", code, re.MULTILINE) +
        re.findall(r"^#define (\w+)\(", code, re.MULTILINE))


# What the code has

def code_properties() -> set[str]:
    """Of devices, and what only netdevs have."""
    options = re.search(r"'struct': 'VhostUserIsolationOptions'.*?\} \}",
                        added_by_hooks("qapi/common.json"), re.DOTALL)
    macro = re.search(r"#define DEFINE_VHOST_USER_ISOLATION_PROPERTIES.*?"
                      r"[^\\]\n", read(HEADER), re.DOTALL)
    return set(re.findall(r'DEFINE_PROP_\w+\("([^"]+)"',
                          macro.group(0) if macro else "")) | \
        set(re.findall(r"'\*([\w-]+)':", options.group(0) if options else ""))


def code_events() -> set[str]:
    return set(re.findall(r"^((?:isolated_queue|vhost_user_(?:isolation|"
                          r"transport|channel))_\w+)\(",
                          added_by_hooks("hw/virtio/trace-events"),
                          re.MULTILINE))


def code_states() -> set[str]:
    match = re.search(r"typedef enum IsolatedQueueState \{(.*?)\}",
                      read("hw/virtio/isolated-queue.h"), re.DOTALL)
    names = re.findall(r"\b(ISOLATED_QUEUE_\w+)", match.group(1)
                       if match else "")
    return {n for n in names if not n.endswith("__MAX")}


def code_counters() -> set[str]:
    return set(re.findall(
        r'^\s+STAT\("([^"]+)"',
        read("hw/virtio/vhost-user-isolation-query.c"), re.MULTILINE))


# The checks

def compare(what: str, code: set[str], name: str, title: str) -> Problems:
    docs = first_literals(name, title)
    problems = [f"{name}: {what} {n} is not in the table '{title}'"
                for n in sorted(code - set(docs))]
    problems += [f"{name}: the code has no {what} {n}"
                 for n in sorted(set(docs) - code)]
    problems += [f"{name}: {what} {n} has two rows"
                 for n in sorted(set(docs)) if docs.count(n) > 1]
    if not code:
        problems.append(f"the code has no {what} where it is looked for")
    return problems


def tables() -> Problems:
    return (compare("property", code_properties(), USER, "Properties") +
            compare("counter", code_counters(), USER, "Counters") +
            compare("state", code_states(), DEVEL, "States") +
            compare("trace event", code_events(), DEVEL, "Trace events"))


def words() -> Problems:
    """Properties, events and states that are mentioned elsewhere."""
    known = code_properties() | {"memory-isolation-stats"}
    events = code_events()
    problems = []
    for name in DOCS:
        text = read(name)
        for word in set(re.findall(r"(?<![\w/-])memory-isolation(?:-\w+)*",
                                   text)) - known:
            problems.append(f"{name}: the code has no property {word}")
        for word in set(re.findall(r"\bISOLATED_QUEUE_[A-Z]+", text)):
            if word not in code_states():
                problems.append(f"{name}: the code has no state {word}")
        for word in LITERAL.findall(text):
            if re.fullmatch(r"(isolated_queue|vhost_user_isolation)_[\w*]+",
                            word) and not fnmatch.filter(events, word):
                problems.append(f"{name}: no hook has a trace event {word}")
    return problems


def functions() -> Problems:
    """Every literal that ends in () is a function; "(QEMU)" says whose."""
    ours, theirs = defined(our_code()), defined(qemu_code())
    problems = []
    for name in DOCS:
        for func, whose in re.findall(r"``(\w+)\(\)``(?:\s+\((QEMU)\))?",
                                      read(name)):
            if func not in (theirs if whose else ours | theirs):
                problems.append(f"{name}: no function {func}() in "
                                f"{'QEMU' if whose else 'the code'}")
    return problems


def files() -> Problems:
    """Literals that look like the path of a file or folder."""
    problems = []
    for name in DOCS:
        for word in LITERAL.findall(read(name)):
            if re.fullmatch(r"(hw|include|tests|scripts|docs|patches|qapi)"
                            r"/[\w./-]*", word) and not (
                                (TOP / word).exists() or
                                (QEMU / word).exists() and
                                not (QEMU / word).is_symlink()):
                problems.append(f"{name}: no file {word}")
    return problems


# Tests

@functools.cache
def c_strings(path: Path) -> frozenset[str]:
    """Parts of the strings in a C file and its parts, cut at slashes."""
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r'#include "([\w-]+\.c\.inc)"', text):
        text += (path.parent / name).read_text(encoding="utf-8")
    return frozenset(part for string in C_STRING.findall(text)
                     for part in string.split("/"))


def gtest_exists(test: str) -> bool:
    """A program has an end of the path; it or its helpers have the rest."""
    parts = [p for p in test.split("/") if p and p != "*"]
    for folder in ("tests/unit", "tests/qtest"):
        sources = sorted((TOP / folder).glob("*.c"))
        programs = [p for p in sources if "int main(" in p.read_text("utf-8")]
        shared = frozenset().union(*(c_strings(p) for p in sources
                                     if p not in programs))
        for program in programs:
            has = c_strings(program)
            if {parts[0], parts[-1]} & has and set(parts) <= has | shared:
                return True
    return False


@functools.cache
def functional_tests() -> frozenset[str]:
    """As scripts/check names them."""
    names = []
    for path in sorted((TOP / "tests/functional/isolation").glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                names += [f"functional/{path.stem[5:]}.{node.name}{where}."
                          f"{item.name[5:]}" for item in node.body
                          if isinstance(item, ast.FunctionDef) and
                          item.name.startswith("test_")
                          for where in (("MainLoop", "IOThread")
                                        if node.decorator_list else ("",))]
    return frozenset(names)


@functools.cache
def hostile_moves() -> frozenset[str]:
    """As `scripts/check hostile` names them."""
    names: set[str] = set()
    for path in (TOP / "tests/backends/hostile").glob("moves_*.py"):
        names.update(re.findall(r'\bMove\("([\w-]+)"',
                                path.read_text(encoding="utf-8")))
    return frozenset(f"hostile/{name}" for name in names)


@functools.cache
def conformance_cases() -> frozenset[str]:
    """As the table of docs/devel names them."""
    names: set[str] = set()
    for path in (TOP / "tests/qtest").glob("conformance-*.c"):
        names |= c_strings(path)
    return frozenset(f"conformance: {name}" for name in names)


def test_exists(test: str) -> bool:
    if test.startswith("functional/"):
        return bool(fnmatch.filter(functional_tests(), test))
    if test.startswith("hostile/"):
        return test in hostile_moves()
    if test.startswith("conformance: "):
        return test in conformance_cases()
    return gtest_exists(test)


def trust_table() -> Problems:
    """Every row is whole and names what checks and a test, or "none yet"."""
    problems = []
    rows = table(DEVEL, "Trust table")
    if len(rows) < 20:
        problems.append(f"{DEVEL}: the trust table has {len(rows)} rows")
    for row in rows:
        where = f"{DEVEL}: '{row[0]}'"
        if len(row) != 6:
            problems.append(f"{where}: {len(row)} cells, not 6")
            continue
        tests = LITERAL.findall(row[5])
        if not tests and "none yet" not in row[5]:
            problems.append(f"{where}: neither a test nor 'none yet'")
        for test in tests:
            if not test_exists(test):
                problems.append(f"{where}: no test {test}")
    return problems


# Messages

@functools.cache
def message_patterns() -> tuple[re.Pattern[str], ...]:
    """What the strings in our code can print."""
    code = re.sub(r'%"\s*PRI\w+\s*"', "%u", our_code())
    patterns = []
    for run in C_STRINGS.findall(code):
        text = "".join(C_STRING.findall(run))
        if " " in text:
            parts = re.split(r"%[a-z]", text)
            patterns.append(re.compile(".+".join(map(re.escape, parts))))
    return tuple(patterns)


def printed(message: str) -> bool:
    return any(p.fullmatch(message) for p in message_patterns())


def messages() -> Problems:
    """Quoted messages, and the reason that some of them end with."""
    problems = []
    for title in ("Messages at start", "Messages when the device starts",
                  "Messages while the device runs"):
        quoted = first_literals(USER, title)
        if not quoted:
            problems.append(f"{USER}: no table '{title}'")
        for message in quoted:
            message = message.removesuffix("...")
            reason = re.search(r"queue \d+: (.*?)(?:; the queue is .*)?$",
                               message)
            for text in [message] + ([reason.group(1)] if reason else []):
                if not printed(text):
                    problems.append(f"{USER}: nothing prints: {text}")
    return problems


def main() -> int:
    if not QEMU.is_dir():
        print("check_docs: there is no build/qemu-src; run scripts/setup")
        return 1
    problems = (tables() + words() + functions() + files() + trust_table() +
                messages())
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
