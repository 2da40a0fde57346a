"""The rooms: their order, their size, what importing them costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from support import corpus
from support.rust_modules import circle, graph, modules

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / "python" / "conntrack_py"
RUST = ROOT / "rust"

#: Modules that import the extension module; the others go through these.
KNOW_NATIVE = {
    *("__init__", "annotate", "arrow", "config", "distributed", "ranges", "track", "tracker"),
    *("table/anonymise", "table/connections", "table/row", "table/writer"),
    "flows/read",
    *("io/batch", "io/capture", "io/columns", "io/formats", "io/labels", "io/output"),
    "nat/pairing",
    *("policy/compiled", "policy/document", "policy/formats/common", "policy/policy", "policy/suggest"),
    *("policy/suggestion/decisions", "policy/traffic/roles", "policy/yaml_places"),
}
#: Modules in a folder, without `__init__` and `__main__`.
MOST_MODULES = 12
#: Milliseconds of CPU that importing the package may take beyond the standard library.
IMPORT_BUDGET = 60


def imports_native(path: Path) -> bool:
    """The file imports the extension module when it runs, at its top or later."""
    tree = ast.parse(path.read_text())
    checked = {node for top in tree.body if isinstance(top, ast.If) for node in ast.walk(top)}
    return any(
        node.module == "conntrack_py._native"
        or (node.module == "conntrack_py" and any(alias.name == "_native" for alias in node.names))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node not in checked
    )


def test_the_order_of_the_rooms() -> None:
    """The contracts are in pyproject.toml."""
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        corpus.missing("import-linter is not installed; the extra `dev` has it")
    run = subprocess.run([program, "--no-logo"], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


def test_modules_that_know_the_extension() -> None:
    found = {
        path.relative_to(PYTHON).with_suffix("").as_posix() for path in PYTHON.rglob("*.py") if imports_native(path)
    }
    assert found == KNOW_NATIVE


def test_rooms_are_small() -> None:
    rooms = {PYTHON, *(path.parent for path in PYTHON.rglob("*.py"))}
    sizes = {room.name: len({*room.glob("*.py")} - {room / "__init__.py", room / "__main__.py"}) for room in rooms}
    assert {name: size for name, size in sizes.items() if size > MOST_MODULES} == {}


@pytest.mark.parametrize("crate", sorted(path.parent.name for path in RUST.glob("*/Cargo.toml")))
def test_no_circle_between_the_files_of_a_crate(crate: str) -> None:
    """Crates cannot depend on each other in a circle; files can, and the compiler does not mind."""
    assert circle(graph(modules(RUST / crate / "src"))) == []


def test_a_circle_is_found() -> None:
    code = {
        (): "mod a; pub use a::A;",
        ("a",): "use crate::b::{self, B as C}; pub struct A;",
        ("b",): "mod c; pub use self::c::B;",
        ("b", "c"): "fn f() { crate::A::new() }",
    }
    assert graph(code) == {(): set(), ("a",): {("b",), ("b", "c")}, ("b",): set(), ("b", "c"): {("a",)}}
    assert circle(graph(code)) == ["a", "b::c"]
    assert circle(graph(code | {("b", "c"): "use super::super::c;"})) == []


def test_files_are_short() -> None:
    files = [*PYTHON.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert [path.name for path in files if len(path.read_text().splitlines()) > 500] == []


def test_public_names_are_sorted_and_there() -> None:
    import conntrack_py

    assert all(hasattr(conntrack_py, name) for name in conntrack_py.__all__)
    # Constants first.
    assert sorted(conntrack_py.__all__, key=lambda name: (not name.isupper(), name)) == list(conntrack_py.__all__)


def test_import_is_quick() -> None:
    """Neither importing nor tracking may cost what only the command line or an array needs."""
    code = (
        "import dataclasses, glob, inspect, io, sys, time, typing; at = time.process_time();"
        "import conntrack_py; took = time.process_time() - at;"
        "capture = bytes.fromhex('d4c3b2a1020004000000000000000000ffff000001000000');"
        "result = conntrack_py.track(io.BytesIO(capture)); result.connections.write(io.BytesIO(), 'csv');"
        "print(took * 1000, *({'click', 'rich', 'numpy', 'difflib'} & sys.modules.keys()))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(5)
    ]
    assert {name for _, *imported in runs for name in imported} == set()
    assert min(float(took) for took, *_ in runs) < IMPORT_BUDGET
