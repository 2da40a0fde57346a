"""Policies made of a cloud's rules: a group for each security group, or network tag, with what is allowed.

A policy has no order and no rules that deny. So a rule that allows is converted unless an earlier one denies some of
it; what depends on something that the file does not tell is left out and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.model import ANY, WITH_PORTS, WITH_TYPES, Combine, Group, Rule, Ruleset
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.clouds.chains import views
from conntrack_py.policy.rulesets.clouds.model import SIDES, Cloud, CloudRule, Scope, Service, Side, resolved
from conntrack_py.policy.rulesets.clouds.tags import INTERNET, Known
from conntrack_py.policy.rulesets.model import ALL_TYPES
from conntrack_py.policy.rulesets.spans import ALL_PORTS, EVERYBODY, Spans

#: Networks of a rule, more of which are no rule that a person reads.
_MOST_NETWORKS = 1_000


def to_policy(
    cloud: Cloud, notes: Iterable[str], members: Mapping[str, Sequence[Spans]], hosts: Spans
) -> tuple[Ruleset, list[str]]:
    """The policy of a cloud's groups, and what of their rules is not in it.

    Args:
        cloud: The rules.
        notes: What the reader left out.
        members: Networks of names.
        hosts: Addresses of the groups whose members are not known.

    Raises:
        PolicyError: A name is not in the file, or all rules are those of network ACLs.
    """
    tracking = tuple(scope for scope in cloud.scopes if scope.tracks)
    if not tracking:
        raise PolicyError(
            f"{cloud.name or 'ruleset'}: found network ACLs, which have rules for replies, expected security groups; "
            "a policy has rules for initiators"
        )
    maker = _Maker(cloud, cloud.told(members, hosts))
    maker.warnings += [
        *notes,
        *(f"{one.name}: a network ACL is not in the policy" for one in cloud.scopes if not one.tracks),
    ]
    cloud = replace(cloud, scopes=tuple(tracking))
    groups: dict[str, Group] = {}
    for scope in cloud.scopes:
        # What has a tag meets the rules of the tag, and those for all, which are among them.
        tagged = [name for name, _ in views(scope) if name not in scope.members.names]
        others = spans.union(*(maker.told[name].sure for name in tagged if name in maker.told))
        for name, rules in views(scope):
            groups[name] = maker.group(scope, name, rules, others if name not in tagged else ())
    combine: Combine = "any" if any(scope.adds_up for scope in cloud.scopes) else "all"
    if combine == "any" and not all(scope.adds_up for scope in cloud.scopes):
        maker.warnings.append("groups of several vendors: an address of two groups needs one of them, as in AWS")
    for peer in maker.peers:
        if peer not in groups:
            sure = maker.told[peer].sure if peer in maker.told else ()
            groups[peer] = Group(members=_texts(sure), ingress_default="allow", egress_default="allow")
    return Ruleset(groups=groups, default="deny", combine=combine, source=cloud.name), maker.warnings


class _Maker:
    """Rules of groups, with warnings."""

    def __init__(self, cloud: Cloud, told: Mapping[str, Known]) -> None:
        self.cloud = cloud
        self.told = told
        self.warnings: list[str] = []
        self.names = {name for scope in cloud.scopes for name, _ in views(scope)}
        #: Names of peers that become groups.
        self.peers: dict[str, None] = {}

    def group(self, scope: Scope, name: str, rules: Sequence[CloudRule], others: Spans) -> Group:
        """A group and its rules; `others` are members of groups of its own."""
        known = self.told.get(name)
        members = spans.without(known.sure, others) if known is not None else ()
        if not members:
            self.warnings.append(f"groups.{name}: has no members, which the file does not tell: add them")
        sides = {side: self.rules(name, [rule for rule in rules if rule.side == side], members) for side in SIDES}
        defaults: dict[Side, str] = dict.fromkeys(SIDES, "deny")
        for side in SIDES:
            if sides[side] is None:
                defaults[side] = "allow"
        return Group(
            members=_texts(members),
            ingress=tuple(dict.fromkeys(sides["ingress"] or ())),
            egress=tuple(dict.fromkeys(sides["egress"] or ())),
            ingress_default=defaults["ingress"],  # type: ignore[arg-type]
            egress_default=defaults["egress"],  # type: ignore[arg-type]
            line=scope.line,
        )

    def rules(self, name: str, rules: Sequence[CloudRule], members: Spans) -> list[Rule] | None:
        """The rules of a side; None: it is not limited."""
        found: list[Rule] = []
        denied: list[CloudRule] = []
        said_before = len(self.warnings)
        for rule in rules:
            if rule.implied and (rule.partial or rule.order < (0,)):
                continue  # what the vendor never filters
            catches_all = _is_everything(rule)
            if catches_all and rule.action == "accept" and not denied:
                del self.warnings[said_before:]  # of rules that change nothing
                return None if not found else [*found, Rule(peers=(ANY,), proto=ANY, line=rule.line)]
            if catches_all and rule.action == "drop":
                return found
            if rule.action != "accept":
                denied.append(rule)
                if not rule.implied:
                    self.left_out(rule, "a policy has no rules that deny")
                continue
            why = self.unsaid(rule, members, denied)
            if why:
                self.left_out(rule, why)
                continue
            found += self.said(rule)
        return found

    def left_out(self, rule: CloudRule, why: str) -> None:
        """Warn about a rule."""
        where = f"line {rule.line}" if rule.line else rule.name
        warning = f"{where}: `{rule.words(rule.services[0])}`: {why}: it is left out"
        if warning not in self.warnings:
            self.warnings.append(warning)

    def unsaid(self, rule: CloudRule, members: Spans, denied: Sequence[CloudRule]) -> str:
        """The reason why a policy cannot say a rule, or ""."""
        own, peers = resolved(rule.own, self.told), resolved(rule.peers, self.told)
        unknown = [name for name in rule.peers.names if name not in self.names and name not in self.told]
        tags = [name for name in rule.peers.names if name in self.told and self.told[name].maybe]
        sports = [service for service in rule.services if service.sports != ALL_PORTS]
        reasons = (
            (bool(rule.partial), f"it has a condition that is not expressed ({rule.partial})"),
            (bool(tags or unknown), f"the addresses of {', '.join([*tags, *unknown])} are not told (--members)"),
            (
                not rule.own.names and own.sure != EVERYBODY and not (members and spans.within(members, own.sure)),
                "it is about some addresses of the group",
            ),
            (any(not spans.is_ephemeral(one.sports) for one in sports), "it is about source ports"),
            (
                any(one.dports != ALL_PORTS and not (one.protos or {ANY}) <= set(WITH_PORTS) for one in rule.services),
                "it has ports without a protocol",
            ),
            (len(spans.networks(peers.sure)) > _MOST_NETWORKS, "it names too many networks"),
            (any(_may_meet(rule, other, self.told) for other in denied), "an earlier rule denies, and may take of it"),
        )
        return next((why for holds, why in reasons if holds), "")

    def said(self, rule: CloudRule) -> list[Rule]:
        """A rule in the words of a policy, one for each service."""
        groups = [name for name in rule.peers.names if name in self.names]
        self.peers.update(dict.fromkeys(groups))
        told = [self.told[name].sure for name in rule.peers.names if name not in self.names]
        networks = spans.union(rule.peers.networks, *told)
        everybody = spans.within(EVERYBODY, networks)
        peers = (ANY,) if everybody else (*groups, *_texts(networks))
        if not peers:
            return []
        made: list[Rule] = []
        for service in rule.services:
            protos = sorted(service.protos) if service.protos is not None else [ANY]
            made += [Rule(peers=peers, proto=word, ports=_ports(service, word), line=rule.line) for word in protos]
        return made


def _ports(service: Service, proto: str) -> Spans:
    if proto in WITH_PORTS and service.dports != ALL_PORTS:
        return service.dports
    return service.types if proto in WITH_TYPES and service.types != ALL_TYPES else ()


def _is_everything(rule: CloudRule) -> bool:
    """True for a rule about all packets of all members."""
    world = rule.peers.networks == EVERYBODY or (rule.implied and INTERNET in rule.text)
    return world and not (rule.partial or rule.own.names) and any(service == Service() for service in rule.services)


def _may_meet(one: CloudRule, other: CloudRule, told: Mapping[str, Known]) -> bool:
    """True if a packet may match both."""
    a, b = resolved(one.peers, told), resolved(other.peers, told)
    peers = spans.both(spans.union(a.sure, a.maybe), spans.union(b.sure, b.maybe))
    return bool(peers) and any(x.meet(y) is not None for x in one.services for y in other.services)


def _texts(networks: Spans) -> tuple[str, ...]:
    return tuple(map(str, spans.networks(networks)))
