# SPDX-License-Identifier: GPL-2.0-or-later
"""An isolated file system while the VM changes state."""

from __future__ import annotations

from events import event
from harness import (GuestVm, isolation_args, long_form, on_both_threads,
                     socket_folder, wait_until)
from test_lifecycle import memory_digest
import fs_load

# Until the host says a line; everything is verified, then again from nothing.
LOAD = """
set -e
modprobe virtiofs
mount -t virtiofs share /mnt
rm -rf /mnt/tree /mnt/one /mnt/many
mkdir /mnt/tree
tree-ops make /mnt/tree --files 150 --xattrs {xattrs}
(round=0
while [ ! -e /tmp/end ]; do
    file-ops /mnt/one --ops 60 --seed $round || exit 1
    tree-ops many /mnt --files 60 || exit 1
    round=$((round + 1))
    echo "LOAD progress $round"
done) &
load=$!
read word
touch /tmp/end
wait $load
umount /mnt
mount -t virtiofs share /mnt
tree-ops check /mnt/tree --files 150 --xattrs {xattrs}
umount /mnt
"""

UNPLUG = """
set -e
modprobe virtiofs
mount -t virtiofs share /mnt
tree-ops check /mnt/host --files 150 --xattrs {xattrs}
umount /mnt
echo UNPLUG now
read word
for try in $(seq 1500); do
    mount -t virtiofs share /mnt 2> /dev/null && break
    usleep 200000
done
tree-ops change /mnt/host --files 150 --xattrs {xattrs}
umount /mnt
"""


@on_both_threads
class FileSystem:
    """virtiofsd of Debian 13."""

    megabytes = 256
    limit = 240

    def machine(self, script: str, name: str = "vm", *options: str,
                reboots: bool = False) -> GuestVm:
        """With a daemon of its own: one serves one connection."""
        backend = fs_load.start_rust(self, self.share, self.xattrs, name)
        vm = self.make_vm(name)
        vm.add_args("-smp", "2", "-chardev",
                    f"socket,id=char0,path={backend.socket}", "-device",
                    "vhost-user-fs-pci,id=fs0,chardev=char0,tag=share" +
                    isolation_args(vm, self.iothread, self.isolated),
                    *options)
        vm.add_job(script.format(xattrs=int(self.xattrs)), reboots=reboots)
        return vm

    def start(self, script: str = LOAD, reboots: bool = False) -> GuestVm:
        self.share, self.xattrs = fs_load.make_share(self)
        vm = self.machine(script, reboots=reboots)
        vm.launch()
        return vm

    def finish(self, vm: GuestVm) -> None:
        vm.say("end")
        self.expect_ok(vm)
        fs_load.tree("check", self.share / "tree", self.xattrs)

    def test_stop_and_cont_under_load(self) -> None:
        vm = self.start()
        self.stop_and_cont(vm, 60, 0.08)
        self.finish(vm)

    def test_guest_reset_under_load(self) -> None:
        vm = self.start(reboots=True)
        self.reset_under_load(vm, 3)
        self.finish(vm)

    def test_unplugged_and_plugged_again(self) -> None:
        vm = self.start(UNPLUG)
        vm.wait_serial("^UNPLUG now")
        self.plug_anew(vm)

    @event("File system", "The daemon ends, and the device is plugged anew.",
           "No answer until then.")
    def test_daemon_ends_and_the_device_is_plugged_anew(self) -> None:
        """As it does over a request that is too short, whoever sends it."""
        vm = self.start(UNPLUG)
        vm.wait_serial("^UNPLUG now")
        self.programs[-1].kill()
        self.plug_anew(vm)

    def plug_anew(self, vm: GuestVm) -> None:
        vm.cmd("device_del", id="fs0")
        vm.event_wait("DEVICE_DELETED", 60, {"data": {"device": "fs0"}})
        vm.cmd("chardev-remove", id="char0")
        backend = fs_load.start_rust(self, self.share, self.xattrs, "second")
        vm.cmd("chardev-add", id="char0", backend={
            "type": "socket", "data": {"server": False, "addr": {
                "type": "unix", "data": {"path": str(backend.socket)}}}})
        options: dict[str, object] = {}
        if self.isolated:
            options["memory-isolation"] = "on"
            if self.iothread:
                options["iothread"] = "io0"
        vm.cmd("device_add", driver="vhost-user-fs-pci", id="fs0",
               chardev="char0", tag="share", **options)
        vm.say("go")
        self.expect_ok(vm)
        fs_load.tree("check", self.share / "host", self.xattrs, 1)

    @event("File system",
           "The VM is saved under load, and loaded with another daemon.",
           "Nothing.")
    def test_saved_under_load_and_loaded(self) -> None:
        """The daemon's own state travels too; guest RAM is not its matter."""
        source = self.start()
        source.wait_serial("^LOAD progress")
        state = self.work / "state"
        self.addCleanup(state.unlink, missing_ok=True)
        source.cmd("migrate", uri=f"file:{state}")
        self.wait_completed(source)
        source.end()

        loaded = self.machine(LOAD, "loaded", "-incoming", f"file:{state}")
        loaded.launch()
        loaded.wait_serial("^LOAD progress", 60)
        self.finish(loaded)

    def wait_completed(self, vm: GuestVm) -> None:
        wait_until(lambda: vm.cmd("query-migrate").get("status") in
                   ("completed", "failed"), 60, "the end of a migration")
        self.assertEqual(vm.cmd("query-migrate")["status"], "completed")

    def migrated(self, times: int) -> None:
        vm = self.start()
        vm.wait_serial("^LOAD progress")
        path = socket_folder(self.work) / "migration.sock"
        for number in range(times):
            path.unlink(missing_ok=True)
            other = self.machine(LOAD, f"side{number}", "-S", "-incoming",
                                 f"unix:{path}")
            other.launch()
            vm.cmd("migrate", uri=f"unix:{path}")
            self.wait_completed(vm)
            self.wait_completed(other)
            size = self.megabytes << 20
            self.assertEqual(memory_digest(vm, size),
                             memory_digest(other, size))
            vm.end()
            vm = other
            vm.cmd("cont")
            vm.wait_serial("^LOAD progress", 60)
        self.finish(vm)

    @event("File system", "The VM is migrated under load, to and fro.",
           "Nothing.")
    def test_migrated_under_load(self) -> None:
        self.migrated(2)

    @long_form
    def test_migrated_ten_times_under_load(self) -> None:
        self.migrated(10)
