"""Problems that lint reports."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from conntrack_py.policy.model import Numbered

Severity = Literal["error", "warning", "note"]


class Check(NamedTuple):
    """A check: its name, how bad what it finds is, what it finds in a sentence, and whether it needs traffic."""

    name: str
    severity: Severity
    sentence: str
    needs_traffic: bool


#: The checks by their ids. A single finding may be less bad than its check, never worse unless traffic proves it.
CHECKS: dict[str, Check] = {
    "D1": Check(
        "mirrored-service",
        "error",
        "The same service is allowed in both directions; one of the two rules only repeats what replies may do anyway.",
        False,
    ),
    "D2": Check(
        "reply-only-rule",
        "warning",
        "Nobody ever initiated in the direction of this rule; only replies, which need no rule, could have matched it.",
        True,
    ),
    "D3": Check(
        "open-egress",
        "warning",
        "A group that answers may initiate towards everybody.",
        False,
    ),
    "D4": Check(
        "ephemeral-return-path",
        "warning",
        "The ports of clients are open as if replies needed a rule.",
        False,
    ),
    "D5": Check(
        "source-port-rule",
        "error",
        "Packets are accepted for their source port, which the sender chooses.",
        False,
    ),
    "D6": Check(
        "new-in-state-rule",
        "error",
        "The rule for established connections accepts new ones as well, so that nothing is left to drop.",
        False,
    ),
    "D7": Check(
        "no-state-rule",
        "error",
        "No rule accepts established connections; mirrored ports stand in for it.",
        False,
    ),
    "D8": Check(
        "output-not-filtered",
        "warning",
        "A server's input is filtered and its output is not, so it may initiate anything.",
        False,
    ),
    "D9": Check(
        "side-left-open",
        "warning",
        "One direction of a group has no rules and is allowed (Kubernetes: it is not among policyTypes), or egress is "
        "closed although members ask for names (DNS).",
        False,
    ),
    "D10": Check(
        "never-used",
        "note",
        "No connection of the capture needed this rule.",
        True,
    ),
    "D11": Check(
        "too-wide",
        "warning",
        "The rule allows many more addresses or ports than were used.",
        True,
    ),
    "D12": Check(
        "doubtful-evidence",
        "warning",
        "All connections that used this rule have an uncertain initiator.",
        True,
    ),
    "D13": Check(
        "shadowed-rule",
        "warning",
        "Other rules of the group already allow all that this rule allows.",
        False,
    ),
    "D14": Check(
        "contradicting-groups",
        "warning",
        "Groups share addresses, and what one allows the other does not.",
        False,
    ),
    "D15": Check(
        "unreachable-rule",
        "warning",
        "Earlier rules of the chain take every packet that this rule is about.",
        False,
    ),
    "D16": Check(
        "accepts-everything",
        "error",
        "A rule accepts every new connection, so that what follows it, and the policy, drop nothing.",
        False,
    ),
    "D17": Check(
        "nothing-dropped",
        "warning",
        "No chain drops anything.",
        False,
    ),
    "D18": Check(
        "open-administration",
        "warning",
        "A port of administration, or of a database, is open to the world.",
        False,
    ),
    "D19": Check(
        "not-judged",
        "error",
        "A line is wrong, or something of the file is not part of what lint judges.",
        False,
    ),
    "D20": Check(
        "expired-rule",
        "warning",
        "The day on which this rule was to end has passed.",
        False,
    ),
}
_WORST: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong with a policy.

    Attributes:
        check: The id of the check, such as `D1`.
        name: Its name, such as `mirrored-service`.
        severity: `error`, `warning` or `note`.
        message: What is wrong.
        fix: What to do about it.
        place: Where: a key such as `groups.web.ingress[0]`, or a chain and handle.
        line: The line in the file, from 1, where it is known.
        rule: The rule in words; empty where it is about more than a rule.
    """

    check: str
    name: str
    severity: Severity
    message: str
    fix: str
    place: str
    line: int | None = None
    rule: str = ""

    def __str__(self) -> str:
        """The problem in a line."""
        where = self.place if self.line is None else f"line {self.line}, {self.place}"
        return f"{self.check} {self.severity}: {where}: {self.message} {self.fix}"


def problem(
    check: str,
    message: str,
    fix: str,
    place: str,
    *,
    line: int | None = None,
    rule: str = "",
    severity: Severity | None = None,
) -> Problem:
    """A problem with the name of its check, and its severity unless another is given."""
    known = CHECKS[check]
    return Problem(
        check=check,
        name=known.name,
        severity=severity or known.severity,
        message=message,
        fix=fix,
        place=place,
        line=line,
        rule=rule,
    )


def of_rule(check: str, numbered: Numbered, message: str, fix: str, severity: Severity | None = None) -> Problem:
    """A problem of one rule."""
    return problem(check, message, fix, numbered.place, line=numbered.rule.line, rule=str(numbered), severity=severity)


def left_out(warning: str) -> Problem:
    """D19 for a warning of a reader; it may begin with the place."""
    match = re.match(r"(?:[^\n:]*:(\d+): )?(?:([\w.\[\]/-]{1,200}): )?(.*)", warning, re.DOTALL)
    place, line = (match[2] or "file", match[1]) if match else ("file", None)
    message = f"The file says more than lint judges: {match[3] if match else warning}"
    fix = "Look at it yourself: it is not part of what lint says."
    if not message.endswith("."):
        message += "."
    return problem("D19", message, fix, place, line=int(line) if line else None, severity="warning")


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """The worst first, then in the order of the checks; what was found first stays first."""
    return sorted(problems, key=lambda found: (_WORST.index(found.severity), int(found.check[1:])))


def plural(number: int, word: str) -> str:
    """A number of things: `1 connection`, `2,000 connections`."""
    many = word[:-1] + "ies" if word.endswith("y") else word + ("es" if word.endswith("s") else "s")
    return f"{number:,} {word if number == 1 else many}"
