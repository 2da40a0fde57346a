"""Scapy's packets as frames. Scapy is not imported: a packet has a time, a length on the wire, and bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from conntrack_py.io.frames import Frames, of_pairs

#: Class of a packet's outermost layer → LINKTYPE_ number of what `bytes(packet)` begins with.
_LINKTYPES = {
    "Ether": 1,
    "Dot3": 1,
    "IP": 101,
    "IPv6": 101,
    "PPP": 9,
    "Loopback": 0,
    "Dot11": 105,
    "CookedLinux": 113,
    "CookedLinuxV2": 276,
    "RadioTap": 127,
}


class Scapy(NamedTuple):
    """Frames, and the number of their link type."""

    frames: Frames
    linktype: int


def of_packets(packets: Iterable[Any], linktype: int | None) -> Scapy:
    """Frames of packets, which begin with the same layer, or with that of `linktype`.

    Raises:
        ValueError: A packet has no time or no bytes, or begins with another layer than the others or with one that has
            no link type here; the message has its place.
    """
    lengths: list[int] = []
    found: list[int] = []

    def pairs() -> Iterator[tuple[Any, bytes]]:
        for number, packet in enumerate(packets):
            try:
                time, frame = packet.time, bytes(packet)
            except (AttributeError, TypeError) as error:
                kind = type(packet).__name__
                raise ValueError(f"packet {number}: found {kind}, expected a packet of Scapy") from error
            if linktype is None:
                found.append(_linktype(number, packet, found))
            lengths.append(max(getattr(packet, "wirelen", None) or 0, len(frame)))
            yield time, frame

    frames = of_pairs(pairs(), lengths)
    return Scapy(frames, linktype if linktype is not None else found[0] if found else 1)


def _linktype(number: int, packet: Any, before: list[int]) -> int:
    kind = type(packet).__name__
    known = _LINKTYPES.get(kind)
    if known is None:
        expected = f"expected one of {', '.join(_LINKTYPES)}, or linktype"
        raise ValueError(f"packet {number}: found {kind} outermost, {expected}")
    if before and before[0] != known:
        raise ValueError(f"packet {number}: found {kind} outermost, expected the layer of packet 0: make two batches")
    return known
