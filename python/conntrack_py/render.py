"""Connections and summaries as rich tables, for terminals."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import IO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from conntrack_py import text
from conntrack_py.connections import Connection, ConnectionTable
from conntrack_py.summary import ROLES, Host, Hosts, Service, Summary, Totals

_STYLES = {"egress": "yellow", "ingress": "cyan", "internal": "green", "transit": "magenta", "multicast": "dim"}
#: Directions with a local end.
_LOCAL_ENDS = {"egress", "ingress", "internal"}
_MEANINGS = {
    "egress": "local hosts initiated outwards",
    "ingress": "outside hosts initiated inwards",
    "internal": "local hosts among themselves",
    "transit": "outside hosts among themselves",
    "multicast": "to groups or to everybody",
}
_UNSURE_NOTE = "? TCP whose start is not in the capture: who initiated is a guess (the first sender seen)"
_ROLE_TITLES = {
    "both": "answer and initiate",
    "initiates": "only initiate",
    "answers": "only answer",
    "silent": "never answered",
}
_DAY = 86_400_000_000_000  # nanoseconds
#: Services that are named of a host; the rest is counted.
_NAMED = 3


def _direction(word: str, unsure: bool = False) -> str:
    return f"[{_STYLES.get(word, 'dim')}]{word}[/]" + ("[bold red]?[/]" if unsure else "")


def console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console for these tables. To rich's eyes, parts of IPv6 addresses are emoji (`:100:`)."""
    return Console(file=file, width=width, emoji=False, highlight=False)


def is_unsure(row: Connection) -> bool:
    """Whether the originator of a connection is only a guess."""
    return row.proto == "tcp" and row.evidence == "first_packet"


def connections(out: Console, table: ConnectionTable, limit: int) -> None:
    """Print the first `limit` connections (0: all), with as many columns as the width allows."""
    rows = list(islice(table, limit or None))
    wide = out.width
    days = len({row.start // _DAY for row in rows}) > 1
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2 if wide >= 100 else 1, 0, 0))
    grid.add_column("time (UTC)" if wide >= 100 else "time", no_wrap=True)
    grid.add_column("direction", no_wrap=True)
    grid.add_column("originator", overflow="fold", min_width=15)
    grid.add_column("responder", overflow="fold", min_width=15)
    grid.add_column("service", overflow="fold", max_width=None if wide >= 100 else 12)
    if wide >= 120:
        grid.add_column("state", no_wrap=True)
    for sender in ("sent", "received"):
        if wide >= 140:
            grid.add_column("packets", justify="right", no_wrap=True)
        grid.add_column(sender, justify="right", no_wrap=True)
    if wide >= 140:
        grid.add_column("evidence", no_wrap=True)
    for row in rows:
        grid.add_row(*_cells(row, wide, days))
    out.print(grid)
    rest = len(table) - len(rows)
    if rest:
        out.print(f"[dim]... and {rest:,} more of {len(table):,} connections; --limit 0 shows all[/]")
    if any(map(is_unsure, rows)):
        out.print(f"[dim]{_UNSURE_NOTE}[/]")


def _cells(row: Connection, wide: int, days: bool) -> Iterable[str]:
    moment = text.moment(row.start, "ms" if wide >= 100 else "s")
    yield moment if days else moment.split()[1]
    yield _direction(row.direction, is_unsure(row))
    # An originator's port says little; where there is room it is shown.
    orig = text.endpoint(row.orig_addr, row.orig_port, row.proto) if wide >= 100 else row.orig_addr
    # `[fe80::1]` would be markup.
    yield escape(orig)
    yield row.resp_addr
    yield text.service(row.proto, row.orig_port if text.is_icmp(row.proto) else row.resp_port)
    if wide >= 120:
        yield row.state
    for packets, count in ((row.orig_pkts, row.orig_ip_bytes), (row.resp_pkts, row.resp_ip_bytes)):
        if wide >= 140:
            yield f"{packets:,}"
        yield text.size(count)
    if wide >= 140:
        yield row.evidence


def summary(out: Console, facts: Summary) -> None:
    """Print a summary: who initiates to whom first, the capture's facts last."""
    _capture(out, facts)
    if not facts.totals.connections:
        out.print("\nNo connections.")
        return
    _directions(out, facts)
    _services(out, facts)
    _hosts(out, "Local hosts", facts.local_hosts)
    _hosts(out, "Other hosts", facts.remote_hosts)
    _zones(out, facts)
    _evidence(out, facts)


def _grid(out: Console, title: str) -> Table:
    out.print(f"\n[bold]{title}[/]")
    return Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))


def _capture(out: Console, facts: Summary) -> None:
    capture = facts.capture
    when = ""
    if capture.first is not None and capture.last is not None:
        when = f", {text.moment(capture.first, 's')} UTC, {text.span(capture.last - capture.first)}"
    found, read = _count(facts.totals.connections, "connection"), _count(capture.packets, "packet")
    lines = [f"[bold]{found}[/] in {read} ({text.size(capture.bytes)}{when})"]
    if capture.skipped_words:
        lines.append(f"[dim]not in a connection: {'; '.join(capture.skipped_words)}[/]")
    if capture.snapped:
        lines.append(f"[dim]{_count(capture.snapped, 'packet')} cut short by the capture, counted in full[/]")
    for line in lines:
        out.print(line)


def _directions(out: Console, facts: Summary) -> None:
    grid = _grid(out, "Who initiated")
    for name in ("direction", "connections", "share", "originators sent", "responders sent"):
        grid.add_column(name, justify="left" if name == "direction" else "right", no_wrap=name != "originators sent")
    explained = out.width >= 120
    if explained:
        grid.add_column("")
    for word, sums in facts.directions.items():
        share = text.share(sums.connections, facts.totals.connections)
        meaning = [f"[dim]{_MEANINGS[word]}[/]"] if explained else []
        grid.add_row(_direction(word), _connections(sums), share, *_sent(sums), *meaning)
    out.print(grid)
    if "transit" in facts.directions and not _LOCAL_ENDS & set(facts.directions):
        out.print("[dim]No connection has a local end. Name your networks: --local CIDR[/]")


def _services(out: Console, facts: Summary) -> None:
    grid = _grid(out, "Services")
    for name in ("direction", "service", "connections", "from", "to", "sent", "answered"):
        grid.add_column(name, justify="left" if name in ("direction", "service") else "right", no_wrap=True)
    for one in facts.services:
        grid.add_row(*_service(one))
    out.print(grid)
    _more(out, facts.all_services - len(facts.services), "service")


def _service(one: Service) -> tuple[str, ...]:
    sums = one.totals
    return (
        _direction(one.direction),
        one.service,
        _connections(sums),
        _count(one.originators, "host"),
        _count(one.responders, "host" if one.direction != "multicast" else "group"),
        text.size(sums.orig_bytes),
        text.size(sums.resp_bytes),
    )


def _hosts(out: Console, title: str, hosts: Hosts) -> None:
    for role in ROLES:
        if not hosts.counts[role]:
            continue
        of_local = title.startswith("Local")
        grid = _grid(out, f"{title} that {_ROLE_TITLES[role]}: {hosts.counts[role]:,}")
        grid.add_column("host", overflow="fold", min_width=15)
        columns = _columns(role, of_local)
        for name in columns:
            grid.add_column(name, justify="left" if name in ("offers", "uses") else "right", overflow="fold")
        for host in hosts.top[role]:
            grid.add_row(host.address + ("[bold red]?[/]" if host.unsure else ""), *(_host(host, c) for c in columns))
        out.print(grid)
        _more(out, hosts.counts[role] - len(hosts.top[role]), "host")


def _columns(role: str, local: bool) -> list[str]:
    """What there is to say about hosts of a role."""
    initiated = ["initiated", *(["egress"] if local else []), "uses"]
    answered = ["answered", "offers"]
    both = [*answered, *initiated]
    return {"both": both, "initiates": initiated, "answers": answered, "silent": ["unanswered"]}[role]


def _host(host: Host, column: str) -> str:
    if column == "offers":
        return _named(host.offers)
    if column == "uses":
        return _named(host.uses)
    number = {
        "initiated": host.initiated,
        "egress": host.egress,
        "answered": host.answered,
        "unanswered": host.unanswered,
    }[column]
    return f"[yellow]{number:,}[/]" if column == "egress" and number else f"{number:,}"


def _named(services: dict[str, int]) -> str:
    named = ", ".join(islice(services, _NAMED))
    return f"{named}, +{len(services) - _NAMED:,}" if len(services) > _NAMED else named


def _zones(out: Console, facts: Summary) -> None:
    if not facts.zones:
        return
    grid = _grid(out, "From zone to zone")
    for name in ("from", "to", "connections", "originators sent", "responders sent"):
        grid.add_column(name, justify="left" if name in ("from", "to") else "right", overflow="fold")
    for pair in facts.zones:
        names = (escape(pair.orig_zone) or "[dim]no zone[/]", escape(pair.resp_zone) or "[dim]no zone[/]")
        grid.add_row(*names, _connections(pair.totals), *_sent(pair.totals))
    out.print(grid)


def _evidence(out: Console, facts: Summary) -> None:
    evidence, all_of_them = facts.evidence, facts.totals.connections
    grid = _grid(out, "How we know who initiated")
    grid.add_column("connections", justify="right")
    grid.add_column("share", justify="right")
    grid.add_column("evidence", overflow="fold")
    lines = (
        (evidence.seen, "the opening packet was seen (SYN, ICMP request)"),
        (evidence.deduced, "it follows from an answer (SYN+ACK, ICMP reply)"),
        (evidence.first_packet, "the first sender seen; the protocol has no opening packet"),
        (evidence.unsure, "[bold red]?[/] TCP whose start is not in the capture: a guess"),
    )
    for number, words in lines:
        if number:
            grid.add_row(f"{number:,}", text.share(number, all_of_them), words)
    out.print(grid)


def _connections(sums: Totals) -> str:
    return f"{sums.connections:,}" + (f" ([bold red]{sums.unsure:,}?[/])" if sums.unsure else "")


def _sent(sums: Totals) -> tuple[str, str]:
    return (
        f"{text.size(sums.orig_bytes)} in {sums.orig_packets:,} pkts",
        f"{text.size(sums.resp_bytes)} in {sums.resp_packets:,} pkts",
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _more(out: Console, number: int, noun: str) -> None:
    if number > 0:
        out.print(f"[dim]... and {_count(number, noun)} more; --top shows more[/]")
