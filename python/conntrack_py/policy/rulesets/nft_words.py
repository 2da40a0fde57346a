"""Says rules of nftables as people write them, from their JSON."""

from __future__ import annotations

import json
from typing import Any

_OPERATORS = {"==": "", "in": ""}


def rule(expressions: list[Any]) -> str:
    """A rule in a line: `tcp dport 443 ct state new accept`. What is not known stays JSON."""
    return " ".join(filter(None, (_statement(expression) for expression in expressions)))


def _statement(expression: Any) -> str:
    if not isinstance(expression, dict) or len(expression) != 1:
        return json.dumps(expression)
    ((kind, value),) = expression.items()
    if kind == "match" and isinstance(value, dict):
        op = str(value.get("op", ""))
        return " ".join(filter(None, (_left(value.get("left")), _OPERATORS.get(op, op), _right(value.get("right")))))
    if kind == "vmap" and isinstance(value, dict):
        return f"{_left(value.get('key'))} vmap {_right(value.get('data'))}"
    if kind in ("jump", "goto") and isinstance(value, dict):
        return f"{kind} {value.get('target')}"
    if kind in ("unknown", "xt") and isinstance(value, str):
        return value
    if value is None or kind in ("counter", "log", "limit", "reject"):
        return str(kind)
    return json.dumps(expression)


def _left(left: Any) -> str:
    if isinstance(left, dict):
        payload, meta, tracked = left.get("payload"), left.get("meta"), left.get("ct")
        if isinstance(payload, dict) and "protocol" in payload:
            return f"{payload['protocol']} {payload.get('field')}"
        if isinstance(meta, dict):
            bare = str(meta.get("key")).startswith(("iif", "oif"))
            return str(meta.get("key")) if bare else f"meta {meta.get('key')}"
        if isinstance(tracked, dict) and "dir" not in tracked:
            return f"ct {tracked.get('key')}"
        if isinstance(left.get("concat"), list):
            return " . ".join(map(_left, left["concat"]))
    return json.dumps(left)


def _right(right: Any) -> str:
    if isinstance(right, list):
        return ",".join(map(_right, right))
    if isinstance(right, dict) and len(right) == 1:
        ((kind, value),) = right.items()
        if kind == "set" and isinstance(value, list):
            return "{ " + ", ".join(map(_member, value)) + " }"
        if kind == "range" and isinstance(value, list):
            return "-".join(map(str, value))
        if kind == "prefix" and isinstance(value, dict):
            return f"{value.get('addr')}/{value.get('len')}"
        if kind == "concat" and isinstance(value, list):
            return " . ".join(map(_right, value))
    return str(right) if isinstance(right, str | int) else json.dumps(right)


def _member(value: Any) -> str:
    if isinstance(value, list) and len(value) == 2:
        return f"{_right(value[0])} : {_statement(value[1])}"
    return _right(value)
