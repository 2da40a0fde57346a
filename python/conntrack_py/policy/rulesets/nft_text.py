"""Reads nftables rulesets in the words of nft, by way of a network namespace of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets import nft_lines, nft_parse
from conntrack_py.policy.rulesets.foreign import plain
from conntrack_py.policy.rulesets.model import Firewall
from conntrack_py.policy.rulesets.nft import from_nft_json

_INSTEAD = "save the output of `nft -j list ruleset` and give that"
#: Interfaces that the rules name by number have to be there; bridges can be made everywhere.
_LOAD = 'for name; do ip link add "$name" type bridge 2>/dev/null; done; nft -f - && nft -j list ruleset'
#: Interfaces that are made for a ruleset at most.
_MOST_INTERFACES = 256


def from_nft_text(text: str, name: str = "") -> Firewall:
    """Read a ruleset in the words of nftables: nft loads it in a network namespace of its own, and lists it as JSON.

    Without root the namespace is that of a user of its own. Where no nft can be asked, `nft_parse` reads the text.

    Raises:
        PolicyError: It does not load, or is not what `nft list ruleset` prints.
    """
    where = f"{name}: " if name else ""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    if not shutil.which("nft", path=path) or not shutil.which("unshare", path=path):
        return _parsed(text, name)
    apart = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-r", "-n"]
    command = [*apart, "sh", "-c", _LOAD, "sh", *_interfaces(text)]
    environment = {**os.environ, "PATH": path}
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PolicyError(f"{where}nft did not run: {error}; {_INSTEAD}") from error
    if done.returncode != 0 and done.stderr.startswith("unshare:"):
        return _parsed(text, name)
    if done.returncode != 0:
        said = plain((done.stderr.strip().splitlines() or ["nft failed"])[0].removeprefix("/dev/stdin:"))[:200]
        raise PolicyError(f"{where}{said}; if it uses what this machine does not have, {_INSTEAD}")
    return from_nft_json(done.stdout, name, nft_lines.lines(text))


def _interfaces(text: str) -> list[str]:
    """Names that may be those of interfaces: what follows `iif`, `oif` and `device`, and what variables stand for."""
    if shutil.which("ip") is None:
        return []
    found: dict[str, None] = {}
    for match in re.finditer(r"\b(?:iif|oif|devices?|define[ \t]+\w+)\b[ \t!=]*(\{[^{}]{0,4096}\}|[^\s;{}]+)", text):
        for word in re.findall(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}", match[1]):
            if word != "lo" and not word.isdigit():
                found[word] = None
    return list(found)[:_MOST_INTERFACES]


def _parsed(text: str, name: str) -> Firewall:
    """A ruleset as it is understood without nft."""
    try:
        return from_nft_json(json.dumps(nft_parse.parse(text, name)), name, nft_lines.lines(text))
    except PolicyError as error:
        raise PolicyError(f"{error}; {_INSTEAD}") from None
