"""Line numbers of nodes in YAML and JSON, and sets of addresses and ports."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conntrack_py.policy import yaml_places
from conntrack_py.policy.rulesets import spans


def test_places_in_yaml() -> None:
    text = """\
groups:
  web:
    ingress:
      - {from: any, ports: [80,
          443]}
    note: &a {x: 1}
    again: *a
"""
    found = yaml_places.lines(text)
    assert found["groups"] == 1
    assert found["groups.web"] == 2
    assert found["groups.web.ingress[0]"] == 4
    assert found["groups.web.ingress[0].ports[1]"] == 5
    assert found["groups.web.note.x"] == 6
    assert found["groups.web.again"] == 7


@pytest.mark.parametrize("loader", [yaml_places._loader(), yaml.SafeLoader])
def test_places_in_json_and_several_documents(loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """LibYAML takes tabs between tokens, PyYAML's own loader does not."""
    monkeypatch.setattr(yaml_places, "_loader", lambda: loader)
    assert yaml_places.lines('{\n\t"a": [\n\t\t1,\n\t\t{"b": 2}]}') == {"a": 2, "a[0]": 3, "a[1]": 4, "a[1].b": 4}
    assert yaml_places.lines("a: 1\n---\na: 1\nb: 1\n") == {"a": 3, "b": 4}


@pytest.mark.parametrize("text", ["a: [", "\0", "a: b: c", "&a [*a, *b]", "[" * 5000])
def test_no_places_where_it_does_not_parse(text: str) -> None:
    assert yaml_places.lines(text) == {}


def test_aliases_do_not_explode() -> None:
    text = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    assert len(yaml_places.lines(text + "ring: &ring [*ring]\n")) < 200


RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda at: (at[0], at[0] + at[1])), max_size=6)


@given(RANGES, RANGES)
def test_spans_are_sets(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    def members(ranges: Any) -> set[int]:
        return {number for first, last in ranges for number in range(first, last + 1)}

    one, two = spans.union(a), spans.union(b)
    assert members(spans.both(one, two)) == members(a) & members(b)
    assert members(spans.without(one, two)) == members(a) - members(b)
    assert members(spans.union(a, b)) == members(a) | members(b)
    assert spans.within(one, two) == (members(a) <= members(b))
    assert spans.count(one) == len(members(a))
    assert all(spans.holds(one, number) == (number in members(a)) for number in range(70))


def test_spans_of_addresses() -> None:
    both = spans.union(spans.V4, spans.V6)
    assert spans.is_everybody(both)
    assert spans.address_text(both) == "any"
    assert not spans.holds(spans.V4, spans.of_address("::1"))
    assert [str(network) for network in spans.networks(both)] == ["0.0.0.0/0", "::/0"]
    assert spans.networks(spans.of_unknown(3)) == []


@pytest.mark.parametrize("ports", [(1024, 65535), (32768, 60999), (49152, 65535), (20000, 65535)])
def test_ephemeral(ports: tuple[int, int]) -> None:
    assert spans.is_ephemeral((ports,))


@pytest.mark.parametrize("ports", [(0, 65535), (1024, 49151), (60000, 65535), (443, 443)])
def test_not_ephemeral(ports: tuple[int, int]) -> None:
    assert not spans.is_ephemeral((ports,))
