"""docs/limits.md has the numbers of the code: each constant that it names is looked up, and worked out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.program import ROOT

PAGE = (ROOT / "docs" / "limits.md").read_text()
#: Seconds stay seconds: the page says nanoseconds where the code does.
KNOWN = {"SECOND": 1, "u32::MAX": 2**32 - 1, "i32::MAX": 2**31 - 1}
#: Constants with the name of a bound that are none: facts of a protocol, a ratio, and a code.
NO_BOUNDS = {
    ("ether.rs", "LONGEST_LENGTH"): "IEEE 802.3: a larger number is an EtherType",
    ("fixed.rs", "LONGEST_V6"): "the payload length of IPv6 has 16 bits",
    ("window.rs", "LARGEST"): "the window of a SYN has 16 bits",
    ("tls.rs", "MOST_PADDING"): "less than two blocks of a cipher",
    ("reader.rs", "MOST_KEPT"): "a ratio from which a buffer is given back",
    ("pairs.py", "KEPT"): "a code",
}
BOUND = re.compile(
    r"^\s*(?:pub(?:\(\w+\))? )?(?:const )?(_?(?:MOST|LONGEST|DEEPEST|LARGEST|LIMIT|MAX|KEPT)\w*|\w+_(?:MAX|LIMIT))"
    r"(?:: \w+)?(?:, \w+)* = ",
    re.MULTILINE,
)
SOURCES = [
    path
    for top in ("rust", "python")
    for path in sorted((ROOT / top).rglob("*"))
    if path.suffix in (".rs", ".py")
    and not {"target", "tests", "tests.rs", "testkit.rs", "testing.rs"} & set(path.parts)
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


def test_every_bound_is_on_the_page() -> None:
    found = {(path.name, name) for path in SOURCES for name in BOUND.findall(path.read_text())}
    assert found - {(file, name) for file, name, _ in bounds()} == set(NO_BOUNDS), (
        "a bound without a row in docs/limits.md"
    )
