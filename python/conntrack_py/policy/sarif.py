"""Findings as SARIF 2.1.0, which code hosts show beside the lines they are about."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from conntrack_py.policy.lint.problem import CHECKS, Problem, Severity

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_TOOL = "conntrack_py"
#: The name and version of how results are told apart; results of other versions are new ones.
_FINGERPRINT = "conntrackPy/v1"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finding of any command.

    Attributes:
        rule_id: The id of its kind, such as `D1`.
        name: The name of its kind, such as `mirrored-service`.
        level: `error`, `warning` or `note`.
        message: What was found.
        help: What its kind is about, in a sentence or more.
        uri: The file it is in; empty: the artifact of the report.
        line: The line, from 1, where it is known.
        key: What makes it the same finding in another run; empty: its message.
        default_level: The level of its kind; None: that of the finding.
    """

    rule_id: str
    name: str
    level: Severity
    message: str
    help: str
    uri: str = ""
    line: int | None = None
    key: str = ""
    default_level: Severity | None = None


def of_problem(problem: Problem) -> Result:
    """A problem that lint found."""
    check = CHECKS[problem.check]
    return Result(
        rule_id=problem.check,
        name=problem.name,
        level=problem.severity,
        message=f"{problem.place}: {problem.message} {problem.fix}",
        help=check.sentence,
        line=problem.line,
        # Neither counts of traffic nor the number of a rule: they change when nothing about it does.
        key=problem.rule or problem.place,
        default_level=check.severity,
    )


def sarif(problems: Iterable[Problem | Result], *, tool_version: str, artifact: str) -> dict[str, Any]:
    """A report of one run.

    Args:
        problems: What was found.
        tool_version: The version of this package.
        artifact: The file that was looked at, as a path; relative ones are relative to the root of the project.

    Returns:
        The objects that the JSON is.
    """
    results = [of_problem(found) if isinstance(found, Problem) else found for found in problems]
    kinds: dict[str, Result] = {}
    for result in results:
        kinds.setdefault(result.rule_id, result)
    order = {rule_id: number for number, rule_id in enumerate(kinds)}
    times: dict[str, int] = {}
    listed = []
    for result in results:
        uri = _uri(result.uri or artifact)
        base = "\0".join((result.rule_id, uri, result.key or result.message))
        times[base] = times.get(base, 0) + 1
        listed.append(_result(result, order[result.rule_id], uri, f"{_digest(base)}:{times[base]}"))
    driver = {"name": _TOOL, "version": tool_version, "rules": [_rule(kind) for kind in kinds.values()]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": listed}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(kind: Result) -> dict[str, Any]:
    return {
        "id": kind.rule_id,
        "name": "".join(word.capitalize() for word in kind.name.split("-")),
        "shortDescription": {"text": kind.name.replace("-", " ").capitalize() + "."},
        "fullDescription": {"text": kind.help},
        "help": {"text": kind.help},
        "defaultConfiguration": {"level": kind.default_level or kind.level},
    }


def _result(result: Result, number: int, uri: str, fingerprint: str) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": uri}}
    if result.line is not None:
        place["region"] = {"startLine": result.line}
    return {
        "ruleId": result.rule_id,
        "ruleIndex": number,
        "level": result.level,
        "message": {"text": result.message},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {_FINGERPRINT: fingerprint},
    }


def _uri(path: str) -> str:
    pure = PurePath(path)
    return pure.as_uri() if pure.is_absolute() else quote(pure.as_posix())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
