"""Connections as input of rules: originator, responder, service, and the reason to leave them out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from conntrack_py import text
from conntrack_py.policy.model import WITH_PORTS, WITH_TYPES
from conntrack_py.policy.traffic.keys import Bools, Ints, distinct, joined, ranks
from conntrack_py.policy.traffic.services import ASKED_FROM_OUTSIDE, HELPERS, Service
from conntrack_py.table import ConnectionTable

#: The least confidence of connections that rules are made of: the initiator was right in 99.8 % of cases or more.
CONFIDENCE = 0.9
#: Evidence of connections that nobody initiated in earnest, or of which nobody can say.
NOBODY = ("unknown", "scan", "backscatter")
#: Datagrams without an answer after which somebody local is not trying a port but sending a stream: logs, metrics.
_STREAM = 4
#: The ICMP messages to which a gateway makes an entry, and their answers (net/netfilter/nf_conntrack_proto_icmp.c and
#: icmpv6.c of Linux).
ICMP_ANSWERS = {"icmp": {8: 0, 13: 14, 15: 16, 17: 18}, "icmp6": {128: 129, 139: 140}}
#: Neighbour discovery and listener reports, which a gateway does not track.
UNTRACKED = (*range(130, 137), 143)

#: Reasons to leave connections out of rules, in the order of their checks.
LEFT_OUT = {
    "icmp_error": "ICMP errors: they pass with the connection that they speak of",
    "untracked": "neighbour discovery, which gateways do not track",
    "opens_nothing": "ICMP messages that open no connection",
    "nobody": "scans, their echoes, and connections whose initiator is unknown",
    "low_confidence": "connections whose initiator is not sure enough",
    "refused": "connections that the responder refused, or reset before it sent data",
    "unanswered": "connections that nobody answered",
    "probe": "handshakes without data that the originator reset or left: half-open scans, port checks",
    "announced": "connections that another one announced (FTP data, media): its helper lets them pass, no rule",
    "administration": "administration from outside: for a person to decide",
}
KEPT = -1
#: The first port that takes no privilege to bind.
UNPRIVILEGED = 1024
#: Handshakes without data, orderly closed, of one originator: from so many services on they are a scan.
_SCAN = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """Connections from one address to a service of another.

    Attributes:
        orig: The originator.
        resp: The responder.
        proto: A word of the `proto` column.
        service: The responder's port, or the ICMP type that asks; 0 where there is neither.
        connections: How many.
        first: When the first of them began, nanoseconds.
        last: When the last of them began.
    """

    orig: str
    resp: str
    proto: str
    service: int
    connections: int
    first: int
    last: int


def icmp_errors(table: ConnectionTable) -> Bools:
    """Mask of the rows that are ICMP errors; the originator's "port" is the type."""
    proto, protos = table.codes("proto")
    errors = np.zeros(len(table), bool)
    for word in WITH_TYPES:
        kinds = [kind for kind in range(256) if text.is_icmp_error(word, kind)]
        errors |= np.equal(proto, protos.index(word)) & np.isin(table["orig_port"], kinds)
    return errors


def refusals(table: ConnectionTable) -> Bools:
    """Mask of the connections that the responder refused: a SYN, or what came before the capture."""
    states, state_words = table.codes("conn_state")
    evidence, words = table.codes("evidence")
    return np.equal(states, state_words.index("REJ")) | np.equal(evidence, words.index("refused"))


class Traffic:
    """The columns of a table that rules are made of; addresses and services numbered."""

    def __init__(self, table: ConnectionTable, confidence: float = CONFIDENCE) -> None:
        self.table = table
        self.orig, self.resp, self.addresses = table.hosts()
        self.proto, self.protos = table.codes("proto")
        self.service = self._services()
        #: Protocol and service of each connection as one number, see `service_of`.
        self.services: Ints = self.proto.astype(np.int64) << 16 | self.service
        self.start = _starts(table["start"])
        self.orig_local, self.orig_group = table.places(0)
        self.resp_local, self.resp_group = table.places(1)
        self.answered: Bools = table["resp_pkts"] > 0
        self.why = self._reasons(confidence)

    @property
    def kept(self) -> Bools:
        """The connections that rules may be made of."""
        return np.equal(self.why, KEPT)

    @property
    def in_earnest(self) -> Bools:
        """The connections that a policy should not refuse unawares: those of rules, and administration from outside."""
        return self.kept | self.because("administration")

    @property
    def egress(self) -> Bools:
        """The connections that leave the local networks."""
        codes, words = self.table.codes("direction")
        return np.equal(codes, words.index("egress"))

    def is_proto(self, words: tuple[str, ...]) -> Bools:
        """The connections of these protocols."""
        return np.isin(self.proto, [self.protos.index(word) for word in words])

    def because(self, *reasons: str) -> Bools:
        """The connections that are left out for these reasons."""
        order = list(LEFT_OUT)
        found: Bools = np.isin(self.why, [order.index(reason) for reason in reasons])
        return found

    @cached_property
    def keys(self) -> Ints:
        """Originator, responder and service of each connection as one number; equal numbers are the same pair."""
        _, ends = np.unique(joined(self.orig, self.resp), return_inverse=True)
        keys: Ints = ends.astype(np.int64) << 32 | self.services
        return keys

    def left_out(self) -> dict[str, int]:
        """Counts of connections left out, by reason."""
        counts = np.bincount(self.why[self.why != KEPT], minlength=len(LEFT_OUT)).tolist()
        return {reason: count for reason, count in zip(LEFT_OUT, counts, strict=True) if count}

    def service_of(self, number: int) -> tuple[str, int]:
        """The protocol and service of such a number."""
        return self.protos[number >> 16], number & 0xFFFF

    def pairs(self, which: Bools) -> list[Pair]:
        """The different pairs of originator and service among some connections, in the order of their first one."""
        return self._grouped(np.flatnonzero(which))[0]

    def grouped(self, rows: Ints) -> list[tuple[Pair, Ints]]:
        """Pairs of some rows, each with the rows of its connections by start time."""
        pairs, rows, begins, ends = self._grouped(rows)
        ranges = zip(pairs, begins.tolist(), ends.tolist(), strict=True)
        return [(pair, rows[first:last]) for pair, first, last in ranges]

    def _grouped(self, rows: Ints) -> tuple[list[Pair], Ints, Ints, Ints]:
        """Pairs of some rows, the rows by pair and start time, and the range of each pair's."""
        services = self.services[rows]
        order = np.lexsort((self.start[rows], services, self.resp[rows], self.orig[rows]))
        rows, services = rows[order], services[order]
        keys = np.stack((self.orig[rows], self.resp[rows], services))
        changes = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
        begins = np.flatnonzero(np.concatenate((np.ones(min(len(rows), 1), bool), changes)))
        ends = np.append(begins[1:], len(rows))[: len(begins)]
        orig, resp, services = keys[:, begins]
        first, last = self.start[rows[begins]], self.start[rows[ends - 1]]
        places = self._places_by_address(orig, resp)
        words = ranks(self.protos)[services >> 16]
        order = np.lexsort((services & 0xFFFF, words, places[resp], places[orig], first))
        columns = (orig, resp, services >> 16, services & 0xFFFF, ends - begins, first, last)
        names, protos = self.addresses, self.protos
        pairs = [
            Pair(names[source], names[target], protos[proto], *rest)
            for source, target, proto, *rest in zip(*(column[order].tolist() for column in columns), strict=True)
        ]
        return pairs, rows, begins[order], ends[order]

    def _places_by_address(self, *some: Ints) -> Ints:
        """The places of some hosts among them, by their addresses as text; 0 for all others."""
        hosts = distinct(np.concatenate(some))
        places = np.zeros(len(self.addresses), np.int64)
        places[hosts] = ranks([self.addresses[host] for host in hosts.tolist()])
        return places

    def perhaps_outwards(self, offers: Mapping[str, Collection[Service]]) -> list[tuple[Pair, Ints]]:
        """Connections that servers may have initiated outwards, as pairs from the server to the other host.

        The originator is in doubt: its evidence is below the confidence asked for, or `unknown`. The row may name
        either end. A connection to a service that the server offers is none of these.

        Args:
            offers: Server → services that the server answered on.
        """
        evidence, words = self.table.codes("evidence")
        unknown = np.equal(evidence, words.index("unknown"))
        unsure = self.because("low_confidence") | self.because("nobody") & unknown
        serves = np.array([address in offers for address in self.addresses], bool)
        outwards = unsure & self.egress & serves[self.orig] & ~self.resp_group
        inwards = unsure & self.is_proto(WITH_PORTS) & ~self.orig_local & self.resp_local & serves[self.resp]
        found: dict[tuple[str, str, str, int], list[int]] = {}
        for row in np.flatnonzero(outwards | inwards).tolist():
            ends = self.addresses[self.orig[row]], self.addresses[self.resp[row]]
            proto, service = self.service_of(int(self.services[row]))
            if not outwards[row]:
                if (proto, service) in offers[ends[1]]:
                    continue
                ends, service = ends[::-1], int(self.table["orig_port"][row])
            found.setdefault((*ends, proto, service), []).append(row)
        return [(self._pair(ends, rows), np.array(rows)) for ends, rows in found.items()]

    def _pair(self, ends: tuple[str, str, str, int], rows: list[int]) -> Pair:
        starts = self.start[rows]
        return Pair(*ends, len(rows), int(starts.min()), int(starts.max()))

    def _services(self) -> Ints:
        ports = np.where(self.is_proto(WITH_PORTS), self.table["resp_port"], 0)
        return np.where(self.is_proto(WITH_TYPES), self.table["orig_port"], ports).astype(np.int64)

    def _reasons(self, confidence: float) -> NDArray[np.int8]:
        errors, opens = icmp_errors(self.table), np.ones(len(self.table), bool)
        for word in WITH_TYPES:
            mine = self.is_proto((word,))
            opens &= ~mine | np.isin(self.service, list(ICMP_ANSWERS[word]))
        untracked = self.is_proto(("icmp6",)) & np.isin(self.service, UNTRACKED)
        evidence, words = self.table.codes("evidence")
        nobody = np.isin(evidence, [words.index(word) for word in NOBODY])
        refused = refusals(self.table) | self._reset_unheard()
        stream = self.orig_local & ~self.is_proto(("tcp", "sctp")) & (self.table["orig_pkts"] >= _STREAM)
        unanswered = ~self.answered & ~self.resp_group & ~stream
        # A float32 of 0.9 is a little less than 0.9.
        unsure = self.table["confidence"] < np.float32(confidence)
        reasons = [errors, untracked, ~opens, nobody, unsure, refused, unanswered, self._probes()]
        announced = self._announced()
        inwards = ~self.orig_local & self.resp_local & ~self.resp_group & self.is_service(ASKED_FROM_OUTSIDE)
        return np.select([*reasons, announced, inwards], np.arange(len(LEFT_OUT)), KEPT).astype(np.int8)

    def is_service(self, services: Iterable[Service]) -> Bools:
        """The connections to these services."""
        codes = {word: code for code, word in enumerate(self.protos)}
        found: Bools = np.isin(self.services, [codes[proto] << 16 | port for proto, port in services if proto in codes])
        return found

    def _states(self, *words: str) -> Bools:
        codes, known = self.table.codes("conn_state")
        return np.isin(codes, [known.index(word) for word in words])

    def _reset_unheard(self) -> Bools:
        """TCP connections that the responder reset without a byte of its own: closed behind a proxy, or filtered."""
        unheard: Bools = self._states("RSTR", "RSTRH") & (self.table["resp_bytes"] == 0)
        return unheard & self.is_proto(("tcp",))

    def _probes(self) -> Bools:
        """Answered TCP handshakes without data that the originator reset or left, or that are many of one host."""
        states, words = self.table.codes("state")
        idle = self.is_proto(("tcp",)) & (self.table["orig_bytes"] == 0) & (self.table["resp_bytes"] == 0)
        evidence, known = self.table.codes("evidence")
        idle &= self.answered & np.isin(evidence, [known.index("syn"), known.index("syn_ack")])
        half: Bools = idle & (self._states("RSTO") | np.equal(states, words.index("SYN_RECV")))
        whole = np.flatnonzero(idle & ~half & self._states("SF"))
        _, firsts = np.unique(self.keys[whole], return_index=True)
        many = np.bincount(self.orig[whole[firsts]], minlength=len(self.addresses)) >= _SCAN
        half[whole] = many[self.orig[whole]]
        return half

    def _announced(self) -> Bools:
        """Connections that another connection's messages made expected, and the data of FTP whose messages hide."""
        table = self.table
        parents = table.parents()
        has_parent = table["related_to"] >= 0
        evidence, words = table.codes("evidence")
        has_ports = self.is_proto(WITH_PORTS)
        carried, _ = table.codes("tunnel")
        control = self.is_service(HELPERS)
        known = parents >= 0
        by_helper = np.zeros_like(control)
        by_helper[known] = control[parents[known]]
        announced = has_ports & has_parent & (np.equal(carried, -1) | by_helper)
        announced |= np.equal(evidence, words.index("related"))
        # RFC 959: active data comes from port 20.
        announced |= self.is_proto(("tcp",)) & (table["orig_port"] == 20) & (self.service >= UNPRIVILEGED)
        return announced | self._hidden_ftp_data(announced)

    def _hidden_ftp_data(self, announced: Bools) -> Bools:
        """One connection to a high port between the ends of an FTP session with encrypted messages (RFC 4217).

        Nobody else uses the port: it is no service.
        """
        ends = joined(self.orig, self.resp)
        tcp = self.is_proto(("tcp",))
        sessions = tcp & np.isin(self.service, (21, 990)) & self.answered
        if not sessions.any():
            return np.zeros_like(announced)
        _, places, counts = np.unique(self.resp << 32 | self.services, return_inverse=True, return_counts=True)
        once: Bools = counts[places] == 1
        return tcp & ~announced & once & (self.service >= UNPRIVILEGED) & np.isin(ends, ends[sessions])


def is_loopback(address: str) -> bool:
    """True for an address of a host's own network."""
    return address.startswith("127.") or address == "::1"


def _starts(column: NDArray[np.datetime64]) -> Ints:
    """Nanoseconds since 1970. Connections without a time take that of the first other one, or 0."""
    starts: Ints = column.view(np.int64)
    untimed = np.isnat(column)
    if not untimed.any():
        return starts
    return np.where(untimed, starts[~untimed].min() if not untimed.all() else 0, starts)
