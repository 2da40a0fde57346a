"""The native form of a policy: TOML or JSON with the same keys.

    default = "deny"

    [groups.web]
    members = ["10.0.1.0/24"]
    ingress = [{ from = "any", proto = "tcp", ports = [443], note = "the site" }]
    egress = []

`from` and `to` take one peer or a list; `ports` numbers and ranges ("8000-8100"); ICMP has `types` instead. `default`
of a group is a word, or one for each direction: `{ ingress = "deny", egress = "allow" }`. `combine = "any"`: of several
groups of an address, one has to allow a connection, as in Kubernetes and AWS; without it all have to. `to_name` and
`from_name` have host names of the peers, beside `to` and `from`: the addresses decide. `owner` and `ticket` are lines
of text; `expires` is the last day of a rule (of a time, its day in UTC); `suggest` and `merge` write `stale_since`.
`helper = "ftp"`: connections that the service announces pass.
"""

from __future__ import annotations

import datetime
import difflib
import ipaddress
import json
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from conntrack_py import _native
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.expiry import day_of
from conntrack_py.policy.model import (
    ANY,
    HELPERS,
    SIDES,
    WITH_PORTS,
    WITH_TYPES,
    Default,
    Evidence,
    Group,
    Rule,
    Ruleset,
    Side,
    is_host_name,
    port_text,
)
from conntrack_py.policy.yaml_places import SHOWN_KEY, parsed, places, where
from conntrack_py.schema import moment

#: Other names under which people know protocols.
_ALIASES = {"icmpv6": "icmp6", "ipv6-icmp": "icmp6", "all": ANY, "*": ANY, "-1": ANY}
_PEER_KEY = {"ingress": "from", "egress": "to"}
_NAME_KEY = {"ingress": "from_name", "egress": "to_name"}
_MORE_KEYS = ("proto", "ports", "types", "helper", "note", "owner", "ticket", "expires", "stale_since", "evidence")
_RULE_KEYS = {side: (_PEER_KEY[side], _NAME_KEY[side], *_MORE_KEYS) for side in SIDES}
#: Keys whose values are times: TOML has them without quotes.
_TIMES = ("first", "last", "expires", "stale_since")
_GROUP_KEYS = ("members", "ingress", "egress", "default")
_EVIDENCE_KEYS = ("connections", "peers", "first", "last")
#: Keys of packet filters, and the reason why a policy has none.
_REPLIES = "replies need no rule: they belong to the connection that was allowed"
_HINTS = {
    "source_ports": _REPLIES,
    "sports": _REPLIES,
    "sport": _REPLIES,
    "from_ports": _REPLIES,
    "port": "did you mean ports? It takes a list",
    "type": "did you mean types? It takes a list",
    "protocol": "did you mean proto?",
}


#: Characters of a group's name, and words that a message lists.
_LONGEST_NAME, _LISTED = 1024, 20


class _RefusedError(Exception):
    """A key and what is wrong with it."""


def loads(text: str, kind: str, name: str = "") -> Ruleset:
    """Read a native policy.

    Args:
        text: The document.
        kind: `toml` or `json`.
        name: The file, for messages.

    Raises:
        PolicyError: It is no such document, or a key or value is refused; the message has the file, the line, the key,
            what was found and what was expected.
    """
    document = parsed(text, kind, name)
    lines = places(text, kind)
    try:
        return from_dict(document, lines=lines, source=name)
    except _RefusedError as error:
        key, why = error.args
        raise PolicyError(f"{where(name, nearest_line(lines, key))}{key}: {why}") from None


def nearest_line(lines: Mapping[str, int], key: str) -> int | None:
    """The line of a key or, where it has none, of what holds it."""
    while key:
        if key in lines:
            return lines[key]
        key = re.sub(r"(\[\d+\]|\.[^.\[\]]*|^[^.\[\]]*)$", "", key)
    return None


def from_dict(document: object, *, lines: Mapping[str, int] | None = None, source: str = "") -> Ruleset:
    """A policy from the objects that its TOML or JSON is. Raises `_RefusedError`; callers want `loads` or `checked`."""
    lines = lines or {}
    table = _table("policy", document, ("default", "combine", "groups"))
    default = _default("default", table.get("default", "deny"))
    combine = table.get("combine", "all")
    if combine not in ("all", "any"):
        _refuse("combine", combine, '"all" or "any"')
    groups_table = table.get("groups", {})
    if not isinstance(groups_table, Mapping):
        _refuse("groups", groups_table, "tables such as [groups.web]")
    names = [_name(name) for name in groups_table]
    groups = {name: _group(name, groups_table[name], names, lines) for name in names}
    return Ruleset(groups=groups, default=default, combine=combine, source=source)


def checked(document: object, source: str = "") -> Ruleset:
    """The policy as JSON.

    Raises:
        PolicyError: A key or value is refused.
    """
    try:
        return from_dict(document, source=source)
    except _RefusedError as error:
        raise PolicyError(": ".join(error.args)) from None


def _refuse(key: str, found: object, expected: str) -> NoReturn:
    raise _RefusedError(key, f"found {_shown(found)}, expected {expected}")


def _shown(found: object) -> str:
    """A value as a message shows it: not all of a long one."""
    try:
        return reprlib.repr(found) if not isinstance(found, str) else repr(found[:60])
    except ValueError:  # Python does not write numbers of thousands of digits
        return "a number of too many digits"


def _nearest(word: str, words: Iterable[str]) -> str:
    words = list(words)
    near = difflib.get_close_matches(word, words, n=1)
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return f"did you mean {near[0]}?" if near else f"valid are {', '.join(words[:_LISTED])}{more}"


def _table(key: str, found: object, keys: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        _refuse(key, found, f"a table with {', '.join(keys)}")
    for name in found:
        if name not in keys:
            shown = str(name)[:SHOWN_KEY]
            path = shown if key == "policy" else f"{key}.{shown}"
            raise _RefusedError(path, f"unknown key; {_HINTS.get(str(name)) or _nearest(str(name)[:SHOWN_KEY], keys)}")
    return found


def _default(key: str, found: object) -> Default:
    if found == "allow":
        return "allow"
    if found == "deny":
        return "deny"
    _refuse(key, found, '"deny" or "allow"')


def _name(name: object) -> str:
    if not isinstance(name, str) or not name or name == ANY or not name.isprintable() or _is_network(name):
        _refuse("groups", name, "a name that is not empty, not any, and no address")
    if len(name) > _LONGEST_NAME:
        _refuse("groups", name, f"a name of at most {_LONGEST_NAME} characters, not {len(name):,}")
    return name


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _list(key: str, found: object, of: str) -> list[Any]:
    if not isinstance(found, list | tuple):
        _refuse(key, found, f"a list of {of}")
    return list(found)


def _network(key: str, found: object) -> str:
    try:
        if not isinstance(found, str):
            raise ValueError
        network = ipaddress.ip_network(found, strict=False)
    except ValueError:
        _refuse(key, found, 'a network such as "10.0.1.0/24"')
    address = found.partition("/")[0]
    if ipaddress.ip_address(address) != network.network_address:
        _refuse(key, found, f'a network: is it "{network}", or the host "{address}"?')
    return str(network)


def _group(name: str, found: object, names: list[str], lines: Mapping[str, int]) -> Group:
    key = f"groups.{name}"
    table = _table(key, found, _GROUP_KEYS)
    members = _list(f"{key}.members", table.get("members", []), 'networks such as "10.0.1.0/24"')
    defaults: dict[str, Default | None] = {"ingress": None, "egress": None}
    given = table.get("default")
    if isinstance(given, Mapping):
        for side, word in _table(f"{key}.default", given, SIDES).items():
            defaults[side] = _default(f"{key}.default.{side}", word)
    elif given is not None:
        defaults = dict.fromkeys(SIDES, _default(f"{key}.default", given))

    def rules(side: Side) -> tuple[Rule, ...]:
        listed = _list(f"{key}.{side}", table.get(side, []), "rules")
        return tuple(_rule(f"{key}.{side}[{n}]", rule, side, names, lines) for n, rule in enumerate(listed))

    return Group(
        members=tuple(dict.fromkeys(_network(f"{key}.members[{n}]", member) for n, member in enumerate(members))),
        ingress=rules("ingress"),
        egress=rules("egress"),
        ingress_default=defaults["ingress"],
        egress_default=defaults["egress"],
        line=lines.get(key),
    )


def _rule(key: str, found: object, side: Side, names: list[str], lines: Mapping[str, int]) -> Rule:
    table = _table(key, found, _RULE_KEYS[side])
    proto = _proto(f"{key}.proto", table.get("proto", ANY))
    other, own = ("ports", "types") if proto in WITH_TYPES else ("types", "ports")
    if other in table:
        why = f"{proto} has {own}" if proto in (*WITH_PORTS, *WITH_TYPES) else f"protocol {proto} has none"
        raise _RefusedError(f"{key}.{other}", why)
    if "ports" in table and proto not in WITH_PORTS:
        raise _RefusedError(f"{key}.ports", f"only {', '.join(WITH_PORTS)} have ports; proto is {proto}")
    ports = _ports(f"{key}.{own}", table.get(own, []), 255 if own == "types" else 65535)
    return Rule(
        peers=_peers(f"{key}.{_PEER_KEY[side]}", table.get(_PEER_KEY[side]), names),
        proto=proto,
        ports=ports,
        helper=_helper(f"{key}.helper", table["helper"], proto, ports) if "helper" in table else "",
        note=_line(f"{key}.note", table.get("note", "")),
        names=_names(f"{key}.{_NAME_KEY[side]}", table.get(_NAME_KEY[side], [])),
        owner=_line(f"{key}.owner", table.get("owner", "")),
        ticket=_line(f"{key}.ticket", table.get("ticket", "")),
        expires=_day(f"{key}.expires", table["expires"]) if "expires" in table else None,
        stale_since=_nanoseconds(f"{key}.stale_since", table["stale_since"]) if "stale_since" in table else None,
        evidence=_evidence(f"{key}.evidence", table["evidence"]) if "evidence" in table else None,
        line=lines.get(key),
    )


def _helper(key: str, found: object, proto: str, ports: tuple[tuple[int, int], ...]) -> str:
    if not isinstance(found, str) or found not in HELPERS:
        _refuse(key, found, f"a helper of Linux; {_nearest(found if isinstance(found, str) else '', HELPERS)}")
    if proto not in HELPERS[found] or not ports:
        protos = " or ".join(HELPERS[found])
        raise _RefusedError(key, f"{found} reads the messages of a service: the rule needs proto {protos} and ports")
    return found


def _line(key: str, found: object) -> str:
    # It goes to terminals, and into the comments of other formats.
    if not isinstance(found, str) or not found.isprintable():
        _refuse(key, found, "a line of printable text")
    return found


def _day(key: str, found: object) -> datetime.date:
    return day_of(found) or _refuse(key, found, "a day such as 2026-12-31")


def _peers(key: str, found: object, names: list[str]) -> tuple[str, ...]:
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list | tuple) or not listed:
        _refuse(key, found, "any, a group, a network, or a list of these")
    return tuple(dict.fromkeys(_peer(key, peer, names) for peer in listed))


def _names(key: str, found: object) -> tuple[str, ...]:
    listed = [found] if isinstance(found, str) else _list(key, found, "host names")
    for name in listed:
        if not isinstance(name, str) or not is_host_name(name):
            _refuse(key, name, 'a host name such as "api.example.com", or "*.example.com"')
    return tuple(dict.fromkeys(name.lower() for name in listed))


def _peer(key: str, found: object, names: list[str]) -> str:
    if isinstance(found, str):
        if found == ANY or found in names:
            return found
        if _is_network(found):
            return _network(key, found)
    near = _nearest(found[:60] if isinstance(found, str) else "", [ANY, *names])
    _refuse(key, found, f"any, a group or a network; {near}")


def _proto(key: str, found: object) -> str:
    known = [word for word in _native.PROTOCOLS if not word.isdigit()]
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < len(_native.PROTOCOLS):
        return _native.PROTOCOLS[found]
    if isinstance(found, str):
        word = _ALIASES.get(found.lower(), found.lower())
        if word.isdecimal() and len(word) < 4 and int(word) < len(_native.PROTOCOLS):
            return _native.PROTOCOLS[int(word)]
        if word == ANY or word in known:
            return word
    near = _nearest(found[:60], [ANY, *known]) if isinstance(found, str) else f"valid are {', '.join([ANY, *known])}"
    _refuse(key, found, f"a protocol or its number; {near}")


def _ports(key: str, found: object, most: int) -> tuple[tuple[int, int], ...]:
    expected = f'numbers from 0 to {most}, or ranges such as "8000-8100"' if most > 255 else "ICMP types from 0 to 255"
    return tuple(_range(f"{key}[{n}]", one, most, expected) for n, one in enumerate(_list(key, found, expected)))


def _range(key: str, found: object, most: int, expected: str) -> tuple[int, int]:
    if isinstance(found, int) and not isinstance(found, bool):
        first = last = found
    else:
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", found) if isinstance(found, str) else None
        if match is None:
            _refuse(key, found, expected)
        first, last = int(match[1]), int(match[2] or match[1])
    if not 0 <= first <= last <= most:
        _refuse(key, found, expected)
    return first, last


def _evidence(key: str, found: object) -> Evidence:
    table = _table(key, found, _EVIDENCE_KEYS)
    for name in ("connections", "peers"):
        if not isinstance(table.get(name), int):
            _refuse(f"{key}.{name}", table.get(name), "a number")
    return Evidence(
        connections=table["connections"],
        peers=table["peers"],
        first=_nanoseconds(f"{key}.first", table.get("first")),
        last=_nanoseconds(f"{key}.last", table.get("last")),
    )


def _nanoseconds(key: str, found: object) -> int:
    try:
        at = datetime.datetime.fromisoformat(found) if isinstance(found, str) else found
    except ValueError:
        at = None
    if not isinstance(at, datetime.datetime):
        _refuse(key, found, "a time such as 2026-01-02T03:04:05Z")
    since = at.replace(tzinfo=at.tzinfo or datetime.UTC) - datetime.datetime.fromtimestamp(0, datetime.UTC)
    # A datetime has no room for the last three of nine digits.
    rest = re.search(r"\.[0-9]{6}([0-9]{3})(?![0-9])", found) if isinstance(found, str) else None
    return (since // datetime.timedelta(microseconds=1)) * 1000 + (int(rest[1]) if rest else 0)


def zone_groups(zones: Mapping[str, Iterable[str]]) -> dict[str, Group]:
    """Groups without rules from the zones of a configuration."""
    try:
        return {
            _name(name): Group(members=tuple(str(ipaddress.ip_network(net, strict=False)) for net in networks))
            for name, networks in zones.items()
        }
    except _RefusedError as error:
        raise PolicyError(f"zones as {': '.join(error.args)}") from None


def to_dict(ruleset: Ruleset) -> dict[str, Any]:
    """The objects that the TOML or JSON of a policy is."""
    groups: dict[str, Any] = {}
    for name, group in ruleset.groups.items():
        table: dict[str, Any] = {"members": list(group.members)}
        own = {side: group.default(side) for side in SIDES if group.default(side) is not None}
        if own:
            table["default"] = own
        for side in SIDES:
            table[side] = [rule_dict(rule, side) for rule in group.rules(side)]
        groups[name] = table
    combine = {} if ruleset.combine == "all" else {"combine": ruleset.combine}
    return {"default": ruleset.default, **combine, "groups": groups}


def rule_dict(rule: Rule, side: Side) -> dict[str, Any]:
    """The objects that a rule is."""
    table: dict[str, Any] = {_PEER_KEY[side]: rule.peers[0] if len(rule.peers) == 1 else list(rule.peers)}
    if rule.names:
        table[_NAME_KEY[side]] = rule.names[0] if len(rule.names) == 1 else list(rule.names)
    table["proto"] = rule.proto
    if rule.ports:
        ports = [first if first == last else port_text((first, last)) for first, last in rule.ports]
        table["types" if rule.proto in WITH_TYPES else "ports"] = ports
    if rule.helper:
        table["helper"] = rule.helper
    if rule.note:
        table["note"] = rule.note
    table |= {key: value for key, value in (("owner", rule.owner), ("ticket", rule.ticket)) if value}
    if rule.expires is not None:
        table["expires"] = rule.expires.isoformat()
    if rule.stale_since is not None:
        table["stale_since"] = moment(rule.stale_since)
    if rule.evidence is not None:
        found = rule.evidence
        table["evidence"] = {
            "connections": found.connections,
            "peers": found.peers,
            "first": moment(found.first),
            "last": moment(found.last),
        }
    return table


def to_json(ruleset: Ruleset) -> str:
    """The policy as JSON."""
    return json.dumps(to_dict(ruleset), indent=2, ensure_ascii=False) + "\n"


def to_toml(ruleset: Ruleset, *, comments: Mapping[str, list[str]] | None = None) -> str:
    """The policy as TOML, one rule a line.

    Args:
        ruleset: The policy.
        comments: Lines to add as comments at the end of a group, by its name.
    """
    import tomlkit

    lines = [f"default = {_toml(ruleset.default)}"]
    if ruleset.combine != "all":
        lines.append(f"combine = {_toml(ruleset.combine)}")
    for name, table in to_dict(ruleset)["groups"].items():
        lines += ["", f"[groups.{tomlkit.key(name).as_string()}]", *_toml_lines("members", table["members"])]
        if "default" in table:
            lines.append(f"default = {_toml(table['default'])}")
        for side in SIDES:
            lines += _toml_lines(side, table[side], short=0)
        lines += [f"# {line}" for line in (comments or {}).get(name, [])]
    return "\n".join(lines) + "\n"


def inline(rule: Rule, side: Side) -> str:
    """A rule as it stands in a list of a TOML file."""
    return _toml(rule_dict(rule, side))


def _toml_lines(key: str, values: list[Any], short: int = 6) -> list[str]:
    """A list, in one line if it is short."""
    if len(values) <= short or not values:
        return [f"{key} = {_toml(values)}"]
    return [f"{key} = [", *(f"    {_toml(value)}," for value in values), "]"]


def _toml(value: Any) -> str:
    """A value in one line. The library writes words and numbers; its lists and tables take time by the square."""
    import tomlkit

    if isinstance(value, Mapping):
        pairs = (f"{key} = {one if key in _TIMES else _toml(one)}" for key, one in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(tomlkit.item(value).as_string())


__all__ = ["checked", "from_dict", "inline", "loads", "moment", "nearest_line", "places", "rule_dict", "to_dict"]
__all__ += ["to_json", "to_toml"]
