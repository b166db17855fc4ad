# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages about what scripts/bench load and net measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import bench_plot
import bench_table

TOP = Path(__file__).resolve().parents[2]
LOAD_PAGE = TOP / "docs/devel/vhost-user-memory-isolation-load.rst"
NET_PAGE = TOP / "docs/devel/vhost-user-memory-isolation-net-load.rst"

LOAD_TEXT = """..
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

NET_TEXT = """..
   SPDX-License-Identifier: GPL-2.0-or-later

:orphan:

What memory isolation costs a NIC
=================================

``scripts/bench net --write-docs`` wrote this page.  A guest without an operating
system (``tests/guest/loadvm``) sends frames from one of its NICs to the other,
and checks each; it sleeps when it waits.  DPDK's testpmd joins the two.  It polls
all the time, so only the one runs whose turn it is; still testpmd, the vCPU and
QEMU's thread want a processor each, and there are {cpus}.  Where 99 % of the
frames take milliseconds, one of the three waited for the others.  {rounds} runs of
{seconds:g} s each, an emulated guest (TCG); the load of the machine was {load} at the
end.  Figures are medians.  Compare them with each other and with nothing else.

* virtio-net: both NICs are in QEMU and joined there, without a backend
* off: vhost-user, whose backend has the guest's memory
* on: isolated, frames are carried in the main loop
* on-iothread: in an IOThread that sleeps when there is nothing to do
* on-polling: in an IOThread that looks for a while before it sleeps

.. image:: {stem}-depth.svg

.. image:: {stem}-cpu.svg

.. image:: {stem}-latency.svg

.. list-table:: Frames of so many bytes, so many in flight
  :header-rows: 1

{table}
CPU time is microseconds a frame; wake-ups{calls} are a frame's as well.
"QEMU" is its threads without the vCPU.
"""


def _write(page: Path, text: str, json_path: Path, document: dict[str, Any],
           table: str) -> None:
    for picture in bench_plot.draw_all(json_path):
        kind = picture.stem.rsplit("-", 1)[-1]
        shutil.copyfile(picture, page.with_name(f"{page.stem}-{kind}.svg"))
    page.write_text(text.format(
        rounds=document["rounds"], seconds=document["seconds"],
        cpus=document["cpus"], load=f"{document['load_average']:.0f}",
        calls=" and system calls" if document["counts_calls"] else "",
        stem=page.stem, table=table), encoding="utf-8")
    print(f"bench: wrote {page.relative_to(TOP)}")


def write_load(json_path: Path, document: dict[str, Any],
               head: tuple[str, ...], rows: list[list[str]]) -> None:
    _write(LOAD_PAGE, LOAD_TEXT, json_path, document,
           bench_table.as_rst(head, rows, document["counts_calls"]))


def write_net(json_path: Path, document: dict[str, Any],
              head: tuple[str, ...], rows: list[list[str]]) -> None:
    _write(NET_PAGE, NET_TEXT, json_path, document,
           bench_table.as_rst(head, rows, document["counts_calls"]))
