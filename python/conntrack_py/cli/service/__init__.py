"""A stream as a service: what it tells the service manager and the monitoring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from conntrack_py.cli.service.notify import Notifier
from conntrack_py.interfaces.live import Live
from conntrack_py.io.batch import PacketBatch
from conntrack_py.table import ConnectionTable
from conntrack_py.tracker import Tracker


class Service:
    """Tells the service manager, and the monitoring where it is wanted, how the stream is."""

    def __init__(self, metrics: str | None) -> None:
        """Take the address of the metrics."""
        self._notifier = Notifier.of_environment()
        self._metrics = None
        if metrics is not None:
            from conntrack_py.cli.service.metrics import Metrics

            self._metrics = Metrics(metrics)

    @contextmanager
    def running(self, tracker: Tracker, live: Live | None) -> Iterator[None]:
        """Serve within the block, whose begin is told as `READY=1`."""
        with ExitStack() as stack:
            if self._metrics is not None:
                stack.enter_context(self._metrics.served(tracker, live))
            self._notifier.ready()
            yield

    def turn(self, batch: PacketBatch, ended: ConnectionTable) -> None:
        """Note a batch and the connections that ended; the loop is alive."""
        self._notifier.alive()
        if self._metrics is not None:
            self._metrics.note(batch, ended)

    def stopping(self) -> None:
        """Tell that the stream ends."""
        self._notifier.stopping()
