"""Reports about policies as tables that fit the terminal."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from conntrack_py import text
from conntrack_py.cli.render.grid import FILE_WIDTH, Grid, console, count
from conntrack_py.io.output import write_text
from conntrack_py.policy.check import CheckResult, Refusal
from conntrack_py.policy.inventory import Inventory
from conntrack_py.policy.model import Ruleset, describe, port_text
from conntrack_py.policy.suggest import REASONS, Report
from conntrack_py.policy.suggestion.decisions import Decision

if TYPE_CHECKING:
    from conntrack_py.policy.lint import Problem

#: Rows of a table that may have any number of them.
_MOST = 20
#: Decisions of a group that have a line each; the others share one.
_OF_A_GROUP = 3
#: The refused share of the last tenth up to which the capture seems long enough.
_LONG_ENOUGH = 0.01
#: Numbers of rules and groups from which on nobody reads them.
_UNREADABLE_RULES, _UNREADABLE_GROUPS = 200, 50
_KINDS = {
    "announced": "announced",
    "administration": "administration",
    "brute_force": "brute force",
    "probe": "half-open scan",
    "refused": "refused",
}
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
    file = io.StringIO()
    yield console(file, FILE_WIDTH)
    write_text(output, file.getvalue())


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
    if facts.unseen:
        seen = "combination of member, peer and service that these rules allow was"
        many = "combinations of member, peer and service that these rules allow were"
        out.print(f"[bold red]![/] {facts.unseen:,} {seen if facts.unseen == 1 else many} not seen")
    elif max_rules is None and (rules > _UNREADABLE_RULES or len(ruleset.groups) > _UNREADABLE_GROUPS):
        out.print("[dim]Too many to read? --groups names your own groups, --max-rules merges rules; both allow more[/]")
    basis(out, facts)
    if facts.folds:
        grid = _titled(out, "Wider than seen, as you asked")
        grid.column("rule", least=20)
        grid.column("what", least=20)
        for place, words in facts.folds.items():
            grid.row(escape(place), escape("; ".join(words)))
        grid.print(out)


def basis(out: Console, facts: Report) -> None:
    """Print what a suggestion or a merge was made of, what it left out, and the decisions left to a person."""
    _growth(out, facts)
    _left_out(out, facts)
    _groups(out, facts)
    _uncertain(out, facts)
    _decisions(out, [one for one in facts.decisions if one.kind == "initiates"])
    attacks = [one for one in facts.decisions if one.kind != "initiates"]
    _suspicious(out, "No rules are made of these: decide", [one for one in attacks if not one.kept])
    _suspicious(out, "The policy allows these by a rule of its own", [one for one in attacks if one.kept])
    _helpers(out, facts)


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


def _growth(out: Console, facts: Report) -> None:
    grown = facts.growth
    if grown is None:
        return
    colour = "bold red" if grown.share > _LONG_ENOUGH else "dim"
    out.print(f"[dim]New pairs by tenth of the capture: {', '.join(f'{number:,}' for number in grown.new_pairs)}[/]")
    if grown.last:
        share = f"{grown.refused:,} of {count(grown.last, 'connection')} ({text.share(grown.refused, grown.last)})"
        out.print(f"[{colour}]Rules of the first nine tenths would refuse {share} of the last one[/]")


def _uncertain(out: Console, facts: Report) -> None:
    if facts.uncertain:
        hosts = count(len(facts.uncertain), "host")
        out.print(f"\n[bold red]![/] [bold]Nothing is certain[/] of {hosts}, which the policy cuts off: ", end="")
        out.print(_some(facts.uncertain))


def _suspicious(out: Console, title: str, decisions: Sequence[Decision]) -> None:
    """Print attacks, refusals and administration from outside, one line for each originator or target."""
    if not decisions:
        return
    grid = _titled(out, title)
    grid.column("what", least=12)
    grid.column("from", least=15)
    grid.column("to", least=15)
    grid.column("service", least=8)
    grid.column("connections", right=True)
    grid.column("if denied, it loses", least=20, spare=1)
    for one in decisions[:_MOST]:
        ends = _some(one.rule.peers), _some(one.servers)
        source, target = ends if one.side == "ingress" else ends[::-1]
        ports = _some([port_text(ports) for ports in one.rule.ports])
        service = f"{one.rule.proto} {ports}".strip()
        grid.row(_KINDS[one.kind], source, target, service, f"{one.connections:,}", escape(one.breaks))
    grid.print(out)
    _more(out, len(decisions) - _MOST, "of them")


def _helpers(out: Console, facts: Report) -> None:
    if not facts.helpers:
        return
    grid = _titled(out, "Connections that others announced: no rules, for their ports are of the moment")
    grid.column("group", least=8)
    grid.column("service", least=8)
    grid.column("what it does", least=20)
    for one in facts.helpers[:_MOST]:
        grid.row(escape(one.group), text.service(*one.service), escape(one.words))
    grid.print(out)
    _more(out, len(facts.helpers) - _MOST, "service")


def _decisions(out: Console, decisions: Sequence[Decision]) -> None:
    for kept in (False, True):
        some = [one for one in decisions if one.kept == kept]
        if not some:
            continue
        title = (
            "These servers initiate, and the policy allows it"
            if kept
            else "These servers initiate, and the policy does not allow it: decide (it is in the policy as comments)"
        )
        grid = _titled(out, title)
        grid.column("group", least=8)
        grid.column("server", least=15)
        grid.column("initiates", least=20)
        grid.column("connections", right=True)
        grid.column("if denied, it loses", least=20)
        for one in _first_of_groups(some)[:_MOST]:
            grid.row(*one)
        grid.print(out)
        _more(out, len(_first_of_groups(some)) - _MOST, "of them")


def _first_of_groups(decisions: Sequence[Decision]) -> list[tuple[str, str, str, str, str]]:
    """A row for each of the first few decisions of a group, and one for the others of it."""
    by_group: dict[str, list[Decision]] = {}
    for one in decisions:
        by_group.setdefault(one.group, []).append(one)
    rows = []
    for group, some in by_group.items():
        for one in some if len(some) <= _OF_A_GROUP + 1 else some[:_OF_A_GROUP]:
            called = f" ({', '.join(one.names[:_NAMED])})" if one.names else ""
            called += " (in doubt: perhaps it answered)" if one.unsure else ""
            what = escape(_short(describe(one.rule, "egress")) + called)
            rows.append((escape(group), _some(one.servers), what, f"{one.connections:,}", escape(one.breaks)))
        if len(some) > _OF_A_GROUP + 1:
            rest = some[_OF_A_GROUP:]
            services = [text.service(one.rule.proto, one.rule.ports[0][0] if one.rule.ports else 0) for one in rest]
            servers = sorted({server for one in rest for server in one.servers})
            number = f"{sum(one.connections for one in rest):,}"
            what = f"and {len(rest):,} more services: {_some(services)}"
            rows.append((escape(group), _some(servers), what, number, "see the policy, or --json"))
    return rows


def _short(words: str, most: int = 90) -> str:
    return words if len(words) <= most else f"{words[:most]}..."


def check(out: Console, result: CheckResult, names: Inventory | None = None) -> None:
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
    _refusals(out, result.refusals, names or Inventory())
    _unused(out, result)


def _refusals(out: Console, refusals: Sequence[Refusal], names: Inventory) -> None:
    sure = [one for one in refusals if one.connections > one.doubtful]
    _missing(out, sure, names)
    doubtful = [one for one in refusals if one.connections == one.doubtful]
    if doubtful:
        number = sum(one.connections for one in doubtful)
        groups = list(dict.fromkeys(f"{one.group} {one.side}" for one in doubtful))
        out.print(
            f"\n[bold]In doubt[/]: {count(number, 'refused connection')} to {count(len(doubtful), 'service')} of "
            f"{_some(groups)}: scans, what nobody answered, or not sure who initiated; --json has all"
        )


def _missing(out: Console, refusals: Sequence[Refusal], names: Inventory) -> None:
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
            _some([*map(names.named, one.members)], one.all_members),
            _some([*map(names.named, one.peers)], one.all_peers),
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
