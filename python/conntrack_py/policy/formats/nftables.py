"""A policy as a ruleset for `nft -f`: for a gateway between the groups, or for one host that is a member of a group.

A gateway sees both ends, so it asks the groups of both: each group has a chain for a direction, which returns where a
rule allows and drops at its end. A packet that comes back from all its chains is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable

from conntrack_py.policy.formats.common import (
    HEAD,
    Written,
    all_types,
    also_in,
    by_side,
    complaint,
    identifier,
    number_of,
    open_sides,
    peer_groups,
    peer_networks,
    plain,
    unique,
    versions,
)
from conntrack_py.policy.model import (
    ANY,
    SIDES,
    WITH_TYPES,
    Network,
    Numbered,
    Rule,
    Ruleset,
    Side,
    effective_members,
    merged,
    port_text,
)

_TABLE = "table inet conntrack_py"
#: Bytes of a comment that the kernel keeps.
_COMMENT = 120
_FAMILY = {4: "ip", 6: "ip6"}
#: Without these IPv6 finds no neighbour: listener queries and reports, and neighbour discovery.
_NEIGHBOURS = "icmpv6 type { 130-136, 143 } accept"
_L4 = ("tcp", "udp", "sctp", "dccp", "udplite")


def write(ruleset: Ruleset, group: str | None) -> Written:
    """Write a ruleset that replaces its table when it is loaded again."""
    writer = _Writer(ruleset)
    body = writer.gateway() if group is None else writer.host(group)
    head = "for a gateway between the groups" if group is None else f"for a host in the group {plain(group)}"
    lines = [f"# {HEAD}, {head}", _TABLE, f"delete {_TABLE}", f"{_TABLE} {{", *writer.sets(), *body, "}"]
    return Written("\n".join(lines) + "\n", writer.warnings)


class _Writer:
    """Lines, and the sets that they name."""

    def __init__(self, ruleset: Ruleset) -> None:
        self.ruleset = ruleset
        self.members = effective_members(ruleset)
        self.names = unique(ruleset.groups, identifier, 60)
        self.warnings: list[str] = []
        self.used: dict[tuple[str, int], None] = {}

    def gateway(self) -> list[str]:
        """The chains of all groups, and the one that jumps to them."""
        jumps: list[str] = []
        chains: list[str] = []
        rules = by_side(self.ruleset)
        for name in self.ruleset.groups:
            if not self.members[name]:
                self.warnings.append(f"groups.{name}: has no members, so nothing is checked for it")
                continue
            for side in SIDES:
                if side in open_sides(self.ruleset, name):
                    continue
                chain = f"{self.names[name]}_{side}"
                chains += [f"  # {side} of {plain(name)}", f"  chain {chain} {{"]
                for numbered in rules[name, side]:
                    chains += [f"    {line}" for line in self.rule(numbered, "counter return")]
                chains += ["    counter drop", "  }"]
                # Egress is asked of the groups of the originator, ingress of those of the responder.
                end = "saddr" if side == "egress" else "daddr"
                jumps += [f"    {match} jump {chain}" for match in self.sets_of(name, end)]
        return [
            *chains,
            "  chain forward {",
            "    type filter hook forward priority filter; policy accept;",
            "    ct state vmap { established : accept, related : accept, invalid : drop, untracked : accept }",
            *jumps,
            "  }",
        ]

    def host(self, name: str) -> list[str]:
        """The chains of a host: nothing new passes that no rule of its group allows."""
        self.warnings += also_in(self.ruleset, name)
        lines: list[str] = []
        rules = by_side(self.ruleset)
        for side in SIDES:
            chain, lo = ("input", "iif") if side == "ingress" else ("output", "oif")
            policy = "accept" if side in open_sides(self.ruleset, name) else "drop"
            lines += [
                f"  chain {chain} {{",
                f"    type filter hook {chain} priority filter; policy {policy};",
                "    ct state vmap { established : accept, related : accept, invalid : drop }",
                f'    {lo} "lo" accept',
                f"    {_NEIGHBOURS}",
            ]
            for numbered in rules[name, side]:
                lines += [f"    {line}" for line in self.rule(numbered, "ct state new counter accept")]
            lines += ["  }"]
        return lines

    def rule(self, numbered: Numbered, verdict: str) -> list[str]:
        """The lines of a rule: one, or one for each version and kind of peer."""
        rule = numbered.rule
        comment = self.comment(numbered)
        service = _service(rule)
        lines = [" ".join([*peer, *service, verdict, comment]) for peer in self.peers(rule, numbered.side)]
        if not lines:
            self.warnings.append(complaint(numbered, "has no peer with an address, so it allows nothing"))
        return lines

    def peers(self, rule: Rule, side: Side) -> list[list[str]]:
        """Matches of the other end, any of which is enough."""
        if ANY in rule.peers:
            return [[]]
        end = "saddr" if side == "ingress" else "daddr"
        found: list[list[str]] = []
        for version in versions(rule.proto):
            found += [[match] for name in peer_groups(self.ruleset, rule) for match in self.sets_of(name, end, version)]
            networks = peer_networks(self.ruleset, rule, version)
            if networks:
                found.append([f"{_FAMILY[version]} {end} {_braces(map(str, networks))}"])
        return found

    def sets_of(self, name: str, end: str, version: int | None = None) -> list[str]:
        """Matches of a group's sets, of one version or of both."""
        found = []
        for each in (4, 6) if version is None else (version,):
            if _of(self.members[name], each):
                self.used[name, each] = None
                found.append(f"{_FAMILY[each]} {end} @{self.names[name]}_v{each}")
        return found

    def sets(self) -> list[str]:
        """The sets that were named."""
        lines: list[str] = []
        for name in self.ruleset.groups:
            for version in (4, 6):
                if (name, version) not in self.used:
                    continue
                elements = list(map(str, _of(self.members[name], version)))
                lines += [
                    f"  # members of {plain(name)}",
                    f"  set {self.names[name]}_v{version} {{",
                    f"    type ipv{version}_addr",
                    "    flags interval",
                    "    elements = {",
                    *(f"      {', '.join(elements[at : at + 6])}," for at in range(0, len(elements), 6)),
                    "    }",
                    "  }",
                ]
        return lines

    def comment(self, numbered: Numbered) -> str:
        """The note of a rule, or its place, as the kernel can keep it."""
        text = plain(numbered.rule.note or numbered.place).replace('"', "'")
        short = text.encode()[:_COMMENT].decode(errors="ignore")
        if numbered.rule.note and short != numbered.rule.note:
            self.warnings.append(complaint(numbered, "the note was changed: nftables has no such characters or length"))
        return f'comment "{short}"'


def _service(rule: Rule) -> list[str]:
    """The match of the protocol and ports."""
    if rule.proto == ANY:
        return []
    if rule.proto in WITH_TYPES:
        word, name = ("icmp", "icmp") if rule.proto == "icmp" else ("icmpv6", "ipv6-icmp")
        return [f"meta l4proto {name}"] if all_types(rule) else [f"{word} type {_ranges(rule)}"]
    if rule.ports:
        return [f"{rule.proto} dport {_ranges(rule)}"]
    return [f"meta l4proto {rule.proto if rule.proto in _L4 else number_of(rule.proto)}"]


def _ranges(rule: Rule) -> str:
    return _braces(port_text(ports) for ports in merged(rule.ports))


def _braces(words: Iterable[str]) -> str:
    return f"{{ {', '.join(words)} }}"


def _of(networks: list[Network], version: int) -> list[Network]:
    return [network for network in networks if network.version == version]
