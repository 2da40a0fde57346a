"""Colours of directions, the same in the page, in charts and, by hue, in the terminal.

Fills have a contrast of at least 3 to the ground, texts of at least 4.5 (WCAG 2.2, 1.4.11 and 1.4.3). The closest pair
of fills stays apart for colour-blind readers; a test computes all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scheme = Literal["light", "dark"]


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Colours of a direction in a scheme, as six hexadecimal digits."""

    fill: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Colours of a scheme that belong to no direction."""

    ground: str
    text: str
    faint: str
    line: str
    panel: str
    alarm: str
    care: str
    evidence: str


DIRECTIONS: dict[Scheme, dict[str, Colours]] = {
    "light": {
        "egress": Colours(fill="D55E00", text="A84700"),
        "ingress": Colours(fill="0072B2", text="00609A"),
        "internal": Colours(fill="009E73", text="00704F"),
        "transit": Colours(fill="9460E8", text="6F3FC4"),
        "multicast": Colours(fill="4F5963", text="4F5963"),
    },
    "dark": {
        "egress": Colours(fill="F28C38", text="F7A868"),
        "ingress": Colours(fill="4A90F0", text="85B6F7"),
        "internal": Colours(fill="45D6A8", text="5FDCB4"),
        "transit": Colours(fill="E0BCF8", text="E0BCF8"),
        "multicast": Colours(fill="7B858F", text="A3AFBB"),
    },
}
GROUNDS: dict[Scheme, Ground] = {
    "light": Ground(
        ground="FFFFFF",
        text="16202B",
        faint="55606B",
        line="D5DBE1",
        panel="F4F6F8",
        alarm="A8192B",
        care="8A5A00",
        evidence="51657A",
    ),
    "dark": Ground(
        ground="12181F",
        text="E6EBF0",
        faint="A3AFBB",
        line="33404D",
        panel="1A222B",
        alarm="FF8A94",
        care="F2C14E",
        evidence="8FA6BD",
    ),
}
#: Parts of a direction's colour in the tints of a matrix, from few connections to many.
TINTS = (0.12, 0.24, 0.36, 0.48, 0.60)
#: The same parts in the dark scheme are smaller, for the contrast of the text on them.
DARKER = 0.72


def tint(direction: str, step: int, scheme: Scheme = "light") -> str:
    """The mixture of a direction's colour and the ground, step 1 to 5, as six hexadecimal digits."""
    part = TINTS[step - 1] * (1.0 if scheme == "light" else DARKER)
    pairs = zip(_rgb(DIRECTIONS[scheme][direction].fill), _rgb(GROUNDS[scheme].ground), strict=True)
    return "".join(f"{round(part * colour + (1 - part) * ground):02X}" for colour, ground in pairs)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[:2], 16), int(colour[2:4], 16), int(colour[4:], 16)


def style() -> str:
    """The colours as custom properties of CSS, for both schemes and for the reader's choice."""
    light, dark = _properties("light"), _properties("dark")
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root:not([data-colours=light]) "
        f"{{ color-scheme: dark; {dark} }} }}\n"
        f"@media screen {{ :root[data-colours=dark] {{ color-scheme: dark; {dark} }} }}\n"
    )


def _properties(scheme: Scheme) -> str:
    ground = GROUNDS[scheme]
    found = {
        name: getattr(ground, name)
        for name in ("ground", "text", "faint", "line", "panel", "alarm", "care", "evidence")
    }
    for name, colours in DIRECTIONS[scheme].items():
        found |= {name: colours.fill, f"{name}-text": colours.text}
        found |= {f"{name}-{step}": tint(name, step, scheme) for step in range(1, len(TINTS) + 1)}
    return " ".join(f"--{name}: #{colour};" for name, colour in found.items())
