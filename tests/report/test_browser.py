"""The page in a real browser: requests, messages, accessibility, widths, script off, no style, paper, hostile names."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.policy.inventory import Entry, Inventory
from support import browser
from support.browser import Browser
from support.packets import ACK, SYN, Packet, download, pcap_bytes, tcp

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
#: The policy with which Jenkins serves files (DirectoryBrowserSupport): neither a style nor a script of the page.
JENKINS = "sandbox; default-src 'none'; img-src 'self'; style-src 'self';"

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser.need()
    with browser.running(tmp_path_factory.mktemp("profile")) as running:
        yield running


def company() -> list[Packet]:
    """Servers and clients of several kinds over an hour, beacons, a scan."""
    packets: list[Packet] = []
    for place in range(240):
        client, server = f"10.1.{place % 9}.{place % 50 + 1}", f"10.2.{place % 5}.{place % 7 + 1}"
        port = (443, 5432, 22, 8080, 25)[place % 5]
        packets += [
            (place * 15 + number / 9, one)
            for number, one in enumerate(download(client, 4000 + place, server, port, 500))
        ]
        outside = f"198.51.100.{place % 200 + 1}"
        packets += [
            (place * 15 + number / 7, one)
            for number, one in enumerate(download(client, 5000 + place, outside, 443, 900))
        ]
        packets += [
            (place * 14 + number / 8, one) for number, one in enumerate(download(outside, 6000, "10.2.1.2", 443, 300))
        ]
    for beat in range(70):
        packets += [
            (beat * 50 + number / 99, one)
            for number, one in enumerate(download("10.2.1.2", 7000 + beat, "203.0.113.9", 8443, 9))
        ]
    packets += [(1800 + host / 9, tcp("203.0.113.77", 6, f"10.3.{host}.1", 3389, SYN)) for host in range(200)]
    packets += [(1900.0, tcp("2001:db8::1", 6, "2001:db8:1234:5678:9abc:def0:1234:5678", 443, SYN | ACK))]
    return sorted(packets, key=lambda packet: packet[0])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, demo_pcap: Path) -> dict[str, Path]:
    """Pages of the demo, of a company with zones, and of a capture without connections."""
    folder = tmp_path_factory.mktemp("pages")
    found = {name: folder / f"{name}.html" for name in ("demo", "company", "empty")}
    policy = ct.Policy.suggest(ct.track(demo_pcap))
    ct.report(demo_pcap, found["demo"], policy=policy)
    capture = folder / f"{HOSTILE.replace('/', '_')}.pcap"
    capture.write_bytes(pcap_bytes(company()))
    zones = {"office": ["10.1.0.0/16"], HOSTILE: ["10.2.0.0/16"]}
    inventory = Inventory(hosts={"10.2.1.2": Entry(name=HOSTILE)})
    ct.report(capture, found["company"], config=ct.Config(zones=zones), inventory=inventory, title=HOSTILE)
    ct.report(io.BytesIO(pcap_bytes([])), found["empty"])
    return found


@pytest.mark.parametrize("name", ["demo", "company", "empty"])
@pytest.mark.parametrize("dark", [False, True])
def test_one_request_no_message_no_violation(page: Browser, pages: dict[str, Path], name: str, dark: bool) -> None:
    page.open(pages[name], dark=dark)
    assert page.violations() == []
    assert page.requests == [pages[name].as_uri()]
    assert page.messages == []


@pytest.mark.parametrize("name", ["demo", "company", "empty"])
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_no_sideways_scrolling(page: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    page.open(pages[name], width=width)
    wide, seen = page.ask("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= seen <= width


@pytest.mark.parametrize("name", ["demo", "company"])
def test_script_off_shows_the_same(page: Browser, pages: dict[str, Path], name: str) -> None:
    page.open(pages[name])
    page.ask("document.querySelectorAll('button').forEach((one) => { one.nextElementSibling ?? one.remove(); })")
    found = page.ask("[document.querySelector('main').offsetHeight, document.querySelector('main').innerText]")
    page.open(pages[name], script=False)
    bare = page.ask("[document.querySelector('main').offsetHeight, document.querySelector('main').innerText]")
    assert abs(found[0] - bare[0]) <= 4
    assert re.sub(r"\s+|Copy", "", found[1]) == re.sub(r"\s+", "", bare[1])


def test_no_style_and_no_script(page: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """As Jenkins shows it: ordered text, tables, coloured pictures."""
    text = pages["demo"].read_text()
    without = re.sub(r'content="default-src[^"]*"', f'content="{JENKINS.replace("sandbox; ", "")}"', text)
    target = tmp_path / "jenkins.html"
    target.write_text(without)
    page.open(target)
    assert page.ask("getComputedStyle(document.body).maxWidth") == "none"
    words = page.ask("document.body.innerText")
    heads = page.ask("[...document.querySelectorAll('h2')].map((one) => one.textContent)")
    assert len(heads) >= 10
    places = [words.index(f"\n{head}\n") for head in heads]
    assert places == sorted(places)
    fills = page.ask("[...document.querySelectorAll('rect')].map((one) => getComputedStyle(one).fill)")
    assert "rgb(213, 94, 0)" in fills
    assert page.ask("document.querySelector('td.cell').bgColor") != ""
    # Numbers of a tile do not run together.
    assert re.search(r"egress 9 53 %", re.sub(r"\s+", " ", words))


@pytest.mark.parametrize(("name", "most"), [("demo", 8), ("company", 12)])
def test_paper(page: Browser, pages: dict[str, Path], tmp_path: Path, name: str, most: int) -> None:
    import pypdfium2

    page.open(pages[name], dark=True)
    heads = page.ask("[...document.querySelectorAll('h2')].map((one) => one.textContent)")
    data = page.pdf()
    document = pypdfium2.PdfDocument(data)
    texts = [one.get_textpage().get_text_bounded() for one in document]
    assert len(texts) <= most
    whole = " ".join(" ".join(texts).split())
    for head in heads:
        assert head in whole, head
    assert "Colours:" not in whole
    # The rules fill more than a page of a company: the head of their table is on each.
    if name == "company":
        on = [text for text in texts if "last hit" in text]
        rows = [text for text in texts if re.search(r"be called by|\bcall\b .*\d{4}-\d\d-\d\d", text)]
        assert len(on) >= len(rows) - 1


def test_hostile_names_do_nothing(page: Browser, pages: dict[str, Path]) -> None:
    page.open(pages["company"])
    assert page.messages == []
    assert page.ask("document.images.length") == 0
    assert page.ask("document.scripts.length") == 1
    words = page.ask("document.body.innerText")
    assert "<img src=x onerror=alert(1)>" in words


def test_tables_sort_and_colours_switch(page: Browser, pages: dict[str, Path]) -> None:
    page.open(pages["company"])
    first = "document.querySelector('#initiators tbody tr td').innerText"
    before = page.ask(first)
    page.ask("document.querySelector('#initiators th button').click()")
    assert page.ask("document.querySelector('#initiators th').getAttribute('aria-sort')") == "descending"
    names = page.ask("[...document.querySelectorAll('#initiators table tbody')][0].innerText.split('\\n').length")
    assert names > 5
    page.ask("document.querySelector('#initiators th button').click()")
    assert (
        page.ask(first) != before
        or page.ask("document.querySelector('#initiators th').getAttribute('aria-sort')") == "ascending"
    )
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.ask(ground)
    page.ask("document.querySelector('#colours button').click(); document.querySelector('#colours button').click()")
    assert page.ask(ground) != light
    assert page.messages == []
