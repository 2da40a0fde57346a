"""A group for a host with firewalld: a zone of rich rules for its ingress, and a policy of them for its egress.

Each is a file of its own, so that each is a format of its own. Replies pass firewalld before its zones and policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from conntrack_py.policy.formats.common import EVERYWHERE, HEAD, Written, all_types, plain
from conntrack_py.policy.formats.hosts.shared import Host
from conntrack_py.policy.model import ANY, WITH_PORTS, WITH_TYPES, Numbered, Rule, Ruleset, Side, merged, port_text

_PROTOS = ("tcp", "udp", "sctp", "dccp")
_FAMILY = {4: "ipv4", 6: "ipv6"}
#: firewalld's names of messages that ask: it has no numbers.
_TYPES = {
    "icmp": {8: "echo-request", 10: "router-solicitation", 13: "timestamp-request"},
    "icmp6": {128: "echo-request", 133: "router-solicitation", 135: "neighbour-solicitation"},
}
#: IPv6 finds no neighbour without these (RFC 4890 section 4.4.1); listener reports have no name here.
_NEIGHBOURS = ("neighbour-advertisement", "neighbour-solicitation", "router-advertisement", "router-solicitation")
#: Characters of the name of a zone or a policy: with what goes before it, a chain has 28.
_LONGEST_ZONE = 17


def write(ruleset: Ruleset, group: str) -> Written:
    """Write the zone of a group: its ingress."""
    return _written(ruleset, group, "ingress")


def write_policy(ruleset: Ruleset, group: str) -> Written:
    """Write the policy of a group: its egress."""
    return _written(ruleset, group, "egress")


def _written(ruleset: Ruleset, group: str, side: Side) -> Written:
    host = Host(ruleset, group)
    opened = side in host.open
    other = "egress is in the format firewalld-policy" if side == "ingress" else "ingress is in the format firewalld"
    what = f"{side} of {plain(group)}; {other}"
    name = re.sub(r"[^A-Za-z0-9_-]", "-", group)[:_LONGEST_ZONE] or "group"
    if side == "ingress":
        host.warnings.append(
            f"save it as /etc/firewalld/zones/{name}.xml and give the host's interfaces to the zone; {other}"
        )
        head = [f'<zone target="{"ACCEPT" if opened else "DROP"}">']
        last = "</zone>"
    else:
        # A policy may not have the name of a zone.
        name = f"{name[: _LONGEST_ZONE - 4]}-out"
        host.warnings.append(f"save it as /etc/firewalld/policies/{name}.xml; {other}")
        head = [f'<policy target="{"ACCEPT" if opened else "DROP"}">']
        last = "</policy>"
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f"<!-- {HEAD}: {_comment(what)} -->",
        *head,
        f"  <short>{escape(name)}</short>",
        f"  <description>{escape(what)}</description>",
    ]
    if side == "egress":
        lines += ['  <ingress-zone name="HOST"/>', '  <egress-zone name="ANY"/>']
    # firewalld warns about a rule that is there twice.
    written = set() if opened else {_neighbour(one) for one in _NEIGHBOURS}
    lines += [] if opened else [line for one in _NEIGHBOURS for line in _neighbour(one)]
    for numbered in host.of(side):
        new = [block for block in dict.fromkeys(_rules(host, numbered)) if block not in written]
        written.update(new)
        lines += [f"  <!-- {_comment(host.note(numbered))} -->"] if new else []
        lines += [line for block in new for line in block]
    return Written("\n".join([*lines, last]) + "\n", host.warnings)


def _comment(text: str) -> str:
    """A text within a comment of XML, which has no two hyphens."""
    return re.sub(r"-(?=-|$)", "- ", plain(text))


def _neighbour(kind: str) -> tuple[str, ...]:
    return '  <rule family="ipv6">', f'    <icmp-type name="{kind}"/>', "    <accept/>", "  </rule>"


def _rules(host: Host, numbered: Numbered) -> Iterator[tuple[str, ...]]:
    """The lines of each rule that a rule becomes."""
    services = list(_services(host, numbered))
    end = "source" if numbered.side == "ingress" else "destination"
    ends = host.ends(numbered) if services else []
    for service in services:
        for version, network in (one for each in ends for one in _known(service, *each)):
            family = version or _version(numbered.rule)
            inner = [f"    <{end} address={quoteattr(network)}/>"] if version else []
            inner += [f"    {service}"] if service else []
            head = f"  <rule family={quoteattr(_FAMILY[family])}>" if family else "  <rule>"
            yield head, *inner, "    <accept/>", "  </rule>"


def _known(service: str, version: int, network: str) -> list[tuple[int, str]]:
    """An end of a rule; everybody by version where the rule would have nothing else."""
    return list(EVERYWHERE.items()) if not service and not version else [(version, network)]


def _version(rule: Rule) -> int:
    return {"icmp": 4, "icmp6": 6}.get(rule.proto, 0)


def _services(host: Host, numbered: Numbered) -> Iterator[str]:
    """The elements of a rule's services, any of which is enough; empty of everything."""
    rule = numbered.rule
    if rule.proto == ANY:
        yield ""
    elif rule.proto in WITH_TYPES and all_types(rule):
        yield f'<protocol value="{"icmp" if rule.proto == "icmp" else "ipv6-icmp"}"/>'
    elif rule.proto in WITH_TYPES:
        known = _TYPES[rule.proto]
        for one in (kind for first, last in merged(rule.ports) for kind in range(first, last + 1)):
            if one in known:
                yield f'<icmp-type name="{known[one]}"/>'
            else:
                host.warn(numbered, f"firewalld has no name for type {one} as one that asks: left out")
    elif rule.proto in WITH_PORTS and rule.ports:
        if rule.proto not in _PROTOS:
            host.warn(numbered, f"firewalld knows no ports of {rule.proto}: left out")
            return
        for ports in merged(rule.ports):
            yield f'<port port="{port_text(ports)}" protocol="{rule.proto}"/>'
    else:
        yield f'<protocol value="{rule.proto}"/>'
