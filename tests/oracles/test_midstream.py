"""The originator of connections picked up midstream: known connections, tracked again without their first packets.

The table that is printed at the end of the session is the one of `docs/evidence.md`.
"""

from __future__ import annotations

import io
import random
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest

import conntrack_py as ct
from support import midstream
from support.corpus import SUMMARY, address, require, write_pcap
from support.midstream import Beheaded, Known

#: Packets cut from the beginning; None: a random number.
CUTS = (1, 2, 3, None)
#: Random cuts for each connection.
SEEDS = 10
#: From here on we call ourselves sure.
SURE = 0.9


@dataclass
class Score:
    """Counts of right answers and of questions."""

    right: int = 0
    asked: int = 0

    def add(self, right: bool) -> None:
        self.right += right
        self.asked += 1

    @property
    def share(self) -> float:
        return self.right / self.asked if self.asked else 1.0


@dataclass
class Scores:
    """The scores of one way to ask."""

    by_cut: dict[int | None, Score] = field(default_factory=lambda: defaultdict(Score))
    by_evidence: dict[str, Score] = field(default_factory=lambda: defaultdict(Score))
    sure: Score = field(default_factory=Score)

    @property
    def mean(self) -> float:
        """Every kind of cut counts the same."""
        return sum(score.share for score in self.by_cut.values()) / len(self.by_cut)


def track(beheaded: Beheaded) -> ct.TrackResult:
    """Track what is left; a pcap has one link type, and so has every connection."""
    linktypes = {record.linktype for record in beheaded.records}
    assert len(linktypes) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        return ct.track(io.BytesIO(write_pcap(beheaded.records)), labels=True)


def rows_of(result: ct.TrackResult, beheaded: Beheaded) -> list[tuple[int, Any]]:
    """The rows of the connection that was beheaded, with their numbers."""
    ends = {beheaded.orig, beheaded.resp}
    return [
        (number, row)
        for number, row in enumerate(result.connections)
        if row.proto == "tcp"
        and {(address(row.orig_addr), row.orig_port), (address(row.resp_addr), row.resp_port)} == ends
    ]


def check_labels(result: ct.TrackResult, number: int, row: Any) -> None:
    """Labels speak of the same ends as the row, also those of packets before the answer was known."""
    assert result.labels is not None
    mine = result.labels[result.labels["connection"] == number]
    assert (mine["reply"].sum(), (~mine["reply"]).sum()) == (row.resp_pkts, row.orig_pkts)
    assert row.history.startswith("^") == row.flipped
    letters = row.history.removeprefix("^")
    assert any(map(str.isupper, letters)) <= (row.orig_pkts > 0)
    assert any(map(str.islower, letters)) <= (row.resp_pkts > 0)


def cuts_of(known: Known, cut: int | None, hidden: bool) -> list[int]:
    """Numbers of packets to drop, one for each question."""
    if cut is not None:
        return [cut] if cut < len(known.records) else []
    name = f"{known.capture.name} {known.orig} {known.resp} {hidden}"
    return [random.Random(f"{name} {seed}").randrange(1, len(known.records)) for seed in range(SEEDS)]


def ask(*, others: bool, hidden: bool) -> Scores:
    """Ask for every connection and every cut."""
    scores = Scores()
    for known in midstream.known_connections():
        for cut in CUTS:
            for seed, dropped in enumerate(cuts_of(known, cut, hidden)):
                ports = random.Random(f"{known.orig} {known.resp} {cut} {seed}") if hidden else None
                beheaded = midstream.behead(known, dropped, others=others, ports=ports)
                result = track(beheaded)
                for number, row in rows_of(result, beheaded)[:1]:
                    right = (address(row.orig_addr), row.orig_port) == beheaded.orig
                    scores.by_cut[cut].add(right)
                    scores.by_evidence[row.evidence].add(right)
                    if row.confidence >= SURE:
                        scores.sure.add(right)
                    if not others:
                        check_labels(result, number, row)
    return scores


def report(name: str, scores: Scores) -> None:
    """Lines for the end of the session."""
    cuts = ", ".join(f"{cut or 'random'} {100 * score.share:.1f}" for cut, score in scores.by_cut.items())
    SUMMARY.append(
        f"beheaded, {name}: {100 * scores.mean:.2f} % right (dropped {cuts}); "
        f"sure {scores.sure.asked}, right {100 * scores.sure.share:.2f} %"
    )
    for evidence, score in sorted(scores.by_evidence.items(), key=lambda item: -item[1].asked):
        SUMMARY.append(f"    {evidence:<17} {score.asked:>5} asked, {100 * score.share:5.1f} % right")


@pytest.mark.parametrize(
    ("name", "others", "hidden", "least"),
    [
        # What is left of the hundredth: data connections of FTP, from one ephemeral port to another.
        ("alone", False, False, 0.99),
        ("with the other connections", True, False, 0.997),
        ("alone, ports hidden", False, True, 0.9),
        ("with the other connections, ports hidden", True, True, 0.9),
    ],
)
def test_beheaded(name: str, others: bool, hidden: bool, least: float) -> None:
    require()
    scores = ask(others=others, hidden=hidden)
    report(name, scores)
    assert scores.mean >= least
    assert scores.sure.share >= 0.995


def test_the_confidence_of_each_rung_is_borne_out() -> None:
    """No kind of evidence is right less often than its confidence says, as far as so few connections can tell."""
    require()
    confidences: dict[str, float] = {}
    scores: dict[str, Score] = defaultdict(Score)
    for known in midstream.known_connections():
        for dropped in cuts_of(known, None, False):
            beheaded = midstream.behead(known, dropped, others=False, ports=None)
            for _, row in rows_of(track(beheaded), beheaded)[:1]:
                confidences[row.evidence] = row.confidence
                scores[row.evidence].add((address(row.orig_addr), row.orig_port) == beheaded.orig)
    for evidence, score in scores.items():
        # Three standard errors of so many questions, were they independent.
        p = confidences[evidence]
        assert score.share >= p - 3 * (p * (1 - p) / score.asked) ** 0.5 - 0.02, (evidence, score)
