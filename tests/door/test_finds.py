"""Files that a reader once could not cope with are read or refused in one line; and the search for such files finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support import fuzzing
from support.fuzzed_readers import READERS

PLANTED = """
import json, os, sys
from support import fuzzing
from support.fuzzed_readers import Reader

def read(folder):
    content = (folder / "file").read_bytes()
    if content == b"good":
        return
    {fault}

reader = Reader("planted", "file", lambda _: [b"good"], read)
for event in fuzzing.watch(reader, 20, patience=1):
    if isinstance(event, fuzzing.Find):
        print(json.dumps([event.what.strip().splitlines()[-1], event.content.hex()]), flush=True)
        break
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("file", fuzzing.finds(), ids=lambda file: file.name)
def test_what_once_broke_a_reader_does_not_break_it_again(file: Path, tmp_path: Path) -> None:
    reader = READERS[max((name for name in READERS if file.name.startswith(f"{name}-")), key=len)]
    fuzzing.attempt(reader, file.read_bytes(), tmp_path / "case")


@pytest.mark.parametrize("name", READERS)
def test_every_reader_reads_its_valid_files(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    contents = reader.seeds(tmp_path / "seeds")
    assert contents
    for i, content in enumerate(contents):
        (folder := tmp_path / f"case{i}").mkdir()
        reader.read(reader.place(folder, content))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("os._exit(3)", "ended: the process, with 3"),
        ("while True: pass", "hang: 1 s"),
        ("bytearray(1 << 31)", "MemoryError"),
        ("from survbench.errors import BadFile; raise BadFile('')", "ValueError: not one line: BadFile('')"),
    ],
)
def test_a_reader_that_breaks_is_found(fault: str, what: str, tmp_path: Path) -> None:
    script = tmp_path / "planted.py"
    script.write_text(PLANTED.format(fault=fault))
    ran = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )
    assert ran.returncode == 0, ran.stderr
    last, content = json.loads(ran.stdout)
    assert last == what
    assert bytes.fromhex(content) != b"good"


def test_a_change_is_the_same_for_the_same_number() -> None:
    seeds = [b"one of the contents", b"and another"]
    changed = [fuzzing.mutated(seeds, number) for number in range(50)]
    assert changed == [fuzzing.mutated(seeds, number) for number in range(50)]
    assert len(set(changed)) > 40
