"""The facts of a report, gathered once: the summary, the policy, and the analyses behind each section."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from conntrack_py.analysis.bins import Bins, bins
from conntrack_py.analysis.both_ways import BothWays, both_ways
from conntrack_py.analysis.callers import Caller, Largest, callers, largest
from conntrack_py.analysis.columns import Columns
from conntrack_py.analysis.matrix import Matrix, matrix
from conntrack_py.analysis.servers import Initiative, initiatives
from conntrack_py.analysis.uses import RuleUse, rule_uses
from conntrack_py.analysis.vain import VainCaller, calls_in_vain
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Policy
from conntrack_py.policy.check import CheckResult
from conntrack_py.policy.compiled import Judged, evaluate
from conntrack_py.policy.inventory import Inventory
from conntrack_py.policy.model import Ruleset
from conntrack_py.reporting.axis import Axis
from conntrack_py.summaries import Summary, summarise
from conntrack_py.table import ConnectionTable
from conntrack_py.text import cut, printable
from conntrack_py.track import TrackResult

#: Ports of DNS, mDNS and LLMNR.
_RESOLVERS = frozenset({53, 5353, 5355})
#: Characters of a name of a file, a zone or a host that are shown.
_LONGEST = 64


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a report.

    Attributes:
        policy: A policy to judge the connections by.
        groups: A policy whose groups name parts of the network.
        baseline: Connections of an earlier time.
        inventory: Names of hosts.
        title: The heading of the page.
        top: Rows of lists.
        names: Row → the name that the originator asked for, as payloads showed it.
    """

    policy: Policy | None = None
    groups: Ruleset | None = None
    baseline: ConnectionTable | None = None
    inventory: Inventory = field(default_factory=Inventory)
    title: str = ""
    top: int = 10
    names: Mapping[int, str] = field(default_factory=dict)


class Facts:
    """Facts of a result, computed when a section asks for them."""

    def __init__(self, result: TrackResult, options: Options) -> None:
        self.result = result
        self.options = options
        self.table = result.connections
        #: Reasons why something could not be done as asked.
        self.notes: list[str] = []

    @cached_property
    def summary(self) -> Summary:
        """The summary, with as many services and hosts as the page lists."""
        stats, config = self.result.stats, self.result.config
        return summarise(self.table, stats, config, top=self.options.top, baseline=self.options.baseline)

    @cached_property
    def columns(self) -> Columns:
        """The columns that the analyses share."""
        return Columns(self.table)

    @cached_property
    def initiatives(self) -> list[Initiative]:
        """Connections that servers initiate, and beacons, folded."""
        return initiatives(self.table, self.summary.findings, columns=self.columns)

    @cached_property
    def vain(self) -> list[VainCaller]:
        """Callers in vain."""
        return calls_in_vain(self.table, columns=self.columns)

    @cached_property
    def matrix(self) -> Matrix:
        """Connections from part to part."""
        return matrix(self.table, self.result.config.zones, self.options.groups, columns=self.columns)

    @cached_property
    def bins(self) -> Bins | None:
        """When connections were opened."""
        return bins(self.table, columns=self.columns)

    @cached_property
    def axis(self) -> Axis:
        """The time axis of all pictures: the beginnings of connections."""
        found = self.bins
        return Axis(found.first, found.last) if found is not None else Axis(0, 1)

    @cached_property
    def callers(self) -> list[Caller]:
        """Hosts that opened the most connections."""
        return callers(self.table, self.options.top, columns=self.columns)

    @cached_property
    def largest(self) -> list[Largest]:
        """Connections with the most bytes."""
        return largest(self.table, 6, columns=self.columns)

    @cached_property
    def suggested(self) -> Policy:
        """The least rules."""
        options = self.options
        try:
            return Policy.suggest(
                self.table, config=self.result.config, groups=options.groups, inventory=options.inventory
            )
        except PolicyError as error:
            # A zone may have a name that no group may have.
            self.notes.append(str(error))
            return Policy.suggest(self.table, groups=options.groups, inventory=options.inventory)

    @cached_property
    def rules(self) -> int:
        """The number of the least rules."""
        return len(self.suggested.numbered())

    @cached_property
    def judged(self) -> Judged | None:
        """The judgement by the least rules; None where they are too many for a policy."""
        try:
            return evaluate(self.suggested, self.table)
        except PolicyError:
            return None

    @cached_property
    def uses(self) -> list[RuleUse]:
        """The least rules with their uses, those with the most first; none where they are too many."""
        if self.judged is None:
            return []
        found = rule_uses(self.suggested, self.table, verdicts=self.judged[0], columns=self.columns)
        return sorted(found, key=lambda one: (-one.connections, one.numbered.number))

    @cached_property
    def both_ways(self) -> BothWays | None:
        """The least rules beside their mirror image; None where the two are too many."""
        if self.judged is None:
            return None
        try:
            return both_ways(self.suggested, self.table, judged=self.judged, columns=self.columns)
        except PolicyError:
            return None

    @cached_property
    def check(self) -> CheckResult | None:
        """The judgement by the policy given."""
        return None if self.options.policy is None else self.options.policy.check(self.table)

    @cached_property
    def names_of(self) -> dict[str, str]:
        """Address → names: of the inventory, and those that callers of the host asked for."""
        found: dict[str, dict[str, None]] = {}
        ports, addresses = self.table["resp_port"], self.table["resp_addr"]
        for row, name in self.options.names.items():
            # A question to a resolver has the name of another host.
            if row < len(self.table) and ports[row] not in _RESOLVERS:
                found.setdefault(addresses[row], {})[name] = None
        joined = {
            address: ", ".join(list(names)[:2]) + (" …" if len(names) > 2 else "") for address, names in found.items()
        }
        named = {address: host.name for address, host in self.options.inventory.hosts.items() if host.name}
        return {address: short(name) for address, name in (joined | named).items()}

    @cached_property
    def sources(self) -> list[str]:
        """Base names of the captures."""
        return [short("standard input" if name == "-" else os.path.basename(name)) for name in self.result.sources]


def short(name: str) -> str:
    """A name without characters that do something, and not too long."""
    return cut(printable(name), _LONGEST)
