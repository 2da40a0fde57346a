"""Checks of rules against the traffic that used them, or did not."""

from __future__ import annotations

from collections.abc import Iterator

from conntrack_py import text
from conntrack_py.policy.lint.problem import Problem, of_rule, plural
from conntrack_py.policy.lint.scope import Scope, has_ports
from conntrack_py.policy.lint.traffic import Rows, Traffic
from conntrack_py.policy.model import ANY, Numbered
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.spans import Spans

#: `any` is narrowed only where fewer peers than these were seen.
_FEW_PEERS = 4
_SHOWN = 4
_SUBNET = 1 << 64


def reply_only(scope: Scope, traffic: Traffic, known: set[int]) -> Iterator[tuple[Problem, Numbered]]:
    """D2, for rules that are not known to be wrong already, and the rule."""
    for numbered in scope.rules:
        if numbered.number in known or traffic.shares(numbered.group) or traffic.hits(numbered.number).size:
            continue
        service, client = traffic.mirror_images(numbered)
        if not service and not client:
            continue
        went, came = ("went out", "came in") if numbered.side == "egress" else ("came in", "went out")
        which = "of the same service" if service else "from such ports"
        message = (
            f"No connection {went} by it, but {plural(service or client, 'connection')} {which} {came}: "
            "only their replies could have matched, and replies need no rule."
        )
        yield of_rule("D2", numbered, message, "Remove this rule."), numbered


def never_used(scope: Scope, traffic: Traffic, known: set[int]) -> Iterator[Problem]:
    """D10, for rules about which nothing else was said."""
    if not len(traffic):
        return
    for numbered in scope.rules:
        if numbered.number in known or traffic.shares(numbered.group) or traffic.hits(numbered.number).size:
            continue
        message = (
            f"No connection used it in {text.span(traffic.length)} of traffic ({plural(len(traffic), 'connection')}, "
            f"{text.share(traffic.observed, len(traffic))} of them seen from the first packet)."
        )
        fix = "Remove it, or look at a capture that has what it is for."
        yield of_rule("D10", numbered, message, fix)


def doubtful(scope: Scope, traffic: Traffic) -> Iterator[tuple[Problem, Numbered]]:
    """D12, and the rule."""
    for numbered in scope.rules:
        rows = traffic.hits(numbered.number)
        if not rows.size or traffic.sure[rows].any():
            continue
        words = ", ".join(traffic.evidence(rows)[:3])
        message = (
            f"Of the {plural(rows.size, 'connection')} that used it no initiator is certain (evidence: {words}): "
            "the traffic does not show that it is needed."
        )
        fix = "Look at these connections, or capture one from its beginning, before relying on the rule."
        yield of_rule("D12", numbered, message, fix), numbered


def too_wide(scope: Scope, traffic: Traffic, known: set[int], addresses: int, ports: int) -> Iterator[Problem]:
    """D11, for rules that were used."""
    for numbered in scope.rules:
        rows = traffic.hits(numbered.number)
        if numbered.number in known or not rows.size:
            continue
        wide = [
            found
            for found in (
                _wide_peers(scope, traffic, numbered, rows, addresses),
                _wide_ports(traffic, numbered, rows, ports),
            )
            if found is not None
        ]
        if wide:
            message = f"It allows {'; and '.join(allowed for allowed, _ in wide)}."
            fix = f"Narrow it to {'; and '.join(seen for _, seen in wide)}, unless the capture is too short to tell."
            yield of_rule("D11", numbered, message, fix)


def _wide_peers(scope: Scope, traffic: Traffic, numbered: Numbered, rows: Rows, most: int) -> tuple[str, str] | None:
    """Peers that a rule allows beyond the observed ones, and the observed ones; groups count as intended."""
    named = numbered.rule.peers
    seen = traffic.peers(rows, numbered.side)
    if scope.is_any(numbered):
        if len(seen) >= _FEW_PEERS or not traffic.peers_are_near(rows, numbered.side):
            return None
        return f"everybody, but only {plural(len(seen), 'peer')} used it", _few(seen)
    own = spans.of_networks(scope.ruleset.networks(named))
    inside = [address for address in seen if spans.holds(own, spans.of_address(address))]
    width = _width(own)
    if not own or width - len(inside) <= most:
        return None
    what = f"{width:,} addresses" if not spans.both(own, spans.V6) else f"{width:,} addresses or subnets"
    if not inside:
        return f"{what}, of which none used it", "the groups it names"
    return f"{what}, but only {plural(len(inside), 'peer')} used it", _few(inside)


def _width(own: Spans) -> int:
    """The number of addresses; of IPv6 the number of /64 subnets."""
    v6 = sum((last - first) // _SUBNET + 1 for first, last in spans.both(own, spans.V6))
    return spans.count(spans.both(own, spans.V4)) + v6


def _wide_ports(traffic: Traffic, numbered: Numbered, rows: Rows, most: int) -> tuple[str, str] | None:
    rule = numbered.rule
    if rule.proto != ANY and not has_ports(rule):
        return None
    seen = traffic.services(rows)
    allowed = spans.count(spans.union(rule.ports)) if rule.ports else 65536
    # Where no ports are named, many services may be meant.
    if allowed - len(seen) <= most or (not rule.ports and len(seen) > most):
        return None
    what = "all protocols" if rule.proto == ANY else f"{allowed:,} ports"
    return f"{what}, but only {_few(seen)} {'was' if len(seen) == 1 else 'were'} used", _few(seen)


def _few(seen: list[str]) -> str:
    return ", ".join(seen[:_SHOWN]) + (f" and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else "")
