# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/bench load and net measure every configuration."""

from __future__ import annotations

import json
import subprocess
from typing import Any
from xml.etree import ElementTree

from harness import TOP, IsolationTest

PYTHON = "/usr/bin/python3"
DISKS = {"virtio-blk", "off", "on", "on-iothread", "on-polling"}
NICS = DISKS - {"virtio-blk"} | {"virtio-net"}
PICTURES = {"depth", "size", "latency", "cpu"}


class LoadBench(IsolationTest):
    """Runs so short that their figures mean nothing."""

    def bench(self, script: str) -> tuple[str, dict[str, Any]]:
        """What @script said, and its results."""
        done = subprocess.run(
            [PYTHON, str(TOP / "scripts/lib" / script), "--rounds", "1",
             "--seconds", "0.05", "--out", str(self.work)],
            capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        path = next(self.work.glob("*.json"))
        return done.stdout, json.loads(path.read_text("ascii"))

    def check_drawn(self, names: set[str]) -> None:
        drawn = {p.stem.rsplit("-", 1)[-1]: p for p in
                 self.work.glob("*.svg")}
        self.assertEqual(set(drawn), names)
        for picture in drawn.values():
            root = ElementTree.parse(picture).getroot()
            self.assertGreater(len(list(root)), 20, picture)

    def test_every_nic_is_measured_and_drawn(self) -> None:
        _, document = self.bench("bench_net.py")
        for load, by_config in document["samples"].items():
            self.assertEqual(set(by_config), NICS, load)
            for config, (sample,) in by_config.items():
                self.assertEqual("backend" in sample["ns"],
                                 config != "virtio-net", f"{load}, {config}")
        self.check_drawn(PICTURES - {"size"})

    def test_every_disk_is_measured_and_drawn(self) -> None:
        said, document = self.bench("bench_load.py")
        self.assertEqual(set(document["samples"]), set(document["loads"]))
        for load, by_config in document["samples"].items():
            self.assertEqual(set(by_config), DISKS, load)
            for config, (sample,) in by_config.items():
                what = f"{load}, {config}"
                self.assertGreater(sample["requests"], 0, what)
                self.assertGreater(sample["ns"]["vcpu"], 0, what)
                self.assertEqual("backend" in sample["ns"],
                                 config != "virtio-blk", what)
                self.assertIn(config, said)
        self.check_drawn(PICTURES)
