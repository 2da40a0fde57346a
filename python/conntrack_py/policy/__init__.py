"""Policies: who may initiate what. `Policy` is the front door; `conntrack_py.Policy` is the same."""

from conntrack_py.policy.check import CheckResult, Packets, Refusal, Use
from conntrack_py.policy.model import Evidence, Group, Rule
from conntrack_py.policy.policy import Policy, lint_file
from conntrack_py.policy.suggest import REASONS as LEFT_OUT
from conntrack_py.policy.suggest import Decision, Report

__all__ = (
    "LEFT_OUT",
    "CheckResult",
    "Decision",
    "Evidence",
    "Group",
    "Packets",
    "Policy",
    "Refusal",
    "Report",
    "Rule",
    "Use",
    "lint_file",
)
