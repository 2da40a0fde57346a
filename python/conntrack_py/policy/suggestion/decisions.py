"""Connections of which no rules are made before a person decides: what servers initiate, and what looks like attacks.

Attacks are folded: a scan is one decision of its originator, a flood one of its target. A refused or empty connection
beside real ones of the same pair is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conntrack_py import _native
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import ANY, WITH_PORTS, WITH_TYPES, Evidence, Rule, Side, merged
from conntrack_py.policy.traffic.keys import Bools, Ints, distinct, is_among
from conntrack_py.policy.traffic.pairs import UNPRIVILEGED, Pair, Traffic
from conntrack_py.policy.traffic.services import breaks

#: Kinds of decisions, and what is lost where nothing of it is allowed; "": that depends on the service.
KINDS = {
    "initiates": "",
    "announced": "active FTP and the like; allow it by the protocol's helper, or have clients use passive mode",
    "administration": "administration from outside; name the peers, or use a VPN",
    "brute_force": "nothing: many short sessions that try passwords; a ban list, a VPN",
    "probe": "nothing: handshakes without data, as of half-open scans and port checks",
    "refused": "nothing: the responder refused it",
}
#: Sessions of one originator with one service from which on they are an attempt to guess, and their median length.
_MANY, _SHORT = 10, 30.0
#: Peers that a decision names; more are any.
_PEERS = 1000


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Connections for a person to decide.

    Attributes:
        group: The group that a rule would be for; "": the hosts are in several, or in none.
        servers: Which of its members it is about.
        rule: The rule that would allow it; of scans and refusals all peers and ports in one.
        kept: It is allowed by the policy: its service inside is evidently served, or a rule of a person allows it.
        unsure: The capture does not show who initiated: perhaps the servers did. Never allowed.
        breaks: What would stop working if it were denied.
        names: Names by which it was asked for, as far as payloads show them.
        side: The direction of the rule: `egress` of what servers initiate, `ingress` of what was tried on them.
        kind: A word of `KINDS`.
        called: Groups of the responders, whose ingress has to allow it, too.
    """

    group: str
    servers: tuple[str, ...]
    rule: Rule
    kept: bool
    unsure: bool
    breaks: str
    names: tuple[str, ...] = ()
    side: Side = "egress"
    kind: str = "initiates"
    called: tuple[str, ...] = ()

    @property
    def connections(self) -> int:
        """Number of the connections."""
        return self.rule.evidence.connections if self.rule.evidence else 0


def evidence(pairs: Sequence[Pair], peers: int) -> Evidence:
    """Evidence of some connections taken together."""
    return Evidence(
        connections=sum(pair.connections for pair in pairs),
        peers=peers,
        first=min(pair.first for pair in pairs),
        last=max(pair.last for pair in pairs),
    )


def initiated(
    pairs_by_kind: tuple[Sequence[Pair], Sequence[Pair], Sequence[Pair]],
    membership: Membership,
    asked: Mapping[tuple[str, str, str, int], set[str]],
) -> list[Decision]:
    """Decisions about connections that servers initiate: the undecided, the doubtful, the allowed."""
    found: dict[tuple[str, str, int, tuple[bool, bool], bool], list[Pair]] = {}
    for kind, pairs in zip(((False, False), (False, True), (True, False)), pairs_by_kind, strict=True):
        for pair in pairs:
            for name in membership.of(pair.orig):
                inside = bool(membership.of(pair.resp))
                found.setdefault((name, pair.proto, pair.service, kind, inside), []).append(pair)
    decisions = []
    for (name, proto, service, (kept, unsure), _), pairs in found.items():
        peers = tuple(_native.aggregate(sorted({pair.resp for pair in pairs})))
        called = {one for pair in pairs for one in asked.get((pair.orig, pair.resp, proto, service), ())}
        decisions.append(
            Decision(
                group=name,
                servers=tuple(sorted({pair.orig for pair in pairs})),
                rule=Rule(
                    peers=peers,
                    proto=proto,
                    ports=((service, service),) if proto in (*WITH_PORTS, *WITH_TYPES) else (),
                    evidence=evidence(pairs, len({pair.resp for pair in pairs})),
                ),
                kept=kept,
                unsure=unsure,
                breaks=breaks(proto, service),
                names=tuple(sorted(called)),
                called=tuple(sorted({group for pair in pairs for group in membership.of(pair.resp)})),
            )
        )
    return sorted(decisions, key=lambda one: (one.kept, one.unsure, one.group, -one.connections, one.rule.ports))


def suspicious(traffic: Traffic, membership: Membership) -> list[Decision]:
    """Decisions about what rules are not made of: administration from outside, attacks, refusals, announced calls."""
    local = traffic.orig_local | traffic.resp_local
    inwards = np.flatnonzero(traffic.because("administration"))
    guesses = _guesses(traffic, inwards)
    found = [
        *_by_service(traffic, inwards[~guesses], membership, "administration"),
        *_by_service(traffic, inwards[guesses], membership, "brute_force"),
        *_by_service(traffic, _called_back(traffic), membership, "announced", "egress"),
    ]
    real = distinct(traffic.keys[traffic.in_earnest])
    for kind in ("probe", "refused"):
        rows = np.flatnonzero(traffic.because(kind) & local & ~traffic.resp_group & (traffic.orig != traffic.resp))
        found += _folded(traffic, rows[~is_among(traffic.keys[rows], real)], membership, kind)
    return found


def _guesses(traffic: Traffic, rows: Ints) -> Bools:
    """Mask of the rows that are many short sessions of one originator with one service, on one host or on several."""
    keys = traffic.orig[rows] << 32 | traffic.services[rows]
    _, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
    ends = traffic.table["end"].view(np.int64)[rows]
    lengths = (ends - traffic.start[rows]) / 1e9
    short = np.bincount(places, weights=lengths <= _SHORT, minlength=len(counts))
    guesses: Bools = (counts >= _MANY) & (2 * short > counts)
    return guesses[places]


def _called_back(traffic: Traffic) -> Ints:
    """Announced connections from a server's own port, as of active FTP: without a helper they are egress of it."""
    from_server = traffic.is_proto(("tcp",)) & (traffic.table["orig_port"] < UNPRIVILEGED)
    return np.flatnonzero(traffic.because("announced") & from_server & traffic.orig_local & ~traffic.resp_group)


def _by_service(
    traffic: Traffic, rows: Ints, membership: Membership, kind: str, side: Side = "ingress"
) -> list[Decision]:
    """A decision for each group and service."""
    found: dict[tuple[str, str, int], list[Pair]] = {}
    for pair, _ in traffic.grouped(rows):
        # The port of an announced connection is of the moment.
        service = pair.service if kind != "announced" else 0
        for name in membership.of(pair.resp if side == "ingress" else pair.orig) or ("",):
            found.setdefault((name, pair.proto, service), []).append(pair)
    decisions = []
    for (name, proto, service), pairs in found.items():
        origs, resps = {pair.orig for pair in pairs}, {pair.resp for pair in pairs}
        own, peers = (resps, origs) if side == "ingress" else (origs, resps)
        ports = ((service, service),) if service else ((UNPRIVILEGED, 65535),)
        rule = Rule(peers=_peers(peers), proto=proto, ports=ports, evidence=evidence(pairs, len(peers)))
        decisions.append(
            Decision(
                group=name,
                servers=tuple(sorted(own)),
                rule=rule,
                kept=False,
                unsure=False,
                breaks=KINDS[kind],
                side=side,
                kind=kind,
            )
        )
    return sorted(decisions, key=lambda one: (-one.connections, one.group, one.rule.ports))


def _folded(traffic: Traffic, rows: Ints, membership: Membership, kind: str) -> list[Decision]:
    """A decision for each originator, or each service of a host where those are fewer."""
    inside = traffic.resp_local[rows].astype(np.int64)
    by_originator = traffic.orig[rows] << 1 | inside
    by_target = traffic.resp[rows] << 32 | traffic.services[rows]
    keys = min((by_originator, by_target), key=lambda keys: len(distinct(keys)))
    order = np.lexsort((traffic.start[rows], keys))
    rows, keys = rows[order], keys[order]
    some = np.split(rows, np.flatnonzero(np.diff(keys)) + 1) if len(rows) else []
    found = [_fold(traffic, one, membership, kind) for one in some]
    return sorted(found, key=lambda one: (-one.connections, one.rule.evidence.first if one.rule.evidence else 0))


def _fold(traffic: Traffic, rows: Ints, membership: Membership, kind: str) -> Decision:
    """One decision about these connections."""
    ends = (distinct(numbers[rows]).tolist() for numbers in (traffic.orig, traffic.resp))
    origs, resps = ([traffic.addresses[number] for number in one] for one in ends)
    side: Side = "ingress" if traffic.resp_local[rows].any() else "egress"
    own, peers = (resps, origs) if side == "ingress" else (origs, resps)
    services = [traffic.service_of(code) for code in distinct(traffic.services[rows]).tolist()]
    protos = {proto for proto, _ in services}
    proto = protos.pop() if len(protos) == 1 else ANY
    ports = merged(tuple((port, port) for _, port in services)) if proto in (*WITH_PORTS, *WITH_TYPES) else ()
    groups = {membership.of(address) for address in own}
    names = groups.pop() if len(groups) == 1 else ()
    starts = traffic.start[rows]
    seen = Evidence(connections=len(rows), peers=len(peers), first=int(starts.min()), last=int(starts.max()))
    return Decision(
        group=names[0] if len(names) == 1 else "",
        servers=tuple(sorted(own)),
        rule=Rule(peers=_peers(peers), proto=proto, ports=ports, evidence=seen),
        kept=False,
        unsure=False,
        breaks=KINDS[kind],
        side=side,
        kind=kind,
    )


def _peers(addresses: Iterable[str]) -> tuple[str, ...]:
    peers = sorted(addresses)
    return tuple(_native.aggregate(peers)) if len(peers) <= _PEERS else (ANY,)
