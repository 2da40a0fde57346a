"""Service tags of Azure whose addresses its pages tell, or follow from those of the virtual network.

Source: https://learn.microsoft.com/azure/virtual-network/service-tags-overview. `VirtualNetwork` has the address space
of the network and all networks connected with it; `Internet` is what lies outside of it and is public;
`AzureLoadBalancer` is the address from which probes come.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conntrack_py.policy.rulesets.spans import V4, V6, Spans, both, of_networks, union, without


@dataclass(frozen=True, kw_only=True)
class Known:
    """Addresses of a name.

    Attributes:
        sure: Those that it has.
        maybe: Those that it may have.
    """

    sure: Spans = ()
    maybe: Spans = ()


VIRTUAL_NETWORK, INTERNET, BALANCER = "VirtualNetwork", "Internet", "AzureLoadBalancer"
#: The tags by the words that ARM, the portal and PowerShell have for them, in lower case.
WORDS = {
    "virtualnetwork": VIRTUAL_NETWORK,
    "virtual_network": VIRTUAL_NETWORK,
    "internet": INTERNET,
    "azureloadbalancer": BALANCER,
    "azure_loadbalancer": BALANCER,
}
_HOST = of_networks([ipaddress.ip_network("168.63.129.16")])
#: Networks that no route of the Internet leads to (https://www.iana.org/assignments/iana-ipv4-special-registry).
_SPECIAL = of_networks(
    ipaddress.ip_network(word)
    for word in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
        "::/3",
        "4000::/2",
        "8000::/1",
    )
)
#: The addresses that the Internet may have.
PUBLIC = without(union(V4, V6), _SPECIAL)


def known(names: Iterable[str], given: Mapping[str, Spans]) -> dict[str, Known]:
    """The addresses of the tags among names, with the members that were given."""
    network = given.get(VIRTUAL_NETWORK)
    internet = Known(maybe=PUBLIC) if network is None else Known(sure=without(PUBLIC, network))
    told = {INTERNET: internet, BALANCER: Known(sure=_HOST)}
    if network is not None:
        told[VIRTUAL_NETWORK] = Known(sure=both(network, union(V4, V6)))
    return {name: told[name] for name in names if name in told}
