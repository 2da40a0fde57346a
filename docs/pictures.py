"""Draw the pictures of README and documentation from the demo's capture: `python docs/pictures.py DEMO DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

import conntrack_py as ct

NAMES = ("matrix", "servers")


def main(demo: str, directory: str) -> None:
    """Write each picture as SVG."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    result = ct.track(demo)
    for name in NAMES:
        result.plot(name).save(target / f"{name}.svg")


if __name__ == "__main__":
    main(*sys.argv[1:])
