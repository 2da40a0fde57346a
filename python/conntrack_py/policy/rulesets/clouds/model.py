"""The model of a cloud's rules: scopes, each with rules in order, for members that the file may not tell.

A connection is judged where it begins, by the egress rules of its originator's scopes, and where it ends, by the
ingress rules of its responder's. Names stand for addresses: security groups, network tags, service tags, prefix lists.
What nobody tells of a name may hold any address, so that a verdict that depends on it is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets.clouds import tags
from conntrack_py.policy.rulesets.clouds.tags import Known
from conntrack_py.policy.rulesets.foreign import plain
from conntrack_py.policy.rulesets.model import ALL_TYPES, Base, Match, Program, Step
from conntrack_py.policy.rulesets.spans import ALL_PORTS, EVERYBODY, Spans, ports_text, union, without

Side = Literal["ingress", "egress"]
SIDES: tuple[Side, Side] = ("ingress", "egress")
HOOKS: dict[Side, str] = {"ingress": "input", "egress": "output"}
#: Steps of a program, a rule once for each of its services.
_MOST_RULES = 200_000
_SHOWN_NAMES = 8


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Addresses at one end, of which any one matches.

    Attributes:
        networks: Those that are written out.
        names: Names of others.
    """

    networks: Spans = ()
    names: tuple[str, ...] = ()


ANYBODY = Ends(networks=EVERYBODY)
#: A part of a rule: protocols, ports and types. The rest of the match is that of everything.
Service = Match


@dataclass(frozen=True, kw_only=True)
class CloudRule:
    """A rule of a scope.

    Attributes:
        name: Its name, or its number.
        side: Its direction.
        action: Its verdict; `unknown`: the file does not tell.
        order: Its place among the rules of its scope.
        own: The members that it is about.
        peers: The other end.
        services: Protocols and ports.
        partial: A condition of it that is not expressed, or "".
        text: The rule in words, without its service.
        line: Its line, from 1.
        implied: The vendor adds it, and nobody can remove it.
    """

    name: str
    side: Side
    action: Literal["accept", "drop", "unknown"]
    order: tuple[int, ...]
    own: Ends = ANYBODY
    peers: Ends = ANYBODY
    services: tuple[Service, ...] = (Match(),)
    partial: str = ""
    text: str = ""
    line: int | None = None
    implied: bool = False

    @property
    def verb(self) -> str:
        """Its action in the words of the vendors."""
        return {"accept": "allow", "drop": "deny", "unknown": "allow or deny"}[self.action]

    def words(self, service: Service) -> str:
        """A part of the rule, in words."""
        end = f" ({self.partial})" if self.partial else ""
        return plain(f"{self.name}: {self.verb} {service_text(service)} {self.text}{end}")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Rules that are asked together.

    Attributes:
        name: Its name.
        vendor: `azure`, `gcp`, `aws` or `nacl`.
        rules: Its rules, in order, with those that the vendor adds.
        members: The addresses that it protects.
        tracks: It lets the packets of open connections pass.
        adds_up: It has the rules of several groups, each of which is a name; an address may be in many of them.
        subnets: Of a network ACL the subnets that the file tells: it does not look at packets within one.
        line: Its line, from 1.
    """

    name: str
    vendor: str
    rules: tuple[CloudRule, ...]
    members: Ends
    tracks: bool = True
    adds_up: bool = False
    subnets: tuple[Spans, ...] = ()
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """All scopes of a file.

    Attributes:
        name: The file, for messages.
        scopes: The scopes.
        known: What the file, or the vendor's page, tells of names.
        aliases: Other words for names, such as an id.
    """

    name: str
    scopes: tuple[Scope, ...]
    known: Mapping[str, Known] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Every name whose members can be told."""
        found: dict[str, None] = {}
        for scope in self.scopes:
            found.update(dict.fromkeys(scope.members.names))
            for rule in scope.rules:
                found.update(dict.fromkeys((*rule.own.names, *rule.peers.names)))
        return list(found)

    def told(self, members: Mapping[str, Sequence[Spans]], hosts: Spans = ()) -> dict[str, Known]:
        """The addresses of names.

        Args:
            members: Addresses of names, or of other words for them.
            hosts: Addresses of the scopes and groups whose members are not known.

        Raises:
            PolicyError: A name is not in the file.
        """
        names = self.names()
        found = dict(self.known)
        given: dict[str, Spans] = {}
        for word, own in members.items():
            name = self.aliases.get(word, word)
            if name not in names:
                some = ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
                raise PolicyError(
                    f"{self.name or 'ruleset'}: found members of {plain(word[:60])!r}, expected a name of the file: "
                    f"{plain(some) or 'it has none'}"
                )
            given[name] = union(given.get(name, ()), *own)
        found.update(tags.known(names, given))
        found.update({name: Known(sure=own) for name, own in given.items()})
        if hosts:
            for scope in self.scopes:
                found.update({name: Known(sure=hosts) for name in scope.members.names if name not in found})
        return found

    def program(self, members: Mapping[str, Sequence[Spans]], hosts: Spans) -> Program:
        """The program of all scopes for these members; see `Scoped`."""
        told = self.told(members, hosts)
        bases: list[Base] = []
        steps: dict[str, list[Step]] = {}
        count = 0
        for scope in self.scopes:
            sure, others = self._protected(scope, told, hosts)
            within = list(self._within(scope, members, hosts)) if scope.vendor == "nacl" else []
            for side in SIDES:
                key = plain(f"{scope.name} {side}")
                while key in steps:
                    key += "'"
                steps[key] = [*within, *_steps(scope, side, told)]
                count += len(steps[key])
                if count > _MOST_RULES:
                    raise PolicyError(f"{self.name or 'ruleset'}: found more than {_MOST_RULES} rules, expected fewer")
                bases.append(
                    Base(
                        key=key,
                        hook=HOOKS[side],
                        first_only=scope.tracks,
                        members=sure,
                        others=others,
                        line=scope.line,
                    )
                )
        return Program(bases=tuple(bases), steps=steps, at_ends=True)

    def _within(self, scope: Scope, members: Mapping[str, Sequence[Spans]], hosts: Spans) -> Iterator[Step]:
        """The rules of a network ACL for packets within a subnet, which pass. Of hosts the subnet is not known."""
        given = [own for word, some in members.items() if self.aliases.get(word, word) == scope.name for own in some]
        for subnet in (*scope.subnets, *given):
            match = Match(saddr=subnet, daddr=subnet)
            yield Step(match=match, action="accept", text=f"{scope.name}: within a subnet", implied=True)
        if hosts and not given and not scope.subnets:
            match = Match(saddr=hosts, daddr=hosts, partial=True)
            yield Step(match=match, action="accept", text=f"{scope.name}: perhaps within a subnet", implied=True)

    def _protected(
        self, scope: Scope, told: Mapping[str, Known], hosts: Spans
    ) -> tuple[Spans, Literal["none", "may", "is"]]:
        """The sure members of a scope, and what other addresses in the local networks are."""
        names = scope.members.names
        targets = {*names, *(name for rule in scope.rules for name in rule.own.names)}
        sure = union(scope.members.networks, hosts if not names else (), *(told[n].sure for n in targets & told.keys()))
        if all(name in told for name in names):
            return sure, "may" if any(told[name].maybe for name in names) else "none"
        if scope.adds_up and any(name in told for name in names):
            return sure, "may"
        return sure, "is" if len(self.scopes) == 1 else "may"


def resolved(ends: Ends, told: Mapping[str, Known]) -> Known:
    """The addresses of an end."""
    sure = [ends.networks, *(told[name].sure for name in ends.names if name in told)]
    maybe = [told[name].maybe if name in told else EVERYBODY for name in ends.names]
    found = union(*sure)
    return Known(sure=found, maybe=without(union(*maybe), found) if maybe else ())


#: The vendors' pages say nothing about errors of other connections, or hold them to be part of these.
_ERROR = Step(
    match=Match(protos=frozenset(("icmp", "icmp6")), states=frozenset(("related",)), partial=True),
    action="accept",
    text="an ICMP error about another connection",
    implied=True,
)


def _steps(scope: Scope, side: Side, told: Mapping[str, Known]) -> Iterator[Step]:
    if scope.tracks:
        yield _ERROR
    for rule in scope.rules:
        if rule.side != side:
            continue
        own, peers = resolved(rule.own, told), resolved(rule.peers, told)
        source, destination = (peers, own) if side == "ingress" else (own, peers)
        for service in rule.services:
            match = replace(
                service,
                saddr=source.sure,
                maybe_saddr=source.maybe,
                daddr=destination.sure,
                maybe_daddr=destination.maybe,
                partial=bool(rule.partial),
            )
            yield Step(match=match, action=rule.action, text=rule.words(service), line=rule.line, implied=rule.implied)


def service_text(service: Service) -> str:
    """Protocol and ports in words."""
    words = ["all" if service.protos is None else "/".join(sorted(service.protos))]
    if service.sports != ALL_PORTS:
        words.append(f"from {ports_text(service.sports)}")
    if service.dports != ALL_PORTS:
        words.append(ports_text(service.dports))
    if service.types != ALL_TYPES:
        words.append(f"type {ports_text(service.types)}")
    return " ".join(words)


def in_order(rules: Iterable[CloudRule]) -> tuple[CloudRule, ...]:
    """Rules by their place."""
    return tuple(sorted(rules, key=lambda rule: rule.order))
