# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/isolation-map says of real VMs who can map what, and says so rightly.

The map is compared with what backend_view.py finds by itself: the secret of the
guest, in everything that a process can read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as xml

import backend_view
from harness import TOP, GuestVm, IsolationTest, socket_folder, wait_until
from stock_qemu import StockVm
from vhost_user_rude import RudeBackend

PROGRAM = TOP / "scripts/isolation-map"
SVG = "{http://www.w3.org/2000/svg}"
RED = "#c62828"
CLEAN, READABLE, UNKNOWN = 0, 3, 4
JOB = """
for disk in /dev/vd?; do load write $disk --size 4M; done
echo SECRET placed
read go
"""
HOLDER = "import os, sys; os.open(sys.argv[1], os.O_RDWR); " \
         "print('held', flush=True); sys.stdin.read()"


class MapCase(IsolationTest):
    """A VM whose guest has used all its disks, and then its map."""

    limit = 400

    def make(self, kind: type[GuestVm], shared: bool) -> GuestVm:
        """A VM with a monitor that the map can have for itself."""
        vm = kind(self.work)
        vm.add_memory(self.megabytes, shared)
        self.qmp = socket_folder(self.work) / "map.qmp"
        vm.add_args("-name", "mapped", "-qmp",
                    f"unix:{self.qmp},server=on,wait=off")
        self.addCleanup(vm.end)
        return vm

    def add(self, vm: GuestVm, name: str, isolated: bool) -> int:
        """A disk on a backend of its own; the backend's process."""
        backend = self.start_backend(self.make_disk(name=f"{name}.img"),
                                     name=name)
        self.isolated = isolated
        self.add_disk(vm, backend.socket, name=name,
                      chardev=",reconnect-ms=200" if isolated else "")
        return backend.pid

    def boot(self, vm: GuestVm) -> None:
        self.secret = backend_view.Secret()
        vm.add_job(self.secret.shell() + JOB)
        vm.launch()
        vm.wait_serial("^SECRET placed")

    def draw(self, *options: str) -> tuple[int, dict]:
        """Exit status and what the map says."""
        done = subprocess.run([str(PROGRAM), str(self.qmp), "--json",
                               "--svg", str(self.work / "map.svg"), *options],
                              capture_output=True, text=True, check=False)
        self.assertNotEqual(done.stdout, "", done.stderr)
        return done.returncode, json.loads(done.stdout)

    def text(self) -> str:
        return subprocess.run([str(PROGRAM), str(self.qmp)], text=True,
                              capture_output=True, check=False).stdout

    def sights(self, said: dict) -> dict[int, str]:
        """What each process can read, and whether that is so."""
        found = {p["pid"]: p["sight"] for p in said["processes"]}
        for pid, sight in found.items():
            if pid != os.getpid() and sight != "unknown":
                self.assertEqual(
                    backend_view.count_secret(pid, self.secret.needle) > 0,
                    sight == "guest-ram", f"process {pid}: {sight}")
        return found

    def red_boxes(self) -> list[str]:
        """First lines of the boxes of the picture that are red."""
        items = list(xml.parse(self.work / "map.svg").getroot())
        return [items[n + 1].text for n, item in enumerate(items)
                if item.tag == SVG + "rect" and item.get("stroke") == RED]

    def device(self, said: dict, name: str) -> dict:
        return next(d for d in said["devices"] if d["name"] == name)


class IsolationMap(MapCase):
    """What is new in each kind of VM, shortly."""

    def test_only_the_ordinary_one_of_two_is_red(self) -> None:
        vm = self.make(GuestVm, shared=True)
        isolated = self.add(vm, "inside", True)
        ordinary = self.add(vm, "outside", False)
        self.boot(vm)
        status, said = self.draw()
        self.assertEqual(self.sights(said),
                         {isolated: "region", ordinary: "guest-ram"})
        self.assertEqual(status, READABLE)
        self.assertEqual(said["readers-of-guest-ram"], [ordinary])
        self.assertEqual(self.device(said, "outside")["pids"], [ordinary])
        self.assertEqual(self.red_boxes(),
                         ["outside", f"qemu-storage-daemon, process {ordinary}",
                          "ram"])
        self.assertRegex(self.text(), f"process {ordinary} .*"
                         "CAN READ GUEST RAM")

    def test_network_and_cryptography_have_a_backend_too(self) -> None:
        """It is in this very process, which answers and maps nothing."""
        vm = self.make(GuestVm, shared=False)
        for name, words in (
                ("net", ["-netdev", "vhost-user,id=net0,chardev=net,"
                         "memory-isolation=on", "-device",
                         "virtio-net-pci,id=nic0,netdev=net0"]),
                ("crypto", ["-object", "cryptodev-vhost-user,id=c0,"
                            "chardev=crypto,memory-isolation=on", "-device",
                            "virtio-crypto-pci,id=card0,cryptodev=c0"])):
            path = socket_folder(self.work) / f"{name}.sock"
            self.addCleanup(RudeBackend(path).close)
            vm.add_args("-chardev", f"socket,id={name},path={path}", *words)
        vm.add_args("-S")
        vm.launch()
        status, said = self.draw()
        self.assertEqual({d["name"]: d["pids"] for d in said["devices"]},
                         {"nic0": [os.getpid()], "card0": [os.getpid()]})
        self.assertEqual([p["sight"] for p in said["processes"]],
                         ["nothing"])
        self.assertEqual(status, CLEAN, said["unknown"])

    def test_what_cannot_be_asked_is_said(self) -> None:
        for words, status, said in (
                ([], 2, "either QMP-SOCKET or --via"),
                (["--via", "true"], 2, "--via needs --pid"),
                ([str(self.work / "none")], 1, "No such file"),
                (["--via", "false", "--pid", "1"], 1, "false")):
            done = subprocess.run([str(PROGRAM), *words], text=True,
                                  capture_output=True, check=False)
            self.assertEqual(done.returncode, status, words)
            self.assertIn(said, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_isolated_backend_maps_its_region_only(self) -> None:
        vm = self.make(GuestVm, shared=False)
        pid = self.add(vm, "disk0", True)
        self.boot(vm)
        status, said = self.draw()
        self.assertEqual(self.sights(said), {pid: "region"})
        self.assertEqual(status, CLEAN, said["unknown"])
        self.assertEqual(said["qemu"]["pid"], vm.get_pid())
        disk = self.device(said, "disk0")
        self.assertEqual((disk["pids"], disk["memory-isolation"]),
                         ([pid], True))
        self.assertEqual(self.draw("--strict")[0],
                         UNKNOWN if said["unseen"] else CLEAN)
        ram = [m for m in said["memory"] if m["name"] == "pc.ram"]
        self.assertEqual([m["shared"] for m in ram], [False])
        self.assertEqual([a["memory"] for a in said["processes"][0]["accesses"]],
                         ["memory-isolation of disk0"])
        self.assertEqual(self.red_boxes(), [])


class IsolationMapMore(MapCase):
    """The rest, when it is asked for."""

    group = "exposure"

    def test_stock_qemu(self) -> None:
        vm = self.make(StockVm, shared=True)
        pid = self.add(vm, "disk0", False)
        self.boot(vm)
        status, said = self.draw()
        self.assertEqual((status, self.sights(said)),
                         (READABLE, {pid: "guest-ram"}))
        self.assertIsNone(self.device(said, "disk0")["memory-isolation"])

    def test_descriptor_of_guest_ram_is_enough(self) -> None:
        """Somebody behind no device, who has mapped nothing yet."""
        vm = self.make(GuestVm, shared=True)
        self.add(vm, "disk0", True)
        self.boot(vm)
        self.assertEqual(self.draw()[0], CLEAN)
        qemu = vm.get_pid()
        ram = next(m.inode[1] for m in backend_view.foreign_mappings(qemu)
                   if "memory-backend" in m.path)
        path = backend_view.foreign_files(qemu)[ram]
        with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)],
                              stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as holder:
            holder.stdout.readline()
            status, said = self.draw()
            self.assertEqual(said["readers-of-guest-ram"], [holder.pid])
            self.assertEqual(status, READABLE)
            holder.stdin.close()
        self.assertEqual(self.draw()[0], CLEAN)

    def test_backend_that_left(self) -> None:
        vm = self.make(GuestVm, shared=False)
        self.add(vm, "disk0", True)
        self.boot(vm)
        self.programs[-1].stop()
        wait_until(lambda: not self.device(self.draw()[1],
                                           "disk0")["connected"], 10,
                   "the connection to end")
        status, said = self.draw()
        self.assertEqual((status, said["processes"]), (CLEAN, []))
        self.assertIn("no backend is connected", self.text())

    def test_through_somebody_who_has_the_monitor(self) -> None:
        """--via: a command like virsh's qemu-monitor-command."""
        vm = self.make(GuestVm, shared=False)
        pid = self.add(vm, "disk0", True)
        self.boot(vm)
        command = (f"{sys.executable} -c \"import socket, sys;"
                   f"s = socket.socket(socket.AF_UNIX);"
                   f"s.connect('{self.qmp}'); f = s.makefile('rw');"
                   "f.readline(); f.write('{\\\"execute\\\":"
                   "\\\"qmp_capabilities\\\"}'); f.flush(); f.readline();"
                   "f.write(sys.argv[1]); f.flush(); print(f.readline())\"")
        done = subprocess.run(
            [str(PROGRAM), "--json", "--pid", str(vm.get_pid()), "--via",
             command], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, CLEAN, done.stderr)
        self.assertEqual(json.loads(done.stdout)["devices"][0]["pids"], [pid])
