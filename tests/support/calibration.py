"""Questions about connections without their first packets, and answers by evidence with 95 % intervals."""

from __future__ import annotations

import functools
import io
import math
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import conntrack_py as ct
from support.corpus import address, write_pcap
from support.midstream import Known, behead, known_connections, random_cuts

#: Packets cut from the beginning; None: a random number, so many times.
CUTS: tuple[int | None, ...] = (1, 2, 3, None)
SEEDS = 4


@dataclass(frozen=True)
class Answer:
    """The answer to one question."""

    capture: str
    cut: int | None
    evidence: str
    confidence: float
    right: bool
    flipped: bool
    first: tuple[int, int]  #: ports, of the first sender and of the other end
    proto: str


@dataclass
class Score:
    """Counts of right answers and of questions."""

    right: int = 0
    asked: int = 0
    captures: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def add(self, answer: Answer) -> None:
        self.right += answer.right
        self.asked += 1
        self.captures[answer.capture].append(answer.right)

    @property
    def share(self) -> float:
        """Micro: every question counts the same."""
        return self.right / self.asked if self.asked else 1.0

    @property
    def macro(self) -> float:
        """Macro: every capture counts the same."""
        shares = [sum(rights) / len(rights) for rights in self.captures.values()]
        return sum(shares) / len(shares) if shares else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share (Wilson 1927)."""
        if not self.asked:
            return 0.0, 1.0
        z, n, p = 1.96, self.asked, self.share
        middle, width = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (middle - width) / (1 + z * z / n), (middle + width) / (1 + z * z / n)


def scores(answers: list[Answer]) -> dict[str, Score]:
    """Scores by evidence, the most asked first."""
    found: dict[str, Score] = defaultdict(Score)
    for answer in answers:
        found[answer.evidence].add(answer)
    return dict(sorted(found.items(), key=lambda item: (-item[1].asked, item[0])))


def score(answers: list[Answer]) -> Score:
    """The score of all answers."""
    found = Score()
    for answer in answers:
        found.add(answer)
    return found


@functools.cache
def ask(proto: str, half: str, others: bool) -> tuple[Answer, ...]:
    """Answers for every known connection of one half and every cut."""
    return tuple(answer for known in known_connections(proto, half) for answer in _answers(known, others))


def _answers(known: Known, others: bool) -> Iterator[Answer]:
    for cut in CUTS:
        numbers = random_cuts(known, SEEDS) if cut is None else [cut] if cut < len(known.records) else []
        for number in numbers:
            if (answer := _ask(known, cut, number, others)) is not None:
                yield answer


def _ask(known: Known, cut: int | None, number: int, others: bool) -> Answer | None:
    beheaded = behead(known, number, others=others)
    # A pcap has one link type.
    linktype = known.capture.records[known.records[number]].linktype
    records = [record for record in beheaded.records if record.linktype == linktype]
    ends = {beheaded.orig, beheaded.resp}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        rows = ct.track(io.BytesIO(write_pcap(records))).connections
    for row in rows:
        orig = (address(row.orig_addr), row.orig_port)
        if row.proto == known.proto and {orig, (address(row.resp_addr), row.resp_port)} == ends:
            right = orig == known.orig
            ports = (row.resp_port, row.orig_port) if row.flipped else (row.orig_port, row.resp_port)
            confidence = round(row.confidence, 4)
            return Answer(known.capture.name, cut, row.evidence, confidence, right, row.flipped, ports, known.proto)
    return None
