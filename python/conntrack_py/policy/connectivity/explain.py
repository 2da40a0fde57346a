"""Explanations of connections: the rule that allows each, or the missing one, at both ends, and who initiated."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from conntrack_py import text
from conntrack_py.enums import Verdict
from conntrack_py.policy.compiled import evaluate
from conntrack_py.policy.document import inline
from conntrack_py.policy.inventory import Entry, Inventory
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import ANY, WITH_PORTS, WITH_TYPES, Numbered, Rule, Ruleset, Side, describe
from conntrack_py.policy.traffic.keys import Ints
from conntrack_py.policy.traffic.pairs import CONFIDENCE, Pair, Traffic
from conntrack_py.schema import moment
from conntrack_py.table import ConnectionTable

_WORDS = {
    Verdict.ALLOWED: "allowed",
    Verdict.REFUSED_EGRESS: "refused by egress",
    Verdict.REFUSED_INGRESS: "refused by ingress",
    Verdict.REFUSED_BOTH: "refused by both",
    Verdict.RELATED: "related",
    Verdict.INVALID: "invalid",
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answer of a group about a connection.

    Attributes:
        group: The group of the originator, or of the responder.
        side: `egress` of the originator, or `ingress` of the responder.
        allows: Whether the group allows it.
        place: The key of the rule that allows it in a native file; "" where none does, or none is needed.
        rule: That rule in words; where nothing is limited, that; where it is refused, the missing rule as it would
            stand in a TOML file.
        line: The line of the rule, or of the group where the rule is missing, in the file; None: not known.
    """

    group: str
    side: Side
    allows: bool
    place: str
    rule: str
    line: int | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Explanation of the connections of an originator to a service of a responder.

    Attributes:
        originator: The address that initiated.
        responder: The other one.
        proto: The protocol.
        service: The responder's port, or the ICMP type that asks.
        connections: How many.
        first: When the first of them began, nanoseconds since 1970 UTC.
        last: When the last of them began.
        verdict: `allowed`, `refused by egress`, `refused by ingress`, `refused by both`, `related` or `invalid`.
        egress: The answers of the originator's groups; none where it is in no group, and unrestricted.
        ingress: Those of the responder's groups.
        needs: `all` or `any`: how many of several groups of an end have to allow.
        evidence: Evidence of who initiated → connections with it, the most first.
        confidence: The least confidence of them in the originator.
        unsure: How many of them have less confidence than was asked for.
        originator_name: The name of the originator in the inventory, or "".
        responder_name: The same of the responder.
    """

    originator: str
    responder: str
    proto: str
    service: int
    connections: int
    first: int
    last: int
    verdict: str
    egress: tuple[Answer, ...]
    ingress: tuple[Answer, ...]
    needs: str
    evidence: dict[str, int]
    confidence: float
    unsure: int
    originator_name: str = ""
    responder_name: str = ""

    @property
    def named(self) -> str:
        """The service as people write it."""
        return text.service(self.proto, self.service)


def explain(
    ruleset: Ruleset,
    table: ConnectionTable,
    *,
    host: str | None = None,
    peer: str | None = None,
    port: int | None = None,
    confidence: float = CONFIDENCE,
) -> list[Explanation]:
    """Explain connections of a table; see `Policy.explain`."""
    traffic = Traffic(table, confidence)
    verdicts, _ = evaluate(ruleset, table)
    rows = np.flatnonzero(_wanted(traffic, host, peer, port))
    judge = _Judge(ruleset)
    words, known = table.codes("evidence")
    sure = table["confidence"]
    found = []
    for pair, together in traffic.grouped(rows):
        # ICMP errors about different connections are one pair, and pass or not with each of them.
        for verdict in np.unique(verdicts["verdict"][together]).tolist():
            some = together[verdicts["verdict"][together] == verdict]
            counts = np.bincount(words[some], minlength=len(known)).tolist()
            evidence = {word: count for word, count in zip(known, counts, strict=True) if count}
            judged = verdict <= Verdict.REFUSED_BOTH
            found.append(
                Explanation(
                    originator=pair.orig,
                    responder=pair.resp,
                    proto=pair.proto,
                    service=pair.service,
                    connections=len(some),
                    first=int(traffic.start[some].min()),
                    last=int(traffic.start[some].max()),
                    verdict=_WORDS[Verdict(verdict)],
                    egress=tuple(judge.answers(pair, "egress")) if judged else (),
                    ingress=tuple(judge.answers(pair, "ingress")) if judged else (),
                    needs=ruleset.combine,
                    evidence=dict(sorted(evidence.items(), key=lambda item: (-item[1], item[0]))),
                    confidence=round(float(sure[some].min()), 3),
                    unsure=int((sure[some] < np.float32(confidence)).sum()),
                )
            )
    return sorted(found, key=lambda one: (one.verdict == "allowed", -one.connections))


def _wanted(traffic: Traffic, host: str | None, peer: str | None, port: int | None) -> Ints:
    """The connections between two hosts, whoever of them initiated, and of a service."""
    found = np.ones(len(traffic.table), bool)
    ends = []
    for name, address in (("host", host), ("peer", peer)):
        if address is None:
            continue
        try:
            wanted = str(ipaddress.ip_address(address))
        except ValueError:
            raise ValueError(f"{name}: found {address[:60]!r}, expected an address such as 10.0.1.7") from None
        is_it = np.array([one == wanted for one in traffic.addresses], bool)
        ends.append((is_it[traffic.orig], is_it[traffic.resp]) if len(is_it) else (found, found))
    if len(ends) == 1:
        found &= ends[0][0] | ends[0][1]
    elif ends:
        found &= (ends[0][0] & ends[1][1]) | (ends[0][1] & ends[1][0])
    if port is not None:
        found &= np.equal(traffic.service, port) & traffic.is_proto((*WITH_PORTS, *WITH_TYPES))
    return found


class _Judge:
    """The answers of groups, as the model defines them."""

    def __init__(self, ruleset: Ruleset) -> None:
        self.ruleset = ruleset
        self.membership = Membership(ruleset)
        self.rules: dict[tuple[str, Side], list[tuple[Numbered, list[ipaddress.IPv4Network | ipaddress.IPv6Network]]]]
        self.rules = {}
        for numbered in ruleset.numbered():
            networks = ruleset.networks(numbered.rule.peers)
            self.rules.setdefault((numbered.group, numbered.side), []).append((numbered, networks))

    def answers(self, pair: Pair, side: Side) -> Iterator[Answer]:
        """The answers of the groups of one end."""
        own, peer = (pair.orig, pair.resp) if side == "egress" else (pair.resp, pair.orig)
        peers = self.membership.of(peer)
        groups = self.membership.of(own)
        opened = [name for name in groups if self.ruleset.is_open(name, side)]
        for name in groups:
            used = next(self._allowing(name, side, peer, peers, pair), None)
            if used is not None:
                rule = describe(used.rule, side)
                yield Answer(group=name, side=side, allows=True, place=used.place, rule=rule, line=used.rule.line)
                continue
            line = self.ruleset.groups[name].line
            allows = name in opened and (self.ruleset.combine == "all" or len(opened) == len(groups))
            if name in opened:
                rule = f"{side} is not limited" if allows else f"{side} is limited by another group"
            else:
                rule = inline(_missing(pair, peer, peers), side)
            yield Answer(group=name, side=side, allows=allows, place="", rule=rule, line=line)

    def _allowing(self, name: str, side: Side, peer: str, peers: tuple[str, ...], pair: Pair) -> Iterator[Numbered]:
        address = ipaddress.ip_address(peer)
        for numbered, networks in self.rules.get((name, side), ()):
            if _serves(numbered.rule, pair) and (
                ANY in numbered.rule.peers
                or any(one in numbered.rule.peers for one in peers)
                or any(address in network for network in networks)
            ):
                yield numbered


def _serves(rule: Rule, pair: Pair) -> bool:
    if rule.proto not in (ANY, pair.proto):
        return False
    return not rule.ports or any(first <= pair.service <= last for first, last in rule.ports)


def _missing(pair: Pair, peer: str, peers: Iterable[str]) -> Rule:
    has_services = pair.proto in (*WITH_PORTS, *WITH_TYPES)
    ports = ((pair.service, pair.service),) if has_services else ()
    return Rule(peers=tuple(peers) or (peer,), proto=pair.proto, ports=ports)


def named(found: Iterable[Explanation], inventory: Inventory) -> list[Explanation]:
    """The explanations with the names of both ends."""
    none = Entry()
    return [
        dataclasses.replace(
            one,
            originator_name=inventory.hosts.get(one.originator, none).name,
            responder_name=inventory.hosts.get(one.responder, none).name,
        )
        for one in found
    ]


def as_json(found: Iterable[Explanation]) -> list[dict[str, object]]:
    """The explanations as what `json` takes; times as RFC 3339 has them."""
    return [
        {
            "originator": one.originator,
            "responder": one.responder,
            "originator_name": one.originator_name,
            "responder_name": one.responder_name,
            "service": one.named,
            "connections": one.connections,
            "first": moment(one.first),
            "last": moment(one.last),
            "verdict": one.verdict,
            "needs": one.needs,
            **{
                side: [
                    {
                        "group": answer.group,
                        "allows": answer.allows,
                        "place": answer.place,
                        "rule": answer.rule,
                        "line": answer.line,
                    }
                    for answer in answers
                ]
                for side, answers in (("egress", one.egress), ("ingress", one.ingress))
            },
            "evidence": one.evidence,
            "confidence": one.confidence,
            "unsure": one.unsure,
        }
        for one in found
    ]
