# SPDX-License-Identifier: GPL-2.0-or-later
"""One move of the hostile backend, from plug to unplug, and what came of it.

The device is plugged into a running VM, its driver starts and does I/O; then
the test does to it what the move is about (its phase), the backend makes its
move, and the test sees what still works, from little to much: the device as it
is, on a new connection with an honest backend, after its driver was bound
anew, after the machine was reset.  At last it is unplugged.

What must hold whatever the backend does is in Stage._check(); what becomes of
the device is only told, unless the move says that it must work.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from harness import socket_folder
from hostile.backend import Behaviour
from hostile.move import Move
from hostile_device import HotDevice
from hostile_machine import SLOT, Machine, Setting
from hostile_qemu import STUCK_SECONDS, CommandFailed, QemuGone, QemuStuck

# What the documentation promises for one device, and room for a busy machine.
BOUND_SECONDS = float(os.environ.get("HOSTILE_BOUND_SECONDS", "20"))
LOG_BOUND = 256 << 10
# Waits, in seconds; more for a QEMU that is slow by its making.
_SCALE = float(os.environ.get("HOSTILE_PATIENCE", "1"))
PATIENCE = 60 * _SCALE
START = 25 * _SCALE
SHORT = 4 * _SCALE
HOLD = 1.0
_HONEST = Move("none", "", "", "", Behaviour)


@dataclass
class Result:
    """What one move did."""

    move: str
    outcome: str = ""
    problems: list[str] = field(default_factory=list)
    longest: float = 0.0            # the main loop stood still, seconds
    log_bytes: int = 0
    made: bool = False              # the backend said that it made its move
    seconds: float = 0.0


class Stage:
    """A Machine and one device after the other."""

    def __init__(self, work: Path, setting: Setting) -> None:
        self.setting = setting
        self.machine = Machine(work, socket_folder(work), setting)
        self.number = 0
        self._fds: Counter[str] = Counter()
        self.devices: list[HotDevice] = []

    def end(self) -> None:
        self._end_devices()
        self.machine.end()

    def _end_devices(self) -> None:
        while self.devices:
            self.devices.pop().end()

    @property
    def device(self) -> HotDevice:
        return self.devices[0]

    def _guest(self, words: str, seconds: float) -> bool:
        return self.machine.run(self.device.guest(
            words.replace("KIND", self.setting.kind)), seconds)

    # One move

    def _warm_up(self) -> None:
        """So that what is allocated once does not count as a leak."""
        result = Result("none")
        self._play(_HONEST, result)
        if result.problems or result.outcome != "goes on":
            raise RuntimeError(f"an honest backend {result.outcome}: "
                               f"{result.problems}")
        time.sleep(0.3)
        self._fds = self.machine.qemu.fds()

    def run(self, move: Move) -> Result:
        begin = time.monotonic()
        result = Result(move.name)
        log = self.machine.qemu.log_size()
        try:
            if not self._fds:
                self._warm_up()
            self.machine.qemu.watch.forget()
            self._play(move, result)
            self._check(move, result, log)
        except QemuGone:
            time.sleep(0.1)
            result.problems.append(f"QEMU {self.machine.qemu.status()}")
        except QemuStuck:
            self._rescue(result)
        except (CommandFailed, RuntimeError) as err:
            result.problems.append(str(err))
        self._end_devices()
        result.longest = self.machine.qemu.watch.longest()
        result.log_bytes = self.machine.qemu.log_size() - log
        if result.problems:
            self._fds.clear()
            self.machine.reboot()
        result.seconds = time.monotonic() - begin
        return result

    def _play(self, move: Move, result: Result) -> None:
        try:
            for slot in range(SLOT, SLOT + move.devices):
                self.number += 1
                self.devices.append(HotDevice(self.machine, self.number, move,
                                              slot))
            result.outcome = self._life(move, result)
        finally:
            result.made = any(d.backend.said("at") for d in self.devices)
        for device in self.devices:
            result.problems += device.clean_up(SHORT, PATIENCE)
        self._end_devices()

    def _life(self, move: Move, result: Result) -> str:
        try:
            for device in self.devices:
                device.plug()
        except CommandFailed as err:
            return f"refused: {err}"
        up = self._guest("up_KIND", SHORT if move.phase == "plug" and
                         not move.expect else START)
        if self.setting.iommu and move is _HONEST and \
                not self._guest("behind", START):
            raise RuntimeError("the device is behind no IOMMU")
        if move.phase != "plug":
            if not up or not self._guest("io_KIND", START):
                raise RuntimeError("the device does not " +
                                   ("work: " if up else "come up: ") +
                                   self.machine.said)
            self._provoke(move)
            result.problems += self._good()
        return self._what_works(up)

    def _good(self) -> list[str]:
        said = self.machine.good_rounds(PATIENCE)
        return [said] if said else []

    # What the test does to the device

    def _provoke(self, move: Move) -> None:
        kind, number = self.setting.kind, self.number
        busy = [self.machine.begin(d.guest(f"busy {kind} {number}"))
                for d in self.devices]
        if move.vectors and not self.machine.run(self.device.lead_vectors(),
                                                 START):
            raise RuntimeError(f"vectors stay: {self.machine.said}")
        if move.phase:
            for device in self.devices:
                device.backend.say(f"phase {move.phase}")
            getattr(self, "_phase_" + move.phase)(move)
        self._calm()
        if not self.machine.finish(busy[0], SHORT / 2):
            time.sleep(0.1)

    def _calm(self) -> None:
        """The guest begins no more of its own I/O."""
        self.machine.run(f"calm {self.number}", SHORT)

    def _phase_go(self, move: Move) -> None:
        self.device.backend.wait_for("at", SHORT)
        time.sleep(HOLD)

    def _phase_config(self, move: Move) -> None:
        self._guest("config_KIND", SHORT)

    def _phase_stop(self, move: Move) -> None:
        for device in self.devices[:move.devices - 1]:
            device.backend.wait_for("at", SHORT)
        for _ in range(2):
            self.machine.qmp("stop")
            time.sleep(0.1)
            self.machine.qmp("cont")
            time.sleep(0.3)

    def _phase_reset(self, move: Move) -> None:
        self._calm()
        if self._guest("down KIND", SHORT):
            self._guest("again KIND", SHORT)

    def _phase_restart(self, move: Move) -> None:
        """The machine is reset, and the driver comes back."""
        for _ in range(move.times):
            self.machine.begin(self.device.guest(f"big_{self.setting.kind}"))
            time.sleep(0.5)
            self.machine.reset()
            self._guest("up_KIND", START)

    def _phase_unplug(self, move: Move) -> None:
        self._calm()
        self.device.unplug(SHORT)

    def _phase_eject(self, move: Move) -> None:
        """The device goes while its driver uses it; nobody is asked."""
        self._guest(f"eject {SLOT}", SHORT)
        self.device.plugged = not self.device.deleted(SHORT)
        self.machine.reset()

    def _phase_vector(self, move: Move) -> None:
        """An interrupt that was led there unplugs it; nobody is asked."""
        self.device.plugged = not self.device.deleted(SHORT)
        self.machine.reset()

    def _phase_poke(self, move: Move) -> None:
        """The driver does not survive that; it begins anew each time."""
        for seed in range(move.times):
            big = self.machine.begin(
                self.device.guest(f"big_{self.setting.kind}"))
            if not self._guest(f"poke $pci/resource4 3000 {seed}", START) and \
                    "poked" not in self.machine.said:
                raise RuntimeError(f"no poke: {self.machine.said}")
            self.machine.finish(big, SHORT / 4)
            self.machine.reset()
            self._guest("up_KIND", START)

    def _phase_replug(self, move: Move) -> None:
        self._calm()
        self._guest("down KIND", SHORT)
        if not self.device.unplug(SHORT):
            raise RuntimeError("the device cannot be unplugged")
        self.device.plug_again()
        self._guest("up_KIND", START)

    def _phase_migrate(self, move: Move) -> None:
        self.machine.qmp("migrate", uri="exec:cat > /dev/null")
        for _ in range(400):
            if self.machine.qmp("query-migrate").get("status") in (
                    "completed", "failed", "cancelled"):
                break
            time.sleep(0.05)
        else:
            self.device.attempt("migrate_cancel")
        self.device.attempt("cont")

    # What became of the device

    def _works(self) -> bool:
        """What must work is waited for; of the rest one wants to know."""
        move = self.device.move
        return self._guest(f"{move.io}_KIND", PATIENCE if move.expect
                           else SHORT)

    def _what_works(self, up: bool) -> str:
        if not self.device.plugged:
            return "unplugged"
        for word in ("quiet", "calm"):
            # Honest on this connection, then on another one.
            for device in self.devices:
                device.backend.say(word)
                device.backend.wait_for(word, 1)
            up = up or word == "calm" and self._guest("up_KIND", SHORT)
            if up and self._works():
                return "goes on" if word == "quiet" else \
                    "works with the next backend"
        if self._guest("down KIND", SHORT) and \
                self._guest("again KIND", SHORT) and self._works():
            return "works after a reset"
        self.machine.reset()
        if self._guest("up_KIND", SHORT * 2) and self._works():
            return "works after a reset of the machine"
        return "is lost until it is plugged in again"

    # What must hold

    def _check(self, move: Move, result: Result, log: int) -> None:
        qemu = self.machine.qemu
        self.machine.qmp("query-status")
        result.problems += self._good()
        more = self._more_fds()
        if more:
            result.problems.append("descriptors more: " + ", ".join(
                f"{num} {kind}" for kind, num in sorted(more.items())))
        if qemu.log_size() - log > LOG_BOUND:
            result.problems.append(f"{qemu.log_size() - log} bytes of log")
        if qemu.watch.longest() > BOUND_SECONDS:
            result.problems.append(
                f"the main loop stood still for {qemu.watch.longest():.1f} s")
        if self.setting.isolated and move.expect not in (
                "", result.outcome.split(":")[0]):
            result.problems.append(f"expected: {move.expect}")

    def _more_fds(self) -> Counter[str]:
        """Than before; what is about to be closed has a while."""
        end = time.monotonic() + 5
        while (more := self.machine.qemu.fds() - self._fds) and \
                time.monotonic() < end:
            time.sleep(0.05)
        return more

    def _rescue(self, result: Result) -> None:
        """QEMU does not answer; does it when the backend is gone?"""
        self._end_devices()
        time.sleep(1)
        try:
            self.machine.qemu.monitor.command("query-status", 10)
            more = "until the backend was killed"
        except QemuStuck:
            more = "even when the backend had been killed"
        except QemuGone:
            more = f"and then it was {self.machine.qemu.status()}"
        result.problems.append(
            f"the main loop stood still for more than {STUCK_SECONDS:g} s, "
            + more)
