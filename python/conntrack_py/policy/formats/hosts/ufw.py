"""A group for a host with ufw: a shell script of its commands.

Replies pass ufw before its rules, and so do the ICMP messages that it lets in by itself (before.rules).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from conntrack_py.policy.formats.common import HEAD, Written, plain
from conntrack_py.policy.formats.hosts.shared import Host
from conntrack_py.policy.model import ANY, SIDES, Numbered, Ruleset, merged

#: Protocols of ufw: with ports, and without (ufw/util.py).
_WITH_PORTS = ("tcp", "udp")
_PLAIN = {"ah": "ah", "esp": "esp", "gre": "gre", "igmp": "igmp"}
_ONLY_V4 = ("igmp",)
#: Ports that one rule takes; a range counts as two.
_MOST = 15


def write(ruleset: Ruleset, group: str) -> Written:
    """Write the commands. They do not enable ufw, nor remove rules that it has."""
    host = Host(ruleset, group)
    lines = [
        "#!/bin/sh",
        f"# {HEAD}, for a host in the group {plain(group)}",
        "# Rules that ufw has already stay; `ufw reset` before this removes them, and `ufw enable` after it starts.",
        "set -e",
    ]
    for side in SIDES:
        word = "incoming" if side == "ingress" else "outgoing"
        lines.append(f"ufw default {'allow' if side in host.open else 'deny'} {word}")
    for side in SIDES:
        for numbered in host.of(side):
            lines += _commands(host, numbered)
    return Written("\n".join(lines) + "\n", host.warnings)


def _commands(host: Host, numbered: Numbered) -> Iterator[str]:
    services = list(_services(host, numbered))
    if not services:
        return
    way, peer, other = ("in", "from", "to") if numbered.side == "ingress" else ("out", "to", "from")
    # ufw takes no single quote in a comment, whatever quotes it.
    note = shlex.quote(host.note(numbered).replace("'", " "))
    for version, network in host.ends(numbered):
        if version == 6 and numbered.rule.proto in _ONLY_V4:
            host.warn(numbered, f"ufw has {numbered.rule.proto} for IPv4 only: left out for {network}")
            continue
        for proto, ports in services:
            words = ["ufw", "allow", way, *(["proto", proto] if proto else [])]
            if numbered.side == "ingress":
                words += [peer, network, other, "any", *(["port", ports] if ports else [])]
            else:
                words += [other, "any", peer, network, *(["port", ports] if ports else [])]
            yield f"{' '.join(words)} comment {note}"


def _services(host: Host, numbered: Numbered) -> Iterator[tuple[str, str]]:
    """Protocol and ports of a rule, any of which is enough."""
    rule = numbered.rule
    if rule.proto == ANY:
        yield "", ""
    elif rule.proto in _PLAIN:
        yield _PLAIN[rule.proto], ""
    elif rule.proto not in _WITH_PORTS:
        host.warn(numbered, f"ufw has no {rule.proto} in its commands (see /etc/ufw/before.rules): left out")
    elif not rule.ports:
        yield rule.proto, ""
    else:
        yield from ((rule.proto, part) for part in _parts(host, numbered))


def _parts(host: Host, numbered: Numbered) -> Iterator[str]:
    words: list[str] = []
    size = 0
    for first, last in merged(numbered.rule.ports):
        if last == 0:
            host.warn(numbered, "ufw has no port 0: left out")
            continue
        low = max(first, 1)
        cost = 1 if low == last else 2
        if size + cost > _MOST:
            yield ",".join(words)
            words, size = [], 0
        words.append(str(low) if low == last else f"{low}:{last}")
        size += cost
    if words:
        yield ",".join(words)
