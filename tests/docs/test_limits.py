"""docs/limits.md has the numbers of the code: each constant that it names is looked up, and worked out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import ROOT

PAGE = (ROOT / "docs" / "limits.md").read_text()
#: Seconds stay seconds: the page says nanoseconds where the code does.
KNOWN = {"SECOND": 1, "u32::MAX": 2**32 - 1, "i32::MAX": 2**31 - 1}
SOURCES = [
    path
    for top in ("rust", "python")
    for path in sorted((ROOT / top).rglob("*"))
    if path.suffix in (".rs", ".py") and not {"target", "tests"} & set(path.parts)
]


def bounds() -> list[tuple[str, str, float]]:
    """File, constant and number of each row that names a constant."""
    found = re.findall(r"^\|[^|]+\|([^|]+)\|.*\| `([\w.]+)` `(\w+)` \|$", PAGE, re.MULTILINE)
    numbers = [(file, constant, re.search(r"[0-9][0-9,.]*", number)) for number, file, constant in found]
    return [(file, name, float(number[0].replace(",", ""))) for file, name, number in numbers if number]


def worked_out(expression: str, files: list[Path]) -> float:
    """The number of an expression; names are looked up in these files first."""
    expression = re.sub(r" as \w+|(?<=[0-9])_(?=[0-9])", "", re.sub(r"if cfg!\(.*?\) \{.*?\} else", "", expression))
    for name in set(re.findall(r"(?:\w+::)?[A-Z][A-Z0-9_]*", expression)):
        value = KNOWN.get(name) or values(name, files)[0]
        expression = re.sub(rf"(?<!\w){re.escape(name)}\b", str(value), expression)
    assert re.fullmatch(r"[0-9a-fx.*+<> ()e{}-]+", expression), expression
    return float(eval(expression.strip(" {}")))


def values(name: str, files: list[Path]) -> list[float]:
    """The values of all constants of this name in these files, or else anywhere."""
    constant = re.compile(
        rf"^\s*(?:pub(?:\(\w+\))? )?(?:const )?{name}(?:: \w+)?(?:, \w+)* = ([^;,\n]+)(?:;|,.*)?$", re.MULTILINE
    )
    for some in (files, SOURCES):
        found = [worked_out(one, files) for path in some for one in constant.findall(path.read_text())]
        if found:
            return found
    raise AssertionError(f"no constant {name} in {[path.name for path in files]}")


@pytest.mark.parametrize(("file", "name", "number"), bounds(), ids=lambda value: str(value))
def test_the_number_is_that_of_the_code(file: str, name: str, number: float) -> None:
    files = [path for path in SOURCES if path.name == file]
    assert files, f"no file {file}: docs/limits.md names it"
    assert number in values(name, files)


def test_rows_are_read() -> None:
    rows = [line for line in PAGE.splitlines() if re.search(r"\| `[\w.]+` `\w+` \|$", line)]
    assert len(bounds()) == len(rows) > 50
