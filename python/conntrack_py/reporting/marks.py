"""Pictures within the page, as SVG: bars, stacked bars, lanes of bars, strips of ticks.

Places across are percentages and heights are pixels, so that a picture fits any width and its text keeps its size. A
fill is an attribute as well as a class: a page without its style is still coloured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from conntrack_py import text
from conntrack_py.reporting.axis import Axis
from conntrack_py.reporting.palette import DIRECTIONS

#: Ticks of a strip that have a time of their own to read.
_NAMED = 60
_FILLS = {word: f"#{colours.fill}" for word, colours in DIRECTIONS["light"].items()} | {"evidence": "#51657A"}
_RECT = Markup('<rect class="{}" fill="{}" x="{}%" y="{}" width="{}%" height="{}"/>')
_PICTURE = Markup('<svg class="{}" width="100%" height="{}" {}>{}</svg>')
_HIDDEN = Markup('aria-hidden="true"')


def _rect(word: str, x: float, y: float, width: float, height: float) -> Markup:
    return _RECT.format(word, _FILLS[word], _number(x), _number(y), _number(width), _number(height))


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _label(sentence: str) -> Markup:
    return Markup('role="img" aria-label="{}"').format(sentence)


def bar(parts: Iterable[tuple[str, int]], most: int) -> Markup:
    """A bar of parts with colours, as long as its share of the largest one. The number stands beside it."""
    x, rects = 0.0, []
    for word, number in parts:
        width = 100 * number / max(most, 1)
        # Something is always seen of something.
        width = max(width, 0.6) if number else 0.0
        if width:
            rects.append(_rect(word, min(x, 99.4), 0, min(width, 100 - min(x, 99.4)), 10))
        x += width
    return _PICTURE.format("bar", 10, _HIDDEN, Markup("").join(rects))


def butterfly(word: str, left: int, right: int, most: int) -> Markup:
    """Two bars from the middle: what callers sent to the left, what answerers sent to the right."""
    half = 50 / max(most, 1)
    widths = [max(half * number, 0.3) if number else 0.0 for number in (left, right)]
    rects = [_rect(word, 50 - widths[0], 0, widths[0], 10), _rect(word, 50, 0, widths[1], 10)]
    axis = Markup('<rect class="axis" fill="#55606B" x="50%" y="0" width="1" height="10"/>')
    return _PICTURE.format("bar", 10, _HIDDEN, Markup("").join([*rects, axis]))


def shares(parts: Sequence[tuple[str, int]], sentence: str) -> Markup:
    """The whole as one bar of parts."""
    whole, x, rects = max(sum(number for _, number in parts), 1), 0.0, []
    for word, number in parts:
        width = 100 * number / whole
        rects.append(_rect(word, x, 0, width, 14))
        x += width
    return _PICTURE.format("shares", 14, _label(sentence), Markup("").join(rects))


def lane(word: str, counts: Sequence[int], height: int, sentence: str) -> Markup:
    """Bars of equal width, one for each step of time, on a scale of their own."""
    most, width = max([*counts, 1]), 100 / max(len(counts), 1)
    rects = []
    for place, number in enumerate(counts):
        if number:
            tall = max(1.0, number / most * (height - 1))
            rects.append(_rect(word, place * width, height - tall, max(width * 0.86, 0.3), tall))
    line = Markup('<rect class="axis" fill="#55606B" x="0" y="{}" width="100%" height="1"/>').format(height - 1)
    return _PICTURE.format("lane", height, _label(sentence), Markup("").join([*rects, line]))


def strip(word: str, times: Sequence[int], histogram: Sequence[int], axis: Axis, sentence: str) -> Markup:
    """Connections on the time axis of the capture: a tick each, or bars where there are many."""
    if histogram:
        return lane(word, histogram, 26, sentence)
    marks = []
    if len(times) <= _NAMED:
        tick = Markup('<rect class="{}" fill="{}" x="{}%" y="2" width="2" height="22"><title>{}</title></rect>')
        for at in times:
            place = min(axis.place(at), 99.6)
            marks.append(tick.format(word, _FILLS[word], _number(place), text.moment(at, "ms")))
    else:
        marks += [
            Markup('<rect class="{}" fill="{}" x="{}%" y="2" width="1.5" height="22"/>').format(
                word, _FILLS[word], _number(place)
            )
            for place in sorted({min(axis.place(at), 99.6) for at in times})
        ]
    line = Markup('<rect class="axis" fill="#55606B" x="0" y="25" width="100%" height="1"/>')
    return _PICTURE.format("strip", 26, _label(sentence), Markup("").join([*marks, line]))


def ticks(axis: Axis) -> Markup:
    """Labels of a time axis."""
    label = Markup('<text class="tick" fill="#55606B" font-size="11" x="{}%" y="11" text-anchor="middle">{}</text>')
    labels = [label.format(_number(place), words) for place, words in axis.ticks()]
    return _PICTURE.format("ticks", 14, _HIDDEN, Markup("").join(labels))
