# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU says about its VM: RAM blocks, devices and their chardevs.

Through its QMP socket, or through a command that passes QMP on for whoever has
the socket ("virsh qemu-monitor-command DOMAIN").  Asks nothing that changes
anything, and only what QEMU has had for years.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

SECONDS = 10.0
MAX_REPLY = 16 << 20
_BLOCK = re.compile(r"^\s*(\S.*?)\s+\d+ [KMGT]iB\s+0x\w+\s+0x(\w+)\s+0x(\w+)"
                    r"(?:\s+0x(\w+))?")
_NETDEV = re.compile(r"^[ \\]*(\S+): index=\d+,type=([\w-]+),"
                     r"(?:vhost-user\d+ to (\S+))?")
_CONTAINERS = ("/machine/peripheral", "/machine/peripheral-anon")
_NO_SOCKETS = {"type": "", "path": ""}


class QmpError(Exception):
    """QEMU cannot be asked, or refuses to answer."""


class Monitor(Protocol):
    """Something that takes QMP commands."""

    def ask(self, command: str, **arguments: Any) -> Any:
        """What QEMU returns; QmpError if it is an error."""


@dataclass
class RamBlock:
    """A block of the VM's RAM; where it is in QEMU, if QEMU says so."""

    name: str
    used: int
    size: int
    address: int | None


@dataclass
class Chardev:
    """A socket of QEMU's; @path is "" for anything but a unix socket."""

    name: str
    path: str
    connected: bool


@dataclass
class Device:
    """A device of the VM; @chardev is "" unless it has a backend outside."""

    name: str
    type: str
    chardev: str
    isolation: bool | None       # what QEMU says; None: it knows of none


def _result(reply: dict[str, Any]) -> Any:
    if "error" in reply:
        raise QmpError(reply["error"].get("desc", "an error without a text"))
    return reply["return"]


class SocketMonitor:
    """QMP on a socket that nobody else uses just now."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        self._rest = b""
        try:
            self.socket.connect(str(path))
            greeting = self._line()
            self.ask("qmp_capabilities")
        except TimeoutError:
            raise QmpError(f"{path}: no answer in {SECONDS:g} s; somebody "
                           "else may be connected (see --via)") from None
        except (OSError, ValueError) as err:
            raise QmpError(f"{path}: {err}") from None
        version = greeting.get("QMP", {}).get("version", {}).get("qemu")
        if not version:
            raise QmpError(f"{path}: this is not QMP")

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            more = self.socket.recv(65536)
            if not more:
                raise QmpError("QEMU ended the connection")
            self._rest += more
            if len(self._rest) > MAX_REPLY:
                raise QmpError("the answer does not end")
        line, self._rest = self._rest.split(b"\n", 1)
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("this is not QMP")
        return found

    def ask(self, command: str, **arguments: Any) -> Any:
        message = {"execute": command, "arguments": arguments}
        self.socket.sendall(json.dumps(message).encode() + b"\n")
        reply = self._line()
        while "event" in reply:
            reply = self._line()
        return _result(reply)


class CommandMonitor:
    """QMP through a command that takes a QMP command as its last argument."""

    def __init__(self, command: str) -> None:
        self._words = shlex.split(command)

    def ask(self, command: str, **arguments: Any) -> Any:
        message = json.dumps({"execute": command, "arguments": arguments})
        try:
            done = subprocess.run([*self._words, message], text=True,
                                  capture_output=True, timeout=SECONDS,
                                  check=False)
            if done.returncode:
                raise QmpError(f"{self._words[0]}: {done.stderr.strip()}")
            return _result(json.loads(done.stdout))
        except (OSError, ValueError, subprocess.TimeoutExpired) as err:
            raise QmpError(f"{self._words[0]}: {err}") from None


# What is asked

def _human(monitor: Monitor, line: str) -> list[str]:
    text = monitor.ask("human-monitor-command", **{"command-line": line})
    return str(text).splitlines()


def version(monitor: Monitor) -> str:
    found = monitor.ask("query-version")["qemu"]
    return f"{found['major']}.{found['minor']}.{found['micro']}"


def vm_name(monitor: Monitor) -> str:
    return str(monitor.ask("query-name").get("name", ""))


def ram_blocks(monitor: Monitor) -> list[RamBlock]:
    blocks = []
    for line in _human(monitor, "info ramblock"):
        found = _BLOCK.match(line)
        if found:
            name, used, size, address = found.groups()
            blocks.append(RamBlock(name, int(used, 16), int(size, 16),
                                   int(address, 16) if address else None))
    if not blocks:
        raise QmpError("QEMU names no RAM block")
    return blocks


def _property(monitor: Monitor, path: str, name: str) -> Any:
    """None if there is no such property, or it cannot be read."""
    try:
        return monitor.ask("qom-get", path=path, property=name)
    except QmpError:
        return None


def _names(monitor: Monitor, path: str) -> dict[str, str]:
    """Properties of an object and their types."""
    try:
        return {p["name"]: p["type"] for p in
                monitor.ask("qom-list", path=path)}
    except QmpError:
        return {}


def _child_type(word: str) -> str:
    found = re.fullmatch(r"child<(.+)>", word)
    return found.group(1) if found else ""


def chardevs(monitor: Monitor) -> list[Chardev]:
    found = []
    for name, kind in _names(monitor, "/chardevs").items():
        if _child_type(kind) != "chardev-socket":
            continue
        address = _property(monitor, f"/chardevs/{name}", "addr")
        if not isinstance(address, dict):
            address = _NO_SOCKETS
        path = address["path"] if address.get("type") == "unix" else ""
        if address.get("abstract"):
            path = "\0" + path
        found.append(Chardev(name, path, bool(
            _property(monitor, f"/chardevs/{name}", "connected"))))
    return found


def _netdevs(monitor: Monitor) -> dict[str, str]:
    """Chardev of each vhost-user netdev."""
    return {m.group(1): m.group(3) for m in
            map(_NETDEV.match, _human(monitor, "info network"))
            if m and m.group(3)}


def _chardev_of(monitor: Monitor, path: str, has: dict[str, str],
                netdevs: dict[str, str]) -> str:
    """The chardev that leads to the backend of the device at @path."""
    if "chardev" in has:
        return str(_property(monitor, path, "chardev") or "")
    if "netdev" in has:
        return netdevs.get(str(_property(monitor, path, "netdev")), "")
    for name in ("cryptodev", "vhost-user"):
        peer = str(_property(monitor, path, name) or "") if name in has else ""
        if peer:
            return str(_property(monitor, peer, "chardev") or "")
    return ""


def _isolation_of(monitor: Monitor, path: str,
                  has: dict[str, str]) -> bool | None:
    inner = f"{path}/virtio-backend" if "virtio-backend" in has else path
    # The property is what was asked for, and that may be left to a policy.
    if _property(monitor, inner, "memory-isolation-stats"):
        return True
    # That of a netdev or cryptodev shows in its device only.
    return False if "memory-isolation" in has else None


def devices(monitor: Monitor) -> list[Device]:
    netdevs = _netdevs(monitor)
    serial = ("isa-serial", "virtserialport", "virtconsole", "pci-serial",
              "isa-debugcon", "sclpconsole")
    found = []
    for container in _CONTAINERS:
        for name, kind in _names(monitor, container).items():
            if not _child_type(kind):
                continue
            path = f"{container}/{name}"
            has = _names(monitor, path)
            chardev = "" if _child_type(kind) in serial else \
                _chardev_of(monitor, path, has, netdevs)
            found.append(Device(
                name, _child_type(kind), chardev,
                _isolation_of(monitor, path, has) if chardev else None))
    return found
