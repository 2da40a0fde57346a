"""Reads nftables rulesets: the JSON of `nft -j list ruleset`."""

from __future__ import annotations

import functools
import ipaddress
import itertools
import json
from collections.abc import Iterator
from typing import Any, Literal

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets import nft_lines, nft_words
from conntrack_py.policy.rulesets.foreign import load_json, plain
from conntrack_py.policy.rulesets.model import (
    ALL_STATES,
    ALL_TYPES,
    DIRECTIONS,
    Base,
    Chain,
    Firewall,
    Match,
    Note,
    Program,
    Step,
    flattened,
    protocol,
)
from conntrack_py.policy.rulesets.spans import ALL_PORTS, EVERYBODY, V4, V6, Spans, of_networks, union, without

#: Statements that change nothing about which packets a rule is about.
_HARMLESS = (
    "counter",
    "log",
    "mangle",
    "ct timeout",
    "ct expectation",
    "flow",
    "dup",
    "last",
)
#: Statements of chains behind the decision, which change the packet only.
_BEHIND = ("masquerade", "snat")
#: Hooks in whose order a packet is looked at.
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_VERSIONS = {"ip": frozenset((4,)), "ip6": frozenset((6,)), "inet": frozenset((4, 6))}
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_ICMP_TYPES = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
    "info-request": 15,
    "info-reply": 16,
    "address-mask-request": 17,
    "address-mask-reply": 18,
}
_ICMP6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "mld-listener-reduction": 132,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
    "router-renumbering": 138,
    "ind-neighbor-solicit": 141,
    "ind-neighbor-advert": 142,
    "mld2-listener-report": 143,
}
_FAMILIES = {"ip": V4, "ip6": V6, "inet": EVERYBODY}
_INTERFACES = {"iif": "iif", "iifname": "iif", "oif": "oif", "oifname": "oif"}
_PORT_PROTOCOLS = ("tcp", "udp", "sctp", "dccp", "udplite")


class _UnknownError(Exception):
    """Something in a rule that is not understood."""


def from_nft_json(text: str, name: str = "", lines: nft_lines.Lines | None = None) -> Firewall:
    """Read the JSON of `nft -j list ruleset`.

    Args:
        text: The JSON.
        name: The file, for messages.
        lines: The lines of the rules in a text that was loaded.

    Raises:
        PolicyError: It is no such JSON.
    """
    where = f"{name}: " if name else ""
    # What nft writes may have a key twice.
    document = load_json(text, name, unique=False)
    listed = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise PolicyError(f"{where}not the JSON of `nft -j list ruleset`: there is no list nftables")
    reader = _Reader()
    for number, entry in enumerate(listed):
        try:
            reader.take(entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PolicyError(f"{where}nftables[{number}]: {_fault(error)}") from error
    reader.place(lines or nft_lines.Lines())
    try:
        chains = tuple(reader.chains())
        return Firewall(
            name=name,
            family="nftables",
            chains=chains,
            notes=tuple(reader.notes()),
            program=reader.program(),
            helpers=tuple(reader.helpers),
        )
    except PolicyError as error:
        raise PolicyError(f"{where}{error}") from None
    except RecursionError:
        raise PolicyError(f"{where}a rule is nested too deeply") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PolicyError(f"{where}a rule or chain is not as nft writes it") from error


def _fault(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else "not as nft writes it"


class _Reader:
    """Gathers chains, sets and rules; sets may come after the rules that name them."""

    def __init__(self) -> None:
        self.sets: dict[str, Any] = {}
        #: Sets that packets change.
        self.changing: set[str] = set()
        self.named: dict[str, dict[str, Any]] = {}
        self.rules: dict[str, list[dict[str, Any]]] = {}
        #: Helpers by the names of their objects, and those that rules set.
        self.objects: dict[str, str] = {}
        self.helpers: list[tuple[Match, str]] = []
        #: Lines of rules by their identity, and of chains.
        self.lines: dict[int, int] = {}
        self.chain_lines: dict[str, int] = {}

    def take(self, entry: dict[str, Any]) -> None:
        for kind, value in entry.items():
            if kind == "chain":
                self.named[_key(value, "name")] = value
            elif kind in ("set", "map"):
                elements = value.get("elem", [])
                self.sets[_key(value, "name")] = elements if isinstance(elements, list) else [elements]
                flags = value.get("flags", [])
                if "timeout" in value or any(word in flags for word in ("dynamic", "timeout")):
                    self.changing.add(_key(value, "name"))
            elif kind == "ct helper":
                self.objects[_key(value, "name")] = str(value.get("type"))
            elif kind == "rule":
                if not isinstance(value["expr"], list):
                    raise TypeError
                self.rules.setdefault(_key(value, "chain"), []).append(value)

    def place(self, lines: nft_lines.Lines) -> None:
        """Give rules the lines of a text, where it has as many rules of their chain."""
        for key, rules in self.rules.items():
            known = lines.rules.get(key)
            if known is not None and len(known) == len(rules):
                self.lines.update(zip(map(id, rules), known, strict=True))
        self.chain_lines = lines.chains

    @functools.cached_property
    def _steps(self) -> dict[str, list[Step]]:
        return {key: [step for rule in rules for step in self.steps(rule)] for key, rules in self.rules.items()}

    def program(self) -> Program:
        """All chains that see packets of IP."""
        bases = []
        for key, chain in self.named.items():
            hook, family = str(chain.get("hook")), str(chain.get("family"))
            if hook not in _HOOKS or family not in _VERSIONS:
                continue
            priority = chain.get("prio", 0)
            if not isinstance(priority, int):
                priority = _PRIORITIES.get(str(priority), 0)
            policy: Literal["accept", "drop"] = "drop" if chain.get("policy") == "drop" else "accept"
            bases.append(
                Base(
                    key=key,
                    hook=hook,
                    policy=policy,
                    priority=priority,
                    versions=_VERSIONS[family],
                    first_only=chain.get("type") == "nat",
                    line=self.chain_lines.get(key),
                )
            )
        return Program(bases=tuple(bases), steps=self._steps)

    def notes(self) -> Iterator[Note]:
        """Chains that nothing is said about."""
        for key, chain in self.named.items():
            hook, family = chain.get("hook"), str(chain.get("family"))
            if hook is not None and (str(hook) not in _HOOKS or family not in _VERSIONS) and self.rules.get(key):
                words = f"hook {plain(str(hook))[:40]} of family {plain(family)[:40]}"
                yield Note(message=f"The chain {plain(key)[:120]} ({words}) is not looked at.", text=plain(key)[:120])

    def chains(self) -> Iterator[Chain]:
        names = {key: key for key in self.named}
        looked_at = itertools.count()
        steps = self._steps
        for key, chain in self.named.items():
            hook, family = str(chain.get("hook")), str(chain.get("family"))
            if chain.get("type") != "filter" or hook not in DIRECTIONS or family not in _FAMILIES:
                continue
            policy: Literal["accept", "drop"] = "drop" if chain.get("policy") == "drop" else "accept"
            rules = flattened(steps, key, DIRECTIONS[hook], names, looked_at)
            yield Chain(name=plain(key), hook=hook, policy=policy, rules=rules, line=self.chain_lines.get(key))

    def steps(self, rule: dict[str, Any]) -> Iterator[Step]:
        """A rule, and one more for each verdict that it takes from a map."""
        family = str(rule.get("family"))
        table = f"{family} {rule.get('table')}"
        match = Match(saddr=_FAMILIES[family]) if family in ("ip", "ip6") else Match()
        if family in ("ip", "ip6"):
            match = Match(saddr=_FAMILIES[family], daddr=_FAMILIES[family])
        handle = rule.get("handle")
        text = nft_words.rule(rule["expr"])
        line = self.lines.get(id(rule))
        # A person who has the text knows lines, and one who has the kernel's list knows handles.
        handle = handle if isinstance(handle, int) and line is None else None
        given = {"text": text, "handle": handle, "line": line}
        for expression in rule["expr"]:
            kind, value = next(iter(expression.items())) if isinstance(expression, dict) and expression else ("", None)
            if kind == "match" and isinstance(value, dict):
                met = self._met(match, table, value.get("left"), str(value.get("op")), value.get("right"))
                if met is None:
                    return
                match = met
            elif kind == "vmap" and isinstance(value, dict) and self._changes(table, value.get("data")):
                yield Step(match=match, action="unknown", **given)  # type: ignore[arg-type]
            elif kind == "vmap" and isinstance(value, dict):
                for verdict, values in self._verdicts(table, value.get("data")):
                    met = self._met(match, table, value.get("key"), "==", {"set": values})
                    if met is not None:
                        yield from _step(table, met, verdict, given)
            elif kind in _VERDICTS:
                answered = match.meet(_answered(value)) if kind == "reject" else match
                if answered is not None:
                    yield from _step(table, answered, {kind: value}, given)
                return
            elif kind in _BEHIND:
                return
            elif kind in ("set", "map") or (kind == "mangle" and "payload" in str(value)):
                met = match.meet(_changes(value))
                if met is None:
                    return
                match = met
            elif kind == "limit":
                match = match.meet(Match(limited=True)) or match
            elif kind in _DECIDES:
                yield Step(match=match, action="unknown", **given)  # type: ignore[arg-type]
                return
            elif kind == "ct helper":
                self.helpers.append((match, self.objects.get(f"{table} {value}", "")))
            elif kind not in _HARMLESS:
                match = _partial(match)

    def _changes(self, table: str, data: Any) -> bool:
        """True for the name of a map whose elements are not told."""
        return isinstance(data, str) and f"{table} {data[1:]}" in self.changing

    def _verdicts(self, table: str, data: Any) -> list[tuple[Any, list[Any]]]:
        """The verdicts of a map, each with the values that lead to it."""
        pairs = self.sets.get(f"{table} {data[1:]}", []) if isinstance(data, str) else data
        pairs = pairs.get("set", []) if isinstance(pairs, dict) else pairs
        found: dict[str, tuple[Any, list[Any]]] = {}
        for pair in pairs if isinstance(pairs, list) else []:
            if isinstance(pair, list) and len(pair) == 2:
                found.setdefault(json.dumps(pair[1]), (pair[1], []))[1].append(pair[0])
        return list(found.values())

    def _met(self, match: Match, table: str, left: Any, op: str, right: Any) -> Match | None:
        """The remaining match; None: empty."""
        try:
            return match.meet(self._match(table, left, op, right))
        except (_UnknownError, KeyError, TypeError, ValueError, AttributeError, IndexError):
            known = _implied(left)
            return match.meet(Match(protos=known, partial=True))

    def _match(self, table: str, left: Any, op: str, right: Any) -> Match:
        values = self._values(table, right)
        if "&" in left:
            return _flags(left["&"], op, values)
        if "payload" in left:
            return _payload(left["payload"]["protocol"], left["payload"]["field"], op, values)
        if "meta" in left:
            return _meta(left["meta"]["key"], op, values)
        if "ct" in left and "dir" not in left["ct"]:
            return _ct(left["ct"]["key"], op, values)
        raise _UnknownError

    def _values(self, table: str, right: Any) -> list[Any]:
        if isinstance(right, str) and f"{table} {right[1:]}" in self.changing:
            raise _UnknownError
        if isinstance(right, str) and right.startswith("@"):
            return [_element(value) for value in self.sets[f"{table} {right[1:]}"]]
        if isinstance(right, dict) and "set" in right:
            right = right["set"]
            return self._values(table, right) if isinstance(right, str) else [_element(value) for value in right]
        return right if isinstance(right, list) else [right]


def _key(value: dict[str, Any], name: str) -> str:
    return f"{value['family']} {value['table']} {value[name]}"


def _element(value: Any) -> Any:
    return value["elem"]["val"] if isinstance(value, dict) and "elem" in value else value


_VERDICTS = ("accept", "drop", "reject", "jump", "goto", "return", "queue", "continue")
#: Statements after which another packet goes on, or none.
_DECIDES = ("dnat", "redirect", "tproxy", "synproxy", "notrack", "xt", "fwd")


def _step(table: str, match: Match, verdict: dict[str, Any], given: dict[str, Any]) -> Iterator[Step]:
    kind, value = next(iter(verdict.items()))
    if kind == "accept":
        yield Step(match=match, action="accept", **given)
    elif kind in ("drop", "reject"):
        yield Step(match=match, action="drop", **given)
    elif kind == "return":
        yield Step(match=match, action="return", **given)
    elif kind in ("jump", "goto") and isinstance(value, dict):
        target = f"{table} {value.get('target')}"
        yield Step(match=match, action="jump" if kind == "jump" else "goto", target=target, **given)
    elif kind == "queue":
        yield Step(match=match, action="unknown", **given)


def _answered(reject: Any) -> Match:
    """The packets that can be refused by such an answer: nft lists a reset without the protocol that it implies."""
    kind = reject.get("type") if isinstance(reject, dict) else None
    if kind == "tcp reset":
        return Match(protos=frozenset(("tcp",)))
    return Match(saddr={"icmp": V4, "icmpv6": V6}.get(str(kind), EVERYBODY))


def _changes(value: Any) -> Match:
    """The packets for which a set can be changed: nft lists no version of IP where the element implies one."""
    element = value.get("elem", value.get("key")) if isinstance(value, dict) else None
    payload = element.get("payload") if isinstance(element, dict) else None
    family = _FAMILIES.get(str(payload.get("protocol"))) if isinstance(payload, dict) else None
    # Statements of the element, such as a limit, decide too.
    known = family is not None and isinstance(value, dict) and not value.get("stmt")
    return Match(saddr=EVERYBODY if family is None else family, partial=not known)


def _partial(match: Match) -> Match:
    return match.meet(Match(partial=True)) or match


def _implied(left: Any) -> frozenset[str] | None:
    """The protocol that a rule is about, because it looks at one of its fields."""
    if isinstance(left, dict) and isinstance(left.get("&"), list) and left["&"]:
        left = left["&"][0]
    payload = left.get("payload") if isinstance(left, dict) else None
    word = protocol(payload.get("protocol")) if isinstance(payload, dict) else ""
    return frozenset((word,)) if word in (*_PORT_PROTOCOLS, "icmp", "icmp6") else None


def _payload(proto: str, field: str, op: str, values: list[Any]) -> Match:
    if proto in (*_PORT_PROTOCOLS, "th") and field in ("sport", "dport"):
        ports = _ports(op, values)
        protos = None if proto == "th" else frozenset((proto,))
        return Match(protos=protos, sports=ports) if field == "sport" else Match(protos=protos, dports=ports)
    if proto in ("ip", "ip6") and field in ("saddr", "daddr"):
        addresses = _addresses(op, values, _FAMILIES[proto])
        return Match(saddr=addresses) if field == "saddr" else Match(daddr=addresses)
    if proto in _TYPES and field == "type" and op in ("==", "in", "!="):
        known = _TYPES[proto]
        spans = [value["range"] if isinstance(value, dict) else (value, value) for value in values]
        found = union((_type(known, first), _type(known, last)) for first, last in spans)
        return Match(protos=frozenset((protocol(proto),)), types=found if op != "!=" else without(ALL_TYPES, found))
    if (proto, field) in (("ip", "protocol"), ("ip6", "nexthdr")):
        return _protocols(op, values)
    raise _UnknownError


_TYPES = {"icmp": _ICMP_TYPES, "icmpv6": _ICMP6_TYPES}


def _type(known: dict[str, int], value: Any) -> int:
    number = known[value] if isinstance(value, str) else value
    if not isinstance(number, int) or not 0 <= number <= 255:
        raise _UnknownError
    return number


def _flags(operands: Any, op: str, values: list[Any]) -> Match:
    """The flags that tell the SYN which opens a connection from other packets; others are not looked at."""
    left, mask = operands
    masked = mask if isinstance(mask, list) else mask["|"] if isinstance(mask, dict) else [mask]
    if left != {"payload": {"protocol": "tcp", "field": "flags"}} or not {"syn", "ack"} <= set(masked):
        raise _UnknownError
    if values != ["syn"] or op not in ("==", "!="):
        raise _UnknownError
    return Match(protos=frozenset(("tcp",)), opening=op == "==")


def _meta(key: str, op: str, values: list[Any]) -> Match:
    if key == "l4proto":
        return _protocols(op, values)
    if key in _INTERFACES:
        word = "?"
        if len(values) == 1 and op in ("==", "!=") and isinstance(values[0], str):
            word = values[0] if op == "==" else f"!{values[0]}"
        return Match(iif=word) if _INTERFACES[key] == "iif" else Match(oif=word)
    if key == "nfproto" and op == "==" and len(values) == 1:
        return Match(saddr={"ipv4": V4, "ipv6": V6}[values[0]])
    raise _UnknownError


def _ct(key: str, op: str, values: list[Any]) -> Match:
    if key == "direction" and op in ("==", "in") and values == ["reply"]:
        return Match(states=frozenset(("established", "related")))
    if key != "state" or op not in ("==", "in", "!="):
        raise _UnknownError
    words = frozenset(map(str, values))
    if not words <= ALL_STATES:
        raise _UnknownError
    return Match(states=ALL_STATES - words if op == "!=" else words)


def _protocols(op: str, values: list[Any]) -> Match:
    if op not in ("==", "in"):
        raise _UnknownError
    return Match(protos=frozenset(map(protocol, values)))


def _ports(op: str, values: list[Any]) -> Spans:
    spans = [tuple(value["range"]) if isinstance(value, dict) else (value, value) for value in values]
    if not all(isinstance(port, int) and 0 <= port <= 65535 for span in spans for port in span):
        raise _UnknownError
    found = union((int(first), int(last)) for first, last in spans)
    at = found[0][0]
    asked: dict[str, Spans] = {
        "==": found,
        "in": found,
        "!=": without(ALL_PORTS, found),
        ">=": ((at, 65535),),
        ">": ((at + 1, 65535),),
        "<=": ((0, at),),
        "<": ((0, at - 1),),
    }
    return asked[op]


def _addresses(op: str, values: list[Any], everybody: Spans) -> Spans:
    spans: Spans = ()
    for value in values:
        if isinstance(value, str):
            spans = union(spans, of_networks([ipaddress.ip_network(value)]))
        elif "prefix" in value:
            network = f"{value['prefix']['addr']}/{value['prefix']['len']}"
            spans = union(spans, of_networks([ipaddress.ip_network(network, strict=False)]))
        else:
            first, last = (of_networks([ipaddress.ip_network(end)])[0][0] for end in value["range"])
            spans = union(spans, ((first, last),))
    if op in ("==", "in"):
        return spans
    if op == "!=":
        return without(everybody, spans)
    raise _UnknownError
