"""The least rules that allow what a capture shows, and nothing in the other direction."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conntrack_py import _native
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import (
    WITH_PORTS,
    Group,
    Rule,
    Ruleset,
    Side,
    effective_members,
    merged,
)
from conntrack_py.policy.suggestion import fold, helpers
from conntrack_py.policy.suggestion.decisions import Decision, evidence, initiated, suspicious
from conntrack_py.policy.suggestion.growth import growth
from conntrack_py.policy.suggestion.report import REASONS, SERVER_EGRESS, SERVER_INSIDE, Report, as_json, comments
from conntrack_py.policy.traffic import roles, served
from conntrack_py.policy.traffic.keys import Bools, distinct
from conntrack_py.policy.traffic.names import Names
from conntrack_py.policy.traffic.pairs import CONFIDENCE, Pair, Traffic
from conntrack_py.policy.traffic.roles import Host
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
        server_egress: Allow what servers initiate, outwards and to unusual services inside, too.
        budget: How far rules may be folded.
        names: Names that connections asked for, by row.
    """
    budget = budget or Budget()
    traffic = Traffic(table, confidence)
    hosts = roles.local_hosts(traffic)
    offers = roles.of_services(hosts)
    waiting = np.zeros(len(table), bool)
    if not server_egress:
        waiting = traffic.kept & traffic.egress & _of(traffic, offers) | served.unusual(traffic, offers)
    allowed = traffic.pairs(traffic.kept & ~waiting)
    made = _groups(groups, hosts, None if groups or budget != Budget() else allowed)
    membership = Membership(Ruleset(groups=made))
    if waiting.any() and (groups or budget != Budget()):
        # What another member of a server's group does alike would be allowed to the server.
        waiting = _alike(traffic, waiting, membership)
        allowed = traffic.pairs(traffic.kept & ~waiting)
    seen: dict[str, list[str]] = {name: [] for name in made}
    for address in hosts:
        for name in membership.of(address):
            seen[name].append(address)
    announced = helpers.helpers(traffic, membership)
    drafts = _drafts(allowed, membership, _whole(groups, seen), helpers.of_rules(announced))
    if budget.max_rules is not None:
        drafts = fold.fold_rules(drafts, budget.max_rules)
    rules, folds = _rules(drafts, budget, hosts, seen, helpers.notes(announced))
    named = Names(traffic, names or {})
    rules = named.add_to(rules)
    ruled = {
        name: dataclasses.replace(
            group, ingress=rules.get((name, "ingress"), ()), egress=rules.get((name, "egress"), ())
        )
        for name, group in made.items()
    }
    left_out = traffic.left_out()
    waits = {SERVER_EGRESS: waiting & traffic.egress, SERVER_INSIDE: waiting & ~traffic.egress}
    left_out |= {reason: int(which.sum()) for reason, which in waits.items() if which.any()}
    return Ruleset(groups=ruled), Report(
        connections=len(table),
        kept=int((traffic.kept & ~waiting).sum()),
        left_out=left_out,
        decisions=tuple(
            dataclasses.replace(one, rule=named.add(one.rule)) if one.side == "egress" else one
            for one in (
                *_initiated(traffic, hosts, waiting, membership, names or {}),
                *suspicious(traffic, membership),
            )
        ),
        hosts=tuple(hosts.values()),
        groups={name: tuple(addresses) for name, addresses in seen.items()},
        folds=folds,
        unseen=sum(fold.unseen(draft, seen) for draft in drafts),
        uncertain=tuple(host.address for host in hosts.values() if host.uncertain),
        helpers=tuple(announced),
        growth=growth(traffic, traffic.kept & ~waiting),
    )


def _of(traffic: Traffic, addresses: Collection[str]) -> Bools:
    """The connections whose originator is one of these."""
    return np.array([address in addresses for address in traffic.addresses], bool)[traffic.orig]


def _alike(traffic: Traffic, waiting: Bools, membership: Membership) -> Bools:
    """The connections that wait, and those of members of the same groups to the same services of the same hosts."""
    waits = {
        (name, pair.resp, pair.proto, pair.service)
        for pair in traffic.pairs(waiting)
        for name in membership.of(pair.orig)
    }
    rows = [
        rows
        for pair, rows in traffic.grouped(np.flatnonzero(traffic.kept))
        if any((name, pair.resp, pair.proto, pair.service) in waits for name in membership.of(pair.orig))
    ]
    found = waiting.copy()
    found[np.concatenate(rows)] = True
    return found


def _initiated(
    traffic: Traffic, hosts: Mapping[str, Host], waiting: Bools, membership: Membership, names: Mapping[int, str]
) -> list[Decision]:
    """Decisions about what servers initiate: outwards, in doubt, and inside."""
    offers = roles.of_services(hosts)
    doubtful = [pair for pair, _ in traffic.perhaps_outwards(offers)]
    groups_asked = {traffic.addresses[number] for number in distinct(traffic.resp[traffic.resp_group]).tolist()}
    inside = traffic.pairs(traffic.kept & ~waiting & _of(traffic, offers))
    inside = [pair for pair in inside if pair.resp not in groups_asked]
    return initiated((traffic.pairs(waiting), doubtful, inside), membership, _asked(traffic, names))


def _groups(
    given: Mapping[str, Group] | None, hosts: Mapping[str, Host], pairs: Sequence[Pair] | None
) -> dict[str, Group]:
    """The groups that were given, and proposed ones for the hosts in none of them; none of them has rules.

    Args:
        given: Groups that stand.
        hosts: The hosts.
        pairs: What rules are made of, for groups of which no rule is wider; None: groups by role.
    """
    given = given or {}
    bare = {name: Group(members=group.members, line=group.line) for name, group in given.items()}
    membership = Membership(Ruleset(groups=bare))
    rest = [host for address, host in hosts.items() if not membership.of(address)]
    if pairs is None:
        return {**bare, **roles.propose(rest, bare.__contains__)}
    return {**bare, **roles.alike(rest, pairs, bare.__contains__)}


def _whole(given: Mapping[str, Group] | None, seen: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The groups of which every address was seen: their names are no wider than the addresses.

    Groups that were proposed are made of what was seen.
    """
    sizes = {
        name: sum(network.num_addresses for network in networks)
        for name, networks in effective_members(Ruleset(groups=given or {})).items()
    }
    return {name: members for name, members in seen.items() if len(members) == sizes.get(name, len(members))}


def _drafts(
    pairs: Sequence[Pair],
    membership: Membership,
    seen: Mapping[str, Sequence[str]],
    helped: Mapping[tuple[str, Side, str, int], str],
) -> list[fold.Draft]:
    """The fewest rules that allow these connections and, but for what members of a group share, no others.

    Services with a helper are apart: it reads what it is given.
    """
    wanted: dict[tuple[str, Side, str, str], dict[tuple[str, int], list[Pair]]] = {}
    for pair in pairs:
        for side, own, peer in (("ingress", pair.resp, pair.orig), ("egress", pair.orig, pair.resp)):
            for name in membership.of(own):
                helper = helped.get((name, side, pair.proto, pair.service), "")  # type: ignore[arg-type]
                slot = wanted.setdefault((name, side, pair.proto, helper), {})  # type: ignore[arg-type]
                slot.setdefault((peer, pair.service), []).append(pair)
    drafts: list[fold.Draft] = []
    groups = _Named(seen)
    for (name, side, proto, helper), slot in wanted.items():
        drafts += fold.cover(name, side, proto, groups.named(slot), helper)
    return drafts


class _Named:
    """Names of groups in place of their hosts.

    Attributes:
        seen: Group → its hosts that were seen.
    """

    def __init__(self, seen: Mapping[str, Sequence[str]]) -> None:
        self.seen = seen
        self._of: dict[str, list[str]] = {}
        for name, members in seen.items():
            for member in members:
                self._of.setdefault(member, []).append(name)
        self._order = {name: place for place, name in enumerate(seen)}

    def named(self, slot: dict[tuple[str, int], list[Pair]]) -> dict[tuple[str, int], list[Pair]]:
        """A group's name in place of its hosts, for services for which all of them were peers."""
        by_service: dict[int, set[str]] = {}
        for peer, service in slot:
            by_service.setdefault(service, set()).add(peer)
        named: dict[tuple[str, int], list[Pair]] = {}
        for service, peers in by_service.items():
            for name in self._whole(peers):
                members = self.seen[name]
                # A group before this one may have taken a host that is in both.
                if peers.issuperset(members):
                    named[name, service] = [pair for member in members for pair in slot[member, service]]
                    peers.difference_update(members)
            named.update({(peer, service): slot[peer, service] for peer in peers})
        return named

    def _whole(self, peers: Collection[str]) -> list[str]:
        """The groups all of whose hosts are among these, in the order of the policy."""
        counts = Counter(name for peer in peers for name in self._of.get(peer, ()))
        found = [name for name, count in counts.items() if count == len(self.seen[name])]
        return sorted(found, key=self._order.__getitem__)


def _rules(
    drafts: list[fold.Draft],
    budget: Budget,
    hosts: Mapping[str, Host],
    groups: Mapping[str, Sequence[str]],
    notes: Mapping[tuple[str, Side, str, int], str],
) -> tuple[dict[tuple[str, Side], tuple[Rule, ...]], dict[str, tuple[str, ...]]]:
    """The rules by group and direction, in the order of how much they are used, and what was folded by rule."""
    made: dict[tuple[str, Side], list[tuple[Rule, fold.Draft]]] = {}
    for draft in drafts:
        if budget.fold_ports is not None and draft.proto in WITH_PORTS:
            fold.fold_ports(draft, budget.fold_ports)
        if budget.fold_peers is not None:
            fold.fold_peers(draft, budget.fold_peers, hosts, groups)
        made.setdefault((draft.group, draft.side), []).append((_rule(draft, groups, notes), draft))
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


def _rule(
    draft: fold.Draft, groups: Mapping[str, Sequence[str]], notes: Mapping[tuple[str, Side, str, int], str]
) -> Rule:
    named = sorted(peer for peer in draft.peers if peer in groups)
    addresses = [peer for peer in draft.peers if peer not in groups]
    networks = draft.networks or tuple(_native.aggregate(addresses))
    peers = networks if networks == ("any",) else (*named, *networks)
    services = draft.ranges or merged(tuple((service, service) for service in draft.services))
    has_services = draft.proto in (*WITH_PORTS, "icmp", "icmp6")
    announces = [notes.get((draft.group, draft.side, draft.proto, service), "") for service in sorted(draft.services)]
    ends = {pair.orig if draft.side == "ingress" else pair.resp for pair in draft.pairs}
    return Rule(
        peers=peers,
        proto=draft.proto,
        ports=services if has_services else (),
        note="; ".join(filter(None, (*announces, *draft.folds))),
        helper=draft.helper,
        evidence=evidence(draft.pairs, len(ends)),
    )


def _asked(traffic: Traffic, names: Mapping[int, str]) -> dict[tuple[str, str, str, int], set[str]]:
    asked: dict[tuple[str, str, str, int], set[str]] = {}
    for row, name in names.items():
        ends = traffic.addresses[traffic.orig[row]], traffic.addresses[traffic.resp[row]]
        asked.setdefault((*ends, traffic.protos[traffic.proto[row]], int(traffic.service[row])), set()).add(name)
    return asked


__all__ = ("REASONS", "Budget", "Decision", "Report", "as_json", "comments", "suggest")
