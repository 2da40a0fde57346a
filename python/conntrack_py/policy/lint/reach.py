"""Checks of what the order of rules decides: rules never asked, rules that decide about everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from conntrack_py.policy.lint.problem import Problem, Severity, plural, problem
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.model import Chain, Firewall, FirewallRule
from conntrack_py.policy.rulesets.spans import Spans
from conntrack_py.policy.traffic.services import ADMINISTRATION

#: Rules of a chain that are compared with each other; of longer chains only catch-all rules are looked at.
_MOST_COMPARED = 10_000
#: Earlier rules that a rule is compared with, of those whose hull is around it.
_MOST_CANDIDATES = 200
_NAMED_SERVICES = 4


def asked(chain: Chain) -> Sequence[FirewallRule]:
    """The rules of a chain before a rule for everything, and this one."""
    for place, rule in enumerate(chain.rules):
        if rule.is_catch_all:
            return chain.rules[: place + 1]
    return chain.rules


def takes_replies_too(chain: Chain) -> bool:
    """True if the rule for everything is one for established connections with new ones in it, of which D6 speaks."""
    rule = chain.catch_all
    return rule is not None and "established" in rule.match.states and "invalid" not in rule.match.states


def _words(rule: FirewallRule) -> str:
    return f"{rule.place if rule.line is None else f'line {rule.line}'} (`{rule.text}`)"


def _of(check: str, rule: FirewallRule, message: str, fix: str, severity: Severity | None = None) -> Problem:
    return problem(check, message, fix, rule.place, line=rule.line, rule=rule.text, severity=severity)


def unreachable(chains: list[Chain]) -> Iterator[Problem]:
    """D15: of a rule that several jumps lead to, all have to be in vain."""
    over: dict[object, list[FirewallRule | None]] = {}
    rules: dict[object, FirewallRule] = {}
    for chain in chains:
        for rule, cover in zip(chain.rules, _covers(chain.rules), strict=True):
            key = (rule.chain, rule.line, rule.handle, rule.text)
            over.setdefault(key, []).append(cover)
            rules.setdefault(key, rule)
    for place, found in over.items():
        first = found[0]
        if first is None or None in found:
            continue
        rule = rules[place]
        takes = "accepts" if first.verdict == "accept" else "drops"
        message = f"No packet gets here: {_words(first)} {takes} all that it is about."
        if first.verdict == rule.verdict:
            # Two rules of one word do no harm; behind the end of a chain, something was meant.
            severity: Severity | None = None if first.is_catch_all else "note"
            fix = "Remove this rule, or narrow the earlier one if that was not meant."
            yield _of("D15", rule, message, fix, severity)
        else:
            fix = f"Move this rule before the earlier one if it is to {rule.verdict}, or remove it."
            yield _of("D15", rule, message, fix)


def _covers(rules: Sequence[FirewallRule]) -> list[FirewallRule | None]:
    """For each rule an earlier one that takes all its packets."""
    found: list[FirewallRule | None] = [None] * len(rules)
    exact = [not (rule.match.partial or rule.match.limited) for rule in rules]
    hulls = _hulls(rules) if len(rules) <= _MOST_COMPARED else None
    everything: FirewallRule | None = None
    for place, rule in enumerate(rules):
        if everything is not None and everything.match.covers(rule.match):
            found[place] = everything
        elif hulls is not None and place:
            mine, before = hulls[place], hulls[:place]
            around = (before[:, ::2] <= mine[::2]).all(axis=1) & (before[:, 1::2] >= mine[1::2]).all(axis=1)
            for other in np.flatnonzero(around)[:_MOST_CANDIDATES].tolist():
                if exact[other] and rules[other].match.covers(rule.match):
                    found[place] = rules[other]
                    break
        if everything is None and rule.is_catch_all:
            everything = rule
    return found


def _hulls(rules: Sequence[FirewallRule]) -> NDArray[np.int64]:
    """First and last address and port of each rule, of both ends; addresses by their order."""
    addresses = [(rule.match.saddr, rule.match.daddr) for rule in rules]
    ends = sorted({end for pair in addresses for side in pair for end in (side[0][0], side[-1][1])})
    order = {end: rank for rank, end in enumerate(ends)}
    rows = [
        (
            order[rule.match.saddr[0][0]],
            order[rule.match.saddr[-1][1]],
            order[rule.match.daddr[0][0]],
            order[rule.match.daddr[-1][1]],
            rule.match.sports[0][0],
            rule.match.sports[-1][1],
            rule.match.dports[0][0],
            rule.match.dports[-1][1],
        )
        for rule in rules
    ]
    return np.array(rows, dtype=np.int64).reshape(len(rows), 8)


def everything(chains: list[Chain]) -> Iterator[Problem]:
    """D16: a rule for everything before rules that drop, or in a chain whose policy is drop."""
    for chain in chains:
        rule = chain.catch_all
        if rule is None or rule.verdict != "accept":
            continue
        if takes_replies_too(chain):
            continue
        behind = chain.rules[len(asked(chain)) :]
        drops = sum(one.verdict == "drop" for one in behind)
        if chain.policy != "drop" and not drops:
            continue
        what = []
        if chain.policy == "drop":
            what.append("the policy drop")
        if drops:
            what.append(f"{plural(drops, 'rule')} behind it that would drop")
        message = (
            f"It accepts every new connection: {' and '.join(what)} {'decide' if len(what) > 1 else 'decides'} nothing."
        )
        fix = "Remove it, or narrow it to the services, peers or the interface (such as lo) that it was meant for."
        yield _of("D16", rule, message, fix, "warning" if chain.hook == "output" else None)


def nothing_dropped(firewall: Firewall) -> Iterator[Problem]:
    """D17."""
    drops = any(
        chain.policy == "drop" or any(rule.verdict == "drop" for rule in chain.rules) for chain in firewall.chains
    )
    if drops:
        return
    if not firewall.chains:
        message = "No chain filters packets: everything is accepted."
        place, line = "file", None
    else:
        rules = sum(len(chain.rules) for chain in firewall.chains)
        chains = plural(len(firewall.chains), "chain")
        message = f"No chain drops anything: {chains} of policy accept and {plural(rules, 'rule')} without a drop."
        place, line = firewall.chains[0].name, firewall.chains[0].line
    fix = "Give input and forward the policy drop, after a rule for established connections and one for each service."
    yield problem("D17", message, fix, place, line=line, severity=None if firewall.chains else "note")


def administration(rules: list[FirewallRule]) -> Iterator[Problem]:
    """D18, for rules that let everybody in."""
    for rule in rules:
        match = rule.match
        everybody = spans.is_everybody(match.saddr) and not match.iif
        if rule.direction == "egress" or not everybody or match.limited or match.protos is None:
            continue
        if match.has_source_ports and not spans.is_ephemeral(match.sports):
            continue  # D5 says it
        words = services(match.protos, match.dports) if match.has_ports else []
        if words:
            yield _of("D18", rule, f"Everybody may reach {named(words)}.", FIX)


def named(words: list[str]) -> str:
    """Services in words, the first few."""
    return ", ".join(words[:_NAMED_SERVICES]) + (" and more" if len(words) > _NAMED_SERVICES else "")


#: The fix of D18.
FIX = "Name the networks that administer it, or let them come in by a VPN."


def services(protos: frozenset[str], ports: Spans) -> list[str]:
    """Services for administration among ports; ranges of clients' ports are about none."""
    told = tuple(span for span in ports if not spans.is_ephemeral((span,)))
    return [
        f"{name} ({proto} {port})"
        for (proto, port), name in ADMINISTRATION.items()
        if proto in protos and spans.holds(told, port)
    ]
