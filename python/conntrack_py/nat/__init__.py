"""Translations: connections on both sides of a gateway, and what its address hides."""

from conntrack_py.nat.correlate import Correlation, Pairing, as_json, correlate, reveal
from conntrack_py.nat.facts import Masked, Published, Share, Translations, facts

__all__ = (
    "Correlation",
    "Masked",
    "Pairing",
    "Published",
    "Share",
    "Translations",
    "as_json",
    "correlate",
    "facts",
    "reveal",
)
