"""Conditions: against a naive evaluator row by row, and texts that are none."""

from __future__ import annotations

import io
import ipaddress
import operator
import struct
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from conntrack_py.where import condition
from conntrack_py.where.language import _DEEPEST, _LONGEST_TEXT, _MOST_COMPARISONS, _MOST_VALUES
from support.packets import evenly, pcap_bytes, tcp, udp

ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
Row = ct.Connection
Naive = Callable[[Row], bool]
CONFIG = ct.Config(zones={"servers": ["10.0.1.0/24"], "not": ["10.0.2.0/24"]})


def tagged(frame: bytes, vlan: int) -> bytes:
    return frame[:12] + struct.pack(">HH", 0x8100, vlan) + frame[12:]


def varied() -> ct.ConnectionTable:
    """Connections of several directions, protocols, sizes and lengths, some with a VLAN."""
    frames = []
    for number in range(40):
        inside, outside = f"10.0.{number % 4}.{number}", f"192.0.2.{number}"
        ends = (inside, outside) if number % 3 else (outside, inside)
        frame = udp(ends[0], 1000 + number, ends[1], (53, 123, 443)[number % 3], bytes(100 * number))
        frames += [tagged(frame, number) if number % 5 == 0 else frame] * (1 + number % 7)
        if number % 2:
            frames.append(udp(ends[1], (53, 123, 443)[number % 3], ends[0], 1000 + number, bytes(number)))
    frames += [tcp("10.0.1.1", 5000, "10.0.2.2", 22, 2), tcp("192.0.2.1", 5000, "192.0.2.2", 443, 2)]
    return ct.track(io.BytesIO(pcap_bytes(evenly(frames, 0.0))), config=CONFIG).connections


TABLE = varied()
ROWS = list(TABLE)


def present(get: Callable[[Row], Any], order: str, wanted: Any) -> Naive:
    """A missing value equals nothing."""
    if order == "!=":
        return lambda row: get(row) is None or get(row) != wanted
    return lambda row: get(row) is not None and ORDERS[order](get(row), wanted)


def column(name: str) -> Callable[[Row], Any]:
    derived: dict[str, Callable[[Row], Any]] = {
        "duration": lambda row: row.end - row.start,
        "bytes": lambda row: row.orig_ip_bytes + row.resp_ip_bytes,
        "packets": lambda row: row.orig_pkts + row.resp_pkts,
    }
    return derived.get(name, operator.attrgetter(name))


@st.composite
def numbers(draw: st.DrawFn) -> tuple[str, Naive]:
    """Comparisons of numbers, with units."""
    name, units = draw(
        st.sampled_from(
            [
                ("resp_port", {"": 1}),
                ("orig_pkts", {"": 1}),
                ("packets", {"": 1}),
                ("vlan", {"": 1}),
                ("orig_ip_bytes", {"": 1, "kB": 1000, "KiB": 1024}),
                ("bytes", {"": 1, "kb": 1000, "MB": 10**6}),
                ("duration", {"ms": 10**6, "s": 10**9, "us": 1000}),
            ]
        )
    )
    unit = draw(st.sampled_from(list(units)))
    text = draw(st.integers(0, 2000).map(str))
    if name != "resp_port":
        text += draw(st.sampled_from(["", ".5", ".0", ".25"]))
    order = draw(st.sampled_from(list(ORDERS)))
    return f"{name} {order} {text}{unit}", present(column(name), order, Fraction(text) * units[unit])


@st.composite
def words(draw: st.DrawFn) -> tuple[str, Naive]:
    name, known = draw(
        st.sampled_from(
            [
                ("direction", ["egress", "ingress", "internal", "transit"]),
                ("proto", ["tcp", "udp"]),
                ("orig_zone", ["servers", "not"]),
                ("tunnel", ["gre"]),
            ]
        )
    )
    wanted = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
    quote = draw(st.sampled_from("\"'"))
    listed = ", ".join(f"{quote}{word}{quote}" for word in wanted)
    negated = draw(st.booleans())
    return (
        f"{name} {'not ' if negated else ''}in [{listed}]",
        lambda row: (getattr(row, name) in wanted) != negated,
    )


@st.composite
def addresses(draw: st.DrawFn) -> tuple[str, Naive]:
    nets = draw(
        st.lists(
            st.sampled_from(
                [
                    "10.0.0.0/8",
                    "10.0.1.0/24",
                    "10.0.1.5",
                    "192.0.2.0/28",
                    "::/0",
                    "0.0.0.0/0",
                    "192.0.2.7",
                    "10.0.3.3/30",
                ]
            ),
            min_size=1,
            max_size=4,
        )
    )
    inside = [ipaddress.ip_network(net, strict=False) for net in nets]
    name = draw(st.sampled_from(["orig_addr", "resp_addr", "addr"]))
    negated = draw(st.booleans())

    def holds(row: Row) -> bool:
        ends = [row.orig_addr, row.resp_addr] if name == "addr" else [getattr(row, name)]
        found = any(ipaddress.ip_address(end) in net for end in ends for net in inside)
        return found != negated

    return f"{name} {'not in' if negated else 'in'} [{','.join(nets)}]", holds


@st.composite
def simple(draw: st.DrawFn) -> tuple[str, Naive]:
    ports = draw(st.lists(st.integers(0, 65535) | st.sampled_from([53, 123, 443]), min_size=1, max_size=4))
    return draw(
        st.sampled_from(
            [
                ("seen_reply", lambda row: row.seen_reply),
                ("flipped == false", lambda row: not row.flipped),
                ("vlan == null", lambda row: row.vlan is None),
                ("orig_zone != null", lambda row: row.orig_zone is not None),
                ("vlan in [5, null]", lambda row: row.vlan in (5, None)),
                ("orig_bytes < resp_bytes", lambda row: row.orig_bytes < row.resp_bytes),
                ("orig_zone == resp_zone", lambda row: None is not row.orig_zone == row.resp_zone),
                (f"port in [{', '.join(map(str, ports))}]", lambda row: {row.orig_port, row.resp_port} & {*ports}),
                (f"port != {ports[0]}", lambda row: ports[0] not in (row.orig_port, row.resp_port)),
                ("history == D", lambda row: row.history == "D"),
            ]
        )
    )


def joined(inner: st.SearchStrategy[tuple[str, Naive]]) -> st.SearchStrategy[tuple[str, Naive]]:
    """Trees of conditions with as few brackets as the precedence of `and` before `or` needs."""

    @st.composite
    def chain(draw: st.DrawFn) -> tuple[str, Naive]:
        word = draw(st.sampled_from(["and", "or", "AND"]))
        parts = draw(st.lists(inner, min_size=2, max_size=3))
        every = all if word.lower() == "and" else any
        return f" {word} ".join(f"({text})" for text, _ in parts), lambda row: every(holds(row) for _, holds in parts)

    negated = inner.map(lambda one: (f"not ({one[0]})", lambda row: not one[1](row)))
    return chain() | negated


@given(st.recursive(numbers() | words() | addresses() | simple(), joined, max_leaves=8))
@settings(max_examples=300, deadline=None)
def test_the_mask_is_that_of_a_naive_evaluator(one: tuple[str, Naive]) -> None:
    text, holds = one
    assert condition(text, TABLE).mask(TABLE).tolist() == [bool(holds(row)) for row in ROWS]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("seen_reply or flipped and vlan == null", "seen_reply or (flipped and vlan == null)"),
        ("not seen_reply and vlan == null", "(not seen_reply) and (vlan == null)"),
        ("not seen_reply or vlan == 5", "(not seen_reply) or (vlan == 5)"),
        ("direction==egress", "direction == 'egress'"),
        ("duration > 1min", "duration > 60s"),
        ("start >= 1970-01-01", "start >= '1970-01-01T00:00:00.000000000Z'"),
        ("start < 2026-01-01T01:30:00+01:30", "start < 2026-01-01T00:00:00Z"),
        ("not not assured", "assured == true"),
    ],
)
def test_two_ways_to_say_it(text: str, same: str) -> None:
    assert condition(text, TABLE).mask(TABLE).tolist() == condition(same, TABLE).mask(TABLE).tolist()


def test_times_have_nanoseconds() -> None:
    first = min(row.start for row in ROWS if row.start is not None)
    moment = f"{TABLE['start'].min()}Z"
    assert condition(f"start == {moment}", TABLE).mask(TABLE).sum() == sum(row.start == first for row in ROWS) > 0
    assert not condition(f"start < {moment}", TABLE).mask(TABLE).any()


def test_a_rounded_confidence_is_the_one_that_people_write() -> None:
    assert condition("confidence == 0.9 or confidence < 0.9 or confidence > 0.9", TABLE).mask(TABLE).all()
    values = sorted({row.confidence for row in ROWS})
    for value in values:
        assert condition(f"confidence == {round(value, 4)}", TABLE).mask(TABLE).any()


@pytest.mark.parametrize(
    "text", ["vlan < 99999999999999999999", "orig_bytes >= -1", "orig_bytes != 18446744073709551616"]
)
def test_numbers_beyond_every_column(text: str) -> None:
    mask = condition(text, TABLE).mask(TABLE)
    assert mask.tolist() == [row.vlan is not None if text.startswith("vlan") else True for row in ROWS]


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", 1, "the name of a column"),
        ("direction == egres", 14, "egress, ingress, internal, transit, multicast; did you mean egress?"),
        ("direction = egress", 11, "'=='"),
        ("assured && flipped", 9, "'and'"),
        ("resp_prt == 5", 1, "did you mean resp_port?"),
        ("resp_port == 65536", 14, "a port from 0 to 65535"),
        ("resp_port == 5.5", 14, "a port"),
        ("duration > 30", 12, "30s"),
        ("bytes > 10XB", 9, "10kB"),
        ("start > yesterday", 9, "2026-01-01"),
        ("start > 2026-02-30", 9, "a time"),
        ("orig_addr == 10.0.0.0/8", 14, "write 'in'"),
        ("orig_addr in 10.0.0.0/33", 14, "an address"),
        ("orig_addr in fe80::1%eth0", 14, "an address"),
        ("orig_addr < 10.0.0.1", 1, "an order"),
        ("direction", 10, "a comparison"),
        ("(assured", 9, "')'"),
        ("assured)", 8, "'and', 'or' or the end"),
        ("resp_port in [80", 17, "','"),
        ("history == 'x", 12, "another '"),
        ("vlan < null", 8, "a number"),
        ("orig_bytes > direction", 14, "another column of that kind"),
        ("orig_zone == dmz", 14, "not, servers"),
        ("assured flipped", 9, "=="),
    ],
)
def test_errors_show_the_place(text: str, place: int, expected: str) -> None:
    with pytest.raises(ct.WhereError) as caught:
        condition(text, TABLE)
    head, shown, caret = str(caught.value).split("\n")
    assert head.startswith(f"at character {place}: found ")
    assert expected in head
    assert caret.index("^") == place + 1
    assert shown[2:] == text


def test_long_texts_are_shown_around_the_place() -> None:
    text = "assured and " * 100 + "flippd" + " and assured" * 100
    with pytest.raises(ct.WhereError) as caught:
        condition(text, TABLE)
    _, shown, caret = str(caught.value).split("\n")
    assert len(shown) < 120
    assert shown[caret.index("^") : caret.rindex("^") + 1] == "flippd"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(" * (_DEEPEST + 1) + "assured", "levels"),
        ("not " * 30_000 + "assured"[:4], "characters"),
        ("not " * (_DEEPEST + 1) + "assured", "levels"),
        ("assured or " * _MOST_COMPARISONS + "assured", "comparisons"),
        (f"resp_port in [{'1,' * _MOST_VALUES}1]", "values"),
        ("a" * (_LONGEST_TEXT + 1), "characters"),
    ],
)
def test_bounds(text: str, expected: str) -> None:
    with pytest.raises(ct.WhereError, match=expected):
        condition(text, TABLE)


def test_texts_at_the_bounds_are_quick() -> None:
    before = time.process_time()
    listed = ",".join(f"10.{one >> 8 & 255}.{one & 255}.0/25" for one in range(3500))
    assert condition(f"addr in [{listed}]", TABLE).mask(TABLE).any()
    condition("(" * _DEEPEST + "assured" + ")" * _DEEPEST, TABLE).mask(TABLE)
    condition(" or ".join(["vlan == 5"] * _MOST_COMPARISONS), TABLE).mask(TABLE)
    assert time.process_time() - before < 3


PIECES = [*TABLE.columns, "duration", "addr", "and", "or", "not", "in", "(", ")", "[", "]", ",", "==", "<", '"', "'"]
PIECES += [
    "10.0.0.0/8",
    "::1",
    "30s",
    "10MB",
    "2026-01-01",
    "null",
    "true",
    "egress",
    "-1",
    "1e99",
    "\x1b[31m",
    "\n",
    "=",
    "!",
]


@given(st.text(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=20).map(" ".join))
@settings(max_examples=500, deadline=1000)
def test_any_text_is_a_condition_or_an_error(text: str) -> None:
    try:
        mask = condition(text, TABLE).mask(TABLE)
    except ct.WhereError as error:
        refused = str(error)
    else:
        assert mask.shape == (len(TABLE),)
        return
    assert all(line.isprintable() for line in refused.split("\n"))
