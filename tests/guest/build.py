#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A small Linux guest, made of Debian packages and nothing installed.

    build/guest/root/         unpacked packages: kernel, busybox, backend, ...
    build/guest/vmlinuz       the cloud kernel of this machine's release
    build/guest/programs.cpio busybox, mke2fs, our own programs
    build/guest/base.cpio     the same and modules for vmlinuz
    build/guest/suites/       packages of other releases (if asked for)
    build/guest/*-6.12*       another kernel and its modules (if asked for)
    build/guest/fio.cpio      fio and its libraries (if asked for)

Debian's own qemu-storage-daemon is unpacked beside them: the tests want a
backend that nobody here built.  A stamp holds what the result was made from;
as long as that is unchanged, nothing is done.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import debian                               # noqa: E402
import kernels                              # noqa: E402
import linux_source                         # noqa: E402
from cpio import CpioWriter                 # noqa: E402
from suites import Suite, machine_suite     # noqa: E402

TOP = HERE.parent.parent
OUT = TOP / "build" / "guest"
ROOT = OUT / "root"
KERNEL = OUT / "vmlinuz"
PROGRAMS = OUT / "programs.cpio"
BASE = OUT / "base.cpio"
FIO = OUT / "fio.cpio"
SUITES = OUT / "suites"
LOAD = OUT / "load"

PACKAGES = ["busybox-static", "e2fsprogs", "ovmf"]
# Programs of one release: its name, their place, what they are in and need.
RELEASE_PROGRAMS: dict[str, tuple[str, str, list[str]]] = {
    "virtiofsd-c": (
        "bookworm", "usr/lib/qemu/virtiofsd",
        ["qemu-system-common", "libc6", "libcap-ng0", "libgcc-s1",
         "libnuma1", "libseccomp2", "libglib2.0-0", "libpcre2-8-0"]),
    "virtiofsd-rust": (
        "trixie", "usr/libexec/virtiofsd",
        ["virtiofsd", "libc6", "libcap-ng0", "libgcc-s1", "libseccomp2"]),
    # Only there, and not for ever: who wants it has to bear that it is gone.
    "vhost-device-vsock": (
        "sid", "usr/bin/vhost-device-vsock",
        ["vhost-device-vsock", "libc6", "libgcc-s1"]),
    "passt": ("trixie", "usr/bin/passt", ["passt", "libc6", "libgcc-s1"]),
    "grub-mkimage": (
        "bookworm", "usr/bin/grub-mkimage",
        ["grub-common", "grub-pc-bin", "grub-efi-amd64-bin", "libc6",
         "liblzma5", "libdevmapper1.02.1", "libselinux1", "libudev1",
         "libpcre2-8-0"]),
}
# Programs of ours and what they are made of.
TOOLS = {
    "load": ["load.c", "load-content.c"],
    "blk-ops": ["blk-ops.c"],
    "file-ops": ["file-ops.c"],
    "tree-ops": ["tree-ops.c"],
}
SOURCES = ["build.py", "cpio.py", "debian.py", "drivers.py", "kernels.py",
           "linux_source.py", "suites.py", "init", "load-content.h", "random.h",
           *(source for tool in TOOLS.values() for source in tool)]


def storage_daemon_package() -> str:
    """Debian 12 has qemu-storage-daemon in another package than 13."""
    return "qemu-system-common" if machine_suite() == "bookworm" \
        else "qemu-utils"


def storage_daemon() -> Path:
    return ROOT / "usr/bin/qemu-storage-daemon"


def sbin(program: str) -> Path:
    """@program from the unpacked tree, with or without merged /usr."""
    for folder in ("usr/sbin", "sbin", "usr/bin", "bin"):
        if (ROOT / folder / program).exists():
            return ROOT / folder / program
    raise debian.PackageError(f"no {program} in {ROOT}")


def add_program(cpio: CpioWriter, name: str, source: Path) -> None:
    """A program from the unpacked tree with its shared libraries."""
    cpio.file(name, source)
    for soname, path in debian.shared_libraries(source, ROOT).items():
        inside = soname if soname.startswith("/") else f"/lib/guest/{soname}"
        cpio.file(inside.lstrip("/"), path.resolve())


def own_suite() -> Suite:
    """This machine's release."""
    name = machine_suite()
    return Suite(name, SUITES / name)


def _fetch(suite: Suite) -> None:
    package = suite.dependencies(kernels.METAPACKAGE)[0]
    suite.unpack([package], ROOT)
    suite.unpack(suite.closure([*PACKAGES, storage_daemon_package()]), ROOT)


def _unpack(names: list[str], tree: Path) -> None:
    stamp = tree.with_name(f"{tree.name}-{'+'.join(names)}")
    if stamp.exists():
        return
    suite = own_suite()

    def fetch() -> list[str]:
        wanted = suite.closure(names)
        suite.unpack(wanted, tree)
        return wanted

    stamp.write_text("\n".join(suite.with_lists(fetch)), encoding="ascii")


def unpack(names: list[str], tree: Path) -> None:
    """@names of this machine's release and their libraries, into @tree."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    with (OUT / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _unpack(names, tree)


def build_tools() -> None:
    for name, sources in TOOLS.items():
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror",
                        "-static", "-pthread", "-o", str(OUT / name),
                        *(str(HERE / source) for source in sources)],
                       check=True)


def write_programs() -> None:
    with PROGRAMS.with_suffix(".new").open("wb") as out:
        cpio = CpioWriter(out)
        cpio.file("bin/busybox", sbin("busybox"))
        cpio.symlink("bin/sh", "busybox")
        cpio.data("init", (HERE / "init").read_bytes(), 0o755)
        cpio.device("dev/console", 5, 1)
        add_program(cpio, "usr/sbin/mke2fs", sbin("mke2fs"))
        add_program(cpio, "usr/sbin/e2fsck", sbin("e2fsck"))
        for name in TOOLS:
            cpio.file(f"usr/bin/{name}", OUT / name)
        cpio.close()
    PROGRAMS.with_suffix(".new").rename(PROGRAMS)


def modules_folder() -> Path:
    """Of KERNEL; its name is the kernel's version."""
    return kernels.modules_folder(ROOT, "*-cloud-amd64")


def write_base() -> None:
    with BASE.with_suffix(".new").open("wb") as out:
        out.write(PROGRAMS.read_bytes())
        out.write(b"\0" * (-out.tell() % 512))
        cpio = CpioWriter(out)
        kernels.add_modules(cpio, modules_folder())
        cpio.close()
    BASE.with_suffix(".new").rename(BASE)


def write_fio() -> None:
    with FIO.with_suffix(".new").open("wb") as out:
        cpio = CpioWriter(out)
        add_program(cpio, "usr/bin/fio", sbin("fio"))
        cpio.close()
    FIO.with_suffix(".new").rename(FIO)


def copy_kernel() -> None:
    kernel = sorted((ROOT / "boot").glob("vmlinuz-*"))[-1]
    shutil.copyfile(kernel, KERNEL.with_suffix(".new"))
    KERNEL.with_suffix(".new").rename(KERNEL)


def fingerprint() -> str:
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()


def build(with_fio: bool = False, say=lambda text: None) -> None:
    """Make what is missing or out of date; one process at a time."""
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _build(with_fio, say)


def _build(with_fio: bool, say) -> None:
    stamp, now = OUT / "stamp", fingerprint()
    fresh = stamp.exists() and stamp.read_text(encoding="ascii") == now
    if not fresh:
        say("guest: fetching Debian's kernel, busybox and storage daemon")
        suite = own_suite()
        suite.with_lists(lambda: _fetch(suite))
        build_tools()
        copy_kernel()
        write_programs()
        write_base()
        FIO.unlink(missing_ok=True)
        for modules in OUT.glob("modules-*.cpio"):
            modules.unlink()
        stamp.write_text(now, encoding="ascii")
    if with_fio and not FIO.exists():
        say("guest: fetching Debian's fio")
        _unpack(["fio"], ROOT)
        write_fio()


def release_folder(name: str) -> Path:
    """Where RELEASE_PROGRAMS[name] is unpacked."""
    return SUITES / RELEASE_PROGRAMS[name][0] / "root"


def program(name: str) -> list[str]:
    """How to start RELEASE_PROGRAMS[name], fetched if it is missing."""
    release, path, packages = RELEASE_PROGRAMS[name]
    suite = Suite(release, SUITES / release)
    with (OUT / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (suite.root / path).exists():
            suite.fetch(packages)
        return suite.command(path)


def kernel_source() -> Path:
    """Linux as this machine's release has it (see linux_source.py)."""
    suite = own_suite()
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return suite.with_lists(lambda: linux_source.unpack(suite))


def kernel(version: str) -> kernels.GuestKernel:
    """The kernel @version (see kernels.py), made if it is missing."""
    found = kernels.GuestKernel(version, SUITES, OUT)
    with (OUT / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            found.build()
    return found


def job_initramfs(out: Path, script: str, files: dict[str, Path] | None = None,
                  with_fio: bool = False, version: str = "",
                  base: Path = BASE) -> Path:
    """The guest's initramfs with @script as its job, written to @out.

    For the kernel @version, or for the one of @base.
    """
    parts = [PROGRAMS, kernel(version).modules] if version else [base]
    with out.open("wb") as image:
        for part in [*parts, FIO] if with_fio else parts:
            image.write(part.read_bytes())
            image.write(b"\0" * (-image.tell() % 512))
        cpio = CpioWriter(image)
        cpio.data("job.sh", script.encode(), 0o755)
        for name, source in (files or {}).items():
            cpio.file(name, source)
        cpio.close()
    return out


def make_exchange_a_barrier(args: list[str]) -> None:
    """Let the emulator know of more than one processor; @args are QEMU's.

    With a single one TCG makes a load and a store of the guest's xchg, with no
    barrier between it and what follows.  Linux asks for an interrupt by that,
    and looks at the ring afterwards: once in some hundred runs of seconds it
    saw nothing, and the device saw no wish for an interrupt.
    """
    if "-smp" not in args:
        args += ["-smp", "1"]
    at = args.index("-smp") + 1
    if args[at] == "1":
        args[at] = "1,maxcpus=2"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fio", action="store_true", help="fio as well")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    try:
        build(args.fio, (lambda text: None) if args.quiet else print)
    except (debian.PackageError, subprocess.CalledProcessError) as err:
        print(f"guest: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
