"""Five-tuples, sums and originators of the corpus and further captures, against Zeek, nDPI, Arkime and Suricata.

Every difference is either a fault of ours or a row of `docs/differences.md`: an unexplained one fails, and so does a
row that no longer occurs. The naive tracker goes through the same comparison and so judges the judges.
"""

from __future__ import annotations

import functools
import gzip
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import dpkt  # type: ignore[import-untyped]
import pytest

from support import library_flows, naive
from support.corpus import (
    SUMMARY,
    Capture,
    Endpoint,
    Expectation,
    address,
    captures,
    library,
    more_captures,
    require,
)
from support.known_differences import Difference, end_text, listed, settle
from support.naive import ICMP, ICMP6, SCTP, TCP, UDP, Flow, Flows, Key

#: The naive tracker judges the oracles on the corpus.
CAPTURES = captures()
EVERY = (*CAPTURES, *more_captures())
ORACLES = ("zeek", "arkime", "ndpi")

#: A tracker under test: (capture, tunnels, checksum) to sums per five-tuple.
Tracker = Callable[[Capture, str, bool], Flows]


@dataclass
class Totals:
    """An oracle's sums for one five-tuple."""

    originators: set[Endpoint] = field(default_factory=set)
    sums: dict[tuple[str, Endpoint], int] = field(default_factory=dict)
    offsets: set[int] | None = None  #: of its records; None: not logged


@functools.cache
def track_naively(capture: Capture, tunnels: str, checksum: bool) -> Flows:
    """The naive tracker."""
    return naive.flows(capture.records, tunnels, checksum)


@functools.cache
def track_with_library(capture: Capture, tunnels: str, checksum: bool) -> Flows:
    """The library: sums over the connections of a five-tuple, records by its labels."""
    tracked = library_flows.track(str(capture.path), tunnels=tunnels, checksum=checksum)
    stacks = list(naive.stacks(capture.records)) if tracked.errors else []
    for number in tracked.errors:
        error = stacks[number][-1]
        tracked.flows[naive.key(error.proto, error.src, error.dst)].side(error.src).records.append(number)
    return tracked.flows


def without_ports(oracle: str, proto: int | None) -> bool:
    """True where the oracle logs ports of 0: ICMP in nDPI and Arkime, SCTP in Zeek and nDPI, and what has no ports."""
    if oracle == "zeek":
        return proto not in (TCP, UDP, ICMP, ICMP6, None)
    return proto not in (TCP, UDP, SCTP) or (oracle == "ndpi" and proto == SCTP)


def key_text(key: Key) -> str:
    """`tcp 192.0.2.1:80 198.51.100.1:1024`."""
    names = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMP6: "icmp6", SCTP: "sctp"}
    return f"{names.get(key[0], key[0])} {end_text(key[1])} {end_text(key[2])}"


@functools.cache
def later_fragments(capture: Capture) -> frozenset[int]:
    """The numbers of the records that hold no first fragment and no whole datagram."""
    stacks = enumerate(naive.stacks(capture.records))
    return frozenset(n for n, stack in stacks if any(p.fragment == "later" for p in stack))


class Comparison:
    """Our sums and an oracle's for one capture, on the oracle's terms."""

    def __init__(self, capture: Capture, expectation: Expectation, tracker: Tracker) -> None:
        self.capture, self.expectation, self.oracle = capture, expectation, expectation.oracle
        # Zeek logs tunnels over UDP and what they carry; the others log what they carry.
        self.tunnels = "both" if self.oracle == "zeek" else "inner"
        self.ours = self._merged(tracker(capture, self.tunnels, expectation.checksum))
        #: Five-tuples whose first packet names the initiator.
        self.evident = self._merged(track_naively(capture, self.tunnels, expectation.checksum))
        self.numbers: Counter[str] = Counter()

    def _end(self, proto: int | None, end: Endpoint) -> Endpoint:
        return (end[0], 0) if without_ports(self.oracle, proto) else end

    def _merged(self, flows: Flows) -> Flows:
        """The flows with the ports that the oracle does not have taken away."""
        merged: Flows = {}
        for (proto, one, other), flow in flows.items():
            if self.oracle == "zeek" and proto in naive.IP_TUNNELS:
                continue
            name = naive.key(proto, self._end(proto, one), self._end(proto, other))
            target = merged.setdefault(name, Flow())
            target.originators |= {self._end(proto, o) for o in flow.originators}
            for end, side in flow.sides.items():
                summed = target.side(self._end(proto, end))
                summed.packets += side.packets
                summed.ip_bytes += side.ip_bytes
                summed.payload += side.payload
                summed.records += side.records
        return merged

    def theirs(self) -> dict[Key, Totals]:
        """The oracle's connections, merged per five-tuple."""
        found: dict[Key, Totals] = {}
        for row in self.expectation.connections:
            proto = row.proto
            if proto is None:  # not logged: the protocol that we have between these endpoints
                here = [k[0] for k in self.ours if naive.key(k[0], row.orig, row.resp) == k]
                proto = here[0] if here else 0
            orig, resp = self._end(proto, row.orig), self._end(proto, row.resp)
            totals = found.setdefault(naive.key(proto, orig, resp), Totals())
            totals.originators.add(orig)
            if row.offsets is not None:
                totals.offsets = (totals.offsets or set()) | set(row.offsets)
            for name in ("packets", "ip_bytes", "payload", "wire"):
                for end, value in zip((orig, resp), getattr(row, name), strict=True):
                    if self.comparable(name, proto, value):
                        totals.sums[name, end] = totals.sums.get((name, end), 0) + value
        return found

    def comparable(self, name: str, proto: int, value: int | None) -> bool:
        """False where the oracle has no such number, or counts another thing under its name."""
        if value is None or not self.expectation.sums:
            return False
        # Arkime counts ICMP's header as payload and leaves out ESP's.
        return not (name == "payload" and self.oracle == "arkime" and proto not in (TCP, UDP, SCTP))

    def value(self, key: Key, name: str, end: Endpoint) -> int:
        """Our number."""
        side = self.ours[key].sides.get(end, naive.Side())
        if name != "wire":
            return int(getattr(side, name))
        later = later_fragments(self.capture) if self.oracle == "ndpi" else frozenset()  # nDPI drops them
        return sum(self.capture.records[n].wire for n in side.records if n not in later)

    def differences(self) -> Iterable[Difference]:
        """Every difference, as a row of the table."""
        theirs = self.theirs()
        for key in sorted(set(self.ours) | set(theirs)):
            if key not in theirs and not self.expectation.complete:
                continue
            self.numbers["tuples"] += 1
            rows = list(self._differences(key, theirs))
            self.numbers["tuples equal"] += not [row for row in rows if row[3] != "originator"]
            yield from rows

    def _differences(self, key: Key, theirs: dict[Key, Totals]) -> Iterable[Difference]:
        def row(name: str, us: object, them: object) -> Difference:
            return (self.capture.name, self.oracle, key_text(key), name, str(us), str(them))

        if key not in theirs or key not in self.ours:
            words = ("absent", "present") if key not in self.ours else ("present", "absent")
            yield row("five-tuple", *words)
            return
        totals = theirs[key]
        for (name, end), their_sum in totals.sums.items():
            our_sum = self.value(key, name, end)
            self.numbers["sums"] += 1
            self.numbers["sums equal"] += our_sum == their_sum
            if our_sum != their_sum:
                yield row(f"{name} from {end_text(end)}", our_sum, their_sum)
        if totals.offsets is not None and key[0] in (TCP, UDP, SCTP, ICMP, ICMP6):  # Arkime keeps ESP's first only
            records = self.capture.records
            mine = {records[n].offset for side in self.ours[key].sides.values() for n in side.records}
            if mine != totals.offsets:
                yield row("records", len(mine), len(totals.offsets))
        if self.judges_originator(key):
            us, them = self.ours[key].originators, totals.originators
            self.numbers["originators"] += 1
            self.numbers["originators equal"] += us == them
            if us != them:
                yield row("originator", *(" ".join(sorted(map(end_text, ends))) for ends in (us, them)))

    def judges_originator(self, key: Key) -> bool:
        """True where the five-tuple's first packet says who initiated, and the oracle listens to it."""
        evident = self.evident.get(key, Flow()).originators
        if not evident or self.oracle != "ndpi":
            return bool(evident)
        first = min((side.records[0], end) for end, side in self.evident[key].sides.items() if side.records)[1]
        return evident == {first}  # nDPI has the first sender, whatever he sent


TRACKERS = {"naive": track_naively, "conntrack_py": track_with_library}


@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize("oracle", ORACLES)
def test_oracle(oracle: str, tracker: str) -> None:
    """Equal to the oracle on every capture, but for what docs/differences.md explains."""
    require()
    if tracker != "naive":
        library()
    numbers: Counter[str] = Counter()
    found: set[Difference] = set()
    every = CAPTURES if tracker == "naive" else EVERY
    for capture in every:
        expectations = [e for e in capture.expectations if e.oracle == oracle]
        numbers["captures"] += bool(expectations)
        numbers["tests"] += len(expectations)
        for expectation in expectations:
            comparison = Comparison(capture, expectation, TRACKERS[tracker])
            found.update(comparison.differences())
            numbers += comparison.numbers
    names = {capture.name for capture in every}
    known = {row for row in listed() if row[1] == oracle and row[0] in names}
    summarise(tracker, oracle, numbers, len(found & known))
    settle(found, known)


def summarise(tracker: str, oracle: str, numbers: Counter[str], known: int) -> None:
    """Add a line to the table that is printed when the session ends."""
    columns = ("captures", "tests", "tuples", "tuples equal", "sums", "sums equal", "originators", "originators equal")
    if not SUMMARY:
        SUMMARY.append("".join(f"{c:>19}" for c in ("tracker", "oracle", *columns, "listed differences")))
    SUMMARY.append("".join(f"{c:>19}" for c in (tracker, oracle, *(numbers[c] for c in columns), known)))


def test_differences_name_captures() -> None:
    """Every row is about one of the captures and an oracle that speaks of it."""
    require()
    speaking = {(c.name, e.oracle) for c in EVERY for e in c.expectations}
    speaking |= {(c.name, "suricata") for c in EVERY if c.checks}
    assert {(capture, oracle.removesuffix("-profile")) for capture, oracle, *_ in listed()} <= speaking


#: Facts of a Suricata record that a table of connections has, each with its words in flow and netflow records.
_FACTS = ("proto", "src_ip", "src_port", "dest_ip", "dest_port")
_SUMS = ("flow.pkts_toserver", "flow.pkts_toclient", "flow.bytes_toserver", "flow.bytes_toclient")
_PROTOS = {TCP: "TCP", UDP: "UDP", ICMP: "ICMP", ICMP6: "IPv6-ICMP", SCTP: "SCTP"}


@pytest.mark.parametrize("tracker", TRACKERS)
def test_suricata(tracker: str) -> None:
    """As many five-tuples have the packets, bytes and endpoints of each check as Suricata's test counts."""
    require()
    if tracker != "naive":
        library()
    every = CAPTURES if tracker == "naive" else EVERY
    found: set[Difference] = set()
    checks = 0
    for capture in every:
        for check in capture.checks:
            if not _is_of_flows(check.match):
                continue
            checks += 1
            matching = 0
            for key, flow in TRACKERS[tracker](capture, "inner", check.checksum).items():
                # The naive tracker does not know who initiated; a netflow record is one direction of a flow.
                either = tracker == "naive" or check.match.get("event_type") == "netflow"
                ends = set(key[1:]) if either else flow.originators
                matching += any(_matches(capture, key, flow, end, check.match) for end in ends)
            if matching != check.count:
                text = " ".join(f"{name}={check.match[name]}" for name in (*_FACTS, *_SUMS) if name in check.match)
                found.add((capture.name, "suricata", text, "flows", str(matching), str(check.count)))
    SUMMARY.append(f"{tracker}: {checks} checks of Suricata's tests, {len(found)} differ")
    names = {capture.name for capture in every}
    settle(found, {row for row in listed() if row[1] == "suricata" and row[0] in names})


def _is_of_flows(match: dict[str, object]) -> bool:
    """True for a check that names a flow and says nothing of what Suricata's rules did with it."""
    named = "src_port" in match or "src_ip" in match
    return named and not any(match.get(name) for name in ("flow.bypass", "flow.action"))


def _matches(capture: Capture, key: Key, flow: Flow, orig: Endpoint, match: dict[str, object]) -> bool:
    resp = key[2] if key[1] == orig else key[1]
    to_server, to_client = flow.side(orig), flow.side(resp)
    without = key[0] not in (TCP, UDP, SCTP)
    fields: dict[str, object] = {
        "proto": _PROTOS.get(key[0], str(key[0])),
        "src_ip": orig[0],
        "src_port": None if without else orig[1],
        "dest_ip": resp[0],
        "dest_port": None if without else resp[1],
        "flow.pkts_toserver": to_server.packets,
        "flow.pkts_toclient": to_client.packets,
        "flow.bytes_toserver": sum(capture.records[n].wire for n in to_server.records),
        "flow.bytes_toclient": sum(capture.records[n].wire for n in to_client.records),
        "netflow.pkts": to_server.packets,
        "netflow.bytes": sum(capture.records[n].wire for n in to_server.records),
    }
    wanted = {name: address(str(value)) if name.endswith("_ip") else value for name, value in match.items()}
    return all(fields[name] == value for name, value in wanted.items() if name in fields)


@pytest.mark.parametrize("capture", EVERY, ids=lambda c: c.name)
def test_records_are_read(capture: Capture) -> None:
    """The reader of this harness finds every packet that the corpus lists, with the bytes that dpkt's readers find."""
    assert len(capture.records) == capture.packets
    opened = gzip.open if capture.path.suffix == ".gz" else open
    with opened(capture.path, "rb") as file:
        assert [r.data for r in capture.records] == [bytes(data) for _, data in dpkt.pcap.UniversalReader(file)]
