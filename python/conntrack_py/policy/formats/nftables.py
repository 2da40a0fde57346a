"""A policy as a ruleset for `nft -f`: for a gateway between the groups, or for one host that is a member of a group.

A gateway sees both ends, so it asks the groups of both: each group has a chain for a direction, which returns where a
rule allows and drops at its end. A packet that comes back from all its chains is accepted.

A helper is set by the rule that allows its service, so that no other connection has it. This has to be behind the
lookup of the connection (nft(8), CT HELPER), as priority 0 is. Related connections then pass for these helpers only.
"""

from __future__ import annotations

from collections.abc import Iterable

from conntrack_py.policy.formats.common import (
    AUDIT,
    HEAD,
    Written,
    all_types,
    also_in,
    announced,
    by_side,
    complaint,
    helpers_of,
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
#: Lines a second of a rule in the log of an audit; its counter has all packets.
_RATE = "10/second burst 100 packets"
_L4 = ("tcp", "udp", "sctp", "dccp", "udplite")


def write(ruleset: Ruleset, group: str | None, audit: bool = False) -> Written:
    """Write a ruleset that replaces its table when it is loaded again; for an audit one that logs and accepts."""
    writer = _Writer(ruleset, audit, helpers_of(ruleset, group))
    body = writer.gateway() if group is None else writer.host(group)
    head = "for a gateway between the groups" if group is None else f"for a host in the group {plain(group)}"
    head += AUDIT if audit else ""
    top = [f"# {HEAD}, {head}", _TABLE, f"delete {_TABLE}", f"{_TABLE} {{"]
    lines = [*top, *writer.objects(), *writer.sets(), *body, "}"]
    return Written("\n".join(lines) + "\n", writer.warnings)


class _Writer:
    """Lines, and the sets that they name."""

    def __init__(self, ruleset: Ruleset, audit: bool, helpers: list[tuple[str, str]]) -> None:
        self.ruleset = ruleset
        self.helpers = helpers
        self.audit = audit
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
                chains += [f"    counter {self.refuse(chain)}", "  }"]
                # Egress is asked of the groups of the originator, ingress of those of the responder.
                end = "saddr" if side == "egress" else "daddr"
                jumps += [f"    {match} jump {chain}" for match in self.sets_of(name, end)]
        return [
            *chains,
            "  chain forward {",
            "    type filter hook forward priority filter; policy accept;",
            *self.state(f"established : accept, {self.related()}{self.invalid()}untracked : accept"),
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
            opened = side in open_sides(self.ruleset, name)
            policy = "accept" if opened or self.audit else "drop"
            lines += [
                f"  chain {chain} {{",
                f"    type filter hook {chain} priority filter; policy {policy};",
                *self.state(f"established : accept{self.related(last=True)}{self.invalid(last=True)}"),
                f'    {lo} "lo" accept',
                f"    {_NEIGHBOURS}",
            ]
            for numbered in rules[name, side]:
                lines += [f"    {line}" for line in self.rule(numbered, "ct state new counter accept")]
            if self.audit and not opened:
                lines.append(f"    counter {self.refuse(chain)}")
            lines += ["  }"]
        return lines

    def state(self, verdicts: str) -> list[str]:
        """The lines about packets of connections that are known; for helpers, related ones have lines of their own."""
        lines = [f"    ct state vmap {{ {verdicts} }}"]
        if self.helpers:
            lines.append("    ct state related meta l4proto { icmp, ipv6-icmp } accept")
        for helper, proto in announced(self.helpers):
            service = "meta l4proto gre" if proto == "gre" else f"{proto} dport 1024-65535"
            lines.append(f'    ct state related ct helper "{helper}" {service} counter accept')
        return lines

    def related(self, *, last: bool = False) -> str:
        """The verdict on related packets, in a list."""
        if self.helpers:
            return ""
        return ", related : accept" if last else "related : accept, "

    def objects(self) -> list[str]:
        """The helpers that rules set."""
        lines = []
        for helper, proto in self.helpers:
            lines += [f"  ct helper {_object(helper, proto)} {{", f'    type "{helper}" protocol {proto};', "  }"]
        return lines

    def refuse(self, chain: str) -> str:
        """The end of a rule for packets that no rule allows."""
        return f'limit rate {_RATE} log prefix "conntrack-py {chain}: "' if self.audit else "drop"

    def invalid(self, *, last: bool = False) -> str:
        """The verdict on invalid packets, in a list."""
        if self.audit:
            return ""
        return ", invalid : drop" if last else "invalid : drop, "

    def rule(self, numbered: Numbered, verdict: str) -> list[str]:
        """The lines of a rule: one, or one for each version and kind of peer."""
        rule = numbered.rule
        comment = self.comment(numbered)
        service = _service(rule)
        if rule.helper:
            service = [*service, f'ct helper set "{_object(rule.helper, rule.proto)}"']
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


def _object(helper: str, proto: str) -> str:
    """The name of a helper's object."""
    return identifier(f"{helper}_{proto}")


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
