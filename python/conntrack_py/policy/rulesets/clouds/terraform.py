"""Rules of clouds in what `terraform show -json` prints of a state or a plan.

Resources of azurerm, google and aws are read: security groups, rules, network ACLs, and what tells their members.
Other resources are no rules. Source of the attributes: https://registry.terraform.io/browse/providers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets.clouds import acl, aws, azure, gcp
from conntrack_py.policy.rulesets.clouds.chains import firewall_of
from conntrack_py.policy.rulesets.clouds.model import ANYBODY, Cloud, CloudRule, Ends, Scope, Side
from conntrack_py.policy.rulesets.clouds.resources import Resource, Resources, refuse
from conntrack_py.policy.rulesets.clouds.tags import Known
from conntrack_py.policy.rulesets.foreign import plain
from conntrack_py.policy.rulesets.model import Firewall, Match, Note
from conntrack_py.policy.rulesets.parsed import Piece
from conntrack_py.policy.rulesets.spans import EVERYBODY, Spans, of_networks, union

_GROUPS = ("aws_security_group", "aws_default_security_group")
_ACLS = ("aws_network_acl", "aws_default_network_acl")
_NSG = "azurerm_network_security_group"
#: Resources that decide about packets and are not read.
_UNREAD = (
    "aws_networkfirewall_firewall",
    "azurerm_firewall",
    "azurerm_network_manager_admin_rule",
    "google_compute_firewall_policy_rule",
    "google_compute_network_firewall_policy_rule",
    "google_compute_network_firewall_policy_with_rules",
    "google_compute_region_network_firewall_policy_rule",
)


def from_terraform_json(text: str, name: str = "") -> Firewall:
    """Read the resources of a state or plan.

    Raises:
        PolicyError: It is no such document, or has no rules; of HCL and state files the message has the way out.
    """
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start not in ("{", "["):
        refuse(name, "Terraform's own language (HCL)")
    document = Piece.of_json(text, name)
    found = document.value
    if not isinstance(found, dict) or not ({"values", "planned_values"} & found.keys() or "format_version" in found):
        what = "a state file" if isinstance(found, dict) and "lineage" in found else "no state and no plan"
        refuse(name, "a configuration in JSON" if isinstance(found, dict) and "resource" in found else what)
    reader = _Reader(Resources(document))
    reader.azure()
    reader.google()
    reader.groups()
    reader.acls()
    for one in reader.resources.of(*_UNREAD):
        reader.notes.append(
            Note(message=f"{one.address}: {one.kind} decides about packets and is not read.", line=one.line)
        )
    if not reader.scopes:
        raise PolicyError(
            f"{name or 'ruleset'}: found no resource with rules, expected {_NSG}, google_compute_firewall, "
            f"{_GROUPS[0]} or {_ACLS[0]}"
        )
    cloud = Cloud(name=name, scopes=tuple(reader.scopes), known=reader.known(), aliases=reader.aliases)
    return firewall_of(cloud, "terraform", reader.notes)


class _Reader:
    """Scopes of all vendors, and what is told of the members of names."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.scopes: list[Scope] = []
        self.aliases: dict[str, str] = {}
        self.notes: list[Note] = []
        self._members: dict[str, list[Spans]] = {}
        self._incomplete: set[str] = set()

    def known(self) -> dict[str, Known]:
        """The members of names; where one of them has no address yet, others may be."""
        return {
            name: Known(sure=union(*own), maybe=EVERYBODY if name in self._incomplete else ())
            for name, own in self._members.items()
        }

    def _member(self, name: str, resource: Resource, words: Iterable[Any]) -> None:
        found = [network for network in map(_network, words) if network is not None]
        self._members.setdefault(name, []).extend(found)
        if not found:
            self._incomplete.add(name)

    def _alias(self, resource: Resource, name: str, *keys: str) -> None:
        for word in (resource.address, *(resource.text(key) for key in keys)):
            if word and word != name:
                self.aliases.setdefault(word, name)

    def note(self, resource: Resource, why: str) -> None:
        """Note a condition of a rule."""
        message = f"{resource.address} depends on what the file does not tell: {why}."
        self.notes.append(Note(message=message, line=resource.line, text=resource.address))

    def azure(self) -> None:
        """Network security groups of azurerm."""
        rules: dict[str, list[CloudRule]] = {}
        lines: dict[str, int] = {}
        names: dict[str, str] = {}
        for group in self.resources.of(_NSG):
            name = group.text("name") or group.address
            name = name if name not in rules else group.address
            names[group.address] = name
            rules[name], lines[name] = [], group.line
            self._alias(group, name, "id")
            for piece in group.values.get("security_rule").items("a list of rules"):
                self._azure_rule(rules[name], piece, "")
            if group.is_unknown("security_rule") and group.values.get("security_rule").value is None:
                rules[name] += _anything(group)
                self.note(group, "security_rule known after apply")
        for one in self.resources.of("azurerm_network_security_rule"):
            name = one.text("network_security_group_name")
            meant = self.resources.meant(one, "network_security_group_name", (_NSG,))
            name = names[meant[0].address] if meant else name or f"the group of {one.address}"
            if name not in rules:
                rules[name], lines[name] = _anything(one), one.line
                self.note(one, f"other rules of {name}")
            lacks = one.lacks(_AZURE_KEYS)
            self._azure_rule(rules[name], one.values, lacks)
        for link, key, kinds, attribute in _AZURE_MEMBERS:
            for one in self.resources.of(link):
                groups = self.resources.meant(one, "network_security_group_id", (_NSG,))
                for member in self.resources.meant(one, key, kinds):
                    for group in groups:
                        self._member(names[group.address], member, _addresses(member, attribute))
        self.scopes += [azure.scope_of(name, own, lines[name]) for name, own in rules.items()]

    def _azure_rule(self, rules: list[CloudRule], piece: Piece, lacks: str) -> None:
        given: dict[str, Any] = {
            key: str(piece.get(key).value or "") for key in ("direction", "access", "priority", "protocol")
        }
        for end in ("source", "destination"):
            given[end] = _words(piece, f"{end}_address_prefix", f"{end}_address_prefixes")
            ids = _words(piece, f"{end}_application_security_group_ids")
            given[f"{end}_groups"] = [plain(one.rstrip("/").rpartition("/")[2]) for one in ids]
            given[f"{end[0]}ports"] = _words(piece, f"{end}_port_range", f"{end}_port_ranges")
            if not (given[end] or given[f"{end}_groups"]) and lacks:
                given[end] = ["*"]
        name = plain(str(piece.get("name").value or f"rule at line {piece.line}"))
        for rule, note in azure.made(name, piece, given, lacks):
            rules.append(rule)
            if note is not None:
                self.notes.append(note)

    def google(self) -> None:
        """Firewall rules of google."""
        rules: dict[str, list[CloudRule]] = {}
        lines: dict[str, int] = {}
        for one in self.resources.of("google_compute_firewall"):
            network = self._network_of(one, "network")
            rules.setdefault(network, [])
            lines.setdefault(network, one.line)
            made = gcp.rule(one.values, _GOOGLE, self.notes, one.lacks(_GOOGLE.values()))
            if made is not None:
                rules[network].append(made)
        for one in self.resources.of("google_compute_subnetwork"):
            if self._network_of(one, "network") in rules:
                self._member(self._network_of(one, "network"), one, [one.values.value.get("ip_cidr_range")])
        tags = {name for own in rules.values() for rule in own for name in (*rule.own.names, *rule.peers.names)}
        for one in self.resources.of("google_compute_instance"):
            faces = one.values.get("network_interface").items("a list of interfaces")
            accounts = one.values.get("service_account").items("a list of accounts")
            words = [*_words(one.values, "tags"), *(str(of.get("email").value) for of in accounts)]
            for tag in tags.intersection(words):
                self._member(tag, one, [face.get("network_ip").value for face in faces])
        self.scopes += [gcp.scope_of(name, own, lines[name]) for name, own in rules.items()]

    def _network_of(self, resource: Resource, key: str) -> str:
        meant = self.resources.meant(resource, key, ("google_compute_network",))
        if meant:
            self._alias(meant[0], meant[0].text("name") or meant[0].address, "id", "self_link")
            return meant[0].text("name") or meant[0].address
        return resource.text(key).rpartition("/")[2] or "default"

    def groups(self) -> None:
        """Security groups of aws, and the rules that are resources of their own."""
        groups: dict[str, int | None] = {}
        permissions: list[aws.Permission] = []
        for group in self.resources.of(*_GROUPS):
            groups[group.address] = group.line
            self._alias(group, group.address, "id", "name")
            for side in _SIDES:
                for at, piece in enumerate(group.values.get(side).items("a list of rules")):
                    permissions.append(self._inline(group, side, at, piece))
                if group.is_unknown(side) and group.values.get(side).value is None:
                    permissions.append(self._permission(group.address, side, group, f"{side} known after apply"))
        known = set(groups)
        for one in self.resources.of("aws_security_group_rule", *_RULES):
            side = _RULES.get(one.kind) or ("egress" if one.text("type") == "egress" else "ingress")
            names, _ = self._names(one, "security_group_id")
            own = names[0] if names else f"the group of {one.address}"
            if own not in groups:
                groups[own] = one.line
            if own not in known:
                known.add(own)
                permissions += [self._permission(own, other, one, f"other rules of {own}") for other in _SIDES]
            permissions.append(self._rule(own, side, one))
        for one in self.resources.of("aws_instance", "aws_network_interface"):
            key = "security_groups" if one.kind == "aws_network_interface" else "vpc_security_group_ids"
            words = ["private_ip", "private_ips", "secondary_private_ips", "ipv6_addresses"]
            for name in self._names(one, key)[0]:
                if name in groups:
                    self._member(name, one, [word for of in words for word in _words(one.values, of)])
        if groups:
            self.scopes.append(aws.scope_of(groups, permissions))

    def _names(self, resource: Resource, key: str) -> tuple[tuple[str, ...], str]:
        """The groups that an attribute names, and what is not known of it."""
        meant = [one.address for one in self.resources.meant(resource, key, _GROUPS)]
        literal = [plain(word) for word in _words(resource.values, key) if word not in self.resources.by_id]
        lacks = "" if meant else resource.lacks([key])
        return tuple(dict.fromkeys((*meant, *literal))), lacks

    def _permission(self, own: str, side: Side, one: Resource, why: str) -> aws.Permission:
        self.note(one, why)
        return aws.Permission(
            group=own, side=side, peers=ANYBODY, service=Match(), partial=why, name=one.address, line=one.line
        )

    def _inline(self, group: Resource, side: Side, at: int, piece: Piece) -> aws.Permission:
        service, partial = aws.service_of(piece.get("protocol"), piece.get("from_port"), piece.get("to_port"))
        listed = [*_words(piece, "cidr_blocks"), *_words(piece, "ipv6_cidr_blocks")]
        ids = [*_words(piece, "security_groups"), *_words(piece, "prefix_list_ids")]
        names = [self.resources.by_id[one].address if one in self.resources.by_id else plain(one) for one in ids]
        names += [group.address] if piece.get("self").value is True else []
        unknown = group.unknown.get(side)
        if unknown and (unknown is True or any(isinstance(one, dict) and any(one.values()) for one in unknown)):
            partial = "; ".join(filter(None, (partial, f"parts of {side} known after apply")))
            self.note(group, partial)
            listed = listed or ["0.0.0.0/0", "::/0"]
        return aws.Permission(
            group=group.address,
            side=side,
            peers=Ends(networks=_networks(piece, listed), names=tuple(dict.fromkeys(names))),
            service=service,
            partial=partial,
            name=f"{side}[{at}]",
            line=piece.line,
        )

    def _rule(self, own: str, side: Side, one: Resource) -> aws.Permission:
        values = one.values
        is_new = one.kind in _RULES
        proto = values.get("ip_protocol" if is_new else "protocol")
        why: list[str] = []
        service = Match()
        if proto.value is not None:
            service, partial = aws.service_of(proto, values.get("from_port"), values.get("to_port"))
            why += filter(None, [partial])
        peer = "referenced_security_group_id" if is_new else "source_security_group_id"
        names, lacks = self._names(one, peer)
        why += filter(None, [lacks, one.lacks(_AWS_KEYS)])
        lists = [*_words(values, "prefix_list_id", "prefix_list_ids")]
        listed = [*_words(values, "cidr_blocks", "ipv6_cidr_blocks", "cidr_ipv4", "cidr_ipv6")]
        names = (*names, *map(plain, lists), *((own,) if values.get("self").value is True else ()))
        networks = _networks(values, listed)
        if why:
            self.note(one, "; ".join(why))
            networks = networks if names or networks else EVERYBODY
        return aws.Permission(
            group=own,
            side=side,
            peers=Ends(networks=networks, names=tuple(dict.fromkeys(names))),
            service=service,
            partial="; ".join(why),
            name=one.address,
            line=one.line,
        )

    def acls(self) -> None:
        """Network ACLs of aws."""
        entries: dict[str, list[acl.Entry]] = {}
        lines: dict[str, int] = {}
        subnets: dict[str, list[Spans]] = {}
        for one in self.resources.of(*_ACLS):
            entries[one.address], lines[one.address] = [], one.line
            self._alias(one, one.address, "id")
            for side in _SIDES:
                for piece in one.values.get(side).items("a list of entries"):
                    entries[one.address].append(_entry(piece, side, "rule_no", "action", ""))
            self._subnets(one, self.resources.meant(one, "subnet_ids", ("aws_subnet",)), subnets)
        for one in self.resources.of("aws_network_acl_association"):
            for owner in self.resources.meant(one, "network_acl_id", _ACLS):
                self._subnets(owner, self.resources.meant(one, "subnet_id", ("aws_subnet",)), subnets)
        for one in self.resources.of("aws_network_acl_rule"):
            meant = self.resources.meant(one, "network_acl_id", _ACLS)
            name = meant[0].address if meant else one.text("network_acl_id") or f"the ACL of {one.address}"
            if name not in entries:
                entries[name] = [_other(side, one) for side in _SIDES]
                lines[name] = one.line
                self.note(one, f"other rules of {name}")
            side = "egress" if one.values.get("egress").value is True else "ingress"
            entries[name].append(_entry(one.values, side, "rule_number", "rule_action", one.lacks(_AWS_KEYS)))
        for name, own in entries.items():
            self.scopes.append(acl.scope_of(name, own, tuple(subnets.get(name, ())), lines[name]))

    def _subnets(self, owner: Resource, found: Iterable[Resource], subnets: dict[str, list[Spans]]) -> None:
        for subnet in found:
            words = _words(subnet.values, "cidr_block", "ipv6_cidr_block")
            self._member(owner.address, subnet, words)
            subnets.setdefault(owner.address, []).append(union(*filter(None, map(_network, words))))


_SIDES: tuple[Side, Side] = ("ingress", "egress")
_RULES: dict[str, Side] = {
    "aws_vpc_security_group_ingress_rule": "ingress",
    "aws_vpc_security_group_egress_rule": "egress",
}
_AWS_KEYS = (
    *("cidr_block", "cidr_blocks", "cidr_ipv4", "cidr_ipv6", "ipv6_cidr_block", "ipv6_cidr_blocks"),
    *("prefix_list_id", "prefix_list_ids", "from_port", "to_port", "protocol", "ip_protocol"),
)
_AZURE_KEYS = tuple(
    f"{end}_{what}"
    for end in ("source", "destination")
    for what in (
        "address_prefix",
        "address_prefixes",
        "port_range",
        "port_ranges",
        "application_security_group_ids",
    )
)
#: Resources that make something a member of a group: the attribute that names it, its types, and its addresses.
_AZURE_MEMBERS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("azurerm_subnet_network_security_group_association", "subnet_id", ("azurerm_subnet",), "address_prefixes"),
    (
        "azurerm_network_interface_security_group_association",
        "network_interface_id",
        ("azurerm_network_interface",),
        "private_ip_addresses",
    ),
)
_GOOGLE = {
    "allow": "allow",
    "deny": "deny",
    "protocol": "protocol",
    "sources": "source_ranges",
    "destinations": "destination_ranges",
    "source_tags": "source_tags",
    "source_accounts": "source_service_accounts",
    "target_tags": "target_tags",
    "target_accounts": "target_service_accounts",
}


def _words(piece: Piece, *keys: str) -> list[str]:
    """The texts of attributes, which are texts or lists of them."""
    found: list[str] = []
    for key in keys:
        value = piece.table().get(key)
        found += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str) and one]
    return found


def _addresses(member: Resource, attribute: str) -> list[str]:
    found = _words(member.values, attribute)
    for face in member.values.get("ip_configuration").items("a list of configurations"):
        found += _words(face, "private_ip_address")
    return found


def _network(word: Any) -> Spans | None:
    try:
        return of_networks([ipaddress.ip_network(word, strict=False)]) if isinstance(word, str) else None
    except ValueError:
        return None


def _networks(piece: Piece, words: Iterable[str]) -> Spans:
    found = []
    for word in words:
        network = _network(word)
        if network is None:
            piece.refuse(f"found {word[:60]!r}, expected a network such as 10.0.1.0/24")
        found.append(network)
    return union(*found) if found else ()


def _anything(one: Resource) -> list[CloudRule]:
    """Rules of an Azure group that the file does not have: any verdict on anything."""
    why = f"other rules of the group of {one.address}"
    return [
        CloudRule(name="other rules", side=side, action="unknown", order=(-1,), partial=why, line=one.line)
        for side in _SIDES
    ]


def _other(side: Side, one: Resource) -> acl.Entry:
    why = "rules that the file does not have"
    return acl.Entry(side=side, number=-1, action="unknown", peers=ANYBODY, service=Match(), partial=why, line=one.line)


def _entry(piece: Piece, side: Side, number: str, action: str, lacks: str) -> acl.Entry:
    proto = piece.get("protocol")
    first, last = piece.get("from_port"), piece.get("to_port")
    asked = str(proto.value)
    partial = lacks
    if asked in ("1", "icmp", "58", "icmpv6"):
        first, last = piece.get("icmp_type"), piece.get("icmp_code")
    service, why = aws.service_of(proto, first, last) if proto.value is not None else (Match(), "")
    partial = "; ".join(filter(None, (partial, why)))
    words = _words(piece, "cidr_block", "ipv6_cidr_block")
    verdict = piece.get(action).word("allow or deny").lower()
    if verdict not in ("allow", "deny"):
        piece.get(action).expected("allow or deny")
    return acl.Entry(
        side=side,
        number=piece.get(number).number(0, 32_767, "a number to 32767"),
        action="accept" if verdict == "allow" else "drop",
        peers=Ends(networks=_networks(piece, words) or (EVERYBODY if lacks else ())),
        service=service,
        partial=partial,
        text=f"{'to' if side == 'egress' else 'from'} {', '.join(words)}",
        line=piece.line,
    )
