#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What guests notice of each event, with isolation and without.

    events_docs.py               the events that tests name
    events_docs.py --write-docs  the same into the user documentation
    events_docs.py --check-docs  does the documentation say the same?
    events_docs.py off NAME      run that test without isolation: is what its
                                 author says of that so?

Tests say it with the decorator of tests/functional/isolation/events.py.  It is
read from their source, so that documentation can be written where nothing was
built.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import textwrap
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

TOP = Path(__file__).resolve().parents[2]
TESTS = TOP / "tests/functional/isolation"
DOCS = TOP / "docs/system/devices/vhost-user-memory-isolation.rst"
BEGIN = (".. Written by scripts/lib/events_docs.py --write-docs; "
         "do not edit.\n\n")
END = ".. End of what was written.\n"
HEADINGS = ("Device", "What happens", "With isolation the guest notices",
            "Without isolation")
SAME = "The same."
# What goes wrong without isolation may need more than one occasion.
TRIES = 3
BOTH_THREADS = "on_both_threads"


@dataclass(frozen=True)
class Event:
    """A test, and what it says."""

    test: str                   # module.Class.method, for unittest
    device: str
    what: str
    on: str
    off: str = SAME

    @property
    def name(self) -> str:
        """As scripts/check has it, but for the group."""
        return self.test.removeprefix("test_").replace(".test_", ".")


def _calls(node: ast.FunctionDef) -> Iterator[ast.Call]:
    """Decorators @event(...) of @node."""
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and \
                isinstance(decorator.func, ast.Name) and \
                decorator.func.id == "event":
            yield decorator


def _of_class(module: str, node: ast.ClassDef) -> Iterator[Event]:
    threads = any(isinstance(d, ast.Name) and d.id == BOTH_THREADS
                  for d in node.decorator_list)
    name = node.name + ("MainLoop" if threads else "")
    for method in node.body:
        if isinstance(method, ast.FunctionDef):
            for call in _calls(method):
                words = [ast.literal_eval(arg) for arg in call.args]
                more = {k.arg or "": ast.literal_eval(k.value)
                        for k in call.keywords}
                yield Event(f"{module}.{name}.{method.name}", *words, **more)


def events() -> list[Event]:
    """All there are; by device, and then as the files have them."""
    found = [event for path in sorted(TESTS.glob("test_*.py"))
             for node in ast.parse(path.read_text("utf-8")).body
             if isinstance(node, ast.ClassDef)
             for event in _of_class(path.stem, node)]
    return sorted(found, key=lambda event: event.device)


def _cell(text: str, column: int) -> str:
    return textwrap.fill(text, 79, break_on_hyphens=False,
                         initial_indent="    - " if column else "  * - ",
                         subsequent_indent=" " * 6) + "\n"


def table() -> str:
    rows = [HEADINGS, *((e.device, e.what, e.on, e.off) for e in events())]
    cells = "".join(_cell(text, i) for row in rows
                    for i, text in enumerate(row))
    return (".. list-table:: Events\n  :header-rows: 1\n"
            f"  :widths: 10 30 30 30\n\n{cells}\n")


def _page() -> tuple[str, str, str]:
    """The documentation: before the table, the table, and after it."""
    before, rest = DOCS.read_text("utf-8").split(BEGIN)
    now, after = rest.split(END)
    return before, now, after


def write_docs() -> int:
    before, _, after = _page()
    DOCS.write_text(before + BEGIN + table() + END + after, "utf-8")
    return 0


def check_docs() -> int:
    good = _page()[1] == table()
    if not good:
        print(f"{DOCS.relative_to(TOP)} has other events than the tests; run "
              "scripts/lib/events_docs.py --write-docs")
    return not good


def try_off(name: str) -> int:
    """Whether the test @name holds without isolation, as it is said to."""
    event = next(e for e in events() if e.name == name)
    os.environ["ISOLATION"] = "off"
    sys.path.insert(0, str(TESTS))
    os.chdir(TESTS)
    tries = 1
    if event.off != SAME:
        tries = TRIES
        # It waits in vain for something.
        importlib.import_module("program").PATIENCE = 1
    print(f"without isolation it is said to be: {event.off}", flush=True)
    same = True
    while same and tries:
        suite = unittest.defaultTestLoader.loadTestsFromName(event.test)
        result = unittest.TextTestRunner(sys.stdout, verbosity=2).run(suite)
        same = result.wasSuccessful() and not result.skipped
        tries -= 1
    return same != (event.off == SAME)


def main() -> int:
    match sys.argv[1:]:
        case []:
            print("\n".join(f"{e.name}: {e.what}" for e in events()))
            return 0
        case ["--write-docs"]:
            return write_docs()
        case ["--check-docs"]:
            return check_docs()
        case ["off", name]:
            return try_off(name)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
