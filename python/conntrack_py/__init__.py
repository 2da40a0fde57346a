"""Connection tracking for captures: who initiated every connection.

>>> import conntrack_py as ct
>>> result = ct.track("capture.pcap", local=["10.0.0.0/8"])  # doctest: +SKIP
>>> result.connections["direction"]  # doctest: +SKIP
array(['egress', 'ingress', ...], dtype='<U9')
"""

from typing import TYPE_CHECKING, Any

from conntrack_py._native import __version__
from conntrack_py.config import Config
from conntrack_py.enums import CtDir, CtState, Direction, Fate, State, Verdict
from conntrack_py.exceptions import (
    CaptureError,
    CaptureWarning,
    CheckpointError,
    ConfigError,
    ConntrackError,
    PolicyError,
)
from conntrack_py.io.batch import PacketBatch
from conntrack_py.io.capture import Capture, open_capture
from conntrack_py.stats import Quality, Stats
from conntrack_py.table import Connection, ConnectionTable
from conntrack_py.track import TrackResult, track
from conntrack_py.tracker import Tracker
from conntrack_py.writer import ConnectionWriter

if TYPE_CHECKING:
    from conntrack_py.annotate import label, split
    from conntrack_py.distributed import ArrowBatch, decode_headers, shard_v1, track_stream
    from conntrack_py.io.follow import follow
    from conntrack_py.policy import Policy

__all__ = (
    "ArrowBatch",
    "Capture",
    "CaptureError",
    "CaptureWarning",
    "CheckpointError",
    "Config",
    "ConfigError",
    "Connection",
    "ConnectionTable",
    "ConnectionWriter",
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
    "decode_headers",
    "follow",
    "label",
    "open_capture",
    "shard_v1",
    "split",
    "track",
    "track_stream",
)


#: Names imported on first use, which keeps `import conntrack_py` quick.
_LATER = {
    "ArrowBatch": "distributed",
    "Policy": "policy",
    "decode_headers": "distributed",
    "follow": "io.follow",
    "label": "annotate",
    "shard_v1": "distributed",
    "split": "annotate",
    "track_stream": "distributed",
}


def __getattr__(name: str) -> Any:
    """Import what is imported late."""
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(f"conntrack_py.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
