"""Connections and summaries as rich tables, for terminals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import IO, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from conntrack_py import text
from conntrack_py.connections import Connection, ConnectionTable
from conntrack_py.summary import ROLES, UNSURE, Evidence, Host, Hosts, Service, Summary, Totals

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
_UNSURE_NOTE = "? nothing in the capture says who initiated: a guess (the first sender seen), a scan, or its echo"
_ROLE_TITLES = {
    "both": "answer and initiate",
    "initiates": "only initiate",
    "answers": "only answer",
    "silent": "never answered",
}
#: Width from which on every row has its date.
_DATED = 160
#: Widths at which cells fold last: an IPv4 address, most services.
_IPV4 = 15
_SERVICE = 11
#: Services that are named of a host; the rest is counted.
_NAMED = 3


def _direction(word: str, unsure: bool = False) -> str:
    return f"[{_STYLES.get(word, 'dim')}]{word}[/]" + ("[bold red]?[/]" if unsure else "")


def console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console for these tables. To rich's eyes, parts of IPv6 addresses are emoji (`:100:`)."""
    return Console(file=file, width=width, emoji=False, highlight=False)


def is_unsure(row: Connection) -> bool:
    """Whether the originator of a connection is only a guess."""
    return row.evidence in UNSURE


class _Grid:
    """A table that fits the width it is printed at and loses nothing: numbers whole, long words on several lines.

    Rich alone would cut what does not fit.
    """

    def __init__(self, gap: int, header_style: str) -> None:
        self._gap = gap
        self._header_style = header_style
        self._columns: list[_Column] = []
        self._rows: list[tuple[str, ...]] = []

    def column(
        self, name: str, *, right: bool = False, least: int | None = None, spare: int = 0, wish: int = 0
    ) -> None:
        """Add a column.

        Args:
            name: Its heading.
            right: Flush right.
            least: It may fold, if possible not below this width. None: it may not.
            spare: It may be left out where room is short, those with the highest number first. 0: it may not.
            wish: The width it has even if its cells need less, where there is room.
        """
        self._columns.append(_Column(name, right, least, spare, wish))

    def row(self, *cells: str) -> None:
        """Add a row, with markup; the cells of columns at the end may be missing."""
        self._rows.append(cells)

    def print(self, out: Console) -> None:
        """Print it."""
        kept = list(range(len(self._columns)))
        wishes = [self._wish(place) for place in kept]
        gaps = self._gap * (len(kept) - 1)
        while gaps + sum(self._least(place, wishes[place]) for place in kept) > out.width:
            spare = max(kept, key=lambda place: self._columns[place].spare)
            if not self._columns[spare].spare:
                break
            kept.remove(spare)
            gaps -= self._gap
        least = [self._least(place, wishes[place]) for place in kept]
        bare = [wish if self._columns[place].least is None else 1 for place, wish in enumerate(wishes)]
        widths = _fitted([wishes[place] for place in kept], least, out.width - gaps)
        widths = _fitted(widths, [bare[place] for place in kept], out.width - gaps)
        grid = Table(box=None, pad_edge=False, header_style=self._header_style, padding=(0, self._gap, 0, 0))
        for place, width in zip(kept, widths, strict=True):
            column = self._columns[place]
            grid.add_column(column.name, justify="right" if column.right else "left", width=width, overflow="fold")
        for row in self._rows:
            # A row of a left-out column alone has nothing to say.
            if any(row[place] for place in kept if place < len(row)):
                grid.add_row(*(row[place] if place < len(row) else "" for place in kept))
        out.print(grid)

    def _wish(self, place: int) -> int:
        cells = (Text.from_markup(row[place], emoji=False).cell_len for row in self._rows if place < len(row))
        column = self._columns[place]
        return max(column.wish, len(column.name), *cells, 0)

    def _least(self, place: int, wish: int) -> int:
        least = self._columns[place].least
        return wish if least is None else min(wish, least)


class _Column(NamedTuple):
    name: str
    right: bool
    least: int | None
    spare: int
    wish: int


def _fitted(widths: list[int], least: list[int], room: int) -> list[int]:
    """The widths, the widest first made smaller until their sum fits, but none below its least."""
    widths = list(widths)
    while sum(widths) > room and widths != least:
        widest = max((place for place in range(len(widths)) if widths[place] > least[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def connections(out: Console, table: ConnectionTable | Sequence[Connection], limit: int) -> None:
    """Print the first `limit` connections (0: all), with as many columns as the width allows."""
    shown = list(islice(table, limit or None))
    wide = out.width
    unit = "ms" if wide >= 100 else "s"
    days = len({_day(row, unit) for row in shown}) > 1
    # Where room is short each day has a line of its own.
    dated = days and wide >= _DATED
    grid = _Grid(2 if wide >= 100 else 1, "bold")
    grid.column("time (UTC)" if wide >= 100 else "time", spare=1)
    grid.column("direction")
    grid.column("originator", least=_IPV4, wish=_IPV4)
    grid.column("responder", least=_IPV4, wish=_IPV4)
    grid.column("service", least=_SERVICE)
    if wide >= 120:
        grid.column("state")
    for sender in ("sent", "received"):
        if wide >= 140:
            grid.column("packets", right=True)
        grid.column(sender, right=True)
    if wide >= 140:
        grid.column("evidence", spare=2)
    day = None
    for row in shown:
        if days and not dated and _day(row, unit) != day:
            day = _day(row, unit)
            grid.row(f"[dim]{day}[/]")
        grid.row(*_cells(row, wide, dated))
    grid.print(out)
    rest = len(table) - len(shown)
    if rest:
        out.print(f"[dim]... and {rest:,} more of {len(table):,} connections; --limit 0 shows all[/]")
    if any(map(is_unsure, shown)):
        out.print(f"[dim]{_UNSURE_NOTE}[/]")


def _day(row: Connection, unit: str) -> str:
    return text.moment(row.start, unit).split()[0]


def _cells(row: Connection, wide: int, dated: bool) -> Iterable[str]:
    moment = text.moment(row.start, "ms" if wide >= 100 else "s")
    yield moment if dated else moment.split()[-1]
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
        out.print("\nNobody initiated a connection." if facts.icmp_errors else "\nNo connections.")
        return
    _directions(out, facts)
    _services(out, facts)
    _hosts(out, "Local hosts", facts.local_hosts)
    _hosts(out, "Other hosts", facts.remote_hosts)
    _zones(out, facts)
    _evidence(out, facts)


def _grid(out: Console, title: str) -> _Grid:
    out.print(f"\n[bold]{title}[/]")
    return _Grid(2, "dim")


def _capture(out: Console, facts: Summary) -> None:
    capture = facts.capture
    when = ""
    if capture.first is not None and capture.last is not None:
        when = f", {text.moment(capture.first, 's')} UTC, {text.span(capture.last - capture.first)}"
    # All rows of the table; what of them is left out below, the next line says.
    found = _count(facts.totals.connections + facts.icmp_errors, "connection")
    read = _count(capture.packets, "packet")
    lines = [f"[bold]{found}[/] in {read} ({text.size(capture.bytes)}{when})"]
    if facts.icmp_errors:
        one = facts.icmp_errors == 1
        what = "which initiates nothing, is" if one else "which initiate nothing, are"
        lines.append(f"[dim]{_count(facts.icmp_errors, 'ICMP error')}, {what} not counted below[/]")
    if capture.skipped_words:
        lines.append(f"[dim]not in a connection: {'; '.join(capture.skipped_words)}[/]")
    if capture.snapped:
        lines.append(f"[dim]{_count(capture.snapped, 'packet')} cut short by the capture, counted in full[/]")
    lines += [f"[bold red]![/] {flaw}" for flaw in capture.flaws]
    for line in lines:
        out.print(line)


def _directions(out: Console, facts: Summary) -> None:
    grid = _grid(out, "Who initiated")
    grid.column("direction")
    grid.column("connections", right=True)
    grid.column("share", right=True)
    _sent_columns(grid)
    explained = out.width >= 120
    if explained:
        grid.column("", least=20, spare=1)
    for word, sums in facts.directions.items():
        share = text.share(sums.connections, facts.totals.connections)
        meaning = [f"[dim]{_MEANINGS[word]}[/]"] if explained else []
        grid.row(_direction(word), _connections(sums), share, *_sent(sums), *meaning)
    grid.print(out)
    if "transit" in facts.directions and not _LOCAL_ENDS & set(facts.directions):
        out.print("[dim]No connection has a local end. Name your networks: --local CIDR[/]")


def _services(out: Console, facts: Summary) -> None:
    grid = _grid(out, "Services")
    grid.column("direction")
    grid.column("service", least=_SERVICE)
    grid.column("connections", right=True)
    grid.column("from", right=True, spare=1)
    grid.column("to", right=True, spare=2)
    grid.column("sent", right=True)
    grid.column("answered", right=True)
    for one in facts.services:
        grid.row(*_service(one))
    grid.print(out)
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
        grid.column("host", least=_IPV4 + 1, wish=_IPV4)
        columns = _columns(role, of_local)
        for name in columns:
            named = name in ("offers", "uses")
            grid.column(name, right=not named, least=_SERVICE if named else None)
        for host in hosts.top[role]:
            grid.row(host.address + ("[bold red]?[/]" if host.unsure else ""), *(_host(host, c) for c in columns))
        grid.print(out)
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
    grid.column("from", least=8)
    grid.column("to", least=8)
    grid.column("connections", right=True)
    _sent_columns(grid)
    for pair in facts.zones:
        names = (escape(pair.orig_zone) or "[dim]no zone[/]", escape(pair.resp_zone) or "[dim]no zone[/]")
        grid.row(*names, _connections(pair.totals), *_sent(pair.totals))
    grid.print(out)


def _evidence(out: Console, facts: Summary) -> None:
    evidence, all_of_them = facts.evidence, facts.totals.connections
    grid = _grid(out, "How we know who initiated")
    grid.column("connections", right=True)
    grid.column("share", right=True)
    grid.column("evidence", least=20)
    lines = (
        (evidence.seen, "observed: the opening packet was seen (SYN, ICMP request)"),
        (evidence.deduced, f"inferred from {', '.join(_inferred(evidence))}"),
        (evidence.first_packet, "the first sender seen; the protocol has no opening packet"),
        (evidence.unsure, "[bold red]?[/] unknown: nothing says it, or a scan or its echo; a guess"),
    )
    for number, words in lines:
        if number:
            grid.row(f"{number:,}", text.share(number, all_of_them), words)
    grid.print(out)


#: What the words of inferred evidence mean, for a line.
_EVIDENCE = {
    "syn_ack": "the SYN+ACK",
    "icmp_reply": "the ICMP reply",
    "init_ack": "the INIT ACK",
    "refused": "the refusal",
    "payload": "the first bytes of payload",
    "related": "another connection that announced it",
    "seen_before": "the same connection seen before",
    "listener": "a listener of this capture",
    "multicast": "a group address",
    "service_port": "the port of a service",
    "many_peers": "where many peers meet",
    "role": "what the hosts do elsewhere",
    "answered": "the first sender, who was answered",
    "acknowledgements": "who acknowledges",
    "window": "the first windows",
    "ephemeral_port": "a client's port",
}


def _inferred(evidence: Evidence) -> Iterable[str]:
    """`the SYN+ACK (5)`, ..., the most used first."""
    used = [(count, word) for word, count in evidence.by_word.items() if word in _EVIDENCE]
    return [f"{_EVIDENCE[word]} ({count:,})" for count, word in sorted(used, key=lambda item: -item[0])]


def _connections(sums: Totals) -> str:
    return f"{sums.connections:,}" + (f" ([bold red]{sums.unsure:,}?[/])" if sums.unsure else "")


def _sent_columns(grid: _Grid) -> None:
    # They fold between the words, so that no number is cut.
    grid.column("originators sent", right=True, least=16)
    grid.column("responders sent", right=True, least=16)


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
