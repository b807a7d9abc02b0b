"""Python files of users: what they import from beside them, a digest of their code, and loading them by that."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from survbench.errors import BadModel, MissingFile

__all__ = ["load_file", "source_digest"]


def source_digest(file: Path, root: Path | None = None) -> str:
    """Digest of a file's code without comments, docstrings and formatting, and of all that it imports below `root`.

    Parameters
    ----------
    file : a Python file.
    root : folder in which its imports are looked up; by default its own.

    Raises
    ------
    BadModel : a file that is no Python.
    """
    root = (root or file.parent).resolve()
    texts = {path.relative_to(root).as_posix(): text for path, text in _sources(file.resolve(), root).items()}
    return hashlib.sha256("\0".join(f"{name}\0{texts[name]}" for name in sorted(texts)).encode()).hexdigest()


def load_file(path: Path) -> ModuleType:
    """The module of a file; another one when its code, or that of what it imports from beside it, has changed.

    Modules beside it are its own: two files may each have a `helper`. What is installed is never one of them.

    Raises
    ------
    MissingFile : there is no such file.
    BadModel : it is no Python, or imported a module from beside it in place of another one.
    """
    path = path.resolve()
    if not path.is_file():
        raise MissingFile(f"model file {path} does not exist")
    sources = _sources(path, path.parent)
    key = f"survbench_user_{hashlib.sha256(f'{path} {source_digest(path)}'.encode()).hexdigest()[:12]}"
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # dataclasses and type hints look their module up while it loads
    try:
        beside = {file.relative_to(path.parent).parts[0].removesuffix(".py") for file in sources if file != path}
        with _first(path.parent, beside):
            before = set(sys.modules)
            spec.loader.exec_module(module)
            _refuse_strangers([sys.modules[name] for name in set(sys.modules) - before], path, set(sources))
    except BaseException:
        del sys.modules[key]
        raise
    return module


@contextmanager
def _first(folder: Path, names: set[str]) -> Iterator[None]:
    """Imports of these names come from a folder, and are nobody else's afterwards."""
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # a file may have been written a moment ago
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in names]:
            del sys.modules[name]
        sys.modules.update(others)
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # for what is imported inside functions


def _refuse_strangers(loaded: Sequence[ModuleType], path: Path, known: Collection[Path]) -> None:
    """Everything that came from beside a file must be what its digest is of."""
    for module in loaded:
        file = Path(getattr(module, "__file__", None) or "/").resolve()
        if file.is_relative_to(path.parent) and file not in known and file.is_file():  # some have no file of their own
            raise BadModel(f"{path} imports {module.__name__} from {file}", "rename it: others have that name")


def _is_own(name: str) -> bool:
    """Whether a module of that name may stand beside a user's file: not if Python or an installed package has it."""
    installed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return name not in sys.stdlib_module_names and PathFinder.find_spec(name, installed) is None


def _sources(file: Path, root: Path) -> dict[Path, str]:
    """Code of a file and of everything that it imports below `root`, by path."""
    seen: dict[Path, str] = {}
    _read(file, file.relative_to(root).parent.parts, root, seen)
    return seen


def _read(file: Path, package: tuple[str, ...], root: Path, seen: dict[Path, str]) -> None:
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        raise BadModel(f"{file} is no Python: {error}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body[0] = ast.Pass()
    seen[file] = ast.unparse(tree)
    for name in _imported(tree, package):
        if not name or (not package and not _is_own(name[0])):
            continue
        for depth in range(1, len(name) + 1):  # importing a.b.c runs a and a.b, too
            place = root.joinpath(*name[:depth])
            for other, inside in ((place.with_name(f"{place.name}.py"), depth - 1), (place / "__init__.py", depth)):
                if other.is_file() and other not in seen:
                    _read(other, name[:inside], root, seen)


def _imported(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Everything that may be a module, as parts of its name from the root."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(filter(None, (node.module or "").split(".")))
            yield from (base, *((*base, alias.name) for alias in node.names))
