"""The least rules, the judgement by a policy, and the rules both ways."""

from __future__ import annotations

import os

from conntrack_py import text
from conntrack_py.analysis.uses import RuleUse
from conntrack_py.policy.model import describe, port_text
from conntrack_py.policy.suggestion.decisions import Decision
from conntrack_py.policy.suggestion.report import REASONS
from conntrack_py.reporting import marks
from conntrack_py.reporting.facts import Facts, short
from conntrack_py.reporting.sections.common import Section, first_of, more_of
from conntrack_py.reporting.words import hosts

#: Addresses of a policy that is put into words at all, rows of lists, and lines of a policy that are on the page.
_ADDRESSES = 4_000
_RULES, _DECISIONS, _REFUSALS, _UNUSED, _GROUPS, _LINES = 60, 30, 30, 30, 40, 400
#: Characters of a rule in a list.
_LONG = 120
#: The line in place of the list.
_NONE = "No connection of a local host is sure and answered: there is nothing to make rules of."
_TOO_MANY = "These are too many to list with their uses. Fold them: policy suggest --max-rules or --fold-peers."


def rules(facts: Facts) -> Section:
    """The least rules, and what a person has to decide."""
    policy, uses = facts.suggested, facts.uses
    report = policy.report
    assert report is not None
    waiting = [one for one in report.decisions if not one.kept]
    most = max((one.connections for one in uses), default=1)
    named = sum(len(one.numbered.rule.peers) for one in uses) + sum(map(len, report.groups.values()))
    toml = policy.convert("toml").text if named <= _ADDRESSES else ""
    lines = toml.count("\n")
    groups = [(name, hosts) for name, hosts in report.groups.items() if hosts and name]
    return {
        "shown": [_rule(one, most) for one in uses[:_RULES]],
        "lead": f"{text.counted(facts.rules, 'rule')} for {text.counted(len(policy.groups), 'group')}; "
        "all else is refused. "
        f"They allow {report.kept:,} of {report.connections:,} connections.",
        "more": more_of(len(uses) - _RULES, "rule"),
        "none": f"{text.counted(facts.rules, 'rule')}. {_TOO_MANY}" if facts.rules else _NONE,
        "decisions": [
            {
                "group": short(one.group),
                "servers": first_of(one.servers, 3),
                "rule": short_rule(one),
                "connections": f"{one.connections:,}",
                "breaks": one.breaks,
            }
            for one in waiting[:_DECISIONS]
        ],
        "more_decisions": more_of(len(waiting) - _DECISIONS, "decision"),
        "left_out": [
            {"connections": f"{number:,}", "why": REASONS[reason]} for reason, number in report.left_out.items()
        ],
        "groups": [
            {"name": short(name), "hosts": f"{len(found):,}", "first": first_of(found, 4)}
            for name, found in groups[:_GROUPS]
        ],
        "more_groups": more_of(len(groups) - _GROUPS, "group"),
        "toml": toml if uses and lines <= _LINES else "",
        "lines": "" if not uses else f"{text.counted(lines, 'line')} of TOML" if toml else f"{named:,} addresses",
    }


def short_rule(one: Decision) -> str:
    """The rule of a decision, not too long."""
    return text.cut(describe(one.rule, one.side), 90)


def _rule(one: RuleUse, most: int) -> Section:
    rule, numbered = one.numbered.rule, one.numbered
    ports = ", ".join(map(port_text, rule.ports[:4]))
    more = f", +{len(rule.ports) - 4:,}" if len(rule.ports) > 4 else ""
    service = f"{ports}{more}/{rule.proto}" if ports else ("any protocol" if rule.proto == "any" else rule.proto)
    return {
        "group": short(numbered.group),
        "may": "call" if numbered.side == "egress" else "be called by",
        "peers": one.in_words or first_of(rule.peers, 3),
        "service": service,
        "value": one.connections,
        "hits": f"{one.connections:,}",
        "bar": marks.bar(one.directions.items(), most),
        "last": "" if one.last is None else text.moment(one.last, "s"),
    }


def check(facts: Facts) -> Section | None:
    """The judgement by the policy given."""
    found = facts.check
    if found is None:
        return None
    most = max((one.connections for one in found.refusals), default=1)
    unused = [use.rule for use in found.unused]
    doubt = f", of which {found.doubtful:,} are scans, refused or in doubt" if found.doubtful else ""
    source = facts.options.policy.source if facts.options.policy else ""
    return {
        "name": short(os.path.basename(source)) if source else "given",
        "lead": f"It allows {found.allowed:,} of {text.counted(found.connections, 'connection')} "
        f"and refuses {found.refused:,}{doubt}. {found.unrestricted:,} have no end in a group.",
        "refusals": [
            {
                "group": short(one.group),
                "side": one.side,
                "service": one.named,
                "value": one.connections,
                "connections": f"{one.connections:,}",
                "doubtful": f"{one.doubtful:,}",
                "bar": marks.bar([(one.side, one.connections)], most),
                "rule": text.cut(one.rule, _LONG),
            }
            for one in found.refusals[:_REFUSALS]
        ],
        "more": more_of(len(found.refusals) - _REFUSALS, "refusal"),
        "unused": [text.cut(rule, _LONG) for rule in unused[:_UNUSED]],
        "more_unused": more_of(len(unused) - _UNUSED, "rule"),
    }


def both(facts: Facts) -> Section | None:
    """The rules beside their mirror image."""
    found = facts.both_ways if facts.uses else None
    if found is None:
        return None
    worst = "; ".join(
        f"{one.originator} to {one.service} of {hosts(one.destinations)} ({one.connections:,})" for one in found.worst
    )
    let = text.counted(found.let_through, "connection")
    harm = (
        f"Each rule and its mirror image. They let {let} of this capture through that the rules refuse: {worst}."
        if found.let_through
        else f"Each rule and its mirror image: {text.counted(found.mirrored, 'rule')} more. "
        "Nobody in this capture used one of them; they only leave doors open."
    )
    answers = (
        f"All {found.answers:,} packets of answers belong to connections that somebody opened by these rules, and pass "
        f"by the firewall's state. A mirrored rule would have served none of them."
    )
    busiest = ""
    if found.busiest:
        busiest = (
            f"The busiest rule is “{found.busiest}”. An egress rule for its answers would let its {hosts(found.hosts)} "
            f"open connections to {hosts(found.peers)}: what a stolen server does first."
        )
    return {
        "twice": text.counted(found.rules + found.mirrored, "rule"),
        "rules": text.counted(found.rules, "rule"),
        "harm": harm,
        "answers": answers,
        "busiest": busiest if len(busiest) < 600 else "",
    }
