"""Packets of interfaces, in network namespaces with real sockets (root; elsewhere these tests are skipped)."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import socket
import struct
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py.interfaces.filter import compile_filter
from support.network import HERE, THERE, Network, exchange, ip, network
from support.packets import SYN, tcp, udp

#: Seconds within which a packet has to come.
SOON = 5.0
#: Columns that tests look at.
NAMES = ("proto", "dport", "length", "vlan", "inner_vlan")


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as found:
        yield found


def ended(capture: ct.Live, *, config: ct.Config | None = None) -> tuple[ct.ConnectionTable, ct.Stats]:
    """The connections of what has passed so far."""
    capture.stop()
    tracker = ct.Tracker(config)
    for batch in capture:
        tracker.process(batch)
    return tracker.finish(), tracker.stats()


def frames(capture: ct.Live) -> list[dict[str, Any]]:
    """The columns of the packets that have passed so far, a row each."""
    capture.stop()
    rows: list[dict[str, Any]] = []
    for batch in capture:
        columns = [batch[name].tolist() for name in NAMES]
        rows += [dict(zip(NAMES, row, strict=True)) for row in zip(*columns, strict=True)]
    return rows


def keys(table: ct.ConnectionTable) -> list[tuple[Any, ...]]:
    return [(row.proto, row.orig_addr, row.resp_addr, row.resp_port, row.end_reason) for row in table]


def test_connections_of_real_sockets(net: Network) -> None:
    before = time.time_ns()
    with net.server() as server, ct.live("here0") as capture:
        closed, reset = exchange(server), exchange(server, reset=True)
        table, stats = ended(capture)
        assert (capture.dropped, stats.skipped.get("kernel_drops")) == (0, None)
    assert {row.orig_port: row.end_reason for row in table if row.proto == "tcp"} == {closed: "closed", reset: "reset"}
    for row in table:
        if row.proto == "tcp":
            assert (row.evidence, row.orig_addr, row.resp_addr, row.resp_port) == ("syn", HERE, THERE, 443)
            assert before < row.start < row.end < time.time_ns()
            assert (row.orig_bytes, row.resp_bytes) == (8, 6)


def test_nothing_from_before_and_nothing_from_after(net: Network) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.sendto(b"before", (THERE, 7))
        for interface in ("here0", "any"):
            with ct.live(interface, filter="udp") as capture:
                line.sendto(b"within", (THERE, 8))
                capture.stop()
                first = next(capture)
                line.sendto(b"after", (THERE, 9))
                ports = [port for batch in (first, *capture) for port in batch["dport"].tolist()]
            assert ports == [8], interface


def test_the_loopback_shows_each_packet_once(net: Network) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for interface in ("lo", "any"):
            with ct.live(interface, filter="udp") as capture:
                for port in range(9, 19):
                    line.sendto(b"x", ("127.0.0.1", port))
                assert [row["dport"] for row in frames(capture)] == [*range(9, 19)], interface


def test_tags_that_the_kernel_strips_are_there(net: Network) -> None:
    frame = udp("10.7.0.1", 5, "10.7.0.2", 6, b"x")
    one = frame[:12] + struct.pack(">HH", 0x8100, 0x2005) + frame[12:]
    two = frame[:12] + struct.pack(">HHHH", 0x88A8, 9, 0x8100, 5) + frame[12:]
    with net.sender() as sender:
        for interface in ("here0", "any"):
            with ct.live(interface, filter="udp port 6") as capture:
                for sent in (frame, one, two):
                    sender.send(sent)
                rows = frames(capture)
            tags = [(row["vlan"], row["inner_vlan"], row["dport"], row["length"]) for row in rows]
            assert tags == [(0, 0, 6, 29), (5, 0, 6, 29), (9, 5, 6, 29)], interface


def test_checksums_that_the_card_would_make(net: Network) -> None:
    """A veth computes none: what the kernel sends is not finished, and what came wrong is wrong."""
    config = ct.Config(checksum=True)
    good = tcp("10.7.0.1", 5, HERE, 6, SYN)
    bad = good[:-3] + b"\x55" + good[-2:]
    with net.server() as server, net.sender() as sender, ct.live("here0", filter="tcp") as capture:
        exchange(server)
        sender.send(bad)
        table, stats = ended(capture, config=config)
    row = next(row for row in table if row.resp_port == 443)
    assert (row.state, row.end_reason, row.orig_bytes, row.resp_bytes) == ("TIME_WAIT", "closed", 8, 6)
    assert [row.state for row in table if row.resp_port == 6] in ([], ["NONE"]), (
        "the wrong one is none of the gateway's"
    )
    assert stats.packets > 8


def test_segments_larger_than_the_mtu(net: Network) -> None:
    data = bytes(3_000_000)
    with net.server() as server, ct.live("here0", filter="tcp", buffer_size=64 << 20) as capture:
        with socket.create_connection((THERE, 443)) as client:
            served, _ = server.accept()
            with served:
                served.settimeout(SOON)
                sent = received = 0
                client.setblocking(False)
                while received < len(data):
                    if sent < len(data):
                        with suppress(BlockingIOError):
                            sent += client.send(data[sent:])
                    received += len(served.recv(1 << 20))
        capture.stop()
        tracker, longest = ct.Tracker(), 0
        for batch in capture:
            tracker.process(batch)
            longest = max(longest, int(batch["length"].max()))
        row = next(iter(tracker.finish()))
        assert capture.dropped == 0
    assert longest > 1500, "the test sees no large segment"
    assert (row.orig_bytes, row.state) == (len(data), "TIME_WAIT")


def test_filters_are_in_the_kernel(net: Network, tmp_path: Path) -> None:
    compiled = tmp_path / "filter"
    program = compile_filter("dst port 8", is_cooked=False, snaplen=60)
    compiled.write_text(f"{len(program)}\n" + "".join(f"{' '.join(map(str, one))}\n" for one in program))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for filter in ("udp dst port 8", "not port 7 and host 10.9.0.2", f"@{compiled}", program):
            with ct.live("here0", filter=filter) as capture:
                for port in (7, 8):
                    line.sendto(b"x" * 100, (THERE, port))
                assert {row["dport"] for row in frames(capture) if row["proto"] == 17} == {8}, filter
    with pytest.raises(ValueError, match="found https"):
        ct.live("here0", filter="port https")
    with pytest.raises(OSError, match="the kernel refuses the filter"):
        ct.live("here0", filter=[(0x05, 0, 0, 99)])
    with pytest.raises(ValueError, match="any has several"):
        ct.live("any", filter=program)


def test_tcpdump_compiles_filters(net: Network, tmp_path: Path) -> None:
    made = subprocess.run(["tcpdump", "-ddd", "-i", "here0", "udp port 8"], capture_output=True)
    if made.returncode != 0:
        pytest.skip("needs tcpdump")
    compiled = tmp_path / "filter"
    compiled.write_bytes(made.stdout)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line, ct.live("here0", filter=f"@{compiled}") as capture:
        for port in (7, 8):
            line.sendto(b"x", (THERE, port))
        assert [row["dport"] for row in frames(capture)] == [8]


def test_a_snaplen_cuts(net: Network) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line,
        ct.live("here0", filter="udp", snaplen=60) as capture,
    ):
        line.sendto(bytes(500), (THERE, 7))
        table, stats = ended(capture)
    assert stats.snapped == 1
    assert [row.orig_bytes for row in table if row.resp_port == 7] == [500]


def test_what_the_kernel_drops_is_in_the_account(net: Network) -> None:
    frame = udp("10.7.0.1", 5, "10.7.0.2", 6, bytes(1000))
    with net.sender() as sender, ct.live("here0", buffer_size=1, filter="udp") as capture:
        for _ in range(500):
            sender.send(frame)
        table, stats = ended(capture)
        assert capture.dropped > 0
        assert stats.packets + capture.dropped == 500
        assert capture._counted(stats).skipped["kernel_drops"] == capture.dropped
        dropped = capture.dropped
    assert capture.dropped == dropped, "closed, it is what there was by then"
    assert [row.orig_pkts for row in table] == [stats.packets]


def test_several_interfaces_are_merged_by_time(net: Network) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line, ct.live("lo", "here0", filter="udp") as capture:
        for port in range(1000, 1400):
            line.sendto(b"x", (("127.0.0.1", THERE)[port % 2], port))
            time.sleep(0.0005)
        assert [row["dport"] for row in frames(capture) if row["proto"] == 17] == [*range(1000, 1400)]


def test_a_packet_comes_while_others_are_silent(net: Network) -> None:
    for interfaces in (("here0",), ("here0", "lo")):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line, ct.live(*interfaces, filter="udp") as capture:
            waits = []
            for _ in range(10):
                begun = time.monotonic()
                line.sendto(b"x", (THERE, 7))
                assert len(next(capture)) >= 1
                waits.append(time.monotonic() - begun)
            assert sorted(waits)[8] < 0.5


def test_interfaces_without_a_link_layer(net: Network) -> None:
    with open("/dev/net/tun", "r+b", buffering=0) as tun:
        # TUNSETIFF, with IFF_TUN and IFF_NO_PI.
        fcntl.ioctl(tun, 0x400454CA, struct.pack("@16sH22x", b"tun9", 0x1001))
        ip("link", "set", "tun9", "up")
        with ct.live("tun9", filter="udp port 6") as capture:
            tun.write(udp("10.7.0.1", 5, "10.7.0.2", 6, b"x")[14:])
            tun.write(udp("10.7.0.1", 5, "10.7.0.2", 7, b"x")[14:])
            assert [(row["dport"], row["length"]) for row in frames(capture)] == [(6, 29)]
            assert capture.dropped == 0


def test_an_interface_goes_down_and_comes_up(net: Network) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line, ct.live("here0", filter="udp") as capture:
        batches = capture._live()
        ip("link", "set", "here0", "down")
        with pytest.warns(ct.CaptureWarning, match="here0 is down; its packets come once it is up again"):
            next(batches)
        ip("link", "set", "here0", "up")
        until = time.monotonic() + SOON
        found = 0
        while not found and time.monotonic() < until:
            try:
                line.sendto(b"x", (THERE, 7))
            except OSError:
                time.sleep(0.05)
            found = len(next(batches))
        assert found


def test_an_interface_goes_away(net: Network) -> None:
    for name in ("one0", "two0"):
        ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
        ip("link", "set", name, "up")
        ip("link", "set", f"{name}p", "up")
    with ct.live("one0", "two0") as capture:
        batches = capture._live()
        ip("link", "del", "one0")
        with pytest.warns(ct.CaptureWarning, match="one0 is gone"):
            next(batch for batch in batches if len(capture._rings) == 1)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.bind(("two0", 0))
            sender.send(udp("10.7.0.1", 5, "10.7.0.2", 6, b"x"))
        until = time.monotonic() + SOON
        found: Counter[int] = Counter()
        while not found[6] and time.monotonic() < until:
            found.update(next(batches)["dport"].tolist())
        assert found[6] == 1, "the other goes on"
        ip("link", "del", "two0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ct.CaptureWarning)
            with pytest.raises(OSError, match="no interface is left") as caught:
                list(capture)
    assert caught.value.errno == errno.ENODEV


def test_no_such_interface(net: Network) -> None:
    with pytest.raises(OSError, match="no such interface; there are: lo, here0, any") as caught:
        ct.live("here0", "eth99")
    assert caught.value.filename == "eth99"


def test_no_right_to_capture(net: Network) -> None:
    code = "import conntrack_py as ct; ct.live('here0')"
    # The Python of the tests may be where only root may go: capabilities are dropped, not the user.
    command = ["capsh", "--drop=cap_net_raw", "--", "-c", f'exec "$0" -c "{code}"']
    try:
        done = subprocess.run([*command, sys.executable], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs capsh (libcap)")
    assert "PermissionError" in done.stderr, done.stderr
    for word in ("CAP_NET_RAW", "sudo", "setcap cap_net_raw+ep ", "tcpdump -U -w - -i here0 | conntrack-py track -"):
        assert word in done.stderr


def test_other_systems_are_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(
        OSError, match=r"for Linux; or let another program capture: tcpdump -U -w - -i en0 \| conntrack-py"
    ):
        ct.live("en0")


@pytest.mark.parametrize(
    ("interfaces", "options", "message"),
    [
        ((), {}, "interfaces: found none"),
        (("",), {}, "interfaces: found none"),
        (("lo", "lo"), {}, "found one twice"),
        (("lo", "any"), {}, "any is all of them"),
        (("lo",), {"snaplen": 0}, "snaplen: found 0"),
        (("lo",), {"buffer_size": 1 << 33}, "buffer_size: found 8,589,934,592"),
        (tuple(f"e{number}" for number in range(300)), {}, "found 300, expected at most 256"),
    ],
)
def test_refused_arguments(interfaces: tuple[str, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ct.live(*interfaces, **options)


def test_sockets_stay_in_their_process(net: Network) -> None:
    with ct.live("lo") as capture:
        assert repr(capture) == "<Live: lo, 0 dropped>"
        with pytest.raises(TypeError, match="call live in the other process"):
            pickle.dumps(capture)
    assert repr(capture) == "<Live: lo (closed), 0 dropped>"
    assert list(capture) == []


@contextmanager
def sending(net: Network, rate: int, seconds: float) -> Iterator[list[int]]:
    """A process beside that sends packets at a rate; how many it has sent, afterwards."""
    code = f"""
import socket, sys, time
sys.path[:0] = {os.sys.path!r}
from support.packets import udp
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
line.bind(("there0", 0))
frames = [udp(f"10.7.{{n >> 8}}.{{n & 255}}", 5, "10.8.0.1", 6, bytes(60)) for n in range(1000)]
begun, sent = time.monotonic(), 0
while sent < {int(rate * seconds)}:
    for frame in frames[:100]:
        line.send(frame)
    sent += 100
    time.sleep(max(0.0, begun + sent / {rate} - time.monotonic()))
print(sent)
"""
    with net.beside():
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    with process:
        sent: list[int] = []
        yield sent
        assert process.stdout is not None
        sent.append(int(process.stdout.read()))


def test_no_packet_is_lost_at_a_rate(net: Network) -> None:
    """20,000 packets a second, which a loaded machine of two processors sends; docs/how-to/live.md has measurements."""
    tracker = ct.Tracker(report="closed")
    with ct.live("here0", filter="udp port 6") as capture:
        with sending(net, 20_000, 2) as sent:
            until = time.monotonic() + 60
            while tracker.stats().packets < 40_000 and time.monotonic() < until:
                tracker.process(next(capture))
        assert (tracker.stats().packets, capture.dropped) == (sent[0], 0)
