# SPDX-License-Identifier: GPL-2.0-or-later
"""A vhost-user backend that makes one hostile move and is honest otherwise.

    python3 -m hostile SOCKET blk|net|fs|scsi split|packed MOVE

with tests/backends in PYTHONPATH; moves.py has the moves, backend.py what
standard input and output are for.  MOVE may be "none".
"""

from __future__ import annotations

import signal
import sys

from .backend import Backend, Behaviour
from .moves import MOVES


def main() -> int:
    if len(sys.argv) != 5:
        print(__doc__, file=sys.stderr)
        return 2
    path, kind, rings, name = sys.argv[1:]
    behaviour = Behaviour()
    if name != "none":
        move = next(m for m in MOVES if m.name == name)
        behaviour = move.make()
        behaviour.phase = move.phase
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    backend = Backend(path, kind, rings == "packed", behaviour)
    print("listening", flush=True)
    backend.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
