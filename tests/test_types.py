"""The stub is the contract of the extension module: it says what the module has."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from support import corpus


def test_stub_matches_the_module() -> None:
    if importlib.util.find_spec("mypy") is None:
        corpus.missing("mypy is not installed; the extra `dev` has it")
    run = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "conntrack_py._native"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert run.returncode == 0, run.stdout + run.stderr
