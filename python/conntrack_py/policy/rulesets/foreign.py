"""Untrusted texts: JSON read with limits, and values quoted safely."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from conntrack_py.exceptions import PolicyError

if TYPE_CHECKING:
    import yaml

#: Digits of a number, and characters of a value in a message.
DIGITS, SHOWN = 20, 60
#: The message about text nested too deeply for Python's parsers.
DEEP = "nested too deeply"


class _TwiceError(Exception):
    """A key that an object has twice."""


class _LongError(Exception):
    """A number with too many digits."""


def plain(text: str) -> str:
    """A text in one line, without characters that cannot be seen."""
    return "".join(one if one.isprintable() else " " for one in text)


def shown(value: object) -> str:
    """A value for a message: short, in one line, and never all of something that holds others."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    text = repr(value[:SHOWN]) if isinstance(value, str) else repr(value)[:SHOWN]
    return f"{text}..." if isinstance(value, str) and len(value) > SHOWN else text


def read_text(path: str | os.PathLike[str]) -> tuple[str, str]:
    """A file's name and text; `-` is standard input.

    Raises:
        PolicyError: It is no text.
        FileNotFoundError: There is no such file.
    """
    name = os.fspath(path)
    try:
        if name == "-":
            return "standard input", sys.stdin.buffer.read().decode("utf-8-sig")
        with open(path, encoding="utf-8-sig") as file:
            return name, file.read()
    except UnicodeDecodeError as error:
        raise PolicyError(f"{name}: found bytes that are no text at {error.start}, expected UTF-8") from None


def place(name: str, line: int | None) -> str:
    """The beginning of a message about a line of a file."""
    if not name:
        return "" if line is None else f"line {line}: "
    return f"{name}: " if line is None else f"{name}:{line}: "


def load_json(text: str, name: str = "", *, unique: bool = True) -> Any:
    """The objects of a text of JSON.

    Args:
        text: The text.
        name: Its file, for messages.
        unique: Refuse objects that have a key twice.

    Raises:
        PolicyError: It is no JSON, nested too deeply, has a key twice, or a number of too many digits.
    """
    try:
        return json.loads(text, parse_int=_integer, object_pairs_hook=_once if unique else None)
    except json.JSONDecodeError as error:
        raise PolicyError(f"{place(name, error.lineno)}not JSON: {error}") from None
    except RecursionError:
        raise PolicyError(f"{place(name, None)}not JSON that can be read: {DEEP}") from None
    except _TwiceError as error:
        line = _line_of_twice(text)
        raise PolicyError(f"{place(name, line)}key {shown(error.args[0])} is there twice") from None
    except _LongError as error:
        raise PolicyError(f"{place(name, None)}found a number of {error} digits, expected fewer") from None


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise _LongError(len(digits))
    return int(digits)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return found


def composed(text: str) -> yaml.Node | None:
    """The nodes of a text of JSON, for lines. No string of JSON holds a tab, which YAML does not allow."""
    import yaml

    try:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        found: yaml.Node | None = yaml.compose(text.replace("\t", " "), Loader=loader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    return found


def _line_of_twice(text: str) -> int | None:
    root = composed(text)
    key = None if root is None else twice(root)
    return None if key is None else int(key.start_mark.line) + 1


def inner_nodes(node: yaml.Node) -> list[yaml.Node]:
    """Children of a node: keys and values, or elements."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def twice(root: yaml.Node) -> yaml.ScalarNode | None:
    """The first key that a mapping has twice."""
    import yaml

    waiting, seen = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            keys = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if (key.tag, key.value) in keys:
                        return key
                    keys.add((key.tag, key.value))
        inner = [one for one in inner_nodes(node) if not isinstance(one, yaml.ScalarNode) and id(one) not in seen]
        seen |= {id(one) for one in inner}
        waiting += reversed(inner)
    return None
