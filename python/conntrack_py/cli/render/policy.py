"""Reports about policies as tables that fit the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from conntrack_py import text
from conntrack_py.cli.render.grid import FILE_WIDTH, Grid, console, count
from conntrack_py.policy.check import CheckResult, Refusal
from conntrack_py.policy.model import Ruleset, describe
from conntrack_py.policy.suggest import REASONS, Decision, Report

if TYPE_CHECKING:
    from conntrack_py.policy.lint import Problem

#: Rows of a table that may have any number of them.
_MOST = 20
#: Names in a cell; the rest is counted.
_NAMED = 3
_SEVERITY = {"error": "bold red", "warning": "yellow", "note": "dim"}


def errors() -> Console:
    """A console on standard error."""
    return console(sys.stderr)


@contextlib.contextmanager
def opened(output: str) -> Iterator[Console]:
    """A console on a file; `-` is standard output."""
    if output == "-":
        yield console()
        return
    with open(output, "w", encoding="utf-8") as file:
        yield console(file, FILE_WIDTH)


def _some(words: Sequence[str], number: int | None = None) -> str:
    """The first few of some words, and how many more there are."""
    number = len(words) if number is None else number
    shown = ", ".join(words[:_NAMED])
    return escape(f"{shown}, +{number - _NAMED:,}" if number > _NAMED else shown)


def _more(out: Console, number: int, noun: str) -> None:
    if number > 0:
        out.print(f"[dim]... and {count(number, noun)} more; --json has all[/]")


def report(out: Console, ruleset: Ruleset, facts: Report, max_rules: int | None) -> None:
    """Print the report of a suggestion: its basis, and the decisions left to a person."""
    rules = len(ruleset.numbered())
    what = f"{count(rules, 'rule')} in {count(len(ruleset.groups), 'group')}"
    out.print(f"[bold]{what}[/] allow {facts.kept:,} of {count(facts.connections, 'connection')}")
    if not facts.groups:
        out.print("[dim]No local host said anything. Name your networks: --local CIDR[/]")
    if max_rules is not None and rules > max_rules:
        out.print(f"[bold red]![/] {max_rules:,} rules are too few: one for each group, direction and protocol is left")
    _left_out(out, facts)
    _groups(out, facts)
    _decisions(out, facts.decisions)
    if facts.folds:
        grid = _titled(out, "Wider than seen, as you asked")
        grid.column("rule", least=20)
        grid.column("what", least=20)
        for place, words in facts.folds.items():
            grid.row(escape(place), escape("; ".join(words)))
        grid.print(out)


def _titled(out: Console, title: str) -> Grid:
    out.print(f"\n[bold]{title}[/]")
    return Grid(2, "dim")


def _left_out(out: Console, facts: Report) -> None:
    if not facts.left_out:
        return
    grid = _titled(out, "Left out of the rules")
    grid.column("connections", right=True)
    grid.column("what they are", least=20)
    for reason, number in facts.left_out.items():
        grid.row(f"{number:,}", REASONS[reason])
    grid.print(out)


def _groups(out: Console, facts: Report) -> None:
    by_address = {host.address: host for host in facts.hosts}
    groups = {name: [by_address[address] for address in seen] for name, seen in facts.groups.items() if seen}
    if not groups:
        return
    grid = _titled(out, "Groups, by what their hosts do (rename them in the policy, and give it back with --groups)")
    grid.column("group", least=8)
    grid.column("hosts", least=15)
    grid.column("role")
    grid.column("offers", least=11)
    grid.column("uses", least=11, spare=1)
    for name, hosts in list(groups.items())[:_MOST]:
        roles = {host.role for host in hosts}
        role = roles.pop() if len(roles) == 1 else "both"
        offers = sorted({service for host in hosts for service in host.offers})
        uses = sorted({service for host in hosts for service in host.uses})
        grid.row(
            escape(name),
            _some([host.address for host in hosts]),
            role,
            _some([text.service(*service) for service in offers]),
            _some([text.service(*service) for service in uses]),
        )
    grid.print(out)
    _more(out, len(groups) - _MOST, "group")


def _decisions(out: Console, decisions: Sequence[Decision]) -> None:
    for kept in (False, True):
        some = [one for one in decisions if one.kept == kept]
        if not some:
            continue
        title = (
            "These servers initiate inside your networks; the policy allows it"
            if kept
            else "These servers initiate, and the policy does not allow it: decide (it is in the policy as comments)"
        )
        grid = _titled(out, title)
        grid.column("group", least=8)
        grid.column("server", least=15)
        grid.column("initiates", least=20)
        grid.column("connections", right=True)
        grid.column("if denied, it loses", least=20)
        for one in some[:_MOST]:
            called = f" ({', '.join(one.names[:_NAMED])})" if one.names else ""
            called += " (in doubt: perhaps it answered)" if one.unsure else ""
            seen = one.rule.evidence.connections if one.rule.evidence else 0
            grid.row(
                escape(one.group),
                _some(one.servers),
                escape(_short(describe(one.rule, "egress")) + called),
                f"{seen:,}",
                escape(one.breaks),
            )
        grid.print(out)
        _more(out, len(some) - _MOST, "of them")


def _short(words: str, most: int = 90) -> str:
    return words if len(words) <= most else f"{words[:most]}..."


def check(out: Console, result: CheckResult) -> None:
    """Print the result of a check: refused connections and unused rules."""
    when = ""
    if result.first is not None and result.last is not None:
        when = f", {text.moment(result.first, 's')} UTC, {text.span(result.last - result.first)}"
    verdict = f"[bold red]{result.refused:,} refused[/]" if result.refused else "[bold green]nothing refused[/]"
    of_them = f", {result.doubtful:,} of them in doubt (scans, unanswered, or not sure)" if result.doubtful else ""
    out.print(f"{count(result.connections, 'connection')}{when}: {result.allowed:,} allowed, {verdict}{of_them}")
    if result.unrestricted:
        out.print(f"[dim]{count(result.unrestricted, 'connection')} with no end in a group, so unrestricted[/]")
    packets = result.packets
    if packets is not None:
        out.print(
            f"packets: {packets.accepted:,} accepted, {packets.refused:,} refused, {packets.invalid:,} invalid and "
            f"dropped, {packets.untracked:,} not tracked"
        )
        if packets.picked_up:
            out.print(
                f"[dim]{packets.picked_up:,} of the refused packets are of allowed connections whose beginning was not "
                "captured, or that another one made expected: a gateway that starts in their middle, or without the "
                "helper, picks them up at their originator's next packet[/]"
            )
    _refusals(out, result.refusals)
    _unused(out, result)


def _refusals(out: Console, refusals: Sequence[Refusal]) -> None:
    sure = [one for one in refusals if one.connections > one.doubtful]
    _missing(out, sure)
    doubtful = [one for one in refusals if one.connections == one.doubtful]
    if doubtful:
        number = sum(one.connections for one in doubtful)
        groups = list(dict.fromkeys(f"{one.group} {one.side}" for one in doubtful))
        out.print(
            f"\n[bold]In doubt[/]: {count(number, 'refused connection')} to {count(len(doubtful), 'service')} of "
            f"{_some(groups)}: scans, what nobody answered, or not sure who initiated; --json has all"
        )


def _missing(out: Console, refusals: Sequence[Refusal]) -> None:
    if not refusals:
        return
    grid = _titled(out, "Refused, by the rule that is missing")
    grid.column("group", least=8)
    grid.column("side")
    grid.column("service", least=8)
    grid.column("connections", right=True)
    grid.column("members", least=15)
    grid.column("from / to", least=15)
    grid.column("first (UTC)", spare=1)
    grid.column("last (UTC)", spare=2)
    grid.column("the rule", least=30, spare=3)
    for one in refusals[:_MOST]:
        doubt = f" ([bold red]{one.doubtful:,}?[/])" if one.doubtful else ""
        grid.row(
            escape(one.group),
            one.side,
            one.named,
            f"{one.connections:,}{doubt}",
            _some(one.members, one.all_members),
            _some(one.peers, one.all_peers),
            text.moment(one.first, "s"),
            text.moment(one.last, "s"),
            escape(one.rule),
        )
    grid.print(out)
    _more(out, len(refusals) - _MOST, "missing rule")


def _unused(out: Console, result: CheckResult) -> None:
    unused = result.unused
    if not result.rules:
        return
    used = len(result.rules) - len(unused)
    grid = _titled(out, f"Rules: {used:,} used, {len(unused):,} never")
    grid.column("rule", least=20)
    grid.column("place", least=15, spare=1)
    grid.column("connections", right=True)
    busiest = sorted(result.rules, key=lambda use: use.connections)
    for use in busiest[:_MOST]:
        number = f"{use.connections:,}" if use.connections else "[yellow]never[/]"
        where = use.place if use.line is None else f"{use.place}, line {use.line}"
        grid.row(escape(_short(use.rule)), escape(where), number)
    grid.print(out)
    _more(out, len(busiest) - _MOST, "rule")


def problems(out: Console, found: Sequence[Problem], name: str) -> None:
    """Print the problems found by lint."""
    for one in found:
        where = f"{name}:{one.line}" if one.line is not None else name
        out.print(
            f"[{_SEVERITY[one.severity]}]{one.severity}[/] [bold]{one.check}[/] {escape(where)}: {escape(one.place)}"
        )
        out.print(f"    {escape(one.message)}")
        out.print(f"    [dim]fix:[/] {escape(one.fix)}")
    out.print(f"{count(len(found), 'problem')}" if found else "[bold green]no problems found[/]")
