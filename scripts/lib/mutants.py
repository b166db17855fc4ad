# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be wrong in a ring file: one small fault at a time.

Works on lines of C in our style.  Asserts are left alone: they say what the
caller must do, and no device can reach them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

FILES = ("shadow-ring.c", "shadow-ring-split.c", "shadow-ring-packed.c",
         "shadow-ring-internal.h")

# A comparison: its edge moved, and the opposite of it.
COMPARISONS = {
    " < ": (" <= ", " >= "), " <= ": (" < ", " > "),
    " > ": (" >= ", " <= "), " >= ": (" > ", " < "),
    " == ": (" != ",), " != ": (" == ",),
    " && ": (" || ",), " || ": (" && ",),
}
OFF_BY_ONE = {" + 1": ("",), " - 1": ("",), "++": ("",), "--": ("",),
              " += ": (" -= ",), " -= ": (" += ",)}
ORDER = {"_release(": ("(",), "_acquire(": ("(",),
         "store_release(": ("set(",), "load_acquire(": ("read(",)}
VALUES = {"return true;": ("return false;",),
          "return false;": ("return true;",),
          "= true;": ("= false;",), " | ": (" & ",), " & ": (" | ",),
          "(!": ("(",), "return !": ("return ",), "= !": ("= ",)}
# A statement that can be left out: no declaration, no jump.
STATEMENT = re.compile(
    r"^ *(?=\S)(?!(return|break|case|default|assert|continue|const|unsigned|"
    r"u?int\d+_t|bool|size_t|void|struct|if|for|while|switch|else|[A-Z]\w+)\b"
    r"(?!\()|(if|for|while|switch|assert) ?\(|[})(&\".])"
    r"\*?[\w>.\[\]&()+-]+( [-+|&^]?= .*|\(.*\)|\+\+|--);$")
STATEMENT_LINES = 4
# ... that touches shared memory, or lets a format do so.  Two stores into one
# descriptor have no order; what shows it to the device has.
SHARED = re.compile(r"foreign_\w+\(|smp_mb\(|ops->(?!new|free)\w+\(|"
                    r"sent_\w+ = |split_send|packed_send")
STORE = re.compile(r"foreign_write\d+\(")
SKIPPED = re.compile(r"^\s*(#|assert\(|QEMU_BUILD_BUG_ON)|g_assert")


@dataclass(frozen=True)
class Mutant:
    """One line (or two that change places) that is another."""

    file: str
    function: str
    old: str
    new: str
    number: int         # of several that look the same
    line: int           # counted from 0
    lines: tuple[str, ...]      # what is there instead
    replaced: int       # how many lines that replaces

    @property
    def name(self) -> str:
        again = f" #{self.number}" if self.number > 1 else ""
        return f"{self.file} {self.function}: {self.old} => {self.new}{again}"

    def apply(self, text: str) -> str:
        lines = text.splitlines()
        lines[self.line:self.line + self.replaced] = self.lines
        return "\n".join(lines) + "\n"


def _code_lines(text: str) -> list[str]:
    """Lines without comments; a string keeps its place, not its words."""
    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", found.group(0))
    text = re.sub(r"/\*.*?\*/", blank, text, flags=re.DOTALL)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"',
                  lambda m: '"' + "_" * (len(m.group(0)) - 2) + '"', text)
    return text.splitlines()


def _functions(lines: list[str]) -> Iterator[tuple[int, str]]:
    """(line, function) of each line of a function's body."""
    name, inside = "", False
    in_assert = False
    for number, line in enumerate(lines):
        head = re.match(r"[A-Za-z_].*?\b(?!__attribute__)(\w+)\(\w", line)
        if head and not inside:
            name = head.group(1)
        if line.startswith("{"):
            inside = True
        elif line.startswith("}"):
            inside = False
        elif inside and line.strip():
            in_assert = in_assert or line.strip().startswith("assert(")
            if not in_assert and not SKIPPED.search(line):
                yield number, name
            in_assert = in_assert and not line.rstrip().endswith(";")


def _replacements(line: str) -> Iterator[str]:
    """Each line that @line could be by mistake."""
    for table in (COMPARISONS, OFF_BY_ONE, ORDER, VALUES):
        for old, news in table.items():
            at = line.find(old)
            while at >= 0:
                for new in news:
                    yield line[:at] + new + line[at + len(old):]
                at = line.find(old, at + 1)


def _can_swap(first: str, second: str) -> bool:
    return bool(STATEMENT.match(first) and STATEMENT.match(second) and
                (SHARED.search(first) or SHARED.search(second)) and
                not (STORE.search(first) and STORE.search(second)) and
                first[:8].count(" ") == second[:8].count(" "))


def _statement(code: list[str], number: int) -> int:
    """How many lines the statement that begins there has; 0: it is none."""
    text = code[number]
    before = next((ln for ln in reversed(code[:number]) if ln.strip()), "")
    if not before.rstrip().endswith((";", "{", "}", ":")):
        return 0
    for count in range(1, STATEMENT_LINES + 1):
        if text.endswith((";", "{", "}")):
            return count if STATEMENT.match(text) else 0
        if number + count == len(code):
            break
        text += " " + code[number + count].strip()
    return 0


def _short(line: str) -> str:
    return " ".join(line.split())


def mutants_of(file: str, text: str) -> list[Mutant]:
    """In the order of the file; the same for the same text."""
    lines = text.splitlines()
    code = _code_lines(text)
    seen: Counter[tuple[str, str, str]] = Counter()
    found: list[Mutant] = []

    def put(number: int, name: str, new: tuple[str, ...], said: str,
            replaced: int = 1) -> None:
        old = _short(lines[number])
        seen[name, old, said] += 1
        found.append(Mutant(file, name, old, said, seen[name, old, said],
                            number, new, replaced))

    body = list(_functions(code))
    for at, (number, name) in enumerate(body):
        line = code[number]
        for new in _replacements(line):
            put(number, name, (new,), _short(new))
        count = _statement(code, number)
        if count:
            put(number, name, (re.sub(r"\S.*", ";", line),), "gone", count)
        following = body[at + 1][0] if at + 1 < len(body) else -1
        if following >= 0 and body[at + 1][1] == name and \
                _can_swap(line, code[following]) and \
                not any(code[n].strip() for n in range(number + 1,
                                                       following)):
            between = tuple(lines[number + 1:following])
            put(number, name,
                (lines[following], *between, lines[number]),
                "after the next", following - number + 1)
    return found
