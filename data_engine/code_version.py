"""The code version of a step: a hash of the modules it runs and of all they import of this project.

Comments, docstrings and layout do not count, and neither does the wiring: modules that say what runs where, but
not what becomes of a row. A data file beside a module counts where the module's source names it.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

_PROJECT = ("data_engine", "cot_factory", "model", "strict_yaml")
_WIRING = (
    *("data_engine.catalog", "data_engine.curation", "data_engine.recipe", "data_engine.step", "data_engine.machine"),
    *("data_engine.judge", "data_engine.passes", "data_engine.runners", "data_engine.code_version", "strict_yaml"),
    *("data_engine.chain", "data_engine.finish", "cot_factory.recipe", "cot_factory.run"),
)
_DATA = (".npz", ".yaml", ".txt", ".json")


def fingerprint(names: Iterable[str]) -> str:
    """A hash over the named modules and, as far as they are of this project, all that they import."""
    digest = hashlib.sha256()
    for name in sorted(closure(names)):
        digest.update(f"{name}\0{_content(name)}\0".encode())
    return digest.hexdigest()[:12]


def closure(names: Iterable[str]) -> set[str]:
    """The named modules and what they import, directly or not, wherever in their source the import stands."""
    found, left = set[str](), list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [] if _is_wiring(name) else [other for other in _imports(name) if not _is_wiring(other)]
    return found


def _is_wiring(name: str) -> bool:
    return any(name == wiring or name.startswith(f"{wiring}.") for wiring in _WIRING)


@functools.cache
def _parsed(name: str) -> tuple[Path, ast.Module] | None:
    """A module of this project: its file and source tree. None for what is a folder, a name or somebody else's."""
    if name.partition(".")[0] not in _PROJECT:
        return None
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # `from module import name` was read as a module
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    return path, ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def _imports(name: str) -> tuple[str, ...]:
    parsed = _parsed(name)
    return tuple(dict.fromkeys(other for other in _named(parsed[1]) if _parsed(other))) if parsed else ()


def _named(tree: ast.Module) -> Iterator[str]:
    """Every module that an import may mean: `from a.b import c` may be a.b or a.b.c."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def _content(name: str) -> str:
    """A hash of what a module does, and of the data files beside it that it names."""
    parsed = _parsed(name)
    assert parsed, f"{name} is no module of this project"
    path, tree = parsed
    digest = hashlib.sha256(ast.dump(_without_docstrings(tree)).encode())
    named = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for file in sorted(value for value in named if value.endswith(_DATA) and "/" not in value):
        if path.with_name(file).is_file():
            digest.update(path.with_name(file).read_bytes())
    return digest.hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree
