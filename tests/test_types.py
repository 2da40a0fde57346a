"""The stub is the contract of the extension module: it says what the module has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_stub_matches_the_module() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "conntrack_py._native"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert run.returncode == 0, run.stdout + run.stderr
