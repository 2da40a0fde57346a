"""A summary as tables that fit the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from rich.console import Console
from rich.markup import escape

from conntrack_py import text
from conntrack_py.cli.render.grid import IPV4, SERVICE, Grid, count, direction
from conntrack_py.summary import ROLES, Evidence, Host, Hosts, Service, Summary, Totals
from conntrack_py.table import EVIDENCE

#: Directions with a local end.
_LOCAL_ENDS = {"egress", "ingress", "internal"}
_MEANINGS = {
    "egress": "local hosts initiated outwards",
    "ingress": "outside hosts initiated inwards",
    "internal": "local hosts among themselves",
    "transit": "outside hosts among themselves",
    "multicast": "to groups or to everybody",
}
_ROLE_TITLES = {
    "both": "answer and initiate",
    "initiates": "only initiate",
    "answers": "only answer",
    "silent": "never answered",
}
#: Findings that are listed; --json has all.
_FINDINGS = 10
#: Services that are named of a host; the rest is counted.
_NAMED = 3


def summary(out: Console, facts: Summary) -> None:
    """Print a summary: who initiates to whom first, the capture's facts last."""
    _capture(out, facts)
    if not facts.totals.connections:
        out.print("\nNobody initiated a connection." if facts.icmp_errors else "\nNo connections.")
        return
    _directions(out, facts)
    _findings(out, facts)
    _services(out, facts)
    _hosts(out, "Local hosts", facts.local_hosts)
    _hosts(out, "Other hosts", facts.remote_hosts)
    _zones(out, facts)
    _evidence(out, facts)


def _grid(out: Console, title: str) -> Grid:
    out.print(f"\n[bold]{title}[/]")
    return Grid(2, "dim")


def _capture(out: Console, facts: Summary) -> None:
    capture = facts.capture
    when = ""
    if capture.first is not None and capture.last is not None:
        when = f", {text.moment(capture.first, 's')} UTC, {text.span(capture.last - capture.first)}"
    # All rows of the table; what of them is left out below, the next line says.
    found = count(facts.totals.connections + facts.icmp_errors, "connection")
    read = count(capture.packets, "packet")
    lines = [f"[bold]{found}[/] in {read} ({text.size(capture.bytes)}{when})"]
    if facts.icmp_errors:
        one = facts.icmp_errors == 1
        what = "which initiates nothing, is" if one else "which initiate nothing, are"
        lines.append(f"[dim]{count(facts.icmp_errors, 'ICMP error')}, {what} not counted below[/]")
    if capture.skipped_words:
        lines.append(f"[dim]not in a connection: {'; '.join(capture.skipped_words)}[/]")
    if capture.snapped:
        lines.append(f"[dim]{count(capture.snapped, 'packet')} cut short by the capture, counted in full[/]")
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
        grid.row(direction(word), _connections(sums), share, *_sent(sums), *meaning)
    grid.print(out)
    if "transit" in facts.directions and not _LOCAL_ENDS & set(facts.directions):
        out.print("[dim]No connection has a local end. Name your networks: --local CIDR[/]")


def _findings(out: Console, facts: Summary) -> None:
    if not facts.findings:
        return
    grid = _grid(out, f"Servers that initiate: {len(facts.findings):,}")
    grid.column("server", least=IPV4, wish=IPV4)
    grid.column("initiates to", least=IPV4, wish=IPV4)
    grid.column("service", least=SERVICE)
    grid.column("connections", right=True)
    grid.column("which is", least=20)
    grid.column("first (UTC)", spare=1)
    for one in facts.findings[:_FINDINGS]:
        marks = [_MARKS[mark] for mark in one.marks]
        if one.period is not None and one.score is not None:
            marks[0] += f" every {text.span(round(one.period * 1e9))}, {one.score:.2f} even"
        colour = "bold red" if one.period is not None else "yellow" if marks else "dim"
        what = f"[{colour}]{'; '.join(marks) or 'inside your networks'}[/]"
        grid.row(one.server, one.destination, one.service, f"{one.connections:,}", what, text.moment(one.first, "s"))
    grid.print(out)
    _more(out, len(facts.findings) - _FINDINGS, "finding")


#: Marks of findings in the words of a cell.
_MARKS = {
    "beacon": "a beacon:",
    "unanswered": "never answered",
    "first": "its first own initiative",
    "new_destination": "new",
    "egress": "egress",
    "unsure": "in doubt: perhaps it answered",
}


def _services(out: Console, facts: Summary) -> None:
    grid = _grid(out, "Services")
    grid.column("direction")
    grid.column("service", least=SERVICE)
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
        direction(one.direction),
        one.service,
        _connections(sums),
        count(one.originators, "host"),
        count(one.responders, "host" if one.direction != "multicast" else "group"),
        text.size(sums.orig_bytes),
        text.size(sums.resp_bytes),
    )


def _hosts(out: Console, title: str, hosts: Hosts) -> None:
    for role in ROLES:
        if not hosts.counts[role]:
            continue
        of_local = title.startswith("Local")
        grid = _grid(out, f"{title} that {_ROLE_TITLES[role]}: {hosts.counts[role]:,}")
        grid.column("host", least=IPV4 + 1, wish=IPV4)
        columns = _columns(role, of_local)
        for name in columns:
            named = name in ("offers", "uses")
            grid.column(name, right=not named, least=SERVICE if named else None)
        for host in hosts.top[role]:
            grid.row(host.address + ("[bold red]?[/]" if host.unsure else ""), *(_host(host, c) for c in columns))
        grid.print(out)
        _more(out, hosts.counts[role] - len(hosts.top[role]), "host")


def _columns(role: str, local: bool) -> list[str]:
    """Columns of the table of hosts of a role."""
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


def _inferred(evidence: Evidence) -> Iterable[str]:
    """`the SYN+ACK (5)`, ..., the most used first."""
    used = [(count, word) for word, count in evidence.by_word.items() if EVIDENCE[word][2]]
    return [f"{EVIDENCE[word][2]} ({count:,})" for count, word in sorted(used, key=lambda item: -item[0])]


def _connections(sums: Totals) -> str:
    return f"{sums.connections:,}" + (f" ([bold red]{sums.unsure:,}?[/])" if sums.unsure else "")


def _sent_columns(grid: Grid) -> None:
    # They fold between the words, so that no number is cut.
    grid.column("originators sent", right=True, least=16)
    grid.column("responders sent", right=True, least=16)


def _sent(sums: Totals) -> tuple[str, str]:
    return (
        f"{text.size(sums.orig_bytes)} in {sums.orig_packets:,} pkts",
        f"{text.size(sums.resp_bytes)} in {sums.resp_packets:,} pkts",
    )


def _more(out: Console, number: int, noun: str) -> None:
    if number > 0:
        out.print(f"[dim]... and {count(number, noun)} more; --top shows more[/]")
