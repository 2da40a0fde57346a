"""The page: one HTML file that loads nothing, is complete without a script, and is readable without a style.

Everything from captures, files and policies goes through autoescape. The content policy allows the one style and the
one script by their hashes, so that no `style` attribute is there either.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from conntrack_py import __version__, text
from conntrack_py.reporting import palette
from conntrack_py.reporting.facts import Facts, short
from conntrack_py.reporting.sections import EMPTY, SECTIONS
from conntrack_py.reporting.sections.common import breakable
from conntrack_py.reporting.words import DIRECTIONS

#: Sections in the navigation.
_NAMES = {
    "answer": "Answer",
    "servers": "Servers that initiate",
    "matrix": "Who calls whom",
    "volume": "Volume",
    "time": "When",
    "initiators": "Initiators",
    "behind": "Behind the gateway",
    "rules": "Least rules",
    "policy": "Policy",
    "both": "Why not both ways",
    "evidence": "How sure",
    "capture": "Capture",
}
_TITLE = "Who initiated what"


def page(facts: Facts) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("conntrack_py.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    environment.globals["breakable"] = breakable
    sources: tuple[str, ...] = ("style.css", "script.js")
    style, script = (environment.loader.get_source(environment, name)[0] for name in sources)  # type: ignore[union-attr]
    style = _squeezed(palette.style() + _tints() + style)
    full = bool(facts.summary.totals.connections)
    values: dict[str, Any] = dict.fromkeys(SECTIONS)
    values |= {name: SECTIONS[name](facts) for name in (SECTIONS if full else EMPTY)}
    values["head"]["made"] = _made()
    from markupsafe import Markup

    return environment.get_template("page.html").render(
        title=short(facts.options.title) or _TITLE,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        full=full,
        sections=_sections(values, full),
        words=DIRECTIONS.items(),
        **values,
    )


def _sections(values: dict[str, Any], full: bool) -> list[tuple[str, str]]:
    absent = {name for key, name in (("check", "policy"), ("both", "both"), ("behind", "behind")) if not values[key]}
    shown = _NAMES if full else ("answer", "capture")
    return [(name, _NAMES[name]) for name in shown if name not in absent]


def _tints() -> str:
    """Cells of the matrix by direction and step."""
    return "".join(
        f".cell.{word}.t{step} {{ background: var(--{word}-{step}); }}\n"
        for word in palette.DIRECTIONS["light"]
        for step in range(1, len(palette.TINTS) + 1)
    )


def _squeezed(style: str) -> str:
    return "\n".join(line.strip() for line in style.splitlines() if line.strip())


def _hash(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _made() -> str:
    """The day on which the page was made, where SOURCE_DATE_EPOCH says it (reproducible-builds.org); else nothing."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return f"{text.moment(int(epoch) * 10**9, 's')} UTC" if epoch.isdecimal() and len(epoch) < 11 else ""
