"""Names beside addresses and services."""

from __future__ import annotations

from collections.abc import Mapping

from rich.markup import escape

from conntrack_py import text

#: Names by address, and what told each.
Names = Mapping[str, Mapping[str, list[str]]]
#: The most characters of a name; of a longer one the end is shown, where a host name is the least anybody's choice.
_LONGEST_NAME = 40


def host(address: str, names: Names, *, unsure: bool = False) -> str:
    """An address in markup, and its first name behind it."""
    # `[fe80::1]` would be markup.
    shown = escape(address) + ("[bold red]?[/]" if unsure else "")
    known = list(names.get(address, ()))
    if not known:
        return shown
    name = text.printable(known[0])
    name = f"...{name[3 - _LONGEST_NAME :]}" if len(name) > _LONGEST_NAME else name
    return f"{shown} [dim]{escape(name)}{f' +{len(known) - 1}' if len(known) > 1 else ''}[/]"


def service(word: str, wide: bool = True) -> str:
    """A service in markup, and behind it, where there is room, its name: `443/tcp https`."""
    name = text.service_name(word) if wide else ""
    return f"{word} [dim]{name}[/]" if name else word
