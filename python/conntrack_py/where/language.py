"""Text of a condition → tree: a tokeniser, and a parser by recursive descent.

    or         := and ("or" and)*
    and        := not ("and" not)*
    not        := "not" not | "(" or ")" | comparison
    comparison := column [("==" | "!=" | "<" | "<=" | ">" | ">=") value | ["not"] "in" (value | "[" values "]")]

Values stay text here: the column that they are compared with says how to read them (`kinds`). Length, depth and number
of comparisons have bounds, so that no text takes long or much memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from conntrack_py.exceptions import WhereError
from conntrack_py.text import printable

#: Characters of a text, levels of brackets and `not`, comparisons, and values of all lists.
_LONGEST_TEXT = 65_536
_DEEPEST = 64
_MOST_COMPARISONS = 256
_MOST_VALUES = 8192
#: Characters of a text that an error shows before and behind the place.
_SHOWN = 32

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_KEYWORDS = ("and", "or", "not", "in")
_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>==|!=|<=|>=|<|>|\(|\)|\[|\]|,)|"(?P<double>[^"]*)"|'(?P<single>[^']*)'"""
    r"""|(?P<bare>[^\s()\[\],=!<>"']+)|(?P<wrong>&&|\|\||[=!"']))"""
)
#: Marks of other languages, and ours.
_MEANT = {"=": "==", "!": "not", "&&": "and", "||": "or", "&": "and", "|": "or"}


class Token(NamedTuple):
    """A piece of the text: `mark`, `bare`, `quoted`, `wrong` or `end`."""

    kind: str
    text: str
    start: int
    stop: int

    def is_word(self, word: str) -> bool:
        """True for a keyword, in small letters or capitals."""
        return self.kind == "bare" and self.text.lower() == word


@dataclass(frozen=True, slots=True)
class Comparison:
    """A column, and the values it is compared with.

    Attributes:
        column: Its name.
        operator: One of `COMPARISONS`, or `in`; empty for a column alone.
        values: One value; of a list any number.
        negated: The comparison was `not in`.
    """

    column: Token
    operator: str
    values: tuple[Token, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    part: Tree


@dataclass(frozen=True, slots=True)
class Both:
    """All parts hold (`and`), or any of them (`or`)."""

    word: str
    parts: tuple[Tree, ...]


Tree = Comparison | Not | Both


def parse(text: str) -> Tree:
    """The tree of a text.

    Raises:
        WhereError: It is no condition, or over a bound; the message has the place and what was expected.
    """
    if len(text) > _LONGEST_TEXT:
        raise WhereError(f"a condition of {len(text):,} characters, expected at most {_LONGEST_TEXT:,}")
    return _Parser(text).whole()


def refuse(text: str, token: Token, expected: str) -> NoReturn:
    """Raise an error that shows the place of a token."""
    found = "the end" if token.kind == "end" else printable(repr(token.text[:_SHOWN]))
    first, last = max(token.start - _SHOWN, 0), token.start + 2 * _SHOWN
    before = ("... " if first else "") + printable(text[first : token.start])
    marked = printable(text[token.start : min(max(token.stop, token.start + 1), last)])
    behind = printable(text[token.start : last]) + (" ..." if last < len(text) else "")
    caret = " " * len(before) + "^" * max(len(marked), 1)
    raise WhereError(
        f"at character {token.start + 1}: found {found}, expected {expected}\n  {before}{behind}\n  {caret}"
    )


def _tokens(text: str) -> list[Token]:
    tokens, at = [], 0
    while (found := _TOKEN.match(text, at)) is not None:
        kind = found.lastgroup or ""
        start, stop = found.span(kind)
        if kind in ("double", "single"):
            tokens.append(Token("quoted", found[kind], start - 1, stop + 1))
        else:
            tokens.append(Token(kind, found[kind], start, stop))
        at = found.end()
    tokens.append(Token("end", "", len(text), len(text)))
    return tokens


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = self._depth = self._comparisons = self._values = 0

    def whole(self) -> Tree:
        tree = self._or()
        if self._next.kind != "end":
            self._refuse("'and', 'or' or the end")
        return tree

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _took(self, word: str) -> bool:
        token = self._next
        found = token.is_word(word) or (token.kind == "mark" and token.text == word)
        self._at += found
        return found

    def _refuse(self, expected: str) -> NoReturn:
        token = self._next
        if token.kind == "wrong" and token.text in "\"'":
            expected = f"another {token.text} that ends the text"
        elif token.text in _MEANT and token.kind in ("wrong", "bare"):
            expected = f"{_MEANT[token.text]!r} (conditions have 'and', 'or', 'not', '==')"
        refuse(self._text, token, expected)

    def _or(self) -> Tree:
        return self._chain("or")

    def _chain(self, word: str) -> Tree:
        part = self._not if word == "and" else self._and
        parts = [part()]
        while self._took(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Both(word, tuple(parts))

    def _and(self) -> Tree:
        return self._chain("and")

    def _not(self) -> Tree:
        token = self._next
        negates, opens = self._took("not"), False
        if not negates:
            opens = self._took("(")
        if not negates and not opens:
            return self._comparison()
        self._depth += 1
        if self._depth > _DEEPEST:
            refuse(self._text, token, f"at most {_DEEPEST} levels of brackets and 'not'")
        tree = Not(self._not()) if negates else self._or()
        self._depth -= 1
        if opens and not self._took(")"):
            self._refuse("')', 'and' or 'or'")
        return tree

    def _comparison(self) -> Tree:
        column = self._next
        if column.kind != "bare" or column.text.lower() in _KEYWORDS:
            self._refuse("the name of a column, 'not' or '('")
        self._comparisons += 1
        if self._comparisons > _MOST_COMPARISONS:
            refuse(
                self._text, column, f"at most {_MOST_COMPARISONS} comparisons; a list is one: resp_port in [80, 443]"
            )
        self._take()
        token = self._next
        if token.kind == "mark" and token.text in COMPARISONS:
            self._take()
            return Comparison(column, token.text, (self._value(),))
        negated = token.is_word("not") and self._tokens[self._at + 1].is_word("in")
        self._at += negated
        if self._took("in"):
            return Comparison(column, "in", self._list(), negated)
        if not (token.kind == "end" or token.text == ")" or token.is_word("and") or token.is_word("or")):
            self._refuse("==, !=, <, <=, >, >= or 'in'")
        return Comparison(column, "", ())

    def _list(self) -> tuple[Token, ...]:
        if not self._took("["):
            return (self._value(),)
        values = [self._value()]
        while self._took(","):
            values.append(self._value())
        if not self._took("]"):
            self._refuse("',' or ']'")
        return tuple(values)

    def _value(self) -> Token:
        token = self._next
        if token.kind not in ("bare", "quoted") or (token.kind == "bare" and token.text.lower() in _KEYWORDS):
            self._refuse("a value, such as 443, egress, 10.0.0.0/8 or 2026-01-01T08:00:00Z")
        self._values += 1
        if self._values > _MOST_VALUES:
            refuse(self._text, token, f"at most {_MOST_VALUES:,} values")
        return self._take()
