"""Checks of a capture against a deployed ruleset: refused connections, rules that nothing matched, rules too wide."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from conntrack_py import text
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.deployed.convert import networks
from conntrack_py.policy.deployed.packets import Addresses, Bools, Ints, Packets
from conntrack_py.policy.deployed.result import DeployedResult, Dropped, RuleUse, Unknown
from conntrack_py.policy.deployed.walk import ACCEPT, DROP, PATHS, Verdicts, Walker, any_of
from conntrack_py.policy.model import WITH_PORTS, WITH_TYPES
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.model import Firewall, Program, Step
from conntrack_py.policy.rulesets.spans import Spans
from conntrack_py.policy.traffic.keys import distinct
from conntrack_py.policy.traffic.pairs import CONFIDENCE, ICMP_ANSWERS, UNTRACKED, Traffic
from conntrack_py.table import ConnectionTable

#: The redirect of ICMPv6: no connection, either.
_REDIRECT = 137
#: Answers to questions of ICMP; the two versions share no number.
_ANSWERS = ICMP_ANSWERS["icmp"] | ICMP_ANSWERS["icmp6"]
_BACK = {"input": "output", "output": "input", "forward": "forward", "loopback": "loopback", "ends": "ends"}
#: A rule is wide if it allows more addresses or ports beyond those seen, as D11 of lint has it.
_ADDRESSES, _PORTS = 256, 16
_NAMED = 5


class _Judge:
    """The connections of a table, and their packets as the ruleset sees them."""

    def __init__(
        self, walker: Walker, table: ConnectionTable, hosts: Spans, interfaces: Mapping[str, Spans], confidence: float
    ) -> None:
        self.walker = walker
        self.table = table
        self.traffic = Traffic(table, confidence)
        self._addresses = Addresses(self.traffic.addresses)
        self._interfaces = interfaces
        icmp = self.traffic.is_proto(WITH_TYPES)
        self.kind: Ints = np.where(icmp, self.traffic.service, -1).astype(np.int64)
        self.roles = self._roles(hosts)
        self.states = self._states(icmp)

    def _roles(self, hosts: Spans) -> list[tuple[str, Ints]]:
        """The connections by the path of their opening packet; of others nothing is known."""
        if self.walker.program.at_ends:
            return [("ends", np.arange(len(self.table)))] if len(self.table) else []
        loop = spans.of_networks([ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1")])
        inside = self._addresses.within(spans.union(hosts, loop))
        orig, resp = inside[self.traffic.orig], inside[self.traffic.resp]
        size = len(self.table)
        if hosts:
            codes, words = self.table.codes("direction")
            spread = codes == words.index("multicast")
            masks = {"loopback": orig & resp, "input": ~orig & (resp | spread), "output": orig & ~resp}
        elif self._forwards():
            masks = {"forward": ~(orig | resp)}
        else:
            codes, words = self.table.codes("direction")
            masks = {
                "loopback": orig & resp,
                "input": (codes == words.index("ingress")) & ~(orig & resp),
                "output": (codes == words.index("egress")) & ~(orig & resp),
            }
        if hosts:
            masks["forward"] = ~(masks["loopback"] | masks["input"] | masks["output"])
        return [(path, np.flatnonzero(mask)) for path, mask in masks.items() if size and mask.any()]

    def _forwards(self) -> bool:
        """The ruleset says something about what passes through a gateway."""
        steps = self.walker.program.steps
        return any(base.hook == "forward" and steps.get(base.key) for base in self.walker.program.bases)

    def _states(self, icmp: Bools) -> list[tuple[frozenset[str], Bools]]:
        """The states that conntrack may give the opening packets, each with its connections."""
        related = self.table["related_to"] >= 0
        untracked = self.traffic.is_proto(("icmp6",)) & np.isin(self.kind, (*UNTRACKED, _REDIRECT))
        return [
            (frozenset(("untracked",)), untracked),
            (frozenset(("related",)), related & icmp & ~untracked),
            # Without the helper of its protocol, an announced connection is as new as others.
            (frozenset(("related", "new")), related & ~icmp),
            (frozenset(("new",)), ~related & ~untracked),
        ]

    def _packets(self, states: frozenset[str], *, reply: bool, loopback: bool) -> Packets:
        traffic = self.traffic
        ports = (self.table["orig_port"].astype(np.int64), self.table["resp_port"].astype(np.int64))
        kind = self.kind
        if reply:
            kind = kind.copy()
            for asked, answer in _ANSWERS.items():
                kind[self.kind == asked] = answer
        ends = (traffic.orig, traffic.resp)
        codes, words = self.table.codes("direction")
        ours = (("egress", "internal", "multicast"), ("ingress", "internal"))
        local = [np.isin(codes, [words.index(word) for word in some]) for some in ours]
        return Packets(
            addresses=self._addresses,
            protos=traffic.protos,
            proto=traffic.proto.astype(np.int64),
            source=ends[reply],
            destination=ends[not reply],
            sport=ports[reply],
            dport=ports[not reply],
            kind=kind,
            states=states,
            opening=not reply,
            loopback=np.full(len(self.table), loopback),
            interfaces=self._interfaces,
            local=(local[reply], local[not reply]),
        )

    def opened(self) -> Verdicts:
        """The verdicts on the opening packets."""
        found = _nothing(len(self.table))
        for path, rows in self.roles:
            for states, mask in self.states:
                some = rows[mask[rows]]
                if len(some):
                    packets = self._packets(states, reply=False, loopback=path == "loopback")
                    _add(found, self.walker.judge(packets, path, some), some)
        return found

    def answered(self, passed: Bools) -> Verdicts:
        """The verdicts on the answers of connections that pass, where there are any."""
        found = _nothing(len(self.table))
        tracked = ~self.states[0][1] & (self.kind != _REDIRECT)
        wanted = passed & tracked & self.traffic.answered
        packets = {
            flag: self._packets(frozenset(("established",)), reply=True, loopback=flag) for flag in (False, True)
        }
        for path, rows in self.roles:
            some = rows[wanted[rows]]
            if len(some):
                loopback = path == "loopback"
                _add(found, self.walker.judge(packets[loopback], _BACK[path], some), some)
        return found


def _nothing(size: int) -> Verdicts:
    return Verdicts(np.zeros(size, np.int64), np.full(size, -1, np.int64), np.full(size, -1, np.int64))


def _add(found: Verdicts, more: Verdicts, rows: Ints) -> None:
    found.bits[rows], found.by[rows], found.cause[rows] = more.bits[rows], more.by[rows], more.cause[rows]
    for number, some in more.used.items():
        found.used.setdefault(number, []).extend(some)


def check(
    firewall: Firewall,
    table: ConnectionTable,
    *,
    hosts: Iterable[str] = (),
    interfaces: Mapping[str, Iterable[str]] | None = None,
    members: Mapping[str, Iterable[str]] | None = None,
    confidence: float = CONFIDENCE,
) -> DeployedResult:
    """Judge connections by a ruleset.

    Args:
        firewall: The ruleset, as a reader of `rulesets` has read it.
        table: The connections.
        hosts: Addresses of the host of the ruleset: its own connections are those of `input` and `output`. Without
            them, a ruleset that forwards is that of a gateway; one that does not has its host in the local networks.
        interfaces: Networks behind interfaces; a match of another interface is not known.
        members: Networks of names in a cloud's rules: security groups, network tags, service tags, prefix lists. Those
            whose members nobody tells have `hosts`, and without these the local networks.
        confidence: What is less sure is doubtful.

    Raises:
        PolicyError: The ruleset has no program, a name is not in it, or a network is none.
    """
    program = _program(firewall, networks("host", hosts), members or {}, bool(interfaces))
    walker = Walker(program)
    faces = {name: networks(name, own) for name, own in (interfaces or {}).items()}
    judge = _Judge(walker, table, networks("host", hosts), faces, confidence)
    opened = judge.opened()
    is_other = ~np.isin(np.where(judge._addresses.is_v6[judge.traffic.orig], 6, 4), sorted(program.versions))
    opened.bits[is_other] = 0
    answers = judge.answered(opened.bits == ACCEPT)
    bits = np.where(answers.bits == 0, opened.bits, answers.bits)
    refused, unknown = bits == DROP, (bits == 0) | (bits == ACCEPT | DROP)
    words = np.where(refused, "refused", np.where(unknown, "unknown", "allowed"))
    return DeployedResult(
        connections=len(table),
        allowed=int((bits == ACCEPT).sum()),
        refused=int(refused.sum()),
        doubtful=int((refused & ~judge.traffic.kept).sum()),
        unknown=int(unknown.sum()),
        refusals=tuple(_refusals(judge, opened, answers)),
        unknowns=tuple(_unknowns(judge, opened, answers, is_other)),
        rules=tuple(_uses(judge, opened, answers)),
        notes=firewall.notes,
        verdicts=words.tolist(),
        table=table,
    )


def _program(firewall: Firewall, hosts: Spans, members: Mapping[str, Iterable[str]], has_interfaces: bool) -> Program:
    where = firewall.name or "ruleset"
    if firewall.scopes is not None:
        if has_interfaces:
            raise PolicyError(f"{where}: found {firewall.family} with interfaces, expected members of its names")
        told = {name: [networks(name, [word]) for word in own] for name, own in members.items()}
        return firewall.scopes.program(told, hosts)
    if members:
        raise PolicyError(f"{where}: found {firewall.family} with members, expected the rules of a cloud")
    if firewall.program is None:
        raise PolicyError(f"{where}: {firewall.family} without a program are linted only, and not evaluated")
    return firewall.program


def _where(walker: Walker, number: int) -> tuple[str, int | None]:
    """A rule, or the policy of a chain, in words, and its line."""
    if number <= -2:
        base = walker.program.bases[-2 - number]
        return f"policy drop of {base.key}", base.line
    if number == -1:
        return "a policy that the file does not tell", None
    step = walker.steps[number]
    return step.text, step.line


def _refusals(judge: _Judge, opened: Verdicts, answers: Verdicts) -> list[Dropped]:
    traffic = judge.traffic
    found = []
    for verdicts, reply in ((opened, False), (answers, True)):
        rows = np.flatnonzero(verdicts.bits == DROP)
        if not len(rows):
            continue
        services = traffic.services[rows]
        order = np.lexsort((services, verdicts.by[rows]))
        rows, services = rows[order], services[order]
        edges = np.flatnonzero((np.diff(verdicts.by[rows]) != 0) | (np.diff(services) != 0)) + 1
        for some in np.split(rows, edges):
            by, line = _where(judge.walker, int(verdicts.by[some[0]]))
            starts = traffic.start[some]
            found.append(
                Dropped(
                    by=by,
                    line=line,
                    reply=reply,
                    service=text.service(*traffic.service_of(int(traffic.services[some[0]]))),
                    connections=len(some),
                    doubtful=int((~traffic.kept[some]).sum()),
                    originators=_named(traffic, traffic.orig[some]),
                    responders=_named(traffic, traffic.resp[some]),
                    first=int(starts.min()),
                    last=int(starts.max()),
                )
            )
    return sorted(found, key=lambda one: (-(one.connections - one.doubtful), -one.connections, one.by, one.service))


def _named(traffic: Traffic, codes: Ints) -> tuple[str, ...]:
    return tuple(traffic.addresses[number] for number in distinct(codes)[:_NAMED].tolist())


def _unknowns(judge: _Judge, opened: Verdicts, answers: Verdicts, is_other: Bools) -> list[Unknown]:
    found: list[Unknown] = []
    none = (opened.bits == 0) & ~is_other
    reasons = (
        (int(is_other.sum()), "the ruleset is about the other version of IP"),
        (int(none.sum()), "not said whether the packets are for this host: give its addresses (--host)"),
    )
    found += [Unknown(why=why, line=None, connections=count) for count, why in reasons if count]
    counts: dict[int, int] = {}
    for verdicts in (opened, answers):
        rows = np.flatnonzero(verdicts.bits == ACCEPT | DROP)
        numbers, many = np.unique(verdicts.cause[rows], return_counts=True)
        for number, count in zip(numbers.tolist(), many.tolist(), strict=True):
            counts[number] = counts.get(number, 0) + count
    for number, count in counts.items():
        why, line = _where(judge.walker, number)
        if number <= -2:
            key = judge.walker.program.bases[-2 - number].key
            why = f"not said which addresses {key} is about: give its members (--members, --host)"
        found.append(Unknown(why=why, line=line, connections=count))
    return sorted(found, key=lambda one: (-one.connections, one.line or 0, one.why))


def _uses(judge: _Judge, opened: Verdicts, answers: Verdicts) -> list[RuleUse]:
    """Rules that decide, and what opened by them, or was dropped."""
    start = judge.traffic.start
    maybe = np.bincount(
        np.concatenate([one.cause[one.bits == ACCEPT | DROP] for one in (opened, answers)]).clip(-1) + 1,
        minlength=len(judge.walker.steps) + 1,
    )[1:]
    found = []
    for number in sorted(judge.walker.reached):
        step = judge.walker.steps[number]
        if step.action not in ("accept", "drop", "unknown"):
            continue
        rows = distinct(any_of(opened.used.get(number, [])))
        if step.implied and not len(rows):
            continue
        if not len(rows) and number in answers.used:
            # It is there for the packets of connections that others let open.
            rows = distinct(any_of(answers.used[number]))
        found.append(
            RuleUse(
                chain=judge.walker.chains[number],
                rule=step.text,
                line=step.line,
                handle=step.handle,
                action=step.action,
                connections=len(rows),
                maybe=int(maybe[number]) if number < len(maybe) else 0,
                first=int(start[rows].min()) if len(rows) else None,
                last=int(start[rows].max()) if len(rows) else None,
                wider=_wider(judge, step, rows) if len(rows) and step.action == "accept" and not step.implied else "",
            )
        )
    return sorted(found, key=lambda use: (use.line is None, use.line or 0))


def _wider(judge: _Judge, step: Step, rows: Ints) -> str:
    """The addresses and ports that a rule accepts beyond the connections that used it."""
    match, traffic = step.match, judge.traffic
    if "new" not in match.states:
        return ""
    said = []
    for asked, codes, word in ((match.saddr, traffic.orig, "source"), (match.daddr, traffic.resp, "destination")):
        # Where no address is named, everybody is meant.
        seen = len(distinct(codes[rows]))
        allowed = spans.count(spans.both(asked, spans.V4))
        if not spans.is_everybody(asked) and allowed - seen > _ADDRESSES:
            said.append(f"{allowed:,} {word} addresses, and {seen:,} seen")
    if match.protos is not None and match.protos <= set(WITH_PORTS):
        seen = len(distinct(traffic.services[rows]))
        allowed = spans.count(match.dports)
        if allowed - seen > _PORTS:
            said.append(f"{allowed:,} ports, and {seen:,} seen")
    return "; ".join(said)


def check_ruleset(
    firewall: Firewall,
    source: Any,
    *,
    hosts: Iterable[str] = (),
    interfaces: Mapping[str, Iterable[str]] | None = None,
    members: Mapping[str, Iterable[str]] | None = None,
    confidence: float = CONFIDENCE,
) -> DeployedResult:
    """Judge the connections of a `TrackResult` or a `ConnectionTable` by a ruleset; see `check`."""
    table = source if isinstance(source, ConnectionTable) else source.connections
    stats = None if isinstance(source, ConnectionTable) else source.stats
    found = check(firewall, table, hosts=hosts, interfaces=interfaces, members=members, confidence=confidence)
    return dataclasses.replace(found, stats=stats)


__all__ = ("PATHS", "check", "check_ruleset")
