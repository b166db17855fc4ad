# SPDX-License-Identifier: GPL-2.0-or-later
"""Sleep, hibernation, kexec and crashes under load: right data afterwards.

Linux freezes its programs before it puts a disk to sleep, and waits for their
requests first, as long as pm_freeze_timeout says.  So nothing is out when the
disk is stopped.  Where the backend is away the guest does not fall asleep: it
says that it is busy, and goes on.

kexec and a crash wait for nothing.  What comes next is a kernel whose driver
resets a disk that has requests of the last kernel out.  (kexec of Debian's
present kernels resets it before that, and says that what was out has failed.)

Not here: hibernation with a backend that is away or slow.  It differs from
sleep only by an image on another disk; a guest that is busy writes none.
"""

from __future__ import annotations

from pathlib import Path

from events import event
import small_load
from harness import PATIENCE, GuestVm, IsolationTest, guest, wait_until
from test_lifecycle import LOAD, SLOW

# Load until the host says more; the rest of LOAD ends and verifies it.
STRESS, FINISH = LOAD.split("read word\n")
# A second is time for what a backend has, and short if it is away.
SLEEP = """
echo 1000 > /sys/power/pm_freeze_timeout
while read word && [ $word != end ]; do
    echo mem > /sys/power/state && echo POWER awake || echo POWER busy
done
"""
SLOW_SLEEP = """
( SLOW ) &
load=$!
read word
echo mem > /sys/power/state || exit 1
echo POWER awake
wait $load
""".replace("SLOW", SLOW.strip())
HIBERNATE = f"""
mkswap /dev/vdb > /dev/null && swapon /dev/vdb || exit 1
{STRESS}
read word
echo 0 > /sys/power/image_size
echo shutdown > /sys/power/disk
echo disk > /sys/power/state || exit 1
echo POWER awake
read word
{FINISH}
"""
RESUME = """
cat /sys/block/vdb/dev > /sys/power/resume
echo POWER no image
exit 1
"""
# ignore_loglevel: the kernel names the disk before it reads from it.
COMMAND_LINE = "console=ttyS0 panic=-1 no_timer_check ignore_loglevel"
KEXEC = f"""
kexec load /next/kernel /next/initrd "{COMMAND_LINE}" || exit 1
LOADS &
read word
kexec go
"""
# Without a word about the panic, which the host would take for the end.
CRASH = f"""
kexec crash /next/kernel /next/initrd "{COMMAND_LINE} nr_cpus=1" || exit 1
echo 0 > /proc/sys/kernel/printk
LOADS &
read word
echo c > /proc/sysrq-trigger
"""
TOOL = guest.OUT / "kexec"
# A part of what SLOW has out at once.
OUT = 40 << 10
# So slow that it has not done all of it before the guest is told to go.
IOPS = 40


class Power(IsolationTest):
    """The guest loads a disk until its power, or its kernel, goes."""

    megabytes = 384
    limit = 240

    def start(self, script: str, *, iops: int = 0, append: str = "",
              files: dict[str, Path] | None = None) -> GuestVm:
        self.image = self.make_disk("32M")
        self.backend = self.start_backend(self.image, iops=iops)
        vm = self.make_power_vm("vm")
        vm.add_job(script, files)
        vm.args[vm.args.index("-append") + 1] += append
        vm.launch()
        return vm

    def make_power_vm(self, name: str) -> GuestVm:
        vm = self.make_vm(name)
        vm.add_args("-smp", "2")
        self.add_disk(vm, self.backend.socket, props=",num-queues=2",
                      chardev=",reconnect-ms=100")
        return vm

    def finish(self, vm: GuestVm) -> None:
        vm.wait_serial("^LOAD progress", start=len(vm.serial_text()))
        vm.say("end")
        self.expect_ok(vm)
        self.verify_image(self.image, "--generation", "7")

    def finish_slow(self, vm: GuestVm) -> None:
        self.expect_ok(vm)
        self.verify_image(self.image, "--size", "256K", "--generation", "7")

    def wait_out(self, vm: GuestVm) -> None:
        """Until the backend has more than it can do in a while."""
        vm.wait_serial("^LOAD started")
        if self.isolated:
            wait_until(lambda: vm.isolation_stats()["bytes-out"] > OUT, 30,
                       "requests to be out")

    # Sleep

    def fall_asleep(self, vm: GuestVm) -> int:
        """How much the guest had said before."""
        so_far = len(vm.serial_text())
        vm.say("sleep")
        vm.event_wait("SUSPEND", 60 * PATIENCE)
        return so_far

    def wake(self, vm: GuestVm, so_far: int) -> None:
        vm.cmd("system_wakeup")
        vm.wait_serial("^POWER awake", 60, so_far)

    @event("Disk", "Sleep (S3) under load.", "Nothing.")
    def test_sleeps_and_wakes(self) -> None:
        vm = self.start(STRESS + SLEEP + FINISH)
        vm.wait_serial("^LOAD progress")
        for _ in range(3):
            self.expect_progress(vm)
            self.wake(vm, self.fall_asleep(vm))
        self.finish(vm)

    @event("Disk", "Sleep with a slow backend.",
           "It is longer until it sleeps.")
    def test_sleeps_once_what_is_slow_is_done(self) -> None:
        self.iothread = True
        vm = self.start(SLOW_SLEEP, iops=IOPS)
        self.wait_out(vm)
        self.wake(vm, self.fall_asleep(vm))
        self.finish_slow(vm)

    @event("Disk",
           "Sleep while the backend is away; the backend goes while the "
           "guest sleeps.",
           "It cannot fall asleep without a backend.  Nothing of what "
           "happens while it sleeps.")
    def test_backend_goes_around_a_sleep(self) -> None:
        self.iothread = True
        vm = self.start(STRESS + SLEEP + FINISH)
        vm.wait_serial("^LOAD progress")
        self.backend.kill()
        vm.say("sleep")
        vm.wait_serial("^POWER busy")
        self.backend.start()
        self.expect_progress(vm)
        # It is back before the guest wakes, and after that.
        so_far = self.fall_asleep(vm)
        self.backend.kill()
        self.backend.start()
        self.wake(vm, so_far)
        self.expect_progress(vm)
        so_far = self.fall_asleep(vm)
        self.backend.kill()
        self.wake(vm, so_far)
        self.backend.start()
        self.finish(vm)

    @event("Disk",
           "Hibernation (S4) under load, and another QEMU when it wakes.",
           "Nothing.")
    def test_hibernates(self) -> None:
        """To a second disk, which is isolated too; QEMU ends meanwhile."""
        self.iothread = True
        self.image = self.make_disk("32M")
        self.backend = self.start_backend(self.image)
        swap = self.start_backend(self.make_disk("256M", "swap.img"),
                                  name="swap")

        def launch(name: str, script: str) -> GuestVm:
            vm = self.make_power_vm(name)
            self.add_disk(vm, swap.socket, name="disk1",
                          chardev=",reconnect-ms=100")
            vm.add_job(script)
            vm.launch()
            return vm

        vm = launch("vm", HIBERNATE)
        vm.wait_serial("^LOAD progress")
        vm.say("sleep")
        vm.wait(60 * PATIENCE)
        vm.end()
        vm = launch("woken", RESUME)
        vm.wait_serial("^POWER awake", 60)
        self.finish(vm)

    # Another kernel

    def start_with_next(self, script: str, loads: str = STRESS,
                        then: str = LOAD, **options: int) -> GuestVm:
        """A guest whose next kernel does @then."""
        small_load.compile_program(
            TOOL, [small_load.GUEST / "kexec.c"],
            [*small_load.WARNINGS, "-static"], [])
        initrd = guest.job_initramfs(self.work / "next.cpio", then)
        self.addCleanup(initrd.unlink)
        vm = self.start(script.replace("LOADS", "{ " + loads + "}"),
                        append=" nokaslr crashkernel=160M", **options,
                        files={"usr/bin/kexec": TOOL,
                               "next/kernel": guest.KERNEL,
                               "next/initrd": initrd})
        vm.wait_serial("^LOAD started")
        return vm

    def leave(self, vm: GuestVm) -> int:
        so_far = len(vm.serial_text())
        vm.say("go")
        return so_far

    def leave_without_backend(self, script: str) -> None:
        """The next kernel waits for one."""
        vm = self.start_with_next(script)
        vm.wait_serial("^LOAD progress")
        self.backend.kill()
        vm.wait_serial(r"\[vda\] ", 60, self.leave(vm))
        self.backend.start()
        self.finish(vm)

    def leave_slow(self, script: str) -> None:
        """What was out belongs to a kernel that is no more."""
        vm = self.start_with_next(script, SLOW, SLOW, iops=IOPS)
        self.wait_out(vm)
        vm.wait_serial("^GUEST ready", 60, self.leave(vm))
        self.finish_slow(vm)

    @event("Disk", "Another kernel (kexec) under load.",
           "Nothing but its new kernel.")
    def test_kexec(self) -> None:
        vm = self.start_with_next(KEXEC)
        vm.wait_serial("^LOAD progress")
        vm.wait_serial("^GUEST ready", 60, self.leave(vm))
        self.finish(vm)

    @event("Disk", "Another kernel while the backend is away.",
           "Requests of the new kernel wait for the next backend.")
    def test_kexec_without_a_backend(self) -> None:
        self.iothread = True
        self.leave_without_backend(KEXEC)

    @event("Disk",
           "A crash, and the kernel for that, while the backend is away.",
           "Requests of the new kernel wait for the next backend.")
    def test_crash_without_a_backend(self) -> None:
        self.leave_without_backend(CRASH)

    @event("Disk",
           "A crash, and the kernel for that, while the backend has "
           "requests.",
           "Nothing but its new kernel.")
    def test_crash_while_requests_are_slow(self) -> None:
        self.iothread = True
        self.leave_slow(CRASH)
