"""Kubernetes NetworkPolicies, read: the pods that a selector selects are a group, named after the selector."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.formats.clusters.pods import Pod, Pods
from conntrack_py.policy.formats.common import apart, cleaned, defaults, plain, some, valid_name
from conntrack_py.policy.formats.kubernetes import LABEL, MEMBERS, NAME
from conntrack_py.policy.formats.normal import merged_rules
from conntrack_py.policy.model import ANY, SIDES, Group, Network, Rule, Ruleset, Side
from conntrack_py.policy.rulesets.foreign import shown
from conntrack_py.policy.rulesets.parsed import Piece, load_yaml

_PEERS: dict[Side, str] = {"ingress": "from", "egress": "to"}
_SPEC = ("podSelector", "policyTypes", *SIDES)
_PEER = ("ipBlock", "podSelector", "namespaceSelector")
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_PROTOS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
#: Kinds that decide beside NetworkPolicies, and when they do.
_BESIDE = {
    "AdminNetworkPolicy": "before NetworkPolicies",
    "BaselineAdminNetworkPolicy": "after NetworkPolicies, for pods that none selects",
    "ClusterNetworkPolicy": "before or after NetworkPolicies",
    "CiliumNetworkPolicy": "beside NetworkPolicies",
    "CiliumClusterwideNetworkPolicy": "beside NetworkPolicies",
    "GlobalNetworkPolicy": "before or after NetworkPolicies",
}
#: Addresses in the order of the file, and those of named ports: by protocol and name, then by number.
_Addresses = dict[str, None]
_Named = dict[tuple[str, str], dict[int, _Addresses]]
Ports = tuple[tuple[int, int], ...]


@dataclass
class _Pods:
    """Rules about the pods of a selector."""

    namespace: str
    labels: dict[str, str]
    line: int
    selector: Piece
    spaces: Piece | None
    members: list[str] = field(default_factory=list)
    rules: dict[Side, list[Rule]] = field(default_factory=lambda: {"ingress": [], "egress": []})
    limited: set[str] = field(default_factory=set)
    fixed: bool = False


def read(text: str, name: str = "", pods: Pods | None = None) -> tuple[Ruleset, list[str]]:
    """Read the NetworkPolicies of a file of YAML or JSON.

    Args:
        text: The text.
        name: Its file, for messages.
        pods: The pods of the cluster: those that a selector selects are members of its group.

    Raises:
        PolicyError: It is no YAML, has no NetworkPolicy, or one that is none.
    """
    reader = _Reader(name, pods)
    policies: list[Piece] = []
    other: set[str] = set()
    for document in _documents(text, name):
        for found in _items(document):
            kind = found.value.get("kind") if isinstance(found.value, dict) else None
            if kind == "NetworkPolicy":
                policies.append(found)
            elif isinstance(kind, str) and kind in _BESIDE:
                reader.warnings.append(_beside(found, kind))
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
    if pods is not None:
        for key, one in reader.pods.items():
            if not one.fixed:
                one.members += [address for pod in reader.selected(key) for address in pod.addresses]
        reader.warnings += pods.all_warnings()
    return reader.ruleset()


def _by_name(pods: list[Pod]) -> tuple[_Addresses, _Named]:
    """The addresses of pods, and those that have a port of some name, for each of its numbers."""
    everyone: _Addresses = {}
    named: _Named = {}
    for pod in pods:
        everyone |= dict.fromkeys(pod.addresses)
        for name, numbers in pod.ports.items():
            for number in numbers:
                named.setdefault(name, {}).setdefault(number, {}).update(dict.fromkeys(pod.addresses))
    return everyone, named


def _beside(policy: Piece, kind: str) -> str:
    """A warning about a policy of a kind that is not read."""
    metadata = policy.get("metadata")
    name = metadata.get("name").value if isinstance(metadata.value, dict) else None
    called = f" {plain(name[:60])}" if isinstance(name, str) else ""
    return (
        f"line {policy.line}: {kind}{called} is NOT READ, and decides {_BESIDE[kind]}: "
        "what the cluster does with the pods that it selects may differ"
    )


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

    def __init__(self, source: str, cluster: Pods | None = None) -> None:
        self.source = source
        self.cluster = cluster
        self.selections: dict[str, list[Pod]] = {}
        self.ports_of: dict[str, tuple[_Addresses, _Named]] = {}
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
            self.pods[key] = _Pods(namespace, only, self.line, selector, spaces)
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
        own = self.group(namespace, spec.get("podSelector"), None)
        pods = self.pods[own]
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
                for proto, ports in self.ports(rule.get("ports")):
                    if isinstance(ports, Piece):
                        self.add_named(own, side, peers, ports, proto, place)
                    else:
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

    def ports(self, listed: Piece) -> Iterator[tuple[str, Ports | Piece]]:
        """The protocols and ports of a rule, those with a name as they are; none listed are all."""
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
                if last.value is not None:
                    last.refuse("has no number before it")
                yield _PROTOS[word], first
            else:
                low = first.number(1, 65535, "a port from 1 to 65535, or the name of one")
                high = low if last.value is None else last.number(1, 65535, "a port from 1 to 65535")
                if high < low:
                    last.expected(f"a port from {low}, where the range begins, to 65535")
                yield _PROTOS[word], ((low, high),)

    def selected(self, key: str) -> list[Pod]:
        """The pods of a group; `any`: all there are."""
        if self.cluster is None:
            return []
        if key == ANY:
            return self.cluster.pods
        if key not in self.selections:
            of = self.pods[key]
            self.selections[key] = self.cluster.selected(of.namespace, of.selector, of.spaces)
        return self.selections[key]

    def add_named(self, own: str, side: Side, peers: tuple[str, ...], port: Piece, proto: str, place: str) -> None:
        """Add a rule for a port that has a name: its number is that of the pod which is connected to."""
        line = f"line {port.line}: {place}"
        if self.cluster is None:
            why = f"which port is named {plain(port.value[:60])!r} only the pods know: left out; give the pods (--pods)"
            self.warnings.append(f"{line}: {why}")
            return
        asked = [own] if side == "ingress" else [peer for peer in peers if peer == ANY or peer in self.pods]
        if side == "egress" and len(asked) < len(peers):
            self.warnings.append(f"{line}: no port of a network has a name: left out for ipBlock")
        found = False
        for key in asked:
            for number, target in self.named(key, proto, port):
                found = True
                rule = Rule(peers=peers if side == "ingress" else (target,), proto=proto, ports=((number, number),))
                self.pods[target if side == "ingress" else own].rules[side].append(rule)
                if side == "ingress":
                    self.pods[target].limited.add(side)
        if not found:
            self.warnings.append(f"{line}: no pod has a port named {plain(port.value[:60])!r}: it allows nothing")

    def named(self, key: str, proto: str, port: Piece) -> Iterator[tuple[int, str]]:
        """The numbers that a name stands for among the pods of a group, each with a group of the pods it holds for."""
        if key not in self.ports_of:
            self.ports_of[key] = _by_name(self.selected(key))
        everyone, by_name = self.ports_of[key]
        word = next(word for word, one in _PROTOS.items() if one == proto)
        numbers = by_name.get((word, port.value), {})
        for number, addresses in sorted(numbers.items()):
            if key != ANY and addresses == everyone:
                yield number, key
                continue
            target = f"{'all pods in all namespaces' if key == ANY else key} with {port.value}={number}/{proto}"
            if target not in self.pods:
                empty = Piece(port.source, None, port.path)
                self.pods[target] = _Pods("", {}, self.line, empty, None, list(addresses), fixed=True)
                self.names[target] = valid_name(cleaned(target, f"the port {port.value[:60]}", self.warnings))
                self.foreign.append(target)
            yield number, target

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
            self.warnings.append(
                f"Kubernetes knows no addresses: add the members of {', '.join(without)}, or give the pods (--pods)"
            )
        for key in self.foreign:
            self.warnings.append(
                f"{names[key]}: is a selector, and groups have none: what is written from this policy selects pods by "
                f"the label {LABEL}; give them that, or put the selector back there"
            )
        return Ruleset(groups=groups, default="deny", combine="any", source=self.source), self.warnings


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
