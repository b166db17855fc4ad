# SPDX-License-Identifier: GPL-2.0-or-later
"""The backend has one region of ours and nothing of the guest's memory."""

from __future__ import annotations

import backend_view
from harness import on_both_threads

JOB = """
load write /dev/vda --size 8M
echo SECRET placed
read go
load verify /dev/vda --size 8M
"""
# Of memfds; see fcntl(2).
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW = 1, 2, 4


@on_both_threads
class BackendView:
    """Looks at the backend while the guest uses the disk."""

    def start(self):
        self.secret = backend_view.Secret()
        backend = self.start_backend(self.make_disk())
        vm = self.make_vm()
        self.add_disk(vm, backend.socket)
        vm.add_job(self.secret.shell() + JOB)
        vm.launch()
        vm.wait_serial("^SECRET placed")
        return vm, backend.pid

    def finish(self, vm) -> None:
        vm.say("go")
        self.expect_ok(vm)

    def test_maps_one_region_and_no_guest_memory(self) -> None:
        vm, pid = self.start()
        maps = backend_view.foreign_mappings(pid)
        files = backend_view.foreign_files(pid)
        inodes = {m.inode[1] for m in maps}
        self.assertEqual(len(inodes), 1, maps)
        self.assertLessEqual(set(files), inodes)
        self.assertNotIn("memory-backend", maps[0].path)
        qemu = {m.inode[1] for m in
                backend_view.foreign_mappings(vm.get_pid())}
        self.assertEqual(qemu, inodes, "QEMU shares something else as well")
        self.finish(vm)

    def test_region_is_sealed(self) -> None:
        vm, pid = self.start()
        maps = backend_view.foreign_mappings(pid)
        path = f"/proc/{pid}/map_files/{maps[0].start:x}-{maps[0].end:x}"
        wanted = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW
        self.assertEqual(backend_view.seals(path) & wanted, wanted)
        self.finish(vm)

    def test_secret_of_the_guest_is_not_found(self) -> None:
        vm, pid = self.start()
        self.assertEqual(backend_view.count_secret(pid, self.secret.needle),
                         0, "the backend can read guest memory")
        self.finish(vm)
