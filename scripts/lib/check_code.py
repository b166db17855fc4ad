#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the code itself, each named by its claim.

    check_code.py CLAIM

"layers" reads #include lines: a file includes headers of its own layer and of
the layers above it in the table of docs/devel and of nothing else of ours.

"circles" reads calls: which file defines a function, and which files use it.
No two files need each other, be it through a third one.  Headers do not count,
and neither does a table of functions, which is how a lower file is given what
it does not know.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / "build"
MAX_FILE = 500
MAX_FUNCTION = 60

# Layers, the lowest first: name, files, what of QEMU they may include.  A
# header of ours may be included from its own layer and from lower rows.
LAYERS: list[tuple[str, list[str], list[str]]] = [
    ("ring", ["shadow-ring*"],
     ["qemu/osdep.h", "qemu/atomic.h", "qemu/bswap.h", "qemu/compiler.h",
      "qemu/host-utils.h", "qemu/processor.h", "standard-headers/linux/*",
      "trace.h"]),
    ("versions", ["vhost-user-compat*"], ["*"]),
    ("memory", ["bounce*", "guest-chain*", "guest-iotlb*", "virtio-chain*"],
     ["*"]),
    ("queue", ["isolated-*"], ["*"]),
    ("vdpa", ["vhost-svq*"], ["*"]),
    ("transport", ["vhost-user-transport*", "vhost-user-channel*",
                   "vhost-user-dial*"], ["*"]),
    ("control", ["vhost-user-isolation*"], ["*"]),
]
# QEMU's own headers that a layer must not know.
FORBIDDEN: dict[str, list[str]] = {
    "memory": ["hw/virtio/vhost*", "migration/*"],
    "queue": ["hw/virtio/vhost-user*", "hw/virtio/vhost*", "migration/*"],
    "vdpa": ["hw/virtio/vhost-user*", "hw/virtio/vhost-vdpa*", "migration/*"],
}
# The only data-path files that may include virtio.h.
VIRTIO_H = ["guest-chain*", "guest-iotlb*", "virtio-chain*",
            "vhost-user-isolation*", "vhost-svq*"]
# Layers that may not see each other although one stands above the other.
BLIND = {("memory", "ring"), ("control", "ring"), ("vdpa", "queue"),
         ("control", "vdpa")}
SUBSYSTEM = ("hw/virtio", "include/hw/virtio")
# Calls that wait for somebody else, or whose descriptors somebody else sent.
WAITS = re.compile(
    r"(?<![\w.>])("
    r"p?readv?2?|p?writev?2?|recv|recvfrom|recvm?msg|send|sendto|sendm?msg|"
    r"splice|close|closesocket|poll|ppoll|p?select|epoll_wait|connect|accept4?|"
    r"fsync|ioctl|syscall|usleep|sleep|nanosleep|waitpid|g_poll|g_usleep|"
    r"g_close|g_main_context_iteration|eventfd_(?:read|write)|"
    r"event_notifier_(?:set|test_and_clear)|aio_poll|main_loop_wait|"
    r"AIO_WAIT_WHILE\w*|BDRV_POLL_WHILE|qemu_(?:sem|cond|event)_(?:timed)?wait|"
    r"qemu_thread_join|qemu_poll_ns|qemu_close|qemu_(?:read|write)_full|"
    r"qemu_send_full|unix_(?:connect|listen)\w*|inet_\w+|socket_\w+|"
    r"qemu_chr_(?:fe_)?(?:read|write|ioctl|wait|sync|get_msgfd|set_msgfd|"
    r"accept)\w*|"
    r"qio_(?:net_listener|dns|task_wait|channel_(?!ref|unref|set_name|"
    r"set_blocking))\w*)\s*\(")
# File, call, and why it may be there.
WAITS_WITH_REASON: dict[str, dict[str, str]] = {
    "vhost-user-transport.c": {
        "sendmsg": "the door: MSG_DONTWAIT",
        "recvmsg": "the door: MSG_DONTWAIT",
        "qemu_poll_ns": "the door: until the deadline of the exchange",
        "close": "the door: in the thread that closes",
    },
    "vhost-user-channel.c": {
        "send": "MSG_DONTWAIT",
        "close": "an end of a socketpair that QEMU holds two descriptors of",
    },
    "vhost-user-dial.c": {
        "socket_connect": "in a thread that can be left behind",
        "close": "of a socket that nothing was sent on",
        "qemu_sem_timedwait": "for that thread, with a limit",
        "qemu_chr_fe_wait_connected": "before the machine runs",
        "g_usleep": "before the machine runs",
    },
    "bounce.c": {
        "close": "of a memfd: nothing waits for who else has it",
    },
    "isolated-kick.c": {
        "syscall": "asynchronous I/O, whose calls return at once",
        "qemu_close": "of /dev/null",
        "event_notifier_set": "where there is none, which the user is told",
    },
    "isolated-queue-dispatch.c": {
        "preadv2": "RWF_NOWAIT",
        "event_notifier_set": "of the guest's notifier, which no backend has",
        "event_notifier_test_and_clear": "of the guest's notifier; of the "
                                         "backend's for kernels without "
                                         "RWF_NOWAIT",
    },
    "vhost-user-isolation-guest.c": {
        "qemu_sem_wait": "for an IOThread of ours",
        "g_usleep": "until the deadline of a stop",
        "event_notifier_test_and_clear": "of the guest's notifier",
    },
    "vhost-svq.c": {
        "event_notifier_set": "the other end is the kernel",
        "event_notifier_test_and_clear": "the other end is the kernel",
        "qemu_poll_ns": "the other end is the kernel; with a limit",
    },
    "vhost-svq-run.c": {
        "event_notifier_set": "of the guest's notifier",
    },
}
FOREIGN = re.compile(r"\b(foreign_\w+|Foreign[A-Z]\w*)\b")


def tracked(*patterns: str) -> list[Path]:
    """Our files, committed or about to be."""
    out = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", "--",
         *patterns], cwd=TOP, capture_output=True, text=True,
        check=True).stdout
    names = sorted({n for n in out.split("\0") if n})
    return [TOP / n for n in names if (TOP / n).is_file()]


def layer_of(name: str) -> int | None:
    """The row of LAYERS that @name (of a file or header of ours) is in."""
    for row, (_, patterns, _) in enumerate(LAYERS):
        if any(fnmatch.fnmatch(name, p) for p in patterns):
            return row
    return None


def subsystem_files() -> list[Path]:
    return [p for p in tracked(*SUBSYSTEM)
            if p.suffix in (".c", ".h", ".inc") and
            layer_of(p.name) is not None]


def is_ours(header: str) -> bool:
    name = header.rsplit("/", 1)[-1]
    return any((TOP / folder / name).exists() for folder in SUBSYSTEM)


def check_include(path: Path, row: int, header: str) -> str | None:
    """What is wrong with @path including @header, if anything."""
    layer = LAYERS[row][0]
    name = header.rsplit("/", 1)[-1]
    if is_ours(header):
        other = layer_of(name)
        if other is None:
            return "includes a header of ours that is in no layer"
        if other > row:
            return f"{layer} layer includes the {LAYERS[other][0]} layer"
        if (layer, LAYERS[other][0]) in BLIND:
            return f"{layer} layer must not know the {LAYERS[other][0]} layer"
        return None
    if not any(fnmatch.fnmatch(header, p) for p in LAYERS[row][2]):
        return f"not allowed in the {layer} layer"
    if any(fnmatch.fnmatch(header, p) for p in FORBIDDEN.get(layer, [])):
        return f"{layer} layer must not know it"
    if header == "hw/virtio/virtio.h" and not any(
            fnmatch.fnmatch(path.name, p) for p in VIRTIO_H):
        return "only guest-chain may include virtio.h on the data path"
    return None


def layers() -> list[str]:
    faults = []
    for path in subsystem_files():
        row = layer_of(path.name)
        assert row is not None
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if found:
                wrong = check_include(path, row, found.group(1))
                if wrong:
                    faults.append(f"{path.relative_to(TOP)}:{number}: "
                                  f"{found.group(1)}: {wrong}")
    return faults


def without_comments(text: str) -> str:
    """@text with comments and strings blanked, lines kept."""
    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", found.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text,
                  flags=re.DOTALL)


def foreign_memory() -> list[str]:
    """Memory that the backend can write is read in ring files only."""
    faults = []
    for path in tracked("hw", "include"):
        if path.suffix not in (".c", ".h", ".inc") or \
                fnmatch.fnmatch(path.name, "shadow-ring*"):
            continue
        text = without_comments(path.read_text(encoding="utf-8"))
        for number, line in enumerate(text.splitlines(), 1):
            found = FOREIGN.search(line)
            if found:
                faults.append(f"{path.relative_to(TOP)}:{number}: "
                              f"{found.group(1)} outside of the ring")
    return faults


def added_by_hook(patch: str) -> dict[str, str]:
    """By file of QEMU: the C text that a hook adds, other lines blank."""
    lines = patch.splitlines()
    names, name = [], ""
    for number, line in enumerate(lines):
        if line.startswith(("diff ", "+++ ")):
            found = re.match(r"\+\+\+ b/(?!tests/)(\S+\.[ch])$", line)
            name = found.group(1) if found else ""
        elif line.startswith("@@"):
            # A comment that the hunk before has begun ends.
            lines[number] = " */"
        names.append(name if line.startswith("+") else "")
    text = without_comments("\n".join(x[1:] for x in lines)).splitlines()
    return {name: "\n".join(line if name == of else ""
                            for line, of in zip(text, names))
            for name in set(names) - {""}}


def blocking_calls() -> list[str]:
    """Whoever waits for a backend, or closes what it sent, is the door."""
    places = [(str(p.relative_to(TOP)), p.name,
               without_comments(p.read_text(encoding="utf-8")))
              for p in tracked("hw", "include")
              if p.suffix in (".c", ".h", ".inc")]
    for patch in sorted((TOP / "patches").glob("*.patch")):
        added = added_by_hook(patch.read_text(encoding="utf-8"))
        places += [(f"patches/{patch.name}", name, text)
                   for name, text in sorted(added.items())]
    faults = []
    unused = {(name, call) for name, reasons in WAITS_WITH_REASON.items()
              for call in reasons}
    for where, name, text in places:
        for number, line in enumerate(text.splitlines(), 1):
            for call in WAITS.findall(line):
                unused.discard((name, call))
                if call not in WAITS_WITH_REASON.get(name, {}):
                    faults.append(f"{where}:{number}: {call}() can wait for "
                                  "somebody else: the transport's business")
    return faults + [f"{name}: {call}() has a reason and is not there"
                     for name, call in sorted(unused)]


def functions(text: str) -> list[tuple[int, str, int]]:
    """(first line, name, lines) of each function of a C file in our style."""
    found = []
    lines = without_comments(text).splitlines()
    begin, name = 0, ""
    for number, line in enumerate(lines, 1):
        head = re.match(r"[A-Za-z_].*?\b(\w+)\(", line)
        if head and not line.rstrip().endswith(";"):
            name = head.group(1)
        if line.startswith("{"):
            begin = number
        elif line.startswith("}") and begin:
            if name:
                found.append((begin, name, number - begin - 1))
            begin, name = 0, ""
    return found


def definitions(text: str) -> set[str]:
    """Functions that a C file in our style (without comments) defines for
    others."""
    return set(re.findall(r"^(?!static\b)[A-Za-z_][^;{}()]*?\b(\w+)\("
                          r"[^;{}]*\)\n\{", text, re.MULTILINE))


def calls() -> dict[Path, dict[Path, list[str]]]:
    """Which file uses which functions of which other file."""
    # A stub is there instead of another file, never with it.
    texts = {p: without_comments(p.read_text(encoding="utf-8"))
             for p in subsystem_files()
             if p.suffix != ".h" and not p.stem.endswith("-stub")}
    words = {p: set(re.findall(r"\w+", text)) for p, text in texts.items()}
    graph: dict[Path, dict[Path, list[str]]] = {p: {} for p in texts}
    for callee, text in texts.items():
        functions_of_it = definitions(text)
        for caller in texts:
            used = sorted(functions_of_it & words[caller])
            if used and caller != callee:
                graph[caller][callee] = used
    return graph


def reached(graph: dict[Path, dict[Path, list[str]]], start: Path
            ) -> set[Path]:
    """What @start needs, directly or through others."""
    found: set[Path] = set()
    todo = [start]
    while todo:
        for callee in graph[todo.pop()]:
            if callee not in found:
                found.add(callee)
                todo.append(callee)
    return found


def circles() -> list[str]:
    """Files that need each other, and the calls that make them so."""
    graph = calls()
    needs = {p: reached(graph, p) for p in graph}
    faults = []
    for caller in sorted(graph):
        for callee, used in sorted(graph[caller].items()):
            if caller in needs[callee]:
                more = f" and {len(used) - 3} more" if len(used) > 3 else ""
                faults.append(f"{caller.relative_to(TOP)} needs {callee.name} "
                              f"({', '.join(used[:3])}{more}), which needs it")
    return faults


def sizes() -> list[str]:
    faults = []
    for path in tracked("hw", "include", "tests", "scripts"):
        if path.suffix not in (".c", ".h", ".inc", ".py", ".sh", ""):
            continue
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(TOP)
        count = len(text.splitlines())
        if count > MAX_FILE:
            faults.append(f"{where}: {count} lines, {MAX_FILE} are the limit")
        if path.suffix not in (".c", ".inc"):
            continue
        for line, name, length in functions(text):
            if length > MAX_FUNCTION and "longer on purpose" not in text:
                faults.append(f"{where}:{line}: {name} has {length} lines, "
                              f"{MAX_FUNCTION} are the limit")
    return faults


def licences() -> list[str]:
    """Every file says its licence, or is of a kind that cannot."""
    silent = {"COPYING", ".gitignore", "series", "maintainers"}
    faults = []
    for path in tracked("."):
        if path.name in silent or path.suffix in (".patch", ".png", ".bin"):
            continue
        head = path.read_bytes()[:4096]
        if b"SPDX-License-Identifier: GPL-2.0-or-later" not in head:
            faults.append(f"{path.relative_to(TOP)}: no SPDX line")
    return faults


def no_machine_names() -> list[str]:
    """Nothing of the machine that a file was written on."""
    bad = re.compile(r"/tmp/ref|/work/(main|shared)|(?<![\w'\"])/root/(?!project)|/home/\w|"
                     r"https?://(deb|ftp|security|mirror)[\w.-]*/")
    faults = []
    for path in tracked("."):
        if path == Path(__file__).resolve() or path.name == "COPYING":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if bad.search(line):
                faults.append(f"{path.relative_to(TOP)}:{number}: "
                              f"{line.strip()[:70]}")
    return faults


def hooked_files() -> set[str]:
    """Files of QEMU that our hooks change."""
    names: set[str] = set()
    for patch in (TOP / "patches").glob("*.patch"):
        names |= set(re.findall(r"^\+\+\+ b/(\S+\.c)$", patch.read_text(
            encoding="utf-8"), re.MULTILINE))
    return names


def compile_command(entry: dict[str, str], compiler: str) -> list[str]:
    command = shlex.split(entry["command"])
    while command and not re.search(r"(^|/)(cc|gcc|clang)$", command[0]):
        command.pop(0)
    command[0] = compiler
    for flag in ("-o", "-MF", "-MQ"):
        while flag in command:
            at = command.index(flag)
            del command[at:at + 2]
    command = [c for c in command if c != "-MD"]
    extra = ["-Werror", "-o", "/dev/null"]
    if compiler == "clang":
        # QEMU chooses these for gcc; Debian 12's clang has them not.
        command = [c for c in command if not c.startswith(
            ("-fzero-call-used-regs", "-ftrivial-auto-var-init"))]
        extra += ["-Wno-unknown-warning-option",
                  "-Wno-unused-command-line-argument"]
    return command + extra


def warnings(compiler: str) -> list[str]:
    """Our files and those that we change, compiled with -Werror."""
    database = BUILD / "qemu/compile_commands.json"
    ours = {str(p.relative_to(TOP)) for p in tracked("hw", "tests/unit",
                                                     "tests/qtest")}
    ours |= hooked_files()
    jobs: dict[str, tuple[list[str], str]] = {}
    for entry in json.loads(database.read_text(encoding="utf-8")):
        absolute = os.path.normpath(os.path.join(entry["directory"],
                                                 entry["file"]))
        name = os.path.relpath(absolute, BUILD / "qemu-src")
        if name in ours:
            jobs[name] = (compile_command(entry, compiler),
                          entry["directory"])

    def one(job: tuple[list[str], str]) -> str:
        done = subprocess.run(job[0], cwd=job[1], capture_output=True,
                              text=True, check=False)
        return done.stderr if done.returncode else ""

    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(jobs, pool.map(one, jobs.values())))
    print(f"{len(jobs)} files compiled with {compiler}")
    return [f"{name}:\n{text}" for name, text in results.items() if text]


CLAIMS = {
    "layers": layers,
    "circles": circles,
    "foreign-memory": foreign_memory,
    "blocking-calls": blocking_calls,
    "sizes": sizes,
    "licences": licences,
    "no-machine-names": no_machine_names,
    "warnings-gcc": lambda: warnings("gcc"),
    "warnings-clang": lambda: warnings("clang"),
}


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in CLAIMS:
        print(f"usage: check_code.py {'|'.join(CLAIMS)}", file=sys.stderr)
        return 2
    faults = CLAIMS[sys.argv[1]]()
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
