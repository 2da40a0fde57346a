"""Charts for slides and notebooks: SVG of 960 pixels on a white ground, with a title and a line of what was read.

Colours are those of the light scheme, and texts are texts. `.save("x.png")` needs the extra `png` and a font.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from conntrack_py import __version__, text
from conntrack_py.exceptions import ConntrackError
from conntrack_py.io.output import write_text
from conntrack_py.policy.model import port_text
from conntrack_py.reporting.axis import Axis
from conntrack_py.reporting.facts import Facts, short
from conntrack_py.reporting.palette import DIRECTIONS, GROUNDS, tint
from conntrack_py.reporting.sections.traffic import step_of
from conntrack_py.reporting.words import MARKS, hosts

_WIDTH, _EDGE = 960, 24
_GROUND = GROUNDS["light"]
_LEFT = 400
#: Scale of a PNG.
_SCALE = 2
#: Rows of the charts of servers and rules.
_ROWS = 10


@dataclass(frozen=True)
class Chart:
    """A chart as SVG.

    Attributes:
        name: Its name, a key of `CHARTS`.
        svg: The picture.
    """

    name: str
    svg: str

    def _repr_svg_(self) -> str:
        """The picture, for notebooks."""
        return self.svg

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the chart as SVG, or as PNG where the suffix says so.

        Raises:
            ValueError: The suffix is neither `.svg` nor `.png`.
            ConntrackError: PNG needs the extra `png` and a font, one of which is missing.
            OSError: The system refused.
        """
        suffix = os.path.splitext(os.fspath(path))[1].lower()
        if suffix == ".svg":
            write_text(path, self.svg)
        elif suffix == ".png":
            from conntrack_py.io.output import write_bytes

            write_bytes(path, self.png())
        else:
            raise ValueError(f"{os.fspath(path)}: found the suffix {suffix!r}, expected .svg or .png")

    def png(self) -> bytes:
        """The chart as PNG, at twice the size.

        Raises:
            ConntrackError: The extra `png` is not installed, or no font is found.
        """
        try:
            import resvg_py  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise ConntrackError("PNG needs the extra png: pip install 'conntrack_py[png]'") from error
        if not _has_font():
            # resvg leaves texts out without a word.
            raise ConntrackError(
                "PNG needs a font, and none was found: install one (fonts-dejavu-core), or write SVG instead"
            )
        drawn: bytes = bytes(resvg_py.svg_to_bytes(svg_string=self.svg, zoom=_SCALE))
        return drawn

    def __repr__(self) -> str:
        """The name and the size."""
        return f"<Chart {self.name}: {len(self.svg):,} bytes of SVG>"


def _has_font() -> bool:
    home = os.path.expanduser("~")
    for root in ("/usr/share/fonts", "/usr/local/share/fonts", f"{home}/.fonts", f"{home}/.local/share/fonts"):
        for _, _, files in os.walk(root):
            if any(name.lower().endswith((".ttf", ".otf", ".ttc")) for name in files):
                return True
    return False


class _Canvas:
    """Elements of a chart, drawn from the top down."""

    def __init__(self, facts: Facts, title: str) -> None:
        self.parts: list[str] = []
        self.y = 76.0
        self._title = title
        capture = facts.summary.capture
        when = f"{text.moment(capture.first, 's')} UTC" if capture.first is not None else ""
        span = text.span(capture.last - capture.first) if capture.first is not None and capture.last is not None else ""
        named = [*facts.sources[:1], when, span, f"conntrack_py {__version__}"]
        self._foot = " · ".join(word for word in named if word)

    def text(
        self, x: float, y: float, words: str, *, size: int = 14, colour: str = _GROUND.text, more: str = ""
    ) -> None:
        """Add a text."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="#{colour}"{more}>{escape(words)}</text>')

    def rect(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Add a rectangle."""
        self.parts.append(
            f'<rect x="{round(x, 2):g}" y="{round(y, 2):g}" width="{round(width, 2):g}" '
            f'height="{round(height, 2):g}" fill="#{colour}"/>'
        )

    def line(self, x: float, y: float, width: float) -> None:
        """Add a hairline."""
        self.rect(x, y, width, 1, _GROUND.faint)

    def svg(self) -> str:
        """The whole picture."""
        height = self.y + 44
        self.text(_EDGE, height - 16, self._foot, size=12, colour=_GROUND.faint)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:g}" '
            f'viewBox="0 0 {_WIDTH} {height:g}" role="img" font-family="DejaVu Sans, system-ui, sans-serif">'
            f"<title>{escape(self._title)}</title>"
            f'<rect width="100%" height="100%" fill="#{_GROUND.ground}"/>'
            f'<text x="{_EDGE}" y="42" font-size="21" fill="#{_GROUND.text}">{escape(self._title)}</text>'
            + "".join(self.parts)
            + "</svg>\n"
        )


def _fill(word: str) -> str:
    return DIRECTIONS["light"][word].fill


def _ticks(canvas: _Canvas, axis: Axis, x: float, width: float) -> None:
    for place, label in axis.ticks():
        canvas.text(
            x + place / 100 * width, canvas.y + 16, label, size=12, colour=_GROUND.faint, more=' text-anchor="middle"'
        )
    canvas.y += 24


def _answer(facts: Facts) -> _Canvas:
    canvas = _Canvas(facts, f"Who initiated {text.counted(facts.summary.totals.connections, 'connection')}")
    whole, x = max(facts.summary.totals.connections, 1), float(_EDGE)
    for word, sums in facts.summary.directions.items():
        width = (_WIDTH - 2 * _EDGE) * sums.connections / whole
        canvas.rect(x, canvas.y, width, 28, _fill(word))
        x += width
    canvas.y += 60
    for word, sums in facts.summary.directions.items():
        canvas.rect(_EDGE, canvas.y - 12, 12, 12, _fill(word))
        canvas.text(_EDGE + 22, canvas.y, word, more=' font-weight="bold"')
        canvas.text(150, canvas.y, f"{sums.connections:,} ({text.share(sums.connections, whole)})")
        canvas.text(
            330,
            canvas.y,
            f"callers sent {text.size(sums.orig_bytes)}, got {text.size(sums.resp_bytes)}",
            colour=_GROUND.faint,
        )
        canvas.y += 26
    return canvas


def _servers(facts: Facts) -> _Canvas:
    canvas = _Canvas(facts, "Servers that initiate: each tick is a connection that the host opened")
    found, width = facts.initiatives, _WIDTH - _LEFT - _EDGE
    if not found:
        canvas.text(_EDGE, canvas.y, "No server opened a connection, and nobody called in even steps.")
    for one in found[:_ROWS]:
        to = ", ".join(one.named) if one.destinations <= 1 else hosts(one.destinations)
        canvas.text(_EDGE, canvas.y + 14, short(f"{one.server} → {to}")[:46], more=' font-weight="bold"')
        words = [one.service, text.counted(one.connections, "connection"), *(MARKS[mark] for mark in one.marks[:1])]
        canvas.text(_EDGE, canvas.y + 32, " · ".join(words), size=12, colour=_GROUND.faint)
        colour = _fill("egress" if "egress" in one.marks else "internal")
        if one.histogram:
            _bars(canvas, one.histogram, _LEFT, canvas.y + 4, width, 30, colour)
        for at in one.times:
            canvas.rect(_LEFT + facts.axis.place(at) / 100 * (width - 2), canvas.y + 6, 2, 26, colour)
        canvas.line(_LEFT, canvas.y + 35, width)
        canvas.y += 50
    _ticks(canvas, facts.axis, _LEFT, width)
    if len(found) > _ROWS:
        canvas.text(_EDGE, canvas.y, f"and {len(found) - _ROWS:,} more", size=12, colour=_GROUND.faint)
    return canvas


def _bars(
    canvas: _Canvas, counts: tuple[int, ...] | list[int], x: float, y: float, width: float, height: float, colour: str
) -> None:
    most, step = max([*counts, 1]), width / max(len(counts), 1)
    for place, number in enumerate(counts):
        if number:
            tall = max(1.0, number / most * height)
            canvas.rect(x + place * step, y + height - tall, max(step * 0.86, 0.5), tall, colour)


def _matrix(facts: Facts) -> _Canvas:
    canvas = _Canvas(facts, "Who calls whom: connections opened by the row to the column")
    found = facts.matrix
    rows = [name for name in found.parts if found.calls[name]]
    columns = [name for name in found.parts if found.called[name]]
    most = max((cell.connections for cell in found.cells.values()), default=1)
    width = (_WIDTH - 2 * _EDGE - 190) / max(len(columns), 1)
    for place, name in enumerate(columns):
        canvas.text(
            _EDGE + 190 + (place + 0.5) * width, canvas.y + 10, name[: int(width / 7.2)], size=12, colour=_GROUND.faint,
            more=' text-anchor="middle"',
        )  # fmt: skip
    canvas.y += 20
    for name in rows:
        canvas.text(_EDGE, canvas.y + 24, name[:24], more=' font-weight="bold"')
        for place, other in enumerate(columns):
            cell, x = found.cells.get((name, other)), _EDGE + 190 + place * width
            if cell is None:
                continue
            if cell.answered:
                canvas.rect(x + 1, canvas.y + 1, width - 2, 36, tint(cell.direction, step_of(cell.connections, most)))
            else:
                canvas.parts.append(
                    f'<rect x="{x + 2:g}" y="{canvas.y + 2:g}" width="{width - 4:g}" height="34" fill="none" '
                    f'stroke="#{_fill(cell.direction)}" stroke-width="2"/>'
                )
            canvas.text(x + width / 2, canvas.y + 24, f"{cell.connections:,}", more=' text-anchor="middle"')
        canvas.y += 38
    canvas.y += 22
    x = float(_EDGE)
    for word in dict.fromkeys(cell.direction for cell in found.cells.values()):
        canvas.rect(x, canvas.y - 11, 12, 12, _fill(word))
        canvas.text(x + 18, canvas.y, word, size=12)
        x += 40 + 8 * len(word)
    canvas.text(
        x + 10, canvas.y, "deeper: more (by powers of ten) · outlined: never answered", size=12, colour=_GROUND.faint
    )
    return canvas


def _volume(facts: Facts) -> _Canvas:
    canvas = _Canvas(facts, "Volume is not direction: bytes by who opened the connection")
    sums = facts.summary.directions
    most = max((max(one.orig_bytes, one.resp_bytes) for one in sums.values()), default=1)
    middle, half = 520.0, 250.0
    canvas.text(middle - 8, canvas.y, "callers sent", size=12, colour=_GROUND.faint, more=' text-anchor="end"')
    canvas.text(middle + 8, canvas.y, "callers got", size=12, colour=_GROUND.faint)
    canvas.y += 14
    for word, one in sums.items():
        canvas.text(_EDGE, canvas.y + 18, word, more=' font-weight="bold"')
        left, right = half * one.orig_bytes / max(most, 1), half * one.resp_bytes / max(most, 1)
        canvas.rect(middle - left, canvas.y + 4, left, 18, _fill(word))
        canvas.rect(middle, canvas.y + 4, right, 18, _fill(word))
        canvas.text(middle - left - 8, canvas.y + 18, text.size(one.orig_bytes), size=12, more=' text-anchor="end"')
        canvas.text(middle + right + 8, canvas.y + 18, text.size(one.resp_bytes), size=12)
        canvas.y += 34
    return canvas


def _timeline(facts: Facts) -> _Canvas:
    found = facts.bins
    if found is None:
        return _nothing(facts, "When connections were opened")
    canvas = _Canvas(facts, f"When connections were opened: a bar is {text.span(found.length)}")
    width, number = _WIDTH - 190 - _EDGE, len(next(iter(found.counts.values())))
    for word, counts in found.counts.items():
        canvas.text(_EDGE, canvas.y + 26, word, more=' font-weight="bold"')
        canvas.text(_EDGE, canvas.y + 44, f"{sum(counts):,}, at most {max(counts):,}", size=12, colour=_GROUND.faint)
        _bars(canvas, counts, 190, canvas.y, width, 46, _fill(word))
        canvas.line(190, canvas.y + 46, width)
        canvas.y += 62
    _ticks(canvas, Axis(found.begin, found.begin + number * found.length), 190, width)
    return canvas


def _rules(facts: Facts) -> _Canvas:
    found = facts.uses
    canvas = _Canvas(facts, f"The least rules: {facts.rules:,}, those with the most hits first")
    most = max((one.connections for one in found), default=1)
    for one in found[:_ROWS]:
        rule, way = one.numbered.rule, "→" if one.numbered.side == "egress" else "←"
        ports = ", ".join(map(port_text, rule.ports[:3]))
        service = f"{ports}/{rule.proto}" if ports else rule.proto
        words = f"{short(one.numbered.group)} {way} {one.in_words or ', '.join(rule.peers[:2])}"
        canvas.text(_EDGE, canvas.y + 14, words[:58])
        canvas.text(_LEFT + 60, canvas.y + 14, service[:18], more=' font-family="DejaVu Sans Mono, monospace"')
        x, whole = 620.0, _WIDTH - 620 - _EDGE - 70
        for word, number in one.directions.items():
            canvas.rect(x, canvas.y + 3, whole * number / most, 14, _fill(word))
            x += whole * number / most
        canvas.text(x + 8, canvas.y + 15, f"{one.connections:,}", size=12)
        canvas.y += 28
    if len(found) > _ROWS:
        canvas.text(_EDGE, canvas.y + 14, f"and {len(found) - _ROWS:,} more", size=12, colour=_GROUND.faint)
        canvas.y += 20
    return canvas


def _nothing(facts: Facts, title: str) -> _Canvas:
    canvas = _Canvas(facts, title)
    canvas.text(_EDGE, canvas.y, "Nobody initiated a connection in this capture.")
    return canvas


#: Charts by name.
CHARTS: dict[str, Callable[[Facts], _Canvas]] = {
    "answer": _answer,
    "servers": _servers,
    "matrix": _matrix,
    "volume": _volume,
    "timeline": _timeline,
    "rules": _rules,
}


def chart(facts: Facts, name: str) -> Chart:
    """A chart of these facts.

    Raises:
        ValueError: There is no chart of that name.
    """
    if name not in CHARTS:
        raise ValueError(f"chart: found {name!r}, expected one of {', '.join(CHARTS)}")
    empty = not facts.summary.totals.connections
    canvas = _nothing(facts, "Who initiated") if empty else CHARTS[name](facts)
    return Chart(name, canvas.svg())
