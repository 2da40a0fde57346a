"""Options that the commands share: the progress bar, its terminals and its delay."""

from __future__ import annotations

import io

import pytest

from conntrack_py.cli import options


@pytest.mark.parametrize(
    ("asked", "terminal", "delay"), [(True, False, 0.0), (True, True, 0.0), (None, True, 1.0), (None, False, None)]
)
def test_the_delay_of_the_bar(
    monkeypatch: pytest.MonkeyPatch, asked: bool | None, terminal: bool, delay: float | None
) -> None:
    """At once where it was asked for; else after a second, in a terminal."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(options.sys, "stderr", stream)
    delays = []

    class Bar(options.Bar):
        def __init__(self, delay: float) -> None:
            delays.append(delay)
            super().__init__(delay)

    monkeypatch.setattr(options, "Bar", Bar)
    with options.progress_of(asked) as tell:
        assert isinstance(tell, Bar) == (delay is not None)
    assert delays == ([] if delay is None else [delay])


def test_no_bar_unless_wanted() -> None:
    with options.progress_of(False) as tell:
        assert tell is None
