"""The sections of the page as plain values: what the template shows, already in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conntrack_py.reporting.facts import Facts
from conntrack_py.reporting.sections import gateway, rules, servers, top, traffic, trust

SECTIONS: dict[str, Callable[[Facts], Any]] = {
    "head": top.head,
    "care": top.care,
    "answer": top.answer,
    "servers": servers.servers,
    "matrix": traffic.matrix,
    "volume": traffic.volume,
    "time": traffic.time,
    "initiators": traffic.initiators,
    "vain": traffic.vain,
    "roles": traffic.roles,
    "behind": gateway.behind,
    "rules": rules.rules,
    "check": rules.check,
    "both": rules.both,
    "evidence": trust.evidence,
    "capture": trust.capture,
}
#: Sections of a capture in which nobody initiated anything.
EMPTY = ("head", "care", "answer", "capture")
