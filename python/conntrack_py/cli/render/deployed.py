"""Results of checks of deployed rulesets, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from conntrack_py import text
from conntrack_py.cli.render.grid import count

if TYPE_CHECKING:
    from rich.console import Console

    from conntrack_py.policy.deployed.result import DeployedResult, RuleUse

#: Lines of a section.
_MOST = 20


def check(out: Console, result: DeployedResult) -> None:
    """Print what a ruleset refuses, what is not known, rules that nothing matched, and rules wider than the traffic."""
    verdict = f"[bold red]{result.refused:,} refused[/]" if result.refused else "[bold green]nothing refused[/]"
    doubt = f", {result.doubtful:,} of them in doubt (scans, unanswered, or not sure)" if result.doubtful else ""
    unknown = f", [bold yellow]{result.unknown:,} unknown[/]" if result.unknown else ""
    out.print(f"{count(result.connections, 'connection')}: {result.allowed:,} allowed, {verdict}{doubt}{unknown}")
    _section(out, "Refused, by rule", list(_refused(result)))
    _section(out, "Unknown, by the first rule that is not known to match", list(_unknown(result)))
    _section(out, "Never matched", [_place(use) for use in result.unused])
    wide = [f"{_place(use)}: {escape(use.wider)}" for use in result.rules if use.wider]
    _section(out, "Wider than the traffic", wide)
    _section(out, "Not expressed", [_note(one.line, one.message) for one in result.notes])


def _section(out: Console, title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    out.print(f"\n[bold]{title}[/]")
    for line in lines[:_MOST]:
        out.print(f"  {line}")
    if len(lines) > _MOST:
        out.print(f"  [dim]and {len(lines) - _MOST:,} more; --json has all[/]")


def _refused(result: DeployedResult) -> Iterator[str]:
    for one in result.refusals:
        doubt = f" ({one.doubtful:,} in doubt)" if one.doubtful else ""
        what = " the answer of" if one.reply else ""
        ends = f"{', '.join(one.originators)} to {', '.join(one.responders)}"
        times = f"{text.moment(one.first, 's')} to {text.moment(one.last, 's')}"
        yield (
            f"{escape(_note(one.line, one.by))}:{what} {count(one.connections, 'connection')}{doubt}, {one.service}, "
            f"{ends}, {times}"
        )


def _unknown(result: DeployedResult) -> Iterator[str]:
    for one in result.unknowns:
        yield f"{escape(_note(one.line, one.why))}: {count(one.connections, 'connection')}"


def _place(use: RuleUse) -> str:
    return escape(_note(use.line, f"{use.chain}: {use.rule}"))


def _note(line: int | None, words: str) -> str:
    return words if line is None else f"line {line}, {words}"
