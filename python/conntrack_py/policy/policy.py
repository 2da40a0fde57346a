"""`Policy`: load, suggest, evaluate, check, lint and write policies."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from conntrack_py import _native
from conntrack_py.config import Config, checked
from conntrack_py.exceptions import PolicyError
from conntrack_py.io.output import write_text
from conntrack_py.io.progress import Progress, observer
from conntrack_py.io.source import inputs
from conntrack_py.policy import check as checks
from conntrack_py.policy import deployed, document, expiry, formats, rulesets, suggest
from conntrack_py.policy.check import CheckResult
from conntrack_py.policy.compiled import compiled, evaluate
from conntrack_py.policy.connectivity import diff as diffs
from conntrack_py.policy.connectivity import explain as explanations
from conntrack_py.policy.inventory import Inventory
from conntrack_py.policy.model import Group, Ruleset
from conntrack_py.policy.rulesets.foreign import read_text
from conntrack_py.policy.suggest import Budget, Report
from conntrack_py.policy.suggestion import merge as merging
from conntrack_py.policy.traffic.pairs import CONFIDENCE
from conntrack_py.stats import Stats, stats_with_warning
from conntrack_py.table import ConnectionTable
from conntrack_py.track import TrackResult, track, track_with_names

if TYPE_CHECKING:
    from conntrack_py.policy.lint import Problem

#: Formats of the native form.
NATIVE = ("toml", "json")
#: Formats of policies that are written, that are read, and that are linted: a firewall's own rules among the last.
WRITTEN = (*NATIVE, *formats.WRITERS)
READ = (*NATIVE, *formats.READERS)
LINTED = (*READ, *rulesets.READERS)


@dataclass(frozen=True, kw_only=True)
class Policy(Ruleset):
    """Groups of addresses, and rules about who may initiate; it cannot be changed once made.

    There are no rules for replies: they belong to the connection that was allowed. A new connection passes if every
    group of its originator allows it as egress and every group of its responder allows it as ingress. A group without a
    rule for a direction follows the default; an address in no group is outside and unrestricted; an address belongs to
    the groups that name the longest of all members that hold it.

    Attributes:
        groups: `Group` by name.
        default: What holds for a direction without a rule: `deny` or `allow`.
        source: The file it was read from, or "".
        warnings: What the file's format said that a policy cannot say.
        report: What a suggested policy was made of, and what it leaves to a person; None for others.
    """

    warnings: tuple[str, ...] = field(default=(), compare=False)
    report: Report | None = field(default=None, compare=False, repr=False)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        format: str | None = None,
        *,
        pods: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Read a policy.

        Args:
            path: The file; `-` is standard input.
            format: `toml`, `json` (both native), `aws` (the JSON of `ec2 describe-security-groups`) or `kubernetes`
                (NetworkPolicy as YAML or JSON). Default: told by name and content.
            pods: For `kubernetes`: a file of `kubectl get pods -A -o json`. The addresses of pods are members of the
                groups whose selector selects them.

        Raises:
            PolicyError: It is none, or a key or value is refused; the message has file, line and key.
            FileNotFoundError: There is no such file.
        """
        text, found, name = _opened(path, format)
        return cls._read(text, name, found, None if pods is None else read_text(pods)[::-1])

    @classmethod
    def _read(cls, text: str, name: str, format: str, pods: tuple[str, str] | None = None) -> Self:
        if format in NATIVE and pods is not None:
            raise PolicyError(f"{name}: found {format} with a file of pods, expected kubernetes")
        if format in NATIVE:
            ruleset, notes = document.loads(text, format, name), list[str]()
        elif format in formats.READERS:
            ruleset, notes = formats.read(text, format, name, pods)
        elif format in rulesets.READERS:
            raise PolicyError(f"{name}: found a firewall's own rules ({format}), expected a policy; they can be linted")
        else:
            expected = ", ".join(READ)
            raise PolicyError(f"{name}: found {format}, expected one of {expected}")
        return cls._of(ruleset, warnings=tuple(notes))

    @classmethod
    def of_ruleset(
        cls,
        ruleset: rulesets.Firewall,
        hosts: Iterable[str] = (),
        members: Mapping[str, Iterable[str]] | None = None,
    ) -> Self:
        """The policy of what a deployed ruleset protects; what a policy cannot say of it is in `warnings`.

        Args:
            ruleset: The ruleset, as `read_ruleset` or a reader of `rulesets` has read it.
            hosts: Addresses of the host; in a cloud, of groups without `members`.
            members: Networks of names in a cloud's rules: security groups, tags, prefix lists.

        Raises:
            PolicyError: It has no chain of accept rules before a drop, or a name is not in it.
        """
        found, warnings = deployed.to_policy(ruleset, hosts, members)
        return cls._of(found, warnings=tuple(warnings))

    @classmethod
    def from_dict(cls, document_: Mapping[str, Any]) -> Self:
        """A policy from the objects that a TOML or JSON file of it is.

        Raises:
            PolicyError: A key or value is refused.
        """
        return cls._of(document.checked(document_))

    @classmethod
    def _of(cls, ruleset: Ruleset, **more: Any) -> Self:
        return cls(
            groups=ruleset.groups, default=ruleset.default, combine=ruleset.combine, source=ruleset.source, **more
        )

    def to_dict(self) -> dict[str, Any]:
        """The objects that a TOML or JSON file of it is."""
        return document.to_dict(self)

    @classmethod
    def suggest(
        cls,
        source: Any,
        *,
        local: Any = None,
        config: Config | None = None,
        groups: Ruleset | None = None,
        min_confidence: float = CONFIDENCE,
        server_egress: bool = False,
        max_rules: int | None = None,
        fold_ports: int | None = None,
        fold_peers: int | None = None,
        inventory: Inventory | None = None,
        progress: bool | Progress = False,
    ) -> Self:
        """Suggest the least policy that allows the observed connections that are not suspect, in their direction.

        Connections whose initiator is not sure, scans and whatever nobody answered are left out and counted. What
        servers (groups that mostly answer) initiate towards other networks is left out too, and listed for a person to
        decide. Nothing is wider than seen unless a budget is given.

        Args:
            source: A `ConnectionTable`, a `TrackResult`, or whatever `track` takes.
            local: The networks whose perspective is taken, where a capture is given.
            config: The configuration, where a capture is given. Its zones are groups, unless `groups` is given.
            groups: A policy whose groups stand, as a person named them. So do its rules with a note, an owner, a ticket
                or a last day, and those with evidence that nothing used now (`stale_since`). Hosts in none of the
                groups are put into groups by what they do.
            min_confidence: The least `confidence` of a connection that rules are made of.
            server_egress: Allow what servers initiate outwards.
            max_rules: Merge rules until there are at most so many.
            fold_ports: The most ports or ranges of ports in a rule.
            fold_peers: The most addresses or networks in a rule.
            inventory: Names of hosts. Its groups are groups where `groups` has none of that name or its addresses.
            progress: As for `track`.

        Raises:
            ValueError: A budget or `min_confidence` is out of range.

        Returns:
            The policy. Its `report` has what was left out, what servers initiate, roles and groups of hosts, and what
            was made wider.
        """
        for name, budget in (("max_rules", max_rules), ("fold_ports", fold_ports), ("fold_peers", fold_peers)):
            if budget is not None and budget < 1:
                raise ValueError(f"{name}: found {budget}, expected a number from 1 on")
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence: found {min_confidence}, expected a number from 0 to 1")
        config = _with_local(config, local)
        table, names, stats = _named(source, config, progress)
        given = groups.groups if groups is not None else document.zone_groups(config.zones)
        if inventory is not None:
            given = inventory.added_to(given)
        ruleset, report = suggest.suggest(
            table,
            groups=given,
            confidence=min_confidence,
            server_egress=server_egress,
            budget=Budget(max_rules=max_rules, fold_ports=fold_ports, fold_peers=fold_peers),
            names=names,
        )
        known = inventory.hosts if inventory is not None else {}
        hosts = [host.address for host in report.hosts if host.address in known and known[host.address].name]
        report = dataclasses.replace(report, names={host: known[host].name for host in hosts})
        if groups is not None and groups.numbered():
            merged = merging.merge(*_standing(groups, ruleset, table))
            ruleset, report = merged.ruleset, merging.decided(report, merged.ruleset)
        return cls._of(ruleset, report=dataclasses.replace(report, stats=stats))

    def merge(
        self,
        source: Any,
        *,
        local: Any = None,
        config: Config | None = None,
        min_confidence: float = CONFIDENCE,
        server_egress: bool = False,
        progress: bool | Progress = False,
    ) -> merging.Merged:
        """Merge a new capture into the policy: every rule stands, what is missing is added, what is stale is marked.

        Args:
            source: A `ConnectionTable`, a `TrackResult`, or whatever `track` takes.
            local: The networks whose perspective is taken, where a capture is given.
            config: The configuration, where a capture is given.
            min_confidence: The least `confidence` of a connection that rules are made of.
            server_egress: Add rules for what servers initiate, too; without it these are decisions of the report.
            progress: As for `track`.

        Returns:
            The merged policy (`ruleset`), the rules and groups that were added, those that no connection used, and the
            `report` that `suggest` gives of the capture. Decisions that the policy has taken are marked as allowed.
        """
        config = _with_local(config, local)
        table, names, stats = _named(source, config, progress)
        bare = {name: Group(members=group.members) for name, group in self.groups.items()}
        made, report = suggest.suggest(
            table, groups=bare, confidence=min_confidence, server_egress=server_egress, names=names
        )
        merged = merging.merge(self, made, evaluate(self, table)[1])
        report = dataclasses.replace(merging.decided(report, merged.ruleset), stats=stats)
        policy = dataclasses.replace(self, groups=merged.ruleset.groups, report=report)
        return dataclasses.replace(merged, ruleset=policy, report=report)

    def evaluate(self, connections: ConnectionTable) -> NDArray[np.void]:
        """The verdict on every connection, by who initiated it.

        Returns:
            A structured array, one row per connection: `verdict` u1 (`Verdict`); `egress_rule` and `ingress_rule` i4:
            the number of the rule that allows it for the originator's and the responder's group (-1: none was asked,
            -2: none does); `orig_group` and `resp_group` i4: the group that this is about (-1: in none). Rules and
            groups are numbered as `numbered()` and `list(groups)` have them.
        """
        return evaluate(self, connections)[0]

    def check(
        self,
        source: Any,
        *,
        local: Any = None,
        config: Config | None = None,
        fates: bool = False,
        min_confidence: float = CONFIDENCE,
        progress: bool | Progress = False,
    ) -> CheckResult:
        """Check a capture: refused connections, and rules never used.

        Connections are judged by who initiated them. Where a capture is given, its packets also go through a gateway
        with this policy, in capture time: replies pass, a packet of a refused connection is refused, `invalid` is
        dropped.

        Args:
            source: A `ConnectionTable`, a `TrackResult`, or whatever `track` takes.
            local: The networks whose perspective is taken, where a capture is given.
            config: The configuration, where a capture is given.
            fates: Whether to say what becomes of every packet (`CheckResult.fates`), at one byte each.
            min_confidence: Refused connections that are less sure are counted as doubtful.
            progress: As for `track`.

        Raises:
            PolicyError: There are groups, and none of them has members: nothing could be refused.
        """
        if self.groups and not any(group.members for group in self.groups.values()):
            raise PolicyError(
                f"{self.source or 'policy'}: found no group with members, so that nothing is restricted; expected "
                "networks as members of the groups"
            )
        if isinstance(source, TrackResult):
            source = source.connections
        if isinstance(source, ConnectionTable):
            return checks.check(self, source, confidence=min_confidence)
        config = _with_local(config, local)
        with ExitStack() as stack:
            opened = inputs(source, config)
            native, account, packets, refused, memory = _native.replay(
                opened, config._native(), compiled(self), fates, observer(progress, stack)
            )
        stats = stats_with_warning(account)
        every = None if memory is None else np.frombuffer(memoryview(memory), dtype=np.uint8)
        table = ConnectionTable(native)
        result = checks.check(self, table, packets=(packets, refused), fates=every, confidence=min_confidence)
        return dataclasses.replace(result, stats=stats)

    def explain(
        self,
        source: Any,
        *,
        host: str | None = None,
        peer: str | None = None,
        port: int | None = None,
        local: Any = None,
        config: Config | None = None,
        min_confidence: float = CONFIDENCE,
        progress: bool | Progress = False,
    ) -> list[explanations.Explanation]:
        """Explain connections: the rule that allows each or the missing one, at both ends, with evidence and line.

        Connections of an originator to the same service of a responder are one explanation. Refused ones come first.

        Args:
            source: A `ConnectionTable`, a `TrackResult`, or whatever `track` takes.
            host: Only connections with this address, at either end.
            peer: Only connections with this address at the other end.
            port: Only connections to this port of the responder, or with this ICMP type.
            local: The networks whose perspective is taken, where a capture is given.
            config: The configuration, where a capture is given.
            min_confidence: What is less sure is counted as `unsure`.
            progress: As for `track`.

        Raises:
            ValueError: `host` or `peer` is no address.
        """
        if not isinstance(source, ConnectionTable | TrackResult):
            source = track(source, config=_with_local(config, local), progress=progress)
        table = source.connections if isinstance(source, TrackResult) else source
        return explanations.explain(self, table, host=host, peer=peer, port=port, confidence=min_confidence)

    def diff(self, other: Ruleset) -> diffs.Differences:
        """Compare with another policy by connectivity: pairs and services that one allows and the other does not.

        Exact for all addresses and services. The text, the names of groups and the order of rules make no difference.

        Raises:
            PolicyError: The policies tell too many addresses apart.
        """
        return diffs.diff(self, other)

    def lint(self, connections: ConnectionTable | None = None, *, today: datetime.date | None = None) -> list[Problem]:
        """Lint the policy on its own and, given connections, against traffic.

        The checks and their examples are in docs/policy-lint.md. Rules whose last day is before `today` have expired
        (default: this day, in UTC).
        """
        from conntrack_py.policy import lint

        verdicts = None if connections is None else self.evaluate(connections)
        return lint.lint(self, connections, verdicts, warnings=self.warnings, today=today)

    def convert(
        self,
        format: str,
        *,
        group: str | None = None,
        audit: bool = False,
        keep_expired: bool = False,
        today: datetime.date | None = None,
    ) -> formats.Written:
        """Convert the policy to another tool's language.

        Args:
            format: `toml`, `json`, or one of `conntrack_py.policy.formats.WRITERS`.
            group: For `nftables` and the like: the rules for a host of this group, instead of those for a gateway.
            audit: The form that refuses nothing and logs what would be refused: nftables, iptables, ip6tables, cilium.
            keep_expired: Convert rules whose last day has passed, too. They are left out otherwise, and a warning names
                each.
            today: The day for that. Default: this day, in UTC.

        Returns:
            The text, and a warning for each thing that the format cannot say.

        Raises:
            PolicyError: There is no such format or group, or the format has no room for the policy.
        """
        if not keep_expired:
            kept, left_out = expiry.without_expired(self, today)
            if left_out:
                made = dataclasses.replace(self, groups=kept.groups)
                written = made.convert(format, group=group, audit=audit, keep_expired=True)
                return formats.Written(text=written.text, warnings=[*left_out, *written.warnings])
        if format not in NATIVE:
            return formats.write(self, format, group=group, audit=audit)
        if audit:
            raise PolicyError(f"{format} has no audit form; {', '.join(formats.AUDITS)} have")
        if group is not None:
            raise PolicyError(f"group: {format} has all groups; leave it out")
        if format == "json":
            return formats.Written(text=document.to_json(self), warnings=[])
        waiting = suggest.comments(self.report) if self.report is not None else {}
        return formats.Written(text=document.to_toml(self, comments=waiting), warnings=[])

    def write(self, path: str | os.PathLike[str], format: str | None = None) -> list[str]:
        """Write the policy, and return a warning for each thing that the format cannot say.

        TOML and JSON keep rules that have expired.

        Args:
            path: The file.
            format: As for `convert`. Default: by the suffix, `.toml` or `.json`.

        Raises:
            PolicyError: As for `convert`, or the suffix tells no format.
        """
        suffix = os.path.splitext(path)[1][1:].lower()
        if format is None and suffix not in NATIVE:
            raise PolicyError(f"{os.fspath(path)}: give a format, or one of .toml .json")
        written = self.convert(format or suffix, keep_expired=(format or suffix) in NATIVE)
        write_text(path, written.text)
        return written.warnings


def _standing(groups: Ruleset, made: Ruleset, table: ConnectionTable) -> tuple[Ruleset, Ruleset, list[int]]:
    kept, hits = merging.standing(groups, evaluate(groups, table)[1])
    return kept, made, hits


def _named(
    source: Any, config: Config, progress: bool | Progress
) -> tuple[ConnectionTable, Mapping[int, str], Stats | None]:
    """Connections, the names that those of a capture asked for, and its account."""
    if isinstance(source, TrackResult):
        source = source.connections
    if isinstance(source, ConnectionTable):
        return source, {}, None
    result, names = track_with_names(source, config, progress)
    return result.connections, names, result.stats


def _with_local(config: Config | None, local: Any) -> Config:
    config = checked(config)
    return config if local is None else dataclasses.replace(config, local=local)


def _opened(path: str | os.PathLike[str], format: str | None) -> tuple[str, str, str]:
    """The text of a file, its format, which is guessed where it is not given, and its name."""
    name, text = read_text(path)
    return text, format or formats.guess(text, name) or "an unknown format", name


def read_any(path: str, format: str | None = None, *, pods: str | None = None, at_ends: bool = False) -> Any:
    """Read a policy or a ruleset; `at_ends`: of AWS, for the members that are given. See `Policy.load`."""
    text, found, name = _opened(path, format)
    found = "security-groups" if found == "aws" and at_ends else found
    if found in rulesets.READERS:
        return rulesets.read(text, found, name)
    return Policy._read(text, name, found, None if pods is None else read_text(pods)[::-1])


def read_ruleset(path: str | os.PathLike[str], format: str | None = None) -> rulesets.Firewall | None:
    """Read a deployed ruleset; None: the file is something else, such as a policy.

    Raises:
        PolicyError: It is a ruleset that cannot be read.
    """
    text, found, name = _opened(path, format)
    return rulesets.read(text, found, name) if found in rulesets.READERS else None


def lint_file(
    path: str | os.PathLike[str],
    connections: ConnectionTable | None = None,
    format: str | None = None,
    *,
    today: datetime.date | None = None,
) -> list[Problem]:
    """Lint a file: a policy, as `Policy.load` reads it, or the rules of a firewall.

    These are what `nft -j list ruleset`, `iptables-save` and `ec2 describe-network-acls` print.

    Raises:
        PolicyError: It is neither.
        FileNotFoundError: There is no such file.
    """
    from conntrack_py.policy import lint

    text, found, name = _opened(path, format)
    if found in rulesets.READERS:
        return lint.lint_firewall(rulesets.read(text, found, name), connections)
    return Policy._read(text, name, found).lint(connections, today=today)
