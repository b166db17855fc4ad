# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/bench load and net have in common around their runs."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bench_docs
import bench_plot
import bench_table
from bench_contender import Sample
from bench_table import Results


def add_options(parser: argparse.ArgumentParser, page: bench_docs.Page,
                out: Path) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5,
                        help="length of one run (default: 0.5)")
    parser.add_argument("--irq", choices=("poll", "msix"), default="msix",
                        help="does the guest sleep? (default: msix)")
    parser.add_argument("--ring", choices=("split", "packed"),
                        default="split")
    parser.add_argument("--write-docs", action="store_true",
                        help=f"write {page.path.relative_to(bench_docs.TOP)}")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR",
                        help="where results go (default: build/bench)")
    parser.add_argument("--plot", type=Path, metavar="JSON",
                        help="do not measure: show these results again")


def begin(out: Path) -> Path:
    """An empty folder to work in; what is started there gets ended."""
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    return work


def save(path: Path, args: argparse.Namespace, results: Results,
         facts: dict[str, Any]) -> Path:
    path.write_text(json.dumps({
        "rounds": args.rounds, "seconds": args.seconds, "irq": args.irq,
        "ring": args.ring, "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0], **facts,
        "samples": {load: {config: [asdict(s) for s in samples]
                           for config, samples in by_config.items()}
                    for load, by_config in results.items()},
    }), encoding="ascii")
    return path


def show(path: Path, page: bench_docs.Page, write_docs: bool) -> None:
    """Table, pictures and page of the results in @path."""
    document = json.loads(path.read_text(encoding="ascii"))
    head = bench_table.headings(page.device, page.what)
    table = bench_table.rows(
        {load: {config: [Sample(**s) for s in samples]
                for config, samples in by_config.items()}
         for load, by_config in document["samples"].items()})
    bench_table.show(head, table)
    if not document["counts_calls"]:
        print(bench_table.NO_CALLS)
    if "resident" in document:
        print("resident: " + "; ".join(
            f"{config} " + ", ".join(f"{n} {v >> 20} MiB"
                                     for n, v in r.items())
            for config, r in document["resident"].items()))
    print(f"\nmedians of {document['rounds']} runs of "
          f"{document['seconds']:g} s, taken in turns; all samples: "
          f"{os.path.relpath(path)}")
    pictures = bench_plot.draw_all(path)
    for picture in pictures:
        print(f"picture: {os.path.relpath(picture)}")
    if write_docs:
        page.write(document, pictures, bench_table.as_rst(
            head, table, document["counts_calls"]))
