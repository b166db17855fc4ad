# SPDX-License-Identifier: GPL-2.0-or-later
"""A host that connects to a guest which does not run.

vhost-device-vsock 0.3.0 cannot have that, with isolation or without: it looks
for a buffer of the guest at once, takes a queue that was stopped for an error,
and the thread that serves the queues ends.  Nothing is carried any more until
the daemon is started again.  So a transfer afterwards may fail if that thread
is gone, and for no other reason.
"""

from __future__ import annotations

import socket
from pathlib import Path

from events import event
import small_load
from harness import (GuestVm, IsolationTest, Program, debian, guest,
                     isolation_args, socket_folder)
from vsock_load import PORT, Echo

TRANSFERS = """
modprobe vmw_vsock_virtio_transport
head -c 300000 /dev/urandom > /tmp/file
while read word && [ $word != end ]; do
    timeout 20 small-ops vsock-whole /tmp/file /tmp/copy &&
        cmp /tmp/file /tmp/copy && echo MOVED good || echo MOVED nothing
done
"""


class Vsock(IsolationTest):
    """Transfers before and after."""

    megabytes = 256
    iothread = True

    def start(self) -> GuestVm:
        try:
            command = guest.program("vhost-device-vsock")
        except debian.PackageError as err:
            self.skipTest(f"Debian's archive has no vhost-device-vsock: {err}")
        small_load.build_ops()
        self.path = socket_folder(self.work) / "vm.vsock"
        self.echo = Echo(self.path.with_name(f"{self.path.name}_{PORT}"))
        self.addCleanup(self.echo.close)
        self.backend = self.start_program([
            *command, f"--guest-cid={small_load.CID}", "--socket={socket}",
            f"--uds-path={self.path}"])
        vm = self.make_vm()
        vm.add_args("-chardev", f"socket,id=char0,path={self.backend.socket}",
                    "-device", "vhost-user-vsock-pci,id=dev0,chardev=char0" +
                    isolation_args(vm, self.iothread, self.isolated))
        vm.add_job(TRANSFERS, small_load.INSIDE)
        vm.launch()
        vm.wait_serial("^GUEST ready")
        return vm

    def transfer(self, vm: GuestVm) -> str:
        so_far = len(vm.serial_text())
        vm.say("move")
        return vm.wait_serial(r"^MOVED (\w+)", start=so_far).group(1)

    @staticmethod
    def threads(program: Program) -> set[str]:
        return {task.name for task in
                Path(f"/proc/{program.pid}/task").iterdir()}

    def connect(self) -> None:
        """To a port where the guest does not listen."""
        with socket.socket(socket.AF_UNIX) as host:
            host.connect(str(self.path))
            host.sendall(b"CONNECT 1234\n")
            # Said, or the end: the guest would have refused it.
            host.settimeout(2)
            try:
                host.recv(100)
            except OSError:
                pass

    @event("Socket",
           "The host connects while the VM is stopped (vhost-device-vsock "
           "0.3.0).",
           "Nothing is carried any more, until the daemon is started again "
           "and the device plugged anew.")
    def test_host_connects_while_the_vm_is_stopped(self) -> None:
        vm = self.start()
        self.assertEqual(self.transfer(vm), "good")
        self.connect()
        vm.cmd("stop")
        vm.cmd("cont")
        self.assertEqual(self.transfer(vm), "good")
        before = self.threads(self.backend)
        vm.cmd("stop")
        self.connect()
        vm.cmd("cont")
        moved = self.transfer(vm)
        gone = before - self.threads(self.backend)
        vm.say("end")
        self.expect_ok(vm)
        self.assertEqual(moved, "nothing" if gone else "good")
