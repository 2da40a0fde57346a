"""Translations: connections on both sides of a gateway, and what its address hides."""

from conntrack_py.nat.behind import Masked, Published, Share, Translations, facts
from conntrack_py.nat.pairing import Correlation, Pairing, as_json, correlate, reveal

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
