"""A group for a host with Windows: PowerShell with New-NetFirewallRule.

Replies pass by state. Windows asks the rules that block before those that allow, so that nothing but the profile's
default denies here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from conntrack_py.policy.formats.common import HEAD, UNVERIFIED, Written, all_types, number_of, plain
from conntrack_py.policy.formats.hosts.shared import Host
from conntrack_py.policy.model import ANY, SIDES, WITH_TYPES, Numbered, Ruleset, merged, port_text

#: PowerShell takes all of these for a single quote (its specification, section 2.3.5.2).
_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")
_GROUP = "conntrack-py"
_WORDS = {"tcp": "TCP", "udp": "UDP", "icmp": "ICMPv4", "icmp6": "ICMPv6"}


def write(ruleset: Ruleset, group: str) -> Written:
    """Write the script. It replaces the rules of its group, and leaves those of others."""
    host = Host(ruleset, group)
    lines = [
        f"# {HEAD}, for a host in the group {plain(group)}",
        f"# {UNVERIFIED}",
        "$ErrorActionPreference = 'Stop'",
        f"Get-NetFirewallRule -Group {_quoted(_GROUP)} -ErrorAction SilentlyContinue | Remove-NetFirewallRule",
    ]
    for side in SIDES:
        for numbered in host.of(side):
            lines += _rules(host, numbered)
    actions = ["Allow" if side in host.open else "Block" for side in SIDES]
    defaults = f"-DefaultInboundAction {actions[0]} -DefaultOutboundAction {actions[1]}"
    lines.append(f"Set-NetFirewallProfile -All -Enabled True {defaults}")
    warnings = [
        *host.warnings,
        f"rules that Windows has besides those of the group {_GROUP} still allow what they allow: disable them",
        f"Windows: {UNVERIFIED}",
    ]
    return Written("\n".join(lines) + "\n", warnings)


def _quoted(text: str) -> str:
    """A text as PowerShell takes it, in single quotes."""
    return "'" + _QUOTES.sub(r"\1\1", text) + "'"


def _rules(host: Host, numbered: Numbered) -> Iterator[str]:
    rule, side = numbered.rule, numbered.side
    ends = host.ends(numbered)
    if not ends:
        return
    words = ["New-NetFirewallRule", "-DisplayName", _quoted(numbered.place), "-Group", _quoted(_GROUP)]
    words += ["-Description", _quoted(host.note(numbered))]
    words += ["-Direction", "Inbound" if side == "ingress" else "Outbound", "-Action", "Allow"]
    if rule.proto != ANY:
        words += ["-Protocol", _WORDS.get(rule.proto) or str(number_of(rule.proto))]
    if rule.proto in WITH_TYPES and not all_types(rule):
        words += ["-IcmpType", ",".join(str(one) for low, high in merged(rule.ports) for one in range(low, high + 1))]
    elif rule.proto in ("tcp", "udp") and rule.ports:
        port = "-LocalPort" if side == "ingress" else "-RemotePort"
        words += [port, ",".join(_quoted(port_text(ports)) for ports in merged(rule.ports))]
    elif rule.ports and rule.proto not in WITH_TYPES:
        host.warn(numbered, f"Windows knows no ports of {rule.proto}: left out")
        return
    if ends != [(0, "any")]:
        words += ["-RemoteAddress", ",".join(_quoted(network) for _, network in ends)]
    yield f"{' '.join(words)} | Out-Null"
