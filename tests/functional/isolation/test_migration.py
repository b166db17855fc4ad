#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A busy VM moves between QEMUs, with backends that know of no migration."""

from __future__ import annotations

import os
import random
import time
import unittest
from pathlib import Path

import small_load
from events import event
from harness import IsolationTest, long_form, socket_folder, wait_until
from hostile_machine import HostileBackend, Setting
from test_lifecycle import memory_digest

# Both disks at once, and a network that answers each packet.  What the reader
# reads into, nobody but the disk writes: QEMU alone can know of that.
LOAD = """
modprobe virtio_net
modprobe virtio_scsi
modprobe sd_mod
for try in $(seq 6000); do
    [ -e /sys/block/sda ] && [ -e /sys/class/net/eth0 ] && break
    usleep 50000
done
ip addr add 10.0.9.2/24 dev eth0 && ip link set eth0 up
ping -i 0.1 -s 1000 10.0.9.1 | while read line; do echo PING $line; done &
load stress /dev/sda --seconds 10000 --depth 16 --max-request 64K \\
    --generation 5 > /tmp/sda &
scsi=$!
load stress /dev/vda --seconds 10000 --depth 24 --max-request 256K \\
    --segments 100 --generation 7 --progress 1 &
blk=$!
while dd if=/dev/vda of=/dev/null bs=256k iflag=direct; do :; done 2> /dev/null &
reader=$!
read word
kill $blk $scsi $reader
wait $scsi || { cat /tmp/sda; exit 1; }
wait $blk && load verify /dev/vda --generation 7 &&
    load verify /dev/sda --generation 5
"""
ANSWERED = r"^PING .* seq=\d+ "


class Side:
    """A QEMU and its backends, in a place of its own."""

    def __init__(self, test: Migration, number: int, *options: str) -> None:
        scsi = small_load.compile_backend("scsi")
        name = f"side{number}"
        self.disk = test.start_backend(test.disk, queues=2, shared=True,
                                       name=f"{name}-disk")
        self.scsi = test.start_program(
            [str(scsi), "{socket}", str(test.unit)], f"{name}-scsi")
        net = socket_folder(test.work) / f"{name}-net.sock"
        # Honest, if it is told of no move.
        self.net = HostileBackend(net, test.work / f"{name}-net.log",
                                  Setting("net"), "none", False)
        test.addCleanup(self.net.kill)
        self.vm = test.make_vm(name)
        self.vm.add_args("-smp", "2", *options)
        test.add_disk(self.vm, self.disk.socket, props=",num-queues=2",
                      chardev=",reconnect-ms=100")
        on = ",memory-isolation=on"
        self.vm.add_args(
            "-chardev", f"socket,id=scsi,path={self.scsi.socket},"
            "reconnect-ms=100",
            "-device", f"vhost-user-scsi-pci,id=scsi0,chardev=scsi{on}",
            "-chardev", f"socket,id=net,path={net},"
            "reconnect-ms=100",
            "-netdev", f"vhost-user,id=net0,chardev=net{on}",
            "-device", "virtio-net-pci,id=nic0,netdev=net0,romfile=")
        self.vm.add_job(LOAD)
        self.vm.launch()

    def end(self) -> None:
        self.vm.end()
        self.disk.stop()
        self.scsi.stop()
        self.net.kill()


class Migration(IsolationTest):
    """There is nothing in a backend that a migration would need."""

    megabytes = 160
    limit = 400

    def setUp(self) -> None:
        super().setUp()
        if not self.isolated:
            self.skipTest("these backends cannot log what they write")
        self.disk = self.make_disk("32M")
        self.unit = self.make_disk("16M", "unit.img")
        self.random = random.Random(os.environ.get("MIGRATION_SEED", "1"))
        self.numbers = iter(range(1000))

    def side(self, *options: str) -> Side:
        return Side(self, next(self.numbers), *options)

    def begin(self) -> Side:
        side = self.side()
        self.expect_service(side)
        return side

    def socket(self) -> Path:
        return socket_folder(self.work) / "migration.sock"

    def coming(self) -> Side:
        self.socket().unlink(missing_ok=True)
        return self.side("-S", "-incoming", f"unix:{self.socket()}")

    def send(self, side: Side) -> None:
        side.vm.cmd("migrate", uri=f"unix:{self.socket()}")

    @staticmethod
    def status(side: Side) -> str:
        return str(side.vm.cmd("query-migrate").get("status"))

    def wait_status(self, side: Side, *words: str) -> str:
        wait_until(lambda: self.status(side) in words, 60, " or ".join(words))
        return self.status(side)

    def expect_service(self, side: Side) -> None:
        """Both kinds of disk and the network, from now on."""
        start = len(side.vm.serial_text())
        side.vm.wait_serial(ANSWERED, start=start)
        side.vm.wait_serial("^LOAD progress", start=start)
        before = side.vm.isolation_stats("scsi0")["requests"]
        wait_until(lambda: side.vm.isolation_stats("scsi0")["requests"] >
                   before, 60, "requests of the SCSI disk")

    def finish(self, side: Side) -> None:
        side.vm.say("end")
        self.expect_ok(side.vm, 200)
        self.verify_image(self.disk, "--generation", "7")
        self.verify_image(self.unit, "--generation", "5")

    def move(self, side: Side) -> Side:
        other = self.coming()
        self.send(side)
        self.assertEqual(self.wait_status(side, "completed", "failed"),
                         "completed", side.vm.qemu_log())
        self.wait_status(other, "completed")
        size = self.megabytes << 20
        self.assertEqual(memory_digest(side.vm, size),
                         memory_digest(other.vm, size))
        side.end()
        other.vm.cmd("cont")
        return other

    def stay(self, side: Side, word: str) -> None:
        """The migration ends with @word, or too late for that."""
        if self.wait_status(side, word, "completed") == "completed":
            side.vm.cmd("cont")

    def there_and_back(self, times: int) -> None:
        side = self.begin()
        for _ in range(times):
            side = self.move(side)
            self.expect_service(side)
        self.finish(side)

    def test_there_and_back_under_load(self) -> None:
        self.there_and_back(4)

    @long_form
    @event("Disks and network",
           "The VM is migrated twenty times under load.", "Nothing.",
           off="Not possible: these backends cannot log what they write.")
    def test_there_and_back_twenty_times_under_load(self) -> None:
        self.there_and_back(20)

    def cancelled(self, times: int) -> None:
        side = self.begin()
        for _ in range(times):
            other = self.coming()
            self.send(side)
            time.sleep(self.random.uniform(0, 1.2))
            side.vm.cmd("migrate_cancel")
            self.stay(side, "cancelled")
            other.end()
            self.expect_service(side)
        self.finish(side)

    def test_cancelled_at_random_moments(self) -> None:
        self.cancelled(3)

    @long_form
    def test_cancelled_twenty_times_at_random_moments(self) -> None:
        self.cancelled(20)

    def destinations_die(self, times: int) -> None:
        side = self.begin()
        for _ in range(times):
            other = self.coming()
            self.send(side)
            time.sleep(self.random.uniform(0, 1.2))
            other.end()
            self.stay(side, "failed")
            self.expect_service(side)
        self.finish(side)

    def test_destination_that_dies(self) -> None:
        self.destinations_die(2)

    @long_form
    def test_twenty_destinations_that_die(self) -> None:
        self.destinations_die(20)


if __name__ == "__main__":
    unittest.main()
