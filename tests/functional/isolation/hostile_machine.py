# SPDX-License-Identifier: GPL-2.0-or-later
"""The VM that the hostile device is plugged into, and that device's backend.

The VM has an honest isolated disk that its guest uses all the time, and slot 7
for the device at hand: on its first bus, or, for moves whose guest leads
interrupts to its slot's power control, and behind an IOMMU, on that of a bridge
that has one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import TOP, Backend, guest, is_listening, wait_until
from hostile_qemu import STUCK_SECONDS, HostileQemu

HERE = Path(__file__).resolve().parent
SLOT = 7
BRIDGE, BRIDGE_SLOT = "bridge", 5
GUEST_SECONDS = 300
MEGABYTES = 192
DRIVERS = {"blk": "vhost-user-blk-pci", "scsi": "vhost-user-scsi-pci",
           "fs": "vhost-user-fs-pci", "net": "virtio-net-pci"}
# Of the device, besides what all have.
MEMBERS: dict[str, dict[str, Any]] = {
    "blk": {"num-queues": 1, "config-wce": True},
    "scsi": {"num_queues": 1},
    "fs": {"tag": "share"},
    "net": {"romfile": ""},
}
REGION = 8 << 20


@dataclass(frozen=True)
class Setting:
    """
    Which device, which rings, whose thread; behind an intel-iommu whose
    mappings last no longer than a request; isolated or stock.
    """

    kind: str
    packed: bool = False
    iothread: bool = False
    isolated: bool = True
    iommu: bool = False


class HostileBackend:
    """The program of tests/backends/hostile, and what it says."""

    def __init__(self, socket_path: Path, log: Path, setting: Setting,
                 move: str, late: bool) -> None:
        socket_path.unlink(missing_ok=True)
        self.lines: list[str] = []
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hostile", str(socket_path),
                 setting.kind, "packed" if setting.packed else "split", move],
                env={**os.environ,
                     "PYTHONPATH": str(TOP / "tests/backends"),
                     "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out)
        threading.Thread(target=self._listen, daemon=True).start()
        wait_until(lambda: is_listening(socket_path) or self.ended() or
                   late and socket_path.exists(), 60, "the hostile backend")
        if self.ended():
            raise RuntimeError(f"the hostile backend ended; see {log}")

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(line.decode().strip())
            with self._log.open("ab") as out:
                out.write(line)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def say(self, words: str) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(words.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            pass

    def said(self, word: str) -> bool:
        return any(line.split()[0] == word for line in self.lines if line)

    def wait_for(self, word: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self.said(word):
            if time.monotonic() > end or self.ended():
                return False
            time.sleep(0.01)
        return True

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:
                    pass


class Machine:
    """QEMU and the honest disk; boots anew after each loss of QEMU."""

    def __init__(self, work: Path, sockets: Path, setting: Setting) -> None:
        self.work, self.sockets, self.setting = work, sockets, setting
        guest.build()
        image = work / "disk.img"
        with image.open("wb") as out:
            out.truncate(4 << 20)
        self.disk = Backend(work, image, queues=1, name="honest")
        self._initramfs = work / "vm.cpio"
        guest.job_initramfs(self._initramfs,
                            (HERE / "hostile_guest.sh").read_text("utf-8"),
                            {f"usr/bin/{name}": self._tool(name)
                             for name in ("eject", "poke", "vector")})
        self.boots = 0
        self.token = 0
        self.said = ""              # by the guest, at the end of a run()
        self.qemu = self._boot()
        self.properties = {p["name"] for p in self.qmp(
            "device-list-properties", typename="vhost-user-blk-pci")}
        # A file system can wait for its connection.
        self.mended = "memory-isolation-timeout-ms" in self.properties

    def qmp(self, name: str, **args: Any) -> Any:
        return self.qemu.monitor.command(name, STUCK_SECONDS, **args)

    def bad_socket(self, number: int) -> Path:
        return self.sockets / f"bad{number}.sock"

    def _tool(self, name: str) -> Path:
        """A program of tests/guest that other guests do not need."""
        program = self.work / name
        subprocess.run(["gcc", "-O2", "-static", "-o", str(program),
                        str(TOP / f"tests/guest/{name}.c")], check=True)
        return program

    def _args(self) -> list[str]:
        props = ",memory-isolation=on,memory-isolation-size=4M"
        memory = []
        if not self.setting.isolated:
            props = ""
            memory = ["-object", "memory-backend-memfd,id=ram,share=on,"
                      f"size={MEGABYTES}M"]
        machine, behind = "pc", []
        if self.setting.iommu:
            machine, behind = "q35", ["-device", "intel-iommu"]
        return [*memory, "-machine", f"{machine},accel=tcg" +
                (",memory-backend=ram" if memory else ""), *behind,
                "-m", str(MEGABYTES), "-object", "iothread,id=io0",
                "-chardev", f"socket,id=good,path={self.disk.socket},"
                "reconnect-ms=200",
                "-device", "vhost-user-blk-pci,id=good0,chardev=good,addr=6,"
                f"num-queues=1{props}",
                "-device", f"pci-bridge,id={BRIDGE},chassis_nr=1,shpc=on,"
                f"addr={BRIDGE_SLOT}",
                # Firmware would wait for a disk whose backend is away.
                "-boot", "strict=on",
                "-kernel", str(guest.KERNEL), "-initrd", str(self._initramfs),
                "-append", "console=ttyS0 quiet panic=-1 no_timer_check "
                "iomem=relaxed" +
                (" intel_iommu=on iommu.strict=1" if behind else "")]

    def _boot(self) -> HostileQemu:
        self.boots += 1
        # It may abort a little after a connection of it has ended.
        self.disk.stop()
        self.disk.start()
        qemu = None
        try:
            qemu = HostileQemu(self.work, self.sockets, self._args())
            if not qemu.wait_serial("^HOSTILE ready", GUEST_SECONDS):
                raise RuntimeError("the guest does not boot; see " +
                                   str(qemu.serial_log))
        except BaseException:
            # Nobody has this machine yet who could end it.
            if qemu:
                qemu.end()
            self.disk.stop()
            raise
        return qemu

    def reboot(self) -> None:
        """A new QEMU."""
        self.qemu.end()
        self.qemu = self._boot()

    def reset(self) -> None:
        """The same QEMU, and its guest from the beginning."""
        start = len(self.qemu.serial_text())
        self.qemu.monitor.command("system_reset")
        if not self.qemu.wait_serial("^HOSTILE ready", GUEST_SECONDS, start):
            raise RuntimeError("the guest does not boot again")

    def end(self) -> None:
        self.qemu.end()
        self.disk.stop()
        self._initramfs.unlink(missing_ok=True)

    # The guest

    def begin(self, words: str) -> str:
        """Start @words in the guest; a token to wait for."""
        self.token += 1
        self.qemu.say(f"t{self.token} {words}")
        return f"t{self.token}"

    def finish(self, token: str, seconds: float) -> tuple[int, str] | None:
        found = self.qemu.wait_serial(rf"^DONE {token} (\d+) ?(.*?)\r?$",
                                      seconds)
        return (int(found.group(1)), found.group(2)) if found else None

    def run(self, words: str, seconds: float) -> bool:
        """Whether @words succeed in the guest within @seconds."""
        done = self.finish(self.begin(words), seconds)
        self.said = done[1] if done else f"nothing for {seconds:g} s"
        return done is not None and done[0] == 0

    def good_rounds(self, seconds: float, rounds: int = 2) -> str:
        """Whole rounds of the honest disk from now on; "" if they come."""
        start = len(self.qemu.serial_text())
        pattern = r"^GOOD bad.*$|" + r"(?:^GOOD \d+\r?$[\s\S]*?)" * rounds
        found = self.qemu.wait_serial(pattern, seconds, start)
        if found is None:
            return f"the other disk did nothing for {seconds:g} s"
        return found.group(0).strip() if "bad" in found.group(0) else ""
