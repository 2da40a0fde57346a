"""Differences of two policies by connectivity: which pairs may use which services in one and not in the other.

The text, the names of groups and the order of rules make no difference. Groups without members are compared by name, as
if no host were in two of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.connectivity.reach import Reach, address_words
from conntrack_py.policy.model import Ruleset, merged, port_text
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.spans import Spans

#: Pairs of classes of addresses that are looked at.
_MOST_PAIRS = 20_000_000

_Key = tuple[int, tuple[int, ...], int]
_Relation = dict[_Key, set[_Key]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Connections that only one of two policies allows: each originator, each responder, each service.

    Attributes:
        allowed_by: The policy that allows them.
        originators: In words: groups and networks, or `any but ...`.
        responders: Likewise.
        services: In words, a protocol each: `tcp 80, 443`, `icmp type 8`, `any protocol`.
        originator_networks: The exact addresses; none of groups whose members are unknown.
        responder_networks: Likewise.
    """

    allowed_by: Literal["first", "second"]
    originators: tuple[str, ...]
    responders: tuple[str, ...]
    services: tuple[str, ...]
    originator_networks: tuple[str, ...]
    responder_networks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HelperDifference:
    """A helper that only one of two policies has for a service: connections that it announces pass there.

    Attributes:
        allowed_by: The policy that has it.
        helper: Its name.
        service: Protocol and ports.
    """

    allowed_by: Literal["first", "second"]
    helper: str
    service: str


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Result of a comparison of two policies.

    Attributes:
        first: The file of the first policy, or "".
        second: That of the second.
        differences: What the first allows and the second does not, and then the other way.
        warnings: What could not be compared exactly.
        helpers: Helpers that only one of them has.
    """

    first: str
    second: str
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...] = ()
    helpers: tuple[HelperDifference, ...] = ()

    @property
    def same(self) -> bool:
        """Both allow the same connections."""
        return not self.differences and not self.helpers


@dataclass(frozen=True)
class _Rectangle:
    originators: frozenset[_Key]
    responders: frozenset[_Key]
    services: int


def diff(first: Ruleset, second: Ruleset) -> Differences:
    """Compare two policies; see `Policy.diff`."""
    first, second, warnings = _with_members(first, second)
    reach = Reach((first, second))
    ends = reach.ends("egress"), reach.ends("ingress")
    if len(ends[0]) * len(ends[1]) > _MOST_PAIRS:
        raise PolicyError(
            f"found {len(ends[0]):,} kinds of originators and {len(ends[1]):,} of responders, expected at most "
            f"{_MOST_PAIRS:,} pairs of them"
        )
    known = reach.services.in_versions(1), reach.services.in_versions(2), reach.services.all
    only: tuple[dict[int, _Relation], dict[int, _Relation]] = ({}, {})
    for orig in ends[0]:
        for resp in ends[1]:
            versions = orig[2] & resp[2]
            if not versions:
                continue
            one, other = reach.allowed(0, orig, resp), reach.allowed(1, orig, resp)
            if one != other:
                for way, services in enumerate(
                    (one & ~other & known[versions - 1], other & ~one & known[versions - 1])
                ):
                    if services:
                        only[way].setdefault(services, {}).setdefault(orig, set()).add(resp)
    names = _names(reach, first, second)
    found = []
    for allowed_by, relations in zip(("first", "second"), only, strict=True):
        rectangles = _joined(_rectangles(relations), known)
        made = [_difference(allowed_by, one, ends, reach, names) for one in rectangles]  # type: ignore[arg-type]
        found += sorted(made, key=lambda one: (one.originators, one.responders, one.services))
    return Differences(
        first=first.source,
        second=second.source,
        differences=tuple(found),
        warnings=tuple(warnings),
        helpers=tuple(_helpers(first, second)),
    )


def _helpers(first: Ruleset, second: Ruleset) -> Iterator[HelperDifference]:
    """Helpers by service, that only one of the policies has."""

    def known(ruleset: Ruleset) -> set[tuple[str, str]]:
        rules = [numbered.rule for numbered in ruleset.numbered() if numbered.rule.helper]
        return {
            (rule.helper, f"{rule.proto} {', '.join(port_text(one) for one in merged(rule.ports))}") for rule in rules
        }

    one, other = known(first), known(second)
    for helper, service in sorted(one - other):
        yield HelperDifference(allowed_by="first", helper=helper, service=service)
    for helper, service in sorted(other - one):
        yield HelperDifference(allowed_by="second", helper=helper, service=service)


def _with_members(first: Ruleset, second: Ruleset) -> tuple[Ruleset, Ruleset, list[str]]:
    """The policies, each with the members that only the other knows of a group."""
    warnings = []
    filled = []
    for own, other in ((first, second), (second, first)):
        groups = dict(own.groups)
        for name, group in own.groups.items():
            if group.members:
                continue
            if name in other.groups and other.groups[name].members:
                groups[name] = dataclasses.replace(group, members=other.groups[name].members)
                warnings.append(f"groups.{name}: has members in one policy only: they are taken for those of both")
            elif own is first or name not in first.groups:
                warnings.append(
                    f"groups.{name}: has no members: it is compared by its name, and none of its hosts is "
                    "taken to be in another group"
                )
        filled.append(dataclasses.replace(own, groups=groups))
    return filled[0], filled[1], warnings


def _rectangles(relations: Mapping[int, _Relation]) -> list[_Rectangle]:
    """Rectangles that are these relations together: of a service or of services with the same relation."""
    bits: dict[int, list[int]] = {}  # by the numbers of the masks that have it
    masks = list(relations)
    together = 0
    for mask in masks:
        together |= mask
    for bit in range(together.bit_length()):
        held = sum(1 << number for number, mask in enumerate(masks) if mask >> bit & 1)
        if held:
            bits.setdefault(held, []).append(bit)
    merged: dict[tuple[frozenset[_Key], frozenset[_Key]], int] = {}
    for held, of in bits.items():
        relation: _Relation = {}
        for number, mask in enumerate(masks):
            if held >> number & 1:
                for orig, resps in relations[mask].items():
                    relation.setdefault(orig, set()).update(resps)
        for sides in _cover(relation):
            merged[sides] = merged.get(sides, 0) | sum(1 << bit for bit in of)
    return [_Rectangle(*sides, services) for sides, services in merged.items()]


def _cover(relation: _Relation) -> list[tuple[frozenset[_Key], frozenset[_Key]]]:
    """Rectangles that are a relation: by equal rows or by equal columns, whichever are fewer."""
    columns: _Relation = {}
    for orig, resps in relation.items():
        for resp in resps:
            columns.setdefault(resp, set()).add(orig)
    by_row = [(keys, values) for values, keys in _equal(relation)]
    by_column = list(_equal(columns))
    return by_row if len(by_row) <= len(by_column) else by_column


def _equal(relation: _Relation) -> Iterator[tuple[frozenset[_Key], frozenset[_Key]]]:
    """Values, with all keys that have them."""
    found: dict[frozenset[_Key], set[_Key]] = {}
    for key, values in relation.items():
        found.setdefault(frozenset(values), set()).add(key)
    for same, keys in found.items():
        yield same, frozenset(keys)


def _joined(rectangles: Iterable[_Rectangle], known: tuple[int, int, int]) -> list[_Rectangle]:
    """Differences of IPv4 and IPv6 as one where groups and services are equal: no pair has both versions."""
    waiting: dict[tuple[object, ...], _Rectangle] = {}
    found = []
    for one in rectangles:
        versions = {key[2] for key in (*one.originators, *one.responders)}
        if len(versions) > 1 or 3 in versions:
            found.append(one)
            continue
        groups = tuple(frozenset(key[1] for key in keys) for keys in (one.originators, one.responders))
        # Everything of one version lacks the ICMP of the other.
        same = groups, None if one.services == known[max(versions) - 1] else one.services
        other = waiting.pop(same, None)
        if other is None:
            waiting[same] = one
        elif {key[2] for key in other.originators} == versions:
            waiting[same] = one
            found.append(other)
        else:
            together = one.services | other.services
            found.append(_Rectangle(one.originators | other.originators, one.responders | other.responders, together))
    return [*found, *waiting.values()]


def _names(reach: Reach, first: Ruleset, second: Ruleset) -> dict[str, Spans]:
    """The addresses of the groups whose name means the same in both policies, or is in one only."""
    one, other = reach.members(first), reach.members(second)
    return {name: found for name, found in (one | other).items() if one.get(name, found) == other.get(name, found)}


def _difference(
    allowed_by: Literal["first", "second"],
    one: _Rectangle,
    ends: tuple[Mapping[_Key, Spans], Mapping[_Key, Spans]],
    reach: Reach,
    names: Mapping[str, Spans],
) -> Difference:
    nameless = {number: name for name, number in reach.unknown.items()}
    known = {name: found for name, found in names.items() if name not in reach.unknown}
    found = [
        spans.union(*(of[key] for key in keys))
        for keys, of in zip((one.originators, one.responders), ends, strict=True)
    ]
    versions = 0
    for orig in one.originators:
        for resp in one.responders:
            versions |= orig[2] & resp[2]
    words = [tuple(address_words(part, known, nameless)) for part in found]
    networks = [tuple(map(str, spans.networks(part))) for part in found]
    return Difference(
        allowed_by=allowed_by,
        originators=words[0],
        responders=words[1],
        services=tuple(reach.services.texts(one.services, versions)),
        originator_networks=networks[0],
        responder_networks=networks[1],
    )


def as_json(result: Differences) -> dict[str, object]:
    """The result as what `json` takes."""
    return {
        "same": result.same,
        "first": result.first,
        "second": result.second,
        "differences": [dataclasses.asdict(one) for one in result.differences],
        "helpers": [dataclasses.asdict(one) for one in result.helpers],
        "warnings": list(result.warnings),
    }
