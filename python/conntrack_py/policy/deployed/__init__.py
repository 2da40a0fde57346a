"""Rulesets that are deployed: verdicts on connections as the kernel gives them, and policies made of them."""

from __future__ import annotations

from conntrack_py.policy.deployed.check import check_ruleset
from conntrack_py.policy.deployed.convert import to_policy
from conntrack_py.policy.deployed.result import DeployedResult

__all__ = ["DeployedResult", "check_ruleset", "to_policy"]
