"""The browser of connections, driven by Textual's own pilot."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

import conntrack_py as ct
from conntrack_py.browse.view import COLUMNS, View, details, fitting
from conntrack_py.exceptions import WhereError
from support.corpus import missing
from support.packets import SYN, pcap_bytes, tcp, udp
from support.program import in_terminal, run

try:
    from textual.pilot import Pilot
    from textual.widgets import Input, Static

    from conntrack_py.browse.app import Browser, Rows
except ImportError:
    missing("textual is not installed")


def play(table: ct.ConnectionTable, work: Callable[[Pilot[None], Browser], Awaitable[None]], width: int = 80) -> None:
    """Run the browser in a terminal of this width, and work with it."""

    async def playing() -> None:
        app = Browser(View(table), "demo.pcap")
        async with app.run_test(size=(width, 24)) as pilot:
            await pilot.pause()
            await work(pilot, app)

    asyncio.run(playing())


def shown(app: Browser) -> list[str]:
    rows = app.query_one(Rows)
    lines = [rows.render_line(y).text.rstrip() for y in range(rows.size.height)]
    return [line for line in lines if line]


def words(app: Browser, name: str) -> str:
    return str(app.query_one(name, Static).content)


@pytest.fixture(scope="module")
def table(demo_pcap: Path) -> ct.ConnectionTable:
    return ct.track(demo_pcap).connections


@pytest.mark.parametrize("width", [80, 120])
def test_rows_columns_and_keys_are_shown(table: ct.ConnectionTable, width: int) -> None:
    async def work(pilot: Pilot[None], app: Browser) -> None:
        lines = shown(app)
        assert len(lines) == 17
        assert lines[0].split()[:3] == ["00:00:00", "ingress", "198.51.100.4"]
        assert all(len(line) <= width for line in lines)
        assert ("evidence" in words(app, "#head")) == (width == 120)
        assert words(app, "#title") == "demo.pcap: 17 connections"
        footer = " ".join(str(key) for key in app.screen.active_bindings)
        assert "s" in footer
        assert "slash" in footer

    play(table, work, width)


def test_sort_and_reverse(table: ct.ConnectionTable) -> None:
    async def work(pilot: Pilot[None], app: Browser) -> None:
        for _ in range(5):
            await pilot.press("s")
        assert app.view.sorted_by.name == "sent"
        assert "sent▼" in words(app, "#head")
        sent = table["orig_ip_bytes"][app.view.rows]
        assert sent.tolist() == sorted(table["orig_ip_bytes"].tolist(), reverse=True)
        await pilot.press("r")
        assert table["orig_ip_bytes"][app.view.rows].tolist() == sorted(table["orig_ip_bytes"].tolist())

    play(table, work)


def test_conditions_and_their_errors(table: ct.ConnectionTable) -> None:
    async def work(pilot: Pilot[None], app: Browser) -> None:
        await pilot.press("slash")
        entry = app.query_one("#where", Input)
        assert entry.has_class("shown")
        entry.value = 'direction == "egress" and resp_port == 8443'
        await pilot.press("enter")
        assert words(app, "#title").startswith("demo.pcap: 5 of 17 connections where direction")
        assert len(shown(app)) == 5
        await pilot.press("slash")
        app.query_one("#where", Input).value = "port = 5"
        await pilot.press("enter")
        assert app.query_one("#error").has_class("shown")
        assert len(app.view.rows) == 5
        await pilot.press("escape")
        await pilot.press("escape")
        assert len(app.view.rows) == 17

    play(table, work)


def test_the_pane_has_the_evidence(table: ct.ConnectionTable) -> None:
    async def work(pilot: Pilot[None], app: Browser) -> None:
        await pilot.press("down", "down", "enter")
        assert app.query_one("#pane").has_class("shown")
        pane = words(app, "#pane")
        row = table[2]
        assert f"evidence  {row.evidence}: " in pane
        assert row.orig_addr in pane
        await pilot.press("end")
        assert table[16].resp_addr in words(app, "#pane")
        await pilot.press("enter")
        assert not app.query_one("#pane").has_class("shown")

    play(table, work)


def test_only_lines_on_the_screen_are_drawn() -> None:
    packets = [
        (n / 1000, udp(f"10.{n >> 8 & 255}.{n & 255}.1", n % 60_000 + 1, "192.0.2.1", 53)) for n in range(30_000)
    ]
    table = ct.track(io.BytesIO(pcap_bytes(packets))).connections

    async def work(pilot: Pilot[None], app: Browser) -> None:
        await pilot.press("end")
        await pilot.pause()
        assert app.query_one(Rows).at == len(table) - 1
        assert len(shown(app)) == app.query_one(Rows).size.height
        await pilot.press("pageup", "home")
        assert app.query_one(Rows).at == 0

    play(table, work)


def test_hostile_and_empty_tables() -> None:
    config = ct.Config(zones={"[bold]\x1b[31m": ["10.0.0.0/8"]})
    table = ct.track(io.BytesIO(pcap_bytes([(0.0, tcp("10.0.0.1", 5, "10.0.0.2", 6, SYN))])), config=config).connections

    async def work(pilot: Pilot[None], app: Browser) -> None:
        await pilot.press("enter")
        assert "\x1b" not in words(app, "#pane")
        assert "[bold]" in words(app, "#pane")

    async def nothing(pilot: Pilot[None], app: Browser) -> None:
        await pilot.press("enter", "down", "end", "s", "r", "pagedown")
        assert words(app, "#pane") == "no connection"

    play(table, work)
    play(ct.track(io.BytesIO(pcap_bytes([]))).connections, nothing)


def test_orders_are_those_of_the_columns(table: ct.ConnectionTable) -> None:
    view = View(table)
    for column in COLUMNS:
        view.sort(column, False)
        values = table[column.key][view.rows]
        if not column.key.endswith("_addr"):
            assert np.array_equal(values, np.sort(table[column.key]))
    view.sort(COLUMNS[2], True)
    assert table["orig_addr"][view.rows][0] == "198.51.100.8"
    with pytest.raises(WhereError):
        view.keep("no such thing")
    assert len(view.rows) == len(table)
    assert [column.name for column in fitting(80)] == [column.name for column in COLUMNS[:7]]
    assert dict(details(table[0], 0))["evidence"].startswith("syn_ack: the SYN+ACK")


def test_the_command_needs_a_terminal(demo_pcap: Path) -> None:
    done = run("browse", demo_pcap)
    assert done.returncode == 2
    assert b"browse needs a terminal" in done.stderr
    status, printed = in_terminal(["sh", "-c", f"echo | conntrack-py browse {demo_pcap}; exit 0"])
    assert status == 0, printed
