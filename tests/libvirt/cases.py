#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/system says about libvirt, done with a libvirt.

    cases.py [CASE...]

Runs as root in a bare Debian that has the packages; see
scripts/lib/libvirt_try.sh.  Prints TAP.  The cases that use one domain follow
each other, as its life does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import traceback
import xml.etree.ElementTree as ElementTree
from typing import Callable

from stage import Host, StageError, memfds, wait_until
from doc_blocks import block, commands
from life import LOG, NAME, PAGE, QEMU_SPACE, REGION, WORK, Life

STRESS = ("load stress /dev/{disk} --seconds 1000 --depth 8 --generation 7 "
          "--progress 1 & load=$!")
VERIFY = "kill $load; wait $load && load verify /dev/{disk} --generation 7"


class Skip(Exception):
    """What a case needs is not here; the text says what."""


class Cases(Life):
    """In this order."""

    def without_isolation_the_backend_has_guest_ram(self) -> None:
        """What the others look for can be seen."""
        self.start_disk(self.host)
        self.plain().write(WORK / "stock.xml")
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

    def more_words(self) -> list[str]:
        """The daemon of the disk that is plugged in."""
        return [w.replace("disk.img", "more.img").replace("disk.sock",
                                                          "more.sock")
                for w in self.command("host# qemu-storage-daemon")]

    def disk_is_plugged_and_unplugged(self) -> None:
        image = WORK / "more.img"
        with image.open("wb") as file:
            file.truncate(32 << 20)
        path = self.piece("<disk type='vhostuser'", "more")
        for _ in range(2):
            self.host.start_backend("more.sock", self.more_words())
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

    def start_with_all(self, definition: str) -> None:
        """A disk, which is served already, a file system and a network."""
        self.start_file_system()
        self.start_network("host# passt" if self.passt
                           else "host# dpdk-testpmd")
        self.host.virsh("define", definition)
        self.host.virsh("start", NAME)
        self.boot()
        self.check_file_system()
        self.check_network()
        self.expect_region("disk.sock", "fs.sock", "net.sock")

    def file_system_and_network_from_the_start(self) -> None:
        self.destroy()
        if "disk.sock" not in self.host.backends:
            self.start_disk(self.host)
        self.start_with_all(self.compose())

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

    # One policy

    def compose_with_policy(self) -> str:
        """The page's domain, with that instead of -global and override."""
        tree = self.plain()
        root = tree.getroot()
        space = QEMU_SPACE.strip("{}")
        whole = block(PAGE, "<qemu:commandline>").replace(
            "<qemu:commandline>", f"<qemu:commandline xmlns:qemu='{space}'>")
        root.append(ElementTree.fromstring(whole))
        devices = self.find(root, "devices")
        for begin in ("<filesystem", "<interface type='vhostuser'"):
            devices.append(ElementTree.fromstring(block(PAGE, begin)))
        path = WORK / "policy.xml"
        tree.write(path)
        return str(path)

    def policy_isolates_all(self) -> None:
        self.destroy()
        for socket in ("fs.sock", "net.sock"):
            self.host.end_backend(socket)
        self.start_with_all(self.compose_with_policy())

    def policy_isolates_and_refuses_what_is_plugged(self) -> None:
        self.disk_is_plugged_and_unplugged()
        self.host.start_backend("more.sock", self.more_words())
        for line, expected in (
                ("chardev-add socket,id=more,path=/run/backends/more.sock", ""),
                ("device_add vhost-user-blk-pci,chardev=more,"
                 "memory-isolation=off", "policy=require")):
            said = self.host.virsh("qemu-monitor-command", "--hmp", NAME, line)
            if expected not in said or bool(said.strip()) != bool(expected):
                raise StageError(f"{line}: {said}")
        self.host.end_backend("more.sock")
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


CASES: list[Callable[[Cases], None]] = [
    Cases.without_isolation_the_backend_has_guest_ram,
    Cases.domain_starts_and_boots,
    Cases.no_backend_has_guest_ram,
    Cases.suspend_and_resume_under_load,
    Cases.guest_reboots,
    Cases.disk_is_plugged_and_unplugged,
    Cases.saved_and_restored_under_load,
    Cases.file_system_and_network_from_the_start,
    Cases.all_of_them_after_a_pause_and_a_reboot,
    Cases.file_system_is_unplugged_and_plugged,
    Cases.network_is_unplugged_and_plugged,
    Cases.network_of_dpdk,
    Cases.policy_isolates_all,
    Cases.policy_isolates_and_refuses_what_is_plugged,
    Cases.migrates_under_load,
]


def main() -> int:
    wanted = sys.argv[1:]
    shutil.rmtree(LOG, ignore_errors=True)
    LOG.write_bytes(b"")
    life = Cases()
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
