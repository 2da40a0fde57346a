"""Finds what is wrong with a policy on its face, and with a capture what is wrong in practice.

The checks and what to do about them are described in docs/policy-lint.md.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from conntrack_py.policy.lint import shape, use
from conntrack_py.policy.lint.firewall import lint_firewall
from conntrack_py.policy.lint.problem import CHECKS, Check, Problem, in_order, left_out
from conntrack_py.policy.lint.scope import Scope
from conntrack_py.policy.lint.traffic import Traffic
from conntrack_py.policy.model import Numbered, Ruleset
from conntrack_py.table import ConnectionTable

__all__ = ["CHECKS", "Check", "Problem", "lint", "lint_firewall"]


def lint(
    ruleset: Ruleset,
    connections: ConnectionTable | None = None,
    verdicts: NDArray[Any] | None = None,
    *,
    addresses: int = 256,
    ports: int = 16,
    warnings: Sequence[str] = (),
    today: datetime.date | None = None,
) -> list[Problem]:
    """Look for what is wrong with a policy.

    Args:
        ruleset: The policy.
        connections: Traffic to judge it by.
        verdicts: What the policy says of each connection: a structured array with the numbers of the rules that allowed
            it, `egress_rule` and `ingress_rule` (-1: none was asked, -2: refused), and the groups `orig_group` and
            `resp_group` as places in `ruleset.groups` (-1: none).
        addresses: A rule is too wide if it allows so many more addresses than were seen.
        ports: A rule is too wide if it allows so many more ports than were seen.
        warnings: Things of the file that the policy cannot say, as its reader told them.
        today: The day on which rules may have expired. Default: this day, in UTC.

    Returns:
        Problems, the worst first.

    Raises:
        ValueError: There are connections without verdicts, or not as many.
    """
    if (connections is None) != (verdicts is None):
        raise ValueError("connections and verdicts belong together: give both or neither")
    scope = Scope(ruleset)
    traffic = Traffic(scope, connections, verdicts) if connections is not None and verdicts is not None else None
    found: list[Problem] = []
    known: set[int] = set()

    def take(problems: Iterable[tuple[Problem, Numbered]]) -> None:
        for one, numbered in problems:
            found.append(one)
            if one.severity != "note":
                known.add(numbered.number)

    take(shape.mirrored(scope, traffic))
    take(shape.return_paths(scope, traffic))
    take(shape.open_egress(scope, traffic, known))
    found += shape.left_open(scope, traffic)
    take(found for found in shape.shadowed(scope) if found[1].number not in known)
    found += shape.contradictions(scope)
    found += [one for one, _ in shape.open_administration(scope)]
    found += [one for one, _ in shape.expired(scope, today or datetime.datetime.now(datetime.UTC).date())]
    found += [left_out(warning) for warning in warnings]
    if traffic is not None:
        take(use.doubtful(scope, traffic))
        take(use.reply_only(scope, traffic, known))
        found += use.too_wide(scope, traffic, known, addresses, ports)
        found += use.never_used(scope, traffic, known)
    return in_order(found)
