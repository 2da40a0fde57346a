"""Parts of a table: slices, masks, choices, columns, copies, equality, pickles."""

from __future__ import annotations

import concurrent.futures
import copy
import io
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import conntrack_py as ct
from conntrack_py import summaries
from support.packets import pcap_bytes, udp

FORMATS = ("csv", "jsonl", "arrow", "parquet", "conntrack", "zeek", "ipfix", "ecs")


@pytest.fixture(scope="module")
def tracked(demo_pcap: Path) -> ct.LabelledResult:
    return ct.track(demo_pcap, config=ct.Config(zones={"office": ["10.0.0.0/16"]}), labels=True)


@pytest.fixture(scope="module")
def table(tracked: ct.LabelledResult) -> ct.ConnectionTable:
    return tracked.connections


def written(table: ct.ConnectionTable, format: str) -> bytes:
    memory = io.BytesIO()
    table.write(memory, format)
    return memory.getvalue()


def rows(table: ct.ConnectionTable) -> list[ct.Connection]:
    return list(table)


@pytest.mark.parametrize(
    "key",
    [
        slice(2, 5),
        slice(None),
        slice(-3, None),
        slice(4, 2),
        slice(0, 999),
        slice(None, None, 3),
        slice(None, None, -1),
    ],
)
def test_slices_are_those_of_a_list(table: ct.ConnectionTable, key: slice) -> None:
    part = table[key]
    assert rows(part) == rows(table)[key]
    for name in table.columns:
        assert part[name].tolist() == table[name][key].tolist(), name
    assert part.to_polars().equals(table.to_polars()[key])


def test_masks_and_numbers_are_those_of_numpy(table: ct.ConnectionTable) -> None:
    everything = np.arange(len(table))
    mask = table["direction"] == "egress"
    assert 0 < mask.sum() < len(table)
    numbers: list[Any] = [
        [0, 3, -1, 3],
        np.array([5, 1]),
        range(2, 4),
        pd.Series([2]),
        pl.Series([1, 1]),
        [],
        np.uint8([4]),
    ]
    masks: list[Any] = [
        mask,
        mask.tolist(),
        pd.Series(mask),
        pd.Series(mask, dtype="boolean"),
        pl.Series(mask),
        pa.array(mask),
    ]
    for key in numbers:
        places = everything[np.asarray(key, dtype=int)]
        assert rows(table[key]) == [table[int(place)] for place in places]
    for key in masks:
        assert rows(table[key]) == [row for row in table if row.direction == "egress"], type(key)
    # A part of a part.
    assert rows(table[mask][1:][[0, -1]]) == [rows(table[mask])[1], rows(table[mask])[-1]]


def test_columns_in_memory_are_views_of_a_slice(demo_pcap: Path) -> None:
    table = ct.track(demo_pcap).connections
    before = {name: table[name] for name in ("start", "orig_bytes", "resp_port", "assured", "orig_addr", "vlan")}
    part = table[3:9][1:]
    for name, column in before.items():
        assert np.shares_memory(part[name], column), name
        assert part[name].tolist() == column[4:9].tolist()
        assert not part[name].flags.writeable
    unread = table[3:9]["resp_bytes"]
    assert unread.tolist() == table["resp_bytes"][3:9].tolist()


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ([True, False], IndexError, "a mask of 2: expected one bool for each of 17 connections"),
        (np.zeros(18, bool), IndexError, "a mask of 18: expected one bool for each of 17 connections"),
        ([0, 17], IndexError, "row 17 of a table of 17 connections"),
        ([-18], IndexError, "row -18 of a table of 17 connections"),
        (np.array([2**63], np.uint64), IndexError, "row 9223372036854775808 of a table of 17"),
        (17, IndexError, "row 17"),
        (["start", "orig_adr"], KeyError, "no column orig_adr; did you mean orig_addr?"),
        (["start", "start"], ValueError, "the column start is there twice"),
        ([0.5], TypeError, "not by values of float64"),
        ([[0, 1]], TypeError, r"not by values of shape \(1, 2\)"),
        ([0, None], TypeError, "not by values of object"),
        ((0, 1), TypeError, "not by tuple"),
        (True, TypeError, "not by bool"),
        (None, TypeError, "not by NoneType"),
        (1.0, TypeError, "a column is asked for by name, a row by number, .* not by float"),
        ({0}, TypeError, "not by set"),
        (b"start", TypeError, "not by bytes"),
        (iter([0]), TypeError, "not by list_iterator"),
    ],
)
def test_other_keys(table: ct.ConnectionTable, key: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        table[key]


def test_columns(table: ct.ConnectionTable) -> None:
    part = table[["start", "orig_addr", "vlan"]]
    assert part.columns == ["start", "orig_addr", "vlan"]
    assert tuple(part[0]) == (table[0].start, table[0].orig_addr, None)
    assert part[0]._fields == ("start", "orig_addr", "vlan")
    assert pl.DataFrame(part).equals(table.to_polars().select("start", "orig_addr", "vlan"))
    assert pa.table(part).schema == pa.schema(part)
    assert part.to_pandas().columns.tolist() == part.columns
    assert table[np.array(["proto"])].columns == ["proto"]
    with pytest.raises(KeyError, match="no column proto; there are start, orig_addr, vlan"):
        part["proto"]
    with pytest.raises(KeyError, match="no column resp_addr"):
        part[["resp_addr"]]
    assert written(part[:1], "csv").decode().splitlines()[0] == "start,orig_addr,vlan"
    assert list(pl.read_parquet(written(part, "parquet")).columns) == part.columns
    # The formats of other programs have their own columns.
    for format in ("conntrack", "zeek", "ipfix", "ecs"):
        assert written(part, format) == written(table, format)
    assert repr(part).splitlines()[1].split() == ["start", "orig_addr", "vlan"]
    assert "<th>orig_addr</th>" in part._repr_html_()


def test_a_directory_of_some_columns(table: ct.ConnectionTable, tmp_path: Path) -> None:
    part = table[["start", "direction", "orig_addr"]]
    part.write(tmp_path / "made", "parquet", by="direction")
    back = pl.read_parquet(tmp_path / "made" / "**" / "*.parquet", hive_partitioning=True)
    assert sorted(back.columns) == sorted(part.columns)
    assert sorted(back["orig_addr"]) == sorted(table["orig_addr"])


def test_a_writer_keeps_the_columns_of_its_first_table(table: ct.ConnectionTable, tmp_path: Path) -> None:
    with ct.ConnectionWriter(tmp_path / "c.csv") as writer:
        writer.write(table[["start", "end"]][:2])
        writer.write(table[["start", "end"]][2:])
    assert (tmp_path / "c.csv").read_bytes() == written(table[["start", "end"]], "csv")
    with ct.ConnectionWriter(tmp_path / "d.csv") as writer:
        writer.write(table[["start"]])
        with pytest.raises(ValueError, match="columns: found start, end, expected those of the tables before, start"):
            writer.write(table[["start", "end"]])


@pytest.mark.parametrize("format", FORMATS)
def test_parts_written_one_behind_another_are_the_whole(table: ct.ConnectionTable, tmp_path: Path, format: str) -> None:
    with ct.ConnectionWriter(tmp_path / "c", format) as writer:
        for start in range(0, len(table), 5):
            writer.write(table[start : start + 5])
    assert (tmp_path / "c").read_bytes() == written(table, format)


def test_equality(demo_pcap: Path, table: ct.ConnectionTable) -> None:
    assert table == table[:]
    assert table[2:4] == table[[2, 3]]
    assert table[2:4] != table[[3, 2]]
    assert table != table[:-1]
    assert table[["start", "end"]] != table[["end", "start"]]
    # Zones by name: without them the columns of zones differ, and no other.
    plain = ct.track(demo_pcap).connections
    assert plain != table
    others = [name for name in table.columns if not name.endswith("zone")]
    assert plain[others] == table[others]
    assert table != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(table)


def test_copies(table: ct.ConnectionTable) -> None:
    part = table[3:7]
    assert copy.copy(part) == copy.deepcopy(part) == part
    assert copy.deepcopy({"a": part})["a"] == part


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(table: ct.ConnectionTable, protocol: int) -> None:
    for part in (table, table[:0], table[::-2], table[["orig_addr", "resp_zone"]][4:]):
        back = pickle.loads(pickle.dumps(part, protocol))
        assert back == part
        assert back.columns == part.columns
        for format in FORMATS:
            assert written(back, format) == written(part, format), format
    assert pickle.loads(pickle.dumps(table[["start", "vlan"]][1], protocol)) == table[["start", "vlan"]][1]


def test_pickles_out_of_band(table: ct.ConnectionTable) -> None:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(table, 5, buffer_callback=buffers.append)
    assert len(buffers) == 1
    assert len(data) < 200
    assert pickle.loads(data, buffers=buffers) == table


def test_pickles_have_the_ipv6_addresses_of_their_rows() -> None:
    """A part has the addresses of its own rows alone."""
    packets = [(float(n), udp(f"2001:db8::{n + 1:x}", 40000 + n, "2001:db8::53", 53)) for n in range(40)]
    table = ct.track(io.BytesIO(pcap_bytes(packets))).connections
    assert len(table) == 40
    part = pickle.loads(pickle.dumps(table[[7, 3, 7]]))
    assert part["orig_addr"].tolist() == [table[7].orig_addr, table[3].orig_addr, table[7].orig_addr]
    assert ":" in part[0].orig_addr
    whole, some = (len(pickle.dumps(one)) for one in (table, table[[7]]))
    assert some < whole


def test_pickles_of_processes(table: ct.ConnectionTable) -> None:
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(copy.copy, table[2:5]).result() == table[2:5]


def test_damaged_pickles(table: ct.ConnectionTable) -> None:
    restore, (saved,) = table.__reduce_ex__(4)
    assert restore(saved) == table
    for damaged in (b"", b"x", saved[:-1], saved[:40], saved[:30] + bytes([saved[30] ^ 1]) + saved[31:], saved + b"x"):
        with pytest.raises(ValueError, match=r"a pickled ConnectionTable: .*(damaged|expected a checkpoint)"):
            restore(damaged)


def test_a_checkpoint_of_a_tracker_is_no_table(table: ct.ConnectionTable, tmp_path: Path) -> None:
    ct.Tracker().save(tmp_path / "state")
    restore, _ = table.__reduce_ex__(4)
    with pytest.raises(ValueError, match="damaged"):
        restore((tmp_path / "state").read_bytes())


def test_rows_keep_the_numbers_of_the_whole_table(tracked: ct.LabelledResult) -> None:
    table = tracked.connections
    ids = np.flatnonzero(table["resp_port"] == 443)
    packets = np.isin(tracked.labels["connection"], ids)
    assert packets.sum() == (table[ids]["orig_pkts"].sum() + table[ids]["resp_pkts"].sum())


def test_parents_are_rows_of_the_part() -> None:
    """An ICMP error names the row of what it quotes, in the whole table; `parents` finds it in a part."""
    query = udp("10.0.0.5", 40000, "203.0.113.1", 53)
    quoted = query[14 : 14 + 28]
    head = bytes.fromhex("45000038000000004001 0000 cb007101 0a000005".replace(" ", ""))
    error = query[:14] + head + bytes([3, 3, 0, 0, 0, 0, 0, 0]) + quoted
    other = udp("10.0.0.6", 40000, "203.0.113.1", 53)
    table = ct.track(io.BytesIO(pcap_bytes([(0.0, other), (1.0, query), (2.0, error)]))).connections
    (child,) = np.flatnonzero(table["related_to"] >= 0)
    parent = int(table["related_to"][child])
    assert table.parents()[child] == parent
    part = table[[int(child), parent]]
    assert part["related_to"][0] == parent
    assert part.parents().tolist() == [1, -1]
    assert table[[int(child)]].parents().tolist() == [-1]
    assert table[:0].parents().tolist() == []


def test_what_takes_a_table_takes_a_part(table: ct.ConnectionTable, tracked: ct.LabelledResult) -> None:
    mask = table["direction"] == "egress"
    part = table[mask]
    policy = ct.Policy.suggest(part)
    result = policy.check(part)
    assert (result.connections, result.refused) == (len(part), 0)
    assert pickle.loads(pickle.dumps(part)) == part
    assert policy.check(pickle.loads(pickle.dumps(part))).connections == len(part)
    found = summaries.summarise(part, tracked.stats, ct.Config())
    assert sum(one.connections for one in found.directions.values()) <= len(part)
    assert np.array_equal(part.places(0)[0], table.places(0)[0][mask])
    codes, words = part.codes("direction")
    assert {words[code] for code in codes} == {"egress"}
