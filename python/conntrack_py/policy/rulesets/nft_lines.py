"""Lines of rules in a text of nftables.

The kernel's list has no lines. The rules of a chain come back in their order, so the text is split into its statements
(nft(8), "Input file formats"), and a chain whose counts agree gets the lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_TOKENS = re.compile(
    r'(?P<skip>[ \t\r\f\v]+|\\\r?\n|#[^\n]*)|(?P<text>"[^"\n]*"?)|(?P<end>[{};\n])|(?P<word>[^\s{};"#]+)'
)
#: Families of tables.
FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")
#: Statements of a chain that are no rules.
_NO_RULES = ("type", "policy", "comment", "devices", "device", "flags", "define", "redefine", "undefine")
_VERBS = ("add", "create", "insert", "delete", "destroy", "flush", "replace", "reset")


@dataclass
class Lines:
    """Lines of the rules of chains, and of chains, by family, table and name.

    Attributes:
        rules: The lines of a chain's rules, in order; None: the order of the text is not that of the kernel.
        chains: The line of a chain.
    """

    rules: dict[str, list[int] | None] = field(default_factory=dict)
    chains: dict[str, int] = field(default_factory=dict)


@dataclass
class Word:
    """A word of a text, its line, and whether it ends or begins something: a brace, a semicolon or a line."""

    text: str
    line: int
    is_end: bool


def lines(text: str) -> Lines:
    """The lines of a text; none of a text that includes other files."""
    listed = list(words(text))
    if any(word.text == "include" for word in listed):
        return Lines()
    reader = _Reader(listed)
    reader.commands()
    return reader.found


def words(text: str) -> Iterator[Word]:
    """The words of a text, without comments."""
    at, line = 0, 1
    while at < len(text):
        found = _TOKENS.match(text, at)
        word = text[at] if found is None else found[0]
        if found is None or found["skip"] is None:
            yield Word(word, line, found is not None and found["end"] is not None)
        line += word.count("\n")
        at += len(word)


class _Reader:
    """Statements of a text, one behind another."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = words
        self.at = 0
        self.found = Lines()

    def statement(self) -> tuple[list[Word], str]:
        """The words up to the end of a statement, and that end: a brace that begins a block is one."""
        taken: list[Word] = []
        while self.at < len(self.words):
            word = self.words[self.at]
            self.at += 1
            if word.is_end and word.text == "{" and _begins_block(taken):
                return taken, "{"
            if word.is_end and word.text == "{":
                taken.append(word)
                self.skip()
            elif word.is_end:
                return taken, word.text
            else:
                taken.append(word)
        return taken, ""

    def skip(self) -> None:
        """Go behind the brace that ends what an earlier one began."""
        depth = 1
        while self.at < len(self.words) and depth:
            word = self.words[self.at]
            self.at += 1
            if word.is_end:
                depth += {"{": 1, "}": -1}.get(word.text, 0)

    def commands(self) -> None:
        """The commands outside of blocks."""
        while self.at < len(self.words):
            taken, end = self.statement()
            said = [word.text for word in taken]
            verb = said.pop(0) if said and said[0] in _VERBS else "add"
            kind = said.pop(0) if said else ""
            family = said.pop(0) if said and said[0] in FAMILIES else "ip"
            if verb in ("delete", "destroy", "flush"):
                self.forget(verb, kind, f"{family} {' '.join(said[:2])}")
            elif kind == "table" and end == "{":
                self.table(f"{family} {said[0] if said else ''}")
                continue
            elif kind == "chain" and len(said) >= 2:
                key = f"{family} {said[0]} {said[1]}"
                self.found.chains.setdefault(key, taken[0].line)
                self.found.rules.setdefault(key, [])
                if end == "{":
                    self.chain(key)
                continue
            elif kind == "rule" and len(said) >= 2:
                self.rule(f"{family} {said[0]} {said[1]}", taken[0].line, verb == "add" and said[2:3] not in _PLACES)
            if end == "{":
                self.skip()

    def table(self, name: str) -> None:
        """The block of a table."""
        while self.at < len(self.words):
            taken, end = self.statement()
            if end == "}":
                return
            if end == "{" and taken[0].text == "chain" and len(taken) > 1:
                key = f"{name} {taken[1].text}"
                self.found.chains.setdefault(key, taken[0].line)
                self.found.rules.setdefault(key, [])
                self.chain(key)
            elif end == "{":
                self.skip()

    def chain(self, key: str) -> None:
        """The block of a chain."""
        while self.at < len(self.words):
            taken, end = self.statement()
            if taken and taken[0].text not in _NO_RULES:
                self.rule(key, taken[0].line, True)
            if end == "}":
                return

    def rule(self, key: str, line: int, is_last: bool) -> None:
        """A rule; one that is not the last of its chain has a place that is not told here."""
        known = self.found.rules.setdefault(key, [])
        if not is_last:
            self.found.rules[key] = None
        elif known is not None:
            known.append(line)

    def forget(self, verb: str, kind: str, key: str) -> None:
        """Forget the rules that a command removes."""
        if kind == "ruleset":
            self.found = Lines()
        elif kind in ("table", "chain"):
            kept = {name: of for name, of in self.found.rules.items() if not f"{name} ".startswith(f"{key.strip()} ")}
            self.found.rules = kept
        elif kind == "rule":
            self.found.rules[key] = None


_PLACES = (["index"], ["handle"], ["position"])


def _begins_block(taken: Sequence[Word]) -> bool:
    """True where a brace begins the block of an object, and no set of values."""
    said = [word.text for word in taken]
    if said and said[0] in _VERBS:
        said = said[1:]
    if not said or "=" in said:
        return False
    if said[0] in ("table", "chain", "set", "map", "flowtable", "counter", "quota", "limit", "secmark", "synproxy"):
        # `counter name { ... }` declares, and a rule may begin with the statements of these names.
        return said[0] in ("table", "chain", "set", "map", "flowtable") or len(said) == 2
    return said[0] == "ct" and len(said) > 1 and said[1] in ("helper", "timeout", "expectation") and len(said) == 3
