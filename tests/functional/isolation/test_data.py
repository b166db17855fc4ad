# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever the ring and the shape of the requests: the data is right."""

from __future__ import annotations

from harness import on_both_threads
from vhost_user_proxy import offer_segments

STRESS = ("load stress /dev/vda --seconds {seconds} --depth {depth} "
          "--max-request {largest} --segments {segments} --generation 7")
SMALLEST_REGION = "4M"
VERIFY = "load verify /dev/vda --generation 7"


@on_both_threads
class Data:
    """The load tool in the guest, then on the image."""

    def check(self, props: str, *, cpus: int = 1, depth: int = 32,
              largest: str = "256K", segments: int = 126, seconds: int = 3,
              size: str | None = None, setup: str = "true") -> None:
        image = self.make_disk("48M")
        backend = self.start_backend(image)
        vm = self.make_vm()
        vm.add_args("-smp", str(cpus))
        self.add_disk(vm, backend.socket, props=props, size=size)
        stress = STRESS.format(seconds=seconds, depth=depth, largest=largest,
                               segments=segments)
        self.run_job(vm, f"{setup} && {stress} && {VERIFY}\n", 240)
        self.verify_image(image, "--generation", "7")

    def test_split_one_queue(self) -> None:
        self.check(",num-queues=1,packed=off")

    def test_split_four_queues_no_event_idx(self) -> None:
        self.check(",num-queues=4,packed=off,event_idx=off", cpus=4)

    def test_split_one_queue_no_indirect(self) -> None:
        self.check(",num-queues=1,packed=off,indirect_desc=off",
                   segments=120)

    def test_packed_one_queue_no_event_idx(self) -> None:
        self.check(",num-queues=1,packed=on,event_idx=off")

    def test_packed_four_queues(self) -> None:
        self.check(",num-queues=4,packed=on", cpus=4)

    def test_packed_four_queues_no_indirect(self) -> None:
        self.check(",num-queues=4,packed=on,indirect_desc=off", cpus=4,
                   segments=120)

    def test_split_nothing_optional(self) -> None:
        self.check(",num-queues=1,packed=off,event_idx=off,"
                   "indirect_desc=off", segments=120)

    def test_requests_of_several_mebibytes(self) -> None:
        raise_limit = "echo 8192 > /sys/block/vda/queue/max_sectors_kb"
        self.check(",num-queues=1", largest="8M", depth=6, setup=raise_limit)

    def test_hundreds_of_requests_at_once(self) -> None:
        self.check(",num-queues=1", depth=300, largest="32K",
                   segments=8)

    def test_more_descriptors_than_the_ring_has(self) -> None:
        self.check(",num-queues=1", depth=64, largest="64K",
                   segments=126)

    def test_chains_of_several_hundred_descriptors(self) -> None:
        """Debian's backend takes them, but says 126 to the guest."""
        image = self.make_disk("48M")
        proxy = self.start_proxy(self.start_backend(image),
                                 on_reply=offer_segments(510))
        vm = self.make_vm()
        self.add_disk(vm, proxy.path, props=",num-queues=1,queue-size=1024")
        self.run_job(vm, """
            echo 8192 > /sys/block/vda/queue/max_sectors_kb
            grep -x 510 /sys/block/vda/queue/max_segments &&
            load stress /dev/vda --seconds 3 --depth 8 --max-request 2M \\
                --segments 500 --generation 7 &&
            load verify /dev/vda --generation 7
            """, 240)
        self.verify_image(image, "--generation", "7")

    def test_region_so_small_that_requests_wait(self) -> None:
        self.check(",num-queues=1", depth=64, largest="512K",
                   size=SMALLEST_REGION)
