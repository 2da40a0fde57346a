"""Names that a capture showed for the peers of a rule: those of TLS, of HTTP, and of DNS answers.

A rule gets names only where its peers are exactly the addresses that these names were seen for: a name for a part of
them would say too little, and a name that was also seen elsewhere too much. A DNS query names what was asked for and
not the resolver, and a request to a proxy likewise.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping

import numpy as np

from conntrack_py.policy.model import Rule, Side, is_host_name
from conntrack_py.policy.traffic.pairs import Traffic

#: Services whose payloads name something else than the responder: DNS, multicast DNS, LLMNR, proxies.
_ABOUT_OTHERS = (53, 1080, 3128, 5353, 5355)
#: Names of a rule, and addresses of a rule with names: with more of them, names would say nothing.
_MOST_NAMES = 8
_MOST_ADDRESSES = 256


class Names:
    """Names of responders, as the connections that rules may be made of show them."""

    def __init__(self, traffic: Traffic, names: Mapping[int, str]) -> None:
        self._called: dict[str, set[str]] = {}
        self._of: dict[str, set[str]] = {}
        about_others = np.isin(traffic.service, _ABOUT_OTHERS)
        kept = traffic.kept & ~about_others
        for row, name in names.items():
            if kept[row] and is_host_name(name):
                address = traffic.addresses[traffic.resp[row]]
                self._called.setdefault(name, set()).add(address)
                self._of.setdefault(address, set()).add(name)

    def of(self, rule: Rule) -> tuple[str, ...]:
        """The names of the peers of an egress rule; none where they are not exactly those of some names."""
        if not self._of or len(rule.peers) > _MOST_ADDRESSES:
            return ()
        try:
            networks = [ipaddress.ip_network(peer) for peer in rule.peers]
        except ValueError:
            return ()  # a group, or any
        if sum(network.num_addresses for network in networks) > _MOST_ADDRESSES:
            return ()
        hosts = {str(address) for network in networks for address in network}
        found = {name for host in hosts for name in self._of.get(host, ()) if self._called[name] <= hosts}
        named = {address for name in found for address in self._called[name]}
        return tuple(sorted(found)) if named == hosts and len(found) <= _MOST_NAMES else ()

    def add(self, rule: Rule) -> Rule:
        """An egress rule with the names of its peers."""
        return dataclasses.replace(rule, names=self.of(rule))

    def add_to(self, rules: Mapping[tuple[str, Side], tuple[Rule, ...]]) -> dict[tuple[str, Side], tuple[Rule, ...]]:
        """The rules, those of egress with names."""
        return {
            (group, side): tuple(map(self.add, listed)) if side == "egress" else listed
            for (group, side), listed in rules.items()
        }
