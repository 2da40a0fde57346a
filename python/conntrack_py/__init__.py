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
    FlowError,
    FlowWarning,
    PolicyError,
    WhereError,
)
from conntrack_py.io.batch import PacketBatch
from conntrack_py.io.capture import Capture, open_capture
from conntrack_py.stats import Quality, SkippedFile, Stats
from conntrack_py.table import Anonymiser, Connection, ConnectionTable, ConnectionWriter
from conntrack_py.track import HostName, LabelledResult, TrackResult, track
from conntrack_py.tracker import TableFill, Tracker

if TYPE_CHECKING:
    from conntrack_py.annotate import label, split
    from conntrack_py.arrow import ArrowBatch, ArrowSchema
    from conntrack_py.distributed import (
        FACTS,
        FLOWS,
        HEADERS,
        decode_headers,
        facts_of,
        look_back,
        merge_facts,
        shard_v1,
        track_stream,
    )
    from conntrack_py.flows import BadRecords, FlowResult, FlowStats, read_flows, translations
    from conntrack_py.interfaces.live import Live, live
    from conntrack_py.io.follow import Follow, follow
    from conntrack_py.nat import Correlation, Pairing, correlate, reveal
    from conntrack_py.policy import Policy
    from conntrack_py.ranges import Range, split_points
    from conntrack_py.reporting import Chart, report
    from conntrack_py.summaries import Summary, summary

__all__ = (
    "FACTS",
    "FLOWS",
    "HEADERS",
    "Anonymiser",
    "ArrowBatch",
    "ArrowSchema",
    "BadRecords",
    "Capture",
    "CaptureError",
    "CaptureWarning",
    "Chart",
    "CheckpointError",
    "Config",
    "ConfigError",
    "Connection",
    "ConnectionTable",
    "ConnectionWriter",
    "ConntrackError",
    "Correlation",
    "CtDir",
    "CtState",
    "Direction",
    "Fate",
    "FlowError",
    "FlowResult",
    "FlowStats",
    "FlowWarning",
    "Follow",
    "HostName",
    "LabelledResult",
    "Live",
    "PacketBatch",
    "Pairing",
    "Policy",
    "PolicyError",
    "Quality",
    "Range",
    "SkippedFile",
    "State",
    "Stats",
    "Summary",
    "TableFill",
    "TrackResult",
    "Tracker",
    "Verdict",
    "WhereError",
    "__version__",
    "correlate",
    "decode_headers",
    "facts_of",
    "follow",
    "label",
    "live",
    "look_back",
    "merge_facts",
    "open_capture",
    "read_flows",
    "report",
    "reveal",
    "shard_v1",
    "split",
    "split_points",
    "summary",
    "track",
    "track_stream",
    "translations",
)


#: Names imported on first use, which keeps `import conntrack_py` quick.
_LATER = {
    "ArrowBatch": "arrow",
    "ArrowSchema": "arrow",
    "BadRecords": "flows",
    "Chart": "reporting",
    "Correlation": "nat",
    "FACTS": "distributed",
    "FLOWS": "distributed",
    "FlowResult": "flows",
    "FlowStats": "flows",
    "Follow": "io.follow",
    "HEADERS": "distributed",
    "Live": "interfaces.live",
    "Pairing": "nat",
    "Policy": "policy",
    "Range": "ranges",
    "Summary": "summaries",
    "correlate": "nat",
    "decode_headers": "distributed",
    "facts_of": "distributed",
    "follow": "io.follow",
    "label": "annotate",
    "live": "interfaces.live",
    "look_back": "distributed",
    "merge_facts": "distributed",
    "read_flows": "flows",
    "report": "reporting",
    "reveal": "nat",
    "shard_v1": "distributed",
    "split": "annotate",
    "split_points": "ranges",
    "summary": "summaries",
    "track_stream": "distributed",
    "translations": "flows",
}


def __getattr__(name: str) -> Any:
    """Import what is imported late."""
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(f"conntrack_py.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
