"""Texts of policies: the objects of native ones, with limits for hostile ones, and the lines of keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from conntrack_py import _native
from conntrack_py.exceptions import PolicyError

if TYPE_CHECKING:
    import yaml

#: Characters of a key in a message.
SHOWN_KEY = 60
#: Tables and lists within each other; a policy has six.
_DEEPEST = 32


def where(name: str, line: int | None) -> str:
    """The beginning of a message about a line of a file."""
    if not name:
        return "" if line is None else f"line {line}: "
    return f"{name}: " if line is None else f"{name}:{line}: "


def parsed(text: str, kind: str, name: str) -> Any:
    """The objects of a document.

    Raises:
        PolicyError: It is none, has a key twice, or is nested too deeply.
    """
    document = _objects(text, kind, name)
    if _is_deep(document):
        raise PolicyError(f"{where(name, None)}nested too deeply: more than {_DEEPEST} tables and lists")
    return document


def _objects(text: str, kind: str, name: str) -> Any:
    if kind == "json":
        try:
            return json.loads(text, object_pairs_hook=_once)
        except RecursionError:
            raise PolicyError(f"{where(name, None)}nested too deeply") from None
        except ValueError as error:
            raise PolicyError(f"{where(name, getattr(error, 'lineno', None))}not JSON: {error}") from error
    import tomllib

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise PolicyError(f"{where(name, None)}nested too deeply") from None
    except ValueError as error:
        raise PolicyError(f"{where(name, None)}not TOML: {error}") from error


def _is_deep(document: object) -> bool:
    level = [document]
    for _ in range(_DEEPEST + 1):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: of two, one would be lost."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:SHOWN_KEY]!r} occurs twice in one object")
            seen.add(key)
    return found


def places(text: str, kind: str) -> dict[str, int]:
    """The line of each table, array element and key of a document, by its path: `groups.web.ingress[0]`."""
    if kind == "toml":
        return _native.toml_lines(text)
    return lines(text)


def _loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def lines(text: str) -> dict[str, int]:
    """The line of every value of a mapping and every element of a sequence, by its path: `groups.web.ingress[0]`.

    The line of a value is that of its key. Of several documents in a text, later ones win. What an alias repeats is
    told where it stands first.

    Args:
        text: YAML, or JSON.

    Returns:
        Lines from 1; nothing where the text does not parse.
    """
    import yaml

    found: dict[str, int] = {}
    seen: set[int] = set()
    kept: list[yaml.Node] = []  # so that no two nodes have one id
    if text.lstrip()[:1] in ("{", "["):
        # JSON may be indented with tabs, YAML may not. No string of JSON holds one.
        text = text.replace("\t", " ")
    try:
        for document in yaml.compose_all(text, Loader=_loader()):
            if document is not None:
                kept.append(document)
                _walk(document, found, seen)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return found


def _walk(document: yaml.Node, found: dict[str, int], seen: set[int]) -> None:
    import yaml

    waiting = [("", document)]
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        inner: list[tuple[str, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    inner.append((f"{path}.{key.value}" if path else str(key.value), value))
                    found[inner[-1][0]] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                inner.append((f"{path}[{index}]", value))
                found[inner[-1][0]] = value.start_mark.line + 1
        waiting += reversed(inner)
