"""`conntrack-py policy`: suggest, check, lint, convert.

The policy, or the answer for programs, goes to standard output; what is said about it to people goes to standard error
where standard output carries a policy. Exit status: 1 if `check` refused something or `lint` found something.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from conntrack_py import __version__
from conntrack_py.cli import log
from conntrack_py.cli.options import (
    config_of,
    input_options,
    need_standard_output,
    optional_input_options,
    tracked,
    watched,
)

if TYPE_CHECKING:
    from conntrack_py.table import ConnectionTable


class _Format(click.Choice):  # type: ignore[type-arg]
    """A format of policies, of a list in `conntrack_py.policy.policy`, which is imported when a command asks for it."""

    def __init__(self, kinds: str) -> None:
        self._kinds = kinds
        self.case_sensitive = True

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the formats."""
        from conntrack_py.policy import policy

        names: tuple[str, ...] = getattr(policy, self._kinds)
        return names


@click.group()
@log.option
def policy() -> None:
    """Firewall rules from captures, and back: who may initiate what."""


_OUTPUT = click.option(
    "-o", "--output", metavar="FILE", default="-", help="Where to write to; - is standard output (default)."
)
_CONFIDENCE = click.option(
    "--min-confidence",
    metavar="X",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="The least confidence in the originator of connections that rules are made of.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
_SARIF = click.option("--sarif", "as_sarif", is_flag=True, help="SARIF 2.1.0, for CI systems and code hosts.")


@policy.command()
@input_options
@click.option(
    "--to", "format", type=_Format("WRITTEN"), default="toml", show_default=True, help="The language of the rules."
)
@click.option(
    "--groups",
    metavar="POLICY",
    type=click.Path(allow_dash=True),
    help="A policy whose groups are kept, such as an earlier suggestion with groups renamed. Default: zones of "
    "--config; other hosts are grouped by behaviour.",
)
@click.option("--max-rules", metavar="N", type=click.IntRange(min=1), help="Merge rules until there are at most N.")
@click.option("--fold-ports", metavar="N", type=click.IntRange(min=1), help="At most N ports or ranges in a rule.")
@click.option(
    "--fold-peers",
    metavar="N",
    type=click.IntRange(min=1),
    help="At most N addresses in a rule: folded into groups seen as a whole, then into networks of which half was "
    "seen, and at last into any.",
)
@_CONFIDENCE
@click.option(
    "--server-egress",
    type=click.Choice(["list", "allow"]),
    default="list",
    show_default=True,
    help="Outbound connections of servers: list them for a decision, or allow them.",
)
@_OUTPUT
@click.option("--json", "as_json", is_flag=True, help="For programs: the policy and the report as one JSON object.")
def suggest(
    files: tuple[str, ...],
    format: str,
    groups: str | None,
    max_rules: int | None,
    fold_ports: int | None,
    fold_peers: int | None,
    min_confidence: float,
    server_egress: str,
    output: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Suggest the least rules that allow the observed connections in their direction.

    Every rule has its evidence. Scans, what nobody answered and what is not sure is left out, and counted; so is what
    servers initiate outwards: it is listed, with what it would lose if it were denied. Nothing is wider than seen
    unless you ask for it.
    """
    from conntrack_py.cli.render import policy as render
    from conntrack_py.policy import Policy
    from conntrack_py.policy import suggest as suggestions

    if output == "-":
        need_standard_output()
    _input_once(groups, files)
    given = Policy.load(groups) if groups is not None else None
    config = config_of(**options)

    def work(progress: Any) -> Policy:
        return Policy.suggest(
            files,
            config=config,
            groups=given,
            min_confidence=min_confidence,
            server_egress=server_egress == "allow",
            max_rules=max_rules,
            fold_ports=fold_ports,
            fold_peers=fold_peers,
            progress=progress,
        )

    made = watched(options["progress"], work)
    assert made.report is not None
    written = made.convert(format)
    if as_json:
        both = {"policy": made.to_dict(), "report": suggestions.as_json(made.report), "warnings": written.warnings}
        if format not in ("toml", "json"):
            both["written"] = written.text
        _write(json.dumps(both, indent=2) + "\n", output)
        return
    _write(written.text, output)
    for line in written.warnings:
        log.warning(line)
    if log.is_json():
        log.event("info", "report", report=suggestions.as_json(made.report))
    else:
        render.report(render.errors(), made, made.report, max_rules)


@policy.command()
@click.argument("policy", metavar="POLICY", type=click.Path(allow_dash=True))
@input_options
@_CONFIDENCE
@click.option(
    "--fail-on",
    type=click.Choice(["any", "sure", "never"]),
    default="any",
    show_default=True,
    help="Exit with status 1 on any refused connection, or only on confident ones, of which `suggest` would make "
    "rules.",
)
@_JSON
@_SARIF
@_OUTPUT
def check(
    policy: str,
    files: tuple[str, ...],
    min_confidence: float,
    fail_on: str,
    as_json: bool,
    as_sarif: bool,
    output: str,
    **options: Any,
) -> int:
    """Check a capture against POLICY: connections it refuses, and rules never used.

    Connections are judged by who initiated them; packets go through a gateway with this policy, in capture time.
    """
    from conntrack_py.cli.render import policy as render
    from conntrack_py.policy import Policy
    from conntrack_py.policy import check as checks

    _one_of(as_json, as_sarif)
    _input_once(policy, files)
    if output == "-":
        need_standard_output()
    loaded = Policy.load(policy)
    for line in loaded.warnings:
        log.warning(line)
    config = config_of(**options)

    def work(progress: Any) -> checks.CheckResult:
        return loaded.check(files, config=config, min_confidence=min_confidence, progress=progress)

    result = watched(options["progress"], work)
    if as_json:
        _write(json.dumps(checks.as_json(result), indent=2) + "\n", output)
    elif as_sarif:
        from conntrack_py.policy import sarif

        found = sarif.sarif(checks.results(loaded, result), tool_version=__version__, artifact=loaded.source)
        _write(json.dumps(found, indent=2) + "\n", output)
    else:
        with render.opened(output) as out:
            render.check(out, result)
    sure = result.refused - result.doubtful
    return int({"any": result.refused, "sure": sure, "never": 0}[fail_on] > 0)


@policy.command()
@click.argument("policy", metavar="POLICY", type=click.Path(allow_dash=True))
@optional_input_options
@click.option("--from", "format", type=_Format("LINTED"), help="Default: told by name and content.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "note", "never"]),
    default="warning",
    show_default=True,
    help="The least severity that sets exit status 1.",
)
@_JSON
@_SARIF
@_OUTPUT
def lint(
    policy: str,
    files: tuple[str, ...],
    format: str | None,
    fail_on: str,
    as_json: bool,
    as_sarif: bool,
    output: str,
    **options: Any,
) -> int:
    """Lint POLICY on its own or, given captures, against their traffic.

    POLICY may also be a firewall's own rules: `nft -j list ruleset`, `iptables-save`, `aws ec2 describe-network-acls`.
    """
    import dataclasses

    from conntrack_py.cli.render import policy as render
    from conntrack_py.policy import lint_file

    _one_of(as_json, as_sarif)
    _input_once(policy, files)
    if output == "-":
        need_standard_output()
    connections: ConnectionTable | None = None
    if files:
        connections = tracked(files, config_of(**options), options["progress"]).connections
    problems = lint_file(policy, connections, format)
    if as_json:
        _write(json.dumps([dataclasses.asdict(one) for one in problems], indent=2) + "\n", output)
    elif as_sarif:
        from conntrack_py.policy import sarif

        _write(json.dumps(sarif.sarif(problems, tool_version=__version__, artifact=policy), indent=2) + "\n", output)
    else:
        with render.opened(output) as out:
            render.problems(out, problems, policy)
    severities = ("error", "warning", "note", "never")
    return int(
        any(severities.index(one.severity) <= severities.index(fail_on) for one in problems) and fail_on != "never"
    )


@policy.command()
@click.argument("policy", metavar="POLICY", type=click.Path(allow_dash=True))
@click.option("--from", "source", type=_Format("READ"), help="Default: told by name and content.")
@click.option("--to", "format", type=_Format("WRITTEN"), required=True, help="The language to write.")
@click.option(
    "--group",
    metavar="NAME",
    help="nftables, iptables, ip6tables: the rules for a host of this group, instead of those for a gateway.",
)
@_OUTPUT
@log.option
def convert(policy: str, source: str | None, format: str, group: str | None, output: str) -> None:
    """Convert POLICY to another tool's language. A rule it cannot express is named in a warning on standard error."""
    from conntrack_py.policy import Policy

    if output == "-":
        need_standard_output()
    loaded = Policy.load(policy, source)
    written = loaded.convert(format, group=group)
    _write(written.text, output)
    for line in (*loaded.warnings, *written.warnings):
        log.warning(line)


def _input_once(policy: str | None, files: tuple[str, ...]) -> None:
    if [policy, *files].count("-") > 1:
        raise click.UsageError("- is given twice, and standard input can be read once.")


def _one_of(as_json: bool, as_sarif: bool) -> None:
    if as_json and as_sarif:
        raise click.UsageError("--json and --sarif: give one of them.")


def _write(text: str, output: str) -> None:
    if output == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        # What fails while writing does not name the file.
        error.filename = error.filename or output
        raise
