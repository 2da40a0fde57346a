"""A policy for PAN-OS: `set` commands of addresses, groups, services and security rules.

Rules are for all zones: the addresses tell who is where. ICMP is an application there, and has no types.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator

from conntrack_py.policy.formats.common import UNVERIFIED, Written, all_types
from conntrack_py.policy.formats.gateways.shared import TOP, Flow, Gateway, hosts_apart, name_objects, object_name, text
from conntrack_py.policy.model import ANY, Ruleset, port_text

#: Characters of a name, and of a description.
_NAME, _DESCRIPTION = 63, 255
#: Protocols of service objects, and applications in place of others.
_SERVICES = ("tcp", "udp", "sctp")
_APPLICATIONS = {"icmp": "icmp", "icmp6": "ipv6-icmp", "gre": "gre", "esp": "ipsec-esp", "ah": "ipsec-ah"}
#: The types of ICMP that are applications of their own.
_PINGS: dict[tuple[str, tuple[tuple[int, int], ...]], str] = {
    ("icmp", ((8, 8),)): "ping",
    ("icmp6", ((128, 128),)): "ping6",
}


def write(ruleset: Ruleset, group: str | None = None) -> Written:
    """Write the commands of a configuration session."""
    del group  # it has no form for one host
    gateway = Gateway(ruleset, "PAN-OS", _clean, _NAME)
    writer = _Writer(gateway)
    rules = [line for number, flow in enumerate(gateway.flows(), 1) for line in writer.rule(number, flow)]
    groups = list(writer.groups())
    lines = [f"# {TOP}", f"# {UNVERIFIED}", *writer.objects, *groups, *rules]
    return Written("\n".join(lines) + "\n", gateway.ending())


def _clean(name: str) -> str:
    made = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return made if re.match("(?!net-|fqdn-|any$)[A-Za-z0-9]", made) else f"g-{made}"


class _Writer:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        #: Commands of objects, each once.
        self.objects: dict[str, None] = {}
        self.called = name_objects(gateway.ruleset, _NAME)

    def groups(self) -> Iterator[str]:
        """The commands of the groups."""
        for name, networks in self.gateway.members.items():
            if networks:
                members = _list(self.address(str(network)) for network in networks)
                yield f"set address-group {self.gateway.names[name]} static {members}"

    def address(self, network: str) -> str:
        """The object of a network."""
        name = object_name(ipaddress.ip_network(network))
        self.objects[f"set address {name} ip-netmask {network}"] = None
        return name

    def ends(self, flow: Flow, ends: tuple[str, ...] | None, names: tuple[str, ...] = ()) -> str:
        """The words of one side of a rule."""
        if ends is None:
            return "any"
        wild = [name for name in names if "*" in name]
        if wild:
            self.gateway.warn(flow, f"PAN-OS has no object for {wild[0]}: the addresses stand for the names")
            names = ()
        known = self.gateway.names
        rest = hosts_apart(ends, known)[1] if names else list(ends)
        found = []
        for name in names:
            self.objects[f"set address {self.called[name]} fqdn {name}"] = None
            found.append(self.called[name])
        return _list([*found, *(known[end] if end in known else self.address(end) for end in rest)])

    def rule(self, number: int, flow: Flow) -> Iterator[str]:
        """The commands of a rule."""
        service = self.service(flow)
        if service is None:
            return
        name = f"conntrack-py-{number}"
        note = flow.note
        if flow.names and flow.targets is not None:
            note = f"{note} ({', '.join(flow.names)}: {', '.join(hosts_apart(flow.targets, self.gateway.names)[0])})"
        words = (
            f"from any to any source {self.ends(flow, flow.sources)}",
            f"destination {self.ends(flow, flow.targets, flow.names)} {service}",
            f"action {'allow' if flow.allows else 'deny'}",
            f'description "{text(note, _DESCRIPTION)}"',
        )
        yield f"set rulebase security rules {name} {' '.join(words)}"

    def service(self, flow: Flow) -> str | None:
        """The words of the service; None: PAN-OS has none."""
        if flow.proto == ANY:
            return "application any service any"
        if flow.proto in _SERVICES:
            return f"application any service {_list(self.services(flow))}"
        if flow.proto not in _APPLICATIONS:
            self.gateway.warn(flow, f"PAN-OS has no service of {flow.proto}: left out")
            return None
        application = _PINGS.get((flow.proto, flow.ports), _APPLICATIONS[flow.proto])
        if flow.ports and application not in _PINGS.values() and (flow.of is None or not all_types(flow.of.rule)):
            self.gateway.warn(flow, f"PAN-OS has no types of ICMP: widened to all of {application}")
        return f"application {application} service application-default"

    def services(self, flow: Flow) -> Iterator[str]:
        for ports in flow.ports or ((0, 65535),):
            name = f"{flow.proto}-{port_text(ports)}"
            self.objects[f"set service {name} protocol {flow.proto} port {port_text(ports)}"] = None
            yield name


def _list(words: Iterable[str]) -> str:
    listed = list(dict.fromkeys(words))
    return listed[0] if len(listed) == 1 else f"[ {' '.join(listed)} ]"
