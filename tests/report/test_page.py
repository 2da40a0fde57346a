"""The page: its numbers, its limits, and what hostile names do in it."""

from __future__ import annotations

import html.parser
import io
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py.cli.reports import report
from conntrack_py.policy.inventory import Entry, Inventory
from conntrack_py.reporting import CHARTS
from support.corpus import CORPUS, missing
from support.packets import ACK, SYN, download, echo, evenly, pcap_bytes, tcp, udp
from support.program import run


class Page(html.parser.HTMLParser):
    """Tables by caption, elements, and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._caption = ""
        self._rows: list[list[str]] = []
        self._inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)
        if tag == "table":
            self._caption, self._rows = "", []
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.tables[self._caption] = self._rows[1:]
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self._inside or "style" in self._inside:
            return
        self.texts.append(data)
        if "caption" in self._inside:
            self._caption += data
        elif "title" not in self._inside and ("td" in self._inside or "th" in self._inside) and self._rows:
            self._rows[-1][-1] += data

    def table(self, begin: str) -> list[list[str]]:
        (found,) = [rows for caption, rows in self.tables.items() if caption.startswith(begin)]
        return found


def made(source: Any, **options: Any) -> str:
    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct.report(source, out, **options)
    return out.getvalue()


def number(text: str) -> int:
    return int(text.split()[0].replace(",", ""))


@pytest.mark.parametrize("source", ["demo", "corpus"])
def test_every_number_is_that_of_the_other_commands(source: str, demo_pcap: Path, tmp_path: Path) -> None:
    capture = demo_pcap if source == "demo" else CORPUS / "pcaps" / "ndpi__1kxun.pcap"
    if not capture.exists():
        missing("../shared is not there")
    policy = tmp_path / "policy.toml"
    assert run("policy", "suggest", capture, "-o", policy).returncode == 0
    target = tmp_path / "report.html"
    done = run("report", capture, "-o", target, "--policy", policy, "--top", "100")
    assert done.returncode == 0, done.stderr
    page = Page(target.read_text())
    summary = json.loads(run("summary", "--json", "--top", "1000", capture).stdout)
    suggested = json.loads(run("policy", "suggest", "--json", capture).stdout)
    checked = json.loads(run("policy", "check", "--json", policy, capture).stdout)

    tiles = re.findall(r'class="tile (\w+)".*?<strong>([\d,]+)</strong>', target.read_text())
    directions = {word: sums["connections"] for word, sums in summary["directions"].items()}
    assert {word: number(count) for word, count in tiles} == directions
    services = page.table("Services asked for")
    shown = [(row[0], row[1], number(row[2]), number(row[4]), number(row[5])) for row in services]
    assert shown == [
        (one["direction"], one["service"], one["totals"]["connections"], one["originators"], one["responders"])
        for one in summary["services"][: len(shown)]
    ]
    evidence = {row[0]: number(row[2]) for row in page.table("Connections by evidence")}
    assert evidence == summary["evidence"]["by_word"]
    matrix = page.table("Connections opened by the row")
    assert number(matrix[-1][-1]) == summary["totals"]["connections"]
    assert sum(number(row[-1]) for row in matrix[:-1]) == summary["totals"]["connections"]
    hosts = {row[0]: [number(cell) for cell in row[1:]] for row in page.table("What hosts are")}
    for name, key in (("local", "local_hosts"), ("other", "remote_hosts")):
        assert hosts[name] == [summary[key]["counts"][role] for role in ("both", "initiates", "answers", "silent")]
    report = suggested.get("report", suggested)
    assert f"They allow {report['kept']:,} of {report['connections']:,} connections" in "".join(page.texts)
    left_out = {row[1]: number(row[0]) for row in page.table("Left out of the rules")} if report["left_out"] else {}
    assert left_out == {one["why"]: one["connections"] for one in report["left_out"].values()}
    waiting = [one for one in report["servers_initiate"] + report["suspicious"] if not one["allowed"]]
    if waiting:
        assert len(page.table("For a person to decide")) == min(len(waiting), 30)
    judged = checked["connections"]
    words = " ".join("".join(page.texts).split())
    assert f"allows {judged['allowed']:,} of {judged['all']:,} connection" in words
    assert f"refuses {judged['refused']:,}" in words
    if checked["refusals"]:
        refused = page.table("Refused for want")
        assert [number(row[3]) for row in refused] == [one["connections"] for one in checked["refusals"][:30]]


def test_the_same_bytes(demo_pcap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    pages = {made(demo_pcap, config=ct.Config(threads=threads)) for threads in (1, 1, 2, 8)}
    assert len(pages) == 1
    assert "· made 2026-01-01 00:00:00 UTC" in pages.pop()
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert "· made" not in made(demo_pcap)


HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


def test_hostile_names_are_text(demo_pcap: Path, tmp_path: Path) -> None:
    capture = tmp_path / f"{HOSTILE.replace('/', '_')}.pcap"
    capture.write_bytes(demo_pcap.read_bytes())
    zones = {HOSTILE: ["10.0.20.0/24"], "\x1b[31m\u202e": ["10.0.5.0/24"]}
    inventory = Inventory(hosts={"10.0.20.10": Entry(name=HOSTILE)})
    text = made(capture, config=ct.Config(zones=zones), title=HOSTILE, inventory=inventory)
    page = Page(text)
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("script"), tags.count("style"), tags.count("img")) == (1, 1, 0)
    for _, attributes in page.elements:
        assert not {name for name in attributes if name.startswith("on") or name in ("style", "src", "href")} - {"href"}
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert HOSTILE[:20] in "".join(page.texts)
    assert 'http-equiv="Content-Security-Policy"' in text
    for name in CHARTS:
        svg = ct.track(capture, config=ct.Config(zones=zones)).plot(name).svg
        assert "<script" not in svg
        assert "<img" not in svg


def elements(text: str) -> int:
    return len(Page(text).elements)


def test_limits_hold_for_many_zones_hosts_and_rules() -> None:
    """300 zones with long names, 4,000 hosts, a beacon of each server, scans: all in one capture."""
    packets = []
    for place in range(4000):
        client = f"10.{place % 200}.{place // 200}.9"
        server = f"198.18.{place % 250}.{place // 250 + 1}"
        port = 1000 + place % 3000
        packets += [
            (place / 10, tcp(client, 40_000, server, port, SYN, seq=1)),
            (place / 10 + 0.01, tcp(server, port, client, 40_000, SYN | ACK, seq=1, ack=2)),
            (place / 10 + 0.02, tcp(client, 40_000, server, port, ACK, seq=2, ack=2, payload=b"x")),
            (place / 10 + 0.03, tcp(server, port, client, 40_000, ACK, seq=2, ack=3, payload=b"y")),
        ]
    for place in range(300):
        scanner = f"203.0.113.{place % 200 + 1}"
        packets += [(place / 2 + number / 100, tcp(scanner, 5, f"10.1.{number}.7", 3389, SYN)) for number in range(20)]
    for place in range(100):
        server = f"10.{place}.77.7"
        packets += [(place, frame) for frame in download("192.0.2.1", 4000 + place, server, 443, 100)]
        packets += [(40 * beat + place / 9, udp(server, 5, "192.0.2.99", 9000 + place)) for beat in range(12)]
    packets.sort(key=lambda packet: packet[0])
    zones = {f"{'zone with a long name ' * 11}{place}": [f"10.{place}.0.0/16"] for place in range(200)}
    result = ct.track(io.BytesIO(pcap_bytes(packets)), config=ct.Config(zones=zones))
    text = made(result, top=100)
    assert len(text.encode()) <= 500_000
    assert elements(text) <= 10_000
    assert "more" in text
    notebook = result._repr_html_()
    assert len(notebook) <= 60_000
    assert "<script" not in notebook


def test_more_rules_than_a_policy_may_have(demo_pcap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is whole: the number of rules, and the way out in place of the list."""
    result = ct.track(demo_pcap)
    rules = len(ct.Policy.suggest(result).numbered())

    def refuse(*_: object) -> None:
        raise ct.PolicyError("too many")

    monkeypatch.setattr("conntrack_py.reporting.facts.evaluate", refuse)
    text = made(result)
    assert f"{rules} rules. These are too many to list" in text
    assert "Why not both ways" not in text


@pytest.mark.parametrize(
    ("packets", "expected"),
    [
        ([], "Nobody initiated a connection"),
        ([(0.0, tcp("198.51.100.1", 1, "203.0.113.2", 2, SYN))], "between hosts outside"),
        ([(0.0, tcp("10.0.0.1", 1, "10.0.0.2", 2, SYN))] * 3, "between your own hosts"),
        ([(0.0, udp("fd00::1", 1, "fd00::2", 53, b"x"))], "fd00:<wbr>:<wbr>2"),
        ([(0.0, echo("10.0.0.1", "192.0.2.1", 8)), (900 * 86400.0, echo("10.0.0.1", "192.0.2.2", 8))], "900 d"),
        ([(50.0, echo("10.0.0.1", "192.0.2.1", 8)), (10.0, echo("10.0.0.2", "192.0.2.2", 8))], "icmp echo"),
    ],
)
def test_odd_captures_make_sensible_pages(packets: list[tuple[float, bytes]], expected: str) -> None:
    text = made(io.BytesIO(pcap_bytes(packets)))
    assert expected in text
    assert elements(text) > 50
    for name in CHARTS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chart = ct.track(io.BytesIO(pcap_bytes(packets))).plot(name)
        assert chart.svg.startswith("<svg")


def test_a_beacon_and_a_scan_are_in_the_answer() -> None:
    packets = [
        (30.0 * beat, frame) for beat in range(20) for frame in download("10.0.0.9", 5000 + beat, "192.0.2.66", 8443, 9)
    ]
    packets += [(1.0, frame) for frame in download("192.0.2.7", 600, "10.0.0.9", 443, 9)]
    packets += [(2 + host / 20, tcp("203.0.113.9", 77, f"10.0.3.{host}", 3389, SYN)) for host in range(1, 200)]
    packets.sort(key=lambda packet: packet[0])
    page = Page(made(io.BytesIO(pcap_bytes(packets))))
    words = " ".join(" ".join(page.texts).split())
    assert "1 beacon: 10.0.0.9 calls 192.0.2.66 every 30 s" in words
    assert "203.0.113.9 tried 199 hosts without an answer within 9.90 s" in words
    (row,) = page.table("Hosts that tried many others")
    assert row[:5] == ["203.0.113.9", "199 of 199", "199", "1", "3389/tcp"]


def test_the_command_offers_every_chart() -> None:
    assert tuple(CHARTS) == report._CHARTS


def test_options_of_the_command(demo_pcap: Path, tmp_path: Path) -> None:
    for wrong, expected in (
        (["-o", "x.txt"], "ends in .html, .svg or .png"),
        (["-o", "x.svg"], "give --chart, one of answer"),
        (["-o", "x.html", "--chart", "matrix"], "--chart matrix is a picture"),
        (["-o", "x.html", "--top", "0"], "--top"),
    ):
        done = run("report", demo_pcap, *wrong)
        assert done.returncode == 2
        assert expected in done.stderr.decode()
    assert run("report", demo_pcap, "-o", "-").stdout.startswith(b"<!doctype html>")
    assert run("report", demo_pcap, "-o", "-", "--chart", "rules").stdout.startswith(b"<svg")
    target = tmp_path / "a.svg"
    assert run("report", demo_pcap, "-o", target, "--chart", "timeline").returncode == 0
    assert target.read_text().startswith("<svg")
    named, bare = (run("report", demo_pcap, "-o", "-", *more).stdout for more in ([], ["--no-names"]))
    assert b"video.example" in named
    assert b"video.example" not in bare


def test_a_report_of_some_connections(demo_pcap: Path) -> None:
    text = made(demo_pcap, where='direction == "egress"')
    assert [word for word, _ in re.findall(r'class="tile (\w+)".*?<strong>([\d,]+)</strong>', text)] == ["egress"]
    assert "video.example" in text
    with pytest.raises(ct.ConntrackError):
        made(demo_pcap, where="no such thing")
    assert "Nobody initiated" in made(demo_pcap, where="resp_port == 1")


def test_an_anonymised_report_tells_no_address_and_no_name(demo_pcap: Path, tmp_path: Path) -> None:
    addresses = set(ct.track(demo_pcap).connections["orig_addr"]) | set(ct.track(demo_pcap).connections["resp_addr"])
    out = tmp_path / "page.html"
    options = ["--local", "10.0.0.0/8", "--local", "198.51.100.0/24"]
    done = run("report", demo_pcap, "-o", out, "--anonymise", "a long secret", *options)
    assert done.returncode == 0, done.stderr
    text = out.read_text()
    # Groups keep their addresses.
    assert [one for one in addresses if not one.startswith("224.") and re.search(rf"{re.escape(one)}\b", text)] == []
    for word in ("198.51.100.0", demo_pcap.name, "example"):
        assert word not in text, word
    hidden = ct.Anonymiser("a long secret")
    assert hidden.address("10.0.20.10") in text
    policy = tmp_path / "policy.toml"
    policy.write_text(ct.Policy.suggest(ct.track(demo_pcap)).convert("toml").text)
    refused = run("report", demo_pcap, "-o", out, "--anonymise", "a long secret", "--policy", policy)
    assert refused.returncode == 2
    assert b"--policy speaks of addresses" in refused.stderr
    with pytest.raises(ValueError, match="groups: it speaks of addresses"):
        ct.report(demo_pcap, out, anonymiser=hidden, groups=ct.Policy.load(policy))


def test_a_picture_as_png(demo_pcap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py")
    from conntrack_py.reporting import charts

    chart = ct.track(demo_pcap).plot("matrix")
    chart.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(charts, "_has_font", lambda: False)
    with pytest.raises(ct.ConntrackError, match="needs a font"):
        chart.png()
    with pytest.raises(ValueError, match=r"expected \.svg or \.png"):
        chart.save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="found 'pie', expected one of answer"):
        ct.track(demo_pcap).plot("pie")


def test_a_notebook_shows_a_result(demo_pcap: Path) -> None:
    shown = ct.track(demo_pcap)._repr_html_()
    assert "17 connections" in shown
    assert 'class="tile' not in shown
    empty = ct.track(io.BytesIO(pcap_bytes(evenly([]))))._repr_html_()
    assert "0 connections" in empty
