"""Addresses, services, sizes and times as text."""

from __future__ import annotations

from functools import cache

#: Message types that open an ICMP "connection", by the number in `orig_port`.
_ICMP = {
    3: "unreachable",
    4: "source quench",
    5: "redirect",
    8: "echo",
    9: "router advertisement",
    10: "router solicitation",
    11: "time exceeded",
    12: "parameter problem",
    13: "timestamp",
    17: "address mask",
}
_ICMP6 = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    128: "echo",
    130: "listener query",
    131: "listener report",
    132: "listener done",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    137: "redirect",
    143: "listener report",
}
#: ICMP types that are about another packet and ask nothing: errors (RFC 792). ICMPv6 has them below 128 (RFC 4443).
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
_ICMP6_QUESTIONS = 128
_WITH_PORTS = frozenset({"tcp", "udp", "sctp", "udplite", "dccp"})


def has_ports(proto: str) -> bool:
    """True if connections of a protocol have ports."""
    return proto in _WITH_PORTS


def is_icmp(proto: str) -> bool:
    """True if the ports of a protocol's connections are ICMP types."""
    return proto in ("icmp", "icmp6")


def is_icmp_error(proto: str, kind: int) -> bool:
    """True if a message of this type reports an error about another packet."""
    return kind in _ICMP_ERRORS if proto == "icmp" else proto == "icmp6" and kind < _ICMP6_QUESTIONS


@cache
def service(proto: str, port: int) -> str:
    """A service as people write it: `443/tcp`, `icmp echo`, `gre`.

    Args:
        proto: The word of the `proto` column.
        port: The responder's port; for ICMP the type of the message that opened the connection.
    """
    if has_ports(proto):
        return f"{port}/{proto}"
    if is_icmp(proto):
        return f"{proto} {(_ICMP if proto == 'icmp' else _ICMP6).get(port, f'type {port}')}"
    # Protocols without a name are numbers.
    return f"ip protocol {proto}" if proto.isdigit() else proto


def endpoint(addr: str, port: int, proto: str) -> str:
    """An end of a connection: `10.0.0.1:443`, `[2001:db8::1]:443`; without ports the address alone."""
    if not has_ports(proto):
        return addr
    return f"[{addr}]:{port}" if ":" in addr else f"{addr}:{port}"


def size(count: float) -> str:
    """A number of bytes in at most five characters and a unit: `0 B`, `1.2 kB`, `34 MB` (powers of 1000)."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        # 999.5 would be rounded to 1000 of this unit.
        if count < 999.5:
            return f"{count:.1f} {unit}" if count < 9.95 else f"{count:.0f} {unit}"
    return f"{count / 1000:,.1f} PB"


def moment(ns: int, unit: str = "ms") -> str:
    """A capture time in UTC: `2026-01-02 03:04:05.678`. `unit` is NumPy's, `s` to `ns`. NumPy's "no time" is `-`."""
    import numpy as np

    time = np.datetime64(ns, "ns")
    return "-" if np.isnat(time) else str(time.astype(f"datetime64[{unit}]")).replace("T", " ")


def span(ns: int) -> str:
    """A length of time: `0.12 s`, `1 min 5 s`, `3 h 4 min`, `2 d 5 h`."""
    seconds = ns / 1e9
    if seconds < 59.5:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for big, small, unit, rest in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= big:
            return f"{whole // big} {unit} {whole % big // small} {rest}"
    raise AssertionError(whole)


def share(part: int, whole: int) -> str:
    """A share in percent: `0 %`, `<1 %`, `12 %`, `100 %` (only if it is all of it)."""
    if not part or not whole:
        return "0 %"
    percent = 100 * part / whole
    if percent < 1:
        return "<1 %"
    return f"{min(percent, 99) if part < whole else 100:.0f} %"
