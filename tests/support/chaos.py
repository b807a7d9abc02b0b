"""Commands on a data root that are killed, or find the disk full, at each of their file operations.

Run as a script for one scenario; every case runs in a forked process, whose audit hook counts the operations.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SCENARIOS", "Scenario"]

SAMPLES = Path(__file__).resolve().parents[2] / "docs" / "samples"
OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Scenario:
    """A command that must be all done or not done at all.

    Attributes
    ----------
    prepare : makes the place that the command starts from.
    run : the command, on that place.
    resumes : whether what an interrupted command has written is kept, and completed by the same command.
    """

    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    resumes: bool = False


def _import(place: Path, *, overwrite: bool = False, source: str = "mine") -> None:
    from survbench.data.importers import import_data

    slides = None if source == "again" else SAMPLES / "features"
    import_data(place / source, place / "DATA", slides=slides, overwrite=overwrite)


def _pack(place: Path) -> None:
    from survbench.data.packing import pack
    from survbench.data.root import DataRoot

    pack(DataRoot.open(place / "DATA").cohort("mine"))


def _simulate(place: Path) -> None:
    from survbench.simulation.slides import simulate_slides

    simulate_slides(place / "DATA", patches=3, layout="npy")


def _sources(place: Path) -> None:
    shutil.copytree(SAMPLES / "mine", place / "mine")


def _packed(place: Path) -> None:
    _sources(place)
    _import(place)
    _pack(place)
    shutil.move(place / "mine", place / "again" / "mine")
    (place / "again" / "mine" / "labels.csv").write_text(
        (SAMPLES / "mine" / "labels.csv").read_text().replace("S01,H01,59", "S01,H01,58")
    )
    (place / "DATA" / "mine" / "my own notes.csv").write_text("kept\n")


def _without_slides(place: Path) -> None:
    from survbench.data.importers import import_data

    _sources(place)
    import_data(place / "mine", place / "DATA")


def _imported(place: Path) -> None:
    _sources(place)
    _import(place)


MARKED = {"cohort.json", "slides.csv"}  # say that slides are simulated before the first one is there
SCENARIOS = {
    "import": Scenario(_sources, _import),
    "overwrite": Scenario(_packed, lambda place: _import(place, overwrite=True, source="again")),
    "simulate": Scenario(_without_slides, _simulate, resumes=True),
    "pack": Scenario(_imported, _pack),
}


def content(place: Path) -> dict[str, str]:
    """Digest of every file of the cohort, but for times in it and hidden leftovers."""
    root = place / "DATA" / "mine"
    files = [file for file in sorted(root.rglob("*")) if file.is_file()] if root.is_dir() else []
    visible = [file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    return {str(file.relative_to(root)): hashlib.sha256(_plain(file, place)).hexdigest() for file in visible}


def _plain(file: Path, place: Path) -> bytes:
    """What is in a file, but for the place that it names."""
    return re.sub(re.escape(str(place.parent)).encode() + rb"/\w+", b"PLACE", file.read_bytes())


def hidden(place: Path) -> list[str]:
    """Files and folders that begin with a dot, which nobody needs once a command is done."""
    marks = {".simulated.json"}
    found = (of for of in (place / "DATA").rglob(".*") if of.name not in marks)
    return sorted(str(of.relative_to(place)) for of in found)


def _interrupted(scenario: Scenario, place: Path, at: int, full: bool) -> int:
    """Run the command in a process that ends at its `at`-th operation; 0 where it has fewer."""
    if (child := os.fork()) == 0:
        count = 0

        def hook(event: str, arguments: Any) -> None:
            nonlocal count
            writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
            if not (writing or event in OPERATIONS) or not str(arguments[0]).startswith(str(place)):
                return
            count += 1
            if count == at:
                if full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
                os._exit(9)

        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            sys.addaudithook(hook)
            scenario.run(place)
            os._exit(0 if count < at else 1)
        except BaseException:
            os._exit(9 if count >= at else 3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def faults(name: str, every: int, full: bool) -> tuple[int, list[str]]:
    """Interrupt a scenario at every `every`-th operation; the number of cases and what was wrong after them."""
    scenario, wrong, cases = SCENARIOS[name], [], 0
    with tempfile.TemporaryDirectory() as home:
        start, whole = Path(home) / "start", Path(home) / "whole"
        start.mkdir()
        scenario.prepare(start)
        before = content(start)
        _run(scenario, start, whole)
        after = content(whole)
        assert before != after
        at, place = 1, Path(home) / "case"
        while True:
            shutil.rmtree(place, ignore_errors=True)
            _copy(start, place)
            code = _interrupted(scenario, place, at, full)
            if code == 0:
                return cases, wrong
            cases += 1
            wrong += [f"operation {at}: {what}" for what in _wrong(scenario, place, code, before, after)]
            at += every


def _copy(start: Path, place: Path) -> None:
    """A copy in which slides.csv, which names absolute places, still holds."""
    shutil.copytree(start, place, symlinks=True)


def _run(scenario: Scenario, start: Path, place: Path) -> None:
    _copy(start, place)
    scenario.run(place)


def _wrong(
    scenario: Scenario, place: Path, code: int, before: Mapping[str, str], after: Mapping[str, str]
) -> list[str]:
    from survbench.data.root import DataRoot
    from survbench.errors import SurvbenchError

    if code not in (1, 9):
        return [f"ended with {code}"]
    if (place / "DATA" / "root.json").exists():
        DataRoot.open(place / "DATA")  # as the next command does
    now, wrong = content(place), []
    whole = all(of in (before.get(name), after.get(name)) for name, of in now.items() if name not in MARKED)
    if now not in (before, after) and not (scenario.resumes and whole):
        changed = sorted(
            name for name in {*now, *before, *after} if now.get(name) not in (before.get(name), after.get(name))
        )
        wrong.append(f"neither as before nor done: {changed or 'a mixture'}")
    try:
        scenario.run(place)
    except SurvbenchError as error:
        if now != after:
            wrong.append(f"the command fails afterwards: {error}")
    if content(place) != after:
        wrong.append("the command, given again, does not give what it should")
    if left := hidden(place):
        wrong.append(f"left over: {', '.join(left)}")
    return wrong


def main() -> int:
    """Print what was wrong, a line each, then the number of cases of each scenario."""
    parser = argparse.ArgumentParser(description="Kills commands at their file operations, and fills their disk.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--every", type=int, default=1, help="interrupt every so many operations; default: each")
    chosen = parser.parse_args()
    bad = 0
    for name in chosen.scenarios or SCENARIOS:
        for full in (False, True):
            cases, wrong = faults(name, chosen.every, full)
            how = "disk full" if full else "killed"
            print("\n".join([f"{name}, {how}, {cases} cases, {len(wrong)} faults", *wrong]), flush=True)
            bad += len(wrong)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
