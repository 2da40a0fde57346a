"""Report of a suggestion: its basis, and the decisions left to a person; as comments and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from conntrack_py import text
from conntrack_py.policy.document import inline, rule_dict
from conntrack_py.policy.suggestion import helpers
from conntrack_py.policy.suggestion.decisions import Decision
from conntrack_py.policy.suggestion.growth import Growth
from conntrack_py.policy.suggestion.helpers import Helper
from conntrack_py.policy.traffic.pairs import LEFT_OUT
from conntrack_py.policy.traffic.roles import Host
from conntrack_py.schema import moment
from conntrack_py.stats import Stats, skipped_as_json


@dataclass(frozen=True, kw_only=True)
class Report:
    """Report of a suggestion: its basis, and the decisions left to a person.

    Attributes:
        connections: Connections in the capture.
        kept: Those that the policy was made of, all of which it allows.
        left_out: The others, by reason (`conntrack_py.policy.LEFT_OUT` says what they mean).
        decisions: What servers initiate, and administration, attacks and refusals, of which no rules are made.
        hosts: The local hosts and their roles.
        groups: Group → the hosts of it that were seen.
        folds: What was made wider than seen, by rule.
        unseen: Combinations of a member, a peer and a service that rules allow and nobody saw. Groups of hosts that do
            the same have none; groups that were given, and those of a budget, may.
        uncertain: Hosts that sent something of which nothing is certain. They are in a group without rules.
        helpers: Protocols whose messages announce connections, for which there are no rules.
        growth: New pairs by tenth of the capture's time; None where there are no rules.
        stats: The account of the captures; None where the policy was made of connections.
        names: Local host → its name in the inventory.
    """

    connections: int
    kept: int
    left_out: Mapping[str, int]
    decisions: tuple[Decision, ...]
    hosts: tuple[Host, ...]
    groups: Mapping[str, tuple[str, ...]]
    folds: Mapping[str, tuple[str, ...]]
    unseen: int = 0
    uncertain: tuple[str, ...] = ()
    helpers: tuple[Helper, ...] = ()
    growth: Growth | None = None
    stats: Stats | None = None
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)


#: Servers, and names that they ask for, in a comment.
_NAMED = 5
#: Lines above decisions of a kind in a policy file.
_TITLES = {
    "initiates": "These servers initiate. Nothing of this is allowed: move to egress what may be.",
    "announced": "Connections that others announced. A helper lets them pass; without one, this is egress.",
    "administration": "Administration from outside. Nothing of this is allowed: move to ingress what may be.",
    "brute_force": "Many short sessions from outside, as of attempts to guess passwords. Nothing of this is allowed.",
}
_CALLED = "Servers inside call this, see there. Nothing of this is allowed: move to ingress what may be."
#: The reasons of connections that wait for a decision.
SERVER_EGRESS, SERVER_INSIDE = "server_egress", "server_inside"
REASONS = {
    **LEFT_OUT,
    SERVER_EGRESS: "servers that initiate outwards: for a person to decide",
    SERVER_INSIDE: "servers that initiate inside, to what is not evidently served: for a person to decide",
}


def comments(report: Report) -> dict[str, list[str]]:
    """For a policy file: what waits for a decision, as rules that are commented out, by group."""
    found: dict[str, list[str]] = {}
    for name, hosts in report.groups.items():
        called_so = [f"{host} ({report.names[host]})" for host in hosts if host in report.names]
        more = f" and {len(called_so) - _NAMED:,} more" if len(called_so) > _NAMED else ""
        if called_so:
            found[name] = [f"Hosts: {', '.join(called_so[:_NAMED])}{more}."]
    for one in report.decisions:
        if one.kept or not one.group or one.kind in ("probe", "refused"):
            continue
        title = _TITLES[one.kind]
        lines = found.setdefault(one.group, [])
        lines += [title] if title not in lines else []
        more = f" and {len(one.names) - _NAMED:,} more names" if len(one.names) > _NAMED else ""
        called = f", asked for as {', '.join(one.names[:_NAMED])}{more}" if one.names else ""
        count = f"{one.connections:,} connection{'' if one.connections == 1 else 's'}"
        since = moment(one.rule.evidence.first) if one.rule.evidence else ""
        doubt = " The capture does not show who initiated." if one.unsure else ""
        lines.append(f"{', '.join(one.servers[:_NAMED])}: {count} since {since}{called}.{doubt}")
        lines.append(f"Denied, it loses: {one.breaks}.")
        bare = dataclasses.replace(one.rule, evidence=None)
        lines.append(f"    {inline(bare, one.side)},")
        for name in one.called:
            back = dataclasses.replace(bare, peers=(one.group,), names=())
            lines = found.setdefault(name, [])
            lines += [_CALLED] if _CALLED not in lines else []
            lines.append(f"    {inline(back, 'ingress')},")
    for name in (name for name, hosts in report.groups.items() if name and not set(hosts).isdisjoint(report.uncertain)):
        some = [host for host in report.groups[name] if host in report.uncertain]
        more = f" and {len(some) - _NAMED:,} more" if len(some) > _NAMED else ""
        lines = found.setdefault(name, [])
        lines.append(f"Nothing that {', '.join(some[:_NAMED])}{more} sent is certain: no rule is made of it.")
    return found


def as_json(report: Report) -> dict[str, object]:
    """The report as what `json` takes."""
    return {
        "connections": report.connections,
        "kept": report.kept,
        "skipped_files": skipped_as_json(report.stats),
        "left_out": {reason: {"connections": n, "why": REASONS[reason]} for reason, n in report.left_out.items()},
        "servers_initiate": [_decision(one) for one in report.decisions if one.kind == "initiates"],
        "suspicious": [_decision(one) for one in report.decisions if one.kind != "initiates"],
        "helpers": [helpers.as_json(one) for one in report.helpers],
        "uncertain": list(report.uncertain),
        "unseen": report.unseen,
        "growth": None
        if report.growth is None
        else {
            "new_pairs": list(report.growth.new_pairs),
            "last_tenth": {"connections": report.growth.last, "refused": report.growth.refused},
        },
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
        "names": dict(report.names),
        "groups": {name: list(addresses) for name, addresses in report.groups.items()},
        "folds": {place: list(words) for place, words in report.folds.items()},
    }


def _decision(one: Decision) -> dict[str, object]:
    return {
        "kind": one.kind,
        "side": one.side,
        "group": one.group,
        "servers": list(one.servers),
        "rule": rule_dict(one.rule, one.side),
        "allowed": one.kept,
        "unsure": one.unsure,
        "breaks": one.breaks,
        "names": list(one.names),
        "called": list(one.called),
    }


def _service(service: tuple[str, int]) -> str:
    return text.service(*service)
