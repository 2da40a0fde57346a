"""Line numbers of the nodes of a YAML or JSON document."""

from __future__ import annotations

from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def lines(text: str) -> dict[str, int]:
    """The line of every value of a mapping and every element of a sequence, by its path: `groups.web.ingress[0]`.

    The line of a value is that of its key. Of several documents in a text, later ones win. What an alias repeats is
    told where it stands first.

    Args:
        text: YAML, or JSON.

    Returns:
        Lines from 1; nothing where the text does not parse.
    """
    found: dict[str, int] = {}
    seen: set[int] = set()
    kept: list[yaml.Node] = []  # so that no two nodes have one id
    if text.lstrip()[:1] in ("{", "["):
        # JSON may be indented with tabs, YAML may not. No string of JSON holds one.
        text = text.replace("\t", " ")
    try:
        for document in yaml.compose_all(text, Loader=_Loader):
            if document is not None:
                kept.append(document)
                _walk(document, found, seen)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return found


def _walk(document: yaml.Node, found: dict[str, int], seen: set[int]) -> None:
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
