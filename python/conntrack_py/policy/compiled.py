"""A policy as the extension module asks it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conntrack_py import _native
from conntrack_py.policy.model import Rule, Ruleset
from conntrack_py.table import ConnectionTable

#: A row of verdicts, as the Rust core lays it out.
VERDICT = np.dtype(
    {
        "names": ["verdict", "egress_rule", "ingress_rule", "orig_group", "resp_group"],
        "formats": ["u1", "i4", "i4", "i4", "i4"],
        "offsets": [0, 4, 8, 12, 16],
        "itemsize": 20,
    }
)


#: The verdict on every connection, and the number of allowed ones that each rule was used for.
Judged = tuple[NDArray[np.void], list[int]]


def compiled(ruleset: Ruleset) -> _native.Policy:
    """The policy, ready to be asked.

    Raises:
        PolicyError: It has too many rules.
    """
    numbers = {name: number for number, name in enumerate(ruleset.groups)}

    def rules(listed: tuple[Rule, ...]) -> list[tuple[list[int | str], str, list[tuple[int, int]]]]:
        return [([numbers.get(peer, peer) for peer in rule.peers], rule.proto, list(rule.ports)) for rule in listed]

    return _native.Policy(
        [
            (
                list(group.members),
                rules(group.ingress),
                rules(group.egress),
                (ruleset.default_of(name, "ingress") == "allow", ruleset.default_of(name, "egress") == "allow"),
            )
            for name, group in ruleset.groups.items()
        ],
        ruleset.combine == "any",
    )


def evaluate(ruleset: Ruleset, connections: ConnectionTable) -> Judged:
    """Judge every connection; see `Policy.evaluate`."""
    memory, hits = compiled(ruleset).evaluate(connections._native)
    return np.frombuffer(memoryview(memory), dtype=VERDICT), hits
