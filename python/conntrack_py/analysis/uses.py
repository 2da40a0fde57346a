"""Uses of a policy's rules by the connections of a table: directions, peers in words, the last use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conntrack_py.analysis.columns import Columns, by_direction
from conntrack_py.enums import Verdict
from conntrack_py.policy.compiled import evaluate
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import SIDES, Numbered, Ruleset
from conntrack_py.policy.traffic.keys import Ints, distinct
from conntrack_py.table import ConnectionTable

#: Parts that the peers of a rule are told in.
_PARTS = 4


@dataclass(frozen=True, kw_only=True)
class RuleUse:
    """A rule and the allowed connections that used it.

    Attributes:
        numbered: The rule with its number and its group.
        connections: Connections that the rule allowed.
        directions: Numbers of them by direction, the most first.
        hosts: Different peers in them.
        peers: Part of the network → different peers of it, the most first: names of groups, `outside`, or `local` for
            local hosts in no group.
        last: When the last of them began, nanoseconds since 1970 UTC; None: there is none.
    """

    numbered: Numbered
    connections: int
    directions: dict[str, int]
    hosts: int
    peers: dict[str, int]
    last: int | None

    @property
    def in_words(self) -> str:
        """The peers in words: `outside (250) · office (200)`."""
        parts = list(self.peers.items())
        named = [f"{name} ({number:,})" for name, number in parts[:_PARTS]]
        more = sum(number for _, number in parts[_PARTS:])
        return " · ".join([*named, *([f"others ({more:,})"] if more else [])])


def rule_uses(
    ruleset: Ruleset,
    table: ConnectionTable,
    *,
    verdicts: NDArray[np.void] | None = None,
    columns: Columns | None = None,
) -> list[RuleUse]:
    """The uses of every rule, in the order of `numbered()`."""
    data = Columns(table) if columns is None else columns
    if verdicts is None:
        verdicts = evaluate(ruleset, table)[0]
    numbered = ruleset.numbered()
    rows_of: list[Ints] = [np.zeros(0, np.int64)] * len(numbered)
    mine = verdicts[data.rows]
    allowed = mine["verdict"] == Verdict.ALLOWED
    for side in SIDES:
        rules = mine[f"{side}_rule"].astype(np.int64)
        rows = np.flatnonzero(allowed & (rules >= 0))
        rows = rows[np.argsort(rules[rows], kind="stable")]
        for some in np.split(rows, np.flatnonzero(np.diff(rules[rows])) + 1) if len(rows) else []:
            rows_of[int(rules[some[0]])] = some
    parts = _Parts(ruleset, data)
    return [_use(data, one, rows_of[one.number], parts) for one in numbered]


class _Parts:
    """The part of the network of each host."""

    def __init__(self, ruleset: Ruleset, data: Columns) -> None:
        self._membership = Membership(ruleset)
        self._data = data
        number = len(data.traffic.addresses)
        self._local = np.zeros(number, bool)
        self._local[data.traffic.orig[data.traffic.orig_local]] = True
        self._local[data.traffic.resp[data.traffic.resp_local]] = True
        self._group = np.zeros(number, bool)
        self._group[data.traffic.resp[data.traffic.resp_group]] = True
        self._names: dict[int, str] = {}

    def of(self, host: int) -> str:
        """Its group, or where it is."""
        if host not in self._names:
            found = self._membership.of(self._data.name(host))
            place = "multicast" if self._group[host] else "local" if self._local[host] else "outside"
            self._names[host] = found[0] if found else place
        return self._names[host]


def _use(data: Columns, numbered: Numbered, rows: Ints, parts: _Parts) -> RuleUse:
    ends = data.orig if numbered.side == "ingress" else data.resp
    hosts = distinct(ends[rows]).tolist()
    peers: dict[str, int] = {}
    for host in hosts:
        part = parts.of(host)
        peers[part] = peers.get(part, 0) + 1
    return RuleUse(
        numbered=numbered,
        connections=len(rows),
        directions=by_direction(data, rows),
        hosts=len(hosts),
        peers=dict(sorted(peers.items(), key=lambda item: (-item[1], item[0]))),
        last=int(data.start[rows].max()) if len(rows) else None,
    )
