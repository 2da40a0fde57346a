"""docs/reference/formats.md lists the formats that errors name, with the remedies of the errors."""

from __future__ import annotations

import re

from support.program import ROOT

PAGE = (ROOT / "docs" / "reference" / "formats.md").read_text().split("| found |", 1)[1]
SOURCE = (ROOT / "rust" / "capture" / "src" / "foreign.rs").read_text()
TABLE = SOURCE.split("const FORMATS", 1)[1].split("\n];")[0]


def test_the_table_is_that_of_the_reader() -> None:
    named = dict(re.findall(r'const (\w+): &str = "([^"]+)";', SOURCE))
    rows = re.findall(r'\(\s*"([^"]+)",\s*(?:At|If|Text)\(.*?\),\s*(?:"([^"]+)"|([A-Z_]+)),?\s*\)', TABLE, re.DOTALL)
    assert len(rows) == len(re.findall(r"\b(?:At|If|Text)\(", TABLE))
    read = {(name, text or named[constant]) for name, text, constant in rows}
    listed = re.findall(r"^\| (.+) \| (.+) \|$", PAGE.replace("\\", ""), re.MULTILINE)
    assert set(listed) == read
    assert len(listed) == len(read)
