"""Conditions on the rows of a table, as masks.

Logic has two values. A missing value equals `null` alone, and is neither less nor greater than anything; `!=` and
`not in` are the negations of `==` and `in`, so that `vlan != 5` holds where there is no VLAN. A comparison of `addr` or
`port` holds if it does for one of the ends, and its negation if it does for neither.
"""

from __future__ import annotations

import bisect
import difflib
import functools
import ipaddress
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from operator import iand, ior
from typing import TYPE_CHECKING, Any

from conntrack_py.where import kinds
from conntrack_py.where.kinds import DERIVED, EITHER, ORDERED, Kind, Rows
from conntrack_py.where.language import Comparison, Not, Token, Tree, parse, refuse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    _Holds = Callable[[Rows], Bools]


@dataclass(frozen=True)
class Condition:
    """A condition that fits tables with the columns and zones of the one that it was read for.

    Attributes:
        text: As given.
    """

    text: str
    _holds: _Holds

    def mask(self, table: Rows) -> Bools:
        """Mask of the rows for which it holds."""
        return self._holds(table)


def condition(text: str, table: Rows) -> Condition:
    """The condition of a text on rows of a table, which may be empty: its columns and words are what counts.

    Raises:
        WhereError: The text is no condition; the message has the place and what was expected.
    """
    return Condition(text, _Reader(text, table).holds(parse(text)))


class _Reader:
    """Trees → functions from tables to masks."""

    def __init__(self, text: str, table: Rows) -> None:
        self._text = text
        self._table = table

    def holds(self, tree: Tree) -> _Holds:
        if isinstance(tree, Comparison):
            return self._comparison(tree)
        if isinstance(tree, Not):
            inner = self.holds(tree.part)
            return lambda table: ~inner(table)
        parts = [self.holds(part) for part in tree.parts]
        return _joined(tree.word, parts)

    def _comparison(self, tree: Comparison) -> _Holds:
        name = tree.column.text
        kind = self._kind(tree.column)
        if not tree.operator:
            if kind is not Kind.BOOLEAN:
                end = Token("end", "", tree.column.stop, tree.column.stop)
                refuse(self._text, end, f"a comparison: {name} is {_article(kind)}")
            return lambda table: _is_in(table[name], {True})
        if tree.operator not in ("==", "!=", "in") and (kind not in ORDERED or name in EITHER):
            refuse(
                self._text, tree.column, f"a column that has an order before {tree.operator}; {name} has ==, != and in"
            )
        others = [value for value in tree.values if self._is_column(value)]
        if others:
            return self._two_columns(tree, kind, others)
        nulls = [value for value in tree.values if value.kind == "bare" and value.text.lower() == "null"]
        if nulls and tree.operator not in ("==", "!=", "in"):
            refuse(self._text, nulls[0], f"{kind.value} behind {tree.operator}")
        given = [value for value in tree.values if value not in nulls]
        negated = tree.negated or tree.operator == "!="
        ways = [*self._values(name, kind, tree.operator, given), *([missing(name, kind)] if nulls else [])]
        positive = _joined("or", ways)
        return (lambda table: ~positive(table)) if negated else positive

    def _kind(self, token: Token) -> Kind:
        kind = kinds.kind_of(self._table, token.text)
        if kind is None:
            names = [*self._table.columns, *(name for name in DERIVED if kinds.kind_of(self._table, name))]
            near = difflib.get_close_matches(token.text[:64], names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            refuse(self._text, token, f"a column: {', '.join(names)}{hint}")
        return kind

    def _is_column(self, token: Token) -> bool:
        return token.kind == "bare" and kinds.kind_of(self._table, token.text) is not None

    def _two_columns(self, tree: Comparison, kind: Kind, others: list[Token]) -> _Holds:
        """Comparison of two columns of one kind."""
        name, other = tree.column.text, tree.values[0].text
        if tree.operator == "in" or {name, other} & set(EITHER) or kinds.kind_of(self._table, other) is not kind:
            refuse(self._text, others[0], f"{_expected(kind)}, or another column of that kind")
        operator = tree.operator

        def holds(table: Rows) -> Bools:
            import numpy as np

            one, two = comparable(table, name, kind), comparable(table, other, kind)
            both = ~(missing(name, kind)(table) | missing(other, kind)(table))
            found: Bools = np.asarray(_OPERATORS["==" if operator == "!=" else operator](one, two), bool) & both
            return ~found if operator == "!=" else found

        return holds

    def _values(self, name: str, kind: Kind, operator: str, values: list[Token]) -> list[_Holds]:
        """Functions one of which has to hold."""
        if not values:
            return []
        ends = DERIVED[name][1] if name in EITHER else (name,)
        if kind is Kind.ADDRESS:
            inside = self._ranges(operator, values)
            return [_of_texts(end, inside) for end in ends]
        if kind is Kind.TEXT:
            wanted = {value.text for value in values}
            return [_of_texts(end, wanted.__contains__) for end in ends]
        if kind is Kind.WORD:
            return [self._words(name, values)]
        if kind is Kind.BOOLEAN:
            wants = {self._read(value, kind, kinds.boolean(value.text)) for value in values}
            return [lambda table: _is_in(table[name], wants)]
        numbers = [self._read(value, kind, kinds.number(kind, value.text)) for value in values]
        sign = "==" if operator in ("!=", "in") else operator
        return [_of_numbers(end, kind, sign, numbers) for end in ends]

    def _read(self, token: Token, kind: Kind, value: Any) -> Any:
        if value is None:
            refuse(self._text, token, _expected(kind))
        return value

    def _ranges(self, operator: str, values: list[Token]) -> Callable[[str], bool]:
        networks = [self._read(value, Kind.ADDRESS, kinds.network(value.text)) for value in values]
        for value, network in zip(values, networks, strict=True):
            if operator != "in" and network.num_addresses > 1:
                refuse(self._text, value, "an address; for a network write 'in'")
        ranges = {
            version: _merged(
                (int(network.network_address), int(network.broadcast_address))
                for network in networks
                if network.version == version
            )
            for version in (4, 6)
        }

        def inside(text: str) -> bool:
            address = ipaddress.ip_address(text)
            starts, stops = ranges[address.version]
            place = bisect.bisect_right(starts, int(address)) - 1
            return place >= 0 and int(address) <= stops[place]

        return inside

    def _words(self, name: str, values: list[Token]) -> _Holds:
        words = self._table.codes(name)[1]
        for value in values:
            if value.text not in words:
                near = difflib.get_close_matches(value.text[:64], words, n=1, cutoff=0.5)
                near = near or [word for word in words if word.lower() == value.text.lower()]
                hint = f"; did you mean {near[0]}?" if near else ""
                known = kinds.listed(words) if words else "none, since no zones are configured"
                refuse(self._text, value, f"a word of {name}: {known}{hint}")
        wanted = {value.text for value in values}

        def holds(table: Rows) -> Bools:
            import numpy as np

            codes, known = table.codes(name)
            # -1, a missing word, is the last place.
            found: Bools = np.array([*(word in wanted for word in known), False])[codes]
            return found

        return holds


def _article(kind: Kind) -> str:
    return kind.value.partition(",")[0]


def _expected(kind: Kind) -> str:
    return kind.value + (", or a network such as 10.0.0.0/8 behind 'in'" if kind is Kind.ADDRESS else "")


def _joined(word: str, parts: list[_Holds]) -> _Holds:
    """The mask of rows for which all parts hold (`and`), or any of them (`or`)."""
    join = iand if word == "and" else ior
    return lambda table: functools.reduce(join, (part(table) for part in parts))


def missing(name: str, kind: Kind) -> _Holds:
    """Mask of the rows without a value."""

    def is_missing(table: Rows) -> Bools:
        import numpy as np

        found: Bools = np.zeros(len(table), bool)
        if kind in (Kind.TIME, Kind.DURATION):
            for column in DERIVED[name][1] if name in DERIVED else (name,):
                found |= np.isnat(table[column])
        elif kind is Kind.WORD:
            found = table.codes(name)[0] < 0
        elif name not in DERIVED and kind is Kind.NUMBER and table[name].dtype.kind == "i":
            found = table[name] < 0
        return found

    return is_missing


def comparable(table: Rows, name: str, kind: Kind) -> NDArray[Any]:
    """The values of a column, times as nanoseconds, addresses as text."""
    import numpy as np

    if name == "duration":
        # Modulo 2^64 the difference of two times is right; connections that end before they start last no time.
        end, start = table["end"].view(np.int64), table["start"].view(np.int64)
        spans: NDArray[np.uint64] = end.view(np.uint64) - start.view(np.uint64)
        return np.where(end >= start, spans, np.uint64(0))
    if name in DERIVED:
        one, two = (table[column] for column in DERIVED[name][1])
        return np.asarray(one + two)
    values: NDArray[Any] = table[name]
    return values.view(np.int64) if kind is Kind.TIME else values


def _of_numbers(name: str, kind: Kind, operator: str, numbers: list[Fraction]) -> _Holds:
    lacks = missing(name, kind)

    def holds(table: Rows) -> Bools:
        import numpy as np

        values = comparable(table, name, kind)
        found: Bools = np.zeros(len(table), bool)
        if values.dtype.kind == "f":
            for number in numbers:
                # A float32 of 0.9 is a little less than 0.9: both sides are rounded alike.
                found |= _OPERATORS[operator](values, values.dtype.type(float(number)))
        elif operator == "==":
            limits = np.iinfo(values.dtype)
            wanted = [int(one) for one in numbers if one.denominator == 1 and limits.min <= one <= limits.max]
            found = np.isin(values, np.array(wanted, values.dtype))
        else:
            found = _ordered(values, operator, numbers[0])
        return found & ~lacks(table)

    return holds


def _ordered(values: NDArray[Any], operator: str, number: Fraction) -> Bools:
    """Comparison of whole numbers with any number, exactly."""
    import numpy as np

    limits = np.iinfo(values.dtype)
    bound = math.floor(number) if operator in (">", "<=") else math.ceil(number)
    if bound > limits.max or bound < limits.min:
        holds = (bound > limits.max) == (operator in ("<", "<="))
        return np.full(len(values), holds)
    found: Bools = _OPERATORS[operator](values, values.dtype.type(bound))
    return found


def _of_texts(name: str, wanted: Callable[[str], bool]) -> _Holds:
    """The rows whose text is wanted; each text is asked for once."""

    def holds(table: Rows) -> Bools:
        import numpy as np

        known: dict[str, bool] = {}

        def is_wanted(text: str) -> bool:
            found = known.get(text)
            if found is None:
                found = known[text] = wanted(text)
            return found

        return np.fromiter(map(is_wanted, table.texts(name)), bool, len(table))

    return holds


def _is_in(values: Bools, wanted: set[bool]) -> Bools:
    import numpy as np

    return np.isin(values, list(wanted))


def _merged(ranges: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Ranges in order, without overlaps: where they start, and where they stop."""
    starts: list[int] = []
    stops: list[int] = []
    for start, stop in sorted(ranges):
        if stops and start <= stops[-1] + 1:
            stops[-1] = max(stops[-1], stop)
        else:
            starts.append(start)
            stops.append(stop)
    return starts, stops


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda one, two: one == two,
    "<": lambda one, two: one < two,
    "<=": lambda one, two: one <= two,
    ">": lambda one, two: one > two,
    ">=": lambda one, two: one >= two,
}
