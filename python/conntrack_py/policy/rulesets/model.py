"""The model of a firewall: ordered chains of rules that accept or drop packets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets.foreign import plain
from conntrack_py.policy.rulesets.spans import ALL_PORTS, EVERYBODY, Spans, both, is_everybody

Direction = Literal["ingress", "egress", "forward"]
Action = Literal["accept", "drop", "jump", "goto", "return"]

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
        oif: Interface it leaves by, or "".
        partial: The rule asks for more than is known here.
    """

    protos: frozenset[str] | None = None
    sports: Spans = ALL_PORTS
    dports: Spans = ALL_PORTS
    saddr: Spans = EVERYBODY
    daddr: Spans = EVERYBODY
    states: frozenset[str] = ALL_STATES
    iif: str = ""
    oif: str = ""
    partial: bool = False

    def meet(self, other: Match) -> Match | None:
        """The packets that both are about; None: there are none."""
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
            partial=self.partial or other.partial,
        )
        empty = protos == frozenset() or not (met.sports and met.dports and met.saddr and met.daddr and met.states)
        return None if empty else met

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
        return match.protos is None and not (match.has_ports or match.has_source_ports or match.has_addresses)


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
        """True if unmatched packets are dropped, by the policy or by a last rule."""
        last = self.rules[-1] if self.rules else None
        if self.policy == "drop" or last is None or last.verdict != "drop":
            return self.policy == "drop"
        match = last.match
        return last.is_for_all and "new" in match.states and not (match.iif or match.oif or match.partial)


@dataclass(frozen=True, kw_only=True)
class Firewall:
    """The rules of a firewall.

    Attributes:
        name: The file, for messages.
        family: `nftables`, `iptables` or `nacl`.
        chains: Its chains.
        stateless: It knows no connections, so that replies need rules.
    """

    name: str
    family: str
    chains: tuple[Chain, ...]
    stateless: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """A rule as it stands in its chain, before jumps are followed."""

    match: Match
    action: Action
    target: str = ""
    text: str = ""
    handle: int | None = None
    line: int | None = None


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
