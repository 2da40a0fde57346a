"""JSON and YAML that others wrote: read with limits, and looked at piece by piece, with the place of what is wrong."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets.foreign import (
    DEEP,
    DIGITS,
    SHOWN,
    composed,
    inner_nodes,
    load_json,
    place,
    plain,
    shown,
    twice,
)

#: Nodes of a document, those of aliases counted each time: a policy has fewer, and a file of 500 bytes may have more.
_MOST_NODES = 1_000_000
#: Safe either way, and faster where PyYAML was built with libyaml.
_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SAFE):  # type: ignore[misc]
    """A safe loader for which dates are texts, as they are in JSON, and numbers have an end."""


_TIME = "tag:yaml.org,2002:timestamp"
_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] != _TIME] for first, resolvers in _SAFE.yaml_implicit_resolvers.items()
}


def _yaml_int(loader: Any, node: yaml.ScalarNode) -> int:
    if len(node.value) > DIGITS:
        raise yaml.constructor.ConstructorError(None, None, f"a number of {len(node.value)} digits", node.start_mark)
    return int(_SAFE.construct_yaml_int(loader, node))


_Loader.add_constructor("tag:yaml.org,2002:int", _yaml_int)


def nearest(word: str, words: Iterable[str]) -> str:
    """The nearest valid key, or all of them."""
    words = list(words)
    near = difflib.get_close_matches(word[:SHOWN], words, n=1)
    return f"did you mean {near[0]}?" if near else f"valid are {', '.join(words)}"


def _is_large(root: yaml.Node) -> bool:
    """True if following aliases gives too many nodes; a recursive alias has no end of them."""
    waiting, count = [root], 0
    while waiting and count <= _MOST_NODES:
        inner = inner_nodes(waiting.pop())
        count += 1 + len(inner)
        waiting += (one for one in inner if not isinstance(one, yaml.ScalarNode))
    return count > _MOST_NODES


def load_yaml(text: str, name: str = "") -> Iterator[Piece]:
    """The documents of a text of YAML.

    Raises:
        PolicyError: It is no YAML, nested too deeply, has a key twice, or more in it than memory has room for.
    """
    line = 1
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                return
            line = node.start_mark.line + 1
            if _is_large(node):
                raise PolicyError(f"{place(name, line)}more than {_MOST_NODES} values, with what aliases repeat")
            key = twice(node)
            if key is not None:
                at = key.start_mark.line + 1
                raise PolicyError(f"{place(name, at)}key {shown(key.value)} is there twice")
            yield Piece(_Source(name, node), loader.construct_document(node))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = line if mark is None else mark.line + 1
        why = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "not what YAML allows")
        why = DEEP if "nesting depth" in why else why
        raise PolicyError(f"{place(name, line)}not YAML: {plain(why[:200])}") from None
    except RecursionError:
        raise PolicyError(f"{place(name, line)}not YAML that can be read: {DEEP}") from None
    except PolicyError:
        raise
    except (ValueError, OverflowError):
        raise PolicyError(f"{place(name, line)}not YAML: a value that is not what its tag says") from None


@dataclass
class _Source:
    """A document: its file, and its nodes or the text to make them of."""

    name: str
    root: yaml.Node | None = None
    text: str | None = None

    def line(self, path: tuple[str | int, ...]) -> int | None:
        """The line of a value, or of what holds it; None if it is not known."""
        if self.root is None and self.text is not None:
            self.root, self.text = composed(self.text), None
        node = self.root
        if node is None:
            return None
        line = int(node.start_mark.line) + 1
        for step in path:
            found = None
            if isinstance(node, yaml.MappingNode):
                found = next(
                    ((k, v) for k, v in node.value if isinstance(k, yaml.ScalarNode) and k.value == step), None
                )
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                found = (node.value[step], node.value[step])
            if found is None:
                break
            line, node = int(found[0].start_mark.line) + 1, found[1]
        return line


@dataclass(frozen=True)
class Piece:
    """A value in a document.

    Attributes:
        source: The document.
        value: The value.
        path: The keys that lead to it.
    """

    source: _Source
    value: Any
    path: tuple[str | int, ...] = field(default=())

    @classmethod
    def of_json(cls, text: str, name: str = "") -> Piece:
        """A whole text of JSON, as `load_json` reads it."""
        return cls(_Source(name, text=text), load_json(text, name))

    @property
    def key(self) -> str:
        """The path as text: `spec.ingress[0]`."""
        words = [f"[{step}]" if isinstance(step, int) else f".{plain(step[:SHOWN])}" for step in self.path]
        return "".join(words).removeprefix(".") or "the document"

    @property
    def line(self) -> int:
        """The line of the node, or of its parent."""
        return self.source.line(self.path) or 1

    def refuse(self, why: str) -> NoReturn:
        """Refuse it.

        Raises:
            PolicyError: Always; with file, line, key and the reason.
        """
        raise PolicyError(f"{place(self.source.name, self.source.line(self.path))}{self.key}: {why}")

    def expected(self, what: str) -> NoReturn:
        """Refuse it as something else than expected.

        Raises:
            PolicyError: Always.
        """
        self.refuse(f"found {shown(self.value)}, expected {what}")

    def table(self, known: Iterable[str] = ()) -> dict[str, Any]:
        """The node as a table; with `keys`, others are refused.

        Raises:
            PolicyError: It is none, or has another key.
        """
        known = tuple(known)
        if not isinstance(self.value, dict):
            self.expected(f"a table with {', '.join(known)}" if known else "a table")
        for key in self.value if known else ():
            if key not in known:
                line = self.source.line((*self.path, key) if isinstance(key, str) else self.path)
                why = f"unknown key {shown(key)}; {nearest(key if isinstance(key, str) else '', known)}"
                raise PolicyError(f"{place(self.source.name, line)}{self.key}: {why}")
        return self.value

    def get(self, key: str) -> Piece:
        """The value of a key of a table, or an empty node."""
        return Piece(self.source, self.table().get(key), (*self.path, key))

    def items(self, what: str = "a list") -> list[Piece]:
        """The elements of a list; none of nothing.

        Raises:
            PolicyError: It is no list.
        """
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            self.expected(what)
        return [Piece(self.source, one, (*self.path, at)) for at, one in enumerate(self.value)]

    def word(self, what: str = "text") -> str:
        """A text, or a number or truth value as one.

        Raises:
            PolicyError: It is something else.
        """
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        if not isinstance(self.value, str | int):
            self.expected(what)
        return str(self.value)

    def number(self, first: int, last: int, what: str) -> int:
        """A number within limits.

        Raises:
            PolicyError: It is none.
        """
        found = self.value
        if isinstance(found, str) and len(found) <= DIGITS and found.isascii() and found.isdecimal():
            found = int(found)
        if not isinstance(found, int) or isinstance(found, bool) or not first <= found <= last:
            self.expected(what)
        return found

    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """A network.

        Raises:
            PolicyError: It is none.
        """
        try:
            return ipaddress.ip_network(self.value if isinstance(self.value, str) else "", strict=False)
        except ValueError:
            self.expected("a network such as 10.0.1.0/24")
