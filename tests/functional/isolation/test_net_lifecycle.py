# SPDX-License-Identifier: GPL-2.0-or-later
"""Interfaces and guests that go and come back while frames are under way.

Afterwards everything has to be exact again: each frame once, in order, and
counted the same on both sides.
"""

from __future__ import annotations

import re
from typing import Any

from events import event
from harness import LaunchRefused, on_both_threads, wait_until
from net_case import Frames
from net_frames import LARGEST

# Frames for eth1, until told to stop.
FLOOD = ("while [ ! -e /tmp/stop ]; do net-frames eth0 eth1 --void 500 "
         "> /tmp/flood; done &")
CALM = "touch /tmp/stop; wait; rm /tmp/stop; cat /tmp/flood"
REBIND = """
    cd /sys/bus/virtio/drivers/virtio_net &&
    device=$(basename $(readlink /sys/class/net/eth1/device)) &&
    echo $device > unbind && [ ! -e /sys/class/net/eth1 ] &&
    echo $device > bind && ip link set eth1 up
""".strip().replace("\n", " ")
# The kernel probes in its own time.
UP = """
    for i in $(seq 6000); do [ -e /sys/class/net/eth1 ] && break;
        usleep 50000; done;
    ip link set eth1 up
""".strip().replace("\n", " ")
# Linux 6.12 would keep all but one frame to itself, and drop them when the link
# goes down.  It heeds that once a frame is done.
NO_LIMIT = ("for limit in /sys/class/net/eth0/queues/tx-*/byte_queue_limits/"
            "limit_min; do echo 1000000 > $limit; done; "
            "net-frames eth0 eth1 --void 1")


@on_both_threads
class Held(Frames):
    """Frames in the ring that the backend has not fetched yet."""

    def hold(self, **options: Any) -> int:
        """Start, and let the guest send that many."""
        self.start(**options)
        self.console.run(NO_LIMIT)
        wait_until(self.fetched, 30, "a frame to come")
        self.backend.pause()
        self.begin()
        said = self.console.run("net-frames eth0 eth1 --void 400")
        sent = int(re.search(r"void (\d+) frames", said).group(1))
        # As many as a socket may have unsent.
        self.assertGreater(sent, 50)
        return sent

    def check_held(self, sent: int) -> None:
        """They come once, and then everything is as ever."""
        self.assertEqual(self.backend.queue_counters(0)["rx_good_packets"], 0)
        self.backend.go_on()
        wait_until(lambda: self.fetched() >= sent, 30, "the frames to come")
        self.check_exact()
        self.assertEqual(self.before, sent)

    def fetched(self) -> int:
        self.before = self.backend.queue_counters(0)["rx_good_packets"]
        return self.before

    def check_exact(self) -> None:
        self.fetched()
        super().check_exact()

    def test_machine_is_stopped(self) -> None:
        sent = self.hold(guest_packed=True, packed=True)
        for _ in range(3):
            self.vm.cmd("stop")
            self.vm.cmd("cont")
        self.check_held(sent)

    def test_backend_dies(self) -> None:
        if not self.isolated:
            self.skipTest("stock QEMU drops what is in the ring, since the "
                          "link is down meanwhile")
        sent = self.hold(guest_packed=True, packed=True,
                         chardev=",reconnect-ms=100")
        self.backend.kill()
        self.backend.start(forward=False)
        self.backend.wait_for_guest()
        self.check_held(sent)

    def test_link_goes_down_and_up(self) -> None:
        """The guest is not told; QEMU drops what it finds in the ring."""
        # After this DPDK calls a guest no more whose packed ring it shares.
        sent = self.hold(guest_packed=self.isolated, packed=True,
                         device=",status=off")
        for up in (False, True):
            self.vm.cmd("set_link", name="net0", up=up)
        self.backend.go_on()
        self.check_exact()
        self.assertLess(self.before, sent)


@on_both_threads
class Lifecycle(Frames):
    """One interface sends, the other one is what something happens to."""

    limit = 240

    def test_driver_leaves_and_comes_back(self) -> None:
        self.start(guest_packed=True, packed=True)
        self.console.run(FLOOD)
        for _ in range(6):
            self.console.run(REBIND)
        self.console.run(CALM)
        self.check_exact()

    @event("Network", "The machine is reset under load.",
           "Nothing but the reset.")
    def test_guest_is_reset(self) -> None:
        self.start(queues=2, reboots=True)
        self.console.run(FLOOD)
        self.vm.cmd("system_reset")
        self.console.wait_ready(times=2)
        self.check_exact()

    def test_interface_is_unplugged_and_plugged_again(self) -> None:
        self.start(packed=True)
        self.console.run(FLOOD)
        self.unplug()
        # The netdev stays, and so may its connection.
        self.plug()
        self.console.run(UP)
        self.unplug()
        self.console.run(CALM)
        # Now the netdev goes too, and takes its chardev with it.
        self.vm.cmd("netdev_del", id="net1")
        path = str(self.backend.sockets[1])
        self.vm.cmd("chardev-add", id="net1char", backend={
            "type": "socket", "data": {"server": False, "addr": {
                "type": "unix", "data": {"path": path}}}})
        self.vm.cmd("netdev_add", type="vhost-user", id="net1",
                    chardev="net1char", **self.netdev_members())
        self.plug()
        self.console.run(UP)
        self.check_exact()

    def unplug(self) -> None:
        self.vm.cmd("device_del", id="net1dev")
        self.vm.event_wait("DEVICE_DELETED", 60,
                           {"data": {"device": "net1dev"}})

    def plug(self) -> None:
        self.vm.cmd("device_add", driver="virtio-net-pci", id="net1dev",
                    netdev="net1", mac="52:54:00:00:00:02", romfile="",
                    packed=False)

    def netdev_members(self) -> dict[str, object]:
        members: dict[str, object] = {}
        if self.isolated:
            members = {"memory-isolation": "on",
                       "x-memory-isolation-packed": "on"}
            if self.iothread:
                members["iothread"] = "io0"
        return members

    def save_and_load(self) -> None:
        state = self.work / "state"
        self.addCleanup(state.unlink, missing_ok=True)
        self.vm.cmd("migrate", uri=f"file:{state}")
        wait_until(lambda: self.vm.cmd("query-migrate").get("status") in
                   ("completed", "failed"), 60, "the guest to be saved")
        self.assertEqual(self.vm.cmd("query-migrate")["status"], "completed")
        self.vm.end()
        self.make_machine("loaded", "-incoming", f"file:{state}")
        self.console.go_on()
        # What is typed earlier is forgotten with the state before.
        wait_until(lambda: self.vm.cmd("query-status")["running"], 60,
                   "the guest to run")

    @event("Network", "The VM is saved under load, and loaded.",
           "Nothing but frames that are lost meanwhile.")
    def test_guest_is_saved_and_loaded(self) -> None:
        # Only what can connect again can be saved.
        self.start(queues=2, guest_packed=self.isolated, packed=True,
                   chardev=",reconnect-ms=100")
        self.exchange.frames(lanes=2)
        self.console.run(FLOOD)
        self.save_and_load()
        self.console.run(CALM)
        self.check_exact()

    @event("Network",
           "The backend is replaced; then the VM is saved, and loaded.",
           "The link goes and comes back.")
    def test_guest_is_saved_after_its_backend_was_replaced(self) -> None:
        # No frame comes meanwhile, so the successor fetches no buffer.
        self.start(queues=2, guest_packed=self.isolated, packed=True,
                   chardev=",reconnect-ms=100")
        self.exchange.frames(lanes=2)
        self.backend.kill()
        self.backend.start()
        self.backend.wait_for_guest()
        self.save_and_load()
        self.check_exact()

    @event("Network", "The backend is killed under load, and started again.",
           "The link goes and comes back; frames are lost meanwhile.")
    def test_backend_dies_with_frames_under_way(self) -> None:
        # Stock QEMU loses its place in a packed ring then.
        self.start(queues=2, guest_packed=self.isolated, packed=True,
                   chardev=",reconnect-ms=100")
        self.console.run(FLOOD)
        self.backend.kill()
        self.backend.start()
        self.backend.wait_for_guest()
        self.console.run(CALM)
        self.check_exact()

    def test_smallest_region_carries_the_largest_frames(self) -> None:
        if not self.isolated:
            self.skipTest("there is no region without isolation")
        with self.assertRaises(LaunchRefused) as refused:
            self.start(size="1M", mtu=65535)
        least = re.search(r"the least is \d+ \((\d+M)\)",
                          str(refused.exception))
        self.assertIsNotNone(least, str(refused.exception))
        self.backend.stop()
        self.start(size=least.group(1), mtu=65535)
        self.exchange.frames(f"{LARGEST} --window 130", frames=400)
        self.finish()
