# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages about what scripts/bench load and net measured."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]

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


@dataclass(frozen=True)
class Page:
    """@device is measured in @what a second."""

    path: Path
    text: str
    device: str
    what: str

    def write(self, document: dict[str, Any], pictures: list[Path],
              table: str) -> None:
        stem = self.path.stem
        for picture in pictures:
            kind = picture.stem.rsplit("-", 1)[-1]
            shutil.copyfile(picture,
                            self.path.with_name(f"{stem}-{kind}.svg"))
        self.path.write_text(self.text.format(
            rounds=document["rounds"], seconds=document["seconds"],
            cpus=document["cpus"], load=f"{document['load_average']:.0f}",
            calls=" and system calls" if document["counts_calls"] else "",
            stem=stem, table=table), encoding="utf-8")
        print(f"bench: wrote {self.path.relative_to(TOP)}")


LOAD = Page(TOP / "docs/devel/vhost-user-memory-isolation-load.rst",
            LOAD_TEXT, "disk", "requests")
NET = Page(TOP / "docs/devel/vhost-user-memory-isolation-net-load.rst",
           NET_TEXT, "NICs", "frames")
