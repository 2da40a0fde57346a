"""The recipes of engines are run as they are printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from support import page_examples, spark_session
from support.program import ROOT


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "engine", ["dask", *(pytest.param(name, marks=pytest.mark.xdist_group("spark")) for name in ("ray", "spark"))]
)
def test_recipes(engine: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each module keeps its name, which is also that of its page."""
    if engine == "spark":
        spark_session.needs_java()
    else:
        pytest.importorskip(engine, reason=f"the extra `{engine}` is not installed")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setitem(os.environ, "PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    page = ROOT / "docs" / "how-to" / f"{engine}.md"
    for block, what, shown, printed in page_examples.run(page):
        assert page_examples.is_shown(shown, printed), f"{engine}.md:{block.line}: {what}\nprinted:\n{printed}"
