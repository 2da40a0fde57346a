"""`Anonymiser`: prefix-preserving names for addresses, so that results can be shared."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NoReturn, Self

from conntrack_py import _native
from conntrack_py.table.connections import ConnectionTable

#: Salt and costs of scrypt (RFC 7914), 16 MiB for each guess at a key. Other values give other names.
_SALT = b"conntrack_py anonymise 1"
_COSTS = {"n": 1 << 14, "r": 8, "p": 1}
#: Characters of a key below which guessing is easy.
_SHORT = 8


class Anonymiser:
    """Names for addresses by a key: an address has one name everywhere, and a network stays a network.

    Crypto-PAn (Xu, Fan, Ammar, Moon, 2002) with AES-128: two addresses with the first n bits in common have names with
    the first n bits in common, and no more. Private, shared and link-local networks keep their prefix (`10.0.0.0/8`,
    `fc00::/7`, ...), and names are within; multicast, loopback and broadcast addresses stay as they are. Who has the
    key can undo it, and who knows some hosts behind their names learns of their neighbours: that is the price of
    prefixes.

    Directions, zones and evidence are those of the real addresses. `community_id` and Zeek's `uid` are made of the
    names. Ports, times and numbers of bytes stay.

    >>> names = Anonymiser("a long secret")
    >>> names.address("224.0.0.251")
    '224.0.0.251'
    """

    __slots__ = ("_native",)

    def __init__(self, key: str | bytes) -> None:
        """Derive names from a key, by scrypt.

        Args:
            key: The secret, at least eight characters.

        Raises:
            ValueError: It is shorter.
        """
        secret = key.encode() if isinstance(key, str) else bytes(key)
        if len(secret) < _SHORT:
            raise ValueError(f"key: found {len(secret)} characters, expected at least {_SHORT}")
        self._native = _native.Anonymiser(hashlib.scrypt(secret, salt=_SALT, dklen=32, **_COSTS))

    @classmethod
    def of(cls, text: str) -> Self:
        """Names by the text of an option: the key, `@FILE` for what is in a file, or `env:NAME` for a variable.

        White space around the key of a file does not count.

        Raises:
            ValueError: The key is too short, or there is no such variable.
            OSError: The file cannot be read.
        """
        if text.startswith("@"):
            return cls(Path(text[1:]).read_bytes().strip())
        if text.startswith("env:"):
            name = text.removeprefix("env:")
            if name not in os.environ:
                raise ValueError(f"key: there is no environment variable {name}")
            return cls(os.environ[name])
        return cls(text)

    def address(self, address: str) -> str:
        """The name of an address.

        Raises:
            ValueError: It is no address.
        """
        return self._native.address(address)

    def network(self, network: str) -> str:
        """The name of a network, which has those of all its addresses and no other; for `local` and `--local`.

        Raises:
            ValueError: It is no network.
        """
        return self._native.network(network)

    def table(self, table: ConnectionTable) -> ConnectionTable:
        """The table with names for addresses, its local networks and zones under their names, too."""
        return ConnectionTable(self._native.table(table._native))

    def __reduce__(self) -> NoReturn:
        """Refuse: a key does not belong in a pickle."""
        raise TypeError("an Anonymiser is not pickled or copied: make one of the key")

    def __repr__(self) -> str:
        """Nothing of the key."""
        return "<Anonymiser>"
