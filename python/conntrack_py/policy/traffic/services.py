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

#: Services that administer a host or read all it has, with their names: from outside they are for a person to decide,
#: and open to the world a finding of lint. FTP is the exception of the former: it is published on purpose, too, and its
#: rule is the place of its helper.
ADMINISTRATION: dict[Service, str] = {
    **{
        ("tcp", port): name
        for port, name in {
            21: "FTP",
            22: "SSH",
            23: "Telnet",
            111: "RPC",
            135: "RPC of Windows",
            139: "NetBIOS",
            389: "LDAP",
            445: "SMB",
            512: "rexec",
            513: "rlogin",
            514: "rsh",
            623: "IPMI",
            636: "LDAP",
            1433: "SQL Server",
            1521: "Oracle",
            2049: "NFS",
            2375: "Docker",
            2376: "Docker",
            2379: "etcd",
            3306: "MySQL",
            3389: "RDP",
            4899: "Radmin",
            5432: "PostgreSQL",
            5601: "Kibana",
            **dict.fromkeys(range(5900, 5911), "VNC"),
            5984: "CouchDB",
            5985: "WinRM",
            5986: "WinRM",
            6379: "Redis",
            6443: "Kubernetes",
            8006: "Proxmox",
            8291: "Winbox",
            9042: "Cassandra",
            9200: "Elasticsearch",
            10000: "Webmin",
            10250: "kubelet",
            11211: "memcached",
            27017: "MongoDB",
        }.items()
    },
    ("udp", 111): "RPC",
    ("udp", 161): "SNMP",
    ("udp", 623): "IPMI",
    ("udp", 1434): "SQL Server",
    ("udp", 3389): "RDP",
    ("udp", 11211): "memcached",
}

#: Names of helpers (net/netfilter/nf_conntrack_*.c of Linux) by the service whose messages announce connections.
HELPERS: dict[Service, str] = {
    ("tcp", 21): "ftp",
    ("tcp", 990): "ftp",
    ("udp", 69): "tftp",
    ("udp", 5060): "sip",
    ("tcp", 5060): "sip",
    ("tcp", 1720): "Q.931",
    ("udp", 1719): "RAS",
    ("tcp", 1723): "pptp",
    ("tcp", 6667): "irc",
    ("tcp", 554): "rtsp",
}

#: Those of them that are for a person to decide when somebody outside uses them.
ASKED_FROM_OUTSIDE = frozenset(ADMINISTRATION.keys() - HELPERS.keys())

#: Kinds of `_OFFERS` that servers call for their work. Shells, desktops and file shares are none: those of a server's
#: neighbours are how an intruder moves on.
_BACK_ENDS = ("web", "dns", "mail", "ntp", "dhcp", "database", "directory", "printers", "logs", "proxy")
#: More of what servers call for their work: NFS, caches, queues, searches, stores, telemetry.
_MORE_BACK_ENDS: frozenset[Service] = frozenset(
    [("tcp", port) for port in (2049, 2379, 4317, 4318, 5671, 5672, 5984, 9092, 9200, 11211)]
    + [("udp", port) for port in (162, 2049, 2055, 4739, 8125)]
)

#: UDP ports at which every host answers: discovery, names and leases. They make no server.
_EVERYBODY = frozenset({68, 137, 138, 546, 1900, 3702, 5353, 5355, 5678, 17500, 57621})
#: The first port of those that hosts bind for a moment (IANA has 49152, Linux 32768), and those that need no privilege.
_OF_THE_MOMENT = 32768
_UNPRIVILEGED = 1024

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


def makes_server(proto: str, port: int, also_asks: bool) -> bool:
    """True if an answer on a port makes a host a server.

    TCP does, whatever the port: a listener answered. A UDP port of the moment does not, nor one of those at which every
    host answers, nor an unprivileged one from which the host also asks, as peers of WireGuard and BitTorrent do.
    """
    if proto != "udp":
        return proto not in ("icmp", "icmp6")
    if port in _EVERYBODY or port >= _OF_THE_MOMENT:
        return False
    return port < _UNPRIVILEGED or not also_asks


def back_end(proto: str, port: int) -> str | None:
    """The kind of a service that servers call for their work, such as `database`; None: it is none of these."""
    known = next((kind for kind in _BACK_ENDS if (proto, port) in _OFFERS[kind]), None)
    return "other" if known is None and (proto, port) in _MORE_BACK_ENDS else known


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
