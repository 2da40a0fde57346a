"""Any text as the rules of a firewall: refused with a `PolicyError`, or rules that can be linted and shown."""

from __future__ import annotations

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import rulesets
from conntrack_py.policy.lint import lint_firewall

#: The reader of a first byte, in this order; seeds begin with such a byte.
READERS = tuple(rulesets.READERS)


def test_one_input(data: bytes) -> None:
    """Read and lint."""
    if not data:
        return
    text = data[1:].decode(errors="replace")
    refusal = ""
    try:
        firewall = rulesets.read(text, READERS[data[0] % len(READERS)], "x")
    except PolicyError as error:
        refusal = str(error)
    assert refusal.isprintable(), refusal
    if refusal:
        return
    for chain in firewall.chains:
        assert chain.name.isprintable(), chain.name
        assert all(rule.text.isprintable() and rule.place.isprintable() for rule in chain.rules)
    lint_firewall(firewall)
