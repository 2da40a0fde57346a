"""Connection tracking for captures: who initiated every connection.

>>> import conntrack_py as ct
>>> result = ct.track("capture.pcap", local=["10.0.0.0/8"])  # doctest: +SKIP
>>> result.connections["direction"]  # doctest: +SKIP
array(['egress', 'ingress', ...], dtype='<U9')
"""

from typing import TYPE_CHECKING, Any

from conntrack_py._native import __version__
from conntrack_py.annotate import label, split
from conntrack_py.config import Config
from conntrack_py.connections import Connection, ConnectionTable
from conntrack_py.enums import CtDir, CtState, Direction, Fate, State, Verdict
from conntrack_py.exceptions import CaptureError, CaptureWarning, ConfigError, ConntrackError, PolicyError
from conntrack_py.stats import Quality, Stats
from conntrack_py.streaming import Capture, PacketBatch, Tracker, open_capture
from conntrack_py.tracker import TrackResult, track

if TYPE_CHECKING:
    from conntrack_py.policy import Policy

__all__ = (
    "Capture",
    "CaptureError",
    "CaptureWarning",
    "Config",
    "ConfigError",
    "Connection",
    "ConnectionTable",
    "ConntrackError",
    "CtDir",
    "CtState",
    "Direction",
    "Fate",
    "PacketBatch",
    "Policy",
    "PolicyError",
    "Quality",
    "State",
    "Stats",
    "TrackResult",
    "Tracker",
    "Verdict",
    "__version__",
    "label",
    "open_capture",
    "split",
    "track",
)


def __getattr__(name: str) -> Any:
    """Import `Policy` when it is first asked for: who only tracks does not wait for it."""
    if name == "Policy":
        from conntrack_py.policy import Policy

        return Policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
