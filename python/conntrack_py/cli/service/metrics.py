"""Metrics of a stream for Prometheus, served over HTTP.

The loop of packets writes numbers once in `PERIOD`; a scrape reads them from a thread of its own, and waits for nothing
that the loop holds. No label has an address: labels have few values, whoever sends the packets.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import click

from conntrack_py.interfaces.live import Live
from conntrack_py.io.batch import PacketBatch
from conntrack_py.table import ConnectionTable
from conntrack_py.tracker import TableFill, Tracker

if TYPE_CHECKING:
    from prometheus_client.core import Metric

#: Seconds between two looks at the numbers.
PERIOD = 1.0
#: Seconds after which a loop that has not turned is not healthy.
STUCK = 30.0
#: Seconds for which a client may be silent.
_PATIENCE = 10
_LOOPBACK = "127.0.0.1"
_PREFIX = "conntrack_py"


def address_of(text: str) -> tuple[str, int]:
    """The host and the port of `PORT`, `HOST:PORT` or `[HOST]:PORT`.

    Raises:
        click.UsageError: The text is none.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else _LOOPBACK
    if not host or not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 0xFFFF:
        raise click.UsageError(
            f"--metrics: found {text!r}, expected HOST:PORT, or a port of {_LOOPBACK}; 0.0.0.0 is every address."
        )
    return host, int(port)


@dataclass
class _Numbers:
    """Numbers for a scrape."""

    packets: int = 0
    bytes: int = 0
    fill: TableFill | None = None
    evicted: int = 0
    kernel_drops: int = 0
    after_close: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    begun: dict[tuple[str, ...], int] = field(default_factory=dict)
    ended: dict[tuple[str, ...], int] = field(default_factory=dict)
    #: Capture time of the last packet, nanoseconds; None before the first.
    last: int | None = None


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    #: A second program on the port is an error, and no race.
    allow_reuse_port = False

    def server_bind(self) -> None:
        """Bind without asking for the host's name, which may take a while."""
        from socketserver import TCPServer

        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that went away is no event of the stream."""


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Metrics:
    """Numbers of a stream, collected by the official client library."""

    def __init__(self, address: str) -> None:
        """Check the address, and that the library is there."""
        self._host, self._port = address_of(address)
        try:
            import prometheus_client  # noqa: F401
        except ImportError as error:
            raise click.ClickException(
                "--metrics needs the package prometheus-client: pip install 'conntrack_py[metrics]'"
            ) from error
        self._numbers = _Numbers()
        self._ended: Counter[tuple[str, ...]] = Counter()
        self._last: int | None = None
        self._due = 0.0
        self._turned = time.monotonic()
        self._tracker: Tracker | None = None
        self._live: Live | None = None

    @contextmanager
    def served(self, tracker: Tracker, live: Live | None) -> Iterator[None]:
        """Serve within the block."""
        import socket

        self._tracker, self._live = tracker, live
        tracker._native.count_begun()
        self._look()
        try:
            family = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0][0]
            kind = type("_Bound", (_Server,), {"address_family": family})
            server = kind((self._host, self._port), _Handler)
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise click.ClickException(f"--metrics {where}: {error.strerror or error}") from error
        with server:
            server.set_app(self._app())
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True, name="metrics")
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def note(self, batch: PacketBatch, ended: ConnectionTable) -> None:
        """Note a batch and the connections that ended, and look at the tracker once in a while."""
        if len(batch):
            self._last = int(batch.timestamps[-1].astype("i8"))
        if len(ended):
            columns = (ended[name].tolist() for name in ("direction", "evidence", "end_reason"))
            self._ended.update(zip(*columns, strict=True))
        now = self._turned = time.monotonic()
        if now >= self._due:
            self._due = now + PERIOD
            self._look()

    def _look(self) -> None:
        tracker = self._tracker
        assert tracker is not None
        stats = tracker.stats()
        self._numbers = _Numbers(
            packets=stats.packets,
            bytes=stats.bytes,
            fill=tracker.fill,
            evicted=stats.evicted,
            kernel_drops=0 if self._live is None else self._live.dropped,
            after_close=stats.after_close,
            skipped=dict(stats.skipped),
            begun={(direction, evidence): count for direction, evidence, count in tracker._native.begun()},
            ended=dict(self._ended),
            last=self._last,
        )

    def _app(self) -> Callable[..., Iterable[bytes]]:
        from prometheus_client import CollectorRegistry, make_wsgi_app

        registry = CollectorRegistry()
        registry.register(self)
        metrics = make_wsgi_app(registry)

        def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            if environ.get("PATH_INFO") != "/healthz":
                found: Iterable[bytes] = metrics(environ, start)
                return found
            still = time.monotonic() - self._turned
            is_well = still < STUCK
            start("200 OK" if is_well else "503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"ok\n" if is_well else f"no turn for {still:.0f} s\n".encode()]

        return app

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, for the client library."""
        numbers = self._numbers
        alive, most, table, limit = (0, None, 0, None) if numbers.fill is None else numbers.fill[:4]
        yield _counter("packets", "Packets read.", [((), numbers.packets)])
        yield _counter("bytes", "Bytes of these packets on the wire.", [((), numbers.bytes)])
        yield _gauge("connections", "Live connections.", alive)
        labels = ("direction", "evidence")
        yield _counter("connections_begun", "Connections that began.", numbers.begun.items(), labels)
        yield _counter("connections_ended", "Rows written.", numbers.ended.items(), (*labels, "reason"))
        yield _counter("evicted", "Connections dropped because the table was full.", [((), numbers.evicted)])
        yield _counter("after_close", "Packets of connections after their row.", [((), numbers.after_close)])
        skipped = [((reason,), count) for reason, count in numbers.skipped.items()]
        yield _counter("skipped", "Packets in no connection, and damage.", skipped, ("reason",))
        yield _counter("kernel_drops", "Packets that the kernel dropped.", [((), numbers.kernel_drops)])
        if numbers.last is not None:
            behind = max(0.0, (time.time_ns() - numbers.last) / 1e9)
            yield _gauge("seconds_behind", "Time since the capture time of the last packet.", behind)
        yield _gauge("table_bytes", "Memory of live connections.", table)
        if (memory := _resident()) is not None:
            yield _gauge("resident_memory_bytes", "Memory of the process.", memory)
        for name, taken, bound in (("max_connections", alive, most), ("memory_limit", table, limit)):
            if bound is not None:
                yield _gauge(f"table_fill_{name}", f"Share of {name} in use, from 0 to 1.", taken / bound)


def _counter(
    name: str, text: str, samples: Iterable[tuple[tuple[str, ...], int]], labels: Sequence[str] = ()
) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    metric = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
    for values, count in samples:
        metric.add_metric(values, count)
    return metric


def _gauge(name: str, text: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _resident() -> int | None:
    """Bytes of memory of this process that are in RAM; None where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        # The largest so far, in bytes on macOS.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
