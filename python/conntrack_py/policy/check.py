"""Checks of a capture against a policy: refused connections and unused rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from conntrack_py import text
from conntrack_py.enums import Verdict
from conntrack_py.policy.compiled import evaluate
from conntrack_py.policy.document import inline
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import ANY, SIDES, WITH_PORTS, WITH_TYPES, Rule, Ruleset, Side
from conntrack_py.policy.traffic.keys import Ints, distinct
from conntrack_py.policy.traffic.pairs import CONFIDENCE, Traffic
from conntrack_py.schema import moment
from conntrack_py.stats import Stats, skipped_as_json
from conntrack_py.table import ConnectionTable

if TYPE_CHECKING:
    from conntrack_py.policy import sarif

#: Peers that a refusal names.
_NAMED = 5
_REFUSED: dict[Side, tuple[Verdict, ...]] = {
    "ingress": (Verdict.REFUSED_INGRESS, Verdict.REFUSED_BOTH),
    "egress": (Verdict.REFUSED_EGRESS, Verdict.REFUSED_BOTH),
}


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Connections that a group refuses for want of one rule.

    Attributes:
        group: The group without the rule.
        side: Its direction.
        proto: The protocol.
        service: The responder's port, or the ICMP type that asks.
        missing: The rule that would allow them; to any, where there are too many peers to name.
        connections: How many.
        doubtful: How many of them nobody should make a rule of: scans, refused, unanswered or announced ones, and those
            whose initiator is not sure.
        members: Members of the group that they belong to, the first few.
        peers: The other ends, the first few; groups have their name in parentheses.
        all_members: How many different ones there are.
        all_peers: How many different ones there are.
        first: When the first of them began, nanoseconds since 1970 UTC.
        last: When the last of them began.
        packets: Refused packets of them; None where only connections were looked at.
    """

    group: str
    side: Side
    proto: str
    service: int
    missing: Rule
    connections: int
    doubtful: int
    members: tuple[str, ...]
    peers: tuple[str, ...]
    all_members: int
    all_peers: int
    first: int
    last: int
    packets: int | None

    @property
    def named(self) -> str:
        """The service as people write it."""
        return text.service(self.proto, self.service)

    @property
    def rule(self) -> str:
        """The missing rule as it would stand in a TOML file."""
        return inline(self.missing, self.side)


@dataclass(frozen=True, kw_only=True)
class Use:
    """A rule and what made use of it.

    Attributes:
        place: Its key in a native file.
        rule: It in words.
        line: Its line, where it was read from a file.
        connections: Allowed connections that it was used for.
        first: When the first of them began; None: there was none.
        last: When the last of them began.
    """

    place: str
    rule: str
    line: int | None
    connections: int
    first: int | None
    last: int | None


@dataclass(frozen=True, kw_only=True)
class Packets:
    """Packets of the capture at a gateway with this policy.

    Attributes:
        accepted: They open an entry, or belong to one.
        refused: They would open one, and no rule allows it.
        invalid: They may open none, or contradict theirs; dropped.
        untracked: No IP and neighbour discovery, which pass.
        picked_up: Those of `refused` whose connection is allowed: the first packet seen was the responder's, because
            the beginning was not captured, or because another connection made it expected. A gateway that begins to
            look in the middle, or without the protocol's helper, refuses it, and picks the connection up at the next
            packet of the originator.
    """

    accepted: int
    refused: int
    invalid: int
    untracked: int
    picked_up: int


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckResult:
    """Result of a check.

    Attributes:
        connections: How many connections there are.
        allowed: Those that pass, among them ICMP errors about known connections, and what a service with a helper
            announced.
        refused: Those that do not.
        doubtful: Those of `refused` that no rule should be made of, see `Refusal.doubtful`.
        unrestricted: Connections with no end in a group.
        refusals: The refused ones by missing rule, the most connections first; what both ends refuse is in two of them.
        rules: Every rule and its use.
        packets: What becomes of packets; None where only connections were looked at.
        fates: What becomes of every packet (u1, `Fate`), in capture order, if that was asked for.
        verdicts: The verdict on every connection, as `Policy.evaluate` gives it.
        table: The connections.
        first: When the first connection began, nanoseconds since 1970 UTC; None: there is none.
        last: When the last packet of one was seen.
        stats: The account of the captures; None where only connections were looked at.
    """

    connections: int
    allowed: int
    refused: int
    doubtful: int
    unrestricted: int
    refusals: tuple[Refusal, ...]
    rules: tuple[Use, ...]
    packets: Packets | None
    fates: NDArray[np.uint8] | None
    verdicts: NDArray[np.void]
    table: ConnectionTable
    first: int | None
    last: int | None
    stats: Stats | None = None

    @property
    def ok(self) -> bool:
        """Nothing was refused."""
        return self.refused == 0

    @property
    def unused(self) -> tuple[Use, ...]:
        """The rules that nothing made use of."""
        return tuple(use for use in self.rules if not use.connections)


def check(
    ruleset: Ruleset,
    table: ConnectionTable,
    *,
    packets: tuple[list[int], Mapping[int, int]] | None = None,
    fates: NDArray[np.uint8] | None = None,
    confidence: float = CONFIDENCE,
) -> CheckResult:
    """Judge the connections of a table; see `Policy.check`.

    Args:
        ruleset: The policy.
        table: The connections.
        packets: Packets by fate, and refused packets by row, of a replay of the same capture.
        fates: The fate of every packet.
        confidence: What is less sure is doubtful.
    """
    verdicts, hits = evaluate(ruleset, table)
    traffic = Traffic(table, confidence)
    verdict = verdicts["verdict"]
    passes = np.isin(verdict, (Verdict.ALLOWED, Verdict.RELATED))
    refused = np.isin(verdict, (Verdict.REFUSED_EGRESS, Verdict.REFUSED_INGRESS, Verdict.REFUSED_BOTH))
    outside = (verdict == Verdict.ALLOWED) & (verdicts["orig_group"] == -1) & (verdicts["resp_group"] == -1)
    by_row = {} if packets is None else packets[1]
    counted = None
    if packets is not None:
        rows = np.fromiter(by_row, np.int64, len(by_row))
        kept = np.fromiter(by_row.values(), np.int64, len(by_row))
        picked_up = int(kept[~refused[rows]].sum())
        accepted, dropped, invalid, untracked = packets[0]
        counted = Packets(accepted=accepted, refused=dropped, invalid=invalid, untracked=untracked, picked_up=picked_up)
    return CheckResult(
        connections=len(table),
        allowed=int(passes.sum()),
        refused=int(refused.sum()),
        doubtful=int((refused & ~traffic.in_earnest).sum()),
        unrestricted=int(outside.sum()),
        refusals=tuple(_refusals(ruleset, traffic, verdicts, None if packets is None else by_row)),
        rules=tuple(_uses(ruleset, verdicts, hits, traffic)),
        packets=counted,
        fates=fates,
        verdicts=verdicts,
        table=table,
        first=int(traffic.start.min()) if len(table) else None,
        last=int(table["end"].view(np.int64).max()) if len(table) else None,
    )


def _refusals(
    ruleset: Ruleset, traffic: Traffic, verdicts: NDArray[np.void], packets: Mapping[int, int] | None
) -> list[Refusal]:
    names = list(ruleset.groups)
    membership = Membership(ruleset)
    sure = traffic.in_earnest
    found = []
    for side, words in _REFUSED.items():
        rows = np.flatnonzero(np.isin(verdicts["verdict"], words))
        groups = verdicts["resp_group" if side == "ingress" else "orig_group"].astype(np.int64)[rows]
        keys = groups << 24 | traffic.services[rows]
        order = np.argsort(keys, kind="stable")
        rows, keys = rows[order], keys[order]
        for some in np.split(rows, np.flatnonzero(np.diff(keys)) + 1) if len(rows) else []:
            group = names[verdicts["resp_group" if side == "ingress" else "orig_group"][some[0]]]
            refused = None if packets is None else sum(packets.get(row, 0) for row in some.tolist())
            found.append(_refusal(group, side, traffic, some, membership, (int((~sure[some]).sum()), refused)))
    return sorted(found, key=lambda one: (-(one.connections - one.doubtful), -one.connections, one.group, one.side))


def _refusal(
    group: str,
    side: Side,
    traffic: Traffic,
    rows: Ints,
    membership: Membership,
    counted: tuple[int, int | None],
) -> Refusal:
    """The refusal of these connections, of which so many are doubtful, with so many refused packets."""
    ends = (traffic.resp, traffic.orig) if side == "ingress" else (traffic.orig, traffic.resp)
    own, peers = (distinct(numbers[rows]).tolist() for numbers in ends)
    proto, service = traffic.service_of(int(traffic.services[rows[0]]))
    starts = traffic.start[rows]
    doubtful, packets = counted
    return Refusal(
        group=group,
        side=side,
        proto=proto,
        service=service,
        missing=Rule(
            peers=_missing(traffic, peers, membership),
            proto=proto,
            ports=((service, service),) if proto in (*WITH_PORTS, *WITH_TYPES) else (),
        ),
        connections=len(rows),
        doubtful=doubtful,
        members=tuple(traffic.addresses[number] for number in own[:_NAMED]),
        peers=tuple(_peer(traffic.addresses[number], membership) for number in peers[:_NAMED]),
        all_members=len(own),
        all_peers=len(peers),
        first=int(starts.min()),
        last=int(starts.max()),
        packets=packets,
    )


def _missing(traffic: Traffic, peers: list[int], membership: Membership) -> tuple[str, ...]:
    """The peers of a missing rule: groups, or else addresses; any where there are too many."""
    named: dict[str, None] = {}
    for number in peers:
        address = traffic.addresses[number]
        named |= dict.fromkeys(membership.of(address) or (address,))
        if len(named) > _NAMED:
            return (ANY,)
    return tuple(named)


def _peer(address: str, membership: Membership) -> str:
    names = membership.of(address)
    return f"{address} ({', '.join(names)})" if names else address


def _uses(ruleset: Ruleset, verdicts: NDArray[np.void], hits: list[int], traffic: Traffic) -> list[Use]:
    numbered = ruleset.numbered()
    allowed = verdicts["verdict"] == Verdict.ALLOWED
    first = np.full(len(numbered), np.iinfo(np.int64).max)
    last = np.full(len(numbered), np.iinfo(np.int64).min)
    for side in SIDES:
        rules = verdicts[f"{side}_rule"]
        used = allowed & (rules >= 0)
        np.minimum.at(first, rules[used], traffic.start[used])
        np.maximum.at(last, rules[used], traffic.start[used])

    def use(number: int) -> Use:
        seen = bool(first[number] <= last[number])
        return Use(
            place=numbered[number].place,
            rule=str(numbered[number]),
            line=numbered[number].rule.line,
            connections=hits[number],
            first=int(first[number]) if seen else None,
            last=int(last[number]) if seen else None,
        )

    return [use(number) for number in range(len(numbered))]


def as_json(result: CheckResult) -> dict[str, object]:
    """The result as what `json` takes; times as RFC 3339 has them."""

    def at(ns: int | None) -> str | None:
        return None if ns is None else moment(ns)

    packets = result.packets
    return {
        "ok": result.ok,
        "first": at(result.first),
        "last": at(result.last),
        "connections": {
            "all": result.connections,
            "allowed": result.allowed,
            "refused": result.refused,
            "doubtful": result.doubtful,
            "unrestricted": result.unrestricted,
        },
        "packets": None if packets is None else dataclasses.asdict(packets),
        "skipped_files": skipped_as_json(result.stats),
        "refusals": [
            {
                "group": one.group,
                "side": one.side,
                "service": one.named,
                "missing_rule": one.rule,
                "connections": one.connections,
                "doubtful": one.doubtful,
                "packets": one.packets,
                "members": list(one.members),
                "peers": list(one.peers),
                "all_members": one.all_members,
                "all_peers": one.all_peers,
                "first": at(one.first),
                "last": at(one.last),
            }
            for one in result.refusals
        ],
        "rules": [
            {
                "place": use.place,
                "rule": use.rule,
                "line": use.line,
                "connections": use.connections,
                "first": at(use.first),
                "last": at(use.last),
            }
            for use in result.rules
        ],
    }


def results(ruleset: Ruleset, result: CheckResult) -> list[sarif.Result]:
    """The refusals, and the rules that were never used, as SARIF has them; at the group's or the rule's line."""
    from conntrack_py.policy import sarif

    found = []
    for one in result.refusals:
        sure = one.connections - one.doubtful
        peers = ", ".join(one.peers) + (f" and {one.all_peers - _NAMED:,} more" if one.all_peers > _NAMED else "")
        way = "from" if one.side == "ingress" else "to"
        found.append(
            sarif.Result(
                rule_id=f"refused-{one.side}",
                name=f"refused-{one.side}",
                level="error" if sure else "warning",
                message=f"{one.group} refuses {one.connections:,} connections ({one.doubtful:,} in doubt): {one.side} "
                f"of {one.named} {way} {peers}. The missing rule: {one.rule}",
                help="Connections of the capture that no rule of the group allows.",
                line=ruleset.groups[one.group].line,
                key=f"{one.group} {one.side} {one.named}",
                default_level="error",
            )
        )
    unused = (
        sarif.Result(
            rule_id="never-used",
            name="never-used",
            level="note",
            message=f"{use.rule}: no connection of the capture made use of it.",
            help="Rules that nothing needed in this window of time.",
            line=use.line,
            key=use.rule,
        )
        for use in result.unused
    )
    return [*found, *unused]
