"""Results of checks of deployed rulesets: for programs as JSON and SARIF."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conntrack_py.policy import sarif
from conntrack_py.policy.rulesets.model import Note
from conntrack_py.schema import moment
from conntrack_py.stats import Stats, skipped_as_json
from conntrack_py.table import ConnectionTable


@dataclass(frozen=True, kw_only=True)
class RuleUse:
    """A rule of the ruleset and what surely matched it.

    Attributes:
        chain: Its chain.
        rule: It, in its own words.
        line: Its line, where it was read from text.
        handle: Its handle, where it was read from the kernel's list.
        action: `accept`, `drop`, or `unknown`: it says what is not expressed here.
        connections: Connections that opened by it, or were dropped.
        maybe: Connections whose verdict depends on it, and is unknown.
        first: When the first of them began, nanoseconds since 1970 UTC; None: there was none.
        last: When the last of them began.
        wider: What it accepts beyond what was seen, or "".
    """

    chain: str
    rule: str
    line: int | None
    handle: int | None
    action: str
    connections: int
    maybe: int
    first: int | None
    last: int | None
    wider: str


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Connections to one service that one rule, or the policy of a chain, refuses.

    Attributes:
        by: The rule, or `policy drop of INPUT`.
        line: Its line, where it was read from text.
        reply: The opening packet passes, and the answer does not.
        service: The service.
        connections: How many.
        doubtful: How many of them are scans, unanswered, or have an initiator that is not sure.
        originators: The first few.
        responders: The first few.
        first: When the first of them began, nanoseconds since 1970 UTC.
        last: When the last of them began.
    """

    by: str
    line: int | None
    reply: bool
    service: str
    connections: int
    doubtful: int
    originators: tuple[str, ...]
    responders: tuple[str, ...]
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """Connections whose verdict depends on something that is not known.

    Attributes:
        why: The rule, or the reason in words.
        line: The line of the rule, where it was read from text.
        connections: How many.
    """

    why: str
    line: int | None
    connections: int


@dataclass(frozen=True, kw_only=True, eq=False)
class DeployedResult:
    """Result of a check of a deployed ruleset.

    Attributes:
        connections: How many connections there are.
        allowed: Those whose packets pass.
        refused: Those whose opening packet, or its answer, is dropped.
        doubtful: Those of `refused` that nobody should open a firewall for, see `Dropped.doubtful`.
        unknown: Those whose verdict depends on what is not known.
        refusals: The refused ones by rule and service, the most connections first.
        unknowns: The unknown ones by reason, the most connections first.
        rules: Rules that accept or drop, and their use, in the order of the file.
        notes: What of the file is not expressed.
        verdicts: For each connection `allowed`, `refused` or `unknown`.
        table: The connections.
        stats: The account of the captures; None where only connections were looked at.
    """

    connections: int
    allowed: int
    refused: int
    doubtful: int
    unknown: int
    refusals: tuple[Dropped, ...]
    unknowns: tuple[Unknown, ...]
    rules: tuple[RuleUse, ...]
    notes: tuple[Note, ...]
    verdicts: list[str]
    table: ConnectionTable
    stats: Stats | None = None

    @property
    def unused(self) -> tuple[RuleUse, ...]:
        """The rules that no connection needed, surely or perhaps."""
        return tuple(use for use in self.rules if not use.connections and not use.maybe)


def as_json(result: DeployedResult) -> dict[str, object]:
    """The result as what `json` takes; times as RFC 3339 has them."""

    def told(one: Any) -> dict[str, Any]:
        fields = dataclasses.asdict(one)
        for name in ("first", "last"):
            if name in fields:
                fields[name] = None if fields[name] is None else moment(fields[name])
        return fields

    return {
        "ok": not result.refused and not result.unknown,
        "connections": {
            "all": result.connections,
            "allowed": result.allowed,
            "refused": result.refused,
            "doubtful": result.doubtful,
            "unknown": result.unknown,
        },
        "skipped_files": skipped_as_json(result.stats),
        "refusals": [told(one) for one in result.refusals],
        "unknown": [told(one) for one in result.unknowns],
        "rules": [told(one) for one in result.rules],
        "not_expressed": [told(one) for one in result.notes],
    }


def results(result: DeployedResult) -> list[sarif.Result]:
    """Refusals, unknown verdicts, and rules that nothing matched or that are too wide, as SARIF has them."""
    return [*_refused(result), *_unknown(result), *_rules(result)]


def _refused(result: DeployedResult) -> Iterator[sarif.Result]:
    for one in result.refusals:
        what = "the answer of " if one.reply else ""
        ends = f"{', '.join(one.originators)} to {', '.join(one.responders)}"
        yield sarif.Result(
            rule_id="refused-by-ruleset",
            name="refused-by-ruleset",
            level="error" if one.connections > one.doubtful else "warning",
            message=f"{one.by}: refuses {what}{one.connections:,} connections ({one.doubtful:,} in doubt): "
            f"{one.service}, {ends}.",
            help="Connections of the capture whose packets the ruleset drops.",
            line=one.line,
            key=f"{one.by} {one.service} {one.reply}",
            default_level="error",
        )


def _unknown(result: DeployedResult) -> Iterator[sarif.Result]:
    for one in result.unknowns:
        yield sarif.Result(
            rule_id="unknown-verdict",
            name="unknown-verdict",
            level="warning",
            message=f"{one.why}: the verdict on {one.connections:,} connections depends on it, and it is not known.",
            help="Connections whose verdict depends on what is not expressed or not told.",
            line=one.line,
            key=one.why,
        )
    for note in result.notes:
        yield sarif.Result(
            rule_id="not-expressed",
            name="not-expressed",
            level="note",
            message=note.message,
            help="Parts of the ruleset that verdicts leave out.",
            line=note.line,
            key=note.text or note.message,
        )


def _rules(result: DeployedResult) -> Iterator[sarif.Result]:
    for use in result.unused:
        yield sarif.Result(
            rule_id="never-matched",
            name="never-matched",
            level="note",
            message=f"{use.chain}: {use.rule}: no connection of the capture matched it.",
            help="Rules that nothing matched in this window of time.",
            line=use.line,
            key=f"{use.chain} {use.rule}",
        )
    for use in result.rules:
        if use.wider:
            yield sarif.Result(
                rule_id="wider-than-traffic",
                name="wider-than-traffic",
                level="note",
                message=f"{use.chain}: {use.rule}: {use.wider}.",
                help="Rules that accept many more addresses or ports than the capture has.",
                line=use.line,
                key=f"{use.chain} {use.rule}",
            )


__all__ = ("DeployedResult", "Dropped", "RuleUse", "Unknown", "as_json", "results")
