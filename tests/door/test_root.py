"""What stands in a data root stays: names from outside, replaced cohorts, killed commands, other people's files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import layouts
from support.door import typed
from survbench.data import replacing
from survbench.data.importers import import_data
from survbench.data.packing import pack
from survbench.data.root import DataRoot
from survbench.errors import BadConfig, BadFile, SurvbenchError
from survbench.files import child

SAMPLES = Path(__file__).resolve().parents[2] / "docs" / "samples"
TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        (".", "begins with a dot"),
        ("..", "begins with a dot"),
        (".hidden", "begins with a dot"),
        ("../stad", "begins with a dot"),
        ("a/b", "holds one of"),
        ("a\\b", "holds one of"),
        ("/etc", "holds one of"),
        ("lung, stage 1", "holds one of"),
        ("st*d", "holds one of"),
        ("what?", "holds one of"),
        ("[ab]", "holds one of"),
        ("C:", "holds one of"),
        ("a\0b", "holds a control character"),
        ("a\nb", "holds a control character"),
        ("\x1b[31m", "holds a control character"),
        ("a\u202eb", "holds a control character"),
        ("stad.", "ends with a dot or a blank"),
        ("stad ", "ends with a dot or a blank"),
        (" stad", "begins with a blank"),
        ("x" * 201, "is longer than 200 bytes"),
        ("ü" * 101, "is longer than 200 bytes"),
        ("con", "is the name of a device"),
        ("LPT1.txt", "is the name of a device"),
    ],
)
def test_a_name_from_outside_is_a_child_or_refused(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(BadConfig) as caught:
        child(tmp_path, name, "a cohort")
    assert str(caught.value).startswith(f"the name {name!r} of a cohort {problem}")
    assert str(caught.value).endswith(". rename the file or folder that it is from")


@pytest.mark.parametrize("name", ["stad", "lung stage 1", "a.b", "Köln", "x" * 200])
def test_a_good_name_is_a_child(tmp_path: Path, name: str) -> None:
    assert child(tmp_path, name, "a cohort") == tmp_path / name


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("tcga_.csv", "none of datasets_csv/metadata, datasets_csv, dataset_csv in {source} has a tcga_<cohort>.csv"),
        (
            "tcga_..csv",
            "the name '.' of a cohort begins with a dot. rename the file or folder that it is from",
        ),
        (
            "tcga_...csv",
            "the name '..' of a cohort begins with a dot. rename the file or folder that it is from",
        ),
    ],
)
def test_a_label_file_never_names_the_root_or_what_is_above(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, line: str
) -> None:
    source = layouts.survpath(tmp_path / "source")
    metadata = source / "datasets_csv" / "metadata"
    (metadata / "tcga_luad.csv").rename(metadata / file)
    DataRoot.create(tmp_path / "above" / "DATA")
    (tmp_path / "above" / "thesis.txt").write_text("years of work")
    out = tmp_path / "above" / "DATA"
    assert typed("data", "import", source, "--out", out, "--overwrite", "--format", "survpath") == 2
    assert capsys.readouterr().err.strip() == f"error: {line.format(source=source)}"
    assert (tmp_path / "above" / "thesis.txt").read_text() == "years of work"
    assert (out / "root.json").is_file()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A source and a data root with a packed cohort."""
    shutil.copytree(SAMPLES / "mine", tmp_path / "mine")
    import_data(tmp_path / "mine", tmp_path / "DATA", slides=SAMPLES / "features")
    pack(DataRoot.open(tmp_path / "DATA").cohort("mine"))
    return tmp_path


def test_overwriting_keeps_what_this_suite_did_not_write(place: Path) -> None:
    cohort = place / "DATA" / "mine"
    (cohort / "my labels.csv").write_text("mine")
    (cohort / "features").mkdir()
    (cohort / "features" / "S01.h5").write_bytes(b"years of extraction")
    (cohort / "folds").mkdir(exist_ok=True)
    (cohort / "folds" / "notes.txt").write_text("mine, too")
    packed = (cohort / "packed" / "features.bin").stat().st_ino
    import_data(place / "mine", place / "DATA", overwrite=True, slides=SAMPLES / "features")
    assert (cohort / "my labels.csv").read_text() == "mine"
    assert (cohort / "features" / "S01.h5").read_bytes() == b"years of extraction"
    assert (cohort / "packed" / "features.bin").stat().st_ino == packed
    assert [file.read_text() for file in cohort.rglob("notes.txt")] == ["mine, too"]
    assert not list((place / "DATA").glob(".*"))


def test_a_folder_of_somebody_else_is_never_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = place / "OTHER" / "mine"
    DataRoot.create(place / "OTHER")
    theirs.mkdir()
    (theirs / "slide.svs").write_bytes(b"a slide")
    assert typed("data", "import", place / "mine", "--out", place / "OTHER", "--overwrite") == 2
    assert capsys.readouterr().err.strip() == (
        f"error: {theirs} was not written by `survbench data import`; nothing in it is replaced. rename it, or name "
        "another --out"
    )
    assert (theirs / "slide.svs").read_bytes() == b"a slide"


def test_a_linked_cohort_is_never_replaced(place: Path) -> None:
    (place / "OTHER").mkdir()
    DataRoot.create(place / "OTHER")
    (place / "OTHER" / "mine").symlink_to(place / "DATA" / "mine")
    with pytest.raises(BadFile, match="is a link; nothing in it is replaced"):
        import_data(place / "mine", place / "OTHER", overwrite=True)
    assert (place / "DATA" / "mine" / "patients.csv").is_file()


def test_a_source_inside_the_cohort_is_never_written_over(place: Path) -> None:
    inside = place / "DATA" / "mine"
    shutil.copy(place / "mine" / "labels.csv", inside / "labels.csv")
    with pytest.raises(BadFile, match=r"is in the folder that cohort mine of .* is written to. move it elsewhere"):
        import_data(inside, place / "DATA", overwrite=True)
    assert (inside / "labels.csv").is_file()


def test_names_that_differ_by_case_alone_are_refused(place: Path) -> None:
    (place / "DATA" / "mine").rename(place / "DATA" / "Mine")
    with pytest.raises(BadFile, match=r"cohort mine differs from cohort Mine in .* by case alone. rename one"):
        import_data(place / "mine", place / "DATA")


def test_what_was_half_replaced_is_taken_back_or_finished(place: Path) -> None:
    cohort, old = place / "DATA" / "mine", place / "DATA" / ".mine.replaced"
    cohort.rename(old)
    assert DataRoot.open(place / "DATA").cohorts() == ["mine"]  # the new one never came
    shutil.copytree(cohort, old)
    shutil.rmtree(cohort / "packed")
    (old / "mine.txt").write_text("kept")
    root = DataRoot.open(place / "DATA")  # the new one is there, the old one's other files are not yet
    assert sorted(file.name for file in cohort.iterdir() if file.name in ("packed", "mine.txt")) == [
        "mine.txt",
        "packed",
    ]
    assert len(pack(root.cohort("mine")).patients) == 40
    assert not list((place / "DATA").glob(".*"))


def test_nobody_finishes_what_another_process_is_doing(place: Path) -> None:
    (place / "DATA" / "mine").rename(place / "DATA" / ".mine.replaced")
    with replacing.lock(place / "DATA" / replacing.LOCK):
        assert DataRoot.open(place / "DATA").cohorts() == []
    assert DataRoot.open(place / "DATA").cohorts() == ["mine"]


def test_an_empty_root_file_is_written_again_where_there_is_no_cohort(tmp_path: Path) -> None:
    (tmp_path / "DATA").mkdir()
    (tmp_path / "DATA" / "root.json").write_bytes(b"")
    import_data(SAMPLES / "mine", tmp_path / "DATA")
    (tmp_path / "DATA" / "root.json").write_bytes(b"")
    with pytest.raises(SurvbenchError, match="cannot be read"):
        import_data(SAMPLES / "mine", tmp_path / "DATA", overwrite=True)


@pytest.mark.shared
def test_the_case_of_a_comma(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="the name 'lung, stage 1' of a cohort holds one of"):
        import_data(shared / "cases" / "35-small-messages" / "lung, stage 1", tmp_path / "DATA")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
@pytest.mark.timeout(300)
def test_killed_or_on_a_full_disk_a_command_is_done_or_as_before() -> None:
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "support.chaos", "--every", "10"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    assert [line.split(",")[0] for line in lines[::2]] == ["import", "overwrite", "simulate", "pack"]
    assert all(int(line.split(", ")[2].split()[0]) > 0 for line in lines)


def _sample(place: Path, *, overwrite: bool = False) -> Path:
    import_data(SAMPLES / "mine", place / "DATA", overwrite=overwrite)
    return place / "DATA" / "mine"


def test_another_programs_cohort_json_does_not_make_a_folder_ours(tmp_path: Path) -> None:
    theirs = _sample(tmp_path)
    (theirs / "cohort.json").write_text('{"my": 1}')
    (theirs / "patients.csv").write_text("theirs")
    with pytest.raises(BadFile, match="was not written by"):
        _sample(tmp_path, overwrite=True)
    assert (theirs / "patients.csv").read_text() == "theirs"


def test_a_table_of_the_users_among_the_folds_stays(tmp_path: Path) -> None:
    folds = _sample(tmp_path) / "folds"
    folds.mkdir(exist_ok=True)
    (folds / "notes.csv").write_text("my,own\n")
    replaced = _sample(tmp_path, overwrite=True) / "replaced" / "folds" / "notes.csv"
    assert replaced.read_text() == "my,own\n"


def test_a_hidden_folder_of_the_users_is_neither_emptied_nor_a_cohort(tmp_path: Path) -> None:
    _sample(tmp_path)
    theirs = tmp_path / "DATA" / ".gone.replaced"
    theirs.mkdir()
    (theirs / "patients.csv").write_text("theirs")
    assert DataRoot.open(tmp_path / "DATA").cohorts() == ["mine"]
    assert (theirs / "patients.csv").read_text() == "theirs"


def test_an_empty_root_json_beside_cohorts_is_refused_with_a_mend_that_works(tmp_path: Path) -> None:
    _sample(tmp_path)
    (tmp_path / "DATA" / "root.json").write_text("")
    with pytest.raises(BadFile, match="it is empty"):
        _sample(tmp_path, overwrite=True)
    (tmp_path / "DATA" / "root.json").unlink()
    _sample(tmp_path, overwrite=True)
    assert DataRoot.open(tmp_path / "DATA").cohorts() == ["mine"]


def test_a_file_is_no_data_root(tmp_path: Path) -> None:
    (tmp_path / "DATA").write_text("x")
    with pytest.raises(BadFile, match="is a file, a data root is a folder"):
        _sample(tmp_path)
