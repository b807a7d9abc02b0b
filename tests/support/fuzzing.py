"""Valid files of every reader, bytes of them changed at random, and a watched process that reads what comes out.

A reader may succeed or refuse with a `SurvbenchError`. A traceback, a hang, a dead process or too much memory is a
find: its file is kept in `FINDS`, and every later test run reads it again. Run by `make fuzz`; see `main`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import survbench
from support.fuzzed_readers import READERS, Reader
from survbench.errors import SurvbenchError

__all__ = ["FINDS", "Find", "attempt", "finds", "main", "mutated", "watch"]

FINDS = Path(__file__).resolve().parents[1] / "door" / "finds"
PACKAGE = str(Path(survbench.__file__).parent)
MEMORY = 1 << 30  # bytes that one file may take
PATIENCE = 30.0  # seconds for one file
TOKENS = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"NaN",
    b"inf",
    b"1e999",
    b"-1",
    b"",
    b'"',
    b",",
    b"\t",
    b";",
    b"\r",
    b"\n",
)
TOKENS += (
    b"=1+1",
    b"\x1b[31m",
    b"../",
    b"#",
    b"9" * 400,
    b"\xe2\x80\xae",
    b"{",
    b"[" * 50,
    b"&a",
    b"*a",
    b"None",
    b"\x80",
)


@dataclass(frozen=True)
class Find:
    """A file that a reader could not cope with.

    Attributes
    ----------
    reader : its name.
    content : of the file.
    what : a traceback, or how the process ended.
    """

    reader: str
    content: bytes
    what: str

    @property
    def kind(self) -> str:
        """What finds of one fault have in common: the exception and where the suite was."""
        lines = self.what.strip().splitlines()
        places = [line.strip() for line in lines if f'"{PACKAGE}' in line]
        return f"{(places or [''])[-1]} {lines[-1].split(':')[0]}"

    def keep(self) -> Path:
        """Write the file among the finds."""
        suffix = "".join(Path(READERS[self.reader].file).suffixes[-2:])
        target = FINDS / f"{self.reader}-{hashlib.sha256(self.content).hexdigest()[:8]}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.content)
        return target


def finds() -> list[Path]:
    """The files that were kept."""
    return sorted(FINDS.glob("*-*")) if FINDS.is_dir() else []


def mutated(seeds: Sequence[bytes], number: int) -> bytes:
    """The `number`-th changed form of one of these contents; the same for the same number."""
    random_ = random.Random(number)
    content = bytearray(random_.choice(seeds))
    for _ in range(random_.choice((1, 1, 2, 4, 8))):
        _change(content, random_, seeds)
    return bytes(content)


def _change(content: bytearray, random_: random.Random, seeds: Sequence[bytes]) -> None:
    at = random_.randrange(len(content) + 1)
    until = min(len(content), at + random_.choice((1, 1, 2, 4, 16, 256)))
    match random_.randrange(7):
        case 0:
            content[at:until] = random_.randbytes(until - at)
        case 1:
            content[at:until] = b""
        case 2:
            content[at:at] = content[at:until] * random_.choice((1, 2, 50))
        case 3:
            content[at:at] = random_.choice(TOKENS)
        case 4:
            content[at:until] = random_.choice(TOKENS)
        case 5:
            del content[at:]
        case _:
            other = random_.choice(seeds)
            start = random_.randrange(len(other) + 1)
            content[at:until] = other[start : start + until - at]


def attempt(reader: Reader, content: bytes, folder: Path) -> None:
    """Have a reader read this content, in an empty folder; what it refuses is no error."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        reader.read(reader.place(folder, content))
    except SurvbenchError as refusal:
        if "\n" in str(refusal) or not str(refusal).strip():
            raise ValueError(f"not one line: {refusal!r}") from refusal


def _child(reader: Reader, seeds: Sequence[bytes], first: int, folder: Path, pipe: int) -> None:
    """Read one changed file after the other; `number` announces each, `number<tab>traceback` is a find."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))
    number = first
    while True:
        os.write(pipe, f"{number}\0".encode())
        try:
            attempt(reader, mutated(seeds, number), folder)
        except Exception:
            os.write(pipe, f"{number}\t{traceback.format_exc()[-3000:]}\0".encode())
        number += 1


def watch(reader: Reader, seconds: float, *, first: int = 0, patience: float = PATIENCE) -> Iterator[int | Find]:
    """Read changed files for some seconds.

    Yields
    ------
    The number of each file as it is begun, and finds. The process is started again where it hung or died.
    """
    end, number = time.monotonic() + seconds, first
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        seeds = reader.seeds(Path(place) / "seeds")
        while time.monotonic() < end:
            incoming, outgoing = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.close(incoming)
                    _child(reader, seeds, number, Path(place) / "case", outgoing)
                finally:
                    os._exit(1)
            os.close(outgoing)
            try:
                for report in _reports(incoming, end, patience):
                    at, _, what = report.partition("\t")
                    number = int(at)
                    yield Find(reader.name, mutated(seeds, number), what) if what else number
            except TimeoutError:
                yield Find(reader.name, mutated(seeds, number), f"hang: {patience:g} s")
            finally:
                os.close(incoming)
                os.kill(child, signal.SIGKILL)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if time.monotonic() < end and status != -signal.SIGKILL:
                yield Find(reader.name, mutated(seeds, number), f"ended: the process, with {status}")
            number += 1


def _reports(pipe: int, end: float, patience: float) -> Iterator[str]:
    rest = b""
    while (left := end - time.monotonic()) > 0:
        if not select.select([pipe], [], [], min(patience, left))[0]:
            if left > patience:
                raise TimeoutError
            return
        if not (data := os.read(pipe, 1 << 16)):
            return
        *whole, rest = (rest + data).split(b"\0")
        yield from (report.decode(errors="replace") for report in whole)


def main() -> int:
    """Fuzz the readers that are named, or all, and keep one file of every fault."""
    parser = argparse.ArgumentParser(description="Changes bytes of valid files at random and reads what comes out.")
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; default: all")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each reader; default: 1")
    parser.add_argument("--first", type=int, default=0, help="number of the first change, which decides what it is")
    chosen = parser.parse_args()
    if unknown := set(chosen.readers) - set(READERS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    found = 0
    for name in chosen.readers or READERS:
        kinds, count = set[str](), 0
        for event in watch(READERS[name], 60 * chosen.minutes, first=chosen.first):
            count += isinstance(event, int)
            if isinstance(event, Find) and event.kind not in kinds:
                kinds.add(event.kind)
                print(f"{name}: {event.keep()}\n{event.what}", flush=True)
        print(f"{name}: {count} files, {len(kinds)} faults", flush=True)
        found += len(kinds)
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
