# SPDX-License-Identifier: GPL-2.0-or-later
"""The map as a picture: devices, the processes behind them, memory.

Three columns, with lines between neighbours only, so that no line runs through
a box.  A line on the left is a connection; one on the right is memory that the
process can read, red if it is guest RAM.  Colour never stands alone: what is
red also says so in words and has thicker lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

from . import text
from .model import Map, Memory, Party, Sight

WIDTH = 1280
MARGIN, PAD, GAP, LINE = 24, 12, 16, 19
# Left edge and width of the columns.
COLUMNS = ((40, 320), (470, 370), (950, 290))
COLUMN_TITLES = ("Devices of the VM", "Processes behind them",
                 "Memory of QEMU")
HEAD = 132                         # what is above the columns
TITLE = 30
INDENT = 4 * "\u00a0"
LETTER = 0.60                      # of the font's size, at most
RED, GREEN, AMBER, GREY, INK = ("#c62828", "#2e7d32", "#b26a00", "#78828c",
                                "#1c2329")
FILL = {RED: "#fdecea", GREEN: "#edf7ee", AMBER: "#fff4e0", GREY: "#f3f5f7"}
COLOURS = {Sight.GUEST_RAM: RED, Sight.REGION: GREEN, Sight.NOTHING: GREEN,
           Sight.UNKNOWN: AMBER}


@dataclass
class Box:
    """A box with lines of text: (text, bold, colour)."""

    colour: str
    lines: list[tuple[str, bool, str]]
    x: float = 0
    y: float = 0
    width: float = 0
    lefts: int = 0                 # lines that end at its left, its right
    rights: int = 0

    @property
    def height(self) -> float:
        return 2 * PAD + LINE * len(self.lines) - 4


@dataclass
class Column:
    """Boxes one below the other."""

    number: int
    boxes: list[Box] = field(default_factory=list)

    def add(self, box: Box) -> Box:
        box.x, box.width = COLUMNS[self.number]
        self.boxes.append(box)
        return box

    @property
    def height(self) -> float:
        return sum(b.height + GAP for b in self.boxes)

    def place(self, space: float) -> None:
        """In the middle of @space."""
        y = HEAD + TITLE + (space - self.height) / 2 + GAP / 2
        for box in self.boxes:
            box.y = y
            y += box.height + GAP


def cut(words: str, width: float, font: float) -> str:
    """@words, shortened to what fits."""
    most = int(width / (font * LETTER))
    return words if len(words) <= most else words[:most - 1] + "\u2026"


def label(x: float, y: float, words: str, width: float, *, font: float = 13,
          bold: bool = False, colour: str = INK) -> str:
    weight = ' font-weight="bold"' if bold else ""
    shown = cut(words, width, font)
    more = f"<title>{escape(words)}</title>" if shown != words else ""
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{font:g}"{weight} '
            f'fill="{colour}">{escape(shown)}{more}</text>')


def draw_box(box: Box) -> list[str]:
    parts = [f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" '
             f'height="{box.height:.0f}" rx="6" fill="{FILL[box.colour]}" '
             f'stroke="{box.colour}" stroke-width="'
             f'{2.5 if box.colour == RED else 1.5}"/>']
    for number, (words, bold, colour) in enumerate(box.lines):
        parts.append(label(box.x + PAD, box.y + PAD + 11 + LINE * number,
                           words, box.width - 2 * PAD, bold=bold,
                           colour=colour))
    return parts


def line(start: Box, end: Box, places: tuple[float, float], colour: str,
         hint: str) -> str:
    """From the right of @start to the left of @end."""
    x1, y1 = start.x + start.width, start.y + start.height * places[0]
    x2, y2 = end.x, end.y + end.height * places[1]
    middle = (x1 + x2) / 2
    wide = {RED: 4, GREY: 1.5}.get(colour, 2.5)
    return (f'<path d="M{x1:.0f},{y1:.1f} C{middle:.0f},{y1:.1f} '
            f'{middle:.0f},{y2:.1f} {x2:.0f},{y2:.1f}" fill="none" '
            f'stroke="{colour}" stroke-width="{wide}"><title>'
            f'{escape(hint)}</title></path>')


# What is in the boxes

def device_box(found: Map, number: int) -> Box:
    link = found.links[number]
    colours = [COLOURS[p.sight] for p in found.parties
               if p.process.pid in link.pids]
    colour = next((c for c in (RED, AMBER) if c in colours), GREEN)
    if not colours:
        colour = AMBER if link.connected else GREY
    lines = [(link.device.name, True, INK), (link.device.type, False, INK),
             (text.isolation(link), False, INK)]
    if not link.pids:
        lines.append((text.backend(link), False, colour))
    return Box(colour, lines)


def party_box(party: Party) -> Box:
    process, colour = party.process, COLOURS[party.sight]
    lines = [(f"{process.name}, process {process.pid}", True, INK),
             (f"user {process.uid}, {process.exe or 'program unknown'}",
              False, INK),
             (text.SAYS[party.sight], True, colour)]
    for access in party.accesses:
        shade = RED if access.memory.is_ram else INK
        lines.append((f"{access.memory.name}:", False, shade))
        lines.append((INDENT + access.how(), False, shade))
    return Box(colour, lines)


def memory_box(piece: Memory, found: Map) -> Box:
    users = [p for p in found.parties
             if any(a.memory is piece for a in p.accesses)]
    colour = GREY
    if users:
        colour = RED if piece.is_ram else GREEN
    kind = "guest RAM" if piece.is_ram else "no guest RAM"
    lines = [(piece.name, True, INK),
             (f"{text.size(piece.size)}, {kind}", False, INK),
             (text.sharing(piece), False, INK)]
    if piece.resident is not None:
        lines.append((f"{text.size(piece.resident)} resident", False, INK))
    return Box(colour, lines)


# The picture

@dataclass
class Picture:
    """The columns and which boxes of theirs are joined."""

    found: Map
    columns: list[Column]
    joints: list[tuple[Box, Box, str, str]] = field(default_factory=list)

    def join(self, start: Box, end: Box, colour: str, hint: str) -> None:
        self.joints.append((start, end, colour, hint))
        start.rights += 1
        end.lefts += 1


def compose(found: Map) -> Picture:
    columns = [Column(n) for n in range(3)]
    picture = Picture(found, columns)
    devices = [columns[0].add(device_box(found, n))
               for n in range(len(found.links))]
    memory = {m.key: columns[2].add(memory_box(m, found))
              for m in found.memory if text.worth_a_line(m)}
    small = text.small_blocks(found)
    if small:
        columns[2].add(Box(GREY, [(small, False, INK)]))
    for party in found.parties:
        box = columns[1].add(party_box(party))
        for link, device in zip(found.links, devices):
            if party.process.pid in link.pids:
                picture.join(device, box, GREY, f"socket {link.socket}")
        for access in party.accesses:
            if access.memory.key in memory:
                picture.join(box, memory[access.memory.key],
                             RED if access.memory.is_ram else GREEN,
                             text.access_line(access))
    for number, nothing in enumerate(("no device has a backend",
                                      "no other process has any of it", "")):
        if not columns[number].boxes:
            columns[number].add(Box(GREY, [(nothing, False, INK)]))
    return picture


def draw_lines(picture: Picture) -> list[str]:
    """Each line with a place of its own at the boxes' edges."""
    seen: dict[tuple[int, str], int] = {}

    def place(box: Box, side: str, total: int) -> float:
        number = seen.setdefault((id(box), side), 0) + 1
        seen[id(box), side] = number
        return number / (total + 1)

    return [line(start, end, (place(start, "right", start.rights),
                              place(end, "left", end.lefts)), colour, hint)
            for start, end, colour, hint in picture.joints]


def draw_head(found: Map) -> list[str]:
    sight, sentence = text.verdict(found)
    colour = COLOURS[sight]
    wide = WIDTH - 2 * MARGIN
    return [
        label(MARGIN, 38, text.title(found), wide, font=20, bold=True),
        f'<rect x="{MARGIN}" y="56" width="{wide}" height="38" rx="6" '
        f'fill="{colour}"/>',
        label(MARGIN + PAD, 80, sentence[0].upper() + sentence[1:],
              wide - 2 * PAD, font=15, bold=True, colour="#ffffff"),
        *(label(COLUMNS[n][0], HEAD + 8, COLUMN_TITLES[n], COLUMNS[n][1],
                font=15, bold=True) for n in range(3))]


def draw_foot(found: Map, y: float) -> list[str]:
    """Legend, and what has no box."""
    parts, x = [], float(MARGIN)
    for colour, words in ((RED, "can read guest RAM"),
                          (GREEN, "memory that is no guest RAM"),
                          (GREY, "connection; memory of QEMU's own"),
                          (AMBER, "not known")):
        parts.append(f'<rect x="{x:.0f}" y="{y - 10:.0f}" width="22" '
                     f'height="10" fill="{colour}"/>')
        parts.append(label(x + 30, y, words, 400))
        x += 30 + len(words) * 13 * LETTER + 30
    for words in text.remarks(found):
        y += LINE + 4
        parts.append(label(MARGIN, y, words[0].upper() + words[1:],
                           WIDTH - 2 * MARGIN))
    return parts


def draw(found: Map) -> str:
    picture = compose(found)
    space = max(c.height for c in picture.columns)
    for column in picture.columns:
        column.place(space)
    bottom = HEAD + TITLE + space + 34
    height = bottom + (LINE + 4) * len(text.remarks(found)) + 20
    parts = draw_head(found)
    parts += draw_lines(picture)
    for column in picture.columns:
        for box in column.boxes:
            parts += draw_box(box)
    parts += draw_foot(found, bottom)
    _, sentence = text.verdict(found)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
        f'height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}" '
        'role="img" font-family="DejaVu Sans, Verdana, sans-serif">',
        f"<title>{escape(text.title(found))}</title>",
        f"<desc>{escape(sentence)}</desc>",
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
        *parts, "</svg>", ""])
