"""Checks of a policy that need no traffic: mirrored services, open egress, return paths, shadowed rules, groups."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator

from conntrack_py.policy.lint import reach
from conntrack_py.policy.lint.problem import Problem, Severity, of_rule, plural, problem
from conntrack_py.policy.lint.scope import Scope, has_ports, is_open
from conntrack_py.policy.lint.traffic import Traffic
from conntrack_py.policy.model import ANY, SIDES, WITH_TYPES, Numbered, Side
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.spans import Spans

_OTHER: dict[Side, Side] = {"ingress": "egress", "egress": "ingress"}
_VERB = {"ingress": "came in", "egress": "went out"}


def mirrored(scope: Scope, traffic: Traffic | None) -> Iterator[tuple[Problem, Numbered]]:
    """D1, and the rule that is wrong."""
    for name in scope.names:
        for egress in scope.sides.get((name, "egress"), ()):
            for ingress in scope.near(egress, scope.sides.get((name, "ingress"), [])):
                found = _mirror(scope, traffic, ingress, egress)
                if found is not None:
                    yield found
                    break


def _mirror(
    scope: Scope, traffic: Traffic | None, ingress: Numbered, egress: Numbered
) -> tuple[Problem, Numbered] | None:
    proto = ingress.rule.proto
    if proto != egress.rule.proto or not has_ports(egress.rule) or is_open(ingress.rule) != is_open(egress.rule):
        return None
    ports = spans.both(scope.ports[ingress.number], scope.ports[egress.number])
    if not ports:
        return None
    peers = spans.both(scope.peers[ingress.number], scope.peers[egress.number])
    # Members that talk to each other need both rules: one of them initiates, the other answers.
    peers = spans.without(peers, scope.members[ingress.group])
    if not peers:
        return None
    service = f"{proto} {'on all ports' if ports == spans.ALL_PORTS else spans.ports_text(ports)}"
    message = f"{service} is allowed in both directions: also by {{other}} ({{words}})."
    counts: dict[Side, int] = {"ingress": 0, "egress": 0}
    rules: dict[Side, Numbered] = {"ingress": ingress, "egress": egress}
    for side, rule in rules.items():
        if traffic is not None:
            counts[side] = traffic.initiated(ingress.group, side, proto, ports, peers)
        elif rule.rule.evidence is not None:
            counts[side] = rule.rule.evidence.connections
    used = [side for side in SIDES if counts[side]]
    severity: Severity = "error"
    if len(used) == 2:
        wrong, severity = egress, "note"
        fix = (
            "Connections were seen both ways, so both rules may be right: name the peers of each, so that they differ."
        )
    elif used:
        keep = used[0]
        wrong = rules[_OTHER[keep]]
        times = f"{plural(counts[keep], 'such connection')} {_VERB[keep]}"
        fix = f"Keep {rules[keep].place} ({times}, none {_VERB[_OTHER[keep]]}) and remove this rule."
    else:
        wrong = egress
        if scope.is_any(ingress) != scope.is_any(egress):
            severity = "warning"
        fix = (
            "Keep the ingress if its members offer the service, the egress if they use it, and remove the other: "
            "replies need no rule."
        )
    other = ingress if wrong is egress else egress
    return of_rule("D1", wrong, message.format(other=other.place, words=str(other)), fix, severity), wrong


def open_egress(scope: Scope, traffic: Traffic | None, known: set[int]) -> Iterator[tuple[Problem, Numbered]]:
    """D3, for rules that are not known to be wrong already, and the rule."""
    for name in scope.names:
        offered = [rule for rule in scope.sides.get((name, "ingress"), ()) if rule.rule.proto not in WITH_TYPES]
        answered, initiated = traffic.counts(name) if traffic is not None else (0, 0)
        for egress in scope.sides.get((name, "egress"), ()):
            if not scope.is_any(egress) or (egress.number in known and not answered):
                continue
            if answered and not initiated:
                message = (
                    f"{name} may initiate towards everybody, but only ever answered: "
                    f"{plural(answered, 'connection')} came in, none went out."
                )
                fix = (
                    "Remove the rule: replies need none. If its members need names or updates, allow those by address."
                )
                yield of_rule("D3", egress, message, fix, "error"), egress
            elif offered and not initiated:
                message = f"{name} offers {_services(offered)}, and may also initiate towards everybody."
                fix = "Name whom it has to reach, or remove the rule: replies need none."
                yield of_rule("D3", egress, message, fix), egress


def _services(offered: list[Numbered]) -> str:
    words = [f"{rule.rule.proto} {spans.ports_text(rule.rule.ports)}".strip() for rule in offered]
    words = list(dict.fromkeys("everything" if word == ANY else word for word in words))
    return ", ".join(words[:3]) + (" and more" if len(words) > 3 else "")


def return_paths(scope: Scope, traffic: Traffic | None) -> Iterator[tuple[Problem, Numbered]]:
    """D4, and the rule."""
    for numbered in scope.rules:
        rule = numbered.rule
        ranges = tuple(ports for ports in rule.ports if has_ports(rule) and spans.is_ephemeral((ports,)))
        if not ranges or (traffic is not None and traffic.hits(numbered.number).size) or rule.evidence is not None:
            continue
        message = (
            f"{rule.proto} {spans.ports_text(ranges)} are the ports of clients: as a return path the rule is not "
            "needed, and it lets new connections pass to whatever listens there."
        )
        other = "egress" if numbered.side == "ingress" else "ingress"
        fix = (
            f"Remove the range: replies belong to the connection that an {other} rule allowed. "
            "A service in it gets its own port."
        )
        yield of_rule("D4", numbered, message, fix), numbered


def left_open(scope: Scope, traffic: Traffic | None) -> Iterator[Problem]:
    """D9."""
    # Kubernetes and AWS add groups up, and limit the direction that is asked for: one direction alone is their norm.
    severity: Severity | None = "note" if scope.ruleset.combine == "any" else None
    in_yaml = scope.ruleset.source.lower().endswith((".yaml", ".yml"))
    for name, group in scope.ruleset.groups.items():
        for side in SIDES:
            place = f"groups.{name}.{side}" if not in_yaml else f"groups.{name}"
            closed = not group.rules(side) and scope.ruleset.default_of(name, side) == "deny"
            # A group that is open both ways only gives addresses a name.
            limited = group.rules(_OTHER[side]) or scope.ruleset.default_of(name, _OTHER[side]) == "deny"
            if not group.rules(side) and group.default(side) == "allow" and limited:
                kind = side.capitalize()
                why = f"{kind} is not among its policyTypes" if in_yaml else f"its default for {side} is allow"
                who = "initiate towards everybody" if side == "egress" else "be reached by everybody"
                fix = (
                    f"List {kind} in policyTypes{': with no rules it denies' if side == 'egress' else ''}."
                    if in_yaml
                    else f'Write default = "deny" for {side}, and rules for what is needed.'
                )
                yield problem(
                    "D9",
                    f"{name} may {who}: {why}, and it has no rules.",
                    fix,
                    place,
                    line=group.line,
                    severity=severity,
                )
            elif closed and side == "egress" and traffic is not None:
                asked = traffic.asked_for_names(name)
                if asked:
                    message = (
                        f"{name} may initiate nothing, but its members asked for names: "
                        f"{plural(asked, 'DNS connection')}."
                    )
                    fix = "Add an egress rule for udp and tcp 53 to the resolver."
                    yield problem("D9", message, fix, place, line=group.line)


def open_administration(scope: Scope) -> Iterator[tuple[Problem, Numbered]]:
    """D18, and the rule."""
    for numbered in scope.rules:
        rule = numbered.rule
        if numbered.side == "egress" or not rule.ports or not scope.is_any(numbered):
            continue
        words = reach.services(frozenset((rule.proto,)), scope.ports[numbered.number])
        if words:
            yield of_rule("D18", numbered, f"Everybody may reach {reach.named(words)}.", reach.FIX), numbered


def expired(scope: Scope, today: datetime.date) -> Iterator[tuple[Problem, Numbered]]:
    """D20, and the rule."""
    for numbered in scope.rules:
        until = numbered.rule.expires
        if until is not None and until < today:
            message = f"It was to end on {until.isoformat()}."
            yield of_rule("D20", numbered, message, "Remove it, or give it a new day if it is still needed."), numbered


def shadowed(scope: Scope) -> Iterator[tuple[Problem, Numbered]]:
    """D13, and the rule: by one other rule, or by several earlier ones that agree in ports or in peers."""
    for every in scope.sides.values():
        # A rule about a group without addresses allows nothing, whatever others allow.
        rules = [numbered for numbered in every if scope.peers[numbered.number]]
        by = {numbered.number: covers for numbered in rules if (covers := _wider(scope, numbered, rules))}
        for place, numbered in enumerate(rules):
            if numbered.number not in by:
                # Not by rules that are to be removed themselves: nothing may be lost if all of them are.
                earlier = [other for other in scope.near(numbered, rules[:place]) if other.number not in by]
                together = _together(scope, numbered, earlier)
                if together:
                    by[numbered.number] = together
        for numbered in rules:
            covers = by.get(numbered.number, [])
            if covers:
                words = " and ".join(f"{other.place} ({other})" for other in covers[:2])
                words += f" and {len(covers) - 2} more" if len(covers) > 2 else ""
                message = f"All that it allows is allowed by {words}."
                fix = "Remove this rule, or narrow the wider one if that was not meant."
                yield of_rule("D13", numbered, message, fix), numbered


def _wider(scope: Scope, numbered: Numbered, rules: list[Numbered]) -> list[Numbered]:
    """A rule that covers another; of two that are the same, the first."""
    for other in scope.around(numbered, rules):
        if other is numbered or not _covers(scope, other, numbered):
            continue
        if other.number < numbered.number or not _covers(scope, numbered, other):
            return [other]
    return []


def _same_proto(wider: Numbered, numbered: Numbered) -> bool:
    return wider.rule.proto in (ANY, numbered.rule.proto)


def _covers(scope: Scope, wider: Numbered, numbered: Numbered) -> bool:
    return (
        _same_proto(wider, numbered) and _covers_ports(scope, wider, numbered) and _covers_peers(scope, wider, numbered)
    )


def _covers_peers(scope: Scope, wider: Numbered, numbered: Numbered) -> bool:
    return spans.within(scope.peers[numbered.number], scope.peers[wider.number])


def _covers_ports(scope: Scope, wider: Numbered, numbered: Numbered) -> bool:
    return not wider.rule.ports or spans.within(scope.ports[numbered.number], scope.ports[wider.number])


def _together(scope: Scope, numbered: Numbered, earlier: list[Numbered]) -> list[Numbered]:
    """Earlier rules that cover a rule only together."""
    by_peers = [other for other in earlier if _same_proto(other, numbered) and _covers_ports(scope, other, numbered)]
    by_ports = [other for other in earlier if _same_proto(other, numbered) and _covers_peers(scope, other, numbered)]
    for others, values in ((by_peers, scope.peers), (by_ports, scope.ports)):
        left: Spans = values[numbered.number]
        used = []
        for other in others:
            if spans.both(left, values[other.number]):
                left = spans.without(left, values[other.number])
                used.append(other)
        if used and not left:
            return used
    return []


def contradictions(scope: Scope) -> Iterator[Problem]:
    """D14: groups with a member in common, and groups that lose addresses to a longer member of another."""
    for name, others in scope.sharing().items() if scope.ruleset.combine == "all" else ():
        for other in sorted(others, key=scope.names.index):
            shared = [member for member in scope.ruleset.groups[name].members if _is_member(scope, other, member)]
            for numbered in _denied_by(scope, name, other):
                message = (
                    f"{_few(shared)} belongs to {other} as well, which does not allow this: "
                    f"every group of an address has to, so it is refused."
                )
                fix = f"Allow it in groups.{other}.{numbered.side} too, or take the address out of one of the groups."
                yield of_rule("D14", numbered, message, fix)
    for name, group in scope.ruleset.groups.items():
        for other, taken in scope.within(name).items():
            lost = list(_denied_by(scope, name, other))
            if lost:
                rules = "; ".join(str(numbered).removeprefix(f"{name} ") for numbered in lost[:3])
                rules += "; and more" if len(lost) > 3 else ""
                message = (
                    f"{_few(taken)} lies within {name} but belongs to {other}, "
                    f"so these rules do not hold for it: {rules}."
                )
                fix = f"If they should, repeat them in {other}, or name the address in both groups."
                yield problem("D14", message, fix, f"groups.{name}", line=group.line, severity="note")


def _is_member(scope: Scope, name: str, member: str) -> bool:
    return member in scope.ruleset.groups[name].members


def _few(members: Iterable[str]) -> str:
    listed = list(members)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _denied_by(scope: Scope, name: str, other: str) -> Iterator[Numbered]:
    """The rules of a group of which another group allows nothing at all."""
    for side in SIDES:
        if scope.ruleset.default_of(other, side) == "allow":
            continue
        theirs = scope.sides.get((other, side), [])
        for numbered in scope.sides.get((name, side), ()):
            if not any(_meet(scope, numbered, rule) for rule in scope.near(numbered, theirs)):
                yield numbered


def _meet(scope: Scope, a: Numbered, b: Numbered) -> bool:
    protos = a.rule.proto == b.rule.proto or ANY in (a.rule.proto, b.rule.proto)
    ports = not (a.rule.ports and b.rule.ports) or spans.both(scope.ports[a.number], scope.ports[b.number])
    return protos and bool(ports) and bool(spans.both(scope.peers[a.number], scope.peers[b.number]))
