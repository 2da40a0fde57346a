"""The head of the page and the answer: what has to be known by who reads no further."""

from __future__ import annotations

from conntrack_py import text
from conntrack_py.reporting import marks
from conntrack_py.reporting.facts import Facts, short
from conntrack_py.reporting.sections.common import Section, to_words
from conntrack_py.reporting.words import DIRECTIONS, hosts
from conntrack_py.summaries import Totals

#: Networks of the configuration that are named.
_NETWORKS = 12


def head(facts: Facts) -> Section:
    """Captures, their time, and the networks whose view it is."""
    capture, config = facts.summary.capture, facts.result.config
    local = [str(network) for network in config.local]
    more = f", and {len(local) - _NETWORKS:,} more" if len(local) > _NETWORKS else ""
    sources = facts.sources[:3]
    others = f" and {len(facts.sources) - 3:,} more files" if len(facts.sources) > 3 else ""
    time, span = "no packet has a time", ""
    if capture.first is not None and capture.last is not None:
        span = text.span(capture.last - capture.first)
        time = f"{text.moment(capture.first, 's')} to {text.moment(capture.last, 's')} UTC ({span})"
    number = len(facts.columns.traffic.addresses)
    return {
        "sources": (", ".join(sources) + others) or "a capture",
        "time": time,
        "span": span or "this time",
        "read": f"{text.counted(capture.packets, 'packet')}, {text.size(capture.bytes)}",
        "hosts": f"{number:,} address{'' if number == 1 else 'es'}",
        "local": ", ".join(local[:_NETWORKS]) + more,
    }


def care(facts: Facts) -> list[str]:
    """Flaws of the capture that may mislead, in sentences."""
    capture = facts.summary.capture
    found = [f"{capture.loss} of the capture was not used."] if capture.loss else []
    if capture.skipped_files:
        found.append(f"{text.counted(len(capture.skipped_files), 'file')} could not be read.")
    found += [f"{line}." for line in facts.result.stats.quality.warnings(capture.packets)]
    if facts.summary.totals.connections and facts.suggested:
        found += [f"The rules know no zones: {short(note)}." for note in facts.notes]
    return [line[0].upper() + line[1:] for line in found]


def answer(facts: Facts) -> Section:
    """The four sentences for who reads no further."""
    summary = facts.summary
    whole = summary.totals.connections
    if not whole:
        errors = f"; {text.counted(summary.icmp_errors, 'ICMP error')}" if summary.icmp_errors else ""
        return {"lead": f"Nobody initiated a connection in this capture{errors}.", "bar": None}
    parts = [(word, sums.connections) for word, sums in summary.directions.items()]
    words = [f"{text.share(number, whole)} {_LEADS[word]}" for word, number in parts]
    joined = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    sentence = f"{text.counted(whole, 'connection')} by direction: " + ", ".join(
        f"{word} {number:,}" for word, number in parts
    )
    return {
        "lead": f"Of {text.counted(whole, 'connection')}, {joined}.",
        "bar": marks.shares(parts, sentence),
        "tiles": [_tile(word, sums, whole) for word, sums in summary.directions.items()],
        "cards": _cards(facts),
    }


_LEADS = {
    "egress": "were opened from the inside to the outside",
    "ingress": "from the outside to the inside",
    "internal": "between your own hosts",
    "transit": "between hosts outside",
    "multicast": "to groups",
}


def _tile(word: str, sums: Totals, whole: int) -> Section:
    return {
        "word": word,
        "connections": f"{sums.connections:,}",
        "share": text.share(sums.connections, whole),
        "meaning": DIRECTIONS[word],
        "sent": text.size(sums.orig_bytes),
        "got": text.size(sums.resp_bytes),
        "guesses": f"{sums.unsure:,} of them by guess" if sums.unsure else "",
    }


def _cards(facts: Facts) -> list[Section]:
    """Cards with the next steps."""
    summary, found = facts.summary, []
    servers = facts.initiatives
    beacons = [one for one in servers if "beacon" in one.marks]
    if servers:
        callers = hosts(len({one.server for one in servers}))
        words = f"{text.counted(len(servers), 'service')} called by {callers} that should answer."
        if beacons:
            first = beacons[0]
            sure = "" if first.even >= 10 else ", perhaps"
            words = (
                f"{text.counted(len(beacons), 'beacon')}{sure}: {first.server} calls {to_words(first)} every "
                f"{text.span(round((first.period or 0) * 1e9))}."
            )
        number = text.counted(len(servers), "thing") + (
            " that servers initiate" if len(servers) != 1 else " that a server initiates"
        )
        found.append(_card(number, words, "servers", "See them", bool(beacons)))
    else:
        found.append(
            _card("No server initiates", "Hosts that answer opened nothing themselves.", "servers", "See how", False)
        )
    if facts.vain:
        worst = facts.vain[0]
        tried = hosts(worst.hosts) if worst.hosts >= worst.services else text.counted(worst.services, "service")
        words = f"{worst.caller} tried {tried} without an answer within {text.span(worst.last - worst.first)}."
        found.append(_card(f"{text.counted(len(facts.vain), 'caller')} in vain", words, "vain", "See them", True))
    rules = facts.rules
    if rules:
        report = facts.suggested.report
        kept = report.kept if report else 0
        words = (
            f"They allow {kept:,} of {summary.totals.connections:,} connections, and nothing else in their direction."
        )
        found.append(
            _card(
                f"{text.counted(rules, 'rule')} {'are' if rules != 1 else 'is'} enough",
                words,
                "rules",
                "See them",
                False,
            )
        )
    evidence = summary.evidence
    unsure = evidence.unsure
    title = (
        "All initiators are known"
        if not unsure
        else f"{text.counted(unsure, 'initiator')} {'is a guess' if unsure == 1 else 'are guesses'}"
    )
    words = f"{text.counted(evidence.seen, 'opening')} seen, {evidence.deduced + evidence.first_packet:,} inferred."
    found.append(_card(title, words, "evidence", "See why", False))
    return found


def _card(head: str, words: str, section: str, link: str, alarm: bool) -> Section:
    return {"head": head, "words": words, "section": section, "link": link, "alarm": alarm}
