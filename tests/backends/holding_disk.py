# SPDX-License-Identifier: GPL-2.0-or-later
"""A vhost-user-blk backend on an image that holds some requests back.

    python3 holding_disk.py SOCKET IMAGE

The image has 8 MiB.  From SIGUSR1 on two of three requests are served and the
third is not, so that what is out has gaps.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

# pylint: disable=wrong-import-position
from hostile.backend import KINDS, Backend, Behaviour       # noqa: E402
from hostile.devices import DISK_SIZE, Blk                  # noqa: E402
from hostile.rings import Chain, Queue                      # noqa: E402


class Holding(Behaviour):
    """Each third request stays out."""

    phase = "hold"

    def __init__(self) -> None:
        self._seen = 0

    def request(self, b: Backend, queue: Queue, chain: Chain) -> bool:
        self._seen += b.armed
        return b.armed and self._seen % 3 == 0


class ImageDisk(Blk):
    """Blocks of a file."""

    image: mmap.mmap

    def __init__(self) -> None:
        super().__init__()
        self.store.data = self.image        # type: ignore[assignment]


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    with open(sys.argv[2], "r+b") as image:
        ImageDisk.image = mmap.mmap(image.fileno(), DISK_SIZE)
    KINDS["blk"] = ImageDisk
    # The backend is controlled by lines on its standard input.
    control, control_in = os.pipe()
    os.dup2(control, 0)
    signal.signal(signal.SIGUSR1,
                  lambda *_: os.write(control_in, b"phase hold\n"))
    Backend(sys.argv[1], "blk", True, Holding()).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
