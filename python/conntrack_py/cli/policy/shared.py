"""Options and helpers that the commands of `policy` share."""

from __future__ import annotations

import os
import sys

import click

from conntrack_py.io.output import write_text
from conntrack_py.io.source import is_capture
from conntrack_py.text import printable


class Format(click.Choice):  # type: ignore[type-arg]
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


OUTPUT = click.option(
    "-o", "--output", metavar="FILE", default="-", help="Where to write to; - is standard output (default)."
)
CONFIDENCE = click.option(
    "--min-confidence",
    metavar="X",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="The least confidence in the originator of connections that rules are made of.",
)
PODS = click.option(
    "--pods",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="For a Kubernetes policy: what `kubectl get pods -A -o json` prints. The addresses of pods are the members of "
    "the groups that select them.",
)
MEMBERS = click.option(
    "--members",
    metavar="NAME=NETWORK",
    multiple=True,
    help="A ruleset of a cloud: a network of a name in it (security group, network tag, service tag, prefix list), "
    "several times for several. Of groups without it the members are those of --host, or the local networks where "
    "there is one group.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
MARKDOWN = click.option("--markdown", "as_markdown", is_flag=True, help="Markdown, for a pull request.")
SARIF = click.option("--sarif", "as_sarif", is_flag=True, help="SARIF 2.1.0, for CI systems and code hosts.")


def input_once(policy: str | None, files: tuple[str, ...]) -> None:
    """Refuse standard input for two arguments, and a capture where the policy belongs."""
    if [policy, *files].count("-") > 1:
        raise click.UsageError("- is given twice, and standard input can be read once.")
    if policy is None or policy == "-" or not is_capture(policy):
        return
    command = click.get_current_context().command_path
    swapped = [file for file in files if os.path.isfile(file) and not is_capture(file)]
    remedy = f"; the policy comes first: {command} {printable(swapped[0])} {printable(policy)}" if swapped else ""
    raise click.UsageError(f"found a capture, {printable(policy)}, where a policy is expected{remedy}.")


def by_name(option: str, words: tuple[str, ...]) -> dict[str, list[str]]:
    """The values of an option that is `NAME=NETWORK`."""
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, network = word.rpartition("=")
        if not (name and equals):
            raise click.UsageError(f"{option}: found {word[:60]!r}, expected NAME=NETWORK")
        found.setdefault(name, []).append(network)
    return found


def one_of(given: dict[str, bool]) -> None:
    """Refuse two forms of output."""
    if sum(given.values()) > 1:
        raise click.UsageError(f"{' and '.join(given)}: give one of them.")


def write(text: str, output: str) -> None:
    """Write a text to standard output or to a file."""
    if output == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_text(output, text)
