"""IPFIX files read by the RFCs (7011, 5655, 5103), without a look at how they are written."""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

#: RFC 5103: the enterprise of reverse information elements.
REVERSE = 29305
#: IANA's registry: names and how values are read.
_ELEMENTS = {
    1: "octetDeltaCount",
    2: "packetDeltaCount",
    4: "protocolIdentifier",
    7: "sourceTransportPort",
    8: "sourceIPv4Address",
    11: "destinationTransportPort",
    12: "destinationIPv4Address",
    27: "sourceIPv6Address",
    28: "destinationIPv6Address",
    32: "icmpTypeCodeIPv4",
    58: "vlanId",
    136: "flowEndReason",
    139: "icmpTypeCodeIPv6",
    152: "flowStartMilliseconds",
    153: "flowEndMilliseconds",
    156: "flowStartNanoseconds",
    157: "flowEndNanoseconds",
    239: "biflowDirection",
    401: "transportOctetDeltaCount",
}
Record = dict[str, int | str]


class Message(NamedTuple):
    """A message's header and records."""

    length: int
    exported: int
    sequence: int
    domain: int
    records: list[Record]


def messages(data: bytes) -> list[Message]:
    """The messages of a file."""
    templates: dict[int, list[tuple[str, int]]] = {}
    found = []
    while data:
        version, length, exported, sequence, domain = struct.unpack("!HHIII", data[:16])
        assert version == 10
        assert 16 < length <= len(data)
        records: list[Record] = []
        body, data = data[16:length], data[length:]
        while body:
            set_id, octets = struct.unpack("!HH", body[:4])
            assert 4 < octets <= len(body)
            content, body = body[4:octets], body[octets:]
            if set_id == 2:
                _templates(content, templates)
            else:
                assert set_id >= 256
                records += _records(content, templates[set_id])
        found.append(Message(length, exported, sequence, domain, records))
    return found


def _templates(content: bytes, templates: dict[int, list[tuple[str, int]]]) -> None:
    while content:
        number, count = struct.unpack("!HH", content[:4])
        assert number >= 256
        assert number not in templates, "told twice"
        content = content[4:]
        fields = []
        for _ in range(count):
            element, octets = struct.unpack("!HH", content[:4])
            content = content[4:]
            name = _ELEMENTS[element & 0x7FFF]
            if element & 0x8000:
                (enterprise,) = struct.unpack("!I", content[:4])
                assert enterprise == REVERSE
                content = content[4:]
                name = f"reverse {name}"
            fields.append((name, octets))
        templates[number] = fields


def _records(content: bytes, fields: list[tuple[str, int]]) -> list[Record]:
    size = sum(octets for _, octets in fields)
    records = []
    # RFC 7011 section 3.3.1: padding is shorter than a record.
    while len(content) >= size:
        record: Record = {}
        for name, octets in fields:
            record[name], content = _value(name, content[:octets]), content[octets:]
        records.append(record)
    assert not any(content)
    return records


def _value(name: str, octets: bytes) -> int | str:
    if name.endswith("Address"):
        return str(ipaddress.ip_address(octets))
    number = int.from_bytes(octets, "big")
    if name.endswith("Nanoseconds"):
        # RFC 7011 section 6.1.10: NTP's seconds since 1900, and a fraction of 2**-32 seconds.
        return ((number >> 32) - 2_208_988_800) * 1_000_000_000 + ((number & 0xFFFFFFFF) * 1_000_000_000 >> 32)
    return number
