"""Feature files read in a process of their own: one that hangs, crashes or fills memory is named, and the next is read.

The process stays alive over files and imports torch only for a .pt file. It answers with a line of JSON and the bytes
of the arrays, never with a pickle. It reads the next file while the caller works on this one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from survbench import errors
from survbench.data.formats import SlideFeatures, header, is_simulated, read_features
from survbench.errors import BadFile, SurvbenchError

__all__ = ["any_simulated", "headers", "read_all", "serve"]

T = TypeVar("T")
PATIENCE = 30.0  # seconds of computing without a byte read or written
MEMORY = 1 << 30  # bytes beyond those at the start and `PER_BYTE` of the file's size
PER_BYTE = 8  # of memory per byte of a file: compressed values, their copy in single precision
SLOWEST = 1e6  # bytes a second, where the system does not tell how much a process has read
_DAMAGED = "it may be damaged; copy or extract it again"


def read_all(
    files: Iterable[Path], patch_size: float | None = None
) -> Generator[tuple[Path, SlideFeatures | SurvbenchError], None, None]:
    """Every file with its features, or with the error of reading it, in their order.

    Parameters
    ----------
    files : of patch features.
    patch_size : see `formats.read_features`.
    """
    for file, answer in _ahead(_answers("read", files, patch_size)):
        yield file, answer if isinstance(answer, SurvbenchError) else SlideFeatures(**answer)


def headers(
    files: Iterable[Path], patch_size: float | None = None
) -> Iterator[tuple[Path, tuple[int, int, str | None] | SurvbenchError]]:
    """Every file with (patches, width, encoder) of its header, or with the error of reading it, in their order.

    Parameters
    ----------
    files : of patch features.
    patch_size : see `formats.read_features`.
    """
    for file, answer in _answers("header", files, patch_size):
        yield file, answer if isinstance(answer, SurvbenchError) else tuple(answer["header"])


def any_simulated(files: Iterable[Path]) -> bool:
    """Whether one of these files says that its features are simulated; what cannot be read says nothing."""
    with closing(_answers("mark", files)) as answers:
        return any(not isinstance(answer, SurvbenchError) and answer["simulated"] for _, answer in answers)


def _ahead(answers: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same; a thread receives the next answer while the caller works on this one."""
    with closing(answers), ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, answers, None)
        while (answer := following.result()) is not None:
            following = thread.submit(next, answers, None)
            yield answer
            del answer


def _answers(
    task: str, files: Iterable[Path], patch_size: float | None = None
) -> Generator[tuple[Path, Any], None, None]:
    queue = [Path(file) for file in files]
    reader: _Reader | None = None
    requested = 0
    try:
        for number, file in enumerate(queue):
            if reader is None:
                reader, requested = _Reader(), number
            while requested < min(number + 2, len(queue)):  # the next one is read meanwhile
                reader.ask(task, queue[requested], patch_size)
                requested += 1
            answer = reader.answer(file)
            if answer is None:
                why = reader.end()
                reader = None
                yield file, BadFile(f"{file} {why}", _DAMAGED)
            else:
                yield file, answer
    finally:
        if reader is not None:
            reader.end()


class _Reader:
    """The process, its two pipes, and a thread that ends it where it hangs or fills memory."""

    def __init__(self) -> None:
        start = f"import sys; sys.path[:] = {sys.path!r}; from survbench.data.reading_process import serve; serve()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=1 << 20,  # where the system can: fewer changes between the two processes
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.replies = self.process.stdin, self.process.stdout
        self.why = ""
        self._ended = False  # by itself, or by the guard
        self._file: Path | None = None  # waited for
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._guard, daemon=True)
        self._watch.start()

    def ask(self, task: str, file: Path, patch_size: float | None) -> None:
        with contextlib.suppress(OSError):  # it is dead: `answer` finds out
            self.requests.write(json.dumps([task, str(file), patch_size]).encode() + b"\n")
            self.requests.flush()

    def answer(self, file: Path) -> Any:
        """What the process has found; None where it ended."""
        self._file = file
        try:
            line = self.replies.readline()
            if not line.endswith(b"\n"):
                self._ended = True
                return None
            answer = json.loads(line)
            if "error" in answer:
                kind, what, fix = answer["error"]
                return getattr(errors, kind)(what, fix)
            for name, (shape, dtype) in answer.pop("arrays", {}).items():
                array = np.empty(shape, dtype)
                if not _fill(array, self.replies):
                    self._ended = True
                    return None
                answer[name] = array
            return answer
        finally:
            self._file = None

    def end(self) -> str:
        """End the process; why it had ended before, if so."""
        self._over.set()
        with contextlib.suppress(OSError):
            self.requests.close()
        if not self._ended:
            self.process.kill()
        code = self.process.wait()
        self._watch.join()
        self.replies.close()
        return self.why or f"ends the process that reads it ({_name(code)})"

    def _guard(self) -> None:
        size = 0
        file: Path | None = None
        since = last = (0.0, 0.0, 0)
        base = _memory(self.process.pid)
        while not self._over.wait(0.1):
            now = self._file
            work = _work(self.process.pid)
            if now is None:
                file = None
                continue
            if now is not file:
                file, since, last = now, (time.monotonic(), *work), (time.monotonic(), *work)
                size = file.stat().st_size if file.is_file() else 0
                continue
            if work[1] != last[2]:
                since = (time.monotonic(), *work)
            last = (time.monotonic(), *work)
            measured = work[1] >= 0
            spent = work[0] - since[1] if measured else time.monotonic() - since[0]
            if spent > PATIENCE + (0 if measured else size / SLOWEST):
                self.why = f"cannot be read: no progress in {PATIENCE:g} seconds"
            elif _memory(self.process.pid) > max(base, 300 << 20) + MEMORY + PER_BYTE * size:
                self.why = f"cannot be read: it takes over {MEMORY / 2**30:g} GB more memory than its size accounts for"
            if self.why:
                self.process.kill()
                return


def _fill(array: np.ndarray, source: IO[bytes]) -> bool:
    view = _bytes(array)
    done = 0
    while done < len(view):
        count = source.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            return False
        done += count
    return True


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def _work(pid: int) -> tuple[float, int]:
    """Seconds a process has computed, and bytes it has read and written; (0, -1) where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        moved = Path(f"/proc/{pid}/io").read_text().split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(moved[1]) + int(moved[3])
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0, -1


def _memory(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def _name(code: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"


def serve() -> None:
    """Read the files that standard input names and answer on standard output, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends this process
    _die_with_parent()
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin.buffer:
        task, name, patch_size = json.loads(line)
        head, arrays = _found(task, Path(name), patch_size)
        replies.write(json.dumps(head).encode() + b"\n")
        for array in arrays:
            view = _bytes(array)
            while len(view):
                view = view[replies.write(view) :]
        del arrays


def _found(task: str, file: Path, patch_size: float | None) -> tuple[dict[str, Any], list[np.ndarray]]:
    try:
        if task == "header":
            patches, width, encoder = header(file, patch_size)
            return {"header": [int(patches), int(width), encoder]}, []
        if task == "mark":
            return {"simulated": is_simulated(file)}, []
        slide = read_features(file, patch_size)
        arrays = {name: np.ascontiguousarray(getattr(slide, name)) for name in ("features", "coords")}
        head = {"encoder": slide.encoder, "simulated": bool(slide.simulated), "in_edges": slide.in_edges}
        kinds = {name: (array.shape, array.dtype.str) for name, array in arrays.items()}
        return {**head, "arrays": kinds}, list(arrays.values())
    except SurvbenchError as error:
        return {"error": [type(error).__name__, error.what, error.fix]}, []
    except Exception as error:  # a library's; the file is to blame
        lines = str(error).strip().splitlines() or [""]
        what = f"{file} cannot be read: {type(error).__name__}: {lines[0][:200]}"
        return {"error": ["BadFile", what, _DAMAGED]}, []


def _die_with_parent() -> None:
    """Linux ends this process with its parent even where it spins; elsewhere it ends at its next answer."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
