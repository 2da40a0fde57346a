"""A pipe of packets that pass now: rows come as connections close, and time passes while the line is silent."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.packets import START, Packet, pcap_bytes, tcp, udp
from support.program import COMMAND

CLIENT, SERVER = "10.0.0.5", "203.0.113.80"
#: Bytes of a capture's header.
HEADER = 24
#: A time long ago, as packets have them.
OLD = 0.0


def now() -> float:
    """The wall clock's time, as packets have them."""
    return time.time() - START


def life(port: int, at: float) -> list[Packet]:
    """A connection from its SYN to the last acknowledgement."""
    steps = [
        (CLIENT, "S", 100, 0),
        (SERVER, "SA", 900, 101),
        (CLIENT, "A", 101, 901),
        (CLIENT, "FA", 101, 901),
        (SERVER, "FA", 901, 102),
        (CLIENT, "A", 102, 902),
    ]
    flags = {"S": 0x02, "SA": 0x12, "A": 0x10, "FA": 0x11}
    ends = {CLIENT: (CLIENT, port, SERVER, 443), SERVER: (SERVER, 443, CLIENT, port)}
    return [
        (at + 0.0001 * number, tcp(*ends[src], flags[kind], seq=seq, ack=ack))
        for number, (src, kind, seq, ack) in enumerate(steps)
    ]


class Line:
    """A program that reads a pipe."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._rest = b""

    def send(self, packets: list[Packet], *, header: bool = False) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(pcap_bytes(packets)[0 if header else HEADER :])
        self.process.stdin.flush()

    def line(self, within: float) -> dict[str, object] | None:
        """The next row, or None if none comes within so many seconds."""
        assert self.process.stdout is not None
        until = time.monotonic() + within
        while b"\n" not in self._rest:
            if not select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            assert more, "the program ended"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, object] = json.loads(line)
        return found


@contextmanager
def running(*options: str) -> Iterator[Line]:
    command = [*COMMAND, "track", "-", "-f", "jsonl", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield Line(process)
        finally:
            process.kill()


def test_a_close_is_a_line_within_a_second_on_an_idle_line() -> None:
    with running() as line:
        line.send([], header=True)
        line.send(life(40000, now()))
        assert line.line(20) is not None, "the program starts"
        waits = []
        for port in range(40001, 40021):
            begun = time.monotonic()
            line.send(life(port, now()))
            row = line.line(5)
            waits.append(time.monotonic() - begun)
            assert row is not None
            assert (row["orig_port"], row["end_reason"]) == (port, "closed")
        assert sorted(waits)[18] < 1


def test_time_passes_on_a_silent_line(tmp_path: Path) -> None:
    """A question without an answer: over after its timeout and 10 s, though nothing else comes."""
    config = tmp_path / "conntrack.toml"
    config.write_text("[timeouts]\nnf_conntrack_udp_timeout = 1\n")
    udp_1 = ("--config", str(config))
    question = udp(CLIENT, 5353, SERVER, 53)
    with running(*udp_1) as live, running(*udp_1, "--no-live") as stopped:
        for line in (live, stopped):
            line.send(life(40000, now() - 6), header=True)
            assert line.line(20) is not None, "the program starts"
            line.send([(now() - 6, question)])
        row = live.line(20)
        assert row is not None
        assert row["end_reason"] == "timeout"
        assert stopped.line(0.5) is None
    with running(*udp_1) as replay:
        replay.send([(OLD, question)], header=True)
        assert replay.line(4) is None, "a replay never ticks"
    with running(*udp_1, "--live") as old:
        old.send([(OLD, question)], header=True)
        row = old.line(25)
        assert row is not None
        assert row["end_reason"] == "timeout"


def test_packets_that_wait_at_the_signal_are_tracked() -> None:
    with running() as line:
        line.send(life(40000, now()), header=True)
        assert line.line(20) is not None
        for port in range(41000, 41060):
            line.send(life(port, now()))
        line.process.send_signal(signal.SIGTERM)
        assert line.process.stdout is not None
        assert line.process.wait(20) == 0
        assert line.process.stdout.read().count(b"\n") == 60


def test_gone_waits_for_the_entry() -> None:
    with running("--report", "gone") as line:
        line.send(life(40000, OLD), header=True)
        line.send([(float(at), udp(CLIENT, 1024 + at, SERVER, 53)) for at in (1, 60, 129)])
        early = line.line(2)
        assert early is not None
        assert early["proto"] == "udp"
        line.send([(float(at), udp(CLIENT, 1024 + at, SERVER, 53)) for at in (132, 133)])
        rows = [line.line(5), line.line(1)]
        assert "tcp" in {row["proto"] for row in rows if row is not None}
