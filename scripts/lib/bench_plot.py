# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures of what scripts/bench measured, as SVG without any library."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 170, 40, 50
COLOURS = ("#1b6ca8", "#555555", "#c8553d", "#e09f3e", "#5b8e4d", "#7b4b94")
ROLE_COLOURS = {"main": "#c8553d", "iothread": "#e09f3e", "vcpu": "#b8c4cc",
                "backend": "#1b6ca8"}
DASHED = "memcpy"

Point = tuple[float, float]
Document = dict[str, Any]


@dataclass
class Axis:
    """Where values go: from @low to @high, evenly or by their logarithm."""

    title: str
    low: float
    high: float
    ticks: list[tuple[float, str]]
    log: bool = True

    def share(self, value: float) -> float:
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        return (math.log(max(value, self.low)) - math.log(self.low)) / \
            (math.log(self.high) - math.log(self.low))


@dataclass
class Picture:
    """Two axes and what is drawn between them."""

    title: str
    x: Axis
    y: Axis
    parts: list[str] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)

    def place(self, point: Point) -> Point:
        inner = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return (LEFT + self.x.share(point[0]) * inner[0],
                HEIGHT - BOTTOM - self.y.share(point[1]) * inner[1])

    def line(self, name: str, points: list[Point], colour: str) -> None:
        places = [self.place(p) for p in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dash = ' stroke-dasharray="6 4"' if name == DASHED else ""
        self.parts.append(f'<polyline points="{path}" fill="none" '
                          f'stroke="{colour}" stroke-width="2"{dash}/>')
        self.legend.append((name, colour))

    def spread(self, x: float, low: float, high: float, colour: str) -> None:
        (px, top), (_, end) = self.place((x, high)), self.place((x, low))
        self.parts.append(f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{top:.1f}" '
                          f'y2="{end:.1f}" stroke="{colour}" '
                          'stroke-opacity="0.5" stroke-width="4"/>')

    def bar(self, x: float, width: float, low: float, high: float,
            colour: str) -> None:
        (left, top), (right, end) = self.place((x, high)), \
            self.place((x + width, low))
        self.parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{max(0.0, end - top):.1f}" fill="{colour}"/>')

    def text(self, x: float, y: float, words: str, more: str = "") -> None:
        words = words.replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {more}>{words}'
                          '</text>')

    def _frame(self) -> None:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for value, words in self.x.ticks:
            x, _ = self.place((value, self.y.low))
            self.text(x, bottom + 18, words, 'text-anchor="middle"')
        for value, words in self.y.ticks:
            _, y = self.place((self.x.low, value))
            self.text(LEFT - 8, y + 4, words, 'text-anchor="end"')
            self.parts.insert(0, f'<line x1="{LEFT}" x2="{right}" '
                              f'y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        self.text((LEFT + right) / 2, HEIGHT - 12, self.x.title,
                  'text-anchor="middle"')
        self.text(16, HEIGHT / 2, self.y.title, 'text-anchor="middle" '
                  f'transform="rotate(-90 16 {HEIGHT / 2:.0f})"')
        self.text(LEFT, 24, self.title, 'font-size="15" font-weight="bold"')
        for row, (name, colour) in enumerate(self.legend):
            y = TOP + 14 + 20 * row
            self.parts.append(f'<rect x="{right + 16}" y="{y - 10}" '
                              f'width="14" height="10" fill="{colour}"/>')
            self.text(right + 36, y, name)

    def write(self, path: Path) -> Path:
        self._frame()
        path.write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            'font-size="12">\n'
            '<!--\n  SPDX-License-Identifier: GPL-2.0-or-later\n-->\n'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n' +
            "\n".join(self.parts) + "\n</svg>\n", encoding="ascii")
        return path


# What is drawn

@dataclass(frozen=True)
class Kind:
    """What was measured: the loads that are drawn, and their names."""

    picks: Callable[[Any], bool]
    what: str                        # one of them
    unit: str                        # in short
    roles: tuple[str, ...] = tuple(ROLE_COLOURS)


DISK = Kind(lambda load: load["kilobytes"] == 4, "4 KiB read", "request")
# A backend that polls all the time uses all there is.
NETWORK = Kind(lambda load: load["bytes"] == 60, "frame of 60 bytes", "frame",
               ("main", "iothread", "vcpu"))


def _short(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def _steps(low: float, high: float) -> list[tuple[float, str]]:
    """1, 2 and 5 of each power of ten."""
    values = [factor * 10.0 ** power for power in range(-3, 13)
              for factor in (1, 2, 5)]
    return [(v, _short(v)) for v in values if low <= v <= high]


def _log_axis(title: str, values: list[float]) -> Axis:
    """Room for all @values; what is not above zero is drawn at the edge."""
    shown = [v for v in values if v > 0] or [1.0]
    low, high = min(shown) * 0.8, max(shown) * 1.2
    return Axis(title, low, high, _steps(low, high))


def _even(high: float) -> list[tuple[float, str]]:
    step = 10 ** math.floor(math.log10(high))
    while high / step < 4:
        step /= 2
    return [(step * i, f"{step * i:g}") for i in range(int(high / step) + 1)]


def _median(samples: list[Any], of: Callable[[Any], float]) -> float:
    return statistics.median(of(s) for s in samples)


def _configs(document: Document) -> list[tuple[str, str]]:
    first = next(iter(document["samples"].values()))
    return list(zip(first, COLOURS))


def by_depth(document: Document, kind: Kind) -> Picture:
    loads = {n: w for n, w in document["loads"].items() if kind.picks(w)}
    rates = [s["rate"] for n in loads
             for samples in document["samples"][n].values() for s in samples]
    depths = [w["depth"] for w in loads.values()]
    picture = Picture(
        f"Rate by {kind.unit}s in flight ({kind.what})",
        Axis(f"{kind.unit}s in flight", min(depths), max(depths),
             [(d, str(d)) for d in depths]),
        _log_axis(f"{kind.unit}s a second", rates))
    for config, colour in _configs(document):
        points = []
        for name, load in loads.items():
            samples = document["samples"][name][config]
            found = [s["rate"] for s in samples]
            picture.spread(load["depth"], min(found), max(found), colour)
            points.append((load["depth"], statistics.median(found)))
        picture.line(config, points, colour)
    return picture


def by_size(document: Document) -> Picture:
    """The deepest load of each size, and what copying once would allow."""
    deepest: dict[int, str] = {}
    for name, load in document["loads"].items():
        if load["kilobytes"]:
            deepest[load["kilobytes"]] = name
    sizes = sorted(deepest)
    copies = document["memcpy_bytes_per_second"]
    values = [copies[str(k)] for k in sizes]
    for k in sizes:
        values += [_median(s, lambda v: v["rate"]) * k * 1024
                   for s in document["samples"][deepest[k]].values()]
    picture = Picture(
        "Bytes a second by size of a request",
        Axis("KiB a request", sizes[0], sizes[-1],
             [(k, str(k)) for k in sizes]),
        _log_axis("bytes a second", values))
    for config, colour in _configs(document):
        picture.line(config, [
            (k, 1024 * k * _median(document["samples"][deepest[k]][config],
                                   lambda v: v["rate"])) for k in sizes],
            colour)
    picture.line(DASHED, [(k, copies[str(k)]) for k in sizes], "#999999")
    return picture


def latencies(document: Document, kind: Kind) -> Picture:
    """One at a time."""
    load = next(n for n, w in document["loads"].items()
                if w["depth"] == 1 and kind.picks(w))
    lines, highest, lowest = [], 1.0, math.inf
    for config, colour in _configs(document):
        counts: dict[int, int] = {}
        for sample in document["samples"][load][config]:
            for ns, count in sample["latency_ns"]:
                counts[ns] = counts.get(ns, 0) + count
        if not counts:      # nothing came in so short a time
            continue
        total, so_far, points = sum(counts.values()), 0, []
        for ns in sorted(counts):
            so_far += counts[ns]
            points.append((ns / 1000, 100.0 * so_far / total))
        reached = [p[0] for p in points if p[1] >= 99.5]
        highest = max(highest, reached[0])
        lowest = min(lowest, points[0][0])
        lines.append((config, points, colour))
    lowest = min(max(lowest, 1.0), highest)
    picture = Picture(
        f"How many {kind.unit}s are done within a time ({kind.what}, "
        "one at a time)",
        Axis("microseconds", lowest, highest * 1.1,
             _steps(lowest, highest * 1.1)),
        Axis(f"percent of the {kind.unit}s", 0, 100,
             [(v, str(v)) for v in range(0, 101, 20)], log=False))
    for config, points, colour in lines:
        picture.line(config, [p for p in points if p[0] <= highest * 1.1],
                     colour)
    return picture


def cpu_time(document: Document, kind: Kind) -> Picture:
    """Stacked by who uses it; a group of bars a load."""
    loads = [n for n, w in document["loads"].items() if kind.picks(w)]
    configs = _configs(document)
    used = {(n, c): {r: _median(document["samples"][n][c],
                                lambda s, r=r: s["ns"].get(r, 0)) / 1000
                     for r in kind.roles} for n in loads for c, _ in configs}
    high = max(sum(by_role.values()) for by_role in used.values()) * 1.15
    group = len(configs) + 1
    picture = Picture(
        f"CPU time of a {kind.what}, by who uses it",
        Axis("from left to right: " + ", ".join(c for c, _ in configs), 0,
             group * len(loads), [(group * (i + 0.5), n)
                                  for i, n in enumerate(loads)], log=False),
        Axis("microseconds", 0, high, _even(high), log=False))
    for i, load in enumerate(loads):
        for j, (config, _) in enumerate(configs):
            base = 0.0
            for role in kind.roles:
                colour = ROLE_COLOURS[role]
                top = base + used[load, config][role]
                picture.bar(group * i + j + 0.5, 0.85, base, top, colour)
                base = top
    picture.legend = [(role, ROLE_COLOURS[role]) for role in kind.roles]
    return picture


def draw_all(path: Path) -> list[Path]:
    """The pictures of the results in @path, beside it."""
    document = json.loads(path.read_text(encoding="ascii"))
    sizes = "memcpy_bytes_per_second" in document
    kind = DISK if sizes else NETWORK
    pictures = {"depth": by_depth(document, kind),
                "latency": latencies(document, kind),
                "cpu": cpu_time(document, kind)}
    if sizes:
        pictures["size"] = by_size(document)
    return [picture.write(path.with_name(f"{path.stem}-{name}.svg"))
            for name, picture in pictures.items()]
