"""A policy for `iptables-restore`, and one for `ip6tables-restore`: each has the addresses of its version only.

The chains are those of the nftables form: see there.
"""

from __future__ import annotations

from collections.abc import Iterator

from conntrack_py.policy.formats.common import (
    HEAD,
    Written,
    all_types,
    also_in,
    by_side,
    collapsed,
    complaint,
    everyone,
    identifier,
    number_of,
    open_sides,
    plain,
    unique,
    versions,
)
from conntrack_py.policy.model import ANY, SIDES, WITH_PORTS, WITH_TYPES, Numbered, Rule, Ruleset, effective_members

_COMMENT = 255
#: Ports that one match takes; a range counts as two.
_MOST = 15
#: The kernel takes this type of a rule for all types.
_ANY_TYPE = 255
_STATE = "-m conntrack --ctstate"
#: Listener queries and reports, and neighbour discovery.
_NEIGHBOURS = (*range(130, 137), 143)


def write(ruleset: Ruleset, group: str | None) -> Written:
    """Write a text for `iptables-restore`."""
    return _Writer(ruleset, 4).written(group)


def write6(ruleset: Ruleset, group: str | None) -> Written:
    """Write a text for `ip6tables-restore`."""
    return _Writer(ruleset, 6).written(group)


class _Writer:
    """Lines for one version of IP."""

    def __init__(self, ruleset: Ruleset, version: int) -> None:
        self.ruleset = ruleset
        self.version = version
        self.members = effective_members(ruleset)
        # With the side a chain has 28 characters, the most that there are.
        self.names = unique(ruleset.groups, identifier, 20)
        self.warnings: list[str] = []

    def written(self, group: str | None) -> Written:
        """The text, of a gateway or of a host."""
        program, other = ("iptables", "ip6tables") if self.version == 4 else ("ip6tables", "iptables")
        head = "for a gateway between the groups" if group is None else f"for a host in the group {plain(group)}"
        named = [n for name in self.ruleset.groups for n in self.members[name]]
        named += [n for numbered in self.ruleset.numbered() for n in self.ruleset.networks(numbered.rule.peers)]
        if not collapsed(named, self.version):
            self.warnings.append(f"no group or peer has an address of IPv{self.version}")
        body = self.gateway() if group is None else self.host(group)
        lines = [
            f"# {HEAD}, {head}",
            f"# {program}-restore replaces all rules of the filter table; IPv{10 - self.version} is in that of {other}",
            "*filter",
            *body,
            "COMMIT",
        ]
        return Written("\n".join(lines) + "\n", self.warnings)

    def gateway(self) -> list[str]:
        """The chains of all groups, and the jumps to them."""
        declared: list[str] = []
        jumps: list[str] = []
        chains: list[str] = []
        rules = by_side(self.ruleset)
        for name in self.ruleset.groups:
            members = collapsed(self.members[name], self.version)
            if not self.members[name]:
                self.warnings.append(f"groups.{name}: has no members, so nothing is checked for it")
            for side in SIDES:
                if side in open_sides(self.ruleset, name) or not members:
                    continue
                chain = f"{self.names[name]}_{side}"
                declared.append(f":{chain} - [0:0]")
                # Egress is asked of the groups of the originator, ingress of those of the responder.
                end = "-s" if side == "egress" else "-d"
                jumps += [f"-A FORWARD {end} {member} -j {chain}" for member in members]
                chains.append(f"# {side} of {plain(name)}")
                for numbered in rules[name, side]:
                    chains += self.rule(numbered, chain, "", "RETURN")
                chains.append(f"-A {chain} -j DROP")
        return [
            ":FORWARD ACCEPT [0:0]",
            *declared,
            f"-A FORWARD {_STATE} RELATED,ESTABLISHED,UNTRACKED -j ACCEPT",
            f"-A FORWARD {_STATE} INVALID -j DROP",
            *jumps,
            *chains,
        ]

    def host(self, name: str) -> list[str]:
        """The chains of a host: nothing new passes that no rule of its group allows."""
        self.warnings += also_in(self.ruleset, name)
        declared: list[str] = []
        lines: list[str] = []
        rules = by_side(self.ruleset)
        for side in SIDES:
            chain, lo = ("INPUT", "-i") if side == "ingress" else ("OUTPUT", "-o")
            policy = "ACCEPT" if side in open_sides(self.ruleset, name) else "DROP"
            declared.append(f":{chain} {policy} [0:0]")
            lines += [
                f"-A {chain} {_STATE} RELATED,ESTABLISHED -j ACCEPT",
                f"-A {chain} {_STATE} INVALID -j DROP",
                f"-A {chain} {lo} lo -j ACCEPT",
            ]
            if self.version == 6:
                lines += [f"-A {chain} -p icmpv6 --icmpv6-type {one} -j ACCEPT" for one in _NEIGHBOURS]
            for numbered in rules[name, side]:
                lines += self.rule(numbered, chain, f" {_STATE} NEW", "ACCEPT")
        return [*declared, *lines]

    def rule(self, numbered: Numbered, chain: str, state: str, verdict: str) -> list[str]:
        """The lines of a rule: one for each peer and each match of ports."""
        rule = numbered.rule
        reached = [everyone(self.ruleset, self.members, rule, version) for version in versions(rule.proto)]
        if all(networks == [] for networks in reached):
            self.warnings.append(complaint(numbered, "has no peer with an address, so it allows nothing"))
        if self.version not in versions(rule.proto):
            return []
        networks = everyone(self.ruleset, self.members, rule, self.version)
        end = "-s" if numbered.side == "ingress" else "-d"
        ends = [""] if networks is None else [f" {end} {network}" for network in networks]
        services = [*self.services(numbered)]
        comment = self.comment(numbered) if ends and services else ""
        return [f"-A {chain}{end}{service}{state}{comment} -j {verdict}" for end in ends for service in services]

    def services(self, numbered: Numbered) -> Iterator[str]:
        """The matches of the protocol and ports, any of which is enough."""
        rule = numbered.rule
        if rule.proto == ANY:
            yield ""
        elif rule.proto in WITH_TYPES:
            yield from self.types(numbered)
        elif number_of(rule.proto) == 0:
            self.warnings.append(complaint(numbered, "iptables takes protocol 0 for all protocols: left out"))
        elif rule.proto in WITH_PORTS and rule.ports:
            for ports in _matches(rule):
                yield f" -p {rule.proto} -m multiport --dports {ports}"
        else:
            yield f" -p {rule.proto if rule.proto in WITH_PORTS else number_of(rule.proto)}"

    def types(self, numbered: Numbered) -> Iterator[str]:
        """The matches of ICMP types: each takes one."""
        rule = numbered.rule
        proto, option = ("icmp", "--icmp-type") if rule.proto == "icmp" else ("icmpv6", "--icmpv6-type")
        if all_types(rule):
            yield f" -p {proto}"
            return
        for one in sorted({one for first, last in rule.ports for one in range(first, last + 1)}):
            if one == _ANY_TYPE and proto == "icmp":
                self.warnings.append(complaint(numbered, "iptables takes type 255 for all types: left out"))
            else:
                yield f" -p {proto} {option} {one}"

    def comment(self, numbered: Numbered) -> str:
        """The note of a rule, or its place, as the kernel can keep it."""
        text = plain(numbered.rule.note or numbered.place)
        short = text.encode()[:_COMMENT].decode(errors="ignore")
        if numbered.rule.note and short != numbered.rule.note:
            self.warnings.append(complaint(numbered, "the note was changed: iptables has no such characters or length"))
        escaped = short.replace("\\", "\\\\").replace('"', '\\"')
        return f' -m comment --comment "{escaped}"'


def _matches(rule: Rule) -> Iterator[str]:
    """Lists of ports and ranges that one match can take."""
    words: list[str] = []
    size = 0
    for first, last in rule.ports:
        cost = 1 if first == last else 2
        if size + cost > _MOST:
            yield ",".join(words)
            words, size = [], 0
        words.append(str(first) if first == last else f"{first}:{last}")
        size += cost
    yield ",".join(words)
