"""The rooms: their order, their size, what importing them costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / "python" / "conntrack_py"
CORE = ROOT / "rust" / "core" / "src"

#: Modules that import the extension module; the others go through these.
KNOW_NATIVE = {
    *("__init__", "annotate", "config", "distributed", "table", "track", "tracker", "writer"),
    *("io/batch", "io/capture", "io/columns", "io/formats", "io/labels"),
    *("policy/compiled", "policy/document", "policy/formats/common", "policy/policy", "policy/suggest"),
    "policy/traffic/roles",
}
#: Modules in a folder, without `__init__` and `__main__`.
MOST_MODULES = 12
#: A module of the Rust core may use those before it.
RUST_LADDER = [
    *(
        "sync",
        "time",
        "error",
        "checkpoint",
        "capture",
        "decode",
        "names",
        "config",
        "flow",
        "zeek",
        "proto",
        "connection",
        "slab",
        "direction",
        "conn",
        "table",
        "policy",
        "tracker",
    ),
    *(
        "rows",
        "columns",
        "hindsight",
        "listing",
        "zeek_log",
        "ipfix",
        "quality",
        "labels",
        "verdicts",
        "stats",
        "pipeline",
    ),
]
#: Files that are compiled for tests only.
RUST_TESTS = {"tests.rs", "testkit.rs", "testing.rs", "properties.rs"}
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


def used(code: str) -> set[str]:
    """The modules of the core that Rust code names: `crate::a`, `use crate::{a::B, c::{D, E}}`."""
    found = set(re.findall(r"\bcrate::(?:r#)?(\w+)", code))
    for group in re.finditer(r"\bcrate::\{", code):
        depth, start = 1, group.end()
        for place in range(start, len(code)):
            character = code[place]
            depth += (character == "{") - (character == "}")
            if depth == 0 or (depth == 1 and character == ","):
                found |= set(re.findall(r"^\s*(\w+)", code[start:place]))
                start = place + 1
            if depth == 0:
                break
    return found - {"self"}


def test_the_order_of_the_rooms() -> None:
    """The contracts are in pyproject.toml."""
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo"], capture_output=True, text=True, cwd=ROOT
    )
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


@pytest.mark.parametrize("module", RUST_LADDER)
def test_rust_ladder(module: str) -> None:
    files = [*CORE.glob(f"{module}.rs"), *(CORE / module).rglob("*.rs")]
    assert files, f"there is no module {module}: is the ladder of this test out of date?"
    for path in files:
        # Tests may look anywhere.
        code = path.read_text().split("#[cfg(test)]\nmod ")[0]
        is_test = path.name in RUST_TESTS or "tests" in path.parts
        names = set() if is_test else used(code)
        assert names <= set(RUST_LADDER[: RUST_LADDER.index(module) + 1]), path


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("use crate::time::Time;", {"time"}),
        ("use crate::{flow, tracker};", {"flow", "tracker"}),
        ("pub(crate) use crate::{\n    flow::{Side, icmp::{self, Kind}},\n    time::Time,\n};", {"flow", "time"}),
        ("use crate::{self, error as e}; fn f(a: crate::table::Row) {}", {"error", "table"}),
        ("use crate::{flow}; struct A { a: u8, b: u8 }", {"flow"}),
        ("use othercrate::{flow}; use super::time;", set()),
    ],
)
def test_the_rust_ladder_sees_every_import(code: str, names: set[str]) -> None:
    assert used(code) == names


def test_the_rust_ladder_is_whole() -> None:
    assert {path.stem for path in CORE.iterdir()} - {"lib"} == set(RUST_LADDER)


def test_files_are_short() -> None:
    files = [*PYTHON.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
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
