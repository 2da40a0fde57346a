"""Resources of Terraform, as `terraform show -json` lists those of a state or of a plan.

In a plan an id may be known only after it was applied; then the expressions of the configuration tell to which resource
it belongs. Source: https://developer.hashicorp.com/terraform/internals/json-format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.rulesets.foreign import place, plain
from conntrack_py.policy.rulesets.parsed import Piece

#: Modules within each other, and references that lead from one to another.
_DEEPEST = 16
_REMEDY = "give the JSON of `terraform show -json` (of the state), or of `terraform show -json PLAN`"


def refuse(name: str, found: str) -> NoReturn:
    """Refuse a text of Terraform that is not what `show -json` prints.

    Raises:
        PolicyError: Always.
    """
    raise PolicyError(f"{place(name, None)}found {found}, expected resources as Terraform lists them: {_REMEDY}")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource.

    Attributes:
        kind: Its type.
        address: Its address.
        values: Its attributes.
        unknown: The attributes that are known only after the plan was applied.
        expressions: What the configuration says of its attributes; None: it is not there.
        module: The modules that it is in, without their indices.
    """

    kind: str
    address: str
    values: Piece
    unknown: Mapping[str, Any]
    expressions: Mapping[str, Any] | None
    module: tuple[str, ...]

    @property
    def line(self) -> int:
        """Its line."""
        return self.values.line

    def text(self, key: str) -> str:
        """An attribute that is a text, or ""."""
        found = self.values.value.get(key)
        return plain(found) if isinstance(found, str) else ""

    def is_unknown(self, key: str) -> bool:
        """True if an attribute that the configuration sets is not known yet."""
        return bool(self.unknown.get(key)) and (self.expressions is None or key in self.expressions)

    def lacks(self, keys: Iterable[str]) -> str:
        """The attributes of these that are not known yet, in words, or ""."""
        found = [key for key in keys if self.is_unknown(key)]
        return f"{', '.join(found)} known after apply" if found else ""


class Resources:
    """The resources of a document, by address and by id."""

    def __init__(self, document: Piece) -> None:
        self._configuration = self._config(document)
        self._configured: dict[tuple[str, ...], dict[str, Any]] = {}
        changes = document.get("resource_changes")
        self._unknown: dict[str, Mapping[str, Any]] = {}
        for change in changes.items("a list of changes"):
            after = change.get("change").get("after_unknown").value if change.get("change").value else None
            if isinstance(change.get("address").value, str) and isinstance(after, dict):
                self._unknown[change.get("address").value] = after
        values = document.get("planned_values") if "planned_values" in document.table() else document.get("values")
        self.all: list[Resource] = []
        if values.value is not None:
            root = values.get("root_module")
            if root.value is not None:
                self.all = list(self._walk(root, (), 0))
        self._instances: dict[tuple[tuple[str, ...], str], list[Resource]] = {}
        for one in self.all:
            self._instances.setdefault((one.module, _base(one.address)), []).append(one)
        self.by_id: dict[str, Resource] = {}
        for one in self.all:
            for key in ("id", "self_link", "arn"):
                if one.text(key):
                    self.by_id.setdefault(one.text(key), one)

    def of(self, *kinds: str) -> Iterator[Resource]:
        """The resources of some types."""
        return (one for one in self.all if one.kind in kinds)

    def _config(self, document: Piece) -> Mapping[str, Any]:
        found = document.value.get("configuration")
        root = found.get("root_module") if isinstance(found, dict) else None
        return root if isinstance(root, dict) else {}

    def _walk(self, module: Piece, path: tuple[str, ...], depth: int) -> Iterator[Resource]:
        for one in module.get("resources").items("a list of resources"):
            if one.get("mode").value == "data":
                continue
            kind, address = one.get("type").word("a type"), plain(one.get("address").word("an address"))
            values = one.get("values")
            if not isinstance(values.value, dict):
                continue
            yield Resource(
                kind=kind,
                address=address,
                values=values,
                unknown=self._unknown.get(one.get("address").value, {}),
                expressions=self._expressions(path, f"{kind}.{one.get('name').value}"),
                module=path,
            )
        if depth >= _DEEPEST:
            return
        for child in module.get("child_modules").items("a list of modules"):
            named = child.get("address").word("the address of a module")
            yield from self._walk(child, tuple(re.findall(r"(?:^|\.)module\.([A-Za-z0-9_-]+)", named)), depth + 1)

    def _module(self, path: tuple[str, ...]) -> Mapping[str, Any] | None:
        found: Any = self._configuration
        for name in path:
            for key in ("module_calls", name, "module"):
                found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) and found else None

    def _expressions(self, path: tuple[str, ...], base: str) -> Mapping[str, Any] | None:
        if path not in self._configured:
            listed = (self._module(path) or {}).get("resources")
            self._configured[path] = {
                str(one.get("address")): one.get("expressions")
                for one in (listed if isinstance(listed, list) else ())
                if isinstance(one, dict)
            }
        known = self._configured[path]
        found = known.get(base)
        return found if isinstance(found, dict) else {} if base in known else None

    def meant(self, resource: Resource, key: str, kinds: tuple[str, ...]) -> list[Resource]:
        """The resources that an attribute names: by their ids, or by what its expression refers to.

        An attribute that leads to several instances of a resource is not known: nothing is returned.
        """
        value = resource.values.value.get(key)
        words = value if isinstance(value, list) else [value]
        found = [self.by_id[word] for word in words if isinstance(word, str) and word in self.by_id]
        if found or not resource.is_unknown(key) or resource.expressions is None:
            return [one for one in found if one.kind in kinds]
        index = re.search(r"\[[^\]]*\]$", resource.address)
        listed: dict[str, Resource] = {}
        for base, path in self._referred(resource.expressions.get(key), resource.module, 0):
            some = [one for one in self._instances.get((path, base), ()) if one.kind in kinds]
            same = [one for one in some if index and one.address.endswith(index[0])]
            for one in some if len(some) == 1 else same if len(same) == 1 else []:
                listed[one.address] = one
        return list(listed.values())

    def _referred(self, expression: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Resources that an expression refers to, with the modules that they are in."""
        references = expression.get("references") if isinstance(expression, dict) else None
        if depth >= _DEEPEST or not isinstance(references, list):
            return
        for word in references:
            parts = re.sub(r"\[[^\]]*\]", "", word).split(".") if isinstance(word, str) else []
            if len(parts) < 2:
                continue
            if parts[0] == "var" and path:
                outer = self._module(path[:-1]) or {}
                calls = outer.get("module_calls")
                call = calls.get(path[-1]) if isinstance(calls, dict) else None
                given = call.get("expressions") if isinstance(call, dict) else None
                inner = given.get(parts[1]) if isinstance(given, dict) else None
                yield from self._referred(inner, path[:-1], depth + 1)
            elif parts[0] == "module" and len(parts) > 2:
                outputs = (self._module((*path, parts[1])) or {}).get("outputs")
                output = outputs.get(parts[2]) if isinstance(outputs, dict) else None
                inner = output.get("expression") if isinstance(output, dict) else None
                yield from self._referred(inner, (*path, parts[1]), depth + 1)
            elif parts[0] not in ("var", "local", "each", "count", "data", "path", "self"):
                yield ".".join(parts[:2]), path


def _base(address: str) -> str:
    """The type and name of a resource, of its address."""
    return ".".join(re.sub(r"\[[^\]]*\]", "", address).split(".")[-2:])
