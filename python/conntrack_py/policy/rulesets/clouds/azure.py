"""Azure network security groups: what `az network nsg show|list` and `az network nsg rule list` print, and templates.

Rules are asked in the order of their priority, the first that matches decides, and packets of open connections pass.
Each group ends with six default rules.
Source: https://learn.microsoft.com/azure/virtual-network/network-security-groups-overview.
Its "Azure platform considerations": the host's 168.63.129.16 and 169.254.169.254 are not subject to the groups.
ICMPv6 is not supported in the groups, and no page says what becomes of it
(https://learn.microsoft.com/azure/virtual-network/ip-services/ipv6-overview).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from conntrack_py.policy.rulesets.clouds.chains import firewall_of
from conntrack_py.policy.rulesets.clouds.model import ANYBODY, Cloud, CloudRule, Ends, Scope, Service, Side, in_order
from conntrack_py.policy.rulesets.clouds.tags import BALANCER, INTERNET, PUBLIC, VIRTUAL_NETWORK, WORDS, Known
from conntrack_py.policy.rulesets.foreign import plain
from conntrack_py.policy.rulesets.model import Firewall, Match, Note
from conntrack_py.policy.rulesets.parsed import Piece
from conntrack_py.policy.rulesets.spans import ALL_PORTS, Spans, of_networks, union

_COMMAND = "`az network nsg list` prints"
_GROUP, _RULE = "microsoft.network/networksecuritygroups", "microsoft.network/networksecuritygroups/securityrules"
_NETWORK, _DEPLOYMENT = "microsoft.network/virtualnetworks", "microsoft.resources/deployments"
_SIDES: dict[str, Side] = {"inbound": "ingress", "outbound": "egress"}
_PLATFORM = of_networks(map(ipaddress.ip_network, ("168.63.129.16", "169.254.169.254")))
#: Priorities: first that of the platform's own rules, then an unknown one, then 100 to 4096, then the default rules.
_OWN, _UNKNOWN = -2, -1
_LAST_PRIORITY = 65_535
#: Deployments within each other.
_DEEPEST = 16


def defaults() -> Iterator[CloudRule]:
    """The rules that every group has, and what the platform lets pass before all rules."""
    everywhere = Ends(networks=ANYBODY.networks)
    network, balancer = Ends(names=(VIRTUAL_NETWORK,)), Ends(names=(BALANCER,))
    # A public address that is none of the Internet is one of the virtual network, which the rule before allows.
    internet = Ends(networks=PUBLIC)
    listed: tuple[tuple[str, Side, int, Ends, str], ...] = (
        ("AllowVnetInBound", "ingress", 65000, network, f"from {VIRTUAL_NETWORK} to {VIRTUAL_NETWORK}"),
        ("AllowAzureLoadBalancerInBound", "ingress", 65001, balancer, f"from {BALANCER} to any"),
        ("DenyAllInBound", "ingress", 65500, everywhere, "from any to any"),
        ("AllowVnetOutBound", "egress", 65000, network, f"from {VIRTUAL_NETWORK} to {VIRTUAL_NETWORK}"),
        ("AllowInternetOutBound", "egress", 65001, internet, f"from any to {INTERNET}"),
        ("DenyAllOutBound", "egress", 65500, everywhere, "from any to any"),
    )
    for side in _SIDES.values():
        yield CloudRule(
            name="platform",
            side=side,
            action="accept",
            order=(_OWN,),
            peers=Ends(networks=_PLATFORM),
            text="of Azure's host",
            implied=True,
        )
        yield CloudRule(
            name="platform",
            side=side,
            action="accept",
            order=(_OWN,),
            services=(Match(protos=frozenset(("icmp6",))),),
            partial="not supported in security groups",
            implied=True,
        )
    for name, side, priority, peers, text in listed:
        # What a group protects is in its virtual network.
        action: Literal["accept", "drop"] = "accept" if name.startswith("Allow") else "drop"
        yield CloudRule(name=name, side=side, action=action, order=(priority,), peers=peers, text=text, implied=True)


def scope_of(name: str, rules: Iterable[CloudRule], line: int | None, members: Ends | None = None) -> Scope:
    """A security group with its default rules."""
    whole = in_order((*rules, *defaults()))
    return Scope(name=name, vendor="azure", rules=whole, members=members or Ends(names=(name,)), line=line)


def from_azure_json(text: str, name: str = "") -> Firewall:
    """Read network security groups, or the rules of one.

    Raises:
        PolicyError: It is no such document.
    """
    document = Piece.of_json(text, name)
    reader = _Reader()
    if isinstance(document.value, dict) and isinstance(document.value.get("resources"), list):
        reader.template(document, 0)
    else:
        if isinstance(document.value, dict) and isinstance(document.value.get("value"), list):
            document = document.get("value")
        listed = document.items() if isinstance(document.value, list) else [document]
        if listed and all(isinstance(one.value, dict) and _has(one, "access") for one in listed):
            reader.groups["the group"] = _Group(line=1, rules=[rule for one in listed for rule in reader.rules(one)])
        else:
            for one in listed:
                reader.group(one, reader.parameters)
    if not reader.groups:
        document.refuse(f"found no network security group, expected what {_COMMAND}")
    scopes = tuple(scope_of(group, one.rules, one.line) for group, one in reader.groups.items())
    cloud = Cloud(name=name, scopes=scopes, known=reader.known(), aliases=reader.aliases)
    return firewall_of(cloud, "azure", reader.notes)


@dataclass
class _Group:
    line: int
    rules: list[CloudRule] = field(default_factory=list)


def _has(piece: Piece, key: str) -> bool:
    inner = piece.value.get("properties")
    return key in piece.value or (isinstance(inner, dict) and key in inner)


def _get(piece: Piece, key: str) -> Piece:
    """A property, which the command line lists beside the name, and the API under `properties`."""
    if key in piece.table() or not isinstance(piece.value.get("properties"), dict):
        return piece.get(key)
    return piece.get("properties").get(key)


class _Reader:
    """Groups by name, and what is told of members."""

    def __init__(self) -> None:
        self.groups: dict[str, _Group] = {}
        self.aliases: dict[str, str] = {}
        self.notes: list[Note] = []
        self.parameters: Mapping[str, Any] = {}
        self.members: dict[str, Spans] = {}

    def known(self) -> dict[str, Known]:
        """The members of groups that a template tells."""
        return {name: Known(sure=own) for name, own in self.members.items() if name in self.groups}

    def template(self, document: Piece, depth: int) -> None:
        """The resources of a template, with those of its deployments."""
        outer = self.parameters
        given = document.get("parameters")
        self.parameters = {
            key: one["defaultValue"]
            for key, one in (given.value if isinstance(given.value, dict) else {}).items()
            if isinstance(one, dict) and "defaultValue" in one
        }
        for resource in document.get("resources").items("a list of resources"):
            self.resource(resource, depth, "")
        self.parameters = outer

    def resource(self, resource: Piece, depth: int, under: str) -> None:
        kind = resource.get("type").word("the type of a resource").lower() if "type" in resource.table() else ""
        if under and "/" not in kind:
            kind = f"{_GROUP}/{kind}"
        if kind == _GROUP:
            self.group(resource, self.parameters)
            for child in resource.get("resources").items("a list of resources"):
                self.resource(child, depth, self.text(resource.get("name")))
        elif kind == _RULE:
            names = self.text(resource.get("name")).split("/")
            group = under or names[0]
            found = self.groups.setdefault(group, _Group(line=resource.line))
            found.rules += self.rules(resource, names[-1], condition=_condition(resource))
        elif kind == _NETWORK:
            self.network(resource)
        elif kind == _DEPLOYMENT and depth < _DEEPEST:
            inner = resource.get("properties").get("template") if _has(resource, "template") else None
            if inner is not None and isinstance(inner.value, dict):
                self.template(inner, depth + 1)

    def group(self, piece: Piece, parameters: Mapping[str, Any]) -> None:
        """A security group."""
        self.parameters = parameters
        piece.table()
        listed = _get(piece, "securityRules")
        if listed.value is None and "type" not in piece.value:
            piece.refuse(f"found no securityRules, expected a network security group, as {_COMMAND} it")
        name = plain(self.text(piece.get("name"))) or f"group at line {piece.line}"
        group = self.groups.setdefault(name, _Group(line=piece.line))
        condition = _condition(piece)
        for rule in listed.items("a list of rules"):
            group.rules += self.rules(rule, condition=condition)
        own = piece.value.get("id")
        if isinstance(own, str):
            self.aliases[own] = name

    def network(self, resource: Piece) -> None:
        """The subnets of a virtual network: each is a member of its security group."""
        for subnet in _get(resource, "subnets").items("a list of subnets"):
            subnet.table()
            of = _get(subnet, "networkSecurityGroup")
            if not isinstance(of.value, dict):
                continue
            name = _last(self.text(of.get("id")))
            prefixes = [_get(subnet, "addressPrefix"), *_get(subnet, "addressPrefixes").items("a list of networks")]
            for prefix in prefixes:
                network = _network(self.text(prefix)) if prefix.value is not None else None
                if network is not None:
                    self.members[name] = union(self.members.get(name, ()), network)

    def text(self, piece: Piece) -> str:
        """A text; of a parameter of a template its default value."""
        word = "" if piece.value is None else piece.word()
        asked = re.fullmatch(r"\[parameters\('([^']{1,200})'\)\]", word)
        default = self.parameters.get(asked[1]) if asked else None
        return plain(str(default) if isinstance(default, str | int) and not isinstance(default, bool) else word)

    def rules(self, piece: Piece, name: str = "", *, condition: str = "") -> Iterator[CloudRule]:
        """A rule; two of them where the template does not tell the direction."""
        piece.table()
        own = plain(name or self.text(piece.get("name"))) or f"rule at line {piece.line}"

        def words(*keys: str) -> list[str]:
            found = []
            for key in keys:
                value = _get(piece, key)
                if isinstance(value.value, list):
                    found += [self.text(one) for one in value.items()]
                elif value.value is not None:
                    found.append(self.text(value))
            return [word for word in found if word]

        def groups(key: str) -> list[str]:
            return [_last(self.text(one.get("id"))) for one in _get(piece, key).items("a list of groups")]

        found = made(
            own,
            piece,
            {
                "direction": self.text(_get(piece, "direction")),
                "access": self.text(_get(piece, "access")),
                "priority": self.text(_get(piece, "priority")),
                "protocol": self.text(_get(piece, "protocol")),
                "sports": words("sourcePortRange", "sourcePortRanges"),
                "dports": words("destinationPortRange", "destinationPortRanges"),
                "source": words("sourceAddressPrefix", "sourceAddressPrefixes"),
                "source_groups": groups("sourceApplicationSecurityGroups"),
                "destination": words("destinationAddressPrefix", "destinationAddressPrefixes"),
                "destination_groups": groups("destinationApplicationSecurityGroups"),
            },
            condition,
        )
        for rule, note in found:
            yield rule
            if note is not None and note not in self.notes:
                self.notes.append(note)


def _condition(piece: Piece) -> str:
    held = [key for key in ("condition", "copy") if key in piece.table()]
    return f"with {' and '.join(held)} of the template" if held else ""


def _last(path: str) -> str:
    """The name at the end of an id, or of the expression of a template."""
    quoted = re.findall(r"'([^']*)'", path) if path.startswith("[") else []
    return plain(quoted[-1] if quoted else path.rstrip("/").rpartition("/")[2])


def _network(word: str) -> Spans | None:
    try:
        if re.fullmatch(r"[0-9.]+-[0-9.]+", word):
            first, last = (of_networks([ipaddress.ip_network(end)])[0][0] for end in word.split("-"))
            return ((first, last),) if first <= last else None
        return of_networks([ipaddress.ip_network(word, strict=False)])
    except ValueError:
        return None


def made(name: str, piece: Piece, given: Mapping[str, Any], condition: str) -> Iterator[tuple[CloudRule, Note | None]]:
    """A rule of the words of any of Azure's formats, with a note where it says what is not expressed.

    Args:
        name: Its name.
        piece: It, for its line.
        given: `direction`, `access`, `priority`, `protocol`, and lists: `sports`, `dports`, `source`, `source_groups`,
            `destination`, `destination_groups`.
        condition: A condition that it has beside them, or "".

    Raises:
        PolicyError: A priority, a port or a protocol is none.
    """
    why = [condition] if condition else []
    side = _SIDES.get(given["direction"].lower())
    action = {"allow": "accept", "deny": "drop"}.get(given["access"].lower(), "unknown")
    for key, known in (("direction", side is not None), ("access", action != "unknown")):
        if not known and not given[key].startswith("["):
            _get(piece, key).expected("Inbound or Outbound" if key == "direction" else "Allow or Deny")
        if not known:
            why.append(f"its {key} is {given[key]}")
    priority = _UNKNOWN
    if re.fullmatch(r"[0-9]{1,5}", given["priority"]) and int(given["priority"]) <= _LAST_PRIORITY:
        priority = int(given["priority"])
    elif given["priority"].startswith("["):
        why.append(f"its priority is {given['priority']}")
    else:
        _get(piece, "priority").expected("a priority from 100 to 4096")
    service, unsaid = _service(piece, given)
    why += unsaid
    source = _ends(given["source"], given["source_groups"])
    destination = _ends(given["destination"], given["destination_groups"])
    text = " to ".join(
        ", ".join((*given[end], *given[f"{end}_groups"])[:4]) or "nobody" for end in ("source", "destination")
    )
    partial = plain("; ".join(why))
    for one in (side,) if side is not None else _SIDES.values():
        own, peers = (destination, source) if one == "ingress" else (source, destination)
        rule = CloudRule(
            name=name,
            side=one,
            action=action,  # type: ignore[arg-type]
            order=(priority,),
            own=own,
            peers=peers,
            services=(service,),
            partial=partial,
            text=f"from {text}",
            line=piece.line,
        )
        message = f"The rule {name} depends on what the file does not tell: {partial}."
        yield rule, Note(message=message, line=piece.line, text=rule.words(service)) if partial else None


def _ends(prefixes: Iterable[str], groups: Iterable[str]) -> Ends:
    networks: list[Spans] = []
    names = list(groups)
    for word in prefixes:
        tag = WORDS.get(word.lower())
        network = _network(word)
        if word in ("*", "Any", "any"):
            networks.append(ANYBODY.networks)
        elif network is not None:
            networks.append(network)
        else:
            names.append(tag or plain(word))
    return Ends(networks=union(*networks) if networks else (), names=tuple(dict.fromkeys(names)))


_PROTOCOLS = {"*": None, "any": None, "tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmpv6": "icmp6"}


def _service(piece: Piece, given: Mapping[str, Any]) -> tuple[Service, list[str]]:
    word = given["protocol"].lower()
    why: list[str] = []
    proto = _PROTOCOLS.get(word, word if word in ("esp", "ah") else "")
    if proto == "":
        if not word.startswith("["):
            _get(piece, "protocol").expected("one of Tcp, Udp, Icmp, Esp, Ah, *")
        why.append(f"its protocol is {given['protocol']}")
        proto = None
    spans = []
    for key in ("sports", "dports"):
        found: list[tuple[int, int]] = []
        for port in given[key]:
            asked = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", port)
            first, last = (int(asked[1]), int(asked[2] or asked[1])) if asked else (1, 0)
            if port == "*" or port.startswith("["):
                found.append(ALL_PORTS[0])
                why += [f"its port is {port}"] if port != "*" else []
            elif first > last or last > 65535:
                piece.refuse(f"found port {port[:60]!r}, expected a port, a range or *")
            else:
                found.append((first, last))
        spans.append(union(found) if found else ALL_PORTS)
    protos = None if proto is None else frozenset((proto,))
    if protos is not None and not protos & {"tcp", "udp"}:
        return Match(protos=protos), why  # ports of others are always *
    return Match(protos=protos, sports=spans[0], dports=spans[1]), why
