"""Progress of a run: when the bar is shown, and who is told."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from conntrack_py.io import progress


@pytest.mark.parametrize(("delay", "shown_at"), [(0.0, 100.0), (1.0, 101.0)])
def test_the_delay(monkeypatch: pytest.MonkeyPatch, delay: float, shown_at: float) -> None:
    """A run that ends before it shows nothing."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    bar = progress.Bar(delay) if delay else progress.Bar()
    shown = []
    with bar:
        for clock.now in (100.0, 100.999, 101.0, 101.5):
            bar(10, 100, 3)
            shown.append(bar._task is not None)
            assert bar._progress.live.is_started == shown[-1]
    assert shown == [at >= shown_at for at in (100.0, 100.999, 101.0, 101.5)]
    assert not bar._progress.live.is_started


def test_the_figures() -> None:
    with progress.Bar() as bar:
        bar(10, None, 3)
        bar(20, 100, 7)
        (task,) = bar._progress.tasks
        assert (task.completed, task.total, task.fields["packets"]) == (20, 100, 7)


def test_who_is_told() -> None:
    def tell(done: int, total: int | None, packets: int) -> None:
        """Nothing."""

    with ExitStack() as stack:
        assert progress.observer(tell, stack) is tell
        assert progress.observer(False, stack) is None
        assert isinstance(progress.observer(True, stack), progress.Bar)
