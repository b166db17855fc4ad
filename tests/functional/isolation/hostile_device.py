# SPDX-License-Identifier: GPL-2.0-or-later
"""One device on a hostile backend: plugged in, asked to leave, removed."""

from __future__ import annotations

import time
from typing import Any, Callable

from hostile.move import Move
from hostile_machine import (BRIDGE, BRIDGE_SLOT, DRIVERS, MEMBERS, REGION,
                             SLOT, HostileBackend, Machine)
from hostile_qemu import CommandFailed

_TRIES = 40


class HotDevice:
    """What QMP calls "bad" and a number, with its chardev, maybe a netdev."""

    def __init__(self, machine: Machine, number: int, move: Move,
                 slot: int = SLOT) -> None:
        self.machine, self.setting = machine, machine.setting
        self.number, self.move, self._slot = number, move, slot
        self.plugged = False
        self.backend = HostileBackend(machine.bad_socket(number),
                                      machine.work / "hostile.log",
                                      self.setting, move.name, move.late)

    @property
    def _on_bridge(self) -> bool:
        # The first bus of a machine with an IOMMU takes nothing later.
        return bool(self.move.vectors) or self.setting.iommu

    @property
    def qmp(self) -> Callable[..., Any]:
        return self.machine.qmp

    def guest(self, words: str) -> str:
        """@words for the guest, about this device."""
        bus = "01" if self._on_bridge else "00"
        return (f"pci=/sys/bus/pci/devices/0000:{bus}:{self._slot:02x}.0; " +
                words)

    def lead_vectors(self) -> str:
        """Words for the guest: the next interrupt switches the slot off."""
        bridge = f"/sys/bus/pci/devices/0000:00:{BRIDGE_SLOT:02x}.0"
        return self.guest(f"lead {bridge} {self._slot} {self.move.vectors}")

    def end(self) -> None:
        self.backend.kill()
        self.machine.bad_socket(self.number).unlink(missing_ok=True)

    # Plug

    def _isolation(self) -> dict[str, Any]:
        if not self.setting.isolated:
            return {}
        found: dict[str, Any] = {"memory-isolation": "on",
                                 "memory-isolation-size": REGION}
        if self.setting.iothread:
            found["iothread"] = "io0"
        for name, value in self.move.props.items():
            # Experimental in some versions.
            experimental = f"x-{name}" in self.machine.properties
            found[f"x-{name}" if experimental else name] = value
        return found

    def _add_chardev(self) -> None:
        # A file system could not wait for its connection at first.
        again = {"reconnect-ms": 100} if self.setting.kind != "fs" or \
            self.machine.mended or self.move.reconnect else {}
        self.qmp("chardev-add", id=f"char{self.number}", backend={
            "type": "socket", "data": {
                "server": False, **again, "addr": {"type": "unix", "data": {
                    "path": str(self.machine.bad_socket(self.number))}}}})

    def _insist(self, name: str, **args: Any) -> None:
        """Again while the chardev is just connecting."""
        said = ""
        for _ in range(_TRIES):
            said = self.attempt(name, **args)
            if "not found" in said:
                # A netdev that is refused takes its chardev with it.
                self._add_chardev()
            elif "try again" not in said:
                break
            time.sleep(0.1)
        if said:
            raise CommandFailed(said)

    def plug(self) -> None:
        """Raises CommandFailed if QEMU refuses."""
        self._add_chardev()
        if self.setting.kind == "net":
            self._insist("netdev_add", type="vhost-user",
                         id=f"net{self.number}",
                         chardev=f"char{self.number}",
                         **self.move.netdev, **self._isolation())
        self.plug_again()

    def plug_again(self) -> None:
        """On the chardev, or the netdev, that is there already."""
        kind = self.setting.kind
        members = {**MEMBERS[kind], "packed": self.setting.packed,
                   "bus": BRIDGE if self._on_bridge else "pci.0",
                   **self.move.members.get(kind, {})}
        if self.setting.iommu:
            members.update({"iommu_platform": True, "disable-legacy": "on"})
        if kind == "net":
            members["netdev"] = f"net{self.number}"
        else:
            members.update(chardev=f"char{self.number}", **self._isolation())
        self.machine.qemu.monitor.events.clear()
        self._insist("device_add", driver=DRIVERS[kind],
                     id=f"bad{self.number}", addr=f"{self._slot:#x}",
                     **members)
        self.plugged = True

    # Unplug

    def deleted(self, seconds: float) -> bool:
        """Whether QEMU says so within @seconds."""
        monitor = self.machine.qemu.monitor
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            monitor.poll(0.05)
            if any(e["event"] == "DEVICE_DELETED" and
                   e["data"].get("device") == f"bad{self.number}"
                   for e in monitor.events):
                return True
        return False

    def attempt(self, name: str, **args: Any) -> str:
        """What QEMU said, if it refused."""
        try:
            self.qmp(name, **args)
        except CommandFailed as err:
            return str(err)
        return ""

    def unplug(self, seconds: float) -> bool:
        if self.plugged:
            self.attempt("device_del", id=f"bad{self.number}")
            self.plugged = not self.deleted(seconds)
        return not self.plugged

    def clean_up(self, seconds: float, patience: float) -> list[str]:
        """Nothing of the device is left; what cannot be removed."""
        if not self.unplug(seconds):
            # The guest's driver waits for what will never come.
            self.machine.reset()
            if not self.deleted(seconds) and not self.unplug(patience):
                return ["the device cannot be unplugged"]
            self.plugged = False
        if self.setting.kind == "net":
            self.attempt("netdev_del", id=f"net{self.number}")
        said = ""
        for _ in range(_TRIES):
            said = self.attempt("chardev-remove", id=f"char{self.number}")
            if "busy" not in said:
                return []
            time.sleep(0.05)
        return [f"its chardev stays: {said}"]
