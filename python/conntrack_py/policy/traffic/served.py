"""Calls of servers inside: those to a service that its host evidently serves, and the unusual, which wait for a person.

A front end calls its database, an intruder calls a listener of his own: to the port of a reverse shell, to an LDAP
server that hands out code. Counts tell them apart as little as for calls outwards. A service inside is evidently served
where a host that offers nothing uses it too, or where it is a known back end (`services.back_end`) that was used
more than once; of names, the clock and leases (DNS, NTP, DHCP) once is enough. Pings and loopback are no calls.

Of a host that servers call in an unusual way its web is not evident either: code for an exploit is fetched by HTTP.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from conntrack_py.policy.model import WITH_TYPES
from conntrack_py.policy.traffic.keys import Bools
from conntrack_py.policy.traffic.pairs import Traffic, is_loopback
from conntrack_py.policy.traffic.services import back_end

#: Connections to a back end from which on it is served, whoever began them.
_REPEATED = 2
_NEVER = np.iinfo(np.int64).max
#: Back ends of which one is enough.
_ONCE = ("dns", "ntp", "dhcp")


def unusual(traffic: Traffic, servers: Collection[str]) -> Bools:
    """Mask of the connections that servers initiate inside to what is not evidently served.

    Args:
        traffic: The connections.
        servers: Addresses of the hosts that offer a service.
    """
    calls = np.zeros(len(traffic.table), bool)
    rows = np.flatnonzero(traffic.kept)
    if not len(rows) or not servers:
        return calls
    is_server = np.array([address in servers for address in traffic.addresses], bool)[traffic.orig[rows]]
    _, places = np.unique(traffic.resp[rows] << 32 | traffic.services[rows], return_inverse=True)
    by_others = np.bincount(places, weights=~is_server) > 0
    kinds, numbers = np.unique(traffic.services[rows], return_inverse=True)
    words = [back_end(*traffic.service_of(code)) for code in kinds.tolist()]
    least = np.array([_least(word) for word in words], np.int64)[numbers]
    served = by_others[places] | (np.bincount(places)[places] >= least)
    apart = np.array([not is_loopback(address) for address in traffic.addresses], bool)
    inside = ~traffic.egress & traffic.resp_local & ~traffic.resp_group & ~traffic.is_proto(WITH_TYPES)
    inside &= (traffic.orig != traffic.resp) & apart[traffic.orig]
    called = is_server & inside[rows]
    suspects = np.zeros(len(traffic.addresses), bool)
    suspects[traffic.resp[rows[called & ~served]]] = True
    is_web = np.array([word == "web" for word in words], bool)[numbers]
    fetched = is_web & ~by_others[places] & suspects[traffic.resp[rows]]
    calls[rows] = called & (~served | fetched)
    return calls


def _least(kind: str | None) -> int:
    """The number of connections from which on a service of a kind is served, whoever began them."""
    if kind is None:
        return _NEVER
    return 1 if kind in _ONCE else _REPEATED
