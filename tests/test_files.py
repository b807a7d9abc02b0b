"""Files that are whole or not there, and locks, with and without a file system that has them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from survbench import files
from survbench.files import atomic_folder, atomic_write, digest, file_digest, lock, write_json

HOLDER = """
import errno, fcntl, sys, time
from pathlib import Path
def none(*_): raise OSError(errno.ENOLCK, "No locks available")
if sys.argv[2] == "none": fcntl.flock = none
from survbench.files import lock
with lock(Path(sys.argv[1]), wait=False) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_file_appears_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.txt"
    atomic_write(file, "one")
    atomic_write(file, b"two")
    assert file.read_text() == "two"
    assert [p.name for p in file.parent.iterdir()] == ["a.txt"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": (1, 2)})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  1,\n  2\n ]\n}'
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:

    def fail() -> None:
        with atomic_folder(tmp_path / "out" / "a") as folder:
            (folder / "x").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((tmp_path / "out").iterdir()) == []
    with atomic_folder(tmp_path / "out" / "a") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "out" / "a").exists()
    assert (tmp_path / "out" / "a" / "x").read_text() == "1"
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "out" / "a") as folder:
        (folder / "y").write_text("2")
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["a", "x"]


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": (1, 2), "a": 1}) != digest({"a": 1, "b": [2, 1]})


@pytest.mark.parametrize("locks", ["some", "none"])
def test_a_lock_is_one_processes_until_it_dies(tmp_path: Path, locks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if locks == "none":
        monkeypatch.setattr(fcntl, "flock", none)
    held = tmp_path / "held"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(held), locks], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with lock(held, wait=False) as mine:
        assert not mine
    waited: list[bool] = []

    def end() -> None:
        waited.append(True)
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()

    began = time.monotonic()
    with lock(held, on_wait=end) as mine:
        assert mine
    assert waited == [True]
    assert time.monotonic() - began < 10
    with lock(held, wait=False) as mine:
        assert mine
    assert (tmp_path / "held.lease").exists() is False


def test_a_lease_of_a_silent_host_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process cannot be seen from here; only its silence can."""

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(files, "LEASE_SECONDS", 0.6)
    with lock(tmp_path / "held"):
        marker = (tmp_path / "held.lease").read_text()
    import socket

    (tmp_path / "held.lease").write_text(marker.replace(socket.gethostname(), "elsewhere"))
    with lock(tmp_path / "held", wait=False) as mine:
        assert not mine
    began = time.monotonic()
    with lock(tmp_path / "held"):
        assert 0.3 < time.monotonic() - began < 10


def test_other_errors_of_the_file_system_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", full)
    with pytest.raises(OSError, match="Input"), lock(tmp_path / "held"):
        pass
