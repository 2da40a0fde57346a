"""The differences from other programs that are kept on purpose: the table of docs/differences.md."""

from __future__ import annotations

import re

from support.corpus import ROOT, Endpoint

DIFFERENCES = ROOT / "docs" / "differences.md"

#: A row without its reason: capture, oracle, five-tuple, field, ours, theirs.
Difference = tuple[str, str, str, str, str, str]


def end_text(end: Endpoint) -> str:
    """`192.0.2.1:80`, `[2001:db8::1]:80`."""
    return f"[{end[0]}]:{end[1]}" if ":" in end[0] else f"{end[0]}:{end[1]}"


def listed() -> dict[Difference, str]:
    """The rows of docs/differences.md, with their reasons."""
    found: dict[Difference, str] = {}
    for line in DIFFERENCES.read_text().splitlines():
        if not line.startswith("|") or set(line) <= set("|- ") or line.startswith("| capture "):
            continue
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        assert len(cells) == 7, f"{DIFFERENCES.name}: 7 cells expected: {line}"
        *row, reason = cells
        assert re.search(r"packets? \d", reason), f"{DIFFERENCES.name}: a reason names its packet: {line}"
        name = (row[0], row[1], row[2], row[3], row[4], row[5])
        assert name not in found, f"{DIFFERENCES.name}: twice: {line}"
        found[name] = reason
    return found


def as_row(row: Difference) -> str:
    """A line for docs/differences.md, to be given its reason."""
    return "| " + " | ".join(row) + " | |"


def settle(found: set[Difference], known: set[Difference]) -> None:
    """Fail on a difference that is not listed, and on one that is listed and does not occur."""
    unexplained = "\n".join(map(as_row, sorted(found - known)))
    gone = "\n".join(map(as_row, sorted(known - found)))
    assert not unexplained, f"not explained in docs/differences.md:\n{unexplained}"
    assert not gone, f"listed in docs/differences.md, and does not occur:\n{gone}"
