# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages without installing them.

A package and those of its dependencies that this machine lacks are fetched
through apt (which checks them) and unpacked into one tree.  What the machine
has already is taken from the machine, so the tree stays small and no program
meets a second C library.
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


def refresh_lists() -> bool:
    """Fetch apt's package lists, if this user may."""
    if os.geteuid() != 0:
        return False
    try:
        run(["apt-get", "--quiet", "update"])
    except PackageError:
        return False
    return True


def resolve_metapackage(name: str) -> str:
    """The package that the metapackage @name depends on first."""
    out = run(["apt-cache", "depends", name])
    found = re.search(r"^\s*Depends: (\S+)$", out, re.MULTILINE)
    if not found:
        raise PackageError(f"{name} depends on nothing")
    return found.group(1)


def missing_dependencies(names: list[str]) -> list[str]:
    """Packages that apt would install for @names, upgrades left out."""
    out = run(["apt-get", "--simulate", "--no-install-recommends",
                "install", *names])
    return re.findall(r"^Inst (\S+) \(", out, re.MULTILINE)


def unpack(names: list[str], cache: Path, tree: Path,
           dependencies: bool = True) -> None:
    """Fetch @names into @cache and unpack them into @tree."""
    wanted = set(names)
    if dependencies:
        wanted |= set(missing_dependencies(names))
    cache.mkdir(parents=True, exist_ok=True)
    tree.mkdir(parents=True, exist_ok=True)
    todo = [n for n in sorted(wanted) if not list(cache.glob(f"{n}_*.deb"))]
    if todo:
        run(["apt-get", "download", "--option", "APT::Sandbox::User=root",
              *todo], cwd=cache)
    for name in sorted(wanted):
        extract(next(cache.glob(f"{name}_*.deb")), tree)


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
