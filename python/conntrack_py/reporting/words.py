"""Words of the page: meanings of directions, evidence and marks."""

from __future__ import annotations

from conntrack_py import text
from conntrack_py.table import EVIDENCE

DIRECTIONS = {
    "egress": "your hosts called outside",
    "ingress": "the outside called in",
    "internal": "your hosts among themselves",
    "transit": "outside hosts among themselves, passing by",
    "multicast": "to groups or to everybody",
}
_OBSERVED = {
    "syn": "the SYN that opened it was seen",
    "icmp_request": "the request was seen",
    "init": "the INIT that opened it was seen",
    "flow_state": "the flow log recorded its begin",
    "gateway": "the gateway that passed the opening says it",
    "first_packet": "the first sender seen",
    "unknown": "nothing says it: a guess",
    "scan": "a scan",
    "backscatter": "an answer to a forged packet",
}
#: Word of the `evidence` column → its meaning.
EVIDENCE_MEANINGS = {word: phrase or _OBSERVED[word] for word, (_, _, phrase) in EVIDENCE.items()}
#: Marks of findings in few words, and which of them are an alarm.
MARKS = {
    "beacon": "beacon",
    "unanswered": "never answered",
    "first": "first own initiative",
    "new_destination": "new destination",
    "egress": "leaves the network",
    "unsure": "in doubt: perhaps it answered",
    "poll": "a poll inside",
    "health_check": "a health check inside",
    "clock": "the clock (NTP)",
}
ALARMS = frozenset({"beacon", "unanswered"})


def hosts(number: int) -> str:
    """A number of hosts."""
    return text.counted(number, "host")
