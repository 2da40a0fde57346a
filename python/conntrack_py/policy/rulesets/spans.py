"""Sets of addresses and of ports, as ranges of numbers in order that do not touch.

All addresses lie on one line: IPv4, then IPv6, then a number for each group whose addresses are not known.
"""

from __future__ import annotations

import bisect
import ipaddress
import socket
from collections.abc import Iterable

from conntrack_py.policy.model import Network, merged

Spans = tuple[tuple[int, int], ...]

_V6 = 1 << 128
_UNKNOWN = 1 << 130
V4: Spans = ((0, (1 << 32) - 1),)
V6: Spans = ((_V6, _V6 + (1 << 128) - 1),)
EVERYBODY: Spans = (*V4, *V6, (_UNKNOWN, _UNKNOWN + (1 << 32)))
ALL_PORTS: Spans = ((0, 65535),)
#: Networks named in a message.
_SHOWN = 4


def of_networks(networks: Iterable[Network]) -> Spans:
    """The addresses of networks."""
    found = []
    for network in networks:
        base = 0 if network.version == 4 else _V6
        found.append((base + int(network.network_address), base + int(network.broadcast_address)))
    return union(found)


def of_unknown(number: int) -> Spans:
    """Stands for the addresses of a group that does not tell its own."""
    return ((_UNKNOWN + number, _UNKNOWN + number),)


def of_address(text: str) -> int:
    """The place of an address on the line."""
    is_v6 = ":" in text
    try:
        packed = socket.inet_pton(socket.AF_INET6 if is_v6 else socket.AF_INET, text)
    except OSError:
        packed = ipaddress.ip_address(text).packed  # names what is wrong
    return int.from_bytes(packed) + (_V6 if is_v6 else 0)


def union(*many: Iterable[tuple[int, int]]) -> Spans:
    """The union."""
    return merged(tuple(span for spans in many for span in spans))


def both(a: Spans, b: Spans) -> Spans:
    """The intersection."""
    found, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        first, last = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if first <= last:
            found.append((first, last))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def without(a: Spans, b: Spans) -> Spans:
    """The difference: in the first, not in the second."""
    found, j = [], 0
    for first, last in a:
        at = first
        while j < len(b) and b[j][1] < at:
            j += 1
        k = j
        while k < len(b) and b[k][0] <= last:
            if at < b[k][0]:
                found.append((at, b[k][0] - 1))
            at = max(at, b[k][1] + 1)
            k += 1
        if at <= last:
            found.append((at, last))
    return tuple(found)


def within(a: Spans, b: Spans) -> bool:
    """True if the first is a subset of the second."""
    return not without(a, b)


def holds(spans: Spans, value: int) -> bool:
    """True if the spans contain a number."""
    place = bisect.bisect_right(spans, (value, 1 << 200)) - 1
    return place >= 0 and value <= spans[place][1]


def count(spans: Spans) -> int:
    """The count of numbers."""
    return sum(last - first + 1 for first, last in spans)


def is_everybody(spans: Spans) -> bool:
    """True if the spans contain all of IPv4 or all of IPv6."""
    return within(V4, spans) or within(V6, spans)


def networks(spans: Spans) -> list[Network]:
    """The addresses as networks, without groups of unknown addresses."""
    found: list[Network] = []
    for first, last in both(spans, V4):
        found += ipaddress.summarize_address_range(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last))
    for first, last in both(spans, V6):
        low, high = ipaddress.IPv6Address(first - _V6), ipaddress.IPv6Address(last - _V6)
        found += ipaddress.summarize_address_range(low, high)
    return found


def address_text(spans: Spans) -> str:
    """The addresses in words, the first few of them."""
    if is_everybody(spans):
        return "any"
    named = networks(spans)
    words = [str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net) for net in named]
    more = [f"{len(words) - _SHOWN} more"] if len(words) > _SHOWN else []
    return ", ".join([*words[:_SHOWN], *more])


def ports_text(spans: Spans) -> str:
    """Ports in words: `80, 8000-8100`."""
    words = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    more = [f"{len(words) - _SHOWN} more"] if len(words) > _SHOWN else []
    return ", ".join([*words[:_SHOWN], *more])


def is_ephemeral(spans: Spans) -> bool:
    """True for a range from which systems take client ports."""
    return any(first >= 1024 and last in (60999, 65535) and last - first > 10000 for first, last in spans)
