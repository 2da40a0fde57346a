"""docs/reference/link-types.md lists the link types that the decoder reads, under the names of the registry."""

from __future__ import annotations

import re

from support.program import ROOT

PAGE = (ROOT / "docs" / "reference" / "link-types.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| `(\w+)` \| .+ \| (yes|no) \|$", PAGE, re.MULTILINE)
NUMBERS = (ROOT / "rust" / "capture" / "src" / "linktype.rs").read_text()
DECODER = (ROOT / "rust" / "decode" / "src" / "link.rs").read_text()
TUNNELS = (ROOT / "rust" / "decode" / "src" / "lib.rs").read_text()


def test_the_read_ones_are_the_decoders() -> None:
    listed = DECODER.split("SUPPORTED", 1)[1].split("];")[0]
    assert [name for _, name, read in ROWS if read == "yes"] == re.findall(r"LinkType::(\w+)", listed)


def test_numbers_and_names_are_the_registrys() -> None:
    registry = re.findall(r'\((\d+), "(\w+)"\)', NUMBERS)
    assert len(ROWS) == len(set(ROWS))
    assert {(number, name) for number, name, _ in ROWS} <= set(registry)


def test_every_word_of_a_tunnel_is_on_the_page() -> None:
    words = re.findall(r'= "([\w]+)"', TUNNELS.split("enum TunnelKind", 1)[1].split("}\n")[0])
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == set(words) - {"none"}
