"""Hosts behind the address of a gateway, and servers that answer under another one."""

from __future__ import annotations

from typing import Any

from conntrack_py import text
from conntrack_py.nat import facts as translations_of
from conntrack_py.nat.behind import Share
from conntrack_py.reporting.facts import Facts
from conntrack_py.reporting.sections.common import Section, first_of, more_of


def behind(facts: Facts) -> Section | None:
    """Addresses of gateways with the hosts behind them; None for connections without translations."""
    if "nat_evidence" not in facts.table.columns:
        return None
    found, top = translations_of(facts.table), facts.options.top
    if not found.translated:
        return None
    hosts = [_host(one.address, share, facts.names_of) for one in found.masked for share in one.hosts]
    published = [
        {
            "address": one.address,
            "service": one.service,
            "servers": first_of(one.servers, 3),
            "clients": f"{one.clients:,}",
            "connections": f"{sum(one.servers.values()):,}",
        }
        for one in found.published
    ]
    connections = text.counted(found.translated, "connection")
    return {
        "lead": f"{connections} of {found.connections:,} have other ends on the other side of a gateway.",
        "hosts": hosts[:top],
        "more_hosts": more_of(len(hosts) - top, "host"),
        "published": published[:top],
        "more_published": more_of(len(published) - top, "service"),
    }


def _host(address: str, share: Share, names: Any) -> Section:
    return {
        "address": address,
        "host": share.host,
        "name": names.get(share.host, ""),
        "connections": f"{share.connections:,}",
        "value": share.connections,
        "bytes": text.size(share.bytes),
        "size": share.bytes,
        "services": first_of(share.services, 3),
    }
