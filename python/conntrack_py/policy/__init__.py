"""Policies: who may initiate what. `Policy` is the front door; `conntrack_py.Policy` is the same."""

from conntrack_py.policy.check import CheckResult, Packets, Refusal, Use
from conntrack_py.policy.connectivity.diff import Difference, Differences
from conntrack_py.policy.connectivity.explain import Answer, Explanation
from conntrack_py.policy.inventory import Inventory
from conntrack_py.policy.model import Evidence, Group, Rule
from conntrack_py.policy.policy import Policy, lint_file, read_ruleset
from conntrack_py.policy.suggest import REASONS as LEFT_OUT
from conntrack_py.policy.suggest import Report
from conntrack_py.policy.suggestion.decisions import Decision
from conntrack_py.policy.suggestion.helpers import Helper
from conntrack_py.policy.suggestion.merge import Merged

__all__ = (
    "LEFT_OUT",
    "Answer",
    "CheckResult",
    "Decision",
    "Difference",
    "Differences",
    "Evidence",
    "Explanation",
    "Group",
    "Helper",
    "Inventory",
    "Merged",
    "Packets",
    "Policy",
    "Refusal",
    "Report",
    "Rule",
    "Use",
    "lint_file",
    "read_ruleset",
)
