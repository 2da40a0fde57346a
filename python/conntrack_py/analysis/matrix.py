"""Connections from one part of the network to another: zones, groups of a policy, or kinds of hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from conntrack_py.analysis.columns import Columns
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import Ruleset
from conntrack_py.policy.traffic import roles
from conntrack_py.policy.traffic.keys import Ints, distinct, joined
from conntrack_py.table import ConnectionTable
from conntrack_py.text import service as service_text

#: Names of the parts that no zone and no group names.
OTHER_LOCAL, OUTSIDE, MULTICAST = "other local", "outside", "multicast"
#: Parts that are shown apart; the rest is one part.
MOST = 10


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Connections from one part to another.

    Attributes:
        connections: Their number.
        answered: Those of them that were answered.
        direction: The direction of most of them.
        orig_bytes: IP bytes that originators sent.
        resp_bytes: IP bytes that responders sent.
    """

    connections: int
    answered: int
    direction: str
    orig_bytes: int
    resp_bytes: int


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Connections between parts of the network; a row calls, a column is called.

    Attributes:
        basis: `zones`, `groups`, or `kinds`: hosts by what they offer.
        parts: Names of the parts, those with the most connections first; outside and multicast last.
        hosts: Part → number of different addresses.
        folded: Number of parts that are one, named `n more`.
        cells: Calling and called part → cell; without connections there is none.
        calls: Part → connections that it opened.
        called: Part → connections that were opened to it.
    """

    basis: str
    parts: tuple[str, ...]
    hosts: dict[str, int]
    folded: int
    cells: dict[tuple[str, str], Cell]
    calls: dict[str, int]
    called: dict[str, int]


def matrix(
    table: ConnectionTable,
    zones: Mapping[str, object] | None = None,
    groups: Ruleset | None = None,
    *,
    columns: Columns | None = None,
) -> Matrix:
    """Count connections between zones, or groups, or else kinds of hosts.

    Args:
        table: The connections.
        zones: The zones of the configuration; a table with zones is judged by them.
        groups: A policy whose groups are the parts, where there are no zones.
        columns: The columns of the table, if they are there already.
    """
    data = Columns(table) if columns is None else columns
    if zones:
        basis, names, orig, resp = "zones", *_by_zone(data)
    elif groups is not None and groups.groups:
        basis, names, orig, resp = "groups", *_by_group(data, groups)
    else:
        basis, names, orig, resp = "kinds", *_by_kind(data)
    return _counted(data, basis, names, orig, resp)


def _by_zone(data: Columns) -> tuple[list[str], Ints, Ints]:
    _, words = data.table.codes("orig_zone")
    names = [*words, OTHER_LOCAL, OUTSIDE, MULTICAST]
    ends = []
    for side in ("orig", "resp"):
        codes = data.table.codes(f"{side}_zone")[0][data.rows].astype(np.int64)
        ends.append(np.where(codes >= 0, codes, _elsewhere(data, side, len(words))))
    return names, ends[0], ends[1]


def _elsewhere(data: Columns, side: str, first: int) -> Ints:
    """The number of other local, outside or multicast, from `first` on, for each counted row."""
    local, group = data.table.places(0 if side == "orig" else 1)
    local, group = local[data.rows], group[data.rows]
    if side == "resp":
        group = group | data.is_direction("multicast")
    return np.where(group, first + 2, np.where(local, first, first + 1)).astype(np.int64)


def _by_group(data: Columns, groups: Ruleset) -> tuple[list[str], Ints, Ints]:
    membership, numbers = Membership(groups), {name: place for place, name in enumerate(groups.groups)}
    of_host = np.array(
        [numbers[found[0]] if (found := membership.of(address)) else -1 for address in data.traffic.addresses], np.int64
    )
    names = [*numbers, OTHER_LOCAL, OUTSIDE, MULTICAST]
    return names, *_ends(data, of_host, len(numbers))


def _by_kind(data: Columns) -> tuple[list[str], Ints, Ints]:
    """Local hosts by the service that most connections to them were for; those that offer none are clients."""
    offered = _main_services(data)
    names: dict[str, int] = {}
    of_host = np.full(len(data.traffic.addresses), -1)
    for place, address in enumerate(data.traffic.addresses):
        if address in offered:
            of_host[place] = names.setdefault(offered[address], len(names))
    return [*names, OTHER_LOCAL, OUTSIDE, MULTICAST], *_ends(data, of_host, len(names))


def _main_services(data: Columns) -> dict[str, str]:
    """Local host → name of its kind."""
    hosts = roles.local_hosts(data.traffic)
    answered = data.resp[data.answered], data.services[data.answered]
    _, rows, counts = np.unique(joined(*answered), return_index=True, return_counts=True)
    keys = np.stack([column[rows] for column in answered])
    most: dict[str, tuple[int, str]] = {}
    for host, service, count in zip(*keys.tolist(), counts.tolist(), strict=True):
        address, named = data.name(host), data.traffic.service_of(service)
        if address in hosts and named in hosts[address].offers:
            most[address] = max(most.get(address, (0, "")), (count, service_text(*named)))
    return {
        address: f"{most[address][1]} servers" if address in most else "clients"
        for address, host in hosts.items()
        if address in most or host.initiated
    }


def _ends(data: Columns, of_host: Ints, first: int) -> tuple[Ints, Ints]:
    found = []
    for side, hosts in (("orig", data.orig), ("resp", data.resp)):
        numbers = of_host[hosts]
        found.append(np.where(numbers >= 0, numbers, _elsewhere(data, side, first)))
    return found[0], found[1]


def _counted(data: Columns, basis: str, names: list[str], orig: Ints, resp: Ints) -> Matrix:
    number = len(names)
    busy = np.bincount(orig, minlength=number) + np.bincount(resp, minlength=number)
    named = [place for place in np.argsort(-busy[:-2], kind="stable").tolist() if busy[place]]
    folded = max(0, len(named) - MOST)
    kept = named[:MOST] if folded else named
    parts = [names[place] for place in kept] + ([f"{folded:,} more"] if folded else [])
    # The rest of the groups share a number, and outside and multicast come last.
    numbers = np.full(number, len(kept))
    numbers[kept] = np.arange(len(kept))
    numbers[-2:] = [len(parts), len(parts) + 1]
    parts += [OUTSIDE, MULTICAST]
    orig, resp = numbers[orig], numbers[resp]
    cells = _cells(data, parts, orig, resp)
    calls, called = (np.bincount(end, minlength=len(parts)).tolist() for end in (orig, resp))
    present = [place for place, name in enumerate(parts) if calls[place] or called[place] or name == OUTSIDE]
    hosts = distinct(
        np.concatenate((orig, resp)) * len(data.traffic.addresses) + np.concatenate((data.orig, data.resp))
    ) // max(len(data.traffic.addresses), 1)
    of_part = np.bincount(hosts, minlength=len(parts)).tolist()
    return Matrix(
        basis=basis,
        parts=tuple(parts[place] for place in present),
        hosts={parts[place]: of_part[place] for place in present},
        folded=folded,
        cells=cells,
        calls={parts[place]: calls[place] for place in present},
        called={parts[place]: called[place] for place in present},
    )


def _cells(data: Columns, parts: list[str], orig: Ints, resp: Ints) -> dict[tuple[str, str], Cell]:
    number, directions = len(parts), len(data.directions)
    keys = orig * number + resp
    counts = np.bincount(keys, minlength=number * number)
    answered = np.bincount(keys, weights=data.answered, minlength=number * number)
    sent = np.bincount(keys, weights=data.orig_bytes, minlength=number * number)
    got = np.bincount(keys, weights=data.resp_bytes, minlength=number * number)
    shares = np.bincount(keys * directions + data.direction, minlength=number * number * directions)
    most = shares.reshape(-1, directions).argmax(axis=1)
    return {
        (parts[key // number], parts[key % number]): Cell(
            connections=int(counts[key]),
            answered=int(answered[key]),
            direction=data.directions[most[key]],
            orig_bytes=int(sent[key]),
            resp_bytes=int(got[key]),
        )
        for key in np.flatnonzero(counts).tolist()
    }
