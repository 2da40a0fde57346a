"""Services: one list of those that administer, and the back ends that servers call for their work."""

from __future__ import annotations

from conntrack_py.policy.lint import reach
from conntrack_py.policy.traffic import pairs, services


def test_lint_and_suggest_have_one_list_of_administration() -> None:
    everything = ((0, 65535),)
    told = {word for proto in ("tcp", "udp") for word in reach.services(frozenset((proto,)), everything)}
    # A range of all ports is about clients, too, so each port is asked for.
    told |= {
        word for proto, port in services.ADMINISTRATION for word in reach.services(frozenset((proto,)), ((port, port),))
    }
    assert told == {f"{name} ({proto} {port})" for (proto, port), name in services.ADMINISTRATION.items()}
    assert services.ADMINISTRATION.keys() - {("tcp", 21)} == services.ASKED_FROM_OUTSIDE
    assert pairs.ASKED_FROM_OUTSIDE is services.ASKED_FROM_OUTSIDE


def test_back_ends() -> None:
    assert services.back_end("tcp", 5432) == "database"
    assert services.back_end("udp", 53) == "dns"
    assert services.back_end("tcp", 9092) == "other"
    for known in (("tcp", 22), ("tcp", 445), ("tcp", 3389), ("tcp", 21), ("tcp", 1389), ("tcp", 9001), ("udp", 5432)):
        assert services.back_end(*known) is None
