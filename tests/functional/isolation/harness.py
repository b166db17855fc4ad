# SPDX-License-Identifier: GPL-2.0-or-later
"""Real guests and real backends for tests, the demo and measurements.

A GuestVm is QEMU's own QEMUMachine plus a serial log that one can wait for.
Everything is ended by process id, and everything that was said stays in the
work folder.

ISOLATION=off in the environment runs a test with the property off and shared
guest memory, which is how a claim is seen failing.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path
from typing import Any, TextIO

# Tests take all of this from here.
from program import (BUILD, LOAD, PATIENCE, QEMU, QEMU_BUILD, QEMU_IMG,
                     QEMU_SOURCE, TOP, TREE_DAEMON, WORK, Backend,
                     HarnessError, P, Program, debian, guest, is_listening,
                     socket_folder, wait_until, whole_lines)
from qemu.machine import QEMUMachine
from vhost_user_proxy import Proxy
from qemu.machine.machine import VMLaunchFailure

BOOT_SECONDS = 120


class LaunchRefused(HarnessError):
    """QEMU ended at start; the text is what it said."""


class GuestVm(QEMUMachine):
    """A VM whose serial console goes to a file and comes from a socket."""

    def __init__(self, work: Path, name: str = "vm") -> None:
        folder = socket_folder(work)
        super().__init__(str(QEMU), name=name, base_temp_dir=str(work),
                         log_dir=str(work))
        self.work = work
        self.serial_log = work / f"{name}.serial.log"
        self.serial_log.write_bytes(b"")
        self.serial_socket = folder / f"{name}.serial"
        self._serial: socket.socket | None = None
        self.kernel_options = ""
        self.add_args(
            "-nodefaults", "-chardev",
            f"socket,id=serial,path={self.serial_socket},server=on,wait=off,"
            f"logfile={self.serial_log}", "-serial", "chardev:serial")

    def add_memory(self, megabytes: int, shared: bool) -> None:
        """Plain private memory, or what stock vhost-user needs."""
        self.set_machine("pc,accel=tcg" + (",memory-backend=ram" if shared
                                           else ""))
        self.add_args("-m", str(megabytes))
        if shared:
            self.add_args("-object", "memory-backend-memfd,id=ram,share=on,"
                          f"size={megabytes}M")

    def add_job(self, script: str, files: dict[str, Path] | None = None,
                with_fio: bool = False, reboots: bool = False,
                kernel: str = "") -> None:
        """Boot Linux and let it run @script, again after each reset.

        @kernel is a version of tests/guest/kernels.py, or this release's.
        """
        image = self.work / f"{self._name}.cpio"
        guest.job_initramfs(image, script, files, with_fio, kernel)
        self._boot(image, guest.kernel(kernel).image if kernel
                   else guest.KERNEL)
        if not reboots:
            self.add_args("-no-reboot")

    def add_shell(self) -> None:
        """Boot Linux with a shell on the serial console."""
        self._boot(guest.BASE, guest.KERNEL)

    def _boot(self, initramfs: Path, kernel: Path) -> None:
        self.add_args("-kernel", str(kernel), "-initrd", str(initramfs),
                      "-append", "console=ttyS0 quiet panic=-1 "
                      f"no_timer_check {self.kernel_options}")

    def add_monitor(self, path: Path) -> None:
        """QEMU's monitor for people, on a socket."""
        self.add_args("-chardev",
                      f"socket,id=hmp,path={path},server=on,wait=off",
                      "-mon", "chardev=hmp,mode=readline")

    def launch(self) -> None:
        if "-initrd" in self.args:
            guest.make_exchange_a_barrier(self.args)
        try:
            super().launch()
        except VMLaunchFailure as err:
            text = (err.output or "").strip() or str(err.__cause__)
            raise LaunchRefused(f"QEMU ended with status {err.exitcode}: "
                                f"{text}") from None

    def isolation_stats(self, device: str = "disk0") -> dict[str, int]:
        """Counters of an isolated device, summed over its queues."""
        stats = self.cmd("qom-get", property="memory-isolation-stats",
                         path=f"/machine/peripheral/{device}/virtio-backend")
        assert isinstance(stats, dict)
        return stats

    # What the guest says and hears

    def serial_text(self) -> str:
        return self.serial_log.read_text("utf-8", "replace")

    def wait_serial(self, pattern: str, seconds: float = BOOT_SECONDS,
                    start: int = 0, prompt: bool = False) -> re.Match[str]:
        """Until the guest has said @pattern (after character @start).

        In lines that it has finished, unless it is a @prompt that has no end.
        """
        def look() -> re.Match[str] | None:
            text = self.serial_text()
            found = re.search(pattern, text[start:] if prompt
                              else whole_lines(text)[start:], re.MULTILINE)
            if not found and not self.is_running():
                raise HarnessError(f"QEMU ended (status {self.exitcode()}) "
                                   f"before the guest said {pattern!r}")
            if not found and re.search("Kernel panic|unpacking failed", text):
                raise HarnessError("the guest's kernel could not boot")
            return found
        return wait_until(look, seconds, f"waiting for {pattern!r}")

    def say(self, line: str) -> None:
        """Type a line on the guest's console."""
        if self._serial is None:
            self._serial = socket.socket(socket.AF_UNIX)
            self._serial.connect(str(self.serial_socket))
            threading.Thread(target=self._drain, args=[self._serial],
                             daemon=True).start()
        self._serial.sendall(line.encode() + b"\n")

    @staticmethod
    def _drain(serial: socket.socket) -> None:
        """A reader that does not keep up would stall the guest's console."""
        try:
            while serial.recv(65536):
                pass
        except OSError:
            pass

    def wait_result(self, seconds: float = 120) -> str:
        """What follows RESULT, after the VM has powered off."""
        result = self.wait_serial(r"^\r?RESULT (.*?)\r?\n",
                                  seconds).group(1)
        if not result.startswith("fail"):
            self.wait(30 * PATIENCE)
        return result

    def qemu_log(self) -> str:
        return (self.get_log() or "").strip()

    def end(self) -> None:
        if self._serial is not None:
            self._serial.close()
            self._serial = None
        if self._launched:
            self.kill()
        # Large, and made again in no time.
        (self.work / f"{self._name}.cpio").unlink(missing_ok=True)


def is_isolated() -> bool:
    return os.environ.get("ISOLATION", "on") != "off"


def isolation_args(vm: GuestVm, iothread: bool, isolated: bool,
                   size: str | None = None) -> str:
    """Properties of an isolated device, "" for a stock one."""
    if not isolated:
        return ""
    props = ",memory-isolation=on"
    if size is not None:
        props += f",memory-isolation-size={size}"
    if iothread:
        if "iothread,id=io0" not in vm.args:
            vm.add_args("-object", "iothread,id=io0")
        props += ",iothread=io0"
    return props


def take_folder(work: Path) -> TextIO:
    """Make @work anew; what it returns is to be closed when it is free again.

    The same test may be run by somebody else at the same time.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    lock = work.with_name(f".{work.name}.lock").open("w", encoding="ascii")
    fcntl.flock(lock, fcntl.LOCK_EX)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return lock


class IsolationTest(unittest.TestCase):
    """Base of the tests.  Its subclasses say whether an IOThread is used."""

    iothread = False
    megabytes = 512

    def setUp(self) -> None:
        self.work = WORK / self.id().split(".", 1)[-1]
        self.addCleanup(take_folder(self.work).close)
        self.isolated = is_isolated()
        self.programs: list[Program] = []
        guest.build()

    def make_disk(self, size: str = "64M", name: str = "disk.img") -> Path:
        path = self.work / name
        with path.open("wb") as image:
            image.truncate(int(size.removesuffix("M")) << 20)
        self.addCleanup(path.unlink, missing_ok=True)
        return path

    def start_backend(self, image: Path | None, **options: Any) -> Backend:
        """A storage daemon that runs until the test ends."""
        return self._start(Backend(self.work, image, **options))

    def _start(self, program: P) -> P:
        self.addCleanup(program.stop)
        self.programs.append(program)
        return program.start()

    def start_program(self, command: list[str], name: str = "backend",
                      env: dict[str, str] | None = None) -> Program:
        """@command with "{socket}" in it, until the test ends."""
        return self._start(Program(self.work, command, name, env))

    def make_vm(self, name: str = "vm") -> GuestVm:
        vm = GuestVm(self.work, name)
        vm.add_memory(self.megabytes, shared=not self.isolated)
        self.addCleanup(vm.end)
        return vm

    def add_disk(self, vm: GuestVm, path: Path, *, props: str = "",
                 chardev: str = "", size: str | None = None,
                 name: str = "disk0") -> None:
        """An isolated disk on the backend that listens on @path."""
        vm.add_args("-chardev", f"socket,id={name}char,path={path}{chardev}")
        vm.add_args("-device", f"vhost-user-blk-pci,id={name},"
                    f"chardev={name}char{props}" +
                    isolation_args(vm, self.iothread, self.isolated, size))

    def run_job(self, vm: GuestVm, script: str, seconds: float = 120,
                kernel: str = "") -> None:
        """Boot, run @script to its end, expect that it succeeded."""
        vm.add_job(script, kernel=kernel)
        vm.launch()
        self.expect_ok(vm, seconds)

    def revive(self) -> bool:
        """Start the storage daemons that aborted again; True.

        They do if a kick meets the end of their connection: "Assertion
        `!server->wait_idle' failed", whoever their frontend is.
        """
        for program in self.programs:
            if isinstance(program, Backend) and program.has_aborted():
                program.start()
        return True

    def expect_progress(self, vm: GuestVm, seconds: float = 30) -> None:
        """Requests are done now, not only the clock goes on."""
        def count() -> int:
            words = whole_lines(vm.serial_text()).split("LOAD progress ")
            return int(words[-1].split()[0]) if words[-1].split() else 0
        before = count()
        wait_until(lambda: self.revive() and
                   (count() > before or not vm.is_running()), seconds,
                   "requests to be done")

    def stop_and_cont(self, vm: GuestVm, rounds: int, apart: float) -> None:
        """Pause the VM @rounds times, up to @apart seconds after each other."""
        vm.wait_serial("^LOAD progress")
        dice = random.Random(1)
        for _ in range(rounds):
            vm.cmd("stop")
            time.sleep(dice.uniform(0, 0.02))
            vm.cmd("cont")
            time.sleep(dice.uniform(0, apart))
        self.expect_progress(vm)

    def reset_under_load(self, vm: GuestVm, rounds: int) -> None:
        """Reset the VM @rounds times, each time a little later."""
        for round_ in range(rounds):
            vm.wait_serial("^LOAD progress", start=len(vm.serial_text()))
            time.sleep(0.1 * round_)
            so_far = len(vm.serial_text())
            vm.cmd("system_reset")
            # The guest that was may have said something meanwhile.
            vm.wait_serial("^GUEST ready", start=so_far)
        vm.wait_serial("^LOAD progress", start=len(vm.serial_text()))

    def expect_ok(self, vm: GuestVm, seconds: float = 120) -> None:
        result = vm.wait_result(seconds)
        tail = "\n".join(vm.serial_text().splitlines()[-25:])
        self.assertEqual(result, "ok", f"the guest said:\n{tail}")

    def start_proxy(self, backend: Backend, on_request: Any = None,
                    on_reply: Any = None) -> Proxy:
        """A man in the middle between QEMU and @backend."""
        proxy = Proxy(backend.socket.with_name("proxy.sock"), backend.socket,
                      on_request, on_reply)
        self.addCleanup(proxy.close)
        return proxy

    def verify_image(self, image: Path, *options: str) -> None:
        """The load tool on the host: does the raw image hold what it must?"""
        done = subprocess.run([str(LOAD), "verify", str(image),
                               "--buffered", "1", *options],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)


def long_form(method: Callable[..., None]) -> Callable[..., None]:
    """Of a test that the plain check has in a shorter form, or in another."""
    setattr(method, "group", "long")
    return method


def on_both_threads(cls: type) -> type:
    """Make two test cases of @cls: data path in the main loop, in a thread."""
    module = sys.modules[cls.__module__]
    for suffix, iothread in (("MainLoop", False), ("IOThread", True)):
        name = cls.__name__ + suffix
        body = {"iothread": iothread, "__module__": cls.__module__,
                "__doc__": cls.__doc__}
        setattr(module, name, type(name, (cls, IsolationTest), body))
    return cls
