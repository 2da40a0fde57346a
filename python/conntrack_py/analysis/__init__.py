"""Facts of a table of connections beyond its summary: time, zones, callers, calls in vain, servers, uses of rules."""

from conntrack_py.analysis.bins import Bins, bins
from conntrack_py.analysis.both_ways import BothWays, both_ways
from conntrack_py.analysis.callers import Caller, Largest, callers, largest
from conntrack_py.analysis.matrix import Cell, Matrix, matrix
from conntrack_py.analysis.servers import Initiative, initiatives
from conntrack_py.analysis.uses import RuleUse, rule_uses
from conntrack_py.analysis.vain import VainCaller, calls_in_vain

__all__ = (
    "Bins",
    "BothWays",
    "Caller",
    "Cell",
    "Initiative",
    "Largest",
    "Matrix",
    "RuleUse",
    "VainCaller",
    "bins",
    "both_ways",
    "callers",
    "calls_in_vain",
    "initiatives",
    "largest",
    "matrix",
    "rule_uses",
)
