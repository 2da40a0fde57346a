"""Hosts by role: services, connections and bytes, by who opened."""

from __future__ import annotations

from itertools import islice

from rich.console import Console

from conntrack_py import text
from conntrack_py.cli.render import names
from conntrack_py.cli.render.grid import IPV4, Grid
from conntrack_py.cli.render.names import Names
from conntrack_py.summaries import ROLES, Host, Hosts

_ROLE_TITLES = {
    "both": "answer and initiate",
    "initiates": "only initiate",
    "answers": "only answer",
    "silent": "never answered",
}
#: Services that are named of a host; the rest is counted.
_NAMED = 3
#: Width from which cells stand two blanks apart, and services have their names.
ROOMY, _WIDE = 100, 120


def titled(out: Console, title: str) -> Grid:
    """A table below a title."""
    out.print(f"\n[bold]{title}[/]")
    return Grid(2, "dim")


def more(out: Console, number: int, noun: str, where: str = "--top shows more") -> None:
    """Print how many were left out, and what shows them."""
    if number > 0:
        out.print(
            f"[dim]... and {number:,} more {noun if number == 1 else f'{noun}s'}{f'; {where}' if where else ''}[/]"
        )


def hosts(out: Console, title: str, of: Hosts, known: Names) -> None:
    """Print the hosts of one kind, a table for each role."""
    for role in ROLES:
        if not of.counts[role]:
            continue
        out.print(f"\n[bold]{title} that {_ROLE_TITLES[role]}: {of.counts[role]:,}[/]")
        grid = Grid(2 if out.width >= ROOMY else 1, "dim")
        grid.column("host", least=IPV4 + 1, wish=IPV4)
        columns = _columns(role, title.startswith("Local"), of.top[role])
        for name in columns:
            head, is_list = _HEADS.get(name, name), name in ("offers", "uses")
            grid.column(head, right=not is_list, least=9 if is_list else None, spare=2 if name == "unanswered" else 0)
        for one in of.top[role]:
            first = names.host(one.address, known, unsure=one.unsure)
            grid.row(first, *(_cell(one, name, out.width >= _WIDE) for name in columns))
        grid.print(out)
        more(out, of.counts[role] - len(of.top[role]), "host")


#: Heads of columns with a name of their own.
_HEADS = {"own sent": "sent", "own received": "received", "others sent": "sent", "others received": "received"}
_HEADS |= {"own": "bytes", "others": "bytes"}


def _columns(role: str, local: bool, some: list[Host]) -> list[str]:
    """Columns of the table of hosts of a role."""
    egress = ["egress"] if local else []
    if role == "both":
        return ["answered", "others", "offers", "initiated", "own", *egress, "uses"]
    if role == "initiates":
        return ["initiated", *egress, "own sent", "own received", "uses"]
    if role == "answers":
        unanswered = ["unanswered"] if any(one.unanswered for one in some) else []
        return ["answered", *unanswered, "others received", "others sent", "offers"]
    return ["unanswered", "others received"]


def _cell(one: Host, column: str, wide: bool) -> str:
    if column in ("offers", "uses"):
        return _listed(one.offers if column == "offers" else one.uses, wide)
    others_sent, others_received = one.sent - one.initiated_sent, one.received - one.initiated_received
    sizes = {
        "own": one.initiated_sent + one.initiated_received,
        "own sent": one.initiated_sent,
        "own received": one.initiated_received,
        "others": others_sent + others_received,
        "others sent": others_sent,
        "others received": others_received,
    }
    if column in sizes:
        return text.size(sizes[column])
    number = {
        "initiated": one.initiated,
        "egress": one.egress,
        "answered": one.answered,
        "unanswered": one.unanswered,
    }[column]
    return f"[yellow]{number:,}[/]" if column == "egress" and number else f"{number:,}"


def _listed(services: dict[str, int], wide: bool) -> str:
    shown = ", ".join(names.service(one, wide) for one in islice(services, _NAMED))
    return f"{shown}, +{len(services) - _NAMED:,}" if len(services) > _NAMED else shown
