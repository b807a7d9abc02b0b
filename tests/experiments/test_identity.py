"""Identity: versions decide, not where code stands or how it is laid out; a user's file by what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import survbench
from support.toy import cohort, job
from survbench.cards import ModelCard, ModelGroup
from survbench.data.root import DataRoot
from survbench.errors import BadModel, SurvbenchError
from survbench.experiments.job import JobSpec
from survbench.experiments.plan import Request, plan
from survbench.experiments.versions import code_version, versions_of
from survbench.registry import import_target, load_registry
from survbench.sources import source_digest

MINE = '''
"""A model."""
import helper
from torch import nn
from survbench.model import ModelCard, Modality, ModelGroup, Prediction, SurvivalModel


class Mine(SurvivalModel):
    """One layer."""

    card = ModelCard(name="mine", title="Mine", modality=ModelGroup.OMICS,
                     train_inputs=(Modality.EXPRESSION,), inference_inputs=(Modality.EXPRESSION,))

    def __init__(self, inputs, outputs, *, width: int = 4):
        super().__init__()
        self.head = nn.Linear(len(inputs.genes), outputs)

    def forward(self, batch):
        return Prediction(helper.SCALE * self.head(batch.expression))
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("from deeper import more\nSCALE = 2.0\n")
    (tmp_path / "deeper.py").write_text("more = 1\n")
    return tmp_path / "mine.py"


@pytest.mark.parametrize(
    ("name", "old", "new", "same"),
    [
        ("mine.py", "        super().__init__()", "        super().__init__()  # a comment", True),
        ("mine.py", '"""One layer."""', '"""A single layer, as in the paper."""', True),
        ("mine.py", "width: int = 4", "width: int  =  4", True),
        ("helper.py", "SCALE = 2.0", "SCALE = 2.0\n\n# nothing", True),
        ("mine.py", "width: int = 4", "width: int = 5", False),
        ("helper.py", "SCALE = 2.0", "SCALE = 3.0", False),
        ("deeper.py", "more = 1", "more = 2", False),
    ],
)
def test_a_users_file_counts_by_what_it_says(mine: Path, name: str, old: str, new: str, same: bool) -> None:
    before = source_digest(mine)
    file = mine.with_name(name)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert (source_digest(mine) == before) == same


@pytest.mark.parametrize("name", ["common.py", "__init__.py", "sub/__init__.py", "sub/absolute.py", "sub/relative.py"])
def test_imports_of_imports_count(tmp_path: Path, name: str) -> None:
    package = tmp_path / "pkg"
    (package / "sub").mkdir(parents=True)
    for file, text in {
        "__init__.py": "",
        "sub/__init__.py": "",
        "common.py": "K = 1",
        "sub/absolute.py": "from pkg.common import K",
        "sub/relative.py": "from ..common import K",
    }.items():
        (package / file).write_text(text)
    main = tmp_path / "main.py"
    main.write_text("import pkg.sub.absolute\nfrom pkg.sub import relative\n")
    before = source_digest(main)
    (package / name).write_text((package / name).read_text() + "\nL = 2\n")
    assert source_digest(main) != before


def test_two_files_may_each_have_a_helper_of_one_name(tmp_path: Path) -> None:
    """And one that changes is loaded again, by whatever name it was imported before."""
    for folder, scale in (("a", 1), ("b", -7)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helper.py").write_text(f"K = {scale}")
        (tmp_path / folder / "model.py").write_text("from helper import K")
    targets = [f"{tmp_path / folder / 'model.py'}:K" for folder in "ab"]
    assert [import_target(target) for target in targets] == [1, -7]
    (tmp_path / "a" / "helper.py").write_text("K = 300")
    assert [import_target(target) for target in targets] == [300, -7]
    assert "helper" not in sys.modules


def test_a_file_cannot_stand_in_for_an_installed_module(tmp_path: Path) -> None:
    (tmp_path / "this.py").write_text("s = 1")
    (tmp_path / "model.py").write_text("import json, torch, this")
    (tmp_path / "torch.py").write_text("K = 1")
    with pytest.raises(BadModel, match=r"imports this from .*this.py"):
        import_target(f"{tmp_path / 'model.py'}:K")


def test_a_package_that_is_not_installed_counts_by_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "models.py").write_text("from mypkg.scale import K\nclass M: pass")
    (tmp_path / "mypkg" / "scale.py").write_text("K = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry, cox = load_registry(), load_registry().objectives["cox"]
    card = ModelCard("m", "M", ModelGroup.WSI, (), (), target="mypkg.models:M")
    registry.models["m"] = card
    before = versions_of(card, {}, cox, registry)[card.target]
    assert re.fullmatch(r"m@1 of M@[0-9a-f]{16}", before)
    (tmp_path / "mypkg" / "scale.py").write_text("K = -5")
    assert versions_of(card, {}, cox, registry)[card.target] != before


def test_what_is_no_python_is_refused(mine: Path) -> None:
    mine.write_text("class Mine(:\n")
    with pytest.raises(BadModel, match="no Python"):
        source_digest(mine)


def test_versions_are_of_the_model_and_of_all_that_its_settings_name() -> None:
    registry = load_registry()
    teacher = {"model": "mcat", "target": "baselines.mcat:MCAT", "config": {"expression": "baselines.mlp:MLP"}}
    cox = registry.objectives["cox"]
    found = versions_of(
        registry.models["amkd"], {"teacher": teacher, "parts": ["baselines.smlp:SparseOmics"]}, cox, registry
    )
    assert found == {
        "amkd.model:AMKD": "amkd@1",
        "baselines.mcat:MCAT": "mcat@1",
        "baselines.mlp:MLP": "mlp@1",
        "baselines.smlp:SparseOmics": "SparseOmics",
        cox["target"]: "Cox",
    }
    raised = replace(registry.models["mcat"], version=2)
    registry.models["mcat"] = raised
    assert versions_of(registry.models["amkd"], {"teacher": teacher}, cox, registry)["baselines.mcat:MCAT"] == "mcat@2"
    variant = ModelCard("wide", "Wide", ModelGroup.WSI, (), (), target="baselines.mcat:MCAT", version=3)
    assert versions_of(variant, {}, cox, registry)[variant.target] == "wide@3 of mcat@2"
    foreign = replace(variant, target="sklearn.linear_model:Ridge")
    assert re.fullmatch(r"wide@3 of Ridge@scikit-learn [\d.]+", versions_of(foreign, {}, cox, registry)[foreign.target])


def test_another_version_is_another_job_and_another_place_is_not() -> None:
    plain = job(cohort(), "abmil_cat")
    versions = versions_of(plain.card, plain.config, plain.objective, load_registry())
    known = replace(plain, versions=versions)
    raised = replace(known, versions={**versions, "baselines.mlp:MLP": "mlp@2"})
    assert raised.id != known.id
    assert json.dumps(known.identity).count("baselines") == 0
    moved = replace(
        known,
        card=replace(plain.card, target="baselines.moved:Cat"),
        config={**plain.config, "slides": "elsewhere:ABMIL"},
        versions={"baselines.moved:Cat": versions[plain.card.target], **versions, "elsewhere:ABMIL": "abmil@1"},
    )
    assert moved.id == known.id


def test_a_spec_is_plain_and_leads_back_to_its_job(small_root: DataRoot, tmp_path: Path, mine: Path) -> None:
    request = Request(
        models=["amkd", str(mine)], cohorts=["stad"], endpoint="os", scheme="event-stratified", overrides={"width": 64}
    )
    for planned in plan(request, load_registry(), small_root):
        spec = JobSpec.of(planned, tmp_path, "cpu", 2)
        text = json.dumps(vars(spec))
        assert len(text) < 5000
        again = JobSpec(**json.loads(text))
        assert again.load().id == planned.id == again.id
        assert again.load().fold == planned.fold


def test_a_file_that_changes_under_a_command_is_noticed(small_root: DataRoot, tmp_path: Path, mine: Path) -> None:
    (planned, *_) = plan(
        Request(models=[str(mine)], cohorts=["stad"], endpoint="os", scheme="event-stratified"),
        load_registry(),
        small_root,
    )
    spec = JobSpec.of(planned, tmp_path, "cpu", 1)
    spec.load()
    mine.with_name("helper.py").write_text("SCALE = 3.0\n")
    with pytest.raises(SurvbenchError, match="changed since the command began"):
        spec.load()


def test_the_code_is_on_record_and_decides_nothing() -> None:
    assert re.fullmatch(rf"{re.escape(survbench.__version__)}\+[0-9a-f]{{12}}", code_version())
    assert code_version() not in json.dumps(job(cohort()).identity)


IDENTITIES = """
import json, sys
from pathlib import Path
import survbench
from survbench.data.root import DataRoot
from survbench.experiments.plan import Request, plan
from survbench.registry import import_target, load_registry
from survbench.sources import source_digest
assert Path(survbench.__file__).is_relative_to(sys.argv[2]), survbench.__file__
request = Request(models=["all"], cohorts=["stad"], endpoint="os", scheme="event-stratified", folds=[0])
jobs = plan(request, load_registry(), DataRoot.open(Path(sys.argv[1])))
print(json.dumps({job.card.name: job.id for job in jobs}))
"""


def identities(tree: Path, root: DataRoot) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", IDENTITIES, str(root.path), str(tree)],
        env={**os.environ, "PYTHONPATH": str(tree)},
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.slow
def test_comments_moves_and_renames_change_nobodys_identity(small_root: DataRoot, tmp_path: Path) -> None:
    """And a raised version changes its own model's, and that of whoever names it."""
    home = Path(survbench.__file__).parents[1]
    tree = tmp_path / "tree"
    for package in ("survbench", "baselines", "amkd"):
        shutil.copytree(home / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(home / "registry.yaml", tree)
    before = identities(tree, small_root)
    edit(tree / "baselines" / "pomp.py", "class POMP(", "# as in the paper\nclass POMP(")
    edit(tree / "survbench" / "data" / "cohort.py", "def load_cohort(", "# as files have it\ndef load_cohort(")
    (tree / "baselines" / "slides").mkdir()
    (tree / "baselines" / "slides" / "__init__.py").write_text("")
    (tree / "baselines" / "abmil.py").rename(tree / "baselines" / "slides" / "abmil.py")
    for file in [*tree.rglob("*.py"), tree / "registry.yaml"]:
        text = file.read_text()
        moved = text.replace("baselines.abmil", "baselines.slides.abmil").replace("train_epoch", "run_one_epoch")
        file.write_text(moved)
    assert identities(tree, small_root) == before
    edit(tree / "registry.yaml", "    target: baselines.mlp:MLP\n", "    target: baselines.mlp:MLP\n    version: 2\n")
    after = identities(tree, small_root)
    changed = {name for name in before if after[name] != before[name]}
    assert {"mlp", "abmil_cat", "transmil_cat", "dsmil_cat"} <= changed
    assert not changed & {"abmil", "snn", "amkd", "pomp", "abmil_cat_survpath"}


def test_no_string_of_a_preset_is_imported(small_root: DataRoot, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit(7)")
    request = Request(
        models=["amkd"],
        cohorts=["stad"],
        endpoint="os",
        scheme="event-stratified",
        preset=str(tmp_path / "preset.yaml"),
    )
    content_hash = plan(replace(request, preset=None), load_registry(), small_root)[0].cohort.content_hash
    about = {"model": "amkd", "cohort": "stad", "cohort_hash": content_hash, "trials": 3, "training": {}}
    target = f"{tmp_path / 'evil.py'}:X"
    for config in ({"teacher": {"model": "evil", "target": target}}, {"pooling": target}):
        (tmp_path / "preset.yaml").write_text(json.dumps({**about, "config": config}))
        with pytest.raises(BadModel, match="not registered"):
            plan(request, load_registry(), small_root)


def test_a_package_that_changes_under_a_command_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from survbench.experiments.versions import changed

    (tmp_path / "theirs.py").write_text("class M: pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    card = ModelCard("m", "M", ModelGroup.WSI, (), (), target="theirs:M")
    cox = load_registry().objectives["cox"]
    versions = versions_of(card, {"with": "sklearn.linear_model:Ridge"}, cox, load_registry())
    assert changed(versions) == []
    (tmp_path / "theirs.py").write_text("class M: K = 2")
    assert changed(versions) == ["theirs:M"]
