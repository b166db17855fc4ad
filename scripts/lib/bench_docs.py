# SPDX-License-Identifier: GPL-2.0-or-later
"""The page about what scripts/bench load measured, and its pictures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import bench_plot

TOP = Path(__file__).resolve().parents[2]
PAGE = TOP / "docs/devel/vhost-user-memory-isolation-load.rst"

TEXT = """..
   SPDX-License-Identifier: GPL-2.0-or-later

:orphan:

What memory isolation costs a disk
==================================

``scripts/bench load --write-docs`` wrote this page.  A guest without an
operating system (``tests/guest/loadvm``) reads from a null device that returns
zeros; it sleeps when it waits.  All configurations are alive at the same time
and take turns, {rounds} runs of {seconds:g} s each, on {cpus} processors with an
emulated guest (TCG); the load of the machine was {load} at the end.  Figures
are medians, beside them the slowest and the fastest run.  Compare them with
each other and with nothing else; where processes have to share processors, CPU
time says more than rates do.

* virtio-blk: the disk is in QEMU, in an IOThread
* off: vhost-user-blk, whose backend has the guest's memory
* on: isolated, requests are carried in the main loop
* on-iothread: in an IOThread that sleeps when there is nothing to do
* on-polling: in an IOThread that looks for a while before it sleeps

.. image:: {stem}-depth.svg

The bars beside the lines go from the slowest to the fastest run.

.. image:: {stem}-cpu.svg

With TCG it is the main loop that delivers interrupts, in every configuration.
A vCPU that is not emulated takes much less.

.. image:: {stem}-latency.svg

.. image:: {stem}-size.svg

memcpy is one copy of a buffer that is in the cache already.  The backend fills
each buffer with zeros, and isolation copies it once: neither can reach it.

.. list-table:: Requests of 4 KiB, 64 KiB, 1 MiB, and of a Debian that boots
  :header-rows: 1

{table}
CPU time is microseconds a request; wake-ups{calls} are a request's as well.
"QEMU" is its threads without the vCPU.
"""

# Of bench_load.HEADINGS: name there, name here.
COLUMNS = (("load", "load"), ("disk", "disk"), ("requests/s", "requests/s"),
           ("lowest-highest", "slowest-fastest"), ("to off", "to off"), ("p50 us", "half within us"),
           ("p99 us", "99 % within us"), ("QEMU us", "QEMU us"),
           ("vCPU us", "vCPU us"), ("backend us", "backend us"),
           ("QEMU wakes", "QEMU wakes"), ("backend wakes", "backend wakes"),
           ("QEMU calls", "QEMU calls"), ("backend calls", "backend calls"))


def _list_table(headings: tuple[str, ...], rows: list[list[str]],
                calls: bool) -> str:
    """Without columns of system calls where nobody could count any."""
    columns = [c for c in COLUMNS if calls or "calls" not in c[0]]
    places = [headings.index(name) for name, _ in columns]
    table = [[words for _, words in columns]]
    table += [[row[i] for i in places] for row in rows]
    return "".join("".join(f"  {'*' if i == 0 else ' '} - {cell}\n"
                           for i, cell in enumerate(row)) for row in table)


def write(json_path: Path, document: dict[str, Any],
          headings: tuple[str, ...], rows: list[list[str]]) -> None:
    for picture in bench_plot.draw_all(json_path):
        kind = picture.stem.rsplit("-", 1)[-1]
        shutil.copyfile(picture, PAGE.with_name(f"{PAGE.stem}-{kind}.svg"))
    PAGE.write_text(TEXT.format(
        rounds=document["rounds"], seconds=document["seconds"],
        cpus=document["cpus"], load=f"{document['load_average']:.0f}",
        calls=" and system calls" if document["counts_calls"] else "",
        stem=PAGE.stem, table=_list_table(headings, rows,
                                          document["counts_calls"])),
        encoding="utf-8")
    print(f"bench: wrote {PAGE.relative_to(TOP)}")
