"""Sections about trust: how sure initiators are, and what the capture is worth."""

from __future__ import annotations

from conntrack_py import text
from conntrack_py.reporting import marks
from conntrack_py.reporting.facts import Facts
from conntrack_py.reporting.sections.common import Section
from conntrack_py.reporting.words import EVIDENCE_MEANINGS
from conntrack_py.table import EVIDENCE


def evidence(facts: Facts) -> Section:
    """Connections by evidence."""
    found, whole = facts.summary.evidence, facts.summary.totals.connections
    most = max(found.by_word.values(), default=1)
    ranked = sorted(found.by_word.items(), key=lambda item: (-item[1], item[0]))
    sure = sum(number for word, number in ranked if _confidence(word) >= 0.9)
    return {
        "rows": [
            {
                "word": word,
                "meaning": EVIDENCE_MEANINGS[word],
                "connections": f"{number:,}",
                "bar": marks.bar([("evidence", number)], most),
                "share": text.share(number, whole),
            }
            for word, number in ranked
        ],
        "words": f"{sure:,} of {whole:,} connections ({text.share(sure, whole)}) have a confidence of 0.9 or more. "
        "In captures with a known initiator such answers were right in 99.8 % of cases. Rules are made of these alone.",
    }


def _confidence(word: str) -> float:
    # A float32 of 0.9 is a little less than 0.9.
    return EVIDENCE[word][0] + 1e-6


def capture(facts: Facts) -> Section:
    """The quality of the capture."""
    summary = facts.summary
    quality, found = summary.capture.quality, summary.capture
    lead = "; ".join(found.flaws)
    rows: list[tuple[str, str]] = [
        ("packets read", f"{found.packets:,}"),
        ("TCP connections of which only one end was captured", f"{quality.one_sided:,} of {quality.tcp_connections:,}"),
        ("packets that are second copies", f"{quality.duplicates:,} of {quality.compared:,}"),
        ("packets cut within their headers", f"{quality.cut_headers:,}"),
        ("packets cut short, counted in full", f"{found.snapped:,}"),
        ("fragments without ports", f"{quality.fragments_without_ports:,}"),
        ("handshakes stored in the wrong order", f"{quality.reordered:,}"),
        ("steps of the clock", f"{quality.clock_steps:,}"),
        ("ICMP errors, which initiate nothing and are counted nowhere else", f"{summary.icmp_errors:,}"),
        *((words, "") for words in found.skipped_words[:20]),
    ]
    return {
        "lead": f"{lead[0].upper()}{lead[1:]}."
        if lead
        else "Nothing stands out: both ends were captured, nothing twice, and the clock went forward.",
        "rows": rows,
    }
