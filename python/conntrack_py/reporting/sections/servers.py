"""Servers that initiate, each with a strip of its connections."""

from __future__ import annotations

from conntrack_py import text
from conntrack_py.analysis.servers import Initiative
from conntrack_py.reporting import marks
from conntrack_py.reporting.facts import Facts
from conntrack_py.reporting.sections.common import Section, to_words
from conntrack_py.reporting.words import ALARMS, MARKS

#: Initiatives that are shown with a strip, and in the folded list; calls below which one is folded.
_SERVERS, _FOLDED, _FEW = 8, 40, 5


def servers(facts: Facts) -> Section:
    """Servers that initiate, each with its strip."""
    found = facts.initiatives
    telling = [one for one in found if _is_telling(one)]
    shown, folded = telling[:_SERVERS], telling[_SERVERS:] + [one for one in found if not _is_telling(one)]
    rest = len(folded) - _FOLDED
    return {
        "shown": [_initiative(facts, one) for one in shown],
        "axis": marks.ticks(facts.axis),
        "folded": [_initiative(facts, one, bare=True) for one in folded[:_FOLDED]],
        "more": f"{len(folded):,} more: a few times, or inside the network",
        "rest": f"and {rest:,} more; conntrack-py summary --json has all" if rest > 0 else "",
    }


def _is_telling(one: Initiative) -> bool:
    held = set(one.marks)
    return "beacon" in held or bool(held & {"egress", "unanswered", "first"} and one.connections >= _FEW)


def _initiative(facts: Facts, one: Initiative, *, bare: bool = False) -> Section:
    named = [name for address in one.named if (name := facts.names_of.get(address))]
    to = f"{to_words(one)}{f' ({named[0]})' if named else ''}"
    words = [MARKS[mark] for mark in one.marks]
    made: Section = {
        "server": one.server,
        "server_name": facts.names_of.get(one.server, ""),
        "to": to,
        "service": one.service,
        "connections": f"{one.connections:,}",
        "words": ", ".join(words) or "inside the network",
    }
    if bare:
        return made
    colour = "egress" if "egress" in one.marks else "internal"
    offers = ", ".join(one.offers[:3])
    who = f"A server that offers {offers}" if offers else "A host that offers nothing"
    steps = f" every {text.span(round((one.period or 0) * 1e9))}" if one.period else ""
    even = f" ({one.score:.2f} even{', few calls: it may be chance' if one.even < 10 else ''})" if one.score else ""
    away = " calls out of the network" if "egress" in one.marks else " calls inside the network"
    picture = f"{one.server} to {to}: {text.counted(one.connections, 'connection')} over the time of the capture"
    return made | {
        "connections": text.counted(one.connections, "connection"),
        "marks": [{"words": MARKS[mark], "alarm": mark in ALARMS} for mark in one.marks],
        "strip": marks.strip(colour, one.times, one.histogram, facts.axis, picture),
        "sentence": f"{who}{away}{steps}{even}. If denied, it loses: {one.breaks}.",
    }
