"""Pairs of connections across a gateway, against the truth of captures made by seed."""

from __future__ import annotations

import itertools
import random
import warnings
from pathlib import Path

import pytest

import conntrack_py as ct
from support.gateway import lose
from support.translated import Made, World, judge, make


def correlated(made: Made, directory: Path, **options: object) -> ct.Correlation:
    inside, outside = made.write(directory)
    return ct.correlate([inside], [outside], **options)  # type: ignore[arg-type]


ALL = {"forwarded": 0.1, "hairpin": 0.05, "nat64": 0.1}

WORLDS = {
    "random": World(1),
    "kept ports that collide": World(2, ports="keep", client_ports=100),
    "half a second, drifting": World(3, skew=0.5, drift=1e-4),
    "an hour": World(4, skew=-3600),
    "every kind": World(5, connections=1500, skew=0.5, **ALL),
    "carrier-grade": World(6, connections=3000, hosts=2000, gateways=2, skew=0.5, **ALL),
    "no TCP": World(7, tcp=0, dns=0.6, skew=0.5),
    "no identifications": World(8, ids=False, alike=0, skew=0.5),
    "midstream": World(9, midstream=True, skew=-0.5),
}


@pytest.mark.parametrize("name", WORLDS)
def test_every_pair_is_right_and_most_are_found(name: str, tmp_path: Path) -> None:
    made = make(WORLDS[name])
    judged = judge(made, correlated(made, tmp_path))
    assert judged.precision >= 0.999, judged
    assert judged.recall >= 0.9, judged


LOSSY = {
    "random": World(11, loss=0.3, skew=0.5, connections=1500),
    "kept ports that collide": World(12, loss=0.3, ports="keep", client_ports=100, connections=1500),
    "every kind, drifting": World(13, loss=0.3, skew=-0.5, drift=-1e-4, connections=3000, **ALL),
    "carrier-grade": World(14, loss=0.3, hosts=2000, gateways=2, skew=3600, connections=3000),
    "midstream": World(15, loss=0.3, midstream=True, connections=1500),
}


@pytest.mark.parametrize("name", LOSSY)
def test_with_three_of_ten_packets_lost_on_each_side(name: str, tmp_path: Path) -> None:
    made = make(LOSSY[name])
    judged = judge(made, correlated(made, tmp_path))
    assert judged.precision >= 0.999, judged
    assert judged.recall >= 0.75, judged


def test_identifiers_that_collide_at_a_thousand_connections_a_second(tmp_path: Path) -> None:
    """Few names and many questions: ids collide within the tolerance. docs/how-to/translations.md has an hour of it."""
    made = make(World(21, connections=10_000, seconds=10, tcp=0, dns=0.8, icmp=0.05, names=5, loss=0.3, skew=0.5))
    judged = judge(made, correlated(made, tmp_path))
    assert judged.precision >= 0.999, judged
    assert judged.recall >= 0.75, judged


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("more", [{}, {"tcp": 0, "icmp": 0.3}, {"tcp": 0, "dns": 1, "icmp": 0, "names": 3}])
def test_captures_of_two_sites_have_no_pair(seed: int, more: dict[str, float], tmp_path: Path) -> None:
    """Even where they have servers and names in common."""
    one = make(World(seed, connections=1500, **more))  # type: ignore[arg-type]
    other = make(World(seed + 100, connections=1500, **more))  # type: ignore[arg-type]
    inside, _ = one.write(tmp_path)
    _, outside = other.write(tmp_path, "other-")
    found = ct.correlate(inside, outside)
    assert found.pairing.paired == 0
    assert found.pairing.offset is None


def test_a_capture_of_nothing(tmp_path: Path) -> None:
    made = make(World(1, connections=50))
    inside, _ = made.write(tmp_path)
    _, empty = Made().write(tmp_path, "empty-")
    assert ct.correlate(inside, empty).pairing.paired == 0
    found = ct.correlate(empty, inside)
    assert (len(found.connections), found.pairing.paired) == (0, 0)


def test_equal_texts_without_identifications_are_counted_and_not_paired(tmp_path: Path) -> None:
    made = make(World(31, alike=1, ids=False, dns=0, icmp=0, local=0))
    found = correlated(made, tmp_path)
    table = found.connections.where("nat_confidence > 0")
    assert set(table["proto"]) == {"tcp"}
    assert found.pairing.ambiguous_inside > 200
    assert found.pairing.ambiguous_outside > 200


def test_the_order_of_files_and_the_number_of_threads_make_no_difference(tmp_path: Path) -> None:
    made = make(World(41, loss=0.3, skew=0.5, **ALL))
    parts = []
    for place in range(3):
        part = Made(inside=made.inside[place::3], outside=made.outside[place::3])
        parts.append(part.write(tmp_path, f"{place}-"))
    tables = []
    for order, threads in zip(itertools.permutations(parts), (1, 2, 3, 1, 2, 3), strict=True):
        found = ct.correlate([one for one, _ in order], [one for _, one in order], config=ct.Config(threads=threads))
        tables.append((found.connections, found.outside, found.pairing))
    assert all(one == tables[0] for one in tables[1:])


def test_columns_of_both_sides_and_nulls(tmp_path: Path) -> None:
    found = correlated(make(World(51, **ALL)), tmp_path)
    assert found.outside is not None
    for table in (found.connections, found.outside):
        assert table.columns[-6:] == [
            *("nat_orig_addr", "nat_orig_port", "nat_resp_addr", "nat_resp_port"),
            *("nat_evidence", "nat_confidence"),
        ]
        alone = next(row._asdict() for row in table if row._asdict()["nat_evidence"] is None)
        assert {alone[name] for name in table.columns[-6:]} == {None}
    # Both sides say the same of a pair.
    there = {
        (row.proto, *row[3:7]): row._asdict()
        for row in found.outside
        if row.proto == "tcp" and row._asdict()["nat_evidence"]
    }
    checked = 0
    for row in found.connections.where('proto == "tcp" and nat_confidence > 0'):
        values = row._asdict()
        other = there.get(
            (row.proto, *(values[f"nat_{name}"] for name in ("orig_addr", "orig_port", "resp_addr", "resp_port")))
        )
        if other is not None:
            checked += 1
            assert (row.orig_addr, row.orig_port) == (other["nat_orig_addr"], other["nat_orig_port"])
            assert values["nat_confidence"] >= 0.9
    assert checked > 100


def test_the_clock(tmp_path: Path) -> None:
    made = make(World(61, connections=1000, skew=3600.25, drift=5e-5))
    pairing = correlated(made, tmp_path).pairing
    assert pairing.offset is not None
    assert abs(pairing.offset / 1e9 - 3600.25) < 0.01
    assert pairing.drift == pytest.approx(50, abs=10)
    known = correlated(made, tmp_path, offset=3600.25, tolerance=0.05).pairing
    assert known.samples == 0
    assert abs(known.paired - pairing.paired) < 20
    wrong = correlated(make(World(62, tcp=0)), tmp_path, offset=17.0).pairing
    assert wrong.paired == 0


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither outside nor memory"):
        ct.correlate(tmp_path / "a")
    with pytest.raises(ValueError, match="tolerance"):
        ct.correlate("a", "b", tolerance=-1)
    with pytest.raises(FileNotFoundError):
        ct.correlate(tmp_path / "a", tmp_path / "b")


def test_damage_does_no_harm(tmp_path: Path) -> None:
    made = make(World(71, skew=0.5))
    inside, outside = made.write(tmp_path)
    rng = random.Random(71)
    lose(outside, tmp_path / "lost.pcap", rng, 0.1)
    data = bytearray((tmp_path / "lost.pcap").read_bytes())
    for _ in range(40):
        data[rng.randrange(24, len(data))] ^= 1 << rng.randrange(8)
    (tmp_path / "bad.pcap").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        judged = judge(made, ct.correlate(inside, tmp_path / "bad.pcap"))
    assert judged.precision >= 0.999
    assert judged.recall > 0.5
