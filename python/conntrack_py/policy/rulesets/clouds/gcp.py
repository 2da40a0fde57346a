"""Firewall rules of Google Cloud: what `gcloud compute firewall-rules list --format=json` prints.

The rule of the lowest priority number decides, a deny before an allow of the same priority, and packets of open
connections pass. Each network ends with an implied allow of egress and deny of ingress. The metadata server is never
filtered. Source: https://cloud.google.com/firewall/docs/firewalls.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping

from conntrack_py.policy.rulesets.clouds.chains import firewall_of
from conntrack_py.policy.rulesets.clouds.model import (
    ANYBODY,
    SIDES,
    Cloud,
    CloudRule,
    Ends,
    Scope,
    Service,
    Side,
    in_order,
)
from conntrack_py.policy.rulesets.foreign import plain
from conntrack_py.policy.rulesets.model import Firewall, Match, Note, protocol
from conntrack_py.policy.rulesets.parsed import Piece
from conntrack_py.policy.rulesets.spans import V4, Spans, of_networks, union

_METADATA = of_networks([ipaddress.ip_network("169.254.169.254")])
_DEFAULT_PRIORITY, _LAST = 1000, 65_535
_COMMAND = "`gcloud compute firewall-rules list --format=json`"


def scope_of(network: str, rules: Iterable[CloudRule], line: int | None, members: Ends | None = None) -> Scope:
    """A network with its implied rules."""
    listed = list(rules)
    listed.append(
        CloudRule(
            name="metadata server",
            side="egress",
            action="accept",
            order=(-2, 0),
            peers=Ends(networks=_METADATA),
            text="to 169.254.169.254",
            implied=True,
        )
    )
    for side in SIDES:
        is_in = side == "ingress"
        listed.append(
            CloudRule(
                name=f"implied {'deny' if is_in else 'allow'} of {side}",
                side=side,
                action="drop" if is_in else "accept",
                order=(_LAST + 1, 0),
                text="from any" if is_in else "to any",
                implied=True,
            )
        )
    ends = members or Ends(names=(network,))
    return Scope(name=network, vendor="gcp", rules=in_order(listed), members=ends, adds_up=True, line=line)


def from_gcloud_json(text: str, name: str = "") -> Firewall:
    """Read firewall rules.

    Raises:
        PolicyError: They are none, as `gcloud` lists them.
    """
    document = Piece.of_json(text, name)
    if not isinstance(document.value, list):
        document.expected(f"a list of firewall rules, as {_COMMAND} writes it")
    networks: dict[str, list[CloudRule]] = {}
    lines: dict[str, int] = {}
    notes: list[Note] = []
    for piece in document.items():
        piece.table()
        network = piece.get("network")
        of = "default" if network.value is None else plain(network.word().rpartition("/")[2])
        found = rule(piece, _WORDS, notes)
        networks.setdefault(of, [])
        lines.setdefault(of, piece.line)
        if found is not None:
            networks[of].append(found)
    scopes = tuple(scope_of(of, rules, lines[of]) for of, rules in networks.items())
    return firewall_of(Cloud(name=name, scopes=scopes), "gcp", notes)


#: Keys of a rule in the words of gcloud.
_WORDS = {
    "allow": "allowed",
    "deny": "denied",
    "protocol": "IPProtocol",
    "sources": "sourceRanges",
    "destinations": "destinationRanges",
    "source_tags": "sourceTags",
    "source_accounts": "sourceServiceAccounts",
    "target_tags": "targetTags",
    "target_accounts": "targetServiceAccounts",
}


def rule(piece: Piece, words: Mapping[str, str], notes: list[Note], unknown: str = "") -> CloudRule | None:
    """A rule; None: it is disabled.

    Args:
        piece: The rule.
        words: The keys of its format.
        notes: Takes what is not expressed.
        unknown: What else it depends on, or "".

    Raises:
        PolicyError: A key has no value that Google allows.
    """
    name = plain(piece.get("name").word("the name of a rule")) if piece.get("name").value is not None else "rule"
    if piece.get("disabled").value is True:
        notes.append(Note(message=f"The rule {name} is disabled: it is not asked.", line=piece.line, text=name))
        return None
    direction = piece.get("direction")
    if direction.value not in (None, "INGRESS", "EGRESS"):
        direction.expected("INGRESS or EGRESS")
    side: Side = "egress" if direction.value == "EGRESS" else "ingress"
    allowed, denied = (piece.get(words[key]) for key in ("allow", "deny"))
    is_deny = bool(denied.value)
    if is_deny == bool(allowed.value) and not unknown:
        piece.refuse(f"found {'both' if is_deny else 'neither'} of {words['allow']} and {words['deny']}, expected one")
    asked = piece.get("priority")
    most = f"a priority from 0 to {_LAST}"
    priority = _DEFAULT_PRIORITY if asked.value is None else asked.number(0, _LAST, most)
    sources, destinations = (_networks(piece.get(words[key])) for key in ("sources", "destinations"))
    peer_names, targets = (
        _names(piece, words[f"{key}_tags"], words[f"{key}_accounts"]) for key in ("source", "target")
    )
    peers, own_networks = (sources, destinations) if side == "ingress" else (destinations, sources)
    why = [unknown] if unknown else []
    if targets and own_networks is not None:
        why.append("it has targets and ranges of their addresses")
    if peers is None and not (side == "ingress" and peer_names):
        peers = V4 if side == "ingress" or not peer_names else ()
    names = peer_names if side == "ingress" else ()
    own = Ends(networks=own_networks or (), names=targets if own_networks is None else ())
    made = CloudRule(
        name=name,
        side=side,
        action="drop" if is_deny else "accept",
        order=(priority, 0 if is_deny else 1),
        own=own if own.names or own.networks else ANYBODY,
        peers=Ends(networks=peers or (), names=names),
        services=tuple(_services(denied if is_deny else allowed, words["protocol"])) or (Match(),),
        partial="; ".join(why),
        text=_text(side, piece, words, targets),
        line=piece.line,
    )
    if why:
        notes.append(
            Note(
                message=f"The rule {name} depends on what is not expressed: {made.partial}.", line=piece.line, text=name
            )
        )
    return made


def _text(side: str, piece: Piece, words: Mapping[str, str], targets: tuple[str, ...]) -> str:
    keys = ("sources", "source_tags", "source_accounts") if side == "ingress" else ("destinations",)
    told = [str(one) for key in keys for one in piece.get(words[key]).value or ()]
    peers = ", ".join(told[:4]) or "0.0.0.0/0"
    ends = f"from {peers}" if side == "ingress" else f"to {peers}"
    return f"{ends} for {', '.join(targets[:4])}" if targets else ends


def _names(piece: Piece, *keys: str) -> tuple[str, ...]:
    found = [one.word("a tag or account") for key in keys for one in piece.get(key).items("a list of names")]
    return tuple(dict.fromkeys(map(plain, found)))


def _networks(piece: Piece) -> Spans | None:
    listed = piece.items("a list of networks")
    return of_networks(one.network() for one in listed) if listed else None


def _services(piece: Piece, key: str) -> Iterator[Service]:
    for one in piece.items("a list of protocols"):
        word = one.get(key).word("a protocol, such as tcp, its number, or all").lower()
        proto = protocol(word)
        ports = []
        for port in one.get("ports").items("a list of ports"):
            asked = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", port.word("a port or a range"))
            first, last = (int(asked[1]), int(asked[2] or asked[1])) if asked else (1, 0)
            if first > last or last > 65535:
                port.expected("a port from 0 to 65535, or a range of them")
            ports.append((first, last))
        protos = None if proto == "all" else frozenset((proto,))
        yield Match(protos=protos, dports=union(ports)) if ports else Match(protos=protos)
