"""Kubernetes NetworkPolicies, read: the pods that a selector selects are a group, named after the selector."""

from __future__ import annotations

import ipaddress
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.formats.common import defaults, valid_name
from conntrack_py.policy.formats.kubernetes import LABEL, MEMBERS, NAME
from conntrack_py.policy.formats.normal import merged_rules
from conntrack_py.policy.model import ANY, SIDES, Group, Rule, Ruleset, Side

_PEERS: dict[Side, str] = {"ingress": "from", "egress": "to"}
#: Safe either way, and faster where PyYAML was built with libyaml.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PROTOS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


@dataclass
class _Pods:
    """What policies say about the pods of a selector."""

    namespace: str
    selector: dict[str, Any]
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
    policies = []
    other: list[str] = []
    for line, document in _documents(text, name):
        for found in _items(document):
            if isinstance(found, dict) and found.get("kind") == "NetworkPolicy":
                policies.append((line, found))
            elif found is not None:
                other.append(str(found.get("kind")) if isinstance(found, dict) else str(found)[:40])
    if not policies:
        raise PolicyError(f"{name}: no NetworkPolicy in it" if name else "no NetworkPolicy in it")
    if other:
        reader.warnings.append(f"left out, as they are no NetworkPolicies: {', '.join(sorted(set(other)))}")
    # All first: a peer may be a group that only a later document names.
    for step in (reader.declare, reader.add):
        for line, policy in policies:
            try:
                step(policy, line)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                why = f"no key {error}" if isinstance(error, KeyError) else str(error)
                raise PolicyError(f"{_where(name, line)}not a NetworkPolicy: {why}") from error
    return reader.ruleset()


def _where(name: str, line: int) -> str:
    return f"{name}:{line}: " if name else f"line {line}: "


def _documents(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """The documents, each with the line where it begins. JSON may have tabs, which YAML does not allow."""
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            pass
        else:
            yield 1, found
            return
    line = 1
    try:
        loader = _LOADER(text)
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                return
            line = node.start_mark.line + 1
            yield line, loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = line if mark is None else mark.line + 1
        why = getattr(error, "problem", None) or str(error)
        raise PolicyError(f"{_where(name, line)}not YAML: {why}") from error
    except (RecursionError, ValueError) as error:
        raise PolicyError(f"{_where(name, line)}not YAML: {error}") from error


def _items(document: Any) -> list[Any]:
    if isinstance(document, dict) and document.get("kind") in ("List", "NetworkPolicyList"):
        kind = {"kind": "NetworkPolicy"} if document["kind"] == "NetworkPolicyList" else {}
        return [kind | item if isinstance(item, dict) else item for item in document.get("items") or []]
    return [document]


class _Reader:
    """Groups by the selector that they are."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.warnings: list[str] = []
        self.pods: dict[str, _Pods] = {}
        self.names: dict[str, str] = {}

    def declare(self, policy: dict[str, Any], line: int) -> None:
        """Note the group that a policy is for, with its name and members."""
        metadata = policy.get("metadata") or {}
        namespace = str(metadata.get("namespace") or "")
        selector = policy["spec"].get("podSelector") or {}
        key = self.group(namespace, selector, None, line)
        annotations = metadata.get("annotations") or {}
        if annotations.get(NAME):
            self.names[key] = valid_name(str(annotations[NAME]))
        for member in str(annotations.get(MEMBERS) or "").replace(",", " ").split():
            self.pods[key].members.append(str(ipaddress.ip_network(member, strict=False)))

    def group(self, namespace: str, selector: dict[str, Any], spaces: dict[str, Any] | None, line: int) -> str:
        """The key of the group that selectors are; it is their text."""
        pods = _selector_text(selector)
        if spaces is not None:
            labels = _selector_text(spaces)
            key = f"{pods or 'all pods'} in {f'namespaces {labels}' if labels else 'all namespaces'}"
        else:
            key = f"{namespace}/{pods or 'all pods'}" if namespace else pods or "all pods"
        if key not in self.pods:
            self.pods[key] = _Pods(namespace, selector, line)
            only = selector.get("matchLabels") or {}
            own = set(only) == {LABEL} and not selector.get("matchExpressions") and spaces is None
            self.names[key] = valid_name(str(only[LABEL])) if own and not namespace else key
        return key

    def add(self, policy: dict[str, Any], line: int) -> None:
        """Add what a policy allows."""
        spec = policy["spec"]
        metadata = policy.get("metadata") or {}
        namespace = str(metadata.get("namespace") or "")
        pods = self.pods[self.group(namespace, spec.get("podSelector") or {}, None, line)]
        # Without types, or with an empty list of them, there is always ingress, and egress where it has rules.
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        for side in SIDES:
            if side.capitalize() not in types:
                if spec.get(side):
                    self.warnings.append(f"{metadata.get('name')}: has rules for {side}, which is not in policyTypes")
                continue
            pods.limited.add(side)
            for index, rule in enumerate(spec.get(side) or []):
                place = f"{metadata.get('name')} {side}[{index}]"
                peers = tuple(self.peers(rule.get(_PEERS[side]), namespace, line))
                if not peers:
                    self.warnings.append(f"{place}: excepts all that it allows: left out")
                    continue
                for proto, ports in self.ports(rule.get("ports"), place):
                    pods.rules[side].append(Rule(peers=peers, proto=proto, ports=ports, line=line))

    def peers(self, listed: list[dict[str, Any]] | None, namespace: str, line: int) -> Iterator[str]:
        """The peers of a rule; none listed are all."""
        if not listed:
            yield ANY
            return
        for peer in listed:
            if peer.get("ipBlock"):
                yield from _without(peer["ipBlock"]["cidr"], peer["ipBlock"].get("except") or [])
            elif "podSelector" not in peer and "namespaceSelector" not in peer:
                raise ValueError("a peer with neither ipBlock, podSelector nor namespaceSelector")
            else:
                yield self.group(namespace, peer.get("podSelector") or {}, peer.get("namespaceSelector"), line)

    def ports(
        self, listed: list[dict[str, Any]] | None, place: str
    ) -> Iterator[tuple[str, tuple[tuple[int, int], ...]]]:
        """The protocols and ports of a rule; none listed are all."""
        if not listed:
            yield ANY, ()
        for entry in listed or []:
            word = str(entry.get("protocol") or "TCP")
            if word not in _PROTOS:
                raise ValueError(f"protocol {word}")
            first = entry.get("port")
            if first is None:
                yield _PROTOS[word], ()
            elif isinstance(first, str) and not first.isdigit():
                self.warnings.append(f"{place}: which port is named {first!r} only the pods know: left out")
            else:
                last = int(entry.get("endPort") or first)
                if not 1 <= int(first) <= last <= 65535:
                    raise ValueError(f"ports from {first} to {last}")
                yield _PROTOS[word], ((int(first), last),)

    def ruleset(self) -> tuple[Ruleset, list[str]]:
        """The policy, and the warnings."""
        names = _apart(self.names)
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
        selecting = [(names[key], pods) for key, pods in self.pods.items() if pods.limited]
        for (one, first), (other, second) in itertools.combinations(selecting, 2):
            if not _disjoint(first, second):
                self.warnings.append(f"{one} and {other} may select the same pods: both must allow here, not either")
        return Ruleset(groups=groups, default="deny", source=self.source), self.warnings


def _renamed(peers: Iterable[str], names: dict[str, str]) -> Iterator[str]:
    yield from dict.fromkeys(names.get(peer, peer) for peer in peers)


def _apart(names: dict[str, str]) -> dict[str, str]:
    """Names by key, those that two keys have with the key behind them."""
    found: dict[str, str] = {}
    for key, name in names.items():
        taken = name in found.values()
        found[key] = f"{name} ({key})" if taken else name
    return found


def _selector_text(selector: dict[str, Any]) -> str:
    """A selector in a line: `app=web,tier in (a|b)`; empty for one that selects all."""
    words = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or []:
        values = "|".join(sorted(map(str, expression.get("values") or [])))
        words.append(f"{expression['key']} {expression['operator']}" + (f" ({values})" if values else ""))
    return ",".join(words)


def _without(cidr: str, excepted: list[str]) -> Iterator[str]:
    """The networks that a block is without its exceptions."""
    left = [ipaddress.ip_network(cidr, strict=False)]
    for hole in (ipaddress.ip_network(one, strict=False) for one in excepted):
        kept = []
        for network in left:
            if network.version != hole.version or not network.overlaps(hole):
                kept.append(network)
            elif not network.subnet_of(hole):  # type: ignore[arg-type]
                kept += network.address_exclude(hole)  # type: ignore[arg-type]
        left = kept
    yield from (str(network) for network in sorted(left, key=lambda network: int(network.network_address)))


def _disjoint(one: _Pods, other: _Pods) -> bool:
    """Whether no pod can be in both: another namespace, or another value of a label."""
    if one.namespace != other.namespace:
        return True
    first, second = (pods.selector.get("matchLabels") or {} for pods in (one, other))
    return any(second.get(key, value) != value for key, value in first.items())
