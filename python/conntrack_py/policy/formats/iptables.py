"""A policy for `iptables-restore`, and one for `ip6tables-restore`: each has the addresses of its version only.

The chains are those of the nftables form: see there. Helpers are set before the lookup of the connection, in the table
raw (iptables-extensions(8), CT), by the addresses of the group and the ports of the rule.
"""

from __future__ import annotations

from collections.abc import Iterator

from conntrack_py.policy.formats.common import (
    AUDIT,
    HEAD,
    Written,
    all_types,
    also_in,
    announced,
    by_side,
    collapsed,
    complaint,
    everyone,
    helpers_of,
    identifier,
    number_of,
    open_sides,
    plain,
    unique,
    versions,
)
from conntrack_py.policy.model import (
    ANY,
    SIDES,
    WITH_PORTS,
    WITH_TYPES,
    Network,
    Numbered,
    Rule,
    Ruleset,
    effective_members,
)

_COMMENT = 255
#: Ports that one match takes; a range counts as two.
_MOST = 15
#: The kernel takes this type of a rule for all types.
_ANY_TYPE = 255
#: Lines a second of a rule in the log of an audit, and bytes of what each begins with.
_RATE, _PREFIX = "10/second --limit-burst 100", 29
_STATE = "-m conntrack --ctstate"
#: Listener queries and reports, and neighbour discovery.
_NEIGHBOURS = (*range(130, 137), 143)


def write(ruleset: Ruleset, group: str | None, audit: bool = False) -> Written:
    """Write a text for `iptables-restore`; for an audit one that logs and accepts."""
    return _Writer(ruleset, 4, audit).written(group)


def write6(ruleset: Ruleset, group: str | None, audit: bool = False) -> Written:
    """Write a text for `ip6tables-restore`; for an audit one that logs and accepts."""
    return _Writer(ruleset, 6, audit).written(group)


class _Writer:
    """Lines for one version of IP."""

    def __init__(self, ruleset: Ruleset, version: int, audit: bool) -> None:
        self.ruleset = ruleset
        self.audit = audit
        self.version = version
        self.members = effective_members(ruleset)
        # With the side a chain has 28 characters, the most that there are.
        self.names = unique(ruleset.groups, identifier, 20)
        self.warnings: list[str] = []
        self.helpers: list[tuple[str, str]] = []

    def written(self, group: str | None) -> Written:
        """The text, of a gateway or of a host."""
        program, other = ("iptables", "ip6tables") if self.version == 4 else ("ip6tables", "iptables")
        head = "for a gateway between the groups" if group is None else f"for a host in the group {plain(group)}"
        head += AUDIT if self.audit else ""
        named = [n for name in self.ruleset.groups for n in self.members[name]]
        named += [n for numbered in self.ruleset.numbered() for n in self.ruleset.networks(numbered.rule.peers)]
        if not collapsed(named, self.version):
            self.warnings.append(f"no group or peer has an address of IPv{self.version}")
        self.helpers = helpers_of(self.ruleset, group)
        raw = self.raw(group) if self.helpers else []
        tables = "filter table" if not raw else "tables filter and raw"
        body = self.gateway() if group is None else self.host(group)
        lines = [
            f"# {HEAD}, {head}",
            f"# {program}-restore replaces all rules of the {tables}; IPv{10 - self.version} is in that of {other}",
            *raw,
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
                chains.append(self.refuse(chain))
        return [
            ":FORWARD ACCEPT [0:0]",
            *declared,
            *self.known("FORWARD", "ESTABLISHED,UNTRACKED"),
            *([] if self.audit else [f"-A FORWARD {_STATE} INVALID -j DROP"]),
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
            opened = side in open_sides(self.ruleset, name)
            policy = "ACCEPT" if opened or self.audit else "DROP"
            declared.append(f":{chain} {policy} [0:0]")
            lines += [
                *self.known(chain, "ESTABLISHED"),
                *([] if self.audit else [f"-A {chain} {_STATE} INVALID -j DROP"]),
                f"-A {chain} {lo} lo -j ACCEPT",
            ]
            if self.version == 6:
                lines += [f"-A {chain} -p icmpv6 --icmpv6-type {one} -j ACCEPT" for one in _NEIGHBOURS]
            for numbered in rules[name, side]:
                lines += self.rule(numbered, chain, f" {_STATE} NEW", "ACCEPT")
            if self.audit and not opened:
                lines.append(self.refuse(chain))
        return [*declared, *lines]

    def known(self, chain: str, states: str) -> list[str]:
        """The lines about packets of connections that are known, and of those that helpers announce."""
        if not self.helpers:
            return [f"-A {chain} {_STATE} RELATED,{states} -j ACCEPT"]
        icmp = "icmp" if self.version == 4 else "icmpv6"
        lines = [f"-A {chain} {_STATE} {states} -j ACCEPT", f"-A {chain} -p {icmp} {_STATE} RELATED -j ACCEPT"]
        for helper, proto in announced(self.helpers):
            service = "-p gre" if proto == "gre" else f"-p {proto} -m {proto} --dport 1024:65535"
            lines.append(f"-A {chain} {service} {_STATE} RELATED -m helper --helper {helper} -j ACCEPT")
        return lines

    def raw(self, group: str | None) -> list[str]:
        """The table that gives connections their helpers."""
        lines = []
        for numbered in self.ruleset.numbered():
            if not numbered.rule.helper or group not in (None, numbered.group):
                continue
            ingress = numbered.side == "ingress"
            if group is None:
                chain, end = "PREROUTING", "-d" if ingress else "-s"
                networks: list[Network] | None = collapsed(self.members[numbered.group], self.version)
            else:
                chain, end = ("PREROUTING", "-s") if ingress else ("OUTPUT", "-d")
                networks = everyone(self.ruleset, self.members, numbered.rule, self.version)
            ends = [""] if networks is None else [f" {end} {network}" for network in networks]
            target = f"-j CT --helper {numbered.rule.helper}"
            lines += [f"-A {chain}{one}{service} {target}" for one in ends for service in self.services(numbered)]
        return ["*raw", ":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", *dict.fromkeys(lines), "COMMIT"]

    def refuse(self, chain: str) -> str:
        """The line for packets that no rule of a chain allows."""
        if not self.audit:
            return f"-A {chain} -j DROP"
        return f'-A {chain} -m limit --limit {_RATE} -j LOG --log-prefix "{f"{chain}: "[:_PREFIX]}"'

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
