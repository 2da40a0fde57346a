"""Sections about traffic: who calls whom, how much moved, when, and who initiates most."""

from __future__ import annotations

import math

from conntrack_py import text
from conntrack_py.analysis.matrix import Cell
from conntrack_py.analysis.vain import LEAST
from conntrack_py.reporting import marks
from conntrack_py.reporting.axis import Axis
from conntrack_py.reporting.facts import Facts, short
from conntrack_py.reporting.palette import TINTS, tint
from conntrack_py.reporting.sections.common import Section
from conntrack_py.reporting.words import hosts
from conntrack_py.summaries import ROLES

#: Callers in vain that are shown, and columns up to which a cell of the matrix has bytes.
_VAIN, _WIDE = 10, 8


_BASES = {
    "zones": "Parts are the zones of the configuration.",
    "groups": "Parts are the groups given.",
    "kinds": "Parts are kinds of your hosts, by the service that they answer most on; zones or groups would name them.",
}


def matrix(facts: Facts) -> Section:
    """The matrix of parts."""
    found = facts.matrix
    rows = [name for name in found.parts if found.calls[name]]
    columns = [name for name in found.parts if found.called[name]]
    small = len(columns) <= _WIDE
    most = max((cell.connections for cell in found.cells.values()), default=1)
    return {
        "basis": _BASES[found.basis],
        "small": small,
        "columns": [short(name) for name in columns],
        "rows": [
            {
                "name": short(name),
                "hosts": hosts(found.hosts[name]),
                "cells": [_cell(found.cells.get((name, other)), most) for other in columns],
                "all": f"{found.calls[name]:,}",
            }
            for name in rows
        ],
        "sums": [f"{found.called[name]:,}" for name in columns],
        "total": f"{sum(found.calls.values()):,}",
    }


def step_of(connections: int, most: int) -> int:
    """The tint of a number of connections, 1 to 5, by its logarithm."""
    if most <= 1:
        return 3
    return 1 + min(len(TINTS) - 1, int(len(TINTS) * math.log(connections) / math.log(most)))


def _cell(cell: Cell | None, most: int) -> Section | None:
    if cell is None:
        return None
    step = step_of(cell.connections, most) if cell.answered else 0
    sizes = f"{text.size(cell.orig_bytes)} / {text.size(cell.resp_bytes)}"
    answered = "nobody ever answered" if not cell.answered else f"{cell.answered:,} answered"
    return {
        "word": cell.direction,
        "step": step,
        "colour": tint(cell.direction, step) if step else "",
        "connections": f"{cell.connections:,}",
        "bytes": sizes,
        "words": f"{cell.direction}, {answered}",
    }


def volume(facts: Facts) -> Section:
    """Bytes by who had asked for them."""
    summary = facts.summary
    most = max((max(sums.orig_bytes, sums.resp_bytes) for sums in summary.directions.values()), default=1)
    # A flow log may count nothing.
    rows = [row for one in facts.largest if None not in ((row := one.connection).orig_ip_bytes, row.resp_ip_bytes)]
    largest = max((max(row.orig_ip_bytes, row.resp_ip_bytes) for row in rows), default=1)
    names = facts.names_of
    case = next((row for row in rows if row.resp_ip_bytes > 2 * row.orig_ip_bytes and row.direction == "egress"), None)
    case = case or next((row for row in rows if row.resp_ip_bytes > 2 * row.orig_ip_bytes), None)
    return {
        "directions": [
            {
                "word": word,
                "sent": text.size(sums.orig_bytes),
                "got": text.size(sums.resp_bytes),
                "bar": marks.butterfly(word, sums.orig_bytes, sums.resp_bytes, most),
            }
            for word, sums in summary.directions.items()
        ],
        "largest": [
            {
                "word": row.direction,
                "orig": row.orig_addr,
                "orig_name": names.get(row.orig_addr, ""),
                "resp": row.resp_addr,
                "resp_name": names.get(row.resp_addr, ""),
                "service": text.service_of(row),
                "sent": text.size(row.orig_ip_bytes),
                "got": text.size(row.resp_ip_bytes),
                "bar": marks.butterfly(row.direction, row.orig_ip_bytes, row.resp_ip_bytes, largest),
            }
            for row in rows
        ],
        "case": None
        if case is None
        else {
            "got": text.size(case.resp_ip_bytes),
            "orig": case.orig_addr,
            "resp": case.resp_addr,
            "word": case.direction,
        },
    }


def time(facts: Facts) -> Section:
    """Lanes of bars, one for each direction."""
    found = facts.bins
    assert found is not None
    number = len(next(iter(found.counts.values())))
    axis = Axis(found.begin, found.begin + number * found.length)
    return {
        "length": text.span(found.length),
        "axis": marks.ticks(axis),
        "lanes": [
            {
                "word": word,
                "all": f"{sum(counts):,}",
                "most": f"{max(counts):,}",
                "picture": marks.lane(
                    word, counts, 44, f"{word}: {sum(counts):,} connections, at most {max(counts):,} in a bar"
                ),
            }
            for word, counts in found.counts.items()
        ],
    }


def initiators(facts: Facts) -> Section:
    """Hosts and services with the most connections."""
    found, summary = facts.callers, facts.summary
    most = max((one.connections for one in found), default=1)
    busiest = max((one.totals.connections for one in summary.services), default=1)
    opening = sum(
        host.counts["both"] + host.counts["initiates"] for host in (summary.local_hosts, summary.remote_hosts)
    )
    more = summary.all_services - len(summary.services)
    return {
        "caption": f"Hosts that opened the most connections ({len(found):,} of {opening:,})",
        "callers": [
            {
                "address": one.address,
                "name": facts.names_of.get(one.address, ""),
                "value": one.connections,
                "opened": f"{one.connections:,}",
                "bar": marks.bar(one.directions.items(), most),
                "answered": f"{one.answered:,}",
                "hosts": f"{one.hosts:,}",
                "services": ", ".join(one.uses)
                + (f", +{one.services - len(one.uses):,}" if one.services > len(one.uses) else ""),
                "sent": text.size(one.sent),
                "sent_value": one.sent,
                "got": text.size(one.received),
                "got_value": one.received,
            }
            for one in found
        ],
        "services_caption": f"Services asked for ({len(summary.services):,} of {summary.all_services:,})",
        "services": [
            {
                "word": one.direction,
                "service": one.service,
                "value": one.totals.connections,
                "opened": f"{one.totals.connections:,}",
                "bar": marks.bar([(one.direction, one.totals.connections)], busiest),
                "by": f"{one.originators:,}",
                "to": f"{one.responders:,}",
                "sent": text.size(one.totals.orig_bytes),
                "sent_value": one.totals.orig_bytes,
                "got": text.size(one.totals.resp_bytes),
                "got_value": one.totals.resp_bytes,
            }
            for one in summary.services
        ],
        "more": f"and {text.counted(more, 'service')} more; --top shows more" if more > 0 else "",
    }


def vain(facts: Facts) -> Section:
    """Callers in vain."""
    found = facts.vain
    more = len(found) - _VAIN
    return {
        "least": LEAST,
        "shown": [
            {
                "caller": one.caller,
                "name": facts.names_of.get(one.caller, ""),
                "calls": f"{one.in_vain:,} of {one.calls:,}",
                "hosts": f"{one.hosts:,}",
                "services": f"{one.services:,}",
                "most": ", ".join(one.most[:3]),
                "within": text.span(one.last - one.first),
                "first": text.moment(one.first, "s"),
            }
            for one in found[:_VAIN]
        ],
        "more": f"and {text.counted(more, 'caller')} more" if more > 0 else "",
    }


def roles(facts: Facts) -> list[Section]:
    """Counts of hosts by role."""
    summary = facts.summary
    return [
        {"name": name, "counts": [f"{found.counts[role]:,}" for role in ROLES]}
        for name, found in (("local", summary.local_hosts), ("other", summary.remote_hosts))
    ]
