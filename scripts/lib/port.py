#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Another version of QEMU than 10.0: builds it, or runs a test with it.

    port.py build VERSION
    port.py run VERSION FOLDER PROGRAM [ARGUMENT...]

Ends with status 77, the reason last, where the archive does not deliver that
version, and so for the tests of what was not built.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SKIP_STATUS = 77


def folder(version: str) -> Path:
    """Where scripts/setup builds it."""
    return TOP / "build" / version / "qemu"


def build(version: str) -> int:
    return subprocess.run([str(TOP / "scripts/setup"), "--qemu", version],
                          check=False).returncode


def run(version: str, where: str, *command: str) -> int:
    if not (folder(version) / "qemu-system-x86_64").exists():
        print(f"QEMU {version} is not built")
        return SKIP_STATUS
    os.chdir(where)
    os.execv(command[0], command)


def main() -> int:
    words = sys.argv[1:]
    if len(words) == 2 and words[0] == "build":
        return build(words[1])
    if len(words) > 3 and words[0] == "run":
        return run(*words[1:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
