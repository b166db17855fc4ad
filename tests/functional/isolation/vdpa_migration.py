# SPDX-License-Identifier: GPL-2.0-or-later
"""Migration between two vDPA devices, without hardware.

The outer guest has two pairs of network devices, each pair with a cable of its
own: sides "a" and "b".  A QEMU runs on one side; tests/guest/loadvm is its
guest, sends numbered frames from one device of the pair to the other and
checks each.  It migrates to a new QEMU on the other side, and back.

The guest's memory is a file on either side.  When a migration has ended, and
before the guest goes on, nobody writes to either: then they are compared.  The
buffers of received frames are written by the device and nobody else, so what
is in them arrives only if the shadow virtqueue has told of it.

VDPA_QEMU=debian in the environment takes Debian 13's QEMU instead of ours, and
split rings without indirect descriptors on both sides: it refuses others.

QEMU sends memory block by block, large ones first.  The second block is ballast
that nobody changes: while it is sent, slowly, all else was sent once, and the
migration does not end before the test lets it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

import loadvm
from harness import GuestVm, HarnessError, guest, socket_folder, wait_until
from net_guest import OBEY, Console
from suites import Suite
from vdpa import DAEMON, KERNEL, MODULES, Rings, build_daemon, \
    firmware_files, kernel_modules, program, stripped_qemu, wait_migration

KERNEL_SUITE = "trixie"
MEGABYTES, BALLAST = 32, 16
DEPTH = 8
# As many as a command line takes.  The last one is not meant to be reached.
JOBS = 60
# Bytes a second.  At first next to nothing, or the ballast would not last until
# a machine that is slow has carried some frames.
SLOW, PATIENT, FAST = 64 << 10, 1 << 20, 1 << 30

# Input and output of QEMU are QMP.  A zombie has no /proc/PID/exe.  The name of
# a vDPA device gives its index back, so renewed sides have the same indices.
OUTER = """
ip link set lo up
for m in {modules}; do insmod /modules/$m.ko || exit 1; done
trap '' PIPE
has_ended() {{
    [ ! -e /proc/$(cat /tmp/$1)/exe ]
}}
ended() {{
    tries=3000
    until has_ended $1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        usleep 20000
    done
}}
leave() {{
    [ -e /tmp/$1.daemon ] || return 0
    if [ -e /tmp/$1.pid ]; then
        has_ended $1.pid || kill -9 $(cat /tmp/$1.pid)
        ended $1.pid || return 1
    fi
    vdpa dev del ${{1}}0 && vdpa dev del ${{1}}1 || return 1
    has_ended $1.daemon || kill $(cat /tmp/$1.daemon)
    ended $1.daemon
}}
daemon() {{
    vduse-net $2 $3 0 ${{1}}0 ${{1}}1 > /tmp/$1.vduse 2>&1 &
    echo $! > /tmp/$1.daemon
    until grep -qs ready /tmp/$1.vduse; do
        has_ended $1.daemon && return 1
        usleep 50000
    done
    vdpa dev add name ${{1}}0 mgmtdev vduse && vdpa dev add name ${{1}}1 \
        mgmtdev vduse
}}
renew() {{
    leave a && leave b || return 1
    rm -f /tmp/a.* /tmp/b.* /tmp/console
    touch /tmp/console /tmp/a.err /tmp/b.err
    daemon a $1 $3 && daemon b $2 $3
}}
give_jobs() {{
    jobs= irq=poll
    for i in $(seq {jobs}); do
        jobs="$jobs;type=net to=1 time=$1s depth={depth} irq=$irq $2"
        case $irq in poll) irq=msix ;; msix) irq=poll ;; esac
    done
    jobs=${{jobs#;}}
}}
start() {{
    side=$1 first=$2 netdev=$3 props=$4; shift 4
    rm -f /tmp/$side.in /tmp/$side.out /tmp/$side.ram /tmp/$side.ballast
    mkfifo /tmp/$side.in
    file=memory-backend-file,share=on vdpa=vhost-vdpa,vhostdev=/dev/vhost-vdpa
    mac=52:54:00:00:01
    [ -e /tmp/ballast ] ||
        dd if=/dev/urandom of=/tmp/ballast bs=1M count={ballast} 2> /dev/null
    [ "$*" ] || cp /tmp/ballast /tmp/$side.ballast
    qemu -L /firmware -machine pc,memory-backend=ram \\
        -m {megabytes},slots=1,maxmem=1G \\
        -object $file,id=ram,size={megabytes}M,mem-path=/tmp/$side.ram \\
        -object $file,id=ballast,size={ballast}M,mem-path=/tmp/$side.ballast \\
        -device pc-dimm,memdev=ballast \\
        -display none -nodefaults \\
        -chardev file,id=console,path=/tmp/console,append=on \\
        -serial chardev:console -chardev stdio,id=qmp,signal=off \\
        -mon chardev=qmp,mode=control \\
        -kernel /inner/loadvm.elf -append "$jobs" \\
        -netdev $vdpa-$first,id=n0$netdev \\
        -device virtio-net-pci,netdev=n0,romfile=,mac=$mac:00$props \\
        -netdev $vdpa-$((first + 1)),id=n1$netdev \\
        -device virtio-net-pci,netdev=n1,romfile=,mac=$mac:01$props \\
        "$@" < /tmp/$side.in > /tmp/$side.out 2>> /tmp/$side.err &
    echo $! > /tmp/$side.pid
    case $side in a) exec 4> /tmp/a.in ;; b) exec 5> /tmp/b.in ;; esac
    ask $side 0 '{{"execute": "qmp_capabilities", "id": 0}}'
}}
ask() {{
    case $1 in a) echo "$3" >&4 ;; b) echo "$3" >&5 ;; esac
    alive=y
    until grep "\\"id\\": $2[,}}]" /tmp/$1.out; do
        [ $alive ] || return 1
        has_ended $1.pid && alive=
        usleep 20000
    done
}}
at_work() {{
    echo at work $(grep -c "queue [01]: at work" /tmp/$1.vduse)
}}
last() {{
    for queue in "${{1}}0: queue 1" "${{1}}1: queue 0"; do
        grep "^$queue" /tmp/$1.vduse | tail -n 1
    done
}}
""" + OBEY


def is_debians() -> bool:
    return os.environ.get("VDPA_QEMU") == "debian"


def debians_qemu(work: Path) -> dict[str, Path]:
    """Debian 13's, to be /usr/bin/qemu, with its libraries and loader."""
    suite = Suite(KERNEL_SUITE, guest.SUITES / KERNEL_SUITE)
    suite.with_lists(lambda: suite.unpack(
        [*suite.closure(["qemu-system-x86"]), "libc6"]))
    loader, *_, path = command = suite.command("usr/bin/qemu-system-x86_64")
    listed = subprocess.run([loader, "--list", *command[1:]], check=True,
                            capture_output=True, text=True).stdout
    start = work / "start-qemu"
    start.write_text("#!/bin/sh\nexec /debian/loader --library-path /debian "
                     "/debian/qemu \"$@\"\n", "ascii")
    start.chmod(0o755)
    return {"usr/bin/qemu": start, "debian/qemu": Path(path).resolve(),
            "debian/loader": Path(loader).resolve(),
            **{f"debian/{name}": Path(file).resolve() for name, file in
               re.findall(r"^\s*(\S+) => (/\S+)", listed, re.MULTILINE)}}


def our_qemu(work: Path) -> dict[str, Path]:
    return program("qemu", stripped_qemu(work))


class Outer(Console):
    """The outer guest, ready for commands.  It has no device at first."""

    def __init__(self, vm: GuestVm) -> None:
        build_daemon()
        guest.unpack(["iproute2"], guest.ROOT)
        self._vm = vm
        self._done = 0
        self._path = socket_folder(vm.work) / "console"
        self._socket = None
        vm.add_args("-smp", "2", "-chardev",
                    f"socket,id=console,path={self._path},server=on,wait=off",
                    "-serial", "chardev:console")
        qemu = debians_qemu if is_debians() else our_qemu
        files = {**qemu(vm.work), **firmware_files(),
                 "inner/loadvm.elf": loadvm.image(),
                 **kernel_modules(vm.work),
                 **program("vdpa", guest.sbin("vdpa")),
                 "usr/bin/vduse-net": DAEMON}
        vm.add_job(OUTER.format(
            modules=" ".join(MODULES), megabytes=MEGABYTES, ballast=BALLAST,
            jobs=JOBS, depth=DEPTH), files, kernel=KERNEL)
        self.launch()

    def renew(self, a: Rings, b: Rings, size: int = 1024) -> None:
        """New devices on both sides, nothing left of earlier ones.

        @a, @b: the best rings that the sides' devices take, of up to @size
        """
        self.run(f"renew {a.features()} {b.features()} {size}")

    def tell(self) -> None:
        """Let the log have what everybody has said, if there is an outer."""
        if self._socket is not None:
            self.finish(self.begin("tail -n 30 /tmp/?.vduse /tmp/?.err "
                                   "/tmp/?.out /tmp/console"))


class Pair:
    """QEMU on one side of an Outer, and on the other while it migrates."""

    def __init__(self, outer: Outer, netdev: str = "", props: str = "",
                 job: str = "", seconds: int = 20) -> None:
        """@job, @seconds: of what the guest does; each begins with a reset."""
        self._outer = outer
        self._netdev, self._props = netdev, props
        self._next_id = 0
        self._work = {"a": 0, "b": 0}
        self.side = "a"
        outer.run(f"give_jobs {seconds} '{job}'")
        self.start("a")
        self.expect_work()

    @property
    def other(self) -> str:
        return "b" if self.side == "a" else "a"

    def start(self, side: str, *args: str, props: str = "") -> None:
        first = {"a": 0, "b": 2}[side]
        words = " ".join(args)
        self._outer.run(f"start {side} {first} '{self._netdev}' "
                        f"'{self._props}{props}' {words}")

    def ask(self, side: str, execute: str, **arguments: Any) -> Any:
        """What QEMU on @side returns."""
        self._next_id += 1
        said = self._outer.run(f"ask {side} {self._next_id} '" + json.dumps(
            {"execute": execute, "arguments": arguments,
             "id": self._next_id}) + "'")
        answer = json.loads([line for line in said.splitlines()
                             if line.startswith("{")][-1])
        if "error" in answer:
            raise HarnessError(f"{execute}: {answer['error']['desc']}")
        return answer["return"]

    def quit(self, side: str) -> None:
        self.ask(side, "quit")
        self.expect_end(side)

    def expect_end(self, side: str) -> None:
        self._outer.run(f"ended {side}.pid")

    def refuse_start(self, which: int) -> None:
        """The next device that starts on this side, or the second, once."""
        self._outer.run(f"kill -USR{which} $(cat /tmp/{self.side}.daemon)")

    def wait_refused(self) -> None:
        wait_until(lambda: "yes" in self._outer.run(
            f"grep -q 'refused to start' /tmp/{self.side}.vduse && echo yes; "
            "true").splitlines(), 60, "a device that refuses to start")

    # Events, never times: a queue that was turned on says so when it has
    # carried a hundred frames.

    def _at_work(self, side: str) -> int:
        found = re.search(r"^at work (\d+)", self._outer.run(f"at_work {side}"),
                          re.MULTILINE)
        assert found is not None
        return int(found.group(1))

    def expect_work(self, queues: int = 2) -> None:
        """Frames go through @queues new queues on this side."""
        self._work[self.side] += queues
        wait_until(lambda: self._at_work(self.side) >= self._work[self.side],
                   60, f"frames on side {self.side}")

    def expect_new_work(self) -> None:
        """Frames go, however often queues were turned on and off meanwhile."""
        wait_until(lambda: self._outer.run(f"last {self.side}").count(
            "at work") == 2, 60, f"frames on side {self.side}")
        self._work[self.side] = self._at_work(self.side)

    # Migration

    def set_speed(self, speed: int) -> None:
        """It does not end before it is told to be FAST."""
        self.ask(self.side, "migrate-set-parameters",
                 **{"max-bandwidth": speed,
                    "downtime-limit": 10000 if speed == FAST else 0})

    def migration(self) -> dict[str, Any]:
        return self.ask(self.side, "query-migrate")

    def wait_migration(self, *states: str) -> str:
        return wait_migration(self.migration, *states)

    def wait_ballast(self) -> None:
        """All other memory was sent once."""
        def look() -> bool:
            ram = self.migration().get("ram")       # not from the beginning
            return ram and ram["remaining"] < BALLAST << 20
        self.set_speed(PATIENT)
        wait_until(look, 60, "the guest's memory to be sent")

    def begin_migration(self, uri: str = "unix:/tmp/migration") -> None:
        """Frames go through shadow virtqueues from now on."""
        self.set_speed(SLOW)
        self.ask(self.side, "migrate", uri=uri)
        if "x-svq=on" not in self._netdev:
            self.expect_work()

    def wait_for_guest(self, props: str = "") -> None:
        self.start(self.other, "-S", "-incoming", "unix:/tmp/migration",
                   props=props)

    def move(self, check: Callable[[str], None]) -> None:
        """To the other side.  @check gets what cmp says of the memories."""
        self.wait_for_guest()
        self.begin_migration()
        self.wait_ballast()
        self.set_speed(FAST)
        self.wait_migration("completed")
        wait_until(lambda: self.ask(self.other, "query-status")["status"] ==
                   "paused", 60, "the destination to have loaded")
        check(self._outer.run("cmp /tmp/a.ballast /tmp/b.ballast || exit 1; "
                              "cmp /tmp/a.ram /tmp/b.ram && echo same memory; "
                              "cmp -l /tmp/a.ram /tmp/b.ram | wc -l"))
        self.ask(self.other, "cont")
        self.quit(self.side)
        self.side = self.other
        self.expect_work()

    def pause(self) -> None:
        """Stop the VM and let it go on."""
        self.ask(self.side, "stop")
        self.ask(self.side, "cont")
        self.expect_work()

    def relink(self) -> None:
        """Take the cable off and put it in again, from QEMU's view."""
        for up in (False, True):
            for name in ("n0", "n1"):
                self.ask(self.side, "set_link", name=name, up=up)

    def go_nowhere(self) -> None:
        """Migrate to the end, and go on here."""
        self.set_speed(FAST)
        self.ask(self.side, "migrate", uri="exec:cat > /dev/null")
        self.wait_migration("completed")
        self.ask(self.side, "cont")
        self.expect_new_work()

    def cancel(self, after: float, speed: int) -> None:
        """A migration to nowhere, @after seconds from its beginning."""
        self.set_speed(speed)
        self.ask(self.side, "migrate", uri="exec:cat > /dev/null")
        time.sleep(after)
        self.ask(self.side, "migrate_cancel")
        if self.wait_migration("cancelled", "completed") == "completed":
            self.ask(self.side, "cont")
        self.expect_new_work()

    # What comes of it

    def finish(self) -> tuple[list[loadvm.Result], str]:
        """What the guest says of its frames; what all others have said."""
        def results() -> int:
            said = self._outer.run("echo results $(grep -c 'RESULT {.*}' "
                                   "/tmp/console)")
            return int(said.split("results ")[1].split()[0])
        before = results()
        wait_until(lambda: results() > before, 120, "a result of the guest's")
        self.quit(self.side)
        said = self._outer.run("cat /tmp/console; echo")
        rest = self._outer.run("for i in a b; do sed s/^/$i:/ /tmp/$i.vduse; "
                               "sed s/^/$i:qemu:/ /tmp/$i.err; done")
        return loadvm.results(said), rest
