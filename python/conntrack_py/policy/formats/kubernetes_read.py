"""Kubernetes NetworkPolicies, read: the pods that a selector selects are a group, named after the selector."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.formats.common import apart, cleaned, defaults, plain, some, valid_name
from conntrack_py.policy.formats.kubernetes import LABEL, MEMBERS, NAME
from conntrack_py.policy.formats.normal import merged_rules
from conntrack_py.policy.formats.parsed import Piece, load_yaml
from conntrack_py.policy.model import ANY, SIDES, Group, Network, Rule, Ruleset, Side
from conntrack_py.policy.rulesets.foreign import shown

_PEERS: dict[Side, str] = {"ingress": "from", "egress": "to"}
_SPEC = ("podSelector", "policyTypes", *SIDES)
_PEER = ("ipBlock", "podSelector", "namespaceSelector")
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
#: Groups that are compared, each with each: about 2,000 groups.
_MOST_PAIRS = 2_000_000
_PROTOS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


@dataclass
class _Pods:
    """Rules about the pods of a selector."""

    namespace: str
    labels: dict[str, str]
    line: int
    members: list[str] = field(default_factory=list)
    rules: dict[Side, list[Rule]] = field(default_factory=lambda: {"ingress": [], "egress": []})
    limited: set[str] = field(default_factory=set)


def read(text: str, name: str = "") -> tuple[Ruleset, list[str]]:
    """Read the NetworkPolicies of a file of YAML or JSON.

    Raises:
        PolicyError: It is no YAML, has no NetworkPolicy, or one that is none.
    """
    reader = _Reader(name)
    policies: list[Piece] = []
    other: set[str] = set()
    for document in _documents(text, name):
        for found in _items(document):
            kind = found.value.get("kind") if isinstance(found.value, dict) else None
            if kind == "NetworkPolicy":
                policies.append(found)
            elif found.value is not None:
                other.add(plain(kind[:40]) if isinstance(kind, str) else shown(found.value))
    if not policies:
        raise PolicyError(f"{name}: no NetworkPolicy in it" if name else "no NetworkPolicy in it")
    if other:
        reader.warnings.append(f"left out, as they are no NetworkPolicies: {some(sorted(other), 10)}")
    # All first: a peer may be a group that only a later document names.
    for step in (reader.declare, reader.add):
        for policy in policies:
            step(policy)
    return reader.ruleset()


def _documents(text: str, name: str) -> Iterator[Piece]:
    """The documents. JSON may have tabs, which YAML does not allow."""
    if text.lstrip().startswith("{"):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            yield Piece.of_json(text, name)
            return
    yield from load_yaml(text, name)


def _items(document: Piece) -> list[Piece]:
    kind = document.value.get("kind") if isinstance(document.value, dict) else None
    if kind not in ("List", "NetworkPolicyList"):
        return [document]
    found = document.get("items").items("a list of policies")
    if kind == "List":
        return found
    return [Piece(one.source, {"kind": "NetworkPolicy"} | one.table(), one.path) for one in found]


class _Reader:
    """Groups by the selector that they are."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.warnings: list[str] = []
        self.pods: dict[str, _Pods] = {}
        self.names: dict[str, str] = {}
        self.namespaces: set[str] = set()
        self.foreign: list[str] = []
        #: First line of the policy being read.
        self.line = 1

    def declare(self, policy: Piece) -> None:
        """Note the group that a policy is for, with its name and members."""
        self.line = policy.line
        spec = policy.get("spec")
        spec.table(_SPEC)
        key = self.group(self.namespace(policy), spec.get("podSelector"), None)
        annotations = _optional(policy.get("metadata").get("annotations")) if policy.get("metadata").value else None
        if annotations is None:
            return
        if annotations.get(NAME).value:
            given = annotations.get(NAME).word()
            self.names[key] = valid_name(cleaned(given, f"the name {given[:60]}", self.warnings))
        members = annotations.get(MEMBERS)
        for member in members.word().replace(",", " ").split() if members.value else ():
            self.pods[key].members.append(str(Piece(members.source, member, members.path).network()))

    def namespace(self, policy: Piece) -> str:
        """The namespace of a policy; it is warned of once."""
        found = policy.get("metadata")
        found = found.get("namespace") if found.value is not None else found
        namespace = found.word() if found.value is not None else ""
        if namespace and namespace not in self.namespaces:
            self.namespaces.add(namespace)
            self.warnings.append(
                f"namespace {plain(namespace[:60])} is only in the names of groups: what is written from this policy "
                "has NO NAMESPACE, put it back there"
            )
        return namespace

    def group(self, namespace: str, selector: Piece, spaces: Piece | None) -> str:
        """The key of the group that selectors are; it is their text."""
        pods = _selector_text(selector)
        if spaces is not None:
            labels = _selector_text(spaces)
            key = f"{pods or 'all pods'} in {f'namespaces {labels}' if labels else 'all namespaces'}"
        else:
            key = f"{namespace}/{pods or 'all pods'}" if namespace else pods or "all pods"
        if key not in self.pods:
            only = {name: Piece(selector.source, value).word() for name, value in _labels(selector).items()}
            self.pods[key] = _Pods(namespace, only, self.line)
            own = set(only) == {LABEL} and not selector.get("matchExpressions").value and spaces is None
            if own and not namespace:
                self.names[key] = valid_name(cleaned(only[LABEL], f"the label of {key[:60]}", self.warnings))
            else:
                self.names[key] = valid_name(cleaned(key, f"the selector {key[:60]}", self.warnings))
            if not own:
                self.foreign.append(key)
        return key

    def add(self, policy: Piece) -> None:
        """Add what a policy allows."""
        self.line = policy.line
        spec = policy.get("spec")
        namespace = self.namespace(policy)
        named = _optional(policy.get("metadata"))
        name = "" if named is None or named.get("name").value is None else plain(named.get("name").word()[:60])
        pods = self.pods[self.group(namespace, spec.get("podSelector"), None)]
        types = [one.value for one in spec.get("policyTypes").items("a list, such as [Ingress, Egress]")]
        for one in spec.get("policyTypes").items():
            if one.value not in ("Ingress", "Egress"):
                one.expected("Ingress or Egress")
        # Without types, or with an empty list of them, there is always ingress, and egress where it has rules.
        types = types or ["Ingress", *(["Egress"] if spec.get("egress").value else [])]
        for side in SIDES:
            rules = spec.get(side).items("a list of rules")
            if side.capitalize() not in types:
                if rules:
                    self.warnings.append(f"{name}: has rules for {side}, which is not in policyTypes")
                continue
            pods.limited.add(side)
            for index, rule in enumerate(rules):
                rule.table((_PEERS[side], "ports"))
                place = f"{name} {side}[{index}]"
                peers = tuple(self.peers(rule.get(_PEERS[side]), namespace))
                if not peers:
                    self.warnings.append(f"{place}: excepts all that it allows: left out")
                    continue
                for proto, ports in self.ports(rule.get("ports"), place):
                    pods.rules[side].append(Rule(peers=peers, proto=proto, ports=ports))

    def peers(self, listed: Piece, namespace: str) -> Iterator[str]:
        """The peers of a rule; none listed are all."""
        if not listed.value:
            listed.items("a list of peers")
            yield ANY
        for peer in listed.items("a list of peers"):
            keys = peer.table(_PEER)
            if "ipBlock" in keys:
                if len(keys) > 1:
                    peer.refuse("ipBlock stands beside a selector, expected one of them")
                block = peer.get("ipBlock")
                block.table(("cidr", "except"))
                holes = [one.network() for one in block.get("except").items("a list of networks")]
                yield from _without(block.get("cidr").network(), holes)
            elif not keys:
                peer.refuse("has neither ipBlock, podSelector nor namespaceSelector")
            else:
                spaces = peer.get("namespaceSelector")
                yield self.group(namespace, peer.get("podSelector"), None if spaces.value is None else spaces)

    def ports(self, listed: Piece, place: str) -> Iterator[tuple[str, tuple[tuple[int, int], ...]]]:
        """The protocols and ports of a rule; none listed are all."""
        entries = listed.items("a list of ports")
        if not entries:
            yield ANY, ()
        for entry in entries:
            entry.table(("protocol", "port", "endPort"))
            word = "TCP" if entry.get("protocol").value is None else entry.get("protocol").word()
            if word not in _PROTOS:
                entry.get("protocol").expected("TCP, UDP or SCTP")
            first, last = entry.get("port"), entry.get("endPort")
            if first.value is None:
                if last.value is not None:
                    last.refuse("has no port before it")
                yield _PROTOS[word], ()
            elif isinstance(first.value, str) and not (first.value.isascii() and first.value.isdecimal()):
                named = repr(plain(first.value[:60]))
                self.warnings.append(f"{place}: which port is named {named} only the pods know: left out")
            else:
                low = first.number(1, 65535, "a port from 1 to 65535, or the name of one")
                high = low if last.value is None else last.number(1, 65535, "a port from 1 to 65535")
                if high < low:
                    last.expected(f"a port from {low}, where the range begins, to 65535")
                yield _PROTOS[word], ((low, high),)

    def ruleset(self) -> tuple[Ruleset, list[str]]:
        """The policy, and the warnings."""
        names = apart(self.names)
        groups: dict[str, Group] = {}
        for key, pods in self.pods.items():
            rules = {
                side: merged_rules(
                    Rule(peers=tuple(_renamed(rule.peers, names)), proto=rule.proto, ports=rule.ports)
                    for rule in pods.rules[side]
                )
                for side in SIDES
            }
            own = defaults({side for side in SIDES if side not in pods.limited})
            groups[names[key]] = Group(
                members=tuple(dict.fromkeys(pods.members)),
                ingress=rules["ingress"],
                egress=rules["egress"],
                ingress_default=own["ingress"],
                egress_default=own["egress"],
                line=pods.line,
            )
        without = [name for name, group in groups.items() if not group.members]
        if without:
            self.warnings.append(f"Kubernetes knows no addresses: add the members of {', '.join(without)}")
        for key in self.foreign:
            self.warnings.append(
                f"{names[key]}: is a selector, and groups have none: what is written from this policy selects pods by "
                f"the label {LABEL}; give them that, or put the selector back there"
            )
        selecting = [(names[key], pods) for key, pods in self.pods.items() if pods.limited]
        self.warnings += _overlapping(selecting)
        return Ruleset(groups=groups, default="deny", source=self.source), self.warnings


def _overlapping(selecting: list[tuple[str, _Pods]]) -> Iterator[str]:
    """Warnings about groups that may have pods in common, one for each."""
    compared = 0
    for at, (name, pods) in enumerate(selecting):
        others = selecting[at + 1 :]
        compared += len(others)
        if compared > _MOST_PAIRS:
            yield f"{name} and those after it may select the same pods as others, too: they are too many to compare"
            return
        found = [other for other, second in others if not _disjoint(pods, second)]
        if found:
            yield f"{name} and {some(found)} may select the same pods: both must allow here, not either"


def _optional(piece: Piece) -> Piece | None:
    """A table; None where there is nothing."""
    if piece.value is None:
        return None
    piece.table()
    return piece


def _renamed(peers: Iterable[str], names: dict[str, str]) -> Iterator[str]:
    yield from dict.fromkeys(names.get(peer, peer) for peer in peers)


def _labels(selector: Piece) -> dict[str, Any]:
    """The labels that a selector wants; none of nothing."""
    if selector.value is None or selector.get("matchLabels").value is None:
        return {}
    return selector.get("matchLabels").table()


def _selector_text(selector: Piece) -> str:
    """A selector in a line: `app=web,tier In (a|b)`; empty for one that selects all."""
    if selector.value is None:
        return ""
    selector.table(("matchLabels", "matchExpressions"))
    labels = selector.get("matchLabels")
    words = []
    for key in sorted(_labels(selector), key=str):
        name = Piece(labels.source, key, labels.path).word()
        value = labels.get(key)
        words.append(f"{name}={value.word()}")
    for expression in selector.get("matchExpressions").items("a list of expressions"):
        expression.table(("key", "operator", "values"))
        operator = expression.get("operator")
        if operator.value not in _OPERATORS:
            operator.expected(f"one of {', '.join(_OPERATORS)}")
        values = "|".join(sorted(one.word() for one in expression.get("values").items("a list of values")))
        words.append(f"{expression.get('key').word()} {operator.value}" + (f" ({values})" if values else ""))
    return ",".join(words)


def _without(block: Network, excepted: list[Network]) -> Iterator[str]:
    """The networks that a block is without its exceptions."""
    left = [block]
    for hole in excepted:
        kept = []
        for network in left:
            if network.version != hole.version or not network.overlaps(hole):
                kept.append(network)
            elif not network.subnet_of(hole):  # type: ignore[arg-type]
                kept += network.address_exclude(hole)  # type: ignore[arg-type]
        left = kept
    yield from (str(network) for network in sorted(left, key=lambda network: int(network.network_address)))


def _disjoint(one: _Pods, other: _Pods) -> bool:
    """True if no pod can be in both: another namespace, or another value of a label."""
    if one.namespace != other.namespace:
        return True
    return any(other.labels.get(key, value) != value for key, value in one.labels.items())
