"""Captures that URLs name: the answers of local files, and errors with the URL and the byte."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from support.packets import download, evenly, pcap_bytes
from support.program import run

fsspec = pytest.importorskip("fsspec", reason="the extra `remote` is not installed")
pytest.importorskip("aiohttp", reason="the extra `remote` is not installed")


class Server(http.server.ThreadingHTTPServer):
    """Serves bytes by name, with ranges, and fails as asked.

    Attributes:
        objects: Name → bytes.
        cut: Bytes of an answer behind which the connection is closed.
        broken: Offset from which on requests get status 500.
        wait: Seconds before each answer.
        ranges: The server knows ranges.
    """

    daemon_threads = True
    cut: int | None = None
    broken: int | None = None
    wait = 0.0
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        server = self.server
        time.sleep(server.wait)
        data = server.objects.get(self.path[1:])
        if data is None:
            self.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if server.ranges else None
        start = int(wanted[1]) if wanted else 0
        body = data[start : int(wanted[2]) + 1 if wanted and wanted[2] else None]
        if server.broken is not None and with_body and start + len(body) > server.broken:
            self.send_error(500)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        if server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(data)}")
        self.end_headers()
        if with_body:
            self.wfile.write(body[: server.cut])
            self.close_connection = server.cut is not None

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    # A read asks for as many bytes.
    fsspec.config.conf["http"] = {"block_size": 65_536}
    fsspec.get_filesystem_class("http").clear_instance_cache()
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
    fsspec.config.conf.pop("http")
    fsspec.get_filesystem_class("http").clear_instance_cache()


def capture(connections: int = 40) -> bytes:
    packets = []
    for number in range(connections):
        packets += evenly(download("10.0.0.1", 40_000 + number, "203.0.113.9", 443), number / 10, 0.001)
    return pcap_bytes(packets)


def rows(source: Any, **keys: Any) -> list[ct.Connection]:
    return list(ct.track(source, **keys).connections)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_url_has_the_connections_of_the_file(server: Server, ranges: bool, tmp_path: Path) -> None:
    server.ranges, data = ranges, capture()
    server.objects["a.pcap"] = data
    (tmp_path / "a.pcap").write_bytes(data)
    url = server.url("a.pcap")
    result = ct.track(url)
    assert result.sources == (url,)
    assert list(result.connections) == rows(tmp_path / "a.pcap")
    assert sum(len(batch) for batch in ct.open_capture(url)) == result.stats.packets
    assert len(list(ct.decode_headers(url, 0, 1))) == 1
    server.wait = 0.2
    assert list(ct.track([url, tmp_path / "a.pcap"]).connections)


def test_ranges_of_a_url(server: Server) -> None:
    server.objects["a.pcap"] = capture()
    url = server.url("a.pcap")
    ranges = ct.split_points(url, 4)
    assert len(ranges) == 4
    apart = sum(len(batch) for part in ranges for batch in ct.decode_headers(url, 0, 1, part=part))
    assert apart == sum(len(batch) for batch in ct.decode_headers(url, 0, 1))


def test_the_command_line_takes_urls(server: Server) -> None:
    server.objects["a.pcap"] = capture(2)
    done = run("track", "--format", "jsonl", server.url("a.pcap"))
    assert (done.returncode, done.stdout.count(b"\n")) == (0, 2), done.stderr
    done = run("track", server.url("none.pcap"))
    assert done.returncode != 0
    assert server.url("none.pcap").encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_missing_object(server: Server) -> None:
    url = server.url("none.pcap")
    with pytest.raises(FileNotFoundError) as caught:
        ct.track(url)
    assert caught.value.filename == url
    server.objects["a.pcap"] = capture(3)
    with pytest.warns(ct.CaptureWarning, match=r"none\.pcap"):
        result = ct.track([url, server.url("a.pcap")], config=ct.Config(on_error="skip"))
    assert (len(result.connections), [one.file for one in result.stats.skipped_files]) == (3, [url])


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_transfer_is_an_error(server: Server, ranges: bool) -> None:
    data = capture()
    server.objects["a.pcap"], server.ranges = data, ranges
    server.cut = 1000
    with pytest.raises(ct.CaptureError, match=r"a\.pcap: .* at byte \d+") as caught:
        ct.track(server.url("a.pcap"))
    assert caught.value.path == server.url("a.pcap")
    assert caught.value.offset is not None
    assert caught.value.offset < len(data)


def test_a_failing_read_names_the_byte(server: Server) -> None:
    data = capture(300)
    server.objects["a.pcap"], server.broken = data, 200_000
    with pytest.raises(ct.CaptureError, match=r"a\.pcap: reading failed at byte \d+: .*500") as caught:
        ct.track(server.url("a.pcap"))
    assert 0 < (caught.value.offset or 0) <= 200_000 < len(data)
    with pytest.warns(ct.CaptureWarning, match=r"reading failed at byte"):
        result = ct.track(server.url("a.pcap"), config=ct.Config(on_error="skip"))
    assert result.stats.packets > 0


def test_a_short_object_behind_its_size_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that tells a size, and ends before."""
    data = capture()
    with fsspec.open("memory://a.pcap", "wb") as file:
        file.write(data)
    from conntrack_py.io import remote

    monkeypatch.setattr(remote.Remote, "size", len(data) + 7)
    with pytest.raises(
        ct.CaptureError, match=f"memory://a.pcap: the transfer ended at byte {len(data)} of {len(data) + 7}"
    ):
        ct.track("memory://a.pcap")


def test_patterns_and_unknown_protocols() -> None:
    for name in ("b", "a"):
        with fsspec.open(f"memory://captures/{name}.pcap", "wb") as file:
            file.write(capture(2))
    assert ct.track("memory://captures/*.pcap").sources == ("memory:///captures/a.pcap", "memory:///captures/b.pcap")
    assert len(ct.track("memory://captures", recursive=True).sources) == 2
    with pytest.raises(FileNotFoundError, match="no object matches"):
        ct.track("memory://captures/*.cap")
    with pytest.raises(ct.CaptureError, match=r"^nowhere://a: "):
        ct.track("nowhere://a")


def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole server of the protocol, in this process."""
    pytest.importorskip("s3fs", reason="the extra `remote` is not installed")
    moto = pytest.importorskip("moto.server", reason="the extra `test` is not installed")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": f"http://{host}:{port}"})
    try:
        files = fsspec.filesystem("s3", skip_instance_cache=True)
        files.mkdir("captures")
        data = capture()
        for name in ("a", "b"):
            files.pipe(f"captures/2026/{name}.pcap", data)
        (tmp_path / "a.pcap").write_bytes(data)
        assert rows("s3://captures/2026/a.pcap") == rows(tmp_path / "a.pcap")
        result = ct.track("s3://captures/*/*.pcap")
        assert result.sources == ("s3://captures/2026/a.pcap", "s3://captures/2026/b.pcap")
        with pytest.raises(FileNotFoundError):
            ct.track("s3://captures/none.pcap")
    finally:
        server.stop()
