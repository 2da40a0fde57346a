"""Commands that judge captures and policies: check, explain, diff, lint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from conntrack_py import __version__
from conntrack_py.cli import log
from conntrack_py.cli.options import (
    config_of,
    input_options,
    inventory_option,
    need_standard_output,
    optional_input_options,
    today_option,
    tracked,
    watched,
)
from conntrack_py.cli.policy.shared import (
    CONFIDENCE,
    JSON,
    MARKDOWN,
    MEMBERS,
    OUTPUT,
    PODS,
    SARIF,
    Format,
    by_name,
    input_once,
    one_of,
    write,
)
from conntrack_py.schema import dumps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conntrack_py.policy.check import CheckResult
    from conntrack_py.policy.deployed import DeployedResult
    from conntrack_py.policy.lint import Problem
    from conntrack_py.policy.sarif import Result
    from conntrack_py.table import ConnectionTable


@click.command()
@click.argument("policy", metavar="POLICY", type=click.Path(allow_dash=True))
@input_options
@inventory_option
@PODS
@CONFIDENCE
@click.option("--from", "source", type=Format("LINTED"), help="Default: told by name and content.")
@click.option(
    "--host",
    "hosts",
    metavar="ADDRESS",
    multiple=True,
    help="A ruleset: an address of the host that it is loaded on, several times for several. Without it a ruleset that "
    "forwards is that of a gateway, and another one's host is in the local networks.",
)
@click.option(
    "--interface",
    "interfaces",
    metavar="NAME=NETWORK",
    multiple=True,
    help="A ruleset: a network behind an interface. What depends on an interface without one is unknown.",
)
@MEMBERS
@click.option(
    "--fail-on",
    type=click.Choice(["any", "sure", "never"]),
    default="any",
    show_default=True,
    help="Exit with status 1 on any refused connection, or only on confident ones, of which `suggest` would make "
    "rules.",
)
@JSON
@SARIF
@OUTPUT
def check(
    policy: str,
    files: tuple[str, ...],
    inventory: Any,
    pods: str | None,
    min_confidence: float,
    source: str | None,
    hosts: tuple[str, ...],
    interfaces: tuple[str, ...],
    members: tuple[str, ...],
    fail_on: str,
    as_json: bool,
    as_sarif: bool,
    output: str,
    **options: Any,
) -> int:
    """Check a capture against POLICY: connections it refuses, and rules never used.

    Connections are judged by who initiated them; packets go through a gateway with this policy, in capture time.
    POLICY may also be a deployed ruleset (nftables, iptables-save, Azure, Google Cloud, AWS, Terraform): its verdict on
    each connection is allowed, refused, or unknown where a rule says more than is expressed here.
    """
    from conntrack_py.cli.render import policy as render
    from conntrack_py.policy import Policy
    from conntrack_py.policy import check as checks
    from conntrack_py.policy.policy import read_any

    one_of({"--json": as_json, "--sarif": as_sarif})
    input_once(policy, (pods or "", *files))
    need_standard_output(output)
    loaded = read_any(policy, source, pods=pods, at_ends=bool(hosts or members))
    if not isinstance(loaded, Policy):
        table = tracked(files, config_of(**options), options["progress"])
        how = min_confidence, fail_on, as_json, as_sarif, output
        return _check_ruleset(loaded, table, (hosts, interfaces, members), how)
    if hosts or interfaces or members:
        raise click.UsageError("--host, --interface and --members are about a deployed ruleset; POLICY is none.")
    for line in loaded.warnings:
        log.warning(line)
    config = config_of(**options)

    def work(progress: Any) -> checks.CheckResult:
        return loaded.check(files, config=config, min_confidence=min_confidence, progress=progress)

    result = watched(options["progress"], work)
    assert result.stats is not None
    log.read(result.stats)
    if as_json:
        write(dumps(checks.as_json(result) | inventory.as_json()), output)
    elif as_sarif:
        _write_sarif(checks.results(loaded, result), loaded.source, output)
    else:
        with render.opened(output) as out:
            render.check(out, result, inventory)
    return _status(result, fail_on)


def _check_ruleset(
    ruleset: Any,
    table: Any,
    where: tuple[tuple[str, ...], ...],
    how: tuple[float, str, bool, bool, str],
) -> int:
    """Check a capture against a deployed ruleset."""
    from conntrack_py.cli.render import deployed as render
    from conntrack_py.cli.render.policy import opened
    from conntrack_py.policy.deployed import check_ruleset
    from conntrack_py.policy.deployed import result as results

    confidence, fail_on, as_json, as_sarif, output = how
    hosts, interfaces, members = where
    result = check_ruleset(
        ruleset,
        table,
        hosts=hosts,
        interfaces=by_name("--interface", interfaces),
        members=by_name("--members", members),
        confidence=confidence,
    )
    if as_json:
        write(dumps(results.as_json(result)), output)
    elif as_sarif:
        _write_sarif(results.results(result), ruleset.name, output)
    else:
        with opened(output) as out:
            render.check(out, result)
    return _status(result, fail_on)


def _status(result: CheckResult | DeployedResult, fail_on: str) -> int:
    """The exit status of a check."""
    sure = result.refused - result.doubtful
    return int({"any": result.refused, "sure": sure, "never": 0}[fail_on] > 0)


def _write_sarif(found: Iterable[Problem | Result], artifact: str, output: str) -> None:
    from conntrack_py.policy import sarif

    report = sarif.sarif(found, tool_version=__version__, artifact=artifact)
    write(json.dumps(report, indent=2) + "\n", output)


@click.command()
@click.argument("policy", metavar="POLICY", type=click.Path(allow_dash=True))
@input_options
@click.option("--host", metavar="ADDRESS", help="Only connections with this address, at either end.")
@click.option("--peer", metavar="ADDRESS", help="Only connections with this address at the other end.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    help="Only connections to this port of the responder, or of this ICMP type.",
)
@inventory_option
@PODS
@CONFIDENCE
@JSON
@MARKDOWN
@OUTPUT
def explain(
    policy: str,
    files: tuple[str, ...],
    host: str | None,
    peer: str | None,
    port: int | None,
    inventory: Any,
    pods: str | None,
    min_confidence: float,
    as_json: bool,
    as_markdown: bool,
    output: str,
    **options: Any,
) -> None:
    """Explain connections by the rules of POLICY: which rule allowed each, or which is missing, at both ends.

    Connections of an originator to the same service of a responder are one row, with the evidence of who initiated.
    """
    from conntrack_py.cli.render import answers as render
    from conntrack_py.cli.render import policy as tables
    from conntrack_py.policy import Policy
    from conntrack_py.policy.connectivity import explain as explanations

    one_of({"--json": as_json, "--markdown": as_markdown})
    input_once(policy, (pods or "", *files))
    need_standard_output(output)
    loaded = Policy.load(policy, pods=pods)
    for line in loaded.warnings:
        log.warning(line)
    connections = tracked(files, config_of(**options), options["progress"]).connections
    try:
        found = loaded.explain(connections, host=host, peer=peer, port=port, min_confidence=min_confidence)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    found = explanations.named(found, inventory)
    if as_json:
        write(dumps(explanations.as_json(found)), output)
    elif as_markdown:
        write(render.explanations_markdown(found), output)
    else:
        with tables.opened(output) as out:
            render.explanations(out, found)


@click.command()
@click.argument("first", metavar="A", type=click.Path(allow_dash=True))
@click.argument("second", metavar="B", type=click.Path(allow_dash=True))
@JSON
@MARKDOWN
@OUTPUT
@log.option
def diff(first: str, second: str, as_json: bool, as_markdown: bool, output: str) -> int:
    """Compare policies A and B by connectivity: pairs and services that only one of them allows.

    The text, the names of groups and the order of rules make no difference. The policies may be of two formats.
    """
    from conntrack_py.cli.render import answers as render
    from conntrack_py.cli.render import policy as tables
    from conntrack_py.policy import Policy
    from conntrack_py.policy.connectivity import diff as diffs

    one_of({"--json": as_json, "--markdown": as_markdown})
    input_once(first, (second,))
    need_standard_output(output)
    one, other = Policy.load(first), Policy.load(second)
    for name, loaded in ((first, one), (second, other)):
        for line in loaded.warnings:
            log.warning(f"{name}: {line}")
    found = one.diff(other)
    if as_json:
        write(dumps(diffs.as_json(found)), output)
    elif as_markdown:
        write(render.differences_markdown(found), output)
    else:
        with tables.opened(output) as out:
            render.differences(out, found)
    return int(not found.same)


@click.command()
@click.argument("policy", metavar="POLICY", type=click.Path(allow_dash=True))
@optional_input_options
@click.option("--from", "format", type=Format("LINTED"), help="Default: told by name and content.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "note", "never"]),
    default="warning",
    show_default=True,
    help="The least severity that sets exit status 1.",
)
@today_option
@JSON
@SARIF
@OUTPUT
def lint(
    policy: str,
    files: tuple[str, ...],
    format: str | None,
    fail_on: str,
    today: Any,
    as_json: bool,
    as_sarif: bool,
    output: str,
    **options: Any,
) -> int:
    """Lint POLICY on its own or, given captures, against their traffic.

    POLICY may also be a firewall's own rules: `nft -j list ruleset`, `iptables-save`, `aws ec2 describe-network-acls`,
    `az network nsg list`, `gcloud compute firewall-rules list --format=json`, `terraform show -json`.
    """
    import dataclasses

    from conntrack_py.cli.render import policy as render
    from conntrack_py.policy import lint_file

    one_of({"--json": as_json, "--sarif": as_sarif})
    input_once(policy, files)
    need_standard_output(output)
    connections: ConnectionTable | None = None
    if files:
        connections = tracked(files, config_of(**options), options["progress"]).connections
    problems = lint_file(policy, connections, format, today=today)
    if as_json:
        write(dumps([dataclasses.asdict(one) for one in problems]), output)
    elif as_sarif:
        _write_sarif(problems, policy, output)
    else:
        with render.opened(output) as out:
            render.problems(out, problems, policy)
    severities = ("error", "warning", "note", "never")
    return int(
        any(severities.index(one.severity) <= severities.index(fail_on) for one in problems) and fail_on != "never"
    )
