"""The arrows between rooms: who may import whom, and which names stand in one place only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import survbench

HOME = Path(survbench.__file__).parent
REPOSITORY = HOME.parent

# From the ground up: a room imports from its own level and from those below it, and from nothing above.
LEVELS = (
    ("errors",),
    ("console", "files", "foreign"),
    ("cards", "registry", "sources"),
    ("model", "batch"),
    ("data", "evaluation", "training"),
    ("simulation", "complexity"),
    ("experiments",),
    ("leaderboard",),
    ("studies",),
    ("report",),
    ("explain",),
    ("api",),
    ("cli", "__init__", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def imports(file: Path, *, late: bool = True) -> Iterator[str]:
    """Modules that a file imports, for types alone, too; `late`: those inside functions as well."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if late else _at_once(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_once(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _at_once(child)


def room_of(module: str) -> str:
    """The room of a module of the suite; the package itself where it is nobody else's."""
    name = module.split(".")[1]
    return name if name in LEVEL else "errors"  # what stands in the package itself, such as its version, is no arrow


def files() -> list[Path]:
    return sorted(HOME.rglob("*.py"))


def test_every_room_has_its_place() -> None:
    rooms = {file.relative_to(HOME).parts[0].removesuffix(".py") for file in files()}
    assert rooms == set(LEVEL)


@pytest.mark.parametrize("file", files(), ids=lambda file: file.relative_to(HOME).as_posix())
def test_arrows_point_downwards(file: Path) -> None:
    own = file.relative_to(HOME).parts[0].removesuffix(".py")
    wrong = {
        module for module in imports(file) if module.startswith("survbench.") and LEVEL[room_of(module)] > LEVEL[own]
    }
    assert not wrong


def test_the_suite_knows_no_model_by_import() -> None:
    """The registry finds them by name."""
    for file in files():
        assert not [m for m in imports(file) if m.split(".")[0] in ("baselines", "amkd")], file


def test_models_know_the_contract_and_neither_runner_nor_data() -> None:
    allowed = ("survbench.model", "survbench.batch", "survbench.errors", "survbench.cards")
    for package in ("baselines", "amkd"):
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            found = {m for m in imports(file) if m.startswith("survbench.") and not m.startswith(allowed)}
            assert not found, file


def test_kernels_alone_ask_for_the_device() -> None:
    """What a model computes must not depend on it elsewhere."""
    places = set()
    for package in ("baselines", "amkd"):
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and (
                    node.attr in ("is_cuda", "is_mps") or ast.unparse(node).endswith("device.type")
                ):
                    places.add(file.relative_to(REPOSITORY).parent.as_posix())
    assert places == {"baselines/kernels"}


def test_boards_need_no_deep_learning() -> None:
    for room in ("leaderboard", "evaluation"):
        for file in sorted((HOME / room).rglob("*.py")):
            assert not [m for m in imports(file, late=False) if m.split(".")[0] in ("torch", "torch_geometric")], file


def test_file_names_of_a_result_folder_stand_in_one_module() -> None:
    names = (
        r"predictions\.parquet|history\.parquet|model\.safetensors|fitted\.json|job\.json|manifest\.json|external\.json"
    )
    found = {
        file.relative_to(HOME).as_posix()
        for file in files()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(names, node.value)
    }
    assert found == {"experiments/folders.py"}


def test_locks_are_taken_in_one_module() -> None:
    assert [file.name for file in files() if "fcntl" in {m.split(".")[0] for m in imports(file)}] == []


def test_peak_memory_is_read_in_one_module() -> None:
    """Its unit differs between systems."""
    suite = [*files(), *(REPOSITORY / "benchmarks").rglob("*.py")]
    assert [file.name for file in suite if "ru_maxrss" in file.read_text(encoding="utf-8")] == ["device.py"]


def test_the_root_is_small_and_files_and_functions_are_short() -> None:
    assert len(list(HOME.glob("*.py"))) <= 10
    long = []
    for package in ("survbench", "baselines", "amkd"):
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            long += [str(file)] if len(text.splitlines()) > 400 else []
            functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            long += [f"{file}: {f.name}" for f in functions if _lines(f) > 60]
    assert long == []


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without the docstring, which teaches every parameter of a public function."""
    manual = len((ast.get_docstring(function, clean=False) or "").splitlines())
    return (function.end_lineno or 0) - function.lineno + 1 - manual


RETIRED = {"errand", "hired", "brought", "settle", "bury", "told", "shelf", "laid", "headed", "asked", "said", "asking"}


def test_names_are_words_of_the_field() -> None:
    """Names, not texts: a reader of the code should never have to translate."""
    retired = set()
    for package in ("survbench", "baselines", "amkd"):
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                name = getattr(node, "name", None) or getattr(node, "arg", None) or getattr(node, "id", None)
                words = re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", name).lower()) if isinstance(name, str) else []
                retired |= {f"{file.name}: {name}"} if RETIRED & set(words) else set()
    assert retired == set()


PLANTED = {"_score"}  # replaced where a crash between training and scoring is planted


def test_tests_reach_no_private_names() -> None:
    """Behavior is tested, so that inner parts may change."""
    reached = []
    for file in sorted((REPOSITORY / "tests").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        ours = {m.rpartition(".")[2] for m in imports(file) if m.startswith(("survbench", "baselines", "amkd"))}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("survbench", "baselines", "amkd")):
                reached += [f"{file.name}: {alias.name}" for alias in node.names if alias.name.startswith("_")]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours:
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                reached += [f"{file.name}: {node.value.id}.{node.attr}"] * private
    assert [name for name in reached if name.rpartition(".")[2] not in PLANTED] == []


def test_no_test_imports_a_conftest() -> None:
    for file in sorted((REPOSITORY / "tests").rglob("*.py")):
        assert not [module for module in imports(file) if "conftest" in module.split(".")], file
