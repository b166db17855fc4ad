# SPDX-License-Identifier: GPL-2.0-or-later
"""A big-endian guest: Linux on s390x, channel I/O and PCI.

Payloads and rings of virtio 1.0 are little-endian whatever the guest is, and
the transport is another one than PCI; so this meets what a PC never does.  Not
so with a shared file system: FUSE has the guest's byte order, which virtiofsd
does not bear, with isolation or without.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import net_tcp
from harness import BUILD, GuestVm, guest, isolation_args, on_both_threads
from net_testpmd import Testpmd
import s390x

QEMU = BUILD / "qemu-s390x/qemu-system-s390x"
SIZE = 8 << 20

SCRIPT = """
set -e
modprobe virtio_net
ip link set eth0 mtu {mtu} up
dd if=/dev/urandom of=/tmp/random bs=64K count={chunks} 2> /dev/null
echo RANDOM $(sha256sum < /tmp/random)
dd if=/tmp/random of=/dev/vda bs=256K conv=fsync 2> /dev/null
echo 3 > /proc/sys/vm/drop_caches
echo DISK $(dd if=/dev/vda bs=64K count={chunks} 2> /dev/null | sha256sum)
echo HOST $(dd if=/dev/vda bs=64K skip={chunks} count={chunks} 2> /dev/null |
            sha256sum)
{transfer}
"""
LEGACY = """
modprobe virtio_net
ip link set eth0 up
sleep 2
ip addr add 10.77.0.15/24 dev eth0
! wget -T 3 -q -O - http://10.77.0.2:1/
"""


@on_both_threads
class S390x:
    """A disk behind PCI, a network behind channel I/O."""

    group, after = "s390x", "s390x/build"
    megabytes = 512
    limit = 900

    def machine(self, script: str) -> GuestVm:
        s390x.prepare()
        vm = self.make_vm()
        # The harness has a PC.
        vm._binary = str(QEMU)
        vm.set_machine("s390-ccw-virtio,accel=tcg" + (
            "" if self.isolated else ",memory-backend=ram"))
        image = self.work / "vm.cpio"
        guest.job_initramfs(image, script, base=s390x.BASE)
        vm.add_args("-kernel", str(s390x.KERNEL), "-initrd", str(image),
                    "-append", "console=ttysclp0 quiet panic=-1",
                    "-no-reboot")
        return vm

    def props(self, vm: GuestVm) -> str:
        return isolation_args(vm, self.iothread, self.isolated)

    def add_net(self, vm: GuestVm, path: Path, device: str = "") -> None:
        vm.add_args("-chardev", f"socket,id=net,path={path}",
                    "-netdev", "vhost-user,id=net0,chardev=net" +
                    self.props(vm),
                    "-device", "virtio-net-ccw,id=nic,netdev=net0" + device)

    def said(self, vm: GuestVm, word: str) -> str:
        return vm.wait_serial(rf"^{word} (\w{{64}})", 5).group(1)

    def test_disk_and_network(self) -> None:
        content = os.urandom(SIZE)
        digest = hashlib.sha256(content).hexdigest()
        image = self.make_disk("64M")
        with image.open("r+b") as disk:
            disk.seek(SIZE)
            disk.write(content)
        server = net_tcp.FileServer(content)
        self.addCleanup(server.close)
        vm = self.machine(SCRIPT.format(
            mtu=net_tcp.PASST_MTU, chunks=SIZE >> 16,
            transfer=net_tcp.TRANSFER.format(
                guest=net_tcp.PASST_GUEST, host=net_tcp.PASST_HOST,
                port=server.port, sink=server.sink)))
        self.add_disk(vm, self.start_backend(image, queues=1).socket)
        passt = self.start_program([
            *net_tcp.passt_command(), "--vhost-user", "--foreground",
            "--socket", "{socket}"], "passt")
        self.add_net(vm, passt.socket)
        vm.launch()
        self.expect_ok(vm, 300)

        written = self.said(vm, "RANDOM")
        self.assertEqual(self.said(vm, "DISK"), written)
        self.assertEqual(self.said(vm, "HOST"), digest)
        with image.open("rb") as disk:
            self.assertEqual(
                hashlib.sha256(disk.read(SIZE)).hexdigest(), written)
        self.assertEqual(server.received, [digest] * 2)

    def test_driver_of_0_9_is_refused(self) -> None:
        """Its rings are big-endian, and a backend cannot be told so."""
        if not self.isolated:
            self.skipTest("stock says what it says")
        vm = self.machine(LEGACY)
        # passt knows no driver as old as this.
        backend = self._start(Testpmd(self.work))
        self.add_net(vm, backend.sockets[0], ",max_revision=0")
        vm.launch()
        self.expect_ok(vm, 300)
        self.assertIn("of another byte order than the host's", vm.qemu_log())
