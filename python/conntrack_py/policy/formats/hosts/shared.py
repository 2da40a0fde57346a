"""Parts that the forms for one host have in common."""

from __future__ import annotations

from conntrack_py.policy.formats.common import also_in, by_side, complaint, everyone, open_sides, plain, versions
from conntrack_py.policy.model import Numbered, Ruleset, Side, effective_members


class Host:
    """The rules of a group, for a host that is a member, and warnings."""

    def __init__(self, ruleset: Ruleset, group: str) -> None:
        self.ruleset = ruleset
        self.group = group
        self.members = effective_members(ruleset)
        self.rules = by_side(ruleset)
        self.open = open_sides(ruleset, group)
        self.warnings = also_in(ruleset, group)

    def ends(self, numbered: Numbered) -> list[tuple[int, str]]:
        """The other ends of a rule as networks with their version; version 0 is everybody."""
        rule = numbered.rule
        found: list[tuple[int, str]] = []
        for version in versions(rule.proto):
            networks = everyone(self.ruleset, self.members, rule, version)
            if networks is None:
                return [(0, "any")]
            found += [(version, str(network)) for network in networks]
        if not found:
            self.warn(numbered, "has no peer with an address, so it allows nothing")
        return found

    def of(self, side: Side) -> list[Numbered]:
        """The rules of a direction."""
        return self.rules[self.group, side]

    def note(self, numbered: Numbered) -> str:
        """The note of a rule, or its place, in one line."""
        return plain(numbered.rule.note or numbered.place)

    def warn(self, numbered: Numbered, why: str) -> None:
        """Add a warning about a rule."""
        self.warnings.append(complaint(numbered, why))
