# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernels as guests, by version: "6.1", "6.12".

With "-full" behind it the version is Debian's general kernel, which has what
the cloud kernel lacks (virtio_crypto, i2c-dev; 6.12 virtio_snd too) and takes
longer to fetch.  "-drivers" is the same with those that no kernel of Debian
has on amd64, i2c-virtio and gpio-virtio; see drivers.py.  Only the modules
that tests load go into a guest.
"""

from __future__ import annotations

import lzma
import re
import shutil
from pathlib import Path

import drivers
from cpio import CpioWriter
from debian import PackageError
from suites import Suite

METAPACKAGE = "linux-image-cloud-amd64"
FULL = "linux-image-amd64"
FLAVOURS = {"": METAPACKAGE, "full": FULL, "drivers": FULL}
SUITES = {"6.1": "bookworm", "6.12": "trixie"}
MODULES = ["virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net",
           "virtio_balloon", "virtio_console", "virtio_input",
           "virtio_iommu", "virtio_mem", "virtio-rng", "virtiofs",
           "vmw_vsock_virtio_transport", "sd_mod", "af_packet", "evdev",
           "i2c-dev", "i2c-virtio", "gpio-virtio", "virtio_snd",
           "snd-pcm-oss", "virtio_crypto", "algif_skcipher", "vfat",
           "uio_pci_generic", "vfio-pci"]


def modules_folder(root: Path, pattern: str) -> Path:
    for lib in ("lib/modules", "usr/lib/modules"):
        found = sorted((root / lib).glob(pattern))
        if found:
            return found[-1]
    raise PackageError(f"no kernel modules {pattern} in {root}")


def _module_content(path: Path) -> bytes:
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def _module_depends(content: bytes) -> list[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", content)
    names = found.group(1).decode().split(",") if found else []
    return [n for n in names if n]


def add_modules(cpio: CpioWriter, folder: Path,
                more: list[Path] | None = None) -> None:
    """MODULES with all that they need, and a modules.dep that says so.

    They are in @folder, or among @more.
    """
    by_name = {p.name.split(".ko")[0].replace("-", "_"): p
               for p in [*folder.rglob("*.ko*"), *(more or [])]}
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
    # So that modprobe knows what the kernel has anyway.
    cpio.file(f"{inside}/modules.builtin", folder / "modules.builtin")


class GuestKernel:
    """The kernel @version; suites lie in @suites, the result in @out."""

    def __init__(self, version: str, suites: Path, out: Path) -> None:
        self.version = version
        number, _, self._flavour = version.partition("-")
        name = SUITES[number]
        self._suite = Suite(name, suites / name)
        self.image = out / f"vmlinuz-{version}"
        self.modules = out / f"modules-{version}.cpio"

    def exists(self) -> bool:
        return self.modules.exists()

    def build(self) -> None:
        # What belongs to one kernel is from the same lists.
        self._suite.with_lists(self._build)

    def _build(self) -> None:
        package = self._suite.unpack_metapackage(FLAVOURS[self._flavour])
        release = package.removeprefix("linux-image-")
        more = drivers.build(self._suite, release) \
            if self._flavour == "drivers" else []
        root = self._suite.root
        shutil.copyfile(root / f"boot/vmlinuz-{release}", self.image)
        new = self.modules.with_suffix(".new")
        with new.open("wb") as out:
            cpio = CpioWriter(out)
            folder = modules_folder(root, release)
            add_modules(cpio, folder, more)
            cpio.close()
        # Hundreds of megabytes, and nobody needs them again.
        shutil.rmtree(folder)
        new.rename(self.modules)
