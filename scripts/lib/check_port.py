# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests are run with other versions of QEMU than 10.0 as well.

All unit tests and qtests of ours; of what needs a guest as much as meets each
device, each thread and each way that an isolated device starts, stops, is saved
and is lost.
"""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from pathlib import Path

import port
from check_run import Test

GROUP = "port"
NEWER = "newer"                 # tests of what QEMU 10.0 has not
VERSIONS = ("10.2",)
PYTHON = "/usr/bin/python3"
SCRIPT = str(Path(__file__).with_name("port.py"))
LONGER = 2                      # no test is the only one that runs

GUESTS = (
    "devices/on.*_split_1",
    "functional/firmware.FirmwareMainLoop.seabios*",
    "functional/fs.FileSystemIOThread.stop_and_cont_under_load",
    "functional/lifecycle.LifecycleIOThread.*",
    "functional/net_lifecycle.LifecycleMainLoop.*",
    "functional/reconnect.*MainLoop.*",
    "functional/save.Save*",
    f"{NEWER}/*",
)


def _with(version: str, test: Test) -> Test:
    """@test with that version."""
    argv = (PYTHON, SCRIPT, "run", version, str(test.cwd), *test.argv)
    return replace(test, name=f"{GROUP}/{version}-{test.name}", argv=argv,
                   limit=test.limit * LONGER, cwd=port.TOP,
                   after=f"{GROUP}/{version}-build")


def builds(after: str) -> list[Test]:
    return [Test(f"{GROUP}/{version}-build",
                 (PYTHON, SCRIPT, "build", version), 5400, port.TOP,
                 alone=True, after=after) for version in VERSIONS]


def programs(version: str, tests: list[Test]) -> list[Test]:
    """@tests are programs of that version."""
    return [_with(version, test) for test in tests]


def guests(version: str, tests: list[Test]) -> list[Test]:
    """Those of @tests that are to be run with guests of that version."""
    build = {"QEMU_BUILD": str(port.folder(version))}
    return [_with(version, replace(test, env={**test.env, **build}))
            for test in tests
            if any(fnmatch.fnmatchcase(test.name, p) for p in GUESTS)]
