"""Kinds of services, and the functions that fail where one cannot be reached."""

from __future__ import annotations

from collections.abc import Iterable

Service = tuple[str, int]

#: Names for groups of servers by what they offer.
_OFFERS: dict[str, frozenset[Service]] = {
    "web": frozenset({("tcp", 80), ("tcp", 443), ("udp", 443), ("tcp", 8080), ("tcp", 8443)}),
    "dns": frozenset({("tcp", 53), ("udp", 53), ("tcp", 853)}),
    "mail": frozenset(("tcp", port) for port in (25, 110, 143, 465, 587, 993, 995)),
    "ssh": frozenset({("tcp", 22)}),
    "ntp": frozenset({("udp", 123)}),
    "dhcp": frozenset({("udp", 67), ("udp", 547)}),
    "database": frozenset(("tcp", port) for port in (1433, 1521, 3306, 5432, 6379, 9042, 27017)),
    "files": frozenset({("tcp", 139), ("tcp", 445), ("tcp", 2049), ("udp", 2049), ("udp", 137), ("udp", 138)}),
    "directory": frozenset({("tcp", 88), ("udp", 88), ("tcp", 389), ("udp", 389), ("tcp", 636), ("tcp", 3268)}),
    "ftp": frozenset({("tcp", 21), ("tcp", 20)}),
    "printers": frozenset({("tcp", 515), ("tcp", 631), ("tcp", 9100)}),
    "logs": frozenset({("udp", 514), ("tcp", 514), ("tcp", 6514)}),
    "proxy": frozenset({("tcp", 3128), ("tcp", 1080)}),
}

#: Functions that fail where a host may not initiate this, by the responder's port.
_BREAKS: tuple[tuple[tuple[Service, ...], str], ...] = (
    ((("udp", 53), ("tcp", 53), ("tcp", 853)), "name resolution (DNS); name a resolver of your own instead of any"),
    ((("udp", 123),), "the clock (NTP): certificates and logs go wrong once it drifts"),
    (
        (("tcp", 80), ("tcp", 443), ("udp", 443)),
        "package mirrors and updates, telemetry, web APIs; also how most command and control leaves",
    ),
    ((("tcp", 25), ("tcp", 465), ("tcp", 587)), "outgoing mail; of a host that is no mail server, also spam"),
    ((("udp", 514), ("tcp", 514), ("tcp", 6514)), "sending logs (syslog)"),
    (
        (("tcp", 4317), ("tcp", 4318), ("udp", 8125), ("tcp", 9092), ("udp", 2055), ("udp", 4739), ("udp", 162)),
        "telemetry: metrics, traces, flow records, traps",
    ),
    ((("tcp", 22),), "administration of other hosts, git and backups over SSH; also lateral movement"),
    ((("tcp", 3128), ("tcp", 1080), ("tcp", 8080)), "what goes through a proxy"),
    ((("tcp", 873), ("tcp", 21), ("tcp", 9418)), "package mirrors (rsync, FTP, git)"),
    ((("tcp", 11371),), "fetching signing keys"),
    ((("tcp", 88), ("udp", 88), ("tcp", 389), ("udp", 389), ("tcp", 636)), "logins against a directory"),
    (
        (("tcp", 3306), ("tcp", 5432), ("tcp", 1433), ("tcp", 1521), ("tcp", 6379), ("tcp", 27017)),
        "its database; keep it inside",
    ),
    ((("udp", 67), ("udp", 547)), "its address (DHCP)"),
    ((("udp", 1900), ("udp", 5353), ("udp", 5355), ("udp", 137)), "finding devices by name; servers seldom need it"),
    ((("tcp", 6667), ("tcp", 6697)), "IRC, which servers have no use for: a classic of command and control"),
)
_BREAKS_BY_SERVICE = {service: words for services, words in _BREAKS for service in services}


def kind(offers: Iterable[Service]) -> str | None:
    """The kind of server that offers these services: `web`, `dns`, ...; None: unknown."""
    offered = set(offers)
    return next((name for name, known in _OFFERS.items() if not known.isdisjoint(offered)), None)


def group_name(offers: Iterable[Service]) -> str:
    """A name for hosts that offer these services."""
    offered = list(offers)
    proto, port = min(offered, key=lambda service: (service[1], service[0]))
    return kind(offered) or f"{proto}-{port}"


def breaks(proto: str, service: int) -> str:
    """The function that fails if this service cannot be initiated."""
    if proto in ("icmp", "icmp6"):
        return "asking whether a host is there (ping)"
    return _BREAKS_BY_SERVICE.get((proto, service), "unknown: ask who runs the host")
