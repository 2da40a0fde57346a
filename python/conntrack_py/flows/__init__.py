"""Flow logs of clouds, sensors, routers and gateways as connections."""

from conntrack_py.flows.read import FlowResult, read, read_flows, translations
from conntrack_py.flows.stats import BadRecords, FlowStats

__all__ = ("BadRecords", "FlowResult", "FlowStats", "read", "read_flows", "translations")
