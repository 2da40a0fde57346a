"""Any text as a policy of every format: refused with a `PolicyError`, or a policy that its own document repeats."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import document, formats
from conntrack_py.policy.lint import lint
from conntrack_py.policy.model import Ruleset

#: The reader of a first byte, in this order; seeds begin with such a byte.
READERS = ("toml", "json", *formats.READERS)


def _read(text: str, format: str) -> tuple[Ruleset, list[str]]:
    return formats.read(text, format, "p") if format in formats.READERS else (document.loads(text, format, "p"), [])


def _refusal(call: Callable[[], object]) -> str:
    """The message of a refusal; empty where there is none."""
    try:
        call()
    except PolicyError as error:
        return str(error)
    return ""


def test_one_input(data: bytes) -> None:
    """Read, write and lint."""
    if not data:
        return
    text = data[1:].decode(errors="replace")
    _refusal(lambda: formats.guess(text, "p"))
    found: list[tuple[Ruleset, list[str]]] = []
    assert _refusal(lambda: found.append(_read(text, READERS[data[0] % len(READERS)]))).isprintable()
    for ruleset, warnings in found:
        assert all(map(str.isprintable, warnings)), warnings
        assert document.loads(document.to_toml(ruleset), "toml") == ruleset
        assert document.loads(document.to_json(ruleset), "json") == ruleset
        for format in formats.WRITERS:
            _refusal(partial(formats.write, ruleset, format))
        lint(ruleset)
