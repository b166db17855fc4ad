# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/bench load measures every configuration and draws all pictures."""

from __future__ import annotations

import json
import subprocess
from xml.etree import ElementTree

from harness import TOP, IsolationTest

PYTHON = "/usr/bin/python3"
CONFIGS = {"virtio-blk", "off", "on", "on-iothread", "on-polling"}
PICTURES = {"depth", "size", "latency", "cpu"}


class LoadBench(IsolationTest):
    """Runs so short that their figures mean nothing."""

    def test_every_configuration_is_measured(self) -> None:
        done = subprocess.run(
            [PYTHON, str(TOP / "scripts/lib/bench_load.py"), "--rounds", "1",
             "--seconds", "0.05", "--out", str(self.work)],
            capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        document = json.loads(next(self.work.glob("*.json")).read_text())
        self.assertEqual(set(document["samples"]), set(document["loads"]))
        for load, by_config in document["samples"].items():
            self.assertEqual(set(by_config), CONFIGS, load)
            for config, (sample,) in by_config.items():
                what = f"{load}, {config}"
                self.assertGreater(sample["requests"], 0, what)
                self.assertGreater(sample["ns"]["vcpu"], 0, what)
                self.assertEqual("backend" in sample["ns"],
                                 config != "virtio-blk", what)
                self.assertIn(config, done.stdout)
        drawn = {p.stem.rsplit("-", 1)[-1]: p for p in
                 self.work.glob("*.svg")}
        self.assertEqual(set(drawn), PICTURES)
        for picture in drawn.values():
            root = ElementTree.parse(picture).getroot()
            self.assertGreater(len(list(root)), 20, picture)
