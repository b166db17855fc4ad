# SPDX-License-Identifier: GPL-2.0-or-later
"""vhost-vdpa without hardware: a machine in a machine.

The outer guest runs Debian 13's kernel, which has VDUSE.  In it tests/backends/
vduse-net makes two network devices with a cable between them, the kernel makes
vDPA devices of them, and QEMU gives them to an inner guest, which sends frames
from one to the other and compares every byte.
"""

from __future__ import annotations

import fcntl
import lzma
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import harness
import loadvm
from harness import BUILD, QEMU, QEMU_BUILD, TOP, IsolationTest, guest
from net_guest import INSIDE, build_frames

KERNEL = "6.12"
# In the order in which they are loaded.
MODULES = ["irqbypass", "vdpa", "vhost_iotlb", "vhost", "vduse", "vhost_vdpa"]
FIRMWARE = ["bios-256k.bin", "linuxboot_dma.bin", "kvmvapic.bin", "pvh.bin"]
DAEMON = guest.OUT / "vduse-net"
RING_SOURCES = [
    *(TOP / f"tests/unit/mock-device{part}.c"
      for part in ("", "-split", "-packed")),
    *(TOP / f"hw/virtio/shadow-ring{part}.c"
      for part in ("", "-split", "-packed")),
]

PACKED, EVENT_IDX, INDIRECT = 34, 29, 28

INNER = """
modprobe virtio_net
for i in eth0 eth1; do
    echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6
    ip link set $i up || exit 1
done
echo "FEATURES $(cat /sys/class/net/eth0/device/features)"
exec 3< /dev/ttyS1
stty -F /dev/ttyS1 -echo
for phase in {phases}; do
    echo "PHASE $phase"
    [ $phase = begin ] || read go <&3
    net-frames eth0 eth1 --frames {frames} || exit 1
done
"""

# What the inner guest says has another beginning: its last line is not ours.
# A migration that goes nowhere, slowly, makes QEMU shadow the queues.  What
# does not come as it should ends QEMU.
OUTER = """
tell() {{
    port=$1; shift
    (for line in "$@"; do echo "$line"; done; sleep 1) |
        timeout 60 nc 127.0.0.1 $port
}}
rings() {{
    grep -c " ring of " /tmp/vduse.log
}}
go_on_with_new_rings_after() {{
    want=$(($(rings) + 4))
    tries=12000
    "$@" > /dev/null
    until [ $(rings) = $want ]; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! kill -0 $daemon; then
            tell 5555 quit
            return
        fi
        usleep 50000
    done
    tell 5556 go
}}
migrate() {{
    tell 5555 "migrate_set_parameter max-bandwidth 64k" \\
        'migrate -d "exec:cat > /dev/null"'
}}
ip link set lo up
for m in {modules}; do insmod /modules/$m.ko || exit 1; done
touch /tmp/vduse.log
vduse-net {features} {size} {refusals} n0 n1 > /tmp/vduse.log 2>&1 &
daemon=$!
until grep -q ready /tmp/vduse.log; do
    kill -0 $daemon || exit 1
    usleep 50000
done
vdpa dev add name n0 mgmtdev vduse || exit 1
vdpa dev add name n1 mgmtdev vduse || exit 1
qemu -L /firmware -machine q35,memory-backend=ram -m 256 -display none \\
    -object memory-backend-memfd,id=ram,size=256M,share=on -nodefaults \\
    -no-reboot -serial stdio -serial tcp:127.0.0.1:5556,server=on,wait=off \\
    -monitor tcp:127.0.0.1:5555,server=on,wait=off \\
    -kernel /inner/vmlinuz -initrd /inner/initrd \\
    -append "console=ttyS0 quiet panic=-1 no_timer_check" {devices} \\
    < /dev/null 2>&1 | while read -r line; do
    echo "inner: $line"
    case "$line" in
    *"PHASE shadow"*)
        go_on_with_new_rings_after migrate ;;
    *"PHASE through"*)
        go_on_with_new_rings_after tell 5555 migrate_cancel ;;
    *"PHASE linked"*)
        go_on_with_new_rings_after tell 5555 "set_link n0 off" \\
            "set_link n1 off" "set_link n0 on" "set_link n1 on" ;;
    esac
done
kill -0 $daemon || exit 1
kill $daemon
sed 's/^/vduse: /' /tmp/vduse.log
"""


@dataclass
class Rings:
    """What one end of a queue has."""

    packed: bool
    event_idx: bool
    indirect: bool

    def features(self) -> int:
        return (self.packed << PACKED | self.event_idx << EVENT_IDX |
                self.indirect << INDIRECT)

    def props(self) -> str:
        def word(value: bool) -> str:
            return "on" if value else "off"
        return (f",packed={word(self.packed)},event_idx={word(self.event_idx)}"
                f",indirect_desc={word(self.indirect)}")

    def log_line(self, size: int = 256) -> str:
        """How vduse-net speaks of such a ring, when it is new."""
        return (f"{'packed' if self.packed else 'split'} ring of {size}"
                f"{', event_idx' if self.event_idx else ''}"
                f"{', indirect' if self.indirect else ''}, "
                f"base {'0x80008000' if self.packed else '0'}")


def build_on_rings(out: Path, sources: list[Path], *how: str) -> None:
    """Make @out of @sources and of RING_SOURCES, if a source is newer.

    @how: options of the compiler that say what it becomes
    """
    with (guest.OUT / f".{out.name}.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        parts = [*sources, *RING_SOURCES]
        newest = max(s.stat().st_mtime for s in parts)
        if out.exists() and out.stat().st_mtime > newest:
            return
        source = BUILD / "qemu-src"
        folders = [QEMU_BUILD, source, source / "include",
                   source / "host/include/generic", TOP / "tests/unit", TOP]
        glib = subprocess.run(
            ["pkg-config", *(o for o in how if o == "--static"), "--cflags",
             "--libs", "glib-2.0"],
            capture_output=True, text=True, check=True).stdout.split()
        new = out.with_suffix(".new")
        subprocess.run(
            ["gcc", "-std=gnu11", "-O2", "-Wall", "-Werror", *how,
             "-D_GNU_SOURCE", "-fno-strict-aliasing", "-pthread",
             "-isystem", str(source / "linux-headers"),
             *(w for f in folders for w in ("-iquote", str(f))),
             "-o", str(new), *(str(p) for p in parts if p.suffix == ".c"),
             *glib], check=True, capture_output=True)
        new.rename(out)


def build_daemon() -> None:
    """tests/backends/vduse-net."""
    build_on_rings(DAEMON, [TOP / "tests/backends/vduse-net.c"], "--static")


def kernel_modules(work: Path) -> dict[str, Path]:
    """MODULES of the outer kernel, unpacked from its package."""
    guest.kernel(KERNEL)
    debs = guest.SUITES / "trixie/debs"
    package = sorted(debs.glob(f"linux-image-{KERNEL}*-cloud-amd64_*.deb"))[-1]
    found: dict[str, Path] = {}
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)],
                          stdout=subprocess.PIPE) as unpacked, \
            tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar:
        for member in tar:
            name = Path(member.name).name.split(".ko")[0]
            content = tar.extractfile(member) if name in MODULES else None
            if content and ".ko" in member.name:
                data = content.read()
                path = work / f"{name}.ko"
                path.write_bytes(lzma.decompress(data)
                                 if member.name.endswith(".xz") else data)
                found[f"modules/{name}.ko"] = path
    return found


def program(name: str, path: Path) -> dict[str, Path]:
    """@path with its libraries, as /usr/bin/@name."""
    files = {f"usr/bin/{name}": path}
    libraries = guest.debian.shared_libraries(path, guest.ROOT)
    for soname, library in libraries.items():
        inside = soname if soname.startswith("/") else f"lib/guest/{soname}"
        files[inside.lstrip("/")] = library.resolve()
    return files


def stripped_qemu(work: Path, qemu: Path = QEMU) -> Path:
    """A copy without debugging symbols, to go into a guest."""
    copy = work / "qemu"
    subprocess.run(["strip", "-o", str(copy), str(qemu)], check=True)
    return copy


def firmware_files(inside: str = "firmware") -> dict[str, Path]:
    folder = QEMU_BUILD / "qemu-bundle/usr/local/share/qemu"
    return {f"{inside}/{n}": folder / n for n in FIRMWARE}


def wait_migration(query: Callable[[], dict[str, Any]], *states: str) -> str:
    """Which of @states it has reached; @query asks QEMU."""
    def look() -> str:
        state = str(query().get("status"))
        return state if state in states else ""
    return harness.wait_until(look, 60, f"a migration that is {states}")


class VdpaTest(IsolationTest):
    """An outer machine with QEMU in it."""

    limit = 1200
    megabytes = 1600

    def _inner_files(self, frames: int,
                     phases: tuple[str, ...]) -> dict[str, Path]:
        build_frames()
        image = guest.job_initramfs(self.work / "inner.cpio",
                                    INNER.format(frames=frames,
                                                 phases=" ".join(phases)),
                                    INSIDE)
        self.addCleanup(image.unlink)
        qemu = stripped_qemu(self.work)
        self.addCleanup(qemu.unlink)
        return {**program("qemu", qemu), "inner/vmlinuz": guest.KERNEL,
                "inner/initrd": image, **firmware_files()}

    def run_frames(self, device: Rings, inside: Rings, frames: int = 500,
                   size: int = 256,
                   phases: tuple[str, ...] = ("begin",),
                   refusals: int = 0) -> list[str]:
        """Frames both ways; what vduse-net said of the rings it had."""
        build_daemon()
        guest.unpack(["iproute2"], guest.ROOT)
        files = {**self._inner_files(frames, phases),
                 **kernel_modules(self.work),
                 **program("vdpa", guest.sbin("vdpa")),
                 "usr/bin/vduse-net": DAEMON}
        devices = "".join(
            f" -netdev vhost-vdpa,id=n{i},vhostdev=/dev/vhost-vdpa-{i}"
            f" -device virtio-net-pci,netdev=n{i},romfile=,"
            f"mac=52:54:00:00:01:0{i}{inside.props()}" for i in range(2))
        vm = harness.GuestVm(self.work)
        vm.add_memory(self.megabytes, shared=False)
        self.addCleanup(vm.end)
        vm.add_args("-smp", "2")
        vm.add_job(OUTER.format(modules=" ".join(MODULES),
                                features=device.features(), size=size,
                                refusals=refusals, devices=devices),
                   files, kernel=KERNEL)
        vm.launch()
        self.expect_ok(vm, self.limit - 60)
        text = vm.serial_text().replace("\r", "")
        self.check_frames(text, frames, len(phases))
        self.check_features(text, inside)
        self.assertEqual(text.count("falling back"), 2 * refusals)
        return re.findall(r"^vduse: n\d: queue \d: (.* base .*)$", text,
                          re.MULTILINE)

    def check_frames(self, text: str, frames: int, times: int) -> None:
        for i in range(2):
            found = re.findall(rf"inner: NET ok lane 0 from eth{i}: "
                               rf"{frames} frames, .*; {frames} frames", text)
            self.assertEqual(len(found), times)
        self.assertIn("inner: RESULT ok", text)

    def check_features(self, text: str, inside: Rings) -> None:
        """The guest has what its device has, whatever is behind that."""
        bits = re.search(r"FEATURES ([01]+)", text)
        assert bits is not None
        for bit, wanted in ((PACKED, inside.packed),
                            (EVENT_IDX, inside.event_idx),
                            (INDIRECT, inside.indirect)):
            self.assertEqual(bits.group(1)[bit], "1" if wanted else "0",
                             f"feature {bit} in the inner guest")


def main() -> int:
    """Make what docs/system/devices/vhost-vdpa-migration.rst is tried with."""
    build_daemon()
    print(DAEMON, loadvm.image(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
