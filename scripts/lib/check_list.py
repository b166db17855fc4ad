# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests there are.

Names are "group/claim".  Unit tests and qtests are found by their source
files, functional tests by their classes; nothing has to be registered twice.
"""

from __future__ import annotations

import re
import subprocess
import sys
import unittest
from dataclasses import replace
from pathlib import Path

import check_port
import events_docs
import hostile_run
import port
import proofs
from check_run import Test

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / "build"
QEMU = BUILD / "qemu"
ASAN = BUILD / "qemu-asan"
PYTHON = "/usr/bin/python3"
FUNCTIONAL = TOP / "tests/functional/isolation"

PLAIN_GROUPS = ("unit", "qtest", "functional", "devices", "rings", "proofs",
                "code")
SLOW_GROUPS = ("asan", "bare", "compile", "rings-deep", "proofs-deep",
               "fuzz", "mutation", "hostile", "hostile-once", "port", "s390x",
               "vdpa", "exposure", "kvm", "deb", "libvirt", "events",
               "devices-off", "long")

# QEMU's own tests that must pass unchanged: the part of their path that says
# which device they are about.
STOCK_QTESTS = ("vhost-user", "virtio-net", "virtio-blk", "virtio-scsi",
                "virtio-serial", "virtio-rng", "virtio-balloon",
                "virtio-iommu", "virtio-9p")
# Programs with cases for devices that QEMU has for Arm only.
ARM_PROGRAMS = ("vhost-user-isolation-devices-test",
                "vhost-user-isolation-refusals-test",
                "vhost-user-isolation-steady-test")
# The longest has 138 cases, most with a machine or two of their own.
PROGRAM_SECONDS = 400
# Machines that have nothing, or everything, and bare.sh's words for them.
BARE = (("debian-12", "12"), ("debian-13", "13"),
        ("debian-12-full", "--full 12"),
        ("debian-13-full-user", "--full --user 13"))
# It wants backends and is started by conformance.py.
CONFORMANCE = "vhost-user-conformance-test"
# What needs packages waits for it; it fails for no reason of theirs.
FETCHED = "code/fetch"
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


def _qtest_env(build: Path, arch: str = "x86_64") -> dict[str, str]:
    return {
        "QTEST_QEMU_BINARY": str(build / f"qemu-system-{arch}"),
        "QTEST_QEMU_IMG": str(build / "qemu-img"),
        "QTEST_QEMU_STORAGE_DAEMON_BINARY":
            str(build / "storage-daemon/qemu-storage-daemon"),
    }


def _our_programs(folder: str) -> list[str]:
    """Test programs of ours: tests/unit/test-x.c makes test-x."""
    sources = sorted((TOP / folder).glob("*.c"))
    return [s.stem for s in sources if re.search(r"^int main\(", s.read_text(
        encoding="utf-8"), re.MULTILINE)]


def _programs(group: str, folder: str, build: Path) -> list[Test]:
    return [Test(f"{group}/{name}",
                 (str(build / folder / name), "--tap", "-k"),
                 PROGRAM_SECONDS, build, _qtest_env(build), tap=True)
            for name in _our_programs(folder) if name != CONFORMANCE]


def _paths_of(program: str) -> list[str]:
    """Cases of a qtest, as the build without sanitizers lists them."""
    path = QEMU / "tests/qtest" / program
    if not path.exists():
        return []
    done = subprocess.run([str(path), "-l"], cwd=QEMU, check=False,
                          capture_output=True, text=True, env=_qtest_env(QEMU))
    return [ln for ln in done.stdout.splitlines() if ln.startswith("/")]


def _conformance() -> Test:
    script = str(TOP / "scripts/lib/conformance.py")
    return Test("qtest/conformance", (PYTHON, script, "--build", str(QEMU)),
                600, TOP, tap=True, after=FETCHED)


def _arm_programs(group: str, build: Path) -> list[Test]:
    """Those of ARM_PROGRAMS once more: with another QEMU they list others."""
    env = _qtest_env(build, "arm")
    return [replace(test, name=f"{test.name}-arm", env=test.env | env)
            for test in _programs(group, "tests/qtest", build)
            if Path(test.argv[0]).name in ARM_PROGRAMS]


def _device_of(path: str) -> str:
    """Which of STOCK_QTESTS @path belongs to; "" for none of them."""
    for device in STOCK_QTESTS:
        if f"/{device}" in path:
            return device
    return ""


def _qos_tests(devices: tuple[str, ...]) -> list[Test]:
    """One run of qos-test a device, over all paths that lead to it."""
    paths: dict[str, list[str]] = {}
    for path in _paths_of("qos-test"):
        paths.setdefault(_device_of(path), []).append(path)
    tests = []
    for device in devices:
        if device not in paths:
            continue
        argv = [str(QEMU / "tests/qtest/qos-test"), "--tap", "-k"]
        for path in paths[device]:
            argv += ["-p", path]
        tests.append(Test(f"qtest/stock-{device}", tuple(argv), 900, QEMU,
                          _qtest_env(QEMU), tap=True))
    return tests


def unit_tests() -> list[Test]:
    return _programs("unit", "tests/unit", QEMU)


def qtests() -> list[Test]:
    return (_programs("qtest", "tests/qtest", QEMU) +
            _arm_programs("qtest", QEMU) +
            [_conformance()] + _qos_tests(STOCK_QTESTS))


def _sanitized(test: Test) -> Test:
    """@test with the build that has sanitizers."""
    def there(text: str) -> str:
        return text.replace(str(QEMU), str(ASAN))

    return replace(
        test, name=f"asan/{test.name.split('/', 1)[1]}",
        argv=tuple(map(there, test.argv)), limit=test.limit * 10,
        cwd=Path(there(str(test.cwd))), after="asan/build",
        env={k: there(v) for k, v in test.env.items()} | SANITIZER_ENV)


def asan_tests() -> list[Test]:
    """All unit tests and qtests with sanitizers: a QEMU more to build."""
    build = Test("asan/build", (str(TOP / "scripts/setup"), "--variant",
                                "asan"), 3600, TOP, alone=True)
    return [build] + [
        _sanitized(test) for test in unit_tests() + qtests()
        if "stock-" not in test.name or
        test.name.endswith(("stock-vhost-user", "stock-virtio-blk"))]


def _cases(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    found: list[unittest.TestCase] = []
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            found += _cases(item)
        else:
            found.append(item)
    return found


def functional_tests() -> list[Test]:
    """Each method of each class is a test, in a process of its own.

    A class whose methods share something costly, "together", is one test.
    """
    if not (BUILD / "qemu-src/python").is_dir():
        return []
    sys.path.insert(0, str(FUNCTIONAL))
    suite = unittest.defaultTestLoader.discover(str(FUNCTIONAL), "test_*.py")
    tests: dict[str, Test] = {}
    for case in _cases(suite):
        ident = case.id()
        if "_FailedTest" in ident:
            ident = ident.rsplit(".", 1)[1]
        elif getattr(case, "together", False):
            ident = ident.rsplit(".", 1)[0]
        name = ident.removeprefix("test_").replace(".test_", ".")
        method = getattr(case, ident.rsplit(".", 1)[1], case)
        group = getattr(method, "group", getattr(case, "group", "functional"))
        if name.startswith("devices."):
            # Cells of the matrix: "on.DEVICE_BACKEND_..." and "off....".
            name = f"{case.side}.{name.rsplit('.', 1)[1]}"
        limit = getattr(case, "limit", 300)
        tests[ident] = Test(
            f"{group}/{name}", (PYTHON, "-m", "unittest", "-v", ident), limit,
            FUNCTIONAL, alone=getattr(case, "alone", False),
            after=getattr(case, "after", FETCHED))
    # What may take longest begins first, or others would wait for its end.
    return sorted(tests.values(), key=lambda t: -t.limit)


def code_tests() -> list[Test]:
    lib = TOP / "scripts/lib"
    tests = [Test(f"code/{claim}", (PYTHON, str(lib / "check_code.py"), claim),
                  300, TOP)
             for claim in ("layers", "circles", "foreign-memory",
                           "blocking-calls", "sizes", "licences",
                           "no-machine-names", "warnings-gcc",
                           "warnings-clang")]
    tests.append(Test("code/demo", (str(TOP / "scripts/demo"),), 300, TOP,
                      alone=True))
    tests.append(Test("code/docs", (PYTHON, str(lib / "check_docs.py")), 60,
                      TOP))
    tests.append(Test("code/devices", (PYTHON, str(lib / "devices.py"),
                                       "--check-docs"), 60, TOP))
    tests.append(Test("code/events", (PYTHON, str(lib / "events_docs.py"),
                                      "--check-docs"), 60, TOP))
    tests.append(Test("code/export-series",
                      (str(TOP / "scripts/export-series"),
                       str(BUILD / "check/series")), 300, TOP))
    return tests


def ring_tests(group: str, suffix: str, limit: int) -> list[Test]:
    """The ring files alone: explored, and against devices of others."""
    runs = [("explore", f"split{suffix}"), ("explore", f"packed{suffix}"),
            ("peer", f"linux{suffix}"), ("peer", f"threads{suffix}")]
    if not suffix:
        runs += [("explore", "litmus"), ("explore", "planted"),
                 ("peer", "planted"), ("peer", "tsan")]
    return [Test(f"{group}/{script}-{what.removesuffix(suffix)}",
                 (PYTHON, str(TOP / f"scripts/lib/{script}.py"), what), limit,
                 TOP, tap=True, after=FETCHED if script == "peer" else "")
            for script, what in runs]


def proof_tests() -> list[Test]:
    """Each proof, each bug planted to be found, and the page about them."""
    script = str(TOP / "scripts/lib/proofs.py")

    def test(name: str, limit: int, *args: str) -> Test:
        return Test(name, (PYTHON, script, *args), limit, TOP, tap=True,
                    named=True, after=FETCHED)

    return [test(f"proofs{'-deep' if p.deep else ''}/{p.name}", p.limit,
                 p.name) for p in proofs.PROOFS] + [
        test("proofs/planted-bugs-are-found", 900, "planted", "quick"),
        test("proofs-deep/planted-bugs-are-found", 3600, "planted", "all"),
        test("proofs/docs", 60, "--check-docs")]


def hostile_tests() -> list[Test]:
    """All moves of the hostile backend; some of them, with sanitizers too."""
    script = str(TOP / "scripts/lib/hostile_run.py")

    def test(name: str, limit: int, *args: str, after: str = FETCHED,
             **env: str) -> Test:
        return Test(name, (PYTHON, script, *args), limit, TOP, env, tap=True,
                    named=True, after=after)

    return [test(f"hostile/{setting}", 14400, "run", setting)
            for setting in hostile_run.all_settings()] + [
        test("hostile-once/all-moves", 14400, "once"),
        test("functional/hostile-shortly", 1200, "short"),
        test("hostile/asan-shortly", 3600, "short", after="asan/build",
             QEMU_BUILD=str(ASAN), HOSTILE_PATIENCE="4", **SANITIZER_ENV),
        test("functional/hostile-docs", 60, "--check-docs")]


def event_tests() -> list[Test]:
    """What the table of events says is so without isolation."""
    script = str(TOP / "scripts/lib/events_docs.py")
    return [Test(f"events/{event.name}", (PYTHON, script, "off", event.name),
                 300, TOP, after=FETCHED) for event in events_docs.events()]


def tool_tests(group: str, *runs: tuple[str, int, str, str]) -> list[Test]:
    """Name, limit, script and options of scripts/lib."""
    return [Test(f"{group}/{name}", (PYTHON, str(TOP / "scripts/lib" / script),
                                     *options.split()), limit, TOP)
            for name, limit, script, options in runs]


def slow_tests() -> list[Test]:
    lib = TOP / "scripts/lib"
    return [
        Test("s390x/build", (str(TOP / "scripts/setup"), "--variant", "s390x"),
             3600, TOP, alone=True, after=FETCHED),
        *(Test(f"bare/{name}", ("/bin/sh", str(lib / "bare.sh"),
                                *options.split()), 7200, TOP, alone=True)
          for name, options in BARE),
        Test("compile/export-series", (str(TOP / "scripts/export-series"),
                                       "--compile",
                                       str(BUILD / "check/series")), 7200,
             TOP, alone=True),
    ] + ring_tests("rings-deep", "-deep", 3600)


def package_tests() -> list[Test]:
    """Packages built and tried in a bare Debian, and with its libvirt."""
    lib = TOP / "scripts/lib"
    return [Test(f"deb/debian-{release}",
                 ("/bin/sh", str(lib / "deb_try.sh"), release), 14400, TOP,
                 alone=True) for release in ("12", "13")] + [
        Test(f"libvirt/debian-{release}",
             ("/bin/sh", str(lib / "libvirt_try.sh"), release), 3600, TOP,
             tap=True, named=True, after=f"deb/debian-{release}")
        for release in ("12", "13")]


def port_tests(with_guests: list[Test]) -> list[Test]:
    """Other versions of QEMU, and what is run with each."""
    tests = check_port.builds(FETCHED)
    for version in check_port.VERSIONS:
        build = port.folder(version)
        tests += check_port.programs(
            version, _programs("unit", "tests/unit", build) +
            _programs("qtest", "tests/qtest", build) +
            _arm_programs("qtest", build))
        tests += check_port.guests(version, with_guests)
    return tests


def all_tests() -> list[Test]:
    fetch = tool_tests("code", ("fetch", 1200, "fetch.py", ""))
    functional = functional_tests()
    # The longest one of the plain check is among the first, or would be the last.
    return (fetch + unit_tests() + qtests() + hostile_tests() +
            [t for t in functional if t.group != check_port.NEWER] +
            ring_tests("rings", "", 600) + proof_tests() +
            tool_tests("rings",
                       ("instructions", 600, "bench_rings.py", "--check"),
                       ("fuzz-shortly", 600, "fuzz.py", "--again 2500"),
                       ("fuzz-messages-shortly", 600, "fuzz.py",
                        "messages --again 5000"),
                       ("mutation-sample", 900, "mutate.py", "--sample")) +
            tool_tests("fuzz", ("queue", 900, "fuzz.py", "--seconds 120"),
                       ("messages", 900, "fuzz.py",
                        "messages --seconds 120")) +
            tool_tests("mutation", ("ring-files", 10800, "mutate.py", "")) +
            code_tests() + asan_tests() + slow_tests() +
            package_tests() + event_tests() + port_tests(functional))
