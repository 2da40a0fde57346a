"""Rules whose last day has passed.

A direction whose only rules have expired stays limited: without a rule its default would hold, which may be to allow.
"""

from __future__ import annotations

import dataclasses
import datetime
import re

from conntrack_py.policy.model import SIDES, Group, Numbered, Rule, Ruleset


def is_expired(rule: Rule, today: datetime.date | None = None) -> bool:
    """True for a rule whose last day is before today (in UTC)."""
    return rule.expires is not None and rule.expires < (today or datetime.datetime.now(datetime.UTC).date())


def day_of(found: object) -> datetime.date | None:
    """The day of a date, of a time (in UTC), or of a text that is one of them (RFC 3339); None: it is none."""
    try:
        if isinstance(found, str):
            whole = re.fullmatch(r"\d{4}-\d{2}-\d{2}", found, re.ASCII)
            found = datetime.date.fromisoformat(found) if whole else datetime.datetime.fromisoformat(found)
        if isinstance(found, datetime.datetime):
            return (found.astimezone(datetime.UTC) if found.tzinfo else found).date()
    except (ValueError, OverflowError):
        return None
    return found if isinstance(found, datetime.date) else None


def without_expired(ruleset: Ruleset, today: datetime.date | None = None) -> tuple[Ruleset, list[str]]:
    """The policy without rules that have expired, and a warning for each of them."""
    gone = [numbered for numbered in ruleset.numbered() if is_expired(numbered.rule, today)]
    of_group: dict[str, list[Numbered]] = {}
    for numbered in gone:
        of_group.setdefault(numbered.group, []).append(numbered)
    groups = {name: _without(group, of_group.get(name, [])) for name, group in ruleset.groups.items()}
    warnings = [
        f"{one.place} ({one}): expired on {one.rule.expires}: left out; --keep-expired converts it" for one in gone
    ]
    return dataclasses.replace(ruleset, groups=groups), warnings


def _without(group: Group, gone: list[Numbered]) -> Group:
    for side in SIDES:
        places = {one.index for one in gone if one.side == side}
        if not places:
            continue
        kept = tuple(rule for index, rule in enumerate(group.rules(side)) if index not in places)
        default = group.default(side) if kept else "deny"
        if side == "ingress":
            group = dataclasses.replace(group, ingress=kept, ingress_default=default)
        else:
            group = dataclasses.replace(group, egress=kept, egress_default=default)
    return group
