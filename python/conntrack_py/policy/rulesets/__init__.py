"""Readers of rulesets that are in use: nftables, iptables, and those of clouds.

What is not understood in a rule is kept in its text, and the rule is marked, so that no check takes it for more.
"""

from __future__ import annotations

from collections.abc import Callable

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets.clouds.aws import from_groups_json
from conntrack_py.policy.rulesets.clouds.azure import from_azure_json
from conntrack_py.policy.rulesets.clouds.gcp import from_gcloud_json
from conntrack_py.policy.rulesets.clouds.terraform import from_terraform_json
from conntrack_py.policy.rulesets.iptables import from_iptables_save
from conntrack_py.policy.rulesets.model import Chain, Firewall, FirewallRule, Match
from conntrack_py.policy.rulesets.nacl import from_nacl_json
from conntrack_py.policy.rulesets.nft import from_nft_json
from conntrack_py.policy.rulesets.nft_text import from_nft_text

__all__ = [
    "READERS",
    "Chain",
    "Firewall",
    "FirewallRule",
    "Match",
    "from_azure_json",
    "from_gcloud_json",
    "from_groups_json",
    "from_iptables_save",
    "from_nacl_json",
    "from_nft_json",
    "from_nft_text",
    "from_terraform_json",
    "read",
]

#: Readers by the name of the format.
READERS: dict[str, Callable[[str, str], Firewall]] = {
    "nftables": from_nft_text,
    "nftables-json": from_nft_json,
    "iptables-save": from_iptables_save,
    "nacl": from_nacl_json,
    "security-groups": from_groups_json,
    "azure": from_azure_json,
    "gcp": from_gcloud_json,
    "terraform": from_terraform_json,
}


def read(text: str, format: str, name: str = "") -> Firewall:
    """Read the rules of a firewall.

    Args:
        text: The rules.
        format: One of `READERS`.
        name: The file, for messages.

    Raises:
        PolicyError: The format is unknown, or the text is not in it.
    """
    if format not in READERS:
        raise PolicyError(f"unknown format {format!r}, expected one of {', '.join(READERS)}")
    return READERS[format](text, name)
