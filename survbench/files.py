"""Files that are whole or not there, digests of them, and a lock that also works where the file system has none.

Knows nothing of what is in the files.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from survbench.errors import BadConfig

__all__ = [
    "LEFTOVER",
    "atomic_file",
    "atomic_folder",
    "atomic_write",
    "beside",
    "child",
    "digest",
    "file_digest",
    "file_stem",
    "lock",
    "plain",
    "replaced_folder",
    "shipped",
    "write_json",
]

_NOT_IN_NAMES = '/\\:*?"<>|,[]'  # separators of paths and of lists, and wildcards
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
LEASE_SECONDS = 30.0  # a lease of another host that was not renewed for so long is free


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Where to write a file that then appears by one rename; a reader sees the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file as `atomic_file` does."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON, atomically; NaN and infinity are refused (ValueError), tuples become lists."""
    atomic_write(path, json.dumps(content, indent=1, default=list, allow_nan=False))


def plain(value: Any) -> Any:
    """As JSON has it: NaN and infinity are None, tuples are lists."""
    if isinstance(value, Mapping):
        return {key: plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [plain(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder to write into; it becomes `target` by one rename, or is removed where writing failed.

    Raises
    ------
    FileExistsError : `target` is there already and not empty.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(target)
    temporary.mkdir()
    try:
        yield temporary
        try:
            os.rename(temporary, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replaced_folder(target: Path, old: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `target` by two renames.

    Parameters
    ----------
    target : the folder that may be there.
    old : where it is then, for the caller to remove; put back where the second rename fails.
    """
    scratch = beside(target)
    scratch.mkdir()
    try:
        yield scratch
        if target.exists():
            os.rename(target, old)
        os.rename(scratch, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()


def file_stem(identifier: str) -> str:
    """A patient's or slide's identifier as part of a file's name: itself where it can be one.

    What cannot be (`H1/07`, `..`, 300 letters) is replaced and ends in its digest, so that no two become one.
    """
    if re.fullmatch(r"\w[\w.+ -]{0,99}", identifier, re.ASCII):
        return identifier
    kept = re.sub(r"[^A-Za-z0-9_.+-]+", "_", identifier).strip("_.-+")[:60]
    return f"{kept}-{hashlib.sha256(identifier.encode(errors='surrogatepass')).hexdigest()[:8]}".lstrip("-")


@contextmanager
def lock(path: Path, *, wait: bool = True, on_wait: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold `path`.lock while the context lasts; the system frees it when its holder is killed.

    Where the file system has no locks, `path`.lease is held instead: it names host and process, is renewed by a thread,
    and is free when its process is gone from this host or has not renewed it for `LEASE_SECONDS`.

    Parameters
    ----------
    wait : for another holder; otherwise False is yielded where there is one.
    on_wait : called once where another holder is waited for.
    """
    from filelock import FileLock, SoftFileLease, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    held: FileLock | SoftFileLease = FileLock(f"{path}.lock", fallback_to_soft=False)
    try:
        try:
            held.acquire(blocking=False)
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in _NO_LOCKS:
                raise
            Path(held.lock_file).unlink(missing_ok=True)  # it was made before it could not be locked
            held = SoftFileLease(f"{path}.lease", lease_duration=LEASE_SECONDS)
            held.acquire(blocking=False)
    except Timeout:
        if not wait:
            yield False
            return
        on_wait()
        held.acquire()
    try:
        yield True
    finally:
        if isinstance(held, FileLock):  # whoever waits for the old file finds that it is gone, and takes a new one
            Path(held.lock_file).unlink(missing_ok=True)
        held.release()


LEFTOVER = re.compile(r"\..+\.[0-9a-f]{12}")  # what `beside` names and a killed process leaves behind
_RESERVED = re.compile(r"(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³])(\..*)?", re.IGNORECASE)  # on Windows these are devices


def beside(path: Path) -> Path:
    """A hidden name for what will be at this path, of the form `LEFTOVER`."""
    return path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:12]}")


def child(folder: Path, name: str, what: str) -> Path:
    """The path of a name from outside in a folder, and nowhere else.

    Parameters
    ----------
    folder : that the path is in.
    name : of a cohort, a scheme or the like.
    what : the name is of, for the message.

    Raises
    ------
    BadConfig : no file name on every system, hidden, or one that cannot be chosen by commands.
    """
    problem = (
        "is empty" if not name.strip() else
        "begins with a dot" if name.startswith(".") else
        "ends with a dot or a blank" if name[-1] in ". " else
        "begins with a blank" if name[0] == " " else
        "is longer than 200 bytes" if len(name.encode("utf-8", "replace")) > 200 else
        "holds a control character" if not name.isprintable() else
        f"holds one of {' '.join(_NOT_IN_NAMES)}" if set(name) & set(_NOT_IN_NAMES) else
        "is the name of a device" if _RESERVED.fullmatch(name) else
        ""
    )  # fmt: skip
    if problem:
        raise BadConfig(f"the name {name!r} of {what} {problem}", "rename the file or folder that it is from")
    return folder / name


def shipped(name: str) -> Path:
    """Path of a file that travels with the package: inside it in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.exists() else package.parent / name
