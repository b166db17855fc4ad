# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/bench load and net measured, as a table."""

from __future__ import annotations

import statistics

from bench_contender import Sample

NO_CALLS = ("System calls were not counted: that takes root and a kernel that "
            "traces.")

# By load, then by configuration.
Results = dict[str, dict[str, list[Sample]]]


def headings(device: str, what: str) -> tuple[str, ...]:
    """@what: is counted, in the plural."""
    return ("load", device, f"{what}/s", "slowest-fastest", "to off",
            "p50 us", "p99 us", "QEMU us", "vCPU us", "backend us",
            "QEMU wakes", "backend wakes", "QEMU calls", "backend calls",
            "kicks", "interrupts")


def median(samples: list[Sample], name: str, role: str = "") -> float:
    values = [getattr(s, name) for s in samples]
    return statistics.median(v.get(role, 0) if role else v for v in values)


def qemu(samples: list[Sample], name: str) -> float:
    """QEMU's threads but for the vCPU."""
    return statistics.median(
        sum(getattr(s, name).get(role, 0) for role in ("main", "iothread"))
        for s in samples)


def rows(results: Results) -> list[list[str]]:
    table = []
    for load, by_config in results.items():
        base = median(by_config["off"], "rate")
        for config, samples in by_config.items():
            rates = [s.rate for s in samples]
            table.append([
                load, config, f"{median(samples, 'rate'):.0f}",
                f"{min(rates):.0f}-{max(rates):.0f}",
                f"{median(samples, 'rate') / base:.2f}",
                f"{median(samples, 'p50_ns') / 1000:.0f}",
                f"{median(samples, 'p99_ns') / 1000:.0f}",
                f"{qemu(samples, 'ns') / 1000:.2f}",
                f"{median(samples, 'ns', 'vcpu') / 1000:.2f}",
                f"{median(samples, 'ns', 'backend') / 1000:.2f}",
                f"{qemu(samples, 'wakeups'):.3f}",
                f"{median(samples, 'wakeups', 'backend'):.3f}",
                f"{qemu(samples, 'calls'):.3f}",
                f"{median(samples, 'calls', 'backend'):.3f}",
                f"{median(samples, 'kicks'):.3f}",
                f"{median(samples, 'interrupts'):.3f}"])
    return table


def show(head: tuple[str, ...], table: list[list[str]]) -> None:
    """On the terminal."""
    lines = [list(head), *table]
    widths = [max(len(row[i]) for row in lines) for i in range(len(head))]
    for row in lines:
        print("  ".join(cell.ljust(w) if i < 2 else cell.rjust(w)
                        for i, (cell, w) in enumerate(zip(row, widths))))


def as_rst(head: tuple[str, ...], table: list[list[str]],
           calls: bool) -> str:
    """Rows of a list-table; no system calls where nobody could count any."""
    left_out = ("kicks", "interrupts") + \
        (() if calls else ("QEMU calls", "backend calls"))
    places = [i for i, name in enumerate(head) if name not in left_out]
    lines = [[row[i] for i in places] for row in [list(head), *table]]
    return "".join("".join(f"  {'*' if i == 0 else ' '} - {cell}\n"
                           for i, cell in enumerate(row)) for row in lines)
