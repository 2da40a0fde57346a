"""Pods of a cluster, as `kubectl get pods -A -o json` prints them: their addresses are the members of selectors.

With `kubectl get pods,namespaces -A -o json` namespaces can be selected by their labels; without, by their name only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from conntrack_py.policy.formats.common import plain, some
from conntrack_py.policy.rulesets.parsed import Piece

#: The label that every namespace has.
_NAME = "kubernetes.io/metadata.name"
#: Pods that have no address any more.
_OVER = ("Succeeded", "Failed")
#: Kinds that make pods, and have no addresses themselves.
_WORKLOADS = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController", "Job", "CronJob")


@dataclass(frozen=True)
class Pod:
    """A pod: its namespace, labels and addresses, and the numbers of ports by protocol and name."""

    namespace: str
    labels: Mapping[str, str]
    addresses: tuple[str, ...]
    ports: Mapping[tuple[str, str], set[int]] = field(default_factory=dict)


class Pods:
    """The pods of a cluster, and its namespaces as far as they are known."""

    def __init__(self, text: str, name: str = "") -> None:
        self.pods: list[Pod] = []
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self.warnings: list[str] = []
        self._unknown: dict[str, None] = {}
        hosts: list[str] = []
        workloads: dict[str, None] = {}
        document = Piece.of_json(text, name)
        items = document.get("items")
        if items.value is None:
            document.refuse("has no items, expected what `kubectl get pods -A -o json` prints")
        for item in items.items("a list of pods"):
            kind = item.get("kind").value or document.get("kind").value
            metadata = item.get("metadata")
            labels = _labels(metadata.get("labels"))
            if kind == "Namespace":
                self.namespaces[metadata.get("name").word()] = labels
            elif kind in ("Pod", "PodList"):
                self._add(item, labels, hosts)
            elif isinstance(kind, str) and kind in _WORKLOADS:
                workloads.setdefault(kind)
        if workloads:
            kinds = " and ".join(workloads)
            self.warnings.append(f"{kinds}: have no addresses, only their pods have; kubectl get pods -A -o json")
        if hosts:
            self.warnings.append(f"pods with the address of their node, which no policy is for: {some(hosts)}")

    def _add(self, item: Piece, labels: Mapping[str, str], hosts: list[str]) -> None:
        metadata, status = item.get("metadata"), item.get("status")
        if status.value is None or status.get("phase").value in _OVER:
            return
        if item.get("spec").value is not None and item.get("spec").get("hostNetwork").value is True:
            hosts.append(plain(metadata.get("name").word()[:60]))
            return
        found = [one.get("ip") for one in status.get("podIPs").items("a list of addresses")] or [status.get("podIP")]
        addresses = dict.fromkeys(_address(one) for one in found if one.value is not None)
        namespace = metadata.get("namespace")
        space = "" if namespace.value is None else namespace.word()
        self.pods.append(Pod(space, labels, tuple(addresses), _ports(item.get("spec"))))

    def default(self) -> str:
        """The namespace of policies that have none: the only one there is, or else `default`."""
        known = {pod.namespace for pod in self.pods}
        return known.pop() if len(known) == 1 else "default"

    def members(self, namespace: str, selector: Piece, spaces: Piece | None) -> list[str]:
        """The addresses of the pods of a selector, as networks."""
        return list(dict.fromkeys(one for pod in self.selected(namespace, selector, spaces) for one in pod.addresses))

    def selected(self, namespace: str, selector: Piece, spaces: Piece | None) -> list[Pod]:
        """The pods of a selector.

        Args:
            namespace: The namespace of the policy.
            selector: The selector of pods.
            spaces: That of namespaces; None: the policy's own.
        """
        wanted = namespace or self.default()
        return [
            pod
            for pod in self.pods
            if (pod.namespace == wanted if spaces is None else self._has(pod.namespace, spaces))
            and matches(selector, pod.labels)
        ]

    def _has(self, namespace: str, spaces: Piece) -> bool:
        labels = self.namespaces.get(namespace)
        if labels is None:
            keys = {key for key, _, _ in requirements(spaces)}
            if keys - {_NAME}:
                self._unknown.setdefault(namespace)
                return False
            labels = {}
        return matches(spaces, {_NAME: namespace, **labels})

    def all_warnings(self) -> list[str]:
        """Warnings, with those of namespaces whose labels were asked for and are not known."""
        if not self._unknown:
            return self.warnings
        names = some(plain(name[:60]) for name in self._unknown)
        why = f"no pod of these namespaces is selected by labels of its namespace, as the file has none: {names} "
        return [*self.warnings, why + "(kubectl get pods,namespaces -A -o json has them)"]


def _labels(piece: Piece) -> dict[str, str]:
    if piece.value is None:
        return {}
    return {
        str(key): Piece(piece.source, value, (*piece.path, str(key))).word() for key, value in piece.table().items()
    }


def _ports(spec: Piece) -> dict[tuple[str, str], set[int]]:
    """The numbers of the named ports of containers; a name counts for its protocol only."""
    found: dict[tuple[str, str], set[int]] = {}
    if spec.value is None:
        return found
    containers = spec.get("containers").items("a list of containers")
    # An init container that goes on running beside the others is a sidecar.
    inits = spec.get("initContainers").items("a list of containers")
    containers += [one for one in inits if one.get("restartPolicy").value == "Always"]
    for container in containers:
        for port in container.get("ports").items("a list of ports"):
            if port.get("name").value is None:
                continue
            proto = "TCP" if port.get("protocol").value is None else port.get("protocol").word()
            number = port.get("containerPort").number(1, 65535, "a port from 1 to 65535")
            found.setdefault((proto, port.get("name").word()), set()).add(number)
    return found


def _address(piece: Piece) -> str:
    try:
        return str(ipaddress.ip_network(ipaddress.ip_address(piece.value)))
    except ValueError:
        piece.expected("an address such as 10.0.1.7")


def requirements(selector: Piece) -> list[tuple[str, str, set[str]]]:
    """The requirements of a selector: key, operator and values."""
    if selector.value is None:
        return []
    selector.table(("matchLabels", "matchExpressions"))
    found = [(key, "In", {value}) for key, value in _labels(selector.get("matchLabels")).items()]
    for one in selector.get("matchExpressions").items("a list of expressions"):
        values = {value.word() for value in one.get("values").items("a list of values")}
        found.append((one.get("key").word(), one.get("operator").word(), values))
    return found


def matches(selector: Piece, labels: Mapping[str, str]) -> bool:
    """True if labels meet all requirements of a selector; an absent key is in no list (`NotIn`)."""
    return all(_meets(labels, *one) for one in requirements(selector))


def _meets(labels: Mapping[str, str], key: str, operator: str, values: set[str]) -> bool:
    if operator in ("Exists", "DoesNotExist"):
        return (key in labels) == (operator == "Exists")
    return (labels.get(key) in values) == (operator == "In")
