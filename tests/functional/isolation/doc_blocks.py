# SPDX-License-Identifier: GPL-2.0-or-later
"""The literal blocks of a page, and the commands in them."""

from __future__ import annotations

import re
from pathlib import Path


def blocks(path: Path) -> list[str]:
    """The literal blocks of @path, without their indentation."""
    found = re.findall(r"::\n\n((?:(?:  .*)?\n)+)", path.read_text("utf-8"))
    return ["\n".join(line[2:] for line in text.rstrip().split("\n"))
            for text in found]


def commands(text: str) -> list[str]:
    """The commands of a block, a line each; after "host#", if there is one."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [ln for ln in joined.split("\n") if ln.strip()]
    if joined.startswith("host# "):
        lines = [ln[6:] for ln in lines if ln.startswith("host# ")]
    return lines


def block(path: Path, begin: str) -> str:
    """The one block that begins so."""
    found = [b for b in blocks(path) if b.lstrip().startswith(begin)]
    assert len(found) == 1, f"{len(found)} blocks begin with {begin!r}"
    return found[0]
