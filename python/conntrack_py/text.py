"""Addresses, services, sizes and times as text."""

from __future__ import annotations

from functools import cache
from typing import Protocol

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
#: Service names of IANA's registry (RFC 6335), in short where the registry's name is long; those that captures show.
_NAMES = {
    "tcp udp": "7 echo 9 discard 13 daytime 19 chargen 37 time 49 tacacs 53 domain 88 kerberos 111 sunrpc 123 ntp "
    "389 ldap 443 https 464 kpasswd 500 isakmp 514 syslog 853 domain-s 1194 openvpn 1719 h323gatestat 1812 radius "
    "1813 radius-acct 2049 nfs 3478 stun 4789 vxlan 5060 sip 5061 sips 5353 mdns 5355 llmnr 11211 memcache",
    "tcp": "20 ftp-data 21 ftp 22 ssh 23 telnet 25 smtp 43 whois 70 gopher 79 finger 80 http 110 pop3 113 ident "
    "119 nntp 135 epmap 139 netbios-ssn 143 imap 179 bgp 445 microsoft-ds 465 submissions 502 modbus 515 printer "
    "548 afpovertcp 554 rtsp 587 submission 631 ipp 636 ldaps 873 rsync 989 ftps-data 990 ftps 993 imaps 995 pop3s "
    "1080 socks 1433 ms-sql-s 1521 oracle 1720 h323hostcall 1723 pptp 1883 mqtt 2379 etcd-client 3128 squid "
    "3260 iscsi 3268 msft-gc 3306 mysql 3389 ms-wbt 4317 otlp 5222 xmpp-client 5269 xmpp-server 5432 postgresql "
    "5672 amqp 5900 vnc 5985 wsman 5986 wsmans 6379 redis 6514 syslog-tls 6667 ircu 8080 http-alt 8443 https-alt "
    "8883 mqtts 9092 kafka 9100 pdl 9418 git 10050 zabbix-agent 20000 dnp 27017 mongodb",
    "udp": "67 bootps 68 bootpc 69 tftp 137 netbios-ns 138 netbios-dgm 161 snmp 162 snmptrap 520 rip 546 dhcpv6-client "
    "547 dhcpv6-server 623 asf-rmcp 1701 l2tp 1900 ssdp 2055 netflow 2123 gtp-control 2152 gtp-user 3544 teredo "
    "3702 ws-discovery 4500 ipsec-nat-t 4739 ipfix 5683 coap 6081 geneve 6343 sflow 51820 wireguard",
    "sctp": "2905 m3ua 3868 diameter 36412 s1-control 38412 ng-control",
}
_WITH_PORTS = frozenset({"tcp", "udp", "sctp", "udplite", "dccp"})


def printable(message: str) -> str:
    r"""Escape all that a terminal might obey: control characters (C0, C1), line ends, overrides of direction.

    Bytes of file names that are no text, which `os.fsdecode` makes lone surrogates of, become `\xff`. Printable text
    stays as it is, so that escaping twice does no harm.
    """
    return message if message.isprintable() else "".join(map(_printable, message))


def _printable(letter: str) -> str:
    if letter.isprintable():
        return letter
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape", "backslashreplace").decode()


def cut(words: str, most: int) -> str:
    """Words of at most so many characters, the last of which tells that more follow."""
    return words if len(words) <= most else f"{words[: most - 1]}…"


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


@cache
def _service_names() -> dict[str, str]:
    names: dict[str, str] = {}
    for protos, listed in _NAMES.items():
        words = listed.split()
        for proto in protos.split():
            names |= {f"{port}/{proto}": name for port, name in zip(words[::2], words[1::2], strict=True)}
    return names


def service_name(service: str) -> str:
    """The name that people know a service by, `https` of `443/tcp`; empty where there is none."""
    return _service_names().get(service, "")


class Asked(Protocol):
    """The fields of a connection that its service is told by."""

    @property
    def proto(self) -> str:
        """A word of the `proto` column."""

    @property
    def orig_port(self) -> int:
        """The originator's port; of ICMP the type."""

    @property
    def resp_port(self) -> int:
        """The responder's port."""


def service_of(row: Asked) -> str:
    """The service of a connection. The "port" of an ICMP service is the type that asks, which is the originator's."""
    return service(row.proto, row.orig_port if is_icmp(row.proto) else row.resp_port)


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


def counted(count: int, noun: str) -> str:
    """A count and its noun: `1 packet`, `1,234 packets`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def moment(ns: int | None, unit: str = "ms") -> str:
    """A capture time in UTC: `2026-01-02 03:04:05.678`. `unit` is NumPy's, `s` to `ns`. No time is `-`."""
    import numpy as np

    time = np.datetime64("NaT" if ns is None else ns, "ns")
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
