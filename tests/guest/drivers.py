# SPDX-License-Identifier: GPL-2.0-or-later
"""Drivers for guests that Debian leaves out of its kernels, as modules.

They are built from Debian's source of the same kernel, against its header
packages, unpacked and not installed.  The headers hold the versions of the
kernel's symbols, so the modules load as Debian's own do; they are not signed,
which a kernel that was not locked down allows.  This machine's gcc compiles
them, whichever it is: the kernel's own would be a compiler more to fetch.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import linux_source
from debian import run
from suites import Suite

def build(suite: Suite, release: str) -> list[Path]:
    """The modules for @suite's kernel @release."""
    headers = f"linux-headers-{release}"
    # The others are compilers.
    needed = [name for name in suite.dependencies(headers)
              if name.startswith(("linux-headers-", "linux-kbuild-"))]
    suite.unpack([headers, *needed])
    common = next(name for name in needed if name.endswith("-common"))
    source = linux_source.unpack(suite)
    folder = suite.root.parent / "drivers"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = [Path(driver).stem for driver in linux_source.DRIVERS]
    for driver in linux_source.DRIVERS:
        shutil.copy(source / driver, folder)
    (folder / "Kbuild").write_text(
        f"obj-m := {' '.join(f'{name}.o' for name in names)}\n", "ascii")
    # Not with the makefile of the first: it names an installed one.
    run(["make", "-C", str(suite.root / "usr/src" / common),
         f"O={suite.root / 'usr/src' / headers}", f"M={folder}", "CC=gcc",
         "modules"])
    return [folder / f"{name}.ko" for name in names]
