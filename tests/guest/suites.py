# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of a Debian release, whichever release the machine has.

apt with lists and cache of its own: its sources are the machine's with another
suite, so mirror, keyring and proxy are those that work here.  A release's
programs run with that release's libraries, started through its own loader, so
nothing of them meets the machine's C library.

One rule for all that tests use of Debian: it is unpacked, whatever this machine
has installed already, and is looked for where it was unpacked.  apt is told
that nothing is installed; so a machine with everything, a machine with nothing
and an ordinary user fetch the same packages.  Programs of the machine's own
release may run on the machine's C library: see closure().
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Callable, TypeVar

from debian import PackageError, extract, run

TOP = Path(__file__).resolve().parents[2]
AWK = TOP / "scripts/lib"
LOADER = "ld-linux-x86-64.so.2"
# What closure() leaves out: the machine has a C library, and a second one would
# not fit the machine's loader; nobody runs scripts or compiles.
NO_LIBRARY = re.compile(r"(?!lib|ibverbs-providers$)|.*-(dev|perl|bin|data)$|"
                        r"lib(c6|perl|python)")
LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
T = TypeVar("T")


def machine_suite() -> str:
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    found = re.search(r"^VERSION_CODENAME=(\w+)", release, re.MULTILINE)
    return found.group(1) if found else "trixie"


class Suite:
    """The release @name, its packages in @folder, for @architecture."""

    def __init__(self, name: str, folder: Path,
                 architecture: str = "amd64") -> None:
        self.name = name
        self._architecture = architecture
        self.root = folder / "root"
        self.debs = folder / "debs"
        self._apt = folder / "apt"

    # apt

    def _sources(self, own: str, wanted: str) -> str:
        """The machine's source of suite @own, for suite @wanted."""
        apt = Path("/etc/apt")
        stanzas = sorted(apt.glob("sources.list.d/*.sources"))
        lines = [apt / "sources.list",
                 *sorted(apt.glob("sources.list.d/*.list"))]
        for files, script in ((stanzas, "deb822.awk"),
                              (lines, "oneline.awk")):
            text = "\n\n".join(f.read_text("utf-8") for f in files
                               if f.is_file())
            stanza = subprocess.run(
                ["awk", "-v", "types=deb", "-v", f"suites={wanted}",
                 "-v", f"own={own}", "-f", str(AWK / script)], input=text,
                capture_output=True, text=True, check=True).stdout
            if stanza:
                return stanza
        return ""

    def _options(self) -> list[str]:
        options = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": self._apt / "sources.d",
            "Dir::State": self._apt / "state",
            "Dir::State::status": self._apt / "status",
            "Dir::Cache": self._apt / "cache",
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled":
                "false",
            "Debug::NoLocking": "true",
        }
        if self.name == "sid":
            # A mirror may keep an old state of what changes every day.
            options["Acquire::Check-Valid-Until"] = "false"
        words = ["-q"]
        for key, value in options.items():
            words += ["-o", f"{key}={value}"]
        return words

    def _run(self, program: str, *args: str, cwd: Path | None = None) -> str:
        return run([program, *self._options(), *args], cwd)

    def refresh(self) -> None:
        """Fetch the package lists."""
        for folder in ("sources.d", "cache/archives/partial",
                       "state/lists/partial"):
            (self._apt / folder).mkdir(parents=True, exist_ok=True)
        # apt wants to know what is installed: nothing.
        (self._apt / "status").write_bytes(b"")
        (self._apt / "sources.d/all.sources").write_text(self.source_text(),
                                                         "utf-8")
        self._run("apt-get", "update")

    def source_text(self) -> str:
        """The machine's sources, for this release."""
        own = machine_suite()
        main = self._sources(own, self.name)
        if not main:
            raise PackageError(f"no source of {own} in /etc/apt to take "
                               "the mirror from")
        if self.name == "sid":
            return main
        return main + "\n" + self._sources(f"{own}-security",
                                            f"{self.name}-security")

    # Packages

    def dependencies(self, package: str) -> list[str]:
        out = self._run("apt-cache", "depends", package)
        found = re.findall(r"^\s*Depends: (\S+)$", out, re.MULTILINE)
        if not found:
            raise PackageError(f"{package} depends on nothing")
        return found

    def closure(self, names: list[str]) -> list[str]:
        """@names and the packages of the libraries that they need."""
        out = self._run("apt-get", "--simulate", "install", *names)
        needed = re.findall(r"^Inst (\S+) \(", out, re.MULTILINE)
        return [*names, *(n for n in needed if n not in names and
                          not NO_LIBRARY.match(n))]

    def unpack(self, names: list[str], tree: Path | None = None) -> None:
        """Fetch what is not there yet and unpack it into @tree, or the root."""
        tree = tree or self.root
        self.debs.mkdir(parents=True, exist_ok=True)
        tree.mkdir(parents=True, exist_ok=True)
        todo = [n for n in names if not list(self.debs.glob(f"{n}_*.deb"))]
        if todo:
            self._run("apt-get", "download", *todo, cwd=self.debs)
        for name in names:
            extract(next(self.debs.glob(f"{name}_*.deb")), tree)

    def unpack_metapackage(self, name: str) -> str:
        """The package that @name stands for, unpacked."""
        package = self.dependencies(name)[0]
        self.unpack([package])
        return package

    def with_lists(self, action: Callable[[], T]) -> T:
        """@action with package lists that know what it fetches."""
        try:
            return action()
        except PackageError:
            # No lists yet, or older than what the archive has.
            self.refresh()
            return action()

    def fetch(self, names: list[str]) -> None:
        """As unpack(), whatever the lists are."""
        self.with_lists(lambda: self.unpack(names))

    # Programs

    def _loader(self) -> Path:
        # In lib64 is an absolute link, which would lead to the machine's.
        for folder in LIBRARIES:
            found = self.root / folder / LOADER
            if found.exists():
                return found
        raise PackageError(f"no {LOADER} in {self.root}")

    def command(self, program: str) -> list[str]:
        """How to start @program (a path in the release) from here."""
        libraries = ":".join(str(self.root / lib) for lib in LIBRARIES)
        command = [str(self._loader()), "--library-path", libraries,
                   str(self.root / program)]
        listed = run([command[0], "--list", *command[1:]])
        if "not found" in listed:
            raise PackageError(f"{program} lacks libraries:\n{listed}")
        return command
