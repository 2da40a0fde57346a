"""Fewer rules than were seen, where that is asked for: ports to ranges, peers to networks, rules to rules.

A draft is a rule before it is written: peers × services, all of which were seen.
"""

from __future__ import annotations

import heapq
import ipaddress
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from conntrack_py.policy.model import ANY, Side, merged
from conntrack_py.policy.traffic.pairs import Pair

#: The shortest networks that peers are folded to, and the share of their addresses that must have been seen.
_SHORTEST = {4: 24, 6: 64}
_DENSE = 0.5
#: Rules of one kind that are all compared with one another, and the neighbours of each where there are more.
_COMPARED, _NEIGHBOURS = 1_000, 50


@dataclass(kw_only=True)
class Draft:
    """A rule to be.

    Attributes:
        group: The group it is for.
        side: Its direction.
        proto: Its protocol.
        peers: Addresses that were seen, or names of groups in place of all their addresses.
        services: Ports or types that were seen.
        pairs: The connections it is made of.
        helper: The helper of its services.
        networks: What the addresses were folded to; empty: they stand as they are.
        ranges: What the ports were folded to; empty: they stand as they are.
        folds: What was made wider, in words.
    """

    group: str
    side: Side
    proto: str
    peers: frozenset[str]
    services: frozenset[int]
    pairs: list[Pair]
    helper: str = ""
    networks: tuple[str, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()
    folds: list[str] = field(default_factory=list)


def cover(group: str, side: Side, proto: str, seen: dict[tuple[str, int], list[Pair]], helper: str = "") -> list[Draft]:
    """The fewest drafts that hold exactly the (peer, service) pairs that were seen, each of them once."""
    by_peer: dict[str, set[int]] = {}
    by_service: dict[int, set[str]] = {}
    for peer, service in seen:
        by_peer.setdefault(peer, set()).add(service)
        by_service.setdefault(service, set()).add(peer)
    alike: dict[frozenset[int], set[str]] = {}
    for peer, services in by_peer.items():
        alike.setdefault(frozenset(services), set()).add(peer)
    same: dict[frozenset[str], set[int]] = {}
    for service, peers in by_service.items():
        same.setdefault(frozenset(peers), set()).add(service)
    if len(alike) <= len(same):
        products = [(frozenset(peers), services) for services, peers in alike.items()]
    else:
        products = [(peers, frozenset(services)) for peers, services in same.items()]

    def draft(peers: frozenset[str], services: frozenset[int]) -> Draft:
        pairs = [pair for peer in sorted(peers) for service in sorted(services) for pair in seen[peer, service]]
        return Draft(group=group, side=side, proto=proto, peers=peers, services=services, pairs=pairs, helper=helper)

    return [draft(peers, services) for peers, services in products]


def fold_rules(drafts: list[Draft], most: int) -> list[Draft]:
    """Merge rules of one group, direction, protocol and helper until there are at most `most`.

    Those go first that thereby allow the fewest (peer, service) pairs that were not seen. Others cannot be merged, so
    that there may be more left. More than `_COMPARED` rules of one kind are compared with their neighbours in the order
    of their services and peers alone: all pairs would be too many.
    """
    if len(drafts) <= most:
        return drafts
    kinds: dict[tuple[str, Side, str, str], dict[int, Draft]] = {}
    for number, draft in enumerate(drafts):
        kinds.setdefault((draft.group, draft.side, draft.proto, draft.helper), {})[number] = draft
    queue: list[tuple[int, int, int]] = []
    kind_of: dict[int, dict[int, Draft]] = {}
    for kind in kinds.values():
        ordered = sorted(kind, key=lambda number: (sorted(kind[number].services), sorted(kind[number].peers)))
        reach = len(kind) if len(kind) <= _COMPARED else _NEIGHBOURS
        for place, other in enumerate(ordered):
            kind_of[other] = kind
            near = ordered[max(0, place - reach) : place]
            queue += [_offer(kind, min(one, other), max(one, other)) for one in near]
    heapq.heapify(queue)
    left, number = len(drafts), len(drafts)
    while left > most and queue:
        wider, one, other = heapq.heappop(queue)
        kind = kind_of[one]
        if one not in kind or other not in kind:
            continue
        merged = _merged(kind.pop(one), kind.pop(other), wider)
        left -= 1
        # Of too many, those that were merged last.
        nearest = list(itertools.islice(reversed(kind), len(kind) if len(kind) <= _COMPARED else _NEIGHBOURS))
        kind[number] = merged
        for neighbour in nearest:
            heapq.heappush(queue, _offer(kind, neighbour, number))
        kind_of[number] = kind
        number += 1
    return [kind_of[number][number] for number in sorted(kind_of) if number in kind_of[number]]


def _offer(kind: Mapping[int, Draft], one: int, other: int) -> tuple[int, int, int]:
    """The pairs that nobody saw and the merger of two rules would allow, and the two."""
    a, b = kind[one], kind[other]
    return len(a.peers | b.peers) * len(a.services | b.services) - _size(a) - _size(b), one, other


def _merged(a: Draft, b: Draft, wider: int) -> Draft:
    return Draft(
        group=a.group,
        side=a.side,
        proto=a.proto,
        peers=a.peers | b.peers,
        services=a.services | b.services,
        pairs=[*a.pairs, *b.pairs],
        helper=a.helper,
        folds=[*a.folds, *b.folds, f"two rules made one, which allows {wider:,} peers and ports not seen together"],
    )


def unseen(draft: Draft, groups: Mapping[str, Sequence[str]]) -> int:
    """The combinations of a member that was seen, a peer and a service that a rule allows and nobody saw."""
    peers = sum(len(groups[peer]) if peer in groups else 1 for peer in draft.peers)
    services = sum(last - first + 1 for first, last in draft.ranges) or len(draft.services)
    seen = {(pair.orig, pair.resp, pair.service) for pair in draft.pairs}
    return max(0, len(groups[draft.group]) * peers * services - len(seen))


def _size(draft: Draft) -> int:
    return len(draft.peers) * len(draft.services)


def fold_ports(draft: Draft, most: int) -> None:
    """Close the smallest gaps between ports until there are at most `most` ranges."""
    ranges = list(merged(tuple((port, port) for port in draft.services)))
    if len(ranges) <= most:
        return
    gaps = sorted(range(1, len(ranges)), key=lambda place: (ranges[place][0] - ranges[place - 1][1], place))
    closed = set(gaps[: len(ranges) - max(most, 1)])
    folded: list[tuple[int, int]] = []
    for place, (first, last) in enumerate(ranges):
        if place in closed:
            folded[-1] = (folded[-1][0], last)
        else:
            folded.append((first, last))
    draft.ranges = tuple(folded)
    allowed = sum(last - first + 1 for first, last in folded)
    draft.folds.append(f"{len(draft.services):,} ports made ranges of {allowed:,}")


def fold_peers(draft: Draft, most: int, is_local: Iterable[str], groups: Mapping[str, Sequence[str]]) -> None:
    """Fold more than `most` addresses: to groups of which they are all that was seen, to networks, at last to any.

    Of a network at least half must have been seen, and any takes the place of addresses few of which are local.
    """
    for name, members in groups.items():
        if len(draft.peers.difference(groups)) > most and members and draft.peers.issuperset(members):
            draft.peers = draft.peers.difference(members) | {name}
            draft.folds.append(
                f"{len(members):,} addresses made the group {name}, all of whose hosts that were seen they are"
            )
    addresses = draft.peers.difference(groups)
    if len(addresses) <= most:
        return
    networks = _dense(addresses)
    if len(networks) <= most:
        draft.networks = tuple(networks)
        draft.folds.append(f"{len(addresses):,} addresses made {len(networks):,} networks, at least half of each seen")
        return
    local = addresses.intersection(is_local)
    if 2 * len(local) < len(addresses):
        draft.networks = (ANY,)
        draft.folds.append(f"{len(addresses):,} addresses, too many and too far apart to name, made any")
    else:
        draft.networks = tuple(networks)
        draft.folds.append(f"{len(addresses):,} local addresses are too far apart for {most:,} networks")


def _dense(addresses: Iterable[str]) -> list[str]:
    """Networks that hold the addresses, none of them emptier than allowed."""
    found: list[str] = []
    ips = [ipaddress.ip_address(address) for address in addresses]
    for version in (4, 6):
        bits = 32 if version == 4 else 128
        # Numbers of seen addresses by network, from hosts to shorter ones.
        level = {int(ip): 1 for ip in ips if ip.version == version}
        kept: dict[tuple[int, int], int] = {(number, bits): 1 for number in level}
        for length in range(bits - 1, _SHORTEST[version] - 1, -1):
            above: dict[int, int] = {}
            for number, seen in level.items():
                above[number >> 1] = above.get(number >> 1, 0) + seen
            level = above
            for number, seen in level.items():
                if seen >= 2 and seen >= _DENSE * 2 ** (bits - length):
                    kept[number, length] = seen
        # The shortest network that is dense enough stands for all within it.
        tops = [(number, length) for number, length in kept if not _held(kept, number, length, _SHORTEST[version])]
        make = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
        found += sorted(str(make((number << (bits - length), length))) for number, length in tops)
    return found


def _held(kept: dict[tuple[int, int], int], number: int, length: int, shortest: int) -> bool:
    return any((number >> (length - above), above) in kept for above in range(shortest, length))
