"""Policies in the languages of other tools: written, and read where that language says enough.

Every writer gives a text and warnings: what its language cannot say is named, never left out in silence.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.formats.common import Written, complaint, is_undescribed, open_sides, some, without_helper
from conntrack_py.policy.formats.normal import normalised
from conntrack_py.policy.model import Rule, Ruleset
from conntrack_py.policy.separate import separated

_T = TypeVar("_T")
#: Writes a policy, or what one group of it means for a host that is a member; with a third argument its audit form.
Writer = Callable[..., Written]
#: Reads a policy from a text and the name of its file, with warnings; of Kubernetes with the pods of a cluster, too.
Reader = Callable[..., tuple[Ruleset, list[str]]]


def _later(module: str, function: str) -> Callable[..., Any]:
    """A function of a module that is imported when it is first called: few runs need more than one format."""

    def call(*args: object) -> Any:
        return getattr(importlib.import_module(f"{__name__}.{module}"), function)(*args)

    return call


#: The formats that can be written.
WRITERS: Mapping[str, Writer] = {
    "nftables": _later("nftables", "write"),
    "iptables": _later("iptables", "write"),
    "ip6tables": _later("iptables", "write6"),
    "aws": _later("aws", "write"),
    "terraform": _later("terraform", "write"),
    "kubernetes": _later("kubernetes", "write"),
    "gcp": _later("gcp", "write"),
    "azure": _later("azure", "write"),
    "cilium": _later("clusters.cilium", "write"),
    "calico": _later("clusters.calico", "write"),
    "antrea": _later("clusters.antrea", "write"),
    "firewalld": _later("hosts.firewalld", "write"),
    "firewalld-policy": _later("hosts.firewalld", "write_policy"),
    "ufw": _later("hosts.ufw", "write"),
    "windows": _later("hosts.windows", "write"),
    "panos": _later("gateways.panos", "write"),
    "fortios": _later("gateways.fortios", "write"),
    "pfsense": _later("gateways.pfsense", "write"),
}
#: Formats that can be read.
READERS: Mapping[str, Reader] = {"aws": _later("aws_read", "read"), "kubernetes": _later("kubernetes_read", "read")}
#: Languages in which several groups of an address add up; elsewhere all of them are asked.
ADDS_UP = ("aws", "terraform", "kubernetes", "gcp", "cilium", "calico", "antrea")
#: Formats that are for one host, and those that can be.
ONLY_FOR_HOSTS = ("firewalld", "firewalld-policy", "ufw", "windows")
FOR_HOSTS = ("nftables", "iptables", "ip6tables", *ONLY_FOR_HOSTS)
#: Formats with a form that accepts everything and logs what the policy would refuse.
AUDITS = ("nftables", "iptables", "ip6tables", "cilium")
#: Formats that set helpers, and warn about those they do not have. In others the connections that a service announces
#: need rules, and a warning says so.
WITH_HELPERS = ("nftables", "iptables", "ip6tables", "fortios")
#: Formats that have a place for host names; in others they are in the notes.
WITH_NAMES = ("kubernetes", "cilium", "calico", "antrea", "panos", "fortios", "pfsense")


def write(ruleset: Ruleset, format: str, *, group: str | None = None, audit: bool = False) -> Written:
    """Write a policy for another tool.

    Args:
        ruleset: The policy.
        format: One of `WRITERS`.
        group: Write what a host that is a member of this group must load, where the format has such a form
            (`FOR_HOSTS`); otherwise what a gateway between all groups must load. A format that has no other form
            (`ONLY_FOR_HOSTS`) takes the only group there is.
        audit: Write the form that refuses nothing and logs what would be refused (`AUDITS`).

    Raises:
        PolicyError: The format or group is unknown, or the format has no such form or no room for the rules.
    """
    writer = _known(WRITERS, format, "write")
    if audit and format not in AUDITS:
        raise PolicyError(f"{format} has no audit form; {', '.join(AUDITS)} have")
    if group is None and format in ONLY_FOR_HOSTS:
        known = [name for name, one in ruleset.groups.items() if not is_undescribed(one)]
        if len(known) != 1:
            raise PolicyError(f"{format} is for one host: name its group, {some(known) or 'and there is none'}")
        group = known[0]
    if group is not None:
        if format not in FOR_HOSTS:
            raise PolicyError(f"{format} has no form for one host; {', '.join(FOR_HOSTS)} have")
        if group not in ruleset.groups:
            raise PolicyError(f"group {group!r} is not in this policy; {_nearest(group, ruleset.groups)}")
        if is_undescribed(ruleset.groups[group]):
            raise PolicyError(f"group {group!r} is only known as a peer: what it may do is not in this policy")
    if group is None and format not in ADDS_UP:
        ruleset = separated(ruleset)
    ruleset = _noted(ruleset, names=format not in WITH_NAMES)
    written = writer(ruleset, group, True) if audit else writer(ruleset, group)
    unhelped = [] if format in WITH_HELPERS else _unhelped(ruleset, group, format)
    return Written(written.text, [*_unlimited(ruleset, group), *unhelped, *written.warnings])


def _noted(ruleset: Ruleset, names: bool) -> Ruleset:
    """The policy with owners, tickets and last days in the notes of rules, and names where the format has none."""

    def words(rule: Rule) -> str:
        marks = (("owner", rule.owner), ("ticket", rule.ticket), ("expires", rule.expires))
        said = "; ".join(filter(None, (rule.note, *(f"{key} {value}" for key, value in marks if value))))
        return ": ".join(filter(None, (said, ", ".join(rule.names) if names else "")))

    def noted(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(dataclasses.replace(rule, note=words(rule)) for rule in rules)

    groups = {
        name: dataclasses.replace(group, ingress=noted(group.ingress), egress=noted(group.egress))
        for name, group in ruleset.groups.items()
    }
    return dataclasses.replace(ruleset, groups=groups)


def _unhelped(ruleset: Ruleset, group: str | None, format: str) -> list[str]:
    """Warnings about rules with a helper that a format cannot set."""
    return [
        complaint(numbered, without_helper(format, numbered.rule.helper))
        for numbered in ruleset.numbered()
        if numbered.rule.helper and group in (None, numbered.group)
    ]


def _unlimited(ruleset: Ruleset, group: str | None) -> list[str]:
    """Warnings about groups for which a text allows everything, or says nothing."""
    found = []
    for name in ruleset.groups if group is None else [group]:
        if is_undescribed(ruleset.groups[name]):
            found.append(f"groups.{name}: is only known as a peer: NO RULES are written for it, what it has must stay")
            continue
        sides = " and ".join(open_sides(ruleset, name))
        if sides:
            found.append(f"groups.{name}: {sides} of it is not limited: everything is allowed")
    return found


def read(text: str, format: str, name: str = "", pods: tuple[str, str] | None = None) -> tuple[Ruleset, list[str]]:
    """Read another tool's policy.

    Args:
        text: Its text.
        format: One of `READERS`.
        name: Its file, for messages.
        pods: For `kubernetes`: the text and name of a file of pods, whose addresses are members of their selectors.

    Returns:
        The policy, and warnings about what of the text is not in it.

    Raises:
        PolicyError: The format is unknown or has no pods, or the text is not in it.
    """
    reader = _known(READERS, format, "read")
    if pods is None:
        return reader(text, name)
    if format != "kubernetes":
        raise PolicyError(f"{name}: found {format} with a file of pods, expected kubernetes")
    from conntrack_py.policy.formats.clusters.pods import Pods

    return reader(text, name, Pods(*pods))


def _known(formats: Mapping[str, _T], format: str, what: str) -> _T:
    if format not in formats:
        raise PolicyError(f"cannot {what} format {format!r}; {_nearest(format, formats)}")
    return formats[format]


def _nearest(word: str, words: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(word.lower(), words, n=1)
    return f"did you mean {near[0]}?" if near else f"valid are {', '.join(words)}"


def guess(text: str, name: str = "") -> str | None:
    """The format of a text, by its content and then by the suffix of its file.

    One of `WRITERS`, `toml` or `json` (native), `iptables-save`, `nftables-json`, `nacl`, or None. The text need not be
    valid.

    Raises:
        PolicyError: It is JSON that is nested too deeply.
    """
    start = text.lstrip("\ufeff \t\r\n")
    if start[:1] in ("{", "["):
        found = _guess_json(start, name)
        if found is not None:
            return found
    patterns = {
        "kubernetes": r"^[ \t]*(-[ \t]+)?kind:[ \t]*['\"]?NetworkPolicy",
        "cilium": r"^[ \t]*(-[ \t]+)?kind:[ \t]*['\"]?Cilium(Clusterwide)?NetworkPolicy",
        "calico": r"^[ \t]*(-[ \t]+)?apiVersion:[ \t]*['\"]?(crd\.)?projectcalico\.org/",
        "antrea": r"^[ \t]*(-[ \t]+)?apiVersion:[ \t]*['\"]?crd\.antrea\.io/",
        "firewalld": r"^<zone\b",
        "firewalld-policy": r"^<policy\b",
        "ufw": r"^ufw[ \t]+(allow|deny|default|limit|reject)\b",
        "panos": r"^set (address|address-group|service|rulebase|shared|device-group) ",
        "fortios": r"^config firewall (address6?|addrgrp6?|service custom|policy)$",
        "pfsense": r"^<pfsense\b",
        "windows": r"^(New|Get)-NetFirewallRule\b",
        "terraform": r"^[ \t]*resource[ \t]+\"(aws|azurerm|google)_",
        "nftables": r"^[ \t]*(add[ \t]+)?(table[ \t]+(inet|ip|ip6)[ \t]+\S+|flush[ \t]+ruleset|chain[ \t]+\S+[ \t]*\{)",
        "iptables-save": r"^[ \t]*\*(filter|nat|mangle|raw|security)[ \t\r]*$",
    }
    for format, pattern in patterns.items():
        if re.search(pattern, text, re.MULTILINE):
            return format
    suffix = name.lower().rpartition(".")[2] if "." in name else ""
    if suffix in ("toml", "json"):
        return suffix
    if suffix == "nft":
        return "nftables"
    return "toml" if re.search(r"^[ \t]*(\[groups[.\]]|default[ \t]*=)", text, re.MULTILINE) else None


def _is_cloud(kind: str) -> bool:
    return kind.startswith(("aws_", "azurerm_", "google_"))


def _guess_json(text: str, name: str) -> str | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    except RecursionError:
        raise PolicyError(f"{name + ': ' if name else ''}not JSON that can be read: nested too deeply") from None
    first = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, dict):
        return None
    inner = first.get("properties")
    inner = inner.keys() if isinstance(inner, dict) else ()
    if "securityRules" in first or "securityRules" in inner or {"access", "direction", "priority"} <= {*first, *inner}:
        return "azure"
    if isinstance(found, list):
        is_rule = {"direction", "priority"} <= first.keys() or ({"network", "allowed"} <= first.keys())
        return "gcp" if is_rule else None
    if "terraform_version" in found or {"values", "planned_values"} & found.keys():
        return "terraform"
    if isinstance(found.get("resource"), dict) and any(_is_cloud(kind) for kind in found["resource"]):
        return "terraform"
    if "SecurityGroups" in found:
        return "aws"
    if "NetworkAcls" in found:
        return "nacl"
    if "nftables" in found:
        return "nftables-json"
    if "resources" in found and "$schema" in found:
        return "azure"
    kind = found.get("kind")
    kind = kind if isinstance(kind, str) else ""
    if kind.startswith("NetworkPolicy") or (kind == "List" and '"NetworkPolicy"' in text):
        return "kubernetes"
    return "json" if "groups" in found else None


__all__ = (
    "AUDITS",
    "FOR_HOSTS",
    "ONLY_FOR_HOSTS",
    "READERS",
    "WITH_HELPERS",
    "WITH_NAMES",
    "WRITERS",
    "Reader",
    "Writer",
    "Written",
    "guess",
    "normalised",
    "read",
    "write",
)
