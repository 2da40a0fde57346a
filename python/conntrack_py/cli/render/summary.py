"""A summary as tables that fit the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from conntrack_py import text
from conntrack_py.analysis import Initiative, VainCaller
from conntrack_py.cli.render import names, pictures
from conntrack_py.cli.render.grid import IPV4, SERVICE, Grid, count, direction, say, style
from conntrack_py.cli.render.hosts import ROOMY, hosts, more, titled
from conntrack_py.summaries import Evidence, Service, Summary, Totals
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
#: Findings, callers in vain and large connections that are listed; --json has all findings.
_FINDINGS = 10
_CALLERS = 5
_LARGEST = 5
#: Columns of "Who initiated" without pictures.
_BESIDE_PICTURES = 70


def summary(
    out: Console,
    facts: Summary,
    times: pictures.Times | None = None,
    found: Iterable[Initiative] = (),
    vain: Iterable[VainCaller] = (),
) -> None:
    """Print a summary: who initiates to whom first, the capture's facts last.

    Args:
        out: The terminal.
        facts: The summary.
        times: The axis of time of pictures, where there are any.
        found: The findings of the summary, folded.
        vain: Callers in vain.
    """
    _capture(out, facts)
    if not facts.totals.connections:
        out.print("\nNobody initiated a connection." if facts.icmp_errors else "\nNo connections.")
        return
    _directions(out, facts, times)
    _findings(out, facts, list(found), times)
    _vain(out, facts, list(vain))
    _services(out, facts)
    _largest(out, facts)
    hosts(out, "Local hosts", facts.local_hosts, facts.names)
    hosts(out, "Other hosts", facts.remote_hosts, facts.names)
    _zones(out, facts)
    _evidence(out, facts)


def _capture(out: Console, facts: Summary) -> None:
    capture = facts.capture
    when = ""
    if capture.first is not None and capture.last is not None:
        when = f", {text.moment(capture.first, 's')} UTC, {text.span(capture.last - capture.first)}"
    # All rows of the table; what of them is left out below, the next line says.
    found = count(facts.totals.connections + facts.icmp_errors, "connection")
    found = f"[bold]{found}[/]{f' where {escape(text.printable(facts.where))}' if facts.where else ''}"
    read = count(capture.packets, "packet")
    lines = [f"{found} in {read} ({text.size(capture.bytes)}{when})"]
    if capture.loss:
        lines.insert(0, f"[bold red]![/] {capture.loss} of the capture was not used")
    if facts.icmp_errors:
        one = facts.icmp_errors == 1
        what = "which initiates nothing, is" if one else "which initiate nothing, are"
        lines.append(f"[dim]{count(facts.icmp_errors, 'ICMP error')}, {what} not counted below[/]")
    if capture.skipped_files:
        lines.append("[yellow]files skipped:[/]")
        lines += [f"  {escape(str(one))}" for one in capture.skipped_files]
    if capture.skipped_words:
        lines.append(f"[dim]not in a connection: {'; '.join(capture.skipped_words)}[/]")
    if capture.snapped:
        lines.append(f"[dim]{count(capture.snapped, 'packet')} cut short by the capture, counted in full[/]")
    lines += [f"[bold red]![/] {flaw}" for flaw in capture.flaws]
    for line in lines:
        say(out, line)


def _directions(out: Console, facts: Summary, times: pictures.Times | None) -> None:
    grid = titled(out, "Who initiated")
    grid.column("direction")
    grid.column("connections", right=True)
    grid.column("share", right=True)
    cells = min(pictures.LINE, out.width - _BESIDE_PICTURES)
    drawn = times if pictures.fits(out, pictures.WIDE) else None
    if drawn is not None:
        grid.column("sent", right=True)
        grid.column("answered", right=True)
        grid.column("", wish=pictures.BAR)
        grid.column(drawn.head("over time, each to its own top", cells))
    else:
        _sent_columns(grid)
        grid.column("", least=20, spare=2)
    lines = drawn.lines(cells) if drawn is not None else {}
    for word, sums in facts.directions.items():
        share = text.share(sums.connections, facts.totals.connections)
        numbers = (direction(word), _connections(sums), share)
        if drawn is None:
            grid.row(*numbers, *_sent(sums), f"[dim]{_MEANINGS[word]}[/]" if out.width >= 120 else "")
            continue
        shapes = (pictures.bar(sums.connections, facts.totals.connections), lines[word])
        sizes = (text.size(sums.orig_bytes), text.size(sums.resp_bytes))
        grid.row(*numbers, *sizes, *(f"[{style(word)}]{shape}[/]" for shape in shapes))
    grid.print(out)
    if facts.totals.unanswered:
        answer = "was" if facts.totals.unanswered == 1 else "were"
        say(out, f"[dim]{count(facts.totals.unanswered, 'connection')} {answer} not answered, or refused[/]")
    if "transit" in facts.directions and not _LOCAL_ENDS & set(facts.directions):
        say(out, "[dim]No connection has a local end. Name your networks: --local CIDR[/]")


def _findings(out: Console, facts: Summary, found: list[Initiative], times: pictures.Times | None) -> None:
    if not found:
        return
    clients = sum(one.role == "client" for one in found)
    servers = len(found) - clients
    words = [f"Servers that initiate: {servers:,}"] if servers or not clients else []
    words += [f"{'other hosts' if servers else 'Hosts'} that call in even steps: {clients:,}"] if clients else []
    drawn = times if pictures.fits(out, pictures.WIDER) else None
    grid = titled(out, ", ".join(words))
    grid.column("host" if clients else "server", least=IPV4, wish=IPV4)
    grid.column("initiates to", least=IPV4, wish=IPV4)
    grid.column("service", least=SERVICE)
    grid.column("connections", right=True)
    grid.column("which is", least=20)
    if drawn is not None:
        grid.column(drawn.head("", pictures.STRIP))
    else:
        grid.column("first (UTC)", spare=2)
    for one in found[:_FINDINGS]:
        what, colour = _marks(one)
        to = names.host(one.named[0], facts.names)
        to += f" +{one.destinations - 1:,}" if one.destinations > 1 else ""
        last = text.moment(one.first, "s") if drawn is None else f"[{colour}]{drawn.strip(one)}[/]"
        grid.row(
            names.host(one.server, facts.names),
            to,
            names.service(one.service, out.width >= ROOMY),
            f"{one.connections:,}",
            f"[{colour}]{what}[/]",
            last,
        )
    grid.print(out)
    more(out, len(found) - _FINDINGS, "finding", "--json has all")


def _marks(one: Initiative) -> tuple[str, str]:
    """The marks of a finding in words, and their colour."""
    marks = [_MARKS[mark] for mark in one.marks]
    if one.period is not None and one.score is not None:
        even = next(place for place, mark in enumerate(one.marks) if mark in _EVEN)
        marks[even] += f" every {text.span(round(one.period * 1e9))}, {one.score:.2f} even"
    colour = "bold red" if "beacon" in one.marks else "yellow" if marks else "dim"
    return "; ".join(marks) or "inside your networks", colour


#: Marks of findings in the words of a cell.
_MARKS = {
    "beacon": "a beacon:",
    "unanswered": "never answered",
    "first": "its first own initiative",
    "new_destination": "new",
    "egress": "egress",
    "unsure": "in doubt: perhaps it answered",
    "poll": "a poll inside:",
    "health_check": "a health check inside:",
    "clock": "the clock (NTP):",
}
_EVEN = ("beacon", "poll", "health_check", "clock")


def _vain(out: Console, facts: Summary, found: list[VainCaller]) -> None:
    """Print hosts that tried many others, or many services, in vain."""
    if not found:
        return
    grid = titled(out, f"Callers in vain: {len(found):,}")
    grid.column("host", least=IPV4, wish=IPV4)
    grid.column("calls", right=True)
    grid.column("in vain", right=True)
    grid.column("hosts", right=True)
    grid.column("services", right=True)
    grid.column("most tried", least=SERVICE)
    grid.column("within", right=True, spare=2)
    for one in found[:_CALLERS]:
        most = ", ".join(one.most[:3] if one.services > 1 else one.most[:1])
        numbers = (f"{number:,}" for number in (one.calls, one.in_vain, one.hosts, one.services))
        grid.row(names.host(one.caller, facts.names), *numbers, most, text.span(one.last - one.first))
    grid.print(out)
    more(out, len(found) - _CALLERS, "caller", "")


def _services(out: Console, facts: Summary) -> None:
    grid = titled(out, "Services")
    grid.column("direction")
    grid.column("service", least=SERVICE)
    grid.column("connections", right=True)
    unanswered = any(one.totals.unanswered for one in facts.services)
    if unanswered:
        grid.column("unanswered", right=True, spare=2)
    grid.column("from", right=True, spare=3)
    grid.column("to", right=True, spare=4)
    grid.column("sent", right=True)
    grid.column("answered", right=True)
    for one in facts.services:
        grid.row(*_service(one, unanswered))
    grid.print(out)
    more(out, facts.all_services - len(facts.services), "service")


def _service(one: Service, unanswered: bool) -> tuple[str, ...]:
    sums = one.totals
    return (
        direction(one.direction),
        names.service(one.service),
        _connections(sums),
        *([f"{sums.unanswered:,}" if sums.unanswered else ""] if unanswered else []),
        count(one.originators, "host"),
        count(one.responders, "host" if one.direction != "multicast" else "group"),
        text.size(sums.orig_bytes),
        text.size(sums.resp_bytes),
    )


def _largest(out: Console, facts: Summary) -> None:
    if facts.totals.connections <= _LARGEST:
        return
    grid = titled(out, "Largest connections")
    grid.column("direction")
    grid.column("originator", least=IPV4, wish=IPV4)
    grid.column("responder", least=IPV4, wish=IPV4)
    grid.column("service", least=SERVICE)
    grid.column("sent", right=True)
    grid.column("received", right=True)
    grid.column("lasted", right=True, spare=2)
    for one in facts.largest[:_LARGEST]:
        lasted = "" if one.start is None or one.end is None else text.span(max(one.end - one.start, 0))
        grid.row(
            direction(one.direction, one.unsure),
            names.host(one.originator, facts.names),
            names.host(one.responder, facts.names),
            names.service(one.service, out.width >= ROOMY),
            text.size(one.sent),
            text.size(one.received),
            lasted,
        )
    grid.print(out)


def _zones(out: Console, facts: Summary) -> None:
    if not facts.zones:
        return
    grid = titled(out, "From zone to zone")
    grid.column("from", least=8)
    grid.column("to", least=8)
    grid.column("connections", right=True)
    _sent_columns(grid)
    for pair in facts.zones:
        ends = (escape(pair.orig_zone) or "[dim]no zone[/]", escape(pair.resp_zone) or "[dim]no zone[/]")
        grid.row(*ends, _connections(pair.totals), *_sent(pair.totals))
    grid.print(out)


def _evidence(out: Console, facts: Summary) -> None:
    evidence, all_of_them = facts.evidence, facts.totals.connections
    grid = titled(out, "How we know who initiated")
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
        f"{text.size(sums.orig_bytes)} in {count(sums.orig_packets, 'pkt')}",
        f"{text.size(sums.resp_bytes)} in {count(sums.resp_packets, 'pkt')}",
    )
