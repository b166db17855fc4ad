# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts together what QEMU says and what /proc says: who can map what.

QEMU is asked which RAM blocks and devices there are.  Whether a process can
read a block is never asked: it can if it has the block's file mapped or holds a
descriptor of it, as /proc says of that process.  Anonymous memory, and private
mappings of a file, are nobody else's.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from . import proc, qmp, sockets

REGION = "memory-isolation"
# What lets the kernel, or hardware, work on the memory of a process.
_KERNEL_DEVICES = re.compile(r"/dev/(vhost-(net|vsock|scsi|vdpa-\d+)|vfio/.*|"
                             r"iommu)$")
_FOREIGN = re.compile(r"/memfd:|/dev/shm/|/dev/hugepages|/anon_hugepage|"
                      r"/dev/zero|/SYSV")


class Sight(Enum):
    """What a process can read of a VM's memory, as /proc has it."""

    NOTHING = "nothing"
    REGION = "region"              # memory that QEMU shares, but no guest RAM
    GUEST_RAM = "guest-ram"
    UNKNOWN = "unknown"            # it may not be looked at


@dataclass
class Memory:
    """A RAM block, or other memory that QEMU shares with somebody."""

    key: str
    name: str
    size: int
    is_ram: bool
    shared: bool
    files: set[proc.File] = field(default_factory=set)
    resident: int | None = None

    @property
    def file(self) -> str:
        if not self.files:
            return ""
        major, minor, inode = min(self.files)
        return f"{major:02x}:{minor:02x} {inode}"


@dataclass
class Access:
    """How a process gets at a piece of memory."""

    memory: Memory
    size: int = 0                  # bytes that are mapped
    writable: bool = False
    descriptors: list[int] = field(default_factory=list)

    def how(self) -> str:
        words = []
        if self.size:
            words.append("mapped, read and write" if self.writable
                         else "mapped, read only")
        if self.descriptors:
            words.append("holds descriptor " +
                         ", ".join(map(str, self.descriptors)))
        return "; ".join(words)


@dataclass
class Party:
    """A process that is behind a device or has memory of the VM."""

    process: proc.Process
    sight: Sight
    accesses: list[Access]
    devices: list[str] = field(default_factory=list)


@dataclass
class Link:
    """A device with a backend, and who that is."""

    device: qmp.Device
    socket: str
    connected: bool
    pids: list[int]


@dataclass
class Map:
    """All that is drawn."""

    name: str
    version: str
    qemu: proc.Process
    memory: list[Memory]
    links: list[Link]
    own_devices: list[qmp.Device]
    parties: list[Party]
    kernel_devices: list[str]
    unseen: list[proc.Process]     # behind no device, and not to be looked at

    def readers(self) -> list[Party]:
        return [p for p in self.parties if p.sight == Sight.GUEST_RAM]

    def unknown(self) -> list[str]:
        """What keeps one from saying that nobody reads guest RAM."""
        said = [f"process {p.process.pid} ({p.process.name}) may not be looked "
                "at" for p in self.parties if p.sight == Sight.UNKNOWN]
        said += [f"{x.device.name} is connected to a process that is not "
                 "found here" for x in self.links
                 if x.connected and not x.pids]
        return said


# Memory

def _block_mappings(block: qmp.RamBlock,
                    qemu: proc.Process) -> list[proc.Mapping]:
    """Where QEMU has @block; by its size if QEMU does not say where."""
    if block.address is None:
        return [m for m in qemu.mappings if m.shared and REGION not in m.path
                and m.size == block.size and _FOREIGN.match(m.path)][:1]
    end = block.address + max(block.used, 1)
    return [m for m in qemu.mappings
            if m.start < end and m.end > block.address]


def _files(qemu: proc.Process, mappings: list[proc.Mapping]) -> set[proc.File]:
    found = {m.file for m in mappings if m.file}
    found |= {proc.other_name(qemu.pid, m) for m in mappings if m.file}
    return {f for f in found if f}


def _ram(blocks: list[qmp.RamBlock], qemu: proc.Process) -> list[Memory]:
    found = []
    for number, block in enumerate(blocks):
        shared = [m for m in _block_mappings(block, qemu) if m.shared]
        found.append(Memory(
            f"ram{number}", block.name, block.used, True, bool(shared),
            _files(qemu, shared),
            proc.resident(qemu.pid, shared[0], qemu) if shared else None))
    return found


def _foreign_name(mapping: proc.Mapping) -> str:
    path = mapping.path.removesuffix(" (deleted)")
    return path.removeprefix("/memfd:") or "shared memory"


def _regions(qemu: proc.Process, ram: list[Memory]) -> list[Memory]:
    """Shared memory of QEMU's that is no RAM block."""
    known = set().union(*(m.files for m in ram)) if ram else set()
    found: dict[proc.File, Memory] = {}
    for mapping in qemu.mappings:
        if not mapping.shared or not mapping.file or mapping.file in known or \
                not _FOREIGN.match(mapping.path):
            continue
        region = found.setdefault(mapping.file, Memory(
            f"region{len(found)}", _foreign_name(mapping), 0, False, True,
            _files(qemu, [mapping]),
            proc.resident(qemu.pid, mapping, qemu)))
        region.size += mapping.size
    return list(found.values())


# Processes

def _accesses(process: proc.Process, qemu: proc.Process,
              memory: list[Memory]) -> list[Access]:
    by_file = {f: m for m in memory for f in m.files}
    found: dict[str, Access] = {}

    def access(piece: Memory) -> Access:
        return found.setdefault(piece.key, Access(piece))

    for mapping in process.mappings:
        piece = by_file.get(mapping.file) if mapping.file else None
        if piece:
            access(piece).size += mapping.size
            access(piece).writable |= mapping.shared and "w" in mapping.perms
    for held in process.descriptors:
        piece = by_file.get(held.file) if held.file else None
        if piece:
            access(piece).descriptors.append(held.number)
        if re.fullmatch(rf"/proc/{qemu.pid}(/task/\d+)?/mem", held.path):
            for block in memory:
                access(block).descriptors.append(held.number)
    return sorted(found.values(), key=lambda a: not a.memory.is_ram)


def _sight(process: proc.Process, accesses: list[Access]) -> Sight:
    if any(a.memory.is_ram for a in accesses):
        return Sight.GUEST_RAM
    if not process.visible:
        return Sight.UNKNOWN
    return Sight.REGION if accesses else Sight.NOTHING


def _link(device: qmp.Device, chardevs: dict[str, qmp.Chardev],
          qemu: proc.Process, table: dict[int, sockets.UnixSocket],
          held: dict[int, list[int]]) -> Link:
    chardev = chardevs.get(device.chardev)
    if not chardev:
        return Link(device, "", False, [])
    ends = sockets.peers(qemu, table, chardev.path)
    pids = {p for e in ends for p in held.get(e, []) if p != qemu.pid}
    return Link(device, chardev.path.replace("\0", "@"), chardev.connected,
                sorted(pids))


def _parties(processes: list[proc.Process], qemu: proc.Process,
             memory: list[Memory], links: list[Link]) -> list[Party]:
    found = []
    for process in processes:
        devices = [x.device.name for x in links if process.pid in x.pids]
        accesses = _accesses(process, qemu, memory)
        if devices or accesses:
            found.append(Party(process, _sight(process, accesses), accesses,
                               devices))
    return found


def _name_regions(memory: list[Memory], parties: list[Party]) -> list[Memory]:
    """Say whose a region is where it can be told; drop what nobody shares."""
    kept = []
    for piece in memory:
        users = [p for p in parties
                 if any(a.memory is piece for a in p.accesses)]
        devices = {d for p in users for d in p.devices}
        if not piece.is_ram and len(devices) == 1:
            piece.name += f" of {devices.pop()}"
        if piece.is_ram or users or REGION in piece.name:
            kept.append(piece)
    return kept


def make(monitor: qmp.Monitor, pid: int) -> Map:
    """Look at the QEMU of @monitor, which is process @pid."""
    blocks, devices = qmp.ram_blocks(monitor), qmp.devices(monitor)
    chardevs = {c.name: c for c in qmp.chardevs(monitor)}
    qemu = proc.look_or_fail(pid)
    ram = _ram(blocks, qemu)
    memory = ram + _regions(qemu, ram)
    processes = [p for p in map(proc.look, proc.pids())
                 if p and p.pid not in (pid, os.getpid())]
    held = sockets.holders(processes)
    table = sockets.table(pid)
    links = [_link(d, chardevs, qemu, table, held)
             for d in devices if d.chardev]
    parties = _parties(processes, qemu, memory, links)
    shown = {p.process.pid for p in parties}
    return Map(
        qmp.vm_name(monitor), qmp.version(monitor), qemu,
        _name_regions(memory, parties), links,
        [d for d in devices if not d.chardev], parties,
        sorted({d.path for d in qemu.descriptors
                if _KERNEL_DEVICES.match(d.path)}),
        [p for p in processes if not p.visible and p.pid not in shown])


# As JSON

def _document_of(party: Party) -> dict[str, Any]:
    return {
        "pid": party.process.pid, "name": party.process.name,
        "executable": party.process.exe, "uid": party.process.uid,
        "sight": party.sight.value, "devices": party.devices,
        "accesses": [{
            "memory": a.memory.name, "guest-ram": a.memory.is_ram,
            "file": a.memory.file, "mapped-bytes": a.size,
            "writable": a.writable, "descriptors": a.descriptors,
        } for a in party.accesses]}


def document(found: Map) -> dict[str, Any]:
    """What is drawn, for programs."""
    return {
        "vm": found.name,
        "qemu": {"pid": found.qemu.pid, "version": found.version,
                 "executable": found.qemu.exe},
        "memory": [{
            "name": m.name, "bytes": m.size, "guest-ram": m.is_ram,
            "shared": m.shared, "file": m.file, "resident-bytes": m.resident,
        } for m in found.memory],
        "devices": [{
            "name": x.device.name, "type": x.device.type,
            "chardev": x.device.chardev, "socket": x.socket,
            "connected": x.connected, "memory-isolation": x.device.isolation,
            "pids": x.pids,
        } for x in found.links],
        "devices-of-qemu": [d.name for d in found.own_devices],
        "processes": [_document_of(p) for p in found.parties],
        "kernel-devices": found.kernel_devices,
        "readers-of-guest-ram": [p.process.pid for p in found.readers()],
        "unknown": found.unknown(),
        "unseen": [p.pid for p in found.unseen],
    }
