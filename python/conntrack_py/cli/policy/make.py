"""Commands that make policies: suggest, merge, convert."""

from __future__ import annotations

from typing import Any

import click

from conntrack_py.cli import log
from conntrack_py.cli.options import (
    config_of,
    input_options,
    inventory_option,
    need_standard_output,
    today_option,
    watched,
)
from conntrack_py.cli.policy.shared import (
    CONFIDENCE,
    JSON,
    MEMBERS,
    OUTPUT,
    PODS,
    Format,
    by_name,
    input_once,
    write,
)
from conntrack_py.schema import dumps

SERVER_EGRESS = click.option(
    "--server-egress",
    type=click.Choice(["list", "allow"]),
    default="list",
    show_default=True,
    help="Connections that servers initiate, outwards and to unusual services inside: list them for a decision, or "
    "allow them.",
)


@click.command()
@input_options
@click.option(
    "--to", "format", type=Format("WRITTEN"), default="toml", show_default=True, help="The language of the rules."
)
@click.option(
    "--groups",
    metavar="POLICY",
    type=click.Path(allow_dash=True),
    help="A policy whose groups are kept, such as an earlier suggestion with groups renamed. Rules with a note, an "
    "owner, a ticket or a last day are kept, and those seen earlier and not now (`stale_since`). Default: zones of "
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
@CONFIDENCE
@SERVER_EGRESS
@inventory_option
@OUTPUT
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
    inventory: Any,
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
    from conntrack_py.policy.policy import NATIVE

    need_standard_output(output)
    input_once(groups, files)
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
            inventory=inventory,
            progress=progress,
        )

    made = watched(options["progress"], work)
    assert made.report is not None
    assert made.report.stats is not None
    log.read(made.report.stats)
    written = made.convert(format, keep_expired=format in NATIVE)
    if as_json:
        both = {"policy": made.to_dict(), "report": suggestions.as_json(made.report), "warnings": written.warnings}
        if format not in ("toml", "json"):
            both["written"] = written.text
        write(dumps(both), output)
        return
    write(written.text, output)
    for line in written.warnings:
        log.warning(line)
    if log.is_json():
        log.event("info", "report", report=suggestions.as_json(made.report))
    else:
        render.report(render.errors(), made, made.report, max_rules)


@click.command()
@click.argument("policy", metavar="POLICY", type=click.Path(allow_dash=True))
@input_options
@CONFIDENCE
@SERVER_EGRESS
@JSON
@OUTPUT
def merge(
    policy: str,
    files: tuple[str, ...],
    min_confidence: float,
    server_egress: str,
    as_json: bool,
    output: str,
    **options: Any,
) -> None:
    """Merge a capture into POLICY: rules stand, missing ones are added, unused ones are marked `stale_since`.

    The merged policy is TOML, with what waits for a decision as comments. The changes go to standard error, with what
    `suggest` reports: what was left out, what servers initiate, attacks.
    """
    from conntrack_py.cli.render import answers as render
    from conntrack_py.cli.render import policy as tables
    from conntrack_py.policy import Policy
    from conntrack_py.policy.suggestion import merge as merging

    need_standard_output(output)
    input_once(policy, files)
    loaded = Policy.load(policy)
    for line in loaded.warnings:
        log.warning(line)
    config = config_of(**options)

    def work(progress: Any) -> merging.Merged:
        return loaded.merge(
            files,
            config=config,
            min_confidence=min_confidence,
            server_egress=server_egress == "allow",
            progress=progress,
        )

    merged = watched(options["progress"], work)
    assert isinstance(merged.ruleset, Policy)
    assert merged.report is not None
    assert merged.report.stats is not None
    log.read(merged.report.stats)
    if as_json:
        write(dumps({"policy": merged.ruleset.to_dict(), **merging.as_json(merged)}), output)
        return
    write(merged.ruleset.convert("toml", keep_expired=True).text, output)
    if log.is_json():
        log.event("info", "merge", merge=merging.as_json(merged))
        return
    render.merged(tables.errors(), merged)
    tables.basis(tables.errors(), merged.report)


@click.command()
@click.argument("policy", metavar="POLICY", type=click.Path(allow_dash=True))
@click.option("--from", "source", type=Format("LINTED"), help="Default: told by name and content.")
@click.option("--to", "format", type=Format("WRITTEN"), required=True, help="The language to write.")
@click.option(
    "--group",
    metavar="NAME",
    help="nftables, iptables, ip6tables: the rules for a host of this group, instead of those for a gateway. For "
    "firewalld, firewalld-policy, ufw and windows: the group of the host.",
)
@click.option(
    "--audit",
    is_flag=True,
    help="nftables, iptables, ip6tables, cilium: refuse nothing and log what would be refused, to try a policy.",
)
@click.option("--keep-expired", is_flag=True, help="Convert rules whose last day (`expires`) has passed, too.")
@today_option
@PODS
@click.option(
    "--host",
    "hosts",
    metavar="ADDRESS",
    multiple=True,
    help="A ruleset: an address of the host that it is loaded on, several times for several.",
)
@MEMBERS
@OUTPUT
@log.option
def convert(
    policy: str,
    source: str | None,
    format: str,
    group: str | None,
    audit: bool,
    keep_expired: bool,
    today: Any,
    pods: str | None,
    hosts: tuple[str, ...],
    members: tuple[str, ...],
    output: str,
) -> None:
    """Convert POLICY to another tool's language. A rule it cannot express is named in a warning on standard error.

    POLICY may also be a deployed ruleset of a host (nftables, iptables-save): its accept rules are those of a group.
    Each security group or tag of a cloud (Azure, Google Cloud, Terraform) is a group.
    """
    from conntrack_py.policy import Policy
    from conntrack_py.policy.policy import read_any

    need_standard_output(output)
    input_once(policy, (pods or "",))
    loaded = read_any(policy, source, pods=pods, at_ends=bool(hosts or members))
    if not isinstance(loaded, Policy):
        loaded = Policy.of_ruleset(loaded, hosts, by_name("--members", members))
    elif hosts or members:
        raise click.UsageError("--host and --members are about a deployed ruleset; POLICY is none.")
    written = loaded.convert(format, group=group, audit=audit, keep_expired=keep_expired, today=today)
    write(written.text, output)
    for line in (*loaded.warnings, *written.warnings):
        log.warning(line)
