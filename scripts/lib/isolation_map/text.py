# SPDX-License-Identifier: GPL-2.0-or-later
"""The map as text for a terminal, and the words that both drawings use."""

from __future__ import annotations

from dataclasses import dataclass

from .model import Access, Link, Map, Memory, Party, Sight

RED, GREEN, YELLOW, BOLD, END = ("\033[1;31m", "\033[32m", "\033[33m",
                                 "\033[1m", "\033[0m")
COLOURS = {Sight.GUEST_RAM: RED, Sight.REGION: GREEN, Sight.NOTHING: GREEN,
           Sight.UNKNOWN: YELLOW}
SAYS = {
    Sight.GUEST_RAM: "CAN READ GUEST RAM",
    Sight.REGION: "can map what QEMU gives it, no guest RAM",
    Sight.NOTHING: "can map nothing of the VM",
    Sight.UNKNOWN: "may not be looked at",
}
LARGE = 1 << 20


@dataclass
class Style:
    """Colours, or none."""

    coloured: bool

    def put(self, colour: str, text: str) -> str:
        return f"{colour}{text}{END}" if self.coloured else text


def size(count: int) -> str:
    number = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.4g} {unit}"


def plural(count: int, noun: str) -> str:
    ends = "es" if noun.endswith("s") else "s"
    return f"{count} {noun}" + ("" if count == 1 else ends)


def sharing(memory: Memory) -> str:
    if not memory.shared:
        return "private"
    return f"shared, file {memory.file}"


def worth_a_line(memory: Memory) -> bool:
    return not memory.is_ram or memory.shared or memory.size >= LARGE


def small_blocks(found: Map) -> str:
    """One line for all that is small and private; "" if nothing is."""
    small = [m for m in found.memory if not worth_a_line(m)]
    if not small:
        return ""
    return (f"{plural(len(small), 'smaller block')}, "
            f"{size(sum(m.size for m in small))}, private")


def isolation(link: Link) -> str:
    if link.device.isolation is None:
        return "QEMU knows of no isolation for it"
    return "memory-isolation=" + ("on" if link.device.isolation else "off")


def backend(link: Link) -> str:
    """What is to be said of a device behind which nobody was found."""
    if link.connected:
        return "a process that is not found here"
    return "no backend is connected"


def access_line(access: Access) -> str:
    piece = access.memory
    count = size(access.size or piece.size)
    return f"{piece.name}, {count}: {access.how()}"


def verdict(found: Map) -> tuple[Sight, str]:
    """How bad it is, in one sentence."""
    readers = found.readers()
    if readers:
        names = ", ".join(f"{p.process.name} ({p.process.pid})"
                          for p in readers)
        count = plural(len(readers), "process")
        return Sight.GUEST_RAM, (f"{count} besides QEMU can read guest RAM: "
                                 f"{names}")
    if found.unknown():
        return Sight.UNKNOWN, "not known: " + "; ".join(found.unknown())
    return Sight.REGION, "no process but QEMU can map guest RAM"


def title(found: Map) -> str:
    name = f"VM {found.name}" if found.name else "VM"
    return (f"{name}: QEMU {found.version}, process {found.qemu.pid} "
            f"({found.qemu.name})")


def _memory(found: Map, style: Style) -> list[str]:
    lines = [style.put(BOLD, "Memory")]
    for piece in filter(worth_a_line, found.memory):
        kind = "guest RAM" if piece.is_ram else "no guest RAM"
        there = "" if piece.resident is None else \
            f", {size(piece.resident)} resident"
        lines.append(f"  {piece.name:<28} {size(piece.size):>10}  {kind}, "
                     f"{sharing(piece)}{there}")
    small = small_blocks(found)
    return lines + ([f"  {small}"] if small else [])


def _party(party: Party, style: Style) -> list[str]:
    process = party.process
    where = f", {process.exe}" if process.exe else ""
    lines = [f"    process {process.pid} {process.name} (user {process.uid}"
             f"{where}): " + style.put(COLOURS[party.sight],
                                       SAYS[party.sight])]
    for access in party.accesses:
        line = f"      {access_line(access)}"
        lines.append(style.put(RED, line) if access.memory.is_ram else line)
    return lines


def _devices(found: Map, style: Style) -> list[str]:
    lines = [style.put(BOLD, "Devices with a backend, and who is behind them")]
    if not found.links:
        lines.append("  none")
    for link in found.links:
        lines.append(f"  {link.device.name}: {link.device.type}, "
                     f"{isolation(link)}, socket {link.socket or 'unknown'}")
        if not link.pids:
            lines.append(f"    {backend(link)}")
        for party in found.parties:
            if party.process.pid in link.pids:
                lines += _party(party, style)
    return lines


def _others(found: Map, style: Style) -> list[str]:
    others = [p for p in found.parties if not p.devices]
    if not others:
        return []
    lines = [style.put(BOLD, "Other processes that have memory of the VM")]
    for party in others:
        lines += _party(party, style)
    return lines


def own_devices(found: Map) -> str:
    """Of devices without a backend; "" if there are none."""
    if not found.own_devices:
        return ""
    # QEMU calls those without an id device[0], device[1] and so on.
    names = ", ".join(d.type if d.name.startswith("device[") else d.name
                      for d in found.own_devices)
    return f"{plural(len(found.own_devices), 'device')} of QEMU's own: {names}"


def kernel_devices(found: Map) -> str:
    if not found.kernel_devices:
        return ""
    return ("the kernel, or hardware, may access guest RAM through "
            + ", ".join(found.kernel_devices))


def unseen(found: Map) -> str:
    """Of processes that nothing can be said of; "" if there are none."""
    if not found.unseen:
        return ""
    names = [f"{p.name} ({p.pid})" for p in found.unseen]
    some = ", ".join(names[:4]) + (", ..." if names[4:] else "")
    return (f"{plural(len(names), 'process')} behind no device may not be "
            f"looked at: {some}")


def remarks(found: Map) -> list[str]:
    return [s for s in (own_devices(found), kernel_devices(found),
                        unseen(found)) if s]


def draw(found: Map, coloured: bool) -> str:
    style = Style(coloured)
    sight, sentence = verdict(found)
    parts = [[style.put(BOLD, title(found))], _memory(found, style),
             _devices(found, style), _others(found, style),
             remarks(found),
             [style.put(COLOURS[sight], f"Verdict: {sentence}")]]
    return "\n\n".join("\n".join(p) for p in parts if p) + "\n"
