# SPDX-License-Identifier: GPL-2.0-or-later
"""Open vSwitch with DPDK as vhost-user-net backend: a switch of two ports.

Debian's packages, unpacked beside DPDK's own and not installed.  Switch and
database run in a network namespace of their own, since the switch makes an
interface of its bridge, and in one of processes, which ends both.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import net_testpmd
from harness import HarnessError, debian, guest, socket_folder, wait_until
from net_frames import Exchange
from net_guest import Console, add_interface

ROOT = net_testpmd.ROOT
PACKAGES = ["openvswitch-switch-dpdk", "openvswitch-switch",
            "openvswitch-common"]
SWITCH = ROOT / "usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
SCHEMA = ROOT / "usr/share/openvswitch/vswitch.ovsschema"
MEMORY = 1024

# The bridge comes first: ports want it.
SCRIPT = """
ovsdb-tool create conf.db {schema}
ovsdb-server conf.db --remote=punix:db.sock --log-file=db.log &
until [ -S db.sock ]; do sleep 0.1; done
ovs-vsctl --no-wait init
ovs-vsctl --no-wait set Open_vSwitch . other_config:dpdk-init=true \\
    other_config:pmd-cpu-mask=1 other_config:per-port-memory=true \\
    other_config:dpdk-extra={extra}
{switch} unix:db.sock --log-file=switch.log &
ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev
{ports}
echo SWITCH ready
wait
"""
PORT = """ovs-vsctl add-port br0 v{number} -- set Interface v{number} \\
    type=dpdkvhostuserclient options:vhost-server-path={path} \\
    options:n_rxq={queues}
"""


def fetch() -> None:
    net_testpmd.fetch()
    guest.unpack(PACKAGES, ROOT)


class Switch:
    """It connects to QEMU's sockets, which are there first or later."""

    def __init__(self, work: Path, queues: int) -> None:
        folder = socket_folder(work)
        self.sockets = [folder / f"port{i}.sock" for i in range(2)]
        self.folder = work / "ovs"
        self._queues = queues
        self._process: subprocess.Popen[bytes] | None = None

    def _script(self) -> str:
        drivers = " ".join(f"-d {net_testpmd.driver(name)}"
                           for name in net_testpmd.DRIVERS)
        extra = (f"--no-huge --legacy-mem -m {MEMORY} --no-pci "
                 f"--no-telemetry --no-shconf {drivers}")
        ports = "".join(PORT.format(number=i, path=path, queues=self._queues)
                        for i, path in enumerate(self.sockets))
        return SCRIPT.format(schema=SCHEMA, switch=SWITCH, ports=ports,
                             extra=shlex.quote(f'"{extra}"'))

    def start(self) -> None:
        self.folder.mkdir()
        with (self.folder / "said").open("wb") as said:
            self._process = subprocess.Popen(
                ["unshare", *_namespaces(), "sh", "-eu", "-c",
                 self._script()], cwd=self.folder, env=self._env(),
                stdin=subprocess.DEVNULL, stdout=said,
                stderr=subprocess.STDOUT)
        wait_until(self._is_ready, 60, "Open vSwitch")

    def _env(self) -> dict[str, str]:
        tools = f"{ROOT}/usr/bin:{ROOT}/usr/sbin"
        here = str(self.folder)
        return dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}",
                    LD_LIBRARY_PATH=debian.library_path(ROOT),
                    OVS_RUNDIR=here, OVS_LOGDIR=here, OVS_DBDIR=here,
                    OVS_PKGDATADIR=str(SCHEMA.parent), RUNTIME_DIRECTORY=here)

    def wait_for_guest(self) -> None:
        """Until the switch floods to both ports: it looks now and then."""
        def look() -> bool:
            lost = re.search(r"Failed to set interface.*", self.log())
            if lost:
                raise HarnessError(f"no memory for a port? {lost.group(0)}")
            done = subprocess.run(
                ["ovs-vsctl", "--db=unix:db.sock", "get", "Interface", "v0",
                 "link_state", "--", "get", "Interface", "v1", "link_state"],
                cwd=self.folder, env=self._env(), capture_output=True,
                text=True, check=False)
            return done.stdout.split() == ["up", "up"]
        wait_until(look, 60, "the switch's ports to come up")

    def idle_pairs(self) -> list[tuple[str, str]]:
        """Of each port, those without a frame; told when they stop."""
        def look() -> list[tuple[str, str, str]]:
            told = re.findall(r"(port\d)\.sock\) vring base idx:(\d*[13579]) "
                              r"file:(\d+)", self.log())
            return told if len(told) == 2 * self._queues else []
        return [(port, ring) for port, ring, base in
                wait_until(look, 60, "the pairs to stop") if base == "0"]

    def said(self) -> str:
        return (self.folder / "said").read_text("utf-8", "replace")

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise HarnessError(f"Open vSwitch ended: {self.said()[-1500:]}")
        return "SWITCH ready" in self.said()

    def log(self) -> str:
        return (self.folder / "switch.log").read_text("utf-8", "replace")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def _namespaces() -> list[str]:
    """Arguments of unshare, or no words if none can be had."""
    flags = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    for more in ([], ["--user", "--map-root-user"]):
        done = subprocess.run(["unshare", *more, *flags, "true"],
                              capture_output=True, check=False)
        if done.returncode == 0:
            return [*more, *flags]
    return []


def switch(run: Any, cell: Any) -> None:
    """Workload of the matrix: frames between two ports, each compared."""
    if not _namespaces():
        run.need("no network namespace can be had")
    fetch()
    backend = Switch(run.work, cell.queues)
    run.addCleanup(backend.stop)
    vm = run.make_cell_vm(cell)
    packed = "on" if run.guest_ring(cell) == "packed" else "off"
    for number, path in enumerate(backend.sockets):
        add_interface(vm, path, number, queues=cell.queues,
                      netdev=run.netdev_props(vm, cell),
                      device=f",packed={packed}",
                      chardev=",server=on,wait=off")
    console = Console(vm, kernel=cell.kernel)
    run.addCleanup(console.close)
    backend.start()
    console.launch()
    backend.wait_for_guest()
    # So that the switch learns where they are.
    console.run("net-frames eth0 eth1 --frames 10 --lossy 1")
    exchange = Exchange(run, console, None)
    exchange.frames(lanes=cell.queues)
    run.assertEqual(exchange.lost(), 0)
    said = re.findall("vHost Device '.*' has been added", backend.log())
    run.assertGreaterEqual(len(said), 2, backend.log()[-2000:])
    console.end()
    run.assertEqual(backend.idle_pairs(), [])
