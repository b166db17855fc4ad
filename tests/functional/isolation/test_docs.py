# SPDX-License-Identifier: GPL-2.0-or-later
"""What the documentation tells people to type does what it says.

Each literal block of the README and of docs/system is a command that is run
here as it stands, a part of one, or one of the few that are neither.  A block
that nobody runs fails the test.

The programs are found through PATH: QEMU as it was built, with a monitor
besides, the backends as they were unpacked.  Everything runs in a namespace of
processes of its own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, Callable

import crypto_load
import firmware
import net_testpmd
from doc_blocks import block, blocks, commands
from harness import (QEMU, QEMU_IMG, TOP, TREE_DAEMON, HarnessError,
                     IsolationTest, debian, guest, wait_until)
from qemu.qmp import ConnectError
from qemu.qmp.legacy import QEMUMonitorProtocol
from vhost_user_rude import RudeBackend

README = TOP / "README.rst"
SYSTEM = TOP / "docs/system/devices/vhost-user-memory-isolation.rst"
MAP_PAGE = SYSTEM.with_name("vhost-user-memory-isolation-map.rst")
RUN_PAGE = SYSTEM.with_name("vhost-user-memory-isolation-run.rst")
# tests/libvirt runs what is on its page.
PAGES = (README, *(page for page in sorted(SYSTEM.parent.glob(
    "vhost-user-memory-*.rst")) if "libvirt" not in page.stem))
# Blocks that are commands, by how they begin; each is run by a test below.
DAEMON, NET_PASST, NET_DPDK = ("host# qemu-storage-daemon", "host# passt",
                               "host# dpdk-testpmd")
MACHINE, LOOK, HMP, QMP = ("host# qemu-system", "host# grep memfd",
                           "(qemu) qom-get", '{ "execute": "qom-get"')
INFO, QUERY = ("(qemu) info vhost-user-isolation",
               '{ "execute": "query-vhost-user-isolation"')
MAP = "host# scripts/isolation-map"
# The firmware of a network runs longer than some machines' KVM bears.
NO_KVM = "[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm"
# Until QEMU and a backend have a region of ours.
LOOKOUT = """(until [ "$(grep -ls memfd:memory-isolation /proc/[0-9]*/maps |
    wc -l)" = 2 ]; do :; done; touch served) &"""
README_DISK = "qemu-storage-daemon"
COMMANDS = (README_DISK, DAEMON, NET_PASST, NET_DPDK, MACHINE, LOOK, HMP, QMP,
            INFO, QUERY, MAP)
# Blocks that are no commands, by how they begin.
PICTURES = ("guest RAM, private", "disk0: memory-isolation: the requests",
            "nic0: virtqueue 2 has stopped", "VM mapped: QEMU",
            "span  = data of a request")
# Parts of commands, by what they are for.
PARTS = ("-chardev socket,id=fs", "-object cryptodev-vhost-user",
         "-netdev vhost-vdpa")


class Commands(IsolationTest):
    """In a folder that has what the commands name."""

    limit = 400

    def setUp(self) -> None:
        super().setUp()
        self.bin = self.work / "bin"
        (self.work / "build/qemu").mkdir(parents=True)
        (self.work / "scripts").symlink_to(TOP / "scripts")
        self.bin.mkdir()
        machine = f'exec {QEMU} "$@" -qmp unix:qmp.sock,server=on,wait=off\n'
        self.script("qemu-system-x86_64", machine)
        self.script("../build/qemu/qemu-system-x86_64", machine)
        (self.bin / "qemu-storage-daemon").symlink_to(TREE_DAEMON)
        self.env = dict(os.environ,
                        PATH=f"{self.bin}:{os.environ['PATH']}")
        self.shell: subprocess.Popen[bytes] | None = None

    def script(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text("#!/bin/sh\n" + text, "utf-8")
        path.chmod(0o755)

    def make_image(self) -> None:
        raw = self.work / "raw"
        firmware.make_bios_disk(raw, self.work)
        subprocess.run([str(QEMU_IMG), "convert", "-O", "qcow2", str(raw),
                        str(self.work / "disk.qcow2")], check=True)
        raw.unlink()

    def open_shell(self) -> None:
        """One that reads commands; all that it starts ends with it."""
        self.end()
        log = self.work / "said"
        self.flags = self.namespace()
        with log.open("ab") as said:
            self.shell = subprocess.Popen(
                ["unshare", *self.flags, "sh"], cwd=self.work, env=self.env,
                stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT)
        self.addCleanup(self.end)

    def type(self, line: str) -> None:
        """A command, behind which the shell goes on."""
        assert self.shell is not None and self.shell.stdin is not None
        line = line if line.endswith("&") else line + " &"
        self.shell.stdin.write(line.encode() + b"\n")
        self.shell.stdin.flush()

    def namespace(self) -> list[str]:
        flags = ["--pid", "--fork", "--mount-proc", "--kill-child"]
        for more in ([], ["--user", "--map-root-user"]):
            done = subprocess.run(["unshare", *more, *flags, "true"],
                                  capture_output=True, check=False)
            if done.returncode == 0:
                return [*more, *flags]
        self.skipTest("no namespace of processes can be had")
        return []

    def end(self) -> None:
        if self.shell is not None:
            self.shell.kill()
            self.shell.communicate()
            self.shell = None

    def said(self) -> str:
        return (self.work / "said").read_text("utf-8", "replace")

    def wait_for(self, what: str, condition: Callable[[], object]) -> None:
        try:
            wait_until(condition, 30, what)
        except HarnessError as err:
            raise HarnessError(f"{err}; what was said: {self.said()}") from err

    def inside(self, command: str) -> str:
        """What a command says that runs where the others do."""
        assert self.shell is not None
        children = Path(f"/proc/{self.shell.pid}/task/{self.shell.pid}/"
                        "children").read_text("ascii").split()
        flags = ["--user", "--preserve-credentials"] \
            if "--user" in self.flags else []
        done = subprocess.run(
            ["nsenter", "--target", children[0], *flags, "--pid", "--mount",
             "--wd", "sh", "-c", command], capture_output=True, text=True,
            check=False, env=self.env, cwd=self.work)
        if done.stderr.startswith("nsenter: "):
            raise HarnessError(done.stderr)
        return done.stdout

    def start_backend_of(self, backend: str, socket: str, kvm: bool) -> None:
        """In a new shell."""
        self.open_shell()
        if not kvm:
            self.type(NO_KVM)
        self.type(backend)
        self.wait_for(f"somebody to listen on {socket}", lambda: socket in
                      Path("/proc/net/unix").read_text("utf-8") and
                      (self.work / socket).exists())

    def run_pair(self, backend: str, machine: str, socket: str,
                 kvm: bool) -> None:
        self.start_backend_of(backend, socket, kvm)
        # It looks all the time: a backend need not bear what firmware does.
        self.type(LOOKOUT)
        self.type(machine)
        self.wait_for("a region in the backend",
                      (self.work / "served").exists)

    def kvm_boots(self) -> bool:
        """Some machines have a KVM on which nothing runs."""
        command = [str(QEMU), "-accel", "kvm", "-display", "none", "-serial",
                   "stdio", "-drive", f"file={self.work / 'disk.qcow2'}"]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL,
                           capture_output=True, timeout=10, check=False)
        except subprocess.TimeoutExpired as err:
            return b"BOOT from the disk" in (err.stdout or b"")
        return False

    def test_readme_disk(self) -> None:
        self.make_image()
        daemon, machine = commands(block(README, README_DISK))
        self.run_pair(daemon, machine, "disk.sock", self.kvm_boots())

    def test_disk_and_what_can_be_asked_about_it(self) -> None:
        self.make_image()
        self.run_pair(commands(block(SYSTEM, DAEMON))[0],
                      machine_of("id=disk,"), "disk.sock", self.kvm_boots())
        seen = self.inside(commands(block(SYSTEM, LOOK))[0]).split()
        self.assertIn("/memfd:memory-isolation", seen)
        self.assertIn("Verdict: no process but QEMU can map guest RAM",
                      self.draw_map())
        monitor = self.monitor()
        stats = monitor.cmd_obj(json.loads(block(SYSTEM, QMP)))
        self.assertIn("requests", stats["return"])
        line = block(SYSTEM, HMP).removeprefix("(qemu) ")
        told = monitor.cmd("human-monitor-command", **{"command-line": line})
        self.assertIn('"bytes-in"', told)
        self.look_at_disk(monitor)
        monitor.close()

    def look_at_disk(self, monitor: QEMUMonitorProtocol) -> None:
        """The process that QEMU names is the daemon, and the region is its."""
        def query() -> Any:
            return monitor.cmd_obj(json.loads(block(SYSTEM, QUERY)))["return"]

        self.wait_for("a request of the firmware's",
                      lambda: query()[0]["queues"][0]["requests"])
        disk = query()[0]
        self.assertTrue(disk["isolated"] and disk["connected"])
        backend = disk["backend"]
        self.assertEqual(backend["executable"], str(TREE_DAEMON.resolve()))
        maps = self.inside(f"cat /proc/{backend['pid']}/maps")
        self.assertIn("/memfd:memory-isolation", maps)
        self.assertGreater(disk["region"]["resident"], 0)
        line = block(SYSTEM, INFO).removeprefix("(qemu) ")
        told = monitor.cmd("human-monitor-command", **{"command-line": line})
        self.assertIn("disk0: isolated (property)", told)
        self.assertIn(", iothread io0", told)
        self.assertIn(f"process {backend['pid']} ", told)

    def test_disk_of_a_machine_with_a_policy(self) -> None:
        self.make_image()
        self.run_pair(commands(block(SYSTEM, DAEMON))[0],
                      machine_of("id=iso0,"), "disk.sock", self.kvm_boots())

    def draw_map(self) -> str:
        return self.inside(commands(block(MAP_PAGE, MAP))[0])

    def test_disk_of_the_operators_page_and_the_way_back(self) -> None:
        self.make_image()
        daemon, kvm = commands(block(RUN_PAGE, DAEMON))[0], self.kvm_boots()
        self.run_pair(daemon, machine_of("memory-isolation=on", RUN_PAGE),
                      "disk.sock", kvm)
        self.assertIn("Verdict: no process but QEMU can map guest RAM",
                      self.draw_map())
        (self.work / "disk.sock").unlink()
        self.start_backend_of(daemon, "disk.sock", kvm)
        self.type(machine_of("share=on", RUN_PAGE))
        self.wait_for("a backend that can read guest RAM", lambda:
                      "besides QEMU can read guest RAM" in self.draw_map())

    def short_path(self, name: str) -> Path:
        """@name in the work folder: a socket's name is at most 107 long."""
        folder = os.open(self.work, os.O_PATH)
        self.addCleanup(os.close, folder)
        return Path(f"/proc/self/fd/{folder}/{name}")

    def monitor(self) -> QEMUMonitorProtocol:
        self.wait_for("QEMU's monitor", (self.work / "qmp.sock").exists)
        monitor = QEMUMonitorProtocol(str(self.short_path("qmp.sock")))
        try:
            monitor.connect()
        except ConnectError as err:
            raise HarnessError(f"QEMU said: {self.said()}") from err
        return monitor

    def run_network(self, backend: str) -> None:
        self.run_pair(commands(block(SYSTEM, backend))[0],
                      machine_of("id=net,"), "net.sock", False)

    def test_network_with_passt(self) -> None:
        command = [*guest.program("passt")]
        if os.geteuid() == 0:
            command += ["--runas", "0"]
        self.script("passt", f'exec {shlex.join(command)} "$@"\n')
        self.run_network(NET_PASST)

    def test_network_with_dpdk(self) -> None:
        """Its drivers are not where they would be installed."""
        net_testpmd.fetch()
        drivers = " ".join(f"-d {net_testpmd.driver(name)}"
                           for name in net_testpmd.DRIVERS)
        self.script("dpdk-testpmd",
                    "export RUNTIME_DIRECTORY=. LD_LIBRARY_PATH="
                    f"{debian.library_path(net_testpmd.ROOT)}\nmkfifo typed\n"
                    f'exec {net_testpmd.PROGRAM} {drivers} "$@" 0<>typed\n')
        self.run_network(NET_DPDK)

    def paused(self, words: list[str]) -> None:
        """QEMU comes up with @words, and waits."""
        self.open_shell()
        self.type(shlex.join(["qemu-system-x86_64", "-S", "-m", "64",
                              *words]))
        monitor = self.monitor()
        self.assertFalse(monitor.cmd("query-status")["running"])
        monitor.close()
        self.end()
        (self.work / "qmp.sock").unlink(missing_ok=True)

    def rude(self, name: str) -> None:
        """Somebody who only answers; QEMU finds him in its folder."""
        backend = RudeBackend(self.short_path(name))
        self.addCleanup(backend.close)

    def test_file_system(self) -> None:
        self.rude("fs.sock")
        self.paused(shlex.split(commands(block(SYSTEM, PARTS[0]))[0]))

    def test_cryptography(self) -> None:
        backend = crypto_load._start(self, self.work / "notes")
        self.paused(["-chardev", f"socket,id=crypto,path={backend.socket}",
                     *shlex.split(commands(block(SYSTEM, PARTS[1]))[0])])

    def test_vdpa(self) -> None:
        """There is no such device here: that is all that is wrong."""
        words = shlex.split(commands(block(SYSTEM, PARTS[2]))[0])
        if Path("/dev/vhost-vdpa-0").exists():
            self.skipTest("not with a device of this machine")
        done = subprocess.run([str(QEMU), "-S", *words], text=True,
                              capture_output=True, check=False)
        self.assertRegex(done.stderr.strip(),
                         r"^[^\n]*vhost-vdpa-0[^\n]*No such file[^\n]*$")

    def test_other_devices(self) -> None:
        """Each row's device comes up with what it "also needs"."""
        rows = re.findall(r"  \* - (``vhost-user-.*)\n    -(.*)\n",
                          SYSTEM.read_text("utf-8").split(
                              ".. list-table:: Other devices")[1].split(
                              "\n\n  * ")[1].split("\nThose of")[0])
        self.assertGreater(len(rows), 4)
        self.rude("other.sock")
        for devices, needs in rows:
            if "Arm" in needs:
                continue
            also = "".join("," + word for word in
                           re.findall(r"``(\S+)``", needs))
            for device in re.findall(r"``(\S+?)``", devices):
                print(device, also, flush=True)
                self.paused(["-chardev", "socket,id=c,path=other.sock",
                             "-device", f"{device},chardev=c,"
                             f"memory-isolation=on{also}"])


def machine_of(word: str, page: Path = SYSTEM) -> str:
    """The command of @page that runs QEMU with @word in it."""
    found = [b for b in blocks(page) if b.startswith(MACHINE) and word in b]
    assert len(found) == 1, word
    return commands(found[0])[0]


class Blocks(IsolationTest):
    """No block is forgotten."""

    def test_each_is_known(self) -> None:
        for path in PAGES:
            for text in blocks(path):
                self.assertTrue(
                    text.lstrip().startswith(PICTURES + PARTS + COMMANDS),
                    f"{path.name}: nobody runs\n{text}")
