"""A result in a notebook: totals, directions, when connections were opened, and the next calls.

Without a script, without classes that a notebook may have, and with colours that are readable on a light and on a dark
ground.
"""

from __future__ import annotations

from markupsafe import Markup

from conntrack_py import text
from conntrack_py.reporting import marks
from conntrack_py.reporting.facts import Facts, Options
from conntrack_py.track import TrackResult

_ROW = Markup(
    '<tr><td style="text-align:left"><b>{}</b></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>'
    '<td style="width:45%">{}</td></tr>'
)
_PAGE = Markup(
    "<div><p><b>{}</b> in {}{}</p>"
    '<table style="width:100%"><thead><tr><th style="text-align:left">direction</th><th>connections</th><th>share</th>'
    "<th>callers sent</th><th>got</th><th>when they were opened</th></tr></thead><tbody>{}</tbody></table>"
    "<p>{} {}</p><p>Next: <code>result.plot(&quot;matrix&quot;)</code>, "
    "<code>ct.report(result, &quot;report.html&quot;)</code></p></div>"
)


def html(result: TrackResult) -> str:
    """The result as HTML, below 60 kB."""
    facts = Facts(result, Options())
    summary = facts.summary
    whole, capture = summary.totals.connections, summary.capture
    when = ""
    if capture.first is not None and capture.last is not None:
        when = f", {text.moment(capture.first, 's')} UTC, {text.span(capture.last - capture.first)}"
    counts = facts.bins.counts if facts.bins is not None else {}
    rows = [
        _ROW.format(
            word,
            f"{sums.connections:,}",
            text.share(sums.connections, whole),
            text.size(sums.orig_bytes),
            text.size(sums.resp_bytes),
            marks.lane(word, counts.get(word, []), 24, f"{word} over the time of the capture"),
        )
        for word, sums in summary.directions.items()
    ]
    servers = facts.initiatives
    told = f"Servers initiate to {text.counted(len(servers), 'service')}." if servers else "No server initiates."
    evidence = summary.evidence
    inferred = evidence.deduced + evidence.first_packet
    sure = f"{evidence.seen:,} openings were seen, {inferred:,} inferred, {evidence.unsure:,} guessed."
    connections = text.counted(whole + summary.icmp_errors, "connection")
    return str(
        _PAGE.format(connections, text.counted(capture.packets, "packet"), when, Markup("").join(rows), told, sure)
    )
