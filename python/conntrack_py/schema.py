"""The form of JSON documents: times, large numbers, and the version of the schema.

Programs read these documents with 64-bit floats (RFC 8259 section 6), which round whole numbers above 2^53.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Version of all JSON documents. New keys leave it as it is; a key with another meaning, or without one, raises it.
SCHEMA_VERSION = 1

#: The largest number up to which a 64-bit float has every whole one.
_EXACT = 1 << 53
_SECOND = 1_000_000_000


def moment(ns: int) -> str:
    """A capture time in UTC: ISO 8601 (RFC 3339) with nine digits of a second, so that text sorts as time does."""
    import datetime

    seconds, rest = divmod(ns, _SECOND)
    at = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return f"{at.isoformat()}.{rest:09}Z"


def moment_or_none(ns: int | None) -> str | None:
    """`moment`, where there is a time."""
    return None if ns is None else moment(ns)


def exact(value: Any) -> Any:
    """The value with whole numbers beyond 2^53, positive or negative, as text."""
    if isinstance(value, Mapping):
        return {key: exact(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [exact(one) for one in value]
    if isinstance(value, int) and not -_EXACT <= value <= _EXACT:
        return str(value)
    return value


def versioned(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its `schema` in front."""
    return {"schema": SCHEMA_VERSION} | dict(document)


def dumps(document: Mapping[str, Any] | list[dict[str, Any]]) -> str:
    """A document as text with a newline at its end. Of a list, each object has the `schema`."""
    made = [versioned(one) for one in document] if isinstance(document, list) else versioned(document)
    return json.dumps(exact(made), indent=2) + "\n"
