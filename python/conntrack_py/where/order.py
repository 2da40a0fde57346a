"""Order of rows by a column: `bytes`, or `-bytes` from the largest on."""

from __future__ import annotations

import difflib
import ipaddress
from typing import TYPE_CHECKING

from conntrack_py.exceptions import WhereError
from conntrack_py.text import printable
from conntrack_py.where.condition import comparable, missing
from conntrack_py.where.kinds import DERIVED, EITHER, Kind, Rows, kind_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def key_of(text: str, table: Rows) -> tuple[str, bool]:
    """The column of a text, and True for descending order.

    Raises:
        WhereError: The table has no such column.
    """
    name = text[1:] if text.startswith("-") else text
    if name in EITHER or kind_of(table, name) is None:
        names = [*table.columns, *(name for name in DERIVED if name not in EITHER and kind_of(table, name))]
        near = difflib.get_close_matches(name[:64], names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise WhereError(printable(f"found {name[:64]!r}, expected a column: {', '.join(names)}{hint}"))
    return name, name != text


def ranks(name: str, table: Rows) -> NDArray[np.int64]:
    """The rank of each row by a column; equal values have one rank, and addresses are compared as numbers."""
    import numpy as np

    kind = kind_of(table, name)
    assert kind is not None
    if kind is Kind.ADDRESS:
        texts = list(table.texts(name))
        places = {address: place for place, address in enumerate(sorted(set(texts), key=_number))}
        return np.fromiter(map(places.__getitem__, texts), np.int64, len(texts))
    _, inverse = np.unique(comparable(table, name, kind), return_inverse=True)
    return inverse.astype(np.int64)


def order(text: str, table: Rows) -> NDArray[np.int64]:
    """The rows in the order of a column. Equal ones stay as they are, and rows without a value come last."""
    import numpy as np

    name, descending = key_of(text, table)
    kind = kind_of(table, name)
    assert kind is not None
    found = ranks(name, table)
    return np.lexsort((-found if descending else found, missing(name, kind)(table)))


def _number(address: str) -> tuple[int, int]:
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)
