"""A policy beside the same policy with each rule allowed the other way, too: the harm of "443 in both directions"."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from conntrack_py.analysis.columns import Columns
from conntrack_py.enums import Verdict
from conntrack_py.policy.compiled import Judged, evaluate
from conntrack_py.policy.model import Rule, Ruleset, describe
from conntrack_py.policy.traffic.keys import different, distinct, joined
from conntrack_py.table import ConnectionTable

#: Connections that are named of those let through.
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class LetThrough:
    """Connections of one host to one service that only the mirrored policy allows."""

    originator: str
    service: str
    destinations: int
    connections: int


@dataclass(frozen=True, kw_only=True)
class BothWays:
    """Comparison of a policy and its mirror image over the connections of a table.

    Attributes:
        rules: Rules of the policy.
        mirrored: Rules that its mirror image has more.
        allowed: Connections that the policy allows.
        let_through: Connections that it refuses and the mirrored one allows.
        worst: The hosts and services with the most of them, those that leave the local networks first.
        answers: Packets of responders in allowed connections: state lets all of them pass.
        busiest: The ingress rule with the most uses, in words; "" without one.
        hosts: Hosts of its group that were called.
        peers: Hosts that called them: the mirrored rule would let the first call the second.
    """

    rules: int
    mirrored: int
    allowed: int
    let_through: int
    worst: tuple[LetThrough, ...]
    answers: int
    busiest: str
    hosts: int
    peers: int


def mirrored(ruleset: Ruleset) -> Ruleset:
    """The policy with each rule allowed in the other direction as well, on the same ports."""

    def both(own: tuple[Rule, ...], others: tuple[Rule, ...]) -> tuple[Rule, ...]:
        images = (dataclasses.replace(rule, evidence=None, note="", line=None) for rule in others)
        return tuple(dict.fromkeys((*own, *images)))

    groups = {
        name: dataclasses.replace(
            group, ingress=both(group.ingress, group.egress), egress=both(group.egress, group.ingress)
        )
        for name, group in ruleset.groups.items()
    }
    return Ruleset(groups=groups, default=ruleset.default, combine=ruleset.combine)


def both_ways(
    ruleset: Ruleset, table: ConnectionTable, *, judged: Judged | None = None, columns: Columns | None = None
) -> BothWays:
    """Compare a policy with its mirror image."""
    data = Columns(table) if columns is None else columns
    image = mirrored(ruleset)
    verdicts, hits = evaluate(ruleset, table) if judged is None else judged
    allowed = np.equal(verdicts["verdict"], Verdict.ALLOWED)[data.rows]
    wider = np.equal(evaluate(image, table)[0]["verdict"], Verdict.ALLOWED)[data.rows]
    more = np.flatnonzero(wider & ~allowed)
    numbered = ruleset.numbered()
    ingress = [(hits[one.number], -one.number) for one in numbered if one.side == "ingress" and hits[one.number]]
    busiest = numbered[-max(ingress)[1]] if ingress else None
    used = np.zeros(0, np.int64)
    if busiest is not None:
        used = np.flatnonzero(np.equal(verdicts["ingress_rule"], busiest.number)[data.rows] & allowed)
    return BothWays(
        rules=len(numbered),
        mirrored=len(image.numbered()) - len(numbered),
        allowed=int(allowed.sum()),
        let_through=len(more),
        worst=_worst(data, more),
        answers=int(data.column("resp_pkts")[allowed].sum()),
        busiest="" if busiest is None else f"{busiest.group} {describe(busiest.rule, 'ingress')}",
        hosts=len(distinct(data.resp[used])),
        peers=len(distinct(data.orig[used])),
    )


def _worst(data: Columns, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[LetThrough, ...]:
    if not len(rows):
        return ()
    _, firsts, places, counts = np.unique(
        joined(data.orig[rows], data.services[rows]), return_index=True, return_inverse=True, return_counts=True
    )
    firsts = rows[firsts]
    egress = np.bincount(places, weights=data.is_direction("egress")[rows], minlength=len(counts)) > 0
    hosts = different(places, data.resp[rows], len(counts))
    order = np.lexsort((-counts, ~egress))[:_NAMED].tolist()
    return tuple(
        LetThrough(
            originator=data.name(int(data.orig[firsts[place]])),
            service=data.service(int(data.services[firsts[place]])),
            destinations=int(hosts[place]),
            connections=int(counts[place]),
        )
        for place in order
    )
