"""The model of a firewall: ordered chains of rules that accept or drop packets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets.foreign import plain
from conntrack_py.policy.rulesets.spans import ALL_PORTS, EVERYBODY, Spans, both, is_everybody, within

Direction = Literal["ingress", "egress", "forward"]
Action = Literal["accept", "drop", "jump", "goto", "return", "unknown"]

#: The hooks that lint looks at.
DIRECTIONS: dict[str, Direction] = {"input": "ingress", "output": "egress", "forward": "forward"}
ALL_STATES = frozenset(("new", "established", "related", "invalid", "untracked"))
#: The states of packets of connections that were let in before.
REPLY_STATES = frozenset(("established", "related"))
#: Numbers of protocols, and other names of theirs.
_PROTOCOLS = {
    "1": "icmp",
    "6": "tcp",
    "17": "udp",
    "33": "dccp",
    "58": "icmp6",
    "132": "sctp",
    "136": "udplite",
    "icmpv6": "icmp6",
    "ipv6-icmp": "icmp6",
}
#: All types of ICMP.
ALL_TYPES: Spans = ((0, 255),)
#: As deep as the kernel follows jumps, and more rules than anybody has, those of a chain counted for each jump to it.
_DEEPEST = 16
_MOST_STEPS = 200_000


def protocol(found: object) -> str:
    """The word of a protocol."""
    word = str(found).lower()
    return _PROTOCOLS.get(word, word)


@dataclass(frozen=True, kw_only=True)
class Match:
    """The match of a rule. A criterion that is not given matches everything.

    Attributes:
        protos: Protocols; None: all.
        sports: Source ports.
        dports: Destination ports.
        saddr: Source addresses.
        daddr: Destination addresses.
        states: Connection tracking states.
        iif: Interface it came in by, or "".
        oif: Interface it leaves by, or ""; `!` before a name: another interface, `?`: one of several.
        types: Types of ICMP.
        maybe_saddr: Source addresses that may match, beside `saddr`: the file names them and does not tell them.
        maybe_daddr: The same of destination addresses.
        opening: The packet that opens a TCP connection, its SYN; False: any other; None: all.
        partial: The rule asks for more than is known here.
        limited: The rule takes packets up to a rate, and leaves others to the rules that follow.
    """

    protos: frozenset[str] | None = None
    sports: Spans = ALL_PORTS
    dports: Spans = ALL_PORTS
    saddr: Spans = EVERYBODY
    daddr: Spans = EVERYBODY
    states: frozenset[str] = ALL_STATES
    iif: str = ""
    oif: str = ""
    types: Spans = ALL_TYPES
    maybe_saddr: Spans = ()
    maybe_daddr: Spans = ()
    opening: bool | None = None
    partial: bool = False
    limited: bool = False

    def meet(self, other: Match) -> Match | None:
        """The packets that both are about; None: there are none."""
        if self.opening is not None and other.opening not in (None, self.opening):
            return None
        protos = self.protos if other.protos is None else other.protos
        if self.protos is not None and other.protos is not None:
            protos = self.protos & other.protos
        met = Match(
            protos=protos,
            sports=both(self.sports, other.sports),
            dports=both(self.dports, other.dports),
            saddr=both(self.saddr, other.saddr),
            daddr=both(self.daddr, other.daddr),
            states=self.states & other.states,
            iif=other.iif or self.iif,
            oif=other.oif or self.oif,
            types=both(self.types, other.types),
            opening=self.opening if other.opening is None else other.opening,
            partial=self.partial or other.partial or _differ(self.iif, other.iif) or _differ(self.oif, other.oif),
            limited=self.limited or other.limited,
        )
        criteria = (met.sports, met.dports, met.saddr, met.daddr, met.states, met.types)
        return None if protos == frozenset() or not all(criteria) else met

    def covers(self, other: Match) -> bool:
        """True if the rule surely takes all packets that another one is about."""
        if self.partial or self.limited or not self._covers_words(other):
            return False
        pairs = (
            (other.sports, self.sports),
            (other.dports, self.dports),
            (other.saddr, self.saddr),
            (other.daddr, self.daddr),
            (other.types, self.types),
        )
        return all(within(narrow, wide) for narrow, wide in pairs)

    def _covers_words(self, other: Match) -> bool:
        protos = self.protos is None or (other.protos is not None and other.protos <= self.protos)
        faces = ((self.iif, other.iif), (self.oif, other.oif))
        if self.opening not in (None, other.opening):
            return False
        return protos and other.states <= self.states and all(not a or (a == b and a != "?") for a, b in faces)

    @property
    def loopback(self) -> bool:
        """Packets of the host to itself."""
        return "lo" in (self.iif, self.oif)

    @property
    def has_ports(self) -> bool:
        """True if destination ports are matched."""
        return self.dports != ALL_PORTS

    @property
    def has_source_ports(self) -> bool:
        """True if source ports are matched."""
        return self.sports != ALL_PORTS

    @property
    def has_addresses(self) -> bool:
        """True if addresses are matched, beyond their version."""
        return not (is_everybody(self.saddr) and is_everybody(self.daddr))


def _differ(a: str, b: str) -> bool:
    """Two criteria about one interface, of which one name cannot be made."""
    return bool(a and b) and a != b


@dataclass(frozen=True, kw_only=True)
class FirewallRule:
    """A rule that accepts or drops.

    Attributes:
        chain: The chain it stands in.
        direction: Towards the host, from it, or through it.
        match: Which packets it is about, with what the jumps asked for that lead to it.
        verdict: What becomes of them.
        text: The rule as people know it.
        handle: Its handle in the kernel, or its number.
        line: Its line, from 1.
    """

    chain: str
    direction: Direction
    match: Match
    verdict: Literal["accept", "drop"]
    text: str
    handle: int | None = None
    line: int | None = None

    @property
    def place(self) -> str:
        """The place of the rule, in a few words."""
        return self.chain if self.handle is None else f"{self.chain} handle {self.handle}"

    @property
    def lets_in(self) -> bool:
        """True if packets that open connections are accepted."""
        return self.verdict == "accept" and "new" in self.match.states and not self.match.loopback

    @property
    def is_state_rule(self) -> bool:
        """True if packets of existing connections are accepted, whatever their ports."""
        match = self.match
        asks = match.states != ALL_STATES and "established" in match.states
        return self.verdict == "accept" and asks and not (match.has_ports or match.has_source_ports)

    @property
    def is_for_all(self) -> bool:
        """True if only states and interfaces are matched."""
        match = self.match
        ports = match.has_ports or match.has_source_ports or match.types != ALL_TYPES
        return match.protos is None and not (ports or match.has_addresses)

    @property
    def is_catch_all(self) -> bool:
        """True if the verdict is that on every new connection which gets here."""
        match = self.match
        sure = not (match.partial or match.limited or match.iif or match.oif)
        return sure and self.is_for_all and "new" in match.states


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A chain that the kernel calls.

    Attributes:
        name: Its name.
        hook: `input`, `output` or `forward`.
        policy: What becomes of packets that no rule took.
        rules: Its rules and those of the chains it jumps to, in order.
        scope: Only chains of one scope work together.
        line: Its line, from 1.
    """

    name: str
    hook: str
    policy: Literal["accept", "drop"]
    rules: tuple[FirewallRule, ...] = ()
    scope: str = ""
    line: int | None = None

    @property
    def drops(self) -> bool:
        """True if unmatched packets are dropped, by the policy or by a rule for all of them."""
        return (self.policy if self.catch_all is None else self.catch_all.verdict) == "drop"

    @property
    def catch_all(self) -> FirewallRule | None:
        """The first rule that decides about every new connection; those behind are never asked."""
        return next((rule for rule in self.rules if rule.is_catch_all), None)


@dataclass(frozen=True, kw_only=True)
class Firewall:
    """The rules of a firewall.

    Attributes:
        name: The file, for messages.
        family: `nftables`, `iptables`, `nacl`, `azure`, `gcp`, `security-groups` or `terraform`.
        chains: Its chains.
        stateless: It knows no connections, so that replies need rules.
        tracks: It passes packets of connections that it let open, without a rule that says so.
        notes: What of the file is not in the chains, or was taken for granted.
        program: The rules in the kernel's order, where verdicts on packets can be worked out.
        scopes: The rules of a cloud, whose program depends on the members of its names.
        helpers: Names of helpers that rules set, with the packets that get them.
    """

    name: str
    family: str
    chains: tuple[Chain, ...]
    stateless: bool = False
    tracks: bool = False
    notes: tuple[Note, ...] = ()
    program: Program | None = None
    scopes: Scoped | None = None
    helpers: tuple[tuple[Match, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Base:
    """A chain that the kernel calls, before jumps are followed.

    Attributes:
        key: Its key in `Program.steps`.
        hook: `prerouting`, `input`, `forward`, `output` or `postrouting`.
        policy: What becomes of packets that no rule took; `unknown`: the file does not say.
        priority: Chains of a hook are called in this order.
        versions: Versions of IP that it sees.
        first_only: It sees the first packet of a connection only.
        members: The addresses that it protects: sources of `output`, destinations of `input`.
        others: Other addresses in the local networks: `none` is a member, or each `may` be, or the one that has its
            peer outside `is`.
        line: Its line, from 1.
    """

    key: str
    hook: str
    policy: Literal["accept", "drop", "unknown"] = "accept"
    priority: int = 0
    versions: frozenset[int] = frozenset((4, 6))
    first_only: bool = False
    members: Spans = EVERYBODY
    others: Literal["none", "may", "is"] = "none"
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class Program:
    """The rules as the kernel walks through them, for verdicts on packets.

    Attributes:
        bases: The chains that the kernel calls.
        steps: The rules of every chain, by its key.
        versions: Versions of IP that the file is about; of others it tells nothing.
        at_ends: The rules stand at the ends of a connection, not at a host or a gateway.
    """

    bases: tuple[Base, ...]
    steps: Mapping[str, Sequence[Step]]
    versions: frozenset[int] = frozenset((4, 6))
    at_ends: bool = False


class Scoped(Protocol):
    """Rules of a cloud, for members that are told later."""

    def program(self, members: Mapping[str, Sequence[Spans]], hosts: Spans) -> Program:
        """The program for these networks of names, and for hosts that are members of all others.

        Raises:
            PolicyError: A name is not in the file.
        """


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something of a file that lint does not judge.

    Attributes:
        message: The reason.
        line: Its line, from 1.
        text: It, as it stands in the file.
        wrong: It is an error of the file, not a limit of the reader.
    """

    message: str
    line: int | None = None
    text: str = ""
    wrong: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """A rule as it stands in its chain, before jumps are followed.

    Attributes:
        match: Its match.
        action: What becomes of packets that match.
        target: The chain of a jump.
        text: The rule as people know it.
        handle: Its handle in the kernel.
        line: Its line, from 1.
        implied: The vendor adds it, and nobody can remove it.
    """

    match: Match
    action: Action
    target: str = ""
    text: str = ""
    handle: int | None = None
    line: int | None = None
    implied: bool = False


def flattened(
    steps: Mapping[str, Sequence[Step]],
    base: str,
    direction: Direction,
    names: Mapping[str, str],
    looked_at: Iterator[int],
) -> tuple[FirewallRule, ...]:
    """The rules of a chain, with those of the chains it jumps to in their place.

    Args:
        steps: The rules of all chains, by a key of the chain.
        base: The key of the chain to begin with.
        direction: That of its hook.
        names: What to call the chains.
        looked_at: Counts the rules that are looked at, for all chains of a firewall.

    Raises:
        PolicyError: Following the jumps there are too many rules to look at.
    """
    found: list[FirewallRule] = []

    def walk(key: str, under: Match, path: tuple[str, ...]) -> None:
        for step in steps.get(key, ()):
            if next(looked_at) >= _MOST_STEPS:
                named = plain(names.get(base, base)[:60])
                raise PolicyError(f"chain {named}: with its jumps there are more than {_MOST_STEPS} rules to look at")
            met = under.meet(step.match)
            if met is None:
                continue
            if step.action in ("jump", "goto"):
                if step.target not in path and len(path) < _DEEPEST:
                    walk(step.target, met, (*path, step.target))
            elif step.action == "accept" or step.action == "drop":
                found.append(
                    FirewallRule(
                        chain=plain(names.get(key, key)),
                        direction=direction,
                        match=met,
                        verdict=step.action,
                        text=plain(step.text),
                        handle=step.handle,
                        line=step.line,
                    )
                )
            if step.action in ("goto", "return"):
                if step.match == Match():
                    return
                # The rules that follow are about what is left, which is not described here.
                under = replace(under, partial=True)

    walk(base, Match(), (base,))
    return tuple(found)
