"""The least rules that allow what a capture shows, and nothing in the other direction."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conntrack_py import _native
from conntrack_py.policy import fold
from conntrack_py.policy.document import moment
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import (
    WITH_PORTS,
    Evidence,
    Group,
    Rule,
    Ruleset,
    Side,
    effective_members,
    merged,
)
from conntrack_py.policy.traffic import roles
from conntrack_py.policy.traffic.pairs import CONFIDENCE, LEFT_OUT, Pair, Traffic
from conntrack_py.policy.traffic.roles import Host
from conntrack_py.policy.traffic.services import breaks
from conntrack_py.table import ConnectionTable


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits to which rules are folded; None: no folding.

    Attributes:
        max_rules: At most so many rules, by merging those whose merger allows the fewest pairs that were not seen.
        fold_ports: At most so many ports or ranges in a rule, by closing the smallest gaps.
        fold_peers: At most so many addresses in a rule, by groups of which they are all that was seen, by networks of
            which half was seen, and at last by any.
    """

    max_rules: int | None = None
    fold_ports: int | None = None
    fold_peers: int | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Connections that servers of a group initiate, for a person to decide.

    Attributes:
        group: The group.
        servers: Which of its members did it.
        rule: The rule that would allow it.
        kept: It is allowed by the policy: it stays within the local networks. What leaves them is not.
        unsure: The capture does not show who initiated: perhaps the servers did. Never allowed.
        breaks: What would stop working if it were denied.
        names: Names by which it was asked for, as far as payloads show them.
    """

    group: str
    servers: tuple[str, ...]
    rule: Rule
    kept: bool
    unsure: bool
    breaks: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """Report of a suggestion: its basis, and the decisions left to a person.

    Attributes:
        connections: Connections in the capture.
        kept: Those that the policy was made of, all of which it allows.
        left_out: The others, by reason (`conntrack_py.policy.LEFT_OUT` says what they mean).
        decisions: What servers initiate.
        hosts: The local hosts and their roles.
        groups: Group → the hosts of it that were seen.
        folds: What was made wider than seen, by rule.
    """

    connections: int
    kept: int
    left_out: Mapping[str, int]
    decisions: tuple[Decision, ...]
    hosts: tuple[Host, ...]
    groups: Mapping[str, tuple[str, ...]]
    folds: Mapping[str, tuple[str, ...]]


#: Servers, and names that they ask for, in a comment.
_NAMED = 5
#: The reason of connections that wait for a decision.
SERVER_EGRESS = "server_egress"
REASONS = {**LEFT_OUT, SERVER_EGRESS: "servers that initiate outwards: for a person to decide"}


def suggest(
    table: ConnectionTable,
    *,
    groups: Mapping[str, Group] | None = None,
    confidence: float = CONFIDENCE,
    server_egress: bool = False,
    budget: Budget | None = None,
    names: Mapping[int, str] | None = None,
) -> tuple[Ruleset, Report]:
    """Suggest a policy; see `Policy.suggest`.

    Args:
        table: The connections.
        groups: Groups whose members stand; their rules are not looked at. Hosts in none of them are in groups by
            what they do; None: all are.
        confidence: The least confidence of a connection that rules are made of.
        server_egress: Allow what servers initiate outwards, too.
        budget: How far rules may be folded.
        names: Names that connections asked for, by row.
    """
    budget = budget or Budget()
    traffic = Traffic(table, confidence)
    pairs = traffic.pairs(traffic.kept)
    hosts = roles.local_hosts(traffic, pairs)
    made = _groups(groups, hosts)
    membership = Membership(Ruleset(groups=made))
    seen: dict[str, list[str]] = {name: [] for name in made}
    for address in hosts:
        for name in membership.of(address):
            seen[name].append(address)
    servers = {name for name, members in seen.items() if roles.is_server(hosts[address] for address in members)}

    outwards = np.zeros(len(table), bool)
    if servers:
        of_servers = [bool(servers.intersection(membership.of(address))) for address in traffic.addresses]
        outwards = traffic.kept & traffic.egress & np.array(of_servers, bool)[traffic.orig]
    waiting = np.zeros(len(table), bool) if server_egress else outwards
    undecided = traffic.pairs(waiting)
    allowed = traffic.pairs(traffic.kept & ~waiting) if undecided else pairs
    drafts = _drafts(allowed, membership, _whole(made, seen))
    if budget.max_rules is not None:
        drafts = fold.fold_rules(drafts, budget.max_rules)
    rules, folds = _rules(drafts, budget, hosts, seen)
    ruled = {
        name: dataclasses.replace(
            group, ingress=rules.get((name, "ingress"), ()), egress=rules.get((name, "egress"), ())
        )
        for name, group in made.items()
    }
    offers = {address: host.offers for address, host in hosts.items() if servers.intersection(membership.of(address))}
    doubtful = [pair for pair, _ in traffic.perhaps_outwards(offers)]
    groups_asked = {traffic.addresses[number] for number in np.unique(traffic.resp[traffic.resp_group]).tolist()}
    inside = [pair for pair in allowed if pair.resp not in groups_asked]
    decisions = _decisions((undecided, doubtful, inside), servers, membership, _asked(traffic, names or {}))
    left_out = traffic.left_out()
    if undecided:
        left_out[SERVER_EGRESS] = int(waiting.sum())
    return Ruleset(groups=ruled), Report(
        connections=len(table),
        kept=int((traffic.kept & ~waiting).sum()),
        left_out=left_out,
        decisions=tuple(decisions),
        hosts=tuple(hosts.values()),
        groups={name: tuple(addresses) for name, addresses in seen.items()},
        folds=folds,
    )


def _groups(given: Mapping[str, Group] | None, hosts: Mapping[str, Host]) -> dict[str, Group]:
    """The groups that were given, and proposed ones for the hosts in none of them; none of them has rules."""
    given = given or {}
    bare = {name: Group(members=group.members, line=group.line) for name, group in given.items()}
    membership = Membership(Ruleset(groups=bare))
    rest = [host for address, host in hosts.items() if not membership.of(address)]
    return {**bare, **roles.propose(rest, bare.__contains__)}


def _whole(groups: Mapping[str, Group], seen: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The groups of which every address was seen: their names are no wider than the addresses."""
    sizes = {
        name: sum(network.num_addresses for network in networks)
        for name, networks in effective_members(Ruleset(groups=groups)).items()
    }
    return {name: members for name, members in seen.items() if len(members) == sizes[name]}


def _drafts(pairs: Sequence[Pair], membership: Membership, seen: Mapping[str, Sequence[str]]) -> list[fold.Draft]:
    """The fewest rules that allow these connections and, but for what members of a group share, no others."""
    wanted: dict[tuple[str, Side, str], dict[tuple[str, int], list[Pair]]] = {}
    for pair in pairs:
        for side, own, peer in (("ingress", pair.resp, pair.orig), ("egress", pair.orig, pair.resp)):
            for name in membership.of(own):
                slot = wanted.setdefault((name, side, pair.proto), {})  # type: ignore[arg-type]
                slot.setdefault((peer, pair.service), []).append(pair)
    drafts: list[fold.Draft] = []
    for (name, side, proto), slot in wanted.items():
        drafts += fold.cover(name, side, proto, _named(slot, seen))
    return drafts


def _named(
    slot: dict[tuple[str, int], list[Pair]], seen: Mapping[str, Sequence[str]]
) -> dict[tuple[str, int], list[Pair]]:
    """A group's name in place of its hosts, for services for which all of `seen` were peers."""
    by_service: dict[int, set[str]] = {}
    for peer, service in slot:
        by_service.setdefault(service, set()).add(peer)
    named: dict[tuple[str, int], list[Pair]] = {}
    for service, peers in by_service.items():
        for name, members in seen.items():
            if 0 < len(members) <= len(peers) and peers.issuperset(members):
                named[name, service] = [pair for member in members for pair in slot[member, service]]
                peers.difference_update(members)
        named.update({(peer, service): slot[peer, service] for peer in peers})
    return named


def _rules(
    drafts: list[fold.Draft], budget: Budget, hosts: Mapping[str, Host], groups: Mapping[str, Sequence[str]]
) -> tuple[dict[tuple[str, Side], tuple[Rule, ...]], dict[str, tuple[str, ...]]]:
    """The rules by group and direction, in the order of how much they are used, and what was folded by rule."""
    made: dict[tuple[str, Side], list[tuple[Rule, fold.Draft]]] = {}
    for draft in drafts:
        if budget.fold_ports is not None and draft.proto in WITH_PORTS:
            fold.fold_ports(draft, budget.fold_ports)
        if budget.fold_peers is not None:
            fold.fold_peers(draft, budget.fold_peers, hosts, groups)
        made.setdefault((draft.group, draft.side), []).append((_rule(draft, groups), draft))
    rules: dict[tuple[str, Side], tuple[Rule, ...]] = {}
    folds: dict[str, tuple[str, ...]] = {}
    for (name, side), listed in made.items():
        listed.sort(key=lambda item: (-_connections(item[0]), item[0].proto, item[0].ports, item[0].peers))
        rules[name, side] = tuple(rule for rule, _ in listed)
        for index, (_, draft) in enumerate(listed):
            if draft.folds:
                folds[f"groups.{name}.{side}[{index}]"] = tuple(draft.folds)
    return rules, folds


def _connections(rule: Rule) -> int:
    return rule.evidence.connections if rule.evidence else 0


def _rule(draft: fold.Draft, groups: Mapping[str, Sequence[str]]) -> Rule:
    named = sorted(peer for peer in draft.peers if peer in groups)
    addresses = [peer for peer in draft.peers if peer not in groups]
    networks = draft.networks or tuple(_native.aggregate(addresses))
    peers = networks if networks == ("any",) else (*named, *networks)
    services = draft.ranges or merged(tuple((service, service) for service in draft.services))
    has_services = draft.proto in (*WITH_PORTS, "icmp", "icmp6")
    ends = {pair.orig if draft.side == "ingress" else pair.resp for pair in draft.pairs}
    return Rule(
        peers=peers,
        proto=draft.proto,
        ports=services if has_services else (),
        note="; ".join(draft.folds),
        evidence=evidence(draft.pairs, len(ends)),
    )


def evidence(pairs: Sequence[Pair], peers: int) -> Evidence:
    """Evidence of some connections taken together."""
    return Evidence(
        connections=sum(pair.connections for pair in pairs),
        peers=peers,
        first=min(pair.first for pair in pairs),
        last=max(pair.last for pair in pairs),
    )


def _decisions(
    pairs_by_kind: tuple[Sequence[Pair], Sequence[Pair], Sequence[Pair]],
    servers: set[str],
    membership: Membership,
    asked: Mapping[tuple[str, str, str, int], set[str]],
) -> list[Decision]:
    """Decisions about connections that servers initiate: the undecided, the doubtful, the allowed."""
    found: dict[tuple[str, str, int, tuple[bool, bool]], list[Pair]] = {}
    for kind, pairs in zip(((False, False), (False, True), (True, False)), pairs_by_kind, strict=True):
        for pair in pairs:
            for name in servers.intersection(membership.of(pair.orig)):
                found.setdefault((name, pair.proto, pair.service, kind), []).append(pair)
    decisions = []
    for (name, proto, service, (kept, unsure)), pairs in found.items():
        peers = tuple(_native.aggregate(sorted({pair.resp for pair in pairs})))
        has_services = proto in (*WITH_PORTS, "icmp", "icmp6")
        rule = Rule(
            peers=peers,
            proto=proto,
            ports=((service, service),) if has_services else (),
            evidence=evidence(pairs, len({pair.resp for pair in pairs})),
        )
        called = {one for pair in pairs for one in asked.get((pair.orig, pair.resp, proto, service), ())}
        decisions.append(
            Decision(
                group=name,
                servers=tuple(sorted({pair.orig for pair in pairs})),
                rule=rule,
                kept=kept,
                unsure=unsure,
                breaks=breaks(proto, service),
                names=tuple(sorted(called)),
            )
        )
    return sorted(decisions, key=lambda one: (one.kept, one.unsure, one.group, -_connections(one.rule), one.rule.ports))


def _asked(traffic: Traffic, names: Mapping[int, str]) -> dict[tuple[str, str, str, int], set[str]]:
    asked: dict[tuple[str, str, str, int], set[str]] = {}
    for row, name in names.items():
        ends = traffic.addresses[traffic.orig[row]], traffic.addresses[traffic.resp[row]]
        asked.setdefault((*ends, traffic.protos[traffic.proto[row]], int(traffic.service[row])), set()).add(name)
    return asked


def comments(report: Report) -> dict[str, list[str]]:
    """For a policy file: what waits for a decision, as rules that are commented out, by group."""
    from conntrack_py.policy.document import inline

    found: dict[str, list[str]] = {}
    for one in report.decisions:
        if one.kept:
            continue
        lines = found.setdefault(
            one.group, ["These servers initiate. Nothing of this is allowed: move to egress what may be."]
        )
        more = f" and {len(one.names) - _NAMED:,} more names" if len(one.names) > _NAMED else ""
        called = f", asked for as {', '.join(one.names[:_NAMED])}{more}" if one.names else ""
        count = f"{_connections(one.rule):,} connection{'' if _connections(one.rule) == 1 else 's'}"
        since = moment(one.rule.evidence.first) if one.rule.evidence else ""
        doubt = " The capture does not show who initiated." if one.unsure else ""
        lines.append(f"{', '.join(one.servers[:_NAMED])}: {count} since {since}{called}.{doubt}")
        lines.append(f"Denied, it loses: {one.breaks}.")
        bare = dataclasses.replace(one.rule, evidence=None)
        lines.append(f"    {inline(bare, 'egress')},")
    return found


def as_json(report: Report) -> dict[str, object]:
    """The report as what `json` takes."""
    from conntrack_py.policy.document import rule_dict

    return {
        "connections": report.connections,
        "kept": report.kept,
        "left_out": {reason: {"connections": n, "why": REASONS[reason]} for reason, n in report.left_out.items()},
        "servers_initiate": [
            {
                "group": one.group,
                "servers": list(one.servers),
                "rule": rule_dict(one.rule, "egress"),
                "allowed": one.kept,
                "unsure": one.unsure,
                "breaks": one.breaks,
                "names": list(one.names),
            }
            for one in report.decisions
        ],
        "hosts": [
            {
                "address": host.address,
                "role": host.role,
                "server": host.is_server,
                "initiated": host.initiated,
                "answered": host.answered,
                "offers": sorted(_service(service) for service in host.offers),
                "uses": sorted(_service(service) for service in host.uses),
            }
            for host in report.hosts
        ],
        "groups": {name: list(addresses) for name, addresses in report.groups.items()},
        "folds": {place: list(words) for place, words in report.folds.items()},
    }


def _service(service: tuple[str, int]) -> str:
    from conntrack_py import text

    return text.service(*service)


__all__ = ("REASONS", "Budget", "Decision", "Report", "as_json", "comments", "suggest")
