"""The hosts that a gateway hides, as tables that fit the terminal."""

from __future__ import annotations

from itertools import islice

from rich.console import Console
from rich.markup import escape

from conntrack_py import text
from conntrack_py.cli.render.grid import IPV4, SERVICE, Grid, count, say
from conntrack_py.nat import Correlation, Pairing, Translations, facts
from conntrack_py.table import Connection, ConnectionTable

#: Services of a host that are named.
_NAMED = 3


def translations(out: Console, result: Correlation, table: ConnectionTable, limit: int) -> None:
    """Print the counts of a correlation, the hosts behind addresses, and connections with both tuples.

    Args:
        out: The terminal.
        result: The correlation.
        table: The connections to list.
        limit: Rows of each table (0: all).
    """
    found = facts(result.connections)
    for line in summary(result, found):
        say(out, line)
    hidden(out, found, limit)
    paired = table[table["nat_evidence"] != ""]
    shown = list(islice(paired, limit or None))
    if not shown:
        return
    out.print("\n[bold]Connections, and their ends on the other side[/]")
    wide = out.width >= 120
    grid = Grid(2, "dim")
    for name in ("time", "originator", "responder", "other side: originator", "responder"):
        grid.column(name, least=None if name == "time" else IPV4)
    grid.column("service", least=SERVICE)
    grid.column("evidence", spare=2)
    for row in shown:
        grid.row(*_cells(row, wide))
    grid.print(out)
    if len(paired) > len(shown):
        say(out, f"[dim]... and {len(paired) - len(shown):,} more of {len(paired):,}; --limit 0 shows all[/]")


def summary(result: Correlation, found: Translations) -> list[str]:
    """The counts of a correlation in words."""
    pairing = result.pairing
    lines = [f"[bold]{count(found.connections, 'connection')} inside[/]: {_states(found)}"]
    if result.outside is not None:
        lines.append(f"{count(len(result.outside), 'connection')} outside; {_pairs(pairing)}")
        lines.append(_clock(pairing))
    if pairing.remembered or pairing.unclear:
        unclear = f"; entries of {pairing.unclear:,} more are not told apart by time" if pairing.unclear else ""
        lines.append(f"The gateway's own table has {pairing.remembered:,} of them{unclear}")
    return lines


def _states(found: Translations) -> str:
    words = {"translated": found.translated, "the same outside": found.untranslated, "without a pair": found.unknown}
    return ", ".join(f"{number:,} {word}" for word, number in words.items() if number) or "none"


def _pairs(pairing: Pairing) -> str:
    kinds = ", ".join(f"{word} {number:,}" for word, number in pairing.by_evidence.items())
    parts = [count(pairing.paired, "pair") + (f" ({kinds})" if kinds else "")]
    if pairing.hairpins:
        parts.append(f"{count(pairing.hairpins, 'hairpin')} inside")
    if pairing.ambiguous_inside or pairing.ambiguous_outside:
        parts.append(f"ambiguous: {pairing.ambiguous_inside:,} inside, {pairing.ambiguous_outside:,} outside")
    if pairing.contradicted:
        parts.append(f"{pairing.contradicted:,} contradicted by sequence numbers")
    return "; ".join(parts)


def _clock(pairing: Pairing) -> str:
    if pairing.offset is None or pairing.tolerance is None:
        return "The clocks: nothing sure was found, so that only sequence numbers could make pairs"
    sign = "behind" if pairing.offset < 0 else "ahead"
    drift = f", drift {pairing.drift:+.1f} ppm" if pairing.drift else ""
    return f"The clock outside is {abs(pairing.offset) / 1e9:.6f} s {sign}{drift}; ± {text.span(pairing.tolerance)}"


def hidden(out: Console, found: Translations, limit: int) -> None:
    """Print the hosts behind addresses, and the services that answer under other ones."""
    for one in found.masked[: limit or None]:
        title = f"{escape(one.address)} hides {count(len(one.hosts), 'host')}"
        out.print(f"\n[bold]{title}, {count(one.connections, 'connection')}[/]")
        grid = Grid(2, "dim")
        grid.column("host", least=IPV4)
        grid.column("connections", right=True)
        grid.column("bytes", right=True)
        grid.column("uses", least=SERVICE)
        for share in one.hosts[: limit or None]:
            services = ", ".join(islice(share.services, _NAMED))
            more = f", +{len(share.services) - _NAMED:,}" if len(share.services) > _NAMED else ""
            grid.row(escape(share.host), f"{share.connections:,}", text.size(share.bytes), services + more)
        grid.print(out)
        if limit and len(one.hosts) > limit:
            say(out, f"[dim]... and {count(len(one.hosts) - limit, 'more host')}; --limit 0 shows all[/]")
    if found.published:
        out.print("\n[bold]Answered under another address[/]")
        grid = Grid(2, "dim")
        for name in ("address", "service", "servers"):
            grid.column(name, least=IPV4)
        grid.column("clients", right=True)
        grid.column("connections", right=True)
        for published in found.published[: limit or None]:
            servers = escape(", ".join(published.servers))
            total = sum(published.servers.values())
            grid.row(escape(published.address), published.service, servers, f"{published.clients:,}", f"{total:,}")
        grid.print(out)


def _cells(row: Connection, wide: bool) -> list[str]:
    values = row._asdict()
    proto, orig, other = row.proto, values["nat_orig_addr"], values["nat_resp_addr"]
    cells = [text.moment(row.start).split()[-1]]
    cells.append(escape(text.endpoint(row.orig_addr, row.orig_port, proto) if wide else row.orig_addr))
    cells.append(escape(row.resp_addr))
    there = text.endpoint(orig, values["nat_orig_port"] or 0, proto) if orig and wide else orig
    back = other if values["nat_resp_port"] == row.resp_port or not other else None
    cells.append(escape(there or "-"))
    cells.append(escape(back or (text.endpoint(other, values["nat_resp_port"] or 0, proto) if other else "-")))
    return [*cells, text.service_of(row), values["nat_evidence"] or "-"]
