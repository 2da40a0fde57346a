"""A policy for pfSense: the aliases and floating rules of a configuration file, to restore these areas from.

Floating rules that are `quick` decide in order on all interfaces, before the rules of an interface. An alias holds
addresses of both versions of IP, and host names, which pfSense resolves.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from conntrack_py.policy.formats.common import UNVERIFIED, Written, all_types, identifier, number_of, plain
from conntrack_py.policy.formats.gateways.shared import TOP, Flow, Gateway, hosts_apart
from conntrack_py.policy.model import WITH_TYPES, Ruleset, port_text

#: Characters of the name of an alias, and of the description of a rule.
_NAME, _DESCRIPTION = 31, 1023
_PROTOS = {"any": "", "icmp": "icmp", "icmp6": "icmp", "tcp": "tcp", "udp": "udp", "sctp": "sctp"}
_PLAIN = ("esp", "ah", "gre", "igmp", "pim", "ospf")
#: The words of types of ICMP (icmp(4) and icmp6(4) of FreeBSD).
_TYPES = {
    "icmp": {
        0: "echorep",
        3: "unreach",
        4: "squench",
        5: "redir",
        8: "echoreq",
        9: "routeradv",
        10: "routersol",
        11: "timex",
        12: "paramprob",
        13: "timereq",
        14: "timerep",
        15: "inforeq",
        16: "inforep",
        17: "maskreq",
        18: "maskrep",
    },
    "icmp6": {1: "unreach", 2: "toobig", 3: "timex", 4: "paramprob", 128: "echoreq", 129: "echorep"},
}


def write(ruleset: Ruleset, group: str | None = None) -> Written:
    """Write the file."""
    del group  # it has no form for one host
    gateway = Gateway(ruleset, "pfSense", _clean, _NAME)
    writer = _Writer(gateway)
    root = ET.Element("pfsense")
    root.append(ET.Comment(f" {TOP} "))
    root.append(ET.Comment(f" {UNVERIFIED} "))
    aliases, rules = ET.SubElement(root, "aliases"), ET.SubElement(root, "filter")
    for flow in gateway.flows():
        rules.extend(writer.rules(flow))
    aliases.extend(writer.aliases())
    ET.indent(root)
    warnings = [*gateway.ending()]
    if len(rules):
        warnings.insert(0, "pfSense: restoring the area of the rules replaces all that are there: merge the files")
    return Written(ET.tostring(root, encoding="unicode") + "\n", warnings)


def _clean(name: str) -> str:
    made = identifier(name)
    return f"g_{made}" if re.match("(list|ports)_", made) else made


class _Writer:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        #: Aliases of lists by what they hold: addresses, or ports.
        self.lists: dict[tuple[str, ...], str] = {}
        self.ports: dict[tuple[str, ...], str] = {}

    def aliases(self) -> Iterator[ET.Element]:
        """The aliases: groups, lists of addresses, lists of ports."""
        for name, networks in self.gateway.members.items():
            if networks:
                yield _alias(self.gateway.names[name], "network", list(map(str, networks)), f"group {name}")
        for holds, name in self.lists.items():
            # A network alias may hold other aliases and host names.
            yield _alias(name, "network", list(holds), "peers of rules")
        for holds, name in self.ports.items():
            yield _alias(name, "port", [one.replace("-", ":") for one in holds], "ports of rules")

    def end(self, flow: Flow, tag: str, ends: tuple[str, ...] | None, names: tuple[str, ...] = ()) -> ET.Element:
        """One side of a rule."""
        made = ET.Element(tag)
        if ends is None:
            ET.SubElement(made, "any")
            return made
        if any("*" in name for name in names):
            self.gateway.warn(flow, "pfSense resolves no names with *: the addresses stand for the names")
            names = ()
        known = self.gateway.names
        rest = hosts_apart(ends, known)[1] if names else list(ends)
        holds = (*names, *(known.get(end, end) for end in rest))
        if len(holds) == 1 and not names:
            ET.SubElement(made, "address").text = holds[0]
        else:
            ET.SubElement(made, "address").text = self.lists.setdefault(holds, f"list_{len(self.lists) + 1}")
        return made

    def rules(self, flow: Flow) -> Iterator[ET.Element]:
        """The rules: one, or one for each type of ICMP that has a word."""
        if flow.proto not in _PROTOS and flow.proto not in _PLAIN:
            self.gateway.warn(flow, f"pfSense has no {flow.proto} ({number_of(flow.proto)}) in its rules: left out")
            return
        types: list[str | None] = [None]
        if flow.proto in WITH_TYPES and flow.ports and (flow.of is None or not all_types(flow.of.rule)):
            known = _TYPES[flow.proto]
            wanted = [one for first, last in flow.ports for one in range(first, last + 1)]
            if any(one not in known for one in wanted):
                self.gateway.warn(flow, "pfSense has no words for some of the ICMP types: these are left out")
            types = [known[one] for one in wanted if one in known]
        for kind in types:
            yield self.rule(flow, kind)

    def rule(self, flow: Flow, icmp_type: str | None) -> ET.Element:
        """A floating rule."""
        made = ET.Element("rule")
        note = flow.note
        if flow.names and flow.targets is not None:
            note = f"{note} ({', '.join(flow.names)}: {', '.join(hosts_apart(flow.targets, self.gateway.names)[0])})"
        words = {
            "type": "pass" if flow.allows else "block",
            "floating": "yes",
            "quick": "yes",
            "direction": "any",
            "ipprotocol": {"icmp": "inet", "icmp6": "inet6"}.get(flow.proto, "inet46"),
            "statetype": "keep state",
            "protocol": _PROTOS.get(flow.proto, flow.proto),
            "icmptype": icmp_type or "",
        }
        for tag, word in words.items():
            if word:
                ET.SubElement(made, tag).text = word
        made.append(self.end(flow, "source", flow.sources))
        target = self.end(flow, "destination", flow.targets, flow.names)
        if flow.ports and flow.proto not in WITH_TYPES:
            ports = tuple(map(port_text, flow.ports))
            one = ports[0] if len(ports) == 1 else self.ports.setdefault(ports, f"ports_{len(self.ports) + 1}")
            ET.SubElement(target, "port").text = one
        made.append(target)
        ET.SubElement(made, "descr").text = plain(note)[:_DESCRIPTION]
        return made


def _alias(name: str, kind: str, holds: list[str], words: str) -> ET.Element:
    made = ET.Element("alias")
    for tag, text in (
        ("name", name),
        ("type", kind),
        ("address", " ".join(holds)),
        ("descr", plain(words)),
        ("detail", "||".join([""] * len(holds))),
    ):
        ET.SubElement(made, tag).text = text
    return made
