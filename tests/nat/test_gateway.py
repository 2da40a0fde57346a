"""Pairs against real translations: nftables in network namespaces, and conntrack's own account."""

from __future__ import annotations

import os
import random
import warnings
from collections import defaultdict
from pathlib import Path

import pytest

import conntrack_py as ct
from support import corpus, gateway
from support.translated import ENDS, turned

#: Unseen: another one in every run; CONNTRACK_SEED repeats one.
SEED = int(os.environ.get("CONNTRACK_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
CONNECTIONS = 900


@pytest.fixture(scope="module", params=sorted(gateway.RULES))
def laboratory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The captures and logs of a gateway with some rules."""
    if (reason := gateway.refusal()) is not None:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp(request.param)
    gateway.run(directory, request.param, SEED, CONNECTIONS)
    return directory


def _plain(one: gateway.Tuple) -> gateway.Tuple:
    """The tuple without the identifier of ICMP, which a table has not."""
    proto, src, _, dst, _ = one
    return turned((proto, src, 0, dst, 0) if proto == "icmp" else one)


def truth_of(directory: Path) -> dict[gateway.Tuple, set[gateway.Tuple]]:
    """Tuples on both sides, from the events and the table: the kernel drops events where it must."""
    log = (directory / "conntrack.log").read_text() + (directory / "table.log").read_text()
    found: dict[gateway.Tuple, set[gateway.Tuple]] = defaultdict(set)
    for before, behind in gateway.translations(log):
        one, other = _plain(before), _plain(behind)
        if one != other:
            found[one].add(other)
            found[other].add(one)
    return found


def judged(table: ct.ConnectionTable, truth: dict[gateway.Tuple, set[gateway.Tuple]]) -> tuple[float, float]:
    """Precision and recall, of connections that the gateway translated."""
    protos = table["proto"].tolist()
    here = zip(*(table[name].tolist() for name in ENDS), strict=True)
    there = zip(*(table[f"nat_{name}"].tolist() for name in ENDS), strict=True)
    pairs = right = crossed = 0
    for proto, own, other in zip(protos, here, there, strict=True):
        known = truth.get(_plain((proto, *own)), set())
        crossed += bool(known)
        if other[0]:
            pairs += 1
            right += _plain((proto, *other)) in known
    assert crossed > CONNECTIONS / 3
    return right / pairs, right / crossed


@pytest.mark.parametrize(("loss", "skew", "drift"), [(0, 0, 0), (0, 3600, 0), (0.3, 0.5, 1e-4), (0.3, -0.5, -2e-5)])
def test_pairs_are_the_kernels(laboratory: Path, loss: float, skew: float, drift: float) -> None:
    rng = random.Random(SEED)
    inside, outside = laboratory / "i.pcap", laboratory / "o.pcap"
    gateway.lose(laboratory / "inside.pcap", inside, rng, loss)
    gateway.lose(laboratory / "outside.pcap", outside, rng, loss, skew, drift)
    with warnings.catch_warnings():
        # Captures with losses look doubtful.
        warnings.simplefilter("ignore", ct.CaptureWarning)
        found = ct.correlate(inside, outside)
    precision, recall = judged(found.connections, truth_of(laboratory))
    corpus.SUMMARY.append(
        f"{laboratory.name}: loss {loss}, skew {skew} s: precision {precision:.4f}, recall {recall:.4f} (seed {SEED})"
    )
    assert precision >= 0.999
    assert recall >= (0.75 if loss else 0.9)
    assert found.pairing.offset is not None
    assert abs(found.pairing.offset / 1e9 - skew) < 0.02


def test_the_gateways_own_table_tells_the_rest(laboratory: Path) -> None:
    with warnings.catch_warnings():
        # It dropped events, or has lines of protocols without ports.
        warnings.simplefilter("ignore", ct.FlowWarning)
        memory = ct.translations([str(laboratory / "conntrack.log"), str(laboratory / "table.log")])
        found = ct.correlate(laboratory / "inside.pcap", memory=memory)
        real = ct.reveal(ct.track(laboratory / "outside.pcap").connections, memory)
    precision, recall = judged(found.connections, truth_of(laboratory))
    assert (precision, set(found.connections["nat_evidence"])) == (1.0, {"gateway", ""})
    assert recall >= 0.98
    # Outside only the gateway's address was captured; behind it are the hosts.
    shown = real.where('nat_evidence == "gateway" and proto == "tcp"')
    assert len(shown) > 50
    assert not {gateway.WAN, gateway.LAN} & {*shown["orig_addr"], *shown["resp_addr"]}
    assert {*gateway.HOSTS} <= {*shown["orig_addr"], *shown["resp_addr"]}
