# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's source of Linux, as far as anything here compiles it."""

from __future__ import annotations

import shutil
from pathlib import Path

from debian import run
from suites import Suite

METAPACKAGE = "linux-source"
VRINGH = ("tools/virtio/*", "tools/include/*", "drivers/vhost/vringh.c",
          "include/linux/*", "include/uapi/linux/*")
# Drivers that Debian's kernels for this architecture do not have.
DRIVERS = ("drivers/i2c/busses/i2c-virtio.c", "drivers/gpio/gpio-virtio.c")


def unpack(suite: Suite) -> Path:
    """Where the wanted parts of @suite's source are, fetched if missing.

    The archive takes long to read, so it is read once for everybody.
    """
    wanted = VRINGH + DRIVERS
    tree = suite.root.parent / METAPACKAGE
    complete = tree / ".complete"
    if complete.exists() and complete.read_text("ascii") == str(wanted):
        return tree
    package = suite.unpack_metapackage(METAPACKAGE)
    archives = suite.root / "usr/src"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    run(["tar", "--extract", "--xz", "--strip-components=1",
         "--file", str(archives / f"{package}.tar.xz"),
         "--directory", str(tree), "--wildcards",
         *(f"{package}/{name}" for name in wanted)])
    for archive in archives.glob("linux-*.xz"):
        archive.unlink()
    complete.write_text(str(wanted), encoding="ascii")
    return tree
