"""Inventories: names, owners and groups of addresses, from a hosts file, a CSV file, or DHCP leases.

Formats are told by content: CSV has a header with `address`; leases of ISC dhcpd have blocks (dhcpd.leases(5)); those
of dnsmasq have lines of expiry, MAC address, address, name and client (dnsmasq(8), --dhcp-leasefile); the rest is
hosts(5).
A later line about an address stands. Names come from strangers: characters that are not printable are escaped.
"""

from __future__ import annotations

import csv
import io
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.model import ANY, Group
from conntrack_py.text import printable

#: Bytes of a file, addresses, and characters of a name, an owner or a group.
_MOST_BYTES = 67_108_864
_MOST_HOSTS = 1_048_576
_LONGEST_WORD = 253

_LEASE = re.compile(r"^[ \t]*lease[ \t]+([0-9A-Fa-f.:]+)[ \t]*\{([^}]*)\}", re.MULTILINE)
_CALLED = re.compile(r'^[ \t]*client-hostname[ \t]+"([^"\n]*)"', re.MULTILINE)
_DNSMASQ = re.compile(r"[0-9]{1,20} \S+ ([0-9A-Fa-f.:]+) (\S+) \S+")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Entry of an inventory: the name, owner and group of an address, each "" where there is none."""

    name: str = ""
    owner: str = ""
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Names, owners and groups of addresses.

    Attributes:
        hosts: `Entry` by address.
    """

    hosts: Mapping[str, Entry] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a hosts file, CSV (address, name, owner, group), or leases of ISC dhcpd or dnsmasq.

        Raises:
            PolicyError: It is too large or no text, or a line of CSV has no address; the message has file and line.
            FileNotFoundError: There is no such file.
        """
        name = os.fspath(path)
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise PolicyError(printable(f"{name}: found over {_MOST_BYTES:,} bytes, expected an inventory"))
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise PolicyError(
                printable(f"{name}: found bytes that are no text at {error.start}, expected UTF-8")
            ) from None
        hosts: dict[str, Entry] = {}
        for address, entry in _entries(text, name):
            hosts[address] = entry
            if len(hosts) > _MOST_HOSTS:
                raise PolicyError(printable(f"{name}: found over {_MOST_HOSTS:,} addresses"))
        return cls(hosts=hosts)

    def named(self, address: str) -> str:
        """The address with its name behind it: `10.0.1.7 (web1)`; without a name the address."""
        known = self.hosts.get(address)
        return f"{address} ({known.name})" if known is not None and known.name else address

    def as_json(self) -> dict[str, object]:
        """The names as what `json` takes: `names` by address; nothing where there are none."""
        names = {address: entry.name for address, entry in self.hosts.items() if entry.name}
        return {"names": names} if names else {}

    def groups(self) -> dict[str, Group]:
        """The groups of the inventory, without rules, in the order of their first address."""
        members: dict[str, list[str]] = {}
        for address, entry in self.hosts.items():
            if entry.group:
                members.setdefault(entry.group, []).append(str(ipaddress.ip_network(address)))
        return {name: Group(members=tuple(found)) for name, found in members.items()}

    def added_to(self, given: Mapping[str, Group]) -> dict[str, Group]:
        """Groups that were given, and those of the inventory with other names and without members of the former."""
        taken = {member for group in given.values() for member in group.members}
        found = dict(given)
        for name, group in self.groups().items():
            members = tuple(member for member in group.members if member not in taken)
            if name not in given and members:
                found[name] = Group(members=members)
        return found


def _entries(text: str, name: str) -> Iterator[tuple[str, Entry]]:
    lines = text.splitlines()
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    if "address" in [word.strip().lower() for word in first.split(",")]:
        yield from _csv(text, name)
    elif _LEASE.search(text):
        for lease in _LEASE.finditer(text):
            called = _CALLED.search(lease[2])
            yield from _entry(lease[1], called[1] if called else "")
    elif _DNSMASQ.fullmatch(first.strip()):
        for line in lines:
            found = _DNSMASQ.fullmatch(line.strip())
            if found:
                yield from _entry(found[1], "" if found[2] == "*" else found[2])
    else:
        for line in lines:
            words = line.partition("#")[0].split(None, 2)
            if len(words) > 1:
                yield from _entry(words[0], words[1])


def _csv(text: str, name: str) -> Iterator[tuple[str, Entry]]:
    rows = csv.reader(io.StringIO("".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#"))))
    try:
        header = [word.strip().lower() for word in next(rows)]
        for row in rows:
            cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
            if not any(cells.values()):
                continue
            found = [*_entry(cells.get("address", ""), *(cells.get(key, "") for key in ("name", "owner", "group")))]
            if not found:
                where = printable(f"{name}: row {rows.line_num}: found {cells.get('address', '')[:60]!r}")
                raise PolicyError(f"{where}, expected an address such as 10.0.1.7")
            group = found[0][1].group
            if group == ANY or _address(group.partition("/")[0]):
                raise PolicyError(
                    printable(f"{name}: row {rows.line_num}: found the group {group!r}, expected a name other than any")
                )
            yield from found
    except csv.Error as error:
        raise PolicyError(printable(f"{name}: row {rows.line_num}: not CSV: {error}")) from None


def _entry(address: str, name: str, owner: str = "", group: str = "") -> Iterator[tuple[str, Entry]]:
    found = _address(address)
    if found:
        name, owner, group = (printable(word)[:_LONGEST_WORD] for word in (name, owner, group))
        yield found, Entry(name=name, owner=owner, group=group)


def _address(word: str) -> str:
    try:
        found = ipaddress.ip_address(word)
    except ValueError:
        return ""
    return "" if getattr(found, "scope_id", None) else str(found)
