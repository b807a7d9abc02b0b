"""Bytes of a file as text: what is no text is refused by name before anything is made of it."""

from __future__ import annotations

import gzip
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from survbench.console import note
from survbench.errors import BadFile, MissingFile

__all__ = ["Say", "read_text"]

Say = Callable[[str], None]

LARGEST = 4 << 30  # bytes of text; an expression table of 20,000 patients has about 3 GB
ALWAYS_UNPACKED = 64 << 20
MOST_PACKED = 200  # times that text shrinks by compression; what shrinks more was made to fill a memory
BLOCK = 1 << 20

WORKBOOK = ("is an Excel workbook", "save the sheet as CSV")
KINDS = (  # how a file begins, what it is, and the mend
    (b"PK\x03\x04", "is a zip archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", *WORKBOOK),
    (b"BZh", "is compressed with bzip2", "unpack it, or compress it with gzip"),
    (b"\xfd7zXZ", "is compressed with xz", "unpack it, or compress it with gzip"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it, or compress it with gzip"),
    (b"7z\xbc\xaf", "is a 7z archive", "unpack it"),
    (b"%PDF", "is a PDF", "save the table as CSV"),
    (b"PAR1", "is a Parquet file", "save the table as CSV"),
    (b"\x89HDF", "is an HDF5 file", "save the table as CSV"),
    (b"RDX", "is a file of R", "save the table as CSV"),
    (b"version https://git-lfs.github.com/spec", "is a Git LFS pointer and not the file itself", "run git lfs pull"),
)
WEB_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml)", re.IGNORECASE)
MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe\0\0", "utf-32-le"), (b"\0\0\xfe\xff", "utf-32-be"))
SHORT_MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")


def read_text(file: Path, say: Say = note) -> str:
    """The text of a file, also compressed (.gz, or a .zip of one file); its lines end with a line feed.

    Parameters
    ----------
    file : in UTF-8, in UTF-16 with its mark, or else in the Western encoding of Windows, which is said.
    say : takes what the user should know.

    Raises
    ------
    MissingFile : no such file.
    BadFile : it is a folder or a device, another kind of file, cut short, too large, or no text.
    """
    text = _decoded(file, _unpacked(file, _content(file)), say)
    text = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\x1a")  # which old DOS programs end a file with
    if (odd := CONTROL.search(text)) is not None:
        raise BadFile(
            f"{file}, line {text.count(chr(10), 0, odd.start()) + 1}: holds the control character {odd[0]!r}, "
            "which no table has",
            "copy or export the file again",
        )
    return text


def _content(file: Path) -> bytes:
    try:
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadFile(f"{file} is a folder, expected a file")
        if not stat.S_ISREG(status.st_mode):
            raise BadFile(f"{file} is a pipe or a device, expected a file", "save its content as a file")
        if status.st_size > LARGEST:
            raise BadFile(f"{file} has {status.st_size:,} bytes, expected at most {LARGEST:,}", "divide it")
        content = file.read_bytes()
    except FileNotFoundError:
        raise MissingFile(f"{file} does not exist") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadFile(f"{file} cannot be read: {reason}") from None
    return content


def _unpacked(file: Path, content: bytes) -> bytes:
    suffix = file.suffix.lower()
    if suffix == ".zip":
        return _of_zip(file, content)
    if content.startswith(b"\x1f\x8b"):
        content = _within_limit(file, gzip.GzipFile(fileobj=io.BytesIO(content)), len(content))
    elif suffix == ".gz" and content and not content.startswith(KINDS[-1][0]):
        raise BadFile(f"{file} is not compressed with gzip, as its name says", "copy it again, or name it without .gz")
    for start, kind, mend in KINDS:
        if content.startswith(start):
            what, mend = WORKBOOK if start == b"PK\x03\x04" and b"xl/" in content else (kind, mend)
            raise BadFile(f"{file} {what}", mend)
    if WEB_PAGE.match(content[:200]):
        raise BadFile(f"{file} is a web page and no table", "download the file itself")
    return content


def _of_zip(file: Path, content: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
            if len(names) != 1:
                raise BadFile(f"{file} holds {len(names)} files, expected one table", "unpack it and name the file")
            with archive.open(names[0]) as member:
                return _within_limit(file, member, len(content))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadFile(f"{file} cannot be unpacked: {error}", "copy it again") from None


def _within_limit(file: Path, stream: io.BufferedIOBase | gzip.GzipFile | object, packed: int) -> bytes:
    """What a compressed stream holds, unless that is more than any table is."""
    limit, unpacked = min(LARGEST, max(ALWAYS_UNPACKED, MOST_PACKED * packed)), bytearray()
    try:
        while block := stream.read(BLOCK):  # type: ignore[union-attr]
            unpacked += block
            if len(unpacked) > limit:
                raise BadFile(f"{file} has {packed:,} bytes and unpacks to more than {limit:,}", "it is no table")
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile):
        raise BadFile(f"{file} is cut short or damaged", "copy it again") from None
    return bytes(unpacked)


def _decoded(file: Path, content: bytes, say: Say) -> str:
    for mark, encoding in (*MARKS, *SHORT_MARKS):
        if content.startswith(mark):
            try:
                return content[len(mark) :].decode(encoding)
            except UnicodeDecodeError:
                raise BadFile(f"{file} begins as {encoding} and does not go on so", "copy it again") from None
    if b"\0" in content:
        start = content[:1000]
        for encoding, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
            if zeros.count(0) > 0.8 * len(zeros) and start.count(0) < 0.6 * len(start) and len(content) % 2 == 0:
                return content.decode(encoding, errors="replace")
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise BadFile(f"{file}, line {line}: holds a NUL byte, so it is damaged or no text", "copy or export it again")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        text = content.decode("cp1252", errors="replace")
        line = content.count(b"\n", 0, error.start) + 1
        if "\ufffd" in text:
            raise BadFile(f"{file}, line {line}: is not text in UTF-8", "export it again, as UTF-8") from None
        shown = text.split("\n")[line - 1].strip()[:40]
        say(f"{file.name} is not in UTF-8; read as Windows-1252, line {line}: {shown}")
        return text
