"""The colours: contrast by WCAG 2.2, and distance for three kinds of colour-blind readers."""

from __future__ import annotations

import itertools

import pytest

from conntrack_py.reporting.palette import DIRECTIONS, GROUNDS, TINTS, Scheme, tint

SCHEMES: tuple[Scheme, ...] = ("light", "dark")
#: Cones of linear RGB (Smith and Pokorny 1975, as Viénot, Brettel and Mollon 1999 have them), and back.
CONES = ((17.8824, 43.5161, 4.11935), (3.45565, 27.1554, 3.86714), (0.0299566, 0.184309, 1.46709))
BACK = (
    (0.0809444479, -0.130504409, 0.116721066),
    (-0.0102485335, 0.0540193266, -0.113614708),
    (-0.000365296938, -0.00412161469, 0.693511405),
)
#: The missing cone from the two others.
BLIND = {
    "protan": ((0.0, 2.02344, -2.52581), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "deutan": ((1.0, 0.0, 0.0), (0.494207, 0.0, 1.24827), (0.0, 0.0, 1.0)),
    "tritan": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (-0.395913, 0.801109, 0.0)),
}
Triple = tuple[float, float, float]


def linear(colour: str) -> Triple:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def luminance(colour: str) -> float:
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(colour: Triple) -> Triple:
    red, green, blue = (min(max(part, 0.0), 1.0) for part in colour)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def distance(one: str, other: str, kind: str | None) -> float:
    """CIE 1976."""
    ends = []
    for colour in (one, other):
        seen = linear(colour)
        if kind is not None:
            for matrix in (CONES, BLIND[kind], BACK):
                one_, two, three = (sum(a * b for a, b in zip(row, seen, strict=True)) for row in matrix)
                seen = one_, two, three
        ends.append(lab(seen))
    return float(sum((a - b) ** 2 for a, b in zip(*ends, strict=True)) ** 0.5)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_contrast(scheme: Scheme) -> None:
    ground = GROUNDS[scheme]
    for colours in DIRECTIONS[scheme].values():
        assert contrast(colours.fill, ground.ground) >= 3
        for behind in (ground.ground, ground.panel):
            assert contrast(colours.text, behind) >= 4.5
    for name in ("text", "faint", "alarm", "care"):
        for behind in (ground.ground, ground.panel):
            assert contrast(getattr(ground, name), behind) >= 4.5, name
    assert contrast(ground.evidence, ground.ground) >= 3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_on_tints(scheme: Scheme) -> None:
    for word in DIRECTIONS[scheme]:
        for step in range(1, len(TINTS) + 1):
            assert contrast(GROUNDS[scheme].text, tint(word, step, scheme)) >= 4.5, (word, step)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", [None, *BLIND])
def test_directions_stay_apart(scheme: Scheme, kind: str | None) -> None:
    fills = {word: colours.fill for word, colours in DIRECTIONS[scheme].items()}
    for one, other in itertools.combinations(fills, 2):
        assert distance(fills[one], fills[other], kind) >= 20, (one, other)
