"""Who may import whom: nothing imports upward."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from rust_modules import circle, graph, modules

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / "python" / "conntrack_py"
RUST = ROOT / "rust"

#: A module may import those before it.
PYTHON_LADDER = [
    *("_native", "exceptions", "enums", "text", "numbering", "config", "stats", "connections", "progress", "tracker"),
    *(
        "writer",
        "annotate",
        "frames",
        "packets",
        "streaming",
        "following",
        "seam",
        "policy",
        "summary",
        "grid",
        "render",
        "log",
        "options",
        "live",
        "policy_render",
        "policy_cli",
        "cli",
        "__main__",
    ),
]
#: The same within the package of policies, whose parts are packages or modules.
POLICY_LADDER = [
    *("model", "yaml_places", "document", "compiled", "members", "services", "traffic", "roles", "findings", "fold"),
    *("suggest", "rulesets", "lint", "sarif", "check", "formats", "policy"),
]
#: Only these know the extension module.
KNOW_NATIVE = {
    *("__init__", "annotate", "config", "connections", "packets", "seam", "stats", "streaming", "tracker", "writer"),
}
POLICY_KNOWS_NATIVE = {"document", "compiled", "roles", "suggest", "formats", "policy"}
#: Milliseconds of CPU that importing the package may take beyond the standard library.
IMPORT_BUDGET = 60


def imported(path: Path, package: str = "conntrack_py") -> set[str]:
    """The parts of the package that a file imports, at its top or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
            found.add(node.module.removeprefix(f"{package}.").split(".")[0])
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names if alias.name.startswith(f"{package}."))
            found |= {name.removeprefix(f"{package}.").split(".")[0] for name in names}
    return found - {"__version__"}


@pytest.mark.parametrize("path", sorted(PYTHON.glob("*.py")), ids=lambda path: path.stem)
def test_python_ladder(path: Path) -> None:
    if path.stem == "__init__":
        return
    below = PYTHON_LADDER[: PYTHON_LADDER.index(path.stem)]
    assert imported(path) <= set(below)
    assert "_native" not in imported(path) or path.stem in KNOW_NATIVE


@pytest.mark.parametrize("path", sorted((PYTHON / "policy").rglob("*.py")), ids=lambda path: path.stem)
def test_policy_ladder(path: Path) -> None:
    part = path.relative_to(PYTHON / "policy").parts[0].removesuffix(".py")
    if part == "__init__":
        return
    assert imported(path) <= set(PYTHON_LADDER[: PYTHON_LADDER.index("policy") + 1])
    below = POLICY_LADDER[: POLICY_LADDER.index(part) + 1]
    assert imported(path, "conntrack_py.policy") <= set(below)
    assert "_native" not in imported(path) or part in POLICY_KNOWS_NATIVE


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
    files = [*PYTHON.rglob("*.py"), *(ROOT / "tests").glob("*.py")]
    assert [path.name for path in files if len(path.read_text().splitlines()) > 500] == []


def test_public_names_are_sorted_and_there() -> None:
    import conntrack_py

    assert all(hasattr(conntrack_py, name) for name in conntrack_py.__all__)
    assert sorted(conntrack_py.__all__) == list(conntrack_py.__all__)


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
