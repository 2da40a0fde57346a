"""Traffic of a capture by the rules of a policy."""

from __future__ import annotations

import bisect
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conntrack_py import text
from conntrack_py.policy.lint.scope import Scope
from conntrack_py.policy.model import ANY, WITH_TYPES, Numbered, Side
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.spans import EVERYBODY, Spans
from conntrack_py.policy.traffic.keys import distinct
from conntrack_py.policy.traffic.pairs import CONFIDENCE, NOBODY
from conntrack_py.table import EVIDENCE, ConnectionTable

#: Rows of connections that nobody opened in earnest.
_NOBODY = ("scan", "backscatter")
_OBSERVED = tuple(word for word, (_, certainty, _) in EVIDENCE.items() if certainty == "observed")
#: Evidence that rests on the first packet where the protocol has none that opens: of all but TCP.
_FIRST = ("answered", "payload", "first_packet", "multicast")
_DNS = 53

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]


class _Ordered:
    """Rows in the order of a port, so that those of a range are found at once."""

    def __init__(self, rows: Rows, ports: NDArray[Any]) -> None:
        order = np.argsort(ports, kind="stable")
        self._rows, self._ports = rows[order], ports[order]

    def within(self, ranges: Spans) -> Rows:
        """The rows with a port in ranges."""
        found = [
            self._rows[np.searchsorted(self._ports, first) : np.searchsorted(self._ports, last, side="right")]
            for first, last in ranges
        ]
        return np.concatenate(found) if found else self._rows[:0]


class Traffic:
    """Connections, and the rules that let them pass."""

    def __init__(self, scope: Scope, connections: ConnectionTable, verdicts: NDArray[Any]) -> None:
        """Take the connections of a capture and one verdict for each.

        Raises:
            ValueError: They are not as many.
        """
        if len(connections) != len(verdicts):
            raise ValueError(f"{len(connections)} connections, but {len(verdicts)} verdicts")
        self._scope = scope
        self._connections = connections
        self._sharing = scope.sharing()
        self._groups: dict[Side, NDArray[Any]] = {"ingress": verdicts["resp_group"], "egress": verdicts["orig_group"]}
        self._proto, self._protos = connections.codes("proto")
        icmp = self._is_proto(*WITH_TYPES)
        #: The ports, or ICMP types, that rules are about.
        self.asked: NDArray[Any] = np.where(icmp, connections["orig_port"], connections["resp_port"])
        evidence = self._has_evidence(*NOBODY)
        #: ICMP errors initiate nothing.
        self._earnest: Mask = ~(icmp & (connections["related_to"] >= 0)) & ~self._has_evidence(*_NOBODY)
        #: Connections whose initiator is relied on.
        self.sure: Mask = self._earnest & (connections["confidence"] >= np.float32(CONFIDENCE)) & ~evidence
        numbers = np.concatenate([verdicts["egress_rule"], verdicts["ingress_rule"]])
        self._icmp: Mask = icmp
        self._mine: dict[tuple[str, Side], Rows] = {}
        self._known: dict[tuple[str, Side, str, str], _Ordered] = {}
        self._order: Rows = np.argsort(numbers, kind="stable")
        self._bounds = np.searchsorted(numbers[self._order], np.arange(len(scope.rules) + 1))

    def __len__(self) -> int:
        """The number of connections."""
        return len(self._connections)

    def _is_proto(self, *words: str) -> Mask:
        return np.isin(self._proto, [number for number, word in enumerate(self._protos) if word in words])

    def _has_evidence(self, *words: str) -> Mask:
        codes, known = self._connections.codes("evidence")
        return np.isin(codes, [number for number, word in enumerate(known) if word in words])

    def shares(self, group: str) -> bool:
        """Addresses of the group are also in others, and a verdict names one group only."""
        return group in self._sharing

    def hits(self, number: int) -> Rows:
        """The rows of the connections that a rule let pass."""
        found = self._order[self._bounds[number] : self._bounds[number + 1]]
        return found % max(1, len(self))

    def counts(self, group: str) -> tuple[int, int]:
        """Counts of connections that a group answered and initiated; none where groups share addresses."""
        if self.shares(group):
            return 0, 0
        number = self._scope.names.index(group)
        answered = (self._groups["ingress"] == number) & (self._groups["egress"] != number) & self.sure
        initiated = (self._groups["egress"] == number) & self._earnest
        return int(answered.sum()), int(initiated.sum())

    def asked_for_names(self, group: str) -> int:
        """The number of connections to name servers that a group initiated."""
        mine = self._groups["egress"] == self._scope.names.index(group)
        return int((mine & self._is_proto("udp", "tcp") & (self.asked == _DNS) & self.sure).sum())

    def initiated(self, group: str, side: Side, proto: str, ports: Spans, peers: Spans) -> int:
        """The number of connections with these ports and peers into a group, or out of it."""
        rows = self._of(group, side, proto, "asked").within(ports)
        return len(self._with_peers(rows, side, peers))

    def mirror_images(self, numbered: Numbered) -> tuple[int, int]:
        """Connections of the other direction whose replies a rule could have been meant for.

        Returns:
            How many had the rule's ports as the service, and how many as the originator's own.
        """
        side: Side = "egress" if numbered.side == "ingress" else "ingress"
        peers, ports = self._scope.peers[numbered.number], self._scope.ports[numbered.number]
        proto = numbered.rule.proto
        service = self._of(numbered.group, side, proto, "asked").within(ports)
        client = self._of(numbered.group, side, proto, "own").within(ports)
        client = client[~_within(self.asked[client], ports)]
        counts = [len(self._with_peers(rows[~self._icmp[rows]], side, peers)) for rows in (service, client)]
        return counts[0], counts[1]

    def _of(self, group: str, side: Side, proto: str, by: str) -> _Ordered:
        """The sure connections of a group and protocol, by a port: once for all rules that ask for them."""
        key = (group, side, proto, by)
        if key not in self._known:
            if (group, side) not in self._mine:
                mine = self.sure & (self._groups[side] == self._scope.names.index(group))
                self._mine[group, side] = np.flatnonzero(mine)
            rows = self._mine[group, side]
            if proto != ANY:
                rows = rows[self._is_proto(proto)[rows]]
            self._known[key] = _Ordered(rows, (self.asked if by == "asked" else self._connections["orig_port"])[rows])
        return self._known[key]

    def _with_peers(self, rows: Rows, side: Side, peers: Spans) -> Rows:
        if peers == EVERYBODY or not len(rows):
            return rows
        ranks, places = self._ranked
        held = np.zeros(len(places), dtype=bool)
        for first, last in peers:
            held[bisect.bisect_left(places, first) : bisect.bisect_right(places, last)] = True
        return rows[held[ranks[self._codes(side)[rows]]]]

    def peers(self, rows: Rows, side: Side) -> list[str]:
        """The addresses at the other end of connections, in order."""
        codes = sorted(distinct(self._codes(side)[rows]).tolist(), key=self._places.__getitem__)
        return [self._addresses[code] for code in codes]

    def peers_are_near(self, rows: Rows, side: Side) -> bool:
        """The other ends of connections are all in one group, or all in the local networks."""
        other = self._groups["egress" if side == "ingress" else "ingress"][rows]
        is_internal = self._connections["direction"][rows] == "internal"
        return bool(other.size) and bool((other[0] >= 0 and (other == other[0]).all()) or is_internal.all())

    def services(self, rows: Rows) -> list[str]:
        """The services of connections, such as `443/tcp`, the most frequent first."""
        keys = self._proto[rows].astype(np.int64) << 16 | self.asked[rows].astype(np.int64)
        found, counts = np.unique(keys, return_counts=True)
        return [
            text.service(self._protos[int(key) >> 16], int(key) & 0xFFFF)
            for key in found[np.argsort(-counts, kind="stable")]
        ]

    def evidence(self, rows: Rows) -> list[str]:
        """The evidence of connections, the most frequent first."""
        words, counts = np.unique(self._connections["evidence"][rows], return_counts=True)
        return [str(words[place]) for place in np.argsort(-counts, kind="stable")]

    @functools.cached_property
    def length(self) -> int:
        """Nanoseconds from the first packet of a connection to the last."""
        if not len(self):
            return 0
        start, end = self._connections["start"].min(), self._connections["end"].max()
        return int((end - start) / np.timedelta64(1, "ns"))

    @functools.cached_property
    def observed(self) -> int:
        """The number of connections whose first packet was seen."""
        without_opening = ~self._is_proto("tcp", "sctp") & self._has_evidence(*_FIRST)
        return int((self._has_evidence(*_OBSERVED) | without_opening).sum())

    @functools.cached_property
    def _coded(self) -> tuple[list[str], NDArray[np.intp], NDArray[np.intp]]:
        """Addresses, and for each connection the numbers of its two."""
        known: dict[str, int] = {}
        orig = [known.setdefault(address, len(known)) for address in self._connections["orig_addr"]]
        resp = [known.setdefault(address, len(known)) for address in self._connections["resp_addr"]]
        return list(known), np.array(orig, dtype=np.intp), np.array(resp, dtype=np.intp)

    @property
    def _addresses(self) -> list[str]:
        return self._coded[0]

    @functools.cached_property
    def _places(self) -> list[int]:
        return [spans.of_address(address) for address in self._addresses]

    @functools.cached_property
    def _ranked(self) -> tuple[NDArray[np.intp], list[int]]:
        """The rank of each address among all, and the places of these in order."""
        order = sorted(range(len(self._places)), key=self._places.__getitem__)
        ranks = np.empty(len(order), dtype=np.intp)
        ranks[order] = np.arange(len(order))
        return ranks, [self._places[number] for number in order]

    def _codes(self, side: Side) -> NDArray[np.intp]:
        """The peers of a direction's connections: originators of ingress, responders of egress."""
        return self._coded[1] if side == "ingress" else self._coded[2]


def _within(ports: NDArray[Any], ranges: Spans) -> Mask:
    found: Mask = np.zeros(len(ports), dtype=bool)
    for first, last in ranges:
        found |= (ports >= first) & (ports <= last)
    return found
