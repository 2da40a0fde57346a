"""AWS security groups as Terraform: one resource for each rule, as its provider's documentation advises."""

from __future__ import annotations

from collections import Counter

from conntrack_py.policy.formats.aws import (
    Permission,
    general_warnings,
    group_names,
    known_id,
    permissions,
    tags_of,
    text_of,
)
from conntrack_py.policy.formats.common import HEAD, Written, described, identifier, is_undescribed, unique
from conntrack_py.policy.model import Ruleset

_PEER = {"ipv4": "cidr_ipv4", "ipv6": "cidr_ipv6", "group": "referenced_security_group_id"}


def write(ruleset: Ruleset, group: str | None = None) -> Written:
    """Write resources for all groups and rules."""
    warnings = general_warnings(ruleset)
    allowed = permissions(ruleset, warnings)
    resources = unique(ruleset.groups, identifier, 60)
    names = group_names(ruleset)
    lines = [
        f"# {HEAD}",
        "# Terraform removes the egress to everywhere that AWS gives a new group: there is none but what is here.",
        "",
        'variable "vpc_id" {',
        "  type = string",
        "}",
    ]
    ids = {}
    for name in ruleset.groups:
        ids[name] = f"aws_security_group.{resources[name]}.id"
        if not is_undescribed(ruleset.groups[name]):
            continue
        ids[name] = f"var.security_group_id_of_{resources[name]}"
        known = known_id(ruleset, name)
        lines += [
            "",
            f'variable "{ids[name].removeprefix("var.")}" {{',
            "  type        = string",
            f"  description = {quoted(f'id of the security group {name}, which is not made here')}",
            *([f"  default     = {quoted(known)}"] if known is not None else []),
            "}",
        ]
    for name in described(ruleset):
        description = text_of(f"group {name} of a conntrack-py policy")
        lines += [
            "",
            f'resource "aws_security_group" "{resources[name]}" {{',
            f"  name        = {quoted(names[name])}",
            f"  description = {quoted(description)}",
            "  vpc_id      = var.vpc_id",
            "",
            "  tags = {",
            *(f"    {quoted(key)} = {quoted(value)}" for key, value in tags_of(ruleset, name, warnings).items()),
            "  }",
            "}",
        ]
    count: Counter[tuple[str, str]] = Counter()
    for permission in allowed:
        key = permission.group, permission.side
        count[key] += 1
        lines += ["", *_rule(permission, f"{resources[permission.group]}_{count[key]}", ids)]
    return Written("\n".join(lines) + "\n", warnings)


def _rule(permission: Permission, name: str, ids: dict[str, str]) -> list[str]:
    peer = ids[permission.peer] if permission.kind == "group" else quoted(permission.peer)
    values = {"security_group_id": ids[permission.group]}
    if permission.note:
        values["description"] = quoted(permission.note)
    values[_PEER[permission.kind]] = peer
    values["ip_protocol"] = quoted(permission.proto)
    if permission.ports is not None:
        values["from_port"], values["to_port"] = map(str, permission.ports)
    width = max(map(len, values))
    return [
        f'resource "aws_vpc_security_group_{permission.side}_rule" "{name}" {{',
        *(f"  {key.ljust(width)} = {value}" for key, value in values.items()),
        "}",
    ]


def quoted(text: str) -> str:
    """A string of Terraform's language that stands for just this text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "$${").replace("%{", "%%{")
    return '"' + "".join(one if one.isprintable() else _escape(one) for one in escaped) + '"'


def _escape(one: str) -> str:
    return f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}"
