# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of QEMU without asking the backend where it is.

skip-get-vring-base-on-force-shutdown of vhost-user-blk: QEMU has it since 10.2.
"""

from __future__ import annotations

import os
import signal

from harness import PATIENCE, on_both_threads
from vhost_user_proxy import GET_VRING_BASE

SKIP = "skip-get-vring-base-on-force-shutdown"
LOAD = "load stress /dev/vda --seconds 1000 --depth 24 --progress 1"


@on_both_threads
class ForcedEnd:
    """QEMU is told to end while requests are under way."""

    group = "newer"                 # scripts/lib/check_port.py runs these

    def requests_of_the_end(self, props: str) -> list[int]:
        """What the backend is asked from then on."""
        asked: list[int] = []
        backend = self.start_backend(self.make_disk())
        proxy = self.start_proxy(
            backend, on_request=lambda message: asked.append(message.request))
        vm = self.make_vm()
        self.add_disk(vm, proxy.path, props=props)
        vm.add_job(LOAD)
        vm.launch()
        vm.wait_serial("^LOAD progress")
        before = len(asked)
        os.kill(vm.get_pid(), signal.SIGTERM)
        vm.wait(30 * PATIENCE)
        self.assertEqual(vm.exitcode(), 0, vm.qemu_log())
        return asked[before:]

    def test_backend_is_asked(self) -> None:
        self.assertIn(GET_VRING_BASE, self.requests_of_the_end(""))

    def test_backend_is_not_asked(self) -> None:
        self.assertNotIn(GET_VRING_BASE,
                         self.requests_of_the_end(f",{SKIP}=on"))
