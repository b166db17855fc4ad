#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/system says about libvirt, done with a libvirt.

    cases.py [CASE...]

Runs as root in a bare Debian that has the packages; see
scripts/lib/libvirt_try.sh.  Prints TAP.  The cases that use one domain follow
each other, as its life does.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import traceback
import xml.etree.ElementTree as ElementTree
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable

from stage import BACKENDS, TOP, Console, Host, StageError, memfds, wait_until
from doc_blocks import block, commands

PAGE = TOP / "docs/system/devices/vhost-user-memory-isolation-libvirt.rst"
DEVICES = TOP / "docs/system/devices/vhost-user-memory-isolation.rst"
WORK = Path("/srv")
LOG = WORK / "log"
IMAGE = WORK / "disk.img"
NAME = "guest"
REGION = {"/memfd:memory-isolation"}
QEMU_SPACE = "{http://libvirt.org/schemas/domain/qemu/1.0}"
STRESS = ("load stress /dev/{disk} --seconds 1000 --depth 8 --generation 7 "
          "--progress 1 & load=$!")
VERIFY = "kill $load; wait $load && load verify /dev/{disk} --generation 7"


class Skip(Exception):
    """What a case needs is not here; the text says what."""


class Giver(SimpleHTTPRequestHandler):
    """Gives files away and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


class Life:
    """A host with a domain, which each case leaves as the next one wants it."""

    def __init__(self) -> None:
        self.host = Host("one", LOG)
        self.console: Console | None = None
        self.others: list[Host] = []
        self.passt = shutil.which("passt") is not None

    # What the page says

    def command(self, begin: str) -> list[str]:
        return shlex.split(commands(block(PAGE, begin))[0])

    def piece(self, begin: str, name: str) -> str:
        """A block of XML, as a file."""
        path = WORK / f"{name}.xml"
        path.write_text(block(PAGE, begin), "utf-8")
        return str(path)

    # What several cases do

    def start_disk(self, host: Host) -> int:
        return host.start_backend("disk.sock",
                                  self.command("host# qemu-storage-daemon"))

    def compose(self) -> str:
        """The page's domain with its file system and its network."""
        tree = ElementTree.parse(self.piece("<domain", "domain"))
        root = tree.getroot()
        filesystem = ElementTree.fromstring(block(PAGE, "<filesystem"))
        self.find(root, "devices").append(filesystem)
        arguments = block(PAGE, "<qemu:arg value='-chardev'").replace(
            "qemu:arg", "arg")
        for argument in ElementTree.fromstring(f"<a>{arguments}</a>"):
            argument.tag = QEMU_SPACE + "arg"
            self.find(root, QEMU_SPACE + "commandline").append(argument)
        path = WORK / "composed.xml"
        tree.write(path)
        return str(path)

    @staticmethod
    def find(root: ElementTree.Element, tag: str) -> ElementTree.Element:
        found = root.find(tag)
        assert found is not None, tag
        return found

    def boot(self, seconds: float = 120) -> None:
        """The guest comes up from its disk."""
        self.open_console()
        assert self.console is not None
        self.console.wait("GRUB read what is there|RESULT fail", seconds)
        self.console.wait("^JOB ready", seconds)

    def open_console(self) -> None:
        self.close_console()
        self.console = Console(self.host, NAME)

    def close_console(self) -> None:
        if self.console is not None:
            self.console.close()
            self.console = None

    def run(self, command: str, seconds: float = 60) -> str:
        assert self.console is not None
        return self.console.run(command, seconds)

    def expect_region(self, *sockets: str) -> None:
        """These backends have a region of ours and nothing else."""
        for socket in sockets:
            wait_until(lambda: self.host.shared(socket, NAME), 30,
                       f"a region behind {socket}")
            if self.host.shared(socket, NAME) != REGION:
                raise StageError(f"{socket} has "
                                 f"{self.host.shared(socket, NAME)}")

    def destroy(self) -> None:
        self.close_console()
        self.host.try_virsh("destroy", NAME)
        self.host.try_virsh("undefine", NAME)

    # The cases

    def without_isolation_the_backend_has_guest_ram(self) -> None:
        """What the others look for can be seen."""
        self.start_disk(self.host)
        path = self.piece("<domain", "domain")
        tree = ElementTree.parse(path)
        root = tree.getroot()
        for part in ("commandline", "override"):
            root.remove(self.find(root, QEMU_SPACE + part))
        tree.write(WORK / "stock.xml")
        self.host.virsh("create", str(WORK / "stock.xml"))
        wait_until(lambda: self.host.shared("disk.sock", NAME) - REGION, 60,
                   "guest RAM in the backend")
        self.destroy()
        self.host.end_backend("disk.sock")

    def domain_starts_and_boots(self) -> None:
        self.start_disk(self.host)
        self.host.virsh("define", self.piece("<domain", "domain"))
        self.host.virsh("start", NAME)
        self.boot()
        self.run("load write /dev/vda3 --generation 7 && "
                 "load verify /dev/vda3 --generation 7")

    def no_backend_has_guest_ram(self) -> None:
        """It is shared memory, since libvirt wants that; QEMU alone has it."""
        own = memfds(self.host.qemu_pid(NAME)).values()
        if not set(own) - REGION:
            raise StageError("QEMU has no shared memory for its guest")
        self.expect_region("disk.sock")
        said = subprocess.run(["sh", "-c", commands(
            block(PAGE, "host# grep memfd"))[0]], check=True,
            capture_output=True, text=True).stdout
        if set(re.findall(r"/memfd:[\w-]+", said)) != REGION:
            raise StageError(f"the page's command says {said!r}")

    def suspend_and_resume_under_load(self) -> None:
        self.run(STRESS.format(disk="vda3"))
        for _ in range(5):
            self.host.virsh("suspend", NAME)
            self.host.virsh("resume", NAME)
        self.progress()
        self.run(VERIFY.format(disk="vda3"), 120)

    def progress(self) -> None:
        """Requests are done now."""
        assert self.console is not None
        for _ in range(2):
            self.console.wait("^LOAD progress", 60, len(self.console.text))

    def guest_reboots(self) -> None:
        assert self.console is not None
        for way in ("guest", "host"):
            before = len(self.console.text)
            if way == "guest":
                self.console.begin("reboot -f")
            else:
                self.host.virsh("reset", NAME)
            self.console.wait("GRUB read what is there", 120, before)
            self.console.wait("^JOB ready", 120, before)
        self.run("load verify /dev/vda3 --generation 7")
        self.expect_region("disk.sock")

    def disk_is_plugged_and_unplugged(self) -> None:
        image = WORK / "more.img"
        with image.open("wb") as file:
            file.truncate(32 << 20)
        words = [w.replace("disk.img", "more.img").replace("disk.sock",
                                                           "more.sock")
                 for w in self.command("host# qemu-storage-daemon")]
        path = self.piece("<disk type='vhostuser'", "more")
        for _ in range(2):
            self.host.start_backend("more.sock", words)
            self.host.virsh("attach-device", NAME, path)
            self.run("n=0; until [ -e /dev/vdb ] || [ $n = 300 ]; do "
                     "usleep 100000; n=$((n + 1)); done; "
                     "load write /dev/vdb --generation 7 && "
                     "load verify /dev/vdb --generation 7", 120)
            self.expect_region("disk.sock", "more.sock")
            self.host.virsh("detach-device", NAME, path)
            wait_until(lambda: "more.sock" not in
                       self.host.virsh("dumpxml", NAME), 60,
                       "the disk to be gone")
            self.host.end_backend("more.sock")

    def saved_and_restored_under_load(self) -> None:
        self.run(STRESS.format(disk="vda3"))
        self.progress()
        state = WORK / "state"
        self.host.virsh("save", NAME, str(state))
        self.close_console()
        self.host.virsh("restore", str(state))
        state.unlink()
        self.open_console()
        self.progress()
        self.run(VERIFY.format(disk="vda3"), 120)
        self.expect_region("disk.sock")


    # File systems and networks

    def start_file_system(self) -> None:
        shared = WORK / "shared"
        shared.mkdir(exist_ok=True)
        (shared / "host").write_bytes(b"from the host\n" * 5000)
        command = self.command("host# /usr/libexec/virtiofsd")
        if not Path(command[0]).exists():
            # Debian 12's is in C, and has other words for it.
            command = ["/usr/lib/qemu/virtiofsd", command[1], "-o",
                       f"source={shared}"]
        self.host.start_backend("fs.sock", command)

    def check_file_system(self) -> None:
        """Contents are right on both sides."""
        shared = WORK / "shared"
        self.run("mkdir -p /mnt/fs && mount -t virtiofs shared /mnt/fs && "
                 "dd if=/dev/urandom of=/mnt/fs/guest bs=64k count=50 && "
                 "sync && rm -f /tmp/sums && for f in host guest; do "
                 "sha256sum < /mnt/fs/$f >> /tmp/sums; done && "
                 "cp /tmp/sums /mnt/fs/ && umount /mnt/fs")
        sums = [line.split()[0] for line in
                (shared / "sums").read_text("ascii").splitlines()]
        right = [hashlib.sha256((shared / name).read_bytes()).hexdigest()
                 for name in ("host", "guest")]
        if sums != right:
            raise StageError("the guest and the host see different files")

    def start_network(self, begin: str) -> None:
        command = shlex.split(commands(block(DEVICES, begin))[0])
        if command[0] == "passt":
            command += ["--runas", "0"]
        self.host.start_backend("net.sock", command, cwd=BACKENDS,
                                stdin=subprocess.PIPE)
        typed = self.host.backends["net.sock"].stdin
        assert typed is not None
        if command[0] != "passt":
            typed.write(b"start\n")
            typed.flush()

    def check_passt(self) -> None:
        """The guest gets an address, and a file from this host."""
        content = os.urandom(3 << 20)
        (WORK / "www").mkdir(exist_ok=True)
        (WORK / "www/file").write_bytes(content)
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(
                Giver, directory=str(WORK / "www")))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            said = self.run(
                "ip link set eth0 up && printf '#!/bin/sh\\n[ $1 = bound ] && "
                "ip addr add $ip/$mask dev eth0 && echo $router > "
                "/tmp/router\\n' > /tmp/s; chmod +x /tmp/s; "
                "udhcpc -i eth0 -n -q -s /tmp/s; "
                "wget -q -O /tmp/file http://$(cat /tmp/router):"
                f"{server.server_port}/file && sha256sum < /tmp/file", 120)
        finally:
            server.shutdown()
        if hashlib.sha256(content).hexdigest() not in said:
            raise StageError(f"another file came: {said[-200:]!r}")

    def check_dpdk(self) -> None:
        """What the guest sends comes back: testpmd has one port only."""
        self.run("ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up && "
                 "n=0; until [ $(cat /sys/class/net/eth0/statistics/"
                 "rx_packets) -ge 20 ] || [ $n = 60 ]; do "
                 "arping -c 1 -w 1 -I eth0 10.0.0.2; n=$((n + 1)); done; "
                 "[ $n -lt 60 ]", 120)

    def check_network(self) -> None:
        if self.passt:
            self.check_passt()
        else:
            self.check_dpdk()

    def file_system_and_network_from_the_start(self) -> None:
        self.destroy()
        if "disk.sock" not in self.host.backends:
            self.start_disk(self.host)
        self.start_file_system()
        self.start_network("host# passt" if self.passt
                           else "host# dpdk-testpmd")
        self.host.virsh("define", self.compose())
        self.host.virsh("start", NAME)
        self.boot()
        self.check_file_system()
        self.check_network()
        self.expect_region("disk.sock", "fs.sock", "net.sock")

    def all_of_them_after_a_pause_and_a_reboot(self) -> None:
        assert self.console is not None
        self.host.virsh("suspend", NAME)
        self.host.virsh("resume", NAME)
        self.check_file_system()
        before = len(self.console.text)
        self.console.begin("reboot -f")
        self.console.wait("^JOB ready", 120, before)
        self.check_file_system()
        self.check_network()
        self.expect_region("disk.sock", "fs.sock", "net.sock")

    def file_system_is_unplugged_and_plugged(self) -> None:
        path = self.piece("<filesystem", "fs")
        self.host.virsh("detach-device", NAME, path)
        wait_until(lambda: "fs.sock" not in self.host.virsh("dumpxml", NAME),
                   60, "the file system to be gone")
        self.host.end_backend("fs.sock")
        self.start_file_system()
        self.host.virsh("attach-device", NAME, path)
        self.run("n=0; until grep -q 0x001a "
                 "/sys/bus/virtio/devices/*/device || [ $n = 300 ]; do "
                 "usleep 100000; n=$((n + 1)); done")
        self.check_file_system()
        self.expect_region("disk.sock", "fs.sock", "net.sock")

    def network_is_unplugged_and_plugged(self) -> None:
        for line in block(PAGE, "(qemu) device_del").splitlines():
            line = line.removeprefix("(qemu) ")
            said = self.host.virsh("qemu-monitor-command", "--hmp", NAME, line)
            if said.strip():
                raise StageError(f"{line}: {said}")
            if line.startswith("device_del"):
                self.run("n=0; while [ -e /sys/class/net/eth0 ] && "
                         "[ $n -lt 300 ]; do usleep 100000; n=$((n + 1)); "
                         "done")
        self.run("n=0; until [ -e /sys/class/net/eth0 ] || [ $n = 300 ]; do "
                 "usleep 100000; n=$((n + 1)); done")
        self.check_network()
        self.expect_region("disk.sock", "fs.sock", "net.sock")

    def network_of_dpdk(self) -> None:
        if not self.passt:
            raise Skip("this Debian has no passt: it was DPDK all the time")
        self.destroy()
        for socket in ("fs.sock", "net.sock"):
            self.host.end_backend(socket)
        self.start_file_system()
        self.start_network("host# dpdk-testpmd")
        self.host.virsh("define", self.compose())
        self.host.virsh("start", NAME)
        self.boot()
        self.check_dpdk()
        self.check_file_system()
        self.expect_region("disk.sock", "fs.sock", "net.sock")

    # Migration

    def migrates_under_load(self) -> None:
        """To another host, whose backend has the same image."""
        self.destroy()
        for socket in list(self.host.backends):
            self.host.end_backend(socket)
        other = Host("two", LOG)
        self.others.append(other)
        other.become_another()
        other.start()
        words = [w.replace("driver=file,", "driver=file,locking=off,")
                 for w in self.command("host# qemu-storage-daemon")]
        for host in (self.host, other):
            host.start_backend("disk.sock", words)
        self.host.virsh("define", self.piece("<domain", "domain"))
        self.host.virsh("start", NAME)
        self.boot()
        self.run("load write /dev/vda3 --generation 7")
        self.run(STRESS.format(disk="vda3"))
        self.progress()
        self.host.virsh("migrate", "--live", "--undefinesource",
                        "--persistent", NAME, other.uri, "--migrateuri",
                        "tcp://127.0.0.1")
        if NAME in self.host.virsh("list", "--name", "--all").split():
            raise StageError("it is still at its source")
        here = self.host
        self.host = other
        try:
            self.open_console()
            self.progress()
            self.run(VERIFY.format(disk="vda3"), 120)
            self.expect_region("disk.sock")
            self.destroy()
        finally:
            self.host = here


CASES: list[Callable[[Life], None]] = [
    Life.without_isolation_the_backend_has_guest_ram,
    Life.domain_starts_and_boots,
    Life.no_backend_has_guest_ram,
    Life.suspend_and_resume_under_load,
    Life.guest_reboots,
    Life.disk_is_plugged_and_unplugged,
    Life.saved_and_restored_under_load,
    Life.file_system_and_network_from_the_start,
    Life.all_of_them_after_a_pause_and_a_reboot,
    Life.file_system_is_unplugged_and_plugged,
    Life.network_is_unplugged_and_plugged,
    Life.network_of_dpdk,
    Life.migrates_under_load,
]


def main() -> int:
    wanted = sys.argv[1:]
    shutil.rmtree(LOG, ignore_errors=True)
    LOG.write_bytes(b"")
    life = Life()
    status = 0
    try:
        life.host.start()
        for number, case in enumerate(CASES, 1):
            name = case.__name__.replace("_", "-")
            if wanted and name not in wanted:
                continue
            try:
                case(life)
                print(f"ok {number} {name}", flush=True)
            except Skip as why:
                print(f"ok {number} {name} # SKIP {why}", flush=True)
            except Exception as err:    # the next ones have no domain then
                traceback.print_exc()
                print(f"not ok {number} {name}: {err}", flush=True)
                status = 1
                break
        life.destroy()
    finally:
        for host in (*life.others, life.host):
            host.end()
    return status


if __name__ == "__main__":
    sys.exit(main())
