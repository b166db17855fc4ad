#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A small Linux guest, made of Debian packages and nothing installed.

    build/guest/root/       unpacked packages: kernel, busybox, backend, ...
    build/guest/vmlinuz     Debian's cloud kernel
    build/guest/base.cpio   busybox, virtio modules, mke2fs, the load tool
    build/guest/fio.cpio    fio and its libraries (only if asked for)

Debian's own qemu-storage-daemon is unpacked beside them: the tests want a
backend that nobody here built.  A stamp holds what the result was made from;
as long as that is unchanged, nothing is done.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import debian                               # noqa: E402
from cpio import CpioWriter                 # noqa: E402

TOP = HERE.parent.parent
OUT = TOP / "build" / "guest"
ROOT = OUT / "root"
DEBS = OUT / "debs"
KERNEL = OUT / "vmlinuz"
BASE = OUT / "base.cpio"
FIO = OUT / "fio.cpio"
LOAD = OUT / "load"

METAPACKAGE = "linux-image-cloud-amd64"
PACKAGES = ["busybox-static", "e2fsprogs", "ovmf"]
MODULES = ["virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net",
           "virtio_console", "virtio_input", "virtio-rng", "virtiofs",
           "vmw_vsock_virtio_transport"]
LOAD_SOURCES = ["load.c", "load-content.c"]
SOURCES = ["build.py", "cpio.py", "debian.py", "init", "load-content.h",
           *LOAD_SOURCES]


def storage_daemon_package() -> str:
    """Debian 12 has qemu-storage-daemon in another package than 13."""
    release = Path("/etc/debian_version").read_text(encoding="ascii")
    return "qemu-system-common" if release.startswith("12") else "qemu-utils"


def storage_daemon() -> Path:
    return ROOT / "usr/bin/qemu-storage-daemon"


def sbin(program: str) -> Path:
    """@program from the unpacked tree, with or without merged /usr."""
    for folder in ("usr/sbin", "sbin", "usr/bin", "bin"):
        if (ROOT / folder / program).exists():
            return ROOT / folder / program
    raise debian.PackageError(f"no {program} in {ROOT}")


def modules_folder() -> Path:
    for lib in ("lib/modules", "usr/lib/modules"):
        found = sorted((ROOT / lib).glob("*-cloud-amd64"))
        if found:
            return found[-1]
    raise debian.PackageError(f"no kernel modules in {ROOT}")


def _module_content(path: Path) -> bytes:
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def _module_depends(content: bytes) -> list[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", content)
    names = found.group(1).decode().split(",") if found else []
    return [n for n in names if n]


def add_modules(cpio: CpioWriter) -> None:
    """MODULES with all that they need, and a modules.dep that says so."""
    folder = modules_folder()
    by_name = {p.name.split(".ko")[0].replace("-", "_"): p
               for p in folder.rglob("*.ko*")}
    inside = f"lib/modules/{folder.name}"
    closure: dict[str, list[str]] = {}

    def visit(name: str) -> list[str]:
        name = name.replace("-", "_")
        if name not in closure:
            content = _module_content(by_name[name])
            cpio.data(f"{inside}/{name}.ko", content)
            needed: list[str] = []
            for dep in _module_depends(content):
                needed += [f"{dep.replace('-', '_')}.ko", *visit(dep)]
            # modprobe loads from the end: keep the last of each.
            closure[name] = list(dict.fromkeys(needed[::-1]))[::-1]
        return closure[name]

    for module in MODULES:
        if module.replace("-", "_") in by_name:
            visit(module)
    dep = "".join(f"{n}.ko: {' '.join(d)}\n" for n, d in closure.items())
    cpio.data(f"{inside}/modules.dep", dep.encode())


def add_program(cpio: CpioWriter, name: str, source: Path) -> None:
    """A program from the unpacked tree with its shared libraries."""
    cpio.file(name, source)
    for soname, path in debian.shared_libraries(source, ROOT).items():
        inside = soname if soname.startswith("/") else f"/lib/guest/{soname}"
        cpio.file(inside.lstrip("/"), path.resolve())


def fetch() -> None:
    debian.unpack([debian.resolve_metapackage(METAPACKAGE)], DEBS, ROOT,
                  dependencies=False)
    debian.unpack([*PACKAGES, storage_daemon_package()], DEBS, ROOT)


def build_load() -> None:
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static",
                    "-pthread", "-o", str(LOAD),
                    *(str(HERE / name) for name in LOAD_SOURCES)],
                   check=True)


def write_base() -> None:
    with BASE.with_suffix(".new").open("wb") as out:
        cpio = CpioWriter(out)
        cpio.file("bin/busybox", sbin("busybox"))
        cpio.symlink("bin/sh", "busybox")
        cpio.data("init", (HERE / "init").read_bytes(), 0o755)
        cpio.device("dev/console", 5, 1)
        add_modules(cpio)
        add_program(cpio, "usr/sbin/mke2fs", sbin("mke2fs"))
        add_program(cpio, "usr/sbin/e2fsck", sbin("e2fsck"))
        cpio.file("usr/bin/load", LOAD)
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
        try:
            fetch()
        except debian.PackageError:
            # The lists may be missing, or older than what the archive has.
            if not debian.refresh_lists():
                raise
            fetch()
        build_load()
        copy_kernel()
        write_base()
        FIO.unlink(missing_ok=True)
        stamp.write_text(now, encoding="ascii")
    if with_fio and not FIO.exists():
        say("guest: fetching Debian's fio")
        debian.unpack(["fio"], DEBS, ROOT)
        write_fio()


def job_initramfs(out: Path, script: str, files: dict[str, Path] | None = None,
                  with_fio: bool = False) -> Path:
    """The guest's initramfs with @script as its job, written to @out."""
    with out.open("wb") as image:
        for part in [BASE, FIO] if with_fio else [BASE]:
            image.write(part.read_bytes())
            image.write(b"\0" * (-image.tell() % 512))
        cpio = CpioWriter(image)
        cpio.data("job.sh", script.encode(), 0o755)
        for name, source in (files or {}).items():
            cpio.file(name, source)
        cpio.close()
    return out


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
