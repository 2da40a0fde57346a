"""Rules that stand as an index: the peers and services of a new rule that they do not say, in time by the rule.

A rule is found by its protocol and peer. A network looks up itself, the networks around it, and the groups whose
members hold it, so that the number of rules that stand makes no difference.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from conntrack_py.policy.model import ANY, WITH_TYPES, Group, Network, Rule, merged

_Ranges = tuple[tuple[int, int], ...]
_EVERY: _Ranges = ((0, 65535),)
_LAST_TYPE = 255


class Networks:
    """Networks with values, found by a network that they hold."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, int, int], list[str]] = {}
        self._lengths: dict[int, set[int]] = {4: set(), 6: set()}

    def add(self, network: Network, value: str) -> None:
        """Add a value."""
        self._lengths[network.version].add(network.prefixlen)
        key = network.version, network.prefixlen, int(network.network_address)
        self._values.setdefault(key, []).append(value)

    def around(self, network: Network) -> Iterator[list[str]]:
        """The values of the networks that hold one, those of the longest first."""
        number, bits = int(network.network_address), network.max_prefixlen
        for length in sorted(self._lengths[network.version], reverse=True):
            if length <= network.prefixlen:
                start = number >> (bits - length) << (bits - length)
                values = self._values.get((network.version, length, start))
                if values is not None:
                    yield values


class Said:
    """Peers and services that the rules of a direction of a group say."""

    def __init__(self, rules: Iterable[Rule], groups: Mapping[str, Group], holders: Networks) -> None:
        """Take the rules.

        Args:
            rules: The rules.
            groups: The groups that they may name.
            holders: The groups by their members, from `members`.
        """
        self._groups = groups
        self._holders = holders
        self._networks = Networks()
        found: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for rule in rules:
            for peer in rule.peers:
                if (rule.proto, peer) not in found and peer != ANY and peer not in groups:
                    self._networks.add(ipaddress.ip_network(peer), peer)
                found.setdefault((rule.proto, peer), []).extend(rule.ports or _EVERY)
        self._ports = {key: merged(tuple(ports)) for key, ports in found.items()}

    def says(self, rule: Rule) -> bool:
        """True where the rules say all that this one says."""
        return not any(self._lacks(rule.proto, peer, rule.ports or _EVERY) for peer in rule.peers)

    def missing(self, rule: Rule) -> list[Rule]:
        """The rule without what the rules say: one for each set of services that some of its peers lack."""
        by_services: dict[_Ranges, list[str]] = {}
        for peer in rule.peers:
            lacks = self._lacks(rule.proto, peer, rule.ports or _EVERY)
            if lacks:
                by_services.setdefault(lacks, []).append(peer)
        return [
            dataclasses.replace(rule, peers=tuple(peers), ports=_as_ports(rule, lacks))
            for lacks, peers in by_services.items()
        ]

    def _lacks(self, proto: str, peer: str, wanted: _Ranges) -> _Ranges:
        """The services of a peer that no rule says."""
        for key in dict.fromkeys((proto, ANY)):
            for name in (ANY, peer):
                wanted = without(wanted, self._ports.get((key, name), ()))
        if not wanted or peer == ANY:
            return wanted
        if peer in self._groups:
            # A group is said where the networks of all its members are.
            lacking = [self._network_lacks(proto, member, wanted) for member in self._groups[peer].members]
            return merged(tuple(one for ranges in lacking for one in ranges)) if lacking else wanted
        return self._network_lacks(proto, peer, wanted)

    def _network_lacks(self, proto: str, peer: str, wanted: _Ranges) -> _Ranges:
        network = ipaddress.ip_network(peer)
        # An address belongs to the groups of its longest member.
        groups = next(self._holders.around(network), [])
        for name in chain(groups, chain.from_iterable(self._networks.around(network))):
            if not wanted:
                break
            for key in dict.fromkeys((proto, ANY)):
                wanted = without(wanted, self._ports.get((key, name), ()))
        return wanted


def members(groups: Mapping[str, Group]) -> Networks:
    """The names of groups by the networks of their members."""
    found = Networks()
    for name, group in groups.items():
        for member in group.members:
            found.add(ipaddress.ip_network(member), name)
    return found


def without(wanted: Sequence[tuple[int, int]], taken: Sequence[tuple[int, int]]) -> _Ranges:
    """Ranges without others; both are in order and apart."""
    if not taken or not wanted:
        return tuple(wanted)
    found: list[tuple[int, int]] = []
    for first, last in wanted:
        at = first
        for low, high in taken:
            if high < at or low > last:
                continue
            if low > at:
                found.append((at, low - 1))
            at = high + 1
        if at <= last:
            found.append((at, last))
    return tuple(found)


def _as_ports(rule: Rule, ranges: _Ranges) -> _Ranges:
    if ranges == _EVERY:
        return ()
    if rule.proto in WITH_TYPES:
        return tuple((first, min(last, _LAST_TYPE)) for first, last in ranges if first <= _LAST_TYPE)
    return ranges
