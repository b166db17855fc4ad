# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages unpacked into trees, and what runs from there.

suites.py says which packages, and fetches them through apt, which checks them.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path


class PackageError(Exception):
    """A package could not be found or fetched; the text says which."""


def run(args: list[str], cwd: Path | None = None) -> str:
    env = dict(os.environ, LC_ALL="C")
    done = subprocess.run(args, cwd=cwd, env=env, capture_output=True,
                          text=True, check=False)
    if done.returncode:
        lines = [ln for ln in done.stderr.splitlines() if ln[:2] != "W:"]
        raise PackageError(f"{' '.join(args)}: {'; '.join(lines[-3:])}")
    return done.stdout


def extract(package: Path, tree: Path) -> None:
    """Unpack @package; a damaged one is fetched anew the next time."""
    try:
        run(["dpkg-deb", "--extract", str(package), str(tree)])
    except PackageError:
        package.unlink(missing_ok=True)
        raise


def library_path(tree: Path) -> str:
    """LD_LIBRARY_PATH under which programs unpacked in @tree run."""
    lib = "lib/x86_64-linux-gnu"
    # Ceph's part is a library of fio's libraries.
    return f"{tree}/usr/{lib}:{tree}/{lib}:{tree}/usr/{lib}/ceph"


def shared_libraries(program: Path, tree: Path) -> dict[str, Path]:
    """Where the loader finds each library of @program: name -> file."""
    env = dict(os.environ, LD_LIBRARY_PATH=library_path(tree), LC_ALL="C")
    out = subprocess.run(["ldd", str(program)], env=env, check=False,
                         capture_output=True, text=True).stdout
    lost = re.findall(r"^\s*(\S+) => not found", out, re.MULTILINE)
    if lost:
        raise PackageError(f"{program.name} needs {', '.join(lost)}")
    found = dict(re.findall(r"^\s*(\S+) => (/\S+)", out, re.MULTILINE))
    loader = re.search(r"^\s*(/\S+/ld-linux\S+)", out, re.MULTILINE)
    if loader:
        found[loader.group(1)] = loader.group(1)
    return {name: Path(path) for name, path in found.items()}
