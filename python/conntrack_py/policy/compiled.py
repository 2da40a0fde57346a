"""A policy as the extension module asks it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conntrack_py import _native
from conntrack_py.enums import Verdict
from conntrack_py.policy.model import ANNOUNCED, FIRST_ANNOUNCED, SIDES, Rule, Ruleset
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


_REFUSED = (Verdict.REFUSED_EGRESS, Verdict.REFUSED_INGRESS, Verdict.REFUSED_BOTH)

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
    verdicts = np.frombuffer(memoryview(memory), dtype=VERDICT)
    return _with_announced(ruleset, connections, verdicts), hits


def _with_announced(ruleset: Ruleset, table: ConnectionTable, verdicts: NDArray[np.void]) -> NDArray[np.void]:
    """The verdicts, where a connection passes that another announced to a rule with a helper."""
    helpers = [numbered.rule.helper for numbered in ruleset.numbered()]
    if not any(helpers) or not len(table):
        return verdicts
    parents = table.parents()
    rows = np.flatnonzero(np.isin(verdicts["verdict"], _REFUSED) & (parents >= 0))
    rows = rows[verdicts["verdict"][parents[rows]] == Verdict.ALLOWED]
    codes, words = table.codes("proto")
    is_gre = codes[rows] == (words.index("gre") if "gre" in words else -1)
    has_port = (table["resp_port"][rows] >= FIRST_ANNOUNCED) | is_gre
    passes = np.zeros(len(rows), bool)
    for helper in sorted(set(filter(None, helpers))):
        # A number that is negative stands for no rule: the last ones of the list.
        sets = np.array([*(one == helper for one in helpers), False, False])
        by = [sets[verdicts[f"{side}_rule"][parents[rows]]] for side in SIDES]
        protos = {proto for _, some in ANNOUNCED[helper] for proto in some}
        known = np.isin(codes[rows], [number for number, word in enumerate(words) if word in protos])
        passes |= (by[0] | by[1]) & known & has_port
    if not passes.any():
        return verdicts
    changed = verdicts.copy()
    some = rows[passes]
    changed["verdict"][some] = Verdict.RELATED
    for side in SIDES:
        changed[f"{side}_rule"][some] = -1
    return changed
