# SPDX-License-Identifier: GPL-2.0-or-later
"""One move of the hostile backend, from plug to unplug, and what came of it.

The device is plugged into a running VM, its driver starts and does I/O; then
the test does to it what the move is about (its phase), the backend makes its
move, and the test sees what still works, from little to much: the device as it
is, on a new connection with an honest backend, after its driver was bound
anew, after the machine was reset.  At last it is unplugged.

What must hold whatever the backend does is in Stage.check(); what becomes of
the device is only told.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from harness import socket_folder
from hostile_machine import (DRIVERS, MEMBERS, REGION, SLOT, HostileBackend,
                             Machine, Setting, socket_path)
from hostile_qemu import STUCK_SECONDS, CommandFailed, QemuGone, QemuStuck
from hostile.moves import Move

# What the documentation promises for one device, and room for a busy machine.
BOUND_SECONDS = float(os.environ.get("HOSTILE_BOUND_SECONDS", "10"))
LOG_BOUND = 256 << 10
# Waits, in seconds; more for a QEMU that is slow by its making.
_SCALE = float(os.environ.get("HOSTILE_PATIENCE", "1"))
PATIENCE = 60 * _SCALE
START = 25 * _SCALE
SHORT = 4 * _SCALE
HOLD = 1.0


@dataclass
class Result:
    """What one move did."""

    move: str
    outcome: str = ""
    problems: list[str] = field(default_factory=list)
    longest: float = 0.0
    log_bytes: int = 0
    fds: int = 0
    made: bool = False              # the backend said that it made its move
    seconds: float = 0.0


class Stage:
    """A Machine and one device after the other."""

    def __init__(self, work: Path, setting: Setting) -> None:
        self.work, self.setting = work, setting
        self.sockets = socket_folder(work)
        self.machine = Machine(work, self.sockets, setting)
        self.number = 0
        self.base_fds = 0
        self.backend: HostileBackend | None = None
        self.plugged = False
        self._mended = self._has_property("memory-isolation-timeout-ms")

    def end(self) -> None:
        if self.backend:
            self.backend.kill()
        self.machine.end()

    @property
    def qmp(self) -> Callable[..., Any]:
        command = self.machine.qemu.monitor.command

        def run(name: str, **args: Any) -> Any:
            return command(name, STUCK_SECONDS, **args)
        return run

    def _has_property(self, name: str) -> bool:
        found = self.qmp("device-list-properties",
                         typename="vhost-user-blk-pci")
        return any(p["name"] == name for p in found)

    # Plug and unplug

    def _isolation(self) -> dict[str, Any]:
        if not self.setting.isolated:
            return {}
        found = {"memory-isolation": True, "memory-isolation-size": REGION}
        if self.setting.iothread:
            found["iothread"] = "io0"
        return found

    def _add_chardev(self, reconnect: bool) -> None:
        # A file system could not wait for its connection at first.
        again = {"reconnect-ms": 100} if self.setting.kind != "fs" or \
            self._mended or reconnect else {}
        self.qmp("chardev-add", id=f"char{self.number}", backend={
            "type": "socket", "data": {
                "server": False, **again, "addr": {"type": "unix", "data": {
                    "path": str(socket_path(self.sockets, self.number))}}}})

    def plug(self, move: Move) -> None:
        """Raises CommandFailed if QEMU refuses."""
        self._add_chardev(move.reconnect)
        if self.setting.kind == "net":
            self.qmp("netdev_add", type="vhost-user", id=f"net{self.number}",
                     chardev=f"char{self.number}", **self._isolation(),
                     **move.props)
        self._add_device(move)

    def _add_device(self, move: Move) -> None:
        kind = self.setting.kind
        members = {**MEMBERS[kind], "packed": self.setting.packed}
        if kind == "net":
            members["netdev"] = f"net{self.number}"
        else:
            members.update(chardev=f"char{self.number}", **self._isolation(),
                           **move.props)
        self.qmp("device_add", driver=DRIVERS[kind], id=f"bad{self.number}",
                 addr=f"{SLOT:#x}", **members)
        self.plugged = True

    def _deleted(self, seconds: float) -> bool:
        monitor = self.machine.qemu.monitor
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            monitor.poll(0.05)
            if any(e["event"] == "DEVICE_DELETED" and
                   e["data"].get("device") == f"bad{self.number}"
                   for e in monitor.events):
                return True
        return False

    def _try(self, name: str, **args: Any) -> str:
        """What QEMU said, if it refused."""
        try:
            self.qmp(name, **args)
        except CommandFailed as err:
            return str(err)
        return ""

    def ask_unplug(self, seconds: float) -> bool:
        if self.plugged:
            self._try("device_del", id=f"bad{self.number}")
            self.plugged = not self._deleted(seconds)
        return not self.plugged

    def clean_up(self) -> list[str]:
        """Nothing of the device is left; what cannot be removed."""
        if not self.ask_unplug(SHORT):
            # The guest's driver waits for what will never come.
            self.machine.reset()
            if not self._deleted(SHORT) and not self.ask_unplug(PATIENCE):
                return ["the device cannot be unplugged"]
            self.plugged = False
        if self.setting.kind == "net":
            self._try("netdev_del", id=f"net{self.number}")
        for _ in range(40):
            said = self._try("chardev-remove", id=f"char{self.number}")
            if "busy" not in said:
                return []
            time.sleep(0.05)
        return [f"its chardev stays: {said}"]

    # One move

    def warm_up(self) -> None:
        """So that what is allocated once does not count as a leak."""
        self.base_fds = 1 << 20
        result = Result("none")
        self._play(Move("none", "", "", "", None), result)
        if result.problems or result.outcome != "goes on":
            raise RuntimeError(f"an honest backend: {result}")
        time.sleep(0.3)
        self.base_fds = self.machine.qemu.num_fds()

    def run(self, move: Move) -> Result:
        begin = time.monotonic()
        if not self.base_fds:
            self.warm_up()
        result = Result(move.name)
        log = self.machine.qemu.log_size()
        self.machine.qemu.watch.forget()
        try:
            self._play(move, result)
            self._check(result, log)
            if self.setting.isolated and move.expect not in (
                    "", result.outcome):
                result.problems.append(f"{result.outcome}, where it "
                                       f"{move.expect}")
        except QemuGone:
            time.sleep(0.1)
            result.problems.append(f"QEMU {self.machine.qemu.status()}")
        except QemuStuck:
            self._rescue(result)
        except (CommandFailed, RuntimeError) as err:
            result.problems.append(str(err))
        result.longest = self.machine.qemu.watch.longest()
        result.log_bytes = self.machine.qemu.log_size() - log
        if result.problems:
            self._anew()
        result.seconds = time.monotonic() - begin
        return result

    def _play(self, move: Move, result: Result) -> None:
        self.number += 1
        self.machine.qemu.monitor.events.clear()
        backend = HostileBackend(socket_path(self.sockets, self.number),
                                 self.work / "hostile.log", self.setting,
                                 move.name)
        self.backend = backend
        try:
            result.outcome = self._life(move, result)
            result.made = backend.said("at")
            result.problems += self.clean_up()
        finally:
            result.made = backend.said("at")
            self.lastlines = backend.lines
            backend.kill()
            self.backend = None
            socket_path(self.sockets, self.number).unlink(missing_ok=True)

    def _life(self, move: Move, result: Result) -> str:
        assert self.backend
        kind = self.setting.kind
        try:
            self.plug(move)
        except CommandFailed as err:
            return f"refused: {err}"
        up = self.machine.run(f"up_{kind}", SHORT if move.phase == "plug"
                              else START)
        if move.phase != "plug":
            if not up or not self._works(START):
                raise RuntimeError("the device does not " +
                                   ("work" if up else "come up"))
            self._provoke(move)
            result.problems += self._good()
        return self._what_works(up)

    def _good(self) -> list[str]:
        said = self.machine.good_rounds(PATIENCE)
        return [said] if said else []

    def _provoke(self, move: Move) -> None:
        assert self.backend
        busy = self.machine.begin(f"busy {self.setting.kind} {self.number}")
        if move.phase:
            self.backend.say(f"phase {move.phase}")
            getattr(self, "_phase_" + move.phase)(move)
        self.machine.begin(f"calm {self.number}")
        if not self.machine.finish(busy, SHORT / 2):
            time.sleep(0.1)

    def _phase_go(self, move: Move) -> None:
        assert self.backend
        self.backend.wait_for("at", SHORT)
        time.sleep(HOLD)

    def _phase_config(self, move: Move) -> None:
        self.machine.run("config_" + self.setting.kind, SHORT)

    def _phase_stop(self, move: Move) -> None:
        for _ in range(2):
            self.qmp("stop")
            time.sleep(0.1)
            self.qmp("cont")
            time.sleep(0.3)

    def _phase_reset(self, move: Move) -> None:
        kind = self.setting.kind
        if self.machine.run(f"calm {self.number}; down {kind}", SHORT):
            self.machine.run(f"again {kind}", SHORT)

    def _phase_restart(self, move: Move) -> None:
        """The machine is reset, and the driver comes back."""
        for _ in range(move.times):
            self.machine.begin(f"big_{self.setting.kind}")
            time.sleep(0.5)
            self.machine.reset()
            self.machine.run(f"up_{self.setting.kind}", START)

    def _phase_unplug(self, move: Move) -> None:
        self.machine.run(f"calm {self.number}", SHORT)
        self.ask_unplug(SHORT)

    def _phase_replug(self, move: Move) -> None:
        kind = self.setting.kind
        self.machine.run(f"calm {self.number}; down {kind}", SHORT)
        if not self.ask_unplug(SHORT):
            raise RuntimeError("the device cannot be unplugged")
        self.machine.qemu.monitor.events.clear()
        self._add_device(move)
        self.machine.run(f"up_{kind}", START)

    def _phase_migrate(self, move: Move) -> None:
        self.qmp("migrate", uri="exec:cat > /dev/null")
        for _ in range(400):
            if self.qmp("query-migrate").get("status") in (
                    "completed", "failed", "cancelled"):
                break
            time.sleep(0.05)
        else:
            self._try("migrate_cancel")
        self._try("cont")

    # What became of the device

    def _works(self, seconds: float) -> bool:
        return self.machine.run(f"io_{self.setting.kind}", seconds)

    def _what_works(self, up: bool) -> str:
        assert self.backend
        kind, machine = self.setting.kind, self.machine
        if not self.plugged:
            return "unplugged"
        self.backend.say("quiet")
        self.backend.wait_for("quiet", 1)
        if up and self._works(SHORT):
            return "goes on"
        self.backend.say("calm")
        self.backend.wait_for("calm", 1)
        time.sleep(0.5)
        if not up:
            up = machine.run(f"up_{kind}", SHORT)
        if up and self._works(SHORT):
            return "works with the next backend"
        if machine.run(f"down {kind}", SHORT) and \
                machine.run(f"again {kind}", SHORT) and self._works(SHORT):
            return "works after a reset"
        machine.reset()
        if machine.run(f"up_{kind}", SHORT * 2) and self._works(SHORT):
            return "works after a reset of the machine"
        return "is lost until it is plugged in again"

    # What must hold

    def _check(self, result: Result, log: int) -> None:
        qemu = self.machine.qemu
        self.qmp("query-status")
        result.problems += self._good()
        end = time.monotonic() + 5
        while qemu.num_fds() > self.base_fds and time.monotonic() < end:
            time.sleep(0.05)
        result.fds = qemu.num_fds() - self.base_fds
        if result.fds > 0:
            result.problems.append(f"{result.fds} descriptors more")
        if qemu.log_size() - log > LOG_BOUND:
            result.problems.append(f"{qemu.log_size() - log} bytes of log")
        if qemu.watch.longest() > BOUND_SECONDS:
            result.problems.append(
                f"the main loop stood still for {qemu.watch.longest():.1f} s")

    def _rescue(self, result: Result) -> None:
        """QEMU does not answer; does it when the backend is gone?"""
        if self.backend:
            self.backend.kill()
        time.sleep(1)
        try:
            self.machine.qemu.monitor.command("query-status", 10)
            more = "until the backend was killed"
        except QemuStuck:
            more = "even when the backend had been killed"
        except QemuGone:
            more = f"and then it {self.machine.qemu.status()}"
        result.problems.append(
            f"the main loop stood still for more than {STUCK_SECONDS:g} s, "
            + more)

    def _anew(self) -> None:
        self.machine.reboot()
        self.plugged, self.base_fds = False, 0
