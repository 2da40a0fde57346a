"""Packets of connections as a ruleset sees them: columns of numbers, and matches of rules against them.

A match is 2 where it surely holds, 0 where it surely does not, and 1 where the capture or the reader does not tell.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.model import ALL_TYPES, Base, Match
from conntrack_py.policy.rulesets.spans import ALL_PORTS, EVERYBODY, Spans

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Levels = NDArray[np.int8]

NO, MAYBE, YES = 0, 1, 2
_WITH_PORTS = ("tcp", "udp", "udplite", "sctp", "dccp")
_WITH_TYPES = ("icmp", "icmp6")


class Addresses:
    """Addresses by number, and the masks of those that lie in spans."""

    def __init__(self, addresses: list[str]) -> None:
        places = [spans.of_address(address) for address in addresses]
        self._order = np.argsort(np.array(places, dtype=object), kind="stable").astype(np.int64)
        self._sorted = [places[number] for number in self._order.tolist()]
        self._known: dict[Spans, Bools] = {}
        self.is_v6 = np.array([":" in address for address in addresses], dtype=bool)

    def within(self, asked: Spans) -> Bools:
        """For each address, whether it lies in spans."""
        if asked not in self._known:
            found = np.zeros(len(self._sorted), dtype=bool)
            for first, last in asked:
                low, high = bisect.bisect_left(self._sorted, first), bisect.bisect_right(self._sorted, last)
                found[self._order[low:high]] = True
            self._known[asked] = found
        return self._known[asked]


@dataclass(frozen=True, kw_only=True)
class Packets:
    """One packet of each of some connections.

    Attributes:
        addresses: The addresses that `source` and `destination` number.
        protos: The words that `proto` numbers.
        proto: Protocols.
        source: Source addresses.
        destination: Destination addresses.
        sport: Source ports.
        dport: Destination ports.
        kind: ICMP types.
        states: The states that conntrack may give them.
        opening: They open connections: of TCP, SYNs.
        loopback: Those of a host to itself.
        interfaces: Networks behind the interfaces that are known.
        local: Packets whose source, and those whose destination, is in the local networks.
    """

    addresses: Addresses
    protos: list[str]
    proto: Ints
    source: Ints
    destination: Ints
    sport: Ints
    dport: Ints
    kind: Ints
    states: frozenset[str]
    opening: bool
    loopback: Bools
    interfaces: Mapping[str, Spans]
    local: tuple[Bools, Bools]

    def members(self, base: Base, rows: Ints) -> Levels:
        """The level at which a chain protects the end of some packets that it stands at."""
        if base.members == EVERYBODY:
            return np.full(len(rows), YES, np.int8)
        is_input = base.hook == "input"
        codes = self.destination if is_input else self.source
        level = np.where(self.addresses.within(base.members)[codes[rows]], YES, NO).astype(np.int8)
        if base.others != "none":
            here, there = self.local[is_input][rows], self.local[not is_input][rows]
            other = np.where(there, MAYBE, YES) if base.others == "is" else MAYBE
            level = np.where((level == NO) & here, other, level).astype(np.int8)
        return level

    def is_proto(self, rows: Ints, words: frozenset[str] | tuple[str, ...]) -> Bools:
        """The packets of these protocols."""
        found: Bools = np.isin(self.proto[rows], [n for n, word in enumerate(self.protos) if word in words])
        return found

    def match(self, match: Match, rows: Ints, faces: tuple[bool, bool]) -> Levels:
        """The level of a match for some packets, where the hook knows the incoming and the outgoing interface."""
        known = np.ones(len(rows), dtype=bool)
        if match.protos is not None:
            known &= self.is_proto(rows, match.protos)
        for asked, ports in ((match.sports, self.sport), (match.dports, self.dport)):
            if asked != ALL_PORTS:
                known &= _within(ports[rows], asked) & self.is_proto(rows, _WITH_PORTS)
        if match.types != ALL_TYPES:
            known &= _within(self.kind[rows], match.types) & self.is_proto(rows, _WITH_TYPES)
        if match.opening is not None:
            known &= self.is_proto(rows, ("tcp",)) & (match.opening == self.opening)
        level: Levels = np.where(known, YES, NO).astype(np.int8)
        ends = ((match.saddr, match.maybe_saddr, self.source), (match.daddr, match.maybe_daddr, self.destination))
        for addresses, maybe, codes in ends:
            if addresses != EVERYBODY:
                inside = np.where(self.addresses.within(addresses), YES, NO)
                if maybe:
                    inside = np.where(self.addresses.within(maybe), np.maximum(inside, MAYBE), inside)
                level = np.minimum(level, inside[codes[rows]]).astype(np.int8)
        if not self.states <= match.states:
            level = np.minimum(level, MAYBE if self.states & match.states else NO)
        for name, is_known, codes in ((match.iif, faces[0], self.source), (match.oif, faces[1], self.destination)):
            if name:
                level = np.minimum(level, self._interface(name, rows, codes) if is_known else _absent(name))
        if match.partial or match.limited:
            level = np.minimum(level, MAYBE)
        return level

    def _interface(self, name: str, rows: Ints, codes: Ints) -> Levels:
        """The level of a criterion about the interface towards an address."""
        wanted = name.removeprefix("!")
        level = np.full(len(rows), MAYBE, dtype=np.int8)
        if name == "?":
            return level
        loopback = self.loopback[rows]
        level[loopback] = YES if _is_named("lo", wanted) else NO
        if wanted == "lo":
            level[~loopback] = NO
        elif wanted in ("+", "*"):
            level[:] = YES
        else:
            for own, networks in self.interfaces.items():
                there = self.addresses.within(networks)[codes[rows]] & ~loopback
                level[there] = YES if _is_named(own, wanted) else NO
        if name.startswith("!"):
            level = np.where(level == MAYBE, MAYBE, YES - level).astype(np.int8)
        return level


def _absent(name: str) -> Levels:
    """The level of a criterion about an interface that the hook does not know."""
    return np.array(MAYBE if name == "?" else YES if name.startswith("!") else NO, dtype=np.int8)


def _is_named(name: str, wanted: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith(("+", "*")) else name == wanted


def _within(values: Ints, asked: Spans) -> Bools:
    found = np.zeros(len(values), dtype=bool)
    for first, last in asked:
        found |= (values >= first) & (values <= last)
    return found
