"""`report`: a page or a chart of captures or of a result."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conntrack_py.config import Config, checked
from conntrack_py.io.output import write_bytes
from conntrack_py.io.progress import Progress
from conntrack_py.io.source import Source
from conntrack_py.policy import Policy
from conntrack_py.policy.inventory import Inventory
from conntrack_py.policy.model import Ruleset
from conntrack_py.reporting.charts import Chart
from conntrack_py.reporting.charts import chart as chart_of
from conntrack_py.reporting.facts import Facts, Options
from conntrack_py.reporting.page import page
from conntrack_py.table import Anonymiser, ConnectionTable
from conntrack_py.track import TrackResult, track, track_with_names
from conntrack_py.where import condition


@dataclass(frozen=True, kw_only=True)
class Made:
    """A page or a chart, ready to be written.

    Attributes:
        result: The result that it is about.
        text: HTML, or the chart's SVG.
        chart: The chart; None for a page.
    """

    result: TrackResult
    text: str
    chart: Chart | None

    def data(self, format: str) -> bytes:
        """The file as bytes, of the format `html`, `svg` or `png`."""
        if format == "png" and self.chart is not None:
            return self.chart.png()
        return self.text.encode("utf-8", "surrogateescape")

    def save(self, path: str | os.PathLike[str], format: str) -> None:
        """Write the file; it appears under its name once it is complete."""
        write_bytes(path, self.data(format))


def report(
    source: TrackResult | Source | Iterable[Source],
    path: str | os.PathLike[str] | Any,
    *,
    config: Config | None = None,
    policy: Policy | None = None,
    groups: Ruleset | None = None,
    baseline: TrackResult | ConnectionTable | None = None,
    inventory: Inventory | None = None,
    where: str = "",
    title: str = "",
    top: int = 10,
    names: bool = True,
    chart: str | None = None,
    anonymiser: Anonymiser | None = None,
    progress: bool | Progress = False,
) -> TrackResult:
    """Write a report: one HTML page that loads nothing, or one of its pictures.

    Args:
        source: Result of `track`, or whatever `track` takes. Captures alone have names of hosts: they are in payloads.
        path: The file, `.html`, or with `chart` `.svg` or `.png` (extra `png`); or a text file object for HTML or SVG.
        config: The configuration, where captures are given.
        policy: A policy to judge the connections by, in a section of its own.
        groups: A policy whose groups name the parts of the network.
        baseline: Connections of an earlier time: what servers initiate is new where it lacks them.
        inventory: Names of hosts.
        where: A condition; the report is about the connections for which it holds.
        title: The heading of the page.
        top: Services and hosts to list, 1 to 100.
        names: Show the names that payloads had for hosts (DNS, TLS, HTTP), where captures are given.
        chart: The name of a picture: `answer`, `servers`, `matrix`, `volume`, `timeline` or `rules`.
        anonymiser: Names in place of all addresses; names of hosts and files are left out. A policy, groups and an
            inventory speak of addresses: none of them goes with it.
        progress: As for `track`.

    Returns:
        The result that the report is about.

    Raises:
        ValueError: The suffix fits neither a page nor a chart, `chart` is unknown, `top` is out of range, or an
            anonymiser meets a policy, groups or an inventory.
        WhereError: `where` is no condition.
        OSError: The system refused.
    """
    target: Any = path
    is_file = hasattr(target, "write")
    format = "" if is_file else _format(target, chart)
    made = drawn(
        source,
        chart,
        config=config,
        policy=policy,
        groups=groups,
        baseline=baseline,
        inventory=inventory,
        where=where,
        title=title,
        top=top,
        names=names,
        anonymiser=anonymiser,
        progress=progress,
    )
    if is_file:
        target.write(made.text)
    else:
        made.save(target, format)
    return made.result


def drawn(
    source: Any,
    chart: str | None,
    *,
    config: Config | None,
    baseline: TrackResult | ConnectionTable | None = None,
    inventory: Inventory | None = None,
    where: str = "",
    top: int = 10,
    names: bool = True,
    anonymiser: Anonymiser | None = None,
    progress: bool | Progress = False,
    **more: Any,
) -> Made:
    """The page, or the chart of that name; arguments as for `report`."""
    if not 1 <= top <= 100:
        raise ValueError(f"top: found {top}, expected 1 to 100")
    if anonymiser is not None:
        names = False
        told = {"policy": more.get("policy"), "groups": more.get("groups"), "inventory": inventory}
        for name in (name for name, one in told.items() if one is not None):
            raise ValueError(f"{name}: it speaks of addresses that the anonymiser hides; expected one of the two")
    result, found = _result(source, checked(config), names, progress)
    if where:
        result, found = _part(result, found, where)
    before = baseline.connections if isinstance(baseline, TrackResult) else baseline
    if anonymiser is not None:
        # The condition was about the addresses of the capture.
        result, found = result.anonymised(anonymiser), {}
        before = anonymiser.table(before) if before is not None else None
    options = Options(baseline=before, inventory=inventory or Inventory(), top=top, names=found, **more)
    facts = Facts(result, options)
    if chart is None:
        return Made(result=result, text=page(facts), chart=None)
    picture = chart_of(facts, chart)
    return Made(result=result, text=picture.svg, chart=picture)


def _part(result: TrackResult, names: Mapping[int, str], where: str) -> tuple[TrackResult, Mapping[int, str]]:
    """The connections for which a condition holds, and their names."""
    import numpy as np

    table = result.connections
    rows = np.flatnonzero(condition(where, table).mask(table))
    places = {int(row): place for place, row in enumerate(rows)}
    kept = {places[row]: name for row, name in names.items() if row in places}
    return dataclasses.replace(result, connections=table[rows]), kept


def plot(result: TrackResult, name: str) -> Chart:
    """A chart of a result, for notebooks and slides.

    Raises:
        ValueError: There is no chart of that name.
    """
    return chart_of(Facts(result, Options()), name)


def _format(path: str | os.PathLike[str], chart: str | None) -> str:
    name = os.fspath(path)
    suffix = os.path.splitext(name)[1].lower()
    expected = (".html", ".htm") if chart is None else (".svg", ".png")
    if suffix not in expected:
        hint = "" if suffix not in (".svg", ".png") else "; name a chart for a picture"
        raise ValueError(f"{name}: found the suffix {suffix!r}, expected {' or '.join(expected)}{hint}")
    return suffix[1:]


def _result(
    source: Any, config: Config, names: bool, progress: bool | Progress
) -> tuple[TrackResult, Mapping[int, str]]:
    if isinstance(source, TrackResult):
        return source, {}
    if not names:
        return track(source, config=config, progress=progress), {}
    return track_with_names(source, config, progress)
