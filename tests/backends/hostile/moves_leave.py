# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves that end the connection, at each moment there is."""

from __future__ import annotations

from .backend import Backend, Behaviour
from .move import ALL, Move
from .moves_time import NEEDS
from .wire import Message, bits

# Messages at which the connection ends, by phase.
ENDS: dict[str, dict[str, tuple[str, ...]]] = {
    "plug": {**dict.fromkeys((
        "GET_FEATURES", "GET_PROTOCOL_FEATURES", "SET_PROTOCOL_FEATURES",
        "GET_QUEUE_NUM", "SET_BACKEND_REQ_FD", "SET_OWNER", "SET_FEATURES",
        "SET_MEM_TABLE", "SET_VRING_NUM", "SET_VRING_BASE", "SET_VRING_ADDR",
        "SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ENABLE",
        "SET_STATUS", "GET_STATUS"), ALL), "GET_CONFIG": ("blk",)},
    "config": {"SET_CONFIG": ("blk",)},
    "stop": dict.fromkeys(("SET_VRING_ENABLE", "GET_VRING_BASE"), ALL),
    "reset": dict.fromkeys(("SET_VRING_ENABLE", "GET_VRING_BASE",
                            "SET_STATUS", "RESET_DEVICE"), ALL),
    "restart": dict.fromkeys(("SET_VRING_ENABLE", "GET_VRING_BASE"), ALL),
    "unplug": dict.fromkeys(("SET_VRING_ENABLE", "GET_VRING_BASE"), ALL),
    "eject": dict.fromkeys(("SET_VRING_ENABLE", "GET_VRING_BASE"), ALL),
    "migrate": {"SET_VRING_ENABLE": ALL, "GET_VRING_BASE": ALL,
                "SET_DEVICE_STATE_FD": ("fs",),
                "CHECK_DEVICE_STATE": ("fs",)},
}
_SHORT = {("plug", "SET_MEM_TABLE"): "any",
          ("eject", "SET_VRING_ENABLE"): "blk",
          ("stop", "GET_VRING_BASE"): "any"}


class Leaves(Behaviour):
    """Closes instead of doing what a message says."""

    def __init__(self, name: str, after: bool = False) -> None:
        self._name, self._after = name, after
        number = NEEDS.get(name.replace("SET_STATUS", "GET_STATUS"))
        self.protocol = bits(number) if number is not None else 0
        self._left = False

    def _go(self, b: Backend, m: Message) -> bool:
        if self._left or not b.armed or m.name != self._name:
            return False
        self._left = True
        b.tell(f"at {m.name}")
        b.disconnect()
        return True

    def message(self, b: Backend, m: Message) -> bool:
        return not self._after and self._go(b, m)

    def handled(self, b: Backend, m: Message) -> None:
        if self._after:
            self._go(b, m)


class LeavesOften(Leaves):
    """The same on each connection."""

    def _go(self, b: Backend, m: Message) -> bool:
        self._left = False
        return super()._go(b, m)


class Away(Behaviour):
    """Leaves when the test begins, and every later connection too."""

    def __init__(self) -> None:
        self._away = False

    def go(self, b: Backend) -> None:
        self._away = True
        b.tell("at go")
        b.disconnect()

    def connected(self, b: Backend) -> bool:
        if self.phase == "plug":
            b.tell("at connect")
        return not (self._away or self.phase == "plug")


class Storm(Behaviour):
    """Leaves a little after each start, again and again."""

    def __init__(self) -> None:
        self._storm = False

    def go(self, b: Backend) -> None:
        self._storm = True
        b.tell("at go")
        b.disconnect()

    def handled(self, b: Backend, m: Message) -> None:
        if self._storm and m.name == "SET_VRING_ENABLE":
            b.disconnect()


class Late(Behaviour):
    """Honest, once it is there."""

    late = 1.0


class Restarts(Behaviour):
    """As an honest backend does that is started anew."""

    def go(self, b: Backend) -> None:
        b.disconnect()
        b.tell("at go")


def _leave(phase: str, name: str, kinds: tuple[str, ...],
           after: bool) -> Move:
    word = name.lower().replace("_", "-")
    where = "after" if after else "at"
    return Move(f"leaves-{where}-{word}-{phase}", "leaving",
                f"ends the connection {where} {name}", phase,
                lambda: Leaves(name, after), kinds=kinds,
                short="" if after else _SHORT.get((phase, name), ""))


def _away(phase: str, does: str) -> Move:
    return Move(f"away-{phase}", "leaving", does, phase, Away,
                kinds=("blk",) if phase == "config" else ALL,
                short="any" if phase in ("config", "go") else "")


MOVES = [
    Move("honest", "leaving", "does nothing hostile", "go", Behaviour,
         expect="goes on", short="any"),
    Move("honest-late", "leaving", "does nothing hostile, but is there only "
         "a second after QEMU looks for it", "plug", Late, reconnect=True,
         late=True, short="fs"),
    Move("honest-again", "leaving", "does nothing hostile; the device is "
         "unplugged and another one plugged in on its chardev", "replug",
         Behaviour, kinds=("blk", "fs", "scsi"), expect="goes on",
         short="fs"),
    Move("restarted", "leaving", "ends the connection and takes the next one",
         "go", Restarts, expect="goes on", reconnect=True,
         # A file system does not notice a new backend, in stock neither.
         kinds=("blk", "net", "scsi")),
    *(_leave(phase, name, kinds, False) for phase, messages in ENDS.items()
      for name, kinds in messages.items()),
    *(_leave(phase, name, kinds, True) for phase, messages in ENDS.items()
      if phase not in ("plug", "config") for name, kinds in messages.items()),
    _away("plug", "accepts and closes at once, for ever"),
    _away("go", "ends the connection, then accepts and closes at once"),
    _away("config", "is away while the driver writes its configuration"),
    _away("stop", "is away while the VM stops and goes on"),
    _away("reset", "is away while the driver is bound anew"),
    _away("restart", "is away while the machine is reset"),
    _away("unplug", "is away while the device is unplugged"),
    _away("eject", "is away while the device is taken from its driver"),
    _away("migrate", "is away while the VM is saved"),
    Move("leaves-after-each-start", "leaving", "ends each connection once its "
         "rings are enabled", "go", Storm),
    Move("leaves-at-each-features", "leaving", "ends each connection at "
         "GET_FEATURES", "plug", lambda: LeavesOften("GET_FEATURES")),
    Move("leaves-at-each-base", "leaving", "ends each connection at "
         "GET_VRING_BASE", "stop", lambda: LeavesOften("GET_VRING_BASE")),
]
