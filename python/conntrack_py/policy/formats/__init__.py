"""Policies in the languages of other tools: written, and read where that language says enough.

Every writer gives a text and warnings: what its language cannot say is named, never left out in silence.
"""

from __future__ import annotations

import difflib
import importlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.formats.common import Written, is_undescribed, open_sides
from conntrack_py.policy.formats.normal import normalised
from conntrack_py.policy.model import Ruleset

_T = TypeVar("_T")
#: Writes a policy, or what one group of it means for a host that is a member.
Writer = Callable[[Ruleset, str | None], Written]
#: Reads a policy from a text and the name of its file, with warnings.
Reader = Callable[[str, str], tuple[Ruleset, list[str]]]


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
}
#: Formats that can be read.
READERS: Mapping[str, Reader] = {"aws": _later("aws_read", "read"), "kubernetes": _later("kubernetes_read", "read")}
#: Formats that can be written for one host.
FOR_HOSTS = ("nftables", "iptables", "ip6tables")


def write(ruleset: Ruleset, format: str, *, group: str | None = None) -> Written:
    """Write a policy for another tool.

    Args:
        ruleset: The policy.
        format: One of `WRITERS`.
        group: Write what a host that is a member of this group must load, where the format has such a form
            (`FOR_HOSTS`); otherwise what a gateway between all groups must load.

    Raises:
        PolicyError: The format or group is unknown, or the format has no form for a host or no room for the rules.
    """
    writer = _known(WRITERS, format, "write")
    if group is not None:
        if format not in FOR_HOSTS:
            raise PolicyError(f"{format} has no form for one host; {', '.join(FOR_HOSTS)} have")
        if group not in ruleset.groups:
            raise PolicyError(f"group {group!r} is not in this policy; {_nearest(group, ruleset.groups)}")
        if is_undescribed(ruleset.groups[group]):
            raise PolicyError(f"group {group!r} is only known as a peer: what it may do is not in this policy")
    written = writer(ruleset, group)
    return Written(written.text, [*_unlimited(ruleset, group), *written.warnings])


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


def read(text: str, format: str, name: str = "") -> tuple[Ruleset, list[str]]:
    """Read another tool's policy.

    Args:
        text: Its text.
        format: One of `READERS`.
        name: Its file, for messages.

    Returns:
        The policy, and warnings about what of the text is not in it.

    Raises:
        PolicyError: The format is unknown, or the text is not in it.
    """
    return _known(READERS, format, "read")(text, name)


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
        "terraform": r"^[ \t]*resource[ \t]+\"aws_",
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


def _guess_json(text: str, name: str) -> str | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    except RecursionError:
        raise PolicyError(f"{name + ': ' if name else ''}not JSON that can be read: nested too deeply") from None
    if isinstance(found, list):
        first = found[0] if found else None
        return "gcp" if isinstance(first, dict) and {"direction", "priority"} <= first.keys() else None
    if not isinstance(found, dict):
        return None
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


__all__ = ("FOR_HOSTS", "READERS", "WRITERS", "Reader", "Writer", "Written", "guess", "normalised", "read", "write")
