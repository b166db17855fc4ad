#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in which a busy VM can travel, and between which devices."""

from __future__ import annotations

import subprocess
import unittest
from pathlib import Path
from typing import Any

from harness import (QEMU_IMG, GuestVm, IsolationTest, isolation_args,
                     socket_folder, wait_until)
from qemu.qmp.qmp_client import ExecuteError
from test_lifecycle import LOAD, memory_digest

# It finds on its disk what it has written there once, whatever becomes of it.
READER = """
where="/dev/vda --size 8M --generation 7 --depth 16"
load write $where --max-request 64K || exit 1
round=0
while [ ! -e /tmp/end ]; do
    load verify $where > /tmp/log || { cat /tmp/log; exit 1; }
    round=$((round + 1))
    echo LOAD progress $round
done &
read word
touch /tmp/end
wait $!
"""
# The second disk is not isolated.  What the readers read into, nobody but the
# disks writes.
BOTH = """
load stress /dev/vdb --seconds 1000 --depth 16 --max-request 64K \\
    --generation 5 > /tmp/other &
other=$!
for disk in vda vdb; do
    while dd if=/dev/$disk of=/dev/null bs=256k iflag=direct; do :; done \\
        2> /dev/null &
done
""" + LOAD.replace("kill $load", "kill $load $other") + """
wait $other || { cat /tmp/other; exit 1; }
load verify /dev/vdb --generation 5
"""
# Slow enough for pages to be missing when the other side has begun.
SLOWLY = 16 << 20
SLOWEST = 1 << 20


def refused(err: Exception) -> bool:
    """Does the kernel lack something that QEMU would need?"""
    return any(word in str(err) for word in (
        "not supported", "serfault", "not sanely supported"))


class Ways(IsolationTest):
    """From one isolated disk to another, which has a backend of its own."""

    iothread = True
    megabytes = 192
    limit = 300
    script = LOAD
    props = ""
    # Ordinary vhost-user needs it, and QEMU wants the same on both sides.
    shared = False

    def setUp(self) -> None:
        super().setUp()
        if not self.isolated:
            self.skipTest("about what isolation makes possible")
        self.image = self.make_disk("32M")

    def disk(self, vm: GuestVm, name: str, image: Path,
             isolated: bool) -> None:
        backend = self.start_backend(image, queues=2, shared=True,
                                     name=f"{vm._name}-{name}")
        vm.add_args("-chardev", f"socket,id={name}char,path={backend.socket},"
                    "reconnect-ms=100", "-device",
                    f"vhost-user-blk-pci,id={name},chardev={name}char,"
                    f"num-queues=2{self.props}" +
                    isolation_args(vm, self.iothread, isolated))

    def side(self, name: str, *options: str, isolated: bool = True,
             **more: Path) -> GuestVm:
        """A machine; @more: other disks, which are not isolated."""
        vm = GuestVm(self.work, name)
        self.addCleanup(vm.end)
        vm.add_memory(self.megabytes, self.shared)
        vm.add_args("-smp", "2", *options)
        self.disk(vm, "disk0", self.image, isolated)
        for other, image in more.items():
            self.disk(vm, other, image, False)
        vm.add_job(self.script)
        vm.launch()
        return vm

    def begin(self, *options: str, **more: Any) -> GuestVm:
        vm = self.side("source", *options, **more)
        vm.wait_serial("^LOAD progress")
        return vm

    def uri(self, name: str = "migration") -> str:
        path = socket_folder(self.work) / f"{name}.sock"
        path.unlink(missing_ok=True)
        return f"unix:{path}"

    def enable(self, vm: GuestVm, *words: str, **parameters: int) -> None:
        """Capabilities, and parameters with "_" for "-"."""
        try:
            vm.cmd("migrate-set-capabilities", capabilities=[
                {"capability": w, "state": True} for w in words])
        except ExecuteError as err:
            if refused(err):
                self.skipTest(f"{words[0]}: {err}")
            raise
        if parameters:
            vm.cmd("migrate-set-parameters", **{
                k.replace("_", "-"): v for k, v in parameters.items()})

    def wait_status(self, vm: GuestVm, *words: str) -> None:
        def status() -> str:
            now = vm.cmd("query-migrate")
            self.assertNotEqual(now.get("status"), "failed", now)
            return str(now.get("status"))
        wait_until(lambda: status() in words, 100, " or ".join(words))

    def incoming(self, *words: str, **options: Any) -> tuple[GuestVm, str]:
        """With the capabilities @words; it is stopped when all has come."""
        vm = self.side("other", "-S", "-incoming", "defer", **options)
        uri = self.uri()
        if words:
            self.enable(vm, *words)
        vm.cmd("migrate-incoming", uri=uri)
        return vm, uri

    def finish(self, vm: GuestVm) -> None:
        """Where it came to it works, and has lost nothing."""
        vm.wait_serial("^LOAD progress", start=len(vm.serial_text()))
        vm.say("end")
        self.expect_ok(vm, 200)
        self.verify_image(self.image, *self.content())

    def content(self) -> list[str]:
        return ["--generation", "7"] + (["--size", "8M"] if
                                        self.script is READER else [])

    def arrive(self, source: GuestVm, other: GuestVm) -> None:
        """With the memory that it had."""
        self.wait_status(source, "completed")
        self.wait_status(other, "completed")
        size = self.megabytes << 20
        self.assertEqual(memory_digest(source, size),
                         memory_digest(other, size))
        source.end()
        other.cmd("cont")


class Streams(Ways):
    """All at once, to a file, or page by page."""

    def test_multifd(self) -> None:
        other, uri = self.incoming("multifd")
        source = self.begin()
        self.enable(source, "multifd")
        source.cmd("migrate", uri=uri)
        self.arrive(source, other)
        self.finish(other)

    def test_mapped_ram(self) -> None:
        source = self.begin()
        state = self.work / "state"
        self.addCleanup(state.unlink, missing_ok=True)
        self.enable(source, "mapped-ram", "multifd")
        source.cmd("migrate", uri=f"file:{state}")
        self.wait_status(source, "completed")
        other = self.side("other", "-S", "-incoming", "defer")
        self.enable(other, "mapped-ram", "multifd")
        other.cmd("migrate-incoming", uri=f"file:{state}")
        self.arrive(source, other)
        self.finish(other)

    def go_ahead(self, speed: int) -> tuple[GuestVm, GuestVm]:
        """The other side runs, and does not have all pages yet."""
        words = ("postcopy-ram", "postcopy-preempt")
        other, uri = self.incoming(*words)
        other.cmd("cont")
        source = self.begin()
        self.enable(source, *words, max_bandwidth=SLOWLY,
                    max_postcopy_bandwidth=speed)
        source.cmd("migrate", uri=uri)
        # At once: it must not be over before.
        source.cmd("migrate-start-postcopy")
        self.wait_status(source, "postcopy-active", "completed")
        return source, other

    def test_postcopy(self) -> None:
        source, other = self.go_ahead(SLOWLY)
        self.wait_status(source, "completed")
        self.wait_status(other, "completed")
        source.end()
        self.finish(other)

    @staticmethod
    def listen_again(vm: GuestVm, uri: str) -> None:
        """Out of band: the main loop may wait for a page."""
        command = {"exec-oob": "migrate-recover", "id": "again",
                   "arguments": {"uri": uri}}
        wait_until(lambda: "return" in vm._qmp.cmd_obj(command), 60,
                   "the other side to listen again")

    def test_postcopy_interrupted(self) -> None:
        """The network breaks in the middle, and comes back."""
        source, other = self.go_ahead(SLOWEST)
        # QEMU does not recover what broke while devices were being loaded.
        wait_until(lambda: other.cmd("query-status")["status"] == "running",
                   100, "the other side to run")
        source.cmd("migrate-pause")
        self.wait_status(source, "postcopy-paused")
        uri = self.uri("again")
        self.listen_again(other, uri)
        source.cmd("migrate-set-parameters",
                   **{"max-postcopy-bandwidth": 0})
        source.cmd("migrate", uri=uri, resume=True)
        self.wait_status(source, "completed")
        self.wait_status(other, "completed")
        source.end()
        self.finish(other)


class Snapshots(Ways):
    """The VM goes back to where it was: its disk must not have changed."""

    script = READER

    def test_saved_while_it_runs(self) -> None:
        source = self.begin()
        state = self.work / "state"
        self.addCleanup(state.unlink, missing_ok=True)
        self.enable(source, "background-snapshot")
        source.cmd("migrate", uri=f"file:{state}")
        self.wait_status(source, "completed")
        self.assertEqual(source.cmd("query-status")["status"], "running")
        self.finish(source)
        other = self.side("other", "-incoming", f"file:{state}")
        self.finish(other)

    def job(self, vm: GuestVm, command: str) -> None:
        vm.cmd(command, **{"job-id": command, "tag": "here", "vmstate": "state",
                           "devices": ["state"]})

        def concluded() -> dict[str, Any] | None:
            return next((j for j in vm.cmd("query-jobs")
                         if j["id"] == command and
                         j["status"] == "concluded"), None)
        job = wait_until(concluded, 100, command)
        self.assertNotIn("error", job)
        vm.cmd("job-dismiss", id=command)

    def go_back(self) -> None:
        """To a snapshot in a qcow2 image, twice."""
        image = self.work / "state.qcow2"
        self.addCleanup(image.unlink, missing_ok=True)
        subprocess.run([str(QEMU_IMG), "create", "-q", "-f", "qcow2",
                        str(image), "64M"], check=True)
        vm = self.begin("-blockdev", "driver=qcow2,node-name=state,"
                        f"file.driver=file,file.filename={image}")
        self.job(vm, "snapshot-save")
        for _ in range(2):
            self.expect_progress(vm)
            self.job(vm, "snapshot-load")
        self.finish(vm)

    def test_snapshots_in_an_image(self) -> None:
        self.go_back()

    def test_snapshots_in_an_image_packed(self) -> None:
        self.props = ",packed=on"
        self.go_back()


class Kinds(Ways):
    """Between disks that are isolated and disks that are not."""

    shared = True

    def change(self, *isolated: bool) -> None:
        other, uri = self.incoming(isolated=isolated[1])
        source = self.begin(isolated=isolated[0])
        source.cmd("migrate", uri=uri)
        self.arrive(source, other)
        self.finish(other)

    def test_on_to_off(self) -> None:
        self.change(True, False)

    def test_off_to_on(self) -> None:
        self.change(False, True)

    def test_on_to_off_packed(self) -> None:
        """The storage daemon has no packed rings: refused, and not lost."""
        self.props = ",packed=on"
        other, uri = self.incoming(isolated=False)
        source = self.begin()
        source.cmd("migrate", uri=uri)
        wait_until(lambda: not other.is_running(), 100, "a refusal")
        other.end()
        self.assertRegex(other.qemu_log(), "Features 0x.* unsupported")
        wait_until(lambda: source.cmd("query-migrate").get("status") in (
            "failed", "completed"), 100, "an end")
        source.cmd("cont")
        self.finish(source)

    def test_off_to_on_packed(self) -> None:
        self.props = ",packed=on"
        self.change(False, True)

    def test_beside_one_that_is_not_isolated(self) -> None:
        """Whose backend logs what it writes, as ever."""
        self.script = BOTH
        plain = self.make_disk("32M", "plain.img")
        source = self.begin(disk1=plain)
        other, uri = self.incoming(disk1=plain)
        source.cmd("migrate", uri=uri)
        self.arrive(source, other)
        self.finish(other)
        self.verify_image(plain, "--generation", "5")


if __name__ == "__main__":
    unittest.main()
