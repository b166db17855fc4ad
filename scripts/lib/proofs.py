#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Machine-checked proofs of the ring files, the span allocator and chain pop.

    proofs.py NAME          prove the entry NAME of tests/proofs/table.py
    proofs.py planted quick plant each bug of tests/proofs/planted.py that is
                            found soon into a copy, and see it found
    proofs.py planted all   the same with all of them; or with the name of one
    proofs.py --check-docs  does docs/devel list what is proven?
    proofs.py --write-docs  write it, with the times of the last runs

Output is TAP, a line for each property.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / "build/check/proofs"
FOLDER = TOP / "tests/proofs"
DOCS = TOP / "docs/devel/vhost-user-memory-isolation-proofs.rst"
sys.path.insert(0, str(FOLDER))

# pylint: disable=wrong-import-position
from planted import PLANTED, Bug                        # noqa: E402
from table import PROOFS, Edit, Proof                   # noqa: E402

FLAGS = ("--unwinding-assertions", "--pointer-overflow-check",
         "--no-malloc-may-fail", "--drop-unused-functions")
RESULT = re.compile(r"^\[(\S+)\] (?:file \S+ )?(?:line \d+ )?(.*): "
                    r"(SUCCESS|FAILURE|UNKNOWN|ERROR)$", re.MULTILINE)
VIOLATED = re.compile(r"^Violated property:\n  .*\n  (.*)$", re.MULTILINE)
# What CBMC checks by itself, by the part of the property's name.
MEMORY = "no access outside an object, no overflow, no bad shift or division"
BOUNDED = "every loop ends within its bound"
ASSERTS = "no assertion of the code can fail"


MAX_SHOWN = 5


class ProofError(Exception):
    """The model checker could not be run, or gave no answer."""


def checker() -> list[str]:
    """The command that starts CBMC, fetched if need be."""
    done = subprocess.run([str(TOP / "scripts/lib/cbmc.sh")], check=False,
                          capture_output=True, text=True)
    if done.returncode:
        raise ProofError(done.stderr.strip())
    return done.stdout.split("\n")[:-1]


def edited_copy(edits: tuple[Edit, ...], where: Path) -> Path:
    """A copy of hw/virtio under @where with @edits done."""
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(TOP / "hw/virtio", where / "hw/virtio")
    for edit in edits:
        path = where / edit.file
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise ProofError(f"{edit.file} has {text.count(edit.old)} times: "
                             f"{edit.old}")
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    return where


def group(ident: str, text: str) -> str:
    """The claim that a property of CBMC's belongs to."""
    if ".unwind." in ident:
        return BOUNDED
    if ".assertion." not in ident:
        return MEMORY
    return ASSERTS if text.startswith("assert: ") else text


def run_cbmc(proof: Proof, case: int, sources: Path, log: Path,
             *flags: str) -> str:
    """What CBMC says of one run of @proof."""
    argv = [*checker(), "--function", proof.function,
            "--unwind", str(proof.unwind), *FLAGS, *proof.flags, *flags]
    for folder in (FOLDER / "include", sources, TOP,
                   TOP / "build/qemu-src/include"):
        argv += ["-I", str(folder)]
    for define in proof.defines + (
            (f"STEP={case}",) if proof.cases else ()):
        argv += ["-D", define]
    done = subprocess.run([*argv, str(FOLDER / proof.source)], check=False,
                          cwd=TOP, capture_output=True, text=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    # 0: all properties hold; 10: one does not.
    if done.returncode not in (0, 10):
        raise ProofError(f"{proof.name}: CBMC ended with status "
                         f"{done.returncode} (log: {log.relative_to(TOP)})")
    return done.stdout


def runs(proof: Proof) -> list[tuple[int, str]]:
    return list(enumerate(proof.cases or ("all",)))


def prove(proof: Proof) -> dict[str, list[str]]:
    """Claims of @proof, each with the properties of it that do not hold."""
    where = BUILD / proof.name
    sources = edited_copy(proof.edits, where) if proof.edits else TOP
    claims: dict[str, list[str]] = {}
    for number, name in runs(proof):
        text = run_cbmc(proof, number, sources, where / f"{name}.log")
        results = RESULT.findall(text)
        if not results:
            raise ProofError(f"{proof.name}: nothing was checked")
        for ident, words, verdict in results:
            failed = claims.setdefault(group(ident, words), [])
            if verdict != "SUCCESS":
                failed.append(f"{name}: {ident}: {words}")
    return claims


def prove_one(proof: Proof) -> int:
    """Prints a line a claim; the number of those that do not hold."""
    begin = time.monotonic()
    claims = prove(proof)
    seconds = time.monotonic() - begin
    bad = 0
    for number, (claim, failed) in enumerate(sorted(claims.items()), 1):
        print(f"{'not ok' if failed else 'ok'} {number} {claim}")
        for prop in failed[:MAX_SHOWN]:
            print(f"# {prop}")
        bad += bool(failed)
    print(f"# {seconds:.1f} s")
    if not bad:
        save_time(proof, seconds)
    return bad


def first_violated(proof: Proof, sources: Path, where: Path,
                   cases: tuple[str, ...] = ()) -> str:
    """The first property that @sources do not have; "" if they have all."""
    for number, name in runs(proof):
        if cases and name not in cases:
            continue
        text = run_cbmc(proof, number, sources, where / f"{name}.log",
                        "--stop-on-fail")
        found = VIOLATED.search(text)
        if found:
            return found.group(1)
    return ""


def find_bug(bug: Bug) -> str:
    """What finds @bug; "" if nothing does."""
    proof = find(bug.proof)
    where = BUILD / "planted" / bug.name
    sources = edited_copy((*proof.edits, bug.edit), where)
    return first_violated(proof, sources, where, bug.cases)


def planted(which: str) -> int:
    """Plants "quick" bugs, "all", or the one of that name; how many stayed."""
    bugs = [b for b in PLANTED
            if which in ("all", b.name) or which == "quick" and not b.slow]
    if not bugs:
        raise ProofError(f"there is no planted bug '{which}'")
    missed = 0
    for number, bug in enumerate(bugs, 1):
        begin = time.monotonic()
        found = find_bug(bug)
        missed += not found
        print(f"{'ok' if found else 'not ok'} {number} {bug.name}: "
              f"{found or 'not found'} ({time.monotonic() - begin:.1f} s)",
              flush=True)
    return missed


def find(name: str) -> Proof:
    found = [p for p in PROOFS if p.name == name]
    if len(found) != 1:
        raise ProofError(f"{len(found)} proofs are called '{name}'")
    return found[0]


# Documentation

def times_file() -> Path:
    return BUILD / "times.json"


def times() -> dict[str, float]:
    path = times_file()
    return json.loads(path.read_text("ascii")) if path.exists() else {}


def save_time(proof: Proof, seconds: float) -> None:
    """Two proofs may end at once: a lost time is no harm, a torn file is."""
    known = times()
    known[proof.name] = round(seconds, 1)
    new = times_file().with_suffix(f".{proof.name}")
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_text(json.dumps(known, indent=1), encoding="ascii")
    new.rename(times_file())


def claims_of(source: str) -> list[str]:
    """The texts of PROVE() in @source and in what it includes from here."""
    text = (FOLDER / source).read_text(encoding="utf-8")
    found = []
    for header in re.findall(r'#include "([\w-]+\.h)"', text):
        found += claims_of(header)
    for claim in re.findall(r'PROVE\(.*?,\s*((?:"[^"]*"\s*)+)\)', text,
                            re.DOTALL):
        found.append("".join(re.findall(r'"([^"]*)"', claim)))
    return list(dict.fromkeys(found))


def rows(cells: list[list[str]]) -> str:
    return "".join(f"  {'* -' if not i else '  -'} {cell}\n"
                   for row in cells for i, cell in enumerate(row))


def docs_text(known: dict[str, float]) -> str:
    text = (FOLDER / "docs.rst.in").read_text(encoding="utf-8")
    table = [["Proof", "What", "Seconds"]]
    for proof in PROOFS:
        seconds = f"{known[proof.name]:.0f}" if proof.name in known else "-"
        table.append([f"``{proof.name}``",
                      proof.what + (" (deep)" if proof.deep else ""),
                      seconds])
    bugs = [["Planted bug", "Found by"]] + [
        [bug.name.replace("-", " "), f"``{bug.proof}``"] for bug in PLANTED]
    claims = ""
    for source in dict.fromkeys(p.source for p in PROOFS):
        claims += f"``tests/proofs/{source}``:\n\n"
        claims += "".join(f"- {c}\n" for c in claims_of(source)) + "\n"
    return text.replace("@PROOFS@\n", rows(table)).replace(
        "@PLANTED@\n", rows(bugs)).replace("@CLAIMS@\n\n", claims)


def without_times(text: str) -> str:
    return re.sub(r"^    - (\d+|-)$", "    - ", text, flags=re.MULTILINE)


def check_docs() -> int:
    have = DOCS.read_text(encoding="utf-8") if DOCS.exists() else ""
    good = without_times(have) == without_times(docs_text({}))
    print(f"{'ok' if good else 'not ok'} 1 docs/devel lists what is proven")
    if not good:
        print("# scripts/lib/proofs.py --write-docs writes it anew")
    return not good


def main() -> int:
    args = sys.argv[1:]
    try:
        if args == ["--write-docs"]:
            DOCS.write_text(docs_text(times()), encoding="utf-8")
            return 0
        if args == ["--check-docs"]:
            return check_docs()
        if len(args) == 2 and args[0] == "planted":
            return 1 if planted(args[1]) else 0
        if len(args) == 1 and not args[0].startswith("-"):
            return 1 if prove_one(find(args[0])) else 0
    except ProofError as err:
        print(f"not ok 1 {err}")
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
