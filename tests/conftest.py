"""Shared by all Python tests."""

from __future__ import annotations

import corpus
import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the numbers that the tests gathered."""
    for line in corpus.SUMMARY:
        terminalreporter.write_line(line)
