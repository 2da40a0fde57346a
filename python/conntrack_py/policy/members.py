"""Membership of addresses in groups."""

from __future__ import annotations

from conntrack_py.policy.compiled import compiled
from conntrack_py.policy.model import Group, Ruleset


class Membership:
    """The groups of addresses: those that name the longest of all members that hold it."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._names = list(ruleset.groups)
        bare = {name: Group(members=group.members) for name, group in ruleset.groups.items()}
        self._policy = compiled(Ruleset(groups=bare))
        self._known: dict[str, tuple[str, ...]] = {}

    def of(self, address: str) -> tuple[str, ...]:
        """The names of the groups of an address, in the order of the policy."""
        known = self._known.get(address)
        if known is None:
            known = tuple(self._names[number] for number in self._policy.groups_of(address))
            self._known[address] = known
        return known
