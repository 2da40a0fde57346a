"""Checks of rulesets of nftables and iptables, and of network ACLs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conntrack_py.policy.lint import reach
from conntrack_py.policy.lint.problem import Problem, Severity, in_order, plural, problem
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.model import ALL_TYPES, REPLY_STATES, Chain, Firewall, FirewallRule, Match, Note
from conntrack_py.policy.rulesets.spans import Spans
from conntrack_py.table import ConnectionTable

_STATE_RULE = {
    "nftables": "ct state established,related accept",
    "iptables": "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
}
#: Ports of DHCP, for IPv4 and IPv6: a server's and a client's.
_DHCP: Spans = ((67, 68), (546, 547))
#: Pairs of rules, one of each direction, for the same service.
_Pairs = list[tuple[FirewallRule, FirewallRule]]


def lint_firewall(firewall: Firewall, connections: ConnectionTable | None = None) -> list[Problem]:
    """Look for what is wrong with the rules of a firewall.

    Args:
        firewall: The rules, as a reader of `rulesets` has read them.
        connections: Traffic, to say which of two mirrored rules was used; local networks stand for the firewall's host.

    Returns:
        Problems, the worst first.
    """
    found: list[Problem] = []
    by_scope: dict[str, list[Chain]] = {}
    for chain in firewall.chains:
        by_scope.setdefault(chain.scope, []).append(chain)
    for chains in by_scope.values():
        found += _of_scope(firewall, chains, connections)
    if not firewall.stateless:
        found += reach.nothing_dropped(firewall)
    found += map(_unread, firewall.notes)
    return in_order(dict.fromkeys(found))


def _state_rule(firewall: Firewall) -> str:
    return (
        f"`{_STATE_RULE[firewall.family]}`" if firewall.family in _STATE_RULE else "a rule for established connections"
    )


def _unread(note: Note) -> Problem:
    if note.wrong:
        fix = "Correct the line: the other lines are judged without it, and no tool loads it."
        return problem(
            "D19", f"{note.message[:1].upper()}{note.message[1:]}.", fix, "file", line=note.line, rule=note.text
        )
    fix = "Look at it yourself: it is not part of what lint says."
    return problem("D19", note.message, fix, "file", line=note.line, rule=note.text, severity="note")


def _of_scope(firewall: Firewall, chains: list[Chain], connections: ConnectionTable | None) -> Iterator[Problem]:
    rules = [rule for chain in chains for rule in chain.rules if rule.lets_in and not rule.match.partial]
    pairs = _mirrored(rules)
    for ingress, egress in pairs:
        yield _mirror(firewall, ingress, egress, connections)
    for rule in rules:
        if _is_return_path(rule):
            yield _return_path(firewall, rule)
    yield from reach.unreachable(chains)
    if firewall.stateless:
        return
    yield from reach.everything(chains)
    yield from reach.administration(rules)
    yield from _both_ways(firewall, chains)
    by_source_port = [rule for rule in rules if _is_source_port_rule(rule)]
    for rule in by_source_port:
        yield _source_port(firewall, rule)
    yield from _new_in_state_rule(chains)
    yield from _no_state_rule(firewall, chains, pairs, by_source_port)
    yield from _output_open(firewall, chains, connections)


def _both_ways(firewall: Firewall, chains: list[Chain]) -> Iterator[Problem]:
    """D1 for rules without ports, of which one is the other with source and destination exchanged."""
    for chain in chains:
        seen: dict[object, FirewallRule] = {}
        for rule in reach.asked(chain):
            match = rule.match
            plain = not (match.partial or match.has_ports or match.has_source_ports or match.types != ALL_TYPES)
            ends = (match.saddr, match.iif, match.daddr, match.oif)
            if not (plain and rule.lets_in and chain.hook == "forward") or ends[:2] == ends[2:]:
                continue
            other = seen.get((match.protos, *ends[2:], *ends[:2]))
            seen.setdefault((match.protos, *ends), rule)
            if other is None:
                continue
            what = "everything" if match.protos is None else f"all of {'/'.join(sorted(match.protos))}"
            has_state = firewall.tracks or any(
                _asks_for_replies(one) and one.verdict == "accept" for one in chain.rules
            )
            message = f"{what.capitalize()} is accepted in both directions: also by {_named(other)}."
            fix = "Keep the rule of the side that initiates: replies belong to the connection."
            if not has_state:
                fix = f"Begin the chain with {_state_rule(firewall)}, and keep the rule of the side that initiates."
            yield _of_rule("D1", rule, message, fix, "note" if has_state else None)
            if chain.drops and not has_state:
                yield _without_state(firewall, chain, other)


def _without_state(firewall: Firewall, chain: Chain, rule: FirewallRule) -> Problem:
    message = (
        f"No rule of {chain.name} accepts established connections. {_named(rule)} and its mirror image stand in "
        "for it, and let both ends initiate."
    )
    fix = f"Begin the chain with {_state_rule(firewall)}, and remove the rules that are there for replies."
    return problem("D7", message, fix, chain.name, line=chain.line)


def _of_rule(check: str, rule: FirewallRule, message: str, fix: str, severity: Severity | None = None) -> Problem:
    return problem(check, message, fix, rule.place, line=rule.line, rule=rule.text, severity=severity)


def _named(rule: FirewallRule) -> str:
    """A rule in the message of another."""
    return f"{rule.place if rule.line is None else f'line {rule.line}'} (`{rule.text}`)"


def _mirrored(rules: list[FirewallRule]) -> _Pairs:
    """Rules that accept the same service in both directions, each egress rule once."""
    # A rule about all ports, or about the ports of a service as the source, is no rule about a service.
    services = [
        rule
        for rule in rules
        if rule.match.has_ports and not spans.is_ephemeral(rule.match.dports) and _from_anywhere(rule)
    ]
    found: _Pairs = []
    ingress = [rule for rule in services if rule.direction == "ingress"]
    for egress in services:
        if egress.direction == "egress":
            found += [(rule, egress) for rule in ingress if _is_mirror(rule, egress)][:1]
    forward: dict[object, list[FirewallRule]] = {}
    for rule in services:
        if rule.direction != "forward":
            continue
        match = rule.match
        # Of two rules that differ in nothing but who initiates, the first is the one that is kept.
        other = forward.get((match.daddr, match.saddr, match.oif, match.iif), [])
        found += [(earlier, rule) for earlier in other if _same_service(earlier.match, match)][:1]
        if (match.saddr, match.iif) != (match.daddr, match.oif):
            forward.setdefault((match.saddr, match.daddr, match.iif, match.oif), []).append(rule)
    return found


def _from_anywhere(rule: FirewallRule) -> bool:
    """True if the rule matches all source ports that clients use."""
    return not rule.match.has_source_ports or spans.is_ephemeral(rule.match.sports)


def _is_mirror(ingress: FirewallRule, egress: FirewallRule) -> bool:
    a, b = ingress.match, egress.match
    # "?" is some interface, perhaps another one.
    if not _same_service(a, b) or (a.iif and b.oif and (a.iif != b.oif or a.iif == "?" or a.iif.startswith("!"))):
        return False
    return bool(spans.both(a.saddr, b.daddr)) and bool(spans.both(a.daddr, b.saddr))


def _same_service(a: Match, b: Match) -> bool:
    protos = a.protos is not None and b.protos is not None and bool(a.protos & b.protos)
    return protos and bool(spans.both(a.dports, b.dports))


def _mirror(
    firewall: Firewall, ingress: FirewallRule, egress: FirewallRule, connections: ConnectionTable | None
) -> Problem:
    protos = sorted((ingress.match.protos or frozenset()) & (egress.match.protos or frozenset()))
    ports = spans.both(ingress.match.dports, egress.match.dports)
    service = f"{'/'.join(protos)} {spans.ports_text(ports)}"
    came, went = _initiated(connections, protos, ports)
    wrong, other = egress, ingress
    severity: Severity | None = None
    message = f"{service} is accepted in both directions"
    if firewall.stateless:
        fix = (
            "Replies go to the ports of clients, not back to that port: keep the outbound rule only if these hosts "
            "also use the service elsewhere."
        )
        severity = "note"
    elif ingress.direction == "forward":
        fix = "Keep the rule of the side that initiates and remove the other: replies belong to the connection."
    elif came and went:
        fix = "Connections were seen both ways: name the addresses in each rule, so that they differ."
        severity = "note"
    elif went:
        wrong, other = ingress, egress
        fix = f"{plural(went, 'such connection')} went out and none came in: remove this rule, replies need none."
    elif came:
        fix = f"{plural(came, 'such connection')} came in and none went out: remove this rule, replies need none."
    else:
        if spans.is_everybody(ingress.match.saddr) != spans.is_everybody(egress.match.daddr):
            severity = "warning"
        fix = (
            "Keep the input rule if this host offers the service, the output rule if it uses it, and remove the other: "
            "replies need no rule."
        )
    return _of_rule("D1", wrong, f"{message}: also by {_named(other)}.", fix, severity)


def _initiated(connections: ConnectionTable | None, protos: list[str], ports: Spans) -> tuple[int, int]:
    """Counts of connections of a service: inbound, outbound."""
    if connections is None:
        return 0, 0
    codes, words = connections.codes("proto")
    mask = np.isin(codes, [number for number, word in enumerate(words) if word in protos])
    held = np.zeros(len(connections), dtype=bool)
    for first, last in ports:
        held |= (connections["resp_port"] >= first) & (connections["resp_port"] <= last)
    mask &= held & (connections["confidence"] >= np.float32(0.9))
    direction = connections["direction"]
    return int((mask & (direction == "ingress")).sum()), int((mask & (direction == "egress")).sum())


def _is_return_path(rule: FirewallRule) -> bool:
    return spans.is_ephemeral(rule.match.dports) and _from_anywhere(rule)


def _return_path(firewall: Firewall, rule: FirewallRule) -> Problem:
    ports = spans.ports_text(tuple(span for span in rule.match.dports if spans.is_ephemeral((span,))))
    if firewall.stateless:
        message = f"Ports {ports} are open for replies. A network ACL needs that: it knows no connections."
        fix = "Leave it, and let security groups, which do know them, say who may initiate."
        return _of_rule("D4", rule, message, fix, "note")
    message = (
        f"Ports {ports} are those of clients. As a return path they need no rule, and they let in new connections."
    )
    fix = (
        f"Remove the range and let {_state_rule(firewall)} pass replies. A service in it gets a rule for its own port."
    )
    if firewall.tracks:
        fix = "Remove the range: replies pass without it. A service in it gets a rule for its own port."
    return _of_rule("D4", rule, message, fix)


def _is_source_port_rule(rule: FirewallRule) -> bool:
    match = rule.match
    to_clients = not match.has_ports or spans.is_ephemeral(match.dports)
    return match.has_source_ports and not spans.is_ephemeral(match.sports) and to_clients


def _source_port(firewall: Firewall, rule: FirewallRule) -> Problem:
    ports = spans.ports_text(rule.match.sports)
    towards = f"ports {spans.ports_text(rule.match.dports)}" if rule.match.has_ports else "any port"
    message = (
        f"It accepts packets from port {ports}, meant for replies. The sender chooses its port: from that one it may "
        f"open connections to {towards}."
    )
    fix = "Remove it: replies pass without it." if firewall.tracks else f"Replace it by {_state_rule(firewall)}."
    return _of_rule("D5", rule, message, fix)


def _new_in_state_rule(chains: list[Chain]) -> Iterator[Problem]:
    for chain in chains:
        for rule in chain.rules:
            match = rule.match
            asks = {"new", "established"} <= match.states and "invalid" not in match.states
            if not (rule.lets_in and asks) or match.partial or match.types != ALL_TYPES:
                continue
            if match.has_ports or match.has_source_ports or match.has_addresses:
                continue
            faces = " and ".join(
                filter(None, (match.iif and f"in by {match.iif}", match.oif and f"out by {match.oif}"))
            )
            if faces:
                protos = "" if match.protos is None else f"{'/'.join(sorted(match.protos))} "
                message = f"It accepts every new {protos}connection {faces} along with the established ones."
            elif match.protos is None:
                after = (
                    "the policy drop drops nothing" if chain.policy == "drop" else "the rules after it decide nothing"
                )
                message = f"It accepts every new connection along with the established ones: {after}."
            else:
                protos = "/".join(sorted(match.protos))
                message = f"It accepts every new {protos} connection along with the established ones."
            fix = "Take new out of it, and accept new connections by rules that name the service and the peers."
            yield _of_rule("D6", rule, message, fix, None if match.protos is None and not faces else "warning")


def _no_state_rule(
    firewall: Firewall, chains: list[Chain], pairs: _Pairs, by_source_port: list[FirewallRule]
) -> Iterator[Problem]:
    substitutes = [*by_source_port, *(rule for pair in pairs for rule in pair)]
    for chain in chains:
        own = {id(rule) for rule in chain.rules}
        mine = [rule for rule in substitutes if id(rule) in own]
        # A rule that is not understood, but asks for a state, may be what is missing.
        has_state = any(
            rule.verdict == "accept" and not rule.match.loopback and _asks_for_replies(rule) for rule in chain.rules
        )
        if not chain.drops or not mine or has_state or firewall.tracks:
            continue
        yield _without_state(firewall, chain, mine[0])


def _asks_for_replies(rule: FirewallRule) -> bool:
    # Without "new" it speaks of connections, whatever else it asks for; with it, only if it is for no service.
    return rule.is_state_rule or ("new" not in rule.match.states and bool(rule.match.states & REPLY_STATES))


def _output_open(firewall: Firewall, chains: list[Chain], connections: ConnectionTable | None) -> Iterator[Problem]:
    inputs = [chain for chain in chains if chain.hook == "input" and chain.drops]
    offers = [rule for chain in inputs for rule in reach.asked(chain) if _offers(rule)]
    outputs = [chain for chain in chains if chain.hook == "output"]
    if not offers or any(chain.drops or _ends_in_a_drop(chain) or reach.takes_replies_too(chain) for chain in outputs):
        return
    if outputs:
        place, line, why = outputs[0].name, outputs[0].line, "the policy of its output is accept"
        if outputs[0].catch_all is not None:
            why = f"its output accepts everything (`{outputs[0].catch_all.text}`)"
    else:
        place, line, why = inputs[0].name, inputs[0].line, "there is no chain for output"
    message = (
        f"It offers services (`{offers[0].text}`), and {why}: whoever takes over the server may initiate anything."
    )
    if connections is not None:
        went = int((connections["direction"] == "egress").sum())
        message += f" In the capture {plural(went, 'connection')} went out."
    fix = "Deny the rest of egress, after a rule for each place that it has to reach."
    if not firewall.tracks:
        fix = (
            f"Give output the policy drop, with {_state_rule(firewall)}, the loopback, and a rule for each place it "
            "has to reach."
        )
    yield problem("D8", message, fix, place, line=line)


def _offers(rule: FirewallRule) -> bool:
    """True if a service is offered; what answers a client of DHCP is none (RFC 2131, 4.1; RFC 8415, 7.2)."""
    match = rule.match
    if not rule.lets_in or not match.has_ports:
        return False
    is_client = spans.holds(match.dports, 68) or spans.holds(match.dports, 546)
    return not (is_client and spans.within(match.dports, _DHCP))


def _ends_in_a_drop(chain: Chain) -> bool:
    """True if the last rule drops and has a match that is not understood, so perhaps drops the rest."""
    last = chain.rules[-1] if chain.rules and chain.catch_all is None else None
    return last is not None and last.verdict == "drop" and last.is_for_all and "new" in last.match.states
