"""Connection tracking for captures: who initiated every connection.

>>> import conntrack_py as ct
>>> result = ct.track("capture.pcap", local=["10.0.0.0/8"])  # doctest: +SKIP
>>> result.connections["direction"]  # doctest: +SKIP
array(['egress', 'ingress', ...], dtype='<U9')
"""

from conntrack_py._native import __version__
from conntrack_py.config import Config
from conntrack_py.connections import Connection, ConnectionTable
from conntrack_py.enums import CtDir, CtState, Direction, State
from conntrack_py.exceptions import CaptureError, CaptureWarning, ConfigError, ConntrackError, PolicyError
from conntrack_py.stats import Quality, Stats
from conntrack_py.streaming import Capture, PacketBatch, Tracker, open_capture
from conntrack_py.tracker import TrackResult, track

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
    "PacketBatch",
    "PolicyError",
    "Quality",
    "State",
    "Stats",
    "TrackResult",
    "Tracker",
    "__version__",
    "open_capture",
    "track",
)
