"""The originator of connections picked up midstream, against the confidence stated for each rung.

Rungs and confidences were chosen on one half of the captures (`reported_captures.txt` lists the other). The table of
the reported half is printed at the end of the session and stands in `docs/evidence.md`.
"""

from __future__ import annotations

import dataclasses
import io

import pytest

import conntrack_py as ct
from support.calibration import Answer, Score, ask, score, scores
from support.corpus import MORE, ROOT, SUMMARY, address, missing, require, write_pcap
from support.midstream import known_connections

#: From here on a rung is sure; up to `GUESS` it is a guess.
SURE, GUESS = 0.9, 0.6


@pytest.fixture(autouse=True)
def _captures() -> None:
    require()
    if not MORE.exists():
        missing("the further captures are not at ../shared/more beside the project")


def answers(half: str, others: bool) -> list[Answer]:
    return [*ask("tcp", half, others), *ask("udp", half, others)]


def confidence(word: str) -> float:
    stated: float = ct.table.EVIDENCE[word][0]
    return stated


def cell(found: Score | None) -> str:
    """Right of asked, the 95 % interval, and the share if every capture counts the same."""
    if found is None:
        return "| | |"
    low, high = found.interval
    return f"| {found.right} of {found.asked} | {100 * low:.1f} to {100 * high:.1f} | {100 * found.macro:.1f}"


def table() -> list[str]:
    """The table of the reported half."""
    alone, among = scores(answers("reported", False)), scores(answers("reported", True))
    words = sorted({*alone, *among}, key=lambda word: (-round(confidence(word), 4), word))
    return [f"| `{word}` | {confidence(word):.2f} {cell(alone.get(word))} {cell(among.get(word))} |" for word in words]


def test_the_page_has_the_table() -> None:
    lines = table()
    SUMMARY.extend(["", "evidence on the reported half: stated, alone, with the other connections", *lines])
    page = (ROOT / "docs" / "evidence.md").read_text()
    absent = [line for line in lines if line not in page]
    assert absent == [], "docs/evidence.md lacks these lines:\n" + "\n".join(absent)


@pytest.mark.parametrize("others", [False, True], ids=["alone", "with the other connections"])
@pytest.mark.parametrize("half", ["chosen", "reported"])
def test_no_rung_states_more_than_was_measured(half: str, others: bool) -> None:
    for word, found in scores(answers(half, others)).items():
        # A guess between two ends cannot state less than a half.
        assert confidence(word) <= max(found.share, 0.5) + 1e-6, (word, found.right, found.asked)
        if found.share < 0.998:
            assert confidence(word) < SURE, (word, found.right, found.asked)


def test_few_cases_state_little() -> None:
    """Fewer than 60 cases in all captures state at most 0.8, unless a specification proves the rung."""
    # `seen_before` has cases of its own, below.
    # `logged` is measured on flow logs made of captures (tests/flows/test_emulated.py).
    proved = {"logged", "related", "multicast", "refused", "icmp_reply", "init_ack", "seen_before"}
    every = scores(
        [answer for half in ("chosen", "reported") for others in (False, True) for answer in answers(half, others)]
    )
    for word, (stated, certainty, _) in ct.table.EVIDENCE.items():
        cases = every[word].asked if word in every else 0
        if certainty != "observed" and word not in proved and cases < 60:
            assert stated <= 0.8 + 1e-6, (word, cases)


@pytest.mark.parametrize(
    ("half", "others", "least"),
    [(half, others, 0.995 if others else 0.99) for half in ("chosen", "reported") for others in (False, True)],
)
def test_what_is_stated_is_right(half: str, others: bool, least: float) -> None:
    asked = answers(half, others)
    cut = [answer for answer in asked if answer.cut is None]
    firm = score([answer for answer in cut if answer.confidence > GUESS])
    sure = score([answer for answer in asked if answer.confidence >= SURE])
    every = score(cut)
    SUMMARY.append(
        f"midstream, {half}, {'with the others' if others else 'alone'}: random cut {100 * every.share:.2f} % right of "
        f"{every.asked} (macro {100 * every.macro:.2f} % of {len(every.captures)} captures); above {GUESS}: "
        f"{100 * firm.share:.2f} % of {firm.asked}; from {SURE}: {100 * sure.share:.2f} % of {sure.asked}"
    )
    assert every.share >= 0.96
    assert firm.share >= least
    assert sure.share >= 0.998


@pytest.mark.filterwarnings("ignore::conntrack_py.CaptureWarning")
def test_seen_before() -> None:
    """The second record of a connection that a timeout cut in two: six days of silence are put into its middle."""
    found = Score()
    for half in ("chosen", "reported"):
        for known in known_connections("tcp", half):
            records = [known.capture.records[number] for number in known.records]
            middle = len(records) // 2
            later = [dataclasses.replace(record, ts=record.ts + 6 * 86_400 * 10**9) for record in records[middle:]]
            rows = list(ct.track(io.BytesIO(write_pcap([*records[:middle], *later]))).connections)
            if rows[-1].evidence == "seen_before":
                right = (address(rows[-1].orig_addr), rows[-1].orig_port) == known.orig
                found.add(Answer(known.capture.name, None, "seen_before", 0, right, False, (0, 0), "tcp"))
    low, high = found.interval
    interval = f"{100 * low:.1f} to {100 * high:.1f} %"
    SUMMARY.append(f"seen before: right in {found.right} of {found.asked} ({interval})")
    assert found.asked >= 60
    assert low >= confidence("seen_before")


def test_silence() -> None:
    """The first sender after silence, of flows in which a DNS message names the asker."""
    found = Score()
    for half in ("chosen", "reported"):
        for known in known_connections("udp", half):
            if known.after_silence and 53 in (known.orig[1], known.resp[1]):
                first = known.capture.records[known.records[0]].data
                at = first.find(known.orig[1].to_bytes(2) + known.resp[1].to_bytes(2))
                found.add(Answer(known.capture.name, None, "after_silence", 0, at >= 0, False, (0, 0), "udp"))
    low, high = found.interval
    interval = f"{100 * low:.1f} to {100 * high:.1f} %"
    SUMMARY.append(f"after silence: the first sender asked in {found.right} of {found.asked} ({interval})")
    assert low >= confidence("after_silence")
