"""Explanations of connections and differences of policies, for terminals and as Markdown for pull requests."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from conntrack_py.cli.render.grid import Grid, count
from conntrack_py.policy.connectivity.diff import Difference, Differences, HelperDifference
from conntrack_py.policy.connectivity.explain import Answer, Explanation
from conntrack_py.policy.suggestion.merge import Merged
from conntrack_py.schema import moment

#: Rows of a table that may have any number of them, and words of a cell.
_MOST = 40
_NAMED = 6


def explanations(out: Console, found: Sequence[Explanation]) -> None:
    """Print explanations, refused connections first: both ends of each below it."""
    for one in found[:_MOST]:
        originator, responder, service, number, verdict, egress, ingress, evidence = map(escape, _explained(one))
        style = "green" if verdict == "allowed" else "bold red" if verdict.startswith("refused") else "dim"
        noun = "connection" if number == "1" else "connections"
        out.print(f"[{style}]{verdict}[/]: [bold]{originator} to {responder}, {service}[/], {number} {noun}")
        out.print(f"    [dim]initiated by {originator}:[/] {evidence}", soft_wrap=True)
        out.print(f"    [dim]egress:[/]  {egress}", soft_wrap=True)
        out.print(f"    [dim]ingress:[/] {ingress}", soft_wrap=True)
    _end(out, found)


def explanations_markdown(found: Sequence[Explanation]) -> str:
    """Explanations as a Markdown table."""
    head = "originator", "responder", "service", "connections", "verdict", "egress", "ingress", "initiated by"
    return _table(head, [_explained(one) for one in found], {3}) if found else "No connection matches.\n"


def _end(out: Console, found: Sequence[Explanation]) -> None:
    if len(found) > _MOST:
        out.print(f"[dim]... and {count(len(found) - _MOST, 'row')} more; --json has all[/]")
    elif not found:
        out.print("[bold]no connection matches[/]")


def _explained(one: Explanation) -> list[str]:
    evidence = ", ".join(
        f"{word} ({number:,})" if len(one.evidence) > 1 else word for word, number in one.evidence.items()
    )
    doubt = f"; {one.unsure:,} not sure" if one.unsure else ""
    return [
        f"{one.originator} ({one.originator_name})" if one.originator_name else one.originator,
        f"{one.responder} ({one.responder_name})" if one.responder_name else one.responder,
        one.named,
        f"{one.connections:,}",
        one.verdict,
        _answers(one.egress, one),
        _answers(one.ingress, one),
        f"{evidence}, confidence {one.confidence:g}{doubt}",
    ]


def _answers(answers: Sequence[Answer], one: Explanation) -> str:
    if not answers:
        return "in no group" if one.verdict not in ("related", "invalid") else "needs no rule"
    joined = " and " if one.needs == "all" else " or "
    return joined.join(map(_answer, answers))


def _answer(answer: Answer) -> str:
    where = f" (line {answer.line})" if answer.line is not None else ""
    if answer.place:
        return f"{answer.group}: {answer.rule}{where}"
    if answer.rule.startswith("{"):
        return f"{answer.group}: MISSING {answer.rule}{where}"
    return f"{answer.group}: {answer.rule}"


def merged(out: Console, found: Merged) -> None:
    """Print the changes of a merged policy."""
    out.print(f"[bold]{count(len(found.added), 'rule')} added, {len(found.stale):,} stale, {found.kept:,} used[/]")
    for sign, some in (("+", found.added), ("stale", found.stale)):
        for one in some[:_MOST]:
            since = one.rule.stale_since
            words = "" if sign == "+" else ": last use not known" if since is None else f" since {moment(since)}"
            out.print(f"{sign}{words} {escape(one.place)}: {escape(str(one))}", soft_wrap=True)
        if len(some) > _MOST:
            out.print(f"[dim]... and {count(len(some) - _MOST, 'rule')} more; --json has all[/]")
    for name, networks in list(found.groups.items())[:_MOST]:
        members = ", ".join(networks[:_NAMED]) + (f", +{len(networks) - _NAMED:,}" if len(networks) > _NAMED else "")
        out.print(f"new group, limited to its rules: {escape(name)} ({members})", soft_wrap=True)
    if len(found.groups) > _MOST:
        out.print(f"[dim]... and {count(len(found.groups) - _MOST, 'group')} more; --json has all[/]")


def differences(out: Console, found: Differences) -> None:
    """Print differences."""
    for warning in found.warnings:
        out.print(f"[yellow]![/] {escape(warning)}", soft_wrap=True)
    if found.same:
        out.print("[bold green]both allow the same connections[/]")
    for title, some in _by_policy(found):
        out.print(f"[bold]Allowed only by {escape(title)}[/]", soft_wrap=True)
        grid = Grid(2, "dim")
        grid.column("from", least=20)
        grid.column("to", least=20)
        grid.column("service", least=12)
        for one in some[:_MOST]:
            grid.row(*(escape(cell) for cell in _different(one)))
        grid.print(out)
        if len(some) > _MOST:
            out.print(f"[dim]... and {len(some) - _MOST:,} more; --json has all[/]")
    for helper in found.helpers[:_MOST]:
        out.print(escape(_helper(found, helper)), soft_wrap=True)


def _helper(found: Differences, one: HelperDifference) -> str:
    title = (found.first or "the first") if one.allowed_by == "first" else (found.second or "the second")
    return f"Only {title} has the helper {one.helper} for {one.service}: what the service announces passes there"


def differences_markdown(found: Differences) -> str:
    """Differences as Markdown tables."""
    parts = [f"> {_cell(warning)}\n" for warning in found.warnings]
    if found.same:
        parts.append("Both policies allow the same connections.\n")
    for title, some in _by_policy(found):
        parts.append(f"### Allowed only by {_cell(title)}\n")
        parts.append(_table(("from", "to", "service"), [_different(one) for one in some], set()))
    parts += [f"{_cell(_helper(found, helper))}.\n" for helper in found.helpers]
    return "\n".join(parts)


def _by_policy(found: Differences) -> list[tuple[str, list[Difference]]]:
    sides = (("first", found.first or "the first"), ("second", found.second or "the second"))
    named = [(title, [one for one in found.differences if one.allowed_by == side]) for side, title in sides]
    return [(title, some) for title, some in named if some]


def _different(one: Difference) -> list[str]:
    return [_some(one.originators), _some(one.responders), "; ".join(one.services)]


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _NAMED:,} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> str:
    lines = [head, ["---:" if place in right else "---" for place in range(len(head))]]
    lines += [[_cell(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(text: str) -> str:
    """A text that Markdown takes for nothing but text."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&@])", r"\\\1", text)
