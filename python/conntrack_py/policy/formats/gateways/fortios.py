"""A policy for FortiOS: the commands of addresses, groups, services and firewall policies.

An object is of one version of IP; a policy has both, each with its own source and destination. Rules are for all
interfaces: the addresses tell who is where.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator

from conntrack_py.policy.formats.common import UNVERIFIED, Written, all_types, number_of, without_helper
from conntrack_py.policy.formats.gateways.shared import TOP, Flow, Gateway, hosts_apart, name_objects, object_name, text
from conntrack_py.policy.model import ANY, WITH_TYPES, Network, Ruleset, port_text

#: Characters of the name of an object, and of a comment.
_NAME, _COMMENT = 70, 1023
_SERVICES = ("tcp", "udp", "sctp")
_END = {4: "", 6: "6"}
#: Helpers of services, by those of Linux.
_HELPERS = {"ftp": "ftp", "tftp": "tftp", "sip": "sip", "pptp": "pptp", "RAS": "ras", "Q.931": "h323"}


def write(ruleset: Ruleset, group: str | None = None) -> Written:
    """Write the commands."""
    del group  # it has no form for one host
    gateway = Gateway(ruleset, "FortiOS", _clean, _NAME)
    writer = _Writer(gateway)
    policies = [entry for flow in gateway.flows() for entry in writer.policy(flow)]
    writer.groups()
    lines = [f"# {TOP}", f"# {UNVERIFIED}"]
    for section in ("address", "address6", "addrgrp", "addrgrp6", "service custom"):
        entries = writer.objects[section]
        lines += _section(f"firewall {section}", [(f'"{name}"', sets) for name, sets in entries.items()])
    lines += _section("firewall policy", [("0", sets) for sets in policies])
    return Written("\n".join(lines) + "\n", gateway.ending())


def _clean(name: str) -> str:
    made = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return made if re.match("(?!net-|fqdn-|all$)[A-Za-z0-9]", made) else f"g-{made}"


def _section(name: str, entries: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    listed = list(entries)
    if listed:
        yield f"config {name}"
        for key, sets in listed:
            yield f"    edit {key}"
            yield from (f"        set {one}" for one in sets)
            yield "    next"
        yield "end"


class _Writer:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        sections = ("address", "address6", "addrgrp", "addrgrp6", "service custom")
        #: Objects by section and name.
        self.objects: dict[str, dict[str, list[str]]] = {section: {} for section in sections}
        self.called = name_objects(gateway.ruleset, _NAME)

    def groups(self) -> None:
        """Make the objects of the groups."""
        for name in self.gateway.members:
            for version, end in _END.items():
                members = [self.address(network) for network in self.of(name, version)]
                if members:
                    self.objects[f"addrgrp{end}"][self.group(name, version)] = [f"member {_quoted(members)}"]

    def of(self, name: str, version: int) -> list[Network]:
        """The members of a group of a version."""
        return [network for network in self.gateway.members[name] if network.version == version]

    def group(self, name: str, version: int) -> str:
        """The name of a group's object."""
        return f"{self.gateway.names[name]}{'-v6' if version == 6 else ''}"

    def address(self, network: Network) -> str:
        """The object of a network."""
        name = object_name(network)
        kind = f"subnet {network.network_address} {network.netmask}" if network.version == 4 else f"ip6 {network}"
        self.objects[f"address{_END[network.version]}"][name] = [kind]
        return name

    def ends(self, ends: tuple[str, ...] | None, names: tuple[str, ...], version: int) -> list[str]:
        """The objects of a version of one side of a rule."""
        if ends is None:
            return ["all"]
        known = self.gateway.members
        hosts, rest = hosts_apart(ends, known) if names else ([], list(ends))
        found = [self.group(end, version) for end in rest if end in known and self.of(end, version)]
        networks = [ipaddress.ip_network(end) for end in rest if end not in known]
        found += [self.address(network) for network in networks if network.version == version]
        if any(ipaddress.ip_network(host).version == version for host in hosts):
            for name in names:
                self.objects[f"address{_END[version]}"][self.called[name]] = ["type fqdn", f'fqdn "{name}"']
                found.append(self.called[name])
        return found

    def policy(self, flow: Flow) -> Iterator[list[str]]:
        """The settings of a policy."""
        services = self.services(flow)
        ends: list[str] = []
        for version, end in _END.items():
            sources = self.ends(flow.sources, (), version)
            targets = self.ends(flow.targets, flow.names, version)
            if sources and targets and {4: "icmp6", 6: "icmp"}[version] != flow.proto:
                ends += [f"srcaddr{end} {_quoted(sources)}", f"dstaddr{end} {_quoted(targets)}"]
        if not services or not ends:
            return
        note = flow.note
        if flow.names and flow.targets is not None:
            note = f"{note} ({', '.join(flow.names)}: {', '.join(hosts_apart(flow.targets, self.gateway.members)[0])})"
        yield [
            'srcintf "any"',
            'dstintf "any"',
            *ends,
            f"action {'accept' if flow.allows else 'deny'}",
            'schedule "always"',
            f"service {_quoted(services)}",
            f'comments "{text(note, _COMMENT)}"',
        ]

    def services(self, flow: Flow) -> list[str]:
        """The objects of the services."""
        made = self.objects["service custom"]
        if flow.proto == ANY:
            return ["ALL"]
        if flow.proto in _SERVICES:
            ports = flow.ports or ((0, 65535),)
            helper = _HELPERS.get(flow.helper, "")
            if flow.helper and not helper:
                self.gateway.warn(flow, without_helper("FortiOS", flow.helper))
            names = [f"{flow.proto}-{port_text(one)}{f'-{helper}' if helper else ''}" for one in ports]
            for name, one in zip(names, ports, strict=True):
                made[name] = ["protocol TCP/UDP/SCTP", f"{flow.proto}-portrange {port_text(one)}"]
                made[name] += [f"helper {helper}"] if helper else []
            return names
        if flow.proto in WITH_TYPES:
            word = "ICMP" if flow.proto == "icmp" else "ICMP6"
            if not flow.ports or (flow.of is not None and all_types(flow.of.rule)):
                made[f"{flow.proto}-all"] = [f"protocol {word}"]
                return [f"{flow.proto}-all"]
            types = [one for first, last in flow.ports for one in range(first, last + 1)]
            made.update({f"{flow.proto}-{one}": [f"protocol {word}", f"icmptype {one}"] for one in types})
            return [f"{flow.proto}-{one}" for one in types]
        if flow.ports:
            self.gateway.warn(flow, f"FortiOS knows no ports of {flow.proto}: left out")
            return []
        made[f"ip-{number_of(flow.proto)}"] = ["protocol IP", f"protocol-number {number_of(flow.proto)}"]
        return [f"ip-{number_of(flow.proto)}"]


def _quoted(names: Iterable[str]) -> str:
    return " ".join(f'"{name}"' for name in dict.fromkeys(names))
