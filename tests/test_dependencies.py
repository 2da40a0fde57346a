"""Crates that a person has reviewed, and no others: what `Cargo.lock` names is what `dependencies.toml` names.

`make dependencies` prints the differences; with `UPDATE=1` it writes the list anew, for review before a commit.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "dependencies.toml"
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
_HEAD = """\
# Reviewed crates of Cargo.lock with their licences; a test compares. Written by `make dependencies UPDATE=1`.
# A review of a line asks for the publisher, the changes since the last version, and the need (`cargo tree -i NAME`).

"""


def locked() -> dict[str, dict[str, str]]:
    """The crates of the lock file by name and version, with their source and checksum."""
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    # Those of the workspace have no source.
    return {f"{one['name']} {one['version']}": one for one in packages if "source" in one}


def reviewed() -> dict[str, str]:
    """The licence of each reviewed crate."""
    found: dict[str, str] = tomllib.loads(LIST.read_text())["crates"]
    return found


def licences() -> dict[str, str]:
    """The licence of each crate as its own manifest names it."""
    command = ["cargo", "metadata", "--locked", "--all-features", "--format-version", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    packages = json.loads(done.stdout)["packages"]
    return {f"{one['name']} {one['version']}": one["license"] or "none" for one in packages if one["source"]}


def test_every_crate_was_reviewed() -> None:
    assert sorted(locked()) == sorted(reviewed()), "review the difference: make dependencies"


def test_every_crate_comes_from_the_registry_with_a_checksum() -> None:
    for name, one in locked().items():
        assert one["source"] == REGISTRY, name
        assert re.fullmatch(r"[0-9a-f]{64}", one["checksum"]), name


@pytest.mark.parametrize("place", ["benches/peers", "fuzz"])
def test_other_lock_files_know_the_dependencies_of_our_crates(place: str) -> None:
    packages = tomllib.loads((ROOT / place / "Cargo.lock").read_text())["package"]
    own = {
        one["name"]: {name.split()[0] for name in one.get("dependencies", [])}
        for one in packages
        if "source" not in one
    }
    for manifest in sorted((ROOT / "rust").glob("*/Cargo.toml")):
        crate = tomllib.loads(manifest.read_text())
        needs = {
            name
            for name, wish in crate.get("dependencies", {}).items()
            if not (isinstance(wish, dict) and (wish.get("optional") or "package" in wish))
        }
        name = crate["package"]["name"]
        assert needs <= own.get(name, needs), (
            f"cargo metadata --manifest-path {place}/Cargo.toml writes the lock file anew"
        )


def is_allowed(licence: str, allowed: set[str]) -> bool:
    """Test an expression of SPDX; `/` is how `OR` was once written."""
    words = re.findall(r"[()]|AND|OR|[\w.+-]+(?: WITH [\w.+-]+)?", licence.replace("/", " OR "))
    operators = {"(": "(", ")": ")", "AND": "and", "OR": "or"}
    return bool(eval(" ".join(operators.get(word) or str(word in allowed) for word in words)))


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT OR LGPL-2.1-or-later", True),
        ("LGPL-2.1-or-later", False),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("(MIT OR GPL-3.0) AND GPL-3.0", False),
        ("(MIT OR GPL-3.0) AND MIT", True),
        ("GPL-3.0/MIT", True),
        ("none", False),
    ],
)
def test_licences_are_read(licence: str, expected: bool) -> None:
    assert is_allowed(licence, {"MIT"}) is expected


def test_every_licence_is_allowed() -> None:
    allowed = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    assert [f"{name}: {licence}" for name, licence in reviewed().items() if not is_allowed(licence, allowed)] == []


def test_licences_are_those_of_the_crates() -> None:
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not here")
    assert licences() == reviewed()


if __name__ == "__main__":
    new, old = licences(), reviewed() if LIST.exists() else {}
    for name in sorted({*new, *old}):
        if new.get(name) != old.get(name):
            sys.stdout.write(f"{name}: {old.get(name, 'not reviewed')} -> {new.get(name, 'not in Cargo.lock')}\n")
    if sys.argv[1:] == ["--update"]:
        LIST.write_text(_HEAD + "[crates]\n" + "".join(f'"{name}" = "{new[name]}"\n' for name in sorted(new)))
