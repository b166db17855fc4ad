# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU outlives backends that are rude while no driver uses the device."""

from __future__ import annotations

import time

from harness import GuestVm, IsolationTest, socket_folder, wait_until
from vhost_user_rude import RudeBackend


class Rude(IsolationTest):
    """No guest runs: the VM is paused before its first instruction."""

    def start_rude(self, *, changes: int = 0) -> RudeBackend:
        backend = RudeBackend(socket_folder(self.work) / "rude.sock",
                              changes=changes)
        self.addCleanup(backend.close)
        return backend

    def paused_vm(self, backend: RudeBackend, *args: str) -> GuestVm:
        vm = self.make_vm()
        vm.add_args("-S", "-m", "64", "-chardev",
                    f"socket,id=rude,path={backend.path}", *args)
        vm.launch()
        return vm

    def expect_alive(self, vm: GuestVm) -> None:
        self.assertFalse(vm.cmd("query-status")["running"])

    def change_before_start(self, device: str, *args: str) -> None:
        backend = self.start_rude(changes=3)
        vm = self.paused_vm(
            backend, "-device",
            f"{device},chardev=rude,memory-isolation=on", *args)
        wait_until(lambda: backend.sent_changes == 3, 10, "changes")
        time.sleep(0.2)             # for a crash, if there is one
        self.expect_alive(vm)

    def test_change_of_configuration_before_vsock_starts(self) -> None:
        self.change_before_start("vhost-user-vsock-pci")

    def test_change_of_configuration_before_sound_starts(self) -> None:
        self.change_before_start("vhost-user-snd-pci")

    def test_connection_ends_after_netdev_del(self) -> None:
        backend = self.start_rude()
        vm = self.paused_vm(
            backend, "-netdev", "vhost-user,id=net0,chardev=rude,"
            "memory-isolation=on", "-device", "virtio-net-pci,netdev=net0")
        vm.cmd("netdev_del", id="net0")
        backend.close()
        time.sleep(0.2)
        self.expect_alive(vm)
