"""The tutorial is a notebook: every cell runs, and the file has no outputs of somebody's machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def test_the_notebook_is_sound_and_without_outputs() -> None:
    raw = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    nbformat.validate(raw)
    assert [cell["source"] for cell in raw["cells"] if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.timeout(120)
def test_every_cell_runs(demo_pcap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel is this interpreter, whatever kernels a person has installed.
    kernels = tmp_path / "kernels" / "python3"
    kernels.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "tests", "language": "python"}))
    monkeypatch.setattr(KernelSpecManager, "kernel_dirs", [str(kernels.parent)])
    (tmp_path / "demo.pcap").write_bytes(demo_pcap.read_bytes())
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown: list[dict[str, Any]] = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if output["output_type"] == "error"]
    text = json.dumps(shown)
    assert "image/svg+xml" in text, "the picture"
    assert "10.0.20.10 opens" in text, "a server that initiates"
    assert "allowed, " in text
