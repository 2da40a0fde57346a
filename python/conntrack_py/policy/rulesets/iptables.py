"""Reads what iptables-save and ip6tables-save write."""

from __future__ import annotations

import ipaddress
import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets.foreign import plain
from conntrack_py.policy.rulesets.model import (
    ALL_STATES,
    DIRECTIONS,
    REPLY_STATES,
    Action,
    Chain,
    Firewall,
    Match,
    Step,
    flattened,
    protocol,
)
from conntrack_py.policy.rulesets.spans import ALL_PORTS, EVERYBODY, Spans, of_networks, union, without

_HOOKS = {"INPUT": "input", "OUTPUT": "output", "FORWARD": "forward"}
_VERDICTS: dict[str, Action] = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
#: Options that change nothing about which packets a rule is about, and how many words follow them.
_HARMLESS = {
    "-m": 1,
    "--match": 1,
    "--comment": 1,
    "--limit": 1,
    "--limit-burst": 1,
    "--reject-with": 1,
    "--log-prefix": 1,
    "--log-level": 1,
    "--log-tcp-options": 0,
    "--log-ip-options": 0,
    "--log-uid": 0,
    "--syn": 0,
}


#: Digits of a port, with zeros before it, and characters of a word in a message.
_DIGITS, _SHOWN = 6, 60


class _LineError(Exception):
    """An error in a line."""


@dataclass
class _Chain:
    policy: Literal["accept", "drop"]
    line: int
    is_base: bool


def from_iptables_save(text: str, name: str = "") -> Firewall:
    """Read the table filter of what iptables-save wrote.

    Raises:
        PolicyError: It is no such text; the message has the line.
    """
    where = f"{name}:" if name else "line "
    chains: dict[str, _Chain] = {}
    steps: dict[str, list[Step]] = {}
    table = ""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        try:
            if line.startswith("*"):
                table = line[1:]
            elif not line or line.startswith("#") or line == "COMMIT":
                continue
            elif not table:
                raise _LineError("not what iptables-save writes: no table such as *filter before this line")
            elif table == "filter":
                _take(line, number, chains, steps)
        except _LineError as fault:
            raise PolicyError(f"{where}{number}: {fault}") from None
    if not table:
        raise PolicyError(f"{name + ': ' if name else ''}not what iptables-save writes: it has no table")
    names = {key: key for key in chains}
    looked_at = itertools.count()
    try:
        found = [
            Chain(
                name=key,
                hook=_HOOKS[key],
                policy=chain.policy,
                rules=flattened(steps, key, DIRECTIONS[_HOOKS[key]], names, looked_at),
                line=chain.line,
            )
            for key, chain in chains.items()
            if chain.is_base and key in _HOOKS
        ]
    except PolicyError as error:
        raise PolicyError(f"{name + ': ' if name else ''}{error}") from None
    return Firewall(name=name, family="iptables", chains=tuple(found))


def _take(line: str, number: int, chains: dict[str, _Chain], steps: dict[str, list[Step]]) -> None:
    """A line of the table filter."""
    if line.startswith(":"):
        match = re.match(r":(\S+) (ACCEPT|DROP|-)( |$)", line)
        if match is None:
            raise _LineError("not a chain such as `:INPUT DROP [0:0]`")
        chains[match[1]] = _Chain("drop" if match[2] == "DROP" else "accept", number, match[2] != "-")
        return
    try:
        words = shlex.split(re.sub(r"^\[\d+:\d+\] ", "", line))
    except ValueError as error:
        raise _LineError(f"a word has no end: {error}") from None
    if len(words) < 2 or words[0] not in ("-A", "--append"):
        raise _LineError("not a rule such as `-A INPUT -j ACCEPT`")
    step = _step(words[2:], line, number, chains)
    if step is not None:
        steps.setdefault(words[1], []).append(step)


def _options(words: list[str]) -> Iterator[tuple[bool, str, list[str]]]:
    """Options with what follows them, and whether they are negated."""
    at, negated = 0, False
    while at < len(words):
        word = words[at]
        at += 1
        if word == "!":
            negated = True
            continue
        start = at
        while at < len(words) and words[at] != "!" and (at == start or not words[at].startswith("-")):
            if words[at].startswith("-") and len(words[at]) > 1 and not words[at][1].isdigit():
                break
            at += 1
        yield negated, word, words[start:at]
        negated = False


def _step(words: list[str], text: str, number: int, chains: dict[str, _Chain]) -> Step | None:
    match, target, is_goto = Match(), "", False
    for negated, option, values in _options(words):
        if option in ("-j", "--jump", "-g", "--goto"):
            target, is_goto = _only(option, values), option in ("-g", "--goto")
            continue
        met = match.meet(_match(negated, option, values))
        if met is None:
            return None
        match = met
    given = {"text": text, "line": number}
    if target in _VERDICTS:
        return Step(match=match, action=_VERDICTS[target], **given)  # type: ignore[arg-type]
    if target in chains:
        return Step(match=match, action="goto" if is_goto else "jump", target=target, **given)  # type: ignore[arg-type]
    return None


def _only(option: str, values: list[str]) -> str:
    if not values:
        raise _LineError(f"nothing follows {_short(option)}")
    return values[0]


def _match(negated: bool, option: str, values: list[str]) -> Match:
    if option in _HARMLESS and not (negated and option == "--syn"):
        return Match(partial=len(values) > max(1, _HARMLESS[option]) or negated)
    if option not in _MATCHES:
        return Match(partial=True)
    match = _MATCHES[option](negated, _only(option, values))
    return match if len(values) == 1 else replace(match, partial=True)


def _protocol(negated: bool, value: str) -> Match:
    if value in ("all", "0"):
        return Match()
    return Match(partial=True) if negated else Match(protos=frozenset((protocol(value),)))


def _spans(negated: bool, value: str) -> Spans | None:
    """Ports; None where they are names."""
    spans = []
    for piece in value.split(","):
        match = re.fullmatch(r"([0-9]*)(?:(:)([0-9]*))?", piece)
        if match is None or not piece:
            return None
        fits = len(match[1]) <= _DIGITS and len(match[3] or "") <= _DIGITS
        first = int(match[1] or 0) if fits else 0
        last = int(match[3] or 65535) if match[2] and fits else first
        if not fits or not 0 <= first <= last <= 65535:
            raise _LineError(f"found {_short(piece)}, expected a port or a range such as 8000:8100")
        spans.append((first, last))
    return without(ALL_PORTS, union(spans)) if negated else union(spans)


def _short(text: str) -> str:
    """A word of a file for a message."""
    return plain(text) if len(text) <= _SHOWN else f"{plain(text[:_SHOWN])}..."


def _sports(negated: bool, value: str) -> Match:
    spans = _spans(negated, value)
    return Match(partial=True) if spans is None else Match(sports=spans)


def _dports(negated: bool, value: str) -> Match:
    spans = _spans(negated, value)
    return Match(partial=True) if spans is None else Match(dports=spans)


def _addresses(negated: bool, value: str) -> Spans:
    try:
        networks = [ipaddress.ip_network(piece, strict=False) for piece in value.split(",")]
    except ValueError:
        raise _LineError(f"found {_short(value)}, expected an address or a network") from None
    found = of_networks(networks)
    return without(EVERYBODY, found) if negated else found


def _states(negated: bool, value: str) -> Match:
    words = frozenset(value.lower().split(","))
    if not words <= ALL_STATES:
        return Match(partial=True)  # SNAT and DNAT
    return Match(states=ALL_STATES - words if negated else words)


def _direction(negated: bool, value: str) -> Match:
    return Match(states=REPLY_STATES) if value == "REPLY" and not negated else Match(partial=True)


def _interface(negated: bool, value: str) -> str:
    return "?" if negated else value


_MATCHES: dict[str, Callable[[bool, str], Match]] = {
    "-p": _protocol,
    "--protocol": _protocol,
    "--dport": _dports,
    "--dports": _dports,
    "--destination-port": _dports,
    "--destination-ports": _dports,
    "--sport": _sports,
    "--sports": _sports,
    "--source-port": _sports,
    "--source-ports": _sports,
    "-s": lambda negated, value: Match(saddr=_addresses(negated, value)),
    "--source": lambda negated, value: Match(saddr=_addresses(negated, value)),
    "-d": lambda negated, value: Match(daddr=_addresses(negated, value)),
    "--destination": lambda negated, value: Match(daddr=_addresses(negated, value)),
    "-i": lambda negated, value: Match(iif=_interface(negated, value)),
    "--in-interface": lambda negated, value: Match(iif=_interface(negated, value)),
    "-o": lambda negated, value: Match(oif=_interface(negated, value)),
    "--out-interface": lambda negated, value: Match(oif=_interface(negated, value)),
    "--ctstate": _states,
    "--state": _states,
    "--ctdir": _direction,
}
