# SPDX-License-Identifier: GPL-2.0-or-later
"""A host with a domain, its backends, and what the domain's guest can do."""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import threading
import xml.etree.ElementTree as ElementTree
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stage import BACKENDS, TOP, Console, Host, StageError, wait_until
from doc_blocks import block, commands

PAGE = TOP / "docs/system/devices/vhost-user-memory-isolation-libvirt.rst"
DEVICES = TOP / "docs/system/devices/vhost-user-memory-isolation.rst"
WORK = Path("/srv")
LOG = WORK / "log"
IMAGE = WORK / "disk.img"
NAME = "guest"
REGION = {"/memfd:memory-isolation"}
QEMU_SPACE = "{http://libvirt.org/schemas/domain/qemu/1.0}"


class Giver(SimpleHTTPRequestHandler):
    """Gives files away and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


class Life:
    """A host with a domain, which each case leaves as the next one wants it."""

    def __init__(self) -> None:
        self.host = Host("one", LOG)
        self.console: Console | None = None
        self.others: list[Host] = []
        self.passt = shutil.which("passt") is not None

    # What the page says

    def command(self, begin: str) -> list[str]:
        return shlex.split(commands(block(PAGE, begin))[0])

    def piece(self, begin: str, name: str) -> str:
        """A block of XML, as a file."""
        path = WORK / f"{name}.xml"
        path.write_text(block(PAGE, begin), "utf-8")
        return str(path)

    # What several cases do

    def start_disk(self, host: Host) -> int:
        return host.start_backend("disk.sock",
                                  self.command("host# qemu-storage-daemon"))

    def plain(self) -> ElementTree.ElementTree:
        """The page's domain without what isolates its devices."""
        tree = ElementTree.parse(self.piece("<domain", "domain"))
        root = tree.getroot()
        for part in ("commandline", "override"):
            root.remove(self.find(root, QEMU_SPACE + part))
        return tree

    def compose(self) -> str:
        """The page's domain with its file system and its network."""
        tree = ElementTree.parse(self.piece("<domain", "domain"))
        root = tree.getroot()
        filesystem = ElementTree.fromstring(block(PAGE, "<filesystem"))
        self.find(root, "devices").append(filesystem)
        arguments = block(PAGE, "<qemu:arg value='-chardev'").replace(
            "qemu:arg", "arg")
        for argument in ElementTree.fromstring(f"<a>{arguments}</a>"):
            argument.tag = QEMU_SPACE + "arg"
            self.find(root, QEMU_SPACE + "commandline").append(argument)
        path = WORK / "composed.xml"
        tree.write(path)
        return str(path)

    @staticmethod
    def find(root: ElementTree.Element, tag: str) -> ElementTree.Element:
        found = root.find(tag)
        assert found is not None, tag
        return found

    def boot(self, seconds: float = 120) -> None:
        """The guest comes up from its disk."""
        self.open_console()
        assert self.console is not None
        self.console.wait("GRUB read what is there|RESULT fail", seconds)
        self.console.wait("^JOB ready", seconds)

    def open_console(self) -> None:
        self.close_console()
        self.console = Console(self.host, NAME)

    def close_console(self) -> None:
        if self.console is not None:
            self.console.close()
            self.console = None

    def run(self, command: str, seconds: float = 60) -> str:
        assert self.console is not None
        return self.console.run(command, seconds)

    def expect_region(self, *sockets: str) -> None:
        """These backends have a region of ours and nothing else."""
        for socket in sockets:
            wait_until(lambda: self.host.shared(socket, NAME), 30,
                       f"a region behind {socket}")
            if self.host.shared(socket, NAME) != REGION:
                raise StageError(f"{socket} has "
                                 f"{self.host.shared(socket, NAME)}")

    def destroy(self) -> None:
        self.close_console()
        self.host.try_virsh("destroy", NAME)
        self.host.try_virsh("undefine", NAME)

    # File systems and networks

    def start_file_system(self) -> None:
        shared = WORK / "shared"
        shared.mkdir(exist_ok=True)
        (shared / "host").write_bytes(b"from the host\n" * 5000)
        command = self.command("host# /usr/libexec/virtiofsd")
        if not Path(command[0]).exists():
            # Debian 12's is in C, and has other words for it.
            command = ["/usr/lib/qemu/virtiofsd", command[1], "-o",
                       f"source={shared}"]
        self.host.start_backend("fs.sock", command)

    def check_file_system(self) -> None:
        """Contents are right on both sides."""
        shared = WORK / "shared"
        self.run("mkdir -p /mnt/fs && mount -t virtiofs shared /mnt/fs && "
                 "dd if=/dev/urandom of=/mnt/fs/guest bs=64k count=50 && "
                 "sync && rm -f /tmp/sums && for f in host guest; do "
                 "sha256sum < /mnt/fs/$f >> /tmp/sums; done && "
                 "cp /tmp/sums /mnt/fs/ && umount /mnt/fs")
        sums = [line.split()[0] for line in
                (shared / "sums").read_text("ascii").splitlines()]
        right = [hashlib.sha256((shared / name).read_bytes()).hexdigest()
                 for name in ("host", "guest")]
        if sums != right:
            raise StageError("the guest and the host see different files")

    def start_network(self, begin: str) -> None:
        command = shlex.split(commands(block(DEVICES, begin))[0])
        if command[0] == "passt":
            command += ["--runas", "0"]
        self.host.start_backend("net.sock", command, cwd=BACKENDS,
                                stdin=subprocess.PIPE)
        typed = self.host.backends["net.sock"].stdin
        assert typed is not None
        if command[0] != "passt":
            typed.write(b"start\n")
            typed.flush()

    def check_passt(self) -> None:
        """The guest gets an address, and a file from this host."""
        content = os.urandom(3 << 20)
        (WORK / "www").mkdir(exist_ok=True)
        (WORK / "www/file").write_bytes(content)
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(
                Giver, directory=str(WORK / "www")))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            said = self.run(
                "ip link set eth0 up && printf '#!/bin/sh\\n[ $1 = bound ] && "
                "ip addr add $ip/$mask dev eth0 && echo $router > "
                "/tmp/router\\n' > /tmp/s; chmod +x /tmp/s; "
                "udhcpc -i eth0 -n -q -s /tmp/s; "
                "wget -q -O /tmp/file http://$(cat /tmp/router):"
                f"{server.server_port}/file && sha256sum < /tmp/file", 120)
        finally:
            server.shutdown()
        if hashlib.sha256(content).hexdigest() not in said:
            raise StageError(f"another file came: {said[-200:]!r}")

    def check_dpdk(self) -> None:
        """What the guest sends comes back: testpmd has one port only."""
        self.run("ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up && "
                 "n=0; until [ $(cat /sys/class/net/eth0/statistics/"
                 "rx_packets) -ge 20 ] || [ $n = 60 ]; do "
                 "arping -c 1 -w 1 -I eth0 10.0.0.2; n=$((n + 1)); done; "
                 "[ $n -lt 60 ]", 120)

    def check_network(self) -> None:
        if self.passt:
            self.check_passt()
        else:
            self.check_dpdk()
